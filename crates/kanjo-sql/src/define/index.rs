//! CREATE INDEX. A unique one is a constraint; others are known to planners only.

use super::constraint::{Draft, identifiers, plain_index};
use super::{Change, Defined, Names, names};
use crate::error::{SqlError, code};
use datafusion::sql::sqlparser::ast::CreateIndex;
use kanjo_types::relation::{CONSTRAINTS_MAX, Index, RelationChange};

pub(super) fn create(create: &CreateIndex, names: &dyn Names) -> Result<Defined, SqlError> {
    let defined = Defined::new("CREATE INDEX");
    let relation = names::find(&create.table_name, names)?;
    let record = &relation.record;
    let mut draft = Draft::of(record, names)?;
    plain(create)?;
    let name = match &create.name {
        None if create.if_not_exists => {
            let message = "IF NOT EXISTS needs the name of the index";
            return Err(SqlError::new(code::SYNTAX, message));
        }
        // An index lies in the schema of its table, and PostgreSQL takes no other.
        Some(name) => name.0.last().and_then(|part| part.as_ident()),
        None => None,
    };
    if create.if_not_exists
        && let Some(name) = name
    {
        let name = names::new_name(name)?;
        if names::is_taken(&record.schema, &name, names) {
            return Ok(defined.notice(format!("relation \"{name}\" already exists, skipping")));
        }
    }
    let columns = draft.columns(identifiers(&create.columns)?, "an index")?;
    let change = if create.unique {
        let distinct = create.nulls_distinct != Some(false);
        let constraint = draft.unique(name, columns, distinct, "idx")?;
        RelationChange::AddConstraint { constraint }
    } else {
        if record.indexes.len() >= CONSTRAINTS_MAX {
            let message = format!("a table has at most {CONSTRAINTS_MAX} indexes");
            return Err(SqlError::new(code::LIMIT_EXCEEDED, message));
        }
        let name = draft.index_name(name, &columns, "idx")?;
        RelationChange::AddIndex { index: Index { name, columns } }
    };
    draft.check()?;
    Ok(Defined { changes: vec![Change::of(record.number, change)], ..defined })
}

fn plain(create: &CreateIndex) -> Result<(), SqlError> {
    plain_index(create.using.as_ref(), &create.index_options)?;
    let refusals = [
        (create.predicate.is_some(), "a partial index", "index all rows"),
        (!create.include.is_empty(), "INCLUDE", "rows are read whole: leave it out"),
        (!create.with.is_empty(), "an option of an index", "leave it out"),
        (!create.alter_options.is_empty(), "an option of an index", "leave it out"),
    ];
    match refusals.into_iter().find(|(is_there, ..)| *is_there) {
        None => Ok(()),
        Some((_, what, hint)) => {
            Err(SqlError::not_supported(format!("{what} is not supported")).hint(hint))
        }
    }
}
