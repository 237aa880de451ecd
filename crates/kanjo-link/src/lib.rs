//! Links between a ledger's processes.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod bus;
pub mod channel;
pub mod frame;
pub mod keys;
#[cfg(feature = "mesh")]
pub mod mesh;
pub mod session;

pub use bus::{BoxFuture, Bus, BusError, Handler, Topic};
pub use channel::BlockingChannel;
pub use keys::{LinkKey, PublicLinkKey};
#[cfg(feature = "mesh")]
pub use mesh::{Mesh, MeshConfig, Peer};
pub use session::{Identity, LinkError};
