//! Reading while appending: readers share an index that advances only after the sync, so a
//! reader never sees a block that a crash could take back.

use crate::disk::{Disk, DiskFile, SECTOR_BYTES};
use crate::log::error::{ReadError, ScanError};
use crate::log::frame::{DecodedFrame, decode_frame};
use crate::log::recover::Scan;
use crate::log::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, segment_name};
use crate::log::sidecar;
use crate::log::table::{FrameEntry, FrameTable, Position};
use crate::{Block, ChainId, HeaderHash};
use parking_lot::{Mutex, RwLock};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// Decoded frames kept, so that reading block after block decodes each frame once.
const FRAMES_CACHED_MAX: usize = 4;
/// Frames larger than this are not kept.
const FRAME_CACHED_BYTES_MAX: usize = 32 << 20;
/// Sealed segments kept open with their tables.
const SEGMENTS_CACHED_MAX: usize = 32;
/// Sidecars waiting to be written; more are dropped, and built again when needed.
const SIDECARS_WAITING_MAX: usize = 8;

/// Where a block lies on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// Its height.
    pub height: u64,
    /// First height of its segment, which is the segment's name.
    pub segment: u64,
    /// Offset of its frame in the segment file.
    pub frame_offset: u64,
    /// Length of its frame on disk.
    pub frame_bytes: u64,
    /// Its place among the blocks of the frame, from 0.
    pub index_in_frame: u32,
}

/// A segment that another one follows: immutable.
#[derive(Clone, Copy)]
pub(crate) struct Sealed {
    pub(crate) header: SegmentHeader,
    pub(crate) end: Position,
}

/// The segment being appended to.
pub(crate) struct Active {
    pub(crate) header: SegmentHeader,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) table: FrameTable,
}

impl Active {
    /// Where the next frame goes.
    pub(crate) fn end_offset(&self) -> u64 {
        let end = self.table.frames.last().map_or(SEGMENT_HEADER_BYTES as u64, |frame| {
            (u64::from(frame.start_sector) + u64::from(frame.sectors)) * SECTOR_BYTES as u64
        });
        assert!(end <= self.header.file_bytes, "frames lie inside their segment");
        end
    }
}

/// What readers see of the log.
pub(crate) struct LogIndex {
    pub(crate) sealed: Vec<Sealed>,
    pub(crate) active: Option<Active>,
    pub(crate) first_height: u64,
    pub(crate) next_height: u64,
}

/// A sealed segment in use.
pub(crate) struct OpenSegment {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) table: Arc<FrameTable>,
}

type FrameKey = (u64, u32);

/// A small cache in order of use, the most recent last.
struct Recent<K, V> {
    entries: Vec<(K, Arc<V>)>,
    max: usize,
}

impl<K: PartialEq, V> Recent<K, V> {
    fn new(max: usize) -> Self {
        Self { entries: Vec::with_capacity(max), max }
    }

    fn get(&mut self, key: &K) -> Option<Arc<V>> {
        let at = self.entries.iter().position(|(k, _)| k == key)?;
        let entry = self.entries.remove(at);
        let value = entry.1.clone();
        self.entries.push(entry);
        Some(value)
    }

    fn put(&mut self, key: K, value: Arc<V>) {
        self.entries.retain(|(k, _)| *k != key);
        if self.entries.len() >= self.max {
            self.entries.remove(0);
        }
        self.entries.push((key, value));
    }
}

/// State shared by the appender, the preparer and all readers.
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) chain_id: ChainId,
    pub(crate) index: RwLock<LogIndex>,
    frames: Mutex<Recent<FrameKey, DecodedFrame>>,
    segments: Mutex<Recent<u64, OpenSegment>>,
    sidecars_waiting: Mutex<Vec<Arc<FrameTable>>>,
}

