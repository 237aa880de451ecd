//! What the tests share: certificates, requests.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use kanjo_sentinel::rules::{ProposalRequest, VoteRequest};
use kanjo_types::Hash;
use kanjo_types::hash::{TAG_HEADER, digest};
use kanjo_types::id::ChainId;
use kanjo_types::membership::{MemberKind, NodeCertificate};

pub fn hash(salt: u64) -> Hash {
    digest(TAG_HEADER, &[&salt.to_le_bytes()])
}

pub fn chain() -> ChainId {
    ChainId(hash(0xc4a1))
}

pub fn vote(height: u64, salt: u64) -> VoteRequest {
    VoteRequest { epoch: 0, height, header: hash(salt), challenge: hash(!salt) }
}

pub fn proposal(term: u64, height: u64, salt: u64) -> ProposalRequest {
    ProposalRequest { term, height, content: hash(salt) }
}

pub fn certificate(vote_key: [u8; 32], link_key: [u8; 32]) -> NodeCertificate {
    NodeCertificate {
        name: "one".to_owned(),
        kind: MemberKind::Executor,
        vote_key,
        link_key,
        address: "127.0.0.1:7000".to_owned(),
        api: "http://127.0.0.1:7001".to_owned(),
        attestor: None,
    }
}
