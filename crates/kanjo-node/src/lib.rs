//! One Kanjo node: from a request to a final block, and back to readers.
//!
//! ```text
//!  HTTP ──▶ intake ──────▶ sequencer ─────▶ sealer ───────────▶ writer ──────▶ answers, streams
//!           decode,        order, replay,   roots, state tree,  one append,    └▶ indexer
//!           signatures     execute, link    header, vote,       one fsync      └▶ checkpoints
//!           (all cores)    (one thread)     encode (one)        (one)
//! ```
//! Stages are threads joined by bounded channels; blocks overlap: while one is written, the next is
//! sealed and the one after it executed. When a later stage is slow, earlier ones make larger
//! blocks.
//!
//! # Invariants
//! - Nothing is answered, shown or streamed before its block is certified and on disk. Readers see
//!   the tables as they are and wait until the newest version they saw is final.
//! - A payer's funds are taken when its payment is executed, ahead of finality: they can't be spent
//!   twice while the first block is in flight, and blocks become final in order.
//! - After any failed write the node takes nothing more and says so; a restart finds out what is on
//!   disk.
//! - All of this process's disk writes for the ledger go through `kanjo-store`.
#![forbid(unsafe_code)]

pub mod audit;
mod audit_member;
mod background;
mod blocks;
pub mod clock;
mod cluster;
mod config;
pub mod data;
mod evidence;
mod flow;
mod history;
mod http;
mod intake;
mod measure;
mod memberships;
mod metrics;
mod node;
mod proofs;
mod release;
mod restart;
mod rows;
mod sealer;
mod sequencer;
mod shared;
mod subjects;
mod tables;
mod view;
mod writer;

pub use cluster::{MemberOptions, start_member};
pub use config::Config;
pub use kanjo_consensus::engine::EngineConfig;
pub use node::{Bearings, Ended, RunningNode, StartError, StopError, start, start_with};
