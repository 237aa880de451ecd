//! Reading while appending: readers share an index that advances only after the sync, so a
//! reader never sees a block that a crash could take back.

use crate::disk::{Disk, DiskFile, SECTOR_BYTES};
use crate::log::error::{ReadError, ScanError};
use crate::log::frame::{DecodedFrame, decode_frame};
use crate::log::recover::Scan;
use crate::log::segment::{SegmentHeader, segment_name};
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
/// Truncations that may overtake one read before its error is believed.
const TRUNCATIONS_OVERTAKING_MAX: usize = 8;

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
    /// Where the next frame goes: behind all others, truncated ones included.
    pub(crate) end_offset: u64,
}

impl Active {
    /// Bytes left for frames.
    pub(crate) fn room(&self) -> u64 {
        assert!(self.end_offset <= self.header.file_bytes, "frames lie inside their segment");
        self.header.file_bytes - self.end_offset
    }
}

/// What readers see of the log.
pub(crate) struct LogIndex {
    pub(crate) sealed: Vec<Sealed>,
    pub(crate) active: Option<Active>,
    pub(crate) first_height: u64,
    pub(crate) next_height: u64,
    /// Grows when a file leaves the log, whose name may come again with other content.
    pub(crate) generation: u64,
}

/// A sealed segment in use.
pub(crate) struct OpenSegment {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) table: Arc<FrameTable>,
}

/// Generation of the log, segment, first sector.
type FrameKey = (u64, u64, u32);
/// First height of a segment and where it ends: a segment that is active again after a
/// truncation ends elsewhere when it is sealed the next time.
type SegmentKey = (u64, Position);

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

    fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.entries.retain(|(key, _)| keep(key));
    }
}

