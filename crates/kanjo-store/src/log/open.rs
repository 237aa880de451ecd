//! Opening a log: check that the segments belong together, settle the tail, make it durable.

use crate::ChainId;
use crate::disk::{Disk, DiskFile, DiskLock, SECTOR_BYTES, create_dir_durably};
use crate::log::append::{BlockLog, LogOptions};
use crate::log::error::OpenError;
use crate::log::prepare::Preparer;
use crate::log::read::{Active, LogIndex, Sealed, Shared};
use crate::log::recover::Scan;
use crate::log::segment::{
    SEGMENT_HEADER_BYTES, SEGMENT_VERSION, SegmentHeader, SegmentHeaderError, parse_name,
    segment_name, sidecar_name,
};
use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LOCK_NAME: &str = "LOCK";
/// A log larger than a frame can fill makes no sense, and sector numbers have 32 bits.
pub(crate) const SEGMENT_BYTES_MAX: u64 = 8 << 30;

/// What opening found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Segments of the log.
    pub segments: usize,
    /// Frames read and verified.
    pub frames_verified: usize,
    /// Height after the last block.
    pub next_height: u64,
    /// Bytes of a torn write that were overwritten with zeros; 0 after a clean stop.
    pub truncated_bytes: u64,
    /// File and offset of what was cut.
    pub truncated_at: Option<(PathBuf, u64)>,
    /// Sidecars that were missing and built again.
    pub sidecars_rebuilt: usize,
    /// Temporary files of an interrupted preparation that were removed.
    pub leftovers_removed: usize,
}

pub(crate) fn open(
    disk: Arc<dyn Disk>,
    dir: &Path,
    chain_id: ChainId,
    options: LogOptions,
) -> Result<(BlockLog, OpenReport), OpenError> {
    let found = options.segment_bytes;
    let fits = (2 * SECTOR_BYTES as u64..=SEGMENT_BYTES_MAX).contains(&found);
    if !fits || !found.is_multiple_of(SECTOR_BYTES as u64) {
        return Err(OpenError::SegmentBytes { found, max: SEGMENT_BYTES_MAX });
    }
    let at = |what: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| OpenError::Io { what, path, source }
    };
    create_dir_durably(&*disk, dir).map_err(at("create", dir))?;
    let lock = take_lock(&*disk, dir)?;
    let names = disk.list(dir).map_err(at("list", dir))?;
    let mut report = OpenReport::default();
    for name in names.iter().filter(|name| name.ends_with(".tmp")) {
        let path = dir.join(name);
        disk.remove(&path).map_err(at("remove", &path))?;
        report.leftovers_removed += 1;
    }
    // A process may have died between a rename and the sync that makes it durable.
    disk.sync_dir(dir).map_err(at("sync", dir))?;

    let mut segments = read_headers(&*disk, dir, &chain_id, &names)?;
    check_chain_of_segments(dir, &segments)?;
    report.segments = segments.len();
    let active = match segments.pop() {
        Some((header, file)) => Some(settle_last(dir, header, file, &mut report)?),
        None => None,
    };
    let sealed = pair_with_ends(&segments, active.as_ref());
    let next_height = active.as_ref().map_or(options.first_height, |a| a.table.next.height);
    let first = sealed.first().map(|s| s.header.start.height);
    let first_height =
        first.or(active.as_ref().map(|a| a.header.start.height)).unwrap_or(options.first_height);
    report.next_height = next_height;

    let sealed_too = sealed.clone();
    let index = LogIndex { sealed: sealed_too, active, first_height, next_height, generation: 0 };
    let shared = Arc::new(Shared::new(disk, dir.to_owned(), chain_id, index));
    let present: HashSet<&str> = names.iter().map(String::as_str).collect();
    for segment in &sealed {
        if !present.contains(sidecar_name(segment.header.start.height).as_str()) {
            shared.rebuild_sidecar(segment)?;
            report.sidecars_rebuilt += 1;
        }
    }
    let preparer = Preparer::new(shared.clone(), options.segment_bytes, lock);
    Ok((BlockLog::new(shared, preparer, options), report))
}

fn take_lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn DiskLock>, OpenError> {
    let path = dir.join(LOCK_NAME);
    disk.lock(&path).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => OpenError::Locked { path },
        _ => OpenError::Io { what: "lock", path, source },
    })
}

type Segments = Vec<(SegmentHeader, Arc<dyn DiskFile>)>;

