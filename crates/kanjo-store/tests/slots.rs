//! The record of a voter: after any crash the newest one acknowledged or a newer one; after
//! any damage that, or a refusal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use kanjo_store::disk::{Disk, RealDisk};
use kanjo_store::faults::{Fault, FaultyDisk, SeededRng};
use kanjo_store::slots::{FILE_BYTES, PAYLOAD_BYTES_MAX, SlotError, SlotFault, SlotFile, decode};
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;

const PATH: &str = "data/consensus/vote";

fn path() -> &'static Path {
    Path::new(PATH)
}

fn open(disk: &FaultyDisk) -> Result<(SlotFile, Option<Vec<u8>>), SlotError> {
    SlotFile::open(Arc::new(disk.clone()), path())
}

fn read(disk: &FaultyDisk) -> Result<Option<Vec<u8>>, SlotError> {
    open(disk).map(|(_, record)| record)
}

/// A record whose content and length follow from its number and the seed.
fn record(number: u64, seed: u64) -> Vec<u8> {
    let mut rng = SeededRng::new(number ^ (seed << 20));
    let len_max = if rng.below(2) == 0 { 100 } else { PAYLOAD_BYTES_MAX as u64 + 1 };
    let len = rng.below(len_max);
    let zeros = rng.below(4) == 0;
    (0..len).map(|_| if zeros { 0 } else { rng.next_u64() as u8 }).collect()
}

/// A file with these records written one after the other.
fn written(records: &[Vec<u8>]) -> FaultyDisk {
    let disk = FaultyDisk::new(1);
    let (mut slots, _) = open(&disk).unwrap();
    for record in records {
        slots.write(record).unwrap();
    }
    drop(slots);
    disk.snapshot()
}

#[test]
fn records_of_any_length_follow_one_another() {
    let mut disk = FaultyDisk::new(1);
    let mut expected = None;
    for len in [0, 1, 455, 456, 457, 912, 913, 4_095, 4_096, 0, 7] {
        let (mut slots, found) = open(&disk).unwrap();
        assert_eq!(found, expected, "before {len}");
        for salt in 0..3 {
            let record = vec![salt; len];
            slots.write(&record).unwrap();
            expected = Some(record);
        }
        disk = disk.crash(len as u64);
    }
    assert_eq!(read(&disk).unwrap(), expected);
}

#[test]
fn a_record_that_is_too_long_is_refused_and_nothing_is_written() {
    let disk = FaultyDisk::new(1);
    let (mut slots, _) = open(&disk).unwrap();
    slots.write(b"before").unwrap();
    let changes = disk.changes();
    let error = slots.write(&[0; PAYLOAD_BYTES_MAX + 1]).unwrap_err();
    assert!(matches!(error, SlotError::TooLarge { found_bytes: 4_097 }), "{error}");
    assert_eq!(disk.changes(), changes);
    slots.write(b"after").unwrap();
    drop(slots);
    assert_eq!(read(&disk).unwrap().unwrap(), b"after");
}

#[test]
fn there_is_one_holder() {
    let disk = FaultyDisk::new(1);
    let (slots, _) = open(&disk).unwrap();
    assert!(matches!(open(&disk).map(|_| ()), Err(SlotError::Locked { .. })));
    drop(slots);
    open(&disk).unwrap();
}

#[test]
fn it_works_on_the_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/guard");
    for number in 0..5 {
        let (mut slots, found) = SlotFile::open(Arc::new(RealDisk), &path).unwrap();
        assert_eq!(found, (number > 0).then(|| record(number - 1, 1)));
        slots.write(&record(number, 1)).unwrap();
    }
    assert_eq!(std::fs::metadata(&path).unwrap().len(), FILE_BYTES as u64);
}

