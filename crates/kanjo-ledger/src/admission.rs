//! Before a transaction reaches the ledger: decoding, shape, and signatures, many at a time.

use crate::Ledger;
use crate::table::Slot;
use bytes::Bytes;
use kanjo_types::access::KeySignature;
use kanjo_types::hash::{self, TAG_SIGNERS};
use kanjo_types::outcome::Refusal;
use kanjo_types::signature::{self, Check};
use kanjo_types::stored::decode_signed;
use kanjo_types::transaction::{
    REVERSAL_BYTES_MAX, Refused, SignedTransaction, TRANSACTION_BYTES_MAX,
};
use kanjo_types::{Access, ChainId, Hash, Operation, TransactionId, UserId, codec};

/// A transaction that is well formed and for this ledger; its signatures are not checked yet.
#[derive(Debug, Clone)]
pub struct Prepared {
    raw: Bytes,
    transaction: SignedTransaction,
    id: TransactionId,
    witness: Hash,
}

impl Prepared {
    /// Digest of the signed body.
    #[must_use]
    pub fn id(&self) -> TransactionId {
        self.id
    }

    /// What was signed.
    #[must_use]
    pub fn transaction(&self) -> &SignedTransaction {
        &self.transaction
    }

    /// Canonical bytes.
    #[must_use]
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// Digest of the signatures.
    #[must_use]
    pub fn witness(&self) -> Hash {
        self.witness
    }
}

/// A transaction whose signatures were checked against a version of its signers' keys.
#[derive(Debug, Clone)]
pub struct Verified {
    prepared: Prepared,
    signers: Signers,
    headers: Vec<(u64, Hash)>,
}

impl Verified {
    /// The transaction.
    #[must_use]
    pub fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    /// The records whose keys signed, the author's first.
    pub(crate) fn signers(&self) -> &[Author] {
        &self.signers
    }

    /// Header hashes that the evidence in this transaction is checked against.
    pub(crate) fn headers(&self) -> &[(u64, Hash)] {
        &self.headers
    }

    /// The heights of earlier blocks whose header hashes its evidence needs, ascending: give them
    /// to [`Verified::set_headers`] before it is executed. Nearly always none.
    #[must_use]
    pub fn wanted_headers(&self) -> Vec<u64> {
        let operations = &self.prepared.transaction.body.operations;
        let evidence = operations.iter().flat_map(|operation| match operation {
            Operation::Act { evidence, .. } | Operation::ApproveAct { evidence, .. } => {
                evidence.as_slice()
            }
            _ => &[],
        });
        let mut heights: Vec<u64> = evidence.map(|evidence| evidence.header.height).collect();
        heights.sort_unstable();
        heights.dedup();
        heights
    }

    /// Sets the header hashes of blocks below the one in which it is executed, by ascending height.
    /// Every node must set the same: of each wanted height below that block, and of no other.
    pub fn set_headers(&mut self, headers: Vec<(u64, Hash)>) {
        self.headers = headers;
    }
}

/// Decodes a transaction and checks everything that needs neither the ledger's state nor a
/// signature.
///
/// # Errors
/// [`Refusal::TooLarge`], [`Refusal::Malformed`], [`Refusal::WrongChain`], or what
/// [`kanjo_types::TransactionBody::check_shape`] finds.
pub fn prepare(raw: Bytes, chain: ChainId) -> Result<Prepared, Refused> {
    let too_large = || Refused::new(Refusal::TooLarge, "transaction");
    if raw.len() > REVERSAL_BYTES_MAX {
        return Err(too_large());
    }
    let decoded = decode_signed(&raw);
    let brings_evidence =
        |(transaction, _): &(SignedTransaction, TransactionId)| transaction.body.evidence() > 0;
    if raw.len() > TRANSACTION_BYTES_MAX && !decoded.as_ref().is_ok_and(brings_evidence) {
        return Err(too_large());
    }
    let (transaction, id) =
        decoded.map_err(|error| Refused::new(Refusal::Malformed, error.to_string()))?;
    let body = &transaction.body;
    if body.version == kanjo_types::transaction::BODY_VERSION && body.chain != chain {
        return Err(Refused::new(Refusal::WrongChain, "body.chain"));
    }
    body.check_shape()
        .map_err(|refused| Refused::new(refused.refusal, format!("body.{}", refused.field)))?;
    let witness = transaction.witness();
    Ok(Prepared { raw, transaction, id, witness })
}

