//! What tests of several crates need: free ports, and a TPM simulator. Nothing that ships uses it,
//! but for the program that puts faults on clusters.
//!
//! # Invariants
//! - Everything listens on loopback, and ends with the test.
#![forbid(unsafe_code)]

mod swtpm;

pub use swtpm::Swtpm;

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// A free port on loopback, below those that the system hands out for outgoing connections: one of
/// those could be taken between here and the start of whatever is to listen.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let next =
            NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id().wrapping_mul(97));
        let port = u16::try_from(10_000 + next % 20_000).unwrap_or(10_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
