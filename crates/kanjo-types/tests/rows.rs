//! Keys of rows: where they lie, and that they sort as the values that they are made of.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use kanjo_types::RelationId;
use kanjo_types::row::{KEY_BYTES_MAX, Value, key_bounds, ordered_key, relation_bounds, row_key};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::collections::BTreeSet;

#[test]
fn rows_of_a_table_lie_in_one_partition_and_tables_in_many() {
    let partitions: BTreeSet<u16> = (1..=64)
        .map(|number| {
            let (first, last) = relation_bounds(RelationId(number));
            assert_eq!(first.partition(), last.partition());
            let key = row_key(RelationId(number), [&Value::Integer(5)]).expect("no null in it");
            assert!((first..=last).contains(&key));
            key.partition()
        })
        .collect();
    assert_eq!(partitions.len(), 64);
    let key_of = |length| {
        let text = Value::Text("x".repeat(length));
        row_key(RelationId(1), [&text])
    };
    assert!(key_of(KEY_BYTES_MAX - 2).is_some());
    assert_eq!(key_of(KEY_BYTES_MAX - 1), None);
}

/// Two keys of the same types.
fn two_keys() -> impl Strategy<Value = (Vec<Value>, Vec<Value>)> {
    let bytes = || proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255)], 0..6);
    let text = || "[\u{0}\u{1}ab山]{0,5}";
    let near = |value: i64| prop_oneof![Just(value), -3i64..3, any::<i64>()];
    let pair = prop_oneof![
        (near(i64::MIN), near(i64::MAX)).prop_map(|(a, b)| (Value::Integer(a), Value::Integer(b))),
        (near(0), near(0)).prop_map(|(a, b)| (Value::Timestamp(a), Value::Timestamp(b))),
        any::<(i128, i128)>().prop_map(|(a, b)| (Value::Numeric(a), Value::Numeric(b))),
        (-3i128..3, -3i128..3).prop_map(|(a, b)| (Value::Numeric(a), Value::Numeric(b))),
        any::<(bool, bool)>().prop_map(|(a, b)| (Value::Boolean(a), Value::Boolean(b))),
        any::<(i32, i32)>().prop_map(|(a, b)| (Value::Date(a), Value::Date(b))),
        any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (Value::Uuid(a), Value::Uuid(b))),
        (bytes(), bytes()).prop_map(|(a, b)| (Value::Bytes(a), Value::Bytes(b))),
        (text(), text()).prop_map(|(a, b)| (Value::Text(a), Value::Text(b))),
    ];
    let pair =
        (pair, any::<bool>()).prop_map(|((a, b), same)| (a.clone(), if same { a } else { b }));
    proptest::collection::vec(pair, 1..4).prop_map(|pairs| pairs.into_iter().unzip())
}

fn order_of(a: &[Value], b: &[Value]) -> std::cmp::Ordering {
    let pairs = a.iter().zip(b).map(|pair| match pair {
        (Value::Integer(a), Value::Integer(b)) | (Value::Timestamp(a), Value::Timestamp(b)) => {
            a.cmp(b)
        }
        (Value::Numeric(a), Value::Numeric(b)) => a.cmp(b),
        (Value::Boolean(a), Value::Boolean(b)) => a.cmp(b),
        (Value::Date(a), Value::Date(b)) => a.cmp(b),
        (Value::Uuid(a), Value::Uuid(b)) => a.cmp(b),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        other => panic!("{other:?}"),
    });
    pairs.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4_096,
        rng_seed: RngSeed::Fixed(3),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn ordered_keys_sort_as_their_values_and_row_keys_do_not_contradict(
        (a, b) in two_keys(), taken in any::<prop::sample::Index>(),
    ) {
        let ordered = |values: &[Value]| ordered_key(values).expect("no null in it");
        prop_assert_eq!(ordered(&a).cmp(&ordered(&b)), order_of(&a, &b));
        let key = |values: &[Value]| row_key(RelationId(7), values).expect("short");
        prop_assert_eq!(key(&a) == key(&b), a == b);
        // Only the first 12 bytes count beside equality.
        if ordered(&a).iter().take(12).ne(ordered(&b).iter().take(12)) {
            let padded = |values: &[Value]| [&ordered(values)[..], &[0; 12]].concat()[..12].to_vec();
            prop_assert_eq!(key(&a).cmp(&key(&b)), padded(&a).cmp(&padded(&b)));
        }
        let (low, high) = if order_of(&a, &b).is_le() { (&a, &b) } else { (&b, &a) };
        let taken = taken.index(a.len() + 1);
        let bounds = key_bounds(RelationId(7), &low[..taken], &high[..taken]).expect("bounds");
        for row in [low, high] {
            prop_assert!((bounds.0..=bounds.1).contains(&key(row)));
        }
    }
}
