//! How a member judges the evidence of another: the verifier of RFC 9334, as a pure function.
//!
//! ```text
//!   asker ── fresh nonce ──▶ member ──▶ its sentinel ──▶ attestor (quote)
//!     ▲                                                      │
//!     └──────────────── evidence ◀───────────────────────────┘
//!   appraise(evidence; nonce, certificate and programs of the ledger, what was seen before)
//! ```
//!
//! # Invariants
//! - Nothing is taken from the evidence that the vote key of the member's certificate has not
//!   signed for this nonce.
//! - What a sentinel counts never goes down; one whose count does was set back, and is refused.

use crate::attestor::AttestorKind;
use crate::evidence::{self, Claims, EvidenceError, Trust};
use crate::tpm::{AttestationKey, Pcrs};
use kanjo_types::Hash;
use kanjo_types::id::ChainId;
use kanjo_types::membership::{Attestor, NodeCertificate, Register};

/// What the asker knows.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The ledger.
    pub chain: ChainId,
    /// The member's certificate, of the newest membership.
    pub certificate: &'a NodeCertificate,
    /// What was asked with.
    pub nonce: &'a [u8],
    /// What was appraised last, of the same certificate.
    pub before: Option<&'a Appraised>,
}

/// Evidence that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appraised {
    /// Which attestor vouches.
    pub attestor: AttestorKind,
    /// Is it the one of the certificate? Without one there, its word is nobody's.
    pub is_pinned: bool,
    /// SHA-256 of the node's program.
    pub measurement: Hash,
    /// The attestor's count that the guard's record carries.
    pub count: u64,
    /// The highest height voted for.
    pub highest_vote: Option<u64>,
}

/// Evidence that is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppraisalError {
    /// Signature, nonce, attestor.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// For another ledger.
    #[error("the sentinel works for another ledger")]
    Chain,
    /// The node showed its sentinel another certificate than the ledger has.
    #[error("the node works with another certificate than the ledger's")]
    Certificate,
    /// Not among the ledger's measurements.
    #[error("the node runs program {0}, which the ledger does not allow")]
    Program(Hash),
    /// The guard's record was put back.
    #[error("the sentinel's count was {before} and is {now}: its record was set back")]
    CountSetBack {
        /// As it was.
        before: u64,
        /// As it is.
        now: u64,
    },
    /// The guard's record was put back.
    #[error("the sentinel had voted up to {before} and knows of {now:?}: its record was set back")]
    VotesSetBack {
        /// As it was.
        before: u64,
        /// As it is.
        now: Option<u64>,
    },
}

/// Judges evidence. `allows` says whether the ledger allows a program.
///
/// # Errors
/// The first thing wrong.
pub fn appraise(
    evidence: &[u8],
    known: Known<'_>,
    allows: impl FnOnce(&Hash) -> bool,
) -> Result<Appraised, AppraisalError> {
    let Known { chain, certificate, nonce, before } = known;
    let key = &certificate.vote_key;
    let claims = match certificate.attestor.as_ref().map(trust) {
        Some(trust) => evidence::verify(evidence, key, nonce, &trust)?,
        None => evidence::read_for(evidence, key, nonce)?,
    };
    if claims.chain != chain {
        return Err(AppraisalError::Chain);
    }
    if claims.certificate != certificate.hash(chain) {
        return Err(AppraisalError::Certificate);
    }
    if !allows(&claims.measurement) {
        return Err(AppraisalError::Program(claims.measurement));
    }
    check_count(&claims, before)?;
    Ok(Appraised {
        attestor: claims.kind(),
        is_pinned: certificate.attestor.is_some(),
        measurement: claims.measurement,
        count: claims.count,
        highest_vote: claims.highest_vote,
    })
}

fn check_count(claims: &Claims, before: Option<&Appraised>) -> Result<(), AppraisalError> {
    let Some(before) = before else { return Ok(()) };
    if claims.count < before.count {
        return Err(AppraisalError::CountSetBack { before: before.count, now: claims.count });
    }
    // Nothing is below any height.
    if claims.highest_vote < before.highest_vote {
        let (before, now) = (before.highest_vote.unwrap_or_default(), claims.highest_vote);
        return Err(AppraisalError::VotesSetBack { before, now });
    }
    Ok(())
}

/// The reference values of a certificate, as the verifier takes them.
fn trust(attestor: &Attestor) -> Trust {
    match attestor {
        Attestor::Software { key } => Trust::Software { key: *key },
        Attestor::Tpm2 { key, registers } => {
            let pcrs: Pcrs = registers.iter().map(|one| (one.number, one.value)).collect();
            Trust::Tpm2 { key: AttestationKey::from_bytes(key), pcrs }
        }
    }
}

