//! The last signed heights in little space: runs of consecutive heights with one stamp.
//!
//! # Invariants
//! - Heights rise from run to run.
//! - What is dropped is dropped from the lowest height on.

use borsh::{BorshDeserialize, BorshSerialize};
use kanjo_types::Hash;

/// Most runs: a gap in the heights or another stamp begins one.
pub const RUNS_MAX: usize = 4;

/// What was signed at a height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The height.
    pub height: u64,
    /// The membership epoch of a vote, the term of a proposal.
    pub stamp: u64,
    /// The header of a vote, the content of a proposal.
    pub hash: Hash,
}

#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
struct Run {
    first: u64,
    stamp: u64,
    hashes: Vec<Hash>,
}

impl Run {
    fn last(&self) -> u64 {
        self.first.saturating_add(self.hashes.len() as u64).saturating_sub(1)
    }
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Memory {
    runs: Vec<Run>,
}

impl Memory {
    /// The highest height and what was signed there.
    #[must_use]
    pub fn highest(&self) -> Option<Signed> {
        let run = self.runs.last()?;
        Some(Signed { height: run.last(), stamp: run.stamp, hash: *run.hashes.last()? })
    }

    /// What was signed at a height, if that is remembered.
    #[must_use]
    pub fn find(&self, height: u64) -> Option<Signed> {
        let run = self.runs.iter().find(|run| run.first <= height && height <= run.last())?;
        let place = usize::try_from(height - run.first).ok()?;
        Some(Signed { height, stamp: run.stamp, hash: *run.hashes.get(place)? })
    }

    /// Remembers one more, above all others; forgets the lowest beyond `max`.
    pub fn push(&mut self, signed: Signed, max: usize) {
        match self.runs.last_mut() {
            Some(run)
                if run.stamp == signed.stamp
                    && run.last().checked_add(1) == Some(signed.height) =>
            {
                run.hashes.push(signed.hash);
            }
            _ => {
                let Signed { height, stamp, hash } = signed;
                self.runs.push(Run { first: height, stamp, hashes: vec![hash] });
            }
        }
        if self.runs.len() > RUNS_MAX {
            self.runs.remove(0);
        }
        while self.count() > max {
            self.forget_lowest();
        }
    }

    fn forget_lowest(&mut self) {
        if let Some(run) = self.runs.first_mut() {
            run.hashes.remove(0);
            run.first = run.first.saturating_add(1);
            if run.hashes.is_empty() {
                self.runs.remove(0);
            }
        }
    }

    fn count(&self) -> usize {
        self.runs.iter().map(|run| run.hashes.len()).sum()
    }

    /// Do the invariants hold? For what was read from a disk.
    #[must_use]
    pub fn is_sound(&self, max: usize) -> bool {
        let whole = |run: &Run| {
            !run.hashes.is_empty() && run.first.checked_add(run.hashes.len() as u64 - 1).is_some()
        };
        self.runs.len() <= RUNS_MAX
            && self.count() <= max
            && self.runs.iter().all(whole)
            && self.runs.is_sorted_by(|a, b| a.last() < b.first)
    }
}
