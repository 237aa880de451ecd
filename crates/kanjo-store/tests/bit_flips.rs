//! No single flipped bit drops or alters an acknowledged block: it is refused or read right.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{append, block, open, segment_path, sidecar_path};
use kanjo_store::Block;
use kanjo_store::faults::{Fault, FaultyDisk};
use std::path::Path;

const SEGMENT_BYTES: u64 = 4 * 1_024;

/// Two segments, the first sealed with a sidecar; the blocks include one that is all zeros.
fn small_log() -> (FaultyDisk, Vec<Block>) {
    let disk = FaultyDisk::new(0);
    let (mut log, _) = open(&disk, SEGMENT_BYTES).unwrap();
    let mut blocks = Vec::new();
    for height in 0..8 {
        let mut block = block(height, 5);
        block.bytes = vec![(height as u8) * (height as u8 % 3); 100 + 150 * height as usize];
        append(&mut log, std::slice::from_ref(&block)).unwrap();
        blocks.push(block);
    }
    log.prepare_next().unwrap();
    drop(log);
    let disk = disk.snapshot();
    assert!(disk.files().contains(&sidecar_path(0)), "the first segment must be sealed");
    (disk, blocks)
}

/// The same, but truncated on the way: inside the segment that is sealed, at its end, and in
/// the last one. Superseded frames lie among the others in both.
fn truncated_log() -> (FaultyDisk, Vec<Block>) {
    let disk = FaultyDisk::new(0);
    let (mut log, _) = open(&disk, SEGMENT_BYTES).unwrap();
    let mut blocks: Vec<Block> = Vec::new();
    let mut add = |log: &mut kanjo_store::log::BlockLog, kept: usize, lens: &[usize]| {
        log.truncate_after(kept.checked_sub(1).map(|last| last as u64)).unwrap();
        blocks.truncate(kept);
        for len in lens {
            let mut block = block(blocks.len() as u64, 50 + *len as u64);
            block.bytes = vec![(len % 3) as u8; *len];
            blocks.push(block);
        }
        let refs: Vec<_> = blocks[kept..].iter().map(Block::as_ref).collect();
        log.append(&refs).unwrap();
    };
    add(&mut log, 0, &[300, 200, 0, 100]);
    add(&mut log, 2, &[50, 500, 60]);
    add(&mut log, 4, &[400, 70, 80]);
    // Does not fit: the segment is sealed below what its last frame said.
    add(&mut log, 5, &[900, 500]);
    add(&mut log, 6, &[10, 600]);
    add(&mut log, 7, &[300]);
    add(&mut log, 8, &[200]);
    log.prepare_next().unwrap();
    drop(log);
    let disk = disk.snapshot();
    let starts = [segment_path(0), segment_path(5), sidecar_path(0)];
    assert!(starts.iter().all(|path| disk.files().contains(path)), "{:?}", disk.files());
    (disk, blocks)
}

fn logs() -> [(FaultyDisk, Vec<Block>); 2] {
    [small_log(), truncated_log()]
}

#[derive(Default, Debug)]
struct Outcomes {
    refused_at_open: u64,
    refused_at_read: u64,
    read_right: u64,
}

fn check_one(disk: &FaultyDisk, blocks: &[Block], outcomes: &mut Outcomes, context: &str) {
    let Ok((log, _)) = open(disk, SEGMENT_BYTES) else {
        outcomes.refused_at_open += 1;
        return;
    };
    assert_eq!(log.next_height(), blocks.len() as u64, "{context}: dropped silently");
    let mut refused = false;
    for block in blocks {
        match log.reader().read_block(block.height) {
            Ok(Some(read)) => assert!(read == *block, "{context}: altered"),
            Ok(None) => panic!("{context}: height {} has vanished", block.height),
            Err(_) => refused = true,
        }
    }
    if let Ok(hashes) = log.header_hashes(0..u64::MAX) {
        assert!(hashes.iter().eq(blocks.iter().map(|b| &b.header_hash)), "{context}: hashes");
    }
    if refused {
        outcomes.refused_at_read += 1;
    } else {
        outcomes.read_right += 1;
    }
}

fn flip_every_bit(disk: &FaultyDisk, path: &Path, blocks: &[Block]) -> Outcomes {
    let mut outcomes = Outcomes::default();
    let len = disk.get(path).unwrap().len() as u64;
    for offset in 0..len {
        for bit in 0..8 {
            let copy = disk.snapshot();
            copy.flip(path, offset, 1 << bit).unwrap();
            let context = format!("{} byte {offset} bit {bit}", path.display());
            check_one(&copy, blocks, &mut outcomes, &context);
        }
    }
    outcomes
}

