//! One row: defaults, checks, its key, its draft.

use super::{Work, definition};
use crate::catalog::permit;
use crate::define::{self, Relation};
use crate::error::{SqlError, code};
use crate::tables::relation::{There, row_of};
use crate::transaction::Draft;
use kanjo_ledger::expression::{Work as Units, holds};
use kanjo_types::Hash;
use kanjo_types::outcome::ResultCode;
use kanjo_types::record::RowKey;
use kanjo_types::relation::{Column, Constraint, Definition, RIGHT_SELECT};
use kanjo_types::row::{Value, row_key};
use std::sync::Arc;

/// The values of a row as people read them: `(a, b)=(1, x)`.
pub(super) fn described(definition: &Definition, columns: &[u16], values: &[Value]) -> String {
    let names: Vec<&str> = columns
        .iter()
        .filter_map(|at| definition.columns.get(usize::from(*at)))
        .map(|column| column.name.as_str())
        .collect();
    let values = columns.iter().map(|at| {
        let kind = definition.type_of(*at);
        let text = kind.and_then(|kind| define::text_of(definition.value(values, *at), kind));
        text.unwrap_or_else(|| "null".to_owned())
    });
    format!("({})=({})", names.join(", "), values.collect::<Vec<String>>().join(", "))
}

/// The key of a row.
pub(super) fn key_of(relation: &Relation, values: &[Value]) -> Result<RowKey, SqlError> {
    let definition = definition(relation)?;
    let key = definition.values(values, &definition.primary);
    if key.clone().any(Value::is_null) {
        let null = definition.primary.iter().find(|at| definition.value(values, **at).is_null());
        let name = null.and_then(|at| definition.columns.get(usize::from(*at)));
        return Err(null_value(relation, name.map_or("", |column| &column.name)));
    }
    row_key(relation.record.number, key).ok_or_else(|| {
        let message = "the primary key is too long: its encoding may have 1,024 bytes";
        SqlError::new(code::LIMIT_EXCEEDED, message)
    })
}

fn null_value(relation: &Relation, column: &str) -> SqlError {
    let table = &relation.record.name;
    let message = format!(
        "null value in column \"{column}\" of relation \"{table}\" violates not-null constraint"
    );
    SqlError::new("23502", message)
}

/// The error of a result, with the ledger's own sentence.
pub(crate) fn failed(result: ResultCode, about: &str) -> SqlError {
    let sentence = result.sentence();
    let message =
        if about.is_empty() { sentence.to_owned() } else { format!("{about}: {sentence}") };
    SqlError::new(result.sqlstate(), message)
}

impl Work<'_> {
    /// The value of a column that a statement gives none.
    pub(super) fn default_value(&self, column: &Column) -> Result<Value, SqlError> {
        define::default_value(column, &self.given()?)
    }

    /// What the ledger will check of the row by itself.
    pub(super) fn check(&self, relation: &Relation, values: &[Value]) -> Result<(), SqlError> {
        let definition = definition(relation)?;
        for (column, value) in definition.columns.iter().zip(values) {
            if column.not_null && value.is_null() {
                return Err(null_value(relation, &column.name));
            }
            column
                .kind
                .check(value)
                .map_err(|result| failed(result, &format!("column \"{}\"", column.name)))?;
        }
        for constraint in &definition.constraints {
            let Constraint::Check { name, expression } = constraint else { continue };
            let kept = holds(expression, definition, values, &mut Units::default());
            let kept = kept.map_err(|result| failed(result, &format!("constraint \"{name}\"")))?;
            if !kept {
                let table = &relation.record.name;
                let message = format!(
                    "new row for relation \"{table}\" violates check constraint \"{name}\""
                );
                let columns: Vec<u16> = (0u16..).take(definition.columns.len()).collect();
                // A row can be one that a deletion elsewhere led to.
                let may_see =
                    permit(&relation.record, Some(self.author.user), RIGHT_SELECT).is_ok();
                let detail = match may_see {
                    true => format!("Failing row: {}.", described(definition, &columns, values)),
                    false => "The row is of a table that you may not read.".to_owned(),
                };
                let hint = format!(
                    "the constraint is CHECK ({})",
                    define::expression_text(expression, definition)
                );
                return Err(SqlError::new("23514", message).detail(detail).hint(hint));
            }
        }
        Ok(())
    }

    /// The row with a key, as the transaction sees it.
    pub(super) fn there(&self, key: RowKey) -> Result<There, SqlError> {
        row_of(&self.scope.snapshot, &self.drafts, key)
    }

    /// Drafts a new row.
    pub(super) fn put_new(
        &mut self,
        relation: &Relation,
        values: Arc<Vec<Value>>,
    ) -> Result<(), SqlError> {
        let key = key_of(relation, &values)?;
        let (before, there) = self.there(key)?;
        if there.is_some() {
            // Whoever goes on after a savepoint may rely on it.
            if let Some(reads) = &self.scope.reads {
                reads.lock().range(relation.record.number, key, key);
            }
            let definition = definition(relation)?;
            let table = &relation.record.name;
            let message =
                format!("duplicate key value violates unique constraint \"{table}_pkey\"");
            let detail = described(definition, &definition.primary, &values);
            return Err(
                SqlError::new("23505", message).detail(format!("Key {detail} already exists."))
            );
        }
        self.put(relation, key, before, Some(values))
    }

    pub(super) fn put(
        &mut self,
        relation: &Relation,
        key: RowKey,
        before: Hash,
        values: Option<Arc<Vec<Value>>>,
    ) -> Result<(), SqlError> {
        let draft = Draft { relation: relation.record.number, before, values };
        self.drafts().write(key, draft)
    }
}
