//! DELETE, with USING, and TRUNCATE.

use super::update::{Target, key_items, rows};
use super::{Outcome, Work};
use crate::define::Relation;
use crate::error::{SqlError, code};
use crate::tables::relation::Rows;
use datafusion::sql::sqlparser::ast::{CascadeOption, Delete, FromTable, Truncate};
use kanjo_types::record::RowKey;
use kanjo_types::relation::{RIGHT_DELETE, RIGHT_SELECT};
use kanjo_types::row::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) async fn delete(work: &mut Work<'_>, delete: Delete) -> Result<Outcome, SqlError> {
    if !delete.tables.is_empty() || !delete.order_by.is_empty() || delete.limit.is_some() {
        return Err(SqlError::not_supported(
            "DELETE with several tables, ORDER BY or LIMIT is not PostgreSQL's",
        ));
    }
    let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
    let [table] = from.as_slice() else {
        return Err(SqlError::not_supported("DELETE from several tables").hint("use USING"));
    };
    let target = Target::of(table, "DELETE")?;
    let reads = delete.selection.is_some() || delete.returning.is_some() || delete.using.is_some();
    let rights = if reads { RIGHT_DELETE | RIGHT_SELECT } else { RIGHT_DELETE };
    let relation = work.table(target.name, rights)?;
    let items = key_items(&relation, &target.alias)?;
    let using = delete.using.clone().unwrap_or_default();
    let found =
        rows(work, &relation, items, (&target.from, &using), delete.selection.clone()).await?;
    let keys: BTreeSet<RowKey> = found.keys().map(|(_, _, key)| key).collect();
    drop(found);
    let written = remove(work, &relation, keys)?;
    work.follow_delete(&relation, written.clone()).await?;
    let returned = match &delete.returning {
        Some(items) => Some(work.returning(&relation, &target.alias, items, &written).await?),
        None => None,
    };
    Ok(Outcome { tag: "DELETE", rows: written.len(), returned, numbered: false })
}

/// Deletes rows; their values as they were.
fn remove(
    work: &mut Work<'_>,
    relation: &Relation,
    keys: BTreeSet<RowKey>,
) -> Result<Vec<Arc<Vec<Value>>>, SqlError> {
    let mut gone = Vec::with_capacity(keys.len());
    for key in keys {
        let (before, values) = work.there(key)?;
        let Some(values) = values else { continue };
        work.put(relation, key, before, None)?;
        gone.push(values);
    }
    Ok(gone)
}

pub(super) fn truncate(work: &mut Work<'_>, truncate: &Truncate) -> Result<Outcome, SqlError> {
    if matches!(truncate.cascade, Some(CascadeOption::Cascade)) {
        return Err(SqlError::not_supported("TRUNCATE … CASCADE")
            .hint("name the referencing tables, too: TRUNCATE a, b"));
    }
    if truncate.partitions.is_some() || truncate.on_cluster.is_some() {
        return Err(SqlError::new(code::SYNTAX, "TRUNCATE takes names of tables"));
    }
    for target in &truncate.table_names {
        let relation = work.table(&target.name, RIGHT_DELETE)?;
        let mut scope = work.scope.as_ref().clone();
        scope.drafts = Arc::clone(&work.drafts);
        let mut rows = Rows::all(Arc::new(scope), relation.record.number);
        let mut found = Vec::new();
        loop {
            let (some, more) = rows.next()?;
            found.extend(some.into_iter().map(|(key, before, _)| (key, before)));
            if !more {
                break;
            }
        }
        drop(rows);
        for (key, before) in found {
            work.put(&relation, key, before, None)?;
        }
    }
    Ok(Outcome { tag: "TRUNCATE TABLE", rows: 0, returned: None, numbered: false })
}
