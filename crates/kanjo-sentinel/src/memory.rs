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
        self.first.saturating_add((self.hashes.len() as u64).saturating_sub(1))
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Steps of (gap, new stamp, salt), against all that was ever pushed.
        #[test]
        fn what_it_finds_was_pushed_and_the_latest_run_is_kept(
            steps in proptest::collection::vec((0u64..3, any::<bool>(), any::<u8>()), 1..60),
            max in 1usize..20,
        ) {
            let (mut memory, mut all) = (Memory::default(), Vec::<Signed>::new());
            let (mut height, mut stamp, mut run) = (0, 0, 0usize);
            for (gap, other, salt) in steps {
                height += 1 + gap / 2;
                stamp += u64::from(other);
                let signed = Signed { height, stamp, hash: Hash([salt; 32]) };
                let follows = all.last().is_some_and(|last| (last.height + 1, last.stamp) == (height, stamp));
                run = if follows { run + 1 } else { 1 };
                memory.push(signed, max);
                all.push(signed);
                prop_assert!(memory.is_sound(max));
                prop_assert_eq!(memory.highest(), Some(signed));
                for known in 0..=height + 1 {
                    if let Some(found) = memory.find(known) {
                        prop_assert!(all.contains(&found));
                    }
                }
                for kept in all.iter().rev().take(run.min(max)) {
                    prop_assert_eq!(memory.find(kept.height), Some(*kept));
                }
            }
        }
    }

    #[test]
    fn the_end_of_all_heights_is_no_trap() {
        let mut memory = Memory::default();
        for height in [0, u64::MAX - 1, u64::MAX] {
            memory.push(Signed { height, stamp: 0, hash: Hash::ZERO }, 8);
            assert!(memory.is_sound(8));
        }
        assert_eq!(memory.highest().map(|signed| signed.height), Some(u64::MAX));
        assert!(memory.find(1).is_none() && memory.find(u64::MAX - 1).is_some());
    }
}
