//! Rows by primary key, past the planner: `SELECT columns FROM table WHERE key = value` (design
//! section 7).
//!
//! A shortcut is taken when it is known to give what the engine would: every column of the key is
//! compared with one value of exactly its type, and nothing is computed.

use crate::error::SqlError;
use crate::tables::RowProvider;
use crate::tables::cells::value_of_scalar;
use crate::tables::relation::{RelationProvider, batch, row_of};
use crate::tables::scan::Scope;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator};
use kanjo_types::row::{Value, row_key};
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A query for one row by its key.
pub(crate) struct Shortcut {
    provider: Arc<dyn TableProvider>,
    /// Columns of the key, and what they are compared with.
    key: BTreeMap<String, Expr>,
    /// Columns that are asked for.
    columns: Vec<usize>,
    schema: SchemaRef,
}

impl Shortcut {
    /// The shortcut for a plan that is one.
    pub(crate) fn of(plan: &LogicalPlan) -> Option<Self> {
        let LogicalPlan::Projection(projection) = plan else { return None };
        let LogicalPlan::Filter(filter) = projection.input.as_ref() else { return None };
        let mut input = filter.input.as_ref();
        if let LogicalPlan::SubqueryAlias(alias) = input {
            input = alias.input.as_ref();
        }
        let LogicalPlan::TableScan(scan) = input else { return None };
        if !scan.filters.is_empty() || scan.fetch.is_some() || scan.projection.is_some() {
            return None;
        }
        let provider = source_as_provider(&scan.source).ok()?;
        let names = provider.schema();
        let columns = projection.expr.iter().map(|expr| match expr {
            Expr::Column(column) => names.index_of(&column.name).ok(),
            Expr::Alias(alias) => match alias.expr.as_ref() {
                Expr::Column(column) => names.index_of(&column.name).ok(),
                _ => None,
            },
            _ => None,
        });
        let columns = columns.collect::<Option<Vec<usize>>>()?;
        let mut key = BTreeMap::new();
        for condition in split_conjunction(&filter.predicate) {
            let (column, value) = compared(condition)?;
            if key.insert(column, value).is_some() {
                return None;
            }
        }
        let schema = Arc::new(names.project(&columns).ok()?);
        let of_key = key_columns(provider.as_ref())?;
        let whole = of_key.len() == key.len() && of_key.iter().all(|name| key.contains_key(name));
        whole.then_some(Self { provider, key, columns, schema })
    }

    /// The row, or none. `None`: ask the engine.
    pub(crate) fn read(
        &self,
        scope: &Arc<Scope>,
        parameters: &[ScalarValue],
    ) -> Result<Option<RecordBatch>, SqlError> {
        let empty = || Ok(Some(RecordBatch::new_empty(Arc::clone(&self.schema))));
        let mut key = BTreeMap::new();
        for (name, value) in &self.key {
            let Some(value) = literal(value, parameters) else { return Ok(None) };
            let of_column = self.provider.schema();
            let Ok(field) = of_column.field_with_name(name) else { return Ok(None) };
            if !agree(&value.data_type(), field.data_type()) {
                return Ok(None);
            }
            if value.is_null() {
                return empty();
            }
            key.insert(name.as_str(), value);
        }
        let provider = self.provider.as_ref() as &dyn Any;
        if let Some(table) = provider.downcast_ref::<RowProvider>() {
            return table.by_key(scope, &key, &self.columns, &self.schema);
        }
        let Some(table) = provider.downcast_ref::<RelationProvider>() else { return Ok(None) };
        let record = &table.relation.record;
        let Some(definition) = record.table() else { return Ok(None) };
        let mut values: Vec<Value> = Vec::with_capacity(key.len());
        for at in &definition.primary {
            let column = definition.columns.get(usize::from(*at));
            let Some(column) = column else { return Ok(None) };
            let value = key.get(column.name.as_str());
            let value = value.and_then(|value| value_of_scalar(value, column.kind).ok());
            let Some(value) = value else { return Ok(None) };
            values.push(value);
        }
        let Some(place) = row_key(record.number, values.iter()) else { return empty() };
        if let Some(reads) = &scope.reads {
            reads.lock().range(record.number, place, place);
        }
        let (_, found) = row_of(&scope.snapshot, &scope.drafts, place)?;
        let found = found.iter().map(|values| values.as_slice());
        batch(&self.schema, definition, &self.columns, found).map(Some)
    }
}

/// Does a value of one type mean the same in a column of the other? Drivers send all integers in
/// one.
fn agree(value: &DataType, column: &DataType) -> bool {
    value == column || value.is_signed_integer() && column.is_signed_integer()
}

/// A column and a value that it is equal to.
fn compared(condition: &Expr) -> Option<(String, Expr)> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else {
        return None;
    };
    match (left.as_ref(), right.as_ref()) {
        (Expr::Column(column), value @ (Expr::Literal(..) | Expr::Placeholder(_)))
        | (value @ (Expr::Literal(..) | Expr::Placeholder(_)), Expr::Column(column)) => {
            Some((column.name.clone(), value.clone()))
        }
        _ => None,
    }
}

fn literal<'a>(value: &'a Expr, parameters: &'a [ScalarValue]) -> Option<&'a ScalarValue> {
    match value {
        Expr::Literal(value, _) => Some(value),
        Expr::Placeholder(placeholder) => {
            let number: usize = placeholder.id.strip_prefix('$')?.parse().ok()?;
            parameters.get(number.checked_sub(1)?)
        }
        _ => None,
    }
}

/// Names of the columns that make up a table's key.
fn key_columns(provider: &dyn TableProvider) -> Option<Vec<String>> {
    let provider = provider as &dyn Any;
    if let Some(table) = provider.downcast_ref::<RowProvider>() {
        return Some(table.key_columns());
    }
    let definition = provider.downcast_ref::<RelationProvider>()?.relation.record.table()?;
    let names = definition
        .primary
        .iter()
        .map(|at| definition.columns.get(usize::from(*at)).map(|column| column.name.clone()));
    names.collect()
}
