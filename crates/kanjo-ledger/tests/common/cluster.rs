//! Members of a cluster under test: their keys, what they sign, and what must hold of every
//! membership.

use kanjo_ledger::Ledger;
use kanjo_types::block::{Certificate, Vote, vote_digest};
use kanjo_types::genesis::{Link, Voter};
use kanjo_types::membership::{
    MemberKind, Membership, NodeCertificate, Notice, Statement, notice_digest,
};
use kanjo_types::signature::{KeyKind, SecretKey};
use kanjo_types::{Hash, PublicKey};

/// The vote key of the node with this number.
pub fn node_key(number: u16) -> SecretKey {
    let mut seed = [0x70u8; 32];
    seed[..2].copy_from_slice(&number.to_le_bytes());
    SecretKey::from_seed(KeyKind::Ed25519, seed).unwrap()
}

/// The certificate of the node with this number.
pub fn node(number: u16, kind: MemberKind) -> NodeCertificate {
    let PublicKey::Ed25519(vote_key) = node_key(number).public() else { panic!("Ed25519") };
    let mut link_key = [0x71u8; 32];
    link_key[..2].copy_from_slice(&number.to_le_bytes());
    NodeCertificate {
        name: format!("node-{number}"),
        kind,
        vote_key,
        link_key,
        address: format!("host-{number}:1"),
        api: format!("http://host-{number}"),
        attestor: None,
    }
}

/// Voters of a genesis: executors first.
pub fn first_voters(executors: u16, witnesses: u16) -> Vec<Voter> {
    let voter = |number| {
        let kind = if number < executors { MemberKind::Executor } else { MemberKind::Witness };
        let node = node(number, kind);
        let (key, attestor) = (node.link_key, node.attestor);
        let link = Link { key, address: node.address, api: node.api, attestor };
        Voter { kind, link: Some(link), ..Voter::alone(&node.name, node.vote_key) }
    };
    (0..executors + witnesses).map(voter).collect()
}

/// What members say about a notice, in an epoch.
pub fn state(ledger: &Ledger, epoch: u64, notice: &Notice, members: &[u16]) -> Vec<Statement> {
    let digest = notice_digest(ledger.chain(), epoch, notice);
    let statement =
        |member: &u16| Statement { member: *member, signature: node_key(*member).sign(&digest) };
    members.iter().map(statement).collect()
}

pub fn vote(epoch: u64, height: u64, header: &Hash, voter: u16) -> Vote {
    let answer = Hash([0x72; 32]);
    let digest = vote_digest(epoch, height, header, &answer);
    Vote { voter, answer, signature: node_key(voter).sign(&digest) }
}

pub fn certificate(epoch: u64, height: u64, header: &Hash, voters: &[u16]) -> Certificate {
    let votes = voters.iter().map(|voter| vote(epoch, height, header, *voter)).collect();
    Certificate { epoch, votes }
}

/// Evidence that a voter voted otherwise at a height, against the certificate of all other voters
/// of that height's epoch.
pub fn doubt(ledger: &Ledger, height: u64, voter: u16) -> Notice {
    let membership = ledger.membership_at(height);
    let others = membership.voters().map(|(number, _)| number).filter(|number| *number != voter);
    let (voted, certified) = (Hash([1; 32]), Hash([2; 32]));
    Notice::Doubt {
        height,
        voted,
        vote: vote(membership.epoch, height, &voted, voter),
        certified,
        certificate: certificate(membership.epoch, height, &certified, &others.collect::<Vec<_>>()),
    }
}

/// Epochs follow one another, their heights ascend, members keep their numbers, and there is always
/// a voter that executes.
pub fn check(ledger: &Ledger) {
    let newest = ledger.membership();
    let mut before: Option<&Membership> = None;
    for epoch in 0..=newest.epoch {
        let membership = ledger.membership_of(epoch).expect("every epoch");
        assert_eq!(membership.epoch, epoch);
        let mut voters = membership.voters();
        assert!(voters.any(|(_, member)| member.executes()), "a voter executes");
        if let Some(before) = before {
            assert!(membership.height > before.height, "one epoch in a block");
            assert!(membership.members.len() >= before.members.len(), "numbers are kept");
            let pairs = membership.members.iter().zip(&before.members);
            for (now, then) in pairs {
                assert_eq!(now.certificate, then.certificate);
                let changed = now.status != then.status;
                assert_eq!(now.since_epoch == epoch, changed);
            }
            let at = ledger.membership_at(membership.height);
            assert_eq!(*at, *before, "it does not count in its own block");
        }
        assert_eq!(*ledger.membership_at(membership.height + 1), *membership);
        before = Some(membership);
    }
    assert!(ledger.membership_of(newest.epoch + 1).is_none());
}
