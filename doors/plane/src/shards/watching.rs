//! What a shard remembers of its principals for whoever asks: refusals, how well their connections
//! hold, and who is looked at. All of it bounded, in the shard's own thread, gone with the plane.

use gateway::{CloseReason, Signal};
use model::{Principal, Timestamp, Verdict};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Principals whose refusals are kept; the one that came first makes room.
const REFUSED_MAX: usize = 4096;
/// Different refusals of one principal; the one that was least lately seen makes room.
const REFUSALS_MAX: usize = 8;
/// Principals whose connections are counted, some 150 bytes each.
const LINKS_MAX: usize = 200_000;
/// Readers at once.
const TAILS_MAX: usize = 16;
/// Rows that wait for a reader of a tail; what does not fit is counted and said.
const TAIL_ROWS: usize = 256;

/// Something that was refused, as often as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub action: &'static str,
    /// A topic, a filter, a client identifier.
    pub target: String,
    pub reason: &'static str,
    /// The policy that forbids it, or the channel whose contract it breaks.
    pub decided_by: Option<String>,
    /// The offending field of a payload, as a JSON pointer.
    pub field: Option<String>,
    /// For a person.
    pub text: String,
    pub count: u64,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
}

/// How well somebody's connections hold, since the plane started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub since: Timestamp,
    /// Sessions that are open now.
    pub open: u32,
    pub connects: u64,
    /// Connections that ended without a goodbye.
    pub lost: u64,
    pub last_end: Option<(Timestamp, &'static str)>,
    /// Between its first connection and now, without any; while `open` is 0, up to `last_end`.
    offline: Duration,
}

/// One thing of somebody who is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    pub at: Timestamp,
    pub kind: &'static str,
    pub topic: Option<String>,
    pub bytes: Option<usize>,
    pub reason: Option<&'static str>,
    pub text: String,
    /// Rows before this one that the reader was too slow for.
    pub missed: u64,
}

/// What a reader of a tail gets, in order.
pub struct Sights(mpsc::Receiver<Sight>);

impl Sights {
    pub fn new() -> (mpsc::Sender<Sight>, Self) {
        let (sender, receiver) = mpsc::channel(TAIL_ROWS);
        (sender, Self(receiver))
    }

    /// `None`: the shard has ended.
    pub async fn next(&mut self) -> Option<Sight> {
        self.0.recv().await
    }
}

struct Tail {
    principal: Principal,
    rows: mpsc::Sender<Sight>,
    missed: u64,
}

#[derive(Default)]
pub struct Watching {
    refusals: BTreeMap<Principal, Vec<Refusal>>,
    refused_first: VecDeque<Principal>,
    links: BTreeMap<Principal, Link>,
    tails: Vec<Tail>,
}

impl Watching {
    /// Takes in what the gateway tells. Returns who is looked at no more.
    pub fn signal(&mut self, signal: &Signal, at: Timestamp) -> Option<Principal> {
        let principal = signal.principal()?;
        match signal {
            Signal::SessionOpened { .. } => self.opened(principal, at),
            Signal::ConnectionClosed {
                reason,
                had_session: true,
                ..
            } => self.ended(
                principal,
                reason.name(),
                *reason == CloseReason::KeepAlive,
                at,
            ),
            Signal::ConnectionLost {
                had_session: true, ..
            } => self.ended(principal, "lost", true, at),
            _ => {}
        }
        if let Some(refusal) = refusal(signal, at) {
            self.refused(principal, refusal);
        }
        self.tell(principal, signal, at)
    }

    /// What was refused to one or to all, the latest first.
    pub fn refusals(&self, of: Option<&Principal>, limit: usize) -> Vec<(Principal, Refusal)> {
        let mut all: Vec<(&Principal, &Refusal)> = match of {
            Some(principal) => (self.refusals.get_key_value(principal).into_iter())
                .flat_map(|(principal, rows)| rows.iter().map(move |row| (principal, row)))
                .collect(),
            None => (self.refusals.iter())
                .flat_map(|(principal, rows)| rows.iter().map(move |row| (principal, row)))
                .collect(),
        };
        all.sort_by_key(|(_, row)| std::cmp::Reverse(row.last_at));
        (all.into_iter().take(limit))
            .map(|(principal, row)| (principal.clone(), row.clone()))
            .collect()
    }

    pub fn link(&self, principal: &Principal) -> Option<&Link> {
        self.links.get(principal)
    }

