//! INSERT … ON CONFLICT.

use super::row::{described, key_of};
use super::update::{Assignments, assigned, assignments};
use super::{Work, column, column_of, definition, folded, named, parsed, query, quoted, split};
use crate::define::Relation;
use crate::error::{SqlError, code};
use crate::tables::cells::{self, value_at};
use crate::tables::relation::{Rows, batch};
use datafusion::arrow::array::AsArray as _;
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::sql::sqlparser::ast::{ConflictTarget, Expr, OnConflict, OnConflictAction};
use kanjo_types::record::RowKey;
use kanjo_types::relation::Constraint;
use kanjo_types::row::{Value, ordered_key};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The column that pairs a row with the one in its way.
const PAIR: &str = "kanjo_pair";
/// Rows that are there, and those that were to come.
const THERE: &str = "kanjo_there";
const NEW: &str = "kanjo_new";

/// What ON CONFLICT says.
pub(super) struct Plan {
    /// Keys that are looked at: columns of the primary key, or of a unique constraint.
    keys: Vec<Vec<u16>>,
    update: Option<(Assignments, Option<Expr>)>,
}

impl Plan {
    pub(super) fn new(relation: &Relation, on: &OnConflict) -> Result<Self, SqlError> {
        let definition = definition(relation)?;
        let unique = definition.constraints.iter().filter_map(|constraint| match constraint {
            Constraint::Unique { name, columns, .. } => Some((name.as_str(), columns.clone())),
            _ => None,
        });
        let primary = format!("{}_pkey", relation.record.name);
        let all = std::iter::once((primary.as_str(), definition.primary.clone())).chain(unique);
        let keys: Vec<Vec<u16>> = match &on.conflict_target {
            None => all.map(|(_, columns)| columns).collect(),
            Some(ConflictTarget::Columns(names)) => {
                let wanted = names.iter().map(|name| column(relation, &folded(name)));
                let wanted: BTreeSet<u16> = wanted.collect::<Result<_, SqlError>>()?;
                let fits = |columns: &Vec<u16>| {
                    columns.iter().copied().collect::<BTreeSet<u16>>() == wanted
                };
                all.map(|(_, columns)| columns).find(fits).into_iter().collect()
            }
            Some(ConflictTarget::OnConstraint(name)) => {
                let wanted = split(name)?.1;
                all.filter(|(name, _)| *name == wanted)
                    .map(|(_, columns)| columns)
                    .take(1)
                    .collect()
            }
        };
        if keys.is_empty() {
            let message =
                "there is no unique or exclusion constraint matching the ON CONFLICT specification";
            return Err(SqlError::new("42P10", message));
        }
        let update = match &on.action {
            OnConflictAction::DoNothing => None,
            OnConflictAction::DoUpdate(_) if on.conflict_target.is_none() => {
                let message =
                    "ON CONFLICT DO UPDATE requires inference specification or constraint name";
                return Err(SqlError::new(code::SYNTAX, message));
            }
            OnConflictAction::DoUpdate(update) => {
                Some((assignments(relation, &update.assignments)?, update.selection.clone()))
            }
        };
        Ok(Self { keys, update })
    }
}

/// Which row has which values of a key; made when it is asked for first.
struct Taken<'a> {
    columns: &'a [u16],
    rows: Option<BTreeMap<Vec<u8>, RowKey>>,
}

impl Taken<'_> {
    /// The row that is in the way of one with these values.
    fn find(
        &mut self,
        work: &Work<'_>,
        relation: &Relation,
        values: &[Value],
    ) -> Result<Option<RowKey>, SqlError> {
        let definition = definition(relation)?;
        if definition.primary == self.columns {
            let key = key_of(relation, values)?;
            if let Some(reads) = &work.scope.reads {
                reads.lock().range(relation.record.number, key, key);
            }
            return Ok(work.there(key)?.1.map(|_| key));
        }
        let Some(wanted) = ordered_key(definition.values(values, self.columns)) else {
            return Ok(None);
        };
        if self.rows.is_none() {
            self.rows = Some(all(work, relation, self.columns)?);
        }
        Ok(self.rows.as_ref().and_then(|rows| rows.get(&wanted)).copied())
    }

    fn add(&mut self, relation: &Relation, values: &[Value], key: RowKey) -> Result<(), SqlError> {
        if let Some(rows) = &mut self.rows
            && let Some(wanted) = ordered_key(definition(relation)?.values(values, self.columns))
        {
            rows.insert(wanted, key);
        }
        Ok(())
    }
}

