//! What a transaction has changed, not yet on the ledger.

use crate::catalog::Catalog;
use crate::define::{Change, Relation};
use crate::error::{SqlError, code};
use kanjo_types::record::RowKey;
use kanjo_types::relation::{
    Constraint, Definition, RelationChange, RelationKind, RelationRecord, Target,
};
use kanjo_types::row::{RowChange, Value};
use kanjo_types::standing::Links;
use kanjo_types::transaction::{Operation, TRANSACTION_BYTES_MAX};
use kanjo_types::{Hash, RelationId, UserId, codec};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A row as the transaction leaves it.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub relation: RelationId,
    /// Hash of its record before the transaction; zero when it was not there.
    pub before: Hash,
    /// Nothing: deleted.
    pub values: Option<Arc<Vec<Value>>>,
}

/// All changes of a transaction.
#[derive(Debug, Clone, Default)]
pub(crate) struct Drafts {
    /// Relations that it made or changed, as they are then.
    pub relations: BTreeMap<RelationId, Arc<Relation>>,
    defines: Vec<(RelationId, RelationChange)>,
    pub rows: BTreeMap<RowKey, Draft>,
    payments: Vec<Operation>,
    bytes: usize,
}

/// Bytes of a change beside its values: key, hash, tags.
const CHANGE_BYTES: usize = 80;

impl Drafts {
    pub(crate) fn is_empty(&self) -> bool {
        self.defines.is_empty() && self.rows.is_empty() && self.payments.is_empty()
    }

    /// Takes a row's new values, or that it is deleted.
    pub(crate) fn write(&mut self, key: RowKey, draft: Draft) -> Result<(), SqlError> {
        let bytes = draft.values.as_ref().map_or(0, |values| codec::length(values.as_ref()));
        self.take(CHANGE_BYTES + bytes)?;
        if draft.before.is_zero() && draft.values.is_none() {
            self.rows.remove(&key);
        } else {
            self.rows.insert(key, draft);
        }
        Ok(())
    }

    /// Takes an operation that is no change of rows.
    pub(crate) fn pay(&mut self, operation: Operation) -> Result<(), SqlError> {
        self.take(codec::length(&operation))?;
        self.payments.push(operation);
        Ok(())
    }

    /// Relations that it changes, or whose rows it changes.
    pub(crate) fn tables(&self) -> BTreeSet<RelationId> {
        let of_rows = self.rows.values().map(|draft| draft.relation);
        of_rows.chain(self.relations.keys().copied()).collect()
    }

    /// How many payments there are.
    pub(crate) fn payments(&self) -> usize {
        self.payments.len()
    }

    fn take(&mut self, bytes: usize) -> Result<(), SqlError> {
        self.bytes += bytes;
        if self.bytes > TRANSACTION_BYTES_MAX {
            let message = format!(
                "the transaction changes more than {TRANSACTION_BYTES_MAX} bytes, which is all that one ledger transaction holds"
            );
            let hint = "commit in smaller pieces";
            return Err(SqlError::new(code::LIMIT_EXCEEDED, message).hint(hint));
        }
        Ok(())
    }

    /// Takes a definition; the relation's number.
    pub(crate) fn define(
        &mut self,
        catalog: &Catalog,
        author: UserId,
        change: Change,
    ) -> Result<RelationId, SqlError> {
        self.take(codec::length(&change.change))?;
        let (number, relation) = match (change.relation, &change.change) {
            (None, RelationChange::Create { schema, name, kind }) => {
                let number = self.next_number(catalog);
                let record = RelationRecord {
                    number,
                    links: Links::default(),
                    schema: schema.clone(),
                    name: name.clone(),
                    owner: author,
                    kind: resolved(kind.clone(), number),
                    grants: Vec::new(),
                    indexes: Vec::new(),
                    dropped: false,
                };
                (number, Relation { record, hash: Hash::ZERO })
            }
            (Some(number), _) => {
                let drafted = self.relations.get(&number);
                let found = drafted.or_else(|| catalog.get(number)).ok_or_else(|| {
                    let message = format!("relation {} does not exist", number.0);
                    SqlError::new(code::NO_TABLE, message)
                })?;
                let mut relation = found.as_ref().clone();
                apply(&mut relation.record, &change.change);
                (number, relation)
            }
            (None, _) => {
                let message = "a definition that makes nothing and names nothing";
                return Err(SqlError::new(code::INTERNAL, message));
            }
        };
        self.relations.insert(number, Arc::new(relation));
        self.defines.push((number, change.change));
        Ok(number)
    }

