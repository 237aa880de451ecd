//! Decoding a block, a transaction or a record asks for memory in proportion to the bytes it is
//! given, whatever they claim.
//!
//! One test in a process of its own, because the allocator counts for the whole process.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod ledger;
mod values;

use kanjo_types::stored::{append_entry, append_head, decode_block, decode_head, encode_block};
use kanjo_types::{Record, SignedTransaction, codec};
use ledger::{CHAIN, Ledger, pay, reserve};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// All bytes asked for, given back or not.
fn asked_for(bytes: &[u8]) -> usize {
    let region = Region::new(ALLOCATOR);
    let _ = (decode_block(bytes, CHAIN).is_ok(), decode_head(bytes).is_ok());
    region.change().bytes_allocated
}

/// Borsh reserves up to 1 MiB for one text before it reads it; a text that is not there ends the
/// decoding.
fn bound(input: usize) -> usize {
    1_024 * 1_024 + 64 * 1_024 + 600 * input
}

/// As [`asked_for`], of the reader of one value that asks for more.
fn asked_for_values(bytes: &[u8]) -> usize {
    let asked = |read: &dyn Fn() -> bool| {
        let region = Region::new(ALLOCATOR);
        let _ = read();
        region.change().bytes_allocated
    };
    let transaction = asked(&|| codec::from_bytes::<SignedTransaction>(bytes).is_ok());
    transaction.max(asked(&|| codec::from_bytes::<Record>(bytes).is_ok()))
}

fn assert_bounded(name: &str, bytes: &[u8]) {
    let asked = asked_for(bytes).max(asked_for_values(bytes));
    assert!(asked <= bound(bytes.len()), "{name}: {} bytes ask for {asked}", bytes.len());
}

#[test]
fn a_lie_about_a_length_reserves_no_memory() {
    let (mut ledger, genesis) = Ledger::genesis();
    let payments = |n: u32| (0..n).map(|_| vec![pay(1, 1, 2, 1, "rent")]).collect::<Vec<_>>();
    let small = ledger.next(payments(3));
    let reserved = ledger.next(vec![vec![reserve(1, 1, 2, 1), pay(1, 1, 2, 1, "")]]);
    for block in [&genesis, &small, &reserved] {
        let bytes = encode_block(block);
        assert_bounded("as it is", &bytes);
        // Every place, as a 1-, 4- or 8-byte length that lies as much as it can.
        for at in 0..bytes.len() {
            for width in [1usize, 4, 8] {
                for value in [0x7f, 0x80, 0xff] {
                    let mut changed = bytes.clone();
                    changed.iter_mut().skip(at).take(width).for_each(|byte| *byte = value);
                    assert_bounded(&format!("{width} bytes of {value:#x} at {at}"), &changed);
                }
            }
        }
    }
    // Operations of every kind, evidence among them, and records of every table.
    let mut values = vec![codec::to_bytes(&values::by_the_board())];
    let records = values::records().into_iter().chain(values::standing::records());
    values.extend(records.map(|(_, record)| codec::to_bytes(&record)));
    for bytes in values {
        assert_bounded("a value as it is", &bytes);
        for at in 0..bytes.len() {
            for (width, value) in [(1usize, 0xff), (4, 0x0f), (4, 0xff)] {
                let mut changed = bytes.clone();
                changed.iter_mut().skip(at).take(width).for_each(|byte| *byte = value);
                assert_bounded(&format!("{width} bytes of {value:#x} at {at}"), &changed);
            }
        }
    }
    // Counts that the bytes behind them make believable.
    for (padding, filler) in [(100_000usize, 0u8), (1_000_000, 0), (1_000_000, 1)] {
        let mut bytes = Vec::new();
        let mut header = small.header.clone();
        header.transactions = u32::try_from(padding).expect("fits");
        append_head(&header, &small.certificate, &mut bytes);
        append_entry(&small.entries[0], &mut bytes);
        bytes.resize(bytes.len() + padding, filler);
        assert_bounded("transactions", &bytes);
        let mut bytes = Vec::new();
        append_head(&genesis.header, &genesis.certificate, &mut bytes);
        codec::append(&codec::Compact(padding as u128), &mut bytes);
        bytes.resize(bytes.len() + padding, filler);
        assert_bounded("rows of the genesis", &bytes);
    }
}
