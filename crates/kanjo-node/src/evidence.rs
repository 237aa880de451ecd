//! Evidence for reversals: made from the log for those who order one, and the header hashes that a
//! transaction with evidence is executed with.

use crate::history::{HistoryError, Walk, read_block, rows_at};
use crate::shared::{Health, Shared};
use kanjo_ledger::Verified;
use kanjo_ledger::block::{receipt_hash, rows_root};
use kanjo_ledger::evidence::needs_before;
use kanjo_proof::merkle;
use kanjo_types::money::Evidence;
use kanjo_types::outcome::Refusal;
use kanjo_types::stored::{Block, Entry, Location, Row};
use kanjo_types::transaction::Refused;
use kanjo_types::{Hash, Record};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long the sequencer waits for the blocks before the one under way to be on disk.
const HEADERS_WAIT: Duration = Duration::from_secs(2);
const HEADERS_POLL: Duration = Duration::from_millis(1);
/// Most blocks that are read for the evidence of one transaction.
const EVIDENCE_BLOCKS_MAX: usize = 8_192;

/// Gives a transaction the hashes of all headers below block `below` that its evidence needs. The
/// newest may still be on their way to the disk: then it waits, so that every node and every audit
/// sets the same.
///
/// # Errors
/// A temporary refusal when the blocks don't come: nothing is recorded that others would see
/// otherwise.
pub(crate) fn set_headers(
    shared: &Shared,
    verified: &mut Verified,
    below: u64,
) -> Result<(), Refused> {
    let mut wanted = verified.wanted_headers();
    wanted.retain(|height| *height < below);
    if let Some(last) = wanted.last() {
        wait_final(shared, *last)?;
    }
    let mut headers = Vec::with_capacity(wanted.len());
    for height in wanted {
        let hashes = shared.log.header_hashes(height..height + 1).map_err(|error| {
            tracing::error!(%error, height, "a header hash can't be read");
            Refused::new(Refusal::Stopping, "node")
        })?;
        headers.extend(hashes.into_iter().map(|hash| (height, Hash(hash))));
    }
    verified.set_headers(headers);
    Ok(())
}

/// The hashes of the headers below block `below` that the evidence of a committed transaction
/// needs: all that are there. They are committed, so they are known here, final or not.
pub(crate) fn headers_below(shared: &Shared, verified: &Verified, below: u64) -> Vec<(u64, Hash)> {
    let wanted = verified.wanted_headers().into_iter().filter(|height| *height < below);
    let hash_of = |height: u64| {
        if let Some(hash) = shared.pending_headers.read().get(&height) {
            return Some((height, *hash));
        }
        let hashes = shared.log.header_hashes(height..height + 1).ok()?;
        hashes.first().map(|hash| (height, Hash(*hash)))
    };
    wanted.filter_map(hash_of).collect()
}

fn wait_final(shared: &Shared, height: u64) -> Result<(), Refused> {
    let give_up_at = Instant::now() + HEADERS_WAIT;
    while shared.tip().height < height {
        let refusal = match shared.health() {
            Health::StorageFull => Some(Refusal::StorageFull),
            Health::Stopped(_) | Health::Rewinding { .. } => Some(Refusal::Stopping),
            Health::Running | Health::Stopping => {
                (Instant::now() >= give_up_at).then_some(Refusal::Overloaded)
            }
        };
        if let Some(refusal) = refusal {
            return Err(Refused::new(refusal, "node"));
        }
        std::thread::sleep(HEADERS_POLL);
    }
    Ok(())
}

/// Why there is no evidence of a transaction.
pub(crate) enum NoEvidence {
    /// The log can't be read.
    History(HistoryError),
    /// It changed wallet states that were made in too many blocks.
    TooMuch,
}

impl From<HistoryError> for NoEvidence {
    fn from(error: HistoryError) -> Self {
        Self::History(error)
    }
}

/// What the transaction at `at` did, for a reversal.
pub(crate) fn evidence(shared: &Shared, at: Location) -> Result<Evidence, NoEvidence> {
    let block = read_block(shared, at.height)?;
    let missing = || HistoryError::NoSuchVersion { height: at.height };
    let entry = block.entries.get(at.position as usize).ok_or_else(missing)?;
    let path = receipt_path(&block, at).ok_or_else(missing)?;
    Ok(Evidence {
        header: block.header.clone(),
        record: entry.record.clone(),
        receipt: entry.receipt(rows_root(&entry.rows)),
        path,
        rows: entry.rows.iter().map(|row| row.record.clone()).collect(),
        before: before(shared, entry)?,
    })
}

fn receipt_path(block: &Block, at: Location) -> Option<Vec<Hash>> {
    let hashes: Vec<Hash> = block.entries.iter().map(receipt_hash).collect();
    merkle::inclusion(&hashes, at.position as usize)
}

/// The versions before the wallet states and claims that a transaction made, in their order; block
/// by block, so that each is read once.
fn before(shared: &Shared, entry: &Entry) -> Result<Vec<Record>, NoEvidence> {
    let has_one = |row: &&Row| needs_before(&row.record);
    let mut wanted: Vec<(Location, usize, &Row)> = Vec::new();
    for (number, row) in entry.rows.iter().filter(has_one).enumerate() {
        wanted.push((row.previous_at, number, row));
    }
    wanted.sort_unstable_by_key(|(at, number, _)| (*at, *number));
    let blocks: BTreeSet<u64> = wanted.iter().map(|(at, _, _)| at.height).collect();
    if blocks.len() > EVIDENCE_BLOCKS_MAX {
        return Err(NoEvidence::TooMuch);
    }
    let mut walk = Walk::new(shared);
    let mut found = BTreeMap::new();
    for (at, number, row) in wanted {
        let rows = rows_at(walk.block(at.height)?, at.position);
        let previous = rows.iter().find(|previous| previous.hash == row.record.previous());
        let previous = previous.ok_or(HistoryError::NoSuchVersion { height: at.height })?;
        found.insert(number, previous.record.clone());
    }
    Ok(found.into_values().collect())
}
