//! Links between a ledger's processes: authenticated, encrypted, bounded; and the bus over them.
//!
//! ```text
//!   consensus, votes, notices, fetch                      node              sentinel
//!        │ call, send, publish    ▲ Handler                 │                   ▲
//!        ▼                        │                         ▼                   │
//!   bus    the boundary: topics, members, bytes        channel   blocking, over a Unix socket
//!   mesh   the built-in bus: TCP, three connections         │                   │
//!          to each member, one for each class               │                   │
//!   wire   items: request, answer, message, ping            │                   │
//!        └──────────────────────┬───────────────────────────┴───────────────────┘
//!                        session   Noise XX, keys pinned on both sides, ledger in the prologue
//!                        frame     length, record; records to messages
//! ```
//!
//! Everything that a member of a ledger says to another one goes through [`bus::Bus`]. What carries
//! it can be replaced: the simulator does, brokers will. The built-in one is [`mesh`].
//!
//! # Invariants
//! - Nothing reaches a handler unless the other side proved a key that is expected, for the same
//!   ledger and purpose.
//! - Nothing from outside is stored or reserved for before its length was checked; every queue,
//!   buffer and set of things under way has a bound.
//! - An altered, repeated, missing or reordered byte ends the connection; it never reaches a
//!   handler.
//! - [`frame`], [`session`] and [`wire`] do no I/O and read no clock. (A session takes randomness
//!   for its ephemeral keys.)
//!
//! # What links don't do
//! - They say who sent something, not that it is true: votes and notices carry signatures of their
//!   own, since a link proves nothing to third parties.
//! - They don't hide who talks to whom, when, and how much.
//! - A flood of half-open handshakes from strangers can keep members from connecting anew
//!   (established links are not affected). Members' ports belong behind a packet filter.
//!
//! The formats are drawn to the byte in `docs/format-links.md`.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod bus;
pub mod channel;
pub mod frame;
pub mod keys;
#[cfg(feature = "mesh")]
pub mod mesh;
pub mod session;
pub mod wire;

pub use bus::{BoxFuture, Bus, BusError, Handler, Topic};
pub use channel::BlockingChannel;
pub use keys::{LinkKey, PublicLinkKey};
#[cfg(feature = "mesh")]
pub use mesh::{Mesh, MeshConfig, Peer};
pub use session::{Identity, LinkError};
