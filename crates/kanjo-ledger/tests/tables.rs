//! Tables of users against a simple model, over restarts; and what no small scenario shows.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::copies::Copies;
use common::{Chain, KeySet, START_MS, body, empty_genesis, first_user};
use kanjo_ledger::BlockContext;
use kanjo_types::record::RowKey;
use kanjo_types::relation::*;
use kanjo_types::row::{RowChange, Value, row_key};
use kanjo_types::stored::Entry;
use kanjo_types::{
    Hash, Operation, Record, RelationId, ResultCode, SignedTransaction, Table, UserId,
};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::collections::{BTreeMap, BTreeSet};

const TABLE: RelationId = RelationId(1);

struct Bench {
    chain: Chain,
    keys: KeySet,
    salt: u64,
}

fn column(name: &str, kind: ColumnType) -> Column {
    Column {
        name: name.to_owned(),
        kind,
        not_null: false,
        default: None,
        identity: Identity::None,
        added: None,
    }
}

fn unique(name: &str, column: u16) -> Constraint {
    Constraint::Unique { name: name.to_owned(), columns: vec![column], nulls_distinct: true }
}

fn foreign(name: &str, column: u16) -> Constraint {
    Constraint::Foreign {
        name: name.to_owned(),
        columns: vec![column],
        target: Target::Rows { relation: RelationId(0), columns: vec![0] },
        on_delete: OnDelete::Restrict,
    }
}

/// `id` the key, `code` unique, `parent` a row of the same table.
fn definition() -> Definition {
    let names = ["id", "code", "parent"];
    Definition {
        columns: names.map(|name| column(name, ColumnType::Bigint)).to_vec(),
        primary: vec![0],
        constraints: vec![unique("code_key", 1), foreign("parent_fkey", 2)],
    }
}

fn create(name: &str, definition: Definition) -> Operation {
    let change = RelationChange::Create {
        schema: "public".to_owned(),
        name: name.to_owned(),
        kind: RelationKind::Table(definition),
    };
    Operation::Define { relation: None, expected: Hash::ZERO, change: Box::new(change) }
}

impl Bench {
    fn new() -> Self {
        let keys = KeySet::single("owner");
        let mut genesis = empty_genesis();
        genesis.rules.operators.push("owner".to_owned());
        genesis.users.push(first_user("owner", &keys));
        Self { chain: Chain::new(genesis), keys, salt: 0 }
    }

    fn sign(&mut self, operations: Vec<Operation>) -> SignedTransaction {
        self.salt += 1;
        let chain = self.chain.chain();
        let author = UserId::derive(chain, &self.keys.access, 0);
        self.keys.sign(body(chain, author, START_MS + 60_000, self.salt, operations))
    }

    fn run(&mut self, operations: Vec<Operation>) -> Entry {
        let signed = self.sign(operations);
        let verified = self.chain.admit(&signed).expect("well formed");
        self.chain.block(START_MS, &[verified]).pop().unwrap().expect("recorded")
    }

    fn hash(&self, table: Table, key: RowKey) -> Hash {
        self.chain.ledger.standing(table).get(&key).map_or(Hash::ZERO, |row| row.hash)
    }

    fn live(&self, key: RowKey) -> Hash {
        match self.chain.ledger.standing(Table::Rows).get(&key).map(|row| &row.record) {
            Some(Record::Row(row)) if row.values.is_some() => self.hash(Table::Rows, key),
            _ => Hash::ZERO,
        }
    }

    fn write(&self, changes: Vec<RowChange>) -> Operation {
        let definition = self.hash(Table::Relations, RowKey::relation(TABLE));
        Operation::Write { relation: TABLE, definition, changes }
    }

    fn define(&self, change: RelationChange) -> Operation {
        let expected = self.hash(Table::Relations, RowKey::relation(TABLE));
        Operation::Define { relation: Some(TABLE), expected, change: Box::new(change) }
    }
}

#[derive(Debug, Clone)]
enum Change {
    Insert(i64, Option<i64>, Option<i64>),
    Update(i64, Option<i64>, Option<i64>),
    Delete(i64),
}

fn change() -> impl Strategy<Value = Change> {
    let (id, other) = (|| 1i64..6, || proptest::option::weighted(0.7, 1i64..6));
    prop_oneof![
        3 => (id(), other(), other()).prop_map(|(a, b, c)| Change::Insert(a, b, c)),
        2 => (id(), other(), other()).prop_map(|(a, b, c)| Change::Update(a, b, c)),
        1 => id().prop_map(Change::Delete),
    ]
}

fn values(id: i64, code: Option<i64>, parent: Option<i64>) -> Vec<Value> {
    [Some(id), code, parent].map(|value| value.map_or(Value::Null, Value::Integer)).to_vec()
}

fn key(id: i64) -> RowKey {
    row_key(TABLE, [&Value::Integer(id)]).expect("a key")
}

type Model = BTreeMap<i64, (Option<i64>, Option<i64>)>;

/// What a transaction does to the model, or the code it fails with.
fn modelled(model: &Model, changes: &[Change]) -> Result<Model, ResultCode> {
    let mut after = model.clone();
    let mut touched = BTreeSet::new();
    for change in changes {
        let (id, values) = match *change {
            Change::Insert(id, code, parent) => {
                if after.contains_key(&id) {
                    return Err(ResultCode::RowExists);
                }
                (id, Some((code, parent)))
            }
            Change::Update(id, code, parent) => (id, Some((code, parent))),
            Change::Delete(id) => (id, None),
        };
        if !matches!(change, Change::Insert(..)) && !after.contains_key(&id) {
            return Err(ResultCode::RowChanged);
        }
        touched.insert(id);
        match values {
            Some(values) => after.insert(id, values),
            None => after.remove(&id),
        };
    }
    let codes: Vec<i64> = after.values().filter_map(|(code, _)| *code).collect();
    if codes.iter().collect::<BTreeSet<_>>().len() < codes.len() {
        return Err(ResultCode::NotUnique);
    }
    let lost = |touched_ones: bool| {
        after.iter().any(|(id, (_, parent))| {
            touched.contains(id) == touched_ones
                && parent.is_some_and(|parent| !after.contains_key(&parent))
        })
    };
    match (lost(true), lost(false)) {
        (true, _) => Err(ResultCode::ForeignMissing),
        (false, true) => Err(ResultCode::StillReferenced),
        (false, false) => Ok(after),
    }
}

