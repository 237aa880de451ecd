//! Checkpoints: a damaged one is reported and its predecessor used; a crash leaves the old.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::CHAIN;
use kanjo_store::checkpoint::CheckpointStore;
use kanjo_store::disk::Disk;
use kanjo_store::faults::{Fault, FaultyDisk, SeededRng};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn store(disk: &FaultyDisk) -> CheckpointStore {
    CheckpointStore::open(Arc::new(disk.clone()), Path::new("data/checkpoints"), CHAIN).unwrap()
}

fn path(partition: u16, height: u64) -> PathBuf {
    Path::new("data/checkpoints").join(format!("p{partition:05}-{height:020}.ckpt"))
}

fn write(store: &CheckpointStore, partition: u16, height: u64) -> bool {
    let payload = payload(partition, height);
    let written = store.write(partition, height, &mut |out| {
        payload.chunks(37).try_for_each(|chunk| out.write_all(chunk))
    });
    written.is_ok()
}

fn payload(partition: u16, height: u64) -> Vec<u8> {
    let mut rng = SeededRng::new(height ^ u64::from(partition) << 40);
    (0..rng.below(3_000)).map(|_| rng.next_u64() as u8).collect()
}

fn loaded_height(store: &CheckpointStore, partition: u16) -> Option<u64> {
    let checkpoint = store.load(partition).unwrap().checkpoint?;
    assert_eq!(checkpoint.payload, payload(partition, checkpoint.height));
    Some(checkpoint.height)
}

#[test]
fn the_newest_two_are_kept_for_each_partition() {
    let disk = FaultyDisk::new(0);
    let checkpoints = store(&disk);
    for height in [10, 20, 30, 40] {
        assert!(write(&checkpoints, 1, height));
    }
    assert!(write(&checkpoints, 2, 15));
    assert_eq!(checkpoints.list(), [(1, 30), (1, 40), (2, 15)]);
    let again = store(&disk);
    assert_eq!(again.list(), checkpoints.list());
    assert_eq!(loaded_height(&again, 1), Some(40));
    assert_eq!(loaded_height(&again, 2), Some(15));
    assert_eq!(loaded_height(&again, 3), None);
}

#[test]
fn a_damaged_checkpoint_falls_back_to_the_one_before_and_is_named() {
    let disk = FaultyDisk::new(0);
    let checkpoints = store(&disk);
    write(&checkpoints, 1, 10);
    write(&checkpoints, 1, 20);
    let whole = disk.get(&path(1, 20)).unwrap();
    for offset in 0..whole.len() as u64 {
        disk.flip(&path(1, 20), offset, 0x40).unwrap();
        let loaded = store(&disk).load(1).unwrap();
        assert_eq!(loaded.checkpoint.unwrap().height, 10, "byte {offset}");
        assert_eq!(loaded.rejected.len(), 1);
        assert_eq!(loaded.rejected[0].path, path(1, 20));
        disk.flip(&path(1, 20), offset, 0x40).unwrap();
    }
    disk.put(&path(1, 10), b"neither this").unwrap();
    disk.put(&path(1, 20), b"").unwrap();
    let loaded = checkpoints.load(1).unwrap();
    assert_eq!((loaded.checkpoint, loaded.rejected.len()), (None, 2));
}

#[test]
fn a_damaged_checkpoint_does_not_push_out_the_good_one() {
    let disk = FaultyDisk::new(0);
    let checkpoints = store(&disk);
    write(&checkpoints, 1, 10);
    write(&checkpoints, 1, 20);
    disk.flip(&path(1, 20), 60, 1).unwrap();
    assert_eq!(loaded_height(&checkpoints, 1), Some(10));
    write(&checkpoints, 1, 30);
    assert_eq!(checkpoints.list(), [(1, 10), (1, 30)]);
}

#[test]
fn a_checkpoint_above_the_log_is_not_used() {
    let disk = FaultyDisk::new(0);
    let checkpoints = store(&disk);
    write(&checkpoints, 1, 10);
    write(&checkpoints, 1, 20);
    let loaded = checkpoints.load_at_most(1, 19).unwrap();
    assert_eq!(loaded.checkpoint.unwrap().height, 10);
}

#[test]
fn a_foreign_checkpoint_is_rejected() {
    let disk = FaultyDisk::new(0);
    let checkpoints = store(&disk);
    write(&checkpoints, 1, 10);
    let bytes = disk.get(&path(1, 10)).unwrap();
    for (name, reason) in [(path(1, 11), "height"), (path(2, 10), "partition")] {
        disk.put(&name, &bytes).unwrap();
        let partition = if reason == "height" { 1 } else { 2 };
        let loaded = store(&disk).load(partition).unwrap();
        assert!(loaded.rejected[0].reason.contains(reason), "{:?}", loaded.rejected);
    }
    let dir = Path::new("data/checkpoints");
    let other = CheckpointStore::open(Arc::new(disk.clone()), dir, [9; 32]).unwrap();
    assert!(other.load(1).unwrap().rejected[0].reason.contains("chain"));
}

#[test]
fn a_failed_write_leaves_the_earlier_one_and_no_litter() {
    let disk = FaultyDisk::new(0);
    let checkpoints = store(&disk);
    write(&checkpoints, 1, 10);
    let files = disk.files();
    for fault in [Fault::FailWrite, Fault::FailSync] {
        disk.inject(fault, 0);
        assert!(!write(&checkpoints, 1, 20));
        assert_eq!(disk.files(), files);
    }
    disk.set_space(Some(50));
    assert!(!write(&checkpoints, 1, 20));
    assert_eq!(disk.files(), files);
    disk.set_space(None);
    let failed = checkpoints.write(1, 20, &mut |_| Err(io::Error::other("the caller gave up")));
    assert!(failed.unwrap_err().to_string().contains("the caller gave up"));
    assert_eq!(loaded_height(&checkpoints, 1), Some(10));
}

#[test]
fn a_written_checkpoint_survives_any_crash() {
    for seed in 0..500 {
        let mut rng = SeededRng::new(seed);
        let mut disk = FaultyDisk::new(seed);
        let mut written = 0;
        for _ in 0..4 {
            let checkpoints = store(&disk);
            let found = loaded_height(&checkpoints, 3).unwrap_or(0);
            assert!(found >= written, "seed {seed}: {written} was written, {found} found");
            assert!(checkpoints.load(3).unwrap().rejected.is_empty(), "seed {seed}");
            disk.crash_after(1 + rng.below(20));
            for height in found + 1..found + 6 {
                if !write(&checkpoints, 3, height) {
                    break;
                }
                written = height;
            }
            disk = disk.crash(rng.next_u64());
        }
        assert!(!disk.list(Path::new("data/checkpoints")).unwrap().is_empty() || written == 0);
    }
}
