//! What follows for rows that reference a row which goes: ON DELETE CASCADE and SET NULL. The ledger
//! sees the row changes that come of it, and refuses what would leave a reference without a target.

use super::{Work, definition};
use crate::define::Relation;
use crate::error::{SqlError, code};
use crate::tables::relation::{Live, Rows};
use kanjo_types::relation::{Constraint, OnDelete, Target};
use kanjo_types::row::Value;
use std::sync::Arc;

/// How far one deletion may lead to others.
const DEPTH_MAX: usize = 32;

/// A foreign key to a table.
struct Key {
    relation: Arc<Relation>,
    name: String,
    columns: Vec<u16>,
    to: Vec<u16>,
    on_delete: OnDelete,
}

impl Work<'_> {
    /// Foreign keys that reference a table.
    fn keys_to(&self, relation: &Relation) -> Vec<Key> {
        let number = relation.record.number;
        let mut keys = Vec::new();
        for other in self.scope.catalog.all() {
            let Some(definition) = other.record.table() else { continue };
            for constraint in &definition.constraints {
                if let Constraint::Foreign {
                    name,
                    columns,
                    target: Target::Rows { relation, columns: to },
                    on_delete,
                } = constraint
                    && *relation == number
                {
                    keys.push(Key {
                        relation: Arc::clone(other),
                        name: name.clone(),
                        columns: columns.clone(),
                        to: to.clone(),
                        on_delete: *on_delete,
                    });
                }
            }
        }
        keys
    }

    /// Rows that reference a row with these values.
    fn referencing(
        &self,
        key: &Key,
        target: &Relation,
        values: &[Value],
    ) -> Result<Vec<Live>, SqlError> {
        let (of_target, of_key) = (definition(target)?, definition(&key.relation)?);
        let wanted: Vec<&Value> = of_target.values(values, &key.to).collect();
        if wanted.iter().any(|value| value.is_null()) {
            return Ok(Vec::new());
        }
        let mut scope = self.scope.as_ref().clone();
        scope.drafts = Arc::clone(&self.drafts);
        let mut rows = Rows::all(Arc::new(scope), key.relation.record.number);
        let mut found = Vec::new();
        loop {
            let (some, more) = rows.next()?;
            found.extend(some.into_iter().filter(|(_, _, values)| {
                of_key.values(values, &key.columns).eq(wanted.iter().copied())
            }));
            if !more {
                return Ok(found);
            }
        }
    }

    /// A row is deleted: deletes or changes those that reference it.
    pub(super) fn follow_delete(
        &mut self,
        relation: &Relation,
        values: &[Value],
        depth: usize,
    ) -> Result<(), SqlError> {
        if depth > DEPTH_MAX {
            let message = format!("a deletion leads to others more than {DEPTH_MAX} tables deep");
            return Err(SqlError::new(code::TOO_COMPLEX, message));
        }
        for key in self.keys_to(relation) {
            if key.on_delete == OnDelete::Restrict {
                continue;
            }
            for (place, before, old) in self.referencing(&key, relation, values)? {
                if key.on_delete == OnDelete::Cascade {
                    self.put(&key.relation, place, before, None)?;
                    self.follow_delete(&key.relation, &old, depth + 1)?;
                } else {
                    let new = Arc::new(nulled(&key, &old)?);
                    self.check(&key.relation, &new)?;
                    self.put(&key.relation, place, before, Some(new))?;
                }
            }
        }
        Ok(())
    }

    /// A row gets other values: those that reference what changes keep it from doing so. (The ledger
    /// would find it, too; here it can be said which.)
    pub(super) fn follow_update(
        &self,
        relation: &Relation,
        old: &[Value],
        new: &[Value],
    ) -> Result<(), SqlError> {
        let of_target = definition(relation)?;
        for key in self.keys_to(relation) {
            let same = of_target.values(old, &key.to).eq(of_target.values(new, &key.to));
            if !same && !self.referencing(&key, relation, old)?.is_empty() {
                let message = format!(
                    "update on table \"{}\" violates foreign key constraint \"{}\" on table \"{}\"",
                    relation.record.name, key.name, key.relation.record.name
                );
                return Err(SqlError::new("23503", message));
            }
        }
        Ok(())
    }
}

fn nulled(key: &Key, old: &[Value]) -> Result<Vec<Value>, SqlError> {
    let definition = definition(&key.relation)?;
    let columns = (0u16..).take(definition.columns.len());
    Ok(columns
        .map(|at| match key.columns.contains(&at) {
            true => Value::Null,
            false => definition.value(old, at).clone(),
        })
        .collect())
}
