//! Submissions to a member that does not lead: passed on to the one that does, so that clients may
//! speak to any node.

use super::error::ApiError;
use super::lookup::wait_final;
use super::Api;
use crate::cluster::ClusterState;
use crate::shared::Shared;
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use kanjo_api::FORWARDED_HEADER;
use kanjo_gateway::{Directory, ForwardOptions, Forwarder, Submitted};
use kanjo_types::outcome::Refusal;
use kanjo_types::transaction::Refused;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// Longest time for a submission that is passed on.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long an answer waits until this node knows the block that it speaks of.
const OWN_WAIT_MAX: Duration = Duration::from_secs(2);

/// Who leads, as this member's engine knows.
struct FromEngine(Arc<ClusterState>);

impl Directory for FromEngine {
    fn leader(&self) -> Option<Arc<str>> {
        self.0.leader_api()
    }

    /// Receipts are asked of the leader alone.
    fn readers(&self) -> Vec<Arc<str>> {
        Vec::new()
    }

    /// The engine hears of it by itself.
    fn suspect(&self, _node: &str) {}
}

/// What passes submissions on; `None` on a ledger of one node.
pub(super) fn forwarder(shared: &Shared) -> Option<Forwarder> {
    let directory = Arc::new(FromEngine(shared.cluster.clone()?));
    let options = ForwardOptions { deadline: DEADLINE, is_node: true };
    Some(Forwarder::new(directory, options))
}

/// Does another node lead, and did no node pass this request on before?
pub(super) fn is_for_another(api: &Api, headers: &HeaderMap) -> bool {
    let cluster = api.shared.cluster.as_ref();
    let follows = |cluster: &Arc<ClusterState>| cluster.leading_term.load(Ordering::Acquire) == 0;
    cluster.is_some_and(follows) && !headers.contains_key(FORWARDED_HEADER)
}

/// Passes a submission on, and answers when this node knows the outcome's block too: who submits
/// here and then asks here sees it.
pub(super) async fn forward(
    api: &Api,
    headers: &HeaderMap,
    body: Bytes,
    _room: Option<OwnedSemaphorePermit>,
) -> Result<Response, ApiError> {
    let no_leader = || ApiError::from(Refused::new(Refusal::NoLeader, "node"));
    let forwarder = api.forwarder.as_ref().ok_or_else(no_leader)?;
    let cluster = api.shared.cluster.as_ref().ok_or_else(no_leader)?;
    if cluster.leader_api().is_none() {
        return Err(no_leader());
    }
    let Submitted { response, height } = forwarder.submit(headers, body).await;
    let own = wait_final(&api.shared, height);
    // The outcome stands, whether this node has caught up or not.
    let _ = tokio::time::timeout(OWN_WAIT_MAX, own).await;
    Ok(response)
}
