//! SQL: served beside a node, and asked by `kanjo sql`.
//!
//! ```text
//!  kanjo node, kanjo dev ──▶ serve ──▶ kanjo-sql, on the node's view and log
//!
//!  kanjo sql:  repl ─┐
//!          -c, stdin ┴▶ console ──▶ statements ──▶ connection ──▶ any PostgreSQL server
//!                          └◀───────── output ◀────────┘
//! ```
//! Without the feature `sql` neither the options nor the command exist.

#[cfg(feature = "sql")]
mod complete;
#[cfg(feature = "sql")]
mod connection;
#[cfg(feature = "sql")]
mod console;
#[cfg(feature = "sql")]
mod describe;
#[cfg(feature = "sql")]
mod output;
#[cfg(feature = "sql")]
pub mod repl;
#[cfg(feature = "sql")]
mod report;
#[cfg(feature = "sql")]
mod serve;
#[cfg(not(feature = "sql"))]
#[path = "unserved.rs"]
mod serve;
#[cfg(feature = "sql")]
mod statements;

pub use serve::{ClusterServeArgs, DevServeArgs, ServeArgs, Sql};

#[cfg(feature = "sql")]
pub use {
    connection::{Connection, Target, URL_DEFAULT},
    console::Console,
    output::Form,
};
