//! Definitions of tables and views.
//!
//! Checks come in this order: the relation exists; the signers may do it; the definition is the one
//! that the change was made for; names that it needs exist or are free; the definition is sound.

use super::{Trouble, foreign_keys};
use crate::execute::Step;
use crate::expression::{check_condition, check_default};
use crate::ledger::Ledger;
use crate::turn::Turn;
use kanjo_types::outcome::ResultCode;
use kanjo_types::record::{Record, Table};
use kanjo_types::relation::{
    CONSTRAINTS_MAX, Column, Constraint, DEFINITION_BYTES_MAX, Definition, Index, QUERY_BYTES_MAX,
    RELATIONS_MAX, RIGHT_REFERENCE, RelationChange, RelationKind, RelationRecord, Target,
    check_relation_name, check_table_grants,
};
use kanjo_types::row::Value;
use kanjo_types::standing::Links;
use kanjo_types::{Hash, RelationId, codec};

impl Ledger {
    pub(crate) fn define(
        &mut self,
        turn: &Turn<'_>,
        relation: Option<RelationId>,
        expected: Hash,
        change: &RelationChange,
    ) -> Step {
        if let RelationChange::Create { schema, name, kind } = change {
            return self.create_relation(turn, relation, expected, (schema, name), kind);
        }
        let number = relation.ok_or(ResultCode::NoSuchRelation)?;
        let done = self.change_relation(turn, number, expected, change);
        if done.is_err() && self.scratch.relations.trouble.is_none() {
            self.scratch.relations.trouble = Some(Trouble::of(number));
        }
        done
    }

    fn create_relation(
        &mut self,
        turn: &Turn<'_>,
        wanted: Option<RelationId>,
        expected: Hash,
        (schema, name): (&str, &str),
        kind: &RelationKind,
    ) -> Step {
        if !self.open_tokens && !self.is_operator(&turn.author) {
            return Err(ResultCode::NotPermitted);
        }
        let there = u32::try_from(self.standing(Table::Relations).len()).unwrap_or(u32::MAX);
        let next = there.saturating_add(self.scratch.relations.created).saturating_add(1);
        let number = RelationId(next);
        if !expected.is_zero() || wanted.is_some_and(|wanted| wanted != number) {
            return Err(ResultCode::DefinitionChanged);
        }
        if next > RELATIONS_MAX {
            return Err(ResultCode::TooMany);
        }
        self.check_name_free(schema, name)?;
        let mut kind = kind.clone();
        match &mut kind {
            RelationKind::Table(definition) => {
                resolve_self(definition, number);
                if definition.columns.iter().any(|column| column.added.is_some()) {
                    return Err(ResultCode::BadDefinition);
                }
                check_definition(definition)?;
                self.check_targets(turn, number, definition, &definition.constraints)?;
                let names = definition.constraints.iter().map(Constraint::name);
                self.note_constraints(turn, number, names.map(str::to_owned).collect());
            }
            RelationKind::View(query) if query.len() > QUERY_BYTES_MAX => {
                return Err(ResultCode::TooMany);
            }
            RelationKind::View(_) => {}
        }
        self.scratch.relations.created += 1;
        self.draft_relation(RelationRecord {
            number,
            links: Links::default(),
            schema: schema.to_owned(),
            name: name.to_owned(),
            owner: turn.author,
            kind,
            grants: Vec::new(),
            indexes: Vec::new(),
            dropped: false,
        });
        Ok(())
    }

