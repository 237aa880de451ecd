//! Truncating: forgetting uncommitted blocks at the end, as a replicated log must.
//!
//! ```text
//!  segment       0 ─ 4    5 ─ 9    10 ─ 14                  truncate_after(Some(6))
//!              ┌────────┬────────┬─────────┬ ─ ─ ─
//!              │ #0     │ #1     │ #2      │ blank          nothing is written
//!              └────────┴────────┴─────────┴ ─ ─ ─
//!                0 ─ 4    5 6 ╳ ╳  ╳ ╳ ╳ ╳   7 ─ 8
//!              ┌────────┬────────┬─────────┬────────┬ ─ ─   append from height 7
//!              │ #0     │ #1     │ #2      │ #3     │       #3 goes back and supersedes
//!              └────────┴────────┴─────────┴────────┴ ─ ─
//! ```
//!
//! Inside the active segment a truncation is a matter of memory: the next frame says by its
//! first height what it supersedes. Below it, the segments above the cut are removed, the
//! newest first, and the one with the cut becomes active again.
//!
//! Invariants:
//! - nothing at or below the height is written, moved or removed;
//! - the segment that becomes the last was read and verified before one above it is removed;
//! - a name is gone durably before the name below it goes, and before a frame is appended, so
//!   a crash leaves a log without gap;
//! - what a crash leaves is a state that this log once had (after some append), or a beginning
//!   of one, with everything at or below the height as it is. Blocks may be back that were
//!   truncated, also in an earlier truncation; blocks that never stood together never are;
//! - readers see the cut before the first file goes.

use crate::log::append::BlockLog;
use crate::log::error::{ReadError, ScanError, TruncateError};
use crate::log::read::{Active, Sealed};
use crate::log::recover::Scan;
use crate::log::segment::{segment_name, sidecar_name};
use std::io;
use std::path::PathBuf;

impl BlockLog {
    /// Forgets the heights above `height`, or all of them; the next block appended is the one
    /// behind it. Does nothing if there are none.
    ///
    /// Only for blocks that nobody was promised: until the next append, a crash may bring back
    /// what once was above `height`, these blocks or such as were truncated before them.
    pub fn truncate_after(&mut self, height: Option<u64>) -> Result<(), TruncateError> {
        if let Some(cause) = &self.poisoned {
            return Err(TruncateError::Poisoned { cause: cause.clone() });
        }
        let wanted = height.map_or(0, |height| height.saturating_add(1));
        let end = {
            let mut index = self.shared.index.write();
            let end = wanted.max(index.first_height);
            if end >= index.next_height {
                return Ok(());
            }
            if let Some(active) = &mut index.active
                && active.header.start.height <= end
            {
                active.table.truncate_to(end);
                index.next_height = end;
                return Ok(());
            }
            end
        };
        let above = self.activate_segment_of(end)?;
        self.remove_segments(&above)
    }

    /// Makes the sealed segment that holds the height before `end`, or starts at it, the
    /// active one. Returns the first heights of those above it, the newest first.
    fn activate_segment_of(&self, end: u64) -> Result<Vec<u64>, TruncateError> {
        let sealed = {
            let index = self.shared.index.read();
            let after = index.sealed.partition_point(|s| s.header.start.height <= end);
            after.checked_sub(1).and_then(|at| index.sealed.get(at)).copied()
        };
        let Some(sealed) = sealed else { unreachable!("a log begins with its first segment") };
        let active = self.reopen(&sealed, end).map_err(ReadError::from)?;
        let start = sealed.header.start.height;

        let mut index = self.shared.index.write();
        let starts = index.sealed.iter().map(|s| s.header.start.height);
        let mut above: Vec<u64> = starts.filter(|height| *height > start).collect();
        above.extend(index.active.replace(active).map(|old| old.header.start.height));
        above.reverse();
        index.sealed.retain(|s| s.header.start.height < start);
        index.next_height = end;
        index.generation += 1;
        drop(index);
        self.shared.forget_sealed_from(start);
        // Its content would not fit any more; if this fails, that is noticed when it is read.
        let _ = self.shared.disk.remove(&self.path(sidecar_name(start)));
        Ok(above)
    }

    /// Reads a sealed segment with all its frames, as one to append to.
    fn reopen(&self, sealed: &Sealed, end: u64) -> Result<Active, ScanError> {
        let header = sealed.header;
        let path = self.path(segment_name(header.start.height));
        let io = |source| {
            let (path, height) = (path.clone(), header.start.height);
            ScanError::Io { path, height, source }
        };
        let file = self.shared.disk.open(&path).map_err(io)?;
        let scan = Scan::run(&*file, &path, &header)?;
        // As the last segment it must open again.
        scan.settle_tail()?;
        let end_offset = scan.end as u64;
        let mut table = scan.expect_sealed(sealed.end)?;
        table.truncate_to(end);
        Ok(Active { header, file, table, end_offset })
    }

    fn remove_segments(&mut self, starts: &[u64]) -> Result<(), TruncateError> {
        for start in starts {
            // Without its segment a sidecar means nothing, so it may stay if it must.
            let _ = self.shared.disk.remove(&self.path(sidecar_name(*start)));
            let path = self.path(segment_name(*start));
            if let Err(source) = self.shared.disk.remove(&path) {
                return Err(self.poison_truncation("remove", path, source));
            }
            if let Err(source) = self.shared.disk.sync_dir(&self.shared.dir) {
                return Err(self.poison_truncation("sync the removal of", path, source));
            }
        }
        Ok(())
    }

    fn poison_truncation(
        &mut self,
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    ) -> TruncateError {
        let error = TruncateError::Io { what, path, source };
        self.poisoned = Some(error.to_string());
        error
    }

    fn path(&self, name: String) -> PathBuf {
        self.shared.dir.join(name)
    }
}
