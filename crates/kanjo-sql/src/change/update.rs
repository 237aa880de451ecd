//! UPDATE, with FROM.

use super::insert::{is_default, of_column};
use super::row::key_of;
use super::{Outcome, Work, column, column_of, definition, folded, named, parsed, query, split};
use crate::define::Relation;
use crate::error::{SqlError, code};
use crate::tables::cells::value_at;
use datafusion::sql::sqlparser::ast::{
    Assignment, AssignmentTarget, Expr, TableFactor, TableWithJoins, Update, UpdateTableFromKind,
};
use kanjo_types::record::RowKey;
use kanjo_types::relation::{Identity, RIGHT_SELECT, RIGHT_UPDATE};
use kanjo_types::row::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The table that a statement changes: its name as written, and what it is called in the statement.
pub(super) struct Target<'a> {
    pub name: &'a datafusion::sql::sqlparser::ast::ObjectName,
    pub alias: String,
    /// As it stands in FROM.
    pub from: TableWithJoins,
}

impl<'a> Target<'a> {
    pub(super) fn of(table: &'a TableWithJoins, verb: &str) -> Result<Self, SqlError> {
        let wrong = || SqlError::not_supported(format!("{verb} of anything but one table"));
        if !table.joins.is_empty() {
            return Err(wrong());
        }
        let TableFactor::Table { name, alias, .. } = &table.relation else { return Err(wrong()) };
        let alias = match alias {
            Some(alias) => folded(&alias.name),
            None => split(name)?.1,
        };
        Ok(Self { name, alias, from: table.clone() })
    }
}

/// Columns and their new values; nothing: DEFAULT.
pub(super) type Assignments = Vec<(u16, Option<Expr>)>;

/// What SET says.
pub(super) fn assignments(
    relation: &Relation,
    assignments: &[Assignment],
) -> Result<Assignments, SqlError> {
    let mut found: Assignments = Vec::with_capacity(assignments.len());
    let mut add = |name: &str, value: &Expr| {
        let at = column(relation, name)?;
        let of = definition(relation)?.columns.get(usize::from(at));
        if found.iter().any(|(other, _)| *other == at) {
            let message = format!("multiple assignments to same column \"{name}\"");
            return Err(SqlError::new(code::SYNTAX, message));
        }
        let is_default = is_default(value);
        if !is_default && of.is_some_and(|of| of.identity == Identity::Always) {
            let message = format!("column \"{name}\" can only be updated to DEFAULT");
            return Err(SqlError::new("428C9", message));
        }
        found.push((at, (!is_default).then(|| value.clone())));
        Ok(())
    };
    for assignment in assignments {
        match (&assignment.target, &assignment.value) {
            (AssignmentTarget::ColumnName(name), value) => add(&split(name)?.1, value)?,
            (AssignmentTarget::Tuple(names), Expr::Tuple(values))
                if names.len() == values.len() =>
            {
                for (name, value) in names.iter().zip(values) {
                    add(&split(name)?.1, value)?;
                }
            }
            (AssignmentTarget::Tuple(_), _) => {
                return Err(SqlError::not_supported("SET (a, b) = anything but as many values")
                    .hint("assign the columns one by one"));
            }
        }
    }
    Ok(found)
}

/// The new values of a row: the old ones, with what SET says in their place. `cells` come in the
/// order of the assignments that have an expression.
pub(super) fn assigned(
    work: &Work<'_>,
    relation: &Relation,
    old: &[Value],
    assignments: &Assignments,
    mut cell: impl FnMut(usize, &kanjo_types::relation::Column) -> Result<Value, SqlError>,
) -> Result<Vec<Value>, SqlError> {
    let definition = definition(relation)?;
    let columns = (0u16..).take(definition.columns.len());
    let mut values: Vec<Value> = columns.map(|at| definition.value(old, at).clone()).collect();
    let mut position = 0;
    for (at, expr) in assignments {
        let place = usize::from(*at);
        let Some(column) = definition.columns.get(place) else { continue };
        let value = match expr {
            Some(_) => {
                position += 1;
                cell(position - 1, column).map_err(|error| of_column(error, &column.name))?
            }
            None if column.identity == Identity::None => work.default_value(column)?,
            None => Value::Integer(work.number(relation, *at)?),
        };
        if let Some(old) = values.get_mut(place) {
            *old = value;
        }
    }
    Ok(values)
}

