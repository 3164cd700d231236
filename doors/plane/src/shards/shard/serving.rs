//! Who is in: what its socket brings goes to the gateway, and what the gateway has goes to its socket.

use super::gathering::Gathers;
use super::{Live, Shard, Slot, feed, token};
use crate::shards::kernel;
use crate::shards::transport::{Arrival, Failure};
use gateway::{Closed, ConnectionId};
use model::Timestamp;
use rustix::event::epoll::{self, EventFlags};

impl Shard {
    /// Has what an event is about to touch fetched while something else is done.
    pub(super) fn expect(&self, event: Option<&epoll::Event>) {
        let index = event.map(|event| event.data.u64() & u64::from(u32::MAX));
        if let Some(Ok(id)) = index.map(u32::try_from) {
            kernel::prefetch(self.slots.place(id));
            kernel::prefetch(self.gateway.place_of(ConnectionId(id)));
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
            for place in self.gateway.places_behind(ConnectionId(id)) {
                kernel::prefetch(place);
            }
            self.read(id, now);
            self.let_gather(id, now);
        }
    }

    /// What came; `None` if the connection has ended.
    pub(super) fn read(&mut self, id: u32, now: Timestamp) -> Option<Arrival> {
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
        if let Ok(arrival @ (Arrival::Progress | Arrival::Nothing)) = arrival {
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
        let mut wanted = EventFlags::empty();
        if !live.paused && live.habit.gathers != Gathers::Together {
            wanted |= EventFlags::IN;
        }
        if live.transport.unsent_bytes() > 0 {
            wanted |= EventFlags::OUT;
        }
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
}
