//! The final rows of a ledger in several versions, for readers that hold a height.
//!
//! ```text
//!                 apply(height, rows)                          scan, get
//!  final blocks ───────────────────────▶ [table][partition] ◀──────────── Snapshot at a height
//!                                        key → newest version
//!                                              └▶ older ones, as long as a snapshot can see them
//! ```
//! One thread applies blocks in order; any number of readers hold [`Snapshot`]s. A reader locks one
//! partition for one batch of rows, so that neither waits for the other for long. Of the tables
//! that have very many rows only the values are kept ([`Content`]); the hashes that link them stand
//! in the log, at the place that [`Version::at`] names, and [`LogSource`] reads them when they are
//! asked for.

mod chain;
mod source;
mod version;
mod view;

pub use source::{LogError, LogSource};
pub use version::{Content, Version};
pub use view::{Batch, Limits, Snapshot, SnapshotError, View};
