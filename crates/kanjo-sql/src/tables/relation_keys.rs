//! Conditions on the primary key of a table of users, as ranges of row keys.

use super::cells::value_of_scalar;
use super::keys::{Range, column_of, literal_of};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use kanjo_types::RelationId;
use kanjo_types::relation::{Column, Definition};
use kanjo_types::row::{Value, key_bounds, relation_bounds, row_key};

/// Most ranges that one statement is cut into; beyond, the table is read from end to end.
const RANGES_MAX: usize = 1_024;

/// What conditions say of a column.
#[derive(Debug, Default, Clone)]
struct Said {
    /// It is one of these.
    one_of: Option<Vec<Value>>,
    /// It is at least this.
    from: Option<Value>,
    /// It is at most this.
    to: Option<Value>,
}

/// Does a condition narrow the range of keys? Every row is compared again, so what is found here
/// may be too wide.
pub(crate) fn is_about_key(filter: &Expr, definition: &Definition) -> bool {
    definition.primary.iter().any(|at| {
        let column = definition.columns.get(usize::from(*at));
        column.is_some_and(|column| said(filter, column).is_some())
    })
}

/// Ranges that hold all rows which fit the conditions.
pub(crate) fn ranges(
    relation: RelationId,
    definition: &Definition,
    filters: &[Expr],
) -> Vec<Range> {
    let whole = || vec![relation_bounds(relation)];
    let mut prefixes: Vec<Vec<Value>> = vec![Vec::new()];
    for (position, at) in definition.primary.iter().enumerate() {
        let Some(column) = definition.columns.get(usize::from(*at)) else { return whole() };
        let all = filters.iter().filter_map(|filter| said(filter, column));
        let said = all.fold(Said::default(), |known, said| Said {
            one_of: known.one_of.or(said.one_of),
            from: known.from.or(said.from),
            to: known.to.or(said.to),
        });
        if let Some(values) = said.one_of {
            if prefixes.len().saturating_mul(values.len()) > RANGES_MAX {
                return bounded(relation, &prefixes, None, None).unwrap_or_else(whole);
            }
            prefixes = prefixes
                .iter()
                .flat_map(|prefix| {
                    values
                        .iter()
                        .map(move |value| [&prefix[..], std::slice::from_ref(value)].concat())
                })
                .collect();
            if position + 1 == definition.primary.len() {
                return exact(relation, &prefixes);
            }
            continue;
        }
        return bounded(relation, &prefixes, said.from, said.to).unwrap_or_else(whole);
    }
    whole()
}

/// Whole keys. One that can't be a key has no row.
fn exact(relation: RelationId, keys: &[Vec<Value>]) -> Vec<Range> {
    let found = keys.iter().filter_map(|key| row_key(relation, key.iter()));
    let mut ranges: Vec<Range> = found.map(|key| (key, key)).collect();
    ranges.sort_unstable();
    ranges.dedup();
    ranges
}

/// Beginnings of keys, and bounds of the column behind them.
fn bounded(
    relation: RelationId,
    prefixes: &[Vec<Value>],
    from: Option<Value>,
    to: Option<Value>,
) -> Option<Vec<Range>> {
    let mut ranges = Vec::with_capacity(prefixes.len());
    for prefix in prefixes {
        let with = |value: &Option<Value>| {
            let more = value.iter().cloned();
            prefix.iter().cloned().chain(more).collect::<Vec<Value>>()
        };
        // A null in it: no row is equal to that.
        if let Some((from, to)) = key_bounds(relation, &with(&from), &with(&to))
            && from <= to
        {
            ranges.push((from, to));
        }
    }
    ranges.sort_unstable();
    let mut apart: Vec<Range> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match apart.last_mut() {
            Some((_, end)) if range.0 <= *end => *end = (*end).max(range.1),
            _ => apart.push(range),
        }
    }
    Some(apart)
}

/// What a condition says of a column, if it is about that alone.
fn said(filter: &Expr, column: &Column) -> Option<Said> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let (left, right) = (said(left, column)?.one_of?, said(right, column)?.one_of?);
            Some(Said { one_of: Some([left, right].concat()), ..Said::default() })
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (name, op, literal) = match (column_of(left), literal_of(right)) {
                (Some(name), Some(literal)) => (name, *op, literal),
                _ => (column_of(right)?, op.swap()?, literal_of(left)?),
            };
            if name.name != column.name {
                return None;
            }
            let value = value_of_scalar(literal, column.kind).ok()?;
            match op {
                Operator::Eq => Some(Said { one_of: Some(vec![value]), ..Said::default() }),
                Operator::Gt | Operator::GtEq => {
                    Some(Said { from: Some(value), ..Said::default() })
                }
                Operator::Lt | Operator::LtEq => Some(Said { to: Some(value), ..Said::default() }),
                _ => None,
            }
        }
        Expr::InList(list) if !list.negated => {
            if column_of(&list.expr)?.name != column.name {
                return None;
            }
            let literals = list.list.iter().map(|item| {
                literal_of(item).and_then(|literal| value_of_scalar(literal, column.kind).ok())
            });
            Some(Said { one_of: Some(literals.collect::<Option<_>>()?), ..Said::default() })
        }
        _ => None,
    }
}