#[test]
fn any_flipped_bit_of_the_last_segment_is_refused_or_read_right() {
    for (disk, blocks) in logs() {
        let mut last = disk.files();
        last.retain(|path| path.extension().is_some_and(|e| e == "seg"));
        let path = last.pop().unwrap();
        let outcomes = flip_every_bit(&disk, &path, &blocks);
        let bytes = disk.get(&path).unwrap();
        let used = bytes.chunks(512).filter(|s| s.iter().any(|b| *b != 0)).count();
        // Every bit of every frame is refused; bits of blank space and behind the header are
        // not. Superseded frames are no exception: what follows them rests on them.
        assert_eq!(outcomes.refused_at_open, (used as u64 - 1) * 4_096 + 112 * 8, "{outcomes:?}");
        assert_eq!(outcomes.refused_at_read, 0, "{outcomes:?}");
    }
}

#[test]
fn any_flipped_bit_of_a_sealed_segment_is_refused_or_read_right() {
    for (disk, blocks) in logs() {
        let outcomes = flip_every_bit(&disk, &segment_path(0), &blocks);
        assert!(outcomes.refused_at_read > 0 && outcomes.refused_at_open > 0, "{outcomes:?}");
    }
}

#[test]
fn any_flipped_bit_of_a_sealed_segment_without_sidecar_is_refused_or_read_right() {
    for (disk, blocks) in logs() {
        kanjo_store::disk::Disk::remove(&disk, &sidecar_path(0)).unwrap();
        let outcomes = flip_every_bit(&disk.snapshot(), &segment_path(0), &blocks);
        assert_eq!(outcomes.refused_at_read, 0, "{outcomes:?}");
        assert!(outcomes.refused_at_open > 0, "{outcomes:?}");
    }
}

#[test]
fn any_flipped_bit_of_a_sidecar_is_rebuilt_and_read_right() {
    for (disk, blocks) in logs() {
        let outcomes = flip_every_bit(&disk, &sidecar_path(0), &blocks);
        assert_eq!(outcomes.refused_at_open + outcomes.refused_at_read, 0, "{outcomes:?}");
    }
}

/// In turn: the segment that becomes the last by a truncation is damaged.
#[test]
fn any_flipped_bit_of_a_segment_that_becomes_active_again_is_refused_or_harmless() {
    let (disk, blocks) = truncated_log();
    let (mut refused, mut harmless) = (0, 0);
    for offset in 0..SEGMENT_BYTES {
        let context = format!("byte {offset}");
        let copy = disk.snapshot();
        copy.flip(&segment_path(0), offset, 1 << (offset % 8)).unwrap();
        let Ok((mut log, _)) = open(&copy, SEGMENT_BYTES) else { continue };
        if log.truncate_after(Some(2)).is_err() {
            refused += 1;
            assert_eq!(log.next_height(), blocks.len() as u64, "{context}");
            assert!(copy.files().contains(&segment_path(5)), "{context}");
            continue;
        }
        harmless += 1;
        append(&mut log, &[block(3, 1)]).unwrap();
        drop(log);
        let kept = [&blocks[..3], &[block(3, 1)]].concat();
        let (log, _) = open(&copy, SEGMENT_BYTES).expect(&context);
        common::assert_holds(&log, &kept, &context);
    }
    assert!(refused > 2_000 && harmless > 400, "{refused} refused, {harmless} harmless");
}

#[test]
fn a_bit_flipped_on_the_way_from_the_disk_never_cuts_or_alters() {
    let (disk, blocks) = small_log();
    let mut outcomes = Outcomes::default();
    for skip in 0..40 {
        for seed in 0..50 {
            // The seed chooses the bit.
            let disk = disk.snapshot().crash(seed);
            disk.inject(Fault::FlipOnRead, skip);
            check_one(&disk, &blocks, &mut outcomes, &format!("read {skip}, seed {seed}"));
            // The disk itself is whole: opened again, everything is there.
            let mut again = Outcomes::default();
            check_one(&disk.snapshot(), &blocks, &mut again, &format!("after read {skip}"));
            assert_eq!(again.read_right, 1);
        }
    }
}
