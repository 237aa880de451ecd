//! The proofs: plain structures that a node fills and an outsider checks with [`Proof::check`].
//!
//! ```text
//!                        genesis ── voters ──► certificate
//!                                                  │ signs
//!                     ┌────────────────────────► header ◄───────────────────────┐
//!                     │                     │            │                      │
//!                state_root        transactions_root   receipts_root       history_root
//!                     │                     │            │                      │
//!   State Absence Range Wallet        Transaction ──── receipt            Block  Extends
//!     │                                    │             │ rows_root
//!     └──────────── Reversal ──────────────┘          Version
//! ```
//! Every arrow is a digest that the check recomputes from below, so that whoever changes a byte
//! anywhere must either forge votes or find a collision.

use crate::path::StatePath;
use crate::state::Leaf;
use crate::trust::SignedHeader;
use borsh::{BorshDeserialize, BorshSerialize};
use kanjo_types::membership::Membership;
use kanjo_types::record::{RowKey, TransactionRecord};
use kanjo_types::{Hash, Receipt, Record, SignedTransaction, Table};
use serde::{Deserialize, Serialize};

/// A row and its way to the state root. Its leaf is (key of the record, `next`, hash of the
/// record).
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ProvenRow {
    /// The current version of the row.
    pub record: Record,
    /// The next key of its partition.
    pub next: RowKey,
    /// Where it is.
    pub path: StatePath,
}

/// A leaf whose row is not of interest, and its way to the state root.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ProvenLeaf {
    /// The leaf.
    pub leaf: Leaf,
    /// Where it is.
    pub path: StatePath,
}

/// The record is the current version of its row.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct StateProof {
    /// When.
    pub at: SignedHeader,
    /// The row.
    pub row: ProvenRow,
}

/// No row of the table has the key.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct AbsenceProof {
    /// When.
    pub at: SignedHeader,
    /// Which table.
    pub table: Table,
    /// The absent key.
    pub key: RowKey,
    /// The leaf with `leaf.key < key < leaf.next`.
    pub low: ProvenLeaf,
}

/// The rows with `from ≤ key ≤ to`, all of them, by ascending key. One partition.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct RangeProof {
    /// When.
    pub at: SignedHeader,
    /// Which table.
    pub table: Table,
    /// First key asked for.
    pub from: RowKey,
    /// Last key asked for.
    pub to: RowKey,
    /// The leaf with the largest key below `from`; it points to the first row, or past `to`.
    pub low: ProvenLeaf,
    /// The rows; each points to the one after it, the last one past `to`.
    pub rows: Vec<ProvenRow>,
}

/// A wallet and everything it holds. (For a wallet that doesn't exist: [`AbsenceProof`].)
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct WalletProof {
    /// When.
    pub at: SignedHeader,
    /// The wallet's record.
    pub wallet: ProvenRow,
    /// The leaf of the wallet states before the wallet's first token.
    pub low: ProvenLeaf,
    /// The wallet's state in every token that it ever held, by ascending token.
    pub states: Vec<ProvenRow>,
}

/// A receipt and its way to the receipts root of a header.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ProvenReceipt {
    /// What came of the transaction.
    pub receipt: Receipt,
    /// Position in the block, counted from 0.
    pub position: u32,
    /// RFC 6962 path, lowest first, among as many leaves as the header has transactions (1 in the
    /// genesis).
    pub path: Vec<Hash>,
}

/// A signed transaction, its record, and the way to the transactions root of a header.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ProvenTransaction {
    /// What was signed. Its canonical bytes are its Borsh encoding.
    pub signed: SignedTransaction,
    /// The record; it says the position.
    pub record: TransactionRecord,
    /// RFC 6962 path, lowest first, among as many leaves as the header has transactions.
    pub path: Vec<Hash>,
}

/// The record was made in the block: a version of its row, then or now.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct VersionProof {
    /// The block in which it was made.
    pub at: SignedHeader,
    /// The version.
    pub record: Record,
    /// Position among the rows of the receipt, counted from 0.
    pub index: u32,
    /// RFC 6962 path, lowest first, among the rows of the receipt.
    pub path: Vec<Hash>,
    /// Receipt of the transaction that made it.
    pub receipt: ProvenReceipt,
    /// The transaction that made it, when it is of interest. None for rows of the genesis.
    pub transaction: Option<ProvenTransaction>,
}

