//! Proof of Integrity between members of a cluster in this process: evidence that is appraised or
//! refused, notices of final heights, sentinels that are away.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::cluster::Cluster;
use kanjo_api::cluster::{ClusterStatus, EngineRole, EvidenceView};
use kanjo_types::membership::Attestor;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

fn wait_for(
    cluster: &mut Cluster,
    what: &str,
    mut is_so: impl FnMut(usize, &ClusterStatus) -> bool,
) {
    let give_up_at = Instant::now() + Duration::from_secs(30);
    loop {
        cluster.tend();
        let statuses: Vec<_> = cluster
            .running()
            .into_iter()
            .map(|n| (n, cluster.client(n).cluster().expect("a status")))
            .collect();
        if statuses.iter().all(|(n, status)| is_so(*n, status)) {
            return;
        }
        assert!(Instant::now() < give_up_at, "not in time: {what}: {statuses:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn evidence(status: &ClusterStatus, of: usize) -> Option<&EvidenceView> {
    status.nodes[of].evidence.as_ref()
}

#[test]
fn members_appraise_each_others_evidence_and_say_what_is_final() {
    let mut cluster = Cluster::new(2, 1, 4);
    cluster.start_all();
    let leader = cluster.wait_leader();
    cluster.pay_rounds(leader, 5);
    wait_for(&mut cluster, "everybody's evidence is appraised", |n, status| {
        assert!(evidence(status, n).is_none(), "nobody vouches for itself");
        assert!(status.doubts.is_empty(), "{:?}", status.doubts);
        let others = (0..3).filter(|other| *other != n);
        let mut found = others.map(|other| evidence(status, other));
        found.all(|found| {
            found.is_some_and(|found| {
                let attestor = found.attestor.as_deref();
                (found.state.as_str(), attestor, found.pinned)
                    == ("appraised", Some("software"), Some(true))
            })
        })
    });
    let tip = cluster.tip(leader).0;
    wait_for(&mut cluster, "everybody has heard of the newest height", |_, status| {
        status.heights.heard.is_some_and(|heard| heard >= tip)
    });
    cluster.stop_all();
}

#[test]
fn evidence_of_another_attestor_than_the_admitted_one_is_a_doubt() {
    let mut cluster = Cluster::with(3, 0, 4, |genesis| {
        let attestor = Attestor::Software { key: genesis.voters[0].key };
        genesis.voters[2].link.as_mut().expect("a link").attestor = Some(attestor);
    });
    cluster.start_all();
    let leader = cluster.wait_leader();
    cluster.pay_rounds(leader, 5);
    wait_for(&mut cluster, "the third is doubted by the others, and nobody else", |n, status| {
        let doubted: Vec<u16> = status.doubts.iter().map(|doubt| doubt.member).collect();
        if n == 2 {
            return doubted.is_empty();
        }
        let refused = evidence(status, 2).filter(|found| found.state == "refused");
        let is_told = refused.is_some_and(|found| found.why.is_some());
        is_told && doubted == [2] && status.doubts[0].why.contains("attestor")
    });
    // It is a doubt, and no reason to exclude it: its votes are what the ledger goes by.
    cluster.pay_rounds(leader, 5);
    cluster.assert_agree(Duration::from_secs(10));
    cluster.stop_all();
}

#[test]
fn a_leader_whose_sentinel_is_away_gives_way_and_comes_back_by_itself() {
    let mut cluster = Cluster::new(3, 0, 4);
    cluster.start_all();
    let leader = cluster.wait_leader();
    cluster.pay_rounds(leader, 10);
    cluster.members[leader].is_away.store(true, Ordering::Release);
    // Its next block can't be signed; whoever sends it a payment hears soon that it can't say more.
    let signed = cluster.transaction(0, 1, 5);
    let client = cluster.client(leader);
    let asked = std::thread::spawn(move || client.submit(&signed));
    assert!(asked.join().expect("ends").is_err(), "the outcome is open");
    let next = cluster.wait_leader();
    assert_ne!(next, leader);
    cluster.pay_rounds(next, 30);
    assert!(cluster.members[leader].node.as_ref().expect("there").ended().is_none(), "it is up");
    let status = cluster.client(leader).cluster().expect("a status");
    assert_eq!(status.sentinel.state, "silent");
    assert_ne!(status.leader, Some(status.me), "it does not say that it leads");
    let behind = cluster.tip(leader).0;
    assert!(behind < cluster.tip(next).0);

    cluster.members[leader].is_away.store(false, Ordering::Release);
    cluster.assert_agree(Duration::from_secs(30));
    let at = cluster.wait_leader();
    cluster.pay_rounds(at, 10);
    cluster.assert_agree(Duration::from_secs(30));
    wait_for(&mut cluster, "its sentinel votes", |n, status| {
        n != leader || (status.sentinel.state == "answers" && status.role != EngineRole::Stopped)
    });
    cluster.stop_all();
    cluster.assert_audits_clean();
}

#[test]
fn followers_whose_sentinels_are_away_for_a_while_lose_no_votes() {
    let mut cluster = Cluster::new(3, 0, 4);
    cluster.start_all();
    let leader = cluster.wait_leader();
    cluster.pay_rounds(leader, 5);
    let others: Vec<usize> = (0..3).filter(|n| *n != leader).collect();
    for n in &others {
        cluster.members[*n].is_away.store(true, Ordering::Release);
    }
    // Ordered and not final: a majority of the sentinels is away.
    let signed = cluster.transaction(0, 1, 5);
    let client = cluster.client(leader);
    let asked = std::thread::spawn(move || client.submit(&signed));
    wait_for(&mut cluster, "the payment is committed and not final", |_, status| {
        status.heights.committed.is_some_and(|committed| committed > status.heights.certified)
    });
    for n in &others {
        cluster.members[*n].is_away.store(false, Ordering::Release);
    }
    assert!(asked.join().expect("ends").is_ok(), "it is final now");
    cluster.assert_agree(Duration::from_secs(10));
    cluster.stop_all();
}
