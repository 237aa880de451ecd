//! The rules of the ledger: signed transactions in, record versions and receipts out.
//!
//! Pure and deterministic: no clock, no randomness, no I/O. Hash maps are used for look-ups only
//! and never walked, so their order can't show. Every node that is given the same transactions in
//! the same order with the same block times makes the same records, bit for bit.
//!
//! # Place in the flow
//! `admission` (decode, shape) → `admission::verify` (signatures, many at a time) →
//! [`Ledger::execute`] in the order of the block → [`Ledger::end_block`] (changed leaves for the
//! state trees, supplies).
//!
//! # Invariants
//! - A transaction is done whole or not at all; a failed one leaves only its receipt.
//! - For each token, the sum of all balances and reservations less overdrafts = issued − redeemed
//!   after every block (asserted, also in release).
//! - A record version refers to the hash of the version before it and to the transaction it came
//!   from.
//! - In every epoch of the membership at least one voter executes; a block makes at most one epoch.
//! - An id that was recorded is never recorded again: it is remembered until its `valid_until` has
//!   passed, and from then on the transaction is refused as expired.
#![forbid(unsafe_code)]

mod act;
mod admin;
pub mod admission;
mod attribute;
pub mod block;
mod bundle;
pub mod chain;
mod claim;
mod commit;
pub mod due;
pub mod evidence;
mod execute;
pub mod expression;
mod genesis;
mod interest;
mod ledger;
pub mod membership;
mod payment;
mod pending;
pub mod recompute;
mod relations;
pub mod replay;
mod reversal;
pub mod rows;
mod schedule;
mod scratch;
mod signed;
mod supply;
pub mod table;
#[cfg(test)]
mod testing;
mod turn;

pub use admission::{Prepared, Verified, prepare, prepare_value, verify, verify_one};
pub use genesis::genesis_rows;
pub use ledger::{BlockContext, BlockEffects, Ledger, PartitionSnapshot};
pub use membership::NoticeError;
pub use relations::Trouble;
