//! What the operations of the rules of money carry: conditions, legs, schedules, administrative
//! acts and the evidence for reversals.

use crate::access::Access;
use crate::amount::Amount;
use crate::block::{Header, Receipt};
use crate::hash::{self, Hash, TAG_ATTRIBUTE};
use crate::id::{RelationId, TokenId, TransactionId, UserId, WalletId};
use crate::outcome::Refusal;
use crate::policy::{CLASSES_MAX, Policy};
use crate::record::{Record, RowKey, TransactionRecord};
use crate::shape::{Field, Flaw, Shape};
use crate::transaction::REFERENCE_BYTES_MAX;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Most parties beside the author.
pub const PARTIES_MAX: usize = 15;
/// Most legs and most conditions of a bundle on the ledger.
pub const LEGS_MAX: usize = 64;
/// Most pending payments in a chain.
pub const CHAIN_MAX: usize = 64;
/// Most holders of a role, and most guardians of a user.
pub const HOLDERS_MAX: usize = 16;
/// Most roles granted when a token is created.
pub const GRANTS_MAX: usize = 6;
/// Most transactions in a reversal, those that are followed included.
pub const ORIGINALS_MAX: usize = 256;
/// Most wallets that one operation pays interest to.
pub const INTEREST_WALLETS_MAX: usize = 1_000;
/// Shortest time between two dates, and between two tries, of a scheduled payment: the ledger makes
/// them without being asked again, so they must stay rare.
pub const INTERVAL_MIN_MS: u64 = 60_000;
/// Most characters of a reason code.
pub const REASON_CODE_MAX: usize = 16;
/// Most bytes of the name of an attribute.
pub const ATTRIBUTE_NAME_MAX: usize = 32;

/// What must hold when its turn in the transaction comes; otherwise the whole transaction fails.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(tag = "if", rename_all = "snake_case", deny_unknown_fields)]
pub enum Condition {
    /// The wallet holds at least this (without reserved money; an overdrawn wallet holds nothing).
    BalanceAtLeast {
        /// Which wallet.
        wallet: WalletId,
        /// In which token.
        token: TokenId,
        /// How much.
        amount: Amount,
    },
    /// The wallet holds at most this (without reserved money).
    BalanceAtMost {
        /// Which wallet.
        wallet: WalletId,
        /// In which token.
        token: TokenId,
        /// How much.
        amount: Amount,
    },
    /// Before this transaction, the newest state of the wallet had this hash (zero: there was no
    /// state).
    StateIs {
        /// Which wallet.
        wallet: WalletId,
        /// In which token.
        token: TokenId,
        /// Hash of the wallet state.
        state: Hash,
    },
    /// The wallet is approved for the token.
    Approved {
        /// Which wallet.
        wallet: WalletId,
        /// For which token.
        token: TokenId,
    },
    /// The block's time is at or after this.
    NotBefore {
        /// Ledger time, milliseconds since 1970-01-01 UTC.
        time_ms: u64,
    },
    /// The block's time is at or before this.
    NotAfter {
        /// Ledger time, milliseconds since 1970-01-01 UTC.
        time_ms: u64,
    },
    /// Before this transaction, a row had this record (zero: it was not there, or deleted).
    RowIs {
        /// Of which table.
        relation: RelationId,
        /// Which row.
        key: RowKey,
        /// Hash of its record.
        hash: Hash,
    },
    /// Before this transaction, the live rows of a table between two keys were these.
    RangeIs {
        /// Of which table.
        relation: RelationId,
        /// First key.
        from: RowKey,
        /// Last key.
        to: RowKey,
        /// [`crate::row::range_digest`] of the rows.
        digest: Hash,
    },
    /// Before this transaction, a relation had this record (zero: it was not there, or dropped).
    RelationIs {
        /// Which.
        relation: RelationId,
        /// Hash of its record.
        hash: Hash,
    },
}

/// A payment inside a bundle.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leg {
    /// Which token.
    pub token: TokenId,
    /// Paying wallet; its owner must be a party.
    pub from: WalletId,
    /// Receiving wallet.
    pub to: WalletId,
    /// How much.
    pub amount: Amount,
    /// What for, at most 64 bytes; public for ever.
    #[serde(default)]
    pub reference: String,
}

