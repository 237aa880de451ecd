//! Seeds: good builds hold what must hold, broken ones are seen, and a seed replays.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::panic)]

use kanjo_sim::{Broken, Options, Report, simulate};

/// Seeds from 0 on; `KANJO_SIM_SEEDS` says otherwise, as in `cargo xtask test`.
const SEEDS: u64 = 36;

fn seeds() -> u64 {
    let told = std::env::var("KANJO_SIM_SEEDS").ok();
    told.and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS)
}

fn show(report: &Report) -> String {
    let tail = report.tail.join("\n  ");
    format!("seed {}: {:?}\n  {:?}\n  {tail}", report.seed, report.findings, report.plan)
}

#[test]
fn seeds_hold_what_must_hold() {
    let options = Options { faults_ms: Some(2_000), ..Options::default() };
    let mut acknowledged = 0;
    let seeds = seeds();
    for seed in 0..seeds {
        let report = simulate(seed, options);
        assert!(report.findings.is_empty(), "{}", show(&report));
        assert!(report.proofs > 0, "seed {seed}: no proof was checked");
        acknowledged += report.acknowledged;
    }
    assert!(acknowledged > seeds * 20, "{acknowledged}");
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
fn two_histories_are_seen_when_the_guard_of_one_leader_is_off() {
    seen(Broken::GuardOff, 4, "two final headers at height");
    seen(Broken::GuardOff, 4, "votes for two certificates at height");
}

#[test]
fn the_same_leader_is_harmless_when_its_guard_works() {
    let (broken, faults_ms) = (Some(Broken::GuardOff), Some(2_000));
    let options = Options { broken, faults_ms, mended: true, ..Options::default() };
    let mut tried = 0;
    for seed in 0..6 {
        let report = simulate(seed, options);
        assert!(report.findings.is_empty(), "{}", show(&report));
        assert_eq!(report.crimes.signed, 0, "seed {seed}: a sentinel signed two proposals");
        tried += report.crimes.unsigned.min(report.crimes.entries_refused);
    }
    assert!(tried > 6, "victims were shown {tried} other entries");
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
