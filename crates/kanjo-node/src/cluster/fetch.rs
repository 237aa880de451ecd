//! What members ask each other for outside the engine: certificates that a lost message left out,
//! and whole stretches of the log for a node that is new.
//!
//! ```text
//! request := Certificates { from: u64, count: u32 } | Entries { from: u64, bytes: u32 } | Tip
//! answer  := Certificates(SignedHeader*) | Entries(SignedHeader, entry bytes)* | Tip(u64)
//! ```
//! Both are Borsh. Nothing in an answer is trusted: certificates are checked by the membership.

use crate::shared::Shared;
use borsh::{BorshDeserialize, BorshSerialize};
use bytes::Bytes;
use kanjo_proof::trust::SignedHeader;
use kanjo_types::codec;

/// Most certificates in an answer.
pub(crate) const CERTIFICATES_MAX: u32 = 512;
/// Most bytes of entries in an answer, but always one entry.
pub(crate) const ENTRIES_BYTES_MAX: u32 = 8 << 20;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) enum Request {
    Certificates { from: u64, count: u32 },
    Entries { from: u64, bytes: u32 },
    Tip,
}

/// A final height with what the engine's log holds there.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct FetchedEntry {
    pub signed: SignedHeader,
    pub stored: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) enum Answer {
    Certificates(Vec<SignedHeader>),
    Entries(Vec<FetchedEntry>),
    /// Newest final height; nothing when not even the genesis is final.
    Tip(Option<u64>),
}

/// Answers a request from the log. Blocks on the disk.
pub(crate) fn answer(shared: &Shared, body: &[u8]) -> Result<Bytes, String> {
    let request: Request = codec::from_bytes(body).map_err(|error| error.to_string())?;
    let next = shared.log.next_height();
    let answer = match request {
        Request::Tip => Answer::Tip(next.checked_sub(1)),
        Request::Certificates { from, count } => {
            let to = next.min(from.saturating_add(u64::from(count.min(CERTIFICATES_MAX))));
            let signed = (from..to).map(|height| shared.log.signed(height));
            let signed: Result<Vec<_>, _> = signed.collect();
            Answer::Certificates(signed.map_err(|error| error.to_string())?)
        }
        Request::Entries { from, bytes } => Answer::Entries(entries(shared, from, next, bytes)?),
    };
    Ok(Bytes::from(codec::to_bytes(&answer)))
}

fn entries(shared: &Shared, from: u64, next: u64, bytes: u32) -> Result<Vec<FetchedEntry>, String> {
    let bytes_max = bytes.min(ENTRIES_BYTES_MAX) as usize;
    let (mut found, mut size) = (Vec::new(), 0usize);
    for height in from..next {
        let signed = shared.log.signed(height).map_err(|error| error.to_string())?;
        let entry = shared.log.entry(height).map_err(|error| error.to_string())?;
        let stored = entry.stored().to_vec();
        size += stored.len() + 1_024;
        if size > bytes_max && !found.is_empty() {
            break;
        }
        found.push(FetchedEntry { signed, stored });
    }
    Ok(found)
}
