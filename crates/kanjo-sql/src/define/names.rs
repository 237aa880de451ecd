//! Names: which relation one means, which are free, and those that PostgreSQL would make up.

use super::{Names, Relation, fold, state};
use crate::error::{SqlError, code};
use datafusion::sql::sqlparser::ast::{Ident, ObjectName};
use kanjo_types::RelationId;
use kanjo_types::relation::{
    Constraint, Definition, LedgerTable, RELATION_NAME_MAX, check_relation_name,
};
use std::sync::Arc;

/// The schema of a name that has none.
const SCHEMA: &str = "public";

/// Tables of the ledger's own, by the names that they have in `public`.
pub(crate) const RESERVED_TABLES: &[&str] = &[
    "acts",
    "attributes",
    "authorities",
    "balances",
    "blocks",
    "bundles",
    "certificates",
    "claims",
    "freezes",
    "memberships",
    "pendings",
    "receipts",
    "relations",
    "reversals",
    "rows",
    "schedules",
    "terms",
    "tokens",
    "transactions",
    "transfers",
    "users",
    "wallet_states",
    "wallets",
];

/// Schemas that are not for users' relations.
fn is_reserved_schema(schema: &str) -> bool {
    schema.starts_with("pg_") || matches!(schema, "information_schema" | "kanjo" | "kanjo_history")
}

/// Is it a table of the ledger's own, or of the catalog?
pub(super) fn is_reserved(schema: &str, name: &str) -> bool {
    is_reserved_schema(schema) || (schema == SCHEMA && RESERVED_TABLES.contains(&name))
}

/// The ledger's own table that a foreign key can reference.
pub(super) fn ledger_table(schema: &str, name: &str) -> Option<LedgerTable> {
    Some(match name {
        _ if schema != SCHEMA && schema != "kanjo" => return None,
        "users" => LedgerTable::Users,
        "wallets" => LedgerTable::Wallets,
        "tokens" => LedgerTable::Tokens,
        "pendings" => LedgerTable::Pendings,
        "bundles" => LedgerTable::Bundles,
        "schedules" => LedgerTable::Schedules,
        "acts" => LedgerTable::Acts,
        "claims" => LedgerTable::Claims,
        _ => return None,
    })
}

/// A name that something new is to have.
pub(super) fn new_name(name: &Ident) -> Result<String, SqlError> {
    let name = fold(name);
    match check_relation_name(&name) {
        Ok(()) => Ok(name),
        Err(_) if name.len() > RELATION_NAME_MAX => {
            let shown = super::shown(&name);
            let message = format!("the name \"{shown}\" has more than {RELATION_NAME_MAX} bytes");
            Err(SqlError::new(state::NAME_TOO_LONG, message))
        }
        Err(_) => Err(SqlError::new("42602", "a name has 1 to 63 bytes, none a control character")),
    }
}

/// Schema and name.
pub(super) fn split(name: &ObjectName) -> Result<(String, String), SqlError> {
    let parts: Option<Vec<&Ident>> = name.0.iter().map(|part| part.as_ident()).collect();
    match parts.as_deref() {
        Some([name]) => Ok((SCHEMA.to_owned(), new_name(name)?)),
        Some([schema, name]) => Ok((new_name(schema)?, new_name(name)?)),
        _ => {
            let message = format!("cross-database references are not implemented: \"{name}\"");
            Err(SqlError::not_supported(message))
        }
    }
}

/// A name for messages: with its schema where that is not the usual one.
pub(super) fn shown(schema: &str, name: &str) -> String {
    if schema == SCHEMA { name.to_owned() } else { format!("{schema}.{name}") }
}

/// The relation of a name, to be changed.
pub(super) fn find(name: &ObjectName, names: &dyn Names) -> Result<Arc<Relation>, SqlError> {
    let (schema, name) = split(name)?;
    if let Some(found) = names.find(&schema, &name) {
        return Ok(found);
    }
    if is_reserved(&schema, &name) {
        let message = format!("permission denied: \"{name}\" is a table of the ledger");
        return Err(SqlError::new(state::NOT_PERMITTED, message)
            .hint("the ledger's own tables follow from its transactions"));
    }
    Err(no_relation(&schema, &name))
}

pub(super) fn no_relation(schema: &str, name: &str) -> SqlError {
    let shown = shown(schema, name);
    SqlError::new(code::NO_TABLE, format!("relation \"{shown}\" does not exist"))
}

/// The definition of a table; 42809 for a view.
pub(super) fn table(relation: &Relation) -> Result<&Definition, SqlError> {
    relation.record.table().ok_or_else(|| {
        let message = format!("\"{}\" is not a table", relation.record.name);
        SqlError::new(state::WRONG_KIND, message)
    })
}