impl Bench {
    fn planned(&self, changes: &[Change]) -> Vec<RowChange> {
        let planned = |change: &Change| match *change {
            Change::Insert(id, code, parent) => {
                RowChange::Insert { values: values(id, code, parent) }
            }
            Change::Update(id, code, parent) => {
                let (key, values) = (key(id), values(id, code, parent));
                RowChange::Update { key, expected: self.live(key), values }
            }
            Change::Delete(id) => RowChange::Delete { key: key(id), expected: self.live(key(id)) },
        };
        changes.iter().map(planned).collect()
    }

    fn rows(&self) -> Model {
        let mut found = Model::new();
        for row in self.chain.ledger.rows_between(TABLE, RowKey::MIN, RowKey::MAX) {
            let Record::Row(row) = &row.record else { panic!("a row") };
            let Some(values) = &row.values else { continue };
            let number = |value: &Value| match value {
                Value::Integer(value) => Some(*value),
                _ => None,
            };
            let id = number(&values[0]).expect("an id");
            found.insert(id, (number(&values[1]), number(&values[2])));
        }
        found
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        rng_seed: RngSeed::Fixed(11),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Random writes; now and then the next transaction is also executed by a ledger that was
    /// restarted from copies of partitions at different heights and the log: it does the same.
    #[test]
    fn writes_do_what_a_simple_model_does_also_after_a_restart(
        transactions in proptest::collection::vec(proptest::collection::vec(change(), 1..5), 1..40),
        turns in proptest::collection::vec(0u8..40, 64),
    ) {
        let mut bench = Bench::new();
        prop_assert_eq!(bench.run(vec![create("t", definition())]).result, ResultCode::Ok);
        let mut model = Model::new();
        let mut copies = Copies::none();
        for (number, changes) in transactions.iter().enumerate() {
            let expected = modelled(&model, changes);
            let planned = bench.planned(changes);
            let operation = bench.write(planned);
            let signed = bench.sign(vec![operation]);
            let verified = bench.chain.admit(&signed).expect("well formed");
            let last = bench.chain.blocks.len() - 1;
            let restarted = (number % 7 == 6).then(|| copies.restart(&bench.chain, last));
            let entry = bench.chain.block(START_MS, std::slice::from_ref(&verified)).remove(0);
            let entry = entry.expect("recorded");
            if let Some(mut ledger) = restarted {
                let context = BlockContext { height: last as u64 + 1, time_ms: START_MS };
                ledger.begin_block(context);
                prop_assert_eq!(&ledger.execute(context, 0, &verified).expect("recorded"), &entry);
            }
            prop_assert_eq!(entry.result, expected.as_ref().err().copied().unwrap_or(ResultCode::Ok));
            model = expected.unwrap_or(model);
            prop_assert_eq!(&bench.rows(), &model);
            copies.make(&bench.chain, &turns, number);
        }
    }
}

/// References name the records of the same transaction, whatever the order of its operations.
#[test]
fn references_name_records_as_they_are_after_the_transaction() {
    let mut bench = Bench::new();
    let made = bench.run(vec![create("t", definition())]);
    let insert = |id, parent| RowChange::Insert { values: values(id, None, parent) };
    let changes = vec![insert(1, Some(2)), insert(2, Some(3)), insert(3, None)];
    let entry = bench.run(vec![bench.write(changes)]);
    assert_eq!(entry.result, ResultCode::Ok);
    let references =
        |id| match &bench.chain.ledger.standing(Table::Rows).get(&key(id)).unwrap().record {
            Record::Row(row) => row.references.clone(),
            other => panic!("{other:?}"),
        };
    let table = made.rows[0].hash;
    assert_eq!(references(3), [table, Hash::ZERO]);
    assert_eq!(references(2), [table, bench.live(key(3))]);
    assert_eq!(references(1), [table, bench.live(key(2))]);
}

#[test]
fn more_than_there_may_be_is_refused() {
    let mut bench = Bench::new();
    let wide = |columns: usize| Definition {
        columns: (0..columns)
            .map(|number| column(&format!("c{number}"), ColumnType::Bigint))
            .collect(),
        primary: vec![0],
        constraints: Vec::new(),
    };
    let codes = [wide(COLUMNS_MAX + 1), wide(COLUMNS_MAX)];
    let codes = codes.map(|definition| bench.run(vec![create("t", definition)]).result);
    assert_eq!(codes, [ResultCode::TooMany, ResultCode::Ok]);
    let long = RelationChange::Create {
        schema: "public".to_owned(),
        name: "v".to_owned(),
        kind: RelationKind::View("x".repeat(QUERY_BYTES_MAX + 1)),
    };
    let long = Operation::Define { relation: None, expected: Hash::ZERO, change: Box::new(long) };
    assert_eq!(bench.run(vec![long]).result, ResultCode::TooMany);
    let grants = vec![TableGrant { to: None, rights: 1 }; TABLE_GRANTS_MAX + 1];
    let grants = bench.define(RelationChange::SetGrants { grants });
    assert_eq!(bench.run(vec![grants]).result, ResultCode::TooMany);
}