/// How often a standing payment is due.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Every {
    /// Each so many milliseconds.
    Milliseconds(u64),
    /// Each so many months, on the day of the month of the first date (the last day of shorter
    /// months), UTC.
    Months(u16),
}

/// What a scheduled payment does when it can't be made at its time.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum WhenShort {
    /// Leaves this date out.
    Skip,
    /// Ends.
    Stop,
    /// Tries again after `after_ms`, at most `times` times for one date; then leaves it out.
    Retry {
        /// Milliseconds to the next try.
        after_ms: u64,
        /// Most tries after the first.
        times: u8,
    },
}

/// What a user may do for a token, or for another user.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Issues, redeems, pays interest.
    Issuer,
    /// Freezes and unfreezes.
    Freezer,
    /// Reverses payments.
    Reverser,
    /// Approves wallets, sets their class, credit limit and floor.
    Approver,
    /// Records findings.
    Auditor,
    /// Changes the policy and the holders of roles.
    Governor,
    /// Gives a user who lost its keys new ones.
    Guardian,
}

impl Role {
    /// The roles of a token, in order.
    pub const OF_TOKENS: [Self; 6] = [
        Self::Issuer,
        Self::Freezer,
        Self::Reverser,
        Self::Approver,
        Self::Auditor,
        Self::Governor,
    ];

    /// The name, as in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Issuer => "issuer",
            Self::Freezer => "freezer",
            Self::Reverser => "reverser",
            Self::Approver => "approver",
            Self::Auditor => "auditor",
            Self::Governor => "governor",
            Self::Guardian => "guardian",
        }
    }
}

/// Of what a role is.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Of a token.
    Token(TokenId),
    /// Of a user: its guardians.
    User(UserId),
}

/// Who holds a role, and how many of them must agree.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Which role.
    pub role: Role,
    /// 1 … [`HOLDERS_MAX`] users, ascending.
    pub holders: Vec<UserId>,
    /// How many of them must agree: 1 … their number. Two or more is maker and checker.
    pub threshold: u8,
}

/// What is frozen.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum FreezeTarget {
    /// One wallet.
    Wallet(WalletId),
    /// All wallets of a user.
    User(UserId),
    /// Everything in the token.
    Token,
}

/// Which payments a freeze stops.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Those to the wallet.
    Incoming,
    /// Those from the wallet.
    Outgoing,
    /// Both.
    Both,
}

impl Direction {
    /// Does it stop payments to the wallet?
    #[must_use]
    pub fn stops_incoming(self) -> bool {
        matches!(self, Self::Incoming | Self::Both)
    }

    /// Does it stop payments from the wallet?
    #[must_use]
    pub fn stops_outgoing(self) -> bool {
        matches!(self, Self::Outgoing | Self::Both)
    }
}

/// Why an administrative act is done.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// 1 to 16 characters of `A`-`Z`, `0`-`9`, `_`, such as `COURT_ORDER`.
    pub code: String,
    /// A file number or the like, at most 64 bytes; public for ever, so no personal data.
    #[serde(default)]
    pub reference: String,
}

