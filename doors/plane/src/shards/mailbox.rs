//! How threads speak to a shard: one queue, one lock an append, one wake a turn.

use super::sync::{AtomicBool, AtomicUsize, Mutex, Ordering, PoisonError, Wake};
use std::collections::VecDeque;

/// A shard's letters, in the order they were posted by each sender.
pub struct Mailbox<T> {
    /// `None`: the owner has ended.
    letters: Mutex<Option<VecDeque<T>>>,
    /// Bytes posted and not yet collected: what tells a sender to slow down.
    waiting: AtomicUsize,
    /// What a letter weighs, in bytes.
    weigh: fn(&T) -> usize,
    /// Whether the owner has been woken and has not collected since.
    woken: AtomicBool,
    wake: Wake,
}

impl<T> Mailbox<T> {
    pub fn new(weigh: fn(&T) -> usize) -> std::io::Result<Self> {
        Ok(Self {
            weigh,
            letters: Mutex::new(Some(VecDeque::new())),
            waiting: AtomicUsize::new(0),
            woken: AtomicBool::new(false),
            wake: Wake::new()?,
        })
    }

    pub fn post(&self, letter: T) {
        self.post_all(std::iter::once(letter));
    }

    /// Posts a batch under one lock and wakes the owner if it is not awake already. What is posted
    /// to an owner that has ended is dropped, and whoever awaits its answer learns that.
    pub fn post_all(&self, batch: impl IntoIterator<Item = T>) {
        let added = {
            let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(letters) = letters.as_mut() else {
                return;
            };
            let before = letters.len();
            let mut weight = 0;
            letters.extend(
                batch
                    .into_iter()
                    .inspect(|letter| weight += (self.weigh)(letter)),
            );
            // Under the lock, so that they are never taken off before they were counted.
            self.waiting.fetch_add(weight, Ordering::Relaxed);
            letters.len() - before
        };
        if added == 0 {
            return;
        }
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.wake.raise();
        }
    }

    /// Takes all letters. The owner calls it when [`Mailbox::wake`] is raised, or sooner.
    pub fn collect(&self, into: &mut VecDeque<T>) {
        self.wake.lower();
        // Cleared before the letters are taken: a letter posted after this wakes again. A swap as the
        // senders', so that each sees the one before it.
        self.woken.swap(false, Ordering::AcqRel);
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(letters) = letters.as_mut() {
            // All that was counted is here, as both happen under the lock.
            self.waiting.store(0, Ordering::Relaxed);
            into.append(letters);
        }
    }

    /// The owner ends: nobody will read what is here or comes later.
    pub fn close(&self) {
        let letters = self
            .letters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        self.waiting.store(0, Ordering::Relaxed);
        // Outside of the lock: a letter may hold a connection, which closes.
        drop(letters);
    }

    /// Bytes that wait here.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub fn wake(&self) -> &Wake {
        &self.wake
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    /// Each letter is collected once, in its sender's order, and the owner, who sleeps until the
    /// wake is readable, never sleeps on a letter.
    #[test]
    fn no_letter_is_lost_and_no_wake_is_missed() {
        const SENDERS: usize = 4;
        const LETTERS: usize = 5_000;
        let mailbox = Mailbox::new(|_| 1).unwrap();
        let mut seen = vec![Vec::new(); SENDERS];
        std::thread::scope(|scope| {
            for sender in 0..SENDERS {
                let mailbox = &mailbox;
                scope.spawn(move || {
                    for number in 0..LETTERS {
                        mailbox.post((sender, number));
                    }
                });
            }
            let mut letters = VecDeque::new();
            while seen.iter().map(Vec::len).sum::<usize>() < SENDERS * LETTERS {
                let mut wake = [rustix::event::PollFd::new(
                    mailbox.wake(),
                    rustix::event::PollFlags::IN,
                )];
                let patience = rustix::event::Timespec {
                    tv_sec: 30,
                    tv_nsec: 0,
                };
                let woken = rustix::event::poll(&mut wake, Some(&patience)).unwrap();
                assert_eq!(woken, 1, "the owner would sleep although letters wait");
                mailbox.collect(&mut letters);
                for (sender, number) in letters.drain(..) {
                    seen[sender].push(number);
                }
            }
        });
        for numbers in seen {
            assert_eq!(numbers, (0..LETTERS).collect::<Vec<_>>());
        }
        assert_eq!(mailbox.waiting(), 0);
    }

    #[test]
    fn nobody_waits_for_an_owner_that_has_ended() {
        let mailbox = Mailbox::new(|_| 1).unwrap();
        let (before, mut early) = oneshot::channel::<()>();
        mailbox.post(before);
        mailbox.close();
        let (after, mut late) = oneshot::channel::<()>();
        mailbox.post(after);
        for answer in [&mut early, &mut late] {
            let closed = Err(oneshot::error::TryRecvError::Closed);
            assert_eq!(answer.try_recv(), closed);
        }
        let mut letters = VecDeque::new();
        mailbox.collect(&mut letters);
        assert_eq!((letters.len(), mailbox.waiting()), (0, 0));
    }
}
