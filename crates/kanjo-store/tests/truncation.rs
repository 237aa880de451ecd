//! What is truncated is gone at once, what lies below stays, and what is appended after it
//! stands, whatever the place of the cut.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{CHAIN, append, assert_holds, block, group, open, options};
use common::{segment_path, sidecar_path};
use kanjo_store::Block;
use kanjo_store::disk::{Disk, RealDisk};
use kanjo_store::faults::{Fault, FaultyDisk, SeededRng};
use kanjo_store::log::{BlockLog, TruncateError};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const SEGMENT_BYTES: u64 = 8 * 1_024;

/// A log of several segments, with frames of one to four blocks.
fn filled(groups: u64) -> (FaultyDisk, Vec<Block>) {
    let disk = FaultyDisk::new(0);
    let (mut log, _) = open(&disk, SEGMENT_BYTES).unwrap();
    let mut blocks = Vec::new();
    for salt in 0..groups {
        let next = group(blocks.len() as u64, 1 + salt % 4, salt);
        append(&mut log, &next).unwrap();
        blocks.extend(next);
    }
    log.prepare_next().unwrap();
    drop(log);
    (disk.snapshot(), blocks)
}

fn segments(disk: &FaultyDisk) -> Vec<u64> {
    let files = disk.files();
    let stems = files.iter().filter(|p| p.extension().is_some_and(|e| e == "seg"));
    stems.map(|p| p.file_stem().unwrap().to_str().unwrap().parse().unwrap()).collect()
}

fn last_kept(blocks: &[Block]) -> Option<u64> {
    blocks.len().checked_sub(1).map(|last| last as u64)
}

/// Nothing of the heights from the end of `blocks` on is to be seen.
fn assert_gone(log: &BlockLog, blocks: &[Block], until: u64, context: &str) {
    assert_holds(log, blocks, context);
    for height in blocks.len() as u64..until {
        assert_eq!(log.read(height).unwrap(), None, "{context}: height {height}");
        assert_eq!(log.read_prefix(height, 1).unwrap(), None, "{context}: height {height}");
        assert_eq!(log.location(height).unwrap(), None, "{context}: height {height}");
        assert!(log.header_hashes(height..until).unwrap().is_empty(), "{context}");
    }
}

/// Reopens what a crash leaves: with the sidecars, and without any.
fn assert_reopens(disk: &FaultyDisk, blocks: &[Block], context: &str) {
    let disk = disk.crash(blocks.len() as u64);
    let bare = disk.snapshot();
    let (log, report) = open(&disk, SEGMENT_BYTES).expect(context);
    assert_holds(&log, blocks, context);
    assert_eq!(report.truncated_bytes, 0, "{context}");
    for height in segments(&bare) {
        let _ = bare.remove(&sidecar_path(height));
    }
    let (log, _) = open(&bare, SEGMENT_BYTES).expect(context);
    assert_holds(&log, blocks, &format!("{context}, without sidecars"));
}

#[test]
fn the_log_may_be_cut_at_any_height_and_goes_on_from_there() {
    let (disk, blocks) = filled(60);
    let end = blocks.len() as u64;
    assert!(segments(&disk).len() > 5, "cuts across several segments are needed");
    for kept in 0..=blocks.len() {
        // One block that fits in, a group, and one that needs a segment of its own.
        for (count, large) in [(1, false), (4, false), (1, true)] {
            let context = format!("{kept} kept, {count} appended, large: {large}");
            let disk = disk.snapshot();
            let mut blocks = blocks.clone();
            let (mut log, _) = open(&disk, SEGMENT_BYTES).unwrap();
            assert_holds(&log, &blocks, &context);
            blocks.truncate(kept);
            log.truncate_after(last_kept(&blocks)).expect(&context);
            assert_gone(&log, &blocks, end, &context);
            let mut next = group(kept as u64, count, 1_000 + kept as u64);
            if large {
                next[0].bytes = vec![9; 20_000];
            }
            append(&mut log, &next).expect(&context);
            blocks.extend(next);
            assert_gone(&log, &blocks, end.max(kept as u64 + count), &context);
            log.prepare_next().unwrap();
            drop(log);
            assert_reopens(&disk, &blocks, &context);
        }
    }
}

