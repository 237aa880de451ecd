//! From text to statements: bounds first, then the parser, then what of it is done here.

use crate::change::{folded, pay};
use crate::error::{SqlError, code};
use crate::limits::Limits;
use crate::{copy, define};
use datafusion::sql::sqlparser::ast::{
    Expr, ObjectName, Query, SetExpr, Statement, TableFactor, TransactionAccessMode,
    TransactionMode, Value, Visit, VisitMut as _, Visitor, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use kanjo_types::{RelationId, UserId};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// A setting that means something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setting {
    Nothing,
    SessionReadOnly(bool),
    TransactionReadOnly,
}

/// What a statement asks for.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    /// Rows.
    Query(Box<Statement>),
    /// The value of a setting.
    Show(String),
    Set(Setting),
    /// Changes rows, defines something, or pays.
    Change(Box<Statement>),
    /// Rows from the client, or to it.
    Copy(Box<copy::Plan>),
    Begin {
        read_only: bool,
    },
    Commit,
    Rollback,
    Savepoint(String),
    RollbackTo(String),
    Release(String),
    /// Forgets what was prepared.
    Discard(&'static str),
}

/// Reads the statements of a text.
pub(crate) fn parse(
    text: &str,
    limits: &Limits,
    compatible: &PostgresCompatibilityParser,
    role: &str,
) -> Result<Vec<Ask>, SqlError> {
    bound(text, limits)?;
    let parsed = Parser::new(&PostgreSqlDialect {})
        .with_recursion_limit(limits.nesting_max)
        .try_with_sql(text)
        .and_then(|mut parser| parser.parse_statements());
    let statements = match parsed {
        Ok(mut statements) if !statements.iter().any(is_about_catalog) => {
            statements.iter_mut().for_each(|statement| name_session(statement, role));
            statements
        }
        Err(ParserError::RecursionLimitExceeded) => return Err(too_deep()),
        // What clients ask the catalog goes through rules that know the ways of those clients.
        Ok(_) => {
            let mut statements = compatible.parse(text).map_err(|error| syntax(&error, text))?;
            statements.iter_mut().for_each(|statement| name_session(statement, role));
            statements
        }
        // What this parser does not know.
        Err(_) if define::set_schema(text).is_some() => {
            define::set_schema(text).into_iter().collect()
        }
        Err(error) => match text.contains("pg_") {
            true => compatible.parse(text).map_err(|_| syntax(&error, text))?,
            false => return Err(syntax(&error, text)),
        },
    };
    statements.iter().try_for_each(bound_names)?;
    statements.into_iter().map(ask).collect()
}

/// Most tables that a statement reads when the queries of WITH are put in wherever they are named.
const READS_MAX: u64 = 1_000;

/// Refuses queries of WITH that multiply: the planner puts each in wherever it is named, and can't
/// be interrupted.
fn bound_names(statement: &Statement) -> Result<(), SqlError> {
    /// Names of queries, and what each of them reads; what all of the statement reads.
    #[derive(Default)]
    struct Named(Vec<(String, Vec<String>)>, Vec<String>);
    impl Visitor for Named {
        type Break = ();
        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
                let mut inside = Self::default();
                let _ = cte.query.visit(&mut inside);
                self.0.push((folded(&cte.alias.name), inside.1));
            }
            ControlFlow::Continue(())
        }
        fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
            self.1.push(relation.to_string().to_lowercase());
            ControlFlow::Continue(())
        }
    }
    let mut named = Named::default();
    let _ = statement.visit(&mut named);
    let mut costs: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, reads) in &named.0 {
        let cost = reads.iter().map(|read| costs.get(read.as_str()).copied().unwrap_or(1));
        let cost = cost.fold(1, u64::saturating_add);
        let known = costs.entry(name).or_default();
        *known = known.saturating_add(cost);
    }
    let all = named.1.iter().map(|read| costs.get(read.as_str()).copied().unwrap_or(1));
    if all.fold(0, u64::saturating_add) > READS_MAX {
        let message = format!(
            "the statement reads more than {READS_MAX} tables, queries of WITH counted each time"
        );
        return Err(SqlError::new(code::TOO_COMPLEX, message));
    }
    Ok(())
}

fn too_deep() -> SqlError {
    SqlError::new(code::TOO_COMPLEX, "the statement is nested too deeply")
}

