//! Appending: one frame, one positioned write, one sync per group of blocks.
//!
//! Invariants:
//! - a frame is written only after the frame before it was synced;
//! - the shared index advances only after the sync;
//! - after a failed write or sync the log is poisoned, and a failed sync is never repeated;
//! - two segments never start at the same height: one that holds nothing (any more) is replaced.

use crate::disk::{Disk, SECTOR_BYTES, is_disk_full};
use crate::log::error::{AppendError, OpenError, PrepareError, ReadError};
use crate::log::frame::{
    FrameHeader, FrameId, encode_frame, payload_bytes, payload_capacity, sectors_for,
};
use crate::log::open::{OpenReport, SEGMENT_BYTES_MAX};
use crate::log::prepare::{Allocated, Preparer};
use crate::log::read::{Active, BlockIter, Location, LogReader, Sealed, Shared};
use crate::log::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, segment_name};
use crate::log::table::{FrameTable, Position};
use crate::{BlockRef, ChainId, HeaderHash};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How a log is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// Size of a segment file: a multiple of 512. Existing segments keep theirs.
    pub segment_bytes: u64,
    /// Height of the first block, used only while the log is empty.
    pub first_height: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, first_height: 0 }
    }
}

/// The block log, open for appending. There is one per directory, held by a lock.
pub struct BlockLog {
    pub(super) shared: Arc<Shared>,
    reader: LogReader,
    preparer: Preparer,
    segment_bytes: u64,
    first_height: u64,
    pub(super) poisoned: Option<String>,
    buffer: Vec<u8>,
}

