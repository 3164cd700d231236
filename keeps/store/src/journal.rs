//! The journal of durable MQTT state: one append-only file per shard.
//!
//! A turn of a shard is one write and, with [`Durability::Power`], one `fdatasync`, however many of
//! its partitions it touched. Each record names its partition, so that partitions can move to
//! another shard later ([`Journal::open_shards`]).
//!
//! A segment is a header, a snapshot, and what was appended since. It gets its name only when its
//! snapshot is durable, so the newest segment is always a whole beginning; then the older one goes.

mod segment;
mod shards;

use crate::error::OpenError;
use crate::folder::{self, FILE_MODE, Lock};
use segment::{Encoder, Kind, Scan};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of one record at most.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// A turn that appends more than this is written in several pieces.
const PENDING_BYTES_MAX: usize = 4 << 20;

/// Bytes of the disk that are taken ahead: a sync of a file that did not grow writes its data alone,
/// a third cheaper. What lies behind the last record reads as zeros.
const AHEAD_BYTES: u64 = 1 << 20;

/// What a commit survives. Printed in every benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Durability {
    /// A power cut: each commit waits for the disk.
    Power,
    /// The end of the process (a crash, kill -9), but not of the machine.
    Process,
}

impl Durability {
    /// `power` or `process`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Power => "power",
            Self::Process => "process",
        }
    }
}

/// How a journal is opened.
#[derive(Debug, Clone, Copy)]
pub struct JournalOptions {
    pub durability: Durability,
    /// Bytes appended since the last snapshot from which [`Journal::wants_snapshot`] asks for one.
    pub segment_bytes_max: u64,
}

impl JournalOptions {
    /// Segments of 64 MiB.
    #[must_use]
    pub fn new(durability: Durability) -> Self {
        Self {
            durability,
            segment_bytes_max: 64 << 20,
        }
    }
}

/// One record as it was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    pub partition: u8,
    pub payload: &'a [u8],
}

/// What opening found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Records replayed, those of the snapshot included.
    pub records: u64,
    /// Bytes at the end that no commit had confirmed, and that were cut off.
    pub torn_bytes: u64,
}

/// Why the journal did not do as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// The operator restores the file, or moves it away and accepts what is lost with it.
    #[error(
        "journal segment {segment} is damaged at offset {offset} ({what}), where the disk had confirmed it: restore the file from a backup, or move it away and lose the persistent sessions in it"
    )]
    Damaged {
        segment: PathBuf,
        offset: u64,
        what: &'static str,
    },
    /// The plane stops: what the disk holds is no longer known. At the next start the journal
    /// holds all that was confirmed.
    #[error(
        "the journal {dir} stopped after a failed write ({detail}): free space or repair the disk, then restart the plane"
    )]
    Stopped { dir: PathBuf, detail: String },
    /// A defect: the gateway's packet limit lies above the journal's.
    #[error("a journal record has {bytes} bytes; {RECORD_BYTES_MAX} are allowed")]
    TooLarge { bytes: usize },
    /// The journal goes on in its old segment; the snapshot is tried again later.
    #[error("no snapshot of {dir} was made ({detail}): free space or repair the disk")]
    Snapshot { dir: PathBuf, detail: String },
    #[error("cannot open the journal: {0}")]
    Open(String),
}

impl From<OpenError> for JournalError {
    fn from(error: OpenError) -> Self {
        Self::Open(error.to_string())
    }
}

/// An open journal. One owner: the shard.
pub struct Journal {
    dir: PathBuf,
    options: JournalOptions,
    file: File,
    sequence: u64,
    encoder: Encoder,
    /// Encoded records that were not written yet.
    pending: Vec<u8>,
    /// Bytes in the file.
    written: u64,
    /// Bytes of the file that the disk confirmed.
    synced: u64,
    /// Bytes of the file that were taken ahead, or that it has.
    taken: u64,
    /// Where the snapshot ends.
    snapshot_end: u64,
    /// Bytes in the file from which a snapshot that failed is worth another attempt.
    retry_at: u64,
    /// Why the journal stopped.
    stopped: Option<String>,
    _lock: Arc<Lock>,
}

