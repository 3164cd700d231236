//! The one thread that writes: it takes what is queued and commits it as one transaction.
//!
//! It never waits for more (the running commit is the window in which the next batch gathers),
//! gives each change a savepoint of its own, and answers only after the COMMIT returned.

mod apply;
mod authorities;
mod claim;
mod command;
mod enroll;
mod first_identity;
mod ownership;
mod people;
mod queue;
mod respond;
mod revoke;
mod tpm;
mod twin;

pub(crate) use apply::millis;
use queue::Answer;
pub(crate) use queue::{Queue, Reply, Status, Task};

use crate::change::{CommitError, RECEIPTS_KEPT_CHANGES};
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Pages in the write-ahead log that were not copied into the database yet: from here on they are
/// copied after a batch, and so after its answers. Four times SQLite's own default: a page that
/// changes with every batch is copied once in a while, and the database is synced as seldom.
const WAL_PAGES_COPY: i64 = 4000;

/// Pages in the write-ahead log (of 4 KiB): beyond this the writer itself stops until it can begin
/// the log anew. Only a reader that holds an old view can prevent it.
const WAL_PAGES_MAX: i64 = 16_384;

/// Pages by which the write-ahead log grows before it is asked how many of them were copied: the
/// question is a statement of its own.
const WAL_PAGES_UNASKED: u64 = 256;

thread_local! {
    /// Pages in the write-ahead log after the last commit of this thread, as SQLite told its hook,
    /// which is a function without an owner.
    static WAL_PAGES: Cell<i64> = const { Cell::new(0) };
}

pub(crate) struct Writer {
    connection: Connection,
    tenant: String,
    queue: Arc<Queue>,
    status: Arc<Status>,
    head: Head,
    /// Something was written since the transaction began.
    dirty: bool,
    /// The last failure of the disk within this transaction.
    broken: Option<CommitError>,
    /// Each piece of work can be undone without its neighbours.
    has_savepoints: bool,
    /// Pages at which the write-ahead log is forced to begin anew.
    wal_pages_restart: i64,
    /// Its pages when it was last asked for them.
    wal_pages_asked: i64,
}

/// The counters of the commit order. Restored when a savepoint or a transaction is rolled back.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Head {
    sequence: i64,
    leaf_count: i64,
    sealed: Option<String>,
    /// Lowest index of the leaves that were imported under the present seal.
    imported_from: Option<i64>,
}

/// Gives a task its answer, once it is known how the transaction ended.
type Settled = Box<dyn FnOnce(Option<&CommitError>) + Send>;

impl Writer {
    pub(crate) fn new(
        connection: Connection,
        tenant: &str,
        queue: Arc<Queue>,
        status: Arc<Status>,
    ) -> rusqlite::Result<Self> {
        connection.set_prepared_statement_cache_capacity(64);
        // A short patience: the writer meets a lock only when somebody opened the file by hand. What
        // would undo a change stays in memory: of some dozen changes it is more than SQLite keeps
        // there by itself, and each transaction would make a file for it.
        connection.execute_batch(
            "PRAGMA busy_timeout = 250; PRAGMA wal_autocheckpoint = 0; PRAGMA temp_store = MEMORY;
             PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -65536;",
        )?;
        connection.wal_hook(Some(|_, pages| {
            WAL_PAGES.set(i64::from(pages));
            Ok(())
        }));
        let (sequence, sealed, imported_from) = connection.query_row(
            "SELECT sequence, sealed, imported_from FROM state WHERE tenant = ?1",
            params![tenant],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )?;
        let last: Option<i64> = connection
            .query_row(
                "SELECT max(leaf_index) FROM entry WHERE tenant = ?1",
                params![tenant],
                |row| row.get(0),
            )
            .optional()?
            .flatten();
        let head = Head {
            sequence,
            leaf_count: last.map_or(0, |last| last.saturating_add(1)),
            sealed,
            imported_from,
        };
        status.publish_seal(head.sealed.as_deref(), head.imported_from);
        Ok(Self {
            connection,
            tenant: tenant.to_owned(),
            queue,
            status,
            head,
            dirty: false,
            broken: None,
            has_savepoints: false,
            wal_pages_restart: WAL_PAGES_MAX,
            wal_pages_asked: 0,
        })
    }

