//! Append, truncate, crash at a random point, reopen, check, go on: what was acknowledged and
//! not truncated is there, and above it at most what once was there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{append, assert_holds, group, open};
use kanjo_store::Block;
use kanjo_store::faults::{Fault, FaultyDisk, SeededRng};
use kanjo_store::log::{AppendError, BlockLog, OpenError, TruncateError};

const SEEDS: u64 = 2_500;
const CRASHES_PER_SEED: u64 = 8;
const SEGMENT_BYTES: u64 = 6 * 1_024;

/// What the test knows of the log.
#[derive(Default)]
struct Model {
    /// Acknowledged and not truncated.
    blocks: Vec<Block>,
    /// The log after each append: a crash may bring back, of what was truncated since the last
    /// one, what any of these has above it.
    history: Vec<Vec<Block>>,
    /// How long the log was after the last append.
    before: usize,
    /// Sent but not acknowledged: may be there whole after a crash, or not at all.
    in_doubt: Vec<Block>,
    seen: Seen,
}

/// What the loop has met: it must meet all of it, or it tests less than it claims.
#[derive(Debug, Default)]
struct Seen {
    truncated: u64,
    truncations_failed: u64,
    all_back: u64,
    some_back: u64,
    appends_that_superseded_lost: u64,
    appends_that_superseded_kept: u64,
    segments_max: usize,
    blocks: u64,
}

fn plan_faults(disk: &FaultyDisk, rng: &mut SeededRng) {
    match rng.below(8) {
        0 => disk.inject(Fault::FailSync, rng.below(12)),
        1 => disk.inject(Fault::FailWrite, rng.below(30)),
        2 => disk.inject(Fault::ShortWrite, rng.below(30)),
        3 => disk.inject(Fault::FailSyncDir, rng.below(6)),
        4 => disk.set_space(Some(rng.below(4 * SEGMENT_BYTES))),
        _ => {}
    }
    if rng.below(4) > 0 {
        disk.crash_after(1 + rng.below(50));
    }
}

/// Does things until something fails or enough is done.
fn run(disk: &FaultyDisk, model: &mut Model, rng: &mut SeededRng, context: &str) {
    let (mut log, report) = match open(disk, SEGMENT_BYTES) {
        Ok(opened) => opened,
        // Only I/O may fail here: a crash or fault during the opening itself.
        Err(OpenError::Io { .. }) => return,
        Err(error) => panic!("{context}: {error}"),
    };
    settle(model, &log, context);
    model.seen.segments_max = model.seen.segments_max.max(report.segments);
    plan_faults(disk, rng);
    for _ in 0..rng.below(25) {
        let goes_on = match rng.below(10) {
            0 | 1 => {
                let _ = log.prepare_next();
                true
            }
            2..=4 => truncate(&mut log, model, rng, context),
            _ => append_some(disk, &mut log, model, rng, context),
        };
        if !goes_on {
            return;
        }
        if rng.below(8) == 0 {
            match log.iter_from(0).collect::<Result<Vec<Block>, _>>() {
                Ok(read) => assert!(read == model.blocks, "{context}: while open"),
                // The machine has died meanwhile.
                Err(_) => assert!(disk.list_fails(), "{context}"),
            }
        }
    }
}

trait Alive {
    fn list_fails(&self) -> bool;
}

impl Alive for FaultyDisk {
    fn list_fails(&self) -> bool {
        kanjo_store::disk::Disk::list(self, "data".as_ref()).is_err()
    }
}

fn truncate(log: &mut BlockLog, model: &mut Model, rng: &mut SeededRng, context: &str) -> bool {
    // Mostly near the end, sometimes anywhere.
    let len = model.blocks.len() as u64;
    let cut = if rng.below(4) == 0 { rng.below(len + 1) } else { len - rng.below(len.min(9) + 1) };
    match log.truncate_after(cut.checked_sub(1)) {
        Ok(()) => {
            model.blocks.truncate(cut as usize);
            model.seen.truncated += 1;
            true
        }
        Err(TruncateError::Io { .. }) => {
            assert!(log.is_poisoned(), "{context}");
            assert_eq!(log.next_height(), cut, "{context}");
            model.blocks.truncate(cut as usize);
            model.seen.truncations_failed += 1;
            false
        }
        // The segment to go back to could not be read: the machine has died.
        Err(TruncateError::Read(_)) => {
            assert_eq!(log.next_height(), len, "{context}");
            false
        }
        Err(error) => panic!("{context}: {error}"),
    }
}

