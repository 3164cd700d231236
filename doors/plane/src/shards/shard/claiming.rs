//! Connections by a claim certificate: they stay in the shard that accepted them, apart from all
//! sessions, and end after a few minutes.

use super::{Shard, Slot, token};
use crate::certify::claiming::{self, Asker, Question};
use crate::certify::over_mqtt::Asked;
use crate::shards::transport::{Arrival, Failure, Transport};
use gateway::{ClaimEnd, ClaimSession};
use identity::Presented;
use model::Timestamp;
use rustix::event::epoll::{self, EventFlags};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;

/// Of one shard. Each holds a socket for minutes, and all of a batch may hold the key.
const CLAIMING_MAX: usize = 256;
/// From the end of the handshake to the end of the connection.
const LIFETIME: Duration = Duration::from_secs(300);

pub(super) struct Claiming {
    pub(super) transport: Transport,
    peer: SocketAddr,
    presented: Presented,
    session: ClaimSession,
    pending: Vec<u8>,
}

impl Shard {
    /// The handshake has ended and a claim certificate was proven: may its holder ask, from there?
    pub(super) fn begin_claim(&mut self, id: u32, presented: Presented, now: Timestamp) {
        let Some(Slot::Handshaking(handshaking)) = self.slots.entry(id) else {
            return;
        };
        let peer = handshaking.peer;
        let registry = self.admission.trust.registry();
        let claiming = registry.claiming(&presented, peer.ip(), now);
        drop(registry);
        let template = match claiming {
            Ok(claiming) if self.claiming < CLAIMING_MAX => claiming.terms().template.clone(),
            Ok(_) => return self.refuse_handshake(id, Some(&Failure::Crowded)),
            Err(refusal) => {
                handshaking.sight.lock().refusal = Some(refusal);
                return self.refuse_handshake(id, None);
            }
        };
        let Some(Slot::Handshaking(done)) = self.slots.remove(id) else {
            return;
        };
        self.forget_handshake(peer.ip());
        self.handshakes_done += 1;
        self.claiming += 1;
        let (id, generation) = self.slots.insert(Slot::Claiming(Box::new(Claiming {
            transport: done.transport,
            peer,
            presented,
            session: ClaimSession::new(template),
            pending: done.early,
        })));
        self.claims_end
            .push_back((now.plus(LIFETIME), id, generation));
        self.accept_again();
        let polled = match self.slots.entry(id) {
            Some(Slot::Claiming(claiming)) => epoll::modify(
                &self.entrance,
                claiming.transport.socket(),
                token(id, generation),
                EventFlags::IN,
            ),
            _ => return,
        };
        if polled.is_err() {
            return self.remove(id);
        }
        self.go_on_claiming(id, now);
    }

    /// Reads what came.
    pub(super) fn hear_claim(&mut self, id: u32, now: Timestamp) {
        let Some(Slot::Claiming(claiming)) = self.slots.entry(id) else {
            return;
        };
        let Claiming {
            transport, pending, ..
        } = &mut **claiming;
        let arrival = transport.read(&mut self.scratch, &mut |payload| {
            pending.extend_from_slice(payload);
        });
        // While its question is being answered it may send a little more.
        let is_flood = claiming.pending.len() > 2 * super::READ_BYTES;
        match arrival {
            Ok(Arrival::Progress | Arrival::Full | Arrival::Nothing) if !is_flood => {
                self.go_on_claiming(id, now)
            }
            _ => self.remove(id),
        }
    }

