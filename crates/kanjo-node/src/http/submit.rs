//! Submitting transactions. The answer comes when they are final.

use super::Api;
use super::error::ApiError;
use super::forward;
use crate::shared::{Health, Submission};
use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use kanjo_api::frames::{self, FrameError};
use kanjo_api::{BINARY_MEDIA_TYPE, ErrorBody, SUBMIT_BYTES_MAX, SubmitAnswer, SubmitOutcome};
use kanjo_types::codec;
use kanjo_types::outcome::Refusal;
use kanjo_types::transaction::{Refused, SignedTransaction};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// Memory for the bodies of submit requests under way, all together, in KiB. More are refused as
/// `overloaded`.
pub(super) const BODY_ROOM_KILOBYTES: usize = 512 << 10;
const BYTES_MAX: u64 = SUBMIT_BYTES_MAX as u64;
/// Longest time for a body to arrive.
const BODY_TIME_MAX: Duration = Duration::from_secs(30);

/// Submits one transaction as JSON, or up to 65,536 as binary frames; answers when they are final.
///
/// JSON: one `SignedTransaction`; the answer is its outcome. Binary (`application/octet-stream`): a
/// sequence of `length: u32 little-endian, canonical bytes`; the answer is a Borsh `SubmitAnswer`,
/// or JSON when the `Accept` header asks for `application/json`. Transactions of a request keep
/// their order. Nothing is taken from a request that is refused as a whole.
#[utoipa::path(post, path = "/v1/transactions", tag = "transactions",
    request_body(content(
        (serde_json::Value = "application/json"), (Vec<u8> = "application/octet-stream"))),
    responses(
        (status = 200, body = SubmitOutcome, description = "Recorded, or for binary requests one outcome each"),
        (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 408, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 415, body = ErrorBody),
        (status = 422, body = ErrorBody), (status = 429, body = ErrorBody),
        (status = 503, body = ErrorBody), (status = 507, body = ErrorBody)))]
pub(super) async fn submit(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let headers = parts.headers;
    check_health(&api, &headers)?;
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if length.and_then(|length| length.parse().ok()).is_some_and(|length: u64| length > BYTES_MAX) {
        return Err(Refused::new(Refusal::TooLarge, "request").into());
    }
    let (body, room) = read_body(&api, body).await?;
    if forward::is_for_another(&api, &headers) {
        return forward::forward(&api, &headers, body, room).await;
    }
    let media_type = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    let sent = media_type(header::CONTENT_TYPE);
    if sent.starts_with(BINARY_MEDIA_TYPE) {
        let answer = submit_frames(&api, &body, room).await?;
        if media_type(header::ACCEPT).contains("application/json") {
            return Ok(Json(answer).into_response());
        }
        let bytes = codec::to_bytes(&answer);
        return Ok(([(header::CONTENT_TYPE, BINARY_MEDIA_TYPE)], bytes).into_response());
    }
    if !sent.starts_with("application/json") {
        let sentence =
            "Send application/json (one transaction) or application/octet-stream (frames).";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(ApiError::new(status, "unsupported_media_type", sentence).field("content-type"));
    }
    let transaction: SignedTransaction = serde_json::from_slice(&body)
        .map_err(|error| Refused::new(Refusal::Malformed, error.to_string()))?;
    let raw = Bytes::from(codec::to_bytes(&transaction));
    let mut outcomes = run(&api, vec![raw], room).await?;
    match outcomes.pop() {
        Some(SubmitOutcome::Refused { refusal, field }) => Err(Refused::new(refusal, field).into()),
        Some(outcome) => Ok(Json(outcome).into_response()),
        None => Err(ApiError::stopped()),
    }
}

