//! COPY FROM: rows that a client sent.

use super::insert::{completed, of_column};
use super::{Outcome, Work, column, definition, folded};
use crate::copy::{Plan, Subject};
use crate::define::value_of;
use crate::error::{SqlError, code};
use kanjo_types::relation::RIGHT_INSERT;
use kanjo_types::row::Value;
use std::sync::Arc;

/// A COPY FROM with its data.
pub(crate) struct Copied {
    pub plan: Plan,
    pub bytes: Vec<u8>,
    /// Was more sent than is kept?
    pub is_too_long: bool,
}

/// Drafts the rows.
pub(crate) fn copy(work: &mut Work<'_>, copied: &Copied) -> Result<Outcome, SqlError> {
    let Subject::Table(name, columns) = &copied.plan.subject else {
        return Err(SqlError::new(code::SYNTAX, "COPY FROM needs a table"));
    };
    let relation = work.table(name, RIGHT_INSERT)?;
    let columns = match columns.is_empty() {
        true => (0u16..).take(definition(&relation)?.columns.len()).collect(),
        false => {
            let found = columns.iter().map(|name| column(&relation, &folded(name)));
            found.collect::<Result<Vec<u16>, SqlError>>()?
        }
    };
    let mut given = Vec::new();
    for (line, fields) in copied.plan.form.rows(&copied.bytes)? {
        if fields.len() != columns.len() {
            let (found, wanted) = (fields.len(), columns.len());
            let message = format!("line {line} has {found} fields instead of {wanted}");
            return Err(SqlError::new("22P04", message));
        }
        let mut values = Vec::with_capacity(columns.len());
        for (at, field) in columns.iter().zip(fields) {
            let found = definition(&relation)?.columns.get(usize::from(*at));
            let Some(of) = found else { continue };
            let value = match field {
                None => Value::Null,
                Some(text) => value_of(of.kind, &text)
                    .map_err(|error| in_line(of_column(error, &of.name), line))?,
            };
            values.push(Some(value));
        }
        given.push((line, values));
    }
    let mut count = 0;
    let mut numbered = false;
    for (line, values) in given {
        let (rows, some) = completed(work, &relation, &columns, vec![values])
            .map_err(|error| in_line(error, line))?;
        numbered |= some;
        for values in rows {
            work.check(&relation, &values).map_err(|error| in_line(error, line))?;
            work.put_new(&relation, Arc::new(values)).map_err(|error| in_line(error, line))?;
            count += 1;
        }
    }
    Ok(Outcome { tag: "COPY", rows: count, returned: None, numbered })
}

fn in_line(error: SqlError, line: usize) -> SqlError {
    let message = format!("line {line}: {}", error.message);
    SqlError { message, ..error }
}