/// State shared by the appender, the preparer and all readers.
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) chain_id: ChainId,
    pub(crate) index: RwLock<LogIndex>,
    frames: Mutex<Recent<FrameKey, DecodedFrame>>,
    segments: Mutex<Recent<SegmentKey, OpenSegment>>,
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
        self.segments.lock().put((table.start.height, table.next), Arc::new(open));
        let mut waiting = self.sidecars_waiting.lock();
        if waiting.len() < SIDECARS_WAITING_MAX {
            waiting.push(table);
        }
    }

    /// Lets go of files and tables of the segments that start at `height` or above.
    pub(crate) fn forget_sealed_from(&self, height: u64) {
        self.segments.lock().retain(|(start, _)| *start < height);
        self.sidecars_waiting.lock().retain(|table| table.start.height < height);
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
        let key = (start.height, sealed.end);
        if let Some(open) = self.segments.lock().get(&key) {
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
            self.segments.lock().put(key, open.clone());
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

/// A frame with its offset and file, for messages.
type FrameAt = (Arc<DecodedFrame>, u64, PathBuf);

fn not_in_frame(path: PathBuf, offset: u64, height: u64) -> ReadError {
    let what = "the frame here does not hold this height".to_owned();
    ReadError::Corrupt { path, offset, height, what }
}

/// A frame found for a height.
struct Found {
    generation: u64,
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
            None => Err(not_in_frame(path, offset, height)),
        }
    }

    /// The first `len` bytes of the block at `height`, or all if it has fewer; `None` if the
    /// log does not hold it. Reads and verifies the frame as [`read`](Self::read) does, if it
    /// is not cached, but copies no more than asked.
    pub fn read_prefix(&self, height: u64, len: usize) -> Result<Option<Vec<u8>>, ReadError> {
        let Some((frame, offset, path)) = self.frame_at(height)? else { return Ok(None) };
        let bytes = frame.block(height).map(|(_, bytes)| bytes);
        let bytes = bytes.ok_or_else(|| not_in_frame(path, offset, height))?;
        Ok(Some(bytes.get(..len).unwrap_or(bytes).to_vec()))
    }

    /// Where the block at `height` lies; `None` if the log does not hold it.
    pub fn location(&self, height: u64) -> Result<Option<Location>, ReadError> {
        let found = self.past_truncations(|| self.find(height))?;
        Ok(found.map(|found| Location {
            height,
            segment: found.segment,
            frame_offset: u64::from(found.frame.start_sector) * SECTOR_BYTES as u64,
            frame_bytes: u64::from(found.frame.sectors) * SECTOR_BYTES as u64,
            index_in_frame: (height - found.frame.first_height) as u32,
        }))
    }

    /// Blocks from `height` to the end of the log, as far as it has come when asked. Each is
    /// looked up when it is its turn: after a truncation those that took the place of others.
    pub fn iter_from(&self, height: u64) -> BlockIter {
        BlockIter { reader: self.clone(), next: height, failed: false }
    }

    /// Header hashes of these heights, without reading the blocks of sealed segments.
    /// Heights beyond the log are left out.
    pub fn header_hashes(&self, range: Range<u64>) -> Result<Vec<HeaderHash>, ReadError> {
        self.past_truncations(|| self.header_hashes_once(&range))
    }

    fn header_hashes_once(&self, range: &Range<u64>) -> Result<Vec<HeaderHash>, ReadError> {
        // One look at the index, so that a segment sealed meanwhile is neither missed nor twice.
        let (sealed, in_active) = {
            let index = self.shared.index.read();
            let overlaps = |sealed: &&Sealed| {
                sealed.header.start.height < range.end && range.start < sealed.end.height
            };
            let sealed: Vec<Sealed> = index.sealed.iter().filter(overlaps).copied().collect();
            let active = index.active.as_ref().map(|active| active.table.hashes_in(range));
            (sealed, active.unwrap_or_default().to_vec())
        };
        let mut hashes = Vec::new();
        for sealed in &sealed {
            hashes.extend_from_slice(self.shared.sealed(sealed)?.table.hashes_in(range));
        }
        hashes.extend(in_active);
        Ok(hashes)
    }

    /// Tries again if a file has left the log meanwhile: what looked like a missing or
    /// foreign file was a truncation.
    fn past_truncations<T>(
        &self,
        attempt: impl Fn() -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        for _ in 1..TRUNCATIONS_OVERTAKING_MAX {
            let before = self.shared.index.read().generation;
            match attempt() {
                Err(_) if self.shared.index.read().generation != before => {}
                outcome => return outcome,
            }
        }
        attempt()
    }

    fn find(&self, height: u64) -> Result<Option<Found>, ReadError> {
        let (sealed, generation) = {
            let index = self.shared.index.read();
            let generation = index.generation;
            if height < index.first_height || height >= index.next_height {
                return Ok(None);
            }
            if let Some(active) = &index.active
                && let Some(frame) = active.table.frame_of(height)
            {
                let segment = active.header.start.height;
                let file = active.file.clone();
                return Ok(Some(Found { generation, segment, file, frame }));
            }
            let after = index.sealed.partition_point(|s| s.header.start.height <= height);
            (after.checked_sub(1).and_then(|at| index.sealed.get(at)).copied(), generation)
        };
        let Some(sealed) = sealed else { return Ok(None) };
        let open = self.shared.sealed(&sealed)?;
        let segment = sealed.header.start.height;
        Ok(open.table.frame_of(height).map(|frame| Found {
            generation,
            segment,
            file: open.file.clone(),
            frame,
        }))
    }

    /// The verified frame of a height, with its place for messages.
    fn frame_at(&self, height: u64) -> Result<Option<FrameAt>, ReadError> {
        self.past_truncations(|| self.frame_at_once(height))
    }

    fn frame_at_once(&self, height: u64) -> Result<Option<FrameAt>, ReadError> {
        let Some(found) = self.find(height)? else { return Ok(None) };
        let path = self.shared.dir.join(segment_name(found.segment));
        let offset = u64::from(found.frame.start_sector) * SECTOR_BYTES as u64;
        let key = (found.generation, found.segment, found.frame.start_sector);
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
