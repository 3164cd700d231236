//! Identities withdrawn one after the other while the rest of the fleet goes on, and what their
//! devices saw: the last of their messages that was acknowledged, and the end of their connections.
//!
//! A strike has its turn to itself: the next begins after the answer to this one, however late we
//! are, so that all of them are measured and no answer is taken for another's.

use super::asker::{self, Asker};
use super::tally::{Message, Phase};
use super::{Run, micros};
use crate::der::{Reader, tag};
use crate::plane::{Plane, Revoked};
use crate::refusal::SetupError;
use aws_lc_rs::digest::{SHA256, digest};
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

/// What to revoke while measuring.
#[derive(Debug, Clone)]
pub struct Revocations {
    pub plane: Plane,
    pub what: Withdrawn,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Withdrawn {
    /// So many devices, at even distances.
    Devices(usize),
    /// All that a CA issued, at half time: the SHA-256 of its name, hex.
    Issuer(String),
}

/// One revocation. Times are microseconds from the moment before the request was sent, all by one
/// clock; what a device alone saw is exact to the distance of its messages, a millisecond.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Revocation {
    /// `device/<name>` or `ca/<issuer>`.
    pub what: String,
    /// Connections that it was to end.
    pub connections: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    #[serde(flatten)]
    pub receipt: Option<Revoked>,
    /// When the receipt was here.
    pub answered_us: f64,
    /// The last acknowledgement that one of them saw; below 0 if it came before the request.
    pub last_accepted_us: Option<f64>,
    /// When the last of them knew that its connection had ended; absent if one never did.
    pub closed_us: Option<f64>,
    /// Devices that never saw the end of their connection.
    pub not_closed: Vec<String>,
    /// Of those, whom the plane has connected at the end.
    pub left_open: Vec<String>,
    /// The TCP ports of the connections, by which they are found in a capture.
    pub ports: Vec<u16>,
}

