//! Evidence: what a sentinel says about itself and its node, for whoever asks with a nonce.
//!
//! The form is an Entity Attestation Token (RFC 9711) in CBOR, signed by the vote key as COSE_Sign1
//! (RFC 9052, EdDSA). In the terms of RFC 9334 the sentinel is the attester, the asker the
//! verifier, and the ledger's membership holds the reference values.
//!
//! ```text
//! 18([ h'a10127', {}, claims, signature ])          a10127: {1: -8}, EdDSA
//! claims = {
//!     10: nonce,                        eat_nonce, 8 to 64 bytes
//!    256: h'01' ‖ session key hash,     ueid
//!    265: "tag:kanjo.example,2026:…",   eat_profile
//!    270: "kanjo",                      swname
//!    273: [[42, program hash]],         measurements; 42: application/octet-stream, SHA-256
//! -70001: certificate hash,
//! -70002: chain id,
//! -70003: the attestor's count,
//! -70004: highest height voted for, or null,
//! -70005: "software" / "tpm2",
//! -70006: session key hash,             SHA-256 of the vote key
//! -70007: [key, signature]              software
//!         [TPMS_ATTEST, r, s]           tpm2: the quote
//! }
//! ```
//!
//! # Invariants
//! - Claims have one form: these keys in this order, definite lengths, shortest integers. Anything
//!   else is refused.
//! - Nothing is read beyond [`EVIDENCE_MAX`] bytes.

use crate::attestor::{Attestation, AttestorKind, qualifying, session_hash, software};
use crate::tpm::quote::ATTEST_MAX;
use crate::tpm::{AttestationKey, Pcrs, Quote, QuoteError, verify_quote};
use ed25519_zebra::{Signature, SigningKey, VerificationKey};
use kanjo_types::Hash;
use kanjo_types::id::ChainId;
use minicbor::data::Tag;
use minicbor::{Decoder, Encoder, decode};

/// Most bytes of evidence.
pub const EVIDENCE_MAX: usize = 2_048;
/// Shortest and longest nonce (RFC 9711, section 4.1).
pub const NONCE_LEN: std::ops::RangeInclusive<usize> = 8..=64;
/// Which claims are meant, and how they are checked.
pub const PROFILE: &str = "tag:kanjo.example,2026:sentinel-evidence/1";

const SOFTWARE_NAME: &str = "kanjo";
const UEID_RANDOM: u8 = 1;
const OCTET_STREAM: u16 = 42;
const COSE_SIGN1: u64 = 18;
/// `{1: -8}`: signed with EdDSA.
const PROTECTED: [u8; 3] = [0xa1, 0x01, 0x27];

const NONCE: i64 = 10;
const UEID: i64 = 256;
const EAT_PROFILE: i64 = 265;
const SWNAME: i64 = 270;
const MEASUREMENTS: i64 = 273;
const CERTIFICATE: i64 = -70_001;
const CHAIN: i64 = -70_002;
const COUNT: i64 = -70_003;
const HIGHEST: i64 = -70_004;
const KIND: i64 = -70_005;
const SESSION: i64 = -70_006;
const ATTESTATION: i64 = -70_007;

/// What evidence claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The asker's.
    pub nonce: Vec<u8>,
    /// SHA-256 of the node's program.
    pub measurement: Hash,
    /// Hash of the node's certificate.
    pub certificate: Hash,
    /// The ledger.
    pub chain: ChainId,
    /// The attestor's count that the guard's record carries.
    pub count: u64,
    /// The highest height voted for.
    pub highest_vote: Option<u64>,
    /// SHA-256 of the vote key.
    pub session: Hash,
    /// What the attestor says.
    pub attestation: Attestation,
}

