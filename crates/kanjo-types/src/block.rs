//! Blocks: headers, receipts and certificates.

use crate::Amount;
use crate::codec;
use crate::hash::{self, Hash, TAG_HEADER, TAG_RECEIPT, TAG_VOTE};
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
    /// Position in the membership of the node that made the block.
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

impl Receipt {
    /// The receipt's hash.
    #[must_use]
    pub fn hash(&self) -> Hash {
        hash::digest(TAG_RECEIPT, &[&codec::to_bytes(self)])
    }
}

/// One voter's signature over a header.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Vote {
    /// Position of the voter in the membership.
    pub voter: u16,
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
pub fn vote_digest(epoch: u64, height: u64, header: &Hash) -> Hash {
    hash::digest(TAG_VOTE, &[&epoch.to_le_bytes(), &height.to_le_bytes(), &header.0])
}
