//! Why a proof is refused.

use crate::merkle::MerkleError;
use crate::path::StatePathError;
use kanjo_types::codec::DecodeError;
use kanjo_types::genesis::GenesisError;
use kanjo_types::membership::CertificateError;
use kanjo_types::record::RowKey;
use kanjo_types::{ActId, ChainId, Hash, Table, TransactionId};

/// The first thing found wrong with a proof.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The genesis given for checking is no genesis of a ledger.
    #[error("the genesis itself is not valid: {0}")]
    Genesis(#[from] GenesisError),
    /// The bytes are no proof.
    #[error("the proof can't be read: {0}")]
    Decode(#[from] DecodeError),
    /// Another version of headers.
    #[error("header version {0}; this software knows version 1")]
    HeaderVersion(u8),
    /// Of another ledger.
    #[error("the proof is of ledger {found}; this genesis is ledger {expected}")]
    WrongChain {
        /// Ledger of the genesis.
        expected: ChainId,
        /// Ledger that the proof names.
        found: ChainId,
    },
    /// A membership that is not known yet.
    #[error(
        "the certificate is of epoch {found}; known are the voters of epochs 0 to {known} \
         (a proof brings the memberships since the genesis)"
    )]
    Epoch {
        /// Epoch of the certificate.
        found: u64,
        /// Newest epoch known.
        known: u64,
    },
    /// Voters that decide on other heights.
    #[error("the voters of epoch {epoch} do not decide on height {height}")]
    OtherEpoch {
        /// Epoch of the certificate.
        epoch: u64,
        /// Height of the header.
        height: u64,
    },
    /// A membership out of its turn.
    #[error("a proof of the membership of epoch {found}; the next one is epoch {expected}")]
    NotNextEpoch {
        /// The epoch after those known.
        expected: u64,
        /// Epoch proven.
        found: u64,
    },
    /// Too few votes, votes of others, wrong signatures, or nobody who executed the block.
    #[error("the certificate does not count: {0}")]
    Certificate(#[from] CertificateError),
    /// A record where another kind of record belongs.
    #[error("the proof shows a record of {found}; {expected} is needed here")]
    WrongRecord {
        /// What kind is needed.
        expected: &'static str,
        /// What kind is given.
        found: &'static str,
    },
    /// The path is of another place than the row.
    #[error(
        "the path is of {found:?} partition {found_partition}; \
         the row belongs to {expected:?} partition {expected_partition}"
    )]
    WrongPlace {
        /// Table of the row.
        expected: Table,
        /// Partition of the row.
        expected_partition: u16,
        /// Table of the path.
        found: Table,
        /// Partition of the path.
        found_partition: u16,
    },
    /// The path fits no state.
    #[error("the path of key {} fits no state: {error}", .key.0)]
    StatePath {
        /// Key of the leaf.
        key: RowKey,
        /// Why.
        error: StatePathError,
    },
    /// The path leads to another state.
    #[error("key {} leads to state root {computed}; the header says {expected}", .key.0)]
    OtherStateRoot {
        /// Key of the leaf.
        key: RowKey,
        /// State root of the header.
        expected: Hash,
        /// What the path gives.
        computed: Hash,
    },
    /// The low leaf does not enclose the key.
    #[error(
        "key {} is not strictly between {} and {}, so it is not shown to be absent",
        .key.0, .low.0, .next.0
    )]
    NotBetween {
        /// Key said to be absent.
        key: RowKey,
        /// Key of the low leaf.
        low: RowKey,
        /// Its next key.
        next: RowKey,
    },
    /// A range whose ends are reversed, in two partitions, or at the very bottom.
    #[error(
        "{} to {} is no range; it ascends from above zero and stays in one partition",
        .from.0, .to.0
    )]
    NoRange {
        /// First key asked for.
        from: RowKey,
        /// Last key asked for.
        to: RowKey,
    },
    /// The low leaf is inside the range.
    #[error("the low leaf has key {}; it must be below the range, {}", .low.0, .from.0)]
    LowNotBelow {
        /// Key of the low leaf.
        low: RowKey,
        /// First key asked for.
        from: RowKey,
    },
    /// A row is missing, or one too many.
    #[error("the next key is {}; the proof goes on with {}", .expected.0, .found.0)]
    BrokenList {
        /// What the leaf before points to.
        expected: RowKey,
        /// Key of the row given.
        found: RowKey,
    },
    /// A row outside the range.
    #[error("key {} is outside the range from {} to {}", .key.0, .from.0, .to.0)]
    OutsideRange {
        /// Key of the row.
        key: RowKey,
        /// First key asked for.
        from: RowKey,
        /// Last key asked for.
        to: RowKey,
    },
    /// The list stops before the end of the range.
    #[error("the list stops before key {}, which is in the range up to {}", .next.0, .to.0)]
    RangeCutShort {
        /// Key that the last leaf points to.
        next: RowKey,
        /// Last key asked for.
        to: RowKey,
    },
    /// A path in one of the trees of a header.
    #[error("in the {tree} tree: {error}")]
    Tree {
        /// `transactions`, `receipts`, `rows` or `history`.
        tree: &'static str,
        /// Why.
        error: MerkleError,
    },
    /// The receipt is of another transaction than the record.
    #[error("the receipt is of transaction {receipt}; the record came from {record}")]
    ReceiptOfAnother {
        /// Transaction of the receipt.
        receipt: Hash,
        /// Transaction that the record says it came from.
        record: Hash,
    },
    /// A part names another transaction id.
    #[error("the {part} is of transaction {found}; the signed transaction is {expected}")]
    WrongTransaction {
        /// `record` or `receipt`.
        part: &'static str,
        /// Id of the signed transaction.
        expected: TransactionId,
        /// Id in the part.
        found: TransactionId,
    },
    /// The record commits other signatures.
    #[error("the record's witness is {expected}; the signatures given have {found}")]
    WrongWitness {
        /// Witness in the record.
        expected: Hash,
        /// Digest of the signatures given.
        found: Hash,
    },
    /// A number that two parts must agree on.
    #[error("{what} is {found} in one part and {expected} in the other; they must agree")]
    Disagree {
        /// What they disagree on.
        what: &'static str,
        /// In the part that decides.
        expected: u64,
        /// In the part that follows.
        found: u64,
    },
    /// Heights that don't ascend.
    #[error("height {later} is not after height {earlier}; the second header must be later")]
    NotLater {
        /// Height of the first header.
        earlier: u64,
        /// Height of the second.
        later: u64,
    },
    /// Two rows that must be of one moment.
    #[error("the act is at header {act}, the reversal at header {reversal}; they must be the same")]
    TwoHeaders {
        /// Header of the reversal's record.
        reversal: Hash,
        /// Header of the act's record.
        act: Hash,
    },
    /// The reversal is of another version of the transaction's record.
    #[error("the reversal is of transaction record {found}; the transaction's is {expected}")]
    OtherOriginal {
        /// Hash of the record of the transaction given.
        expected: Hash,
        /// What the reversal names.
        found: Hash,
    },
    /// Another act than the one that ordered the reversal.
    #[error("the act given is {found}; the reversal names {expected}")]
    OtherAct {
        /// What the reversal names.
        expected: ActId,
        /// What is given.
        found: ActId,
    },
    /// The act was not done.
    #[error("act {0} is not done")]
    ActNotDone(ActId),
    /// The act does not order what the reversal says.
    #[error("act {act} does not reverse transaction {original} in this token and in this way")]
    NotOrdered {
        /// Which act.
        act: ActId,
        /// Which transaction.
        original: TransactionId,
    },
}