pub(super) async fn update(work: &mut Work<'_>, update: Update) -> Result<Outcome, SqlError> {
    if !update.order_by.is_empty() || update.limit.is_some() || update.or.is_some() {
        return Err(SqlError::not_supported("UPDATE with ORDER BY or LIMIT is not PostgreSQL's"));
    }
    let target = Target::of(&update.table, "UPDATE")?;
    let reads = update.selection.is_some() || update.returning.is_some() || update.from.is_some();
    let rights = if reads { RIGHT_UPDATE | RIGHT_SELECT } else { RIGHT_UPDATE };
    let relation = work.table(target.name, rights)?;
    let set = assignments(&relation, &update.assignments)?;
    let mut items = key_items(&relation, &target.alias)?;
    let keys = items.len();
    items.extend(set.iter().filter_map(|(_, expr)| expr.clone()));
    let from = match &update.from {
        None => Vec::new(),
        Some(UpdateTableFromKind::BeforeSet(from) | UpdateTableFromKind::AfterSet(from)) => {
            from.clone()
        }
    };
    let found =
        rows(work, &relation, items, (&target.from, &from), update.selection.clone()).await?;
    let mut seen = BTreeSet::new();
    let mut changes: Vec<(RowKey, Arc<Vec<Value>>)> = Vec::new();
    for (batch, row, key) in found.keys() {
        // With FROM a row can come several times: one of them counts, as in PostgreSQL.
        if !seen.insert(key) {
            continue;
        }
        let (_, old) = work.there(key)?;
        let Some(old) = old else { continue };
        let values = assigned(work, &relation, &old, &set, |position, column| {
            let array = batch.columns().get(keys + position);
            let array = array.ok_or_else(|| SqlError::new(code::INTERNAL, "a value is missing"))?;
            value_at(array.as_ref(), row, column.kind)
        })?;
        let values = Arc::new(values);
        work.check(&relation, &values)?;
        changes.push((key, values));
    }
    let written = write(work, &relation, changes).await?;
    let returned = match &update.returning {
        Some(items) => Some(work.returning(&relation, &target.alias, items, &written).await?),
        None => None,
    };
    Ok(Outcome { tag: "UPDATE", rows: written.len(), returned, numbered: false })
}

/// Drafts new versions of rows; a changed key is a deletion and a new row, and deletions come first
/// so that keys may change places.
async fn write(
    work: &mut Work<'_>,
    relation: &Relation,
    changes: Vec<(RowKey, Arc<Vec<Value>>)>,
) -> Result<Vec<Arc<Vec<Value>>>, SqlError> {
    let mut pairs = Vec::with_capacity(changes.len());
    for (key, values) in &changes {
        let old = work.there(*key)?.1.unwrap_or_default();
        pairs.push((old, Arc::clone(values)));
    }
    work.follow_update(relation, &pairs).await?;
    let mut moved = Vec::new();
    let mut written = Vec::with_capacity(changes.len());
    for (key, values) in changes {
        let (before, _) = work.there(key)?;
        if key_of(relation, &values)? == key {
            work.put(relation, key, before, Some(Arc::clone(&values)))?;
        } else {
            work.put(relation, key, before, None)?;
            moved.push(Arc::clone(&values));
        }
        written.push(values);
    }
    for values in moved {
        work.put_new(relation, values)?;
    }
    Ok(written)
}

/// The columns of the primary key.
pub(super) fn key_items(relation: &Relation, alias: &str) -> Result<Vec<Expr>, SqlError> {
    let definition = definition(relation)?;
    let columns = definition.primary.iter();
    let columns = columns.filter_map(|at| definition.columns.get(usize::from(*at)));
    Ok(columns.map(|column| column_of(alias, &column.name)).collect())
}

/// Rows that a statement is about: keys, and what else it asked for.
pub(super) struct Found {
    batches: Vec<datafusion::arrow::array::RecordBatch>,
    keys: Vec<Vec<RowKey>>,
}

impl Found {
    pub(super) fn keys(
        &self,
    ) -> impl Iterator<Item = (&datafusion::arrow::array::RecordBatch, usize, RowKey)> {
        self.batches.iter().zip(&self.keys).flat_map(|(batch, keys)| {
            keys.iter().enumerate().map(move |(row, key)| (batch, row, *key))
        })
    }
}

pub(super) async fn rows(
    work: &Work<'_>,
    relation: &Relation,
    items: Vec<Expr>,
    (table, more): (&TableWithJoins, &[TableWithJoins]),
    selection: Option<Expr>,
) -> Result<Found, SqlError> {
    let mut select = parsed("SELECT 1")?;
    select.projection = named(items.into_iter());
    select.from = std::iter::once(table).chain(more).cloned().collect();
    select.selection = selection;
    let batches = work.engine.gather(&work.scope, query(select)?).await?;
    let definition = definition(relation)?;
    let mut keys = Vec::with_capacity(batches.len());
    for batch in &batches {
        let mut of_batch = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let columns = definition.primary.iter().zip(batch.columns());
            let key = columns.map(|(at, array)| {
                let kind = definition.type_of(*at);
                let kind = kind.ok_or_else(|| SqlError::new(code::INTERNAL, "no such column"))?;
                value_at(array.as_ref(), row, kind)
            });
            let key = key.collect::<Result<Vec<Value>, SqlError>>()?;
            let key = kanjo_types::row::row_key(relation.record.number, key.iter());
            of_batch.push(key.ok_or_else(|| SqlError::new(code::INTERNAL, "a row without key"))?);
        }
        keys.push(of_batch);
    }
    Ok(Found { batches, keys })
}
