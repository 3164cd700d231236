//! How connections end: a bounded number a turn, so that ending many delays nobody else; and each
//! is read on a while after the last word to it, so that it can be heard.

use super::{Live, Shard, Slot, token};
use gateway::{CloseReason, Closed, ConnectionId};
use model::Timestamp;
use rustix::event::epoll::{self, EventFlags};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Connections ended in one turn, at most.
const ENDINGS_A_TURN: usize = 64;
/// How long a peer may take to hear the last word and leave: a few round trips of a bad network.
const LINGER: Duration = Duration::from_secs(5);
/// What it may send meanwhile; nobody reads it.
const LINGER_BYTES_MAX: usize = 64 * 1024;
/// Who lingers longest goes when more come: strangers cannot hold what they are not given.
const LINGERING_MAX: usize = 1024;

/// A socket to which all has been said.
pub(super) struct Lingering {
    socket: TcpStream,
    drained_bytes: usize,
}

/// Connections on their way out.
pub(super) struct Leaving {
    /// The gateway is done with them: in order, with the reason.
    endings: VecDeque<(u32, CloseReason)>,
    /// How many were put there, and how many of these have ended.
    asked: u64,
    ended: u64,
    /// Who wants to know when so many have ended.
    waiting: VecDeque<(u64, oneshot::Sender<Instant>)>,
    /// Until when each lingers, oldest first. Who has left stays listed until then.
    lingering: VecDeque<(Timestamp, u32, u32)>,
    lingering_count: usize,
    lingering_max: usize,
}

impl Leaving {
    pub(super) fn new(connections_max: usize) -> Self {
        Self {
            endings: VecDeque::new(),
            asked: 0,
            ended: 0,
            waiting: VecDeque::new(),
            lingering: VecDeque::new(),
            lingering_count: 0,
            lingering_max: LINGERING_MAX.min(connections_max / 8).max(1),
        }
    }

    /// Whether some are to be ended in the next turn.
    pub(super) fn is_under_way(&self) -> bool {
        !self.endings.is_empty()
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.lingering.front().map(|(until, ..)| *until)
    }

    /// Answered when all that are to be ended by now have ended.
    pub(super) fn tell_when_all_ended(&mut self, reply: oneshot::Sender<Instant>) {
        self.waiting.push_back((self.asked, reply));
        self.tell();
    }

    fn tell(&mut self) {
        while let Some((_, reply)) = self.waiting.pop_front_if(|(asked, _)| *asked <= self.ended) {
            // Whoever asked may have gone.
            let _ = reply.send(Instant::now());
        }
    }

    pub(super) fn lingering(&self) -> usize {
        self.lingering_count
    }

    pub(super) fn has_left(&mut self) {
        self.lingering_count = self.lingering_count.saturating_sub(1);
    }

    /// Every connection of the shard was closed.
    pub(super) fn all_have_left(&mut self) {
        self.endings.clear();
        self.ended = self.asked;
        self.lingering.clear();
        self.lingering_count = 0;
        self.tell();
    }
}

impl Shard {
    /// Takes up what the gateway wants closed. Nothing more is read of them from here on.
    pub(super) fn begin_endings(&mut self) {
        for (ConnectionId(id), reason) in self.carried.close.drain(..) {
            if let Some(Slot::Live(live)) = self.slots.entry(id)
                && !live.ending
            {
                live.ending = true;
                self.leaving.endings.push_back((id, reason));
                self.leaving.asked += 1;
            }
        }
    }

    pub(super) fn end_some(&mut self, now: Timestamp) {
        for _ in 0..ENDINGS_A_TURN {
            let Some((id, reason)) = self.leaving.endings.pop_front() else {
                break;
            };
            self.end(id, reason, now);
            self.leaving.ended += 1;
        }
        self.leaving.tell();
    }

    /// Closes a connection that the gateway is done with, after what it could be sent.
    fn end(&mut self, id: u32, reason: CloseReason, now: Timestamp) {
        if reason.withdraws() && self.has_unsent(id) {
            return self.cut_off(id, now);
        }
        if let Some(output) = self.gateway.output(ConnectionId(id)) {
            let plaintext = std::mem::take(output);
            if let Some(Slot::Live(live)) = self.slots.entry(id) {
                // What cannot be encrypted any more is not sent; it is over all the same.
                let _ = live.encrypt(&plaintext, &mut self.spare);
                live.goodbye(false, &mut self.spare);
            }
        }
        self.gateway
            .closed(ConnectionId(id), Closed::AsAsked, now, &mut self.turn);
        if reason == CloseReason::ByClient {
            // It has said its last word and closes the connection (MQTT 5 section 3.14.4).
            self.finish(id);
        } else {
            self.linger(id, now);
        }
    }

    fn has_unsent(&mut self, id: u32) -> bool {
        matches!(self.slots.entry(id), Some(Slot::Live(live)) if live.transport.unsent_bytes() > 0)
    }

