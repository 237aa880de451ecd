//! The view against a model that keeps a copy of everything for each height.

#![allow(clippy::unwrap_used)] // A test may.

use kanjo_types::Hash;
use kanjo_types::UserId;
use kanjo_types::record::{RowKey, Table};
use kanjo_types::stored::Location;
use kanjo_view::{Content, Limits, Snapshot, SnapshotError, Version, View};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

fn key(number: u8) -> RowKey {
    let mut bytes = [0u8; 32];
    bytes[0] = number.wrapping_mul(37);
    bytes[31] = number;
    RowKey(Hash(bytes))
}

fn version(height: u64, value: u8) -> Version {
    let at = Location { height, position: u32::from(value) };
    Version::new(height + 1, Hash([value; 32]), at, Content::Wallet(UserId([value; 16])))
}

#[derive(Debug, Clone)]
enum Step {
    Block(Vec<(u8, u8)>),
    Open,
    Drop(usize),
    Tidy,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec((0u8..24, any::<u8>()), 0..6).prop_map(Step::Block),
        3 => Just(Step::Open),
        2 => any::<usize>().prop_map(Step::Drop),
        1 => Just(Step::Tidy),
    ]
}

type Model = BTreeMap<RowKey, Version>;

fn all(snapshot: &Snapshot, batch: usize) -> Vec<(RowKey, Version)> {
    let (mut rows, mut from) = (Vec::new(), Bound::Unbounded);
    loop {
        let (found, next) = snapshot.scan(Table::Wallets, from, RowKey::MAX, batch).unwrap();
        assert!(found.len() <= batch);
        rows.extend(found);
        match next {
            Some(next) => from = next,
            None => return rows,
        }
    }
}

fn check(snapshot: &Snapshot, model: &Model, batch: usize) {
    let expected: Vec<_> = model.iter().map(|(key, version)| (*key, version.clone())).collect();
    assert_eq!(all(snapshot, batch), expected);
    for number in 0..24 {
        let found = snapshot.get(Table::Wallets, &key(number)).unwrap();
        assert_eq!(found.as_ref(), model.get(&key(number)));
    }
}

proptest! {
    #[test]
    fn a_snapshot_sees_exactly_its_height(
        loaded in prop::collection::vec((0u8..24, any::<u8>()), 0..10),
        steps in prop::collection::vec(step(), 0..60),
        batch in 1usize..7,
    ) {
        let view = Arc::new(View::new(Limits::default()));
        let mut now = Model::new();
        for (number, value) in loaded {
            view.load(Table::Wallets, key(number), version(3, value));
            now.insert(key(number), version(3, value));
        }
        view.start(3);
        let mut open: Vec<(Snapshot, Model)> = Vec::new();
        for step in steps {
            match step {
                Step::Block(rows) => {
                    let height = view.height() + 1;
                    let rows: Vec<_> = rows
                        .into_iter()
                        .map(|(number, value)| (Table::Wallets, key(number), version(height, value)))
                        .collect();
                    now.extend(rows.iter().map(|(_, key, version)| (*key, version.clone())));
                    view.apply(height, rows);
                }
                Step::Open => open.push((view.snapshot().unwrap(), now.clone())),
                Step::Drop(which) if !open.is_empty() => {
                    open.swap_remove(which % open.len());
                }
                Step::Drop(_) => {}
                Step::Tidy => view.tidy(),
            }
            prop_assert_eq!(view.rows(Table::Wallets), now.len());
            open.iter().for_each(|(snapshot, model)| check(snapshot, model, batch));
        }
        open.clear();
        view.tidy();
        prop_assert_eq!(view.layered(), 0, "nothing old is kept for nobody");
        check(&view.snapshot().unwrap(), &now, batch);
    }

    #[test]
    fn a_range_has_what_lies_between_its_bounds(
        numbers in prop::collection::btree_set(0u8..24, 0..24),
        from in 0u8..24,
        to in 0u8..24,
        excluded in any::<bool>(),
    ) {
        let view = Arc::new(View::new(Limits::default()));
        for number in &numbers {
            view.load(Table::Wallets, key(*number), version(0, *number));
        }
        let (low, high) = (key(from), key(to));
        let bound = if excluded { Bound::Excluded(low) } else { Bound::Included(low) };
        let (found, next) =
            view.snapshot().unwrap().scan(Table::Wallets, bound, high, 100).unwrap();
        prop_assert!(next.is_none());
        let mut expected: Vec<RowKey> = numbers.iter().map(|number| key(*number)).collect();
        expected.sort();
        expected.retain(|key| (if excluded { *key > low } else { *key >= low }) && *key <= high);
        let found: Vec<RowKey> = found.into_iter().map(|(key, _)| key).collect();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn a_snapshot_that_is_held_for_too_long_expires_and_lets_go_of_its_rows() {
    let limits = Limits { snapshots_max: 4, snapshot_age_max: Duration::ZERO };
    let view = Arc::new(View::new(limits));
    view.load(Table::Wallets, key(1), version(0, 1));
    let snapshot = view.snapshot().unwrap();
    std::thread::sleep(Duration::from_millis(2));
    view.apply(1, [(Table::Wallets, key(1), version(1, 2))]);
    assert_eq!(view.layered(), 0);
    assert_eq!(snapshot.get(Table::Wallets, &key(1)), Err(SnapshotError::Expired(0)));
    let scanned = snapshot.scan(Table::Wallets, Bound::Unbounded, RowKey::MAX, 9);
    assert_eq!(scanned.unwrap_err(), SnapshotError::Expired(0));
}

#[test]
fn no_more_snapshots_than_allowed_are_open() {
    let limits = Limits { snapshots_max: 2, ..Limits::default() };
    let view = Arc::new(View::new(limits));
    let held = [view.snapshot().unwrap(), view.snapshot().unwrap()];
    assert_eq!(view.snapshot().unwrap_err(), SnapshotError::TooMany(2));
    drop(held);
    assert!(view.snapshot().is_ok());
}

#[test]
fn readers_beside_a_writer_see_whole_blocks() {
    let view = Arc::new(View::new(Limits::default()));
    for number in 0..16 {
        view.load(Table::Wallets, key(number), version(0, 0));
    }
    let blocks = 2_000u64;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for height in 1..=blocks {
                let value = u8::try_from(height % 251).unwrap();
                // Every row of a block has the same value.
                let rows =
                    (0..16).map(|number| (Table::Wallets, key(number), version(height, value)));
                view.apply(height, rows);
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                while view.height() < blocks {
                    let snapshot = view.snapshot().unwrap();
                    let height = snapshot.height();
                    for _ in 0..3 {
                        let rows = all(&snapshot, 5);
                        assert_eq!(rows.len(), 16);
                        assert!(rows.iter().all(|(_, version)| version.at().height == height));
                    }
                }
            });
        }
    });
    view.tidy();
    assert_eq!(view.layered(), 0);
}
