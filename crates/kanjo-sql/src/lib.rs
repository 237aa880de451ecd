//! SQL over the rows and the log of a Kanjo ledger, spoken over the PostgreSQL wire.
//!
//! ```text
//!  client ──▶ wire ──▶ statement ──▶ engine ──▶ tables ──▶ Snapshot of the view, at a height
//!         ◀── encode ◀───────────────────────────────┘ └─▶ log of final blocks, up to it
//! ```
//! Each statement reads a snapshot at the newest final block and never holds up who writes. It reads
//! only: what would change something is refused by name. See `docs/sql.md`.

mod catalog;
mod change;
mod checked;
mod define;
mod describe;
mod encode;
mod engine;
mod error;
mod limits;
mod params;
mod roles;
mod server;
mod session;
mod statement;
mod tables;
mod transaction;
mod wire;

pub use error::SqlError;
pub use limits::Limits;
pub use roles::{Role, Roles};
pub use server::{ServeError, Service, SqlServer, serve};
