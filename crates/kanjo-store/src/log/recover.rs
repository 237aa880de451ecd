//! Recovery: which frames of a segment are whole, and whether what follows is torn or damaged.
//!
//! Frame N+1 is written only after frame N was synced. So at most the last frame of the log
//! can be torn, and a torn write leaves whole sectors: each either as written or blank.
//! Written sectors are never blank (see `sector.rs`). Hence, where the first frame is bad:
//!
//! | first bad sector            | something of a later frame? | verdict                      |
//! |-----------------------------|-----------------------------|------------------------------|
//! | blank                       | no                          | end of log; zero any remains |
//! | header whole, a sector blank| no                          | torn, never acknowledged: cut|
//! | either of these             | yes                         | was acknowledged: refuse     |
//! | header whole, no blank one  | –                           | bit rot: refuse              |
//! | written, but not a header   | –                           | bit rot: refuse              |
//!
//! In a segment that another one follows nothing is cut: the successor's header proves that
//! all its frames were synced.
//!
//! After a truncation frames go *back*: one that starts below the end of those before it, but
//! not below the start of its segment, supersedes what they say of its heights and above.
//! Sequence and previous id go on as ever, so a truncation weakens none of the above.

use crate::disk::{DiskFile, SECTOR_BYTES};
use crate::log::error::ScanError;
use crate::log::frame::{DecodedFrame, FrameError, FrameHeader, decode_frame};
use crate::log::sector::{Tag, is_blank};
use crate::log::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::log::sidecar::read_whole;
use crate::log::table::{FrameTable, Position};
use std::ops::Range;
use std::path::Path;

/// A segment read into memory and its whole frames.
pub(crate) struct Scan<'a> {
    path: &'a Path,
    pub(crate) bytes: Vec<u8>,
    pub(crate) table: FrameTable,
    /// Where the frames end.
    pub(crate) end: usize,
    /// What is at `end`; `None` if it is the end of the file.
    stop: Option<FrameError>,
}

impl<'a> Scan<'a> {
    /// Reads the segment and verifies frame after frame.
    pub(crate) fn run(
        file: &dyn DiskFile,
        path: &'a Path,
        header: &SegmentHeader,
    ) -> Result<Self, ScanError> {
        let height = header.start.height;
        let bytes = read_whole(file).map_err(|source| ScanError::Io {
            path: path.to_owned(),
            height,
            source,
        })?;
        let table = FrameTable::new(header.start);
        let mut scan = Self { path, bytes, table, end: SEGMENT_HEADER_BYTES, stop: None };
        loop {
            let rest = scan.bytes.get(scan.end..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(scan);
            }
            match decode_frame(rest) {
                Ok(frame) => scan.accept(&frame)?,
                Err(error) => {
                    scan.stop = Some(error);
                    return Ok(scan);
                }
            }
        }
    }

    fn accept(&mut self, frame: &DecodedFrame) -> Result<(), ScanError> {
        let header = &frame.header;
        let next = self.table.next;
        let follows = (header.sequence, header.previous_id) == (next.sequence, next.previous_id);
        let heights = self.table.start.height..=next.height;
        if !follows || !heights.contains(&header.first_height) {
            return Err(self.corrupt(format!(
                "frame {} of height {} does not continue the log, which goes on with frame {} \
                 of height {}",
                header.sequence, header.first_height, next.sequence, next.height
            )));
        }
        self.table.truncate_to(header.first_height);
        let start_sector = (self.end / SECTOR_BYTES) as u32;
        self.table.push(header, start_sector, frame.header_hashes());
        self.end += header.sectors as usize * SECTOR_BYTES;
        Ok(())
    }

    fn corrupt(&self, what: String) -> ScanError {
        ScanError::Corrupt {
            path: self.path.to_owned(),
            offset: self.end as u64,
            height: self.table.next.height,
            what,
        }
    }

    /// Bytes of the last whole frame and their place, if the segment has one.
    pub(crate) fn last_frame(&self) -> Option<(&[u8], u64)> {
        let start = self.table.frames.last()?.start_sector as usize * SECTOR_BYTES;
        Some((self.bytes.get(start..self.end)?, start as u64))
    }

    /// Frames read and verified, superseded ones included.
    pub(crate) fn frames_verified(&self) -> u64 {
        self.table.next.sequence - self.table.start.sequence
    }

    /// For a segment that another follows: its frames must end exactly where that one starts,
    /// or above if the log was truncated just before that one was begun.
    pub(crate) fn expect_sealed(mut self, end: Position) -> Result<FrameTable, ScanError> {
        let next = self.table.next;
        let all_there = (next.sequence, next.previous_id) == (end.sequence, end.previous_id);
        if all_there && (self.table.start.height..=next.height).contains(&end.height) {
            self.table.truncate_to(end.height);
            return Ok(self.table);
        }
        if let Some(FrameError::Version(found)) = self.stop {
            return Err(ScanError::Version { path: self.path.to_owned(), found });
        }
        let why = self.stop.map_or("the file ends".to_owned(), |error| error.to_string());
        Err(self.corrupt(format!(
            "{why}; the next segment says that frames up to {} were acknowledged",
            end.sequence
        )))
    }

    /// For the last segment: the range to overwrite with zeros, empty if the log ends cleanly.
    pub(crate) fn settle_tail(&self) -> Result<Range<usize>, ScanError> {
        let why = match self.stop {
            None => return Ok(self.end..self.end),
            Some(error @ (FrameError::Blank | FrameError::Torn { .. })) => error,
            Some(FrameError::Version(found)) => {
                return Err(ScanError::Version { path: self.path.to_owned(), found });
            }
            Some(error) => return Err(self.corrupt(error.to_string())),
        };
        let mut remains_end = self.end;
        let rest = self.bytes.get(self.end..).unwrap_or_default();
        for (index, sector) in rest.chunks(SECTOR_BYTES).enumerate() {
            if sector.iter().all(|byte| *byte == 0) {
                continue;
            }
            let offset = self.end + index * SECTOR_BYTES;
            remains_end = offset + sector.len();
            if self.is_of_later_frame(sector, index) {
                return Err(self.corrupt(format!(
                    "{why}; but a later frame was begun at byte {offset}, so this one had been \
                     acknowledged"
                )));
            }
        }
        Ok(self.end..remains_end)
    }

    /// Whether a sector `index` sectors behind the end proves that a later frame was written.
    fn is_of_later_frame(&self, sector: &[u8], index: usize) -> bool {
        if is_blank(sector) {
            return false;
        }
        let expected = self.table.next.sequence;
        let Some(tag) = Tag::decode(sector) else { return false };
        if tag.is_of(expected + 1) {
            return true;
        }
        index > 0 && tag.starts_frame() && FrameHeader::decode(sector).is_ok()
    }
}
