//! What came of a transaction: result codes of the ledger and refusals before it.
//!
//! - A **refusal** means the ledger never took the transaction: nothing is recorded, and the id is
//!   not used.
//! - A **result** is recorded in a block under the transaction's id, for ever. A failed id never
//!   succeeds later.
//!
//! Where several refusals apply, the one named first in [`Refusal`] is given. Within a transaction
//! the first failing operation decides; for one operation the checks come in this order: what it
//! names exists, the signers may do it, the policy permits it, times and states allow it, freezes,
//! approval, claims, limits, funds, what the receiver may hold (`docs/money.md`).

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $number:literal, $code:literal, $sentence:literal;)* }) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash,
            BorshSerialize, BorshDeserialize, Serialize, Deserialize,
        )]
        #[borsh(use_discriminant = true)]
        #[serde(rename_all = "snake_case")]
        #[repr(u8)]
        pub enum $name {
            $(#[doc = $sentence] $variant = $number,)*
        }

        impl $name {
            /// Every code, by number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name, as in JSON.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// One sentence for people.
            #[must_use]
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}: {}", self.code(), self.sentence())
            }
        }
    };
}

codes! {
    /// Result of a recorded transaction.
    ResultCode {
        Ok = 0, "ok", "Done.";
        NotPermitted = 1, "not_permitted", "The author has no authority for this operation on this ledger.";
        UserExists = 2, "user_exists", "A user with these keys and this number is already there.";
        UnknownUser = 3, "unknown_user", "There is no such user; create it first.";
        NotYourUser = 4, "not_your_user", "Only the user itself may change its keys.";
        WalletExists = 5, "wallet_exists", "This user already has a wallet with this number.";
        SymbolTaken = 6, "symbol_taken", "A token with this symbol is already there.";
        UnknownToken = 7, "unknown_token", "There is no such token; list the tokens to see their ids.";
        UnknownSourceWallet = 8, "unknown_source_wallet", "The paying wallet does not exist.";
        UnknownTargetWallet = 9, "unknown_target_wallet", "The receiving wallet does not exist.";
        NotIssuer = 10, "not_issuer", "Only the token's issuer may issue or redeem it.";
        NotWalletOwner = 11, "not_wallet_owner", "Only the owner of the paying wallet may spend from it.";
        InsufficientFunds = 12, "insufficient_funds", "The paying wallet holds less than the amount.";
        BalanceOverflow = 13, "balance_overflow", "The receiving balance would exceed 2^128 - 1.";
        SupplyOverflow = 14, "supply_overflow", "The token's issued total would exceed 2^128 - 1.";
        TokensExhausted = 15, "tokens_exhausted", "The ledger holds as many tokens as it can number.";
        UnknownWallet = 16, "unknown_wallet", "There is no such wallet.";
        UnknownPending = 17, "unknown_pending", "There is no such pending payment; name the first of its chain.";
        UnknownBundle = 18, "unknown_bundle", "There is no such bundle on the ledger.";
        UnknownSchedule = 19, "unknown_schedule", "There is no such scheduled payment.";
        UnknownAct = 20, "unknown_act", "There is no such administrative act.";
        UnknownClaim = 21, "unknown_claim", "There is no such claim.";
        UnknownAttribute = 22, "unknown_attribute", "This user has no such attribute.";
        NotHolder = 23, "not_holder", "The signers hold none of the role that this act takes.";
        NotAgent = 24, "not_agent", "Only the agent of the pending payment (by default the receiver's owner) may do this.";
        NotParty = 25, "not_party", "Only a party of the bundle may do this.";
        NotScheduleOwner = 26, "not_schedule_owner", "Only the owner of the paying wallet may end a scheduled payment.";
        NotCustodian = 27, "not_custodian", "Only the user, its sponsor, or who keeps the attribute may do this.";
        ApprovalNeeded = 28, "approval_needed", "This role takes several holders: order it as an act and let them agree.";
        PolicyForbids = 29, "policy_forbids", "The token's policy does not permit this.";
        AgainstCharter = 30, "against_charter", "The change is harsher to holders than the token's charter, which can never be exceeded.";
        InvalidTime = 31, "invalid_time", "The time lies in the past, or too far ahead.";
        InvalidChain = 32, "invalid_chain", "A linked reservation follows another of the transaction, with the same expiry; at most 64.";
        AlreadySettled = 33, "already_settled", "The pending payment was posted, voided or has expired before.";
        PendingExpired = 34, "pending_expired", "The time to post has passed; the money goes back to the payer.";
        PostTooMuch = 35, "post_too_much", "More than was reserved.";
        PartOfChain = 36, "part_of_chain", "A chain of pending payments is posted whole; leave the amount out.";
        BundleClosed = 37, "bundle_closed", "The bundle was paid or declined before.";
        BundleExpired = 38, "bundle_expired", "The time to agree has passed.";
        AlreadyAgreed = 39, "already_agreed", "The signer has agreed before.";
        ScheduleEnded = 40, "schedule_ended", "The scheduled payment has ended before.";
        ActClosed = 41, "act_closed", "The act was done or rejected before.";
        ActExpired = 42, "act_expired", "The time to agree to the act has passed.";
        ActWaiting = 43, "act_waiting", "Enough have agreed; the act waits for its delay to pass.";
        ActNotReady = 44, "act_not_ready", "The act can't be finished yet: holders must agree, or its delay must pass.";
        AlreadyFrozen = 45, "already_frozen", "It is frozen in this way already.";
        NotFrozen = 46, "not_frozen", "It is not frozen.";
        ReversalTooLate = 47, "reversal_too_late", "The token's reversal window has passed for one of the transactions.";
        AlreadyReversed = 48, "already_reversed", "One of the transactions was reversed or followed before.";
        BadEvidence = 49, "bad_evidence", "The evidence does not prove the named transactions on this ledger, in this order.";
        NotReversible = 50, "not_reversible", "One of the transactions failed, issued or redeemed, or moved nothing in this token.";
        FundsMoved = 51, "funds_moved", "The money was paid on, and the token's policy gives no way to the missing part.";
        ClaimSettled = 52, "claim_settled", "The claim was paid in full before.";
        AttributeErased = 53, "attribute_erased", "The attribute was erased before.";
        TokenFrozen = 54, "token_frozen", "All payments in the token are frozen.";
        SourceFrozen = 55, "source_frozen", "Payments from the paying wallet are frozen.";
        TargetFrozen = 56, "target_frozen", "Payments to the receiving wallet are frozen.";
        NotApproved = 57, "not_approved", "The receiving wallet is not approved for this token.";
        ClaimOpen = 58, "claim_open", "The paying wallet owes a claim from a reversal; settle it first.";
        PaymentLimit = 59, "payment_limit", "More than the wallet's class may pay in one payment.";
        DayLimit = 60, "day_limit", "More than the wallet's class may pay in one day.";
        BelowFloor = 61, "below_floor", "The paying wallet would fall below its floor.";
        BalanceLimit = 62, "balance_limit", "The receiving wallet would hold more than its class may.";
        SupplyCap = 63, "supply_cap", "More would be in circulation than the token's supply cap.";
        NothingIssued = 64, "nothing_issued", "More would be redeemed than was issued.";
        NothingToPay = 65, "nothing_to_pay", "There is nothing to pay: no interest is due, or the debtor holds nothing.";
        BalanceTooLow = 66, "balance_too_low", "Condition not met: the wallet holds less.";
        BalanceTooHigh = 67, "balance_too_high", "Condition not met: the wallet holds more.";
        StateChanged = 68, "state_changed", "Condition not met: the wallet has another state.";
        WalletNotApproved = 69, "wallet_not_approved", "Condition not met: the wallet is not approved for the token.";
        TooEarly = 70, "too_early", "Condition not met: the time has not come.";
        TooLate = 71, "too_late", "Condition not met: the time has passed.";
        TooMuch = 72, "too_much", "The operations up to this one change more than one transaction may; split it.";
        UnknownMember = 73, "unknown_member", "The cluster has no member with this number.";
        MemberExists = 74, "member_exists", "The cluster has or had a member with this name, vote key or link key.";
        MemberStanding = 75, "member_standing", "The member does not stand so that this can be done; see its status.";
        LastVoter = 76, "last_voter", "The cluster would be left without a voter that executes.";
        TooManyMembers = 77, "too_many_members", "A cluster has at most 1,024 members, those included that left.";
        UnknownMeasurement = 78, "unknown_measurement", "This program is not allowed.";
        MeasurementExists = 79, "measurement_exists", "This program is allowed already.";
        TooManyMeasurements = 80, "too_many_measurements", "At most 16 programs are allowed at one time.";
        LastMeasurement = 81, "last_measurement", "The only program allowed; without it none would be checked. Allow another first.";
        GovernorsNeeded = 82, "governors_needed", "More governors must sign this; name them as parties.";
        MembershipChanged = 83, "membership_changed", "The membership changed in this block already; order it again.";
        NoSuchRelation = 84, "no_such_relation", "There is no such table or view, or it was dropped.";
        RelationExists = 85, "relation_exists", "A table or view with this name is already there.";
        NotATable = 86, "not_a_table", "This is a view; only tables have rows, columns and constraints.";
        DefinitionChanged = 87, "definition_changed", "The table's definition changed meanwhile; plan it again.";
        BadDefinition = 88, "bad_definition", "The definition breaks a rule: names, types, keys or an expression.";
        RelationInUse = 89, "relation_in_use", "A foreign key of another table depends on it; drop that first.";
        UnknownPart = 90, "unknown_part", "The table has no constraint or index with this name.";
        RowChanged = 91, "row_changed", "The row or the range changed meanwhile; plan it again.";
        RowExists = 92, "row_exists", "A row with this primary key is already there.";
        NotUnique = 93, "not_unique", "Another row has these values, which a constraint keeps unique.";
        NullValue = 94, "null_value", "A column that must have a value has none.";
        WrongType = 95, "wrong_type", "A value is not of its column's type, or there are not as many as columns.";
        OutOfRange = 96, "out_of_range", "A number does not fit its column's type.";
        TextTooLong = 97, "text_too_long", "A text has more characters than its column's type permits.";
        BadText = 98, "bad_text", "A text has the character NUL, or is not well-formed JSON.";
        CheckFailed = 99, "check_failed", "A row breaks a CHECK constraint.";
        ForeignMissing = 100, "foreign_missing", "A row references a row that is not there.";
        StillReferenced = 101, "still_referenced", "A row that is deleted or changed is still referenced.";
        ArithmeticOverflow = 102, "arithmetic_overflow", "A result of arithmetic in a constraint does not fit its type.";
        DivisionByZero = 103, "division_by_zero", "A constraint divides by zero.";
        KeyChanged = 104, "key_changed", "An update changes the primary key; delete the row and insert another.";
        RowTooLarge = 105, "row_too_large", "A row has more than 65,536 bytes, or its primary key more than 1,024.";
        TooMany = 106, "too_many", "More relations, columns, constraints, grants or rows than there may be.";
    }
}

