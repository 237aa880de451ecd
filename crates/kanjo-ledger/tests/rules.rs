//! Random histories with every operation under several policies.
//!
//! There is no second implementation to compare with here: [`common::Chain`] checks what must hold
//! of every state, and the histories are played again in other ways that must give the same, bit
//! for bit. The plain operations have their model in `properties.rs`, the rules their tables in
//! `scenarios`.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;
mod random;

use common::snapshots;
use kanjo_ledger::Ledger;
use kanjo_ledger::block::build_trees;
use kanjo_types::outcome::ResultCode;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use random::{History, Kind, Run, histories, run};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// More, or others: `KANJO_CASES=20000 KANJO_SEED=7 cargo test --release --test rules`.
const CASES: u64 = 1_600;

/// The ledger after the genesis.
fn fresh(run: &Run) -> Ledger {
    let mut ledger = Ledger::new(&run.chain.genesis);
    ledger.redo(&run.chain.blocks[0], |_| true);
    ledger
}

/// Plays blocks from `first` on again; every entry must be the same.
fn play_again(run: &Run, ledger: &mut Ledger, first: usize) {
    for fed in run.fed.iter().skip(first) {
        ledger.begin_block(fed.context);
        let due = ledger.run_due(fed.context).expect("recorded before");
        assert!(due == fed.due, "the ledger's own work");
        let mut position = u32::try_from(due.len()).unwrap();
        for (verified, before) in &fed.items {
            let outcome = ledger.execute(fed.context, position, verified);
            assert!(outcome == *before, "the same transaction, the same entry");
            position += u32::from(outcome.is_ok());
        }
        ledger.end_block();
        assert_eq!(ledger.next_due_ms(), fed.next_due_ms);
    }
    assert!(snapshots(ledger) == snapshots(&run.chain.ledger), "the same rows at the end");
}

/// What failed or was refused leaves no trace: without it all others are done as before.
fn play_without_failures(run: &Run) {
    let mut ledger = fresh(run);
    for (fed, block) in run.fed.iter().zip(run.chain.blocks.iter().skip(1)) {
        ledger.begin_block(fed.context);
        assert!(ledger.run_due(fed.context).expect("recorded before") == fed.due);
        for (verified, before) in &fed.items {
            let Ok(entry) = before else { continue };
            if entry.result.is_ok() {
                let again = ledger.execute(fed.context, entry.record.position, verified);
                assert_eq!(again.as_ref().ok(), Some(entry));
            }
        }
        let effects = ledger.end_block();
        assert_eq!(effects.fees, block.header.fees);
        assert_eq!(effects.supply, block.header.supply);
    }
    let last = run.chain.blocks.last().unwrap();
    assert_eq!(build_trees(&ledger).root(), last.header.state_root);
}

/// Copies of partitions made at different heights, then the log up to a block, then on from there.
fn restart(run: &Run, history: &History) {
    let cut = usize::from(history.cut) % run.chain.blocks.len();
    let mut restored = run.copies.restart(&run.chain, cut);
    assert_eq!(build_trees(&restored).root(), run.chain.blocks[cut].header.state_root);
    restored.audit_supply().expect("balances add up after a restart");
    let next_due_ms = cut.checked_sub(1).map(|last| run.fed[last].next_due_ms);
    assert_eq!(restored.next_due_ms(), next_due_ms.flatten(), "agenda after a restart");
    play_again(run, &mut restored, cut);
}

/// What the histories showed, so that a test that tries nothing is noticed.
#[derive(Default)]
struct Seen {
    done: BTreeMap<Kind, u32>,
    codes: BTreeMap<ResultCode, u32>,
    due: usize,
    recorded: usize,
    looked_at: usize,
}

impl Seen {
    fn take(&mut self, run: &Run) {
        for (kind, count) in &run.done {
            *self.done.entry(*kind).or_default() += count;
        }
        for entry in
            run.fed.iter().flat_map(|fed| &fed.items).filter_map(|(_, one)| one.as_ref().ok())
        {
            *self.codes.entry(entry.result).or_default() += 1;
            self.recorded += 1;
        }
        self.due += run.fed.iter().map(|fed| fed.due.len()).sum::<usize>();
    }
}

#[test]
fn random_histories_keep_every_promise() {
    let number = |name: &str, usual: u64| {
        std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
    };
    let cases = number("KANJO_CASES", CASES);
    let config = Config {
        cases: u32::try_from(cases).unwrap(),
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(number("KANJO_SEED", 20_261_121)),
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    let seen = RefCell::new(Seen::default());
    let mut runner = TestRunner::new(config);
    let result = runner.run(&histories(), |history| {
        let run = run(&history);
        seen.borrow_mut().take(&run);
        seen.borrow_mut().looked_at += run.check_losses();
        let mut second = fresh(&run);
        play_again(&run, &mut second, 0);
        play_without_failures(&run);
        restart(&run, &history);
        Ok(())
    });
    let seen = seen.into_inner();
    println!("{cases} histories, {} transactions, {} by the ledger", seen.recorded, seen.due);
    println!("{:?}\n{:?}", seen.done, seen.codes);
    result.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(seen.done.len(), 30, "every kind of operation was done: {:?}", seen.done);
    assert!(seen.codes.len() > 40, "many ways to fail: {:?}", seen.codes);
    assert!(seen.looked_at > 1_000, "losses were looked for");
    assert!(seen.due as u64 > cases, "the ledger had things to do");
}
