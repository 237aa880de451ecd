//! Records of what stands beside the balances: pending payments, bundles, schedules, authorities,
//! acts, terms, freezes, reversals, claims, attributes.
//!
//! They are hash-linked and provable as every record is: [`Links`] has the version before and the
//! transaction.

use crate::amount::Amount;
use crate::hash::Hash;
use crate::id::{
    ActId, BundleId, ClaimId, PendingId, ScheduleId, TokenId, TransactionId, UserId, WalletId,
};
use crate::money::{
    Act, Condition, Direction, Every, FreezeTarget, Leg, Reason, Role, Scope, WhenShort,
};
use crate::outcome::ResultCode;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// Version and hash links of a record.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
pub struct Links {
    /// 1 for the first version.
    pub version: u64,
    /// Hash of the previous version, or zero.
    pub previous: Hash,
    /// Hash of the transaction record this version came from.
    pub transaction: Hash,
}

/// How a pending payment stands.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum PendingStatus {
    /// The money is reserved.
    Open,
    /// This much was paid; the rest went back.
    Posted(Amount),
    /// All went back, by decision.
    Voided,
    /// All went back, at its time.
    Expired,
}

/// A pending (two-phase) payment.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct PendingRecord {
    /// Which.
    pub id: PendingId,
    /// Version and hash links.
    pub links: Links,
    /// Which token.
    pub token: TokenId,
    /// Paying wallet.
    pub from: WalletId,
    /// Receiving wallet.
    pub to: WalletId,
    /// Most that can be posted.
    pub amount: Amount,
    /// Reserved on top for the fee.
    pub fee: Amount,
    /// Ledger time at which it was made.
    pub created_ms: u64,
    /// Last ledger time at which it can be posted.
    pub expires_ms: u64,
    /// Who posts or voids it; the receiver's owner when absent.
    pub agent: Option<UserId>,
    /// The first of its chain; itself when it stands alone.
    pub chain: PendingId,
    /// In the first of a chain: the others.
    pub members: Vec<PendingId>,
    /// What for.
    pub reference: String,
    /// How it stands.
    pub status: PendingStatus,
}

/// A party of a bundle on the ledger.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct BundleParty {
    /// Who.
    pub user: UserId,
    /// Has agreed?
    pub agreed: bool,
}

/// How a bundle stands.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum BundleStatus {
    /// Waits for parties.
    Open,
    /// All agreed, all legs are paid.
    Done,
    /// A party declined.
    Declined,
}

/// A bundle that is collected on the ledger.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct BundleRecord {
    /// Which.
    pub id: BundleId,
    /// Version and hash links.
    pub links: Links,
    /// All parties by ascending id, the proposer included.
    pub parties: Vec<BundleParty>,
    /// What must hold when the last party agrees.
    pub conditions: Vec<Condition>,
    /// What is paid, in order.
    pub legs: Vec<Leg>,
    /// Last ledger time at which a party can agree.
    pub expires_ms: u64,
    /// How it stands.
    pub status: BundleStatus,
}

/// How a scheduled payment stands.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleStatus {
    /// Will run at `next_ms`.
    Active,
    /// All its dates are done.
    Ended,
    /// Ended because it could not pay.
    Stopped,
    /// Ended by the payer.
    Cancelled,
}

/// What came of a try of a scheduled payment.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Run {
    /// The date it was for.
    pub due_ms: u64,
    /// When it was tried.
    pub at_ms: u64,
    /// What came of it.
    pub result: ResultCode,
}

/// A scheduled (once) or standing (again and again) payment.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ScheduleRecord {
    /// Which.
    pub id: ScheduleId,
    /// Version and hash links.
    pub links: Links,
    /// Which token.
    pub token: TokenId,
    /// Paying wallet.
    pub from: WalletId,
    /// Receiving wallet.
    pub to: WalletId,
    /// How much each time.
    pub amount: Amount,
    /// First date, ledger time.
    pub first_ms: u64,
    /// How often; once when absent.
    pub every: Option<Every>,
    /// How many dates in all; without end when absent.
    pub times: Option<u32>,
    /// What happens when it can't be paid.
    pub when_short: WhenShort,
    /// What for.
    pub reference: String,
    /// Number of the date it stands at, counted from 0.
    pub date: u32,
    /// Tries already made for that date.
    pub tries: u8,
    /// When it runs next.
    pub next_ms: u64,
    /// How often it was paid.
    pub paid: u32,
    /// The last try.
    pub last: Option<Run>,
    /// How it stands.
    pub status: ScheduleStatus,
}

/// Who holds a role.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct AuthorityRecord {
    /// Of what.
    pub scope: Scope,
    /// Which role.
    pub role: Role,
    /// Version and hash links.
    pub links: Links,
    /// Holders, ascending.
    pub holders: Vec<UserId>,
    /// How many must agree.
    pub threshold: u8,
    /// How long after they agree the act takes effect, in milliseconds (guardians; otherwise 0).
    pub delay_ms: u64,
}