/// All rows of a table by the values of a key.
fn all(
    work: &Work<'_>,
    relation: &Relation,
    columns: &[u16],
) -> Result<BTreeMap<Vec<u8>, RowKey>, SqlError> {
    let definition = definition(relation)?;
    let mut scope = work.scope.as_ref().clone();
    scope.drafts = Arc::clone(&work.drafts);
    let mut rows = Rows::all(Arc::new(scope), relation.record.number);
    let mut found = BTreeMap::new();
    loop {
        let (some, more) = rows.next()?;
        found.extend(some.into_iter().filter_map(|(key, _, values)| {
            Some((ordered_key(definition.values(&values, columns))?, key))
        }));
        if !more {
            return Ok(found);
        }
    }
}

/// Inserts what can be, and changes what is in the way; the rows as they are then, and how many.
pub(super) async fn insert(
    work: &mut Work<'_>,
    relation: &Relation,
    alias: &str,
    plan: &Plan,
    rows: Vec<Vec<Value>>,
) -> Result<(Vec<Arc<Vec<Value>>>, usize), SqlError> {
    let mut taken: Vec<Taken<'_>> =
        plan.keys.iter().map(|columns| Taken { columns, rows: None }).collect();
    let mut written = Vec::with_capacity(rows.len());
    let mut pairs: Vec<(RowKey, Arc<Vec<Value>>)> = Vec::new();
    let mut own: BTreeSet<RowKey> = BTreeSet::new();
    for values in rows {
        let values = Arc::new(values);
        work.check(relation, &values)?;
        let mut in_the_way = None;
        for key in &mut taken {
            in_the_way = in_the_way.or(key.find(work, relation, &values)?);
        }
        match in_the_way {
            None => {
                work.put_new(relation, Arc::clone(&values))?;
                let key = key_of(relation, &values)?;
                own.insert(key);
                for of in &mut taken {
                    of.add(relation, &values, key)?;
                }
                written.push(values);
            }
            Some(_) if plan.update.is_none() => {}
            Some(key) => {
                if !own.insert(key) {
                    let message = "ON CONFLICT DO UPDATE command cannot affect row a second time";
                    let definition = definition(relation)?;
                    let detail = described(definition, &definition.primary, &values);
                    return Err(SqlError::new("21000", message).detail(detail));
                }
                pairs.push((key, values));
            }
        }
    }
    if let Some((set, selection)) = &plan.update
        && !pairs.is_empty()
    {
        written.extend(update(work, relation, alias, (set, selection.as_ref()), &pairs).await?);
    }
    let count = written.len();
    Ok((written, count))
}

/// A table of rows with their pair's number in front.
fn numbered(
    relation: &Relation,
    rows: &[Arc<Vec<Value>>],
) -> Result<Arc<dyn TableProvider>, SqlError> {
    let definition = definition(relation)?;
    let schema = cells::schema(definition);
    let columns: Vec<usize> = (0..definition.columns.len()).collect();
    let plain = batch(&schema, definition, &columns, rows.iter().map(|values| values.as_slice()))?;
    let mut fields = vec![Field::new(PAIR, DataType::Int64, false)];
    fields.extend(schema.fields().iter().map(|field| field.as_ref().clone()));
    let schema = Arc::new(Schema::new(fields));
    let numbers: Int64Array = (0i64..).take(rows.len()).collect::<Vec<i64>>().into();
    let mut arrays: Vec<ArrayRef> = vec![Arc::new(numbers)];
    arrays.extend(plain.columns().iter().cloned());
    let rows = RecordBatch::try_new(Arc::clone(&schema), arrays)?;
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![rows]])?))
}

