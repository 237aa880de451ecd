//! Clusters of real members in this process, on loopback: pay, kill, come back, compare.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::cluster::Cluster;
use kanjo_types::ResultCode;
use std::time::Duration;

#[test]
fn three_nodes_pay_and_agree() {
    let mut cluster = Cluster::new(3, 0, 4);
    cluster.start_all();
    let leader = cluster.wait_leader();
    for round in 0..20 {
        let paid = cluster.pay(leader, round % 4, (round + 1) % 4, 5);
        assert_eq!(paid, ResultCode::Ok);
    }
    cluster.assert_agree(Duration::from_secs(10));
    cluster.stop_all();
    cluster.assert_audits_clean();
}

#[test]
fn when_the_leader_goes_the_others_go_on_and_it_catches_up() {
    let mut cluster = Cluster::new(3, 0, 4);
    cluster.start_all();
    let leader = cluster.wait_leader();
    cluster.pay_rounds(leader, 30);
    cluster.stop(leader);
    let next = cluster.wait_leader();
    assert_ne!(next, leader);
    cluster.pay_rounds(next, 30);
    cluster.start(leader);
    cluster.pay_rounds(next, 5);
    cluster.assert_agree(Duration::from_secs(20));
    cluster.stop_all();
}

#[test]
fn after_all_stopped_nothing_is_lost() {
    let mut cluster = Cluster::new(3, 0, 4);
    cluster.start_all();
    let leader = cluster.wait_leader();
    cluster.pay_rounds(leader, 40);
    let before = cluster.balances(leader);
    cluster.stop_all();
    cluster.start_all();
    let leader = cluster.wait_leader();
    let after = cluster.balances(leader);
    // The payment by which the leader was found.
    assert_eq!(after.iter().sum::<u128>(), before.iter().sum::<u128>());
    assert!(before.iter().zip(&after).all(|(before, after)| before.abs_diff(*after) <= 1));
    cluster.assert_agree(Duration::from_secs(20));
    cluster.stop_all();
}

#[test]
fn planned_stops_keep_serving_down_to_one_and_all_come_back() {
    let mut cluster = Cluster::new(3, 0, 4);
    cluster.start_all();
    let first = cluster.wait_leader();
    cluster.leave_and_stop(first);
    let second = cluster.wait_leader();
    cluster.pay_rounds(second, 5);
    cluster.leave_and_stop(second);
    let last = cluster.wait_leader();
    cluster.pay_rounds(last, 5);
    assert_eq!(cluster.running(), [last]);
    cluster.start(first);
    cluster.start(second);
    cluster.wait_voters(3);
    let leader = cluster.wait_leader();
    cluster.pay_rounds(leader, 5);
    cluster.assert_agree(Duration::from_secs(20));
    cluster.stop_all();
}

#[test]
fn three_nodes_and_a_witness_survive_two_deaths_one_after_the_other() {
    let mut cluster = Cluster::new(3, 1, 4);
    cluster.start_all();
    let first = cluster.wait_leader();
    cluster.pay_rounds(first, 5);
    cluster.stop(first);
    cluster.wait_voters(3);
    let second = cluster.wait_leader();
    cluster.pay_rounds(second, 5);
    cluster.stop(second);
    let last = cluster.wait_leader();
    cluster.pay_rounds(last, 5);
    cluster.start(first);
    cluster.start(second);
    cluster.wait_voters(4);
    cluster.assert_agree(Duration::from_secs(20));
    cluster.stop_all();
}

#[test]
fn a_witness_that_restarts_knows_the_members_and_holds_no_balances() {
    let mut cluster = Cluster::new(2, 1, 4);
    cluster.start_all();
    let leader = cluster.wait_leader();
    cluster.pay_rounds(leader, 20);
    let leaving = 1 - leader;
    cluster.leave_and_stop(leaving);
    cluster.wait_voters(2);
    // Without the vote of the witness, in the new membership, nothing is final.
    cluster.stop(2);
    cluster.start(2);
    let leader = cluster.wait_leader();
    cluster.pay_rounds(leader, 10);
    cluster.stop(2);
    let kept = cluster.members[2].dir.join("checkpoints");
    let kept: Vec<_> = std::fs::read_dir(kept).unwrap().map(|file| file.unwrap().path()).collect();
    assert!((1..=2).contains(&kept.len()), "the memberships alone: {kept:?}");
    assert!(kept.iter().all(|file| file.metadata().unwrap().len() < 4_096), "{kept:?}");
    cluster.start(2);
    cluster.start(leaving);
    cluster.wait_voters(3);
    cluster.assert_agree(Duration::from_secs(20));
    cluster.stop_all();
}
