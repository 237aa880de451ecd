//! Reading tables over the log.

use super::logs::{Each, LogCell, LogColumn, LogTable, movement};
use super::read_rows::{projected, scope};
use super::scan::{Part, Reader, ScanExec, Scope, batch};
use super::schema;
use super::values::Gathered;
use crate::error::{SqlError, code};
use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{
    BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType,
};
use datafusion::physical_plan::ExecutionPlan;
use kanjo_types::TransactionId;
use kanjo_types::stored::{Block, Entry, decode_signed};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// A batch ends with the block in which it reaches this many rows.
const BATCH_ROWS: usize = 1_024;

/// A table over the log.
pub(crate) struct LogProvider {
    table: Arc<LogTable>,
    schema: SchemaRef,
}

impl LogProvider {
    pub(crate) fn new(table: Arc<LogTable>) -> Self {
        let columns =
            table.columns.iter().map(|column| (column.name, column.kind, column.nullable));
        let schema = schema(columns);
        Self { table, schema }
    }
}

impl fmt::Debug for LogProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogProvider({})", self.table.name)
    }
}

/// What the conditions of a statement leave to be read.
#[derive(Debug, Clone)]
struct Wanted {
    /// First and last height.
    from: u64,
    to: u64,
    /// Only these transactions, whatever other conditions say.
    ids: Option<BTreeSet<TransactionId>>,
}

/// Column, operator and literal of a comparison, the column first.
fn comparison(filter: &Expr) -> Option<(&str, Operator, &ScalarValue)> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else { return None };
    match (left.as_ref(), right.as_ref()) {
        (Expr::Column(column), Expr::Literal(value, _)) => Some((&column.name, *op, value)),
        (Expr::Literal(value, _), Expr::Column(column)) => Some((&column.name, op.swap()?, value)),
        _ => None,
    }
}

/// Transactions that `filter` names, if it is about the column `id` alone.
fn ids(filter: &Expr, id: &str) -> Option<BTreeSet<TransactionId>> {
    let parse = |value: &ScalarValue| -> Option<Option<TransactionId>> {
        let text = value.try_as_str()??;
        Some(text.parse::<TransactionId>().ok().filter(|id| id.to_string() == text))
    };
    match filter {
        Expr::InList(list) if !list.negated => {
            let Expr::Column(column) = list.expr.as_ref() else { return None };
            if column.name != id {
                return None;
            }
            let mut all = BTreeSet::new();
            for item in &list.list {
                let Expr::Literal(value, _) = item else { return None };
                all.extend(parse(value)?);
            }
            Some(all)
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let mut all = ids(left, id)?;
            all.extend(ids(right, id)?);
            Some(all)
        }
        _ => match comparison(filter)? {
            (name, Operator::Eq, value) if name == id => Some(parse(value)?.into_iter().collect()),
            _ => None,
        },
    }
}

impl Wanted {
    fn all(newest: u64) -> Self {
        Self { from: 0, to: newest, ids: None }
    }

    /// Takes a condition in; true when it is settled with that.
    fn take(&mut self, filter: &Expr, id: Option<&str>) -> bool {
        if let Some(found) = id.and_then(|id| ids(filter, id)) {
            self.ids = Some(match self.ids.take() {
                Some(before) => before.intersection(&found).copied().collect(),
                None => found,
            });
            return true;
        }
        let Some(("height", operator, ScalarValue::Int64(Some(number)))) = comparison(filter)
        else {
            return false;
        };
        let number = i128::from(*number);
        let (low, high) = match operator {
            Operator::Eq => (number, number),
            Operator::Gt => (number + 1, i128::MAX),
            Operator::GtEq => (number, i128::MAX),
            Operator::Lt => (0, number - 1),
            Operator::LtEq => (0, number),
            _ => return false,
        };
        self.from = self.from.max(u64::try_from(low.max(0)).unwrap_or(u64::MAX));
        match u64::try_from(high) {
            Ok(high) => self.to = self.to.min(high),
            Err(_) if high < 0 => (self.from, self.to) = (1, 0),
            Err(_) => {}
        }
        true
    }
}

#[async_trait]
impl TableProvider for LogProvider {
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
        let mut wanted = Wanted::all(u64::MAX);
        let settled = filters.iter().map(|filter| match wanted.take(filter, self.table.id) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Unsupported,
        });
        Ok(settled.collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let scope = scope(state)?;
        let (schema, columns) = projected(&self.schema, projection)?;
        let mut wanted = Wanted::all(scope.snapshot.height());
        for filter in filters {
            wanted.take(filter, self.table.id);
        }
        let blocks = (wanted.to + 1).saturating_sub(wanted.from);
        let rows = wanted.ids.as_ref().map_or(blocks, |ids| ids.len() as u64);
        let part = LogPart {
            table: Arc::clone(&self.table),
            schema: Arc::clone(&schema),
            columns,
            scope,
            wanted,
        };
        let parts: Vec<Arc<dyn Part>> = vec![Arc::new(part)];
        let rows = Precision::Inexact(usize::try_from(rows).unwrap_or(usize::MAX));
        Ok(Arc::new(ScanExec::new(self.table.name, schema, parts, limit, rows)))
    }
}

