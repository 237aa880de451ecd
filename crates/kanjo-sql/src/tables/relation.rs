//! Tables of users: rows of a snapshot, with a transaction's drafts in their place.

use super::cells::{self, Cells};
use super::keys::Range;
use super::read_rows::{projected, scope};
use super::relation_keys::{is_about_key, ranges};
use super::scan::{Part, Reader, ScanExec, Scope};
use crate::define::Relation;
use crate::error::SqlError;
use async_trait::async_trait;
use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::common::stats::Precision;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use kanjo_types::record::{Record, RowKey, Table};
use kanjo_types::relation::Definition;
use kanjo_types::row::{Value, relation_bounds};
use kanjo_types::{Hash, RelationId};
use kanjo_view::{Content, Snapshot};
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

/// Rows that are read under one lock, and make one batch.
const BATCH_ROWS: usize = 4_096;

/// A table of users.
pub(crate) struct RelationProvider {
    pub relation: Arc<Relation>,
    schema: SchemaRef,
}

impl RelationProvider {
    /// `None` for a view.
    pub(crate) fn new(relation: Arc<Relation>) -> Option<Self> {
        let schema = cells::schema(relation.record.table()?);
        Some(Self { relation, schema })
    }
}

impl fmt::Debug for RelationProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelationProvider({})", self.relation.record.name)
    }
}

fn definition(relation: &Relation) -> Result<&Definition> {
    let definition = relation.record.table();
    definition.ok_or_else(|| DataFusionError::Internal("a scan of no table".to_owned()))
}

#[async_trait]
impl TableProvider for RelationProvider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        let definition = definition(&self.relation)?;
        let of = |filter: &&Expr| match is_about_key(filter, definition) {
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(of).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let scope = scope(state)?;
        let number = self.relation.record.number;
        let ranges = ranges(number, definition(&self.relation)?, filters);
        if let Some(reads) = &scope.reads {
            let mut reads = reads.lock();
            ranges.iter().for_each(|(from, to)| reads.range(number, *from, *to));
        }
        let (schema, columns) = projected(&self.schema, projection)?;
        let keyed = ranges.iter().all(|(from, to)| from == to);
        let rows = if keyed { ranges.len() } else { scope.snapshot.rows(Table::Rows) };
        let part = RelationPart {
            relation: Arc::clone(&self.relation),
            schema: Arc::clone(&schema),
            columns,
            scope,
            ranges,
        };
        let name = "relation";
        Ok(Arc::new(ScanExec::new(
            name,
            schema,
            vec![Arc::new(part)],
            limit,
            Precision::Inexact(rows),
        )))
    }
}

struct RelationPart {
    relation: Arc<Relation>,
    schema: SchemaRef,
    columns: Vec<usize>,
    scope: Arc<Scope>,
    ranges: Vec<Range>,
}

impl fmt::Debug for RelationPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelationPart({}, {} ranges)", self.relation.record.name, self.ranges.len())
    }
}

impl Part for RelationPart {
    fn open(&self) -> Box<dyn Reader> {
        let rows =
            Rows::new(Arc::clone(&self.scope), self.relation.record.number, self.ranges.clone());
        Box::new(RelationReader {
            relation: Arc::clone(&self.relation),
            schema: Arc::clone(&self.schema),
            columns: self.columns.clone(),
            rows,
        })
    }

    fn blocks(&self) -> bool {
        false
    }
}

/// Live rows of a table, in a snapshot and a transaction's drafts.
pub(crate) struct Rows {
    scope: Arc<Scope>,
    relation: RelationId,
    /// Still to be read, the next one last.
    ranges: Vec<Range>,
    /// Where to go on in the next one.
    from: Option<Bound<RowKey>>,
}

/// A live row: its key, hash of its record before the transaction, values.
pub(crate) type Live = (RowKey, Hash, Arc<Vec<Value>>);

impl Rows {
    pub(crate) fn new(scope: Arc<Scope>, relation: RelationId, mut ranges: Vec<Range>) -> Self {
        ranges.reverse();
        Self { scope, relation, ranges, from: None }
    }

