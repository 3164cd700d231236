//! Who is in: what its socket brings goes to the gateway, and what the gateway has goes to its socket.

use super::gathering::Gathers;
use super::{Live, Shard, Slot, feed, token};
use crate::shards::kernel;
use crate::shards::transport::{Arrival, Failure};
use gateway::{Closed, ConnectionId};
use model::Timestamp;
use rustix::event::epoll::{self, EventFlags};

/// How the poll speaks of a connection that is only read: once for all that has come. If it spoke of it
/// as long as something is there, it would look at each socket again that was just read.
pub(super) const WHEN_MORE_COMES: EventFlags =
    (EventFlags::IN.union(EventFlags::RDHUP)).union(EventFlags::ET);

impl Shard {
    /// Has what an event is about to touch fetched while something else is done.
    pub(super) fn expect(&self, event: Option<&epoll::Event>) {
        let index = event.map(|event| event.data.u64() & u64::from(u32::MAX));
        if let Some(Ok(id)) = index.map(u32::try_from) {
            kernel::prefetch(self.slots.place(id));
            kernel::prefetch(self.gateway.place_of(ConnectionId(id)));
        }
    }

    /// The same of what stands behind a connection, whose own place is looked into for that.
    fn expect_behind(&mut self, id: u32) {
        for place in self.gateway.places_behind(ConnectionId(id)) {
            kernel::prefetch(place);
        }
        if let Some(Slot::Live(live)) = self.slots.entry(id) {
            live.transport.prefetch_keys();
        }
    }

    pub(super) fn serve(&mut self, id: u32, flags: EventFlags, now: Timestamp) {
        if matches!(self.slots.entry(id), Some(Slot::Live(live)) if live.ending) {
            return;
        }
        if flags.contains(EventFlags::OUT) {
            // Only what is encrypted already: what the gateway has waits for the journal.
            let sent = self.transmit(id, &[]);
            self.account(id, sent, now);
        }
        let gone = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        if gone && matches!(self.slots.entry(id), Some(Slot::Live(live)) if live.paused) {
            // It may not be read while paused, and nobody is left to acknowledge to.
            self.gateway
                .closed(ConnectionId(id), Closed::ByPeer, now, &mut self.turn);
            self.remove(id);
        } else if gone || flags.contains(EventFlags::IN) {
            self.expect_behind(id);
            self.read(id, now);
            if gone || flags.contains(EventFlags::RDHUP) {
                // The end stands behind what was read, and nothing comes after it.
                self.tell_again(id);
            }
            self.let_gather(id, now);
        }
    }

    /// What came; `None` if the connection has ended.
    pub(super) fn read(&mut self, id: u32, now: Timestamp) -> Option<Arrival> {
        let arrival = self.read_once(id, now);
        if arrival == Some(Arrival::Full) {
            self.tell_again(id);
        }
        arrival
    }

    fn read_once(&mut self, id: u32, now: Timestamp) -> Option<Arrival> {
        let Some(Slot::Live(live)) = self.slots.entry(id) else {
            return None;
        };
        if live.websocket.is_some() {
            return self.read_frames(id, now);
        }
        let Live {
            transport, pending, ..
        } = live;
        let (gateway, turn) = (&mut self.gateway, &mut self.turn);
        let arrival = transport.read(&mut self.scratch, &mut |payload| {
            feed(gateway, turn, ConnectionId(id), pending, payload, now);
        });
        if let Ok(arrival @ (Arrival::Progress | Arrival::Full | Arrival::Nothing)) = arrival {
            return Some(arrival);
        }
        self.gateway
            .closed(ConnectionId(id), Closed::ByPeer, now, &mut self.turn);
        match arrival {
            // An alert says why.
            Err(Failure::Tls(_) | Failure::Overlong | Failure::Proxy(_)) => self.linger(id, now),
            _ => self.remove(id),
        }
        None
    }

    /// Encrypts what the gateway has for this connection and gives the socket what it takes.
    pub(super) fn write(&mut self, id: u32, now: Timestamp) {
        if matches!(self.slots.entry(id), Some(Slot::Live(live)) if live.ending) {
            // What it can be sent goes out with the goodbye.
            return;
        }
        let Some(output) = self.gateway.output(ConnectionId(id)) else {
            return;
        };
        let mut plaintext = std::mem::take(output);
        let sent = self.transmit(id, &plaintext);
        if let Some(output) = self.gateway.output(ConnectionId(id)) {
            // Given back before the gateway accounts for it, which lends it to whoever speaks
            // next: an idle connection holds no buffer.
            plaintext.clear();
            *output = plaintext;
        }
        self.account(id, sent, now);
    }

    /// Bytes that the socket did not take; `None` if the connection is gone or broken.
    pub(super) fn transmit(&mut self, id: u32, plaintext: &[u8]) -> Option<usize> {
        let Some(Slot::Live(live)) = self.slots.entry(id) else {
            return None;
        };
        live.encrypt(plaintext, &mut self.spare).ok()?;
        live.transport.flush(&mut self.spare).ok()?;
        Some(live.transport.unsent_bytes())
    }

    pub(super) fn account(&mut self, id: u32, unsent: Option<usize>, now: Timestamp) {
        match unsent {
            Some(unsent) => {
                self.gateway
                    .written(ConnectionId(id), unsent, now, &mut self.turn);
                self.poll_for_what_matters(id);
            }
            None => {
                self.gateway
                    .closed(ConnectionId(id), Closed::ByPeer, now, &mut self.turn);
                self.remove(id);
            }
        }
    }

    /// A paused connection is not read, a drained one is not asked whether it may be written.
    pub(super) fn poll_for_what_matters(&mut self, id: u32) {
        let Some(generation) = self.slots.generation(id) else {
            return;
        };
        let Some(Slot::Live(live)) = self.slots.entry(id) else {
            return;
        };
        let is_read = !live.paused && live.habit.gathers != Gathers::Together;
        let is_written = live.transport.unsent_bytes() > 0;
        let wanted = match (is_read, is_written) {
            (true, false) => WHEN_MORE_COMES,
            (true, true) => EventFlags::IN | EventFlags::OUT,
            (false, true) => EventFlags::OUT,
            (false, false) => EventFlags::empty(),
        };
        if wanted != live.polled
            && epoll::modify(
                &self.epoll,
                live.transport.socket(),
                token(id, generation),
                wanted,
            )
            .is_ok()
        {
            live.polled = wanted;
        }
    }

    /// Has the poll speak of what is still there.
    fn tell_again(&mut self, id: u32) {
        let Some(generation) = self.slots.generation(id) else {
            return;
        };
        if let Some(Slot::Live(live)) = self.slots.entry(id) {
            // Where it fails the connection is found broken by the next write, or silent.
            let socket = live.transport.socket();
            let _ = epoll::modify(&self.epoll, socket, token(id, generation), live.polled);
        }
    }
}
