//! Reading blocks back, whichever way they are kept.
//!
//! A ledger of one node keeps header, certificate and content together in its block log. In a
//! cluster the log is the engine's: an entry was written before anybody voted, and may be no block
//! at all, or a block that turned out void. What stands at a height is then in the certificates,
//! and the block of the genesis has a log of its own.

use crate::history::HistoryError;
use kanjo_consensus::entry::{Content, Entry};
use kanjo_proof::trust::SignedHeader;
use kanjo_store::HeaderHash;
use kanjo_store::log::{LogReader, ReadError};
use kanjo_types::block::Certificate;
use kanjo_types::stored::{Block, decode_block, decode_head};
use kanjo_types::{ChainId, codec};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Reads final blocks. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Blocks {
    chain: ChainId,
    log: LogReader,
    cluster: Option<ClusterLogs>,
}

/// What a member of a cluster keeps beside the engine's log.
#[derive(Clone)]
pub(crate) struct ClusterLogs {
    /// A [`SignedHeader`] for each final height.
    pub certificates: LogReader,
    /// Those that are not on disk yet.
    pub recent: Recent,
    /// Block 0.
    pub genesis: LogReader,
}

/// Certificates on their way to the disk, by height.
pub(crate) type Recent = Arc<RwLock<BTreeMap<u64, SignedHeader>>>;

/// How long a reader waits for an entry that the others have committed before this node's own disk
/// had it.
const ENTRY_WAIT: Duration = Duration::from_secs(2);

impl Blocks {
    pub(crate) fn new(chain: ChainId, log: LogReader, cluster: Option<ClusterLogs>) -> Self {
        Self { chain, log, cluster }
    }

    /// A block with its certificate.
    pub(crate) fn read(&self, height: u64) -> Result<Block, HistoryError> {
        let Some(cluster) = &self.cluster else {
            return self.decode(height, &bytes(&self.log, height)?);
        };
        let SignedHeader { header, certificate } = read_signed(cluster, height)?;
        if height == 0 {
            let block = self.decode(0, &bytes(&cluster.genesis, 0)?)?;
            return Ok(Block { certificate, ..block });
        }
        let entry = self.entry(height)?;
        if let Content::Block(content) = entry.content()
            && header.transactions > 0
        {
            let block = self.decode(height, content)?;
            if block.header == header {
                return Ok(Block { certificate, ..block });
            }
            return Err(HistoryError::Differs(height));
        }
        Ok(Block { header, certificate, entries: Vec::new(), genesis_rows: Vec::new() })
    }

    /// Header and certificate of a block, without the rest.
    pub(crate) fn signed(&self, height: u64) -> Result<SignedHeader, HistoryError> {
        if let Some(cluster) = &self.cluster {
            return read_signed(cluster, height);
        }
        let bytes = bytes(&self.log, height)?;
        let (header, certificate) =
            decode_head(&bytes).map_err(|source| HistoryError::Decode { height, source })?;
        Ok(SignedHeader { header, certificate })
    }

    /// Hashes of the headers of these heights.
    pub(crate) fn header_hashes(&self, range: Range<u64>) -> Result<Vec<HeaderHash>, ReadError> {
        let Some(cluster) = &self.cluster else { return self.log.header_hashes(range) };
        // First what is not on disk yet: what leaves it in between is on disk then.
        let recent: Vec<HeaderHash> = {
            let recent = cluster.recent.read();
            recent.range(range.clone()).map(|(_, signed)| signed.header.hash().0).collect()
        };
        let on_disk = range.end.saturating_sub(recent.len() as u64).max(range.start);
        let mut hashes = cluster.certificates.header_hashes(range.start..on_disk)?;
        hashes.extend(recent);
        Ok(hashes)
    }

    /// Height after the last final block that can be read.
    pub(crate) fn next_height(&self) -> u64 {
        let Some(cluster) = &self.cluster else { return self.log.next_height() };
        let recent = cluster.recent.read().last_key_value().map(|(height, _)| height + 1);
        recent.unwrap_or_else(|| cluster.certificates.next_height())
    }

    /// What the engine's log holds at a height.
    pub(crate) fn entry(&self, height: u64) -> Result<Entry, HistoryError> {
        let give_up_at = Instant::now() + ENTRY_WAIT;
        while self.log.next_height() <= height && Instant::now() < give_up_at {
            std::thread::sleep(Duration::from_millis(1));
        }
        let bytes = bytes(&self.log, height)?;
        Entry::decode(height, bytes.into())
            .map_err(|error| HistoryError::Entry { height, why: error.to_string() })
    }

    fn decode(&self, height: u64, bytes: &[u8]) -> Result<Block, HistoryError> {
        decode_block(bytes, self.chain).map_err(|source| HistoryError::Decode { height, source })
    }
}

fn bytes(log: &LogReader, height: u64) -> Result<Vec<u8>, HistoryError> {
    log.read(height)?.ok_or(HistoryError::Missing(height))
}

fn read_signed(cluster: &ClusterLogs, height: u64) -> Result<SignedHeader, HistoryError> {
    if let Some(signed) = cluster.recent.read().get(&height) {
        return Ok(signed.clone());
    }
    let bytes = bytes(&cluster.certificates, height)?;
    codec::from_bytes(&bytes).map_err(|source| HistoryError::Decode { height, source })
}

/// A certificate without votes: that of a block on its way.
pub(crate) fn no_votes() -> Certificate {
    Certificate { epoch: 0, votes: Vec::new() }
}
