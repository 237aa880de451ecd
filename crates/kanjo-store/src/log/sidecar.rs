//! The sidecar of a sealed segment: its frame table and header hashes, so that opening the
//! log does not read the segment. Never trusted without its checksum, never synced: if it is
//! missing or damaged it is built again from the segment.
//!
//! ```text
//! KANJOIDX 8 │ version 2 │ 0 2 │ frames u32 │ blocks u32 │ chain id 32
//! │ start: height 8, sequence 8, id of the frame before 16 │ id of the last frame 16
//! │ frames × { start sector u32, sectors u32, blocks u32 } │ blocks × header hash 32
//! │ BLAKE3-128 of all before, 16
//! ```
//!
//! It lists the frames that readers still need, and of each the blocks that no later frame
//! has superseded. The id of the last frame vouches for all frames of the segment, so start,
//! last id and end height say which table it is: a sidecar of an earlier end never fits.

use crate::ChainId;
use crate::bytes::{Bytes, checksum};
use crate::disk::{Disk, DiskFile};
use crate::log::segment::sidecar_name;
use crate::log::table::{FrameTable, Position};
use std::io;
use std::path::Path;

const MAGIC: [u8; 8] = *b"KANJOIDX";
const VERSION: u16 = 1;
const FRAME_ENTRY_BYTES: usize = 12;
const SUM_BYTES: usize = 16;

/// Encodes a sidecar.
pub(crate) fn encode(table: &FrameTable, chain_id: &ChainId) -> Vec<u8> {
    let mut out = Vec::with_capacity(128 + table.frames.len() * 12 + table.hashes.len() * 32);
    out.extend(MAGIC);
    out.extend(VERSION.to_le_bytes());
    out.extend([0; 2]);
    out.extend((table.frames.len() as u32).to_le_bytes());
    out.extend((table.hashes.len() as u32).to_le_bytes());
    out.extend(chain_id);
    out.extend(table.start.height.to_le_bytes());
    out.extend(table.start.sequence.to_le_bytes());
    out.extend(table.start.previous_id);
    out.extend(table.next.previous_id);
    let ends = table.frames.iter().skip(1).map(|frame| frame.first_height);
    for (frame, end) in table.frames.iter().zip(ends.chain([table.next.height])) {
        out.extend(frame.start_sector.to_le_bytes());
        out.extend(frame.sectors.to_le_bytes());
        out.extend(((end - frame.first_height) as u32).to_le_bytes());
    }
    for hash in &table.hashes {
        out.extend(hash);
    }
    out.extend(checksum(&out));
    out
}

/// Decodes a sidecar; `None` for any reason to rebuild it. Never panics.
pub(crate) fn decode(bytes: &[u8], chain_id: &ChainId) -> Option<FrameTable> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(SUM_BYTES)?)?;
    if checksum(body) != *sum {
        return None;
    }
    let mut bytes = Bytes::new(body);
    if bytes.array()? != MAGIC || bytes.u16()? != VERSION || bytes.u16()? != 0 {
        return None;
    }
    let frames = bytes.u32()? as usize;
    let blocks = bytes.u32()? as usize;
    if bytes.array()? != *chain_id {
        return None;
    }
    let start =
        Position { height: bytes.u64()?, sequence: bytes.u64()?, previous_id: bytes.array()? };
    let last_id = bytes.array()?;
    let expected = frames.checked_mul(FRAME_ENTRY_BYTES)?.checked_add(blocks.checked_mul(32)?)?;
    if bytes.remaining() != expected {
        return None;
    }
    start.height.checked_add(u64::from(u32::MAX).checked_mul(frames as u64)?)?;
    start.sequence.checked_add(frames as u64)?;
    let mut table = FrameTable::new(start);
    for _ in 0..frames {
        let (start_sector, sectors) = (bytes.u32()?, bytes.u32()?);
        table.push_entry(start_sector, sectors, bytes.u32()?, last_id);
    }
    for _ in 0..blocks {
        table.hashes.push(bytes.array()?);
    }
    (table.hashes.len() as u64 == table.next.height - table.start.height).then_some(table)
}

/// Reads the sidecar of the segment between these two positions, if it is there and whole.
pub(crate) fn read(
    disk: &dyn Disk,
    dir: &Path,
    chain_id: &ChainId,
    start: Position,
    end: Position,
) -> Option<FrameTable> {
    let file = disk.open(&dir.join(sidecar_name(start.height))).ok()?;
    let bytes = read_whole(&*file).ok()?;
    let mut table = decode(&bytes, chain_id)?;
    // The id vouches for the sequence, which superseded frames keep us from counting here.
    let found = (table.start, table.next.height, table.next.previous_id);
    table.next.sequence = end.sequence;
    (found == (start, end.height, end.previous_id)).then_some(table)
}

/// Writes a sidecar under a temporary name and renames it. Not synced: the checksum tells.
pub(crate) fn write(
    disk: &dyn Disk,
    dir: &Path,
    chain_id: &ChainId,
    table: &FrameTable,
) -> io::Result<()> {
    let path = dir.join(sidecar_name(table.start.height));
    let temporary = path.with_extension("idx.tmp");
    let file = disk.create(&temporary)?;
    file.write_all_at(&encode(table, chain_id), 0)?;
    disk.rename(&temporary, &path)
}

/// Reads a whole file into memory.
pub(crate) fn read_whole(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let len = usize::try_from(file.byte_len()?).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}
