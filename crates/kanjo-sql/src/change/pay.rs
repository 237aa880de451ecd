//! Payments in SQL: `SELECT kanjo.pay(from, to, token, amount [, reference]) [FROM …]`, one for
//! each row. They are part of the transaction: money moves when it commits, with all of its rows or
//! not at all (mission M1).

use super::{Returned, Work, parsed};
use crate::error::{SqlError, code};
use datafusion::arrow::array::{Array, ArrayRef, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, SelectItem, SetExpr, Statement,
};
use kanjo_types::record::{Record, RowKey, Table};
use kanjo_types::relation::ColumnType;
use kanjo_types::row::Value;
use kanjo_types::transaction::Operation;
use kanjo_types::{Amount, TokenId, WalletId};
use kanjo_view::Content;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Is it a call of `kanjo.pay`?
fn is_pay(function: &Function) -> bool {
    function.name.to_string().eq_ignore_ascii_case("kanjo.pay")
}

/// The call that a statement consists of.
fn call(statement: &Statement) -> Option<&Function> {
    match statement {
        Statement::Call(function) if is_pay(function) => Some(function),
        Statement::Query(query) => match query.body.as_ref() {
            SetExpr::Select(select) => match select.projection.as_slice() {
                [
                    SelectItem::UnnamedExpr(Expr::Function(function))
                    | SelectItem::ExprWithAlias { expr: Expr::Function(function), .. },
                ] if is_pay(function) => Some(function),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

/// Does the statement pay?
pub(crate) fn pays(statement: &Statement) -> bool {
    call(statement).is_some()
}

/// The one column that a payment answers with: its number in the transaction.
pub(crate) fn schema() -> Arc<Schema> {
    Arc::new(Schema::new(vec![Field::new("pay", DataType::Int64, false)]))
}

fn arguments(function: &Function) -> Result<Vec<Expr>, SqlError> {
    let wrong = || {
        SqlError::new(code::NO_FUNCTION, "kanjo.pay takes four or five arguments")
            .hint("kanjo.pay(from wallet, to wallet, token, amount [, reference])")
    };
    let FunctionArguments::List(list) = &function.args else { return Err(wrong()) };
    let plain = function.filter.is_none()
        && function.over.is_none()
        && function.null_treatment.is_none()
        && function.within_group.is_empty()
        && list.duplicate_treatment.is_none()
        && list.clauses.is_empty();
    if !plain {
        let error = SqlError::not_supported("FILTER, OVER, DISTINCT and ORDER BY in kanjo.pay");
        return Err(error.hint("choose the rows with WHERE"));
    }
    let given = list.args.iter().map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Ok(expr.clone()),
        _ => Err(wrong()),
    });
    let given = given.collect::<Result<Vec<Expr>, SqlError>>()?;
    if matches!(given.len(), 4 | 5) { Ok(given) } else { Err(wrong()) }
}

/// The same query for the arguments.
fn query(statement: &Statement, arguments: &[Expr]) -> Result<Statement, SqlError> {
    let items = super::named(arguments.iter().cloned());
    let mut statement = statement.clone();
    let Statement::Query(query) = &mut statement else {
        let mut select = parsed("SELECT 1")?;
        select.projection = items;
        return super::query(select);
    };
    if let SetExpr::Select(select) = query.body.as_mut() {
        select.projection = items;
    }
    Ok(statement)
}

/// The query for the arguments of a statement that pays, and the arguments.
pub(crate) fn arguments_of(statement: &Statement) -> Result<(Statement, Vec<Expr>), SqlError> {
    let function = call(statement);
    let function = function.ok_or_else(|| SqlError::new(code::INTERNAL, "no payment"))?;
    let arguments = arguments(function)?;
    Ok((query(statement, &arguments)?, arguments))
}

/// Tokens that a statement has looked up, by what it calls them.
type Tokens = BTreeMap<String, (TokenId, u8)>;

/// Drafts the payments of a statement.
pub(crate) async fn pay(
    work: &mut Work<'_>,
    statement: &Statement,
) -> Result<(Returned, usize), SqlError> {
    let (query, _) = arguments_of(statement)?;
    let batches = work.engine.gather(&work.scope, query).await?;
    let mut numbers = Vec::new();
    let mut tokens = Tokens::new();
    for batch in &batches {
        for row in 0..batch.num_rows() {
            let payment = payment(work, &mut tokens, batch.columns(), row)?;
            let drafts = work.drafts();
            drafts.pay(payment)?;
            numbers.push(i64::try_from(drafts.payments()).unwrap_or(i64::MAX));
        }
    }
    let count = numbers.len();
    let array: ArrayRef = Arc::new(Int64Array::from(numbers));
    let batch = RecordBatch::try_new(schema(), vec![array])?;
    Ok((Returned { schema: schema(), batches: vec![batch] }, count))
}

fn payment(
    work: &Work<'_>,
    tokens: &mut Tokens,
    columns: &[ArrayRef],
    row: usize,
) -> Result<Operation, SqlError> {
    let scalar = |at: usize, name: &str| {
        let array = columns.get(at);
        let array = array.ok_or_else(|| SqlError::new(code::INTERNAL, "an argument is missing"))?;
        if array.is_null(row) {
            let message = format!("kanjo.pay: {name} is null");
            return Err(SqlError::new("22004", message));
        }
        Ok::<ScalarValue, SqlError>(ScalarValue::try_from_array(array, row)?)
    };
    let wallet = |at: usize, name: &str| {
        let text = scalar(at, name)?.to_string();
        text.parse::<WalletId>().map_err(|error| {
            SqlError::new(code::BAD_TEXT, format!("kanjo.pay: {name} '{text}': {error}"))
        })
    };
    let (from, to) = (wallet(0, "the paying wallet")?, wallet(1, "the receiving wallet")?);
    let given = scalar(2, "the token")?;
    let (token, decimals) = match tokens.get(&given.to_string()) {
        Some(known) => *known,
        None => *tokens.entry(given.to_string()).or_insert(token(work, &given)?),
    };
    let kind = ColumnType::Numeric { precision: 38, scale: decimals };
    let given = scalar(3, "the amount")?;
    let amount = crate::tables::cells::value_of_scalar(&given, kind)?;
    let amount = match amount {
        Value::Numeric(units) if units > 0 && is_exact(&given, decimals) => units.unsigned_abs(),
        _ => {
            let message = format!(
                "kanjo.pay: {given} can't be paid: amounts are above zero, with at most {decimals} decimal places"
            );
            return Err(SqlError::new(code::BAD_VALUE, message));
        }
    };
    let reference = match columns.get(4) {
        Some(array) if !array.is_null(row) => ScalarValue::try_from_array(array, row)?.to_string(),
        _ => String::new(),
    };
    Ok(Operation::Transfer { token, from, to, amount: Amount(amount), reference })
}

/// Money is never rounded silently.
fn is_exact(given: &ScalarValue, decimals: u8) -> bool {
    let text = given.to_string();
    if given.try_as_str().is_some()
        && !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return false;
    }
    let number = match given {
        ScalarValue::Decimal128(Some(value), _, places) => Some((value.to_string(), *places)),
        ScalarValue::Decimal256(Some(value), _, places) => Some((value.to_string(), *places)),
        _ => None,
    };
    let fraction = match number {
        Some((digits, places)) => {
            let places = usize::try_from(places).unwrap_or(0);
            let digits = format!("{digits:0>places$}");
            digits.get(digits.len().saturating_sub(places)..).unwrap_or_default().to_owned()
        }
        None => text.split_once('.').map_or(String::new(), |(_, fraction)| fraction.to_owned()),
    };
    fraction.trim_end_matches('0').len() <= usize::from(decimals)
}

/// A token by its symbol or number, and its decimal places.
fn token(work: &Work<'_>, given: &ScalarValue) -> Result<(TokenId, u8), SqlError> {
    let text = given.to_string();
    let number = text.parse::<u32>().ok().filter(|_| given.try_as_str().is_none());
    let mut next = Some(match number {
        Some(number) => Bound::Included(RowKey::token(TokenId(number))),
        None => Bound::Unbounded,
    });
    while let Some(from) = next {
        let (rows, on) = work.scope.snapshot.scan(Table::Tokens, from, RowKey::MAX, 1_024)?;
        next = on;
        for (_, version) in rows {
            let Content::Record(record) = &version.content else { continue };
            let Record::Token(token) = record.as_ref() else { continue };
            if number.map_or(token.symbol == text, |number| token.id.0 == number) {
                return Ok((token.id, token.decimals));
            }
        }
    }
    let message = format!("kanjo.pay: there is no token '{text}'");
    Err(SqlError::new("42704", message).hint("SELECT id, symbol FROM tokens"))
}
