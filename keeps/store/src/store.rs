//! The database as others see it: opened once, written through one queue, read by verbs per room.

use crate::change::{Change, CommitError, Receipt};
use crate::error::{OpenError, ReadError};
use crate::folder::{self, Lock};
use crate::reader::Readers;
use crate::schema::{self, Layout};
use crate::writer::{Queue, Reply, Status, Task, Writer};
use model::TenantId;
use rusqlite::{Connection, OptionalExtension, params};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whose data this is. A database of another tenant is refused.
    pub tenant: TenantId,
    /// Changes that may wait to be committed; more are refused as busy. Withdrawals have the same
    /// number of places once more.
    pub queue_changes_max: usize,
}

impl Options {
    /// With room for 4096 waiting changes.
    #[must_use]
    pub fn new(tenant: TenantId) -> Self {
        Self {
            tenant,
            queue_changes_max: 4096,
        }
    }
}

/// The database `control.db` of one tenant. Dropping it commits what is queued, then closes.
///
/// One thread writes; reads have connections of their own and see every change whose receipt was
/// given. Share it by `Arc`.
pub struct Store {
    tenant: TenantId,
    queue: Arc<Queue>,
    status: Arc<Status>,
    readers: Readers,
    writer: Option<JoinHandle<()>>,
    /// Held by the writer's thread too, until its connection is closed.
    _lock: Arc<Lock>,
}

impl Store {
    /// Opens the database in the data folder `dir`; makes both if they are not there (modes 0700
    /// and 0600), locks the folder against a second process, and starts the writer thread.
    ///
    /// # Errors
    /// In use, wider modes, another tenant, another program's or a newer version's database,
    /// damage, the disk: each one line for the operator.
    pub fn open(dir: &Path, options: Options) -> Result<Self, OpenError> {
        folder::make_private(dir)?;
        let lock = Arc::new(Lock::take(&dir.join("lock"))?);
        let path = dir.join("control.db");
        folder::make_private_file(&path)?;
        for suffix in ["-wal", "-shm"] {
            folder::check_private_file(&dir.join(format!("control.db{suffix}")))?;
        }
        let connection = connect(&path, &schema::CONTROL, &options.tenant)?;
        let status = Arc::new(Status::default());
        let queue = Arc::new(Queue::new(options.queue_changes_max));
        let writer = Writer::new(
            connection,
            options.tenant.as_str(),
            Arc::clone(&queue),
            Arc::clone(&status),
        )
        .map_err(|error| OpenError::sql(&path, &error))?;
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn({
                let lock = Arc::clone(&lock);
                move || {
                    writer.run();
                    drop(lock);
                }
            })
            .map_err(|error| OpenError::io(&path, &error))?;
        Ok(Self {
            tenant: options.tenant,
            queue,
            status,
            readers: Readers::new(path),
            writer: Some(thread),
            _lock: lock,
        })
    }

    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Queues a change. `reply` is called once: on the writer's thread after the change became
    /// durable (or was refused), or at once on this thread if it could not be queued. It must be
    /// short, as all other changes wait meanwhile, and must not call [`Store::commit`].
    pub fn submit(
        &self,
        change: Change,
        reply: impl FnOnce(Result<Receipt, CommitError>) + Send + 'static,
    ) {
        if let Err(what) = change.check() {
            return reply(Err(CommitError::Invalid { what }));
        }
        self.queue.push(Task::Change {
            change,
            reply: Box::new(reply),
        });
    }

    /// Commits a change and waits until it is durable. Changes that are queued at the same time
    /// share a transaction; a refused one does not touch its neighbours.
    ///
    /// # Errors
    /// [`CommitError`]; unless it is [`CommitError::Io`], nothing was written.
    pub fn commit(&self, change: Change) -> Result<Receipt, CommitError> {
        change
            .check()
            .map_err(|what| CommitError::Invalid { what })?;
        self.ask(|reply| Task::Change { change, reply })
            .unwrap_or(Err(CommitError::Closed))
    }

    /// Writes a row that says nothing. When [`Store::failing`] gave a reason and nobody commits any
    /// more, this finds out whether the disk is back.
    ///
    /// # Errors
    /// As a commit.
    pub fn probe(&self) -> Result<(), CommitError> {
        self.ask(|reply| Task::Probe { reply })
            .unwrap_or(Err(CommitError::Closed))
    }

    /// Why the last write failed, until one succeeds again; for `/readyz`. From memory.
    #[must_use]
    pub fn failing(&self) -> Option<String> {
        self.status.failing()
    }

