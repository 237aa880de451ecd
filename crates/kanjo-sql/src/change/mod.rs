//! INSERT, UPDATE, DELETE and TRUNCATE, planned to drafts of rows.
//!
//! The relational part (what to insert, which rows fit, new values) is a query that the engine runs
//! on the transaction's snapshot and drafts. What comes of it is checked here as the ledger will
//! check it again: types, NOT NULL, CHECK, primary key. Unique constraints and foreign keys are the
//! ledger's, when the transaction commits.

mod conflict;
pub(crate) mod copied;
mod delete;
mod follow;
mod identity;
mod insert;
pub(crate) mod pay;
pub(crate) mod returning;
pub(crate) mod row;
mod update;

pub(crate) use identity::Numbers;

use crate::catalog::permit;
use crate::define::Relation;
use crate::engine::Engine;
use crate::error::{SqlError, code};
use crate::tables::scan::Scope;
use crate::transaction::Drafts;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectName, ObjectNamePart, Select, SelectItem, SetExpr, Statement,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use kanjo_ledger::expression::Given;
use kanjo_types::UserId;
use kanjo_types::relation::Definition;
use std::sync::Arc;

/// What a statement did.
pub(crate) struct Outcome {
    /// The words of its tag before the count.
    pub tag: &'static str,
    pub rows: usize,
    pub returned: Option<Returned>,
    /// Did the node number rows? Then a key that is taken is no fault of the statement.
    pub numbered: bool,
}

/// Rows of RETURNING.
pub(crate) struct Returned {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
}

/// Who writes, and when.
pub(crate) struct Author {
    pub user: UserId,
    /// Microseconds since 1970-01-01 UTC: the same for a whole transaction.
    pub now: i64,
}

/// What a statement works with: the engine, what it reads, who it is.
pub(crate) struct Work<'a> {
    pub engine: &'a Engine,
    pub scope: Arc<Scope>,
    pub author: &'a Author,
    /// What the transaction has changed, this statement included.
    pub drafts: Arc<Drafts>,
}

/// Plans a statement that changes rows.
pub(crate) async fn change(work: &mut Work<'_>, statement: Statement) -> Result<Outcome, SqlError> {
    match statement {
        Statement::Insert(insert) => insert::insert(work, insert).await,
        Statement::Update(update) => update::update(work, update).await,
        Statement::Delete(delete) => delete::delete(work, delete).await,
        Statement::Truncate(truncate) => delete::truncate(work, &truncate),
        _ => Err(SqlError::new(code::INTERNAL, "a change that is none")),
    }
}

impl Work<'_> {
    /// The table with a name, which the author may change in this way.
    fn table(&self, name: &ObjectName, rights: u8) -> Result<Arc<Relation>, SqlError> {
        let (schema, name) = split(name)?;
        if schema == "public" && crate::define::RESERVED_TABLES.contains(&name.as_str()) {
            let message = format!("\"{name}\" is the ledger's own and can't be changed row by row");
            let hint = "pay with SELECT kanjo.pay(from, to, token, amount); the other changes are commands of 'kanjo'";
            return Err(SqlError::new(code::NOT_PERMITTED, message).hint(hint));
        }
        let relation = self.scope.catalog.table(&schema, &name)?;
        permit(&relation.record, Some(self.author.user), rights)?;
        Ok(Arc::clone(relation))
    }

    /// What defaults are given.
    fn given(&self) -> Result<Given, SqlError> {
        let mut uuid = [0; 16];
        getrandom::fill(&mut uuid)
            .map_err(|error| SqlError::new(code::IO, format!("no randomness: {error}")))?;
        // RFC 9562, version 4.
        let [_, _, _, _, _, _, version, _, variant, ..] = &mut uuid;
        *version = (*version & 0x0f) | 0x40;
        *variant = (*variant & 0x3f) | 0x80;
        Ok(Given { now: self.author.now, uuid, user: self.author.user.to_string() })
    }

    /// Lets go of what was read, so that the drafts can be changed in place.
    fn drafts(&mut self) -> &mut Drafts {
        if let Some(scope) = Arc::get_mut(&mut self.scope) {
            scope.drafts = Arc::default();
        }
        Arc::make_mut(&mut self.drafts)
    }
}

