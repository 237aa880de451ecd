//! What the tests of definitions share: types and values to choose from, relations to name.

use super::{Defined, Names, Relation, plan};
use crate::error::SqlError;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use kanjo_types::relation::{
    ColumnType, Constraint, Definition, RelationChange, RelationKind, RelationRecord, Target,
};
use kanjo_types::row::Value;
use kanjo_types::standing::Links;
use kanjo_types::{Hash, RelationId, UserId};
use proptest::prelude::*;
use std::sync::Arc;

pub(super) fn any_type() -> impl Strategy<Value = ColumnType> {
    let numeric = (1u8..=38)
        .prop_flat_map(|precision| (Just(precision), 0..=precision))
        .prop_map(|(precision, scale)| ColumnType::Numeric { precision, scale });
    prop_oneof![
        prop::sample::select(vec![
            ColumnType::Boolean,
            ColumnType::Smallint,
            ColumnType::Integer,
            ColumnType::Bigint,
            ColumnType::Text(None),
            ColumnType::Bytea,
            ColumnType::Uuid,
            ColumnType::Date,
            ColumnType::Timestamptz,
            ColumnType::Jsonb,
        ]),
        (1u32..20).prop_map(|most| ColumnType::Text(Some(most))),
        numeric,
    ]
}

/// A value of a type, or null.
pub(super) fn any_value(kind: ColumnType) -> BoxedStrategy<Value> {
    let text = |most: usize| {
        let letter = prop_oneof![any::<char>(), prop::sample::select(vec!['\'', '\\', 'a', ' '])];
        prop::collection::vec(letter.prop_filter("no NUL", |c| *c != '\0'), 0..=most)
            .prop_map(|letters| letters.into_iter().collect::<String>())
    };
    let value = match kind {
        ColumnType::Boolean => any::<bool>().prop_map(Value::Boolean).boxed(),
        ColumnType::Smallint => any::<i16>().prop_map(|of| Value::Integer(of.into())).boxed(),
        ColumnType::Integer => any::<i32>().prop_map(|of| Value::Integer(of.into())).boxed(),
        ColumnType::Bigint => any::<i64>().prop_map(Value::Integer).boxed(),
        ColumnType::Numeric { precision, .. } => {
            let most = 10i128.pow(u32::from(precision)) - 1;
            (-most..=most).prop_map(Value::Numeric).boxed()
        }
        ColumnType::Text(most) => text(most.unwrap_or(30) as usize).prop_map(Value::Text).boxed(),
        ColumnType::Bytea => {
            prop::collection::vec(any::<u8>(), 0..20).prop_map(Value::Bytes).boxed()
        }
        ColumnType::Uuid => any::<[u8; 16]>().prop_map(Value::Uuid).boxed(),
        ColumnType::Date => any::<i32>().prop_map(Value::Date).boxed(),
        ColumnType::Timestamptz => any::<i64>().prop_map(Value::Timestamp).boxed(),
        ColumnType::Jsonb => {
            let texts = vec!["{}", "[1, \"it's\"]", "null", " {\"a\": 1e5}"];
            prop::sample::select(texts).prop_map(|text| Value::Json(text.to_owned())).boxed()
        }
    };
    prop_oneof![9 => value, 1 => Just(Value::Null)].boxed()
}

/// A ledger's relations, changed as the ledger would.
#[derive(Default)]
pub(super) struct World {
    pub relations: Vec<RelationRecord>,
}

pub(super) const OWNER: UserId = UserId([1; 16]);
pub(super) const CLERK: UserId = UserId([2; 16]);

impl Names for World {
    fn find(&self, schema: &str, name: &str) -> Option<Arc<Relation>> {
        self.all().into_iter().find(|of| of.record.schema == schema && of.record.name == name)
    }

    fn all(&self) -> Vec<Arc<Relation>> {
        let live = self.relations.iter().filter(|record| !record.dropped).cloned();
        live.map(|record| Arc::new(Relation { record, hash: Hash::default() })).collect()
    }

    fn next_number(&self) -> RelationId {
        RelationId(u32::try_from(self.relations.len()).unwrap() + 1)
    }