async fn update(
    work: &mut Work<'_>,
    relation: &Relation,
    alias: &str,
    (set, selection): (&Assignments, Option<&Expr>),
    pairs: &[(RowKey, Arc<Vec<Value>>)],
) -> Result<Vec<Arc<Vec<Value>>>, SqlError> {
    let mut old = Vec::with_capacity(pairs.len());
    for (key, _) in pairs {
        old.push(work.there(*key)?.1.unwrap_or_default());
    }
    let new: Vec<Arc<Vec<Value>>> = pairs.iter().map(|(_, values)| Arc::clone(values)).collect();
    let mut scope = work.scope.as_ref().clone();
    scope.drafts = Arc::clone(&work.drafts);
    // Under names of their own, so that sub-queries find the tables that they name.
    scope.brought.insert(THERE.to_owned(), numbered(relation, &old)?);
    scope.brought.insert(NEW.to_owned(), numbered(relation, &new)?);
    let (name, pair) = (quoted(alias), quoted(PAIR));
    let mut select = parsed(&format!(
        "SELECT 1 FROM {THERE} AS {name} JOIN {NEW} AS \"excluded\" ON {name}.{pair} = \"excluded\".{pair}"
    ))?;
    // A bare name means the row that is there, not the one that was to come.
    let exprs = set.iter().filter_map(|(_, expr)| expr.as_ref());
    let exprs = exprs.map(|expr| qualified(expr, relation, alias));
    let items = std::iter::once(column_of(alias, PAIR)).chain(exprs);
    select.projection = named(items);
    select.selection = selection.map(|selection| qualified(selection, relation, alias));
    let batches = work.engine.gather(&Arc::new(scope), query(select)?).await?;
    let mut changes = Vec::new();
    for batch in &batches {
        let numbers =
            batch.columns().first().and_then(|array| array.as_primitive_opt::<Int64Type>());
        let numbers =
            numbers.ok_or_else(|| SqlError::new(code::INTERNAL, "pairs have no numbers"))?;
        for row in 0..batch.num_rows() {
            let number = usize::try_from(numbers.value(row)).unwrap_or(usize::MAX);
            let pair = pairs.get(number).zip(old.get(number));
            let ((key, _), old) =
                pair.ok_or_else(|| SqlError::new(code::INTERNAL, "no such pair"))?;
            let values = assigned(work, relation, old, set, |position, column| {
                let array = batch.columns().get(1 + position);
                let array =
                    array.ok_or_else(|| SqlError::new(code::INTERNAL, "a value is missing"))?;
                value_at(array.as_ref(), row, column.kind)
            })?;
            changes.push((*key, Arc::new(values)));
        }
    }
    let mut written = Vec::with_capacity(changes.len());
    for (key, values) in changes {
        work.check(relation, &values)?;
        if key_of(relation, &values)? != key {
            return Err(SqlError::not_supported("ON CONFLICT DO UPDATE of the primary key"));
        }
        let (before, _) = work.there(key)?;
        work.put(relation, key, before, Some(Arc::clone(&values)))?;
        written.push(values);
    }
    Ok(written)
}

/// Names of columns without a table belong to the table that is inserted into.
fn qualified(expr: &Expr, relation: &Relation, alias: &str) -> Expr {
    use datafusion::sql::sqlparser::ast::{Ident, Query, VisitMut as _, VisitorMut};
    use std::ops::ControlFlow;
    /// Columns, the table's name, and how many sub-queries deep.
    struct Qualify<'a>(&'a [kanjo_types::relation::Column], &'a str, usize);
    impl VisitorMut for Qualify<'_> {
        type Break = ();
        fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
            self.2 += 1;
            ControlFlow::Continue(())
        }
        fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
            self.2 = self.2.saturating_sub(1);
            ControlFlow::Continue(())
        }
        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Expr::Identifier(ident) = expr
                && self.2 == 0
                && self.0.iter().any(|column| column.name == folded(ident))
            {
                let alias = Ident::with_quote('"', self.1);
                *expr = Expr::CompoundIdentifier(vec![alias, ident.clone()]);
            }
            ControlFlow::Continue(())
        }
    }
    let mut expr = expr.clone();
    let columns = relation.record.table().map_or(&[][..], |definition| &definition.columns);
    let _ = expr.visit(&mut Qualify(columns, alias, 0));
    expr
}
