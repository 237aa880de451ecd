//! Trees, the state commitment, and proofs that anybody checks from a genesis file alone.
//!
//! - [`merkle`]: RFC 6962 trees (SHA-256) over transactions, receipts, record versions and headers.
//! - [`state`]: the indexed Merkle trees (BLAKE3) that commit every row of the ledger, and
//!   [`path`], the way from one row up to the state root of a header.
//! - [`trust`]: what an outsider starts from, a genesis, and how it judges signed headers.
//! - [`proof`]: what a node hands out and what an outsider checks; [`statement`] says what was
//!   proven, [`file`](mod@file) is the JSON form, [`error`] the reasons to refuse.
//!
//! # Place in the flow
//! ```text
//! kanjo-types ◄── kanjo-proof ◄── kanjo-ledger ◄── kanjo-node ──► kanjo-store
//!      ▲                                               │  ▲
//!      └──────────── kanjo-api ◄───────────────────────┘  │
//!                        ▲                                │
//!                   kanjo-client ◄──────── kanjo ─────────┘
//! ```
//! An arrow points to what is depended on. `kanjo-store` depends on no other Kanjo crate; the node
//! joins it with the ledger.
//! The ledger keeps a [`StateTree`] up to date and puts its root into headers; the node fills
//! [`Proof`]s; clients and auditors, in a browser too, check them.
//!
//! # Invariants
//! - Pure: no I/O, no clock, no randomness; the same input gives the same answer everywhere.
//! - [`Proof::check`] never panics, whatever the proof says, and takes time linear in its size.
//! - A proof that checks against a genesis is as good as more than half of that genesis's voters,
//!   and of the voters of each epoch after it on the way: nothing else is trusted, not the node it
//!   came from and not the file around it.
//!
//! Every byte of the trees and proofs is drawn in `docs/format-proofs.md`.
#![forbid(unsafe_code)]

mod check;
pub mod error;
pub mod file;
mod lanes;
mod lines;
pub mod merkle;
pub mod path;
pub mod proof;
pub mod state;
pub mod statement;
pub mod trust;
mod utc;

pub use check::check_bytes;
pub use error::ProofError;
pub use file::ProofFile;
pub use merkle::{AppendTree, MerkleError};
pub use path::{StatePath, StatePathError};
pub use proof::{Carried, MembershipProof, Proof};
pub use state::{Leaf, LeafUpdate, StateTree};
pub use statement::{Fact, Statement};
pub use trust::{SignedHeader, Trust};