/// An administrative act.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case", deny_unknown_fields)]
pub enum Act {
    /// Brings new money into being. Issuer.
    Issue {
        /// Which token.
        token: TokenId,
        /// Into which wallet.
        to: WalletId,
        /// How much.
        amount: Amount,
    },
    /// Takes money out of being, from a wallet of one of those who agree. Issuer.
    Redeem {
        /// Which token.
        token: TokenId,
        /// From which wallet.
        from: WalletId,
        /// How much.
        amount: Amount,
    },
    /// Freezes. Freezer.
    Freeze {
        /// In which token.
        token: TokenId,
        /// What.
        target: FreezeTarget,
        /// Which payments.
        direction: Direction,
        /// Up to and including this ledger time; without end when absent.
        #[serde(default)]
        until_ms: Option<u64>,
    },
    /// Ends a freeze. Freezer.
    Unfreeze {
        /// In which token.
        token: TokenId,
        /// What.
        target: FreezeTarget,
    },
    /// Sets what holds for one wallet. Approver.
    SetTerms {
        /// In which token.
        token: TokenId,
        /// Which wallet.
        wallet: WalletId,
        /// May it receive, where the token has an allow-list?
        approved: bool,
        /// Its class, below [`CLASSES_MAX`].
        #[serde(default)]
        class: u8,
        /// How far it may be overdrawn.
        #[serde(default)]
        credit: Amount,
        /// What must stay in it.
        #[serde(default)]
        floor: Amount,
    },
    /// Undoes what transactions did in a token (mission M5). Reverser. The operation brings their
    /// evidence.
    Reverse {
        /// In which token.
        token: TokenId,
        /// What is undone, newest first.
        originals: Vec<TransactionId>,
        /// Where the policy says to follow the money: the payments by which it moved on, oldest
        /// first.
        #[serde(default)]
        trail: Vec<TransactionId>,
    },
    /// Changes the policy, within the charter. Governor.
    SetPolicy {
        /// Of which token.
        token: TokenId,
        /// The whole new policy.
        policy: Box<Policy>,
    },
    /// Gives a role to others. Governor.
    SetRole {
        /// Of which token.
        token: TokenId,
        /// Role, holders, threshold.
        grant: Grant,
    },
    /// Gives a user new keys. Guardians of that user, after a delay in which it may object.
    Recover {
        /// Which user.
        user: UserId,
        /// Its new keys.
        access: Box<Access>,
    },
    /// Records that a block was audited. Auditor.
    Audit {
        /// Whose auditor speaks.
        token: TokenId,
        /// Height of the block.
        height: u64,
        /// Hash of its header, as the auditor found it.
        header: Hash,
    },
}

/// An act as ordered.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// What.
    pub act: Act,
    /// Why.
    pub reason: Reason,
    /// Until when others may agree, when more must.
    pub expires_ms: u64,
}

impl Act {
    /// Which role it takes.
    #[must_use]
    pub fn role(&self) -> Role {
        match self {
            Self::Issue { .. } | Self::Redeem { .. } => Role::Issuer,
            Self::Freeze { .. } | Self::Unfreeze { .. } => Role::Freezer,
            Self::SetTerms { .. } => Role::Approver,
            Self::Reverse { .. } => Role::Reverser,
            Self::SetPolicy { .. } | Self::SetRole { .. } => Role::Governor,
            Self::Recover { .. } => Role::Guardian,
            Self::Audit { .. } => Role::Auditor,
        }
    }

    /// Of what.
    #[must_use]
    pub fn scope(&self) -> Scope {
        match self {
            Self::Issue { token, .. }
            | Self::Redeem { token, .. }
            | Self::Freeze { token, .. }
            | Self::Unfreeze { token, .. }
            | Self::SetTerms { token, .. }
            | Self::Reverse { token, .. }
            | Self::SetPolicy { token, .. }
            | Self::SetRole { token, .. }
            | Self::Audit { token, .. } => Scope::Token(*token),
            Self::Recover { user, .. } => Scope::User(*user),
        }
    }

    fn check_shape(&self) -> Shape {
        match self {
            Self::Issue { amount, .. } | Self::Redeem { amount, .. } => Ok(positive(amount)?),
            Self::SetTerms { class, credit, floor, .. } => {
                if usize::from(*class) >= CLASSES_MAX {
                    return Err(Flaw::new(Refusal::InvalidTerms, "class"));
                }
                if credit.0 > 0 && floor.0 > 0 {
                    return Err(Flaw::new(Refusal::InvalidTerms, "floor"));
                }
                Ok(())
            }
            Self::Reverse { originals, trail, .. } => Ok(check_originals(originals, trail)?),
            Self::SetPolicy { policy, .. } => check_policy(policy),
            Self::SetRole { grant, .. } => {
                grant.check_of_token().map_err(|wrong| Flaw::from(wrong).within("grant"))
            }
            Self::Recover { access, .. } => {
                Ok(access.check().map_err(|_| (Refusal::InvalidKeys, "access"))?)
            }
            Self::Freeze { .. } | Self::Unfreeze { .. } | Self::Audit { .. } => Ok(()),
        }
    }
}

fn check_originals(originals: &[TransactionId], trail: &[TransactionId]) -> Field {
    let distinct: BTreeSet<&TransactionId> = originals.iter().chain(trail).collect();
    if originals.is_empty()
        || originals.len() + trail.len() > ORIGINALS_MAX
        || distinct.len() < originals.len() + trail.len()
    {
        return Err((Refusal::InvalidReversal, "originals"));
    }
    Ok(())
}