impl Journal {
    /// Opens the journal in its own folder `dir` (made with mode 0700 if absent), hands every
    /// record since and including the last snapshot to `replay`, in order, cuts off a torn end, and
    /// removes what an interrupted snapshot left.
    ///
    /// # Errors
    /// Damage anywhere but at an unconfirmed end names segment and offset; then `replay` may have
    /// been called already, and what it built is to be thrown away.
    pub fn open(
        dir: &Path,
        options: JournalOptions,
        replay: &mut dyn FnMut(Record<'_>),
    ) -> Result<(Self, Recovery), JournalError> {
        folder::make_private(dir)?;
        let lock = Arc::new(Lock::take(&dir.join("lock"))?);
        Self::open_locked(dir, options, lock, replay)
    }

    /// Opens the journals of all shards in `dir`, and moves the records of each partition to the
    /// shard `partition % shards` if the number of shards has changed since. `replay` gets the
    /// records of all; within a partition they are in order.
    ///
    /// # Errors
    /// As [`Journal::open`]. After a crash in the middle of a move, the next call begins it again.
    pub fn open_shards(
        dir: &Path,
        shards: u16,
        options: JournalOptions,
        replay: &mut dyn FnMut(Record<'_>),
    ) -> Result<Vec<(Self, Recovery)>, JournalError> {
        shards::open(dir, shards, options, replay)
    }

    /// Adds a record to the current turn. Not durable before [`Journal::commit`].
    ///
    /// # Errors
    /// A record over [`RECORD_BYTES_MAX`] (the journal goes on without it); a stopped journal.
    pub fn append(&mut self, partition: u8, payload: &[u8]) -> Result<(), JournalError> {
        self.check()?;
        if payload.len() > RECORD_BYTES_MAX {
            return Err(JournalError::TooLarge {
                bytes: payload.len(),
            });
        }
        let offset = self.written.saturating_add(length(&self.pending));
        self.encoder.record(
            &mut self.pending,
            offset,
            self.synced,
            Kind::Record,
            partition,
            payload,
        );
        if self.pending.len() >= PENDING_BYTES_MAX {
            self.write_pending()?;
        }
        Ok(())
    }

    /// Makes all that was appended durable: one write, and one `fdatasync` with
    /// [`Durability::Power`]. Acknowledge only after this returned. Costs nothing if nothing was
    /// appended.
    ///
    /// # Errors
    /// A failed write or sync stops the journal for good: nothing more is accepted, as it is not
    /// known what the disk holds.
    pub fn commit(&mut self) -> Result<(), JournalError> {
        self.check()?;
        self.write_pending()?;
        if self.options.durability == Durability::Power && self.synced < self.written {
            if let Err(error) = self.file.sync_data() {
                return Err(self.stop(&error));
            }
            self.synced = self.written;
        }
        Ok(())
    }

    /// True when so much was appended since the last snapshot that a new one is worth its cost.
    #[must_use]
    pub fn wants_snapshot(&self) -> bool {
        // At least as much as the snapshot itself: a large state is not written again and again.
        let appended = self.written.saturating_sub(self.snapshot_end);
        appended >= self.options.segment_bytes_max.max(self.snapshot_end)
            && self.written >= self.retry_at
    }

    /// Replaces all records so far by those that `fill` writes: they become a new segment, which
    /// is durable and in force when this returns; the old one is gone. What was appended before is
    /// committed first. Blocks for as long as the disk takes to write the snapshot.
    ///
    /// # Errors
    /// [`JournalError::Snapshot`]: the old segment stays in force and the journal goes on.
    /// [`JournalError::Stopped`]: as for a commit.
    pub fn snapshot(
        &mut self,
        fill: &mut dyn FnMut(&mut SnapshotSink<'_>),
    ) -> Result<(), JournalError> {
        self.commit()?;
        let next = self.sequence.saturating_add(1);
        let made = match begin_segment(&self.dir, next, fill) {
            Ok(made) => made,
            Err(error) => {
                let _ = std::fs::remove_file(temporary_path(&self.dir, next));
                // Not again at the next turn: on a full disk each turn would write all of it.
                self.retry_at = self
                    .written
                    .saturating_add(self.options.segment_bytes_max / 8);
                return Err(JournalError::Snapshot {
                    dir: self.dir.clone(),
                    detail: error.to_string(),
                });
            }
        };
        // From here on a restart may find either segment, so nothing may be written to the old one,
        // and nothing to the new one before its name is durable.
        let named = std::fs::rename(
            temporary_path(&self.dir, next),
            segment_path(&self.dir, next),
        )
        .and_then(|()| folder::sync_folder(&self.dir));
        if let Err(error) = named {
            return Err(self.stop(&error));
        }
        let old = segment_path(&self.dir, self.sequence);
        self.sequence = next;
        self.file = made.file;
        self.encoder = made.encoder;
        self.written = made.length;
        self.synced = made.length;
        self.taken = made.length;
        self.snapshot_end = made.length;
        self.retry_at = 0;
        // If this fails, the next start removes it.
        let _ = std::fs::remove_file(old);
        Ok(())
    }

    /// Bytes in the present segment, and not counting what was only appended.
    #[must_use]
    pub fn segment_bytes(&self) -> u64 {
        self.written
    }

    #[must_use]
    pub fn durability(&self) -> Durability {
        self.options.durability
    }

    /// `lock` must guard `dir`.
    fn open_locked(
        dir: &Path,
        options: JournalOptions,
        lock: Arc<Lock>,
        replay: &mut dyn FnMut(Record<'_>),
    ) -> Result<(Self, Recovery), JournalError> {
        folder::make_private(dir)?;
        let failed = |error: io::Error| JournalError::Open(format!("{}: {error}", dir.display()));
        let mut segments = list_segments(dir).map_err(failed)?;
        let sequence = match segments.pop_last() {
            Some((sequence, _)) => sequence,
            None => {
                begin_segment(dir, 1, &mut |_| {}).map_err(failed)?;
                std::fs::rename(temporary_path(dir, 1), segment_path(dir, 1)).map_err(failed)?;
                folder::sync_folder(dir).map_err(failed)?;
                1
            }
        };
        let path = segment_path(dir, sequence);
        folder::check_private_file(&path)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        let Scan {
            encoder,
            snapshot_end,
            end,
            torn,
            length,
            records,
        } = segment::scan(&file, &path, sequence, replay)?;
        if end < length {
            file.set_len(end).map_err(failed)?;
        }
        // A process that died may have left bytes that no sync has confirmed.
        file.sync_all().map_err(failed)?;
        // The newest segment is good: what came before it is history.
        for old in segments.into_values() {
            std::fs::remove_file(old).map_err(failed)?;
        }
        let journal = Self {
            dir: dir.to_owned(),
            options,
            file,
            sequence,
            encoder,
            pending: Vec::new(),
            written: end,
            synced: end,
            taken: end,
            snapshot_end,
            retry_at: 0,
            stopped: None,
            _lock: lock,
        };
        let recovery = Recovery {
            records,
            torn_bytes: torn,
        };
        Ok((journal, recovery))
    }

    fn write_pending(&mut self) -> Result<(), JournalError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let end = self.written.saturating_add(length(&self.pending));
        self.take_ahead(end);
        if let Err(error) = self.file.write_all_at(&self.pending, self.written) {
            return Err(self.stop(&error));
        }
        self.written = end;
        self.taken = self.taken.max(end);
        self.pending.clear();
        self.pending.shrink_to(PENDING_BYTES_MAX);
        Ok(())
    }

    /// Before the file grows to `end`. Where the disk gives nothing ahead, each sync costs more.
    fn take_ahead(&mut self, end: u64) {
        if self.options.durability != Durability::Power || end <= self.taken {
            return;
        }
        let more = end.saturating_sub(self.written).saturating_add(AHEAD_BYTES);
        let flags = rustix::fs::FallocateFlags::empty();
        if rustix::fs::fallocate(&self.file, flags, self.written, more).is_ok() {
            self.taken = self.written.saturating_add(more);
        }
    }

    fn check(&self) -> Result<(), JournalError> {
        match &self.stopped {
            None => Ok(()),
            Some(detail) => Err(JournalError::Stopped {
                dir: self.dir.clone(),
                detail: detail.clone(),
            }),
        }
    }

    fn stop(&mut self, error: &io::Error) -> JournalError {
        let detail = error.to_string();
        self.pending = Vec::new();
        self.stopped = Some(detail.clone());
        JournalError::Stopped {
            dir: self.dir.clone(),
            detail,
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if self.stopped.is_none() && self.written < self.taken {
            // Tidiness alone: the next start does it too.
            let _ = self.file.set_len(self.written);
        }
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal")
            .field("dir", &self.dir)
            .field("sequence", &self.sequence)
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}

/// Where a snapshot is written to.
pub struct SnapshotSink<'f> {
    file: &'f mut BufWriter<File>,
    encoder: Encoder,
    buffer: Vec<u8>,
    offset: u64,
    records: u64,
    /// The first failure; what follows it is not written, and the snapshot is given up.
    failure: Option<io::Error>,
}

impl SnapshotSink<'_> {
    /// Adds a record to the snapshot. A failure is told by [`Journal::snapshot`].
    pub fn record(&mut self, partition: u8, payload: &[u8]) {
        if payload.len() > RECORD_BYTES_MAX {
            self.failure
                .get_or_insert_with(|| io::Error::other("a record is larger than 16 MiB"));
        }
        self.put(Kind::Record, partition, payload);
        self.records = self.records.saturating_add(1);
    }

    fn put(&mut self, kind: Kind, partition: u8, payload: &[u8]) {
        if self.failure.is_some() {
            return;
        }
        self.buffer.clear();
        self.encoder
            .record(&mut self.buffer, self.offset, 0, kind, partition, payload);
        self.offset = self.offset.saturating_add(length(&self.buffer));
        self.failure = self.file.write_all(&self.buffer).err();
    }
}

/// A new segment, durable but for its name.
struct NewSegment {
    file: File,
    encoder: Encoder,
    length: u64,
}

fn begin_segment(
    dir: &Path,
    sequence: u64,
    fill: &mut dyn FnMut(&mut SnapshotSink<'_>),
) -> io::Result<NewSegment> {
    let path = temporary_path(dir, sequence);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(&path)?;
    let mut file = BufWriter::with_capacity(256 << 10, file);
    let (encoder, header) = Encoder::new(sequence);
    file.write_all(&header)?;
    let mut sink = SnapshotSink {
        file: &mut file,
        encoder,
        buffer: Vec::new(),
        offset: length(&header),
        records: 0,
        failure: None,
    };
    fill(&mut sink);
    let records = sink.records.to_le_bytes();
    sink.put(Kind::SnapshotEnd, 0, &records);
    if let Some(failure) = sink.failure {
        return Err(failure);
    }
    let length = sink.offset;
    let file = file.into_inner().map_err(|error| error.into_error())?;
    file.sync_all()?;
    Ok(NewSegment {
        file,
        encoder,
        length,
    })
}

/// Segments by sequence number. Removes unfinished ones on the way.
fn list_segments(dir: &Path) -> io::Result<BTreeMap<u64, PathBuf>> {
    let mut segments = BTreeMap::new();
    for item in std::fs::read_dir(dir)? {
        let path = item?.path();
        let extension = path.extension().and_then(|e| e.to_str());
        if extension == Some("tmp") {
            std::fs::remove_file(&path)?;
        } else if extension == Some("seg") {
            let sequence = path.file_stem().and_then(|s| s.to_str()?.parse().ok());
            let sequence = sequence
                .ok_or_else(|| io::Error::other(format!("{} is no segment", path.display())))?;
            segments.insert(sequence, path);
        }
    }
    Ok(segments)
}

fn segment_path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:020}.seg"))
}

fn temporary_path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:020}.tmp"))
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
