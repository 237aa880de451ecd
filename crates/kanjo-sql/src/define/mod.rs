//! From SQL's definitions to the ledger's: tables, constraints, indexes, views, grants.
//!
//! ```text
//! Statement ──plan──▶ Defined { tag, changes, notices } ──▶ `define` operations of a transaction
//!               │
//!               └── Names: the relations, as the session sees them
//! ```
//! Nothing here reads or writes the ledger. What a statement means is decided from the names that
//! the session gives, and the ledger checks it again; errors come from here all the same, with the
//! names of columns and constraints in them.
//!
//! How PostgreSQL's words are taken:
//! - A table has a primary key. It has no name of its own: it is `<table>_pkey`.
//! - `numeric` alone is `numeric(38,9)`; `json` is `jsonb`; `char(n)` is refused.
//! - `serial` is an identity column; a sequence does not exist beside it.
//! - Constraints are checked at COMMIT, whatever DEFERRABLE says; the primary key at once.
//! - ON DELETE NO ACTION is RESTRICT; ON UPDATE does nothing, since rows keep their primary keys.
//! - A unique index is a unique constraint. Other indexes are known to planners only.
//! - A schema is there as soon as a relation is in it.
//! - A view is the text of its query: nothing keeps what it reads from being dropped.

mod alter;
mod constraint;
mod expression;
mod grant;
mod index;
mod literal;
mod names;
mod remove;
mod steps;
mod table;
mod text;
mod time;
mod types;
mod view;

pub(crate) use alter::set_schema;
pub(crate) use expression::default_value;
pub(crate) use literal::{text_of, value_of};
pub(crate) use names::RESERVED_TABLES;
pub(crate) use text::expression_text;
pub(crate) use types::type_text;

use crate::error::SqlError;
use datafusion::sql::sqlparser::ast::{Ident, Statement};
use kanjo_types::relation::{RelationChange, RelationRecord};
use kanjo_types::{Hash, RelationId, UserId};
use std::sync::Arc;

/// SQLSTATE codes of definitions, beside those of all statements.
mod state {
    pub(super) const BAD_TIME_FORM: &str = "22007";
    pub(super) const TIME_RANGE: &str = "22008";
    pub(super) const IN_USE: &str = "2BP01";
    pub(super) const NOT_PERMITTED: &str = "42501";
    pub(super) const DUPLICATE_COLUMN: &str = "42701";
    pub(super) const UNDEFINED: &str = "42704";
    pub(super) const DUPLICATE: &str = "42710";
    pub(super) const WRONG_KIND: &str = "42809";
    pub(super) const NOT_UNIQUE_TARGET: &str = "42830";
    pub(super) const CANNOT_CAST: &str = "42846";
    pub(super) const RESERVED: &str = "42939";
    pub(super) const RELATION_EXISTS: &str = "42P07";
    pub(super) const BAD_DEFINITION: &str = "42P16";
    pub(super) const TOO_LONG: &str = "54001";
    pub(super) const NAME_TOO_LONG: &str = "42622";
    pub(super) const TOO_MANY_COLUMNS: &str = "54011";
}

/// A relation as a session sees it.
#[derive(Debug, Clone)]
pub(crate) struct Relation {
    pub record: RelationRecord,
    /// Of the record before the session's transaction; zero when it was not there.
    pub hash: Hash,
}

/// What the definitions need to know. Names are folded already (unquoted to lower case).
pub(crate) trait Names {
    /// A relation that is not dropped.
    fn find(&self, schema: &str, name: &str) -> Option<Arc<Relation>>;
    /// All relations that are not dropped.
    fn all(&self) -> Vec<Arc<Relation>>;
    /// The number that the next relation gets.
    fn next_number(&self) -> RelationId;
    /// The user that a SQL role is bound to, or of a text `kju1…`.
    fn user(&self, role: &str) -> Option<UserId>;
}

/// One `define` of the ledger. `relation: None` makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub relation: Option<RelationId>,
    pub change: RelationChange,
}

impl Change {
    fn make(change: RelationChange) -> Self {
        Self { relation: None, change }
    }

    fn of(relation: RelationId, change: RelationChange) -> Self {
        Self { relation: Some(relation), change }
    }
}

