//! The memberships from the genesis to now, each with the proof that the voters of the one before
//! it certified it: what proofs carry, so that the genesis alone checks them.
//!
//! A row's version is proven in the block that made it, so that these proofs are made from the log
//! at any time later.

use crate::history::{HistoryError, read_block};
use crate::http::version_proof;
use crate::shared::Shared;
use kanjo_ledger::table::Row as _;
use kanjo_proof::proof::MembershipProof;
use kanjo_types::Table;
use kanjo_types::record::RowKey;
use kanjo_types::stored::Location;
use parking_lot::Mutex;

/// Proofs that were made already, by epoch from 1.
#[derive(Default)]
pub(crate) struct Made(Mutex<Vec<MembershipProof>>);

/// All memberships whose blocks are final, by epoch from 1. Reads the log for those that are new.
pub(crate) fn proofs(shared: &Shared) -> Result<Vec<MembershipProof>, HistoryError> {
    let tip = shared.tip().height;
    let mut made = shared.memberships.0.lock();
    loop {
        let epoch = made.len() as u64 + 1;
        let key = RowKey::epoch(epoch);
        let at = {
            let ledger = shared.ledger.read();
            ledger.standing(Table::Memberships).get(&key).map(|row| row.made_at())
        };
        match at {
            Some(at) if at.height <= tip => made.push(proof(shared, key, at)?),
            _ => return Ok(made.clone()),
        }
    }
}

fn proof(shared: &Shared, key: RowKey, at: Location) -> Result<MembershipProof, HistoryError> {
    let block = read_block(shared, at.height)?;
    let missing = HistoryError::NoSuchVersion { height: at.height };
    let version = version_proof(&block, Table::Memberships, key, at);
    version.and_then(MembershipProof::of_version).ok_or(missing)
}
