//! The frame: one group of blocks, one positioned write, one sync.
//!
//! ```text
//! byte   0    8      12       14  16        24            32      36       40
//!        ┌────┬──────┬─────────┬──┬─────────┬─────────────┬───────┬────────┬─
//!        │tag │ KJFR │ version │0 │sequence │first height │blocks │sectors │
//!        └────┴──────┴─────────┴──┴─────────┴─────────────┴───────┴────────┴─
//! byte   40              48                    64           80               96
//!       ─┬───────────────┬─────────────────────┬────────────┬────────────────┬────────
//!        │payload length │id of previous frame │ body hash  │ id (checksum)  │ payload …
//!       ─┴───────────────┴─────────────────────┴────────────┴────────────────┴────────
//! ```
//!
//! *Body hash*: BLAKE3-128 of everything from byte 96 to the end of the last sector, tags and
//! padding included. *Id*: BLAKE3-128 of bytes 0..80, so it vouches for the whole frame and,
//! through the previous id, for all frames before it.
//!
//! The payload (with the sector tags taken out) is, for each block: height `u64`, header hash
//! 32 bytes, length `u32`, bytes. All integers are little-endian.

use crate::bytes::{Bytes, checksum};
use crate::disk::SECTOR_BYTES;
use crate::log::sector::{
    FRAME_SECTORS_MAX, SECTOR_DATA_BYTES, SectorWriter, TAG_BYTES, Tag, is_blank,
};
use crate::{BlockRef, HeaderHash};

/// What a frame is known by: the checksum of its header.
pub type FrameId = [u8; 16];

/// The frame format this build writes and reads.
pub(crate) const FRAME_VERSION: u16 = 1;
pub(crate) const FRAME_HEADER_BYTES: usize = 96;
const SUMMED_BYTES: usize = 80;
const MAGIC: [u8; 4] = *b"KJFR";
/// Bytes in front of each block in the payload.
pub(crate) const BLOCK_PREFIX_BYTES: usize = 8 + 32 + 4;
/// Payload bytes that fit in the first sector.
pub(crate) const FIRST_SECTOR_PAYLOAD_BYTES: usize = SECTOR_BYTES - FRAME_HEADER_BYTES;

const _: () = assert!(SUMMED_BYTES + size_of::<FrameId>() == FRAME_HEADER_BYTES);
const _: () = assert!(FRAME_HEADER_BYTES < SECTOR_BYTES);

/// A frame's header, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Number of the frame, consecutive over the whole log, from 0.
    pub sequence: u64,
    /// Height of its first block.
    pub first_height: u64,
    /// Number of its blocks, at least 1.
    pub block_count: u32,
    /// Its extent in sectors of 512 bytes.
    pub sectors: u32,
    /// Bytes of payload, without tags and padding.
    pub payload_bytes: u64,
    /// Id of the frame before it; zeros if it is the first of the log.
    pub previous_id: FrameId,
    /// Its own id.
    pub id: FrameId,
    body_hash: [u8; 16],
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The sector was never written.
    #[error("there is no frame here: the sector is blank")]
    Blank,
    /// The header does not match its own checksum, or there is no header.
    #[error("the frame header does not match its checksum")]
    Header,
    /// The header is whole, but of a version this build does not know.
    #[error("frame format version {0} is not known, this build reads {FRAME_VERSION}")]
    Version(u16),
    /// The bytes end before the extent that the header gives.
    #[error("the frame is {needed} bytes long, only {given} are there")]
    Short {
        /// Bytes the header claims.
        needed: u64,
        /// Bytes present.
        given: u64,
    },
    /// At least one sector of the extent was never written: the write was torn.
    #[error("sector {sector} of the frame was never written")]
    Torn {
        /// First blank sector, counted in the frame.
        sector: u32,
    },
    /// Every sector is there, but the content is not what was written.
    #[error("the frame does not match its BLAKE3 checksum")]
    Body,
    /// The checksums match, but the content contradicts itself: not written by this crate.
    #[error("the frame contradicts itself: {0}")]
    Content(&'static str),
}

/// Where a block lies in the payload of its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    start: usize,
    len: usize,
    header_hash: HeaderHash,
}

/// A frame whose checksums hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodedFrame {
    /// Its header.
    pub header: FrameHeader,
    payload: Vec<u8>,
    entries: Vec<Entry>,
}