codes! {
    /// Why a transaction was not taken. Nothing was recorded; a later, corrected one may be sent.
    Refusal {
        Malformed = 0, "malformed", "The bytes or the JSON are not a signed transaction.";
        UnsupportedVersion = 1, "unsupported_version", "This node knows transaction version 1 only.";
        WrongChain = 2, "wrong_chain", "The transaction was signed for another ledger (chain id differs).";
        TooLarge = 3, "too_large", "The transaction or request exceeds the size limit; split it.";
        NoOperations = 4, "no_operations", "A transaction has 1 to 8,190 operations.";
        TooManyOperations = 5, "too_many_operations", "A transaction has 1 to 8,190 operations; split it.";
        ZeroAmount = 6, "zero_amount", "The amount is zero; it must be at least one smallest unit.";
        SameWallet = 7, "same_wallet", "A wallet can't pay itself.";
        InvalidKeys = 8, "invalid_keys", "The keys or their threshold break a rule of shared access.";
        InvalidSymbol = 9, "invalid_symbol", "A token symbol has 1 to 12 characters of A-Z and 0-9, letter first.";
        InvalidName = 10, "invalid_name", "A token name has 1 to 64 bytes without control characters.";
        InvalidDecimals = 11, "invalid_decimals", "A token has 0 to 30 decimal places.";
        InvalidReference = 12, "invalid_reference", "A reference has at most 64 bytes without control characters.";
        InvalidPolicy = 13, "invalid_policy", "A field of the token's policy is out of its bounds.";
        InvalidRole = 14, "invalid_role", "A role has 1 to 16 distinct holders in ascending order, and a threshold of 1 to their number.";
        InvalidParties = 15, "invalid_parties", "Parties come first, once: 1 to 15 distinct users in ascending order, without the author.";
        InvalidBundle = 16, "invalid_bundle", "A bundle has 1 to 64 legs and at most 64 conditions.";
        InvalidSchedule = 17, "invalid_schedule", "Intervals are a minute at least, or 1 to 120 months; 'times' needs 'every'.";
        InvalidReason = 18, "invalid_reason", "A reason code has 1 to 16 characters of A-Z, 0-9 and _.";
        InvalidTerms = 19, "invalid_terms", "Classes are 0 to 7, and a wallet has a credit limit or a floor, not both.";
        InvalidReversal = 20, "invalid_reversal", "A reversal names 1 to 256 distinct transactions, with evidence for each.";
        InvalidAttribute = 21, "invalid_attribute", "The name of an attribute has 1 to 32 characters of a-z, 0-9 and _.";
        InvalidInterest = 22, "invalid_interest", "Interest takes 1 to 1,000 wallets, a rate, days, and a year of 360, 365 or 366 days.";
        InvalidMember = 23, "invalid_member", "Name, address and API have 1 to 128 bytes without control characters; keys are keys.";
        LedgerOnly = 24, "ledger_only", "Only the ledger itself does this, at its time; it needs no order.";
        Expired = 25, "expired", "valid_until has passed; sign again with a later time.";
        ValidTooLong = 26, "valid_too_long", "valid_until is further ahead than this ledger remembers ids.";
        AlreadyUsed = 27, "already_used", "This transaction id is already in the ledger; see its receipt.";
        UnknownAuthor = 28, "unknown_author", "The author is not a user of this ledger.";
        SignatureCount = 29, "signature_count", "As many signatures as the author's threshold are needed.";
        SignatureOrder = 30, "signature_order", "Signatures must be by distinct keys in ascending key position.";
        UnknownKey = 31, "unknown_key", "A signature names a key position that the author does not have.";
        BadSignature = 32, "bad_signature", "A signature does not verify: wrong key, or the content was changed.";
        Overloaded = 33, "overloaded", "The node has as much work as it can hold; try again shortly.";
        StorageFull = 34, "storage_full", "The node's disk is full; nothing was lost; try again when it has room.";
        Stopping = 35, "stopping", "The node is stopping or has stopped after a disk error.";
        NoLeader = 36, "no_leader", "The cluster has no leader at the moment; send the same again shortly.";
    }
}

impl ResultCode {
    /// True for [`ResultCode::Ok`].
    #[must_use]
    pub fn is_ok(self) -> bool {
        self == Self::Ok
    }
}

impl Refusal {
    /// True when the very same transaction may be sent again later without change.
    #[must_use]
    pub fn is_temporary(self) -> bool {
        matches!(
            self,
            Self::Overloaded
                | Self::StorageFull
                | Self::Stopping
                | Self::UnknownAuthor
                | Self::NoLeader
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_their_json_names_and_numbered_in_order() {
        for (position, code) in ResultCode::ALL.iter().enumerate() {
            assert_eq!(serde_json::to_string(code).expect("json"), format!("\"{}\"", code.code()));
            assert_eq!(usize::from(*code as u8), position);
        }
        for (position, code) in Refusal::ALL.iter().enumerate() {
            assert_eq!(serde_json::to_string(code).expect("json"), format!("\"{}\"", code.code()));
            assert_eq!(usize::from(*code as u8), position);
        }
    }
}