/// Evidence that proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// Longer than any evidence.
    #[error("evidence of {0} bytes; at most {EVIDENCE_MAX}")]
    TooLong(usize),
    /// Not of the form.
    #[error("the evidence can't be read: {0}")]
    Malformed(String),
    /// Signed by another key, or changed.
    #[error("the evidence is not signed by this vote key")]
    Signature,
    /// Of another vote key.
    #[error("the evidence names another vote key than the one that signed it")]
    Session,
    /// An answer to somebody else, or to an earlier question.
    #[error("the evidence is for another nonce")]
    Nonce,
    /// Another attestor.
    #[error("the evidence is of a {found} attestor, expected is {expected}")]
    Attestor {
        /// What was expected.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// The software attestor's signature.
    #[error("the software attestor's signature is wrong or of another key")]
    SoftwareAttestor,
    /// The TPM's quote.
    #[error(transparent)]
    Quote(#[from] QuoteError),
}

/// What the verifier knows of a sentinel's attestor, since the node was admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The software attestor's key.
    Software {
        /// Ed25519.
        key: [u8; 32],
    },
    /// A TPM's attestation key, and the values that registers must have.
    Tpm2 {
        /// P-256.
        key: AttestationKey,
        /// All registers quoted.
        pcrs: Pcrs,
    },
}

impl Claims {
    /// Which attestor.
    #[must_use]
    pub fn kind(&self) -> AttestorKind {
        match self.attestation {
            Attestation::Software { .. } => AttestorKind::Software,
            Attestation::Tpm2(_) => AttestorKind::Tpm2,
        }
    }

    /// Signs the claims.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> Vec<u8> {
        let payload = self.to_bytes();
        let signature = key.sign(&signed_bytes(&payload)).to_bytes();
        into_vec(|encoder| {
            encoder.tag(Tag::new(COSE_SIGN1))?.array(4)?.bytes(&PROTECTED)?.map(0)?;
            encoder.bytes(&payload)?.bytes(&signature)?;
            Ok(())
        })
    }

    /// The claims in their one form, before they are signed.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        into_vec(|encoder| self.encode(encoder))
    }

    /// Reads claims whose signature was checked, or never will be.
    ///
    /// # Errors
    /// [`EvidenceError::TooLong`], [`EvidenceError::Malformed`].
    pub fn from_bytes(payload: &[u8]) -> Result<Self, EvidenceError> {
        if payload.len() > EVIDENCE_MAX {
            return Err(EvidenceError::TooLong(payload.len()));
        }
        Self::decode(payload).map_err(malformed)
    }

    fn encode(&self, encoder: &mut Encoder<Vec<u8>>) -> Encoded {
        let mut ueid = vec![UEID_RANDOM];
        ueid.extend_from_slice(&self.session.0);
        encoder.map(12)?.i64(NONCE)?.bytes(&self.nonce)?.i64(UEID)?.bytes(&ueid)?;
        encoder.i64(EAT_PROFILE)?.str(PROFILE)?.i64(SWNAME)?.str(SOFTWARE_NAME)?;
        encoder.i64(MEASUREMENTS)?.array(1)?.array(2)?.u16(OCTET_STREAM)?;
        encoder.bytes(&self.measurement.0)?;
        encoder.i64(CERTIFICATE)?.bytes(&self.certificate.0)?;
        encoder.i64(CHAIN)?.bytes(&self.chain.0.0)?.i64(COUNT)?.u64(self.count)?;
        match self.highest_vote {
            Some(height) => encoder.i64(HIGHEST)?.u64(height)?,
            None => encoder.i64(HIGHEST)?.null()?,
        };
        encoder.i64(KIND)?.str(self.kind().name())?.i64(SESSION)?.bytes(&self.session.0)?;
        encoder.i64(ATTESTATION)?;
        match &self.attestation {
            Attestation::Software { key, signature } => {
                encoder.array(2)?.bytes(key)?.bytes(signature)?;
            }
            Attestation::Tpm2(Quote { attest, r, s }) => {
                encoder.array(3)?.bytes(attest)?.bytes(r)?.bytes(s)?;
            }
        }
        Ok(())
    }

    fn decode(payload: &[u8]) -> Result<Self, Unreadable> {
        let mut decoder = Decoder::new(payload);
        let input = &mut decoder;
        expect(input.map()? == Some(12), "twelve claims")?;
        let nonce = claim(input, NONCE)?.bytes()?.to_vec();
        expect(NONCE_LEN.contains(&nonce.len()), "a nonce of 8 to 64 bytes")?;
        let ueid = claim(input, UEID)?.bytes()?;
        expect(claim(input, EAT_PROFILE)?.str()? == PROFILE, "this profile")?;
        expect(claim(input, SWNAME)?.str()? == SOFTWARE_NAME, "this software")?;
        let measurements = claim(input, MEASUREMENTS)?;
        expect(measurements.array()? == Some(1), "one measurement")?;
        expect(measurements.array()? == Some(2), "a measurement of two parts")?;
        expect(measurements.u16()? == OCTET_STREAM, "a measurement in bytes")?;
        let measurement = Hash(exact(measurements)?);
        let certificate = Hash(exact(claim(input, CERTIFICATE)?)?);
        let chain = ChainId(Hash(exact(claim(input, CHAIN)?)?));
        let count = claim(input, COUNT)?.u64()?;
        let highest_vote = claim(input, HIGHEST)?.decode::<Option<u64>>()?;
        let kind = claim(input, KIND)?.str()?;
        let session = Hash(exact(claim(input, SESSION)?)?);
        expect(ueid.split_first() == Some((&UEID_RANDOM, &session.0)), "the ueid of the session")?;
        let attestation = decode_attestation(claim(input, ATTESTATION)?, kind)?;
        let read = decoder.position();
        let claims = Self {
            nonce,
            measurement,
            certificate,
            chain,
            count,
            highest_vote,
            session,
            attestation,
        };
        let one_form = claims.to_bytes() == payload;
        expect(one_form && read == payload.len(), "the one form")?;
        Ok(claims)
    }
}