    /// In the order of principals, behind `after`.
    pub fn links(&self, after: Option<&Principal>, limit: usize) -> Vec<(Principal, Link)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        (self.links.range((from, Bound::Unbounded)).take(limit))
            .map(|(principal, link)| (principal.clone(), link.clone()))
            .collect()
    }

    pub fn has_room_to_look(&self) -> bool {
        self.tails.len() < TAILS_MAX
    }

    pub fn look_at(&mut self, principal: Principal, rows: mpsc::Sender<Sight>) {
        self.tails.push(Tail {
            principal,
            rows,
            missed: 0,
        });
    }

    /// Readers that have gone; returns who is looked at by nobody any more.
    pub fn forget_gone(&mut self) -> Vec<Principal> {
        let (stay, gone): (Vec<Tail>, Vec<Tail>) = std::mem::take(&mut self.tails)
            .into_iter()
            .partition(|tail| !tail.rows.is_closed());
        self.tails = stay;
        (gone.into_iter().map(|tail| tail.principal))
            .filter(|principal| !self.is_looked_at(principal))
            .collect()
    }

    fn is_looked_at(&self, principal: &Principal) -> bool {
        self.tails.iter().any(|tail| tail.principal == *principal)
    }

    fn tell(&mut self, principal: &Principal, signal: &Signal, at: Timestamp) -> Option<Principal> {
        if !self.is_looked_at(principal) {
            return None;
        }
        let sight = sight(signal, at);
        self.tails.retain_mut(|tail| {
            if tail.principal != *principal {
                return true;
            }
            let missed = tail.missed;
            let sight = Sight {
                missed,
                ..sight.clone()
            };
            match tail.rows.try_send(sight) {
                Ok(()) => tail.missed = 0,
                Err(TrySendError::Full(_)) => tail.missed += 1,
                Err(TrySendError::Closed(_)) => return false,
            }
            true
        });
        (!self.is_looked_at(principal)).then(|| principal.clone())
    }

    fn opened(&mut self, principal: &Principal, at: Timestamp) {
        if let Some(link) = self.links.get_mut(principal) {
            if let (0, Some((ended_at, _))) = (link.open, link.last_end) {
                link.offline = link.offline.saturating_add(at.since(ended_at));
            }
            link.open = link.open.saturating_add(1);
            link.connects = link.connects.saturating_add(1);
            return;
        }
        if self.links.len() < LINKS_MAX {
            let link = Link {
                since: at,
                open: 1,
                connects: 1,
                lost: 0,
                last_end: None,
                offline: Duration::ZERO,
            };
            self.links.insert(principal.clone(), link);
        }
    }

    fn ended(&mut self, principal: &Principal, reason: &'static str, lost: bool, at: Timestamp) {
        if let Some(link) = self.links.get_mut(principal) {
            link.open = link.open.saturating_sub(1);
            link.lost = link.lost.saturating_add(u64::from(lost));
            link.last_end = Some((at, reason));
        }
    }

    fn refused(&mut self, principal: &Principal, new: Refusal) {
        if !self.refusals.contains_key(principal) {
            if self.refusals.len() >= REFUSED_MAX
                && let Some(first) = self.refused_first.pop_front()
            {
                self.refusals.remove(&first);
            }
            self.refused_first.push_back(principal.clone());
        }
        let rows = self.refusals.entry(principal.clone()).or_default();
        let same = |row: &&mut Refusal| {
            row.action == new.action && row.reason == new.reason && row.target == new.target
        };
        if let Some(known) = rows.iter_mut().find(same) {
            *known = Refusal {
                count: known.count.saturating_add(1),
                first_at: known.first_at,
                ..new
            };
            return;
        }
        if rows.len() >= REFUSALS_MAX
            && let Some((oldest, _)) = rows.iter().enumerate().min_by_key(|(_, row)| row.last_at)
        {
            rows.swap_remove(oldest);
        }
        rows.push(new);
    }
}

impl Link {
    /// Without any connection, until now.
    pub fn offline(&self, now: Timestamp) -> Duration {
        match (self.open, self.last_end) {
            (0, Some((ended_at, _))) => self.offline.saturating_add(now.since(ended_at)),
            _ => self.offline,
        }
    }
}

/// What of a signal is a refusal.
fn refusal(signal: &Signal, at: Timestamp) -> Option<Refusal> {
    let reason_of = |verdict: &Verdict| match verdict {
        Verdict::Permit { .. } => ("permitted", None),
        Verdict::Deny { reason, policy } => {
            (reason.name(), policy.as_ref().map(ToString::to_string))
        }
    };
    let (mut field, mut decided_by) = (None, None);
    let (action, target, reason) = match signal {
        Signal::PublishDenied {
            topic,
            verdict,
            will,
            ..
        } => {
            let (reason, policy) = reason_of(verdict);
            decided_by = policy;
            (
                if *will { "will" } else { "publish" },
                topic.as_str(),
                reason,
            )
        }
        Signal::SubscribeDenied {
            filter, verdict, ..
        }
        | Signal::SubscriptionDropped {
            filter, verdict, ..
        } => {
            let (reason, policy) = reason_of(verdict);
            decided_by = policy;
            ("subscribe", filter.as_str(), reason)
        }
        Signal::ContractViolation {
            topic,
            channel,
            field: offending,
            will,
            ..
        } => {
            decided_by = Some(channel.clone());
            field = Some(offending.clone());
            let action = if *will { "will" } else { "publish" };
            (action, topic.as_str(), "contract-violation")
        }
        Signal::ResponseTopicDenied { topic, .. } => {
            ("publish", topic.as_str(), "foreign-response-topic")
        }
        Signal::ForeignClientId { client_id, .. } => {
            ("connect", client_id.as_str(), "foreign-client-id")
        }
        Signal::ConnectRefused { why, .. } => ("connect", *why, "connect-refused"),
        Signal::SessionLimit { limit, .. } => ("connect", *limit, "session-limit"),
        Signal::Malformed { rule, .. } => ("packet", *rule, "malformed"),
        Signal::NotSupported { what, .. } => ("packet", *what, "not-supported"),
        _ => return None,
    };
    Some(Refusal {
        action,
        target: target.to_owned(),
        reason,
        decided_by,
        field,
        text: signal.to_string(),
        count: 1,
        first_at: at,
        last_at: at,
    })
}