/// Reads and checks the header of each segment, in the order of their heights.
fn read_headers(
    disk: &dyn Disk,
    dir: &Path,
    chain_id: &ChainId,
    names: &[String],
) -> Result<Segments, OpenError> {
    let mut segments = Vec::new();
    // Zero-padded names sort like their heights.
    for name in names.iter().filter(|name| name.ends_with(".seg")) {
        let path = dir.join(name);
        let Some(height) = parse_name(name, ".seg") else {
            return Err(OpenError::SegmentName { path, expected: "a number".to_owned() });
        };
        let io = |source| OpenError::Io { what: "read", path: path.clone(), source };
        let file = disk.open(&path).map_err(io)?;
        let file_bytes = file.byte_len().map_err(io)?;
        let mut sector = vec![0; SEGMENT_HEADER_BYTES.min(file_bytes as usize)];
        file.read_exact_at(&mut sector, 0).map_err(io)?;
        let header = SegmentHeader::decode(&sector);
        segments.push((check_header(path, height, chain_id, header, file_bytes)?, file));
    }
    Ok(segments)
}

fn check_header(
    path: PathBuf,
    height: u64,
    expected: &ChainId,
    header: Result<SegmentHeader, SegmentHeaderError>,
    file_bytes: u64,
) -> Result<SegmentHeader, OpenError> {
    let header = match header {
        Ok(header) => header,
        Err(SegmentHeaderError::Version(found)) => {
            return Err(OpenError::UnknownVersion { path, found, known: SEGMENT_VERSION });
        }
        Err(SegmentHeaderError::Damaged(what)) => {
            return Err(OpenError::Corrupt { path, offset: 0, height, what: what.to_owned() });
        }
    };
    if header.chain_id != *expected {
        let (expected, found) = (*expected, header.chain_id);
        return Err(OpenError::WrongChain { path, expected, found });
    }
    if header.start.height != height {
        return Err(OpenError::SegmentName { path, expected: header.start.height.to_string() });
    }
    if header.file_bytes != file_bytes {
        let what = format!("the file has {file_bytes} bytes, not {}", header.file_bytes);
        return Err(OpenError::Corrupt { path, offset: file_bytes, height, what });
    }
    Ok(header)
}

fn check_chain_of_segments(dir: &Path, segments: &Segments) -> Result<(), OpenError> {
    let mut before: Option<u64> = None;
    for (header, _) in segments {
        let start = header.start.height;
        match (before, header.previous_first_height) {
            (None, Some(missing)) => {
                let dir = dir.to_owned();
                return Err(OpenError::MissingFirstSegment { dir, found: start, missing });
            }
            (Some(found), expected) if expected != Some(found) => {
                let path = dir.join(segment_name(start));
                let expected = expected.unwrap_or(start);
                return Err(OpenError::SegmentGap { path, expected, found });
            }
            _ => before = Some(start),
        }
    }
    Ok(())
}

/// Each sealed segment ends where the one after it starts.
fn pair_with_ends(segments: &Segments, active: Option<&Active>) -> Vec<Sealed> {
    let starts = segments.iter().skip(1).map(|(header, _)| header.start);
    let ends = starts.chain(active.map(|active| active.header.start));
    segments.iter().zip(ends).map(|((header, _), end)| Sealed { header: *header, end }).collect()
}

/// Scans the last segment, cuts a torn write, and makes its last frame durable.
fn settle_last(
    dir: &Path,
    header: SegmentHeader,
    file: Arc<dyn DiskFile>,
    report: &mut OpenReport,
) -> Result<Active, OpenError> {
    let path = dir.join(segment_name(header.start.height));
    let scan = Scan::run(&*file, &path, &header)?;
    report.frames_verified = scan.frames_verified() as usize;
    let remains = scan.settle_tail()?;
    if !remains.is_empty() {
        report.truncated_bytes = remains.len() as u64;
        report.truncated_at = Some((path.clone(), remains.start as u64));
    }
    make_durable(&*file, &scan, &remains).map_err(|source| OpenError::Io {
        what: "repair the end of",
        path: path.clone(),
        source,
    })?;
    let end_offset = scan.end as u64;
    Ok(Active { header, file, table: scan.table, end_offset })
}

/// Zeros what is to be cut, and writes the last frame once more: if the process before died
/// after a failed sync, these bytes may be in the page cache only, marked as clean, and a sync
/// without a write would not save them.
fn make_durable(file: &dyn DiskFile, scan: &Scan<'_>, remains: &Range<usize>) -> io::Result<()> {
    let mut write = !remains.is_empty();
    if write {
        file.write_all_at(&vec![0; remains.len()], remains.start as u64)?;
    }
    if let Some((frame, offset)) = scan.last_frame() {
        file.write_all_at(frame, offset)?;
        write = true;
    }
    if write { file.sync_data() } else { Ok(()) }
}
