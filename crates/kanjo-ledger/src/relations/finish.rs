//! The end of a transaction that touched tables of users: unique and foreign constraints, and new
//! constraints against all rows.
//!
//! Checks come in this order: unique constraints, then new CHECKs, then targets of foreign keys,
//! then rows that are still referenced; within each by table, constraint (as defined) and key.

use super::index::{KeyBytes, constraint_key, key_of};
use super::write::keeps;
use super::{LinkTo, Origin, Trouble, foreign_keys, live};
use crate::expression::Work;
use crate::ledger::Ledger;
use kanjo_types::RelationId;
use kanjo_types::outcome::ResultCode;
use kanjo_types::record::RowKey;
use kanjo_types::relation::{CHECKED_ROWS_MAX, Constraint, Definition, Target};
use kanjo_types::row::{RowRecord, Value, relation_of_key, row_key};
use std::collections::{BTreeMap, BTreeSet};

/// A failure: code, where, and which change it came by (`None`: a new constraint).
type Failed = (ResultCode, Trouble, Option<RowKey>);

/// The rows that a transaction concerns, as they are at its end.
struct End<'a> {
    ledger: &'a Ledger,
    /// Tables whose rows or constraints were touched, with the rows drafted in them.
    drafted: BTreeMap<RelationId, BTreeSet<RowKey>>,
    /// Of tables with new constraints: all live rows.
    all: BTreeMap<RelationId, Vec<&'a RowRecord>>,
    /// Unique keys of drafted rows, or of all rows for a new constraint.
    keys: BTreeMap<(RelationId, &'a str), BTreeMap<KeyBytes, RowKey>>,
}

fn values_of(row: &RowRecord) -> &[Value] {
    row.values.as_deref().unwrap_or_default()
}

impl Ledger {
    /// Checks what must hold at the end, finds what rows refer to, and puts rows in their order.
    pub(crate) fn finish_relations(&mut self) -> Result<(), (ResultCode, u32)> {
        let read = self.count_new_constraints()?;
        let mut work = self.scratch.relations.work;
        let found = End::new(self).and_then(|mut end| end.check(&mut work));
        match found {
            Ok(links) => {
                self.scratch.relations.read = read;
                self.scratch.relations.links = links;
                if !self.scratch.relations.constraints.is_empty() {
                    let rows = self.scratch.relations.rows.keys().copied();
                    self.relation_index.changing = rows.collect();
                }
                self.order_rows();
                Ok(())
            }
            Err((code, mut trouble, row)) => {
                let scratch = &mut self.scratch.relations;
                let origin = row.and_then(|row| scratch.rows.get(&row)).copied();
                let name = trouble.constraint.clone().unwrap_or_default();
                let by_constraint = scratch.constraints.get(&(trouble.relation, name)).copied();
                let operation = match (origin, by_constraint) {
                    (Some(Origin { operation, change }), _) => {
                        trouble.change = Some(change);
                        operation
                    }
                    (None, operation) => operation.unwrap_or(0),
                };
                scratch.trouble = Some(trouble);
                Err((code, operation))
            }
        }
    }

    /// New constraints are checked against a bounded number of rows.
    fn count_new_constraints(&self) -> Result<usize, (ResultCode, u32)> {
        let mut read = self.scratch.relations.read;
        for ((relation, _), operation) in &self.scratch.relations.constraints {
            let most = CHECKED_ROWS_MAX + 1;
            let rows = self.rows_of(*relation).filter(|row| live(&row.record).is_some());
            let rows = rows.take(most).count();
            read = read.saturating_add(rows);
            if rows == most {
                return Err((ResultCode::TooMany, *operation));
            }
            if read > super::READ_ROWS_MAX {
                return Err((ResultCode::TooMuch, *operation));
            }
        }
        Ok(read)
    }
}