#[test]
fn a_truncation_without_an_append_costs_nothing_below_it() {
    let (disk, blocks) = filled(60);
    for kept in 0..=blocks.len() {
        let context = format!("{kept} kept");
        let disk = disk.snapshot();
        let (mut log, _) = open(&disk, SEGMENT_BYTES).unwrap();
        log.truncate_after(last_kept(&blocks[..kept])).unwrap();
        drop(log);
        let (log, _) = open(&disk.crash(kept as u64), SEGMENT_BYTES).expect(&context);
        let back = log.next_height() as usize;
        assert!((kept..=blocks.len()).contains(&back), "{context}, {back} are back");
        assert_holds(&log, &blocks[..back], &context);
    }
}

#[test]
fn above_the_end_and_on_an_empty_log_there_is_nothing_to_do() {
    let (disk, blocks) = filled(9);
    let (mut log, _) = open(&disk, SEGMENT_BYTES).unwrap();
    let changes = disk.changes();
    for height in [blocks.len() as u64 - 1, blocks.len() as u64, u64::MAX] {
        log.truncate_after(Some(height)).unwrap();
        assert_holds(&log, &blocks, "nothing to do");
    }
    assert_eq!(disk.changes(), changes);
    let empty = FaultyDisk::new(0);
    let (mut log, _) = open(&empty, SEGMENT_BYTES).unwrap();
    log.truncate_after(None).unwrap();
    log.truncate_after(Some(7)).unwrap();
    append(&mut log, &group(0, 1, 1)).unwrap();
}

#[test]
fn a_truncation_inside_the_active_segment_touches_no_file() {
    let disk = FaultyDisk::new(0);
    let (mut log, _) = open(&disk, 1 << 20).unwrap();
    let mut blocks = group(0, 9, 1);
    for first in [0, 3, 6] {
        append(&mut log, &blocks[first..first + 3]).unwrap();
    }
    let changes = disk.changes();
    for kept in [8, 6, 4] {
        blocks.truncate(kept);
        log.truncate_after(Some(kept as u64 - 1)).unwrap();
        assert_gone(&log, &blocks, 9, "touching no file");
    }
    assert_eq!(disk.changes(), changes);
    // Heights continue from the cut, not from the old end.
    append(&mut log, &group(9, 1, 2)).unwrap_err();
    append(&mut log, &group(4, 1, 2)).unwrap();
}

#[test]
fn a_log_that_begins_above_zero_is_cut_to_its_beginning() {
    let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new(0));
    let options = kanjo_store::log::LogOptions { segment_bytes: 4_096, first_height: 1_000 };
    let dir = std::path::Path::new(common::DIR);
    let (mut log, _) = BlockLog::open(disk.clone(), dir, CHAIN, options).unwrap();
    for cut in [None, Some(3), Some(999)] {
        for height in 1_000..1_040 {
            append(&mut log, &group(height, 1, 1)).unwrap();
        }
        log.truncate_after(cut).unwrap();
        assert_eq!((log.first_height(), log.next_height()), (1_000, 1_000));
        assert_eq!(log.read(1_000).unwrap(), None);
    }
    append(&mut log, &group(1_000, 2, 2)).unwrap();
    drop(log);
    let (log, _) = BlockLog::open(disk, dir, CHAIN, options).unwrap();
    assert_eq!((log.first_height(), log.next_height()), (1_000, 1_002));
    assert_eq!(log.read(1_001).unwrap(), Some(block(1_001, 2).bytes));
}

#[test]
fn a_segment_that_holds_nothing_is_replaced_by_a_larger_one() {
    let (disk, blocks) = filled(60);
    let all = segments(&disk);
    let last = *all.last().unwrap();
    let mut kept = blocks[..last as usize].to_vec();
    let (mut log, _) = open(&disk, SEGMENT_BYTES).unwrap();
    log.truncate_after(last_kept(&kept)).unwrap();
    for salt in [1, 2] {
        // The first replaces a segment whose frames are forgotten, the second one just made.
        kept.truncate(last as usize);
        log.truncate_after(last_kept(&kept)).unwrap();
        let bytes = vec![salt; 10_000 * usize::from(salt)];
        kept.push(Block { height: last, header_hash: [salt; 32], bytes });
        append(&mut log, &kept[last as usize..]).unwrap();
        assert_holds(&log, &kept, "replaced");
    }
    assert_eq!(segments(&disk), all);
    drop(log);
    assert_reopens(&disk, &kept, "replaced");
}

