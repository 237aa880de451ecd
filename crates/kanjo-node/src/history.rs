//! Reading back: blocks from the log, record versions from blocks, a row's past by its own links.

use crate::shared::Shared;
use kanjo_api::RecordView;
use kanjo_proof::trust::SignedHeader;
use kanjo_store::log::ReadError;
use kanjo_types::codec::DecodeError;
use kanjo_types::record::RowKey;
use kanjo_types::stored::{Block, Location, Row};
use kanjo_types::{Hash, Table, TransactionId};

/// A block can't be read back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HistoryError {
    #[error("block {0} is not in the log")]
    Missing(u64),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("block {height} in the log: {source}")]
    Decode { height: u64, source: DecodeError },
    #[error("block {0} in the log is not the one that was certified")]
    Differs(u64),
    #[error("entry {height} of the log: {why}")]
    Entry { height: u64, why: String },
    #[error("block {height} does not hold the version of a row that is said to come from it")]
    NoSuchVersion { height: u64 },
}

pub(crate) fn read_block(shared: &Shared, height: u64) -> Result<Block, HistoryError> {
    shared.log.read(height)
}

/// Header and certificate of a block, without decoding the rest.
pub(crate) fn read_header(shared: &Shared, height: u64) -> Result<SignedHeader, HistoryError> {
    shared.log.signed(height)
}

/// The rows made by the transaction at `position` of a block; all rows of the genesis for block 0.
pub(crate) fn rows_at(block: &Block, position: u32) -> &[Row] {
    if block.header.height == 0 {
        return &block.genesis_rows;
    }
    block.entries.get(position as usize).map_or(&[], |entry| &entry.rows)
}

/// Blocks read one after the other; the last one is kept, since versions made close together share
/// it.
pub(crate) struct Walk<'a> {
    shared: &'a Shared,
    block: Option<Block>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(shared: &'a Shared) -> Self {
        Self { shared, block: None }
    }

    pub(crate) fn block(&mut self, height: u64) -> Result<&Block, HistoryError> {
        let block = match self.block.take() {
            Some(block) if block.header.height == height => block,
            _ => read_block(self.shared, height)?,
        };
        Ok(self.block.insert(block))
    }
}

/// The version of the row `key` of `table` that was made at `at`, and where the one before it was
/// made.
pub(crate) fn version_at(
    walk: &mut Walk<'_>,
    table: Table,
    key: RowKey,
    at: Location,
) -> Result<(RecordView, Location), HistoryError> {
    let block = walk.block(at.height)?;
    let rows = rows_at(block, at.position).iter();
    let row = rows.clone().find(|row| row.record.place() == Some((table, key)));
    let row = row.ok_or(HistoryError::NoSuchVersion { height: at.height })?;
    Ok((view(block, row, at), row.previous_at))
}

/// A row's version as the API shows it.
pub(crate) fn view(block: &Block, row: &Row, at: Location) -> RecordView {
    let entry = block.entries.get(at.position as usize);
    RecordView {
        hash: row.hash,
        record: row.record.clone(),
        height: at.height,
        position: at.position,
        time_ms: block.header.time_ms,
        transaction_id: entry.map_or(TransactionId(block.header.chain.0), |entry| entry.record.id),
    }
}

/// Where a walk along a row's versions begins, and how far it may go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walking {
    /// Where the first version to look at was made.
    pub at: Location,
    /// Versions at or above this one are passed over.
    pub before: Option<u64>,
    /// Most versions to return.
    pub limit: usize,
    /// Most blocks to read.
    pub blocks_max: usize,
}

/// Versions of a row, newest first; and where the walk stopped, unless at the first version.
pub(crate) fn versions(
    shared: &Shared,
    table: Table,
    key: RowKey,
    walking: Walking,
) -> Result<(Vec<RecordView>, Option<Location>), HistoryError> {
    let mut found = Vec::new();
    let mut expected: Option<Hash> = None;
    let mut walk = Walk::new(shared);
    let mut at = walking.at;
    let mut blocks = 1;
    loop {
        let (view, previous_at) = version_at(&mut walk, table, key, at)?;
        if expected.is_some_and(|expected| expected != view.hash) {
            return Err(HistoryError::NoSuchVersion { height: at.height });
        }
        let version = view.record.version();
        expected = Some(view.record.previous());
        if walking.before.is_none_or(|before| version < before) {
            found.push(view);
        }
        if version <= 1 {
            return Ok((found, None));
        }
        blocks += usize::from(previous_at.height != at.height);
        at = previous_at;
        if found.len() >= walking.limit || blocks > walking.blocks_max {
            return Ok((found, Some(at)));
        }
    }
}
