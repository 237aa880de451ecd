//! A gateway to a Kanjo cluster (mission C5): clients speak to any gateway as to a node.
//!
//! ```text
//!  client ─▶ gateway ── submissions ─▶ leader        (finds it, and the next one when it falls)
//!                   └── questions ───▶ any executor  (in turn; another one when one is silent)
//! ```
//! It holds no key, no ledger and no state that outlives it, so any number of them can stand
//! anywhere. Nodes that do not lead pass submissions on with the same code ([`Forwarder`]).
//!
//! # Place in the flow
//! In front of `kanjo-node`, on the other side of HTTP. [`route`] decides (pure: the simulator
//! drives it), [`Forwarder`] does, [`Nodes`] knows who leads, [`start`] serves.
//!
//! # Invariants
//! - The bytes of a submission are never changed; a repetition is the very same request. The ledger
//!   takes an id once, so that it happens at most once however often it is sent.
//! - A transaction has one outcome: that of its receipt.
//! - What may have happened is never told as refused: it is `outcome_unknown`.
//! - Who submits here and then asks here sees what was answered: questions name the height that
//!   their answer must know ([`kanjo_api::AT_LEAST_HEADER`]).
#![forbid(unsafe_code)]

mod forward;
mod metrics;
mod nodes;
mod read;
pub mod route;
mod server;
mod upstream;
mod watch;
mod wire;

pub use forward::{ForwardCounts, ForwardOptions, Forwarder, Submitted};
pub use nodes::{Directory, Leader, Nodes, Seen};
pub use server::{Config, Running, StartError, start};