#[test]
fn a_new_segment_that_never_got_its_frame_may_be_replaced_too() {
    // A crash between the name of a segment and its first frame, then a group that does not
    // fit: the segment has the name that the next one needs.
    let mut met = 0;
    for seed in 0..400 {
        let (disk, mut blocks) = filled(20);
        let (mut log, _) = open(&disk, SEGMENT_BYTES).unwrap();
        disk.crash_after(1 + seed % 40);
        let mut next = Vec::new();
        for salt in 0..20 {
            next = group(blocks.len() as u64, 1, salt);
            if append(&mut log, &next).is_err() {
                break;
            }
            blocks.extend(next.clone());
        }
        let disk = disk.crash(seed);
        let (mut log, _) = open(&disk, SEGMENT_BYTES).unwrap();
        if log.next_height() > blocks.len() as u64 {
            blocks.extend(next);
        }
        met += u64::from(segments(&disk).contains(&log.next_height()));
        let height = blocks.len() as u64;
        blocks.push(Block { height, header_hash: [1; 32], bytes: vec![5; 9_000] });
        append(&mut log, &blocks[height as usize..]).unwrap();
        drop(log);
        assert_reopens(&disk, &blocks, &format!("seed {seed}"));
    }
    assert!(met > 20, "only {met} crashes left an empty segment");
}

#[test]
fn any_subset_of_the_sectors_of_a_group_that_goes_back_opens_without_it_or_with_it_whole() {
    let mut subsets_tried = 0;
    for salt in 0..40 {
        let disk = FaultyDisk::new(salt);
        let (mut log, _) = open(&disk, SEGMENT_BYTES * 4).unwrap();
        let old = group(0, 5, salt);
        append(&mut log, &old[..1]).unwrap();
        append(&mut log, &old[1..]).unwrap();
        let before = disk.get(&segment_path(0)).unwrap();
        log.truncate_after(Some(2)).unwrap();
        let next = group(3, 1 + salt % 3, salt + 100);
        append(&mut log, &next).unwrap();
        let after = disk.get(&segment_path(0)).unwrap();
        drop(log);
        let disk = disk.snapshot();
        let pairs = before.chunks(512).zip(after.chunks(512)).enumerate();
        let sectors: Vec<usize> = pairs.filter(|(_, (b, a))| a != b).map(|(at, _)| at).collect();
        if sectors.len() > 8 {
            continue;
        }
        for subset in 0..1u32 << sectors.len() {
            let mut bytes = before.clone();
            for (bit, sector) in sectors.iter().enumerate() {
                if subset >> bit & 1 == 1 {
                    let range = sector * 512..(sector + 1) * 512;
                    bytes[range.clone()].copy_from_slice(&after[range]);
                }
            }
            disk.put(&segment_path(0), &bytes).unwrap();
            let context = format!("salt {salt}, subset {subset:b}");
            let (log, _) = open(&disk, SEGMENT_BYTES * 4).expect(&context);
            let whole = subset.count_ones() as usize == sectors.len();
            let blocks = if whole { [&old[..3], &next].concat() } else { old.clone() };
            assert_holds(&log, &blocks, &context);
            subsets_tried += 1;
        }
    }
    assert!(subsets_tried > 500, "only {subsets_tried} subsets: the groups are too large");
}

#[test]
fn a_crash_at_any_step_of_a_truncation_across_segments_hurts_nothing_below() {
    let (disk, blocks) = filled(60);
    let starts = segments(&disk);
    let (mut steps_max, mut back_seen) = (0, [false; 3]);
    for kept in [3, starts[1] as usize, starts[1] as usize + 2, starts[3] as usize + 1] {
        for step in 1.. {
            let mut finished = false;
            for seed in 0..20 {
                let context = format!("{kept} kept, step {step}, seed {seed}");
                let disk = disk.snapshot();
                let (mut log, _) = open(&disk, SEGMENT_BYTES).unwrap();
                disk.crash_after(step);
                finished = log.truncate_after(Some(kept as u64 - 1)).is_ok();
                assert_eq!(log.is_poisoned(), !finished, "{context}");
                assert_eq!(log.next_height(), kept as u64, "{context}");
                drop(log);
                let disk = if seed == 0 { disk.kill_process() } else { disk.crash(seed) };
                let (mut log, _) = open(&disk, SEGMENT_BYTES).expect(&context);
                let mut found = blocks[..log.next_height() as usize].to_vec();
                assert!(found.len() >= kept, "{context}: {} are left", found.len());
                let kind = if found.len() == blocks.len() { 0 } else { 1 };
                back_seen[if found.len() == kept { 2 } else { kind }] = true;
                assert_holds(&log, &found, &context);
                // And it can be done again, to the end.
                found.truncate(kept);
                log.truncate_after(last_kept(&found)).expect(&context);
                found.extend(group(kept as u64, 2, seed));
                append(&mut log, &found[kept..]).expect(&context);
                drop(log);
                assert_reopens(&disk, &found, &context);
            }
            if finished {
                break;
            }
            steps_max = steps_max.max(step);
        }
    }
    assert!(steps_max > 10 && back_seen[0] && back_seen[1], "{steps_max} {back_seen:?}");
}

