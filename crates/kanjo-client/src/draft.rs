//! Building transactions.

use kanjo_types::signature::SecretKey;
use kanjo_types::transaction::{BODY_VERSION, Operation, SignedTransaction, TransactionBody};
use kanjo_types::{ChainId, UserId};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a transaction may be taken when nothing else is said.
pub const VALID_FOR_DEFAULT: Duration = Duration::from_secs(120);

/// Milliseconds since 1970-01-01 UTC by this machine's clock.
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A transaction could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DraftError {
    /// The system gave no random bytes for the salt.
    #[error("the system's source of randomness failed: {0}")]
    NoRandomness(String),
    /// The ledger would refuse it whatever its state.
    #[error(transparent)]
    Refused(#[from] kanjo_types::transaction::Refused),
}

/// Operations on their way to a signed transaction.
///
/// The salt is drawn at random, and `valid_until_ms` counts from this machine's clock unless
/// [`Draft::at`] gives the ledger's time.
#[derive(Debug, Clone)]
pub struct Draft {
    chain: ChainId,
    author: UserId,
    valid_for: Duration,
    now_ms: Option<u64>,
    operations: Vec<Operation>,
}

impl Draft {
    /// An empty draft, to be signed by `author`'s keys for the ledger `chain`.
    #[must_use]
    pub fn new(chain: ChainId, author: UserId) -> Self {
        Self {
            chain,
            author,
            valid_for: VALID_FOR_DEFAULT,
            now_ms: None,
            operations: Vec::with_capacity(1),
        }
    }

    /// Adds an operation. All are done, or none.
    #[must_use]
    pub fn operation(mut self, operation: Operation) -> Self {
        self.operations.push(operation);
        self
    }

    /// Adds several operations.
    #[must_use]
    pub fn operations(mut self, operations: impl IntoIterator<Item = Operation>) -> Self {
        self.operations.extend(operations);
        self
    }

    /// How long from now the ledger may take it; at most the ledger's replay window.
    #[must_use]
    pub fn valid_for(mut self, valid_for: Duration) -> Self {
        self.valid_for = valid_for;
        self
    }

    /// What "now" is, in milliseconds since 1970-01-01 UTC; this machine's clock unless given.
    #[must_use]
    pub fn at(mut self, now_ms: u64) -> Self {
        self.now_ms = Some(now_ms);
        self
    }

    /// The body to sign, with a fresh salt.
    ///
    /// # Errors
    /// [`DraftError`] when it breaks a rule that needs no ledger, or there is no randomness.
    pub fn body(self) -> Result<TransactionBody, DraftError> {
        let salt = getrandom::u64().map_err(|error| DraftError::NoRandomness(error.to_string()))?;
        let body = self.body_with_salt(salt);
        body.check_shape()?;
        Ok(body)
    }

    /// The body with a given salt and no checks: for load generators that count instead of drawing.
    #[must_use]
    pub fn body_with_salt(self, salt: u64) -> TransactionBody {
        let valid_for_ms = u64::try_from(self.valid_for.as_millis()).unwrap_or(u64::MAX);
        TransactionBody {
            version: BODY_VERSION,
            chain: self.chain,
            author: self.author,
            valid_until_ms: self.now_ms.unwrap_or_else(now_ms).saturating_add(valid_for_ms),
            salt,
            operations: self.operations,
        }
    }

    /// Signs for an author with one key.
    ///
    /// # Errors
    /// As [`Draft::body`].
    pub fn sign(self, key: &SecretKey) -> Result<SignedTransaction, DraftError> {
        Ok(self.body()?.sign(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kanjo_types::{Amount, TokenId, WalletId};

    fn transfer(amount: u128) -> Operation {
        Operation::Transfer {
            token: TokenId(1),
            from: WalletId([1; 16]),
            to: WalletId([2; 16]),
            amount: Amount(amount),
            reference: String::new(),
        }
    }

    #[test]
    fn equal_drafts_have_different_ids_and_a_bounded_life() {
        let draft = Draft::new(ChainId::default(), UserId::default()).at(1_000);
        let draft = draft.operation(transfer(5));
        let (a, b) = (draft.clone().body().expect("fine"), draft.body().expect("fine"));
        assert_ne!(a.id(), b.id());
        assert_eq!(a.valid_until_ms, 121_000);
    }

    #[test]
    fn what_the_ledger_would_refuse_is_refused_here() {
        let draft = Draft::new(ChainId::default(), UserId::default());
        assert!(draft.clone().body().is_err(), "no operations");
        assert!(draft.operation(transfer(0)).body().is_err(), "zero amount");
    }
}
