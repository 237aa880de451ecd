//! The words of a Kanjo ledger: ids, amounts, keys, transactions, records, blocks, genesis.
//!
//! Every other crate speaks in these types. They are plain data with one canonical binary encoding
//! (Borsh), one hash for each meaning (SHA-256 with a domain tag, [`hash::Tag`]), and one readable
//! form (JSON through serde). Nothing here does I/O, reads a clock or draws randomness.
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
//!
//! # Invariants
//! - Equal values have equal bytes and equal bytes have equal values: [`codec::from_bytes`] refuses
//!   trailing bytes, and every variable-size field has a bound that
//!   [`transaction::TransactionBody::check_shape`] states.
//! - Whatever is signed is a 32-byte digest with a domain tag, so that a signature made for one
//!   purpose can't be used for another.
//! - Ed25519 follows ZIP 215, alone and in batches alike ([`signature`]).
#![forbid(unsafe_code)]

pub mod access;
pub mod amount;
pub mod block;
pub mod codec;
pub mod expression;
pub mod genesis;
pub mod hash;
pub mod id;
pub mod json;
pub mod membership;
pub mod money;
pub mod outcome;
pub mod policy;
pub mod record;
pub mod relation;
pub mod row;
mod shape;
pub mod signature;
pub mod sqlstate;
pub mod standing;
pub mod stored;
pub mod transaction;

pub use access::{Access, KeySignature, PublicKey};
pub use amount::Amount;
pub use block::{Certificate, Header, Receipt, SupplyChange, Vote};
pub use genesis::Genesis;
pub use hash::Hash;
pub use id::{
    ActId, BundleId, ChainId, ClaimId, PendingId, RelationId, ScheduleId, TokenId, TransactionId,
    UserId, WalletId,
};
pub use membership::Membership;
pub use outcome::{Refusal, ResultCode};
pub use policy::Policy;
pub use record::{Record, Table};
pub use transaction::{Operation, SignedTransaction, TransactionBody};
