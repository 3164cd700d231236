//! The bytes of a segment, and how a torn end is told from damage.
//!
//! ```text
//! segment = header record*
//! header  = "FWJRNL01"  sequence:u64  salt:u32  crc:u32
//! record  = length:u32  crc:u32  synced:u64  partition:u8  kind:u8  0x4652:u16  payload
//! ```
//! All numbers are little endian; `crc` is CRC-32C. `synced` says how many bytes of this segment the
//! disk had confirmed when the record was written. So a bad record at offset X is damage if any good
//! record after it says `synced > X`: the disk had X once. If none does, X was never confirmed, and
//! the rest is the torn end of the last turn, which may have holes as pages reach a disk in any order.
//!
//! A record's CRC begins with the segment's random salt and the record's offset. Otherwise a device
//! could put a whole record into its payload, and a power cut in the middle of it would read as
//! damage, or as a record.

use super::{JournalError, RECORD_BYTES_MAX, Record};
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

const MAGIC: [u8; 8] = *b"FWJRNL01";
const RECORD_MAGIC: u16 = 0x4652;
const SEGMENT_HEADER_BYTES: usize = 24;
const RECORD_HEADER_BYTES: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Record = 1,
    /// The last record of a snapshot; its payload is their number (u64).
    SnapshotEnd = 2,
}

/// Writes the records of one segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Encoder {
    salt: u32,
}

impl Encoder {
    /// A new segment's encoder and header.
    pub(super) fn new(sequence: u64) -> (Self, [u8; SEGMENT_HEADER_BYTES]) {
        // RandomState is keyed from the operating system's entropy; 32 unguessable bits suffice.
        let random = RandomState::new().build_hasher().finish().to_le_bytes();
        let salt = u32::from_le_bytes(array(&random));
        let mut header = [0; SEGMENT_HEADER_BYTES];
        put(&mut header, 0, &MAGIC);
        put(&mut header, 8, &sequence.to_le_bytes());
        put(&mut header, 16, &salt.to_le_bytes());
        let crc = crc32c::crc32c(header.get(..20).unwrap_or_default());
        put(&mut header, 20, &crc.to_le_bytes());
        (Self { salt }, header)
    }