#[test]
fn a_truncation_that_fails_poisons_the_log_and_leaves_what_is_kept_readable() {
    let (disk, blocks) = filled(60);
    let starts = segments(&disk);
    let kept = starts[1] + 1;
    let (mut log, _) = open(&disk, SEGMENT_BYTES).unwrap();
    disk.inject(Fault::FailSyncDir, 1);
    let error = log.truncate_after(Some(kept - 1)).unwrap_err();
    assert!(matches!(error, TruncateError::Io { what: "sync the removal of", .. }), "{error}");
    assert_gone(&log, &blocks[..kept as usize], blocks.len() as u64, "after the failure");
    let changes = disk.changes();
    let error = log.truncate_after(None).unwrap_err();
    assert!(matches!(error, TruncateError::Poisoned { .. }), "{error}");
    append(&mut log, &group(kept, 1, 1)).unwrap_err();
    assert_eq!(disk.changes(), changes, "a poisoned log touches nothing");
}

#[test]
fn a_truncation_onto_a_damaged_segment_is_refused_and_changes_nothing() {
    let (disk, blocks) = filled(60);
    let starts = segments(&disk);
    disk.flip(&segment_path(starts[1]), 700, 4).unwrap();
    let (mut log, _) = open(&disk, SEGMENT_BYTES).unwrap();
    let changes = disk.changes();
    let error = log.truncate_after(Some(starts[1] + 1)).unwrap_err();
    assert!(matches!(error, TruncateError::Read(_)), "{error}");
    assert!(error.to_string().contains("damaged at byte 512"), "{error}");
    assert_eq!((disk.changes(), log.next_height()), (changes, blocks.len() as u64));
    assert!(!log.is_poisoned());
    log.truncate_after(Some(starts[2] + 1)).expect("one that needs it not");

    // Its last frame is lost without a trace: only the segment above knows that it was there.
    let (disk, blocks) = filled(60);
    let (mut log, _) = open(&disk, SEGMENT_BYTES).unwrap();
    let last = log.location(starts[2] - 1).unwrap().unwrap();
    let mut bytes = disk.get(&segment_path(starts[1])).unwrap();
    bytes[last.frame_offset as usize..][..last.frame_bytes as usize].fill(0);
    disk.put(&segment_path(starts[1]), &bytes).unwrap();
    let error = log.truncate_after(Some(starts[1] + 1)).unwrap_err();
    assert!(error.to_string().contains("were acknowledged"), "{error}");
    assert_eq!(log.next_height(), blocks.len() as u64);
}

#[test]
fn a_sidecar_of_an_earlier_end_is_never_believed() {
    let (disk, blocks) = filled(60);
    let starts = segments(&disk);
    for kept in starts[1] + 1..starts[2] {
        let disk = disk.snapshot();
        let stale = disk.get(&sidecar_path(starts[1])).unwrap();
        let (mut log, _) = open(&disk, SEGMENT_BYTES).unwrap();
        log.truncate_after(Some(kept - 1)).unwrap();
        assert!(!disk.files().contains(&sidecar_path(starts[1])), "it is removed");
        let mut now = blocks[..kept as usize].to_vec();
        // Sealed again, at once or behind one more frame, with the first sidecar back.
        for len in [if kept % 2 == 0 { 7_600 } else { 10 }, 7_600, 7_600] {
            let height = now.len() as u64;
            now.push(Block { height, header_hash: [6; 32], bytes: vec![8; len] });
            append(&mut log, &now[height as usize..]).unwrap();
        }
        log.prepare_next().unwrap();
        assert!(segments(&disk).len() > 3);
        drop(log);
        disk.put(&sidecar_path(starts[1]), &stale).unwrap();
        let (log, _) = open(&disk, SEGMENT_BYTES).unwrap();
        assert_holds(&log, &now, &format!("{kept} kept"));
    }
}

#[test]
fn a_prefix_is_read_as_far_as_the_block_goes() {
    let (disk, blocks) = filled(20);
    let (log, _) = open(&disk, SEGMENT_BYTES).unwrap();
    for block in &blocks {
        for len in [0, 1, 10, block.bytes.len(), usize::MAX] {
            let expected = &block.bytes[..len.min(block.bytes.len())];
            assert_eq!(log.read_prefix(block.height, len).unwrap().unwrap(), expected);
        }
    }
}

