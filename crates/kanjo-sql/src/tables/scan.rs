//! A scan as the engine sees it: batches from a reader.

use crate::catalog::Catalog;
use crate::error::SqlError;
use crate::transaction::{Drafts, Reads};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::array::RecordBatchOptions;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ColumnStatistics, Result, Statistics};
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use futures_util::stream;
use kanjo_types::{Hash, RelationId, UserId};
use kanjo_view::{LogSource, Snapshot};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::values::Gathered;

/// What a statement reads: the view at a height, the log up to it, and what its transaction has
/// made of it.
#[derive(Clone)]
pub(crate) struct Scope {
    pub snapshot: Arc<Snapshot>,
    pub log: Arc<dyn LogSource>,
    pub drafts: Arc<Drafts>,
    /// Where reads are noted, when they matter for a commit.
    pub reads: Option<Arc<Mutex<Reads>>>,
    pub catalog: Arc<Catalog>,
    /// Who reads.
    pub user: Option<UserId>,
    /// Are rights looked at? Not where tables are only described.
    pub enforce: bool,
    /// Tables that the statement brings along, by name.
    pub brought: BTreeMap<String, Arc<dyn TableProvider>>,
    /// Tables and views of users that were looked up, as they were.
    pub resolved: Arc<Mutex<BTreeSet<(RelationId, Hash)>>>,
    /// How often views were put in.
    pub views: Arc<AtomicUsize>,
}

/// Reads one part of a table, batch by batch.
pub(crate) trait Reader: Send {
    /// The next rows; nothing after the last.
    fn next(&mut self) -> Result<Option<RecordBatch>, SqlError>;
}

/// A part of a table that can be read.
pub(crate) trait Part: fmt::Debug + Send + Sync {
    fn open(&self) -> Box<dyn Reader>;
    /// Does reading it wait for the disk?
    fn blocks(&self) -> bool;
}

/// A scan of a table.
#[derive(Debug)]
pub(crate) struct ScanExec {
    table: &'static str,
    parts: Vec<Arc<dyn Part>>,
    limit: Option<usize>,
    rows: Precision<usize>,
    properties: Arc<PlanProperties>,
}

impl ScanExec {
    pub(crate) fn new(
        table: &'static str,
        schema: SchemaRef,
        parts: Vec<Arc<dyn Part>>,
        limit: Option<usize>,
        rows: Precision<usize>,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(parts.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { table, parts, limit, rows, properties: Arc::new(properties) }
    }
}

impl DisplayAs for ScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScanExec: table={}, parts={}", self.table, self.parts.len())?;
        if let Some(limit) = self.limit {
            write!(f, ", limit={limit}")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for ScanExec {
    fn name(&self) -> &'static str {
        "ScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, number: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let part = self.parts.get(number).cloned();
        let part =
            part.ok_or_else(|| DataFusionError::Internal(format!("no part {number} of a scan")))?;
        let schema = self.schema();
        let blocks = part.blocks();
        let batches =
            stream::try_unfold((part.open(), self.limit), move |(reader, left)| async move {
                if left == Some(0) {
                    return Ok::<_, DataFusionError>(None);
                }
                let (reader, batch) = read(reader, blocks).await?;
                Ok(batch.map(|batch| {
                    let batch = match left {
                        Some(left) if batch.num_rows() > left => batch.slice(0, left),
                        _ => batch,
                    };
                    let left = left.map(|left| left.saturating_sub(batch.num_rows()));
                    (batch, (reader, left))
                }))
            });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        let num_rows = match partition {
            Some(_) => Precision::Absent,
            None => self.rows,
        };
        let fields = self.schema().fields().len();
        Ok(Arc::new(Statistics {
            num_rows,
            total_byte_size: Precision::Absent,
            column_statistics: vec![ColumnStatistics::new_unknown(); fields],
        }))
    }
}

/// One batch. What waits for the disk does so on a thread for that.
async fn read(
    mut reader: Box<dyn Reader>,
    blocks: bool,
) -> Result<(Box<dyn Reader>, Option<RecordBatch>)> {
    if !blocks {
        // So that a statement can be cancelled between batches.
        tokio::task::yield_now().await;
        let batch = reader.next()?;
        return Ok((reader, batch));
    }
    let work = move || reader.next().map(|batch| (reader, batch));
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| DataFusionError::Execution(error.to_string()))?;
    Ok(done?)
}

/// A batch of so many rows from gathered columns.
pub(crate) fn batch(
    schema: &SchemaRef,
    columns: Vec<Gathered>,
    rows: usize,
) -> Result<RecordBatch, SqlError> {
    let arrays = columns.into_iter().map(Gathered::finish).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)?)
}
