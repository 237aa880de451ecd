//! Opening a data directory: checkpoints, the rest of the log, trees, and the check against the
//! last header.

use crate::background::CheckpointPayload;
use crate::blocks::{Blocks, ClusterLogs, Recent, no_votes};
use crate::cluster::witness::{self, Known};
use crate::config::Config;
use crate::data::{self, DataError, Voter};
use crate::history::HistoryError;
use crate::measure::measurement;
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
use kanjo_store::log::{AppendError, BlockLog, LogOptions, OpenError, ReadError};
use kanjo_types::membership::Membership;
use kanjo_types::record::PARTITIONS;
use kanjo_types::stored::{Block, encode_block};
use kanjo_types::{ChainId, Genesis, Hash, codec};
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
    pub ledger: Ledger,
    pub trees: StateTree,
    pub history: AppendTree,
    pub blocks: Blocks,
    pub index: Index,
    pub checkpoints: CheckpointStore,
    pub tip: Tip,
    /// Whose votes count above the tip.
    pub membership: Arc<Membership>,
    /// The newest final header; without votes when not even the genesis is certified yet.
    pub last: SignedHeader,
    /// Taken by whoever starts the node.
    pub kind: Option<OpenedAs>,
}

/// What is written to.
pub(crate) enum OpenedAs {
    /// A ledger of one node.
    Alone { log: BlockLog, voter: Voter },
    /// A member of a cluster: the engine opens its log itself, from the same directory.
    Member { log: BlockLog, certificates: BlockLog },
}

fn log_options(config: &Config) -> LogOptions {
    LogOptions { segment_bytes: config.segment_bytes, first_height: 0 }
}

fn open_log(
    config: &Config,
    disk: &Arc<dyn Disk>,
    chain: ChainId,
    path: &Path,
) -> Result<BlockLog, OpenLedgerError> {
    let (log, report) = BlockLog::open(disk.clone(), path, chain.0.0, log_options(config))?;
    if report.truncated_bytes > 0 {
        tracing::warn!(
            bytes = report.truncated_bytes,
            path = %path.display(),
            "a write that never finished was cut from the end of the log; nothing acknowledged was in it"
        );
    }
    Ok(log)
}

/// Opens the ledger in `config.data` that this node keeps alone, writing block 0 on the first
/// start.
pub(crate) fn open(config: &Config, disk: Arc<dyn Disk>) -> Result<Opened, OpenLedgerError> {
    let dir = &config.data;
    let genesis = data::load_genesis(dir)?;
    if genesis.voters.len() != 1 {
        return Err(OpenLedgerError::NeedsCluster(genesis.voters.len()));
    }
    let voter = data::load_voter(dir, &genesis)?;
    let chain = genesis.chain_id();
    let mut log = open_log(config, &disk, chain, &data::log_path(dir))?;
    let checkpoints = CheckpointStore::open(disk, &data::checkpoints_path(dir), chain.0.0)?;
    let index = open_index(&data::index_path(dir))?;
    check_nothing_lost(log.next_height(), &checkpoints, index.indexed_height())?;
    if log.next_height() == 0 {
        let (mut block, _, _) = genesis_block(&genesis);
        block.certificate = certify(&voter, &measurement(), 0, &block.header);
        append_block(&mut log, &block)?;
    }
    let blocks = Blocks::new(chain, log.reader(), None);
    let kind = OpenedAs::Alone { log, voter };
    restored(genesis, blocks, index, checkpoints, kind)
}

