//! Collecting the signatures of a transaction, possibly on different machines: of one user with
//! several keys, or of several users (author and parties), each with its own keys.
//!
//! ```text
//! { "version": 2, "body": { … },
//!   "signers": [ { "user": "kju1…", "access": { … } }, … ],   author first, then the parties
//!   "signatures": [ { "key": 0, "signature": "…" }, … ] }
//! ```
//! Keys are counted through: the author's first, then those of each party in its order.

use kanjo_types::access::{Access, KeySignature};
use kanjo_types::signature::{self, SecretKey};
use kanjo_types::transaction::{SignedTransaction, TransactionBody};
use kanjo_types::{PublicKey, TransactionId, UserId};
use serde::{Deserialize, Serialize};

/// The only version of the collected form.
const VERSION: u8 = 2;

/// A transaction whose signatures are being collected. Its JSON is the file that is passed around;
/// it holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cosigning {
    version: u8,
    body: TransactionBody,
    signers: Vec<Signer>,
    signatures: Vec<KeySignature>,
}

/// A user that signs, with its keys as the ledger had them when the draft was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signer {
    /// Who.
    pub user: UserId,
    /// Its keys.
    pub access: Access,
}

/// How far one signer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SignerProgress {
    /// Who.
    pub user: UserId,
    /// Signatures there.
    pub found: u16,
    /// Signatures needed.
    pub needed: u16,
}

impl SignerProgress {
    /// Are all its signatures there?
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.found >= self.needed
    }
}

