//! The newest entries, in memory: those that are not on disk yet, and as many before them as fit.

use crate::entry::Entry;
use std::collections::VecDeque;

/// Bytes of entries that are kept although they are on disk.
const CACHE_BYTES_MAX: usize = 32 << 20;
/// As many entries, because small ones take memory, too.
const CACHE_ENTRIES_MAX: usize = 16_384;

pub(super) struct Cache {
    entries: VecDeque<Entry>,
    /// Index of the first entry.
    first: u64,
    bytes: usize,
    /// Index below which entries are on disk.
    synced: u64,
}

impl Cache {
    /// Empty; the next entry is at `next`, those below are on disk.
    pub(super) fn new(next: u64) -> Self {
        Self { entries: VecDeque::new(), first: next, bytes: 0, synced: next }
    }

    pub(super) fn get(&self, index: u64) -> Option<&Entry> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.entries.get(at)
    }

    /// Takes the entry after the last one.
    pub(super) fn push(&mut self, entry: Entry) {
        if self.entries.is_empty() {
            self.first = entry.index();
        }
        self.bytes += entry.stored().len();
        self.entries.push_back(entry);
    }

    /// Drops entries from `next` on.
    pub(super) fn truncate(&mut self, next: u64) {
        while self.entries.back().is_some_and(|entry| entry.index() >= next) {
            let dropped = self.entries.pop_back();
            self.bytes -= dropped.map_or(0, |entry| entry.stored().len());
        }
        self.synced = self.synced.min(next);
    }

    /// Entries below `synced` are on disk now; drops what is too much.
    pub(super) fn synced(&mut self, synced: u64) {
        self.synced = synced;
        let too_much =
            |cache: &Self| cache.bytes > CACHE_BYTES_MAX || cache.entries.len() > CACHE_ENTRIES_MAX;
        while too_much(self) && self.entries.front().is_some_and(|e| e.index() < self.synced) {
            let dropped = self.entries.pop_front();
            self.bytes -= dropped.map_or(0, |entry| entry.stored().len());
            self.first += 1;
        }
    }
}
