//! The cluster over HTTP: status, roots of all tables, leaving; and what a witness does not answer.

use super::error::ApiError;
use super::extract::{Path, Query};
use super::{Answer, Api};
use crate::cluster::status;
use crate::memberships;
use crate::shared::{Shared, ToSequencer};
use crate::tables::TableQuery;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use crossbeam_channel::TrySendError;
use kanjo_api::ErrorBody;
use kanjo_api::cluster::{ClusterStatus, LeaveRequest, Left, TablesAnswer};
use kanjo_proof::proof::MembershipProof;
use kanjo_types::outcome::Refusal;
use kanjo_types::transaction::Refused;
use serde::Deserialize;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a question for roots waits for its height.
const TABLES_WAIT: Duration = Duration::from_secs(10);
/// Memberships in one answer.
const MEMBERSHIPS_MAX: usize = 256;

/// The cluster as this node sees it now: members, links, leader, heights, roles with their reasons.
#[utoipa::path(get, path = "/v1/cluster", tag = "cluster",
    responses((status = 200, body = ClusterStatus)))]
pub(super) async fn cluster(State(api): State<Arc<Api>>) -> Json<ClusterStatus> {
    Json(status::status(&api.shared))
}

#[derive(Debug, Deserialize)]
pub(super) struct TablesQuery {
    height: Option<u64>,
}

/// Roots of all tables and their partitions at exactly one height, by default the newest; waits up
/// to 10 seconds for one that is not reached yet.
#[utoipa::path(get, path = "/v1/cluster/tables", tag = "cluster",
    params(("height" = Option<u64>, Query)),
    responses((status = 200, body = TablesAnswer), (status = 429, body = ErrorBody)))]
pub(super) async fn tables(
    State(api): State<Arc<Api>>,
    Query(query): Query<TablesQuery>,
) -> Answer<TablesAnswer> {
    let shared = &api.shared;
    if shared.is_witness() {
        return Ok(Json(TablesAnswer::NoTables));
    }
    let height = query.height.unwrap_or_else(|| shared.tip().height);
    let (reply, answer) = oneshot::channel();
    match api.sequencer.try_send(ToSequencer::Tables(TableQuery { height, reply })) {
        Ok(()) => {}
        Err(TrySendError::Full(_)) => {
            return Err(Refused::new(Refusal::Overloaded, "node").into());
        }
        Err(TrySendError::Disconnected(_)) => return Err(ApiError::stopped()),
    }
    match tokio::time::timeout(TABLES_WAIT, answer).await {
        Ok(Ok(answer)) => Ok(Json(answer)),
        Ok(Err(_)) => Err(ApiError::stopped()),
        Err(_) => Ok(Json(TablesAnswer::NotReached { height: shared.tip().height })),
    }
}

/// Leaves the quorum, before a planned stop. Only for callers on this machine, and only with the
/// node's own name, so that nobody does it by accident.
#[utoipa::path(post, path = "/v1/cluster/leave", tag = "cluster", request_body = LeaveRequest,
    responses((status = 200, body = Left), (status = 403, body = ErrorBody),
        (status = 409, body = ErrorBody)))]
pub(super) async fn leave(
    State(api): State<Arc<Api>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    request: Result<Json<LeaveRequest>, JsonRejection>,
) -> Answer<Left> {
    // Its media type keeps pages in a browser on this machine from asking.
    let Json(request) =
        request.map_err(|rejection| ApiError::bad_request(rejection.body_text(), "body"))?;
    let refuse = |status, code, sentence: String| Err(ApiError::new(status, code, sentence));
    if !from.ip().to_canonical().is_loopback() {
        let sentence =
            format!("This can only be asked on the node's own machine, not from {from}.");
        return refuse(StatusCode::FORBIDDEN, "not_local", sentence);
    }
    let Some(cluster) = &api.shared.cluster else {
        let sentence = "This is a ledger of one node; there is no quorum to leave.".to_owned();
        return refuse(StatusCode::CONFLICT, "alone", sentence);
    };
    let name = status::name_of(&cluster.membership(), cluster.me);
    if request.node != name {
        let sentence = format!("This node is {name}, not {}.", request.node);
        return Err(ApiError::bad_request(sentence, "node"));
    }
    if let Err(why) = cluster.leave().await {
        return refuse(StatusCode::CONFLICT, "not_left", why);
    }
    Ok(Json(Left { node: name, epoch: cluster.membership().epoch }))
}

