//! The program that runs: what Proof of Integrity measures on a ledger of one node, in the process
//! itself. In a cluster the sentinel measures, from outside.

use kanjo_types::Hash;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::sync::OnceLock;

/// SHA-256 of this process's program file; zeros when it can't be read.
pub(crate) fn measurement() -> Hash {
    static MEASURED: OnceLock<Hash> = OnceLock::new();
    *MEASURED.get_or_init(|| measure().unwrap_or_default())
}

fn measure() -> std::io::Result<Hash> {
    let mut file = File::open("/proc/self/exe")?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else { break };
        hasher.update(part);
    }
    Ok(Hash(hasher.finalize().into()))
}
