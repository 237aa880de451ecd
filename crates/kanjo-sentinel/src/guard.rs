//! The guard: the rules of [`crate::rules`], made durable before anything is signed, and tied to
//! the count of an attestor so that an old copy of the record is recognised.
//!
//! ```text
//!            record in the guard's file          count of the attestor
//! start      count = c (or c + 1, see below)     c
//!            write  c + 1                        advance to c + 1
//! a batch    write  c + 2 with the heights       advance to c + 2      then, and only then, signed
//! clean stop write  c + 3                        advance to c + 3
//! ```
//!
//! # Invariants
//! - Nothing leaves before the record that holds it is durable and the attestor has the record's
//!   count.
//! - The record is written first, the attestor counts second. So after a crash the record is equal
//!   or one ahead. A record that is behind was restored from an old copy, and is refused for ever.
//! - Only one record of a run is ever written with a given count when `epoch_heights` is 1, and
//!   each start begins a new count: a record that was written and never signed for (a crash between
//!   the two writes) can't come back after another was signed for.
//! - With `epoch_heights` = n > 1 the count is durable with every n-th signed height only.
//!   An attestor that can (`software`) counts each batch all the same, where a power cut takes it
//!   back: somebody who cuts the power and puts back a copy taken since the last durable count is
//!   not noticed. One that can't (`tpm2`) does not count in between: there killing the sentinel
//!   is enough. Up to n − 1 heights could be signed a second time. A start and a clean stop close
//!   the window.
//! - After a write or a count has failed, nothing is signed until the guard is opened again.

use crate::attestor::{Attestor, AttestorError};
use crate::rules::{
    GuardState, PROPOSALS_REMEMBERED, ProposalRequest, RecordError, Refusal, VOTES_REMEMBERED,
    VoteRequest,
};
use kanjo_store::slots::SlotFile;
use kanjo_types::id::ChainId;
use std::io;
use std::num::NonZeroU64;

/// Where a small record is kept durably, the newest one only: written whole or not at all.
pub trait RecordStore: Send {
    /// Replaces the record, durably.
    ///
    /// # Errors
    /// When the disk fails; which record is there is then unknown.
    fn write(&mut self, record: &[u8]) -> io::Result<()>;
}

impl RecordStore for SlotFile {
    fn write(&mut self, record: &[u8]) -> io::Result<()> {
        Self::write(self, record).map_err(io::Error::other)
    }
}

