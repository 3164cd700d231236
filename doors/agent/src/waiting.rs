//! Waiting, in one place: for sockets, for a deadline, and for being asked to end.

use crate::failure::Failure;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// SIGTERM and SIGINT arrive here, as something to read. Made before any thread starts, so that
/// no thread takes them instead.
#[derive(Debug)]
pub struct Waiting {
    signals: SignalFd,
}

impl Waiting {
    /// # Errors
    /// If the system gives no descriptor.
    pub fn new() -> io::Result<Self> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGTERM);
        set.add(Signal::SIGINT);
        set.thread_block()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Ok(Self {
            signals: SignalFd::with_flags(&set, flags)?,
        })
    }

    /// Waits until `fd` is ready.
    ///
    /// # Errors
    /// [`Failure::Timeout`] at the deadline, [`Failure::Stopped`] if we are asked to end.
    pub fn for_one(
        &self,
        fd: BorrowedFd<'_>,
        interest: PollFlags,
        deadline: Instant,
    ) -> Result<(), Failure> {
        if self.until(Some((fd, interest)), deadline)? {
            Ok(())
        } else {
            Err(Failure::Timeout)
        }
    }

    /// Waits until the deadline, or until `fd` is ready: then true.
    ///
    /// # Errors
    /// [`Failure::Stopped`] if we are asked to end.
    pub fn until(
        &self,
        fd: Option<(BorrowedFd<'_>, PollFlags)>,
        deadline: Instant,
    ) -> Result<bool, Failure> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut fds = vec![PollFd::from_borrowed_fd(
                self.signals.as_fd(),
                PollFlags::IN,
            )];
            fds.extend(fd.map(|(fd, interest)| PollFd::from_borrowed_fd(fd, interest)));
            match poll(&mut fds, Some(&timespec(left))) {
                Ok(0) if left.is_zero() => return Ok(false),
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => {
                    let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
                    if ready.next() == Some(true) {
                        return Err(Failure::Stopped);
                    }
                    return Ok(ready.next() == Some(true));
                }
                Err(error) => return Err(Failure::Unreachable(error.into())),
            }
        }
    }
}

/// Waits for one socket alone, when we have been asked to end already.
///
/// # Errors
/// [`Failure::Timeout`] at the deadline.
pub fn for_socket(
    socket: Option<(BorrowedFd<'_>, PollFlags)>,
    deadline: Instant,
) -> Result<(), Failure> {
    let left = deadline.saturating_duration_since(Instant::now());
    let mut fds: Vec<_> = socket
        .into_iter()
        .map(|(fd, interest)| PollFd::from_borrowed_fd(fd, interest))
        .collect();
    match poll(&mut fds, Some(&timespec(left))) {
        Ok(0) => Err(Failure::Timeout),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(Failure::Unreachable(error.into())),
    }
}

fn timespec(left: Duration) -> Timespec {
    // Up to the next millisecond, so that a deadline has passed when the wait ends.
    let left = left + Duration::from_millis(u64::from(!left.is_zero()));
    Timespec {
        tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    }
}
