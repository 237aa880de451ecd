//! The table of a segment: which frame holds which height, and the header hash of each block.
//! It grows with every append, and goes to the sidecar file when the segment is sealed.

use crate::HeaderHash;
use crate::log::frame::{FrameHeader, FrameId};
use std::ops::Range;

/// One frame of a segment. 16 bytes, so that a million frames are 16 MB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameEntry {
    pub(crate) first_height: u64,
    /// Offset in the segment file, in sectors.
    pub(crate) start_sector: u32,
    pub(crate) sectors: u32,
}

/// Where a segment begins: what must follow the segment before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) height: u64,
    pub(crate) sequence: u64,
    /// Id of the last frame before this position; zeros at the start of the log.
    pub(crate) previous_id: FrameId,
}

/// Frames and header hashes of one segment.
///
/// Invariants: frames ascend in height and disk position, and together cover each height in
/// `start.height .. next.height` once: a frame speaks for its heights up to the first of the
/// next frame, the last one up to `next.height`. There is one hash for each of these heights.
/// Frames that later ones have superseded are not in it, though `next.sequence` counts them.
#[derive(Debug, Clone)]
pub(crate) struct FrameTable {
    pub(crate) start: Position,
    pub(crate) next: Position,
    pub(crate) frames: Vec<FrameEntry>,
    pub(crate) hashes: Vec<HeaderHash>,
}

impl FrameTable {
    pub(crate) fn new(start: Position) -> Self {
        Self { start, next: start, frames: Vec::new(), hashes: Vec::new() }
    }

    /// Forgets the heights from `height` on. A frame that straddles it keeps what is below.
    /// The sequence stays: the frames are still on disk, and the next one follows them.
    pub(crate) fn truncate_to(&mut self, height: u64) {
        assert!(height >= self.start.height, "a table is not cut below its start");
        if height >= self.next.height {
            return;
        }
        let kept = self.frames.partition_point(|frame| frame.first_height < height);
        self.frames.truncate(kept);
        self.hashes.truncate((height - self.start.height) as usize);
        self.next.height = height;
    }

    /// Adds a frame that lies at `start_sector`.
    pub(crate) fn push<'a>(
        &mut self,
        header: &FrameHeader,
        start_sector: u32,
        hashes: impl Iterator<Item = &'a HeaderHash>,
    ) {
        assert_eq!(header.sequence, self.next.sequence, "frames are consecutive");
        assert_eq!(header.first_height, self.next.height, "heights are consecutive");
        self.push_entry(start_sector, header.sectors, header.block_count, header.id);
        self.hashes.extend(hashes.copied());
        assert_eq!(self.hashes.len() as u64, self.next.height - self.start.height);
    }

    /// Adds a frame without its hashes; the caller adds those.
    pub(crate) fn push_entry(&mut self, start_sector: u32, sectors: u32, blocks: u32, id: FrameId) {
        self.frames.push(FrameEntry { first_height: self.next.height, start_sector, sectors });
        self.next.height += u64::from(blocks);
        self.next.sequence += 1;
        self.next.previous_id = id;
    }

    /// The frame that holds `height`.
    pub(crate) fn frame_of(&self, height: u64) -> Option<FrameEntry> {
        if height < self.start.height || height >= self.next.height {
            return None;
        }
        let after = self.frames.partition_point(|frame| frame.first_height <= height);
        self.frames.get(after.checked_sub(1)?).copied()
    }

    /// Header hashes of those heights in `range` that the segment holds.
    pub(crate) fn hashes_in(&self, range: &Range<u64>) -> &[HeaderHash] {
        let start = range.start.max(self.start.height);
        let end = range.end.min(self.next.height);
        if start >= end {
            return &[];
        }
        let first = (start - self.start.height) as usize;
        let last = (end - self.start.height) as usize;
        self.hashes.get(first..last).unwrap_or_default()
    }
}