/// A signature could not be added or the whole not finished.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CosignError {
    /// Not this software's version.
    #[error("version {0} of the file; this software knows version 2")]
    Version(u8),
    /// Keys of other users than those that must sign.
    #[error(
        "the file has keys of other users than the transaction names: the author signs first, then \
         its parties in ascending order"
    )]
    Signers,
    /// The key belongs to none of the signers.
    #[error("the key {0} is none of the signers' keys")]
    ForeignKey(PublicKey),
    /// This key has signed.
    #[error("the key {0} has signed already")]
    SignedAlready(PublicKey),
    /// As many as needed are there, of the users that this key signs for.
    #[error("all {0} signatures that are needed of this signer are there; no more are taken")]
    Complete(u16),
    /// Some are missing.
    #[error("{found} of {needed} signatures; {} more needed", needed - found)]
    Missing {
        /// Signatures there.
        found: u16,
        /// Signatures needed.
        needed: u16,
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
        let signers = vec![Signer { user: body.author, access }];
        Self { version: VERSION, body, signers, signatures: Vec::new() }
    }

    /// Starts collecting signatures of the author and of the parties that `body` names.
    ///
    /// # Errors
    /// [`CosignError::Signers`] when `signers` are not the author and then the parties in the
    /// body's order.
    pub fn together(body: TransactionBody, signers: Vec<Signer>) -> Result<Self, CosignError> {
        let started = Self { version: VERSION, body, signers, signatures: Vec::new() };
        started.check_signers()?;
        Ok(started)
    }

    /// What is signed.
    #[must_use]
    pub fn body(&self) -> &TransactionBody {
        &self.body
    }

    /// Who signs: the author, then the parties.
    #[must_use]
    pub fn signers(&self) -> &[Signer] {
        &self.signers
    }

    /// The id of the transaction.
    #[must_use]
    pub fn id(&self) -> TransactionId {
        self.body.id()
    }

    /// Signatures there, and signatures needed, of all signers together.
    #[must_use]
    pub fn progress(&self) -> (u16, u16) {
        let each = self.progress_by_signer();
        let sum = |part: fn(&SignerProgress) -> u16| {
            each.iter().map(part).fold(0u16, u16::saturating_add)
        };
        (sum(|signer| signer.found), sum(|signer| signer.needed))
    }

    /// How far each signer is, in their order.
    #[must_use]
    pub fn progress_by_signer(&self) -> Vec<SignerProgress> {
        let mut offset = 0usize;
        let one = |signer: &Signer| {
            let end = offset + signer.access.keys().len();
            let own = |s: &&KeySignature| (offset..end).contains(&usize::from(s.key));
            let found = u16::try_from(self.signatures.iter().filter(own).count());
            offset = end;
            SignerProgress {
                user: signer.user,
                found: found.unwrap_or(u16::MAX),
                needed: u16::from(signer.access.threshold()),
            }
        };
        self.signers.iter().map(one).collect()
    }

    /// Every key position with its key and the position of its signer.
    fn places(&self) -> impl Iterator<Item = (u8, &PublicKey, usize)> {
        let keys = self
            .signers
            .iter()
            .enumerate()
            .flat_map(|(signer, one)| one.access.keys().iter().map(move |key| (key, signer)));
        (0..=u8::MAX).zip(keys).map(|(position, (key, signer))| (position, key, signer))
    }

    fn has_signed(&self, position: u8) -> bool {
        self.signatures.iter().any(|one| one.key == position)
    }

    /// The keys that have not signed, of signers that still need signatures.
    #[must_use]
    pub fn open_keys(&self) -> Vec<PublicKey> {
        let progress = self.progress_by_signer();
        let open = |signer: usize| progress.get(signer).is_some_and(|one| !one.is_complete());
        self.places()
            .filter(|(position, _, signer)| open(*signer) && !self.has_signed(*position))
            .map(|(_, key, _)| *key)
            .collect()
    }

    fn check_signers(&self) -> Result<(), CosignError> {
        let named = std::iter::once(&self.body.author).chain(self.body.parties());
        if !named.eq(self.signers.iter().map(|signer| &signer.user)) {
            return Err(CosignError::Signers);
        }
        Ok(())
    }

    /// Checks version, shape, signers, keys and every signature there.
    ///
    /// # Errors
    /// The first thing wrong.
    pub fn check(&self) -> Result<(), CosignError> {
        if self.version != VERSION {
            return Err(CosignError::Version(self.version));
        }
        self.body.check_shape().map_err(|error| CosignError::Invalid(error.to_string()))?;
        self.check_signers()?;
        for signer in &self.signers {
            signer.access.check().map_err(|error| CosignError::Invalid(error.to_string()))?;
        }
        let id = self.id().0;
        let ascending = self.signatures.is_sorted_by(|a, b| a.key < b.key);
        for one in &self.signatures {
            let place = self.places().find(|(position, ..)| *position == one.key);
            let good = place.is_some_and(|(_, key, _)| signature::verify(key, &id, &one.signature));
            if !good || !ascending {
                return Err(CosignError::BadSignature(one.key));
            }
        }
        match self.progress_by_signer().iter().find(|signer| signer.found > signer.needed) {
            Some(signer) => Err(CosignError::Complete(signer.needed)),
            None => Ok(()),
        }
    }

    /// Adds the signature of a key, for every signer that has it and still needs it.
    ///
    /// # Errors
    /// [`CosignError`] when the key is none of the signers', has signed, or enough signatures are
    /// there.
    pub fn sign(&mut self, key: &SecretKey) -> Result<(), CosignError> {
        let public = key.public();
        let progress = self.progress_by_signer();
        let own: Vec<(u8, usize)> = self
            .places()
            .filter(|(_, place, _)| **place == public)
            .map(|(position, _, signer)| (position, signer))
            .collect();
        if own.is_empty() {
            return Err(CosignError::ForeignKey(public));
        }
        let fresh: Vec<(u8, usize)> =
            own.into_iter().filter(|(position, _)| !self.has_signed(*position)).collect();
        let Some((_, first)) = fresh.first().copied() else {
            return Err(CosignError::SignedAlready(public));
        };
        let open = |signer: usize| progress.get(signer).is_some_and(|one| !one.is_complete());
        let wanted: Vec<u8> = fresh
            .iter()
            .filter(|(_, signer)| open(*signer))
            .map(|(position, _)| *position)
            .collect();
        if wanted.is_empty() {
            let needed = progress.get(first).map_or(0, |one| one.needed);
            return Err(CosignError::Complete(needed));
        }
        let signature = key.sign(&self.id().0);
        self.signatures.extend(wanted.into_iter().map(|key| KeySignature { key, signature }));
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

    fn shared(threshold: u8, seeds: &[u8]) -> Access {
        let keys = seeds.iter().map(|seed| key(*seed).public()).collect();
        Access::new(threshold, keys).expect("valid")
    }

    fn body(parties: &[UserId]) -> TransactionBody {
        let mut draft = Draft::new(ChainId::default(), UserId::default());
        if !parties.is_empty() {
            draft = draft.operation(Operation::Parties { users: parties.to_vec() });
        }
        draft
            .operation(Operation::CreateWallet { owner: UserId::default(), number: 0 })
            .body()
            .expect("valid")
    }

    fn two_of_three() -> Cosigning {
        Cosigning::new(body(&[]), shared(2, &[1, 2, 3]))
    }

    /// The author with 2 of 3 keys, a party with one key, and a party with one key of the author's.
    fn three_signers() -> Cosigning {
        let (a, b) = (UserId([1; 16]), UserId([2; 16]));
        let signers = vec![
            Signer { user: UserId::default(), access: shared(2, &[1, 2, 3]) },
            Signer { user: a, access: Access::Single(key(4).public()) },
            Signer { user: b, access: Access::Single(key(1).public()) },
        ];
        Cosigning::together(body(&[a, b]), signers).expect("in order")
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
    fn keys_of_several_signers_are_counted_through() {
        let mut draft = three_signers();
        assert_eq!(draft.open_keys().len(), 5);
        draft.sign(&key(4)).expect("the first party");
        // One key of two signers signs for both.
        draft.sign(&key(1)).expect("author and second party");
        assert_eq!(draft.progress(), (3, 4));
        let found: Vec<(u16, u16)> =
            draft.progress_by_signer().iter().map(|one| (one.found, one.needed)).collect();
        assert_eq!(found, [(1, 2), (1, 1), (1, 1)]);
        draft.sign(&key(2)).expect("the author's second key");
        assert!(draft.open_keys().is_empty());
        assert_eq!(draft.sign(&key(3)), Err(CosignError::Complete(2)));
        let signed = draft.finish().expect("complete");
        let id = signed.body.id().0;
        let author = shared(2, &[1, 2, 3]);
        let mut all = author.keys().to_vec();
        all.extend([key(4).public(), key(1).public()]);
        assert_eq!(signed.signatures.len(), 4);
        for one in &signed.signatures {
            assert!(signature::verify(&all[usize::from(one.key)], &id, &one.signature));
        }
    }

    #[test]
    fn the_signers_are_those_that_the_transaction_names() {
        let (a, b) = (UserId([1; 16]), UserId([2; 16]));
        let signer = |user| Signer { user, access: Access::Single(key(1).public()) };
        let wrong = Cosigning::together(body(&[a]), vec![signer(UserId::default()), signer(b)]);
        assert_eq!(wrong, Err(CosignError::Signers));
        let mut draft = three_signers();
        draft.signers.pop();
        assert_eq!(draft.check(), Err(CosignError::Signers));
    }

    #[test]
    fn content_changed_after_signing_is_noticed() {
        let mut draft = two_of_three();
        draft.sign(&key(1)).expect("first");
        draft.body.salt ^= 1;
        assert!(matches!(draft.check(), Err(CosignError::BadSignature(_))));
    }
}