impl Shared {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        chain_id: ChainId,
        index: LogIndex,
    ) -> Self {
        Self {
            disk,
            dir,
            chain_id,
            index: RwLock::new(index),
            frames: Mutex::new(Recent::new(FRAMES_CACHED_MAX)),
            segments: Mutex::new(Recent::new(SEGMENTS_CACHED_MAX)),
            sidecars_waiting: Mutex::new(Vec::new()),
        }
    }

    /// Keeps a sealed segment at hand and its sidecar for the preparer to write.
    pub(crate) fn adopt_sealed(&self, file: Arc<dyn DiskFile>, table: Arc<FrameTable>) {
        let open = OpenSegment { file, table: table.clone() };
        self.segments.lock().put(table.start.height, Arc::new(open));
        let mut waiting = self.sidecars_waiting.lock();
        if waiting.len() < SIDECARS_WAITING_MAX {
            waiting.push(table);
        }
    }

    /// Writes waiting sidecars. Failing is harmless: a missing sidecar is built again.
    pub(crate) fn flush_sidecars(&self) -> bool {
        let waiting = std::mem::take(&mut *self.sidecars_waiting.lock());
        for table in &waiting {
            let _ = sidecar::write(&*self.disk, &self.dir, &self.chain_id, table);
        }
        !waiting.is_empty()
    }

    /// A sealed segment with its table: from the cache, the sidecar, or by scanning it.
    fn sealed(&self, sealed: &Sealed) -> Result<Arc<OpenSegment>, ScanError> {
        let start = sealed.header.start;
        if let Some(open) = self.segments.lock().get(&start.height) {
            return Ok(open);
        }
        let path = self.dir.join(segment_name(start.height));
        let file = self.disk.open(&path).map_err(|source| ScanError::Io {
            path: path.clone(),
            height: start.height,
            source,
        })?;
        let end = sealed.end;
        if let Some(table) = sidecar::read(&*self.disk, &self.dir, &self.chain_id, start, end) {
            let open = Arc::new(OpenSegment { file, table: Arc::new(table) });
            self.segments.lock().put(start.height, open.clone());
            return Ok(open);
        }
        let table = Scan::run(&*file, &path, &sealed.header)?.expect_sealed(end)?;
        let table = Arc::new(table);
        self.adopt_sealed(file.clone(), table.clone());
        Ok(Arc::new(OpenSegment { file, table }))
    }

    /// Loads every sealed segment that has no sidecar, so that it gets one.
    pub(crate) fn rebuild_sidecar(&self, sealed: &Sealed) -> Result<(), ScanError> {
        self.sealed(sealed)?;
        self.flush_sidecars();
        Ok(())
    }
}

/// Reads blocks; cheap to clone, usable from any thread, also while blocks are appended.
#[derive(Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
}

/// A frame found for a height.
struct Found {
    segment: u64,
    file: Arc<dyn DiskFile>,
    frame: FrameEntry,
}

