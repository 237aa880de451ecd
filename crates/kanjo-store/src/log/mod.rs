//! The block log: the only synchronous write of the system.
//!
//! ```text
//! log/00000000000000000000.seg   ┌────────┬───────┬─────────────┬───────┬ ─ ─ ─ ─ ─ ─ ─ ┐
//!     00000000000000000000.idx   │ header │ frame │    frame    │ frame │ written zeros
//!     00000000000000000812.seg   └────────┴───────┴─────────────┴───────┴ ─ ─ ─ ─ ─ ─ ─ ┘
//!     prepared-3.tmp              512 B     each a multiple of 512 B      preallocated
//! ```
//!
//! A *frame* is a group of blocks, appended with one write and one sync (`frame.rs`). A
//! *segment* is a preallocated file of frames (`segment.rs`); a sealed one has a *sidecar*
//! with its index and header hashes (`sidecar.rs`). Sector tags let recovery tell a torn
//! write from damage (`sector.rs`, `recover.rs`).
//!
//! Properties, each with its test:
//! - acknowledged blocks survive any crash, byte for byte (`tests/crash_loop.rs`);
//! - a torn write of an unacknowledged group never keeps the log from opening, and leaves the
//!   group out, or in if it is whole (`tests/torn_writes.rs`);
//! - no single flipped bit drops or alters an acknowledged block (`tests/bit_flips.rs`);
//! - a truncation never hurts what lies below it, and what is appended after it supersedes
//!   what was there, through any crash (`truncate.rs`, `tests/truncation*.rs`);
//! - a full disk is an error before anything is written, and passes (`tests/failing_disk.rs`).

mod append;
mod error;
mod frame;
mod open;
mod prepare;
mod read;
mod recover;
mod sector;
mod segment;
mod sidecar;
mod table;
mod truncate;

pub use append::{BlockLog, LogOptions};
pub use error::{AppendError, OpenError, PrepareError, ReadError, TruncateError};
pub use frame::{DecodedFrame, FrameError, FrameHeader, FrameId, decode_frame};
pub use open::OpenReport;
pub use prepare::Preparer;
pub use read::{BlockIter, Location, LogReader};

pub(crate) use sector::is_blank;