/// Refuses what would take the parser or the planner too much, before either sees it.
pub(crate) fn bound(text: &str, limits: &Limits) -> Result<(), SqlError> {
    if text.len() > limits.statement_bytes_max {
        let message = format!(
            "the statement has {} bytes; at most {} are taken",
            text.len(),
            limits.statement_bytes_max
        );
        return Err(SqlError::new(code::LIMIT_EXCEEDED, message));
    }
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize();
    let tokens = tokens.map_err(|error| syntax(&ParserError::from(error), text))?;
    // Operators of the expression that is being read, by level of parentheses.
    let mut levels = vec![0usize];
    let mut operators = 0usize;
    for token in &tokens {
        let mut more = 0;
        match token {
            Token::LParen | Token::LBracket => levels.push(0),
            Token::RParen | Token::RBracket if levels.len() > 1 => {
                operators -= levels.pop().unwrap_or(0);
            }
            // What comes behind a comma does not nest in what is before it.
            Token::Comma | Token::SemiColon => {
                operators -= levels.last_mut().map(std::mem::take).unwrap_or(0);
            }
            Token::Word(word) if word.quote_style.is_none() => {
                let nests = ["and", "or", "not", "union", "except", "intersect", "join", "case"];
                more = usize::from(nests.contains(&word.value.to_lowercase().as_str()));
            }
            Token::Word(_)
            | Token::Whitespace(_)
            | Token::Period
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::Placeholder(_) => {}
            _ => more = 1,
        }
        operators += more;
        if let Some(level) = levels.last_mut() {
            *level += more;
        }
        if levels.len() > limits.nesting_max {
            return Err(too_deep());
        }
        if operators > limits.operators_max {
            let most = limits.operators_max;
            let message = format!("more than {most} operators in one expression");
            return Err(SqlError::new(code::TOO_COMPLEX, message));
        }
    }
    Ok(())
}

fn syntax(error: &ParserError, text: &str) -> SqlError {
    if matches!(error, ParserError::RecursionLimitExceeded) {
        return too_deep();
    }
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    if words.windows(2).any(|pair| matches!(pair, [a, b] if a == "for" && b == "system_time")) {
        return no_system_time();
    }
    let message = match error {
        ParserError::ParserError(message) | ParserError::TokenizerError(message) => message.clone(),
        ParserError::RecursionLimitExceeded => "nested too deeply".to_owned(),
    };
    let position = position(&message, text);
    SqlError::new(code::SYNTAX, format!("syntax error: {message}")).at(position)
}

fn no_system_time() -> SqlError {
    SqlError::not_supported("FOR SYSTEM_TIME AS OF is not supported yet")
        .hint("statements see the newest final block")
}

/// The parser names line and column; PostgreSQL counts characters.
fn position(message: &str, text: &str) -> Option<usize> {
    let rest = message.split(" at Line: ").nth(1)?;
    let (line, column) = rest.split_once(", Column: ")?;
    let (line, column) = (line.trim().parse::<usize>().ok()?, column.trim().parse::<usize>().ok()?);
    let before: usize =
        text.lines().take(line.saturating_sub(1)).map(|line| line.chars().count() + 1).sum();
    Some(before + column)
}

/// Looks for the catalog among what a statement names.
struct Catalog;

impl Visitor for Catalog {
    type Break = ();

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let name = relation.to_string().to_lowercase();
        let last = name.rsplit('.').next().unwrap_or_default();
        let is_catalog = name.contains("pg_catalog") || name.contains("information_schema");
        if is_catalog || last.trim_matches('"').starts_with("pg_") {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let is_catalog = match expr {
            Expr::Function(function) => {
                let name = function.name.to_string().to_lowercase();
                let own = is_session_name(&name) || name == "version";
                name.starts_with("pg_") || !own && name.starts_with("current_")
            }
            Expr::Identifier(name) => {
                let name = name.value.to_lowercase();
                !is_session_name(&name) && name.starts_with("current_")
            }
            _ => false,
        };
        if is_catalog { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

fn is_session_name(name: &str) -> bool {
    matches!(name, "current_user" | "session_user" | "current_role")
}

/// Puts the role's name where a statement asks who it is, and the version where it asks for that.
/// In definitions they stay what they are.
fn name_session(statement: &mut Statement, role: &str) {
    struct Names<'a>(&'a str);
    impl VisitorMut for Names<'_> {
        type Break = ();
        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            let name = match expr {
                Expr::Function(function) => function.name.to_string().to_lowercase(),
                Expr::Identifier(ident) if ident.quote_style.is_none() => {
                    ident.value.to_lowercase()
                }
                _ => return ControlFlow::Continue(()),
            };
            let name = name.rsplit('.').next().unwrap_or_default();
            let text = match (name, &*expr) {
                (name, _) if is_session_name(name) => self.0.to_owned(),
                ("version", Expr::Function(_)) => {
                    format!("PostgreSQL 15.0 (Kanjo {})", env!("CARGO_PKG_VERSION"))
                }
                _ => return ControlFlow::Continue(()),
            };
            *expr = Expr::Value(Value::SingleQuotedString(text).into());
            ControlFlow::Continue(())
        }
    }
    if define::plan(statement, &Nothing).is_none() {
        let _ = statement.visit(&mut Names(role));
    }
}