fn append_some(
    disk: &FaultyDisk,
    log: &mut BlockLog,
    model: &mut Model,
    rng: &mut SeededRng,
    context: &str,
) -> bool {
    let next = model.blocks.len() as u64;
    let blocks = group(next, 1 + rng.below(5), rng.next_u64());
    match append(log, &blocks) {
        Ok(()) => {
            model.blocks.extend(blocks);
            model.before = model.blocks.len();
            model.history.push(model.blocks.clone());
            true
        }
        Err(AppendError::DiskFull { .. }) => {
            assert!(!log.is_poisoned(), "{context}: a full disk must pass");
            disk.set_space(None);
            true
        }
        Err(error) => {
            assert!(matches!(error, AppendError::Io { .. }), "{context}: {error}");
            assert!(log.is_poisoned(), "{context}: {error}");
            model.in_doubt = blocks;
            false
        }
    }
}

/// Finds out what is there after a crash, and checks that it may be.
fn settle(model: &mut Model, log: &BlockLog, context: &str) {
    let read: Vec<Block> = log.iter_from(0).map(|block| block.expect(context)).collect();
    let in_doubt = std::mem::take(&mut model.in_doubt);
    let superseded = model.before > model.blocks.len();
    let with_doubtful = [model.blocks.as_slice(), &in_doubt].concat();
    if !in_doubt.is_empty() && read == with_doubtful {
        model.seen.appends_that_superseded_kept += u64::from(superseded);
    } else {
        let kept = model.blocks.len();
        assert!(read.starts_with(&model.blocks), "{context}: {} of {kept} left", read.len());
        let once = read.len() == kept || model.history.iter().any(|h| h.starts_with(&read));
        assert!(once, "{context}: {} blocks that never stood together", read.len());
        assert!(superseded || read.len() == kept, "{context}: back without a truncation");
        model.seen.appends_that_superseded_lost += u64::from(superseded && !in_doubt.is_empty());
        if superseded && in_doubt.is_empty() {
            let seen = &mut model.seen;
            if read.len() == model.before {
                seen.all_back += 1;
            } else {
                seen.some_back += 1;
            }
        }
    }
    assert_holds(log, &read, context);
    model.before = read.len();
    model.history.push(read.clone());
    model.blocks = read;
}

#[test]
fn acknowledged_blocks_below_a_truncation_survive_any_crash() {
    let mut seen = Seen::default();
    for seed in 0..SEEDS {
        let mut rng = SeededRng::new(seed);
        let mut disk = FaultyDisk::new(seed);
        let mut model = Model { seen, ..Model::default() };
        for round in 0..CRASHES_PER_SEED {
            let context = format!("seed {seed}, round {round}");
            run(&disk, &mut model, &mut rng, &context);
            disk = match rng.below(3) {
                0 => disk.kill_process(),
                _ => disk.crash(rng.next_u64()),
            };
        }
        let context = format!("seed {seed}, at the end");
        let (log, _) = open(&disk, SEGMENT_BYTES).expect(&context);
        settle(&mut model, &log, &context);
        seen = model.seen;
        seen.blocks += model.blocks.len() as u64;
    }
    assert!(seen.truncated > 10_000 && seen.truncations_failed > 200, "{seen:?}");
    assert!(seen.all_back > 200 && seen.some_back > 200, "{seen:?}");
    assert!(seen.appends_that_superseded_lost > 200, "{seen:?}");
    assert!(seen.appends_that_superseded_kept > 200, "{seen:?}");
    assert!(seen.segments_max > 5 && seen.blocks > 20_000, "{seen:?}");
}