    fn change_relation(
        &mut self,
        turn: &Turn<'_>,
        number: RelationId,
        expected: Hash,
        change: &RelationChange,
    ) -> Step {
        let record = self.relation_now(number).ok_or(ResultCode::NoSuchRelation)?;
        if !turn.signed_by(&record.owner) {
            return Err(ResultCode::NotPermitted);
        }
        if self.relation_before(number) != expected {
            return Err(ResultCode::DefinitionChanged);
        }
        let mut record = record.clone();
        match change {
            RelationChange::AddColumn { column } => self.add_column(&mut record, column)?,
            RelationChange::AddConstraint { constraint } => {
                self.add_constraint(turn, &mut record, constraint)?;
            }
            RelationChange::DropConstraint { name } => self.drop_constraint(&mut record, name)?,
            RelationChange::AddIndex { index } => add_index(&mut record, index)?,
            RelationChange::DropIndex { name } => {
                let before = record.indexes.len();
                record.indexes.retain(|index| index.name != *name);
                if record.indexes.len() == before {
                    return Err(ResultCode::UnknownPart);
                }
            }
            RelationChange::SetGrants { grants } => {
                let users: Vec<_> = grants.iter().filter_map(|grant| grant.to).collect();
                self.check_users_known(&users)?;
                check_table_grants(grants)?;
                record.grants.clone_from(grants);
            }
            RelationChange::Rename { schema, name } => {
                self.check_name_free(schema, name)?;
                record.schema.clone_from(schema);
                record.name.clone_from(name);
            }
            RelationChange::SetOwner { owner } => {
                self.check_users_known(&[*owner])?;
                record.owner = *owner;
            }
            RelationChange::Drop => {
                if self.targeting(number).iter().any(|other| *other != number) {
                    return Err(ResultCode::RelationInUse);
                }
                record.dropped = true;
            }
            RelationChange::Create { .. } => return Err(ResultCode::BadDefinition),
        }
        self.draft_relation(record);
        Ok(())
    }

    fn draft_relation(&mut self, record: RelationRecord) {
        self.scratch.relations.relations.insert(record.number);
        self.draft_standing(Record::Relation(Box::new(record)));
    }

    /// New constraints are checked against all rows at the end of the transaction.
    fn note_constraints(&mut self, turn: &Turn<'_>, number: RelationId, names: Vec<String>) {
        let new = names.into_iter().map(|name| ((number, name), turn.number));
        self.scratch.relations.constraints.extend(new);
    }

    fn check_name_free(&self, schema: &str, name: &str) -> Step {
        check_relation_name(schema)?;
        check_relation_name(name)?;
        let recorded = self.relation_index.names.get(&(schema.to_owned(), name.to_owned()));
        let mut others = self.scratch.relations.relations.iter().chain(recorded);
        let has_it = |number: &RelationId| {
            let record = self.relation_now(*number);
            record.is_some_and(|record| record.schema == schema && record.name == name)
        };
        if others.any(has_it) { Err(ResultCode::RelationExists) } else { Ok(()) }
    }

    /// Tables whose foreign keys reference a table, drafts included.
    pub(super) fn targeting(&self, number: RelationId) -> Vec<RelationId> {
        let drafted = self.scratch.relations.relations.iter().copied();
        let mut found: Vec<_> = self.relation_index.targeting(number).chain(drafted).collect();
        found.sort_unstable();
        found.dedup();
        found.retain(|other| {
            let definition = self.table_now(*other);
            definition.is_some_and(|of| foreign_keys(of, number).next().is_some())
        });
        found
    }

    fn add_column(&self, record: &mut RelationRecord, column: &Column) -> Step {
        let number = record.number;
        let definition = table_mut(record)?;
        let is_null = column.added.as_ref().is_none_or(Value::is_null);
        definition.columns.push(column.clone());
        check_definition(definition)?;
        if column.not_null && is_null && self.has_rows(number) {
            return Err(ResultCode::NullValue);
        }
        Ok(())
    }

    fn has_rows(&self, number: RelationId) -> bool {
        let drafted = self.scratch.relations.rows.keys().copied();
        let recorded = self.rows_of(number).map(|row| row.key);
        let mut keys = drafted.chain(recorded).filter_map(|key| self.row_now(key));
        keys.any(|row| row.relation == number)
    }

    fn add_constraint(
        &mut self,
        turn: &Turn<'_>,
        record: &mut RelationRecord,
        constraint: &Constraint,
    ) -> Step {
        let number = record.number;
        let definition = table_mut(record)?;
        definition.constraints.push(constraint.clone());
        resolve_self(definition, number);
        check_definition(definition)?;
        let new = definition.constraints.last().into_iter();
        self.check_targets(turn, number, definition, new)?;
        self.note_constraints(turn, number, vec![constraint.name().to_owned()]);
        Ok(())
    }

