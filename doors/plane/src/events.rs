//! What has just happened, for screens that are open: the last of it in a ring, numbered.
//!
//! Nobody is sent anything. A screen waits for a higher number and reads from the ring at its own
//! pace; one that is slower than the ring is told to begin anew, so no reader holds memory of ours.

use crate::shared::Locked;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::watch;

/// Events kept for who comes back.
pub const EVENTS_KEPT: usize = 1024;
/// Screens at once.
pub const STREAMS_MAX: usize = 64;
/// A screen that was not written to for this many beats reads no more.
const BEATS_STALLED: u64 = 4;

/// What an event is about: the name on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    Incident,
    Step,
    Alert,
    Device,
    Entry,
    /// A device waits for a person, or no more.
    Pending,
    /// A command was asked for, went on or ended.
    Command,
    Overview,
}

impl About {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Incident => "incident",
            Self::Step => "step",
            Self::Alert => "alert",
            Self::Device => "device",
            Self::Entry => "entry",
            Self::Pending => "pending",
            Self::Command => "command",
            Self::Overview => "overview",
        }
    }
}

/// One event. `data` is one line of JSON, which escapes line ends by itself.
#[derive(Debug, Clone)]
pub struct Event {
    pub number: u64,
    pub about: About,
    pub data: Arc<str>,
}

/// What a reader finds beyond its number.
#[derive(Debug)]
pub enum Found {
    Events(Vec<Event>),
    /// What it missed is gone (or it comes from before a restart): read all anew, go on from here.
    Reset(u64),
}

pub struct Events {
    ring: Locked<Ring>,
    /// Moves with each event and each beat; the value means nothing.
    moved: watch::Sender<u64>,
    streams: Locked<Streams>,
    over: Locked<bool>,
}

struct Ring {
    events: VecDeque<Event>,
    /// The number of the last event; numbers begin anew with a random part at each start, so that
    /// a number of an earlier run is known as one.
    last: u64,
    first: u64,
}

#[derive(Default)]
struct Streams {
    beat: u64,
    next: u64,
    /// (stream, the beat at which it was last written to)
    open: Vec<(u64, u64)>,
}

/// A place among the streams, given back when dropped.
pub struct Place {
    events: Arc<Events>,
    stream: u64,
}

impl Events {
    /// `run` tells this run's numbers from those of earlier ones.
    #[must_use]
    pub fn new(run: u32) -> Self {
        let first = u64::from(run) << 20;
        Self {
            ring: Locked::new(Ring {
                events: VecDeque::with_capacity(EVENTS_KEPT),
                last: first,
                first,
            }),
            moved: watch::Sender::new(0),
            streams: Locked::default(),
            over: Locked::default(),
        }
    }

    /// The plane stops: every stream ends.
    pub fn end(&self) {
        *self.over.lock() = true;
        self.nudge();
    }

    #[must_use]
    pub fn is_over(&self) -> bool {
        *self.over.lock()
    }

    pub fn tell(&self, about: About, data: &serde_json::Value) {
        {
            let mut ring = self.ring.lock();
            ring.last += 1;
            let event = Event {
                number: ring.last,
                about,
                data: data.to_string().into(),
            };
            if ring.events.len() >= EVENTS_KEPT {
                ring.events.pop_front();
            }
            ring.events.push_back(event);
        }
        self.nudge();
    }

    /// Wakes every stream: to look whether its session still stands.
    pub fn nudge(&self) {
        self.moved
            .send_modify(|moves| *moves = moves.wrapping_add(1));
    }

    /// Wakes every stream so that it writes something; counts who was not written to.
    pub fn beat(&self) {
        self.streams.lock().beat += 1;
        self.nudge();
    }

    /// The number of beats so far: a stream that sees another one than before writes a comment.
    #[must_use]
    pub fn beats(&self) -> u64 {
        self.streams.lock().beat
    }

