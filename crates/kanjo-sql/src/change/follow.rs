//! What follows for rows that reference a row which goes: ON DELETE CASCADE and SET NULL. The
//! ledger sees the row changes that come of it, and refuses what would leave a reference without a
//! target.

use super::{Work, definition};
use crate::define::Relation;
use crate::error::{SqlError, code};
use crate::tables::relation::{Live, Rows};
use kanjo_types::relation::{Constraint, OnDelete, Target};
use kanjo_types::row::{Value, ordered_key};
use std::collections::BTreeSet;
use std::sync::Arc;

/// How often a deletion may lead to others, table by table.
const STEPS_MAX: usize = 1_000;

/// The values of a row, old and new.
pub(super) type Changed = (Arc<Vec<Value>>, Arc<Vec<Value>>);

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

    /// Rows that reference one of `targets`, in one pass over their table. The ledger sees to it
    /// that no reference is left without a target, so what is read here is no condition.
    async fn referencing(
        &self,
        key: &Key,
        target: &Relation,
        targets: &[Arc<Vec<Value>>],
    ) -> Result<Vec<Live>, SqlError> {
        let (of_target, of_key) = (definition(target)?, definition(&key.relation)?);
        let wanted: BTreeSet<Vec<u8>> = targets
            .iter()
            .filter_map(|values| ordered_key(of_target.values(values, &key.to)))
            .collect();
        let mut scope = self.scope.as_ref().clone();
        (scope.drafts, scope.reads) = (Arc::clone(&self.drafts), None);
        let mut rows = Rows::all(Arc::new(scope), key.relation.record.number);
        let mut found = Vec::new();
        loop {
            let (some, more) = rows.next()?;
            found.extend(some.into_iter().filter(|(_, _, values)| {
                let leads_to = ordered_key(of_key.values(values, &key.columns));
                leads_to.is_some_and(|leads_to| wanted.contains(&leads_to))
            }));
            if !more {
                return Ok(found);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Rows are deleted: deletes or changes those that reference them, table by table.
    pub(super) async fn follow_delete(
        &mut self,
        relation: &Arc<Relation>,
        gone: Vec<Arc<Vec<Value>>>,
    ) -> Result<(), SqlError> {
        let mut left = vec![(Arc::clone(relation), gone)];
        let mut steps = 0;
        while let Some((relation, gone)) = left.pop() {
            steps += 1;
            if steps > STEPS_MAX {
                let message = format!("a deletion leads to others in more than {STEPS_MAX} steps");
                return Err(SqlError::new(code::TOO_COMPLEX, message));
            }
            for key in self.keys_to(&relation) {
                if key.on_delete == OnDelete::Restrict || gone.is_empty() {
                    continue;
                }
                let mut next = Vec::new();
                for (place, before, old) in self.referencing(&key, &relation, &gone).await? {
                    if key.on_delete == OnDelete::Cascade {
                        self.put(&key.relation, place, before, None)?;
                        next.push(old);
                    } else {
                        let new = Arc::new(nulled(&key, &old)?);
                        self.check(&key.relation, &new)?;
                        self.put(&key.relation, place, before, Some(new))?;
                    }
                }
                if !next.is_empty() {
                    left.push((Arc::clone(&key.relation), next));
                }
            }
        }
        Ok(())
    }

    /// A row gets other values: those that reference what changes keep it from doing so. (The
    /// ledger would find it, too; here it can be said which.)
    pub(super) async fn follow_update(
        &self,
        relation: &Relation,
        changes: &[Changed],
    ) -> Result<(), SqlError> {
        let of_target = definition(relation)?;
        for key in self.keys_to(relation) {
            let changed = changes.iter().filter(|(old, new)| {
                !of_target.values(old, &key.to).eq(of_target.values(new, &key.to))
            });
            let old: Vec<Arc<Vec<Value>>> = changed.map(|(old, _)| Arc::clone(old)).collect();
            if !old.is_empty() && !self.referencing(&key, relation, &old).await?.is_empty() {
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
