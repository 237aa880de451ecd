//! The segment: a preallocated file of frames, and its header.
//!
//! ```text
//! byte  0          8         10  12           16         48             56               64
//!       ┌──────────┬─────────┬───┬────────────┬──────────┬──────────────┬────────────────┐
//!       │ KANJOSEG │ version │ 0 │ sector 512 │ chain id │ first height │ first sequence │
//!       └──────────┴─────────┴───┴────────────┴──────────┴──────────────┴────────────────┘
//! byte  64                     72                    88              96         112     512
//!       ┌──────────────────────┬─────────────────────┬───────────────┬──────────┬───────┐
//!       │ previous segment's   │ id of the last      │ length of     │ checksum │ zeros │
//!       │ first height         │ frame before it     │ the file      │ of 0..96 │       │
//!       └──────────────────────┴─────────────────────┴───────────────┴──────────┴───────┘
//! ```
//!
//! The header is synced before the file gets its name, so a named segment without a valid
//! header is damage, never a torn write. Its existence also proves that every frame before
//! `first sequence` was synced.

use crate::ChainId;
use crate::bytes::{Bytes, checksum};
use crate::disk::SECTOR_BYTES;
use crate::log::table::Position;

pub(crate) const SEGMENT_VERSION: u16 = 1;
/// Frames start behind the header's sector.
pub(crate) const SEGMENT_HEADER_BYTES: usize = SECTOR_BYTES;
const MAGIC: [u8; 8] = *b"KANJOSEG";
const SUMMED_BYTES: usize = 96;
const NO_PREVIOUS: u64 = u64::MAX;

const _: () = assert!(SUMMED_BYTES + 16 <= SEGMENT_HEADER_BYTES);

/// The first sector of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) chain_id: ChainId,
    pub(crate) start: Position,
    /// First height of the segment before; `None` for the first segment of the log.
    pub(crate) previous_first_height: Option<u64>,
    pub(crate) file_bytes: u64,
}

/// Why a sector is not a segment header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SegmentHeaderError {
    Damaged(&'static str),
    Version(u16),
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        out.extend(MAGIC);
        out.extend(SEGMENT_VERSION.to_le_bytes());
        out.extend([0; 2]);
        out.extend((SECTOR_BYTES as u32).to_le_bytes());
        out.extend(self.chain_id);
        out.extend(self.start.height.to_le_bytes());
        out.extend(self.start.sequence.to_le_bytes());
        out.extend(self.previous_first_height.unwrap_or(NO_PREVIOUS).to_le_bytes());
        out.extend(self.start.previous_id);
        out.extend(self.file_bytes.to_le_bytes());
        out.extend(checksum(&out));
        assert_eq!(out.len(), SUMMED_BYTES + 16);
        out.resize(SEGMENT_HEADER_BYTES, 0);
        out
    }

    pub(crate) fn decode(sector: &[u8]) -> Result<Self, SegmentHeaderError> {
        Self::decode_inner(sector).ok_or(SegmentHeaderError::Damaged("the header is too short"))?
    }

    fn decode_inner(sector: &[u8]) -> Option<Result<Self, SegmentHeaderError>> {
        let mut bytes = Bytes::new(sector);
        let summed = bytes.take(SUMMED_BYTES)?;
        let sum: [u8; 16] = bytes.array()?;
        let mut bytes = Bytes::new(summed);
        if bytes.array()? != MAGIC {
            return Some(Err(SegmentHeaderError::Damaged("it does not start with KANJOSEG")));
        }
        // The version is looked at first: a later format may keep its checksum elsewhere.
        let version = bytes.u16()?;
        if version != SEGMENT_VERSION {
            return Some(Err(SegmentHeaderError::Version(version)));
        }
        if checksum(summed) != sum {
            let what = "the segment header does not match its checksum";
            return Some(Err(SegmentHeaderError::Damaged(what)));
        }
        bytes.u16()?;
        if bytes.u32()? != SECTOR_BYTES as u32 {
            let what = "the sector size is not 512";
            return Some(Err(SegmentHeaderError::Damaged(what)));
        }
        let chain_id = bytes.array()?;
        let height = bytes.u64()?;
        let sequence = bytes.u64()?;
        let previous_first_height = Some(bytes.u64()?).filter(|height| *height != NO_PREVIOUS);
        let start = Position { height, sequence, previous_id: bytes.array()? };
        let file_bytes = bytes.u64()?;
        Some(Ok(Self { chain_id, start, previous_first_height, file_bytes }))
    }
}

/// File name of the segment that starts at `height`.
pub(crate) fn segment_name(height: u64) -> String {
    format!("{height:020}.seg")
}

/// File name of its sidecar.
pub(crate) fn sidecar_name(height: u64) -> String {
    format!("{height:020}.idx")
}

/// The height in a name such as `00000000000000000042.seg`.
pub(crate) fn parse_name(name: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_suffix(suffix)?;
    let all_digits = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if all_digits { digits.parse().ok() } else { None }
}