/// A guard that can't or must not work.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The rules say no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There is a vote key and no record of what it signed.
    #[error(
        "the guard's record is missing; a key without its record signs nothing: make a new key"
    )]
    Missing,
    /// Not readable.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Of another key.
    #[error("the guard's record belongs to another vote key")]
    OtherKey,
    /// An old copy.
    #[error(
        "the guard was restored from an old copy: its record has count {record}, the attestor \
         {attestor}; it could sign a second history, so make a new key"
    )]
    RestoredFromOldCopy {
        /// The record's count.
        record: u64,
        /// The attestor's.
        attestor: u64,
    },
    /// The attestor was set back or exchanged.
    #[error(
        "the attestor was set back or exchanged: the guard's record has count {record}, the \
         attestor {attestor}"
    )]
    AttestorSetBack {
        /// The record's count.
        record: u64,
        /// The attestor's.
        attestor: u64,
    },
    /// Somebody else makes the same attestor count.
    #[error("the attestor counted to {found} where {expected} was due: a second sentinel uses it")]
    CountedElsewhere {
        /// What was due.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// The attestor failed.
    #[error(transparent)]
    Attestor(#[from] AttestorError),
    /// The disk failed.
    #[error("the guard's record can't be written: {0}")]
    Disk(#[from] io::Error),
    /// It failed before.
    #[error("the guard failed before ({0}); start the sentinel again")]
    Stopped(String),
}

/// See the module.
pub struct Guard {
    state: GuardState,
    store: Box<dyn RecordStore>,
    attestor: Box<dyn Attestor>,
    epoch_heights: NonZeroU64,
    /// Counts that a power cut would take back.
    soon: u64,
    stopped: Option<String>,
}

/// How the count goes on with a record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Count {
    /// Not at all.
    Stays,
    /// As long as there is power.
    Soon,
    Durably,
}

impl Guard {
    /// Writes the first record of a new vote key. To be called once for a key, before anybody can
    /// use it.
    ///
    /// # Errors
    /// When the attestor or the disk fails.
    pub fn create(
        key: [u8; 32],
        store: &mut dyn RecordStore,
        attestor: &mut dyn Attestor,
    ) -> Result<Vec<u8>, GuardError> {
        let record = GuardState::new(key, attestor.count()?).to_record();
        store.write(&record)?;
        Ok(record)
    }

    /// Opens the guard of `key` with its newest record, and begins a new count.
    ///
    /// # Errors
    /// When the record is missing, unreadable, of another key, or does not fit the attestor's
    /// count; when disk or attestor fail.
    pub fn open(
        key: [u8; 32],
        store: Box<dyn RecordStore>,
        record: Option<&[u8]>,
        mut attestor: Box<dyn Attestor>,
        epoch_heights: NonZeroU64,
    ) -> Result<Self, GuardError> {
        let state = GuardState::from_record(record.ok_or(GuardError::Missing)?)?;
        if state.key != key {
            return Err(GuardError::OtherKey);
        }
        let count = attestor.count()?;
        let (record, attestor_count) = (state.count, count);
        if record < count {
            return Err(GuardError::RestoredFromOldCopy { record, attestor: attestor_count });
        }
        if record - count > attestor.soon_max().saturating_add(1) {
            return Err(GuardError::AttestorSetBack { record, attestor: attestor_count });
        }
        let mut guard = Self { state, store, attestor, epoch_heights, soon: 0, stopped: None };
        // Counts that the power took with it, or the one that a crash left out.
        for missing in count + 1..=record {
            guard.advance_to(missing, Count::Soon)?;
        }
        guard.begin_count()?;
        Ok(guard)
    }

    /// What the guard remembers.
    #[must_use]
    pub fn state(&self) -> &GuardState {
        &self.state
    }

    /// Its attestor.
    pub fn attestor(&mut self) -> &mut dyn Attestor {
        self.attestor.as_mut()
    }

    /// Why it signs nothing more, if so.
    #[must_use]
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }

    /// Binds the guard to a ledger.
    ///
    /// # Errors
    /// [`Refusal::OtherChain`]; when the disk fails.
    pub fn bind(&mut self, chain: ChainId) -> Result<(), GuardError> {
        self.change(|state| state.bind(chain).map(|_| 0))
    }

    /// Allows these votes and remembers them durably, all or none.
    ///
    /// # Errors
    /// The first refusal; when disk or attestor fail.
    pub fn votes(&mut self, requests: &[VoteRequest]) -> Result<(), GuardError> {
        check_size(requests.len(), VOTES_REMEMBERED)?;
        self.change(|state| {
            requests.iter().try_fold(0, |new, request| Ok(new + u64::from(state.vote(request)?)))
        })
    }

    /// Allows these proposals and remembers them durably, all or none.
    ///
    /// # Errors
    /// The first refusal; when disk or attestor fail.
    pub fn proposals(&mut self, requests: &[ProposalRequest]) -> Result<(), GuardError> {
        check_size(requests.len(), PROPOSALS_REMEMBERED)?;
        self.change(|state| {
            requests.iter().try_fold(0, |new, request| Ok(new + u64::from(state.propose(request)?)))
        })
    }

    /// Ends a run: the count rises once more, so that no copy of an earlier record fits again.
    ///
    /// # Errors
    /// When disk or attestor fail.
    pub fn close(mut self) -> Result<(), GuardError> {
        if let Some(why) = self.stopped {
            return Err(GuardError::Stopped(why));
        }
        self.begin_count()
    }

    /// Applies `rule` to a copy of the state; when that changed, makes the copy durable and the
    /// state. `rule` says how many heights are new.
    fn change(
        &mut self,
        rule: impl FnOnce(&mut GuardState) -> Result<u64, Refusal>,
    ) -> Result<(), GuardError> {
        if let Some(why) = &self.stopped {
            return Err(GuardError::Stopped(why.clone()));
        }
        let mut next = self.state.clone();
        let new = rule(&mut next)?;
        if next == self.state {
            return Ok(());
        }
        next.signed_since = next.signed_since.saturating_add(new);
        let done = self.put(next);
        self.note(done)
    }

    fn put(&mut self, mut next: GuardState) -> Result<(), GuardError> {
        let soon_max = self.attestor.soon_max();
        let is_due = next.signed_since >= self.epoch_heights.get();
        let count = match soon_max {
            _ if is_due => Count::Durably,
            0 => Count::Stays,
            _ if self.soon >= soon_max => Count::Durably,
            _ => Count::Soon,
        };
        if count == Count::Durably {
            next.signed_since = 0;
        }
        if count != Count::Stays {
            next.count += 1;
        }
        self.store.write(&next.to_record())?;
        self.state = next;
        self.advance_to(self.state.count, count)
    }

    fn begin_count(&mut self) -> Result<(), GuardError> {
        let mut next = self.state.clone();
        next.signed_since = self.epoch_heights.get();
        let done = self.put(next);
        self.note(done)
    }

    fn advance_to(&mut self, expected: u64, count: Count) -> Result<(), GuardError> {
        let found = match count {
            Count::Stays => return Ok(()),
            Count::Soon => {
                self.soon += 1;
                self.attestor.advance_soon()?
            }
            Count::Durably => {
                self.soon = 0;
                self.attestor.advance()?
            }
        };
        if found == expected {
            Ok(())
        } else {
            Err(GuardError::CountedElsewhere { expected, found })
        }
    }

    /// After a failure nobody knows what is on disk: stop.
    fn note(&mut self, done: Result<(), GuardError>) -> Result<(), GuardError> {
        if let Err(error) = &done {
            self.stopped = Some(error.to_string());
        }
        done
    }
}

fn check_size(found: usize, max: usize) -> Result<(), Refusal> {
    if found <= max {
        return Ok(());
    }
    let bounded = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Err(Refusal::BatchTooLarge { max: bounded(max), found: bounded(found) })
}