impl LogReader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The lowest height of the log.
    pub fn first_height(&self) -> u64 {
        self.shared.index.read().first_height
    }

    /// The height after the last synced block.
    pub fn next_height(&self) -> u64 {
        self.shared.index.read().next_height
    }

    /// The bytes of the block at `height`; `None` if the log does not hold it.
    pub fn read(&self, height: u64) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(self.read_block(height)?.map(|block| block.bytes))
    }

    /// The block at `height` with its header hash; `None` if the log does not hold it.
    pub fn read_block(&self, height: u64) -> Result<Option<Block>, ReadError> {
        let Some((frame, offset, path)) = self.frame_at(height)? else { return Ok(None) };
        match frame.block(height) {
            Some((header_hash, bytes)) => {
                Ok(Some(Block { height, header_hash: *header_hash, bytes: bytes.to_vec() }))
            }
            None => {
                let what = "the frame here does not hold this height".to_owned();
                Err(ReadError::Corrupt { path, offset, height, what })
            }
        }
    }

    /// Where the block at `height` lies; `None` if the log does not hold it.
    pub fn location(&self, height: u64) -> Result<Option<Location>, ReadError> {
        Ok(self.find(height)?.map(|found| Location {
            height,
            segment: found.segment,
            frame_offset: u64::from(found.frame.start_sector) * SECTOR_BYTES as u64,
            frame_bytes: u64::from(found.frame.sectors) * SECTOR_BYTES as u64,
            index_in_frame: (height - found.frame.first_height) as u32,
        }))
    }

    /// Blocks from `height` to the end of the log, as far as it has come when asked.
    pub fn iter_from(&self, height: u64) -> BlockIter {
        BlockIter { reader: self.clone(), next: height, failed: false }
    }

    /// Header hashes of these heights, without reading the blocks of sealed segments.
    /// Heights beyond the log are left out.
    pub fn header_hashes(&self, range: Range<u64>) -> Result<Vec<HeaderHash>, ReadError> {
        // One look at the index, so that a segment sealed meanwhile is neither missed nor twice.
        let (sealed, in_active) = {
            let index = self.shared.index.read();
            let overlaps = |sealed: &&Sealed| {
                sealed.header.start.height < range.end && range.start < sealed.end.height
            };
            let sealed: Vec<Sealed> = index.sealed.iter().filter(overlaps).copied().collect();
            let active = index.active.as_ref().map(|active| active.table.hashes_in(&range));
            (sealed, active.unwrap_or_default().to_vec())
        };
        let mut hashes = Vec::new();
        for sealed in &sealed {
            hashes.extend_from_slice(self.shared.sealed(sealed)?.table.hashes_in(&range));
        }
        hashes.extend(in_active);
        Ok(hashes)
    }

    fn find(&self, height: u64) -> Result<Option<Found>, ReadError> {
        let sealed = {
            let index = self.shared.index.read();
            if height < index.first_height || height >= index.next_height {
                return Ok(None);
            }
            if let Some(active) = &index.active
                && let Some(frame) = active.table.frame_of(height)
            {
                let segment = active.header.start.height;
                return Ok(Some(Found { segment, file: active.file.clone(), frame }));
            }
            let after = index.sealed.partition_point(|s| s.header.start.height <= height);
            after.checked_sub(1).and_then(|at| index.sealed.get(at)).copied()
        };
        let Some(sealed) = sealed else { return Ok(None) };
        let open = self.shared.sealed(&sealed)?;
        let segment = sealed.header.start.height;
        Ok(open.table.frame_of(height).map(|frame| Found {
            segment,
            file: open.file.clone(),
            frame,
        }))
    }

    /// The verified frame of a height, with its place for messages.
    fn frame_at(
        &self,
        height: u64,
    ) -> Result<Option<(Arc<DecodedFrame>, u64, PathBuf)>, ReadError> {
        let Some(found) = self.find(height)? else { return Ok(None) };
        let path = self.shared.dir.join(segment_name(found.segment));
        let offset = u64::from(found.frame.start_sector) * SECTOR_BYTES as u64;
        let key = (found.segment, found.frame.start_sector);
        if let Some(frame) = self.shared.frames.lock().get(&key) {
            return Ok(Some((frame, offset, path)));
        }
        let mut bytes = vec![0; found.frame.sectors as usize * SECTOR_BYTES];
        if let Err(source) = found.file.read_exact_at(&mut bytes, offset) {
            return Err(ReadError::Io { what: "read", path, height, source });
        }
        let corrupt =
            |what: String| ReadError::Corrupt { path: path.clone(), offset, height, what };
        let frame = decode_frame(&bytes).map_err(|error| corrupt(error.to_string()))?;
        let header = &frame.header;
        if (header.first_height, header.sectors) != (found.frame.first_height, found.frame.sectors)
        {
            return Err(corrupt(format!(
                "the frame starts at height {}, expected {}",
                header.first_height, found.frame.first_height
            )));
        }
        let frame = Arc::new(frame);
        if frame.memory_bytes() <= FRAME_CACHED_BYTES_MAX {
            self.shared.frames.lock().put(key, frame.clone());
        }
        Ok(Some((frame, offset, path)))
    }
}

/// Blocks in the order of their heights; see [`LogReader::iter_from`].
pub struct BlockIter {
    reader: LogReader,
    next: u64,
    failed: bool,
}

impl Iterator for BlockIter {
    type Item = Result<Block, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.reader.read_block(self.next).transpose()?;
        match &item {
            Ok(_) => self.next += 1,
            Err(_) => self.failed = true,
        }
        Some(item)
    }
}