    /// Appends one record to `out`; it will stand at `offset` of the segment. The payload has at
    /// most [`RECORD_BYTES_MAX`] bytes.
    pub(super) fn record(
        self,
        out: &mut Vec<u8>,
        offset: u64,
        synced: u64,
        kind: Kind,
        partition: u8,
        payload: &[u8],
    ) {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let mut header = [0; RECORD_HEADER_BYTES];
        put(&mut header, 0, &length.to_le_bytes());
        put(&mut header, 8, &synced.to_le_bytes());
        put(&mut header, 16, &[partition, kind as u8]);
        put(&mut header, 18, &RECORD_MAGIC.to_le_bytes());
        let crc = self.crc(offset, &header, payload);
        put(&mut header, 4, &crc.to_le_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(payload);
    }

    fn crc(self, offset: u64, header: &[u8; RECORD_HEADER_BYTES], payload: &[u8]) -> u32 {
        let mut place = [0; 12 + RECORD_HEADER_BYTES];
        put(&mut place, 0, &self.salt.to_le_bytes());
        put(&mut place, 4, &offset.to_le_bytes());
        put(&mut place, 12, header);
        // The CRC's own field counts as zero, when it is made and when it is checked.
        put(&mut place, 16, &[0; 4]);
        crc32c::crc32c_append(crc32c::crc32c(&place), payload)
    }

    /// A header that could be a record's at `offset` in a segment with `left` bytes from there on.
    fn parse(header: &[u8; RECORD_HEADER_BYTES], offset: u64, left: u64) -> Option<Header> {
        let length = u32::from_le_bytes(array(header));
        let synced = u64::from_le_bytes(array(header.get(8..)?));
        let magic = u16::from_le_bytes(array(header.get(18..)?));
        let kind = match header.get(17)? {
            1 => Kind::Record,
            2 => Kind::SnapshotEnd,
            _ => return None,
        };
        let size = usize::try_from(length).ok()?;
        let whole = u64::from(length).saturating_add(length_of(RECORD_HEADER_BYTES));
        (magic == RECORD_MAGIC && size <= RECORD_BYTES_MAX && whole <= left && synced <= offset)
            .then_some(Header {
                length: size,
                crc: u32::from_le_bytes(array(header.get(4..)?)),
                synced,
                partition: *header.get(16)?,
                kind,
            })
    }
}

struct Header {
    length: usize,
    crc: u32,
    synced: u64,
    partition: u8,
    kind: Kind,
}

/// What a segment was found to hold.
pub(super) struct Scan {
    pub(super) encoder: Encoder,
    pub(super) snapshot_end: u64,
    /// Where the last good record ends.
    pub(super) end: u64,
    /// Bytes behind it that are no record: not the zeros of what was taken ahead.
    pub(super) torn: u64,
    /// Bytes in the file.
    pub(super) length: u64,
    pub(super) records: u64,
}

/// Reads a segment from its beginning and hands out its records.
pub(super) fn scan(
    file: &File,
    path: &Path,
    sequence: u64,
    replay: &mut dyn FnMut(Record<'_>),
) -> Result<Scan, JournalError> {
    let failed = |error: io::Error| JournalError::Open(format!("{}: {error}", path.display()));
    let damaged = |offset, what| JournalError::Damaged {
        segment: path.to_owned(),
        offset,
        what,
    };
    let length = file.metadata().map_err(failed)?.len();
    let mut reader = BufReader::with_capacity(256 << 10, file);
    reader.seek(SeekFrom::Start(0)).map_err(failed)?;
    let mut head = [0; SEGMENT_HEADER_BYTES];
    if length < length_of(SEGMENT_HEADER_BYTES) {
        return Err(damaged(0, "it is shorter than its header"));
    }
    reader.read_exact(&mut head).map_err(failed)?;
    let encoder = parse_segment_header(&head, sequence).map_err(|what| damaged(0, what))?;

    let mut scan = Scan {
        encoder,
        snapshot_end: 0,
        end: length_of(SEGMENT_HEADER_BYTES),
        torn: 0,
        length,
        records: 0,
    };
    let mut payload = Vec::new();
    while scan.end < length {
        let found = next(&mut reader, encoder, scan.end, length, &mut payload).map_err(failed)?;
        let Some(header) = found else {
            break;
        };
        match header.kind {
            Kind::Record => {
                replay(Record {
                    partition: header.partition,
                    payload: &payload,
                });
                scan.records = scan.records.saturating_add(1);
            }
            Kind::SnapshotEnd => {
                if scan.snapshot_end != 0 || payload != scan.records.to_le_bytes() {
                    return Err(damaged(
                        scan.end,
                        "the snapshot has another number of records",
                    ));
                }
            }
        }
        scan.end = scan
            .end
            .saturating_add(length_of(RECORD_HEADER_BYTES))
            .saturating_add(length_of(header.length));
        if header.kind == Kind::SnapshotEnd {
            scan.snapshot_end = scan.end;
        }
    }
    if scan.snapshot_end == 0 {
        // A segment gets its name when its snapshot is durable, so this cannot be a torn end.
        return Err(damaged(scan.end, "the snapshot does not end"));
    }
    let tail = tail(file, scan.end, length).map_err(failed)?;
    if was_confirmed(&tail, encoder, scan.end) {
        return Err(damaged(scan.end, "the record is not what was written"));
    }
    let last = tail.iter().rposition(|byte| *byte != 0);
    scan.torn = last.map_or(0, |last| length_of(last).saturating_add(1));
    Ok(scan)
}

fn parse_segment_header(
    head: &[u8; SEGMENT_HEADER_BYTES],
    sequence: u64,
) -> Result<Encoder, &'static str> {
    if !head.starts_with(&MAGIC) {
        return Err("it does not begin as a segment");
    }
    let crc = u32::from_le_bytes(array(head.get(20..).unwrap_or_default()));
    if crc32c::crc32c(head.get(..20).unwrap_or_default()) != crc {
        return Err("its header is not what was written");
    }
    if u64::from_le_bytes(array(head.get(8..).unwrap_or_default())) != sequence {
        return Err("it has another segment's name");
    }
    Ok(Encoder {
        salt: u32::from_le_bytes(array(head.get(16..).unwrap_or_default())),
    })
}

/// The record at `offset`, its payload in `payload`; `None` if there is no good one.
fn next(
    reader: &mut impl Read,
    encoder: Encoder,
    offset: u64,
    length: u64,
    payload: &mut Vec<u8>,
) -> io::Result<Option<Header>> {
    let left = length.saturating_sub(offset);
    if left < length_of(RECORD_HEADER_BYTES) {
        return Ok(None);
    }
    let mut bytes = [0; RECORD_HEADER_BYTES];
    reader.read_exact(&mut bytes)?;
    let Some(header) = Encoder::parse(&bytes, offset, left) else {
        return Ok(None);
    };
    payload.resize(header.length, 0);
    reader.read_exact(payload)?;
    Ok((encoder.crc(offset, &bytes, payload) == header.crc).then_some(header))
}

/// What stands behind the last good record.
fn tail(mut file: &File, end: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(end))?;
    file.take(length.saturating_sub(end))
        .read_to_end(&mut tail)?;
    Ok(tail)
}

