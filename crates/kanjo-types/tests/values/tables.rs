//! Tables of users: definitions, rows, and changes of both.

use super::{filled, ids};
use kanjo_types::expression::{Expression, Step};
use kanjo_types::money::Condition;
use kanjo_types::record::RowKey;
use kanjo_types::relation::*;
use kanjo_types::row::{RowChange, RowRecord, Value, row_key};
use kanjo_types::standing::Links;
use kanjo_types::{Hash, Operation, Record, RelationId};

const INVOICES: RelationId = RelationId(3);

/// One of each kind; numeric with scale 2.
pub fn values() -> Vec<(ColumnType, Value)> {
    vec![
        (ColumnType::Bigint, Value::Integer(-7)),
        (ColumnType::Boolean, Value::Boolean(true)),
        (ColumnType::Smallint, Value::Integer(i64::from(i16::MIN))),
        (ColumnType::Integer, Value::Null),
        (ColumnType::Numeric { precision: 38, scale: 2 }, Value::Numeric(-1_250)),
        (ColumnType::Text(Some(12)), Value::Text("山田\u{1}".to_owned())),
        (ColumnType::Bytea, Value::Bytes(vec![0, 1, 0xff])),
        (ColumnType::Uuid, Value::Uuid([0x0d; 16])),
        (ColumnType::Date, Value::Date(-1)),
        (ColumnType::Timestamptz, Value::Timestamp(1_767_225_660_000_000)),
        (ColumnType::Jsonb, Value::Json("{\"a\": [1, null]}".to_owned())),
    ]
}

/// Every step, in an order that no table would take.
fn expression() -> Expression {
    use Step::*;
    let kind = ColumnType::Numeric { precision: 10, scale: 2 };
    let mut steps = vec![Column(4), Constant { kind, value: Value::Numeric(0) }];
    steps.extend([Cast(ColumnType::Text(None)), Add, Subtract, Multiply, Divide, Remainder]);
    steps.extend([Negate, Equal, NotEqual, Less, LessEqual, Greater, GreaterEqual, And, Or, Not]);
    steps.extend([IsNull, Between, In(2), Like, CharLength, Lower, Upper, Coalesce(3)]);
    steps.extend([Now, NewUuid, CurrentUser]);
    Expression(steps)
}

pub fn definition() -> Definition {
    let columns = values().into_iter().enumerate().map(|(position, (kind, value))| Column {
        name: format!("c{position}"),
        kind,
        not_null: position == 1,
        default: (position == 4).then(expression),
        identity: [Identity::Always, Identity::ByDefault, Identity::None][position.min(2)],
        added: (position > 8).then_some(value),
    });
    let name = str::to_owned;
    let foreign = |text, columns, target, on_delete| Constraint::Foreign {
        name: name(text),
        columns,
        target,
        on_delete,
    };
    let rows = Target::Rows { relation: INVOICES, columns: vec![0] };
    let unique = |text, nulls_distinct| Constraint::Unique {
        name: name(text),
        columns: vec![2, 4],
        nulls_distinct,
    };
    let wallets = Target::Ledger(LedgerTable::Wallets);
    let tokens = Target::Ledger(LedgerTable::Tokens);
    Definition {
        columns: columns.collect(),
        primary: vec![0, 5],
        constraints: vec![
            unique("u", true),
            Constraint::Check { name: name("k"), expression: expression() },
            foreign("f", vec![2], rows, OnDelete::Restrict),
            foreign("w", vec![5], wallets, OnDelete::Cascade),
            foreign("t", vec![3], tokens, OnDelete::SetNull),
        ],
    }
}

fn grants() -> Vec<TableGrant> {
    let (_, user, _, _) = ids();
    vec![
        TableGrant { to: None, rights: RIGHT_SELECT },
        TableGrant { to: Some(user), rights: RIGHTS_ALL },
    ]
}

fn index() -> Index {
    Index { name: "by_c4".to_owned(), columns: vec![4, 8] }
}

/// The key of the row: its primary key has columns 0 and 5.
pub fn key() -> RowKey {
    let values = values();
    row_key(INVOICES, [&values[0].1, &values[5].1]).expect("no null in it")
}

pub fn records() -> Vec<(&'static str, Record)> {
    let (_, owner, _, _) = ids();
    let links = Links { version: 2, previous: filled(0x11), transaction: filled(0x22) };
    let relation = |number, kind, dropped| {
        Record::Relation(Box::new(RelationRecord {
            number,
            links,
            schema: "public".to_owned(),
            name: "invoices".to_owned(),
            owner,
            kind,
            grants: grants(),
            indexes: vec![index()],
            dropped,
        }))
    };
    let row = |values, references| {
        Record::Row(Box::new(RowRecord {
            relation: INVOICES,
            key: key(),
            links,
            values,
            references,
        }))
    };
    let all = values().into_iter().map(|(_, value)| value).collect();
    let view = RelationKind::View("select 1".to_owned());
    vec![
        ("table", relation(INVOICES, RelationKind::Table(definition()), false)),
        ("view, dropped", relation(RelationId(4), view, true)),
        ("row", row(Some(all), vec![filled(0x66), filled(0x77), Hash::ZERO, filled(0x78)])),
        ("row, deleted", row(None, vec![filled(0x66)])),
    ]
}

pub fn operations() -> Vec<(&'static str, Operation)> {
    let (_, user, _, _) = ids();
    let name = str::to_owned;
    let define = |change| Operation::Define {
        relation: Some(INVOICES),
        expected: filled(0x66),
        change: Box::new(change),
    };
    let column = definition().columns.remove(9);
    let constraint = definition().constraints.remove(0);
    let (schema, table) = (name("public"), name("invoices"));
    let kind = RelationKind::Table(definition());
    let create = RelationChange::Create { schema: schema.clone(), name: table.clone(), kind };
    let values: Vec<Value> = values().into_iter().map(|(_, value)| value).collect();
    let (key, expected) = (key(), filled(0x99));
    let changes = vec![
        RowChange::Insert { values: values.clone() },
        RowChange::Update { key, expected, values },
        RowChange::Delete { key, expected },
    ];
    let (relation, hash) = (INVOICES, filled(0x66));
    let require = |condition| Operation::Require { condition };
    let (from, to) = kanjo_types::row::relation_bounds(INVOICES);
    let create =
        Operation::Define { relation: None, expected: Hash::ZERO, change: Box::new(create) };
    vec![
        ("define: create", create),
        ("define: add_column", define(RelationChange::AddColumn { column })),
        ("define: add_constraint", define(RelationChange::AddConstraint { constraint })),
        ("define: drop_constraint", define(RelationChange::DropConstraint { name: name("u") })),
        ("define: add_index", define(RelationChange::AddIndex { index: index() })),
        ("define: drop_index", define(RelationChange::DropIndex { name: name("by_c4") })),
        ("define: set_grants", define(RelationChange::SetGrants { grants: grants() })),
        ("define: rename", define(RelationChange::Rename { schema, name: name("bills") })),
        ("define: set_owner", define(RelationChange::SetOwner { owner: user })),
        ("define: drop", define(RelationChange::Drop)),
        ("write", Operation::Write { relation, definition: hash, changes }),
        ("require: row_is", require(Condition::RowIs { relation, key, hash })),
        ("require: range_is", require(Condition::RangeIs { relation, from, to, digest: hash })),
        ("require: relation_is", require(Condition::RelationIs { relation, hash })),
    ]
}