    /// Closes a connection whose peer does not read, and takes back what it was sent before access was
    /// taken away: what waits here, and what the kernel has and did not send yet. A last word behind
    /// that could only be read by who reads the rest first.
    fn cut_off(&mut self, id: u32, now: Timestamp) {
        self.gateway
            .closed(ConnectionId(id), Closed::AsAsked, now, &mut self.turn);
        if let Some(Slot::Live(live)) = self.slots.remove(id) {
            live.transport.abort();
        }
        self.accept_again();
    }

    /// Says the last word and closes.
    fn finish(&mut self, id: u32) {
        if let Some(Slot::Live(live)) = self.slots.remove(id) {
            live.transport.finish(&mut self.spare);
        }
        self.accept_again();
    }

    /// Says the last word, then reads on without looking until the peer has closed. Closed at once
    /// the kernel would answer what is still on its way with a reset, and that takes the last word
    /// (an alert, a DISCONNECT with its reason) out of the peer's hands.
    pub(super) fn linger(&mut self, id: u32, now: Timestamp) {
        let Some(generation) = self.slots.generation(id) else {
            return;
        };
        let (epoll, spare) = (&self.epoll, &mut self.spare);
        let (mut handshake_of, mut was_claiming, mut lingers) = (None, false, false);
        self.slots.change(id, |slot| {
            let (transport, polled) = match slot {
                Slot::Live(Live {
                    transport, polled, ..
                }) => (transport, polled),
                Slot::Handshaking(handshaking) => {
                    handshake_of = Some(handshaking.peer.ip());
                    (handshaking.transport, EventFlags::IN)
                }
                Slot::Claiming(claiming) => {
                    was_claiming = true;
                    (claiming.transport, EventFlags::IN)
                }
                Slot::Lingering(_) => return Some(slot),
                // Nothing was said to it.
                Slot::Arriving(arriving) => {
                    handshake_of = Some(arriving.peer.ip());
                    return None;
                }
            };
            let socket = transport.finish(spare)?;
            let token = token(id, generation);
            if polled != EventFlags::IN {
                epoll::modify(epoll, &socket, token, EventFlags::IN).ok()?;
            }
            lingers = true;
            Some(Slot::Lingering(Lingering {
                socket,
                drained_bytes: 0,
            }))
        });
        if let Some(peer) = handshake_of {
            self.forget_handshake(peer);
        }
        if was_claiming {
            self.claiming = self.claiming.saturating_sub(1);
        }
        if lingers {
            let until = now.plus(LINGER);
            self.leaving.lingering.push_back((until, id, generation));
            self.leaving.lingering_count += 1;
            self.end_oldest_lingering();
        }
        self.accept_again();
    }

    pub(super) fn remove(&mut self, id: u32) {
        match self.slots.remove(id) {
            Some(Slot::Handshaking(handshaking)) => self.forget_handshake(handshaking.peer.ip()),
            Some(Slot::Arriving(arriving)) => self.forget_handshake(arriving.peer.ip()),
            Some(Slot::Claiming(_)) => self.claiming = self.claiming.saturating_sub(1),
            Some(Slot::Lingering(_)) => self.leaving.has_left(),
            Some(Slot::Live(_)) | None => {}
        }
        self.accept_again();
    }

    /// Says goodbye to all.
    pub(super) fn drain(&mut self, now: Timestamp) {
        self.draining = true;
        self.stop_accepting();
        self.carry_out(now);
        for id in self.slots.indices() {
            self.gateway
                .closed(ConnectionId(id), Closed::Shutdown, now, &mut self.turn);
            if let Some(Slot::Live(mut live)) = self.slots.remove(id) {
                live.goodbye(true, &mut self.spare);
                live.transport.finish(&mut self.spare);
            }
        }
        self.leaving.all_have_left();
        self.carry_out(now);
    }

    pub(super) fn drain_lingering(&mut self, id: u32) {
        let Some(Slot::Lingering(lingering)) = self.slots.entry(id) else {
            return;
        };
        let room = LINGER_BYTES_MAX.saturating_sub(lingering.drained_bytes);
        let room = self.scratch.len().min(room);
        match (&lingering.socket).read(self.scratch.get_mut(..room).unwrap_or_default()) {
            // It has left, or has sent more than anybody does who was about to leave.
            Ok(0) => self.remove(id),
            Ok(count) => lingering.drained_bytes += count,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.remove(id),
        }
    }

    pub(super) fn end_overdue_lingering(&mut self, now: Timestamp) {
        while let Some((_, id, generation)) =
            (self.leaving.lingering).pop_front_if(|(until, ..)| *until <= now)
        {
            self.end_lingering(id, generation);
        }
    }

    fn end_oldest_lingering(&mut self) {
        while self.leaving.lingering_count > self.leaving.lingering_max {
            let Some((_, id, generation)) = self.leaving.lingering.pop_front() else {
                return;
            };
            self.end_lingering(id, generation);
        }
    }

    fn end_lingering(&mut self, id: u32, generation: u32) {
        if self.slots.generation(id) == Some(generation)
            && matches!(self.slots.entry(id), Some(Slot::Lingering(_)))
        {
            self.remove(id);
        }
    }
}