/// How an act stands.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum ActStatus {
    /// More holders must agree.
    Proposed,
    /// Enough agreed; takes effect by `finish` from this ledger time on.
    Waiting(u64),
    /// Done.
    Done,
    /// Rejected by a holder, withdrawn, or vetoed by the user it concerns.
    Rejected,
}

/// An administrative act: the table of its own that issue and audit look at.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ActRecord {
    /// Which.
    pub id: ActId,
    /// Version and hash links.
    pub links: Links,
    /// What.
    pub act: Act,
    /// Why.
    pub reason: Reason,
    /// Who ordered it.
    pub maker: UserId,
    /// Holders of the role that agreed, in the order in which they did, the maker included.
    pub agreed: Vec<UserId>,
    /// Who rejected it.
    pub rejected_by: Option<UserId>,
    /// Last ledger time at which holders can agree.
    pub expires_ms: u64,
    /// Relation: hash of the record of the authority before the last change (zero: the token's
    /// issuer alone, by its token record; or the token was made in the same transaction).
    pub authority: Hash,
    /// Relation: hash of the token's record, with its policy, before the last change (zero for
    /// acts on users).
    pub token_record: Hash,
    /// How it stands.
    pub status: ActStatus,
}

/// What the approver set for a wallet in a token.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct TermsRecord {
    /// Which wallet.
    pub wallet: WalletId,
    /// In which token.
    pub token: TokenId,
    /// Version and hash links.
    pub links: Links,
    /// May it receive, where the token has an allow-list?
    pub approved: bool,
    /// Class.
    pub class: u8,
    /// How far it may be overdrawn.
    pub credit: Amount,
    /// What must stay in it.
    pub floor: Amount,
    /// By which act.
    pub act: ActId,
}

/// A freeze in force.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Freeze {
    /// Which payments.
    pub direction: Direction,
    /// Up to and including this ledger time; without end when absent.
    pub until_ms: Option<u64>,
}

/// Whether something is frozen.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct FreezeRecord {
    /// In which token.
    pub token: TokenId,
    /// What.
    pub target: FreezeTarget,
    /// Version and hash links.
    pub links: Links,
    /// How; `None` after the freeze was ended.
    pub freeze: Option<Freeze>,
    /// By which act.
    pub act: ActId,
    /// Why: as in the act.
    pub reason: Reason,
}

impl FreezeRecord {
    /// The freeze in force at a ledger time.
    #[must_use]
    pub fn at(&self, time_ms: u64) -> Option<Freeze> {
        self.freeze.filter(|freeze| freeze.until_ms.is_none_or(|until| time_ms <= until))
    }
}

/// What a reversal did with a transaction.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum ReversalKind {
    /// Undid it.
    Reversed,
    /// Followed the money through it.
    Followed,
}

/// How much a reversal moved in one wallet on account of one transaction.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct ReversalMove {
    /// Which wallet.
    pub wallet: WalletId,
    /// Hash of the wallet state that the transaction made and that is undone.
    pub undone: Hash,
    /// What the transaction had given the wallet and is taken back.
    pub taken: Amount,
    /// What the transaction had taken from the wallet and is given back.
    pub given: Amount,
}

/// A transaction that a reversal undid or followed, in one token. A transaction has at most one.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ReversalRecord {
    /// Which transaction.
    pub original: TransactionId,
    /// In which token.
    pub token: TokenId,
    /// Version and hash links.
    pub links: Links,
    /// Undone or followed.
    pub kind: ReversalKind,
    /// Relation: hash of the original's record.
    pub original_record: Hash,
    /// Relation: hash of the token's record, with its policy, before the reversal.
    pub token_record: Hash,
    /// By which act: authority, reason.
    pub act: ActId,
    /// What it meant, wallet by wallet. For a followed transaction: what was passed on by it.
    pub moves: Vec<ReversalMove>,
}

/// What a wallet owes after a reversal.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ClaimRecord {
    /// Which.
    pub id: ClaimId,
    /// Version and hash links.
    pub links: Links,
    /// In which token.
    pub token: TokenId,
    /// Who owes.
    pub debtor: WalletId,
    /// To whom.
    pub creditor: WalletId,
    /// At first.
    pub amount: Amount,
    /// Paid since.
    pub paid: Amount,
    /// From which reversal.
    pub act: ActId,
}

/// A salted commitment to a personal attribute of a user; the attribute itself is kept elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct AttributeRecord {
    /// Whose.
    pub user: UserId,
    /// Name, such as `legal_name`.
    pub name: String,
    /// Version and hash links.
    pub links: Links,
    /// [`crate::money::attribute_commitment`].
    pub commitment: Hash,
    /// Who keeps the attribute, and says when it is erased.
    pub custodian: UserId,
    /// Ledger time at which the custodian declared the attribute erased.
    pub erased_ms: Option<u64>,
}