impl<'a> End<'a> {
    fn new(ledger: &'a Ledger) -> Result<Self, Failed> {
        let scratch = &ledger.scratch.relations;
        let mut drafted: BTreeMap<RelationId, BTreeSet<RowKey>> = BTreeMap::new();
        for key in scratch.rows.keys() {
            drafted.entry(relation_of_key(*key)).or_default().insert(*key);
        }
        for (relation, _) in scratch.constraints.keys() {
            drafted.entry(*relation).or_default();
        }
        drafted.retain(|relation, _| ledger.table_now(*relation).is_some());
        let mut end = Self { ledger, drafted, all: BTreeMap::new(), keys: BTreeMap::new() };
        let new: BTreeSet<RelationId> = scratch.constraints.keys().map(|(of, _)| *of).collect();
        for relation in new {
            let rows = end.rows_at_end(relation);
            end.all.insert(relation, rows);
        }
        Ok(end)
    }

    /// All live rows of a table, by ascending key.
    fn rows_at_end(&self, relation: RelationId) -> Vec<&'a RowRecord> {
        let recorded = self.ledger.rows_of(relation).filter_map(|row| live(&row.record));
        let drafted = self.drafted.get(&relation);
        let is_drafted = |key: &RowKey| drafted.is_some_and(|keys| keys.contains(key));
        let mut rows: Vec<_> = recorded.filter(|row| !is_drafted(&row.key)).collect();
        rows.extend(self.drafted_rows(relation));
        rows.sort_unstable_by_key(|row| row.key);
        rows
    }

    fn drafted_rows(&self, relation: RelationId) -> Vec<&'a RowRecord> {
        let keys = self.drafted.get(&relation).into_iter().flatten();
        keys.filter_map(|key| self.ledger.row_now(*key)).collect()
    }

    /// Is the constraint of this transaction? Then the index knows nothing of it, or of another one
    /// with its name.
    fn is_new(&self, relation: RelationId, constraint: &str) -> bool {
        let key = (relation, constraint.to_owned());
        self.ledger.scratch.relations.constraints.contains_key(&key)
    }

    fn check(&mut self, work: &mut Work) -> Result<BTreeMap<RowKey, Vec<LinkTo>>, Failed> {
        let tables: Vec<(RelationId, &'a Definition)> = self
            .drafted
            .keys()
            .filter_map(|number| Some((*number, self.ledger.table_now(*number)?)))
            .collect();
        for (relation, definition) in &tables {
            for constraint in &definition.constraints {
                self.check_unique(*relation, definition, constraint)?;
            }
        }
        for (relation, definition) in &tables {
            for constraint in &definition.constraints {
                if self.is_new(*relation, constraint.name()) {
                    for row in self.concerned(*relation, constraint) {
                        keeps(*relation, definition, constraint, values_of(row), work)
                            .map_err(|(code, trouble)| (code, trouble, self.if_drafted(row.key)))?;
                    }
                }
            }
        }
        let mut links: BTreeMap<RowKey, Vec<LinkTo>> = BTreeMap::new();
        for (relation, definition) in &tables {
            for constraint in &definition.constraints {
                self.check_targets(*relation, definition, constraint, &mut links)?;
            }
        }
        for (relation, definition) in &tables {
            self.check_referencing(*relation, definition)?;
        }
        Ok(links)
    }

    fn if_drafted(&self, row: RowKey) -> Option<RowKey> {
        Some(row).filter(|row| self.ledger.scratch.relations.rows.contains_key(row))
    }

    /// The rows that a constraint is looked at for: all when it is new, otherwise those drafted.
    fn concerned(&self, relation: RelationId, constraint: &Constraint) -> Vec<&'a RowRecord> {
        match self.all.get(&relation) {
            Some(all) if self.is_new(relation, constraint.name()) => all.clone(),
            _ => self.drafted_rows(relation),
        }
    }

    fn check_unique(
        &mut self,
        relation: RelationId,
        definition: &'a Definition,
        constraint: &'a Constraint,
    ) -> Result<(), Failed> {
        let Constraint::Unique { name, .. } = constraint else { return Ok(()) };
        let mut keys: BTreeMap<KeyBytes, RowKey> = BTreeMap::new();
        let is_new = self.is_new(relation, name);
        let drafted = self.drafted.get(&relation);
        for row in self.concerned(relation, constraint) {
            let Some(key) = constraint_key(definition, constraint, values_of(row)) else {
                continue;
            };
            let recorded =
                if is_new { None } else { self.ledger.relation_index.unique(relation, name, &key) };
            let recorded =
                recorded.filter(|other| !drafted.is_some_and(|keys| keys.contains(other)));
            if recorded.is_some() || keys.insert(key, row.key).is_some() {
                let trouble = Trouble::constraint(relation, name);
                return Err((ResultCode::NotUnique, trouble, self.if_drafted(row.key)));
            }
        }
        self.keys.insert((relation, name), keys);
        Ok(())
    }

    /// The row of a table whose key has these values, at the end.
    fn find(&self, relation: RelationId, columns: &[u16], values: &[&Value]) -> Option<RowKey> {
        let definition = self.ledger.table_now(relation)?;
        if definition.primary == columns {
            let key = row_key(relation, values.iter().copied())?;
            return self.ledger.row_now(key).map(|row| row.key);
        }
        let constraint = definition.unique_over(columns)?;
        let bytes = kanjo_types::codec::to_bytes(&values);
        let drafted = self.keys.get(&(relation, constraint.name()));
        if let Some(row) = drafted.and_then(|keys| keys.get(&bytes)) {
            return Some(*row);
        }
        if self.is_new(relation, constraint.name()) {
            return None;
        }
        let recorded = self.ledger.relation_index.unique(relation, constraint.name(), &bytes);
        let keys = self.drafted.get(&relation);
        recorded.filter(|row| !keys.is_some_and(|keys| keys.contains(row)))
    }

    fn check_targets(
        &self,
        relation: RelationId,
        definition: &Definition,
        constraint: &Constraint,
        links: &mut BTreeMap<RowKey, Vec<LinkTo>>,
    ) -> Result<(), Failed> {
        let Constraint::Foreign { name, columns, target, .. } = constraint else { return Ok(()) };
        for row in self.concerned(relation, constraint) {
            let values: Vec<&Value> = definition.values(values_of(row), columns).collect();
            let link = if values.iter().any(|value| value.is_null()) {
                Some(LinkTo::Nothing)
            } else {
                match (target, &values[..]) {
                    (Target::Rows { relation, columns }, _) => self
                        .find(*relation, columns, &values)
                        .map(|key| LinkTo::Standing(kanjo_types::Table::Rows, key)),
                    (Target::Ledger(table), [value]) => self.ledger.ledger_row(*table, value),
                    (Target::Ledger(_), _) => None,
                }
            };
            let drafted = self.if_drafted(row.key);
            let missing =
                || (ResultCode::ForeignMissing, Trouble::constraint(relation, name), drafted);
            let link = link.ok_or_else(missing)?;
            if drafted.is_some() {
                links.entry(row.key).or_default().push(link);
            }
        }
        Ok(())
    }

    /// Rows that were there and are not any more, or have other keys: does something reference
    /// them?
    fn check_referencing(
        &self,
        relation: RelationId,
        definition: &Definition,
    ) -> Result<(), Failed> {
        for other in self.ledger.targeting(relation) {
            let Some(of_other) = self.ledger.table_now(other) else { continue };
            let recorded = foreign_keys(of_other, relation);
            for (name, _, columns) in recorded.filter(|(name, ..)| !self.is_new(other, name)) {
                self.check_referenced((relation, definition), columns, other, name)?;
            }
        }
        Ok(())
    }

    fn check_referenced(
        &self,
        (relation, definition): (RelationId, &Definition),
        columns: &[u16],
        other: RelationId,
        name: &str,
    ) -> Result<(), Failed> {
        let drafted_there = self.drafted.get(&other);
        for row in self.drafted.get(&relation).into_iter().flatten() {
            let before = self.ledger.row_before(*row).and_then(|row| live(&row.record));
            let Some(before) = before else { continue };
            let Some(key) = key_of(definition, values_of(before), columns, false) else { continue };
            let values: Vec<&Value> = definition.values(values_of(before), columns).collect();
            if self.find(relation, columns, &values).is_some() {
                continue;
            }
            let mut referencing = self.ledger.relation_index.referencing(other, name, &key);
            // Rows that were drafted themselves are looked at as they are now.
            if referencing.any(|row| !drafted_there.is_some_and(|keys| keys.contains(&row))) {
                let trouble = Trouble::constraint(other, name);
                return Err((ResultCode::StillReferenced, trouble, Some(*row)));
            }
        }
        Ok(())
    }
}
