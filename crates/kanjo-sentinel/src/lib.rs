//! Proof of Integrity (mission M11): a process beside each node that holds the node's vote key,
//! measures the node, and never signs two histories.
//!
//! ```text
//!  node process                          sentinel process                        attestor
//! ┌────────────────┐  Noise over a      ┌───────────────────────────────┐      ┌────────────┐
//! │ client::Signer │  Unix socket       │ service ── measure /proc/PID  │      │ software   │
//! │  proposals     │───────────────────▶│    │                          │      │ or         │
//! │  votes         │                    │ signing ── guard ── record    │─────▶│ tpm2:      │
//! │  notices       │◀───────────────────│    │         (fsync, first)   │      │ counter,   │
//! │  evidence      │  signatures        │ vote key                      │      │ quote      │
//! └────────────────┘                    └───────────────────────────────┘      └────────────┘
//! ```
//!
//! # Place in the flow
//! A leader has each proposal signed before anybody appends it; a replica has the header it came
//! to signed after the log has committed the block. Both go through [`guard`]. The rest says
//! what ran while that was signed: [`measure`], [`attestor`], [`evidence`].
//!
//! # Invariants
//! - For one ledger, one height and one vote key there is at most one signed header; for one
//!   (term, height) at most one signed proposal. Also after crashes, and with data restored from an
//!   old copy, as far as the attestor's count reaches ([`guard`]).
//! - A signature leaves only after the record that allows it is durable.
//! - The vote key is used in [`signing`] only.
//!
//! What holds against whom is argued in `docs/integrity.md`.
#![forbid(unsafe_code)]

pub mod appraisal;
pub mod attestor;
pub mod client;
pub mod directory;
pub mod evidence;
pub mod guard;
pub mod measure;
pub mod memory;
pub mod message;
pub mod remote;
pub mod rules;
pub mod service;
pub mod signing;
pub mod tpm;

pub use client::{LocalParts, LocalSigner, Signer, SignerError};
pub use remote::{Remote, RemoteSigner};
pub use rules::{ProposalRequest, Refusal, VoteRequest};