/// A block that says who it is: its height, and which attempt it was.
fn told(height: u64, attempt: u64) -> Block {
    let mut bytes = [height.to_le_bytes(), attempt.to_le_bytes()].concat();
    bytes.resize(16 + (height % 7) as usize * 150, 1);
    Block { height, header_hash: [attempt as u8; 32], bytes }
}

#[test]
fn readers_meet_no_error_and_no_foreign_block_while_others_truncate() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let (mut log, _) =
        BlockLog::open(Arc::new(RealDisk), &path, CHAIN, options(SEGMENT_BYTES)).unwrap();
    let (done, read) = (AtomicBool::new(false), AtomicU64::new(0));
    /// Ends the loops also if somebody panics, so that the test fails instead of hanging.
    struct SetOnDrop<'a>(&'a AtomicBool);
    impl Drop for SetOnDrop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }
    std::thread::scope(|scope| {
        let _finished = SetOnDrop(&done);
        for thread in 0..2 {
            let (reader, done, read) = (log.reader(), &done, &read);
            scope.spawn(move || {
                let _finished = SetOnDrop(done);
                let mut rng = SeededRng::new(thread);
                while !done.load(Ordering::Acquire) {
                    let next = reader.next_height();
                    let height = next.saturating_sub(rng.below(60));
                    if let Some(found) = reader.read_block(height).unwrap() {
                        let attempt = u64::from_le_bytes(found.bytes[8..16].try_into().unwrap());
                        assert!(found == told(height, attempt), "height {height}");
                        read.fetch_add(1, Ordering::Relaxed);
                    }
                    let hashes = reader.header_hashes(height..height + 9).unwrap();
                    assert!(hashes.len() <= 9);
                }
            });
        }
        let mut rng = SeededRng::new(9);
        let mut attempt = 0;
        while (attempt < 1_500 || read.load(Ordering::Relaxed) < 2_000)
            && !done.load(Ordering::Acquire)
        {
            attempt += 1;
            let next = log.next_height();
            let blocks: Vec<Block> =
                (next..next + 1 + rng.below(6)).map(|height| told(height, attempt)).collect();
            append(&mut log, &blocks).unwrap();
            if rng.below(4) == 0 {
                let cut = log.next_height().saturating_sub(rng.below(40));
                log.truncate_after(cut.checked_sub(1)).unwrap();
            }
        }
    });
}

#[derive(Debug, Clone)]
enum Step {
    Append { count: u64, len_max: usize },
    Truncate(prop::sample::Index),
    Prepare,
    Reopen,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (1u64..5, 1usize..3_000).prop_map(|(count, len_max)| Step::Append { count, len_max }),
        3 => any::<prop::sample::Index>().prop_map(Step::Truncate),
        1 => Just(Step::Prepare),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_log_is_a_vec_with_push_and_truncate(
        steps in prop::collection::vec(any_step(), 1..60),
        segment_sectors in 2u64..40,
    ) {
        let disk = FaultyDisk::new(0);
        let (mut log, _) = open(&disk, segment_sectors * 512).unwrap();
        // What is there, and what was there after each append: opening may bring back what
        // was truncated since the last one.
        let (mut blocks, mut history): (Vec<Block>, Vec<Vec<Block>>) = (Vec::new(), Vec::new());
        for (salt, step) in (1..).zip(steps) {
            match step {
                Step::Append { count, len_max } => {
                    let mut next = group(blocks.len() as u64, count, salt);
                    next.iter_mut().for_each(|block| block.bytes.truncate(len_max));
                    append(&mut log, &next).unwrap();
                    blocks.extend(next);
                    history.push(blocks.clone());
                }
                Step::Truncate(at) => {
                    blocks.truncate(at.index(blocks.len() + 1));
                    log.truncate_after(last_kept(&blocks)).unwrap();
                }
                Step::Prepare => {
                    log.prepare_next().unwrap();
                }
                Step::Reopen => {
                    drop(log);
                    log = open(&disk, segment_sectors * 512).unwrap().0;
                    let read: Vec<Block> = log.iter_from(0).map(Result::unwrap).collect();
                    prop_assert!(read.starts_with(&blocks));
                    let once = history.iter().any(|state| state.starts_with(&read));
                    prop_assert!(once || read == blocks);
                    blocks = read;
                }
            }
            assert_holds(&log, &blocks, "after a step");
        }
    }
}
