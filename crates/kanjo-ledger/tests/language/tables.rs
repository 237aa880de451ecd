//! Tables of users: definitions, rows, and conditions on them.

use super::world::World;
use kanjo_types::expression::{Expression, Step};
use kanjo_types::money::Condition;
use kanjo_types::record::RowKey;
use kanjo_types::relation::*;
use kanjo_types::row::{RowChange, Value, key_bounds, row_key};
use kanjo_types::{Hash, Operation, Record, RelationId, ResultCode, Table};
use std::collections::BTreeMap;

/// Names of tables, and what was read of them.
#[derive(Default)]
pub struct Tables {
    by_name: BTreeMap<String, (RelationId, Definition)>,
    /// Height, and tables planned since.
    planned: (u64, u32),
    remembered: BTreeMap<String, Hash>,
}

fn column_type(word: &str) -> ColumnType {
    match word {
        "small" => ColumnType::Smallint,
        "int" => ColumnType::Bigint,
        "num" => ColumnType::Numeric { precision: 12, scale: 2 },
        "text" => ColumnType::Text(None),
        "text3" => ColumnType::Text(Some(3)),
        "bool" => ColumnType::Boolean,
        "json" => ColumnType::Jsonb,
        other => panic!("type {other}"),
    }
}

fn right(word: &str) -> u8 {
    match word {
        "select" => RIGHT_SELECT,
        "insert" => RIGHT_INSERT,
        "update" => RIGHT_UPDATE,
        "delete" => RIGHT_DELETE,
        "reference" => RIGHT_REFERENCE,
        _ => 0,
    }
}

impl World {
    fn definition(&self, table: &str) -> Definition {
        let none = Definition { columns: vec![], primary: vec![], constraints: vec![] };
        let Some((number, planned)) = self.tables.by_name.get(table) else { return none };
        let relations = self.chain.as_ref().expect("a chain").ledger.standing(Table::Relations);
        match relations.get(&RowKey::relation(*number)).map(|row| &row.record) {
            Some(Record::Relation(relation)) => relation.table().cloned().unwrap_or(none),
            _ => planned.clone(),
        }
    }

    fn relation(&self, table: &str) -> RelationId {
        self.tables.by_name.get(table).map_or(RelationId(999), |(number, _)| *number)
    }

    fn defined(&mut self, table: &str) -> Hash {
        let number = self.relation(table);
        let relations = self.chain().ledger.standing(Table::Relations);
        let found = relations.get(&RowKey::relation(number)).filter(|row| match &row.record {
            Record::Relation(relation) => !relation.dropped,
            _ => false,
        });
        found.map_or(Hash::ZERO, |row| row.hash)
    }

    fn value(&mut self, kind: ColumnType, word: &str) -> Value {
        if word == "null" {
            return Value::Null;
        }
        let text = match word {
            "nul" => "\0".to_owned(),
            "enormous" => "x".repeat(66_000),
            word => match word.strip_prefix('@') {
                Some(wallet) => self.wallet(wallet).to_string(),
                None => word.to_owned(),
            },
        };
        match kind {
            ColumnType::Numeric { .. } => match word.replace('.', "").parse() {
                Ok(digits) => Value::Numeric(digits),
                Err(_) => Value::Text(text),
            },
            ColumnType::Boolean if ["true", "false"].contains(&word) => {
                Value::Boolean(word == "true")
            }
            ColumnType::Jsonb => Value::Json(text),
            _ if kind.is_integer() => word.parse().map_or(Value::Text(text), Value::Integer),
            _ => Value::Text(text),
        }
    }

    fn values(&mut self, table: &str, words: &[&str]) -> Vec<Value> {
        let columns = self.definition(table).columns;
        let kinds =
            columns.iter().map(|column| column.kind).chain(std::iter::repeat(ColumnType::Boolean));
        words.iter().zip(kinds).map(|(word, kind)| self.value(kind, word)).collect()
    }

