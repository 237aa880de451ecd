//! Settings of a node.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Settings of a node. [`Config::new`] gives the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Data directory, made by [`crate::data::create`].
    pub data: PathBuf,
    /// Where the HTTP API listens; loopback unless told otherwise.
    pub listen: SocketAddr,
    /// A block is cut at the latest this long after its first transaction, in milliseconds.
    pub block_interval_ms: u64,
    /// A block is cut at this many transactions.
    pub block_transactions_max: usize,
    /// A block is cut at this many bytes, about: transactions and what they change beside the
    /// balances.
    pub block_bytes_max: usize,
    /// Every partition is checkpointed about once in this many seconds while the ledger changes.
    pub checkpoint_interval_s: u64,
    /// Threads that check signatures; 0 for one per core.
    pub verify_threads: usize,
    /// Size of a segment of the block log.
    pub segment_bytes: u64,
    /// Keeps all rows a second time, for SQL ([`kanjo_view`]).
    pub view: bool,
    /// Most transactions between admission and finality; more are refused as `overloaded`.
    pub in_flight_max: usize,
}

impl Config {
    /// Defaults for the node in directory `data`.
    #[must_use]
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8480)),
            block_interval_ms: 4,
            block_transactions_max: 8_192,
            block_bytes_max: 8 << 20,
            checkpoint_interval_s: 60,
            verify_threads: 0,
            segment_bytes: 64 << 20,
            view: false,
            in_flight_max: 262_144,
        }
    }

    pub(crate) fn verify_threads(&self) -> usize {
        match self.verify_threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        }
    }
}
