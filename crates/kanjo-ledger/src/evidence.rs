//! Evidence: what an earlier transaction did, shown against the hash of its block's header.
//!
//! ```text
//! header hash (known to the ledger) → header → receipts root → path → receipt
//! receipt → transaction record (id, height, position)
//!         → rows root → every record version it made → the wallet states before
//! ```
//! The ledger keeps no history, so whoever orders a reversal brings it. Nothing in evidence is
//! believed that does not follow from the header's hash.

use crate::block::{receipt_hash, rows_root};
use crate::signed::Signed;
use kanjo_proof::merkle;
use kanjo_types::block::Header;
use kanjo_types::money::Evidence;
use kanjo_types::outcome::ResultCode;
use kanjo_types::record::{Record, WalletStateRecord};
use kanjo_types::standing::ClaimRecord;
use kanjo_types::stored::{Entry, Location, Row};
use kanjo_types::{Amount, Hash, TokenId, TransactionId, WalletId};
use std::collections::BTreeMap;

/// Evidence of what the transaction at `position` of a block did, from the block's header and
/// entries. `before` gives the version before a row, which was made at [`Row::previous_at`] (height
/// 0: among the rows of the genesis). It is asked for what [`needs_before`] only.
///
/// `None` when there is no such transaction, or `before` gives nothing or another version.
#[must_use]
pub fn make(
    header: &Header,
    entries: &[Entry],
    position: u32,
    before: impl Fn(&Row) -> Option<Record>,
) -> Option<Evidence> {
    let index = usize::try_from(position).ok()?;
    let entry = entries.get(index)?;
    let receipts: Vec<Hash> = entries.iter().map(receipt_hash).collect();
    let mut earlier = Vec::new();
    for row in entry.rows.iter().filter(|row| needs_before(&row.record)) {
        let record = before(row).filter(|record| record.hash() == row.record.previous())?;
        earlier.push(record);
    }
    Some(Evidence {
        header: header.clone(),
        record: entry.record.clone(),
        receipt: entry.receipt(rows_root(&entry.rows)),
        path: merkle::inclusion(&receipts, index)?,
        rows: entry.rows.iter().map(|row| row.record.clone()).collect(),
        before: earlier,
    })
}

/// Does evidence show the version before this one, too? That of wallet states and claims, where
/// there is one: the difference is what the transaction did.
#[must_use]
pub fn needs_before(record: &Record) -> bool {
    matches!(record, Record::WalletState(_) | Record::Claim(_)) && record.version() > 1
}

/// What a transaction changed in one wallet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    pub wallet: WalletId,
    /// Hash of the wallet state it made.
    pub state: Hash,
    /// By how much the worth of the wallet changed.
    pub delta: Signed,
}

/// What evidence shows of a transaction in one token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proven {
    pub id: TransactionId,
    /// Hash of the transaction's record.
    pub record: Hash,
    pub at: Location,
    pub time_ms: u64,
    pub result: ResultCode,
    /// Wallets whose worth changed, in the order of rows.
    pub changes: Vec<Change>,
    /// It reversed in the token. Claims that it settled are no part of `changes`, so nobody can
    /// make a payment irreversible by settling a claim beside it.
    pub is_reversal: bool,
}

/// Checks evidence of transaction `id` against header hashes of earlier blocks (by ascending
/// height), and gives what the transaction did in `token`. `None`: it proves nothing.
pub(crate) fn check(
    evidence: &Evidence,
    id: TransactionId,
    token: TokenId,
    headers: &[(u64, Hash)],
) -> Option<Proven> {
    let Evidence { header, record, receipt, path, rows, .. } = evidence;
    let found = headers.binary_search_by_key(&header.height, |(height, _)| *height).ok()?;
    let (_, header_hash) = headers.get(found)?;
    let hash = Record::Transaction(record.clone()).hash();
    let hashes: Vec<Hash> = rows.iter().map(Record::hash).collect();
    let fits = header.hash() == *header_hash
        && record.height == header.height
        && record.id == id
        && receipt.id == id
        && receipt.transaction == hash
        && u32::try_from(rows.len()).is_ok_and(|count| count == receipt.rows)
        && merkle::root(&hashes) == receipt.rows_root;
    let (index, size) = (u64::from(record.position), u64::from(header.transactions));
    let (leaf, root) = (receipt.hash(), header.receipts_root);
    if !fits || merkle::verify_inclusion(leaf, index, size, path, root).is_err() {
        return None;
    }
    Some(Proven {
        id,
        record: hash,
        at: Location { height: record.height, position: record.position },
        time_ms: header.time_ms,
        result: receipt.result,
        changes: changes(evidence, token, &hashes)?,
        is_reversal: rows.iter().any(|row| is_of_reversal(row, token)),
    })
}

fn is_of_reversal(record: &Record, token: TokenId) -> bool {
    matches!(record, Record::Reversal(reversal) if reversal.token == token)
}

/// What each wallet got by settled claims, less what it paid by them.
type Settled = BTreeMap<WalletId, Signed>;

/// Pairs every wallet state and every claim with the one before it, no more and no fewer, and gives
/// the changes in `token`, without those by settled claims.
fn changes(evidence: &Evidence, token: TokenId, hashes: &[Hash]) -> Option<Vec<Change>> {
    let mut earlier = evidence.before.iter();
    let mut changes = Vec::new();
    let mut settled = Settled::new();
    for (record, hash) in evidence.rows.iter().zip(hashes) {
        let before = if needs_before(record) { Some(earlier.next()?) } else { None };
        if before.is_some_and(|before| before.hash() != record.previous()) {
            return None;
        }
        match record {
            Record::Claim(after) if after.token == token => settle(&mut settled, before, after)?,
            Record::WalletState(after) if after.token == token => {
                let before = match before {
                    Some(before) => Some(state(before)?),
                    None => None,
                };
                let delta = Signed::change(before, after)?;
                changes.push(Change { wallet: after.wallet, state: *hash, delta });
            }
            _ => {}
        }
    }
    for change in &mut changes {
        let settled = settled.get(&change.wallet).copied().unwrap_or_default();
        change.delta = change.delta.checked_add(settled.negated())?;
    }
    changes.retain(|change| !change.delta.is_zero());
    earlier.next().is_none().then_some(changes)
}

/// Takes in what was paid of a claim. One that a reversal has just left is not paid yet.
fn settle(settled: &mut Settled, before: Option<&Record>, after: &ClaimRecord) -> Option<()> {
    let before = match before {
        Some(Record::Claim(before)) => before.paid,
        Some(_) => return None,
        None => Amount::ZERO,
    };
    let paid = Signed::between(before.0, after.paid.0);
    for (wallet, change) in [(after.creditor, paid), (after.debtor, paid.negated())] {
        let sum = settled.entry(wallet).or_default();
        *sum = sum.checked_add(change)?;
    }
    Some(())
}

fn state(record: &Record) -> Option<&WalletStateRecord> {
    match record {
        Record::WalletState(state) => Some(state),
        _ => None,
    }
}
