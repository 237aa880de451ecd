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
}
