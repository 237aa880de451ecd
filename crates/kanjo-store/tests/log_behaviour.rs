//! What is appended is read back, by anyone, at any time; what does not belong is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{CHAIN, DIR, append, assert_holds, block, group, open, options};
use common::{segment_path, sidecar_path};
use kanjo_store::disk::{Disk, RealDisk};
use kanjo_store::faults::FaultyDisk;
use kanjo_store::log::{AppendError, BlockLog, LogOptions, OpenError, decode_frame};
use kanjo_store::{Block, BlockRef};
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const SEGMENT_BYTES: u64 = 16 * 1_024;

/// A log of several segments.
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

fn refusal(disk: &FaultyDisk) -> OpenError {
    open(disk, SEGMENT_BYTES).map(|_| ()).expect_err("must be refused")
}

#[test]
fn a_missing_or_damaged_sidecar_is_built_again() {
    let (disk, blocks) = filled(60);
    let all = segments(&disk);
    assert!(all.len() > 4, "several segments are needed");
    for (i, height) in all[..all.len() - 1].iter().enumerate() {
        let path = sidecar_path(*height);
        match i % 4 {
            0 => disk.remove(&path).unwrap(),
            1 => disk.put(&path, b"").unwrap(),
            2 => disk.put(&path, &disk.get(&path).unwrap()[..50]).unwrap(),
            _ => disk.put(&path, &disk.get(&sidecar_path(all[0])).unwrap_or_default()).unwrap(),
        }
    }
    let (log, report) = open(&disk, SEGMENT_BYTES).unwrap();
    assert_eq!(report.sidecars_rebuilt, (all.len() - 1).div_ceil(4));
    assert_holds(&log, &blocks, "sidecars gone");
    log.prepare_next().unwrap();
    drop(log);
    let (log, report) = open(&disk, SEGMENT_BYTES).unwrap();
    assert_eq!(report.sidecars_rebuilt, 0);
    assert_holds(&log, &blocks, "sidecars back");
}

#[test]
fn header_hashes_are_read_without_touching_sealed_segments() {
    let (disk, blocks) = filled(60);
    let all = segments(&disk);
    let (log, report) = open(&disk, SEGMENT_BYTES).unwrap();
    assert!(report.frames_verified < 20, "only the last segment is scanned");
    for height in &all[..all.len() - 1] {
        let len = disk.get(&segment_path(*height)).unwrap().len();
        disk.put(&segment_path(*height), &vec![0xff; len]).unwrap();
    }
    let hashes = log.header_hashes(3..41).unwrap();
    assert!(hashes.iter().eq(blocks[3..41].iter().map(|b| &b.header_hash)));
    assert!(log.read(3).is_err(), "and a damaged block is refused when read");
}

#[test]
fn a_missing_first_segment_is_named() {
    let (disk, _) = filled(60);
    let all = segments(&disk);
    disk.remove(&segment_path(all[0])).unwrap();
    let error = refusal(&disk);
    assert!(
        matches!(error, OpenError::MissingFirstSegment { found, missing: 0, .. }
            if found == all[1]),
        "{error}"
    );
}

#[test]
fn a_gap_between_segments_is_named() {
    let (disk, _) = filled(60);
    let all = segments(&disk);
    disk.remove(&segment_path(all[2])).unwrap();
    let error = refusal(&disk);
    assert!(
        matches!(error, OpenError::SegmentGap { expected, found, .. }
            if (expected, found) == (all[2], all[1])),
        "{error}"
    );
}

#[test]
fn a_cut_off_segment_is_refused() {
    let (disk, _) = filled(60);
    let path = segment_path(segments(&disk)[1]);
    let bytes = disk.get(&path).unwrap();
    disk.put(&path, &bytes[..bytes.len() - 512]).unwrap();
    assert!(matches!(refusal(&disk), OpenError::Corrupt { .. }));
    disk.put(&path, &bytes[..100]).unwrap();
    assert!(matches!(refusal(&disk), OpenError::Corrupt { .. }));
}

#[test]
fn a_segment_under_another_name_is_refused() {
    let (disk, _) = filled(60);
    let all = segments(&disk);
    disk.rename(&segment_path(all[1]), &segment_path(all[1] + 1)).unwrap();
    assert!(matches!(refusal(&disk), OpenError::SegmentName { .. }));
}

