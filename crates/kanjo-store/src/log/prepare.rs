//! Allocating segments ahead of time, so that appending does not wait for it.
//!
//! A segment is filled with written zeros and synced before it is used: from then on writing
//! into it cannot run out of space, and syncing it does not have to update the file's size.

use crate::disk::{Disk, DiskFile, DiskLock};
use crate::log::error::PrepareError;
use crate::log::read::Shared;
use parking_lot::Mutex;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const ZEROS_BYTES: usize = 1 << 20;

/// An allocated file that is not yet a segment.
pub(crate) struct Allocated {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

/// Prepares the next segment and writes sidecars; may be called from any thread, at any time.
#[derive(Clone)]
pub struct Preparer {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    segment_bytes: u64,
    slot: Mutex<Option<Allocated>>,
    ready: AtomicBool,
    /// Numbers the files: a name is never used again while its file may still be in use.
    allocated: AtomicU64,
    // Held as long as anyone may still write into the directory.
    _lock: Box<dyn DiskLock>,
}

impl Preparer {
    pub(crate) fn new(shared: Arc<Shared>, segment_bytes: u64, lock: Box<dyn DiskLock>) -> Self {
        let slot = Mutex::new(None);
        let ready = AtomicBool::new(false);
        let allocated = AtomicU64::new(0);
        let inner = Inner { shared, segment_bytes, slot, ready, allocated, _lock: lock };
        Self { inner: Arc::new(inner) }
    }

    /// Allocates the next segment if there is none in reserve, and writes waiting sidecars.
    /// Returns whether there was anything to do. An error is harmless: nothing depends on it,
    /// and the next call or append tries again with a fresh file.
    pub fn prepare_next(&self) -> Result<bool, PrepareError> {
        let flushed = self.inner.shared.flush_sidecars();
        let mut slot = self.inner.slot.lock();
        if slot.is_some() {
            return Ok(flushed);
        }
        *slot = Some(self.allocate(self.inner.segment_bytes)?);
        self.inner.ready.store(true, Ordering::Release);
        Ok(true)
    }

    /// Whether a segment is in reserve.
    pub fn is_ready(&self) -> bool {
        self.inner.ready.load(Ordering::Acquire)
    }

    /// Takes the reserve if it is large enough, or allocates a file that is.
    pub(crate) fn take(&self, bytes: u64) -> Result<Allocated, PrepareError> {
        if bytes > self.inner.segment_bytes {
            return self.allocate(bytes);
        }
        let mut slot = self.inner.slot.lock();
        self.inner.ready.store(false, Ordering::Release);
        match slot.take() {
            Some(allocated) => Ok(allocated),
            None => {
                // Nobody prepares in the background, so the sidecars wait for us too.
                self.inner.shared.flush_sidecars();
                self.allocate(self.inner.segment_bytes)
            }
        }
    }

    fn allocate(&self, bytes: u64) -> Result<Allocated, PrepareError> {
        let number = self.inner.allocated.fetch_add(1, Ordering::Relaxed);
        let path = self.inner.shared.dir.join(format!("prepared-{number}.tmp"));
        let disk = &*self.inner.shared.disk;
        match write_zeros(disk, &path, bytes) {
            Ok(file) => Ok(Allocated { file, path, bytes }),
            Err(source) => {
                // Gives the space back; if that fails too, opening the log removes it.
                let _ = disk.remove(&path);
                Err(PrepareError { path, bytes, source })
            }
        }
    }
}

fn write_zeros(disk: &dyn Disk, path: &Path, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
    let file = disk.create(path)?;
    let zeros = vec![0; ZEROS_BYTES.min(usize::try_from(bytes).unwrap_or(ZEROS_BYTES))];
    let mut offset = 0;
    while offset < bytes {
        let len = (bytes - offset).min(zeros.len() as u64) as usize;
        file.write_all_at(zeros.split_at(len).0, offset)?;
        offset += len as u64;
    }
    file.sync_data()?;
    Ok(file)
}
