//! Faults on a cluster of real processes under load, a short run; `cargo xtask chaos` is the long
//! one. What must hold: [`kanjo_chaos`].
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use kanjo_chaos::{Fault, Options, Programs, run};
use std::time::Duration;

#[test]
fn what_is_acknowledged_survives_kills_cuts_and_full_disks() {
    let faults = vec![
        Fault::KillLeader,
        Fault::KillLeadersSentinel,
        Fault::MuteLeader,
        Fault::FullLeader,
        Fault::KillEverything,
        Fault::Corrupt,
        Fault::Leave,
    ];
    let options = Options {
        programs: Programs { kanjo: common::program(), sentinel: common::sentinel() },
        executors: 3,
        witnesses: 1,
        seed: 1,
        time: Duration::from_secs(300),
        faults: faults.clone(),
        in_order: true,
        hold_max: Duration::from_secs(2),
        payments_per_s: 400,
        is_told: true,
        keeps: false,
    };
    let report = run(&options).expect("a cluster");
    assert!(report.findings.is_empty(), "{}", report.findings.join("\n"));
    assert!(report.acknowledged > 0, "{report:?}");
    // Where this machine has no small disks, that is told, and all else has been run.
    let has_disks = report.not_run.is_empty();
    assert_eq!(report.faults.len(), faults.len() - usize::from(!has_disks), "{report:?}");
}
