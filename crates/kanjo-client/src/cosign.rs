//! Collecting the signatures of a user with several keys, possibly on different machines.

use kanjo_types::access::{Access, KeySignature};
use kanjo_types::signature::{self, SecretKey};
use kanjo_types::transaction::{SignedTransaction, TransactionBody};
use kanjo_types::{PublicKey, TransactionId};
use serde::{Deserialize, Serialize};

/// The only version of the collected form.
const VERSION: u8 = 1;

/// A transaction whose signatures are being collected. Its JSON is the file that is passed around;
/// it holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cosigning {
    version: u8,
    body: TransactionBody,
    access: Access,
    signatures: Vec<KeySignature>,
}

/// A signature could not be added or the whole not finished.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CosignError {
    /// Not this software's version.
    #[error("version {0} of the file; this software knows version 1")]
    Version(u8),
    /// The key is not the author's.
    #[error("the key {0} is none of the author's keys")]
    ForeignKey(PublicKey),
    /// This key has signed.
    #[error("the key {0} has signed already")]
    SignedAlready(PublicKey),
    /// As many as needed are there.
    #[error("all {0} signatures that are needed are there; submit it")]
    Complete(u8),
    /// Some are missing.
    #[error("{found} of {needed} signatures; {} more needed", needed - found)]
    Missing {
        /// Signatures there.
        found: u8,
        /// Signatures needed.
        needed: u8,
    },
    /// A signature in the file is wrong: the content was changed after signing.
    #[error(
        "the signature at key position {0} does not fit the content: it was changed after signing"
    )]
    BadSignature(u8),
    /// The transaction or the keys break a rule.
    #[error("{0}")]
    Invalid(String),
}

impl Cosigning {
    /// Starts collecting signatures over `body` by the keys of its author.
    #[must_use]
    pub fn new(body: TransactionBody, access: Access) -> Self {
        Self { version: VERSION, body, access, signatures: Vec::new() }
    }

    /// What is signed.
    #[must_use]
    pub fn body(&self) -> &TransactionBody {
        &self.body
    }

    /// Whose keys sign.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The id of the transaction.
    #[must_use]
    pub fn id(&self) -> TransactionId {
        self.body.id()
    }

    /// Signatures there, and signatures needed.
    #[must_use]
    pub fn progress(&self) -> (u8, u8) {
        let found = u8::try_from(self.signatures.len()).unwrap_or(u8::MAX);
        (found, self.access.threshold())
    }

    /// The author's keys that have not signed.
    #[must_use]
    pub fn open_keys(&self) -> Vec<PublicKey> {
        let keys = self.access.keys().iter().enumerate();
        keys.filter(|(position, _)| {
            !self.signatures.iter().any(|s| usize::from(s.key) == *position)
        })
        .map(|(_, key)| *key)
        .collect()
    }

    /// Checks version, shape, keys and every signature there.
    ///
    /// # Errors
    /// The first thing wrong.
    pub fn check(&self) -> Result<(), CosignError> {
        if self.version != VERSION {
            return Err(CosignError::Version(self.version));
        }
        self.body.check_shape().map_err(|error| CosignError::Invalid(error.to_string()))?;
        self.access.check().map_err(|error| CosignError::Invalid(error.to_string()))?;
        let id = self.id().0;
        let ascending = self.signatures.is_sorted_by(|a, b| a.key < b.key);
        for one in &self.signatures {
            let key = self.access.keys().get(usize::from(one.key));
            let good = key.is_some_and(|key| signature::verify(key, &id, &one.signature));
            if !good || !ascending {
                return Err(CosignError::BadSignature(one.key));
            }
        }
        Ok(())
    }

    /// Adds the signature of one of the author's keys.
    ///
    /// # Errors
    /// [`CosignError`] when the key is not the author's, has signed, or enough signatures are
    /// there.
    pub fn sign(&mut self, key: &SecretKey) -> Result<(), CosignError> {
        let public = key.public();
        let (found, needed) = self.progress();
        let position = self
            .access
            .keys()
            .iter()
            .position(|own| *own == public)
            .and_then(|position| u8::try_from(position).ok())
            .ok_or(CosignError::ForeignKey(public))?;
        if self.signatures.iter().any(|one| one.key == position) {
            return Err(CosignError::SignedAlready(public));
        }
        if found >= needed {
            return Err(CosignError::Complete(needed));
        }
        let signature = key.sign(&self.id().0);
        self.signatures.push(KeySignature { key: position, signature });
        self.signatures.sort_unstable_by_key(|one| one.key);
        Ok(())
    }

    /// The signed transaction, when enough signatures are there.
    ///
    /// # Errors
    /// [`CosignError::Missing`], or what [`Cosigning::check`] finds.
    pub fn finish(self) -> Result<SignedTransaction, CosignError> {
        self.check()?;
        let (found, needed) = self.progress();
        if found < needed {
            return Err(CosignError::Missing { found, needed });
        }
        Ok(SignedTransaction { body: self.body, signatures: self.signatures })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Draft;
    use kanjo_types::signature::KeyKind;
    use kanjo_types::{ChainId, Operation, UserId};

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed(KeyKind::Ed25519, [seed; 32]).expect("valid seed")
    }

    fn two_of_three() -> Cosigning {
        let keys = [1, 2, 3].map(|seed| key(seed).public()).to_vec();
        let access = Access::new(2, keys).expect("valid");
        let body = Draft::new(ChainId::default(), UserId::default())
            .operation(Operation::CreateWallet { owner: UserId::default(), number: 0 })
            .body()
            .expect("valid");
        Cosigning::new(body, access)
    }

    #[test]
    fn two_of_three_sign_in_any_order() {
        let mut draft = two_of_three();
        draft.sign(&key(3)).expect("first");
        assert_eq!(draft.sign(&key(3)), Err(CosignError::SignedAlready(key(3).public())));
        assert_eq!(draft.sign(&key(4)), Err(CosignError::ForeignKey(key(4).public())));
        assert_eq!(draft.clone().finish(), Err(CosignError::Missing { found: 1, needed: 2 }));
        draft.sign(&key(1)).expect("second");
        assert_eq!(draft.sign(&key(2)), Err(CosignError::Complete(2)));
        let json = serde_json::to_string(&draft).expect("json");
        let back: Cosigning = serde_json::from_str(&json).expect("json");
        let signed = back.finish().expect("complete");
        assert!(signed.signatures.is_sorted_by(|a, b| a.key < b.key));
    }

    #[test]
    fn content_changed_after_signing_is_noticed() {
        let mut draft = two_of_three();
        draft.sign(&key(1)).expect("first");
        draft.body.salt ^= 1;
        assert!(matches!(draft.check(), Err(CosignError::BadSignature(_))));
    }
}