#[test]
fn a_failed_write_or_sync_poisons_it_until_it_is_opened_again() {
    for fault in [Fault::FailWrite, Fault::FailSync] {
        let disk = FaultyDisk::new(1);
        let (mut slots, _) = open(&disk).unwrap();
        slots.write(b"first").unwrap();
        disk.inject(fault, 0);
        let error = slots.write(b"second").unwrap_err();
        assert!(matches!(error, SlotError::Io { .. }), "{error}");
        let changes = disk.changes();
        let error = slots.write(b"third").unwrap_err();
        assert!(matches!(error, SlotError::Poisoned { .. }) && slots.is_poisoned(), "{error}");
        assert_eq!(disk.changes(), changes, "a poisoned file is not touched");
        drop(slots);
        let (mut slots, found) = open(&disk).unwrap();
        let found = found.unwrap();
        assert!(found == b"first" || found == b"second", "{found:?}");
        slots.write(b"fourth").unwrap();
        drop(slots);
        assert_eq!(read(&disk.crash(1)).unwrap().unwrap(), b"fourth");
    }
}

#[test]
fn what_was_seen_after_a_failed_sync_stays() {
    for seed in 0..200 {
        let disk = FaultyDisk::new(seed);
        let (mut slots, _) = open(&disk).unwrap();
        slots.write(&record(1, seed)).unwrap();
        disk.inject(Fault::FailSync, 0);
        slots.write(&record(2, seed)).unwrap_err();
        drop(slots);
        // The process dies, the machine does not: the bytes are in the page cache only.
        let disk = disk.kill_process();
        assert_eq!(read(&disk).unwrap().unwrap(), record(2, seed));
        // It was seen, so it may have been acted on: now the power goes.
        assert_eq!(read(&disk.crash(seed)).unwrap().unwrap(), record(2, seed), "seed {seed}");
    }
}

#[test]
fn acknowledged_records_survive_any_crash() {
    let (mut kept, mut lost, mut mixed) = (0, 0, 0);
    for seed in 0..3_000 {
        let mut rng = SeededRng::new(seed);
        let mut disk = FaultyDisk::new(seed);
        let (mut acknowledged, mut in_doubt) = (None, None);
        for round in 0..6 {
            let context = format!("seed {seed}, round {round}");
            match open(&disk) {
                Ok((mut slots, found)) => {
                    if let Some(doubtful) = in_doubt.take() {
                        let whole = found.as_ref() == Some(&doubtful);
                        assert!(whole || found == acknowledged, "{context}");
                        kept += u64::from(whole);
                        lost += u64::from(!whole);
                    } else {
                        assert_eq!(found, acknowledged, "{context}");
                    }
                    acknowledged = found;
                    match rng.below(8) {
                        0 => disk.inject(Fault::FailSync, rng.below(6)),
                        1 => disk.inject(Fault::FailWrite, rng.below(6)),
                        2 => disk.inject(Fault::ShortWrite, rng.below(6)),
                        _ => disk.crash_after(1 + rng.below(12)),
                    }
                    for number in 0..rng.below(8) {
                        let record = record(number, rng.next_u64());
                        match slots.write(&record) {
                            Ok(()) => acknowledged = Some(record),
                            Err(SlotError::Io { .. }) => {
                                in_doubt = Some(record);
                                break;
                            }
                            Err(error) => panic!("{context}: {error}"),
                        }
                    }
                }
                // A crash or fault while opening.
                Err(SlotError::Io { .. }) => mixed += 1,
                Err(error) => panic!("{context}: {error}"),
            }
            disk = match rng.below(3) {
                0 => disk.kill_process(),
                _ => disk.crash(rng.next_u64()),
            };
            if rng.below(8) == 0 {
                // Dies while opening.
                disk.crash_after(1 + rng.below(5));
            }
        }
    }
    assert!(kept > 500 && lost > 500 && mixed > 200, "{kept} kept, {lost} lost, {mixed}");
}

/// Sectors of a file that a write has changed.
fn changed(before: &[u8], after: &[u8]) -> Vec<usize> {
    let pairs = before.chunks(512).zip(after.chunks(512)).enumerate();
    pairs.filter(|(_, (b, a))| a != b).map(|(at, _)| at).collect()
}