    /// Several can be made by one statement, which the catalog that it began with does not know.
    fn next_number(&self, catalog: &Catalog) -> RelationId {
        let last = self.relations.keys().next_back().map_or(0, |number| number.0);
        RelationId(catalog.next_number().0.max(last.saturating_add(1)))
    }

    /// Hash of a relation's record before the transaction.
    fn before(&self, catalog: &Catalog, number: RelationId) -> Hash {
        let drafted = self.relations.get(&number);
        drafted.or_else(|| catalog.get(number)).map_or(Hash::ZERO, |relation| relation.hash)
    }

    /// Relations whose rows it changes.
    pub(crate) fn writes(&self, number: RelationId) -> bool {
        self.rows.values().any(|draft| draft.relation == number)
    }

    /// The operations of the ledger transaction: definitions, then rows by table, then payments.
    pub(crate) fn operations(&self, catalog: &Catalog) -> Vec<Operation> {
        let mut made = Vec::new();
        let defines = self.defines.iter().map(|(number, change)| {
            let expected = self.before(catalog, *number);
            Operation::Define {
                relation: Some(*number),
                expected,
                change: Box::new(change.clone()),
            }
        });
        made.extend(defines);
        let mut tables: BTreeMap<RelationId, Vec<RowChange>> = BTreeMap::new();
        for (key, draft) in &self.rows {
            let relation = self.relations.get(&draft.relation);
            let relation = relation.or_else(|| catalog.get(draft.relation));
            let Some(definition) = relation.and_then(|relation| relation.record.table()) else {
                continue;
            };
            tables.entry(draft.relation).or_default().push(row_change(*key, draft, definition));
        }
        made.extend(tables.into_iter().map(|(relation, mut changes)| {
            // What goes makes room for what comes.
            changes.sort_by_key(|change| match change {
                RowChange::Delete { .. } => 0,
                RowChange::Update { .. } => 1,
                RowChange::Insert { .. } => 2,
            });
            Operation::Write { relation, definition: self.before(catalog, relation), changes }
        }));
        made.extend(self.payments.iter().cloned());
        made
    }
}

fn row_change(key: RowKey, draft: &Draft, definition: &Definition) -> RowChange {
    let Some(values) = &draft.values else {
        return RowChange::Delete { key, expected: draft.before };
    };
    // A column may have come since the row was drafted.
    let columns = (0u16..).take(definition.columns.len());
    let values = columns.map(|column| definition.value(values, column).clone()).collect();
    match draft.before.is_zero() {
        true => RowChange::Insert { values },
        false => RowChange::Update { key, expected: draft.before, values },
    }
}

/// Gives foreign keys to "the table itself" its number, as the ledger does.
fn resolved(mut kind: RelationKind, number: RelationId) -> RelationKind {
    if let RelationKind::Table(definition) = &mut kind {
        definition.constraints.iter_mut().for_each(|constraint| resolve(constraint, number));
    }
    kind
}

fn resolve(constraint: &mut Constraint, number: RelationId) {
    if let Constraint::Foreign { target: Target::Rows { relation, .. }, .. } = constraint
        && relation.0 == 0
    {
        *relation = number;
    }
}

/// What a change makes of a relation. The ledger checks it when the transaction commits; here it is
/// only shown to the statements that follow.
fn apply(record: &mut RelationRecord, change: &RelationChange) {
    let number = record.number;
    if let RelationKind::Table(definition) = &mut record.kind {
        match change {
            RelationChange::AddColumn { column } => definition.columns.push(column.clone()),
            RelationChange::AddConstraint { constraint } => {
                let mut constraint = constraint.clone();
                resolve(&mut constraint, number);
                definition.constraints.push(constraint);
            }
            RelationChange::DropConstraint { name } => {
                definition.constraints.retain(|constraint| constraint.name() != name);
            }
            _ => {}
        }
    }
    match change {
        RelationChange::AddIndex { index } => record.indexes.push(index.clone()),
        RelationChange::DropIndex { name } => record.indexes.retain(|index| index.name != *name),
        RelationChange::SetGrants { grants } => record.grants.clone_from(grants),
        RelationChange::Rename { schema, name } => {
            record.schema.clone_from(schema);
            record.name.clone_from(name);
        }
        RelationChange::SetOwner { owner } => record.owner = *owner,
        RelationChange::Drop => record.dropped = true,
        _ => {}
    }
}
