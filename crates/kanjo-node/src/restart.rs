//! Opening a data directory: checkpoints, the rest of the log, trees, and the check against the
//! last header.

use crate::background::CheckpointPayload;
use crate::config::Config;
use crate::data::{self, DataError, Voter};
use crate::history::{HistoryError, read_from};
use crate::sealer::certify;
use crate::shared::Tip;
use kanjo_ledger::Ledger;
use kanjo_ledger::block::{build_trees, genesis_block};
use kanjo_proof::merkle::AppendTree;
use kanjo_proof::state::StateTree;
use kanjo_proof::trust::SignedHeader;
use kanjo_store::BlockRef;
use kanjo_store::checkpoint::{CheckpointError, CheckpointStore};
use kanjo_store::disk::Disk;
use kanjo_store::index::{Index, IndexError};
use kanjo_store::log::{AppendError, BlockLog, LogOptions, LogReader, OpenError, ReadError};
use kanjo_types::record::PARTITIONS;
use kanjo_types::stored::encode_block;
use kanjo_types::{Genesis, Hash, codec};
use std::path::Path;
use std::sync::Arc;

/// The ledger in a directory can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenLedgerError {
    /// The directory, the genesis or the vote key.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The block log.
    #[error("block log: {0}")]
    Log(#[from] OpenError),
    /// The first block could not be written.
    #[error("block log: {0}")]
    Append(#[from] AppendError),
    /// A block could not be read.
    #[error("block log: {0}")]
    Read(#[from] ReadError),
    /// A block could not be decoded.
    #[error("{0}")]
    History(String),
    /// Checkpoints could not be listed or read.
    #[error("checkpoints: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The index could not be opened or made anew.
    #[error("index: {0}")]
    Index(#[from] IndexError),
    /// The state made from the log is not the one the last header commits to.
    #[error(
        "after block {height} the state root is {found}, the block says {expected}; the data is damaged: \
         run 'kanjo verify', then restore this directory from a backup"
    )]
    StateMismatch {
        /// Height of the last block.
        height: u64,
        /// Root made from the log.
        found: Hash,
        /// Root in the header.
        expected: Hash,
    },
    /// The header hashes in the log's tables are not those that the last header commits to.
    #[error(
        "the header hashes kept beside the log give history root {found}, block {height} says {expected}; \
         remove the .idx files of the log, they are made anew from it"
    )]
    HistoryMismatch {
        /// Height of the last block.
        height: u64,
        /// Root over the kept hashes.
        found: Hash,
        /// Root in the header.
        expected: Hash,
    },
    /// The log ends below what was final before.
    #[error(
        "the block log ends at height {log_end:?}, but {evidence} was written at height {height}, after that \
         block was final: acknowledged blocks are missing from the end of the log. Restore the log from \
         another copy. Only if the loss is to be accepted, remove 'checkpoints' and 'index' first"
    )]
    LostBlocks {
        /// Newest height in the log; none when it is empty.
        log_end: Option<u64>,
        /// What tells.
        evidence: &'static str,
        /// The height it knows.
        height: u64,
    },
    /// More voters than this node alone can stand for.
    #[error(
        "the genesis names {0} voters; a single node certifies blocks alone only with one voter"
    )]
    NeedsCluster(usize),
}

impl From<HistoryError> for OpenLedgerError {
    fn from(error: HistoryError) -> Self {
        Self::History(error.to_string())
    }
}

/// An open ledger.
pub(crate) struct Opened {
    pub genesis: Genesis,
    pub voter: Voter,
    pub ledger: Ledger,
    pub trees: StateTree,
    pub history: AppendTree,
    pub log: BlockLog,
    pub index: Index,
    pub checkpoints: CheckpointStore,
    pub tip: Tip,
    pub last: SignedHeader,
}

/// Opens the ledger in `config.data`, writing block 0 on the first start.
pub(crate) fn open(config: &Config, disk: Arc<dyn Disk>) -> Result<Opened, OpenLedgerError> {
    let dir = &config.data;
    let genesis = data::load_genesis(dir)?;
    let voter = data::load_voter(dir, &genesis)?;
    if genesis.voters.len() != 1 {
        return Err(OpenLedgerError::NeedsCluster(genesis.voters.len()));
    }
    let chain = genesis.chain_id();
    let options = LogOptions { segment_bytes: config.segment_bytes, first_height: 0 };
    let log_dir = data::log_path(dir);
    let (mut log, report) = BlockLog::open(disk.clone(), &log_dir, chain.0.0, options)?;
    if report.truncated_bytes > 0 {
        tracing::warn!(
            bytes = report.truncated_bytes,
            "a write that never finished was cut from the end of the log; nothing acknowledged was in it"
        );
    }
    let checkpoints = CheckpointStore::open(disk, &data::checkpoints_path(dir), chain.0.0)?;
    let index = open_index(&data::index_path(dir))?;
    check_nothing_lost(log.next_height(), &checkpoints, index.indexed_height())?;
    if log.next_height() == 0 {
        let (mut block, _, _) = genesis_block(&genesis);
        let hash = block.header.hash();
        block.certificate = certify(&voter, &Hash::ZERO, 0, &block.header);
        let bytes = encode_block(&block);
        log.append(&[BlockRef { height: 0, header_hash: hash.0, bytes: &bytes }])?;
    }
    let reader = log.reader();
    let (ledger, trees, transactions, last) = match restore(&genesis, &reader, Some(&checkpoints)) {
        Err(OpenLedgerError::StateMismatch { .. }) => {
            tracing::warn!("checkpoints don't fit the log; restoring from the log alone");
            restore(&genesis, &reader, None)?
        }
        restored => restored?,
    };
    let history = restore_history(&reader, &last)?;
    let tip = Tip {
        height: last.header.height,
        header_hash: last.header.hash(),
        time_ms: last.header.time_ms,
        transactions,
    };
    Ok(Opened { genesis, voter, ledger, trees, history, log, index, checkpoints, tip, last })
}