    fn key(&mut self, table: &str, word: &str) -> RowKey {
        let definition = self.definition(table);
        let kind = definition.primary.first().and_then(|column| definition.type_of(*column));
        let value = self.value(kind.unwrap_or(ColumnType::Bigint), word);
        row_key(self.relation(table), [&value]).expect("a key")
    }

    /// Hash of a row that is not deleted.
    fn row_hash(&mut self, table: &str, word: &str) -> Hash {
        let key = self.key(table, word);
        let row = self.chain().ledger.standing(Table::Rows).get(&key);
        let live =
            row.filter(|row| matches!(&row.record, Record::Row(row) if row.values.is_some()));
        live.map_or(Hash::ZERO, |row| row.hash)
    }

    fn position(definition: &Definition, name: &str) -> u16 {
        let found = definition.columns.iter().position(|column| column.name == name);
        u16::try_from(found.unwrap_or(77)).unwrap()
    }

    fn steps(definition: &Definition, words: &[&str]) -> Expression {
        let step = |word: &&str| match *word {
            ">=" => Step::GreaterEqual,
            "<" => Step::Less,
            "/" | "over" => Step::Divide,
            "*" => Step::Multiply,
            "+" => Step::Add,
            "and" => Step::And,
            word => match word.parse() {
                Ok(value) => {
                    Step::Constant { kind: ColumnType::Bigint, value: Value::Integer(value) }
                }
                Err(_) => Step::Column(Self::position(definition, word)),
            },
        };
        Expression(words.iter().map(step).collect())
    }

    fn target(&self, word: &str) -> Target {
        let ledger = match word {
            "wallets" => LedgerTable::Wallets,
            "users" => LedgerTable::Users,
            "tokens" => LedgerTable::Tokens,
            _ => {
                let (table, column) = word.split_once('.').unwrap_or((word, ""));
                let of_target = self.definition(table);
                let columns = match column {
                    "" => vec![0],
                    name => vec![Self::position(&of_target, name)],
                };
                let relation = if table == "itself" { RelationId(0) } else { self.relation(table) };
                return Target::Rows { relation, columns };
            }
        };
        Target::Ledger(ledger)
    }

    /// `wallet text required references wallets`, `code int unique`, `check positive amount 0 >=`.
    fn add_item(&self, definition: &mut Definition, item: &str) {
        let words: Vec<&str> = item.split_whitespace().collect();
        if let ["check", name, steps @ ..] = &words[..] {
            let expression = Self::steps(definition, steps);
            let name = (*name).to_owned();
            return definition.constraints.push(Constraint::Check { name, expression });
        }
        let [name, rest @ ..] = &words[..] else { panic!("{}: {item}", self.place) };
        let is_new = !definition.columns.iter().any(|column| column.name == *name);
        if is_new {
            definition.columns.push(Column {
                name: (*name).to_owned(),
                kind: column_type(rest[0]),
                not_null: rest.contains(&"required"),
                default: None,
                identity: Identity::None,
                added: None,
            });
        }
        let column = Self::position(definition, name);
        if rest.contains(&"key") {
            definition.primary.push(column);
        }
        if rest.contains(&"unique") {
            definition.constraints.push(Constraint::Unique {
                name: format!("{name}_key"),
                columns: vec![column],
                nulls_distinct: true,
            });
        }
        if let Some(at) = rest.iter().position(|word| *word == "references") {
            definition.constraints.push(Constraint::Foreign {
                name: format!("{name}_fkey"),
                columns: vec![column],
                target: self.target(rest[at + 1]),
                on_delete: OnDelete::Restrict,
            });
        }
    }

    fn create(&mut self, name: &str, kind: RelationKind) -> Operation {
        let height = self.chain().height();
        if self.tables.planned.0 != height {
            self.tables.planned = (height, 0);
        }
        self.tables.planned.1 += 1;
        let there = u32::try_from(self.chain().ledger.standing(Table::Relations).len()).unwrap();
        let number = RelationId(there + self.tables.planned.1);
        let definition = match &kind {
            RelationKind::Table(definition) => definition.clone(),
            RelationKind::View(_) => self.definition(""),
        };
        self.tables.by_name.entry(name.to_owned()).or_insert((number, definition));
        let (schema, name) = ("public".to_owned(), name.to_owned());
        let change = Box::new(RelationChange::Create { schema, name, kind });
        Operation::Define { relation: None, expected: Hash::ZERO, change }
    }