/// Did the disk confirm what stood at `bad`? Some good record behind it says so, if it did and
/// anything was committed after it.
fn was_confirmed(tail: &[u8], encoder: Encoder, bad: u64) -> bool {
    for (skipped, window) in tail.windows(RECORD_HEADER_BYTES).enumerate() {
        let header: [u8; RECORD_HEADER_BYTES] = array(window);
        let offset = bad.saturating_add(length_of(skipped));
        let left = length_of(tail.len().saturating_sub(skipped));
        let Some(found) = Encoder::parse(&header, offset, left) else {
            continue;
        };
        let payload = skipped
            .checked_add(RECORD_HEADER_BYTES)
            .and_then(|start| tail.get(start..start.checked_add(found.length)?));
        if found.synced > bad
            && payload.is_some_and(|p| encoder.crc(offset, &header, p) == found.crc)
        {
            return true;
        }
    }
    false
}

/// The first `N` bytes; zeros where there are none.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes
        .get(..N)
        .and_then(|bytes| bytes.try_into().ok())
        .unwrap_or([0; N])
}

fn put(target: &mut [u8], at: usize, bytes: &[u8]) {
    let end = at.saturating_add(bytes.len());
    if let Some(place) = target.get_mut(at..end) {
        place.copy_from_slice(bytes);
    }
}

fn length_of(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Durability, Journal, JournalOptions};

    /// A device knows the format but not the salt. It sends, inside its message, a record that
    /// claims to have been written long after. A power cut then tears that very message: the start
    /// must not take the inner record for proof of damage, nor for a record.
    #[test]
    fn a_payload_that_looks_like_a_record_cannot_stop_the_next_start() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("journal");
        let options = JournalOptions::new(Durability::Power);
        let (mut journal, _) = Journal::open(&dir, options, &mut |_| {}).unwrap();
        let start = journal.segment_bytes();
        let mut payload = Vec::new();
        for salt in 0..500 {
            let offset = start + length_of(RECORD_HEADER_BYTES + payload.len());
            let guess = Encoder { salt };
            guess.record(&mut payload, offset, offset, Kind::Record, 1, b"planted");
        }
        assert_ne!(
            journal.encoder.salt, 0,
            "one start in four thousand million"
        );
        journal.append(1, &payload).unwrap();
        journal.commit().unwrap();
        drop(journal);
        let path = crate::journal::segment_path(&dir, 1);
        let whole = std::fs::read(&path).unwrap();
        for lost in 0..RECORD_HEADER_BYTES {
            let mut torn = whole.clone();
            torn[usize::try_from(start).unwrap() + lost] ^= 0xff;
            std::fs::write(&path, &torn).unwrap();
            let mut replayed = 0;
            let (_, recovery) = Journal::open(&dir, options, &mut |_| replayed += 1).unwrap();
            assert_eq!((replayed, recovery.records), (0, 0));
            assert_eq!(recovery.torn_bytes, length_of(whole.len()) - start);
        }
    }

    /// With the salt known the same bytes do prove what they say: the test above is no accident.
    #[test]
    fn a_real_later_record_proves_that_an_earlier_one_was_confirmed() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("journal");
        let options = JournalOptions::new(Durability::Power);
        let (mut journal, _) = Journal::open(&dir, options, &mut |_| {}).unwrap();
        let start = journal.segment_bytes();
        let offset = start + length_of(RECORD_HEADER_BYTES);
        let mut payload = Vec::new();
        let salt = journal.encoder;
        salt.record(&mut payload, offset, offset, Kind::Record, 1, b"planted");
        journal.append(1, &payload).unwrap();
        journal.commit().unwrap();
        drop(journal);
        let path = crate::journal::segment_path(&dir, 1);
        let mut torn = std::fs::read(&path).unwrap();
        torn[usize::try_from(start).unwrap()] ^= 0xff;
        std::fs::write(&path, &torn).unwrap();
        let refused = Journal::open(&dir, options, &mut |_| {}).unwrap_err();
        let found = matches!(refused, JournalError::Damaged { offset, .. } if offset == start);
        assert!(found, "{refused}");
    }
}