/// The tree over all header hashes, as the log's tables give them; the last header tells whether
/// they are right.
fn restore_history(log: &LogReader, last: &SignedHeader) -> Result<AppendTree, OpenLedgerError> {
    let mut history = AppendTree::new();
    for hash in log.header_hashes(0..last.header.height)? {
        history.push(Hash(hash));
    }
    let height = last.header.height;
    let (found, expected) = (history.root(), last.header.history_root);
    if found != expected {
        return Err(OpenLedgerError::HistoryMismatch { height, found, expected });
    }
    history.push(last.header.hash());
    Ok(history)
}

fn open_index(path: &Path) -> Result<Index, OpenLedgerError> {
    match Index::open(path) {
        Ok(index) => Ok(index),
        Err(error) => {
            tracing::warn!(%error, "the index is damaged; making it anew");
            Ok(Index::rebuild(path)?)
        }
    }
}

/// Checkpoints and index are written behind finality, so neither can know a block that the log does
/// not hold, unless the log has lost its end.
pub(crate) fn check_nothing_lost(
    next_height: u64,
    checkpoints: &CheckpointStore,
    indexed: Option<u64>,
) -> Result<(), OpenLedgerError> {
    let checkpointed = checkpoints.list().into_iter().map(|(_, height)| height).max();
    for (evidence, known) in [("a checkpoint", checkpointed), ("the index", indexed)] {
        if let Some(height) = known.filter(|height| *height >= next_height) {
            let log_end = next_height.checked_sub(1);
            return Err(OpenLedgerError::LostBlocks { log_end, evidence, height });
        }
    }
    Ok(())
}

type Restored = (Ledger, StateTree, u64, SignedHeader);

/// Partitions from their checkpoints, then the log from the lowest of them on.
fn restore(
    genesis: &Genesis,
    log: &LogReader,
    checkpoints: Option<&CheckpointStore>,
) -> Result<Restored, OpenLedgerError> {
    let chain = genesis.chain_id();
    let mut ledger = Ledger::new(genesis);
    let tip_height = log.next_height().saturating_sub(1);
    // The first height that a partition still needs.
    let mut needs_from = [0u64; PARTITIONS];
    let (mut counted_to, mut transactions) = (None, 0u64);
    for (partition, needs_from) in (0u16..).zip(&mut needs_from) {
        let Some(store) = checkpoints else { continue };
        let loaded = store.load_at_most(partition, tip_height)?;
        for rejected in &loaded.rejected {
            tracing::warn!(path = %rejected.path.display(), reason = %rejected.reason, "bad checkpoint");
        }
        let Some(checkpoint) = loaded.checkpoint else { continue };
        match codec::from_bytes::<CheckpointPayload>(&checkpoint.payload) {
            Ok(payload) => {
                ledger.load(partition, payload.snapshot);
                *needs_from = checkpoint.height + 1;
                if counted_to.is_none_or(|height| height < checkpoint.height) {
                    (counted_to, transactions) = (Some(checkpoint.height), payload.transactions);
                }
            }
            Err(error) => tracing::warn!(partition, %error, "bad checkpoint"),
        }
    }
    let start = needs_from.iter().copied().min().unwrap_or(0).min(tip_height);
    let mut last = None;
    for height in start..=tip_height {
        let block = read_from(log, chain, height)?;
        ledger.redo(&block, |partition| {
            needs_from.get(usize::from(partition)).is_none_or(|from| *from <= height)
        });
        if counted_to.is_none_or(|counted| height > counted) {
            transactions += u64::from(block.header.transactions);
        }
        last = Some(SignedHeader { header: block.header, certificate: block.certificate });
    }
    let last = last.ok_or_else(|| OpenLedgerError::History("the log holds no block".to_owned()))?;
    let trees = build_trees(&ledger);
    let found = trees.root();
    let expected = last.header.state_root;
    if found != expected {
        return Err(OpenLedgerError::StateMismatch { height: tip_height, found, expected });
    }
    Ok((ledger, trees, transactions, last))
}