fn with_subset(before: &[u8], after: &[u8], sectors: &[usize], subset: u32) -> Vec<u8> {
    let mut bytes = before.to_vec();
    for (bit, sector) in sectors.iter().enumerate() {
        if subset >> bit & 1 == 1 {
            let range = sector * 512..(sector + 1) * 512;
            bytes[range.clone()].copy_from_slice(&after[range]);
        }
    }
    bytes
}

#[test]
fn any_subset_of_the_sectors_of_a_torn_write_gives_way_to_the_record_before() {
    for lens in [[0, 1_000, 900], [600, 4_096, 10], [4_096, 3, 4_096], [900, 900, 900], [9, 9, 9]] {
        for count in 0..6usize {
            let record = |n: usize| vec![n as u8 + 1; lens[n % 3]];
            let records: Vec<Vec<u8>> = (0..count).map(record).collect();
            let disk = written(&records);
            let before = disk.get(path()).unwrap();
            let torn = record(count);
            let (mut slots, _) = open(&disk).unwrap();
            slots.write(&torn).unwrap();
            drop(slots);
            let after = disk.get(path()).unwrap();
            let sectors = changed(&before, &after);
            for subset in 0..1u32 << sectors.len() {
                let context = format!("{lens:?}, {count} before, subset {subset:b}");
                let bytes = with_subset(&before, &after, &sectors, subset);
                let whole = subset.count_ones() as usize == sectors.len();
                let expected = if whole { Some(&torn) } else { records.last() };
                let found = decode(&bytes).expect(&context);
                assert_eq!(found.as_ref().map(|r| &r.payload), expected, "{context}");
            }
        }
    }
}

#[test]
fn sectors_of_two_torn_writes_are_never_put_together() {
    // The first attempt leaves some sectors, the second, of the same sequence, some others.
    let disk = written(&[vec![1; 900], vec![2; 900]]);
    let before = disk.get(path()).unwrap();
    let attempt = |byte: u8| {
        let disk = disk.snapshot();
        let (mut slots, _) = open(&disk).unwrap();
        slots.write(&[byte; 2_000]).unwrap();
        drop(slots);
        disk.get(path()).unwrap()
    };
    let (first, second) = (attempt(3), attempt(4));
    let sectors = changed(&before, &first);
    assert_eq!(sectors.len(), 5);
    for one in 0..31 {
        let once = with_subset(&before, &first, &sectors, one);
        for two in 0..31 {
            let twice = with_subset(&once, &second, &sectors, two);
            let found = decode(&twice).unwrap().unwrap();
            assert_eq!(found.payload, vec![2; 900], "{one:b}, then {two:b}");
        }
    }
}

#[test]
fn any_flipped_bit_is_refused_or_the_newest_record_is_read() {
    for records in [
        vec![vec![1; 20]],
        vec![vec![1; 20], vec![2; 20]],
        vec![vec![1; 900], vec![2; 600]],
        vec![vec![1; 900], vec![2; 20], vec![0; 500]],
        vec![vec![1; 900], vec![2; 4_096], vec![3; 900], vec![]],
    ] {
        let bytes = written(&records).get(path()).unwrap();
        let newest = decode(&bytes).unwrap().unwrap();
        assert_eq!(Some(&newest.payload), records.last());
        let (mut refused, mut right) = (0, 0);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            match decode(&flipped) {
                Ok(Some(found)) => {
                    assert_eq!(found, newest, "bit {bit}");
                    right += 1;
                }
                Ok(None) => panic!("bit {bit}: forgotten"),
                Err(SlotFault::Sector(offset)) => {
                    assert_eq!(offset, bit as u64 / 4_096 * 512);
                    refused += 1;
                }
                Err(fault) => panic!("bit {bit}: {fault}"),
            }
        }
        assert!(refused >= 4_096 && right > 0, "{refused} refused, {right} read");
    }
}

