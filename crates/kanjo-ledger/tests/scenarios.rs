//! Scenario tables a banker could read: `tests/scenarios/*.txt`. How to write one:
//! `tests/scenarios/README.md`.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;
mod language;

use kanjo_types::outcome::{Refusal, ResultCode};
use language::{SHOWN_ELSEWHERE, play, scenarios};
use std::collections::BTreeSet;

#[test]
fn every_scenario_ends_as_its_table_says() {
    let scenarios = scenarios();
    assert!(scenarios.len() > 20, "scenarios are found");
    let titles: BTreeSet<&str> = scenarios.iter().map(|scenario| scenario.title.as_str()).collect();
    assert_eq!(titles.len(), scenarios.len(), "titles differ");
    // All are played, so that a change of the rules shows everything it changes.
    let played: Vec<_> =
        scenarios.iter().map(|scenario| std::panic::catch_unwind(|| play(scenario))).collect();
    let failed = played.iter().filter(|played| played.is_err()).count();
    assert_eq!(failed, 0, "scenarios that ended otherwise; see above");
    println!("{} scenarios", played.len());
    let seen: BTreeSet<String> = played.into_iter().flatten().flatten().collect();
    // 4 billion tokens don't fit a test, other bounds have a test of their own; the last three
    // refusals are the node's.
    let results = ResultCode::ALL.iter().filter(|code| !SHOWN_ELSEWHERE.contains(code));
    let refusals = Refusal::ALL.iter().filter(|code| **code < Refusal::Overloaded);
    let codes = results.map(|code| code.code()).chain(refusals.map(|code| code.code()));
    let missing: Vec<&str> = codes.filter(|code| !seen.contains(*code)).collect();
    assert!(missing.is_empty(), "no scenario shows {missing:?}");
}
