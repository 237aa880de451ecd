//! SQL over the rows and the log of a Kanjo ledger, spoken over the PostgreSQL wire.
//!
//! ```text
//!  client ──▶ wire ──▶ statement ──▶ engine ──▶ tables ──▶ Snapshot of the view, at a height
//!         ◀── encode ◀───────────────────────────────┘ └─▶ log of final blocks, up to it
//! ```
//! Each statement reads a snapshot at the newest final block and never holds up who writes. It reads
//! only: what would change something is refused by name. See `docs/sql.md`.

mod checked;
// Not called yet: sessions read only.
#[allow(dead_code, unused_imports)]
mod define;
mod encode;
mod engine;
mod error;
mod limits;
mod params;
mod server;
mod statement;
mod tables;
mod wire;

pub use error::SqlError;
pub use limits::Limits;
pub use server::{ServeError, SqlServer, serve};
