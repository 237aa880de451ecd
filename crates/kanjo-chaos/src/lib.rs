//! Faults on a cluster of real processes under load.
//!
//! ```text
//!  clients ──▶ nodes ◀── every link goes through a proxy here ──▶ nodes
//!     │          └ sentinels, each a process, each node with data of its own
//!     │                ▲ SIGKILL, SIGSTOP, SIGTERM, cut and slow links, full disks, one by one
//!     └ every answer is remembered, and held against all nodes at the end
//! ```
//! The simulator ([`kanjo-sim`](../kanjo_sim/index.html)) meets many more situations in a second,
//! and replays them exactly. What it replaces is met here: processes, sockets, files, the kernel's
//! idea of a full disk, the client's resending.
//!
//! What must hold in every run:
//! - what was acknowledged is at its height with its result, on every executor, once;
//! - what was refused is nowhere; balances follow from the answers, and no money came or went;
//! - all executors hold the same, and each one's data verifies;
//! - a minute after a fault is over all nodes vote and payments go on;
//! - no process ends by itself, but for a sentinel whose disk is full.
#![forbid(unsafe_code)]

mod check;
mod cluster;
mod faults;
mod load;
mod proxy;
mod room;
mod run;

pub use cluster::Programs;
pub use faults::{Fault, Group};
pub use run::{Options, run};

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Display;

/// The run itself can't go on.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {why}")]
pub struct Trouble {
    what: String,
    why: String,
}

impl Trouble {
    pub(crate) fn new(what: impl Display, why: impl Display) -> Self {
        Self { what: what.to_string(), why: why.to_string() }
    }
}

/// What a run came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// From which faults and payments follow; moments are the machine's own affair.
    pub seed: u64,
    /// How long payments were made.
    pub seconds: u64,
    /// How often each fault came.
    pub faults: BTreeMap<String, u64>,
    /// Payments whose clients know that they are recorded.
    pub acknowledged: u64,
    /// Payments that were refused, by code.
    pub refused: BTreeMap<String, u64>,
    /// Payments whose clients don't know, by reason.
    pub unknown: BTreeMap<String, u64>,
    /// Of those not acknowledged, how many are recorded.
    pub unknown_recorded: u64,
    /// The height at the end.
    pub height: u64,
    /// Longest time without an acknowledged payment while a majority was there, and since when.
    pub longest_with_majority_ms: (u64, u64),
    /// The same where there was no majority for a part of it.
    pub longest_without_majority_ms: (u64, u64),
    /// Longest time from the end of a fault until all nodes voted again.
    pub longest_recovery_ms: u64,
    /// Full disks that the node's status spoke of.
    pub said_full: u64,
    /// Sentinels that ended because their disk was full.
    pub sentinels_ended_full: u32,
    /// What could not be run here, and why.
    pub not_run: Vec<String>,
    /// What does not hold.
    pub findings: Vec<String>,
}
