//! Sessions that speak MQTT over WebSocket: what is theirs stands in frames, both ways.

use super::{Live, Shard, Slot, feed};
use crate::shards::transport::{Arrival, Failure};
use gateway::{Closed, ConnectionId};
use model::Timestamp;
use mqtt::websocket::{self, Ended};

/// Unsent bytes above which pings are not answered: whoever does not read hears nothing more.
const UNANSWERED_ABOVE_BYTES: usize = 64 * 1024;

impl Live {
    /// Encrypts what the gateway says, in a frame where frames are spoken.
    pub(super) fn encrypt(&mut self, plaintext: &[u8], spare: &mut Vec<u8>) -> Result<(), Failure> {
        if self.websocket.is_none() {
            return self.transport.encrypt(plaintext, spare);
        }
        let mut framed = Vec::with_capacity(plaintext.len() + 16);
        websocket::write_binary(&mut framed, plaintext);
        self.transport.encrypt(&framed, spare)
    }

    /// Says that nothing follows.
    pub(super) fn goodbye(&mut self, server_ends: bool, spare: &mut Vec<u8>) {
        if self.websocket.is_some() {
            let mut framed = Vec::new();
            websocket::write_goodbye(&mut framed, server_ends);
            // What cannot be encrypted any more is not sent; it is over all the same.
            let _ = self.transport.encrypt(&framed, spare);
        }
        self.transport.goodbye();
    }
}

impl Shard {
    /// Reads once; what came is as if it had come without frames. `None`: the connection has ended.
    pub(super) fn read_frames(&mut self, id: u32, now: Timestamp) -> Option<Arrival> {
        let Some(Slot::Live(live)) = self.slots.entry(id) else {
            return None;
        };
        let mut came = Vec::new();
        let arrival = (live.transport).read(&mut self.scratch, &mut |bytes| {
            came.extend_from_slice(bytes);
        });
        let goes_on = self.take_frames(id, &came, now);
        match arrival {
            Ok(arrival @ (Arrival::Progress | Arrival::Full | Arrival::Nothing)) if goes_on => {
                return Some(arrival);
            }
            _ => {}
        }
        self.gateway
            .closed(ConnectionId(id), Closed::ByPeer, now, &mut self.turn);
        match arrival {
            Ok(Arrival::End) | Err(Failure::Socket(_)) => self.remove(id),
            _ => self.linger(id, now),
        }
        None
    }

    /// Takes what is in frames to the gateway and answers what must be answered. False: the client
    /// has closed, or broken a rule; it was told.
    pub(super) fn take_frames(&mut self, id: u32, bytes: &[u8], now: Timestamp) -> bool {
        let Some(Slot::Live(live)) = self.slots.entry(id) else {
            return true;
        };
        let Some(frames) = &mut live.websocket else {
            return true;
        };
        let (mut payload, mut answers) = (Vec::new(), Vec::new());
        let heard = frames.receive(bytes, &mut payload, &mut answers);
        feed(
            &mut self.gateway,
            &mut self.turn,
            ConnectionId(id),
            &mut live.pending,
            &payload,
            now,
        );
        let may_answer = heard.is_err() || live.transport.unsent_bytes() < UNANSWERED_ABOVE_BYTES;
        if may_answer && !answers.is_empty() {
            // A connection that takes nothing any more is found broken by the next write.
            let _ = live.transport.encrypt(&answers, &mut self.spare);
            let _ = live.transport.flush(&mut self.spare);
            self.poll_for_what_matters(id);
        }
        match heard {
            Ok(()) => true,
            Err(Ended::ByClient) => {
                self.say_goodbye(id);
                false
            }
            Err(Ended::Breach(malformed)) => {
                if self.lines.take() {
                    tracing::warn!(
                        target: "gateway",
                        "a client breaks WebSocket: {}; its maker must act", malformed.rule
                    );
                }
                self.say_goodbye(id);
                false
            }
        }
    }

    fn say_goodbye(&mut self, id: u32) {
        if let Some(Slot::Live(live)) = self.slots.entry(id) {
            live.transport.goodbye();
        }
    }
}
