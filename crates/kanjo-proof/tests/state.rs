//! The state tree against a reference that hashes everything anew, one node at a time.
#![allow(missing_docs, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::*;
use kanjo_proof::{Leaf, LeafUpdate, StatePath, StatePathError, StateTree, merkle, state};
use kanjo_types::hash::{TAG_PARTITION, TAG_STATE, digest};
use kanjo_types::record::{PARTITIONS, RowKey};
use kanjo_types::{Hash, Table};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn keyed(context: &str, bytes: &[u8]) -> [u8; 32] {
    *blake3::keyed_hash(&blake3::derive_key(context, &[]), bytes).as_bytes()
}

fn naive_leaf(leaf: &Leaf, table: Table, partition: u16) -> [u8; 32] {
    let mut bytes = Vec::new();
    bytes.extend(leaf.key.0.0);
    bytes.extend(leaf.next.0.0);
    bytes.extend(leaf.row.0);
    bytes.push(table as u8);
    bytes.extend(partition.to_le_bytes());
    bytes.resize(128, 0);
    keyed("kanjo 2026 state leaf v1", &bytes)
}

fn naive_root(leaves: &BTreeMap<(Table, u16), Vec<Leaf>>) -> Hash {
    let bound = vec![Leaf::bound(RowKey::MAX)];
    let mut roots = Vec::new();
    for table in Table::ALL {
        for partition in 0..PARTITIONS as u16 {
            let leaves = leaves.get(&(table, partition)).unwrap_or(&bound);
            let mut level: Vec<[u8; 32]> =
                leaves.iter().map(|leaf| naive_leaf(leaf, table, partition)).collect();
            level.resize(leaves.len().next_power_of_two(), [0; 32]);
            while level.len() > 1 {
                let pair = |pair: &[[u8; 32]]| keyed("kanjo 2026 state node v1", &pair.concat());
                level = level.chunks(2).map(pair).collect();
            }
            let count = (leaves.len() as u64).to_le_bytes();
            let place = [&[table as u8][..], &partition.to_le_bytes(), &count, &level[0]].concat();
            roots.push(digest(TAG_PARTITION, &[&place]));
        }
    }
    // Places of tables that there are not.
    roots.resize(2_048, Hash::ZERO);
    digest(TAG_STATE, &[&merkle::root(&roots).0])
}

fn loaded(leaves: &BTreeMap<(Table, u16), Vec<Leaf>>) -> StateTree {
    let mut tree = StateTree::new();
    for ((table, partition), leaves) in leaves {
        tree.load_partition(*table, *partition, leaves.iter().copied());
    }
    tree
}

fn a_leaf(number: u64) -> Leaf {
    let row = Hash(*blake3::hash(&number.to_le_bytes()).as_bytes());
    Leaf { key: RowKey(row), next: RowKey::MAX, row }
}

#[test]
fn the_empty_state_is_pinned() {
    let empty = StateTree::new();
    assert_eq!(empty.root(), naive_root(&BTreeMap::new()));
    let pinned = "2e63b38883be7b37f4bf2465c4d6f464c0306d94a300c0eb3b19a971158cb691";
    assert_eq!(empty.root().to_string(), pinned);
}

#[test]
fn a_fixed_sequence_is_pinned() {
    let mut ledger = Ledger::new(1, vec![]);
    let zero = Hash::ZERO;
    ledger.put((0..500).map(|number| wallet(number, zero)).collect());
    ledger.put((0..300).map(|number| balance(number, 1, 7, zero)).collect());
    ledger.put((100..700).map(|number| balance(number, 1, 8, zero)).collect());
    assert_eq!(ledger.tree.root(), naive_root(&ledger.leaves));
    let pinned = "48cd3ac1fe3127eb444e288d91d3bc81f860c726ec260255be0c4d37fa8b246b";
    assert_eq!(ledger.tree.root().to_string(), pinned);
}

#[test]
fn every_size_of_a_partition_grows_as_it_loads() {
    let mut grown = StateTree::new();
    let mut leaves = vec![Leaf::bound(RowKey::MAX)];
    for number in 1..300u32 {
        leaves.push(a_leaf(u64::from(number)));
        let update = LeafUpdate {
            table: Table::Tokens,
            partition: 5,
            slot: number,
            leaf: leaves[number as usize],
        };
        grown.update(&[update]);
        let mut bulk = StateTree::new();
        bulk.load_partition(Table::Tokens, 5, leaves.iter().copied());
        assert_eq!(grown.root(), bulk.root(), "{number}");
        assert_eq!(grown.leaves(Table::Tokens, 5), u64::from(number) + 1);
    }
    let all = BTreeMap::from([((Table::Tokens, 5), leaves.clone())]);
    assert_eq!(grown.root(), naive_root(&all));
    assert_eq!(grown.path(Table::Tokens, 5, 0).expect("a slot").partitions.len(), 11);
    for slot in 0..300u32 {
        let path = grown.path(Table::Tokens, 5, slot).expect("a slot");
        assert_eq!(path.root(&leaves[slot as usize]), Ok(grown.root()));
        assert_ne!(path.root(&leaves[(slot as usize + 1) % 300]), Ok(grown.root()));
    }
    assert_eq!(grown.path(Table::Tokens, 5, 300), None);
    assert_eq!(grown.path(Table::Tokens, 64, 0), None);
    assert_eq!(grown.leaves(Table::Tokens, 64), 0);
}

