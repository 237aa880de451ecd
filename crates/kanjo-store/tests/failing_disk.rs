//! Full disks, failed syncs, short writes: what the log does when the disk does not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{append, assert_holds, group, open, segment_path};
use kanjo_store::Block;
use kanjo_store::faults::{Fault, FaultyDisk};
use kanjo_store::log::{AppendError, BlockLog};

const SEGMENT_BYTES: u64 = 8 * 1_024;

fn fill(log: &mut BlockLog, blocks: &mut Vec<Block>) -> AppendError {
    loop {
        let next = group(blocks.len() as u64, 1, 1);
        match append(log, &next) {
            Ok(()) => blocks.extend(next),
            Err(error) => return error,
        }
    }
}

#[test]
fn a_full_disk_is_an_error_before_anything_is_written_and_passes() {
    let disk = FaultyDisk::new(1);
    disk.set_space(Some(3 * SEGMENT_BYTES + 100));
    let (mut log, _) = open(&disk, SEGMENT_BYTES).unwrap();
    let mut blocks = Vec::new();
    let error = fill(&mut log, &mut blocks);
    assert!(matches!(error, AppendError::DiskFull { .. }), "{error}");
    assert!(error.to_string().contains("free some space"), "{error}");
    assert!(log.prepare_next().is_err());
    assert!(log.headroom() < SEGMENT_BYTES);
    assert_holds(&log, &blocks, "while full");

    disk.set_space(Some(10 * SEGMENT_BYTES));
    let next = group(blocks.len() as u64, 2, 2);
    append(&mut log, &next).expect("the same append, tried again");
    blocks.extend(next);
    drop(log);
    let (log, report) = open(&disk.crash(1), SEGMENT_BYTES).unwrap();
    assert_holds(&log, &blocks, "after the crash");
    assert_eq!(report.truncated_bytes, 0);
}

#[test]
fn a_prepared_segment_lets_appends_go_on_when_the_disk_is_full() {
    let disk = FaultyDisk::new(2);
    let (mut log, _) = open(&disk, SEGMENT_BYTES).unwrap();
    assert_eq!(log.headroom(), 0);
    append(&mut log, &group(0, 1, 1)).unwrap();
    assert!(log.prepare_next().unwrap());
    assert!(!log.prepare_next().unwrap(), "one is enough");
    disk.set_space(Some(0));
    let before = log.headroom();
    assert!(before > SEGMENT_BYTES);
    let mut blocks = group(0, 1, 1);
    let error = fill(&mut log, &mut blocks);
    assert!(matches!(error, AppendError::DiskFull { .. }), "{error}");
    assert!(disk.files().contains(&segment_path(0)));
    assert!(log.headroom() < before);
    assert_holds(&log, &blocks, "with the prepared segment used up");
}

#[test]
fn a_failed_sync_poisons_the_log_until_it_is_opened_again() {
    let disk = FaultyDisk::new(3);
    let (mut log, _) = open(&disk, SEGMENT_BYTES).unwrap();
    append(&mut log, &group(0, 2, 1)).unwrap();
    disk.inject(Fault::FailSync, 0);
    let error = append(&mut log, &group(2, 1, 1)).unwrap_err();
    assert!(matches!(error, AppendError::Io { what: "sync", height: 2, .. }), "{error}");
    assert_eq!(log.next_height(), 2, "readers must not see it");
    let changes = disk.changes();
    for _ in 0..3 {
        let error = append(&mut log, &group(2, 1, 1)).unwrap_err();
        assert!(matches!(error, AppendError::Poisoned { .. }), "{error}");
        assert!(error.to_string().contains("open it again"), "{error}");
    }
    assert_eq!(disk.changes(), changes, "a poisoned log touches nothing");
    drop(log);
    let (mut log, _) = open(&disk, SEGMENT_BYTES).unwrap();
    let next = log.next_height();
    append(&mut log, &group(next, 1, 1)).unwrap();
}

#[test]
fn a_failed_sync_of_the_directory_poisons_the_log() {
    let disk = FaultyDisk::new(4);
    let (mut log, _) = open(&disk, SEGMENT_BYTES).unwrap();
    disk.inject(Fault::FailSyncDir, 0);
    let error = append(&mut log, &group(0, 1, 1)).unwrap_err();
    assert!(matches!(error, AppendError::Io { what: "sync the name of", .. }), "{error}");
    assert!(log.is_poisoned());
}

#[test]
fn a_failed_preparation_is_harmless() {
    let disk = FaultyDisk::new(5);
    let (mut log, _) = open(&disk, SEGMENT_BYTES).unwrap();
    for fault in [Fault::FailSync, Fault::FailWrite] {
        disk.inject(fault, 0);
        assert!(log.prepare_next().is_err());
        assert!(!log.is_poisoned());
    }
    append(&mut log, &group(0, 1, 1)).unwrap();
}

#[test]
fn short_writes_are_continued() {
    let disk = FaultyDisk::new(6);
    let (mut log, _) = open(&disk, SEGMENT_BYTES).unwrap();
    let mut blocks = Vec::new();
    for height in 0..40 {
        disk.inject(Fault::ShortWrite, 0);
        let next = group(height, 1, 3);
        append(&mut log, &next).unwrap();
        blocks.extend(next);
    }
    drop(log);
    let (log, _) = open(&disk.crash(0), SEGMENT_BYTES).unwrap();
    assert_holds(&log, &blocks, "after short writes");
}

#[test]
fn a_failed_read_says_so_and_the_next_one_succeeds() {
    let disk = FaultyDisk::new(7);
    let (mut log, _) = open(&disk, SEGMENT_BYTES).unwrap();
    let blocks = group(0, 2, 1);
    append(&mut log, &blocks).unwrap();
    disk.inject(Fault::FailRead, 0);
    let error = log.read(1).unwrap_err();
    assert!(error.to_string().contains("height 1"), "{error}");
    assert_eq!(log.read(1).unwrap(), Some(blocks[1].bytes.clone()));
}
