//! The formats, pinned by hash: if one of these fails, data written by earlier releases may no
//! longer be readable. Raise the version and keep reading the old one, or undo the change.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{CHAIN, append, group, open, segment_path, sidecar_path};
use kanjo_store::checkpoint::{self, CheckpointStore};
use kanjo_store::faults::FaultyDisk;
use kanjo_store::log::decode_frame;
use kanjo_store::slots::{self, SlotFile};
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;

fn small_log() -> FaultyDisk {
    let disk = FaultyDisk::new(0);
    let (mut log, _) = open(&disk, 4_096).unwrap();
    for first in (0..12).step_by(3) {
        append(&mut log, &group(first, 3, 2)).unwrap();
    }
    log.prepare_next().unwrap();
    drop(log);
    disk
}

/// Frames that go back: inside the segment, and just before it is sealed, at height 4.
fn truncated_log() -> FaultyDisk {
    let disk = FaultyDisk::new(0);
    let (mut log, _) = open(&disk, 4_096).unwrap();
    for (first, salt) in [(0, 2), (2, 3), (4, 4)] {
        log.truncate_after(u64::checked_sub(first, 1)).unwrap();
        append(&mut log, &group(first, 3, salt)).unwrap();
    }
    log.prepare_next().unwrap();
    drop(log);
    disk
}

/// A slot file with a record of one sector and one of three.
fn slot_file() -> Vec<u8> {
    let disk = FaultyDisk::new(0);
    let (mut slots, _) = SlotFile::open(Arc::new(disk.clone()), Path::new("v/vote")).unwrap();
    slots.write(b"term 7, node 2").unwrap();
    slots.write(&[3; 1_000]).unwrap();
    disk.get(Path::new("v/vote")).unwrap()
}

fn small_checkpoint() -> Vec<u8> {
    let disk = FaultyDisk::new(0);
    let store = CheckpointStore::open(Arc::new(disk.clone()), Path::new("c"), CHAIN).unwrap();
    store.write(7, 812, &mut |out| out.write_all(b"the state of partition 7")).unwrap();
    disk.get(Path::new("c/p00007-00000000000000000812.ckpt")).unwrap()
}

fn pinned(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

#[test]
fn the_segment_format_is_unchanged() {
    let hash = pinned(&small_log().get(&segment_path(0)).unwrap());
    assert_eq!(hash, "b7c9bd7aadfc3448f836d92b00fed117a67103bba32d014db0d8d0197345f6cc");
}

#[test]
fn the_sidecar_format_is_unchanged() {
    let hash = pinned(&small_log().get(&sidecar_path(0)).unwrap());
    assert_eq!(hash, "a543883cd09931117e70a7158b4a6eeac55a8bc697e79e196b8f40cdd2b095fd");
}

#[test]
fn frames_that_go_back_are_unchanged() {
    let disk = truncated_log();
    assert!(disk.files().contains(&segment_path(4)));
    assert_eq!(
        pinned(&disk.get(&segment_path(0)).unwrap()),
        "0b13e80365373f0c74d0afe155675bf02ef968b7b455105e8d7e3297ce4295ce"
    );
    let sidecar = disk.get(&sidecar_path(0)).unwrap();
    // Two frames of two blocks each: the third of each was superseded.
    assert_eq!((&sidecar[12..20], sidecar.len()), (&[2, 0, 0, 0, 4, 0, 0, 0][..], 268));
    assert_eq!(
        pinned(&sidecar),
        "204eddf8e7814587b61333ab51acf75701250aa3d32b96dde5510b958662a7fc"
    );
}

#[test]
fn the_slot_format_is_unchanged() {
    let bytes = slot_file();
    assert_eq!(slots::decode(&bytes).unwrap().unwrap().sequence, 2);
    let hash = pinned(&bytes);
    assert_eq!(hash, "f62469e8bd154e11604fa76714826169298fe7a2016ccb348b0a91721b029fe2");
}

#[test]
fn the_checkpoint_format_is_unchanged() {
    assert_eq!(
        pinned(&small_checkpoint()),
        "50cdd26209abe077f7da0a0a94af42d9c31d31686a76e4b0125c58bbf69f1a6f"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn decoders_never_panic_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..3_000)) {
        let _ = decode_frame(&bytes);
        let _ = checkpoint::decode(&bytes);
        let _ = slots::decode(&bytes);
    }

    #[test]
    fn decoders_never_panic_on_damaged_files(
        cut in 0usize..4_096,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let segment = small_log().get(&segment_path(0)).unwrap();
        let frame = (segment[512..].to_vec(), true);
        for (mut bytes, is_frame) in [frame, (small_checkpoint(), false)] {
            bytes.truncate(cut.max(1));
            let original = bytes.clone();
            for (at, value) in &edits {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            if is_frame {
                if let (Ok(a), Ok(b)) = (decode_frame(&bytes), decode_frame(&original)) {
                    prop_assert_eq!(a, b);
                }
            } else {
                let [a, b] = [&bytes, &original].map(|bytes| checkpoint::decode(bytes));
                if let (Ok(a), Ok(b)) = (a, b) {
                    prop_assert_eq!(a, b);
                }
            }
        }
    }
}