    /// A unique key that foreign keys reference stays, unless another one has the same columns.
    fn drop_constraint(&mut self, record: &mut RelationRecord, name: &str) -> Step {
        let number = record.number;
        let definition = table_mut(record)?;
        let position = definition.constraints.iter().position(|of| of.name() == name);
        definition.constraints.remove(position.ok_or(ResultCode::UnknownPart)?);
        for other in self.targeting(number) {
            let of_other = if other == number { Some(&*definition) } else { self.table_now(other) };
            let mut keys = of_other.into_iter().flat_map(|of| foreign_keys(of, number));
            if keys.any(|(_, _, columns)| !is_key(definition, columns)) {
                return Err(ResultCode::RelationInUse);
            }
        }
        self.scratch.relations.constraints.remove(&(number, name.to_owned()));
        Ok(())
    }

    /// Checks what new constraints reference.
    fn check_targets<'a>(
        &self,
        turn: &Turn<'_>,
        number: RelationId,
        definition: &Definition,
        new: impl IntoIterator<Item = &'a Constraint>,
    ) -> Step {
        for constraint in new {
            if let Constraint::Foreign {
                columns,
                target: Target::Rows { relation, columns: to },
                ..
            } = constraint
            {
                self.check_target(turn, (number, definition, columns), *relation, to)?;
            }
        }
        Ok(())
    }

    /// Does a foreign key reference a key of a table, of the same types, whose owner permits it?
    fn check_target(
        &self,
        turn: &Turn<'_>,
        (number, definition, columns): (RelationId, &Definition, &[u16]),
        target: RelationId,
        to: &[u16],
    ) -> Step {
        let of_target = if target == number {
            definition
        } else {
            let record = self.relation_now(target).ok_or(ResultCode::NoSuchRelation)?;
            let of_target = record.table().ok_or(ResultCode::NotATable)?;
            if !turn.signers().any(|signer| record.permits(&signer, RIGHT_REFERENCE)) {
                return Err(ResultCode::NotPermitted);
            }
            of_target
        };
        let types_fit = columns.iter().zip(to).all(|(from, to)| {
            match (definition.type_of(*from), of_target.type_of(*to)) {
                (Some(from), Some(to)) => from.compares_with(to),
                _ => false,
            }
        });
        if types_fit && is_key(of_target, to) { Ok(()) } else { Err(ResultCode::BadDefinition) }
    }
}

/// Checks what needs no other table.
fn check_definition(definition: &Definition) -> Step {
    definition.check()?;
    if codec::length(definition) > DEFINITION_BYTES_MAX {
        return Err(ResultCode::TooMany);
    }
    for column in &definition.columns {
        if let Some(default) = &column.default {
            check_default(default, column.kind)?;
        }
    }
    for constraint in &definition.constraints {
        if let Constraint::Check { expression, .. } = constraint {
            check_condition(expression, definition)?;
        }
    }
    Ok(())
}

/// Are these the columns of the primary key or of a unique constraint?
fn is_key(definition: &Definition, columns: &[u16]) -> bool {
    definition.primary == columns || definition.unique_over(columns).is_some()
}

fn table_mut(record: &mut RelationRecord) -> Result<&mut Definition, ResultCode> {
    match &mut record.kind {
        RelationKind::Table(definition) => Ok(definition),
        RelationKind::View(_) => Err(ResultCode::NotATable),
    }
}

/// Gives foreign keys to "the table itself" its number.
fn resolve_self(definition: &mut Definition, number: RelationId) {
    for constraint in &mut definition.constraints {
        if let Constraint::Foreign { target: Target::Rows { relation, .. }, .. } = constraint
            && relation.0 == 0
        {
            *relation = number;
        }
    }
}

fn add_index(record: &mut RelationRecord, index: &Index) -> Step {
    let definition = table_mut(record)?;
    check_relation_name(&index.name)?;
    definition.check_columns(&index.columns)?;
    if record.indexes.iter().any(|other| other.name == index.name) {
        return Err(ResultCode::BadDefinition);
    }
    if record.indexes.len() >= CONSTRAINTS_MAX {
        return Err(ResultCode::TooMany);
    }
    record.indexes.push(index.clone());
    Ok(())
}
