//! Run, crash at a random point, reopen, check, go on: nothing acknowledged may be lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{append, assert_holds, group, open};
use kanjo_store::Block;
use kanjo_store::faults::{Fault, FaultyDisk, SeededRng};
use kanjo_store::log::AppendError;

const SEEDS: u64 = 2_000;
const CRASHES_PER_SEED: u64 = 6;
const SEGMENT_BYTES: u64 = 8 * 1_024;

/// What the test knows of the log.
#[derive(Default)]
struct Model {
    acknowledged: Vec<Block>,
    /// Sent but not acknowledged: may be there whole after a crash, or not at all.
    in_doubt: Vec<Block>,
    seen: Seen,
}

/// What the loop has met: it must meet all of it, or it tests less than it claims.
#[derive(Debug, Default)]
struct Seen {
    cut: u64,
    kept_whole: u64,
    dropped: u64,
    disk_full: u64,
    segments_max: usize,
    blocks: u64,
}

fn plan_faults(disk: &FaultyDisk, rng: &mut SeededRng) {
    match rng.below(8) {
        0 => disk.inject(Fault::FailSync, rng.below(12)),
        1 => disk.inject(Fault::FailWrite, rng.below(30)),
        2 => disk.inject(Fault::ShortWrite, rng.below(30)),
        3 => disk.inject(Fault::FailSyncDir, rng.below(4)),
        4 => disk.set_space(Some(rng.below(4 * SEGMENT_BYTES))),
        _ => {}
    }
    if rng.below(4) > 0 {
        disk.crash_after(1 + rng.below(40));
    }
}

/// Appends until something fails or enough is done.
fn run(disk: &FaultyDisk, model: &mut Model, rng: &mut SeededRng, context: &str) {
    let (mut log, report) = match open(disk, SEGMENT_BYTES) {
        Ok(opened) => opened,
        // Only I/O may fail here: a crash or fault during the opening itself.
        Err(kanjo_store::log::OpenError::Io { .. }) => return,
        Err(error) => panic!("{context}: {error}"),
    };
    settle(model, log.next_height(), context);
    model.seen.cut += u64::from(report.truncated_bytes > 0);
    model.seen.segments_max = model.seen.segments_max.max(report.segments);
    assert_holds(&log, &model.acknowledged, context);
    plan_faults(disk, rng);
    for _ in 0..rng.below(25) {
        if rng.below(3) == 0 {
            let _ = log.prepare_next();
        }
        let next = model.acknowledged.len() as u64;
        let blocks = group(next, 1 + rng.below(5), rng.next_u64());
        match append(&mut log, &blocks) {
            Ok(()) => model.acknowledged.extend(blocks),
            Err(AppendError::DiskFull { .. }) => {
                assert!(!log.is_poisoned(), "{context}: a full disk must pass");
                disk.set_space(None);
                model.seen.disk_full += 1;
            }
            Err(error) => {
                assert!(matches!(error, AppendError::Io { .. }), "{context}: {error}");
                assert!(log.is_poisoned(), "{context}: {error}");
                let again = append(&mut log, &blocks);
                assert!(matches!(again, Err(AppendError::Poisoned { .. })), "{context}");
                model.in_doubt = blocks;
                return;
            }
        }
    }
}

/// After a crash the group in doubt is there whole, or not at all.
fn settle(model: &mut Model, next_height: u64, context: &str) {
    let acknowledged = model.acknowledged.len() as u64;
    let in_doubt = std::mem::take(&mut model.in_doubt);
    if next_height != acknowledged {
        let whole = acknowledged + in_doubt.len() as u64;
        assert_eq!(next_height, whole, "{context}: acknowledged {acknowledged}");
        model.acknowledged.extend(in_doubt);
        model.seen.kept_whole += 1;
    } else if !in_doubt.is_empty() {
        model.seen.dropped += 1;
    }
}

#[test]
fn acknowledged_blocks_survive_any_crash() {
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
        settle(&mut model, log.next_height(), &context);
        assert_holds(&log, &model.acknowledged, &context);
        seen = model.seen;
        seen.blocks += model.acknowledged.len() as u64;
    }
    assert!(seen.cut > 200 && seen.kept_whole > 200 && seen.dropped > 200, "{seen:?}");
    assert!(seen.disk_full > 200 && seen.segments_max > 10 && seen.blocks > 50_000, "{seen:?}");
}

#[test]
fn bytes_left_in_the_page_cache_by_a_failed_sync_are_saved_or_gone_but_never_half_trusted() {
    for seed in 0..300 {
        let mut disk = FaultyDisk::new(seed);
        let first = group(0, 2, seed);
        let second = group(2, 2, seed);
        {
            let (mut log, _) = open(&disk, 64 * 1_024).unwrap();
            append(&mut log, &first).unwrap();
            disk.inject_on(Fault::FailSync, ".seg", 0);
            append(&mut log, &second).unwrap_err();
        }
        // The process dies, the machine does not: the second group is visible but not durable.
        disk = disk.kill_process();
        let seen = {
            let (log, _) = open(&disk, 64 * 1_024).unwrap();
            log.next_height()
        };
        assert_eq!(seen, 4);
        // It was seen, so it may have been voted on: now the power goes, and it must stay.
        disk = disk.crash(seed);
        let (log, _) = open(&disk, 64 * 1_024).unwrap();
        assert_holds(&log, &[first, second].concat(), &format!("seed {seed}"));
    }
}
