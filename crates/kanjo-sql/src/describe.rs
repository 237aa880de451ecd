//! What a prepared change takes and gives back: types of its parameters, columns of its answer.

use crate::change::{folded, pay, returning, split};
use crate::define::Relation;
use crate::encode;
use crate::engine::Engine;
use crate::error::SqlError;
use crate::params;
use crate::tables::cells;
use crate::tables::scan::Scope;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::MemTable;
use datafusion::sql::sqlparser::ast::{
    Assignment, AssignmentTarget, BinaryOperator, Expr, FromTable, ObjectName, OnConflictAction,
    OnInsert, SelectItem, SetExpr, Statement, TableFactor, TableObject, TableWithJoins, Visit as _,
    Visitor,
};
use kanjo_types::relation::ColumnType;
use pgwire::api::Type;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Most parameters, as in PostgreSQL's protocol.
const PARAMETERS_MAX: usize = 65_535;

/// Types of parameters by their number, as far as columns tell.
type Found = BTreeMap<usize, Type>;

/// Types of the parameters of a change, and the columns that it answers with.
pub(crate) async fn change(
    engine: &Engine,
    scope: &Arc<Scope>,
    statement: &Statement,
) -> Result<(Vec<Type>, Option<SchemaRef>), SqlError> {
    let target = target(scope, statement);
    let mut found = Found::new();
    if let Some((relation, _)) = &target {
        found = from_columns(relation, statement);
    }
    let count = count(statement);
    if count > PARAMETERS_MAX {
        return Err(SqlError::new(crate::error::code::LIMIT_EXCEEDED, "too many parameters"));
    }
    let fallback = planned(engine, scope, statement).await?;
    let types = (1..=count).map(|number| {
        let known = found.remove(&number).or_else(|| fallback.get(&number).cloned());
        known.unwrap_or(Type::TEXT)
    });
    let types = types.collect();
    if pay::pays(statement) {
        return Ok((types, Some(pay::schema())));
    }
    let returned = match (returning_of(statement), &target) {
        (Some(items), Some((relation, alias))) => {
            Some(schema(engine, scope, relation, alias, items).await?)
        }
        _ => None,
    };
    Ok((types, returned))
}

/// Types of the parameters of the query inside of a change: of the arguments of payments, or of
/// what is inserted.
async fn planned(
    engine: &Engine,
    scope: &Arc<Scope>,
    statement: &Statement,
) -> Result<Found, SqlError> {
    let mut found = Found::new();
    let query = match statement {
        _ if pay::pays(statement) => {
            let (query, arguments) = pay::arguments_of(statement)?;
            if let Some(number) = arguments.get(3).and_then(params::number) {
                found.insert(number, Type::NUMERIC);
            }
            query
        }
        Statement::Insert(insert) => match &insert.source {
            Some(query) if !matches!(query.body.as_ref(), SetExpr::Values(_)) => {
                Statement::Query(query.clone())
            }
            _ => return Ok(found),
        },
        _ => return Ok(found),
    };
    let plan = engine.plan(scope, query).await?;
    for (name, of) in plan.get_parameter_types()? {
        let number = name.strip_prefix('$').and_then(|number| number.parse().ok());
        if let (Some(number), Some(of)) = (number, of) {
            found.entry(number).or_insert_with(|| encode::wire_type(&of));
        }
    }
    Ok(found)
}

/// The highest number of a parameter.
fn count(statement: &Statement) -> usize {
    struct Highest(usize);
    impl Visitor for Highest {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            self.0 = self.0.max(params::number(expr).unwrap_or(0));
            ControlFlow::Continue(())
        }
    }
    let mut highest = Highest(0);
    let _ = statement.visit(&mut highest);
    highest.0
}

/// The table that a change is of, and what it is called in the statement.
fn target(scope: &Scope, statement: &Statement) -> Option<(Arc<Relation>, String)> {
    let find = |name: &ObjectName, alias: Option<String>| {
        let (schema, name) = split(name).ok()?;
        let relation = scope.catalog.table(&schema, &name).ok()?;
        Some((Arc::clone(relation), alias.unwrap_or(name)))
    };
    let of_table = |table: &TableWithJoins| match &table.relation {
        TableFactor::Table { name, alias, .. } => {
            find(name, alias.as_ref().map(|alias| folded(&alias.name)))
        }
        _ => None,
    };
    match statement {
        Statement::Insert(insert) => match &insert.table {
            TableObject::TableName(name) => {
                find(name, insert.table_alias.as_ref().map(|alias| folded(&alias.alias)))
            }
            _ => None,
        },
        Statement::Update(update) => of_table(&update.table),
        Statement::Delete(delete) => {
            let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
            from.first().and_then(of_table)
        }
        _ => None,
    }
}

fn returning_of(statement: &Statement) -> Option<&[SelectItem]> {
    match statement {
        Statement::Insert(insert) => insert.returning.as_deref(),
        Statement::Update(update) => update.returning.as_deref(),
        Statement::Delete(delete) => delete.returning.as_deref(),
        _ => None,
    }
}

