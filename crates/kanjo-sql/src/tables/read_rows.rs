//! Reading tables over rows from a snapshot.

use super::keys::{self, Range};
use super::rows::{self, Cell, Column, Needs, RowTable, Tokens, token_of};
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
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use kanjo_types::record::{PARTITIONS, Record, RowKey, Table};
use kanjo_types::stored::{Block, Row as Stored};
use kanjo_types::{Hash, TokenId, WalletId};
use kanjo_view::{Content, Version};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

/// Rows that are read under one lock, and make one batch.
const BATCH_ROWS: usize = 4_096;
/// Tables below this many rows are read in one part.
const SMALL_ROWS: usize = 20_000;

/// A table over rows.
pub(crate) struct RowProvider {
    table: Arc<RowTable>,
    schema: SchemaRef,
}

impl RowProvider {
    pub(crate) fn new(table: Arc<RowTable>) -> Self {
        let columns =
            table.columns.iter().map(|column| (column.name, column.kind, column.nullable));
        let schema = schema(columns);
        Self { table, schema }
    }
}

impl RowProvider {
    /// Names of the columns that its key consists of.
    pub(crate) fn key_columns(&self) -> Vec<String> {
        self.table.key.iter().map(|part| part.column.to_owned()).collect()
    }

    /// The row with a key. `None`: it is not in the view alone.
    pub(crate) fn by_key(
        &self,
        scope: &Arc<Scope>,
        key: &BTreeMap<&str, &ScalarValue>,
        columns: &[usize],
        schema: &SchemaRef,
    ) -> std::result::Result<Option<RecordBatch>, SqlError> {
        let filters: Vec<Expr> = key
            .iter()
            .map(|(name, value)| {
                let column = Expr::Column(datafusion::common::Column::from_name(*name));
                column.eq(Expr::Literal((*value).clone(), None))
            })
            .collect();
        let filters: Vec<&Expr> = filters.iter().collect();
        let keys = keys::ranges(&filters, self.table.key);
        let part = RowPart {
            table: Arc::clone(&self.table),
            schema: Arc::clone(schema),
            columns: columns.to_vec(),
            scope: Arc::clone(scope),
            ranges: keys.ranges,
            batch_rows: BATCH_ROWS,
        };
        if keys.settled.iter().any(|settled| !settled) || part.blocks() {
            return Ok(None);
        }
        note_states(scope, self.table.table, &part.ranges)?;
        let found = part.open().next()?;
        Ok(Some(found.unwrap_or_else(|| RecordBatch::new_empty(Arc::clone(schema)))))
    }
}

impl fmt::Debug for RowProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RowProvider({})", self.table.name)
    }
}

/// What a statement reads, as its session carries it.
pub(crate) fn scope(state: &dyn Session) -> Result<Arc<Scope>> {
    let scope = state.config().get_extension::<Scope>();
    scope.ok_or_else(|| DataFusionError::Internal("a scan outside of a statement".to_owned()))
}

/// The projected schema, and which columns it has.
pub(crate) fn projected(
    schema: &SchemaRef,
    projection: Option<&Vec<usize>>,
) -> Result<(SchemaRef, Vec<usize>)> {
    let columns: Vec<usize> =
        projection.map_or_else(|| (0..schema.fields().len()).collect(), Clone::clone);
    Ok((Arc::new(schema.project(&columns)?), columns))
}