#[derive(Clone)]
struct LogPart {
    table: Arc<LogTable>,
    schema: SchemaRef,
    columns: Vec<usize>,
    scope: Arc<Scope>,
    wanted: Wanted,
}

impl fmt::Debug for LogPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogPart({}, {:?})", self.table.name, self.wanted)
    }
}

impl Part for LogPart {
    fn open(&self) -> Box<dyn Reader> {
        let mut ids: Option<Vec<TransactionId>> =
            self.wanted.ids.as_ref().map(|ids| ids.iter().copied().collect());
        if let Some(ids) = &mut ids {
            ids.reverse();
        }
        Box::new(LogReader { part: self.clone(), next: self.wanted.from, ids })
    }

    fn blocks(&self) -> bool {
        true
    }
}

struct LogReader {
    part: LogPart,
    /// The next height.
    next: u64,
    /// Transactions still to be looked up, the next one last.
    ids: Option<Vec<TransactionId>>,
}

/// Columns under construction.
struct Gathering<'a> {
    columns: Vec<(&'a LogColumn, Gathered)>,
    rows: usize,
}

impl Gathering<'_> {
    fn push(&mut self, cell: &LogCell<'_>) -> Result<(), SqlError> {
        self.rows += 1;
        for (column, gathered) in &mut self.columns {
            gathered.push((column.get)(cell)?)?;
        }
        Ok(())
    }

    fn block(&mut self, each: Each, block: &Block) -> Result<(), SqlError> {
        match each {
            Each::Block => self.push(&LogCell { block, entry: None, signed: None, part: 0 }),
            Each::Vote => (0..block.certificate.votes.len()).try_for_each(|part| {
                self.push(&LogCell { block, entry: None, signed: None, part })
            }),
            Each::Transaction | Each::Movement => {
                block.entries.iter().try_for_each(|entry| self.entry(each, block, entry))
            }
        }
    }

    fn entry(&mut self, each: Each, block: &Block, entry: &Entry) -> Result<(), SqlError> {
        let (signed, _) = decode_signed(&entry.raw)
            .map_err(|error| SqlError::new(code::IO, format!("a transaction: {error}")))?;
        let (entry, signed) = (Some(entry), Some(&signed));
        if each == Each::Transaction {
            return self.push(&LogCell { block, entry, signed, part: 0 });
        }
        let operations = signed.iter().flat_map(|signed| signed.body.operations.iter().enumerate());
        for (part, operation) in operations {
            if movement(operation).is_some() {
                self.push(&LogCell { block, entry, signed, part })?;
            }
        }
        Ok(())
    }
}

impl LogReader {
    /// One transaction that is named by its id.
    fn one(&self, id: TransactionId, gathering: &mut Gathering<'_>) -> Result<(), SqlError> {
        let LogPart { scope, wanted, table, .. } = &self.part;
        let Some(at) = scope.log.find(id)? else { return Ok(()) };
        if at.height < wanted.from || at.height > wanted.to {
            return Ok(());
        }
        let block = scope.log.block(at.height)?;
        match block.entries.get(at.position as usize) {
            Some(entry) if entry.record.id == id => gathering.entry(table.each, &block, entry),
            _ => Err(SqlError::new(code::IO, format!("the index misleads about transaction {id}"))),
        }
    }
}

impl Reader for LogReader {
    fn next(&mut self) -> Result<Option<RecordBatch>, SqlError> {
        let table = Arc::clone(&self.part.table);
        let columns = self.part.columns.iter().filter_map(|at| table.columns.get(*at));
        let columns = columns.map(|column| (column, Gathered::new(column.kind))).collect();
        let mut gathering = Gathering { columns, rows: 0 };
        while gathering.rows < BATCH_ROWS {
            self.part.scope.snapshot.check()?;
            if let Some(ids) = &mut self.ids {
                let Some(id) = ids.pop() else { break };
                self.one(id, &mut gathering)?;
                continue;
            }
            if self.next > self.part.wanted.to {
                break;
            }
            let block = self.part.scope.log.block(self.next)?;
            gathering.block(table.each, &block)?;
            self.next += 1;
        }
        let rows = gathering.rows;
        if rows == 0 {
            return Ok(None);
        }
        let columns = gathering.columns.into_iter().map(|(_, gathered)| gathered).collect();
        batch(&self.part.schema, columns, rows).map(Some)
    }
}
