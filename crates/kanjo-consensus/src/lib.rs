//! Order, votes and certificates.
//!
//! ```text
//!            leader                             follower                    every replica
//! propose▶ engine ─▶ log.rs: sentinel signs ─▶ network.rs ─▶ proposal's   ┌─▶ Sink::committed
//!          (openraft)  (term, height, content)  topic append   signature   │   execute, sentinel
//!                      write + sync                            checked     │   signs the header
//!                           │                                  write, sync │        │ topic votes
//!                           └──── a majority has it on disk: committed ────┘        ▼
//!                                                               ballots.rs: certificate, final
//! ```
//! The engine fixes one order; the votes over what came of it make it final. An entry of the log
//! is a height, always: index 0 is the genesis, and blanks and changes of the engine's voters take
//! a height each, with the empty header that every node makes alike.
//!
//! # Invariants
//! - index == height: entries are kept in a `kanjo_store` block log that is written once for engine
//!   and ledger (`entry.rs`, `log`).
//! - Nothing is appended without the signature of its proposer's sentinel, and a leader's sentinel
//!   signs one content for each (term, height).
//! - What is acknowledged to the engine is on disk: entries, and the vote for a leader.
//! - A leader that was restarted leads in a new term only.
//! - Two certificates never form at a height while sentinels sign one header for each
//!   (`ballots.rs`).
//! - The engine never needs a snapshot of its own: logs are complete, and a new node copies blocks
//!   before it follows.
//! - One code base for production and simulation: everything is generic over the runtime, and takes
//!   time and randomness from it only.
#![forbid(unsafe_code)]

pub mod ballots;
pub mod boundary;
mod bytes;
mod changes;
pub mod engine;
pub mod entry;
pub mod log;
mod machine;
mod network;
pub mod types;
pub mod vote;
mod wire;

pub use crate::bytes::Malformed;
pub use kanjo_link::bus;
