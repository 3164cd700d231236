//! What the doors and shards tell the judge: one bounded queue that never makes them wait.
//!
//! What does not fit is dropped and counted. Strangers get half of it at most, so that whoever
//! knocks without a key cannot hide what somebody with a key does; and observers in the network
//! three quarters, so that one that was stolen cannot hide what our own doors see.

use detection::{Feature, Observation};
use model::{Attribution, DeviceId, Principal, Source, Subject, Timestamp};
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::sync::mpsc;

/// Waiting at most; some 200 bytes each.
const QUEUE_MAX: usize = 16 * 1024;
/// Of the reports among them: they may be 128 KiB each.
const REPORT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// One thing that a door or a shard tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Observation(Observation),
    /// What a device said of itself, unread and untrusted, at most 64 KiB. The session was
    /// proven; the contents are not.
    Report {
        device: DeviceId,
        payload: Vec<u8>,
        at: Timestamp,
    },
    /// What an agent of Device Defender reported on this topic, likewise, at most 128 KiB.
    DefenderReport {
        device: DeviceId,
        topic: String,
        payload: Vec<u8>,
        at: Timestamp,
    },
    /// A session was opened. A principal may have several.
    Connected {
        principal: Principal,
        address: IpAddr,
        at: Timestamp,
    },
    /// One of its sessions ended. `lost`: without a goodbye.
    Disconnected {
        principal: Principal,
        lost: bool,
        at: Timestamp,
    },
    /// The devices with a session at this shard, each as often as it has sessions. What the shard
    /// told before is counted in it, so it makes good what did not fit.
    Sessions {
        shard: u16,
        devices: Vec<DeviceId>,
    },
}

impl Told {
    /// Of a door of this plane.
    pub fn seen(
        subject: impl Into<Subject>,
        attribution: Attribution,
        feature: Feature,
        at: Timestamp,
    ) -> Self {
        Self::Observation(Observation {
            at,
            subject: subject.into(),
            source: Source::Gateway,
            attribution,
            feature,
        })
    }

    /// As [`Self::seen`], of somebody who was refused. `target`: what it was about, if that says more.
    pub fn denied(
        subject: impl Into<Subject>,
        attribution: Attribution,
        (action, target): (&str, &str),
        reason: &str,
        at: Timestamp,
    ) -> Self {
        let feature = Feature::Denied {
            action: action.to_owned(),
            target: target.to_owned(),
            reason: reason.to_owned(),
        };
        Self::seen(subject, attribution, feature, at)
    }

    /// Places that it must leave to others.
    fn leaves(&self) -> usize {
        match self {
            Self::Observation(seen) if seen.attribution != Attribution::Proven => QUEUE_MAX / 2,
            Self::Observation(seen) if seen.source == Source::Network => QUEUE_MAX / 4,
            _ => 0,
        }
    }

    fn report_bytes(&self) -> usize {
        match self {
            Self::Report { payload, .. } | Self::DefenderReport { payload, .. } => payload.len(),
            _ => 0,
        }
    }
}

/// The end into which is told. Cheap to clone.
#[derive(Clone)]
pub struct Signals {
    queue: mpsc::Sender<Told>,
    counts: Arc<Counts>,
}

/// The end from which is read.
pub struct Inbox {
    queue: mpsc::Receiver<Told>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    dropped: AtomicU64,
    report_bytes: AtomicUsize,
}

impl Signals {
    #[must_use]
    pub fn new() -> (Self, Inbox) {
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        let counts = Arc::<Counts>::default();
        let signals = Self {
            queue: sender,
            counts: Arc::clone(&counts),
        };
        let inbox = Inbox {
            queue: receiver,
            counts,
        };
        (signals, inbox)
    }

    /// Never waits: what does not fit is counted.
    pub fn tell(&self, told: Told) {
        let _ = self.offer(told);
    }

    /// As [`Signals::tell`], for who can say it again. False: it did not fit.
    #[must_use]
    pub fn offer(&self, told: Told) -> bool {
        let bytes = told.report_bytes();
        let waiting = self.counts.report_bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = (bytes == 0 || waiting + bytes <= REPORT_BYTES_MAX)
            && self.queue.capacity() > told.leaves();
        let is_told = fits && self.queue.try_send(told).is_ok();
        if !is_told {
            self.counts.report_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
        is_told
    }

    /// Nobody reads any more: the judge has ended.
    #[must_use]
    pub fn is_unheard(&self) -> bool {
        self.queue.is_closed()
    }

    /// How much was not told since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }
}

impl Inbox {
    /// Waits until something was told and takes it, `limit` at most, in the order in which it was
    /// told. 0: nobody will tell anything any more.
    pub async fn recv_many(&mut self, into: &mut Vec<Told>, limit: usize) -> usize {
        let before = into.len();
        let count = self.queue.recv_many(into, limit).await;
        let bytes = into.iter().skip(before).map(Told::report_bytes).sum();
        self.counts.report_bytes.fetch_sub(bytes, Ordering::Relaxed);
        count
    }
}

/// So much of one kind from one source a second; the rest is one in a count. Bounded memory.
pub struct PerSecond<K> {
    second: u64,
    each: u32,
    counts: HashMap<K, u32>,
}

/// Sources of one second that are told apart; more of them are not told of.
const SOURCES_MAX: usize = 1024;

impl<K: Eq + Hash> PerSecond<K> {
    /// `each` is how much one source may tell in a second.
    #[must_use]
    pub fn new(each: u32) -> Self {
        Self {
            second: 0,
            each,
            counts: HashMap::new(),
        }
    }

