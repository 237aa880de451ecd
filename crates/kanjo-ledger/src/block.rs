//! Blocks: the roots over a block's transactions and receipts, and the block of the genesis.

use crate::{Ledger, genesis_rows};
use kanjo_proof::merkle;
use kanjo_proof::proof::{MembershipProof, ProvenReceipt};
use kanjo_proof::state::StateTree;
use kanjo_proof::trust::SignedHeader;
use kanjo_types::block::{Certificate, HEADER_VERSION, Header, SupplyChange};
use kanjo_types::record::{Record, Table};
use kanjo_types::stored::{Block, Entry, Row, genesis_receipt};
use kanjo_types::{Genesis, Hash};

/// What one part of what stands beside the balances takes, about, with the wallet states that
/// change with it.
const WEIGHT_BYTES: usize = 512;

/// Roots of a block's two trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roots {
    /// Over the hashes of the transaction records.
    pub transactions: Hash,
    /// Over the hashes of the receipts.
    pub receipts: Hash,
}

/// The root over the hashes of record versions.
#[must_use]
pub fn rows_root(rows: &[Row]) -> Hash {
    let hashes: Vec<Hash> = rows.iter().map(|row| row.hash).collect();
    merkle::root(&hashes)
}

/// About how many bytes an entry takes in a block: its transaction, and what it changed beside the
/// balances, with the balances changed on that account.
#[must_use]
pub fn bytes_of(entry: &Entry) -> usize {
    let beside = entry.rows.iter().filter(|row| !matches!(row.record, Record::WalletState(_)));
    let weight: usize = beside.map(|row| crate::scratch::weight(&row.record)).sum();
    entry.raw.len().saturating_add(weight.saturating_mul(WEIGHT_BYTES))
}

/// Hash of an entry's receipt.
#[must_use]
pub fn receipt_hash(entry: &Entry) -> Hash {
    entry.receipt(rows_root(&entry.rows)).hash()
}

/// The roots over `entries`.
#[must_use]
pub fn roots(entries: &[Entry]) -> Roots {
    let transactions: Vec<Hash> = entries.iter().map(|entry| entry.hash).collect();
    let receipts: Vec<Hash> = entries.iter().map(receipt_hash).collect();
    Roots { transactions: merkle::root(&transactions), receipts: merkle::root(&receipts) }
}

/// The roots of any block, the genesis included.
#[must_use]
pub fn roots_of(block: &Block) -> Roots {
    if block.header.height > 0 {
        return roots(&block.entries);
    }
    let rows = &block.genesis_rows;
    let receipt = genesis_receipt(block.header.chain, rows.len(), rows_root(rows));
    Roots { transactions: merkle::root(&[]), receipts: merkle::root(&[receipt.hash()]) }
}

/// Is this the header of a height at which nothing is done ([`Header::empty`])? Then only the links
/// change: such a height is neither begun nor ended in the ledger, and nothing is due at it.
#[must_use]
pub fn is_empty(header: &Header, parent: &Header, parent_hash: Hash, history_root: Hash) -> bool {
    *header == Header::empty(parent, parent_hash, history_root, header.producer)
}

/// The membership that a block made, provable from its signed header: what lets an outsider go on
/// to the next epoch. `None` when it made none.
#[must_use]
pub fn membership_proof(block: &Block) -> Option<MembershipProof> {
    let find = |entry: &Entry| {
        entry.rows.iter().position(|row| matches!(row.record, Record::Membership(_)))
    };
    let mut found = block.entries.iter().enumerate();
    let (position, entry, index) =
        found.find_map(|(position, entry)| Some((position, entry, find(entry)?)))?;
    let Record::Membership(membership) = &entry.rows.get(index)?.record else { return None };
    let rows: Vec<Hash> = entry.rows.iter().map(|row| row.hash).collect();
    let receipts: Vec<Hash> = block.entries.iter().map(receipt_hash).collect();
    Some(MembershipProof {
        at: SignedHeader { header: block.header.clone(), certificate: block.certificate.clone() },
        membership: membership.as_ref().clone(),
        index: u32::try_from(index).ok()?,
        path: merkle::inclusion(&rows, index)?,
        receipt: ProvenReceipt {
            receipt: entry.receipt(rows_root(&entry.rows)),
            position: u32::try_from(position).ok()?,
            path: merkle::inclusion(&receipts, position)?,
        },
    })
}

/// Builds the state trees of a ledger from its rows.
#[must_use]
pub fn build_trees(ledger: &Ledger) -> StateTree {
    let mut trees = StateTree::new();
    for table in Table::ALL {
        for partition in crate::ledger::partitions() {
            trees.load_partition(table, partition, ledger.leaves(table, partition).into_iter());
        }
    }
    trees
}

/// Block 0 of a ledger, without votes, and the ledger after it.
#[must_use]
pub fn genesis_block(genesis: &Genesis) -> (Block, Ledger, StateTree) {
    let rows = genesis_rows(genesis);
    let certificate = Certificate { epoch: 0, votes: Vec::new() };
    let supply = rows.iter().filter_map(|row| match &row.record {
        kanjo_types::Record::Token(token) => {
            Some(SupplyChange { token: token.id, issued: token.issued, redeemed: token.redeemed })
        }
        _ => None,
    });
    let header = Header {
        version: HEADER_VERSION,
        chain: genesis.chain_id(),
        height: 0,
        parents: Vec::new(),
        time_ms: genesis.time_ms,
        producer: 0,
        transactions: 0,
        transactions_root: Hash::ZERO,
        receipts_root: Hash::ZERO,
        state_root: Hash::ZERO,
        history_root: merkle::root(&[]),
        fees: Vec::new(),
        supply: supply.collect(),
    };
    let mut block = Block { header, certificate, entries: Vec::new(), genesis_rows: rows };
    let roots = roots_of(&block);
    let mut ledger = Ledger::new(genesis);
    ledger.redo(&block, |_| true);
    let trees = build_trees(&ledger);
    block.header.transactions_root = roots.transactions;
    block.header.receipts_root = roots.receipts;
    block.header.state_root = trees.root();
    (block, ledger, trees)
}
