//! When the thread wakes by itself. A timeout given to each wait has the machine's timer set anew for
//! every message; this timer is set when it would ring too late, and rings in vain now and then.

use model::Timestamp;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use std::time::Duration;

pub(super) struct Alarm {
    timer: OwnedFd,
    rings_at: Option<Timestamp>,
}

impl Alarm {
    /// One that tells `epoll` by `token` when it rings.
    ///
    /// # Errors
    /// The system's: no more files.
    pub(super) fn new(epoll: &OwnedFd, token: u64) -> std::io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // By its edge, so that it need not be read.
        let edge = EventFlags::IN | EventFlags::ET;
        epoll::add(epoll, &timer, EventData::new_u64(token), edge)?;
        Ok(Self {
            timer,
            rings_at: None,
        })
    }

    /// How long to wait so as to be awake at `deadline`: `None` where it rings by then. What time it is
    /// matters, and is looked up, only where it must be set.
    pub(super) fn wait(
        &mut self,
        deadline: Timestamp,
        now: impl FnOnce() -> Timestamp,
    ) -> Option<Timespec> {
        if self.rings_at.is_some_and(|rings_at| rings_at <= deadline) {
            return None;
        }
        let now = now();
        let wait = timespec(deadline.since(now));
        let once = Itimerspec {
            it_interval: timespec(Duration::ZERO),
            it_value: wait,
        };
        // A timer of nothing would be none.
        let is_set = deadline > now
            && timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once).is_ok();
        if !is_set {
            return Some(wait);
        }
        self.rings_at = Some(deadline);
        None
    }

    pub(super) fn rang(&mut self) {
        self.rings_at = None;
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::buffer::spare_capacity;

    #[test]
    fn it_is_set_again_only_where_it_would_ring_too_late() {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let mut alarm = Alarm::new(&epoll, 7).unwrap();
        let now = Timestamp::from_millis(1_000_000);
        let after = |millis| now.plus(Duration::from_millis(millis));
        assert_eq!(
            alarm.wait(now, || now),
            Some(Timespec::default()),
            "at once"
        );
        assert_eq!(alarm.wait(after(60_000), || now), None);
        assert_eq!(alarm.wait(after(90_000), || now), None);
        assert_eq!(
            alarm.rings_at,
            Some(after(60_000)),
            "in vain, and is set then"
        );
        assert_eq!(alarm.wait(after(5), || now), None);
        // Without end, were it not set anew.
        let mut events = Vec::with_capacity(4);
        epoll::wait(&epoll, spare_capacity(&mut events), None).unwrap();
        assert_eq!(events.first().map(|event| event.data.u64()), Some(7));
        alarm.rang();
        events.clear();
        epoll::wait(
            &epoll,
            spare_capacity(&mut events),
            Some(&Timespec::default()),
        )
        .unwrap();
        assert!(events.is_empty(), "told once, without being read");
    }
}
