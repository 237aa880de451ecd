//! What nodes say of their cluster over HTTP: alone, as members, as a witness.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::cluster::Cluster;
use common::{World, client};
use kanjo_api::cluster::{EngineRole, NodeRole, TableRoots, TablesAnswer};
use kanjo_client::{Client, ClientError};
use kanjo_proof::{MembershipProof, ProofFile, Trust};
use kanjo_types::membership::{MemberKind, MemberStatus};
use kanjo_types::{ResultCode, Table};
use std::time::{Duration, Instant};

fn roots(answer: Result<TablesAnswer, ClientError>) -> TableRoots {
    match answer {
        Ok(TablesAnswer::Roots(roots)) => roots,
        other => panic!("no roots: {other:?}"),
    }
}

fn code(error: &ClientError) -> &str {
    error.code().unwrap_or_default()
}

#[test]
fn a_ledger_of_one_node_is_a_cluster_of_one() {
    let world = World::new(2);
    let node = world.start();
    let client = client(&node);
    client.submit(&world.pay(0, 1, 5)).expect("paid");
    let status = client.cluster().expect("a status");
    assert_eq!((status.role, status.leader, status.quorum), (EngineRole::Alone, Some(0), 1));
    assert_eq!((status.name.as_str(), status.nodes.len()), ("node-1", 1));
    assert_eq!(status.heights.certified, 1);
    assert_eq!(status.roles.len(), NodeRole::ALL.len());

    let now = roots(client.tables(1));
    let header = client.block(1).expect("a block").header;
    assert_eq!((now.height, now.header, now.state_root), (1, header.hash(), header.state_root));
    let wallets = now.tables.iter().find(|one| one.table == Table::Wallets).expect("the table");
    assert_eq!((wallets.rows, wallets.partitions.len()), (2, 64));
    assert_eq!(client.tables(0), Ok(TablesAnswer::Passed { height: 1 }));

    // A question for a height that comes while it waits.
    let (later, asker) = (client.clone(), client.clone());
    let waiting = std::thread::spawn(move || roots(asker.tables(2)));
    std::thread::sleep(Duration::from_millis(100));
    later.submit(&world.pay(0, 1, 7)).expect("paid");
    let next = waiting.join().expect("answered");
    assert_eq!(next.height, 2);
    let changed = now.tables.iter().zip(&next.tables).filter(|(a, b)| a.root != b.root);
    let changed: Vec<Table> = changed.map(|(a, _)| a.table).collect();
    assert_eq!(changed, [Table::WalletStates]);

    assert_eq!(code(&client.leave("node-1").expect_err("alone")), "alone");
    assert_eq!(client.membership_proofs::<MembershipProof>(0), Ok(Vec::new()));
    assert_eq!(code(&client.membership(1).expect_err("none")), "unknown_epoch");
    node.stop().expect("a clean stop");
}

fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let give_up_at = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < give_up_at, "not within 20 seconds: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn at(cluster: &Cluster, n: usize) -> Client {
    cluster.client(n)
}

#[test]
fn members_say_who_is_there_hold_the_same_and_prove_their_memberships() {
    let mut cluster = Cluster::new(3, 1, 4);
    cluster.start_all();
    let leader = cluster.wait_leader();
    for round in 0..5 {
        assert_eq!(cluster.pay(leader, round % 4, (round + 1) % 4, 5), ResultCode::Ok);
    }
    cluster.assert_agree(Duration::from_secs(10));
    let status = at(&cluster, leader).cluster().expect("a status");
    assert_eq!((status.role, status.quorum), (EngineRole::Leader, 3));
    assert_eq!(usize::from(status.me), leader);
    assert_eq!(status.nodes[3].kind, MemberKind::Witness);
    assert_eq!(status.engine_voters, [[0, 1, 2, 3]]);
    assert_eq!(status.sentinel.state, "answers");

    // The same roots at the same height, from whoever has tables.
    let height = cluster.tip(leader).0;
    let all: Vec<TableRoots> = (0..3).map(|n| roots(at(&cluster, n).tables(height))).collect();
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(at(&cluster, 3).tables(height), Ok(TablesAnswer::NoTables));

    // A witness says what it is, and who can answer.
    let witness = at(&cluster, 3);
    let refused = witness.wallet(cluster.wallets[0]).expect_err("a witness");
    assert_eq!(code(&refused), "witness");
    assert!(refused.to_string().contains(&format!("http://{}", cluster.members[0].api)));
    assert_eq!(code(&witness.tokens().expect_err("a witness")), "witness");
    assert!(witness.cluster().is_ok() && witness.block(height).is_ok());

    wait("all measure, and everybody computes the same roles", || {
        let roles: Vec<_> = (0..4)
            .map(|n| at(&cluster, n).cluster().expect("a status").roles)
            .map(|roles| roles.into_iter().map(|one| (one.role, one.node)).collect::<Vec<_>>())
            .collect();
        let workers = roles[0].iter().filter(|(role, _)| *role == NodeRole::Worker).count();
        workers == 3 && roles.windows(2).all(|pair| pair[0] == pair[1])
    });

    // One leaves; what it proves and what others prove leads from the genesis to the new voters.
    let leaving = (leader + 1) % 3;
    let name = format!("node-{}", leaving + 1);
    assert_eq!(code(&at(&cluster, leaving).leave("other").expect_err("not it")), "bad_request");
    at(&cluster, leaving).leave(&name).expect("it leaves");
    wait("the others go on", || cluster.try_pay(leader, 0, 1, 1) == Some(ResultCode::Ok));
    let status = at(&cluster, leader).cluster().expect("a status");
    assert_eq!(status.nodes[leaving].status, MemberStatus::Left);
    assert_eq!((status.epoch, status.quorum), (1, 2));
    let proofs: Vec<MembershipProof> = at(&cluster, leader).membership_proofs(0).expect("proofs");
    let mut trust = Trust::new(&cluster.genesis).expect("a genesis");
    proofs.iter().try_for_each(|proof| trust.advance(proof)).expect("proven");
    assert_eq!(trust.epoch(), 1);
    let known = at(&cluster, leader).membership(1).expect("a membership");
    assert_eq!(trust.membership(1).map(|one| (**one).clone()), Some(known));
    let proof = at(&cluster, leader).proof_of_wallet(cluster.wallets[1]).expect("a proof");
    let file = ProofFile::from_json(&proof).expect("a proof file");
    assert_eq!(file.memberships.len(), 1);
    file.check(&cluster.genesis).expect("it holds");
    cluster.stop_all();
}
