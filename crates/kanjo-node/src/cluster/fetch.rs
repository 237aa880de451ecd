//! What members ask each other for outside the engine: certificates whose votes a node did not
//! hear, because a message was lost or because it was not there.
//!
//! ```text
//! request := from: u64, count: u32
//! answer  := SignedHeader*
//! ```
//! Both are Borsh. Nothing in an answer is trusted: certificates are checked by the membership.
//! Entries of the log come from the engine alone, also for a node that starts with nothing: it
//! takes them faster than it executes them.

use crate::cluster::ClusterState;
use crate::shared::Shared;
use borsh::{BorshDeserialize, BorshSerialize};
use bytes::Bytes;
use kanjo_link::bus::Topic;
use kanjo_proof::trust::SignedHeader;
use kanjo_types::codec;
use std::time::Duration;

/// Most certificates in an answer.
pub(crate) const CERTIFICATES_MAX: u32 = 512;

/// Which certificates are asked for.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Request {
    pub from: u64,
    pub count: u32,
}

/// Answers a request from the log. Blocks on the disk.
pub(crate) fn answer(shared: &Shared, body: &[u8]) -> Result<Bytes, String> {
    let Request { from, count } = codec::from_bytes(body).map_err(|error| error.to_string())?;
    let next = shared.log.next_height();
    let to = next.min(from.saturating_add(u64::from(count.min(CERTIFICATES_MAX))));
    let signed = (from..to).map(|height| shared.log.signed(height));
    let signed: Vec<SignedHeader> =
        signed.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    Ok(Bytes::from(codec::to_bytes(&signed)))
}

/// Asks a member for certificates `from` a height on; nothing when none came.
pub(crate) async fn ask(
    cluster: &ClusterState,
    member: u16,
    from: u64,
    count: u32,
    within: Duration,
) -> Option<Vec<SignedHeader>> {
    let body = Bytes::from(codec::to_bytes(&Request { from, count }));
    let answer = cluster.bus.call(member, Topic::Fetch, body, within).await.ok()?;
    codec::from_bytes::<Vec<SignedHeader>>(&answer).ok().filter(|signed| !signed.is_empty())
}