fn decode_attestation(input: &mut Decoder<'_>, kind: &str) -> Result<Attestation, Unreadable> {
    if kind == AttestorKind::Software.name() {
        expect(input.array()? == Some(2), "a key and a signature")?;
        return Ok(Attestation::Software { key: exact(input)?, signature: exact(input)? });
    }
    expect(kind == AttestorKind::Tpm2.name(), "a known attestor")?;
    expect(input.array()? == Some(3), "a quote of three parts")?;
    let attest = input.bytes()?.to_vec();
    expect(attest.len() <= ATTEST_MAX, "a quote of bounded length")?;
    Ok(Attestation::Tpm2(Quote { attest, r: exact(input)?, s: exact(input)? }))
}

/// Reads evidence and checks who signed it, without asking what the attestor says.
///
/// # Errors
/// [`EvidenceError::TooLong`], [`EvidenceError::Malformed`], [`EvidenceError::Signature`],
/// [`EvidenceError::Session`].
pub fn read(evidence: &[u8], vote_key: &[u8; 32]) -> Result<Claims, EvidenceError> {
    if evidence.len() > EVIDENCE_MAX {
        return Err(EvidenceError::TooLong(evidence.len()));
    }
    let (payload, signature) = open(evidence).map_err(malformed)?;
    let key = VerificationKey::try_from(*vote_key).map_err(|_| EvidenceError::Signature)?;
    let signature = Signature::from(signature);
    key.verify(&signature, &signed_bytes(payload)).map_err(|_| EvidenceError::Signature)?;
    let claims = Claims::decode(payload).map_err(malformed)?;
    if claims.session != session_hash(vote_key) {
        return Err(EvidenceError::Session);
    }
    Ok(claims)
}

/// Reads evidence, and checks who signed it and for whom, without asking what the attestor says.
///
/// # Errors
/// As [`read`], and [`EvidenceError::Nonce`].
pub fn read_for(
    evidence: &[u8],
    vote_key: &[u8; 32],
    nonce: &[u8],
) -> Result<Claims, EvidenceError> {
    let claims = read(evidence, vote_key)?;
    if claims.nonce == nonce { Ok(claims) } else { Err(EvidenceError::Nonce) }
}