pub(super) struct Revoker {
    strikes: Vec<Strike>,
    /// How many of them are over.
    place: usize,
    stage: Stage,
    begins: Instant,
    /// Each has so long: half of it before its revocation, half after.
    each: Duration,
    /// When the device whose turn it is publishes next.
    publishes_at: Instant,
    asker: Asker<(&'static str, String), Revoked>,
    /// Of the first so many strikes.
    answered: Vec<Answer>,
}

struct Strike {
    kind: &'static str,
    name: String,
    slots: Vec<usize>,
}

#[derive(Clone, Copy)]
enum Stage {
    Before { asks_at: Instant },
    Asked,
    After { ends_at: Instant },
}

type Answer = asker::Answer<Revoked>;

/// Between two messages of a device that is about to be revoked: how exactly its end is seen.
const MESSAGE_DISTANCE: Duration = Duration::from_millis(1);

impl Revoker {
    /// Takes from `order`, the slots that publish, those whom it makes publish itself.
    pub(super) fn start(
        wanted: &Revocations,
        run: &Run<'_>,
        order: &mut Vec<usize>,
        begins: Instant,
        lasts: Duration,
    ) -> Result<Self, SetupError> {
        let strikes = strikes(&wanted.what, run, order)?;
        let plane = wanted.plane.clone();
        let asker =
            Asker::start(move |(kind, name): &(&'static str, String)| plane.revoke(kind, name));
        let each = lasts / u32::try_from(strikes.len().max(1)).unwrap_or(u32::MAX);
        Ok(Self {
            strikes,
            place: 0,
            stage: Stage::Before {
                asks_at: begins + each / 2,
            },
            begins,
            each,
            publishes_at: begins,
            asker,
            answered: Vec::new(),
        })
    }

    pub(super) fn is_done(&self) -> bool {
        self.place >= self.strikes.len()
    }

    /// Takes an answer that has come; the strike after it may begin then, and not before its time.
    fn step(&mut self, now: Instant) {
        if let Stage::Asked = self.stage {
            match self.asker.answer() {
                Ok(answer) => {
                    self.answered.push(answer);
                    let over = u32::try_from(self.place + 1).unwrap_or(u32::MAX);
                    let ends_at = self.begins + self.each * over;
                    self.stage = Stage::After {
                        ends_at: ends_at.max(now + self.each / 4),
                    };
                }
                Err(TryRecvError::Empty) => {}
                // The thread is gone by a fault of ours: nothing more is asked.
                Err(TryRecvError::Disconnected) => self.place = self.strikes.len(),
            }
        }
        if let Stage::After { ends_at } = self.stage
            && now >= ends_at
        {
            self.place += 1;
            let asks_at = now + self.each / 2;
            self.stage = Stage::Before { asks_at };
        }
    }
}

/// What to revoke in which order, and whose connections each of it ends.
fn strikes(
    what: &Withdrawn,
    run: &Run<'_>,
    order: &mut Vec<usize>,
) -> Result<Vec<Strike>, SetupError> {
    let name_of = |slot: usize| run.tally.slots.get(slot).map(|slot| slot.name.clone());
    match what {
        Withdrawn::Devices(count) => {
            let doomed = order.split_off(order.len().saturating_sub(*count));
            let strike = |slot| {
                Some(Strike {
                    kind: "device",
                    name: name_of(slot)?,
                    slots: vec![slot],
                })
            };
            Ok(doomed.into_iter().filter_map(strike).collect())
        }
        Withdrawn::Issuer(issuer) => {
            let is_its = |slot: &usize| {
                let presented = run.presented.get(*slot);
                presented.is_some_and(|one| issuer_of(one.leaf()).as_ref() == Some(issuer))
            };
            // They go on publishing with the others.
            let slots: Vec<usize> = order.iter().copied().filter(is_its).collect();
            if slots.is_empty() || slots.len() == order.len() {
                return Err(SetupError::Argument(format!(
                    "{} of {} certificates are of the CA {issuer}: there must be some, and others \
                     beside them",
                    slots.len(),
                    order.len()
                )));
            }
            Ok(vec![Strike {
                kind: "ca",
                name: issuer.clone(),
                slots,
            }])
        }
    }
}

/// The SHA-256 of the issuer's name in a certificate, hex.
fn issuer_of(certificate: &[u8]) -> Option<String> {
    let outer = Reader::new(certificate).expect(tag::SEQUENCE)?;
    let mut fields = Reader::new(Reader::new(outer.content).expect(tag::SEQUENCE)?.content);
    fields.optional(tag::explicit(0));
    fields.expect(tag::INTEGER)?;
    fields.expect(tag::SEQUENCE)?;
    let name = fields.expect(tag::SEQUENCE)?.whole;
    let hash = digest(&SHA256, name);
    Some(
        hash.as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
    )
}

impl Run<'_> {
    /// Does what is due: a message of the device whose turn it is, its revocation. Returns when it
    /// wants to be called again.
    pub(super) fn revoke(
        &mut self,
        revoker: &mut Revoker,
        now: Instant,
        payload: &mut Vec<u8>,
    ) -> Option<Instant> {
        if now < revoker.begins {
            return Some(revoker.begins);
        }
        revoker.step(now);
        let strike = revoker.strikes.get(revoker.place)?;
        if let Stage::Before { asks_at } = revoker.stage
            && now >= asks_at
        {
            for slot in &strike.slots {
                if let Some(slot) = self.tally.slots.get_mut(*slot) {
                    slot.is_doomed = true;
                }
            }
            revoker.stage = Stage::Asked;
            revoker.asker.ask((strike.kind, strike.name.clone()));
        }
        if now >= revoker.publishes_at {
            revoker.publishes_at = now + MESSAGE_DISTANCE;
            if let [alone] = strike.slots.as_slice()
                && self.phase(*alone) == Phase::Ready
            {
                let message = Message {
                    qos: self.settings.qos,
                    payload_bytes: self.settings.payload_bytes,
                    scheduled: now.saturating_duration_since(self.tally.started()),
                };
                self.publish(*alone, &[], payload, &message);
            }
        }
        match revoker.stage {
            Stage::Before { asks_at } => Some(asks_at.min(revoker.publishes_at)),
            Stage::Asked | Stage::After { .. } => Some(revoker.publishes_at),
        }
    }

    /// Waits until every connection that a revocation was to end has ended, and says what came of
    /// each. A device that is still connected by the plane's account is named.
    pub(super) fn finish(&mut self, revoker: Revoker) -> Result<Vec<Revocation>, SetupError> {
        let until = Instant::now() + self.settings.drain;
        let ended = |run: &Self, slot: &usize| {
            let slot = run.tally.slots.get(*slot);
            slot.is_none_or(|slot| slot.ended_at.is_some())
        };
        let taken = || {
            let done = revoker.strikes.iter().zip(&revoker.answered);
            done.filter(|(_, answer)| answer.outcome.is_ok())
        };
        while Instant::now() < until
            && !taken().all(|(strike, _)| strike.slots.iter().all(|slot| ended(self, slot)))
        {
            self.turn(until.min(Instant::now() + Duration::from_millis(20)))?;
        }
        let mut revocations: Vec<Revocation> = (revoker.strikes.iter().zip(&revoker.answered))
            .map(|(strike, answer)| self.account_of(strike, answer))
            .collect();
        if revocations.iter().any(|one| !one.not_closed.is_empty())
            && let Some(wanted) = &self.settings.revocations
            && let Ok(connected) = wanted.plane.connected_devices()
        {
            for one in &mut revocations {
                let stands = |name: &&String| connected.contains(*name);
                one.left_open = one.not_closed.iter().filter(stands).cloned().collect();
            }
        }
        Ok(revocations)
    }

    fn account_of(&self, strike: &Strike, answer: &Answer) -> Revocation {
        let slots = || {
            strike
                .slots
                .iter()
                .filter_map(|slot| self.tally.slots.get(*slot))
        };
        let after = |at: Duration| micros(self.tally.started() + at, answer.sent_at);
        let not_closed: Vec<String> = slots()
            .filter(|slot| slot.ended_at.is_none())
            .map(|slot| slot.name.clone())
            .collect();
        let last_closed = slots().filter_map(|slot| slot.ended_at).max();
        Revocation {
            what: format!("{}/{}", strike.kind, strike.name),
            connections: strike.slots.len(),
            refused: answer.outcome.as_ref().err().map(ToString::to_string),
            receipt: answer.outcome.as_ref().ok().copied(),
            answered_us: micros(answer.received_at, answer.sent_at),
            last_accepted_us: slots()
                .filter_map(|slot| slot.acknowledged_at)
                .max()
                .map(after),
            closed_us: last_closed.filter(|_| not_closed.is_empty()).map(after),
            left_open: Vec::new(),
            not_closed,
            ports: slots().filter_map(|slot| slot.port).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::{Authority, name};

    #[test]
    fn a_certificate_names_its_issuer_as_the_plane_names_a_ca() {
        let ca = Authority::new("Somebody", crate::now()).unwrap();
        let wanted = digest(&SHA256, &name("Somebody", None));
        let wanted: String = wanted
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(issuer_of(ca.certificate()), Some(wanted));
        assert_eq!(issuer_of(b"no certificate"), None);
    }
}