/// As [`prepare`], from a decoded value (JSON submissions).
///
/// # Errors
/// As [`prepare`].
pub fn prepare_value(transaction: &SignedTransaction, chain: ChainId) -> Result<Prepared, Refused> {
    prepare(Bytes::from(codec::to_bytes(transaction)), chain)
}

/// A version of a user's record, and where its row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Author {
    /// Hash of the record; zero for a user that registers itself.
    pub record: Hash,
    pub slot: Option<Slot>,
}

/// Records of signers, the author's first: nearly always one.
type Signers = smallvec::SmallVec<[Author; 1]>;

/// The keys that must have signed: the author's, or those a new user brings when it registers
/// itself, and those of the parties beside it.
#[derive(Debug, Clone)]
pub struct AuthorKeys {
    /// Keys of each signer, the author first.
    pub(crate) access: smallvec::SmallVec<[Access; 1]>,
    signers: Signers,
}

impl AuthorKeys {
    fn one(access: Access, author: Author) -> Self {
        Self { access: smallvec::smallvec![access], signers: smallvec::smallvec![author] }
    }

    pub(crate) fn signers(&self) -> &[Author] {
        &self.signers
    }

    /// What a recorded transaction says of these keys: the hash of the author's record (zero for a
    /// user that registers itself), or a digest over the records of all signers.
    #[must_use]
    pub fn record(&self) -> Hash {
        signers_record(&self.signers)
    }
}

/// The record of the only signer, or a digest over the records of several.
pub(crate) fn signers_record(signers: &[Author]) -> Hash {
    match signers {
        [author] => author.record,
        several => {
            let records: Vec<&[u8]> = several.iter().map(|signer| &signer.record.0[..]).collect();
            hash::digest(TAG_SIGNERS, &records)
        }
    }
}

impl Ledger {
    /// The keys that must sign `transaction` in the present state.
    #[must_use]
    pub fn author_keys(&self, transaction: &SignedTransaction) -> Option<AuthorKeys> {
        let body = &transaction.body;
        let mut keys = self.first_keys(transaction)?;
        for party in body.parties() {
            let slot = self.users().find(party)?;
            let row = self.users().at(slot)?;
            keys.access.push(row.access.clone());
            keys.signers.push(Author { record: row.hash, slot: Some(slot) });
        }
        Some(keys)
    }

    /// The author's keys.
    fn first_keys(&self, transaction: &SignedTransaction) -> Option<AuthorKeys> {
        let body = &transaction.body;
        if let Some(slot) = self.users().find(&body.author) {
            let row = self.users().at(slot)?;
            let author = Author { record: row.hash, slot: Some(slot) };
            return Some(AuthorKeys::one(row.access.clone(), author));
        }
        match body.operations.first() {
            Some(Operation::CreateUser { access, number })
                if self.open_registration()
                    && UserId::derive(self.chain(), access, *number) == body.author =>
            {
                let author = Author { record: Hash::ZERO, slot: None };
                Some(AuthorKeys::one(access.clone(), author))
            }
            _ => None,
        }
    }
}

