//! Requests and answers of the HTTP API under `/v1`, shared by the node and the client.
//!
//! JSON for people, and a binary form for machines that submit thousands of payments per request
//! ([`frames`]). Plain data only.
//!
//! # Invariants
//! - An answer speaks of final blocks only: certified and on disk.
//! - Every refusal carries a stable `code`, a sentence, and the field that caused it
//!   ([`ErrorBody`]).
#![forbid(unsafe_code)]

pub mod cluster;
pub mod frames;

use borsh::{BorshDeserialize, BorshSerialize};
use kanjo_types::block::TokenAmount;
use kanjo_types::money::{Direction, Role};
use kanjo_types::outcome::{Refusal, ResultCode};
use kanjo_types::policy::{ComingPolicy, Policy};
use kanjo_types::record::Record;
use kanjo_types::standing::Freeze;
use kanjo_types::transaction::SignedTransaction;
use kanjo_types::{
    Amount, Certificate, ChainId, Hash, Header, TokenId, TransactionId, UserId, WalletId,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Media type of the binary forms (requests of framed transactions, answers of Borsh outcomes).
pub const BINARY_MEDIA_TYPE: &str = "application/octet-stream";

/// Request header: the height that the answer must know at least. A node that is behind waits a
/// little for it, and says `behind` when it does not come.
pub const AT_LEAST_HEADER: &str = "kanjo-at-least";
/// Request header: another node of the cluster passed this request on, so it goes no further.
pub const FORWARDED_HEADER: &str = "kanjo-forwarded";

/// Most transactions in one submit request.
pub const SUBMIT_TRANSACTIONS_MAX: usize = 65_536;
/// Most bytes in one submit request.
pub const SUBMIT_BYTES_MAX: usize = 32 << 20;
/// Most items in one page of a listing.
pub const PAGE_MAX: usize = 1_000;

/// Why a request was not served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// Stable name, such as `bad_signature`.
    pub code: String,
    /// One sentence for people.
    pub message: String,
    /// Which part of the request caused it, such as `body.operations[0].amount`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub field: Option<String>,
}

/// What came of one submitted transaction.
#[derive(
    Debug, Clone, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize, ToSchema,
)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum SubmitOutcome {
    /// In a final block; `result` says whether it was done or failed.
    Recorded {
        /// Digest of the signed body.
        #[schema(value_type = String)]
        id: TransactionId,
        /// Height of the block.
        height: u64,
        /// Position in the block.
        position: u32,
        /// `ok`, or why it failed.
        #[schema(value_type = String)]
        result: ResultCode,
        /// The operation that failed, counted from 0.
        failed_operation: Option<u32>,
    },
    /// Not taken; nothing recorded.
    Refused {
        /// Why.
        #[schema(value_type = String)]
        refusal: Refusal,
        /// Which field.
        field: String,
    },
}

/// What came of several submitted transactions, in their order.
#[derive(
    Debug, Clone, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize, ToSchema,
)]
pub struct SubmitAnswer {
    /// One for each transaction.
    pub outcomes: Vec<SubmitOutcome>,
}

/// The node and its ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Version of the node software.
    pub version: String,
    /// Name of the ledger.
    pub ledger: String,
    /// Chain id.
    #[schema(value_type = String)]
    pub chain: ChainId,
    /// Height of the newest final block.
    pub height: u64,
    /// Hash of its header.
    #[schema(value_type = String)]
    pub header_hash: Hash,
    /// Its time, milliseconds since 1970-01-01 UTC.
    pub time_ms: u64,
    /// Transactions in all final blocks, failed ones included.
    pub transactions: u64,
    /// Rows of all tables, those of the blocks on their way to be final included.
    pub rows: RowCounts,
    /// Longest distance of `valid_until_ms` from now.
    pub replay_window_ms: u64,
    /// `running`, `storage_full`, or `stopped` after a disk error.
    pub state: String,
}

/// How many rows the tables hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RowCounts {
    /// In `users`.
    pub users: u64,
    /// In `wallets`.
    pub wallets: u64,
    /// In `tokens`.
    pub tokens: u64,
    /// In `wallet_states` (current ones).
    pub wallet_states: u64,
    /// In each table of what stands beside the balances, by its name (`pendings`, `bundles`, …).
    #[serde(default)]
    pub standing: BTreeMap<String, u64>,
}

