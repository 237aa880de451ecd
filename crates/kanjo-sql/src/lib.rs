//! SQL over the rows and the log of a Kanjo ledger, spoken over the PostgreSQL wire.
//!
//! ```text
//!  client ──▶ wire ──▶ statement ──▶ engine ──▶ tables ──▶ Snapshot of the view, at a height
//!         ◀── encode ◀───────────────────────────────┘ └─▶ log of final blocks, up to it
//! ```
//! A query reads a snapshot at the newest final block and never holds up who writes. What changes
//! something is planned here into one ledger transaction, signed with the role's key, submitted as
//! any client does, and final when the statement (or COMMIT) returns; replicas run no SQL. See
//! `docs/sql.md`.
//!
//! Invariants:
//! - Everything that a transaction has read of tables of users is a condition of the ledger
//!   transaction that it becomes: transactions are serializable.
//! - A query never changes anything; nothing is half done.

mod answer;
mod catalog;
mod change;
mod checked;
mod copy;
mod define;
mod describe;
mod encode;
mod engine;
mod error;
mod limits;
mod params;
mod patience;
mod roles;
mod server;
mod session;
mod shortcut;
mod statement;
mod tables;
mod transaction;
mod wire;

pub use error::SqlError;
pub use limits::Limits;
pub use roles::{Role, Roles};
pub use server::{ServeError, Service, SqlServer, serve};
