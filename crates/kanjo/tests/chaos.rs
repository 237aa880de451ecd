//! Faults on a cluster of real processes under load, a short run; `cargo xtask chaos` is the long
//! one. What must hold: [`kanjo_chaos`].
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use kanjo_chaos::{Fault, Options, Programs, run};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The sentinel's program beside ours. Building this package alone does not build it.
fn sentinel() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_kanjo")).with_file_name("kanjo-sentinel");
    if !beside.is_file() {
        let target = beside.ancestors().nth(2).expect("a target directory");
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "-p", "kanjo-sentinel", "--target-dir"]).arg(target);
        if target.join("release") == beside.parent().expect("a directory") {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo runs").success(), "the sentinel is built");
    }
    beside
}

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
        programs: Programs { kanjo: env!("CARGO_BIN_EXE_kanjo").into(), sentinel: sentinel() },
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
