//! The newest changes of the engine's voters, so that a restart knows who voted at a height without
//! reading the log from the beginning.
//!
//! ```text
//! slot := (term:u64 index:u64 length:u16 voters)*    ascending, the newest that fit
//! ```

use super::LogReader;
use crate::bytes::{Input, Malformed};
use crate::entry::{Content, decode_voters, encode_voters};
use crate::types::{StoredVoters, entry_id};
use kanjo_store::slots::{PAYLOAD_BYTES_MAX, SlotFile};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;

/// Changes that are kept.
const KEPT_MAX: usize = 8;

/// See the [module](self). Clones share the slot.
#[derive(Clone)]
pub(crate) struct VoterHistory {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    slot: SlotFile,
    changes: Vec<StoredVoters>,
}

impl VoterHistory {
    pub(super) fn open((slot, kept): (SlotFile, Option<Vec<u8>>)) -> io::Result<Self> {
        let changes = match kept {
            Some(bytes) => decode(bytes).map_err(io::Error::other)?,
            None => Vec::new(),
        };
        Ok(Self { inner: Arc::new(Mutex::new(Inner { slot, changes })) })
    }

    /// Keeps a committed change; it is on disk when this returns. One that is known, after a
    /// restart, changes nothing.
    pub(crate) fn push(&self, voters: &StoredVoters) -> io::Result<()> {
        let mut inner = self.inner.lock();
        let known = inner.changes.last().map(index);
        if known >= Some(index(voters)) {
            return Ok(());
        }
        inner.changes.push(voters.clone());
        let mut bytes = encode(&inner.changes);
        while inner.changes.len() > KEPT_MAX || bytes.len() > PAYLOAD_BYTES_MAX {
            inner.changes.remove(0);
            bytes = encode(&inner.changes);
        }
        inner.slot.write(&bytes).map_err(io::Error::other)
    }

    /// The voters as of a committed height: the newest change up to it.
    ///
    /// Every change up to a height that the node has was pushed before, so the changes kept are
    /// without gaps. Only when all of them lie above, or there are none, the log is read.
    pub(crate) fn at(&self, height: u64, reader: &LogReader) -> io::Result<StoredVoters> {
        let inner = self.inner.lock();
        if let Some(found) = inner.changes.iter().rev().find(|voters| index(voters) <= height) {
            return Ok(found.clone());
        }
        drop(inner);
        for index in (0..=height).rev() {
            let entry = reader.entry(index)?;
            let Some(entry) = entry else { continue };
            let id = entry.id();
            if let Content::Voters(voters) = entry.into_content() {
                return Ok(StoredVoters::new(Some(id), voters));
            }
        }
        Ok(StoredVoters::default())
    }
}

fn index(voters: &StoredVoters) -> u64 {
    voters.log_id().as_ref().map_or(0, |id| id.index)
}

fn encode(changes: &[StoredVoters]) -> Vec<u8> {
    let mut out = Vec::new();
    for change in changes {
        let Some(id) = change.log_id() else { continue };
        let voters = encode_voters(change.membership());
        out.extend_from_slice(&id.leader_id.term.to_le_bytes());
        out.extend_from_slice(&id.index.to_le_bytes());
        let length = u16::try_from(voters.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&voters);
    }
    out
}

fn decode(bytes: Vec<u8>) -> Result<Vec<StoredVoters>, Malformed> {
    let mut input = Input::new("changes of voters", bytes.into());
    let mut changes = Vec::new();
    while input.end().is_err() && changes.len() < KEPT_MAX {
        let (term, index) = (input.u64()?, input.u64()?);
        let length = usize::from(input.u16()?);
        let voters = decode_voters(input.take(length)?)?;
        changes.push(StoredVoters::new(Some(entry_id(term, index)), voters));
    }
    input.end()?;
    Ok(changes)
}
