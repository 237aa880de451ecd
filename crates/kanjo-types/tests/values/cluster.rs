//! A membership, its changes and notices.

use super::{certificate, filled, genesis, header, secret};
use kanjo_types::block::{Vote, vote_digest};
use kanjo_types::membership::{
    Attestor, Measurement, Member, MemberKind, MemberStatus, Membership, MembershipChange,
    NodeCertificate, Notice, Register, Statement, notice_digest,
};
use kanjo_types::signature::KeyKind;
use kanjo_types::standing::Links;
use kanjo_types::transaction::Operation;
use kanjo_types::{Hash, PublicKey, Record};

pub fn measurement() -> Measurement {
    Measurement { program: filled(0xe1), note: "kanjo 1.0.0".to_owned() }
}

pub fn software() -> Attestor {
    let PublicKey::Ed25519(key) = secret(KeyKind::Ed25519, 105).public() else {
        panic!("an Ed25519 key")
    };
    Attestor::Software { key }
}

/// The generator of P-256: a point like any other.
pub fn tpm2() -> Attestor {
    let hex = "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\
               4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";
    let key = hex::decode(hex).expect("hexadecimal").try_into().expect("64 bytes");
    let register = |(number, value)| Register { number, value: filled(value) };
    Attestor::Tpm2 { key, registers: [(0, 0xa0), (7, 0xa7)].map(register).to_vec() }
}

pub fn node() -> NodeCertificate {
    let PublicKey::Ed25519(vote_key) = secret(KeyKind::Ed25519, 104).public() else {
        panic!("an Ed25519 key")
    };
    NodeCertificate {
        name: "node-4".to_owned(),
        kind: MemberKind::Executor,
        vote_key,
        link_key: [0xc4; 32],
        address: "node-4.example:7100".to_owned(),
        api: "https://node-4.example".to_owned(),
        attestor: Some(tpm2()),
    }
}

pub fn membership() -> Membership {
    let mut membership = Membership::of_genesis(&genesis());
    membership.epoch = 2;
    membership.links = Links { version: 1, previous: Hash::ZERO, transaction: filled(0x22) };
    membership.height = 7;
    membership.members[1].status = MemberStatus::Left;
    membership.members[1].since_epoch = 2;
    membership.members.push(Member {
        certificate: node(),
        status: MemberStatus::Standby,
        since_epoch: 1,
        reason: String::new(),
    });
    membership
}

pub fn records() -> Vec<(&'static str, Record)> {
    vec![("membership", Record::Membership(Box::new(membership())))]
}

pub fn operations() -> Vec<(&'static str, Operation)> {
    let change = |change| Operation::ChangeMembership { change };
    let reason = || "new hardware".to_owned();
    vec![
        (
            "change_membership: admit",
            change(MembershipChange::Admit { certificate: Box::new(node()) }),
        ),
        (
            "change_membership: remove",
            change(MembershipChange::Remove { member: 1, reason: reason() }),
        ),
        (
            "change_membership: readmit",
            change(MembershipChange::Readmit { member: 1, reason: reason() }),
        ),
        (
            "change_membership: allow",
            change(MembershipChange::Allow { measurement: measurement() }),
        ),
        (
            "change_membership: disallow",
            change(MembershipChange::Disallow { program: filled(0xe1) }),
        ),
    ]
}

/// Taken by the ledger.
pub fn notices() -> Vec<(&'static str, Operation)> {
    let take = |notice: Notice, signers: &[u16]| {
        let digest = notice_digest(genesis().chain_id(), 0, &notice);
        let sign = |member: &u16| Statement {
            member: *member,
            signature: secret(KeyKind::Ed25519, 101 + *member as u8).sign(&digest),
        };
        let statements = signers.iter().map(sign).collect();
        Operation::TakeNotice { notice: Box::new(notice), statements }
    };
    let (voted, answer, height) = (filled(0xd1), filled(0xd2), header().height);
    let digest = vote_digest(0, height, &voted, &answer);
    let signature = secret(KeyKind::Ed25519, 102).sign(&digest);
    let doubt = Notice::Doubt {
        height,
        voted,
        vote: Vote { voter: 1, answer, signature },
        certified: header().hash(),
        certificate: certificate(),
    };
    vec![
        ("take_notice: leave", take(Notice::Leave { member: 1 }, &[1])),
        ("take_notice: return", take(Notice::Return { member: 1 }, &[1])),
        ("take_notice: eject", take(Notice::Eject { members: vec![2] }, &[0, 1])),
        ("take_notice: doubt", take(doubt, &[])),
    ]
}
