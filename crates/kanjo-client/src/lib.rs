//! Rust SDK of the Kanjo ledger: blocking calls, safe resending, key files, transaction building.
//!
//! ```no_run
//! use kanjo_client::{Client, Draft, keys::KeyStore};
//! use kanjo_types::{Amount, Operation, TokenId};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new("http://127.0.0.1:8480")?;
//! let chain = client.status()?.chain;
//! let key = KeyStore::new("/home/me/.kanjo/keys").load("alice")?.unlock(None)?;
//! let (author, from, to) = ("kju1…".parse()?, "kjw1…".parse()?, "kjw1…".parse()?);
//! let payment = Draft::new(chain, author)
//!     .operation(Operation::Transfer {
//!         token: TokenId(1),
//!         from,
//!         to,
//!         amount: Amount::parse_decimal("12.50", 6)?,
//!         reference: "invoice 7".to_owned(),
//!     })
//!     .sign(&key)?;
//! let outcome = client.submit(&payment)?; // returns when the payment is final
//! # let _ = outcome;
//! # Ok(())
//! # }
//! ```
//!
//! # Invariants
//! - Private keys never leave the process: requests carry signatures only, and secrets are wiped
//!   when dropped.
//! - The library never ends or aborts its host process; every failure is a [`ClientError`].
//! - A transaction's id makes sending it twice safe. When a connection is lost the same bytes are
//!   sent again, a bounded number of times; if the ledger then says "already used", the recorded
//!   outcome is fetched.
//! - Every wait, retry and answer has a bound ([`Limits`]).
#![forbid(unsafe_code)]

mod attribute;
mod client;
mod cluster;
mod cosign;
mod draft;
mod error;
pub mod keys;
mod records;
mod stream;
mod submit;
mod transport;

pub use attribute::AttributeOpening;
pub use client::{Client, Page};
pub use cosign::{CosignError, Cosigning, Signer, SignerProgress};
pub use draft::{Draft, DraftError, VALID_FOR_DEFAULT, now_ms};
pub use error::ClientError;
pub use records::{Of, ReversalParts, table_name};
pub use stream::{BlockStream, WalletStream};
pub use transport::Limits;

pub use kanjo_api as api;
pub use kanjo_types as types;