    fn user(&self, role: &str) -> Option<UserId> {
        match role {
            "owner" => Some(OWNER),
            "clerk" => Some(CLERK),
            _ => None,
        }
    }
}

impl World {
    pub(super) fn plan(&self, text: &str) -> Result<Defined, SqlError> {
        let statements = Parser::parse_sql(&PostgreSqlDialect {}, text)
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        let [statement] = &statements[..] else { panic!("{text}: one statement") };
        plan(statement, self).unwrap_or_else(|| panic!("{text}: no definition"))
    }

    /// Plans a statement and does what it says.
    pub(super) fn run(&mut self, text: &str) -> Defined {
        let defined = self.plan(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        for change in &defined.changes {
            self.apply(change.relation, change.change.clone());
        }
        defined
    }

    pub(super) fn refusal(&self, text: &str) -> SqlError {
        match self.plan(text) {
            Err(error) => error,
            Ok(defined) => panic!("{text}: {defined:?}"),
        }
    }

    pub(super) fn record(&self, name: &str) -> RelationRecord {
        let found = self.find("public", name);
        found.unwrap_or_else(|| panic!("no relation {name}")).record.clone()
    }

    pub(super) fn table(&self, name: &str) -> Definition {
        self.record(name).table().expect("a table").clone()
    }

    fn apply(&mut self, relation: Option<RelationId>, change: RelationChange) {
        if let RelationChange::Create { schema, name, kind } = change {
            let number = self.next_number();
            assert!(relation.is_none() && self.find(&schema, &name).is_none());
            let mut record = RelationRecord {
                number,
                links: Links::default(),
                schema,
                name,
                owner: OWNER,
                kind,
                grants: Vec::new(),
                indexes: Vec::new(),
                dropped: false,
            };
            resolve(&mut record);
            self.relations.push(record);
            return;
        }
        let number = relation.expect("a relation").0 as usize;
        let targets = |of: &RelationRecord| match &of.kind {
            RelationKind::Table(definition) => definition
                .constraints
                .iter()
                .any(|constraint| super::names::target(constraint) == relation && !of.dropped),
            RelationKind::View(_) => false,
        };
        if change == RelationChange::Drop {
            let mut others = self.relations.iter().filter(|of| Some(of.number) != relation);
            assert!(!others.any(targets), "referenced");
        }
        let record = &mut self.relations[number - 1];
        assert!(!record.dropped);
        let table = |record: &mut RelationRecord, change: &dyn Fn(&mut Definition)| {
            match &mut record.kind {
                RelationKind::Table(definition) => change(definition),
                RelationKind::View(_) => panic!("a view"),
            }
        };
        match change {
            RelationChange::AddColumn { column } => {
                table(record, &|of| of.columns.push(column.clone()));
            }
            RelationChange::AddConstraint { constraint } => {
                table(record, &|of| of.constraints.push(constraint.clone()));
            }
            RelationChange::DropConstraint { name } => table(record, &|of| {
                let before = of.constraints.len();
                of.constraints.retain(|constraint| constraint.name() != name);
                assert_eq!(of.constraints.len() + 1, before, "{name}");
            }),
            RelationChange::AddIndex { index } => record.indexes.push(index),
            RelationChange::DropIndex { name } => record.indexes.retain(|of| of.name != name),
            RelationChange::SetGrants { grants } => {
                kanjo_types::relation::check_table_grants(&grants).unwrap();
                record.grants = grants;
            }
            RelationChange::Rename { schema, name } => {
                record.schema = schema;
                record.name = name;
            }
            RelationChange::SetOwner { owner } => record.owner = owner,
            RelationChange::Drop => record.dropped = true,
            RelationChange::Create { .. } => {}
        }
        resolve(record);
        if let RelationKind::Table(definition) = &record.kind {
            definition.check().unwrap();
        }
    }
}

/// Gives references of a table to itself its number.
fn resolve(record: &mut RelationRecord) {
    let number = record.number;
    if let RelationKind::Table(definition) = &mut record.kind {
        for constraint in &mut definition.constraints {
            if let Constraint::Foreign { target: Target::Rows { relation, .. }, .. } = constraint
                && relation.0 == 0
            {
                *relation = number;
            }
        }
    }
}
