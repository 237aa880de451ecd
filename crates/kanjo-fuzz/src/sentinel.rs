//! What a sentinel reads: messages of its node, its own record, evidence, answers of a TPM.

use kanjo_sentinel::appraisal::{Known, appraise};
use kanjo_sentinel::evidence::{Claims, EVIDENCE_MAX};
use kanjo_sentinel::message::{Reply, Request};
use kanjo_sentinel::rules::GuardState;
use kanjo_sentinel::tpm::quote::read_attest;
use kanjo_sentinel::tpm::wire::{Reader, response};
use kanjo_sentinel::tpm::{Pcrs, command};
use kanjo_types::id::ChainId;
use kanjo_types::membership::{MemberKind, NodeCertificate};
use kanjo_types::{Hash, codec};

/// A message between node and sentinel, either way.
pub fn sentinel_message(data: &[u8]) {
    if let Ok(request) = codec::from_bytes::<Request>(data) {
        assert!(codec::to_bytes(&request) == data, "a request has two forms");
    }
    if let Ok(reply) = codec::from_bytes::<Reply>(data) {
        assert!(codec::to_bytes(&reply) == data, "a reply has two forms");
    }
}

/// The record of a guard.
pub fn guard_record(data: &[u8]) {
    match GuardState::from_record(data) {
        Ok(state) => assert!(state.to_record() == data, "a record has two forms"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The claims of evidence, as if the signature were right.
pub fn sentinel_claims(data: &[u8]) {
    match Claims::from_bytes(data) {
        Ok(claims) => {
            assert!(data.len() <= EVIDENCE_MAX && claims.to_bytes() == data, "two forms");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let certificate = NodeCertificate {
        name: "one".to_owned(),
        kind: MemberKind::Executor,
        vote_key: [7; 32],
        link_key: [9; 32],
        address: "a:1".to_owned(),
        api: "http://a".to_owned(),
        attestor: None,
    };
    let chain = ChainId(Hash([3; 32]));
    let known = Known { chain, certificate: &certificate, nonce: &[6; 16], before: None };
    let refused = appraise(data, known, |_| true).is_err();
    assert!(refused, "nobody has signed this");
}

/// A response of a TPM, read as the answer to each command.
pub fn tpm_response(data: &[u8]) {
    for makes_handle in [false, true] {
        let parameters = response(data, makes_handle).map_or(data, |response| response.parameters);
        for bytes in [data, parameters] {
            let mut values = Pcrs::new();
            if let Ok(registers) = command::read_pcrs(bytes, &mut values) {
                assert!(values.len() <= registers.count_ones() as usize, "more than came");
            }
            let _ = command::read_attestation_key(&mut Reader::new(bytes));
            let _ = command::read_counter(bytes);
            let _ = command::read_nv_public(bytes);
            if let Ok(quote) = command::read_quote(bytes) {
                let _ = read_attest(&quote.attest);
            }
        }
    }
}
