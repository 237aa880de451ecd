//! The bytes of a slot file, and which of its two records is the newest.
//!
//! ```text
//! byte 0                 4,608        8,192                12,800       16,384
//!      ┌─────────────────┬────────────┬────────────────────┬────────────┐
//!      │ slot 0          │ zeros      │ slot 1             │ zeros      │
//!      │ even sequences  │            │ odd sequences      │            │
//!      └─────────────────┴────────────┴────────────────────┴────────────┘
//!
//! sector  0      4         6      7         8          16      18  24      40         496
//!         ┌──────┬─────────┬──────┬─────────┬──────────┬───────┬───┬───────┬──────────┬─────┐
//!         │ KJSL │ version │index │ sectors │ sequence │length │ 0 │record │ 456 bytes│ sum │
//!         └──────┴─────────┴──────┴─────────┴──────────┴───────┴───┴───────┴──────────┴─────┘
//! ```
//!
//! *Sum*: BLAKE3-128 of bytes 0..496. *Record*: BLAKE3-128 of sequence, length and payload, so
//! that sectors of two attempts to write the same sequence are never put together.
//!
//! Every sector has its own sum. So a torn write, which leaves whole sectors, old or new, is
//! told from damage, which leaves a sector that is neither.

use crate::bytes::{Bytes, checksum};
use crate::disk::SECTOR_BYTES;
use crate::log::is_blank;
use crate::slots::PAYLOAD_BYTES_MAX;

/// Length of a slot file.
pub const FILE_BYTES: usize = 16 * 1_024;
/// Slots lie this far apart, so that they share no page and no larger physical sector.
pub(crate) const SLOT_STRIDE_BYTES: usize = FILE_BYTES / 2;
pub(crate) const SLOT_VERSION: u16 = 1;
const MAGIC: [u8; 4] = *b"KJSL";
const HEADER_BYTES: usize = 40;
const SUMMED_BYTES: usize = SECTOR_BYTES - 16;
const SECTOR_PAYLOAD_BYTES: usize = SUMMED_BYTES - HEADER_BYTES;
const SECTORS_MAX: usize = PAYLOAD_BYTES_MAX.div_ceil(SECTOR_PAYLOAD_BYTES);

const _: () = assert!(SECTORS_MAX * SECTOR_BYTES <= SLOT_STRIDE_BYTES && SECTORS_MAX < 256);
const _: () = assert!(PAYLOAD_BYTES_MAX <= u16::MAX as usize);

/// The newest record of a slot file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotRecord {
    /// Its number, from 1; consecutive over the writes that succeeded.
    pub sequence: u64,
    /// Its content.
    pub payload: Vec<u8>,
}

/// Why bytes are not a slot file with a record that can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SlotFault {
    /// The file is not as long as it was made.
    #[error("the file has {0} bytes, not {FILE_BYTES}")]
    Length(u64),
    /// A sector is neither blank nor as written.
    #[error("the sector at byte {0} does not match its BLAKE3 checksum")]
    Sector(u64),
    /// A sector is whole, but of a version this build does not know.
    #[error("slot format version {0} is not known, this build reads {SLOT_VERSION}")]
    Version(u16),
    /// The checksums match, but no unfinished write explains what the two slots hold.
    #[error("the slots contradict each other: {0}")]
    Content(&'static str),
}

/// Where the record of this sequence goes in the file.
pub(crate) fn slot_offset(sequence: u64) -> u64 {
    (sequence % 2) * SLOT_STRIDE_BYTES as u64
}

/// The sectors of a record; the caller has checked its length.
pub(crate) fn encode(sequence: u64, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() <= PAYLOAD_BYTES_MAX, "the caller checks the length");
    let record = record_id(sequence, payload);
    // An empty record has a sector too.
    let count = payload.len().div_ceil(SECTOR_PAYLOAD_BYTES).max(1);
    let mut out = Vec::with_capacity(count * SECTOR_BYTES);
    let mut pieces = payload.chunks(SECTOR_PAYLOAD_BYTES);
    for index in 0..count {
        let mut sector = Vec::with_capacity(SECTOR_BYTES);
        sector.extend(MAGIC);
        sector.extend(SLOT_VERSION.to_le_bytes());
        sector.extend([index as u8, count as u8]);
        sector.extend(sequence.to_le_bytes());
        sector.extend((payload.len() as u16).to_le_bytes());
        sector.extend([0; 6]);
        sector.extend(record);
        sector.extend_from_slice(pieces.next().unwrap_or_default());
        sector.resize(SUMMED_BYTES, 0);
        sector.extend(checksum(&sector));
        out.extend(sector);
    }
    out
}

fn record_id(sequence: u64, payload: &[u8]) -> [u8; 16] {
    let mut bytes = Vec::with_capacity(10 + payload.len());
    bytes.extend(sequence.to_le_bytes());
    bytes.extend((payload.len() as u16).to_le_bytes());
    bytes.extend_from_slice(payload);
    checksum(&bytes)
}

/// One sector whose checksum holds.
#[derive(Clone, Copy)]
struct Part<'a> {
    index: u8,
    count: u8,
    sequence: u64,
    length: u16,
    record: [u8; 16],
    data: &'a [u8],
}

