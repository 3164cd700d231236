//! What waits for the writer: bounded, in order, with room kept for withdrawals.

use super::{Settled, settle};
use crate::audit::{CheckpointError, ImportError};
use crate::change::{CHANGE_ROWS_MAX, Change, CommitError, Direction, Receipt};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Tasks in one transaction at most.
const BATCH_TASKS_MAX: usize = 64;

/// Rows that may wait, whatever the number of changes.
const QUEUE_ROWS_MAX: usize = 16 * CHANGE_ROWS_MAX;

pub(crate) type Reply<T> = Box<dyn FnOnce(T) + Send>;

pub(crate) enum Task {
    Change {
        change: Change,
        reply: Reply<Result<Receipt, CommitError>>,
    },
    PutCheckpoint {
        previous_size: u64,
        size: u64,
        note: Vec<u8>,
        reply: Reply<Result<(), CheckpointError>>,
    },
    ImportLeaves {
        from_index: u64,
        leaves: Vec<Vec<u8>>,
        reason: String,
        reply: Reply<Result<u64, ImportError>>,
    },
    Probe {
        reply: Reply<Result<(), CommitError>>,
    },
}

/// What became of a task, if its transaction is committed.
pub(super) enum Answer {
    Change(Result<Receipt, CommitError>),
    Checkpoint(Result<(), CheckpointError>),
    Import(Result<u64, ImportError>),
    Probe(Result<(), CommitError>),
}

impl Task {
    pub(super) fn answered(self, answer: Answer) -> Settled {
        match (self, answer) {
            (Self::Change { reply, .. }, Answer::Change(result)) => settle(reply, result),
            (Self::PutCheckpoint { reply, .. }, Answer::Checkpoint(result)) => {
                settle(reply, result)
            }
            (Self::ImportLeaves { reply, .. }, Answer::Import(result)) => settle(reply, result),
            (Self::Probe { reply }, Answer::Probe(result)) => settle(reply, result),
            // Another's answer: a defect, and no answer to this one.
            (task, _) => task.unanswered(),
        }
    }

    /// Answers without having been tried: with the failure, which there must be one of.
    pub(super) fn unanswered(self) -> Settled {
        Box::new(move |failure| {
            self.refuse(failure.cloned().unwrap_or(CommitError::Closed));
        })
    }

    fn refuse(self, error: CommitError) {
        match self {
            Self::Change { reply, .. } => reply(Err(error)),
            Self::PutCheckpoint { reply, .. } => reply(Err(error.into())),
            Self::ImportLeaves { reply, .. } => reply(Err(error.into())),
            Self::Probe { reply } => reply(Err(error)),
        }
    }

    fn rows(&self) -> usize {
        match self {
            Self::Change { change, .. } => change.rows(),
            Self::ImportLeaves { leaves, .. } => leaves.len(),
            Self::PutCheckpoint { .. } | Self::Probe { .. } => 1,
        }
    }

    /// A flood of grants must not keep a withdrawal, or the log's checkpoint, from being written.
    fn has_reserved_room(&self) -> bool {
        !matches!(self, Self::Change { change, .. } if change.direction != Direction::Withdraw)
    }
}

pub(crate) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    tasks_max: usize,
}

#[derive(Default)]
struct State {
    tasks: VecDeque<Task>,
    rows: usize,
    closed: bool,
}

impl Queue {
    pub(crate) fn new(tasks_max: usize) -> Self {
        Self {
            state: Mutex::default(),
            wake: Condvar::new(),
            tasks_max,
        }
    }

    /// Queues a task, or refuses it at once on this thread.
    pub(crate) fn push(&self, task: Task) {
        let mut state = self.lock();
        let share = if task.has_reserved_room() { 2 } else { 1 };
        let rows = state.rows.saturating_add(task.rows());
        let refusal = if state.closed {
            CommitError::Closed
        } else if state.tasks.len() >= self.tasks_max.saturating_mul(share)
            || rows > QUEUE_ROWS_MAX.saturating_mul(share)
        {
            CommitError::Busy
        } else {
            state.rows = rows;
            state.tasks.push_back(task);
            drop(state);
            self.wake.notify_one();
            return;
        };
        drop(state);
        task.refuse(refusal);
    }

    /// What is queued, up to the size of a transaction; waits for the first. `None`: closed, and
    /// all is done.
    pub(super) fn take(&self) -> Option<Vec<Task>> {
        let mut state = self.lock();
        while state.tasks.is_empty() {
            if state.closed {
                return None;
            }
            state = self
                .wake
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let mut batch = Vec::new();
        let mut batch_rows = 0usize;
        while let Some(next) = state.tasks.front() {
            let rows = next.rows();
            let fits = batch_rows.saturating_add(rows) <= CHANGE_ROWS_MAX;
            if !batch.is_empty() && (!fits || batch.len() >= BATCH_TASKS_MAX) {
                break;
            }
            batch_rows = batch_rows.saturating_add(rows);
            state.rows = state.rows.saturating_sub(rows);
            batch.extend(state.tasks.pop_front());
        }
        Some(batch)
    }

    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
    }

    /// Closes, and refuses what still waits.
    fn abandon(&self) {
        self.close();
        let waiting = std::mem::take(&mut self.lock().tasks);
        for task in waiting {
            task.refuse(CommitError::Closed);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().tasks.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Abandons the queue when the writer's thread ends.
pub(super) struct AbandonOnDrop(pub(super) Arc<Queue>);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// What the writer lets others see without asking the disk.
#[derive(Default)]
pub(crate) struct Status(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    failing: Option<String>,
    sealed: Option<String>,
    imported_from: Option<u64>,
}

impl Status {
    pub(crate) fn failing(&self) -> Option<String> {
        self.lock().failing.clone()
    }

    pub(crate) fn sealed(&self) -> Option<String> {
        self.lock().sealed.clone()
    }

    pub(crate) fn imported_from(&self) -> Option<u64> {
        self.lock().imported_from
    }

    pub(super) fn set_failing(&self, error: Option<&CommitError>) {
        self.lock().failing = error.map(ToString::to_string);
    }

    pub(super) fn publish_seal(&self, reason: Option<&str>, imported_from: Option<i64>) {
        let mut seen = self.lock();
        if seen.sealed.as_deref() != reason {
            seen.sealed = reason.map(ToOwned::to_owned);
        }
        seen.imported_from = imported_from.and_then(|from| u64::try_from(from).ok());
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
