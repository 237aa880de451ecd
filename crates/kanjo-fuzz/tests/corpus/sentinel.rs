//! What a sentinel reads.

use super::Corpus;
use kanjo_sentinel::Refusal;
use kanjo_sentinel::attestor::Attestation;
use kanjo_sentinel::evidence::Claims;
use kanjo_sentinel::message::{Reply, Request, VERSION};
use kanjo_sentinel::rules::{GuardState, ProposalRequest, VoteRequest};
use kanjo_sentinel::tpm::Quote;
use kanjo_sentinel::tpm::quote::write_attest;
use kanjo_sentinel::tpm::wire::Writer;
use kanjo_types::block::Vote;
use kanjo_types::id::ChainId;
use kanjo_types::membership::{MemberKind, NodeCertificate, Notice, Statement};
use kanjo_types::{Hash, codec};

fn vote(height: u64) -> VoteRequest {
    VoteRequest { epoch: height / 9, height, header: Hash([1; 32]), challenge: Hash([2; 32]) }
}

fn proposal(height: u64) -> ProposalRequest {
    ProposalRequest { term: 3, height, content: Hash([4; 32]) }
}

/// Each kind of message, a long record, claims of both attestors, answers of a TPM.
pub fn sentinel(corpus: &mut Corpus) {
    messages(corpus);
    let mut state = GuardState::new([5; 32], 6);
    corpus.push(("guard_record", state.to_record()));
    state.bind(ChainId(Hash([7; 32]))).expect("unbound");
    for height in 0..30 {
        state.vote(&vote(height * 2 / 3 + height)).expect("rises");
        state.propose(&proposal(height)).expect("rises");
    }
    corpus.push(("guard_record", state.to_record()));
    let attest = write_attest(&[8; 32], 0x95, &[9; 32]);
    let quote = Quote { attest: attest.clone(), r: [1; 32], s: [2; 32] };
    let attestations =
        [Attestation::Software { key: [3; 32], signature: [4; 64] }, Attestation::Tpm2(quote)];
    for (highest_vote, attestation) in [None, Some(5)].into_iter().zip(attestations) {
        let claims = Claims {
            nonce: vec![6; 16],
            measurement: Hash([1; 32]),
            certificate: Hash([2; 32]),
            chain: ChainId(Hash([3; 32])),
            count: 70_000,
            highest_vote,
            session: Hash([4; 32]),
            attestation,
        };
        corpus.push(("sentinel_claims", claims.to_bytes()));
    }
    let quoted = Writer::new().sized(&attest).u16(0x18).u16(0x0b).sized(&[3; 32]).sized(&[4; 32]);
    let counter = Writer::new().sized(&[0, 0, 0, 0, 0, 0, 0, 7]);
    let selected = Writer::new().u32(42).u32(1).u16(0x0b).u8(3).raw(&[1, 0, 1]);
    let registers = selected.u32(2).sized(&[5; 32]).sized(&[6; 32]);
    for parameters in [quoted, counter, registers] {
        let parameters = parameters.into_bytes();
        let size = u32::try_from(parameters.len()).expect("short");
        let head = Writer::new().u16(0x8002).u32(size + 19).u32(0).u32(size);
        let response = head.raw(&parameters).raw(&[0, 0, 1, 0, 0]).into_bytes();
        corpus.push(("tpm_response", parameters));
        corpus.push(("tpm_response", response));
    }
}

fn messages(corpus: &mut Corpus) {
    let certificate = NodeCertificate {
        name: "one".to_owned(),
        kind: MemberKind::Executor,
        vote_key: [1; 32],
        link_key: [2; 32],
        address: "127.0.0.1:1".to_owned(),
        api: "http://127.0.0.1:2".to_owned(),
        attestor: None,
    };
    let requests = [
        Request::Hello { version: VERSION, chain: ChainId(Hash([3; 32])), certificate },
        Request::Proposals(vec![proposal(1), proposal(2)]),
        Request::Votes { member: 4, requests: vec![vote(1), vote(2)] },
        Request::Notice { member: 5, epoch: 6, notice: Notice::Eject { members: vec![1, 2] } },
        Request::Evidence { nonce: vec![7; 32] },
        Request::Status,
    ];
    let vote = Vote { voter: 1, answer: Hash([2; 32]), signature: [3; 64] };
    let replies = [
        Reply::Welcome { vote_key: [4; 32], measurement: Hash([5; 32]) },
        Reply::Signatures(vec![[6; 64]; 2]),
        Reply::Votes(vec![vote; 2]),
        Reply::Statement(Statement { member: 7, signature: [8; 64] }),
        Reply::Evidence(vec![9; 40]),
        Reply::Refused(Refusal::SignedOther { height: 1, epoch: 2, header: Hash([3; 32]) }),
        Reply::Refused(Refusal::Stopped("why".to_owned())),
    ];
    let requests = requests.iter().map(codec::to_bytes);
    let all = requests.chain(replies.iter().map(codec::to_bytes));
    corpus.extend(all.map(|bytes| ("sentinel_message", bytes)));
}