/// Reads the body of a request within the node's room for such bodies, and within a time. Room is
/// taken for what has arrived, not for what is claimed.
async fn read_body(
    api: &Api,
    body: Body,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), ApiError> {
    let read = async {
        let mut bytes = BytesMut::new();
        let mut room: Option<OwnedSemaphorePermit> = None;
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk =
                chunk.map_err(|error| ApiError::bad_request(error.to_string(), "request"))?;
            if bytes.len() + chunk.len() > SUBMIT_BYTES_MAX {
                return Err(Refused::new(Refusal::TooLarge, "request").into());
            }
            let kilobytes = u32::try_from(chunk.len() / 1_024 + 1).unwrap_or(u32::MAX);
            let more = api.body_room.clone().try_acquire_many_owned(kilobytes);
            let more = more.map_err(|_| Refused::new(Refusal::Overloaded, "node"))?;
            match &mut room {
                Some(room) => room.merge(more),
                None => room = Some(more),
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok((bytes.freeze(), room))
    };
    match tokio::time::timeout(BODY_TIME_MAX, read).await {
        Ok(read) => read,
        Err(_) => {
            let sentence = "The request took more than 30 seconds to arrive; nothing was taken.";
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "too_slow", sentence).field("request"))
        }
    }
}

fn check_health(api: &Api, headers: &HeaderMap) -> Result<(), ApiError> {
    let refusal = match api.shared.health() {
        Health::Running => return Ok(()),
        // What is passed on takes no room here.
        Health::StorageFull if forward::is_for_another(api, headers) => return Ok(()),
        Health::StorageFull => Refusal::StorageFull,
        Health::Stopping | Health::Stopped(_) => Refusal::Stopping,
        Health::Rewinding { .. } => Refusal::NoLeader,
    };
    Err(Refused::new(refusal, "node").into())
}

async fn submit_frames(
    api: &Api,
    body: &[u8],
    room: Option<OwnedSemaphorePermit>,
) -> Result<SubmitAnswer, ApiError> {
    let ranges = frames::split(body).map_err(|error| match error {
        FrameError::Truncated { offset } => {
            Refused::new(Refusal::Malformed, format!("frame at byte {offset} is cut short"))
        }
        FrameError::TooMany => Refused::new(Refusal::TooLarge, "request: at most 65,536 frames"),
        FrameError::TooLong { offset } => {
            Refused::new(Refusal::TooLarge, format!("frame at byte {offset}"))
        }
    })?;
    // Copies, because a slice would keep the whole request in memory as long as one transaction of
    // it.
    let slices = ranges.into_iter().filter_map(|range| body.get(range));
    let raws: Vec<Bytes> = slices.map(Bytes::copy_from_slice).collect();
    if raws.is_empty() {
        return Ok(SubmitAnswer { outcomes: Vec::new() });
    }
    Ok(SubmitAnswer { outcomes: run(api, raws, room).await? })
}

async fn run(
    api: &Api,
    raws: Vec<Bytes>,
    room: Option<OwnedSemaphorePermit>,
) -> Result<Vec<SubmitOutcome>, ApiError> {
    let (submission, outcomes) = Submission::new(raws.len(), room);
    api.intake
        .submit(&submission, raws)
        .map_err(|refusal| ApiError::from(Refused::new(refusal, "node")))?;
    drop(submission);
    let mut health = api.shared.health.subscribe();
    let failed =
        health.wait_for(|health| matches!(health, Health::Stopped(_) | Health::Rewinding { .. }));
    tokio::select! {
        biased;
        outcomes = outcomes => outcomes.map_err(|_| ApiError::stopped()),
        _ = failed => Err(ApiError::stopped()),
        () = leads_no_more(api) => Err(ApiError::leads_no_more()),
    }
}

/// How often it is looked whether this node still leads.
const LEADS_STEP: Duration = Duration::from_millis(100);
/// So often it does not before those who wait are sent elsewhere.
const LEADS_STEPS_MAX: u32 = 10;

/// Waits until this node has not led for a while. What was taken here may be final by another
/// leader's work, and this node may be cut off and never hear of it: the client must not wait here.
async fn leads_no_more(api: &Api) {
    let Some(cluster) = &api.shared.cluster else { return std::future::pending().await };
    let mut steps = 0;
    while steps < LEADS_STEPS_MAX {
        tokio::time::sleep(LEADS_STEP).await;
        let leads = cluster.leading_term.load(Ordering::Acquire) != 0;
        steps = if leads { 0 } else { steps + 1 };
    }
}