/// Opens the ledger of a member of a cluster: state up to the last certified height. What the
/// engine's log holds above is executed when the engine says that it is committed. A witness gets
/// no state but that of the genesis.
pub(crate) fn open_member(
    config: &Config,
    disk: Arc<dyn Disk>,
    recent: Recent,
    is_witness: impl FnOnce(&Genesis) -> bool,
) -> Result<Opened, OpenLedgerError> {
    let dir = &config.data;
    let genesis = data::load_genesis(dir)?;
    let chain = genesis.chain_id();
    let log = open_log(config, &disk, chain, &data::log_path(dir))?;
    let certificates = open_log(config, &disk, chain, &data::certificates_path(dir))?;
    let mut genesis_log = open_log(config, &disk, chain, &data::genesis_log_path(dir))?;
    let checkpoints = CheckpointStore::open(disk, &data::checkpoints_path(dir), chain.0.0)?;
    let index = open_index(&data::index_path(dir))?;
    check_nothing_lost(certificates.next_height(), &checkpoints, index.indexed_height())?;
    if log.next_height() < certificates.next_height() {
        return Err(OpenLedgerError::LostBlocks {
            log_end: log.next_height().checked_sub(1),
            evidence: "a certificate",
            height: certificates.next_height() - 1,
        });
    }
    if genesis_log.next_height() == 0 {
        append_block(&mut genesis_log, &genesis_block(&genesis).0)?;
    }
    let logs =
        ClusterLogs { certificates: certificates.reader(), recent, genesis: genesis_log.reader() };
    let blocks = Blocks::new(chain, log.reader(), Some(logs));
    let kind = OpenedAs::Member { log, certificates };
    if !is_witness(&genesis) {
        return restored(genesis, blocks, index, checkpoints, kind);
    }
    let (block, ledger, trees) = genesis_block(&genesis);
    let known = witness::restore(&genesis, &blocks, &checkpoints)?.unwrap_or_else(|| Known {
        membership: ledger.membership().clone(),
        transactions: 0,
        last: SignedHeader { header: block.header, certificate: no_votes() },
    });
    let Known { membership, transactions, last } = known;
    let restored = Restored { ledger, trees, membership, transactions, last };
    opened(genesis, restored, blocks, index, checkpoints, kind)
}

fn append_block(log: &mut BlockLog, block: &Block) -> Result<(), OpenLedgerError> {
    let header_hash = block.header.hash().0;
    let bytes = encode_block(block);
    log.append(&[BlockRef { height: block.header.height, header_hash, bytes: &bytes }])?;
    Ok(())
}

fn restored(
    genesis: Genesis,
    blocks: Blocks,
    index: Index,
    checkpoints: CheckpointStore,
    kind: OpenedAs,
) -> Result<Opened, OpenLedgerError> {
    let restored = match restore(&genesis, &blocks, Some(&checkpoints)) {
        Err(OpenLedgerError::StateMismatch { .. }) => {
            tracing::warn!("checkpoints don't fit the log; restoring from the log alone");
            restore(&genesis, &blocks, None)?
        }
        restored => restored?,
    };
    opened(genesis, restored, blocks, index, checkpoints, kind)
}

fn opened(
    genesis: Genesis,
    restored: Restored,
    blocks: Blocks,
    index: Index,
    checkpoints: CheckpointStore,
    kind: OpenedAs,
) -> Result<Opened, OpenLedgerError> {
    let Restored { ledger, trees, membership, transactions, last } = restored;
    let history = restore_history(&blocks, &last)?;
    let tip = Tip {
        height: last.header.height,
        header_hash: last.header.hash(),
        time_ms: last.header.time_ms,
        transactions,
    };
    let kind = Some(kind);
    Ok(Opened {
        genesis,
        ledger,
        trees,
        history,
        blocks,
        index,
        checkpoints,
        tip,
        membership,
        last,
        kind,
    })
}

/// The tree over all header hashes, as the log's tables give them; the last header tells whether
/// they are right.
fn restore_history(blocks: &Blocks, last: &SignedHeader) -> Result<AppendTree, OpenLedgerError> {
    let mut history = AppendTree::new();
    for hash in blocks.header_hashes(0..last.header.height)? {
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

/// State and what belongs to it at the end of the log.
struct Restored {
    ledger: Ledger,
    trees: StateTree,
    membership: Arc<Membership>,
    transactions: u64,
    last: SignedHeader,
}

/// Partitions from their checkpoints, then the log from the lowest of them on.
fn restore(
    genesis: &Genesis,
    blocks: &Blocks,
    checkpoints: Option<&CheckpointStore>,
) -> Result<Restored, OpenLedgerError> {
    if blocks.next_height() == 0 {
        // A member whose first votes are still to come.
        let (block, ledger, trees) = genesis_block(genesis);
        let membership = ledger.membership().clone();
        let last = SignedHeader { header: block.header, certificate: no_votes() };
        return Ok(Restored { ledger, trees, membership, transactions: 0, last });
    }
    let mut ledger = Ledger::new(genesis);
    let tip_height = blocks.next_height().saturating_sub(1);
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
    tracing::info!(from = start, to = tip_height, "putting the log's rows in place");
    let mut last = None;
    for height in start..=tip_height {
        let block = blocks.read(height)?;
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
    let membership = ledger.membership().clone();
    Ok(Restored { ledger, trees, membership, transactions, last })
}
