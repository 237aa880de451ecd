//! A member of a cluster: the node's pipeline around the engine of `kanjo-consensus`.
//!
//! ```text
//!            leader                                         follower
//!  intake ─▶ sequencer ─▶ sealer ─┐              ┌── engine ◀── leader's entries
//!                                 ▼              ▼
//!                              finality ─▶ engine   finality ─▶ replayer ─▶ sequencer ─▶ sealer ─┐
//!                                 ▲── committed ─┘     ▲─────────────────────────────────────────┘
//!                 signer ◀────────┤ vote, when committed and computed
//!                 bus ◀───────────┤ votes of all members ─▶ certificate ─▶ release, keeper
//! ```
//! Every thread is the same on both sides; who leads decides only where blocks come from. A witness
//! has finality and engine alone.

mod evidence;
mod fetch;
pub(crate) mod finality;
mod handler;
mod keeper;
mod manager;
mod measures;
mod member;
pub(crate) mod replayer;
pub(crate) mod roles;
mod signing;
mod standing;
mod state;
pub(crate) mod status;
mod validity;
pub(crate) mod witness;

pub(crate) use member::MemberThreads;
pub use member::{MemberOptions, start_member};
pub(crate) use state::{ClusterState, SentinelState};
