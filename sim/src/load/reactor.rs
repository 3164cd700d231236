//! The load generator's one loop: sockets and a timer under epoll, each touched connection
//! written once a turn.

use super::tally::Tally;
use super::wire::Wire;
use crate::refusal::{Refusal, SetupError};
use crate::tls::Client;
use mqtt::Connect;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

pub(super) struct Reactor {
    epoll: OwnedFd,
    timer: OwnedFd,
    slots: Vec<Slot>,
    /// Slots with something to flush.
    touched: Vec<usize>,
    events: Vec<epoll::Event>,
    scratch: Vec<u8>,
}

#[derive(Default)]
struct Slot {
    wire: Option<Wire>,
    touched: bool,
    /// Whether epoll tells when the socket is writable.
    watches_writable: bool,
}

const TIMER: u64 = u64::MAX;
const EVENTS_MAX: usize = 1024;
const SCRATCH_BYTES: usize = 64 * 1024;

impl Reactor {
    /// For `slots` connections; raises the limit of open files if it is too low for them.
    pub(super) fn new(slots: usize) -> Result<Self, SetupError> {
        allow_files(slots as u64 + 64)?;
        let system = |what| {
            move |error: Errno| SetupError::System {
                what,
                source: error.into(),
            }
        };
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(system("give an epoll"))?;
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )
        .map_err(system("give a timer"))?;
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER), EventFlags::IN)
            .map_err(system("watch a timer"))?;
        Ok(Self {
            epoll,
            timer,
            slots: (0..slots).map(|_| Slot::default()).collect(),
            touched: Vec::new(),
            events: Vec::with_capacity(EVENTS_MAX),
            scratch: vec![0; SCRATCH_BYTES],
        })
    }

    /// Begins to connect in this slot, from `source` if it is said; whatever was there is dropped.
    pub(super) fn open(
        &mut self,
        index: usize,
        client: &Client,
        in_clear: bool,
        source: Option<Ipv4Addr>,
        packet: &Connect<'_>,
    ) -> Result<(), Refusal> {
        let Some(slot) = self.slots.get_mut(index) else {
            return Err(Refusal::Setup(format!("there is no slot {index}")));
        };
        *slot = Slot::default();
        let wire = Wire::open(client, in_clear, source, packet)?;
        let flags = EventFlags::IN | EventFlags::OUT;
        epoll::add(
            &self.epoll,
            wire.socket(),
            EventData::new_u64(index as u64),
            flags,
        )
        .map_err(|error| Refusal::Setup(format!("epoll: {error}")))?;
        slot.wire = Some(wire);
        slot.watches_writable = true;
        Ok(())
    }

    /// The slot's connection, unless its socket is full: a bound on what waits for it.
    pub(super) fn sendable(&mut self, index: usize) -> Option<&mut Vec<u8>> {
        let slot = self.slots.get_mut(index)?;
        let wire = slot.wire.as_mut().filter(|wire| !wire.is_blocked())?;
        if !slot.touched {
            slot.touched = true;
            self.touched.push(index);
        }
        Some(wire.outgoing())
    }

    pub(super) fn wire(&self, index: usize) -> Option<&Wire> {
        self.slots.get(index)?.wire.as_ref()
    }

    /// Whether the connection in this slot came by a ticket.
    pub(super) fn is_resumed(&self, index: usize) -> bool {
        let wire = self.slots.get(index).and_then(|slot| slot.wire.as_ref());
        wire.is_some_and(Wire::is_resumed)
    }

    /// Says DISCONNECT in this slot and closes.
    pub(super) fn close(&mut self, index: usize) {
        if let Some(slot) = self.slots.get_mut(index)
            && let Some(wire) = slot.wire.take()
        {
            wire.close();
        }
    }

    /// Closes this slot without a word.
    pub(super) fn cut(&mut self, index: usize) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.wire = None;
        }
    }

    /// One turn: writes what was prepared, waits for the world or for `until`, takes what came
    /// to `tally`, writes the answers.
    pub(super) fn turn(&mut self, until: Instant, tally: &mut Tally) -> Result<(), SetupError> {
        self.flush(tally);
        self.wait(until)?;
        let events = std::mem::take(&mut self.events);
        for event in &events {
            let (data, flags) = (event.data, event.flags);
            if data.u64() == TIMER {
                continue;
            }
            if let Ok(index) = usize::try_from(data.u64()) {
                self.serve(index, flags, tally);
            }
        }
        self.events = events;
        self.flush(tally);
        Ok(())
    }

    fn wait(&mut self, until: Instant) -> Result<(), SetupError> {
        let system = |what| {
            move |error: Errno| SetupError::System {
                what,
                source: error.into(),
            }
        };
        let left = until.saturating_duration_since(Instant::now());
        // Setting the timer also takes back that it has fired. Zero would disarm it.
        let once = Itimerspec {
            it_interval: timespec(Duration::ZERO),
            it_value: timespec(left.max(Duration::from_nanos(1))),
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)
            .map_err(system("set a timer"))?;
        self.events.clear();
        let buffer = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, buffer, None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(system("wait for sockets")(error)),
        }
    }

    fn serve(&mut self, index: usize, flags: EventFlags, tally: &mut Tally) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        let Some(wire) = slot.wire.as_mut() else {
            return;
        };
        let mut outcome = Ok(());
        if flags.contains(EventFlags::OUT) {
            outcome = wire.writable();
        }
        if outcome.is_ok() && flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            outcome = wire.readable(&mut self.scratch, |packet, answers| {
                tally.packet(index, &packet, answers)
            });
        }
        match outcome {
            Ok(()) if !slot.touched => {
                slot.touched = true;
                self.touched.push(index);
            }
            Ok(()) => {}
            Err(refusal) => {
                slot.wire = None;
                tally.ended(index, &refusal);
            }
        }
    }

    fn flush(&mut self, tally: &mut Tally) {
        for index in self.touched.drain(..) {
            let Some(slot) = self.slots.get_mut(index) else {
                continue;
            };
            slot.touched = false;
            let Some(wire) = slot.wire.as_mut() else {
                continue;
            };
            let outcome = wire.flush().and_then(|()| {
                if wire.is_blocked() == slot.watches_writable {
                    return Ok(());
                }
                slot.watches_writable = wire.is_blocked();
                let flags = if slot.watches_writable {
                    EventFlags::IN | EventFlags::OUT
                } else {
                    EventFlags::IN
                };
                epoll::modify(
                    &self.epoll,
                    wire.socket(),
                    EventData::new_u64(index as u64),
                    flags,
                )
                .map_err(|error| Refusal::Setup(format!("epoll: {error}")))
            });
            if let Err(refusal) = outcome {
                slot.wire = None;
                tally.ended(index, &refusal);
            }
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// Raises the soft limit of open files to `needed` if it is lower.
fn allow_files(needed: u64) -> Result<(), SetupError> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let raised = Rlimit {
        current: Some(needed),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).map_err(|_| {
        SetupError::Argument(format!(
            "{needed} open files are needed and the limit is {}; raise it (ulimit -Hn) or ask \
             for fewer devices",
            limit.maximum.unwrap_or_default()
        ))
    })
}
