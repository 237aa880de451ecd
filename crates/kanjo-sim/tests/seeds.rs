//! Seeds: good builds hold what must hold, broken ones are seen, and a seed replays.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::panic)]

use kanjo_sim::{Broken, Options, Report, simulate};

const SEEDS: u64 = 20;

fn show(report: &Report) -> String {
    let tail = report.tail.join("\n  ");
    format!("seed {}: {:?}\n  {:?}\n  {tail}", report.seed, report.findings, report.plan)
}

#[test]
fn seeds_hold_what_must_hold() {
    let options = Options { faults_ms: Some(2_000), ..Options::default() };
    let mut acknowledged = 0;
    let mut stuck = Vec::new();
    for seed in 0..SEEDS {
        let report = simulate(seed, options);
        // A cluster that does not recover loses nothing; why a few seeds do not is an open question
        // (docs/simulation.md). Everything else is a broken promise.
        let is_stuck = |finding: &String| finding.starts_with("no recovery");
        assert!(report.findings.iter().all(is_stuck), "{}", show(&report));
        if report.findings.is_empty() {
            assert!(report.proofs > 0, "seed {seed}: no proof was checked");
        } else {
            stuck.push(seed);
        }
        acknowledged += report.acknowledged;
    }
    assert!(stuck.len() <= 4, "no recovery in seeds {stuck:?}");
    assert!(acknowledged > SEEDS * 20, "{acknowledged}");
}

#[test]
fn a_seed_replays_event_by_event() {
    let options = Options { faults_ms: Some(1_500), ..Options::default() };
    for seed in [3, 11] {
        let (first, second) = (simulate(seed, options), simulate(seed, options));
        assert_eq!((first.hash, first.events), (second.hash, second.events), "seed {seed}");
        assert_ne!(first.hash, simulate(seed + 1, options).hash);
    }
}

/// What the simulator says of a broken build, within so many seeds.
fn seen(broken: Broken, seeds: u64, wanted: &str) {
    let options = Options { broken: Some(broken), faults_ms: Some(4_000), ..Options::default() };
    for seed in 0..seeds {
        let report = simulate(seed, options);
        if report.findings.iter().any(|finding| finding.contains(wanted)) {
            return;
        }
    }
    panic!("{broken:?} was not seen within {seeds} seeds");
}

#[test]
fn a_quorum_of_one_is_seen() {
    seen(Broken::QuorumOfOne, 2, "does not count: 1 votes");
}

#[test]
fn answers_before_the_certificate_are_seen() {
    seen(Broken::AcknowledgeEarly, 2, "certified is None");
}

#[test]
fn a_leader_that_does_not_rewind_is_seen() {
    seen(Broken::NoRewind, 20, "another state than it released");
}