    /// Changes that wait now.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// A value that the plane keeps ([`crate::Write::PutMeta`]).
    ///
    /// # Errors
    /// The disk.
    pub fn meta(&self, key: &str) -> Result<Option<Vec<u8>>, ReadError> {
        self.readers.one(
            "SELECT value FROM meta WHERE tenant = ?1 AND key = ?2",
            params![self.tenant_text(), key],
            |row| Ok(row.get(0)?),
        )
    }

    /// Writes a copy of the database, as of one moment, to the new file `to` (mode 0600), while
    /// changes go on. Copy the published log *before* this (`docs/store.md`).
    ///
    /// # Errors
    /// `to` exists already; the disk.
    pub fn backup(&self, to: &Path) -> Result<(), ReadError> {
        let failed = |error: &dyn std::fmt::Display| ReadError::Backup {
            path: to.to_owned(),
            detail: error.to_string(),
        };
        let text = to.to_str().ok_or_else(|| failed(&"not UTF-8"))?;
        let file = folder::create_private_file(to).map_err(|error| failed(&error))?;
        let written = self
            .readers
            .with(|connection| {
                connection
                    .execute("VACUUM INTO ?1", params![text])
                    .map_err(|error| failed(&error))
            })
            .and_then(|_| file.sync_all().map_err(|error| failed(&error)))
            .and_then(|()| folder::sync_folder_of(to).map_err(|error| failed(&error)));
        if written.is_err() {
            // Half a backup must not be taken for one; the first error is the one to tell.
            let _ = std::fs::remove_file(to);
        }
        written
    }

    pub(crate) fn readers(&self) -> &Readers {
        &self.readers
    }

    pub(crate) fn tenant_text(&self) -> &str {
        self.tenant.as_str()
    }

    pub(crate) fn status(&self) -> &Status {
        &self.status
    }

    /// Queues a task and waits for its answer; `None` if the writer is gone.
    pub(crate) fn ask<T: Send + 'static>(&self, task: impl FnOnce(Reply<T>) -> Task) -> Option<T> {
        let (sender, receiver) = sync_channel(1);
        self.queue.push(task(Box::new(move |answer| {
            // Nobody waits any more: the answer is of no use to anybody.
            let _ = sender.send(answer);
        })));
        receiver.recv().ok()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.writer.take() {
            // The last owner may be a reply, which runs on the writer itself: it cannot await
            // itself. It then closes as soon as the reply returns.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("tenant", &self.tenant)
            .finish_non_exhaustive()
    }
}

/// The writer's connection: checked to be ours, of our format and tenant, or made so.
pub(crate) fn connect(
    path: &Path,
    layout: &Layout,
    tenant: &TenantId,
) -> Result<Connection, OpenError> {
    let sql = |error: rusqlite::Error| OpenError::sql(path, &error);
    let mut connection = Connection::open(path).map_err(sql)?;
    connection
        .execute_batch(schema::EVERY_CONNECTION)
        .map_err(sql)?;
    let pragma = |connection: &Connection, name: &str| {
        connection
            .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
            .map_err(sql)
    };
    let application = pragma(&connection, "application_id")?;
    let found = pragma(&connection, "user_version")?;
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(sql)?;
    if application != layout.application_id && (tables != 0 || application != 0) {
        return Err(OpenError::Foreign { path: path.into() });
    }
    if found > layout.format() {
        return Err(OpenError::Newer {
            path: path.into(),
            found,
            known: layout.format(),
        });
    }
    connection
        .execute_batch("PRAGMA journal_mode = WAL;")
        .map_err(sql)?;
    let transaction = connection
        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
        .map_err(sql)?;
    for (_, step) in layout.steps.iter().filter(|(format, _)| found < *format) {
        transaction.execute_batch(step).map_err(sql)?;
    }
    if found < layout.format() {
        transaction
            .pragma_update(None, "application_id", layout.application_id)
            .map_err(sql)?;
        transaction
            .pragma_update(None, "user_version", layout.format())
            .map_err(sql)?;
    }
    let stored: Option<String> = transaction
        .query_row(layout.tenant, [], |row| row.get(0))
        .optional()
        .map_err(sql)?;
    match stored {
        Some(stored) if stored != tenant.as_str() => {
            return Err(OpenError::Tenant {
                path: PathBuf::from(path),
                stored,
                given: tenant.to_string(),
            });
        }
        Some(_) => {}
        None => {
            transaction
                .execute(layout.put_tenant, params![tenant.as_str()])
                .map_err(sql)?;
        }
    }
    transaction.commit().map_err(sql)?;
    Ok(connection)
}