    fn alter(&mut self, table: &str, words: &[&str]) -> RelationChange {
        let mut definition = self.definition(table);
        let (columns, constraints) = (definition.columns.len(), definition.constraints.len());
        match words {
            ["add", "column", rest @ ..] => {
                let mut words = rest.to_vec();
                let at = words.iter().position(|word| *word == "being");
                let being = at.map(|at| words.drain(at..).nth(1).unwrap());
                self.add_item(&mut definition, &words.join(" "));
                let mut column = definition.columns[columns].clone();
                column.added = being.map(|word| self.value(column.kind, word));
                RelationChange::AddColumn { column }
            }
            ["add", "index", name, "on", column] => {
                let columns = vec![Self::position(&definition, column)];
                RelationChange::AddIndex { index: Index { name: (*name).to_owned(), columns } }
            }
            ["add", rest @ ..] => {
                self.add_item(&mut definition, &rest.join(" "));
                RelationChange::AddConstraint {
                    constraint: definition.constraints[constraints].clone(),
                }
            }
            ["drop", "constraint", name] => {
                RelationChange::DropConstraint { name: (*name).to_owned() }
            }
            ["drop", "index", name] => RelationChange::DropIndex { name: (*name).to_owned() },
            ["drop"] => RelationChange::Drop,
            ["rename", name] => {
                RelationChange::Rename { schema: "public".to_owned(), name: (*name).to_owned() }
            }
            ["owner", user] => RelationChange::SetOwner { owner: self.user(user) },
            ["grant", rest @ .., "to", user] => {
                let rights = rest.iter().fold(0, |all, word| all | right(word));
                let to = (*user != "everybody").then(|| self.user(user));
                RelationChange::SetGrants { grants: vec![TableGrant { to, rights }] }
            }
            _ => panic!("{}: '{words:?}' is not understood", self.place),
        }
    }

    /// What a row says of tables.
    pub fn table_operation(&mut self, text: &str) -> Operation {
        let (text, other_definition) = match text.strip_suffix(" under another definition") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let (text, unread) = match text.strip_suffix(" unread") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        let hash = |hash: Hash, wrong: bool| if wrong { Hash([0xff; 32]) } else { hash };
        let (table, changes) = match words[..] {
            ["creates", "view", name] => {
                return self.create(name, RelationKind::View("select 1".to_owned()));
            }
            ["creates", "table", name, "with", ..] => {
                let mut definition = self.definition("");
                let (_, items) = text.split_once(" with ").unwrap();
                items.split(" / ").for_each(|item| self.add_item(&mut definition, item));
                return self.create(name, RelationKind::Table(definition));
            }
            ["alters", table, ref rest @ ..] => {
                let (relation, expected) = (self.relation(table), self.defined(table));
                let change = Box::new(self.alter(table, rest));
                let expected = hash(expected, other_definition);
                return Operation::Define { relation: Some(relation), expected, change };
            }
            ["inserts", "into", table, ..] => {
                let (_, rows) = text.split_once(&format!(" {table} ")).unwrap();
                let insert = |row: &str| {
                    let words: Vec<&str> = row.split_whitespace().collect();
                    RowChange::Insert { values: self.values(table, &words) }
                };
                let changes: Vec<RowChange> = rows.split(" / ").map(insert).collect();
                (table, changes)
            }
            ["updates", table, key, "to", ref values @ ..] => {
                let values = self.values(table, values);
                let expected = hash(self.row_hash(table, key), unread);
                (table, vec![RowChange::Update { key: self.key(table, key), expected, values }])
            }
            ["deletes", table, key] => {
                let expected = hash(self.row_hash(table, key), unread);
                (table, vec![RowChange::Delete { key: self.key(table, key), expected }])
            }
            _ => panic!("{}: '{text}' is not understood", self.place),
        };
        let definition = hash(self.defined(table), other_definition);
        Operation::Write { relation: self.relation(table), definition, changes }
    }