/// A record version with its hash and where it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecordView {
    /// Hash of the record.
    #[schema(value_type = String)]
    pub hash: Hash,
    /// The record.
    #[schema(value_type = Object)]
    pub record: Record,
    /// Height of the block that made it.
    pub height: u64,
    /// Position of its transaction in the block.
    pub position: u32,
    /// Time of that block.
    pub time_ms: u64,
    /// Id of that transaction (the chain id for the genesis).
    #[schema(value_type = String)]
    pub transaction_id: TransactionId,
}

/// A wallet's balance in one token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BalanceView {
    /// Which token.
    #[schema(value_type = u32)]
    pub token: TokenId,
    /// Its symbol.
    pub symbol: String,
    /// Its decimal places.
    pub decimals: u8,
    /// In smallest units; what it can spend, as far as its floor and freezes allow.
    #[schema(value_type = String)]
    pub balance: Amount,
    /// Reserved for open pending payments; not in the balance.
    #[schema(value_type = String)]
    #[serde(default)]
    pub reserved: Amount,
    /// How far the wallet is overdrawn; the balance is zero then.
    #[schema(value_type = String)]
    #[serde(default)]
    pub overdraft: Amount,
    /// Sum of the open claims that the wallet owes.
    #[schema(value_type = String)]
    #[serde(default)]
    pub claims: Amount,
    /// Most it could pay now, freezes and limits aside: the balance above its floor and the credit
    /// left; nothing while it owes claims.
    #[schema(value_type = String)]
    #[serde(default)]
    pub available: Amount,
    /// Which payments are frozen by freezes in force: the wallet's, its owner's, the token's.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    pub frozen: Option<Direction>,
    /// What the approver set for this wallet; absent when nothing was set.
    #[serde(default)]
    pub terms: Option<TermsView>,
    /// Version of the wallet state.
    pub version: u64,
    /// Hash of the wallet state.
    #[schema(value_type = String)]
    pub state: Hash,
}

/// What the approver set for a wallet in a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TermsView {
    /// May it receive, where the token has an allow-list?
    pub approved: bool,
    /// Its class.
    pub class: u8,
    /// How far it may be overdrawn.
    #[schema(value_type = String)]
    pub credit: Amount,
    /// What must stay in it.
    #[schema(value_type = String)]
    pub floor: Amount,
}

/// A wallet and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WalletView {
    /// Which wallet.
    #[schema(value_type = String)]
    pub id: WalletId,
    /// Whose.
    #[schema(value_type = String)]
    pub owner: UserId,
    /// Hash of the wallet's record.
    #[schema(value_type = String)]
    pub record: Hash,
    /// Balances by ascending token.
    pub balances: Vec<BalanceView>,
    /// The ledger height this answer speaks of (at least).
    pub height: u64,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserView {
    /// Which user.
    #[schema(value_type = String)]
    pub id: UserId,
    /// Its present record.
    pub current: RecordView,
    /// Its wallets, by ascending id; at most [`PAGE_MAX`].
    #[schema(value_type = Vec<String>)]
    pub wallets: Vec<WalletId>,
}

/// A token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Which token.
    #[schema(value_type = u32)]
    pub id: TokenId,
    /// Short unique name.
    pub symbol: String,
    /// Long name.
    pub name: String,
    /// Decimal places.
    pub decimals: u8,
    /// Who issues and redeems.
    #[schema(value_type = String)]
    pub issuer: UserId,
    /// Ever issued, smallest units.
    #[schema(value_type = String)]
    pub issued: Amount,
    /// Ever redeemed, smallest units.
    #[schema(value_type = String)]
    pub redeemed: Amount,
    /// In circulation: issued − redeemed = the sum of all balances and reservations, less
    /// overdrafts.
    #[schema(value_type = String)]
    pub supply: Amount,
    /// In force now.
    #[schema(value_type = Object)]
    #[serde(default)]
    pub policy: Policy,
    /// As created: no policy is ever harsher to holders.
    #[schema(value_type = Object)]
    #[serde(default)]
    pub charter: Policy,
    /// Announced and not yet in force.
    #[schema(value_type = Option<Object>)]
    #[serde(default)]
    pub coming: Option<ComingPolicy>,
    /// Who holds the six roles of a token, in their order.
    #[serde(default)]
    pub authorities: Vec<AuthorityView>,
    /// The freeze of the whole token in force now.
    #[schema(value_type = Option<Object>)]
    #[serde(default)]
    pub frozen: Option<Freeze>,
}