/// Trees of several tables, first and last partitions among them, meet in the top nodes.
#[test]
fn trees_that_share_top_nodes_are_updated_together() {
    let places: Vec<(Table, u16)> =
        Table::ALL.into_iter().flat_map(|table| [0, 1, 31, 62, 63].map(|p| (table, p))).collect();
    let mut tree = StateTree::new();
    let mut leaves = BTreeMap::new();
    for step in 1..4u32 {
        for chunk in [1, 3, places.len()] {
            for places in places.chunks(chunk) {
                let updates: Vec<LeafUpdate> = places
                    .iter()
                    .rev()
                    .map(|(table, partition)| {
                        let bound = || vec![Leaf::bound(RowKey::MAX)];
                        let held = leaves.entry((*table, *partition)).or_insert_with(bound);
                        let slot = held.len() as u32;
                        let leaf = a_leaf(u64::from(slot * step) + u64::from(*partition));
                        held.push(leaf);
                        LeafUpdate { table: *table, partition: *partition, slot, leaf }
                    })
                    .collect();
                tree.update(&updates);
            }
            assert_eq!(tree.root(), naive_root(&leaves));
            assert_eq!(tree.root(), loaded(&leaves).root());
        }
    }
    for ((table, partition), leaves) in &leaves {
        let path = tree.path(*table, *partition, 1).expect("a slot");
        assert_eq!(path.root(&leaves[1]), Ok(tree.root()));
    }
    tree.update(&[]);
    assert_eq!(tree.root(), naive_root(&leaves));
}

#[test]
#[should_panic(expected = "updated once")]
fn a_slot_given_twice_stops() {
    let leaf = a_leaf(1);
    let update = LeafUpdate { table: Table::Users, partition: 0, slot: 1, leaf };
    StateTree::new().update(&[update, update]);
}

#[test]
#[should_panic(expected = "without gaps")]
fn a_gap_stops() {
    let leaf = a_leaf(1);
    let update = LeafUpdate { table: Table::Users, partition: 0, slot: 2, leaf };
    StateTree::new().update(&[update]);
}

#[test]
#[should_panic(expected = "above 63")]
fn a_partition_that_is_not_there_stops() {
    let leaf = a_leaf(1);
    let update = LeafUpdate { table: Table::Users, partition: 64, slot: 1, leaf };
    StateTree::new().update(&[update]);
}

#[test]
fn hostile_paths_are_refused() {
    let mut tree = StateTree::new();
    tree.load_partition(Table::Users, 3, (0..20).map(a_leaf));
    let good = tree.path(Table::Users, 3, 7).expect("a slot");
    let leaf = a_leaf(7);
    assert_eq!(good.root(&leaf), Ok(tree.root()));
    let with = |change: &dyn Fn(&mut StatePath)| {
        let mut path = good.clone();
        change(&mut path);
        path.root(&leaf)
    };
    assert_eq!(with(&|path| path.partition = 64), Err(StatePathError::Partition(64)));
    for leaves in [0, u64::MAX, (1 << 32) + 1] {
        assert_eq!(with(&|path| path.leaves = leaves), Err(StatePathError::Leaves(leaves)));
    }
    assert!(matches!(with(&|path| path.slot = 20), Err(StatePathError::Slot { .. })));
    assert!(matches!(with(&|path| path.leaves = 1 << 32), Err(StatePathError::Depth { .. })));
    for length in [0, 4, 6, 33, 64, 1_000] {
        let deep = with(&|path| path.siblings.resize(length, Hash::ZERO));
        assert!(matches!(deep, Err(StatePathError::Depth { needed: 5, .. })));
        let long = with(&|path| path.partitions.resize(length, Hash::ZERO));
        assert!(matches!(long, Err(StatePathError::Partitions(_))));
    }
    // Another number of leaves with the same depth gives another root.
    assert_ne!(with(&|path| path.leaves = 21), Ok(tree.root()));
    assert_ne!(with(&|path| path.slot = 6), Ok(tree.root()));
}

#[test]
fn memory_is_two_digests_a_leaf() {
    let mut tree = StateTree::new();
    let before = tree.memory_bytes();
    tree.load_partition(Table::WalletStates, 9, (0..10_000).map(a_leaf));
    let added = tree.memory_bytes() - before;
    assert!((640_000..645_000).contains(&added), "{added}");
    assert_eq!(state::empty_subtree(0), Hash::ZERO);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn batches_bulk_load_and_reference_agree(
        batches in prop::collection::vec(prop::collection::vec((0u64..200, 0u32..3), 0..150), 1..6),
    ) {
        let mut ledger = Ledger::new(1, vec![]);
        for (number, batch) in batches.iter().enumerate() {
            let rows = batch.iter().map(|(row, token)| match token {
                0 => user(*row, Hash::ZERO),
                token => balance(*row, *token, number as u128, Hash::ZERO),
            });
            ledger.put(rows.collect());
            prop_assert_eq!(ledger.tree.root(), naive_root(&ledger.leaves));
            prop_assert_eq!(ledger.tree.root(), loaded(&ledger.leaves).root());
        }
        for ((table, partition), leaves) in &ledger.leaves {
            for (slot, leaf) in leaves.iter().enumerate() {
                let path = ledger.tree.path(*table, *partition, slot as u32).expect("a slot");
                prop_assert_eq!(path.root(leaf), Ok(ledger.tree.root()));
            }
        }
    }
}