/// May a new relation have this name? Whether one has it already is for the caller.
pub(super) fn check_permitted(schema: &str, name: &str) -> Result<(), SqlError> {
    if is_reserved_schema(schema) {
        let message = format!("schema \"{schema}\" is reserved");
        return Err(SqlError::new(state::RESERVED, message)
            .hint("take another schema: it is there as soon as a table is in it"));
    }
    if is_reserved(schema, name) {
        return Err(SqlError::new(
            state::RELATION_EXISTS,
            format!("relation \"{name}\" already exists"),
        )
        .hint("it is a table of the ledger; take another name, or another schema"));
    }
    Ok(())
}

pub(super) fn exists(name: &str) -> SqlError {
    SqlError::new(state::RELATION_EXISTS, format!("relation \"{name}\" already exists"))
}

/// The name that the primary key of a table has.
pub(super) fn primary_name(table: &str) -> String {
    joined(table, None, "pkey")
}

/// What a name of an index stands for.
pub(super) enum Indexed {
    Index,
    Unique,
    Primary,
}

/// The table in a schema that has an index of a name, and what it is.
pub(super) fn index_named(
    schema: &str,
    name: &str,
    names: &dyn Names,
) -> Option<(Arc<Relation>, Indexed)> {
    let here = names.all().into_iter().filter(|relation| relation.record.schema == schema);
    here.filter_map(|relation| Some((indexed(&relation, name)?, relation)))
        .min_by_key(|(_, relation)| relation.record.number.0)
        .map(|(what, relation)| (relation, what))
}

fn indexed(relation: &Relation, name: &str) -> Option<Indexed> {
    let definition = relation.record.table()?;
    if relation.record.indexes.iter().any(|index| index.name == name) {
        return Some(Indexed::Index);
    }
    if matches!(definition.constraint(name), Some(Constraint::Unique { .. })) {
        return Some(Indexed::Unique);
    }
    (primary_name(&relation.record.name) == name).then_some(Indexed::Primary)
}

/// Is a name taken by a relation or an index in a schema?
pub(super) fn is_taken(schema: &str, name: &str, names: &dyn Names) -> bool {
    names.find(schema, name).is_some()
        || is_reserved(schema, name)
        || index_named(schema, name, names).is_some()
}

/// A name that PostgreSQL would make up: `table_columns_label`, the longer of the first two cut to
/// fit, numbered when it is taken.
pub(super) fn choose(
    table: &str,
    columns: Option<&str>,
    label: &str,
    is_taken: impl Fn(&str) -> bool,
) -> String {
    let first = joined(table, columns, label);
    // More numbers than there are constraints, indexes and relations in a schema.
    let numbered = (1..=1_000_000u32).map(|number| {
        let label = format!("{label}{number}");
        joined(table, columns, &label)
    });
    std::iter::once(first.clone()).chain(numbered).find(|name| !is_taken(name)).unwrap_or(first)
}

fn joined(table: &str, columns: Option<&str>, label: &str) -> String {
    let (mut table, mut columns) = (table.to_owned(), columns.map(str::to_owned));
    loop {
        let name = match &columns {
            Some(columns) => format!("{table}_{columns}_{label}"),
            None => format!("{table}_{label}"),
        };
        if name.len() <= RELATION_NAME_MAX {
            return name;
        }
        let longer = columns.as_mut().filter(|columns| columns.len() >= table.len());
        if longer.unwrap_or(&mut table).pop().is_none() {
            return name;
        }
    }
}

/// A table, and the names of some of its foreign keys.
pub(super) type Referencing = (Arc<Relation>, Vec<String>);

/// Tables but one whose foreign keys reference it, with the constraints' names; by number.
pub(super) fn referencing(number: RelationId, names: &dyn Names) -> Vec<Referencing> {
    let mut found: Vec<_> = names
        .all()
        .into_iter()
        .filter(|relation| relation.record.number != number)
        .filter_map(|relation| {
            let of = relation.record.table()?;
            let keys = of.constraints.iter().filter(|of| target(of) == Some(number));
            let keys: Vec<String> = keys.map(|key| key.name().to_owned()).collect();
            (!keys.is_empty()).then_some((relation, keys))
        })
        .collect();
    found.sort_by_key(|(relation, _)| relation.record.number.0);
    found
}

/// The table that a foreign key references.
pub(super) fn target(constraint: &Constraint) -> Option<RelationId> {
    use kanjo_types::relation::Target;
    match constraint {
        Constraint::Foreign { target: Target::Rows { relation, .. }, .. } => Some(*relation),
        _ => None,
    }
}