/// Who holds a role of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuthorityView {
    /// Which role.
    #[schema(value_type = String)]
    pub role: Role,
    /// Holders by ascending id: the issuer alone where nobody was named.
    #[schema(value_type = Vec<String>)]
    pub holders: Vec<UserId>,
    /// How many of them must agree.
    pub threshold: u8,
}

/// A page of the rows of a table that concern a user, a wallet or a token, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecordPage {
    /// Newest version of each row, in the order in which the rows came to concern it, newest first.
    pub records: Vec<RecordView>,
    /// Pass as `cursor` to get the next page; absent after the last.
    #[serde(default)]
    pub next_cursor: Option<String>,
}

/// A page of versions of a row, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HistoryPage {
    /// Versions, newest first.
    pub versions: Vec<RecordView>,
    /// Version of the last one, if there are earlier ones: pass as `before` for those below it.
    pub next_before: Option<u64>,
    /// Pass as `cursor` to get the next page; absent at the first version.
    #[serde(default)]
    pub next_cursor: Option<String>,
}

/// A transaction in a final block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TransactionView {
    /// Digest of the signed body.
    #[schema(value_type = String)]
    pub id: TransactionId,
    /// Hash of the transaction record.
    #[schema(value_type = String)]
    pub hash: Hash,
    /// Height of the block.
    pub height: u64,
    /// Position in the block.
    pub position: u32,
    /// Time of the block.
    pub time_ms: u64,
    /// `ok`, or why it failed.
    #[schema(value_type = String)]
    pub result: ResultCode,
    /// The operation that failed.
    pub failed_operation: Option<u32>,
    /// What was signed.
    #[schema(value_type = Object)]
    pub transaction: SignedTransaction,
    /// The transaction's record: its links.
    #[schema(value_type = Object)]
    pub record: Record,
    /// Record versions it made.
    #[schema(value_type = Vec<Object>)]
    pub rows: Vec<Record>,
}

impl TransactionView {
    /// What was answered when it was submitted.
    #[must_use]
    pub fn outcome(&self) -> SubmitOutcome {
        SubmitOutcome::Recorded {
            id: self.id,
            height: self.height,
            position: self.position,
            result: self.result,
            failed_operation: self.failed_operation,
        }
    }
}

/// One line of the block list (mission C6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockSummary {
    /// Height.
    pub height: u64,
    /// Time, milliseconds since 1970-01-01 UTC.
    pub time_ms: u64,
    /// Position of the producer in the membership.
    pub producer: u16,
    /// Its name.
    pub producer_name: String,
    /// Number of transactions.
    pub transactions: u32,
    /// Fees by token.
    #[schema(value_type = Vec<Object>)]
    pub fees: Vec<TokenAmount>,
    /// Hash of the header.
    #[schema(value_type = String)]
    pub hash: Hash,
}

/// A page of blocks, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockPage {
    /// Blocks, newest first.
    pub blocks: Vec<BlockSummary>,
    /// Pass as `before` to get the next page; absent at the genesis.
    pub next_before: Option<u64>,
}

/// One block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockView {
    /// Hash of the header.
    #[schema(value_type = String)]
    pub hash: Hash,
    /// The header.
    #[schema(value_type = Object)]
    pub header: Header,
    /// Its certificate.
    #[schema(value_type = Object)]
    pub certificate: Certificate,
    /// Ids of its transactions, in order.
    #[schema(value_type = Vec<String>)]
    pub transactions: Vec<TransactionId>,
}

/// An event of the stream of one wallet's changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WalletEvent {
    /// New version of one of the wallet's states.
    pub version: RecordView,
}
