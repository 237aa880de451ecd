//! Readers ask for memory in proportion to the bytes they are given, whatever these claim.
//!
//! One test in a process of its own, because the allocator counts for the whole process.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod corpus;

use corpus::{corpus, repair};
use kanjo_fuzz::TARGETS;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Places in one input at which a length is made to lie.
const PLACES: usize = 400;

/// Targets decode more than once, and Borsh reserves up to 1 MiB for a text before it reads it.
fn bound(input: usize) -> usize {
    (8 << 20) + 4_000 * input
}

#[test]
fn a_lie_about_a_length_reserves_no_memory() {
    let mut most = vec![0; TARGETS.len()];
    let corpus = corpus();
    for ((name, target), most) in TARGETS.iter().zip(&mut most) {
        let own: Vec<&Vec<u8>> =
            corpus.iter().filter(|(of, _)| of == name).map(|(_, bytes)| bytes).collect();
        // Signatures are slow and have no lengths.
        if *name == "verify_signatures" {
            continue;
        }
        // Evenly over the corpus of the target, at most 24 inputs.
        for valid in own.iter().step_by(own.len().div_ceil(24)) {
            for at in (0..valid.len()).step_by(valid.len().div_ceil(PLACES).max(1)) {
                for (width, value) in [(4, 0x3f), (4, 0xff), (8, 0x7f), (8, 0xff)] {
                    let mut input = (*valid).clone();
                    input.iter_mut().skip(at).take(width).for_each(|byte| *byte = value);
                    repair(name, &mut input);
                    let region = Region::new(ALLOCATOR);
                    target(&input);
                    let asked = region.change().bytes_allocated;
                    let length = input.len();
                    assert!(asked <= bound(length), "{name}: {length} bytes ask for {asked}, {at}");
                    *most = asked.max(*most);
                }
            }
        }
    }
    for ((name, _), most) in TARGETS.iter().zip(most) {
        println!("{name:26} {most:>9} bytes at most");
    }
}