impl<'a> Part<'a> {
    /// `None` if the sector is not one that was written.
    fn decode(sector: &'a [u8]) -> Option<Result<Self, SlotFault>> {
        let (summed, sum) = sector.split_at_checked(SUMMED_BYTES)?;
        let mut bytes = Bytes::new(summed);
        if bytes.array()? != MAGIC || checksum(summed) != *sum {
            return None;
        }
        let version = bytes.u16()?;
        if version != SLOT_VERSION {
            return Some(Err(SlotFault::Version(version)));
        }
        let [index, count] = bytes.array()?;
        let (sequence, length) = (bytes.u64()?, bytes.u16()?);
        bytes.take(6)?;
        let record = bytes.array()?;
        let data = bytes.take(SECTOR_PAYLOAD_BYTES)?;
        Some(Ok(Self { index, count, sequence, length, record, data }))
    }

    fn same_record(&self, other: &Self) -> bool {
        (self.count, self.sequence, self.length, self.record)
            == (other.count, other.sequence, other.length, other.record)
    }
}

/// What a slot holds.
enum Slot {
    Blank,
    Whole(SlotRecord),
    /// Whole sectors that are no whole record; the highest sequence among them.
    Unfinished(u64),
}

/// A sector: `None` if it is blank.
type Sector<'a> = Option<Part<'a>>;

fn judge(slot: &[u8], slot_number: u64) -> Result<Slot, SlotFault> {
    let sectors = slot.chunks(SECTOR_BYTES).take(SECTORS_MAX);
    let mut read: Vec<Result<Sector<'_>, SlotFault>> = Vec::with_capacity(SECTORS_MAX);
    for (index, sector) in sectors.enumerate() {
        let offset = slot_offset(slot_number) + (index * SECTOR_BYTES) as u64;
        read.push(match Part::decode(sector) {
            Some(part) => part.map(Some),
            None if is_blank(sector) => Ok(None),
            None => Err(SlotFault::Sector(offset)),
        });
    }
    if let Some(record) = assemble(&read) {
        // What an earlier, longer record has left behind it does not matter.
        return of_slot(record.sequence, slot_number).map(|()| Slot::Whole(record));
    }
    let mut newest = None;
    for sector in read {
        if let Some(part) = sector? {
            of_slot(part.sequence, slot_number)?;
            newest = newest.max(Some(part.sequence));
        }
    }
    Ok(newest.map_or(Slot::Blank, Slot::Unfinished))
}

fn of_slot(sequence: u64, slot_number: u64) -> Result<(), SlotFault> {
    if sequence > 0 && sequence % 2 == slot_number {
        return Ok(());
    }
    Err(SlotFault::Content("a record lies in the other's slot"))
}

/// The record that the first sector begins, if all of its sectors are there.
fn assemble(sectors: &[Result<Sector<'_>, SlotFault>]) -> Option<SlotRecord> {
    let Some(Ok(Some(first))) = sectors.first() else { return None };
    let own = sectors.get(..usize::from(first.count))?;
    let mut payload = Vec::with_capacity(own.len() * SECTOR_PAYLOAD_BYTES);
    for (index, sector) in own.iter().enumerate() {
        let Ok(Some(part)) = sector else { return None };
        if usize::from(part.index) != index || !part.same_record(first) {
            return None;
        }
        payload.extend_from_slice(part.data);
    }
    let length = usize::from(first.length);
    let sectors_needed = length.div_ceil(SECTOR_PAYLOAD_BYTES).max(1);
    payload.truncate(length);
    let whole = sectors_needed == own.len()
        && payload.len() == length
        && record_id(first.sequence, &payload) == first.record;
    whole.then_some(SlotRecord { sequence: first.sequence, payload })
}

/// The newest record of a slot file, or `None` if none was ever written whole. Never panics,
/// whatever the bytes: this is the function to fuzz.
///
/// Records alternate between the slots, and the next is written only after the sync of the
/// one before. So at most one slot is unfinished, and the other has the record just below it.
/// Anything else is refused: an older record is never passed off as the newest.
pub fn decode(file: &[u8]) -> Result<Option<SlotRecord>, SlotFault> {
    if file.len() != FILE_BYTES {
        return Err(SlotFault::Length(file.len() as u64));
    }
    let (even, odd) = file.split_at(SLOT_STRIDE_BYTES);
    let follows = |newer: u64, older: u64| older.checked_add(1) == Some(newer);
    match (judge(even, 0)?, judge(odd, 1)?) {
        (Slot::Blank, Slot::Blank | Slot::Unfinished(1)) => Ok(None),
        (Slot::Blank, Slot::Whole(record)) if record.sequence == 1 => Ok(Some(record)),
        (Slot::Whole(a), Slot::Whole(b)) => {
            let (older, newer) = if a.sequence < b.sequence { (a, b) } else { (b, a) };
            if follows(newer.sequence, older.sequence) {
                return Ok(Some(newer));
            }
            Err(SlotFault::Content("their records do not follow one another"))
        }
        (Slot::Whole(record), Slot::Unfinished(torn))
        | (Slot::Unfinished(torn), Slot::Whole(record))
            if follows(torn, record.sequence) =>
        {
            Ok(Some(record))
        }
        _ => Err(SlotFault::Content("one has no whole record, and the other is not just below")),
    }
}
