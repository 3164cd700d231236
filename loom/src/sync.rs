//! The checker's parts under the names of the plane's (`doors/plane/src/shards/sync.rs`).

use loom::sync::Condvar;
pub use loom::sync::Mutex;
pub use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
pub use std::sync::PoisonError;

/// As an eventfd that is polled: raised until it is lowered, however often it was raised.
pub struct Wake {
    raised: Mutex<bool>,
    told: Condvar,
}

impl Wake {
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            raised: Mutex::new(false),
            told: Condvar::new(),
        })
    }

    pub fn raise(&self) {
        *self.raised.lock().expect("no thread fails with it") = true;
        self.told.notify_one();
    }

    pub fn lower(&self) {
        *self.raised.lock().expect("no thread fails with it") = false;
    }

    /// Sleeps until it is raised.
    pub fn wait(&self) {
        let mut raised = self.raised.lock().expect("no thread fails with it");
        while !*raised {
            raised = self.told.wait(raised).expect("no thread fails with it");
        }
    }
}
