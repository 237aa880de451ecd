//! How fast the trees are on this machine.
//!
//! ```text
//! cargo run --release -p kanjo-proof --example tree_speed -- [rows] [batch]
//! ```
//! Times are of the processor (Linux; elsewhere of the clock), so that a busy machine distorts them
//! less.
#![allow(clippy::unwrap_used, clippy::float_arithmetic, missing_docs)]

use kanjo_proof::{Leaf, LeafUpdate, StateTree, merkle};
use kanjo_types::record::{PARTITIONS, RowKey};
use kanjo_types::{Hash, Table};
use std::time::Instant;

/// A splitmix64 step: enough disorder for rows to be all over memory.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn leaf(number: u64) -> Leaf {
    let mut bytes = [7u8; 32];
    bytes.iter_mut().zip(number.to_le_bytes()).for_each(|(to, from)| *to = from);
    Leaf { key: RowKey(Hash(bytes)), next: RowKey::MAX, row: Hash(bytes) }
}

/// Seconds of processor time that this thread has used.
fn used(begun: Instant) -> f64 {
    let file = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = file.split(' ').next().and_then(|text| text.parse::<u64>().ok());
    nanoseconds.map_or(begun.elapsed().as_secs_f64(), |nanoseconds| nanoseconds as f64 / 1e9)
}

fn main() {
    let clock = Instant::now();
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>().unwrap());
    let rows = arguments.next().unwrap_or(1_000_000);
    let batch = arguments.next().unwrap_or(10_000);
    let per_partition = rows / PARTITIONS as u64;

    let mut tree = StateTree::new();
    let begun = used(clock);
    for partition in 0..PARTITIONS as u16 {
        let leaves = std::iter::once(Leaf::bound(RowKey::MAX)).chain((0..per_partition).map(leaf));
        tree.load_partition(Table::WalletStates, partition, leaves);
    }
    println!(
        "load      {rows} rows in {:.3} s, {} MB",
        (used(clock) - begun),
        tree.memory_bytes() / 1_000_000
    );

    let mut seed = 1;
    let (mut leaves, mut seconds) = (0usize, 0.0);
    for _ in 0..50 {
        let mut updates: Vec<LeafUpdate> = (0..batch)
            .map(|_| {
                let random = next(&mut seed);
                LeafUpdate {
                    table: Table::WalletStates,
                    partition: (random % PARTITIONS as u64) as u16,
                    slot: ((random >> 16) % per_partition) as u32,
                    leaf: leaf(random),
                }
            })
            .collect();
        updates.sort_by_key(|update| (update.partition, update.slot));
        updates.dedup_by_key(|update| (update.partition, update.slot));
        updates.sort_by_key(|update| update.leaf.row);
        let begun = used(clock);
        tree.update(&updates);
        seconds += used(clock) - begun;
        leaves += updates.len();
    }
    println!("update    {:.3} µs a leaf in batches of {batch}", seconds * 1e6 / leaves as f64);

    let begun = used(clock);
    let mut siblings = 0;
    for _ in 0..100_000 {
        let random = next(&mut seed);
        let slot = ((random >> 16) % per_partition) as u32;
        let path = tree.path(Table::WalletStates, (random % 64) as u16, slot);
        siblings += path.unwrap().siblings.len();
    }
    let each = (used(clock) - begun) * 1e6 / 1e5;
    println!("path      {each:.3} µs each ({} levels)", siblings / 100_000);

    let hashes: Vec<Hash> = (0..10_000).map(|number| leaf(number).row).collect();
    let begun = used(clock);
    let mut sum = 0u64;
    for _ in 0..100 {
        sum += u64::from(merkle::root(&hashes).0[0]);
    }
    let each = (used(clock) - begun) * 1e6 / 1e6;
    println!("rfc 6962  {each:.3} µs a leaf of 10,000 (check {sum})");
    println!("root      {}", tree.root());
}
