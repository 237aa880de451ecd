//! The versions of one row.

use crate::version::Version;

/// Older versions, oldest first. In a box of its own: almost no row has any.
#[derive(Debug, Default)]
struct Older(Vec<Version>);

/// The newest version, and the older ones that a snapshot may still see.
#[derive(Debug)]
pub(crate) struct Chain {
    newest: Version,
    older: Option<Box<Older>>,
}

impl Chain {
    pub(crate) fn new(first: Version) -> Self {
        Self { newest: first, older: None }
    }

    /// Puts a newer version on top. Of one made in the same block nobody can see the one below.
    pub(crate) fn push(&mut self, version: Version) {
        let same_height = self.newest.at().height == version.at().height;
        let below = std::mem::replace(&mut self.newest, version);
        if !same_height {
            self.older.get_or_insert_default().0.push(below);
        }
    }

    /// The version that a reader at `height` sees.
    pub(crate) fn at(&self, height: u64) -> Option<&Version> {
        let older = self.older.iter().flat_map(|older| older.0.iter().rev());
        std::iter::once(&self.newest).chain(older).find(|version| version.at().height <= height)
    }

    /// Drops the older versions that none of the readers sees. `readers` are heights, ascending;
    /// later readers see the newest version. True when older versions are left.
    pub(crate) fn prune(&mut self, readers: &[u64]) -> bool {
        let Some(older) = self.older.as_mut() else { return false };
        // A version is seen from its own height up to below that of the next one.
        let mut next = self.newest.at().height;
        let mut kept = Vec::new();
        while let Some(version) = older.0.pop() {
            let from = version.at().height;
            let reader = readers.get(readers.partition_point(|reader| *reader < from));
            if reader.is_some_and(|reader| *reader < next) {
                kept.push(version);
            }
            next = from;
        }
        kept.reverse();
        older.0 = kept;
        if older.0.is_empty() {
            self.older = None;
        }
        self.older.is_some()
    }
}
