//! A small client of TPM 2.0 ("Trusted Platform Module Library", parts 2 and 3): the commands that an
//! attestor needs, over a TPM simulator's socket or a device file.
//!
//! ```text
//! command    tag u16 │ size u32 │ code u32 │ handles │ [size u32 │ password session] │ parameters
//! response   tag u16 │ size u32 │ result u32 │ [handle] │ [size u32] │ parameters │ [session]
//! ```
//! All integers are big-endian.
//!
//! # Invariants
//! - Every length is checked against what is there before it is used; a response is at most
//!   [`wire::RESPONSE_MAX`] bytes.
//! - Authorisation is by the empty password: whoever reaches the TPM may count it up. Nobody can
//!   count it down.

pub mod client;
pub mod command;
pub mod quote;
pub mod transport;
pub mod wire;

pub use client::Tpm;
pub use quote::{AttestationKey, Pcrs, Quote, QuoteError, verify_quote};
pub use transport::{Address, Transport};

/// A TPM that didn't do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum TpmError {
    /// It can't be reached.
    #[error("{address}: {source}")]
    Unreachable {
        /// Where it should be.
        address: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
    /// It said no.
    #[error("{command} answered {code:#x}")]
    Refused {
        /// Which command.
        command: &'static str,
        /// TPM_RC.
        code: u32,
    },
    /// Its answer is not one.
    #[error("the answer can't be read: {0}")]
    Malformed(&'static str),
    /// It stayed busy.
    #[error("{0} was put off too often")]
    Busy(&'static str),
    /// The NV index is used for something else.
    #[error(
        "NV index {index:#x} is there, and is not a counter of 8 bytes that this program may use"
    )]
    NotACounter {
        /// The index.
        index: u32,
    },
    /// The address is none.
    #[error("'{0}' is no TPM: give swtpm:HOST:PORT, swtpm:HOST:PORT:CONTROL_PORT or device:PATH")]
    Address(String),
    /// Not a list of registers.
    #[error("'{0}' is no list of registers: give numbers from 0 to 23, like 0,2,4,7")]
    Registers(String),
}
