//! The memberships from the genesis to now, each with the proof that the voters of the one before
//! it certified it: what proofs carry, so that the genesis alone checks them.
//!
//! A row's version is proven in the block that made it, so that these proofs are made from the log
//! at any time later.

use crate::history::{HistoryError, read_block};
use crate::shared::Shared;
use kanjo_ledger::block::membership_proof;
use kanjo_proof::proof::MembershipProof;
use parking_lot::Mutex;

/// Proofs that were made already, by epoch from 1.
#[derive(Default)]
pub(crate) struct Made(Mutex<Vec<MembershipProof>>);

/// The memberships up to an epoch whose blocks are final, from epoch 1. Reads the log for those
/// that were not asked for before.
pub(crate) fn proofs(shared: &Shared, up_to: u64) -> Result<Vec<MembershipProof>, HistoryError> {
    let tip = shared.tip().height;
    let mut made = shared.memberships.0.lock();
    for epoch in made.len() as u64 + 1..=up_to {
        let height = {
            let ledger = shared.ledger.read();
            ledger.membership_of(epoch).map(|membership| membership.height)
        };
        let Some(height) = height.filter(|height| *height <= tip) else { break };
        let block = read_block(shared, height)?;
        made.push(membership_proof(&block).ok_or(HistoryError::NoSuchVersion { height })?);
    }
    Ok(made.iter().take(usize::try_from(up_to).unwrap_or(usize::MAX)).cloned().collect())
}
