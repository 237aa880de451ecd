//! Arbitrary memberships, changes and notices.

use super::{bytes, certificate, hash, text, vote};
use kanjo_types::genesis::{Cluster, Link};
use kanjo_types::membership::{
    Attestor, Measurement, Member, MemberKind, MemberStatus, Membership, MembershipChange,
    NodeCertificate, Notice, Register, Statement,
};
use kanjo_types::standing::Links;
use kanjo_types::transaction::Operation;
use proptest::collection::vec;
use proptest::prelude::*;

pub fn kind() -> impl Strategy<Value = MemberKind> {
    proptest::sample::select(vec![MemberKind::Executor, MemberKind::Witness])
}

pub fn link() -> impl Strategy<Value = Link> {
    let parts = (bytes::<32>(), text(12), text(12), attestor());
    parts.prop_map(|(key, address, api, attestor)| Link { key, address, api, attestor })
}

fn attestor() -> impl Strategy<Value = Option<Attestor>> {
    let register = (any::<u8>(), hash()).prop_map(|(number, value)| Register { number, value });
    prop_oneof![
        Just(None),
        bytes::<32>().prop_map(|key| Some(Attestor::Software { key })),
        (bytes::<64>(), vec(register, 0..3))
            .prop_map(|(key, registers)| Some(Attestor::Tpm2 { key, registers })),
    ]
}

pub fn cluster() -> impl Strategy<Value = Cluster> {
    let lists = (vec(text(8), 0..3), vec(measurement(), 0..3));
    (lists, any::<u8>()).prop_map(|((governors, measurements), threshold)| Cluster {
        governors,
        threshold,
        measurements,
    })
}

fn measurement() -> impl Strategy<Value = Measurement> {
    (hash(), text(8)).prop_map(|(program, note)| Measurement { program, note })
}

fn node() -> impl Strategy<Value = NodeCertificate> {
    let keys = (bytes::<32>(), bytes::<32>());
    (text(8), kind(), keys, text(12), text(12), attestor()).prop_map(
        |(name, kind, (vote_key, link_key), address, api, attestor)| NodeCertificate {
            name,
            kind,
            vote_key,
            link_key,
            address,
            api,
            attestor,
        },
    )
}

fn status() -> impl Strategy<Value = MemberStatus> {
    proptest::sample::select(vec![
        MemberStatus::Voting,
        MemberStatus::Standby,
        MemberStatus::Left,
        MemberStatus::Ejected,
        MemberStatus::Doubted,
        MemberStatus::Removed,
    ])
}

pub fn membership() -> impl Strategy<Value = Membership> {
    let member = (node(), status(), any::<u64>(), text(8)).prop_map(
        |(certificate, status, since_epoch, reason)| Member {
            certificate,
            status,
            since_epoch,
            reason,
        },
    );
    let links = (hash(), hash());
    (any::<(u64, u64)>(), links, vec(member, 0..4), vec(measurement(), 0..3)).prop_map(
        |((epoch, height), (previous, transaction), members, measurements)| Membership {
            epoch,
            links: Links { version: 1, previous, transaction },
            height,
            members,
            measurements,
        },
    )
}

fn change() -> impl Strategy<Value = MembershipChange> {
    prop_oneof![
        node().prop_map(|node| MembershipChange::Admit { certificate: Box::new(node) }),
        (any::<u16>(), text(8))
            .prop_map(|(member, reason)| MembershipChange::Remove { member, reason }),
        (any::<u16>(), text(8))
            .prop_map(|(member, reason)| MembershipChange::Readmit { member, reason }),
        measurement().prop_map(|measurement| MembershipChange::Allow { measurement }),
        hash().prop_map(|program| MembershipChange::Disallow { program }),
    ]
}

fn notice() -> impl Strategy<Value = Notice> {
    prop_oneof![
        any::<u16>().prop_map(|member| Notice::Leave { member }),
        any::<u16>().prop_map(|member| Notice::Return { member }),
        vec(any::<u16>(), 0..4).prop_map(|members| Notice::Eject { members }),
        (any::<u64>(), hash(), vote(), hash(), certificate()).prop_map(
            |(height, voted, vote, certified, certificate)| Notice::Doubt {
                height,
                voted,
                vote,
                certified,
                certificate,
            }
        ),
    ]
}

pub fn operation() -> impl Strategy<Value = Operation> {
    let statement = (any::<u16>(), bytes::<64>())
        .prop_map(|(member, signature)| Statement { member, signature });
    prop_oneof![
        change().prop_map(|change| Operation::ChangeMembership { change }),
        (notice(), vec(statement, 0..3)).prop_map(|(notice, statements)| Operation::TakeNotice {
            notice: Box::new(notice),
            statements,
        }),
    ]
}
