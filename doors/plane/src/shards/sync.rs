//! What a mailbox is made of. Apart, so that `loom/` can put a model checker's parts in its place.

use rustix::event::{EventfdFlags, eventfd};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
pub use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
pub use std::sync::{Mutex, PoisonError};

/// Readable from [`Wake::raise`] on until [`Wake::lower`].
pub struct Wake(OwnedFd);

impl Wake {
    pub fn new() -> std::io::Result<Self> {
        Ok(Self(eventfd(
            0,
            EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK,
        )?))
    }

    pub fn raise(&self) {
        // The counter can only be full if it is raised already.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    pub fn lower(&self) {
        let mut counter = [0; 8];
        // Nothing to read means that it is lowered already.
        let _ = rustix::io::read(&self.0, &mut counter);
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