/// What a statement of definitions does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Defined {
    /// What the client is told when it is done.
    pub tag: &'static str,
    /// In this order, in one transaction. None: there is nothing to do.
    pub changes: Vec<Change>,
    /// What the client is told beside it.
    pub notices: Vec<String>,
}

impl Defined {
    fn new(tag: &'static str) -> Self {
        Self { tag, ..Self::default() }
    }

    fn notice(mut self, text: impl Into<String>) -> Self {
        self.notices.push(text.into());
        self
    }
}

/// Is this statement one of definitions? Then what it does.
///
/// `None` for all others; statements about roles are among them.
pub(crate) fn plan(statement: &Statement, names: &dyn Names) -> Option<Result<Defined, SqlError>> {
    Some(match statement {
        Statement::CreateTable(create) => table::create(create, names),
        Statement::CreateIndex(create) => index::create(create, names),
        Statement::CreateView(create) => view::create(create, names),
        Statement::CreateSchema { schema_name, .. } => view::create_schema(schema_name),
        Statement::AlterTable(alter) => alter::alter(alter, names),
        Statement::Drop { object_type, if_exists, names: of, cascade, .. } => {
            return remove::drop(*object_type, of, *if_exists, *cascade, names);
        }
        Statement::Grant(grant) => grant::grant(grant, names),
        Statement::Revoke(revoke) => grant::revoke(revoke, names),
        other => {
            let (what, why) = refused(other)?;
            Err(SqlError::not_supported(format!("{what} is not supported")).hint(why))
        }
    })
}

/// Definitions of PostgreSQL that are not here, and what to do instead.
fn refused(statement: &Statement) -> Option<(&'static str, &'static str)> {
    Some(match statement {
        Statement::Comment { .. } => ("COMMENT ON", "the ledger has no place for comments"),
        Statement::AlterView { .. } => ("ALTER VIEW", "use CREATE OR REPLACE VIEW"),
        Statement::AlterIndex { .. } => ("ALTER INDEX", "drop the index and create another"),
        Statement::AlterSchema(_) => ("ALTER SCHEMA", "use ALTER TABLE … SET SCHEMA"),
        Statement::CreateSequence { .. } => {
            ("CREATE SEQUENCE", "use a column GENERATED BY DEFAULT AS IDENTITY")
        }
        Statement::CreateType { .. } | Statement::AlterType(_) => {
            ("a type of one's own", "use text with CHECK (x IN (…))")
        }
        Statement::CreateDomain(_) | Statement::DropDomain(_) => {
            ("a domain", "use CHECK constraints")
        }
        Statement::CreateFunction(_)
        | Statement::AlterFunction(_)
        | Statement::DropFunction(_)
        | Statement::CreateProcedure { .. }
        | Statement::DropProcedure { .. } => {
            ("a function of one's own", "replicas run no SQL: compute in the application")
        }
        Statement::CreateTrigger(_) | Statement::DropTrigger(_) => {
            ("a trigger", "a transaction says all that it changes: put it there")
        }
        Statement::CreatePolicy(_) | Statement::AlterPolicy(_) | Statement::DropPolicy(_) => {
            ("row level security", "grant rights on a view")
        }
        Statement::CreateExtension(_) | Statement::DropExtension(_) => {
            ("an extension", "there are none")
        }
        Statement::CreateDatabase { .. } => ("CREATE DATABASE", "a ledger is one database"),
        Statement::CreateCollation(_) | Statement::AlterCollation(_) => {
            ("a collation", "texts are compared by their bytes")
        }
        Statement::CreateOperator(_)
        | Statement::CreateOperatorClass(_)
        | Statement::CreateOperatorFamily(_)
        | Statement::DropOperator(_)
        | Statement::DropOperatorClass(_)
        | Statement::DropOperatorFamily(_) => ("an operator of one's own", "there are none"),
        _ => return None,
    })
}

/// A name as PostgreSQL takes it: small letters (of ASCII) where it was not quoted.
fn fold(name: &Ident) -> String {
    match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_ascii_lowercase(),
    }
}

/// The beginning of a text, for messages.
fn shown(text: &str) -> String {
    const CHARACTERS_MAX: usize = 80;
    let mut characters = text.chars();
    let mut out: String = characters.by_ref().take(CHARACTERS_MAX).collect();
    if characters.next().is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod expression_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
