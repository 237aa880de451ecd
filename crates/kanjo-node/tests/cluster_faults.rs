//! A member whose disk is full, and the others that go on.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::cluster::Cluster;
use kanjo_api::{SubmitOutcome, frames};
use kanjo_client::Client;
use kanjo_types::{ResultCode, codec};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Many payments at once, through any of the others.
fn pay_much(cluster: &Cluster, at: usize) {
    let mut bytes = Vec::new();
    for round in 0..200 {
        let payment = cluster.transaction(round % 4, (round + 1) % 4, 1);
        frames::append(&codec::to_bytes(&payment), &mut bytes);
    }
    // Under way when the leadership moves, some may have to go again.
    let _ = cluster.client(at).submit_frames(&bytes);
}

fn state(cluster: &Cluster, n: usize) -> String {
    cluster.client(n).status().expect("a status").state
}

/// Waits until something is so.
fn wait(cluster: &mut Cluster, what: &str, mut is_so: impl FnMut(&Cluster) -> bool) {
    let give_up_at = Instant::now() + Duration::from_secs(60);
    while !is_so(cluster) {
        assert!(Instant::now() < give_up_at, "not within a minute: {what}");
        cluster.tend();
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_leader_whose_disk_is_full_says_so_hands_over_and_catches_up() {
    let mut cluster = Cluster::new(3, 0, 4);
    cluster.start_all();
    let leader = cluster.wait_leader();
    let other = (leader + 1) % 3;
    cluster.members[leader].is_full.store(true, Ordering::Release);
    wait(&mut cluster, "the full disk is told and another one leads", |cluster| {
        pay_much(cluster, other);
        state(cluster, leader) == "storage_full" && (0..3).any(|n| n != leader && cluster.leads(n))
    });
    let next = cluster.wait_leader();
    assert_ne!(next, leader);
    cluster.pay_rounds(next, 10);
    // A client that knows both addresses goes to the one with room.
    let [full, room] = [leader, next].map(|n| format!("http://{}", cluster.members[n].api));
    let client = Client::new(&format!("{full},{room}")).expect("a client");
    let paid = client.submit(&cluster.transaction(0, 1, 1)).expect("it is taken");
    assert!(matches!(paid, SubmitOutcome::Recorded { result: ResultCode::Ok, .. }), "{paid:?}");
    cluster.members[leader].is_full.store(false, Ordering::Release);
    cluster.assert_agree(Duration::from_secs(30));
    wait(&mut cluster, "there is room again", |cluster| state(cluster, leader) == "running");
    cluster.stop_all();
    cluster.assert_audits_clean();
}