    /// All rows of a table.
    pub(crate) fn all(scope: Arc<Scope>, relation: RelationId) -> Self {
        if let Some(reads) = &scope.reads {
            let (from, to) = relation_bounds(relation);
            reads.lock().range(relation, from, to);
        }
        Self::new(scope, relation, vec![relation_bounds(relation)])
    }

    /// The next rows, and whether there may be more.
    pub(crate) fn next(&mut self) -> Result<(Vec<Live>, bool), SqlError> {
        let Some((low, high)) = self.ranges.last().copied() else { return Ok((Vec::new(), false)) };
        let from = self.from.take().unwrap_or(Bound::Included(low));
        let (rows, next) = self.scope.snapshot.scan(Table::Rows, from, high, BATCH_ROWS)?;
        let drafts = &self.scope.drafts.rows;
        let mut found: Vec<Live> = rows
            .into_iter()
            .filter(|(key, _)| !drafts.contains_key(key))
            .filter_map(|(key, version)| Some((key, version.hash, live(&version.content)?)))
            .collect();
        match next {
            Some(next) => self.from = Some(next),
            None => {
                // Drafts of the range come when all that was there before has come.
                found.extend(drafts.range(low..=high).filter_map(|(key, draft)| {
                    let is_it = draft.relation == self.relation;
                    let values = draft.values.as_ref().filter(|_| is_it)?;
                    Some((*key, draft.before, Arc::clone(values)))
                }));
                self.ranges.pop();
            }
        }
        Ok((found, !self.ranges.is_empty()))
    }
}

fn live(content: &Content) -> Option<Arc<Vec<Value>>> {
    let Content::Record(record) = content else { return None };
    let Record::Row(row) = record.as_ref() else { return None };
    row.values.as_ref().map(|values| Arc::new(values.clone()))
}

/// Hash of a row's record before the transaction, zero when it was not there; its values if it
/// lives.
pub(crate) type There = (Hash, Option<Arc<Vec<Value>>>);

/// The row with a key: hash of its record before the transaction, and its values if it lives.
pub(crate) fn row_of(
    snapshot: &Snapshot,
    drafts: &crate::transaction::Drafts,
    key: RowKey,
) -> Result<There, SqlError> {
    if let Some(draft) = drafts.rows.get(&key) {
        return Ok((draft.before, draft.values.clone()));
    }
    let found = snapshot.get(Table::Rows, &key)?;
    let found = found.and_then(|version| Some((version.hash, live(&version.content)?)));
    Ok(found.map_or((Hash::ZERO, None), |(hash, values)| (hash, Some(values))))
}

struct RelationReader {
    relation: Arc<Relation>,
    schema: SchemaRef,
    columns: Vec<usize>,
    rows: Rows,
}

impl Reader for RelationReader {
    fn next(&mut self) -> Result<Option<RecordBatch>, SqlError> {
        loop {
            let (rows, more) = self.rows.next()?;
            if rows.is_empty() && !more {
                return Ok(None);
            }
            if !rows.is_empty() {
                let definition = definition(&self.relation)?;
                let rows = rows.iter().map(|(_, _, values)| values.as_slice());
                return batch(&self.schema, definition, &self.columns, rows).map(Some);
            }
        }
    }
}

/// A batch of some columns of rows.
pub(crate) fn batch<'a>(
    schema: &SchemaRef,
    definition: &Definition,
    columns: &[usize],
    rows: impl Iterator<Item = &'a [Value]>,
) -> Result<RecordBatch, SqlError> {
    let kinds = columns.iter().filter_map(|at| definition.columns.get(*at));
    let mut gathered: Vec<Cells> = kinds.map(|column| Cells::new(column.kind)).collect();
    let mut count = 0;
    for values in rows {
        count += 1;
        for (at, cells) in columns.iter().zip(&mut gathered) {
            let column = u16::try_from(*at).unwrap_or(u16::MAX);
            cells.push(definition.value(values, column))?;
        }
    }
    let arrays = gathered.into_iter().map(Cells::finish).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)?)
}
