//! Numbers for identity columns. The ledger gives none (docs/tables.md): the node that plans an
//! insert does, one after the other, and another node that takes the same number comes second.

use super::{Work, definition};
use crate::define::Relation;
use crate::error::{SqlError, code};
use crate::tables::relation::Rows;
use kanjo_types::RelationId;
use kanjo_types::row::{Value, row_key};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The newest number by table and column.
#[derive(Debug, Default)]
pub(crate) struct Numbers(Mutex<BTreeMap<(RelationId, u16), i64>>);

impl Numbers {
    /// Forgets all of them: somebody else has numbered rows, too.
    pub(crate) fn forget_all(&self) {
        self.0.lock().clear();
    }
}

impl Work<'_> {
    /// The next number of a column.
    pub(super) fn number(&self, relation: &Relation, column: u16) -> Result<i64, SqlError> {
        let next = self.next(relation, column)?;
        if !self.is_taken(relation, column, next)? {
            return Ok(next);
        }
        // Another node has numbered rows, or a statement has given a number of its own.
        let place = (relation.record.number, column);
        self.engine.numbers.0.lock().remove(&place);
        self.next(relation, column)
    }

    fn next(&self, relation: &Relation, column: u16) -> Result<i64, SqlError> {
        let place = (relation.record.number, column);
        let known = self.engine.numbers.0.lock().get(&place).copied();
        let last = match known {
            Some(last) => last,
            None => self.highest(relation, column)?,
        };
        let mut numbers = self.engine.numbers.0.lock();
        let last = numbers.get(&place).copied().unwrap_or(last).max(last);
        let next = last.checked_add(1).ok_or_else(|| {
            SqlError::new("2200H", "the numbers of an identity column are used up")
        })?;
        numbers.insert(place, next);
        Ok(next)
    }

    /// Has a row this number, where the number is the key?
    fn is_taken(&self, relation: &Relation, column: u16, number: i64) -> Result<bool, SqlError> {
        if definition(relation)?.primary != [column] {
            return Ok(false);
        }
        match row_key(relation.record.number, &[Value::Integer(number)]) {
            Some(key) => Ok(self.there(key)?.1.is_some()),
            None => Ok(false),
        }
    }

    /// Read outside of what the commit checks: a number that is taken shows itself there.
    fn highest(&self, relation: &Relation, column: u16) -> Result<i64, SqlError> {
        let definition = definition(relation)?;
        let mut scope = self.scope.as_ref().clone();
        (scope.reads, scope.drafts) = (None, Arc::clone(&self.drafts));
        let mut rows = Rows::all(Arc::new(scope), relation.record.number);
        let mut highest = 0;
        loop {
            let (found, more) = rows.next()?;
            for (_, _, values) in found {
                match definition.value(&values, column) {
                    Value::Integer(number) => highest = highest.max(*number),
                    Value::Null => {}
                    _ => return Err(SqlError::new(code::INTERNAL, "an identity is no number")),
                }
            }
            if !more {
                return Ok(highest);
            }
        }
    }
}