#[derive(Debug, Deserialize)]
pub(super) struct MembershipsQuery {
    after: Option<u64>,
}

/// Proofs of the memberships above epoch `after` (by default 0, the genesis's), at most 256: each
/// is certified by the voters of the one before it.
#[utoipa::path(get, path = "/v1/proofs/memberships", tag = "proofs",
    params(("after" = Option<u64>, Query)),
    responses((status = 200, body = serde_json::Value)))]
pub(super) async fn memberships(
    State(api): State<Arc<Api>>,
    Query(query): Query<MembershipsQuery>,
) -> Answer<Vec<MembershipProof>> {
    let after = query.after.unwrap_or(0);
    let work = move || {
        let all = memberships::proofs(&api.shared, u64::MAX)?;
        Ok(all
            .into_iter()
            .filter(|proof| proof.membership.epoch > after)
            .take(MEMBERSHIPS_MAX)
            .collect())
    };
    Ok(Json(super::lookup::blocking(work).await?))
}

/// One membership; the newest that is final when `epoch` is left out.
#[utoipa::path(get, path = "/v1/cluster/memberships/{epoch}", tag = "cluster",
    params(("epoch" = u64, Path)),
    responses((status = 200, body = serde_json::Value), (status = 404, body = ErrorBody)))]
pub(super) async fn membership(
    State(api): State<Arc<Api>>,
    Path(epoch): Path<u64>,
) -> Answer<kanjo_types::membership::Membership> {
    let now = match &api.shared.cluster {
        Some(cluster) => cluster.membership(),
        None => api.shared.ledger.read().membership().clone(),
    };
    if epoch == now.epoch {
        return Ok(Json((*now).clone()));
    }
    let all =
        super::lookup::blocking(move || Ok(memberships::proofs(&api.shared, u64::MAX)?)).await?;
    let found = all.into_iter().find(|proof| proof.membership.epoch == epoch);
    let none = || ApiError::not_found("unknown_epoch", "There is no such epoch.", "epoch");
    found.map(|proof| Json(proof.membership)).ok_or_else(none)
}

/// What a witness answers: it stores the log and holds no balances.
fn is_of_the_log(path: &str) -> bool {
    let is = |prefix: &str| path == prefix || path.starts_with(&format!("{prefix}/"));
    ["/status", "/genesis", "/cluster", "/openapi.json", "/blocks"].into_iter().any(is)
}

/// Refuses what a witness can't answer, and says who can.
pub(super) async fn refuse_of_witness(
    State(api): State<Arc<Api>>,
    request: Request,
    next: Next,
) -> Response {
    let is_witness = api.shared.is_witness();
    let path = request.uri().path();
    // With or without the prefix, however the router nests.
    let path = path.strip_prefix("/v1").unwrap_or(path);
    if !is_witness || is_of_the_log(path) {
        return next.run(request).await;
    }
    witness_refuses(&api.shared).into_response()
}

fn witness_refuses(shared: &Shared) -> ApiError {
    let membership = shared.cluster.as_ref().map(|cluster| cluster.membership());
    let others = membership
        .iter()
        .flat_map(|membership| membership.voters().filter(|(_, member)| member.executes()));
    let others: Vec<&str> = others.map(|(_, member)| member.certificate.api.as_str()).collect();
    let whom = if others.is_empty() { "an executor".to_owned() } else { others.join(" or ") };
    let sentence = format!("This node is a witness: it holds no balances; ask {whom}.");
    ApiError::new(StatusCode::MISDIRECTED_REQUEST, "witness", sentence).field("node")
}

#[cfg(test)]
mod tests {
    use super::is_of_the_log;

    #[test]
    fn a_witness_answers_for_the_log_alone() {
        for path in ["/status", "/blocks", "/blocks/7", "/cluster", "/cluster/tables", "/genesis"] {
            assert!(is_of_the_log(path), "{path}");
        }
        for path in [
            "/wallets/kjw1",
            "/users/kju1",
            "/transactions",
            "/transactions/ab",
            "/tokens",
            "/records/users/ab",
            "/proofs/wallets/kjw1",
            "/proofs/extends",
            "/stream/blocks",
            "/blockssss",
            "/statuses",
        ] {
            assert!(!is_of_the_log(path), "{path}");
        }
    }
}