    /// Runs until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        // However this ends: nobody waits for an answer that cannot come.
        let _abandon = queue::AbandonOnDrop(Arc::clone(&self.queue));
        while let Some(batch) = self.queue.take() {
            let before = self.head.clone();
            let (settled, failure) = self.transaction(batch);
            match &failure {
                Some(error) => {
                    self.head = before;
                    self.status.set_failing(Some(error));
                }
                None => {
                    // One change may have met the disk's limit while its neighbours did not.
                    if self.broken.is_some() {
                        self.status.set_failing(self.broken.as_ref());
                    } else if self.dirty {
                        self.status.set_failing(None);
                    }
                    self.status
                        .publish_seal(self.head.sealed.as_deref(), self.head.imported_from);
                }
            }
            for answer in settled {
                // A reply that panics is its owner's defect; the next one still gets its answer.
                let _ = catch_unwind(AssertUnwindSafe(|| answer(failure.as_ref())));
            }
            self.shorten_wal();
        }
        // So that a copy of a closed store's folder is one file.
        let _ = self.checkpoint("TRUNCATE");
    }

    /// One SQL transaction. The failure, if there is one, is everybody's.
    ///
    /// Nearly all work is done and none undone, and a savepoint has SQLite copy each page before it
    /// changes: so first without. Where something is refused that had begun to write, all of it is
    /// taken back and done again, each in a savepoint.
    fn transaction(&mut self, batch: Vec<Task>) -> (Vec<Settled>, Option<CommitError>) {
        let before = self.head.clone();
        self.has_savepoints = false;
        let answers = self.attempt(&batch).unwrap_or_else(|| {
            self.head = before;
            self.has_savepoints = true;
            self.attempt(&batch).unwrap_or_default()
        });
        let failure = answers.failure;
        let mut answers = answers.each.into_iter();
        let settled = (batch.into_iter())
            .map(|task| match answers.next() {
                Some(answer) => task.answered(answer),
                None => task.unanswered(),
            })
            .collect();
        (settled, failure)
    }

    /// `None`: something was refused whose traces are there, and no savepoint is; nothing was
    /// committed.
    fn attempt(&mut self, batch: &[Task]) -> Option<Answers> {
        self.dirty = false;
        self.broken = None;
        let mut each = Vec::with_capacity(batch.len());
        let mut failure = self.execute("BEGIN IMMEDIATE").err();
        for task in batch {
            if failure.is_some() {
                break;
            }
            let (answer, traces) = self.apply(task);
            if traces == Traces::Left {
                // Nothing is left to do if this fails: the next BEGIN will say so.
                let _ = self.connection.execute_batch("ROLLBACK");
                return None;
            }
            each.push(answer);
            // SQLite rolls back by itself on some failures of the disk: then all is gone.
            if self.connection.is_autocommit() {
                failure = Some(self.broken.clone().unwrap_or_else(|| CommitError::Io {
                    path: FILE.to_owned(),
                    detail: "the transaction was rolled back".to_owned(),
                }));
            }
        }
        if failure.is_none() {
            failure = self.finish().err();
        }
        if failure.is_some() && !self.connection.is_autocommit() {
            // Likewise.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        Some(Answers { each, failure })
    }

    fn apply(&mut self, task: &Task) -> (Answer, Traces) {
        match task {
            Task::Change { change, .. } => {
                let (result, traces) = self.undoing(|writer| writer.change(change));
                (Answer::Change(result), traces)
            }
            Task::PutCheckpoint {
                previous_size,
                size,
                note,
                ..
            } => {
                let (result, traces) =
                    self.undoing(|writer| writer.put_checkpoint(*previous_size, *size, note));
                (Answer::Checkpoint(result), traces)
            }
            Task::ImportLeaves {
                from_index,
                leaves,
                reason,
                ..
            } => {
                let (result, traces) =
                    self.undoing(|writer| writer.import_leaves(*from_index, leaves, reason));
                (Answer::Import(result), traces)
            }
            Task::Probe { .. } => {
                self.dirty = true;
                (Answer::Probe(Ok(())), Traces::None)
            }
        }
    }

    /// Does one piece of work. What is refused before it wrote has left nothing to undo.
    fn undoing<T, E: From<CommitError>>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, Failure<E>>,
    ) -> (Result<T, E>, Traces) {
        if self.has_savepoints {
            return (self.in_savepoint(work), Traces::None);
        }
        let dirty_before = std::mem::replace(&mut self.dirty, false);
        let result = work(self);
        let has_written = self.dirty;
        self.dirty |= dirty_before;
        match result {
            Ok(done) => (Ok(done), Traces::None),
            Err(Failure::Refused(refusal)) if !has_written => (Err(refusal), Traces::None),
            Err(Failure::Refused(refusal)) => (Err(refusal), Traces::Left),
            Err(Failure::Sql(error)) => (Err(E::from(storage(&error))), Traces::Left),
        }
    }

    /// Undoes what `work` did if it refuses, and only that.
    fn in_savepoint<T, E: From<CommitError>>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, Failure<E>>,
    ) -> Result<T, E> {
        let before = self.head.clone();
        let result = match self.execute("SAVEPOINT one") {
            Ok(()) => work(self),
            Err(error) => Err(Failure::Refused(E::from(error))),
        };
        let failure = match result {
            Ok(done) => match self.execute("RELEASE one") {
                Ok(()) => return Ok(done),
                Err(error) => E::from(error),
            },
            Err(Failure::Refused(refusal)) => refusal,
            Err(Failure::Sql(error)) => {
                let error = storage(&error);
                self.notice(&error);
                E::from(error)
            }
        };
        self.head = before;
        if !self.connection.is_autocommit()
            && self
                .execute("ROLLBACK TO one")
                .and_then(|()| self.execute("RELEASE one"))
                .is_err()
        {
            // What this change did can no longer be told from its neighbours': all must go.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        Err(failure)
    }

    fn finish(&mut self) -> Result<(), CommitError> {
        if self.dirty {
            let forget = self
                .head
                .sequence
                .saturating_sub(i64::try_from(RECEIPTS_KEPT_CHANGES).unwrap_or(i64::MAX));
            let save = || -> rusqlite::Result<()> {
                self.connection
                    .prepare_cached(
                        "UPDATE state SET sequence = ?2, sealed = ?3, imported_from = ?4
                         WHERE tenant = ?1",
                    )?
                    .execute(params![
                        self.tenant,
                        self.head.sequence,
                        self.head.sealed,
                        self.head.imported_from
                    ])?;
                if forget > 0 {
                    self.connection
                        .prepare_cached("DELETE FROM receipt WHERE tenant = ?1 AND sequence <= ?2")?
                        .execute(params![self.tenant, forget])?;
                }
                Ok(())
            };
            save().map_err(|error| storage(&error))?;
        }
        self.execute("COMMIT")
    }

    fn execute(&mut self, sql: &str) -> Result<(), CommitError> {
        let done = self
            .connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute([]));
        match done {
            Ok(_) => Ok(()),
            Err(error) => {
                let error = storage(&error);
                self.notice(&error);
                Err(error)
            }
        }
    }

    /// Remembers a failure of the disk; a defect in a change says nothing about the disk.
    fn notice(&mut self, error: &CommitError) {
        if error.is_storage() {
            self.broken = Some(error.clone());
        }
    }

    /// Copies pages from the write-ahead log into the database, after everybody got an answer. A
    /// failure is no loss: the pages stay in the log, and the next batch tries again.
    fn shorten_wal(&mut self) {
        if WAL_PAGES.get().abs_diff(self.wal_pages_asked) < WAL_PAGES_UNASKED {
            return;
        }
        let Ok((pages, copied)) = self.checkpoint("NOOP") else {
            return;
        };
        self.wal_pages_asked = pages;
        if pages >= self.wal_pages_restart {
            let begun_anew = matches!(self.checkpoint("RESTART"), Ok((all, done)) if all == done);
            // With a reader in the way, waiting again after each batch would help nobody.
            self.wal_pages_restart = if begun_anew {
                WAL_PAGES_MAX
            } else {
                pages.saturating_add(WAL_PAGES_MAX / 4)
            };
        } else if pages.saturating_sub(copied) >= WAL_PAGES_COPY {
            let _ = self.checkpoint("PASSIVE");
        }
    }

    /// Pages in the write-ahead log, and how many of them are in the database as well.
    fn checkpoint(&mut self, mode: &str) -> rusqlite::Result<(i64, i64)> {
        self.connection
            .prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?
            .query_row([], |row| Ok((row.get(1)?, row.get(2)?)))
    }
}

