//! Errors of the log, one type per operation. Each says what is wrong and what would be right.

use crate::bytes::hex;
use std::io;
use std::path::PathBuf;

/// Why a log was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// An I/O operation failed; nothing was changed because of it.
    #[error("cannot {what} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another writer has the log open.
    #[error("{path} is locked: another process has this log open; stop it first",
        path = path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// An option has a value that cannot work.
    #[error("option segment_bytes is {found}: it must be a multiple of 512 from 1,024 to {max}")]
    SegmentBytes {
        /// The value given.
        found: u64,
        /// The largest allowed.
        max: u64,
    },
    /// Acknowledged data is damaged. The log is left as it is; restore it from a replica.
    #[error("{path} is damaged at byte {offset} (height {height}): {what}; \
        restore this file from another copy or a backup", path = path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// First height that cannot be vouched for.
        height: u64,
        /// What is wrong.
        what: String,
    },
    /// The log belongs to another chain.
    #[error("{path} belongs to chain {}, not to {}; is the directory the right one?",
        hex(found), hex(expected), path = path.display())]
    WrongChain {
        /// The segment file.
        path: PathBuf,
        /// The chain asked for.
        expected: [u8; 32],
        /// The chain in the file.
        found: [u8; 32],
    },
    /// The file is of a format this build does not read.
    #[error("{path} has format version {found}, this build reads version {known}; \
        use the release that wrote it, or a newer one", path = path.display())]
    UnknownVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u16,
        /// The version this build reads.
        known: u16,
    },
    /// The log does not begin with its first segment.
    #[error("the log in {dir} begins with the segment of height {found}, \
        but an earlier one, of height {missing}, belongs before it", dir = dir.display())]
    MissingFirstSegment {
        /// The log's directory.
        dir: PathBuf,
        /// First height of the earliest segment present.
        found: u64,
        /// First height of the segment that should precede it.
        missing: u64,
    },
    /// A segment in the middle is missing.
    #[error("{path} must follow the segment of height {expected}, \
        but the segment before it is that of height {found}: files are missing or foreign",
        path = path.display())]
    SegmentGap {
        /// The segment after the gap.
        path: PathBuf,
        /// First height of the segment it names as its predecessor.
        expected: u64,
        /// First height of the segment that is there.
        found: u64,
    },
    /// A file ends in `.seg` but its name or content is not that of a segment.
    #[error("{path} is not a segment of this log: its name must be its first height, {expected}, \
        in 20 digits", path = path.display())]
    SegmentName {
        /// The file.
        path: PathBuf,
        /// What the header says, or "a number".
        expected: String,
    },
}

/// Why blocks were not appended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// An earlier write or sync failed. Nothing is known about what reached the disk, and
    /// asking again would not tell; only opening the log again does.
    #[error("the log accepts nothing since an earlier failure ({cause}); open it again")]
    Poisoned {
        /// The failure.
        cause: String,
    },
    /// There is no room for the group. Nothing was written; the append may be tried again.
    #[error("no space for a segment of {needed_bytes} bytes at {path}: {source}; \
        free some space, then append again", path = path.display())]
    DiskFull {
        /// The file that could not be allocated.
        path: PathBuf,
        /// Its size.
        needed_bytes: u64,
        /// What the system said.
        source: io::Error,
    },
    /// Heights are not consecutive. Nothing was written.
    #[error("block {position} of the group has height {found}, expected {expected}")]
    Height {
        /// Index of the block in the group.
        position: usize,
        /// The height it must have.
        expected: u64,
        /// The height it has.
        found: u64,
    },
    /// The group does not fit into a frame. Nothing was written.
    #[error(
        "the group has {found_bytes} bytes, a frame holds at most {max_bytes}; append \
        fewer blocks at once"
    )]
    TooLarge {
        /// Payload bytes of the group, or length of its largest block.
        found_bytes: u64,
        /// The limit.
        max_bytes: u64,
    },
    /// Writing failed; the log is now poisoned.
    #[error("cannot {what} {path} at byte {offset} for height {height}: {source}; \
        the log must be opened again", path = path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// First height of the group.
        height: u64,
        /// What the system said.
        source: io::Error,
    },
}

/// Why the log was not truncated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TruncateError {
    /// An earlier write or sync failed; see [`AppendError::Poisoned`].
    #[error("the log accepts nothing since an earlier failure ({cause}); open it again")]
    Poisoned {
        /// The failure.
        cause: String,
    },
    /// The segment that would be the last one could not be read, or is damaged. Nothing was
    /// changed: the segments above it are still there.
    #[error("the log was not truncated: {0}")]
    Read(#[from] ReadError),
    /// Removing a segment failed; the log is now poisoned. What is kept can be read.
    #[error("cannot {what} {path}: {source}; the log must be opened again", path = path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a block was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// An I/O operation failed.
    #[error("cannot {what} {path} (height {height}): {source}", path = path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The height asked for.
        height: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The block is damaged on disk.
    #[error("{path} is damaged at byte {offset} (height {height}): {what}; \
        restore this file from another copy or a backup", path = path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// The height concerned.
        height: u64,
        /// What is wrong.
        what: String,
    },
}

/// Why the next segment could not be prepared. Harmless: append tries again itself.
#[derive(Debug, thiserror::Error)]
#[error("cannot allocate {bytes} bytes at {path}: {source}", path = path.display())]
pub struct PrepareError {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// What the system said.
    pub source: io::Error,
}

/// What can go wrong while a segment is scanned, at open or behind a read.
#[derive(Debug)]
pub(crate) enum ScanError {
    Io { path: PathBuf, height: u64, source: io::Error },
    Version { path: PathBuf, found: u16 },
    Corrupt { path: PathBuf, offset: u64, height: u64, what: String },
}

impl From<ScanError> for OpenError {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Io { path, source, .. } => Self::Io { what: "read", path, source },
            ScanError::Version { path, found } => {
                Self::UnknownVersion { path, found, known: crate::log::frame::FRAME_VERSION }
            }
            ScanError::Corrupt { path, offset, height, what } => {
                Self::Corrupt { path, offset, height, what }
            }
        }
    }
}

impl From<ScanError> for ReadError {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Io { path, height, source } => {
                Self::Io { what: "read", path, height, source }
            }
            ScanError::Version { path, found } => {
                let what = format!("a frame of format version {found}");
                Self::Corrupt { path, offset: 0, height: 0, what }
            }
            ScanError::Corrupt { path, offset, height, what } => {
                Self::Corrupt { path, offset, height, what }
            }
        }
    }
}