#[test]
fn a_segment_of_another_history_is_refused() {
    let (disk, _) = filled(60);
    let (other, _) = {
        let disk = FaultyDisk::new(0);
        let (mut log, _) = open(&disk, SEGMENT_BYTES).unwrap();
        for height in 0..200 {
            append(&mut log, &group(height, 1, 77)).unwrap();
        }
        (disk.snapshot(), ())
    };
    // The same first height and chain, so only the links between frames can tell.
    disk.put(&segment_path(0), &other.get(&segment_path(0)).unwrap()).unwrap();
    disk.remove(&sidecar_path(0)).unwrap();
    assert!(matches!(refusal(&disk), OpenError::Corrupt { .. }));
}

#[test]
fn another_chain_or_version_is_refused() {
    let (disk, _) = filled(3);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let opened = BlockLog::open(shared, Path::new(DIR), [8; 32], options(SEGMENT_BYTES));
    assert!(matches!(opened.map(|_| ()), Err(OpenError::WrongChain { .. })));
    disk.flip(&segment_path(0), 8, 3).unwrap();
    assert!(matches!(refusal(&disk), OpenError::UnknownVersion { found: 2, known: 1, .. }));
}

#[test]
fn a_second_writer_is_kept_out() {
    let disk = FaultyDisk::new(0);
    let (log, _) = open(&disk, SEGMENT_BYTES).unwrap();
    assert!(matches!(refusal(&disk), OpenError::Locked { .. }));
    let preparer = log.preparer();
    drop(log);
    assert!(matches!(refusal(&disk), OpenError::Locked { .. }), "the preparer still writes");
    drop(preparer);
    assert!(open(&disk, SEGMENT_BYTES).is_ok());
}

#[test]
fn heights_that_do_not_continue_are_refused_and_nothing_is_written() {
    let disk = FaultyDisk::new(0);
    let (mut log, _) = open(&disk, SEGMENT_BYTES).unwrap();
    append(&mut log, &group(0, 2, 1)).unwrap();
    let changes = disk.changes();
    for blocks in [group(3, 1, 1), group(1, 1, 1), vec![block(2, 1), block(2, 1)]] {
        let error = append(&mut log, &blocks).unwrap_err();
        assert!(matches!(error, AppendError::Height { .. }), "{error}");
    }
    assert_eq!(disk.changes(), changes);
    assert!(log.append(&[]).unwrap().is_empty());
    append(&mut log, &group(2, 1, 1)).unwrap();
}

#[test]
fn a_group_larger_than_a_segment_gets_its_own() {
    let disk = FaultyDisk::new(0);
    let (mut log, _) = open(&disk, SEGMENT_BYTES).unwrap();
    let mut blocks = group(0, 1, 1);
    blocks.push(Block { height: 1, header_hash: [1; 32], bytes: vec![9; 100_000] });
    blocks.push(block(2, 1));
    append(&mut log, &blocks[..1]).unwrap();
    append(&mut log, &blocks[1..2]).unwrap();
    append(&mut log, &blocks[2..]).unwrap();
    drop(log);
    let (log, _) = open(&disk, SEGMENT_BYTES).unwrap();
    assert_holds(&log, &blocks, "with a large group");
    assert_eq!(segments(&disk), [0, 1, 2]);
}

#[test]
fn a_log_may_begin_at_any_height() {
    let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new(0));
    let options = LogOptions { segment_bytes: SEGMENT_BYTES, first_height: 1_000 };
    let (mut log, _) = BlockLog::open(disk.clone(), Path::new(DIR), CHAIN, options).unwrap();
    append(&mut log, &group(1_000, 3, 1)).unwrap();
    drop(log);
    let options = LogOptions { first_height: 0, ..options };
    let (log, _) = BlockLog::open(disk, Path::new(DIR), CHAIN, options).unwrap();
    assert_eq!((log.first_height(), log.next_height()), (1_000, 1_003));
    assert_eq!(log.read(999).unwrap(), None);
    assert_eq!(log.read(1_003).unwrap(), None);
    assert_eq!(log.header_hashes(0..1_001).unwrap().len(), 1);
}