/// Definition of a table that was looked up before.
fn definition(relation: &Relation) -> Result<&Definition, SqlError> {
    let definition = relation.record.table();
    definition.ok_or_else(|| SqlError::new(code::INTERNAL, "a table without a definition"))
}

/// An identifier as PostgreSQL folds it.
pub(crate) fn folded(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

/// Schema and name.
pub(crate) fn split(name: &ObjectName) -> Result<(String, String), SqlError> {
    let parts = name.0.iter().map(|part| match part {
        ObjectNamePart::Identifier(ident) => Ok(folded(ident)),
        ObjectNamePart::Function(_) => Err(SqlError::not_supported("a name that is a function")),
    });
    let mut parts = parts.collect::<Result<Vec<String>, SqlError>>()?;
    if parts.len() == 3 && parts.first().is_some_and(|database| database == crate::engine::DATABASE)
    {
        parts.remove(0);
    }
    match parts.as_slice() {
        [name] => Ok(("public".to_owned(), name.clone())),
        [schema, name] => Ok((schema.clone(), name.clone())),
        _ => Err(SqlError::new(code::SYNTAX, format!("\"{name}\" is no name of a table"))),
    }
}

/// An identifier in quotes.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A query whose text is made here, of names only. What a statement brings is put into it as it was
/// parsed: the parser's way of writing values back is not exact.
pub(crate) fn parsed(text: &str) -> Result<Box<Select>, SqlError> {
    let failed = |error: &dyn std::fmt::Display| {
        SqlError::new(code::INTERNAL, format!("a query made of the statement: {error}"))
    };
    let mut statements =
        Parser::parse_sql(&PostgreSqlDialect {}, text).map_err(|error| failed(&error))?;
    match statements.pop() {
        Some(Statement::Query(query)) => match *query.body {
            SetExpr::Select(select) => Ok(select),
            _ => Err(failed(&"no SELECT")),
        },
        _ => Err(failed(&"no query")),
    }
}

/// The statement of a view's text.
pub(crate) fn statement(text: &str) -> Result<Statement, SqlError> {
    let mut statements = Parser::parse_sql(&PostgreSqlDialect {}, text)
        .map_err(|error| SqlError::new(code::SYNTAX, error.to_string()))?;
    statements.pop().ok_or_else(|| SqlError::new(code::SYNTAX, "a view without a query"))
}

/// The statement of a SELECT.
pub(crate) fn query(select: Box<Select>) -> Result<Statement, SqlError> {
    let mut statements = Parser::parse_sql(&PostgreSqlDialect {}, "SELECT 1")
        .map_err(|error| SqlError::new(code::INTERNAL, error.to_string()))?;
    match statements.pop() {
        Some(Statement::Query(mut query)) => {
            *query.body = SetExpr::Select(select);
            Ok(Statement::Query(query))
        }
        _ => Err(SqlError::new(code::INTERNAL, "no query")),
    }
}

/// Expressions with names that differ: the engine wants that of results.
pub(crate) fn named(exprs: impl Iterator<Item = Expr>) -> Vec<SelectItem> {
    let item = |(at, expr)| SelectItem::ExprWithAlias {
        expr,
        alias: Ident::with_quote('"', format!("kanjo_{at}")),
    };
    exprs.enumerate().map(item).collect()
}

/// A column of a table, both in quotes.
pub(crate) fn column_of(table: &str, column: &str) -> Expr {
    Expr::CompoundIdentifier(vec![Ident::with_quote('"', table), Ident::with_quote('"', column)])
}

/// Number of a column.
fn column(relation: &Relation, name: &str) -> Result<u16, SqlError> {
    let columns = &definition(relation)?.columns;
    let found = columns.iter().position(|column| column.name == name);
    found.and_then(|at| u16::try_from(at).ok()).ok_or_else(|| {
        let table = &relation.record.name;
        let message = format!("column \"{name}\" of relation \"{table}\" does not exist");
        let known: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        SqlError::new(code::NO_COLUMN, message).hint(format!("there are: {}", known.join(", ")))
    })
}