    #[must_use]
    pub fn moves(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    /// The number to begin at for a reader that has just read everything.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.ring.lock().last
    }

    /// What came after `number`.
    #[must_use]
    pub fn after(&self, number: u64) -> Found {
        let ring = self.ring.lock();
        let oldest = ring.events.front().map_or(ring.last + 1, |one| one.number);
        let is_known = (ring.first..=ring.last).contains(&number) && number + 1 >= oldest;
        if !is_known {
            return Found::Reset(ring.last);
        }
        let events = ring.events.iter().filter(|one| one.number > number);
        Found::Events(events.cloned().collect())
    }

    /// A place for one more stream; `None` while all are taken by streams that are being read.
    #[must_use]
    pub fn place(self: &Arc<Self>) -> Option<Place> {
        let mut streams = self.streams.lock();
        let beat = streams.beat;
        let reading = |seen: u64| beat.saturating_sub(seen) < BEATS_STALLED;
        if streams.open.len() >= STREAMS_MAX {
            streams.open.retain(|(_, seen)| reading(*seen));
        }
        if streams.open.len() >= STREAMS_MAX {
            return None;
        }
        streams.next += 1;
        let stream = streams.next;
        streams.open.push((stream, beat));
        drop(streams);
        Some(Place {
            events: Arc::clone(self),
            stream,
        })
    }
}

impl Place {
    /// The stream is being written to. False: its place went to another while it was not read.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        let mut streams = self.events.streams.lock();
        let beat = streams.beat;
        let own = streams.open.iter_mut().find(|(id, _)| *id == self.stream);
        own.map(|(_, seen)| *seen = beat).is_some()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut streams = self.events.streams.lock();
        streams.open.retain(|(id, _)| *id != self.stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn numbers(found: Found) -> Option<Vec<u64>> {
        match found {
            Found::Events(events) => Some(events.iter().map(|one| one.number).collect()),
            Found::Reset(_) => None,
        }
    }

    #[test]
    fn a_reader_goes_on_where_it_was_or_is_told_to_begin_anew() {
        let events = Events::new(7);
        let start = events.last();
        assert_eq!(numbers(events.after(start)), Some(vec![]));
        for n in 0..3 {
            events.tell(About::Alert, &json!({ "n": n }));
        }
        assert_eq!(
            numbers(events.after(start + 1)),
            Some(vec![start + 2, start + 3])
        );
        // Of the future, of an earlier run, of nothing.
        for unknown in [start + 4, start - 1, 0, u64::MAX] {
            assert_eq!(numbers(events.after(unknown)), None, "{unknown}");
        }
        for n in 0..EVENTS_KEPT {
            events.tell(About::Step, &json!({ "n": n }));
        }
        assert_eq!(numbers(events.after(start + 1)), None);
        let kept = numbers(events.after(start + 3)).unwrap();
        assert_eq!(kept.len(), EVENTS_KEPT);
    }

    #[test]
    fn a_stream_that_is_not_read_loses_its_place_to_one_that_is() {
        let events = Arc::new(Events::new(1));
        let places: Vec<_> = (0..STREAMS_MAX).map(|_| events.place().unwrap()).collect();
        assert!(events.place().is_none());
        for _ in 0..BEATS_STALLED {
            events.beat();
            assert!(places[1..].iter().all(Place::is_kept));
        }
        let newcomer = events.place().unwrap();
        assert!(!places[0].is_kept());
        assert!(newcomer.is_kept());
        assert!(events.place().is_none());
        drop(places);
        assert!(events.place().is_some());
    }

    #[test]
    fn text_of_a_device_cannot_end_its_line() {
        let events = Events::new(1);
        let start = events.last();
        events.tell(About::Alert, &json!({ "seen": "a\n\nevent: reset\r\n" }));
        let Found::Events(found) = events.after(start) else {
            panic!("a reset");
        };
        assert!(!found[0].data.contains(['\n', '\r']));
    }
}