/// What became of a batch: an answer to each of its first tasks, and the failure of all.
#[derive(Default)]
struct Answers {
    each: Vec<Answer>,
    failure: Option<CommitError>,
}

/// Whether something that was refused has changed the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Traces {
    None,
    Left,
}

/// The file as errors name it; the data folder stands in the plane's own lines.
const FILE: &str = "control.db";

/// Why a piece of work was not done: by a decision, or by the database.
enum Failure<E> {
    Refused(E),
    Sql(rusqlite::Error),
}

impl<E> From<rusqlite::Error> for Failure<E> {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

fn settle<T: Send + 'static, E: From<CommitError> + Send + 'static>(
    reply: Reply<Result<T, E>>,
    result: Result<T, E>,
) -> Settled {
    Box::new(move |failure| {
        reply(match (result, failure) {
            (Ok(_), Some(error)) => Err(E::from(error.clone())),
            (result, _) => result,
        });
    })
}

/// An error of SQLite as one of ours. A constraint is refused where it is met; here it would be a
/// defect, and reads as one.
fn storage(error: &rusqlite::Error) -> CommitError {
    storage_in(FILE, error)
}

pub(crate) fn storage_in(file: &str, error: &rusqlite::Error) -> CommitError {
    let path = file.to_owned();
    let detail = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => CommitError::DiskFull { path },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            CommitError::Damaged { path, detail }
        }
        Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig) => {
            CommitError::Invalid { what: detail }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => CommitError::Io {
            path,
            detail: "another program has locked it; close that program".to_owned(),
        },
        _ => CommitError::Io { path, detail },
    }
}