    /// Whether one more of `source` may be told now.
    pub fn take(&mut self, source: K, now: Timestamp) -> bool {
        if self.second != now.as_seconds() {
            self.second = now.as_seconds();
            self.counts.clear();
        }
        if self.counts.len() >= SOURCES_MAX && !self.counts.contains_key(&source) {
            return false;
        }
        let count = self.counts.entry(source).or_default();
        *count = count.saturating_add(1);
        *count <= self.each
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knock(attribution: Attribution) -> Told {
        Told::seen(
            Subject::Address(IpAddr::from([192, 0, 2, 1])),
            attribution,
            Feature::HandshakeFailed {
                reason: "unknown-issuer".into(),
                door: "mqtt".into(),
            },
            Timestamp::from_seconds(1),
        )
    }

    fn report(bytes: usize) -> Told {
        Told::Report {
            device: DeviceId::new("cam-1").unwrap(),
            payload: vec![0; bytes],
            at: Timestamp::from_seconds(1),
        }
    }

    #[tokio::test]
    async fn a_flood_of_strangers_leaves_room_for_those_with_a_key() {
        let (signals, mut inbox) = Signals::new();
        for _ in 0..QUEUE_MAX {
            signals.tell(knock(Attribution::Address));
        }
        let kept = QUEUE_MAX as u64 - signals.dropped();
        assert_eq!(kept, QUEUE_MAX as u64 / 2);
        signals.tell(knock(Attribution::Claimed));
        assert_eq!(signals.dropped(), QUEUE_MAX as u64 - kept + 1);
        let before = signals.dropped();
        signals.tell(knock(Attribution::Proven));
        assert_eq!(signals.dropped(), before);
        let mut all = Vec::new();
        while inbox.recv_many(&mut all, 1000).await == 1000 {}
        assert_eq!(all.len() as u64, kept + 1);
        assert_eq!(all.last(), Some(&knock(Attribution::Proven)));
    }

    #[tokio::test]
    async fn attack_a_stolen_observer_cannot_hide_what_our_own_doors_see() {
        let (signals, _inbox) = Signals::new();
        let Told::Observation(mut seen) = knock(Attribution::Proven) else {
            panic!("no observation");
        };
        seen.source = Source::Network;
        let taken = (0..2 * QUEUE_MAX)
            .filter(|_| signals.offer(Told::Observation(seen.clone())))
            .count();
        assert_eq!(taken, QUEUE_MAX / 4 * 3);
        assert!(signals.offer(knock(Attribution::Proven)));
        assert!(signals.offer(report(10)));
    }

    #[tokio::test]
    async fn reports_never_hold_more_memory_than_they_may() {
        let (signals, mut inbox) = Signals::new();
        let fit = REPORT_BYTES_MAX / (64 * 1024);
        for _ in 0..2 * fit {
            signals.tell(report(64 * 1024));
        }
        assert_eq!(signals.dropped(), fit as u64);
        let mut all = Vec::new();
        assert_eq!(inbox.recv_many(&mut all, fit).await, fit);
        signals.tell(report(64 * 1024));
        assert_eq!(signals.dropped(), fit as u64);
    }

    #[test]
    fn what_nobody_reads_is_counted_and_nobody_waits() {
        let (signals, inbox) = Signals::new();
        drop(inbox);
        signals.tell(report(10));
        assert_eq!(signals.dropped(), 1);
        assert!(signals.is_unheard());
    }

    #[test]
    fn one_source_cannot_tell_for_all_and_their_number_is_bounded() {
        let mut budget = PerSecond::new(2);
        let now = Timestamp::from_millis(1_500);
        let told = (0..10).filter(|_| budget.take(1, now)).count();
        assert_eq!(told, 2);
        assert!(budget.take(2, now));
        assert!(budget.take(1, Timestamp::from_millis(2_000)));
        let many = (0..100_000)
            .filter(|source| budget.take(*source, now))
            .count();
        assert_eq!(many, SOURCES_MAX);
        assert!(budget.counts.len() <= SOURCES_MAX);
    }
}
