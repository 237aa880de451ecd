//! RETURNING: a query over the rows that a statement wrote.

use super::{Returned, Work, definition, parsed, quoted};
use crate::define::Relation;
use crate::error::SqlError;
use crate::tables::cells;
use crate::tables::relation::batch;
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::sql::sqlparser::ast::{SelectItem, Statement};
use kanjo_types::row::Value;
use std::sync::Arc;

/// The rows that were written, under a name of their own: sub-queries find the tables that they
/// name.
pub(crate) const WRITTEN: &str = "kanjo_written";

/// The query of RETURNING over a table of that name.
pub(crate) fn query(alias: &str, items: &[SelectItem]) -> Result<Statement, SqlError> {
    let mut select = parsed(&format!("SELECT 1 FROM {WRITTEN} AS {}", quoted(alias)))?;
    select.projection = items.to_vec();
    super::query(select)
}

impl Work<'_> {
    /// A table of some rows.
    pub(super) fn brought(
        &self,
        relation: &Relation,
        rows: &[Arc<Vec<Value>>],
    ) -> Result<Arc<dyn TableProvider>, SqlError> {
        let definition = definition(relation)?;
        let schema = cells::schema(definition);
        let columns: Vec<usize> = (0..definition.columns.len()).collect();
        let values = rows.iter().map(|values| values.as_slice());
        let rows = batch(&schema, definition, &columns, values)?;
        Ok(Arc::new(MemTable::try_new(schema, vec![vec![rows]])?))
    }

    pub(super) async fn returning(
        &self,
        relation: &Relation,
        alias: &str,
        items: &[SelectItem],
        rows: &[Arc<Vec<Value>>],
    ) -> Result<Returned, SqlError> {
        let mut scope = self.scope.as_ref().clone();
        scope.drafts = Arc::clone(&self.drafts);
        scope.brought.insert(WRITTEN.to_owned(), self.brought(relation, rows)?);
        let scope = Arc::new(scope);
        let plan = self.engine.plan(&scope, query(alias, items)?).await?;
        let schema = Arc::new(plan.schema().as_arrow().clone());
        let batches = self.engine.run(&scope, plan, Vec::new()).await?;
        let batches = self.engine.collect(batches).await?;
        Ok(Returned { schema, batches })
    }
}