#[async_trait]
impl TableProvider for RowProvider {
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
        let settled = keys::ranges(filters, self.table.key).settled.into_iter();
        Ok(settled
            .map(|settled| match settled {
                true => TableProviderFilterPushDown::Exact,
                false => TableProviderFilterPushDown::Unsupported,
            })
            .collect())
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
        let filters: Vec<&Expr> = filters.iter().collect();
        let keys = keys::ranges(&filters, self.table.key);
        if keys.settled.iter().any(|settled| !settled) {
            // The engine would not look at them again.
            return Err(DataFusionError::Internal(
                "a condition that a scan can't settle".to_owned(),
            ));
        }
        note_states(&scope, self.table.table, &keys.ranges)?;
        let count = scope.snapshot.rows(self.table.table);
        let whole = keys.ranges == [(RowKey::MIN, RowKey::MAX)];
        let threads = state.config().target_partitions();
        let pieces = match whole && count > SMALL_ROWS && limit.is_none() && threads > 1 {
            true => split(threads),
            false => vec![keys.ranges],
        };
        let parts = pieces.into_iter().map(|ranges| {
            Arc::new(RowPart {
                table: Arc::clone(&self.table),
                schema: Arc::clone(&schema),
                columns: columns.clone(),
                scope: Arc::clone(&scope),
                ranges,
                batch_rows: limit.map_or(BATCH_ROWS, |limit| limit.clamp(1, BATCH_ROWS)),
            }) as Arc<dyn Part>
        });
        let rows = Precision::Inexact(if whole { count } else { 1 });
        let parts = parts.collect();
        Ok(Arc::new(ScanExec::new(self.table.name, schema, parts, limit, rows)))
    }
}

/// Notes the states of wallets that are read by wallet and token, so that a commit can tell whether
/// they are still the same.
fn note_states(scope: &Scope, table: Table, ranges: &[Range]) -> Result<(), SqlError> {
    let Some(reads) = scope.reads.as_ref().filter(|_| table == Table::WalletStates) else {
        return Ok(());
    };
    for (low, high) in ranges {
        let (from, to) = (low.0.0.first_chunk::<20>(), high.0.0.first_chunk::<20>());
        if let Some((wallet, token)) =
            from.filter(|_| from == to).and_then(|key| key.split_first_chunk::<16>())
        {
            let wallet = WalletId(*wallet);
            let token = token.first_chunk::<4>().copied().unwrap_or_default();
            let token = TokenId(u32::from_be_bytes(token));
            let state = scope.snapshot.get(table, &RowKey::wallet_state(wallet, token))?;
            let hash = state.map_or(Hash::ZERO, |state| state.hash);
            reads.lock().state(wallet, token, hash);
        }
    }
    Ok(())
}

/// The whole table in so many pieces, about.
fn split(pieces: usize) -> Vec<Vec<Range>> {
    let width = PARTITIONS.div_ceil(pieces).max(1);
    let ends = (0..PARTITIONS).step_by(width).map(|first| {
        let last = (first + width).min(PARTITIONS) - 1;
        let low = u8::try_from(first << 2).unwrap_or(0);
        let high = u8::try_from((last << 2) | 3).unwrap_or(u8::MAX);
        let (mut from, mut to) = ([0; 32], [0xff; 32]);
        if let (Some(from), Some(to)) = (from.first_mut(), to.first_mut()) {
            (*from, *to) = (low, high);
        }
        vec![(RowKey(Hash(from)), RowKey(Hash(to)))]
    });
    ends.collect()
}

struct RowPart {
    table: Arc<RowTable>,
    schema: SchemaRef,
    columns: Vec<usize>,
    scope: Arc<Scope>,
    ranges: Vec<Range>,
    batch_rows: usize,
}

impl fmt::Debug for RowPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RowPart({}, {} ranges)", self.table.name, self.ranges.len())
    }
}

impl RowPart {
    fn needs(&self, needs: Needs) -> bool {
        let columns = self.columns.iter().filter_map(|at| self.table.columns.get(*at));
        columns.into_iter().any(|column| column.needs == needs)
    }
}

impl Part for RowPart {
    fn open(&self) -> Box<dyn Reader> {
        let mut ranges = self.ranges.clone();
        ranges.reverse();
        Box::new(RowReader {
            table: Arc::clone(&self.table),
            schema: Arc::clone(&self.schema),
            columns: self.columns.clone(),
            scope: Arc::clone(&self.scope),
            ranges,
            from: None,
            batch_rows: self.batch_rows,
            needs_log: self.needs(Needs::Log),
            needs_token: self.needs(Needs::Token),
            tokens: Tokens::new(),
            block: None,
        })
    }