/// The transaction is in the block, with what came of it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct TransactionProof {
    /// The block.
    pub at: SignedHeader,
    /// The transaction.
    pub transaction: ProvenTransaction,
    /// Its receipt.
    pub receipt: ProvenReceipt,
}

/// A later final header that has a header in its history.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct LaterHeader {
    /// The later header.
    pub at: SignedHeader,
    /// RFC 6962 path, lowest first: leaf = earlier height, among as many leaves as the later
    /// height.
    pub path: Vec<Hash>,
}

/// The block is final, and, when a later header is given, part of that header's history.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct BlockProof {
    /// The block.
    pub at: SignedHeader,
    /// A later block whose history has it.
    pub within: Option<LaterHeader>,
}

/// The ledger at the later header is the ledger at the earlier header and what was added since.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ExtendsProof {
    /// The earlier header.
    pub earlier: SignedHeader,
    /// The later header, and the earlier header's place in its history.
    pub later: LaterHeader,
    /// RFC 6962 consistency path from the earlier history to the later one.
    pub consistency: Vec<Hash>,
}

/// The transaction was in the ledger, and was reversed, or followed by a reversal.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ReversalProof {
    /// The transaction in its block.
    pub original: TransactionProof,
    /// The record of its reversal, current at some header.
    pub reversal: StateProof,
    /// The act that ordered it, current at the same header.
    pub act: StateProof,
}

/// The voters of the next epoch: a block that the voters of the epoch before certified made this
/// row.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct MembershipProof {
    /// The block in which it was made.
    pub at: SignedHeader,
    /// The row.
    pub membership: Membership,
    /// Position among the rows of the receipt, counted from 0.
    pub index: u32,
    /// RFC 6962 path, lowest first, among the rows of the receipt.
    pub path: Vec<Hash>,
    /// Receipt of the transaction that made it.
    pub receipt: ProvenReceipt,
}

impl MembershipProof {
    /// From the proof that a version was made in a block; `None` when it is of another table.
    #[must_use]
    pub fn of_version(proof: VersionProof) -> Option<Self> {
        let VersionProof { at, record, index, path, receipt, transaction: _ } = proof;
        let Record::Membership(membership) = record else { return None };
        Some(Self { at, membership: *membership, index, path, receipt })
    }
}

/// A proof, with the memberships that lead from the genesis to the voters who signed it: the binary
/// form, by Borsh.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Carried {
    /// By ascending epoch, from 1; none when only the voters of the genesis signed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub memberships: Vec<MembershipProof>,
    /// The proof.
    pub proof: Proof,
}

/// Something that is checked from a genesis alone, and the memberships known from it. Binary form:
/// [`Carried`]; file form: [`crate::ProofFile`].
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Proof {
    /// A record is current.
    State(StateProof),
    /// A key is absent.
    Absence(AbsenceProof),
    /// A list of rows is complete.
    Range(RangeProof),
    /// A wallet and all it holds.
    Wallet(WalletProof),
    /// A record was made in a block.
    Version(VersionProof),
    /// A transaction is in a block.
    Transaction(TransactionProof),
    /// A block is final.
    Block(BlockProof),
    /// One ledger extends another.
    Extends(ExtendsProof),
    /// A transaction was reversed.
    Reversal(Box<ReversalProof>),
}

impl Proof {
    /// The newest epoch of its certificates: the memberships up to it are needed to check it.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        let epochs: &[&SignedHeader] = match self {
            Self::State(proof) => &[&proof.at],
            Self::Absence(proof) => &[&proof.at],
            Self::Range(proof) => &[&proof.at],
            Self::Wallet(proof) => &[&proof.at],
            Self::Version(proof) => &[&proof.at],
            Self::Transaction(proof) => &[&proof.at],
            Self::Block(proof) => match &proof.within {
                Some(later) => &[&proof.at, &later.at],
                None => &[&proof.at],
            },
            Self::Extends(proof) => &[&proof.earlier, &proof.later.at],
            Self::Reversal(proof) => &[&proof.original.at, &proof.reversal.at, &proof.act.at],
        };
        epochs.iter().map(|at| at.certificate.epoch).max().unwrap_or_default()
    }
}