/// Checks evidence whole: signed by this vote key, for this nonce, vouched for by this attestor.
/// Whether the ledger allows the measurement and knows the certificate is for the caller to see.
///
/// # Errors
/// The first thing wrong.
pub fn verify(
    evidence: &[u8],
    vote_key: &[u8; 32],
    nonce: &[u8],
    trust: &Trust,
) -> Result<Claims, EvidenceError> {
    let claims = read_for(evidence, vote_key, nonce)?;
    let bound = qualifying(&claims.session, nonce);
    match (&claims.attestation, trust) {
        (Attestation::Software { key, signature }, Trust::Software { key: known }) => {
            let wrong = EvidenceError::SoftwareAttestor;
            let verifier = VerificationKey::try_from(*key).map_err(|_| wrong.clone())?;
            let signature = Signature::from(*signature);
            let signed = verifier.verify(&signature, &software::statement(&bound)).is_ok();
            if key != known || !signed {
                return Err(wrong);
            }
        }
        (Attestation::Tpm2(quote), Trust::Tpm2 { key, pcrs }) => {
            verify_quote(quote, &bound, pcrs, key)?;
        }
        (Attestation::Software { .. }, Trust::Tpm2 { .. }) => {
            return Err(EvidenceError::Attestor { expected: "tpm2", found: "software" });
        }
        (Attestation::Tpm2(_), Trust::Software { .. }) => {
            return Err(EvidenceError::Attestor { expected: "software", found: "tpm2" });
        }
    }
    Ok(claims)
}

/// Takes a COSE_Sign1 apart: payload and signature.
fn open(evidence: &[u8]) -> Result<(&[u8], [u8; 64]), Unreadable> {
    let mut input = Decoder::new(evidence);
    expect(input.tag()? == Tag::new(COSE_SIGN1), "a COSE_Sign1")?;
    expect(input.array()? == Some(4), "four parts")?;
    expect(input.bytes()? == PROTECTED, "EdDSA")?;
    expect(input.map()? == Some(0), "no unprotected header")?;
    let payload = input.bytes()?;
    let signature = exact(&mut input)?;
    let one_form = into_vec(|encoder| {
        encoder.tag(Tag::new(COSE_SIGN1))?.array(4)?.bytes(&PROTECTED)?.map(0)?;
        encoder.bytes(payload)?.bytes(&signature)?;
        Ok(())
    });
    expect(one_form == evidence, "the one form")?;
    Ok((payload, signature))
}

/// Sig_structure of RFC 9052, section 4.4.
fn signed_bytes(payload: &[u8]) -> Vec<u8> {
    into_vec(|encoder| {
        encoder.array(4)?.str("Signature1")?.bytes(&PROTECTED)?.bytes(&[])?.bytes(payload)?;
        Ok(())
    })
}

type Encoded = Result<(), minicbor::encode::Error<std::convert::Infallible>>;

fn into_vec(write: impl FnOnce(&mut Encoder<Vec<u8>>) -> Encoded) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::with_capacity(512));
    let written = write(&mut encoder);
    assert!(written.is_ok(), "writing to memory does not fail");
    encoder.into_writer()
}