/// Checks the number and order of signatures and lists what is to be verified. With several
/// signers, keys are counted through: the author's first, then each party's; each signer needs as
/// many signatures as its own threshold.
///
/// # Errors
/// [`Refusal::SignatureCount`], [`Refusal::SignatureOrder`], [`Refusal::UnknownKey`].
fn checks_of(
    signers: &[Access],
    id: TransactionId,
    signatures: &[KeySignature],
    checks: &mut Vec<Check>,
) -> Result<(), Refused> {
    let needed: usize = signers.iter().map(|access| usize::from(access.threshold())).sum();
    if signatures.len() != needed {
        return Err(Refused::new(Refusal::SignatureCount, "signatures"));
    }
    if !signatures.is_sorted_by(|a, b| a.key < b.key) {
        return Err(Refused::new(Refusal::SignatureOrder, "signatures"));
    }
    let start = checks.len();
    let mut rest = signatures.iter().enumerate().peekable();
    let mut offset = 0usize;
    for access in signers {
        let keys = access.keys();
        let mut signed = 0usize;
        while let Some((_, signature)) =
            rest.next_if(|(_, signature)| usize::from(signature.key) < offset + keys.len())
        {
            if let Some(key) = keys.get(usize::from(signature.key) - offset) {
                checks.push(Check { key: *key, digest: id.0, signature: signature.signature });
            }
            signed += 1;
        }
        if signed != usize::from(access.threshold())
            && rest.peek().is_none_or(|_| signers.len() > 1)
        {
            checks.truncate(start);
            return Err(Refused::new(Refusal::SignatureCount, "signatures"));
        }
        offset += keys.len();
    }
    if let Some((position, _)) = rest.next() {
        checks.truncate(start);
        return Err(Refused::new(Refusal::UnknownKey, format!("signatures[{position}].key")));
    }
    Ok(())
}

pub(crate) fn unknown_author() -> Refused {
    Refused::new(Refusal::UnknownAuthor, "body.author")
}

fn bad_signature(position: usize) -> Refused {
    Refused::new(Refusal::BadSignature, format!("signatures[{position}].signature"))
}

/// Checks the signatures of many transactions against their authors' keys, as given by
/// [`Ledger::author_keys`] (`None`: no such author). Answers are in the order of the input.
#[must_use]
pub fn verify(items: Vec<(Prepared, Option<AuthorKeys>)>) -> Vec<Result<Verified, Refused>> {
    let mut checks = Vec::with_capacity(items.len());
    let listed: Vec<Result<(Prepared, Signers, usize), Refused>> = items
        .into_iter()
        .map(|(prepared, keys)| {
            let keys = keys.ok_or_else(unknown_author)?;
            let signatures = &prepared.transaction.signatures;
            checks_of(&keys.access, prepared.id, signatures, &mut checks)?;
            let count = signatures.len();
            Ok((prepared, keys.signers, count))
        })
        .collect();
    let mut good = signature::verify_batch(&checks).into_iter();
    listed
        .into_iter()
        .map(|item| {
            let (prepared, signers, count) = item?;
            let answers: Vec<bool> = good.by_ref().take(count).collect();
            assert_eq!(answers.len(), count, "every signature was answered");
            match answers.iter().position(|good| !good) {
                Some(position) => Err(bad_signature(position)),
                None => Ok(Verified { prepared, signers, headers: Vec::new() }),
            }
        })
        .collect()
}

/// As [`verify`], for one transaction.
///
/// # Errors
/// As for [`verify`].
pub fn verify_one(prepared: Prepared, keys: Option<AuthorKeys>) -> Result<Verified, Refused> {
    let keys = keys.ok_or_else(unknown_author)?;
    verify_again(&prepared, &keys)?;
    Ok(Verified { prepared, signers: keys.signers, headers: Vec::new() })
}

/// Checks one transaction again, after its author's keys changed between verification and its turn.
///
/// # Errors
/// As for [`verify`].
pub(crate) fn verify_again(prepared: &Prepared, keys: &AuthorKeys) -> Result<(), Refused> {
    let mut checks = Vec::new();
    checks_of(&keys.access, prepared.id, &prepared.transaction.signatures, &mut checks)?;
    let bad = checks
        .iter()
        .position(|check| !signature::verify(&check.key, &check.digest, &check.signature));
    bad.map_or(Ok(()), |position| Err(bad_signature(position)))
}
