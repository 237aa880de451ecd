//! Clients may speak to any member: what does not lead passes on, and knows what it answered.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::cluster::Cluster;
use kanjo_api::SubmitOutcome;
use kanjo_types::ResultCode;
use std::time::Duration;

fn balance_of(cluster: &Cluster, at: usize, wallet: usize) -> u128 {
    cluster.balances(at)[wallet]
}

#[test]
fn every_member_takes_payments_and_knows_them_at_once() {
    let mut cluster = Cluster::new(3, 0, 4);
    cluster.start_all();
    cluster.wait_leader();
    for round in 0..30 {
        let at = round % 3;
        let before = balance_of(&cluster, at, 1);
        assert_eq!(cluster.pay(at, 0, 1, 1), ResultCode::Ok);
        // On the same node, without a wait and by another client.
        assert_eq!(balance_of(&cluster, at, 1), before + 1, "node {at} shows its own answer");
        // On another node, by a client that knows the block.
        let other = (at + 1) % 3;
        let height = cluster.tip(at).0;
        let client = cluster.client(other);
        let paid = client.submit(&cluster.transaction(0, 1, 1)).expect("paid");
        let SubmitOutcome::Recorded { height: later, .. } = paid else { panic!("{paid:?}") };
        assert!(later > height);
        assert!(client.status().expect("a status").height >= later);
    }
    cluster.assert_agree(Duration::from_secs(10));
    cluster.stop_all();
}

#[test]
fn payments_to_a_follower_outlive_the_leader() {
    let mut cluster = Cluster::new(3, 0, 4);
    cluster.start_all();
    let leader = cluster.wait_leader();
    let follower = (leader + 1) % 3;
    cluster.pay_rounds(follower, 10);
    let before = balance_of(&cluster, follower, 3);
    let client = cluster.client(follower);
    let payments: Vec<_> = (0..40).map(|_| cluster.transaction(2, 3, 1)).collect();
    let paying = std::thread::spawn(move || {
        let pay = |signed| client.submit(signed).expect("an outcome");
        payments.iter().map(pay).collect::<Vec<_>>()
    });
    std::thread::sleep(Duration::from_millis(30));
    cluster.stop(leader);
    while !paying.is_finished() {
        cluster.tend();
        std::thread::sleep(Duration::from_millis(20));
    }
    let outcomes = paying.join().expect("no panic");
    assert!(outcomes.iter().all(|outcome| {
        matches!(outcome, SubmitOutcome::Recorded { result: ResultCode::Ok, .. })
    }));
    let next = cluster.wait_leader();
    assert_eq!(balance_of(&cluster, next, 3), before + 40, "each once");
    cluster.stop_all();
}
