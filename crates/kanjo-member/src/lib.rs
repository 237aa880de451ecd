//! The rules of a member of a cluster, without clock, disk or network.
//!
//! ```text
//!  kanjo-node (threads)  ┐               ┌ conduct:   who leads, leaves, is ejected
//!                        ├▶ kanjo-member ┼ finality:  from a committed entry to a final block
//!  kanjo-sim (simulated) ┘               ├ foresight: members in the log, not in the ledger
//!                                        └ witness:   what one keeps that executes nothing
//! ```
//! A node and the simulator drive the same rules: what a seed shows is what a node does.
//!
//! # Invariants
//! - The same calls in the same order give the same answers; time is an argument.
//! - Whatever comes from another member is checked by the membership of the ledger, never believed.
#![forbid(unsafe_code)]

pub mod conduct;
pub mod finality;
pub mod foresight;
pub mod witness;