    fn go_on_claiming(&mut self, id: u32, now: Timestamp) {
        let (index, generation) = (self.index, self.slots.generation(id));
        let Some(Slot::Claiming(claiming)) = self.slots.entry(id) else {
            return;
        };
        let mut out = Vec::new();
        match claiming.session.receive(&claiming.pending, &mut out) {
            Ok((consumed, asked)) => {
                claiming.pending.drain(..consumed);
                let Some(asked) = asked else {
                    return self.tell_claimant(id, &out, false);
                };
                let question = Question {
                    presented: claiming.presented.clone(),
                    address: claiming.peer.ip(),
                    asked,
                    to: Asker {
                        shard: index,
                        slot: id,
                        generation: generation.unwrap_or_default(),
                    },
                };
                self.tell_claimant(id, &out, false);
                let sent = self.requests.try_send(Asked::Claim(question));
                if let Err(
                    TrySendError::Full(Asked::Claim(question))
                    | TrySendError::Closed(Asked::Claim(question)),
                ) = sent
                {
                    let busy = claiming::busy(&question.asked);
                    self.answer_claim(id, question.to.generation, false, &busy, now);
                }
            }
            Err(end) => {
                self.tell_end(id, &end);
                self.tell_claimant(id, &out, true);
            }
        }
    }

    /// The answer to what a connection asked, if it is still here.
    pub(super) fn answer_claim(
        &mut self,
        id: u32,
        generation: u32,
        accepted: bool,
        payload: &[u8],
        now: Timestamp,
    ) {
        if self.slots.generation(id) != Some(generation) {
            return;
        }
        let Some(Slot::Claiming(claiming)) = self.slots.entry(id) else {
            return;
        };
        let mut out = Vec::new();
        claiming.session.answer(accepted, payload, &mut out);
        self.tell_claimant(id, &out, false);
        self.go_on_claiming(id, now);
    }

    /// Ends the connections whose claim certificate was withdrawn; how many there were.
    pub(super) fn withdraw_claims(&mut self, now: Timestamp) -> u32 {
        let mut ended = 0;
        for id in self.slots.indices() {
            let Some(Slot::Claiming(claiming)) = self.slots.entry(id) else {
                continue;
            };
            let registry = self.admission.trust.registry();
            let still = registry.claiming(&claiming.presented, claiming.peer.ip(), now);
            drop(registry);
            if still.is_err() {
                ended += 1;
                self.remove(id);
            }
        }
        ended
    }

    pub(super) fn end_overdue_claims(&mut self, now: Timestamp) {
        while let Some((deadline, id, generation)) = self.claims_end.front().copied() {
            if deadline > now {
                break;
            }
            self.claims_end.pop_front();
            if self.slots.generation(id) == Some(generation)
                && matches!(self.slots.entry(id), Some(Slot::Claiming(_)))
            {
                self.remove(id);
            }
        }
    }

    /// Answers are few and small: whoever does not take one at once is not waited for.
    fn tell_claimant(&mut self, id: u32, out: &[u8], is_last: bool) {
        let Some(Slot::Claiming(claiming)) = self.slots.entry(id) else {
            return;
        };
        let transport = &mut claiming.transport;
        let mut told = transport.encrypt(out, &mut self.spare).is_ok();
        if is_last {
            transport.goodbye();
        }
        told &= matches!(transport.flush(&mut self.spare), Ok(true));
        if is_last {
            let now = self.clock.now();
            self.linger(id, now);
        } else if !told {
            self.remove(id);
        }
    }

    fn tell_end(&mut self, id: u32, end: &ClaimEnd) {
        let Some(Slot::Claiming(claiming)) = self.slots.entry(id) else {
            return;
        };
        let (peer, who) = (claiming.peer, claiming.presented.to_string());
        let (action, topic, code) = match end {
            ClaimEnd::Left => return,
            ClaimEnd::Protocol(rule) => {
                if self.lines.take() {
                    tracing::warn!(
                        target: "gateway",
                        "{peer}: {who} does not speak MQTT as this door does ({rule}) [device must act]"
                    );
                }
                return;
            }
            ClaimEnd::Denied { action, topic } => {
                (*action, topic.as_str(), "claim-certificate-alone")
            }
            ClaimEnd::TooMuch => ("enroll", "", "claim-too-often"),
        };
        self.telling
            .tell(claiming::denied(peer.ip(), action, topic, code));
        if self.lines.take() {
            tracing::warn!(
                target: "gateway",
                "{peer}: refused {code}: {who} asked to {action} {topic:?}, and a claim certificate \
                 is for asking for a certificate alone [operator must act]"
            );
        }
    }
}