#[test]
fn a_payload_that_imitates_frames_fools_nobody() {
    let disk = FaultyDisk::new(0);
    let (mut log, _) = open(&disk, 1 << 20).unwrap();
    append(&mut log, &group(0, 1, 1)).unwrap();
    // A block made of copies of a real frame, at every alignment, then torn.
    let frame = disk.get(&segment_path(0)).unwrap()[512..1_536].to_vec();
    let mut evil = Vec::new();
    for shift in 0..512 {
        evil.extend(vec![0; shift]);
        evil.extend(&frame);
    }
    let before = disk.get(&segment_path(0)).unwrap();
    let evil = Block { height: 1, header_hash: [1; 32], bytes: evil };
    append(&mut log, std::slice::from_ref(&evil)).unwrap();
    drop(log);
    let after = disk.get(&segment_path(0)).unwrap();
    let first = before.chunks(512).zip(after.chunks(512)).position(|(b, a)| b != a).unwrap();
    for lost in [first, first + 1, first + 5] {
        let mut bytes = after.clone();
        bytes[lost * 512..][..512].fill(0);
        disk.put(&segment_path(0), &bytes).unwrap();
        let (log, report) = open(&disk, 1 << 20).unwrap();
        assert_eq!(log.next_height(), 1);
        assert!(report.truncated_bytes > 0);
    }
}

#[test]
fn readers_see_only_synced_blocks_while_others_append() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let (mut log, _) =
        BlockLog::open(Arc::new(RealDisk), &path, CHAIN, options(64 * 1_024)).unwrap();
    let done = AtomicBool::new(false);
    /// Ends the loops also if the appender panics, so that the test fails instead of hanging.
    struct SetOnDrop<'a>(&'a AtomicBool);
    impl Drop for SetOnDrop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }
    std::thread::scope(|scope| {
        let _finished = SetOnDrop(&done);
        for thread in 0..3 {
            let (reader, done) = (log.reader(), &done);
            scope.spawn(move || {
                let mut checked = 0u64;
                while !done.load(Ordering::Acquire) {
                    let next = reader.next_height();
                    let from = next.saturating_sub(30 * (thread + 1));
                    for found in reader.iter_from(from).take(40) {
                        let found = found.unwrap();
                        assert!(found == block(found.height, 3));
                        checked += 1;
                    }
                    let hashes = reader.header_hashes(0..next).unwrap();
                    assert_eq!(hashes.len() as u64, next);
                }
                assert!(checked > 100, "the reader has hardly read");
            });
        }
        let preparer = log.preparer();
        let finished = &done;
        scope.spawn(move || {
            while !finished.load(Ordering::Acquire) {
                preparer.prepare_next().unwrap();
                std::thread::yield_now();
            }
        });
        for first in (0..600).step_by(2) {
            append(&mut log, &group(first, 2, 3)).unwrap();
        }
    });
    drop(log);
    let (log, report) =
        BlockLog::open(Arc::new(RealDisk), &path, CHAIN, options(64 * 1_024)).unwrap();
    assert_holds(&log, &group(0, 600, 3), "reopened from the real disk");
    assert_eq!(report.truncated_bytes, 0);
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..1_500)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_appended_is_read_back(
        groups in prop::collection::vec(
            prop::collection::vec((any::<[u8; 32]>(), any_bytes()), 1..6),
            1..20,
        ),
        segment_sectors in 2u64..40,
    ) {
        let disk = FaultyDisk::new(0);
        let mut blocks: Vec<Block> = Vec::new();
        let (mut log, _) = open(&disk, segment_sectors * 512).unwrap();
        for group in groups {
            let start = blocks.len();
            for (header_hash, bytes) in group {
                blocks.push(Block { height: blocks.len() as u64, header_hash, bytes });
            }
            let refs: Vec<BlockRef<'_>> = blocks[start..].iter().map(Block::as_ref).collect();
            for location in log.append(&refs).unwrap() {
                prop_assert_eq!(log.location(location.height).unwrap(), Some(location));
                let file = disk.get(&segment_path(location.segment)).unwrap();
                let frame = decode_frame(&file[location.frame_offset as usize..]).unwrap();
                prop_assert_eq!(frame.header.extent_bytes(), location.frame_bytes);
                let (hash, bytes) = frame.block(location.height).unwrap();
                let block = &blocks[location.height as usize];
                prop_assert_eq!((hash, bytes), (&block.header_hash, block.bytes.as_slice()));
            }
        }
        assert_holds(&log, &blocks, "appended");
        drop(log);
        let (log, _) = open(&disk.crash(1), 512 * 7).unwrap();
        assert_holds(&log, &blocks, "reopened");
    }
}
