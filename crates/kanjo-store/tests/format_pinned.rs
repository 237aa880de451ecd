//! The formats, pinned by hash: if one of these fails, data written by earlier releases may no
//! longer be readable. Raise the version and keep reading the old one, or undo the change.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{CHAIN, append, group, open, segment_path, sidecar_path};
use kanjo_store::checkpoint::{self, CheckpointStore};
use kanjo_store::faults::FaultyDisk;
use kanjo_store::log::decode_frame;
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
