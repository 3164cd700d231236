//! Devices quarantined and policy changed while the fleet goes on. What is forbidden at the
//! acknowledgement of an act and sent after it must be refused; whoever was never forbidden must be
//! heard all the time. Both are judged from outside, by when each message was sent.

use super::Run;
use super::asker::{Answer, Asker};
use super::tally::{Message, Phase, Standing};
use crate::enroll::read_fleet;
use crate::plane::{FleetFile, Plane};
use crate::refusal::SetupError;
use std::path::PathBuf;
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

/// What to do while measuring, in this order.
#[derive(Debug, Clone)]
pub struct Containments {
    pub plane: Plane,
    /// Devices that are quarantined one by one.
    pub alone: usize,
    /// Devices that are quarantined in one go, a request each.
    pub together: usize,
    /// How often a policy takes from a product's devices what they may send, and gives it back.
    pub changes: usize,
    /// The folder of the fleet that is in force.
    pub fleet: PathBuf,
    pub product: String,
    /// What the names of that product's devices begin with.
    pub prefix: String,
    /// At last all of that product is quarantined, in one act.
    pub whole: bool,
}

/// One act. Times are microseconds from the moment before its first request was sent.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Containment {
    /// `one-device`, `devices`, `policy-takes`, `policy-gives`, `product`.
    pub what: &'static str,
    /// Live sessions that it is about.
    pub sessions: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// When the last answer was here.
    pub acknowledged_us: f64,
    /// Messages of these sessions that were sent after it.
    pub sent_after: u64,
    /// Of an act that forbids: the last acceptance that one of them saw; below 0 if it came before
    /// the request.
    pub last_accepted_us: Option<f64>,
}

pub(super) struct Container {
    strikes: Vec<Strike>,
    /// How many of them are over.
    place: usize,
    stage: Stage,
    begins: Instant,
    /// Each has so long, if its answer comes in time.
    each: Duration,
    /// When the next message of those whom a strike is about is due.
    publishes_at: Instant,
    publishes_next: usize,
    asker: Asker<Act, ()>,
    done: Vec<Containment>,
}

struct Strike {
    what: &'static str,
    act: Act,
    slots: Vec<usize>,
    /// What its devices may do from its acknowledgement on.
    then: Standing,
}

#[derive(Clone)]
enum Act {
    Quarantine(Vec<String>),
    QuarantineProduct(String),
    Apply(Vec<FleetFile>),
}

enum Stage {
    Before {
        asks_at: Instant,
    },
    Asked,
    After {
        ends_at: Instant,
        answer: Answer<()>,
        /// Messages that these sessions had sent before.
        sent_before: u64,
    },
}

/// Between two messages of those whom a strike is about.
const MESSAGE_DISTANCE: Duration = Duration::from_millis(1);
/// How long an act's effect is watched at least.
const WATCHED_MIN: Duration = Duration::from_millis(20);
/// The same where many sessions must each have sent something.
const WATCHED_MANY_MIN: Duration = Duration::from_millis(500);

impl Container {
    /// `order`: the slots that publish.
    pub(super) fn start(
        wanted: &Containments,
        run: &Run<'_>,
        order: &[usize],
        begins: Instant,
        lasts: Duration,
    ) -> Result<Self, SetupError> {
        let strikes = strikes(wanted, run, order)?;
        let plane = wanted.plane.clone();
        let asker = Asker::start(move |act: &Act| match act {
            Act::Quarantine(devices) => {
                (devices.iter()).try_for_each(|device| plane.contain(device, "quarantined"))
            }
            Act::QuarantineProduct(product) => plane.contain_product(product, "quarantined"),
            Act::Apply(files) => plane.apply(files),
        });
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
            publishes_next: 0,
            asker,
            done: Vec::new(),
        })
    }

    pub(super) fn is_done(&self) -> bool {
        self.place >= self.strikes.len()
    }

    pub(super) fn finish(self) -> Vec<Containment> {
        self.done
    }
}