/// The other way round: what a certificate is to say of an attestor.
#[must_use]
pub fn pinned(trust: &Trust) -> Attestor {
    match trust {
        Trust::Software { key } => Attestor::Software { key: *key },
        Trust::Tpm2 { key, pcrs } => {
            let register = |(number, value): (&u8, &Hash)| {
                let (number, value) = (*number, *value);
                Register { number, value }
            };
            let registers = pcrs.iter().map(register).collect();
            Attestor::Tpm2 { key: key.to_bytes(), registers }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attestor::{Attestation, qualifying, session_hash, software};
    use ed25519_zebra::{SigningKey, VerificationKeyBytes};
    use kanjo_types::membership::MemberKind;

    const CHAIN: ChainId = ChainId(Hash([3; 32]));
    const NONCE: &[u8] = b"a nonce!";

    fn public(seed: u8) -> [u8; 32] {
        VerificationKeyBytes::from(&SigningKey::from([seed; 32])).into()
    }

    fn certificate() -> NodeCertificate {
        NodeCertificate {
            name: "one".to_owned(),
            kind: MemberKind::Executor,
            vote_key: public(7),
            link_key: [9; 32],
            address: "a:1".to_owned(),
            api: "http://a".to_owned(),
            attestor: Some(Attestor::Software { key: public(8) }),
        }
    }

    fn claims() -> Claims {
        let session = session_hash(&public(7));
        let statement = software::statement(&qualifying(&session, NONCE));
        let signature = SigningKey::from([8; 32]).sign(&statement).to_bytes();
        Claims {
            nonce: NONCE.to_vec(),
            measurement: Hash([1; 32]),
            certificate: certificate().hash(CHAIN),
            chain: CHAIN,
            count: 4,
            highest_vote: Some(5),
            session,
            attestation: Attestation::Software { key: public(8), signature },
        }
    }

    fn judge(
        claims: &Claims,
        certificate: &NodeCertificate,
        before: Option<&Appraised>,
    ) -> Result<Appraised, AppraisalError> {
        let evidence = claims.sign(&SigningKey::from([7; 32]));
        let known = Known { chain: CHAIN, certificate, nonce: NONCE, before };
        appraise(&evidence, known, |program| *program == Hash([1; 32]))
    }

    #[test]
    fn evidence_is_compared_with_what_the_ledger_says_of_the_member() {
        let good = Appraised {
            attestor: AttestorKind::Software,
            is_pinned: true,
            measurement: Hash([1; 32]),
            count: 4,
            highest_vote: Some(5),
        };
        assert_eq!(judge(&claims(), &certificate(), None), Ok(good.clone()));
        let other = Claims { chain: ChainId(Hash([4; 32])), ..claims() };
        assert_eq!(judge(&other, &certificate(), None), Err(AppraisalError::Chain));
        let other = Claims { measurement: Hash([2; 32]), ..claims() };
        let refused = Err(AppraisalError::Program(Hash([2; 32])));
        assert_eq!(judge(&other, &certificate(), None), refused);
        let moved = NodeCertificate { address: "b:1".to_owned(), ..certificate() };
        assert_eq!(judge(&claims(), &moved, None), Err(AppraisalError::Certificate));
        let pinned = Some(Attestor::Software { key: public(9) });
        let other = NodeCertificate { attestor: pinned, ..certificate() };
        let refused = Err(EvidenceError::SoftwareAttestor.into());
        assert_eq!(judge(&claims(), &other, None), refused);
        let register = Register { number: 0, value: Hash([0; 32]) };
        let tpm = Attestor::Tpm2 { key: [4; 64], registers: vec![register] };
        let other = NodeCertificate { attestor: Some(tpm), ..certificate() };
        let wrong = EvidenceError::Attestor { expected: "tpm2", found: "software" };
        assert_eq!(judge(&claims(), &other, None), Err(wrong.into()));
    }

    #[test]
    fn without_a_pinned_attestor_the_rest_is_checked_all_the_same() {
        let bare = NodeCertificate { attestor: None, ..certificate() };
        let fitting = Claims { certificate: bare.hash(CHAIN), ..claims() };
        let appraised = judge(&fitting, &bare, None).unwrap();
        assert!(!appraised.is_pinned);
        let replayed = Claims { nonce: b"another!".to_vec(), ..fitting };
        assert_eq!(judge(&replayed, &bare, None), Err(EvidenceError::Nonce.into()));
    }

    #[test]
    fn what_a_sentinel_counts_never_goes_down() {
        let before = judge(&claims(), &certificate(), None).unwrap();
        assert!(judge(&claims(), &certificate(), Some(&before)).is_ok(), "it may stand still");
        let older = Claims { count: 3, ..claims() };
        let refused = Err(AppraisalError::CountSetBack { before: 4, now: 3 });
        assert_eq!(judge(&older, &certificate(), Some(&before)), refused);
        for now in [None, Some(4)] {
            let older = Claims { highest_vote: now, ..claims() };
            let refused = Err(AppraisalError::VotesSetBack { before: 5, now });
            assert_eq!(judge(&older, &certificate(), Some(&before)), refused);
        }
    }

    #[test]
    fn what_is_pinned_reads_back() {
        let pcrs = Pcrs::from([(0, Hash([1; 32])), (7, Hash([2; 32]))]);
        let key = AttestationKey { x: [1; 32], y: [2; 32] };
        for one in [Trust::Tpm2 { key, pcrs }, Trust::Software { key: [5; 32] }] {
            assert_eq!(trust(&pinned(&one)), one);
        }
    }
}
