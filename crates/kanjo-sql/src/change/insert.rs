//! INSERT.

use super::conflict::{self, Plan};
use super::{Outcome, Work, column, definition, folded, split};
use crate::define::Relation;
use crate::error::{SqlError, code};
use crate::tables::cells::value_at;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Insert, OnConflictAction, OnInsert, Query, SetExpr, Statement, TableObject,
    Value as Literal,
};
use kanjo_types::relation::{Identity, RIGHT_INSERT, RIGHT_SELECT, RIGHT_UPDATE};
use kanjo_types::row::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Values by column of the statement; nothing: DEFAULT.
pub(super) type Given = Vec<Option<Value>>;

pub(super) async fn insert(work: &mut Work<'_>, insert: Insert) -> Result<Outcome, SqlError> {
    let TableObject::TableName(name) = &insert.table else {
        return Err(SqlError::not_supported("INSERT into anything but a table"));
    };
    let on_conflict = match &insert.on {
        None => None,
        Some(OnInsert::OnConflict(on)) => Some(on.clone()),
        Some(_) => {
            return Err(SqlError::not_supported(
                "ON DUPLICATE KEY UPDATE is MySQL's; use ON CONFLICT",
            ));
        }
    };
    let mut rights = RIGHT_INSERT;
    let updates =
        on_conflict.as_ref().is_some_and(|on| matches!(on.action, OnConflictAction::DoUpdate(_)));
    if updates {
        rights |= RIGHT_UPDATE;
    }
    if updates || insert.returning.is_some() {
        rights |= RIGHT_SELECT;
    }
    let relation = work.table(name, rights)?;
    let alias = match &insert.table_alias {
        Some(alias) => folded(&alias.alias),
        None => split(name)?.1,
    };
    let columns = targets(&relation, &insert)?;
    let plan = match &on_conflict {
        Some(on) => Some(Plan::new(&relation, on)?),
        None => None,
    };
    let given =
        given(work, &relation, (&columns, !insert.columns.is_empty()), insert.source).await?;
    let (rows, numbered) = completed(work, &relation, &columns, given)?;
    let (written, count) = match plan {
        None => {
            let mut written = Vec::with_capacity(rows.len());
            for values in rows {
                let values = Arc::new(values);
                work.check(&relation, &values)?;
                work.put_new(&relation, Arc::clone(&values))?;
                written.push(values);
            }
            let count = written.len();
            (written, count)
        }
        Some(plan) => conflict::insert(work, &relation, &alias, &plan, rows).await?,
    };
    let returned = match &insert.returning {
        Some(items) => Some(work.returning(&relation, &alias, items, &written).await?),
        None => None,
    };
    Ok(Outcome { tag: "INSERT", rows: count, returned, numbered })
}

/// The columns that get values.
fn targets(relation: &Relation, insert: &Insert) -> Result<Vec<u16>, SqlError> {
    if insert.columns.is_empty() {
        return Ok((0u16..).take(definition(relation)?.columns.len()).collect());
    }
    let mut columns = Vec::with_capacity(insert.columns.len());
    for name in &insert.columns {
        let at = column(relation, &split(name)?.1)?;
        if columns.contains(&at) {
            let message = format!("column \"{name}\" specified more than once");
            return Err(SqlError::new("42701", message));
        }
        columns.push(at);
    }
    Ok(columns)
}

/// Puts NULL where DEFAULT stands, and says where that was.
fn without_defaults(query: &mut Query) -> BTreeSet<(usize, usize)> {
    let mut places = BTreeSet::new();
    if let SetExpr::Values(values) = query.body.as_mut() {
        for (at, row) in values.rows.iter_mut().enumerate() {
            for (column, expr) in row.content.iter_mut().enumerate() {
                if is_default(expr) {
                    *expr = Expr::Value(Literal::Null.into());
                    places.insert((at, column));
                }
            }
        }
    }
    places
}

/// The word DEFAULT, which the parser takes for a name.
pub(super) fn is_default(expr: &Expr) -> bool {
    let is_it =
        |ident: &Ident| ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default");
    matches!(expr, Expr::Identifier(ident) if is_it(ident))
}

async fn given(
    work: &Work<'_>,
    relation: &Relation,
    (columns, is_listed): (&[u16], bool),
    source: Option<Box<Query>>,
) -> Result<Vec<Given>, SqlError> {
    let Some(mut query) = source else { return Ok(vec![vec![None; columns.len()]]) };
    let defaults = without_defaults(&mut query);
    if !defaults.is_empty() && (query.order_by.is_some() || query.limit_clause.is_some()) {
        return Err(SqlError::not_supported("DEFAULT in VALUES with ORDER BY or LIMIT"));
    }
    if let SetExpr::Values(values) = query.body.as_ref()
        && values.rows.iter().any(|row| row.content.len() > columns.len())
    {
        return Err(SqlError::new(code::SYNTAX, "INSERT has more expressions than target columns"));
    }
    let batches = work.engine.gather(&work.scope, Statement::Query(query)).await?;
    let definition = definition(relation)?;
    let mut rows: Vec<Given> = Vec::new();
    for batch in &batches {
        if batch.num_columns() > columns.len() {
            let message = "INSERT has more expressions than target columns";
            return Err(SqlError::new(code::SYNTAX, message));
        }
        for row in 0..batch.num_rows() {
            if is_listed && batch.num_columns() < columns.len() {
                let message = "INSERT has more target columns than expressions";
                return Err(SqlError::new(code::SYNTAX, message));
            }
            let mut values: Given = vec![None; columns.len()];
            let cells = batch.columns().iter().zip(columns).zip(&mut values).enumerate();
            for (position, ((array, at), value)) in cells {
                if defaults.contains(&(rows.len(), position)) {
                    continue;
                }
                let Some(column) = definition.columns.get(usize::from(*at)) else { continue };
                let found = value_at(array.as_ref(), row, column.kind);
                *value = Some(found.map_err(|error| of_column(error, &column.name))?);
            }
            rows.push(values);
        }
    }
    Ok(rows)
}

/// An error that says which column it is about.
pub(super) fn of_column(error: SqlError, name: &str) -> SqlError {
    let message = format!("column \"{name}\": {}", error.message);
    SqlError { message, ..error }
}

/// Whole rows: defaults and numbers where nothing is given.
pub(super) fn completed(
    work: &Work<'_>,
    relation: &Relation,
    columns: &[u16],
    given: Vec<Given>,
) -> Result<(Vec<Vec<Value>>, bool), SqlError> {
    let definition = definition(relation)?;
    let mut numbered = false;
    let mut rows = Vec::with_capacity(given.len());
    for given in given {
        let mut row: Given = vec![None; definition.columns.len()];
        for (at, value) in columns.iter().zip(given) {
            if let Some(cell) = row.get_mut(usize::from(*at)) {
                *cell = value;
            }
        }
        let mut values = Vec::with_capacity(row.len());
        for ((at, column), value) in (0u16..).zip(&definition.columns).zip(row) {
            values.push(match (value, column.identity) {
                (Some(_), Identity::Always) => {
                    let message = format!(
                        "cannot insert a non-DEFAULT value into column \"{}\"",
                        column.name
                    );
                    let hint = "the column is GENERATED ALWAYS AS IDENTITY: leave it out";
                    return Err(SqlError::new("428C9", message).hint(hint));
                }
                (Some(value), _) => value,
                (None, Identity::None) => work.default_value(column)?,
                (None, _) => {
                    numbered = true;
                    Value::Integer(work.number(relation, at)?)
                }
            });
        }
        rows.push(values);
    }
    Ok((rows, numbered))
}