impl BlockLog {
    /// Opens the log in `dir`, or begins one there, repairing a torn write at its end.
    ///
    /// Damage to acknowledged data is refused with [`OpenError::Corrupt`]; nothing is changed
    /// in that case.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        chain_id: ChainId,
        options: LogOptions,
    ) -> Result<(Self, OpenReport), OpenError> {
        crate::log::open::open(disk, dir, chain_id, options)
    }

    pub(crate) fn new(shared: Arc<Shared>, preparer: Preparer, options: LogOptions) -> Self {
        Self {
            reader: LogReader::new(shared.clone()),
            shared,
            preparer,
            segment_bytes: options.segment_bytes,
            first_height: options.first_height,
            poisoned: None,
            buffer: Vec::new(),
        }
    }

    /// Appends a group of blocks with one write and one sync. When this returns `Ok` they
    /// are durable. An empty group does nothing.
    pub fn append(&mut self, blocks: &[BlockRef<'_>]) -> Result<Vec<Location>, AppendError> {
        if let Some(cause) = &self.poisoned {
            return Err(AppendError::Poisoned { cause: cause.clone() });
        }
        let Some(first) = blocks.first() else { return Ok(Vec::new()) };
        let height = first.height;
        let sectors = self.check_group(blocks)?;
        let extent = u64::from(sectors) * SECTOR_BYTES as u64;
        if extent > self.active_room() {
            self.roll(height, extent)?;
        }
        let (position, offset, file, segment) = self.append_point();
        let buffer = std::mem::take(&mut self.buffer);
        let (frame, id) = encode_frame(buffer, position.sequence, position.previous_id, blocks);
        assert_eq!(frame.len() as u64, extent, "the extent was computed from the same blocks");
        let path = self.shared.dir.join(segment_name(segment));
        if let Err(e) = file.write_all_at(&frame, offset) {
            return Err(self.poison("write", path, offset, height, e));
        }
        if let Err(e) = file.sync_data() {
            return Err(self.poison("sync", path, offset, height, e));
        }
        let locations = self.publish(blocks, &frame, id, offset, segment);
        self.buffer = frame;
        Ok(locations)
    }

    /// Checks heights and sizes; returns the sectors of the frame.
    fn check_group(&self, blocks: &[BlockRef<'_>]) -> Result<u32, AppendError> {
        for ((position, block), expected) in blocks.iter().enumerate().zip(self.next_height()..) {
            if block.height != expected {
                let found = block.height;
                return Err(AppendError::Height { position, expected, found });
            }
            if u32::try_from(block.bytes.len()).is_err() {
                let found_bytes = block.bytes.len() as u64;
                return Err(AppendError::TooLarge { found_bytes, max_bytes: u32::MAX.into() });
            }
        }
        let found_bytes = payload_bytes(blocks);
        let max_sectors = SEGMENT_BYTES_MAX / SECTOR_BYTES as u64 - 1;
        let fits = |sectors: &u32| u64::from(*sectors) <= max_sectors;
        let max_bytes = payload_capacity(max_sectors);
        sectors_for(found_bytes)
            .filter(fits)
            .ok_or(AppendError::TooLarge { found_bytes, max_bytes })
    }

    /// Bytes left in the active segment.
    fn active_room(&self) -> u64 {
        let index = self.shared.index.read();
        index.active.as_ref().map_or(0, Active::room)
    }

    /// Seals the active segment and begins the next, or replaces it if it holds nothing: its
    /// name would be the same. A crash leaves the one or the other under the name. Fails with
    /// `DiskFull` before anything has changed.
    fn roll(&mut self, height: u64, extent: u64) -> Result<(), AppendError> {
        let needed = (SEGMENT_HEADER_BYTES as u64 + extent).max(self.segment_bytes);
        let allocated = match self.preparer.take(needed) {
            Ok(allocated) => allocated,
            Err(PrepareError { path, bytes, source }) if is_disk_full(&source) => {
                return Err(AppendError::DiskFull { path, needed_bytes: bytes, source });
            }
            Err(PrepareError { path, source, .. }) => {
                return Err(self.poison("allocate", path, 0, height, source));
            }
        };
        let header = self.next_segment_header(&allocated);
        let path = self.shared.dir.join(segment_name(header.start.height));
        let named = allocated
            .file
            .write_all_at(&header.encode(), 0)
            .and_then(|()| allocated.file.sync_data())
            .and_then(|()| self.shared.disk.rename(&allocated.path, &path));
        if let Err(source) = named {
            let _ = self.shared.disk.remove(&allocated.path);
            return Err(self.poison("begin", path, 0, height, source));
        }
        if let Err(source) = self.shared.disk.sync_dir(&self.shared.dir) {
            return Err(self.poison("sync the name of", path, 0, height, source));
        }
        self.switch_to(header, allocated);
        Ok(())
    }

    fn next_segment_header(&self, allocated: &Allocated) -> SegmentHeader {
        let index = self.shared.index.read();
        let (start, previous_first_height) = match &index.active {
            Some(active) if active.table.next.height == active.header.start.height => {
                (active.header.start, active.header.previous_first_height)
            }
            Some(active) => (active.table.next, Some(active.header.start.height)),
            None => {
                let height = self.first_height;
                (Position { height, sequence: 0, previous_id: [0; 16] }, None)
            }
        };
        let (chain_id, file_bytes) = (self.shared.chain_id, allocated.bytes);
        SegmentHeader { chain_id, start, previous_first_height, file_bytes }
    }

    fn switch_to(&self, header: SegmentHeader, allocated: Allocated) {
        let table = FrameTable::new(header.start);
        let end_offset = SEGMENT_HEADER_BYTES as u64;
        let active = Active { header, file: allocated.file, table, end_offset };
        let mut index = self.shared.index.write();
        let Some(old) = index.active.replace(active) else { return };
        if old.header.start.height == header.start.height {
            index.generation += 1;
        } else {
            assert_eq!(old.table.next, header.start, "segments are consecutive");
            self.shared.adopt_sealed(old.file, Arc::new(old.table));
            index.sealed.push(Sealed { header: old.header, end: header.start });
        }
    }

    /// Where the next frame goes; there is an active segment with room for it.
    fn append_point(&self) -> (Position, u64, Arc<dyn crate::disk::DiskFile>, u64) {
        let index = self.shared.index.read();
        let Some(active) = &index.active else { unreachable!("roll has made a segment") };
        let segment = active.header.start.height;
        (active.table.next, active.end_offset, active.file.clone(), segment)
    }

    /// Lets readers see a synced frame.
    fn publish(
        &self,
        blocks: &[BlockRef<'_>],
        frame: &[u8],
        id: FrameId,
        offset: u64,
        segment: u64,
    ) -> Vec<Location> {
        let header = FrameHeader::decode(frame);
        let Ok(header) = header else { unreachable!("this frame was just encoded") };
        assert_eq!(header.id, id, "a frame is known by one id");
        let mut index = self.shared.index.write();
        let Some(active) = &mut index.active else { unreachable!("the frame was written to it") };
        let hashes = blocks.iter().map(|block| &block.header_hash);
        active.table.push(&header, (offset / SECTOR_BYTES as u64) as u32, hashes);
        let frame_bytes = header.extent_bytes();
        active.end_offset = offset + frame_bytes;
        index.next_height = header.first_height + u64::from(header.block_count);
        let locate = |(index_in_frame, block): (u32, &BlockRef<'_>)| Location {
            height: block.height,
            segment,
            frame_offset: offset,
            frame_bytes,
            index_in_frame,
        };
        (0..).zip(blocks).map(locate).collect()
    }

    fn poison(
        &mut self,
        what: &'static str,
        path: PathBuf,
        offset: u64,
        height: u64,
        source: io::Error,
    ) -> AppendError {
        let error = AppendError::Io { what, path, offset, height, source };
        self.poisoned = Some(error.to_string());
        error
    }

    /// Whether only opening again helps.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned.is_some()
    }

    /// Block bytes that can still be appended into space already allocated: what is left in
    /// the active segment plus a prepared one. Appending groups wastes some of it at the end
    /// of the segment, so keep a reserve of at least one group.
    pub fn headroom(&self) -> u64 {
        let active = payload_capacity(self.active_room() / SECTOR_BYTES as u64);
        let prepared = if self.preparer.is_ready() {
            payload_capacity(self.segment_bytes / SECTOR_BYTES as u64 - 1)
        } else {
            0
        };
        active + prepared
    }

    /// Allocates the next segment now; see [`Preparer::prepare_next`].
    pub fn prepare_next(&self) -> Result<bool, PrepareError> {
        self.preparer.prepare_next()
    }

    /// A handle that prepares segments from another thread. The directory stays locked until
    /// the log and all such handles are dropped.
    pub fn preparer(&self) -> Preparer {
        self.preparer.clone()
    }

    /// A reader of this log, for any thread.
    pub fn reader(&self) -> LogReader {
        self.reader.clone()
    }

    /// See [`LogReader::read`].
    pub fn read(&self, height: u64) -> Result<Option<Vec<u8>>, ReadError> {
        self.reader.read(height)
    }

    /// See [`LogReader::read_prefix`].
    pub fn read_prefix(&self, height: u64, len: usize) -> Result<Option<Vec<u8>>, ReadError> {
        self.reader.read_prefix(height, len)
    }

    /// See [`LogReader::location`].
    pub fn location(&self, height: u64) -> Result<Option<Location>, ReadError> {
        self.reader.location(height)
    }

    /// See [`LogReader::iter_from`].
    pub fn iter_from(&self, height: u64) -> BlockIter {
        self.reader.iter_from(height)
    }

    /// See [`LogReader::header_hashes`].
    pub fn header_hashes(&self, range: Range<u64>) -> Result<Vec<HeaderHash>, ReadError> {
        self.reader.header_hashes(range)
    }

    /// The height the next block must have: one above the last, also after a truncation.
    pub fn next_height(&self) -> u64 {
        self.reader.next_height()
    }

    /// The lowest height of the log.
    pub fn first_height(&self) -> u64 {
        self.reader.first_height()
    }
}