#[test]
fn a_lost_slot_an_older_copy_of_one_and_a_foreign_one_are_refused() {
    let records: Vec<Vec<u8>> = (0..6).map(|n| record(n, 3)).collect();
    let at = |count: usize| written(&records[..count]).get(path()).unwrap();
    let half = FILE_BYTES / 2;
    let newest = at(6);
    let mut lost = newest.clone();
    lost[..half].fill(0);
    let mut none = newest.clone();
    none.fill(0);
    assert_eq!(decode(&none), Ok(None), "a file never written");
    let older = [&at(2)[..half], &newest[half..]].concat();
    let swapped = [&newest[half..], &newest[..half]].concat();
    for bytes in [lost, older, swapped] {
        assert!(matches!(decode(&bytes), Err(SlotFault::Content(_))), "{:?}", decode(&bytes));
    }
    assert_eq!(decode(&newest[..half]), Err(SlotFault::Length(half as u64)));
    let mut newer = newest;
    newer[4] = 2;
    let sum = blake3::hash(&newer[..496]);
    newer[496..512].copy_from_slice(&sum.as_bytes()[..16]);
    assert_eq!(decode(&newer), Err(SlotFault::Version(2)));
}

#[test]
fn both_slots_bad_is_an_error_and_the_file_is_left_alone() {
    let disk = written(&[vec![1; 900], vec![2; 900]]);
    for offset in [0, FILE_BYTES as u64 / 2] {
        disk.flip(path(), offset + 600, 1).unwrap();
    }
    let before = disk.get(path()).unwrap();
    let error = read(&disk).unwrap_err();
    assert!(matches!(error, SlotError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("vote is damaged: the sector at byte 512"), "{error}");
    assert_eq!(disk.get(path()).unwrap(), before);
    // Both torn: no crash does that.
    let bytes = written(&[vec![1; 900], vec![2; 900], vec![3; 900], vec![4; 900]]);
    let (old, new) = (written(&[vec![1; 900], vec![2; 900]]).get(path()).unwrap(), bytes);
    let new = new.get(path()).unwrap();
    let sectors = changed(&old, &new);
    let mixed = with_subset(&old, &new, &sectors, 0b0101);
    assert!(matches!(decode(&mixed), Err(SlotFault::Content(_))), "{:?}", decode(&mixed));
}

#[test]
fn a_bit_flipped_on_the_way_from_the_disk_is_refused_and_passes() {
    let disk = written(&[vec![1; 900], vec![2; 2_000]]);
    let mut refused = 0;
    for seed in 0..300 {
        let disk = disk.snapshot().crash(seed);
        disk.inject(Fault::FlipOnRead, 0);
        match read(&disk) {
            Ok(found) => assert_eq!(found.unwrap(), vec![2; 2_000]),
            Err(error) => {
                assert!(matches!(error, SlotError::Damaged { .. }), "{error}");
                refused += 1;
            }
        }
        assert_eq!(read(&disk).unwrap().unwrap(), vec![2; 2_000], "the disk itself is whole");
    }
    assert!(refused > 30, "{refused}");
}

#[test]
fn a_file_whose_making_was_interrupted_is_made_again() {
    for seed in 0..20 {
        for step in 1..12 {
            let disk = FaultyDisk::new(seed);
            disk.crash_after(step);
            let died = open(&disk).is_err();
            let disk = disk.crash(seed);
            let (mut slots, found) = open(&disk).unwrap();
            assert_eq!(found, None, "step {step}, died: {died}");
            slots.write(b"here").unwrap();
            drop(slots);
            assert_eq!(read(&disk.crash(seed)).unwrap().unwrap(), b"here");
        }
    }
    let disk = FaultyDisk::new(0);
    disk.create(path()).unwrap();
    assert!(matches!(read(&disk), Err(SlotError::Damaged { .. })), "a file of another making");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn damage_is_refused_or_the_newest_record_is_read(
        lens in prop::collection::vec(0usize..=PAYLOAD_BYTES_MAX, 1..5),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let records: Vec<Vec<u8>> = lens.iter().map(|len| vec![*len as u8; *len]).collect();
        let mut bytes = written(&records).get(path()).unwrap();
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(found) = decode(&bytes) {
            prop_assert_eq!(found.map(|record| record.payload), records.last().cloned());
        }
    }
}