pub(crate) fn positive(amount: &Amount) -> Field {
    if amount.0 == 0 { Err((Refusal::ZeroAmount, "amount")) } else { Ok(()) }
}

pub(crate) fn check_reference(reference: &str) -> Field {
    if reference.len() > REFERENCE_BYTES_MAX || reference.chars().any(char::is_control) {
        return Err((Refusal::InvalidReference, "reference"));
    }
    Ok(())
}

fn check_users(users: &[UserId], most: usize) -> bool {
    (1..=most).contains(&users.len()) && users.is_sorted_by(|a, b| a < b)
}

/// Checks the parties of a bundle: 1 … [`PARTIES_MAX`], ascending and distinct.
pub(crate) fn check_parties(parties: &[UserId], field: &'static str) -> Field {
    if check_users(parties, PARTIES_MAX) { Ok(()) } else { Err((Refusal::InvalidParties, field)) }
}

pub(crate) fn check_policy(policy: &Policy) -> Shape {
    policy.check().map_err(|field| Flaw::new(Refusal::InvalidPolicy, field).within("policy"))
}

impl Grant {
    /// Checks holders and threshold.
    ///
    /// # Errors
    /// The refusal and its field.
    pub fn check(&self) -> Result<(), (Refusal, &'static str)> {
        if !check_users(&self.holders, HOLDERS_MAX) {
            return Err((Refusal::InvalidRole, "holders"));
        }
        if self.threshold == 0 || usize::from(self.threshold) > self.holders.len() {
            return Err((Refusal::InvalidRole, "threshold"));
        }
        Ok(())
    }

    /// As [`Grant::check`]; the guardians of a user have no role of a token.
    pub(crate) fn check_of_token(&self) -> Field {
        if self.role == Role::Guardian {
            return Err((Refusal::InvalidRole, "role"));
        }
        self.check()
    }
}

impl Order {
    pub(crate) fn check(&self) -> Shape {
        let code = self.reason.code.as_bytes();
        let fine = (1..=REASON_CODE_MAX).contains(&code.len())
            && code.iter().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == b'_');
        if !fine {
            return Err(Flaw::new(Refusal::InvalidReason, "reason.code"));
        }
        check_reference(&self.reason.reference)
            .map_err(|wrong| Flaw::from(wrong).within("reason"))?;
        self.act.check_shape().map_err(|flaw| flaw.within("act"))
    }
}

impl Every {
    pub(crate) fn check(self) -> Field {
        match self {
            Self::Milliseconds(length) if length < INTERVAL_MIN_MS => {
                Err((Refusal::InvalidSchedule, "every.milliseconds"))
            }
            Self::Months(0 | 121..) => Err((Refusal::InvalidSchedule, "every.months")),
            _ => Ok(()),
        }
    }
}

impl WhenShort {
    pub(crate) fn check(self) -> Field {
        match self {
            Self::Retry { after_ms, times } if after_ms < INTERVAL_MIN_MS || times == 0 => {
                Err((Refusal::InvalidSchedule, "when_short"))
            }
            _ => Ok(()),
        }
    }
}

/// What a transaction did, provable against the hash of its block's header: for reversals.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Header of the block.
    pub header: Header,
    /// The transaction's record; it says the position.
    pub record: TransactionRecord,
    /// What came of it.
    pub receipt: Receipt,
    /// RFC 6962 path of the receipt, lowest first, among as many leaves as the header has
    /// transactions.
    pub path: Vec<Hash>,
    /// All record versions it made, in order.
    pub rows: Vec<Record>,
    /// The versions before those wallet states and claims in `rows` that have one, in the same
    /// order.
    pub before: Vec<Record>,
}

/// The commitment to a personal attribute: its name and value stay off the ledger together with the
/// salt, and once these are deleted the commitment says nothing.
#[must_use]
pub fn attribute_commitment(salt: &[u8; 32], name: &str, value: &str) -> Hash {
    let length = (name.len() as u64).to_le_bytes();
    hash::digest(TAG_ATTRIBUTE, &[salt, &length, name.as_bytes(), value.as_bytes()])
}

pub(crate) fn check_attribute_name(name: &str) -> Field {
    let fine = (1..=ATTRIBUTE_NAME_MAX).contains(&name.len())
        && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_');
    if fine { Ok(()) } else { Err((Refusal::InvalidAttribute, "name")) }
}
