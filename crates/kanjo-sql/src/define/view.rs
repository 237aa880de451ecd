//! Views and schemas. A view is the text of its query; a schema is there when a relation is in it.

use super::{Change, Defined, Names, fold, names, state, text};
use crate::error::{SqlError, code};
use datafusion::sql::sqlparser::ast::{
    CreateTableOptions, CreateView, ObjectName, SchemaName, Statement,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use kanjo_types::relation::{QUERY_BYTES_MAX, RelationChange, RelationKind};

pub(super) fn create(create: &CreateView, names: &dyn Names) -> Result<Defined, SqlError> {
    let tag = "CREATE VIEW";
    plain(create)?;
    let (schema, name) = names::split(&create.name)?;
    names::check_permitted(&schema, &name)?;
    let kind = RelationKind::View(query(create, &name)?);
    let make = RelationChange::Create { schema: schema.clone(), name: name.clone(), kind };
    let Some(there) = names.find(&schema, &name) else {
        if names::is_taken(&schema, &name, names) {
            return Err(names::exists(&name));
        }
        return Ok(Defined { tag, changes: vec![Change::make(make)], notices: vec![] });
    };
    let old = &there.record;
    match (&old.kind, create.or_replace, create.if_not_exists) {
        (_, false, true) => {
            let notice = format!("relation \"{name}\" already exists, skipping");
            return Ok(Defined::new(tag).notice(notice));
        }
        (_, false, false) => return Err(names::exists(&name)),
        (RelationKind::Table(_), ..) => {
            let message = format!("\"{name}\" is not a view");
            return Err(SqlError::new(state::WRONG_KIND, message));
        }
        (RelationKind::View(query), ..) => {
            if matches!(&make, RelationChange::Create { kind: RelationKind::View(new), .. } if new == query)
            {
                return Ok(Defined::new(tag));
            }
        }
    }
    // The ledger changes no view's text: another one takes the place, with the grants.
    let mut changes = vec![Change::of(old.number, RelationChange::Drop), Change::make(make)];
    if !old.grants.is_empty() {
        let grants = RelationChange::SetGrants { grants: old.grants.clone() };
        changes.push(Change::of(names.next_number(), grants));
    }
    Ok(Defined { tag, changes, notices: vec![] })
}

/// The text of the query, with the names that the view gives to its columns.
fn query(create: &CreateView, name: &str) -> Result<String, SqlError> {
    let query = create.query.to_string();
    // The parser's way of writing values back is not exact: what would mean something else is
    // refused.
    let again = Parser::parse_sql(&PostgreSqlDialect {}, &query);
    let same = matches!(again.as_deref(), Ok([Statement::Query(again)]) if *again == create.query);
    if !same {
        let message = "the query of this view can't be kept as text";
        let error = SqlError::not_supported(message);
        return Err(error.hint("leave out text literals with two quotes or a backslash in them"));
    }
    let query = if create.columns.is_empty() {
        query
    } else {
        let mut columns = Vec::with_capacity(create.columns.len());
        for column in &create.columns {
            let column = names::new_name(&column.name)?;
            if columns.contains(&column) {
                let message = format!("column \"{column}\" specified more than once");
                return Err(SqlError::new(state::DUPLICATE_COLUMN, message));
            }
            columns.push(column);
        }
        let columns: Vec<String> = columns.iter().map(|name| text::quoted_name(name)).collect();
        let name = text::quoted_name(name);
        format!("SELECT * FROM ({query}) AS {name} ({})", columns.join(", "))
    };
    if query.len() > QUERY_BYTES_MAX {
        let message = format!("the query of a view has at most {QUERY_BYTES_MAX} bytes");
        return Err(SqlError::new(code::LIMIT_EXCEEDED, message));
    }
    Ok(query)
}

fn plain(create: &CreateView) -> Result<(), SqlError> {
    let options = create.options != CreateTableOptions::None || create.with_no_schema_binding;
    let typed = create.columns.iter().any(|of| of.data_type.is_some() || of.options.is_some());
    let refusals = [
        (create.materialized, "CREATE MATERIALIZED VIEW", "use a view, or a table"),
        (create.temporary, "CREATE TEMPORARY VIEW", "use WITH in the query"),
        (options || typed || create.params.is_some(), "an option of a view", "leave it out"),
        (
            create.or_alter || create.secure || create.to.is_some(),
            "this kind of view",
            "leave it out",
        ),
    ];
    match refusals.into_iter().find(|(is_there, ..)| *is_there) {
        None => Ok(()),
        Some((_, what, hint)) => {
            Err(SqlError::not_supported(format!("{what} is not supported")).hint(hint))
        }
    }
}

/// CREATE SCHEMA has nothing to do: the schema is there with its first relation.
pub(super) fn create_schema(name: &SchemaName) -> Result<Defined, SqlError> {
    let name = match name {
        SchemaName::Simple(name) => schema(name)?,
        SchemaName::UnnamedAuthorization(_) | SchemaName::NamedAuthorization(..) => {
            return Err(SqlError::not_supported("AUTHORIZATION is not supported")
                .hint("a schema has no owner; its tables have"));
        }
    };
    names::check_permitted(&name, "")?;
    let notice = format!("schema \"{name}\" is there as soon as a table or view is in it");
    Ok(Defined::new("CREATE SCHEMA").notice(notice))
}

/// The name of a schema.
pub(super) fn schema(name: &ObjectName) -> Result<String, SqlError> {
    match &name.0[..] {
        [part] => match part.as_ident() {
            Some(name) => names::new_name(name),
            None => Err(SqlError::new(code::SYNTAX, "a schema needs a name")),
        },
        _ => {
            let shown = name.0.iter().filter_map(|part| part.as_ident()).map(fold);
            let shown = shown.collect::<Vec<String>>().join(".");
            Err(SqlError::new(code::SYNTAX, format!("\"{shown}\" is no name of a schema")))
        }
    }
}