impl DecodedFrame {
    /// Header hash and bytes of the block at `height`, if the frame holds it.
    pub fn block(&self, height: u64) -> Option<(&HeaderHash, &[u8])> {
        let index = usize::try_from(height.checked_sub(self.header.first_height)?).ok()?;
        let entry = self.entries.get(index)?;
        let bytes = self.payload.get(entry.start..entry.start + entry.len)?;
        Some((&entry.header_hash, bytes))
    }

    /// Header hashes of its blocks, in the order of their heights.
    pub fn header_hashes(&self) -> impl Iterator<Item = &HeaderHash> {
        self.entries.iter().map(|entry| &entry.header_hash)
    }

    /// Memory it holds, roughly.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.payload.len() + self.entries.len() * size_of::<Entry>()
    }
}

/// Sectors a payload of this many bytes takes, or `None` if no frame can hold it.
pub(crate) fn sectors_for(payload_bytes: u64) -> Option<u32> {
    let rest = payload_bytes.saturating_sub(FIRST_SECTOR_PAYLOAD_BYTES as u64);
    let sectors = 1 + rest.div_ceil(SECTOR_DATA_BYTES as u64);
    u32::try_from(sectors).ok().filter(|sectors| *sectors <= FRAME_SECTORS_MAX)
}

/// Payload bytes that fit into `sectors`.
pub(crate) fn payload_capacity(sectors: u64) -> u64 {
    match sectors.checked_sub(1) {
        Some(rest) => FIRST_SECTOR_PAYLOAD_BYTES as u64 + rest * SECTOR_DATA_BYTES as u64,
        None => 0,
    }
}

