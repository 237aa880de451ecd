//! What came of a transaction: result codes of the ledger and refusals before it.
//!
//! - A **refusal** means the ledger never took the transaction: nothing is recorded, and the id is
//!   not used.
//! - A **result** is recorded in a block under the transaction's id, for ever. A failed id never
//!   succeeds later.
//!
//! Where several apply, the one named first here is given ([`ResultCode`] and [`Refusal`] are in
//! order of precedence; within a transaction the first failing operation decides).

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
            /// Every code, in order of precedence.
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
        Expired = 13, "expired", "valid_until has passed; sign again with a later time.";
        ValidTooLong = 14, "valid_too_long", "valid_until is further ahead than this ledger remembers ids.";
        AlreadyUsed = 15, "already_used", "This transaction id is already in the ledger; see its receipt.";
        UnknownAuthor = 16, "unknown_author", "The author is not a user of this ledger.";
        SignatureCount = 17, "signature_count", "As many signatures as the author's threshold are needed.";
        SignatureOrder = 18, "signature_order", "Signatures must be by distinct keys in ascending key position.";
        UnknownKey = 19, "unknown_key", "A signature names a key position that the author does not have.";
        BadSignature = 20, "bad_signature", "A signature does not verify: wrong key, or the content was changed.";
        Overloaded = 21, "overloaded", "The node has as much work as it can hold; try again shortly.";
        StorageFull = 22, "storage_full", "The node's disk is full; nothing was lost; try again when it has room.";
        Stopping = 23, "stopping", "The node is stopping or has stopped after a disk error.";
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
        matches!(self, Self::Overloaded | Self::StorageFull | Self::Stopping | Self::UnknownAuthor)
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
