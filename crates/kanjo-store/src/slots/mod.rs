//! A tiny durable record that is replaced as a whole: what a voter must not forget.
//!
//! ```text
//!                ┌──────────── slot 0 ┐     even sequences
//!  write(bytes) ─┤                    ├─ one positioned write, one sync
//!                └──────────── slot 1 ┘     odd sequences
//! ```
//!
//! The two slots take turns, so the record before is whole while the next is written. Every
//! sector has its own checksum (`format.rs`), so a torn write is told from damage.
//!
//! Invariants:
//! - after `write` has returned `Ok`, `open` returns that record or a newer one, or refuses;
//! - a torn write gives way to the record before it; damage never does: it is refused, since
//!   an older vote passed off as the newest would allow a second one;
//! - what `open` has returned stays, also if it had been in the page cache only;
//! - after a write or sync has failed, nothing is written until the file is opened again.

mod format;

pub use format::{FILE_BYTES, SlotFault, SlotRecord, decode};

use crate::disk::{Disk, DiskFile, DiskLock, create_dir_durably};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The longest record.
pub const PAYLOAD_BYTES_MAX: usize = 4_096;

/// Why a slot file was not opened or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SlotError {
    /// An I/O operation failed. If it was a write, the file takes nothing until opened again.
    #[error("cannot {what} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another holder has the file open.
    #[error("{path} is locked: another process has this record open; stop it first",
        path = path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The record cannot be trusted. The file is left as it is.
    #[error("{path} is damaged: {fault}; an older copy of it would be worse than none, since \
        what was signed after it would be forgotten", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: SlotFault,
    },
    /// The record is too long. Nothing was written.
    #[error("the record has {found_bytes} bytes, at most {PAYLOAD_BYTES_MAX} fit")]
    TooLarge {
        /// Its length.
        found_bytes: usize,
    },
    /// An earlier write or sync failed; nothing is known about what reached the disk.
    #[error("the file accepts nothing since an earlier failure ({cause}); open it again")]
    Poisoned {
        /// The failure.
        cause: String,
    },
}

/// A record on disk, held by one owner.
pub struct SlotFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    next_sequence: u64,
    poisoned: Option<String>,
    // Two holders would overwrite each other's slots.
    _lock: Box<dyn DiskLock>,
}

impl SlotFile {
    /// Opens the file, or makes it, and returns the newest record if there is one. The lock
    /// is `path` with `.lock` behind it.
    pub fn open(disk: Arc<dyn Disk>, path: &Path) -> Result<(Self, Option<Vec<u8>>), SlotError> {
        let dir = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        create_dir_durably(&*disk, dir).map_err(at("create", dir))?;
        let lock_path = with_suffix(path, ".lock");
        let lock = disk.lock(&lock_path).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => SlotError::Locked { path: lock_path.clone() },
            _ => SlotError::Io { what: "lock", path: lock_path.clone(), source },
        })?;
        let file = match disk.open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => create(&*disk, path)?,
            opened => opened.map_err(at("open", path))?,
        };
        // A process may have died between the rename and the sync that makes it durable.
        disk.sync_dir(dir).map_err(at("sync", dir))?;
        let record = read(&*file, path)?;
        if let Some(record) = &record {
            // It may be in the page cache only, left there by a failed sync, and somebody is
            // about to act on it: a sync alone would not save it.
            let bytes = format::encode(record.sequence, &record.payload);
            file.write_all_at(&bytes, format::slot_offset(record.sequence))
                .and_then(|()| file.sync_data())
                .map_err(at("make durable", path))?;
        }
        let last = record.as_ref().map_or(0, |record| record.sequence);
        let Some(next_sequence) = last.checked_add(1) else {
            let fault = SlotFault::Content("the last sequence there is");
            return Err(SlotError::Damaged { path: path.to_owned(), fault });
        };
        let path = path.to_owned();
        let slots = Self { file, path, next_sequence, poisoned: None, _lock: lock };
        Ok((slots, record.map(|record| record.payload)))
    }

    /// Replaces the record. When this returns `Ok` it is durable.
    pub fn write(&mut self, payload: &[u8]) -> Result<(), SlotError> {
        if let Some(cause) = &self.poisoned {
            return Err(SlotError::Poisoned { cause: cause.clone() });
        }
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(SlotError::TooLarge { found_bytes: payload.len() });
        }
        let sequence = self.next_sequence;
        let bytes = format::encode(sequence, payload);
        let offset = format::slot_offset(sequence);
        let written = self.file.write_all_at(&bytes, offset).map_err(at("write", &self.path));
        let synced = written
            .and_then(|()| self.file.sync_data().map_err(at("sync", &self.path)))
            .inspect_err(|error| self.poisoned = Some(error.to_string()));
        synced.map(|()| self.next_sequence = sequence.saturating_add(1))
    }

    /// Whether only opening again helps.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned.is_some()
    }
}

fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SlotError {
    let path = path.to_owned();
    move |source| SlotError::Io { what, path, source }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Makes the file full of zeros under a temporary name, so that one with its name is whole.
fn create(disk: &dyn Disk, path: &Path) -> Result<Arc<dyn DiskFile>, SlotError> {
    let temporary = with_suffix(path, ".tmp");
    let file = disk.create(&temporary).map_err(at("create", &temporary))?;
    file.write_all_at(&[0; FILE_BYTES], 0)
        .and_then(|()| file.sync_data())
        .map_err(at("allocate", &temporary))?;
    disk.rename(&temporary, path).map_err(at("name", path))?;
    Ok(file)
}

fn read(file: &dyn DiskFile, path: &Path) -> Result<Option<SlotRecord>, SlotError> {
    let damaged = |fault| SlotError::Damaged { path: path.to_owned(), fault };
    let found = file.byte_len().map_err(at("read", path))?;
    if found != FILE_BYTES as u64 {
        return Err(damaged(SlotFault::Length(found)));
    }
    let mut bytes = vec![0; FILE_BYTES];
    file.read_exact_at(&mut bytes, 0).map_err(at("read", path))?;
    decode(&bytes).map_err(damaged)
}