fn strikes(
    wanted: &Containments,
    run: &Run<'_>,
    order: &[usize],
) -> Result<Vec<Strike>, SetupError> {
    let name_of = |slot: &usize| run.tally.slots.get(*slot).map(|slot| slot.name.clone());
    let is_of_product =
        |slot: &usize| name_of(slot).is_some_and(|name| name.starts_with(&wanted.prefix));
    let (of_product, others): (Vec<usize>, Vec<usize>) =
        order.iter().copied().partition(is_of_product);
    let (alone, rest) = others.split_at_checked(wanted.alone).unwrap_or_default();
    let together = rest.get(..wanted.together).unwrap_or_default();
    let asked = wanted.alone + wanted.together;
    let needs_product = wanted.changes > 0 || wanted.whole;
    if asked >= others.len() || (needs_product && of_product.is_empty()) {
        return Err(SetupError::Argument(format!(
            "{asked} devices are to be quarantined of {} beside {} of product {}: some must be \
             left, and some of that product if something is to be done to it",
            others.len(),
            of_product.len(),
            wanted.product,
        )));
    }
    let quarantine = |what, slots: &[usize]| Strike {
        what,
        act: Act::Quarantine(slots.iter().filter_map(name_of).collect()),
        slots: slots.to_vec(),
        then: Standing::Forbidden,
    };
    let mut strikes: Vec<Strike> = (alone.iter())
        .map(|slot| quarantine("one-device", &[*slot]))
        .collect();
    if !together.is_empty() {
        strikes.push(quarantine("devices", together));
    }
    if wanted.changes > 0 {
        let given = read_fleet(&wanted.fleet)?;
        let mut taken = given.clone();
        taken.push(FleetFile {
            path: "policies/contained.cedar".to_owned(),
            text: format!(
                "@id(\"contained\")\nforbid (principal in Product::\"{}\", \
                 action == Action::\"publish\", resource);\n",
                wanted.product
            ),
        });
        for _ in 0..wanted.changes {
            for (what, files, then) in [
                ("policy-takes", &taken, Standing::Forbidden),
                ("policy-gives", &given, Standing::Permitted),
            ] {
                strikes.push(Strike {
                    what,
                    act: Act::Apply(files.clone()),
                    slots: of_product.clone(),
                    then,
                });
            }
        }
    }
    if wanted.whole {
        strikes.push(Strike {
            what: "product",
            act: Act::QuarantineProduct(wanted.product.clone()),
            slots: of_product,
            then: Standing::Forbidden,
        });
    }
    Ok(strikes)
}

impl Run<'_> {
    /// Does what is due: messages of those whom the strike is about, its request, its judgement.
    /// Returns when it wants to be called again.
    pub(super) fn contain(
        &mut self,
        container: &mut Container,
        now: Instant,
        payload: &mut Vec<u8>,
    ) -> Option<Instant> {
        if now < container.begins {
            return Some(container.begins);
        }
        self.judge(container, now);
        let strike = container.strikes.get(container.place)?;
        if let Stage::Before { asks_at } = container.stage
            && now >= asks_at
        {
            // Also what is on its way already may be refused or not, from here on.
            for slot in &strike.slots {
                self.tally.stands(*slot, Standing::Changing);
            }
            container.stage = Stage::Asked;
            container.asker.ask(strike.act.clone());
        }
        if now >= container.publishes_at {
            container.publishes_at = now + MESSAGE_DISTANCE;
            container.publishes_next = container.publishes_next.wrapping_add(1);
            let place = container.publishes_next % strike.slots.len().max(1);
            if let Some(slot) = strike.slots.get(place)
                && self.phase(*slot) == Phase::Ready
            {
                let message = Message {
                    qos: self.settings.qos,
                    payload_bytes: self.settings.payload_bytes,
                    scheduled: now.saturating_duration_since(self.tally.started()),
                };
                self.publish(*slot, &[], payload, &message);
            }
        }
        match container.stage {
            Stage::Before { asks_at } => Some(asks_at.min(container.publishes_at)),
            Stage::Asked | Stage::After { .. } => Some(container.publishes_at),
        }
    }

    /// Takes an answer that has come: from here on its devices stand as it says. The strike after
    /// it may begin when it was watched long enough.
    fn judge(&mut self, container: &mut Container, now: Instant) {
        let Some(strike) = container.strikes.get(container.place) else {
            return;
        };
        if let Stage::Asked = container.stage {
            match container.asker.answer() {
                Ok(answer) => {
                    let standing = match answer.outcome {
                        Ok(()) => strike.then,
                        Err(_) => Standing::Changing,
                    };
                    for slot in &strike.slots {
                        self.tally.stands(*slot, standing);
                    }
                    let watched = match strike.slots.len() {
                        1 => WATCHED_MIN,
                        _ => WATCHED_MANY_MIN,
                    };
                    let over = u32::try_from(container.place + 1).unwrap_or(u32::MAX);
                    let ends_at = container.begins + container.each * over;
                    container.stage = Stage::After {
                        ends_at: ends_at.max(now + watched),
                        answer,
                        sent_before: self.tally.sent_by(&strike.slots),
                    };
                }
                Err(TryRecvError::Empty) => {}
                // The thread is gone by a fault of ours: nothing more is asked.
                Err(TryRecvError::Disconnected) => container.place = container.strikes.len(),
            }
        }
        if let Stage::After {
            ends_at,
            answer,
            sent_before,
        } = &container.stage
            && now >= *ends_at
        {
            let accepted = strike.slots.iter().filter_map(|slot| {
                let slot = self.tally.slots.get(*slot)?;
                slot.acknowledged_at
            });
            let last_accepted = accepted
                .max()
                .filter(|_| strike.then != Standing::Permitted);
            container.done.push(Containment {
                what: strike.what,
                sessions: strike.slots.len(),
                refused: answer.outcome.as_ref().err().map(ToString::to_string),
                acknowledged_us: super::micros(answer.received_at, answer.sent_at),
                sent_after: self.tally.sent_by(&strike.slots) - sent_before,
                last_accepted_us: last_accepted
                    .map(|at| super::micros(self.tally.started() + at, answer.sent_at)),
            });
            container.place += 1;
            container.stage = Stage::Before {
                asks_at: now + (container.each / 2).min(WATCHED_MANY_MIN),
            };
        }
    }
}
