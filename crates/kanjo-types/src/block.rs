//! Blocks: headers, receipts and certificates.

use crate::Amount;
use crate::codec;
use crate::hash::{
    self, Hash, TAG_CHALLENGE, TAG_HEADER, TAG_INTEGRITY, TAG_PROPOSAL, TAG_RECEIPT, TAG_VOTE,
};
use crate::id::{ChainId, TokenId, TransactionId};
use crate::outcome::ResultCode;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// The only header version there is.
pub const HEADER_VERSION: u8 = 1;

/// The supply of a token after a block that changed it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct SupplyChange {
    /// Which token.
    pub token: TokenId,
    /// Ever issued.
    pub issued: Amount,
    /// Ever redeemed.
    pub redeemed: Amount,
}

/// An amount of a token.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct TokenAmount {
    /// Which token.
    pub token: TokenId,
    /// How much.
    pub amount: Amount,
}

/// What is agreed about a block; its hash is what voters sign.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Header {
    /// [`HEADER_VERSION`].
    pub version: u8,
    /// Which ledger.
    pub chain: ChainId,
    /// 0 for the genesis block.
    pub height: u64,
    /// Hashes of the headers before it: one, or several where sub-chains re-join; none for the
    /// genesis.
    pub parents: Vec<Hash>,
    /// Ledger time, milliseconds since 1970-01-01 UTC; never less than the parents'.
    pub time_ms: u64,
    /// Number in the membership of the node that made the block.
    pub producer: u16,
    /// Number of transactions, failed ones included.
    pub transactions: u32,
    /// RFC 6962 tree over the hashes of the transaction records.
    pub transactions_root: Hash,
    /// RFC 6962 tree over the hashes of the receipts.
    pub receipts_root: Hash,
    /// Root over all tables and partitions after the block.
    pub state_root: Hash,
    /// RFC 6962 tree over the hashes of all earlier headers, heights 0 … height − 1.
    pub history_root: Hash,
    /// Fees taken in the block.
    pub fees: Vec<TokenAmount>,
    /// Supplies that the block changed, by ascending token.
    pub supply: Vec<SupplyChange>,
}

impl Header {
    /// The header's hash.
    #[must_use]
    pub fn hash(&self) -> Hash {
        hash::digest(TAG_HEADER, &[&codec::to_bytes(self)])
    }
}

/// What came of a transaction, as the receipts tree commits it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Receipt {
    /// Digest of the signed body.
    pub id: TransactionId,
    /// Hash of the transaction record.
    pub transaction: Hash,
    /// What came of it.
    pub result: ResultCode,
    /// The operation that failed, counted from 0.
    pub failed_operation: Option<u32>,
    /// RFC 6962 tree over the hashes of the new record versions.
    pub rows_root: Hash,
    /// How many there are.
    pub rows: u32,
}

impl Header {
    /// The header of a height at which nothing is done: a new leader's first entry, a change of the
    /// engine's voters, or a proposal that turned out void. Every node makes the same.
    #[must_use]
    pub fn empty(parent: &Self, parent_hash: Hash, history_root: Hash, producer: u16) -> Self {
        let none = hash::EMPTY_ROOT;
        Self {
            version: HEADER_VERSION,
            chain: parent.chain,
            height: parent.height + 1,
            parents: vec![parent_hash],
            time_ms: parent.time_ms,
            producer,
            transactions: 0,
            transactions_root: none,
            receipts_root: none,
            state_root: parent.state_root,
            history_root,
            fees: Vec::new(),
            supply: Vec::new(),
        }
    }
}

impl Receipt {
    /// The receipt's hash.
    #[must_use]
    pub fn hash(&self) -> Hash {
        hash::digest(TAG_RECEIPT, &[&codec::to_bytes(self)])
    }
}

/// One voter's signature over a header, with its answer to the block's challenge.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Vote {
    /// Number of the voter in the membership.
    pub voter: u16,
    /// Answer of its sentinel to the block's challenge ([`integrity_answer`], mission M11).
    pub answer: Hash,
    /// Ed25519 signature over [`vote_digest`].
    #[serde(with = "hex::serde")]
    pub signature: [u8; 64],
}

/// A quorum of equal votes over one header: the block is final.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Certificate {
    /// Which membership voted; 0 is the genesis's.
    pub epoch: u64,
    /// Votes by ascending voter.
    pub votes: Vec<Vote>,
}

/// What a voter signs for the header with hash `header` in membership `epoch`.
#[must_use]
pub fn vote_digest(epoch: u64, height: u64, header: &Hash, answer: &Hash) -> Hash {
    let parts: [&[u8]; 4] = [&epoch.to_le_bytes(), &height.to_le_bytes(), &header.0, &answer.0];
    hash::digest(TAG_VOTE, &parts)
}

/// What the sentinel of a leader signs before anybody appends its entry: one for each (term,
/// height). `content` is SHA-256 of the entry's kind and content.
#[must_use]
pub fn proposal_digest(chain: ChainId, term: u64, height: u64, content: &Hash) -> Hash {
    let parts: [&[u8]; 4] = [&chain.0.0, &term.to_le_bytes(), &height.to_le_bytes(), &content.0];
    hash::digest(TAG_PROPOSAL, &parts)
}

/// The challenge of a block: nobody knows it before the leader's sentinel has signed the proposal.
/// With one voter there is no proposal, and `proposal` is empty.
#[must_use]
pub fn challenge(parent: &Hash, proposal: &[u8]) -> Hash {
    hash::digest(TAG_CHALLENGE, &[&parent.0, proposal])
}

/// The answer to a challenge, over what mission M11 names: the hash of the node's program, its
/// certificate, the seed and the data being processed.
#[must_use]
pub fn integrity_answer(
    measurement: &Hash,
    certificate: &Hash,
    challenge: &Hash,
    header: &Hash,
) -> Hash {
    let parts: [&[u8]; 4] = [&measurement.0, &certificate.0, &challenge.0, &header.0];
    hash::digest(TAG_INTEGRITY, &parts)
}