    /// `row 1 of T unchanged`, `rows 1 to 5 of T unchanged`, `T unchanged`: since it was
    /// remembered.
    pub fn table_condition(&mut self, text: &str) -> Option<Condition> {
        let remembered = |world: &Self, what: String| world.tables.remembered[&what];
        match text.split_whitespace().collect::<Vec<_>>()[..] {
            ["no", "row", key, "of", table] => Some(Condition::RowIs {
                relation: self.relation(table),
                key: self.key(table, key),
                hash: Hash::ZERO,
            }),
            ["row", key, "of", table, "unchanged"] => Some(Condition::RowIs {
                relation: self.relation(table),
                key: self.key(table, key),
                hash: remembered(self, format!("{table} {key}")),
            }),
            ["rows", from, "to", to, "of", table, "unchanged"] => {
                let digest = remembered(self, format!("{table} {from} {to}"));
                let relation = self.relation(table);
                let (from, to) = self.bounds(table, from, to);
                Some(Condition::RangeIs { relation, from, to, digest })
            }
            ["table", table, "unchanged"] => Some(Condition::RelationIs {
                relation: self.relation(table),
                hash: remembered(self, table.to_owned()),
            }),
            _ => None,
        }
    }

    fn bounds(&mut self, table: &str, from: &str, to: &str) -> (RowKey, RowKey) {
        let ends = [from, to].map(|word| Value::Integer(word.parse().unwrap()));
        key_bounds(self.relation(table), &ends[..1], &ends[1..]).expect("bounds")
    }

    /// `remember`, `live`, `row`, `trouble`.
    pub fn table_check(&mut self, what: &str, words: &[&str]) -> bool {
        let place = self.place.clone();
        match (what, words) {
            ("remember", [table]) => {
                let hash = self.defined(table);
                self.tables.remembered.insert((*table).to_owned(), hash);
            }
            ("remember", [table, key]) => {
                let hash = self.row_hash(table, key);
                self.tables.remembered.insert(format!("{table} {key}"), hash);
            }
            ("remember", [table, from, to]) => {
                let relation = self.relation(table);
                let (first, last) = self.bounds(table, from, to);
                let digest = self.chain().ledger.range_digest(relation, first, last).unwrap();
                self.tables.remembered.insert(format!("{table} {from} {to}"), digest);
            }
            ("live", [table, count]) => {
                let relation = self.relation(table);
                let rows = self.chain().ledger.rows_between(relation, RowKey::MIN, RowKey::MAX);
                let live = rows
                    .filter(|row| matches!(&row.record, Record::Row(row) if row.values.is_some()));
                assert_eq!(live.count(), count.parse::<usize>().unwrap(), "{place}");
            }
            ("row", [table, key, values @ ..]) => {
                let values = self.values(table, values);
                let key = self.key(table, key);
                let row = &self.chain().ledger.standing(Table::Rows).get(&key).unwrap().record;
                let Record::Row(row) = row.clone() else { panic!("{place}") };
                let definition = self.definition(table);
                let all: Vec<u16> = (0..).take(definition.columns.len()).collect();
                let found = row.values.unwrap_or_default();
                let found: Vec<Value> = definition.values(&found, &all).cloned().collect();
                assert_eq!(found, values, "{place}");
            }
            ("trouble", [name]) => {
                let trouble = self.chain().ledger.trouble().cloned().expect("a trouble");
                let found = trouble.constraint.or(trouble.column);
                assert_eq!(found.as_deref(), Some(*name), "{place}");
            }
            _ => return false,
        }
        true
    }
}

/// Codes that no small scenario can show; `tests/tables.rs` does.
pub const SHOWN_ELSEWHERE: [ResultCode; 2] = [ResultCode::TooMany, ResultCode::TokensExhausted];