/// Bytes the blocks take as a payload.
pub(crate) fn payload_bytes(blocks: &[BlockRef<'_>]) -> u64 {
    blocks.iter().map(|block| (BLOCK_PREFIX_BYTES + block.bytes.len()) as u64).sum()
}

/// Encodes a frame into `buffer` (whose memory is reused), and returns it with its id.
///
/// The caller has checked that the blocks are consecutive, not empty, and that they fit.
pub(crate) fn encode_frame(
    buffer: Vec<u8>,
    sequence: u64,
    previous_id: FrameId,
    blocks: &[BlockRef<'_>],
) -> (Vec<u8>, FrameId) {
    let payload = payload_bytes(blocks);
    let sectors = sectors_for(payload).unwrap_or(0);
    let first_height = blocks.first().map_or(0, |block| block.height);
    assert!(sectors > 0 && !blocks.is_empty(), "the caller checks that the group fits");

    let mut writer = SectorWriter::new(buffer, sectors, sequence);
    writer.put(&[0; FRAME_HEADER_BYTES - TAG_BYTES]);
    for block in blocks {
        writer.put(&block.height.to_le_bytes());
        writer.put(&block.header_hash);
        writer.put(&(block.bytes.len() as u32).to_le_bytes());
        writer.put(block.bytes);
    }
    let mut frame = writer.finish();

    let (head, body) = frame.split_at_mut(FRAME_HEADER_BYTES);
    let mut header = Vec::with_capacity(FRAME_HEADER_BYTES);
    header.extend(Tag::new(0, sectors, sequence).encode());
    header.extend(MAGIC);
    header.extend(FRAME_VERSION.to_le_bytes());
    header.extend([0; 2]);
    header.extend(sequence.to_le_bytes());
    header.extend(first_height.to_le_bytes());
    header.extend((blocks.len() as u32).to_le_bytes());
    header.extend(sectors.to_le_bytes());
    header.extend(payload.to_le_bytes());
    header.extend(previous_id);
    header.extend(checksum(body));
    let id = checksum(&header);
    header.extend(id);
    head.copy_from_slice(&header);
    (frame, id)
}

impl FrameHeader {
    /// Decodes the header in the first sector of a frame.
    pub fn decode(sector: &[u8]) -> Result<Self, FrameError> {
        let sector = sector.get(..SECTOR_BYTES.min(sector.len())).unwrap_or(sector);
        if is_blank(sector) {
            return Err(FrameError::Blank);
        }
        Self::decode_written(sector).ok_or(FrameError::Header)?
    }

    fn decode_written(sector: &[u8]) -> Option<Result<Self, FrameError>> {
        let tag = Tag::decode(sector)?;
        let mut bytes = Bytes::new(sector);
        let summed = bytes.take(SUMMED_BYTES)?;
        let id: FrameId = bytes.array()?;
        let mut bytes = Bytes::new(summed);
        bytes.take(TAG_BYTES)?;
        if bytes.array()? != MAGIC || checksum(summed) != id || !tag.starts_frame() {
            return None;
        }
        let version = bytes.u16()?;
        if version != FRAME_VERSION {
            return Some(Err(FrameError::Version(version)));
        }
        bytes.u16()?;
        let header = Self {
            sequence: bytes.u64()?,
            first_height: bytes.u64()?,
            block_count: bytes.u32()?,
            sectors: bytes.u32()?,
            payload_bytes: bytes.u64()?,
            previous_id: bytes.array()?,
            body_hash: bytes.array()?,
            id,
        };
        Some(header.check(tag))
    }

    fn check(self, tag: Tag) -> Result<Self, FrameError> {
        if sectors_for(self.payload_bytes) != Some(self.sectors) {
            return Err(FrameError::Content("extent and payload length differ"));
        }
        if tag != Tag::new(0, self.sectors, self.sequence) {
            return Err(FrameError::Content("tag and header differ"));
        }
        if self.block_count == 0 {
            return Err(FrameError::Content("a frame without blocks"));
        }
        if self.first_height.checked_add(u64::from(self.block_count)).is_none() {
            return Err(FrameError::Content("heights beyond 2^64"));
        }
        Ok(self)
    }

    /// Length of the frame on disk.
    pub fn extent_bytes(&self) -> u64 {
        u64::from(self.sectors) * SECTOR_BYTES as u64
    }
}

/// Decodes and verifies the frame that starts at the first of these bytes; what follows the
/// frame is ignored. Never panics, whatever the bytes: this is the function to fuzz.
pub fn decode_frame(bytes: &[u8]) -> Result<DecodedFrame, FrameError> {
    let header = FrameHeader::decode(bytes)?;
    let needed = header.extent_bytes();
    let extent = usize::try_from(needed)
        .ok()
        .and_then(|needed| bytes.get(..needed))
        .ok_or(FrameError::Short { needed, given: bytes.len() as u64 })?;
    let body = extent.get(FRAME_HEADER_BYTES..).unwrap_or_default();
    if checksum(body) != header.body_hash {
        let blank = extent.chunks(SECTOR_BYTES).position(is_blank);
        return Err(match blank {
            Some(sector) => FrameError::Torn { sector: sector as u32 },
            None => FrameError::Body,
        });
    }
    let payload = gather_payload(&header, extent)?;
    let entries = parse_entries(&header, &payload)?;
    Ok(DecodedFrame { header, payload, entries })
}

/// Takes the tags out, checking each.
fn gather_payload(header: &FrameHeader, extent: &[u8]) -> Result<Vec<u8>, FrameError> {
    let mut payload = Vec::with_capacity(extent.len());
    for (index, sector) in extent.chunks(SECTOR_BYTES).enumerate() {
        let skipped = if index == 0 { FRAME_HEADER_BYTES } else { TAG_BYTES };
        let tag = Tag::new(index as u32, header.sectors, header.sequence);
        if !sector.starts_with(&tag.encode()) {
            return Err(FrameError::Content("a sector tag is not the one expected"));
        }
        payload.extend_from_slice(sector.get(skipped..).unwrap_or_default());
    }
    // `check` has established that the payload ends in the last sector.
    payload.truncate(header.payload_bytes as usize);
    Ok(payload)
}

fn parse_entries(header: &FrameHeader, payload: &[u8]) -> Result<Vec<Entry>, FrameError> {
    let ends_early = FrameError::Content("the payload ends inside a block");
    let possible = payload.len() / BLOCK_PREFIX_BYTES;
    let mut entries = Vec::with_capacity(possible.min(header.block_count as usize));
    let mut bytes = Bytes::new(payload);
    for index in 0..u64::from(header.block_count) {
        if bytes.u64().ok_or(ends_early)? != header.first_height + index {
            return Err(FrameError::Content("heights are not consecutive"));
        }
        let header_hash = bytes.array().ok_or(ends_early)?;
        let len = bytes.u32().ok_or(ends_early)? as usize;
        let start = payload.len() - bytes.remaining();
        bytes.take(len).ok_or(ends_early)?;
        entries.push(Entry { start, len, header_hash });
    }
    if bytes.remaining() != 0 {
        return Err(FrameError::Content("bytes behind the last block"));
    }
    Ok(entries)
}