/// Queries only: what changes something is taken as it was parsed.
fn is_about_catalog(statement: &Statement) -> bool {
    let is_query = matches!(statement, Statement::Query(_) | Statement::Explain { .. });
    is_query && !pay::pays(statement) && statement.visit(&mut Catalog).is_break()
}

/// Looks for what can't be done here, inside of a query.
struct Refusals(Option<SqlError>);

impl Refusals {
    fn refuse(&mut self, error: SqlError) -> ControlFlow<()> {
        self.0 = Some(error);
        ControlFlow::Break(())
    }
}

impl Visitor for Refusals {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if !query.locks.is_empty() {
            let error = SqlError::not_supported("FOR UPDATE and FOR SHARE are not supported")
                .hint("a statement reads from a snapshot, nothing needs to be locked");
            return self.refuse(error);
        }
        match query.body.as_ref() {
            SetExpr::Select(select) if select.into.is_some() => {
                self.refuse(refused("SELECT INTO").hint("CREATE TABLE, then INSERT … SELECT"))
            }
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                self.refuse(refused("a change inside of a query"))
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { version: Some(_), .. } => self.refuse(no_system_time()),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn refused(what: &str) -> SqlError {
    SqlError::not_supported(format!("{what} is not supported"))
}

fn ask(statement: Statement) -> Result<Ask, SqlError> {
    if pay::pays(&statement) {
        return change(statement);
    }
    match &statement {
        Statement::Query(_) | Statement::Explain { .. } => {
            let mut refusals = Refusals(None);
            let _ = statement.visit(&mut refusals);
            match refusals.0 {
                Some(error) => Err(error),
                None => explained(statement),
            }
        }
        Statement::ShowVariable { variable } => {
            let names: Vec<String> =
                variable.iter().map(|part| part.value.to_lowercase()).collect();
            Ok(Ask::Show(names.join("_")))
        }
        Statement::Set(_) => setting(&statement.to_string()).map(Ask::Set),
        Statement::StartTransaction { modes, .. } => {
            let read_only = TransactionMode::AccessMode(TransactionAccessMode::ReadOnly);
            Ok(Ask::Begin { read_only: modes.contains(&read_only) })
        }
        Statement::Commit { .. } => Ok(Ask::Commit),
        Statement::Rollback { savepoint: None, .. } => Ok(Ask::Rollback),
        Statement::Rollback { savepoint: Some(name), .. } => Ok(Ask::RollbackTo(folded(name))),
        Statement::Savepoint { name } => Ok(Ask::Savepoint(folded(name))),
        Statement::ReleaseSavepoint { name } => Ok(Ask::Release(folded(name))),
        Statement::Insert(_)
        | Statement::Update(_)
        | Statement::Delete(_)
        | Statement::Truncate(_)
        | Statement::Call(_) => change(statement),
        Statement::Copy { .. } => {
            let mut refusals = Refusals(None);
            let _ = statement.visit(&mut refusals);
            match refusals.0 {
                Some(error) => Err(error),
                None => Ok(Ask::Copy(Box::new(copy::Plan::of(&statement)?))),
            }
        }
        other if define::plan(other, &Nothing).is_some() => Ok(Ask::Change(Box::new(statement))),
        Statement::Discard { .. } => Ok(Ask::Discard("DISCARD ALL")),
        Statement::Deallocate { .. } => Ok(Ask::Discard("DEALLOCATE")),
        other => Err(refused(&verb(other))),
    }
}

/// What SET says. Most settings mean nothing here and are taken without effect, because drivers
/// send them; what would make a difference is done, or refused.
fn setting(text: &str) -> Result<Setting, SqlError> {
    let text = text.to_lowercase();
    let words: Vec<&str> = text
        .split(|letter: char| letter.is_whitespace() || letter == '=' || letter == ',')
        .filter(|word| !word.is_empty())
        .collect();
    let has = |pair: [&str; 2]| words.windows(2).any(|found| found == pair);
    let refuse = |what: &str, hint: &str| Err(SqlError::not_supported(what).hint(hint));
    match words.as_slice() {
        ["set", "role", ..] | ["set", "session" | "local", "role", ..] => {
            refuse("SET ROLE is not supported", "connect under the name of the role")
        }
        ["set", "session", "authorization", ..] => refuse(
            "SET SESSION AUTHORIZATION is not supported",
            "connect under the name of the role",
        ),
        ["set", "transaction", ..] if has(["read", "only"]) => Ok(Setting::TransactionReadOnly),
        ["set", "session", "characteristics", ..] if has(["read", "only"]) => {
            Ok(Setting::SessionReadOnly(true))
        }
        ["set", "session", "characteristics", ..] if has(["read", "write"]) => {
            Ok(Setting::SessionReadOnly(false))
        }
        [.., "default_transaction_read_only", value]
        | [.., "default_transaction_read_only", "to", value] => {
            let on = matches!(value.trim_matches('\''), "on" | "true" | "1" | "yes");
            Ok(Setting::SessionReadOnly(on))
        }
        [_, rest @ ..] if rest.contains(&"search_path") => {
            let known = [
                "session",
                "local",
                "search_path",
                "to",
                "public",
                "$user",
                "pg_catalog",
                "default",
            ];
            let plain = |word: &&str| known.contains(&word.trim_matches(['\'', '"']));
            match rest.iter().all(plain) {
                true => Ok(Setting::Nothing),
                false => refuse(
                    "a search_path other than public is not supported",
                    "write the schema in front of names: shop.orders",
                ),
            }
        }
        _ => Ok(Setting::Nothing),
    }
}

/// What changes rows; the queries inside of it only read.
fn change(statement: Statement) -> Result<Ask, SqlError> {
    let mut refusals = Refusals(None);
    let _ = statement.visit(&mut refusals);
    match refusals.0 {
        Some(error) => Err(error),
        None => Ok(Ask::Change(Box::new(statement))),
    }
}

/// No relations: to tell what is a definition.
struct Nothing;

impl define::Names for Nothing {
    fn find(&self, _: &str, _: &str) -> Option<Arc<define::Relation>> {
        None
    }

    fn all(&self) -> Vec<Arc<define::Relation>> {
        Vec::new()
    }

    fn next_number(&self) -> RelationId {
        RelationId(1)
    }

    fn user(&self, _: &str) -> Option<UserId> {
        None
    }
}

/// Only queries are explained.
fn explained(statement: Statement) -> Result<Ask, SqlError> {
    if let Statement::Explain { statement: inner, .. } = &statement
        && !matches!(inner.as_ref(), Statement::Query(_))
    {
        return Err(refused(&format!("EXPLAIN of {}", verb(inner))));
    }
    Ok(Ask::Query(Box::new(statement)))
}

/// The words that a statement begins with.
fn verb(statement: &Statement) -> String {
    let text = statement.to_string();
    let upper =
        |word: &str| !word.is_empty() && word.chars().all(|letter| letter.is_ascii_uppercase());
    let words: Vec<&str> = text.split_whitespace().take_while(|word| upper(word)).take(3).collect();
    match words.first() {
        Some(&("INSERT" | "UPDATE" | "DELETE" | "MERGE" | "COPY" | "GRANT" | "REVOKE")) => {
            words.first().copied().unwrap_or_default().to_owned()
        }
        Some(_) => words.join(" "),
        None => "this statement".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_would_make_a_difference_are_not_ignored() {
        let of = |text: &str| setting(text).map_err(|error| error.code.into_owned());
        assert_eq!(of("SET client_min_messages = warning"), Ok(Setting::Nothing));
        assert_eq!(of("SET search_path = public, \"$user\""), Ok(Setting::Nothing));
        assert_eq!(of("SET TRANSACTION READ ONLY"), Ok(Setting::TransactionReadOnly));
        let session = "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY";
        assert_eq!(of(session), Ok(Setting::SessionReadOnly(true)));
        assert_eq!(
            of("SET default_transaction_read_only = on"),
            Ok(Setting::SessionReadOnly(true))
        );
        for refused in ["SET ROLE bob", "SET SESSION AUTHORIZATION bob", "SET search_path = shop"] {
            assert_eq!(of(refused), Err("0A000".to_owned()), "{refused}");
        }
    }
}
