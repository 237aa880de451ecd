//! A torn write of an unacknowledged group never keeps the log from opening.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{append, assert_holds, group, open, segment_path};
use kanjo_store::faults::FaultyDisk;

const SEGMENT_BYTES: u64 = 16 * 1_024;
const SECTOR: usize = 512;

/// A log with two acknowledged groups, and the same with a third: the disks before and after.
fn before_and_after(salt: u64) -> (FaultyDisk, Vec<u8>, Vec<u8>, u64) {
    let disk = FaultyDisk::new(salt);
    let (mut log, _) = open(&disk, SEGMENT_BYTES).unwrap();
    append(&mut log, &group(0, 2, salt)).unwrap();
    append(&mut log, &group(2, 1, salt)).unwrap();
    let before = disk.get(&segment_path(0)).unwrap();
    append(&mut log, &group(3, 3, salt)).unwrap();
    let after = disk.get(&segment_path(0)).unwrap();
    (disk.snapshot(), before, after, 3)
}

fn written_sectors(before: &[u8], after: &[u8]) -> Vec<usize> {
    let pairs = before.chunks(SECTOR).zip(after.chunks(SECTOR));
    pairs.enumerate().filter(|(_, (b, a))| a != b).map(|(index, _)| index).collect()
}

#[test]
fn any_subset_of_the_sectors_of_a_torn_group_opens_without_it_or_with_it_whole() {
    let mut subsets_tried = 0;
    for salt in 0..40 {
        let (disk, before, after, acknowledged) = before_and_after(salt);
        let sectors = written_sectors(&before, &after);
        if sectors.len() > 9 {
            continue;
        }
        for subset in 0..1u32 << sectors.len() {
            let mut bytes = before.clone();
            for (bit, sector) in sectors.iter().enumerate() {
                if subset >> bit & 1 == 1 {
                    let range = sector * SECTOR..(sector + 1) * SECTOR;
                    bytes[range.clone()].copy_from_slice(&after[range]);
                }
            }
            disk.put(&segment_path(0), &bytes).unwrap();
            let context = format!("salt {salt}, subset {subset:b}");
            let (mut log, report) = open(&disk, SEGMENT_BYTES).expect(&context);
            let whole = subset.count_ones() as usize == sectors.len();
            let height = if whole { 6 } else { acknowledged };
            let mut blocks = [group(0, 2, salt), group(2, 1, salt), group(3, 3, salt)].concat();
            blocks.truncate(height as usize);
            assert_holds(&log, &blocks, &context);
            assert_eq!(report.truncated_bytes > 0, !whole && subset != 0, "{context}");
            // Another group goes where the torn one was, and nothing of it shines through.
            blocks.push(common::block(height, 999));
            append(&mut log, &blocks[height as usize..]).unwrap();
            drop(log);
            let (log, report) = open(&disk, SEGMENT_BYTES).expect(&context);
            assert_holds(&log, &blocks, &context);
            assert_eq!(report.truncated_bytes, 0, "{context}");
            subsets_tried += 1;
        }
    }
    assert!(subsets_tried > 1_000, "only {subsets_tried} subsets: the groups are too large");
}

#[test]
fn a_crash_while_a_torn_group_is_being_cut_is_cut_again() {
    for seed in 0..300 {
        let (disk, before, after, acknowledged) = before_and_after(seed);
        let sectors = written_sectors(&before, &after);
        let mut bytes = after;
        let torn = sectors[seed as usize % sectors.len()] * SECTOR;
        bytes[torn..torn + SECTOR].fill(0);
        disk.put(&segment_path(0), &bytes).unwrap();
        disk.crash_after(1 + seed % 5);
        let _ = open(&disk, SEGMENT_BYTES);
        let disk = disk.crash(seed);
        let (log, _) = open(&disk, SEGMENT_BYTES).unwrap();
        assert_eq!(log.next_height(), acknowledged, "seed {seed}");
    }
}

#[test]
fn a_lost_sector_of_an_acknowledged_group_is_refused_when_a_later_group_shows_it() {
    let (disk, before, after, _) = before_and_after(3);
    // The second group loses its sectors, one at a time; the third is whole behind it.
    let first_end = written_sectors(&before, &after)[0];
    for sector in 1..first_end {
        let mut bytes = after.clone();
        bytes[sector * SECTOR..(sector + 1) * SECTOR].fill(0);
        disk.put(&segment_path(0), &bytes).unwrap();
        let error = open(&disk, SEGMENT_BYTES).map(|_| ()).expect_err("must be refused");
        assert!(error.to_string().contains("a later frame was begun"), "{error}");
    }
}
