//! Devices revoked one after the other while the rest of the fleet goes on, and what each of them
//! saw: the last of its messages that was acknowledged, and the end of its connection.
//!
//! The requests go out on a thread of their own, so that waiting for one delays no message.

use super::Run;
use super::tally::{Message, Phase};
use crate::plane::{Plane, Revoked};
use crate::refusal::Refusal;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// What to revoke while measuring: so many devices, at even distances.
#[derive(Debug, Clone)]
pub struct Revocations {
    pub plane: Plane,
    pub count: usize,
}

/// One revocation. Times are microseconds from the moment before the request was sent, all by one
/// clock; what the device saw is exact to the distance of its messages, a millisecond.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Revocation {
    pub device: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// By the plane's own clock.
    pub in_force_after_us: Option<u64>,
    pub recorded_after_us: Option<u64>,
    /// When the receipt was here.
    pub answered_us: f64,
    /// The last acknowledgement that the device saw; below 0 if it came before the request.
    pub last_accepted_us: Option<f64>,
    /// When the device knew that its connection had ended; absent if it never did.
    pub closed_us: Option<f64>,
}

pub(super) struct Revoker {
    /// Slots, in the order in which they go.
    doomed: Vec<usize>,
    begins: Instant,
    /// Each has so long: half of it before its revocation, half after.
    each: Duration,
    /// Requests made.
    asked: usize,
    /// When the one whose turn it is publishes next.
    publishes_at: Instant,
    requests: Sender<String>,
    answers: Receiver<Answer>,
}

struct Answer {
    sent_at: Instant,
    received_at: Instant,
    outcome: Result<Revoked, Refusal>,
}

/// Between two messages of a device that is about to be revoked: how exactly its end is seen.
const MESSAGE_DISTANCE: Duration = Duration::from_millis(1);

impl Revoker {
    /// `doomed` are slots of connected devices that nobody else makes publish.
    pub(super) fn start(
        plane: Plane,
        doomed: Vec<usize>,
        begins: Instant,
        lasts: Duration,
    ) -> Self {
        let (requests, to_do) = channel::<String>();
        let (done, answers) = channel();
        // Ends when the requests do; its answers are read before that.
        std::thread::spawn(move || {
            for device in to_do {
                let sent_at = Instant::now();
                let outcome = plane.revoke_device(&device);
                let received_at = Instant::now();
                let answer = Answer {
                    sent_at,
                    received_at,
                    outcome,
                };
                if done.send(answer).is_err() {
                    return;
                }
            }
        });
        Self {
            each: lasts / u32::try_from(doomed.len().max(1)).unwrap_or(u32::MAX),
            doomed,
            begins,
            asked: 0,
            publishes_at: begins,
            requests,
            answers,
        }
    }

    /// Whose turn it is at `now`, and when its revocation is due.
    fn turn_at(&self, now: Instant) -> Option<(usize, usize, Instant)> {
        let since = now.checked_duration_since(self.begins)?;
        let place = usize::try_from(since.as_nanos() / self.each.as_nanos().max(1)).ok()?;
        let slot = *self.doomed.get(place)?;
        let due = self.begins + self.each * u32::try_from(place).ok()? + self.each / 2;
        Some((place, slot, due))
    }

    /// Waits for the last answers and says what came of each.
    pub(super) fn finish(self, run: &Run<'_>) -> Vec<Revocation> {
        drop(self.requests);
        let mut revocations = Vec::with_capacity(self.asked);
        for (slot, answer) in self.doomed.iter().take(self.asked).zip(self.answers) {
            let Some(slot) = run.tally.slots.get(*slot) else {
                continue;
            };
            let sent_at = answer.sent_at;
            let seen = |at: Option<Duration>| Some(micros(run.tally.started() + at?, sent_at));
            let receipt = answer.outcome.as_ref().ok();
            revocations.push(Revocation {
                device: slot.name.clone(),
                refused: answer.outcome.as_ref().err().map(ToString::to_string),
                in_force_after_us: receipt.map(|receipt| receipt.in_force_after_micros),
                recorded_after_us: receipt.map(|receipt| receipt.recorded_after_micros),
                answered_us: micros(answer.received_at, sent_at),
                last_accepted_us: seen(slot.acknowledged_at),
                closed_us: seen(slot.ended_at),
            });
        }
        revocations
    }
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
        let Some((place, slot, due)) = revoker.turn_at(now) else {
            return (now < revoker.begins).then_some(revoker.begins);
        };
        if now >= due && revoker.asked <= place {
            revoker.asked = place + 1;
            if let Some(slot) = self.tally.slots.get_mut(slot) {
                slot.is_doomed = true;
                // It cannot fail: the thread lives as long as there are requests.
                let _ = revoker.requests.send(slot.name.clone());
            }
        }
        if now >= revoker.publishes_at && self.phase(slot) == Phase::Ready {
            let message = Message {
                qos: self.settings.qos,
                payload_bytes: self.settings.payload_bytes,
                scheduled: now.saturating_duration_since(self.tally.started()),
            };
            self.publish(slot, &[], payload, &message);
        }
        if now >= revoker.publishes_at {
            revoker.publishes_at = now + MESSAGE_DISTANCE;
        }
        let revocation = (revoker.asked <= place).then_some(due);
        Some(revocation.map_or(revoker.publishes_at, |due| due.min(revoker.publishes_at)))
    }
}

/// From `origin` to `at`, which may lie before it.
fn micros(at: Instant, origin: Instant) -> f64 {
    let nanos = |duration: Duration| duration.as_secs_f64() * 1e6;
    let micros = match at.checked_duration_since(origin) {
        Some(after) => nanos(after),
        None => -nanos(origin.saturating_duration_since(at)),
    };
    (micros * 10.0).round() / 10.0
}