enum Unreadable {
    Cbor(decode::Error),
    Expected(&'static str),
}

impl From<decode::Error> for Unreadable {
    fn from(error: decode::Error) -> Self {
        Self::Cbor(error)
    }
}

fn malformed(why: Unreadable) -> EvidenceError {
    EvidenceError::Malformed(match why {
        Unreadable::Cbor(error) => error.to_string(),
        Unreadable::Expected(what) => format!("expected {what}"),
    })
}

fn expect(holds: bool, what: &'static str) -> Result<(), Unreadable> {
    if holds { Ok(()) } else { Err(Unreadable::Expected(what)) }
}

fn claim<'a, 'b>(input: &'a mut Decoder<'b>, name: i64) -> Result<&'a mut Decoder<'b>, Unreadable> {
    expect(input.i64()? == name, "the claims in their order")?;
    Ok(input)
}

fn exact<const N: usize>(input: &mut Decoder<'_>) -> Result<[u8; N], Unreadable> {
    input.bytes()?.try_into().map_err(|_| Unreadable::Expected("bytes of a fixed number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_zebra::VerificationKeyBytes;
    use proptest::prelude::*;

    fn key() -> (SigningKey, [u8; 32]) {
        let key = SigningKey::from([7; 32]);
        let public = VerificationKeyBytes::from(&key).into();
        (key, public)
    }

    fn claims() -> (Claims, Trust) {
        let session = session_hash(&key().1);
        let attestor = SigningKey::from([8; 32]);
        let public = VerificationKeyBytes::from(&attestor).into();
        let statement = software::statement(&qualifying(&session, b"a nonce!"));
        let signature = attestor.sign(&statement).to_bytes();
        let claims = Claims {
            nonce: b"a nonce!".to_vec(),
            measurement: Hash([1; 32]),
            certificate: Hash([2; 32]),
            chain: ChainId(Hash([3; 32])),
            count: 4,
            highest_vote: Some(5),
            session,
            attestation: Attestation::Software { key: public, signature },
        };
        (claims, Trust::Software { key: public })
    }

    #[test]
    fn evidence_holds_for_its_nonce_key_and_attestor_only() {
        let (claims, trust) = claims();
        let (key, public) = key();
        let evidence = claims.sign(&key);
        assert_eq!(verify(&evidence, &public, b"a nonce!", &trust), Ok(claims.clone()));
        assert_eq!(verify(&evidence, &public, b"another!", &trust), Err(EvidenceError::Nonce));
        let other = VerificationKeyBytes::from(&SigningKey::from([9; 32])).into();
        let refused = verify(&evidence, &other, b"a nonce!", &trust);
        assert_eq!(refused, Err(EvidenceError::Signature));
        let wrong = Trust::Software { key: public };
        let refused = verify(&evidence, &public, b"a nonce!", &wrong);
        assert_eq!(refused, Err(EvidenceError::SoftwareAttestor));
        let tpm = Trust::Tpm2 { key: AttestationKey { x: [0; 32], y: [0; 32] }, pcrs: Pcrs::new() };
        let refused = verify(&evidence, &public, b"a nonce!", &tpm);
        assert_eq!(refused, Err(EvidenceError::Attestor { expected: "tpm2", found: "software" }));
        let elsewhere = Claims { session: Hash([6; 32]), ..claims };
        let refused = verify(&elsewhere.sign(&key), &public, b"a nonce!", &trust);
        assert_eq!(refused, Err(EvidenceError::Session));
    }

    #[test]
    fn no_changed_byte_passes_and_nothing_is_left_over() {
        let (claims, trust) = claims();
        let (key, public) = key();
        let evidence = claims.sign(&key);
        for place in 0..evidence.len() {
            for bit in 0..8 {
                let mut changed = evidence.clone();
                changed[place] ^= 1 << bit;
                assert!(verify(&changed, &public, b"a nonce!", &trust).is_err(), "{place}");
            }
            assert!(verify(&evidence[..place], &public, b"a nonce!", &trust).is_err());
        }
        let longer = [&evidence[..], &[0]].concat();
        assert!(verify(&longer, &public, b"a nonce!", &trust).is_err());
        let long = vec![0; EVIDENCE_MAX + 1];
        let refused = verify(&long, &public, b"a nonce!", &trust);
        assert_eq!(refused, Err(EvidenceError::TooLong(EVIDENCE_MAX + 1)));
    }

    /// The form to the byte: a changed one is noticed here.
    #[test]
    fn the_form_is_pinned() {
        let (claims, _) = claims();
        let payload = into_vec(|encoder| claims.encode(encoder));
        let start = "ac0a4861206e6f6e636521190100582101";
        assert!(hex::encode(&payload).starts_with(start), "{}", hex::encode(&payload));
        let evidence = hex::encode(claims.sign(&key().0));
        assert!(evidence.starts_with("d28443a10127a0590"), "{evidence}");
        for claim in [
            "190109782a7461673a",
            "19010e656b616e6a6f",
            "1901118182182a5820",
            "3a00011170",
            "3a00011176",
        ] {
            assert!(evidence.contains(claim), "{claim} in {evidence}");
        }
        let without = Claims { highest_vote: None, ..claims };
        let payload = into_vec(|encoder| without.encode(encoder));
        assert!(hex::encode(&payload).contains("3a00011173f6"));
        assert_eq!(Claims::decode(&payload).ok(), Some(without));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_and_what_is_read_has_one_form(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            place in 0usize..600,
        ) {
            let _ = open(&bytes);
            let _ = Claims::decode(&bytes);
            let mut payload = into_vec(|encoder| claims().0.encode(encoder));
            if let Some(rest) = payload.get_mut(place..) {
                rest.iter_mut().zip(&bytes).take(3).for_each(|(byte, new)| *byte = *new);
            }
            if let Ok(claims) = Claims::decode(&payload) {
                prop_assert_eq!(into_vec(|encoder| claims.encode(encoder)), payload);
            }
        }
    }
}