fn sight(signal: &Signal, at: Timestamp) -> Sight {
    let refused = refusal(signal, at);
    let (topic, bytes) = match signal {
        Signal::Published { topic, bytes, .. } => (Some(topic.clone()), Some(*bytes)),
        _ => (refused.as_ref().map(|it| it.target.clone()), None),
    };
    let reason = match signal {
        Signal::ConnectionClosed { reason, .. } => Some(reason.name()),
        _ => refused.map(|it| it.reason),
    };
    Sight {
        at,
        kind: signal.name(),
        topic,
        bytes,
        reason,
        text: signal.to_string(),
        missed: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{DenyReason, DeviceId};

    fn device(number: usize) -> Principal {
        Principal::Device(DeviceId::new(&format!("cam-{number}")).unwrap())
    }

    fn denied(principal: Principal, topic: &str) -> Signal {
        Signal::PublishDenied {
            principal,
            topic: topic.to_owned(),
            verdict: Verdict::Deny {
                reason: DenyReason::NoPermit,
                policy: None,
            },
            will: false,
        }
    }

    fn at(second: u64) -> Timestamp {
        Timestamp::from_seconds(1_700_000_000 + second)
    }

    #[test]
    fn what_was_refused_is_counted_and_bounded_whatever_is_tried() {
        let mut watching = Watching::default();
        for second in 0..1000 {
            let topic = format!("t/{}", second % 20);
            watching.signal(&denied(device(1), &topic), at(second));
        }
        assert_eq!(watching.refusals(Some(&device(1)), 100).len(), REFUSALS_MAX);
        for _ in 0..5 {
            watching.signal(&denied(device(1), "same"), at(2000));
        }
        let rows = watching.refusals(None, 100);
        assert_eq!((rows[0].1.target.as_str(), rows[0].1.count), ("same", 5));
        for number in 0..2 * REFUSED_MAX {
            watching.signal(&denied(device(number), "t"), at(3000));
        }
        assert_eq!(watching.refusals.len(), REFUSED_MAX);
        assert_eq!(watching.refused_first.len(), REFUSED_MAX);
        assert!(watching.refusals(Some(&device(0)), 9).is_empty());
    }

    #[test]
    fn time_without_a_connection_adds_up() {
        let mut watching = Watching::default();
        let opened = Signal::SessionOpened {
            principal: device(1),
            client_id: "cam-1".to_owned(),
            certificate: model::CertificateId::new(model::Digest([1; 32]), &[1, 2]).unwrap(),
            address: [10, 0, 0, 1].into(),
            version: mqtt::Version::V5,
            persistent: false,
            resumed: false,
        };
        let lost = Signal::ConnectionLost {
            principal: device(1),
            had_session: true,
        };
        for (signal, second) in [
            (&opened, 0),
            (&lost, 10),
            (&opened, 15),
            (&opened, 16),
            (&lost, 20),
        ] {
            watching.signal(signal, at(second));
        }
        let link = watching.link(&device(1)).unwrap();
        assert_eq!((link.connects, link.lost, link.open), (3, 2, 1));
        assert_eq!(link.offline(at(30)), Duration::from_secs(5));
        watching.signal(&lost, at(40));
        let link = watching.link(&device(1)).unwrap();
        assert_eq!(link.offline(at(50)), Duration::from_secs(15));
        assert_eq!(link.last_end, Some((at(40), "lost")));
    }

    #[test]
    fn a_slow_reader_of_a_tail_misses_rows_and_is_told_how_many() {
        let mut watching = Watching::default();
        let (rows, mut reader) = mpsc::channel(2);
        watching.look_at(device(1), rows);
        for _ in 0..5 {
            assert_eq!(watching.signal(&denied(device(1), "t"), at(1)), None);
        }
        // Of others nothing is told.
        watching.signal(&denied(device(2), "t"), at(1));
        assert_eq!(reader.try_recv().unwrap().missed, 0);
        assert_eq!(reader.try_recv().unwrap().missed, 0);
        assert!(reader.try_recv().is_err());
        watching.signal(&denied(device(1), "t"), at(2));
        assert_eq!(reader.try_recv().unwrap().missed, 3);
        drop(reader);
        assert_eq!(watching.forget_gone(), [device(1)]);
        assert!(watching.tails.is_empty());
    }
}