    fn blocks(&self) -> bool {
        self.needs(Needs::Log)
    }
}

struct RowReader {
    table: Arc<RowTable>,
    schema: SchemaRef,
    columns: Vec<usize>,
    scope: Arc<Scope>,
    /// Still to be read, the next one last.
    ranges: Vec<Range>,
    /// Where to go on in the next one.
    from: Option<Bound<RowKey>>,
    batch_rows: usize,
    needs_log: bool,
    needs_token: bool,
    tokens: Tokens,
    /// The block read last: rows made close together share it.
    block: Option<Arc<Block>>,
}

impl RowReader {
    fn rows(&mut self) -> Result<Vec<(RowKey, Version)>, SqlError> {
        let mut found = Vec::new();
        while found.len() < self.batch_rows
            && let Some((low, high)) = self.ranges.last().copied()
        {
            let from = self.from.take().unwrap_or(Bound::Included(low));
            let limit = self.batch_rows - found.len();
            let (rows, next) = self.scope.snapshot.scan(self.table.table, from, high, limit)?;
            found.extend(rows);
            match next {
                Some(next) => self.from = Some(next),
                None => {
                    self.ranges.pop();
                }
            }
        }
        Ok(found)
    }

    /// The row as the log keeps it.
    fn stored(&mut self, key: &RowKey, version: &Version) -> Result<Stored, SqlError> {
        let at = version.at();
        let block = match self.block.take() {
            Some(block) if block.header.height == at.height => block,
            _ => self.scope.log.block(at.height)?,
        };
        let rows = match at.height {
            0 => Some(&block.genesis_rows),
            _ => block.entries.get(at.position as usize).map(|entry| &entry.rows),
        };
        let is_it = |row: &&Stored| rows::is_version(row, self.table.table, key, version.hash);
        let found = rows.and_then(|rows| rows.iter().find(is_it)).cloned();
        self.block = Some(block);
        found.ok_or_else(|| {
            let message = format!("block {} does not hold a row that came from it", at.height);
            SqlError::new(code::IO, message)
        })
    }

    /// Symbol and decimal places of the row's token.
    fn learn_token(&mut self, key: &RowKey) -> Result<(), SqlError> {
        let id = token_of(key);
        if self.tokens.contains_key(&id) {
            return Ok(());
        }
        let found = self.scope.snapshot.get(Table::Tokens, &RowKey::token(id))?;
        if let Some(Version { content: Content::Record(record), .. }) = found
            && let Record::Token(token) = record.as_ref()
        {
            self.tokens.insert(id, (token.symbol.clone(), token.decimals));
        }
        Ok(())
    }
}

impl Reader for RowReader {
    fn next(&mut self) -> Result<Option<RecordBatch>, SqlError> {
        let rows = self.rows()?;
        if rows.is_empty() {
            return Ok(None);
        }
        let table = Arc::clone(&self.table);
        let columns: Vec<&Column> =
            self.columns.iter().filter_map(|at| table.columns.get(*at)).collect();
        let mut gathered: Vec<Gathered> =
            columns.iter().map(|column| Gathered::new(column.kind)).collect();
        for (key, version) in &rows {
            let stored = if self.needs_log { Some(self.stored(key, version)?) } else { None };
            if self.needs_token {
                self.learn_token(key)?;
            }
            let cell = Cell { key, version, stored: stored.as_ref(), tokens: &self.tokens };
            for (column, gathered) in columns.iter().zip(&mut gathered) {
                gathered.push((column.get)(&cell)?)?;
            }
        }
        batch(&self.schema, gathered, rows.len()).map(Some)
    }
}