async fn schema(
    engine: &Engine,
    scope: &Arc<Scope>,
    relation: &Relation,
    alias: &str,
    items: &[SelectItem],
) -> Result<SchemaRef, SqlError> {
    let mut scope = scope.as_ref().clone();
    if let Some(definition) = relation.record.table() {
        let empty = MemTable::try_new(cells::schema(definition), vec![vec![]])?;
        scope.brought.insert(returning::WRITTEN.to_owned(), Arc::new(empty));
    }
    let plan = engine.plan(&Arc::new(scope), returning::query(alias, items)?).await?;
    Ok(Arc::new(plan.schema().as_arrow().clone()))
}

/// Parameters that stand for a column: values of INSERT, of SET, and what columns are compared
/// with.
fn from_columns(relation: &Relation, statement: &Statement) -> Found {
    let Some(definition) = relation.record.table() else { return Found::new() };
    let kind = |name: &str| {
        definition.columns.iter().find(|column| column.name == name).map(|column| column.kind)
    };
    let mut found = Found::new();
    let mut note = |expr: &Expr, of: Option<ColumnType>| {
        if let (Some(number), Some(of)) = (params::number(expr), of) {
            found.insert(number, encode::type_of_column(of));
        }
    };
    let sets = |assignments: &[Assignment], note: &mut dyn FnMut(&Expr, Option<ColumnType>)| {
        for assignment in assignments {
            match (&assignment.target, &assignment.value) {
                (AssignmentTarget::ColumnName(name), value) => {
                    note(value, split(name).ok().and_then(|(_, name)| kind(&name)));
                }
                (AssignmentTarget::Tuple(names), Expr::Tuple(values)) => {
                    for (name, value) in names.iter().zip(values) {
                        note(value, split(name).ok().and_then(|(_, name)| kind(&name)));
                    }
                }
                _ => {}
            }
        }
    };
    match statement {
        Statement::Insert(insert) => {
            let names: Vec<String> = match insert.columns.is_empty() {
                true => definition.columns.iter().map(|column| column.name.clone()).collect(),
                false => insert
                    .columns
                    .iter()
                    .map(|name| split(name).map_or_else(|_| String::new(), |(_, name)| name))
                    .collect(),
            };
            let body = insert.source.as_ref().map(|query| query.body.as_ref());
            let rows: Vec<&[Expr]> = match body {
                Some(SetExpr::Values(values)) => {
                    values.rows.iter().map(|row| row.content.as_slice()).collect()
                }
                _ => Vec::new(),
            };
            for row in rows {
                row.iter().zip(&names).for_each(|(expr, name)| note(expr, kind(name)));
            }
            if let Some(SetExpr::Select(select)) = body {
                for (item, name) in select.projection.iter().zip(&names) {
                    if let SelectItem::UnnamedExpr(expr) = item {
                        note(expr, kind(name));
                    }
                }
            }
            if let Some(OnInsert::OnConflict(on)) = &insert.on
                && let OnConflictAction::DoUpdate(update) = &on.action
            {
                sets(&update.assignments, &mut note);
            }
        }
        Statement::Update(update) => sets(&update.assignments, &mut note),
        _ => {}
    }
    compared(statement, &kind, &mut found);
    found
}

/// Parameters that columns are compared with.
fn compared(statement: &Statement, kind: &dyn Fn(&str) -> Option<ColumnType>, found: &mut Found) {
    struct Compared<'a> {
        kind: &'a dyn Fn(&str) -> Option<ColumnType>,
        found: &'a mut Found,
    }
    impl Compared<'_> {
        fn of(&self, expr: &Expr) -> Option<ColumnType> {
            match expr {
                Expr::Identifier(ident) => (self.kind)(&folded(ident)),
                Expr::CompoundIdentifier(parts) => (self.kind)(&folded(parts.last()?)),
                Expr::Nested(inner) => self.of(inner),
                _ => None,
            }
        }

        fn note(&mut self, expr: &Expr, of: Option<ColumnType>) {
            if let (Some(number), Some(of)) = (params::number(expr), of) {
                self.found.entry(number).or_insert_with(|| encode::type_of_column(of));
            }
        }
    }
    impl Visitor for Compared<'_> {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::BinaryOp { left, op, right } if is_of_one_type(op) => {
                    let (of_left, of_right) = (self.of(left), self.of(right));
                    self.note(right, of_left);
                    self.note(left, of_right);
                }
                Expr::InList { expr, list, .. } => {
                    let of = self.of(expr);
                    list.iter().for_each(|item| self.note(item, of));
                }
                Expr::Between { expr, low, high, .. } => {
                    let of = self.of(expr);
                    self.note(low, of);
                    self.note(high, of);
                }
                _ => {}
            }
            ControlFlow::Continue(())
        }
    }
    let _ = statement.visit(&mut Compared { kind, found });
}

fn is_of_one_type(op: &BinaryOperator) -> bool {
    use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, Minus, Multiply, NotEq, Plus};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | Plus | Minus | Multiply)
}
