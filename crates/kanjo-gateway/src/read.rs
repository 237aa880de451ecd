//! Questions: passed on to any node that holds the tables, their answers streamed back.

use crate::server::Gateway;
use crate::wire;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use kanjo_api::AT_LEAST_HEADER;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// Longest wait for a node to begin its answer.
const BEGIN_MAX: Duration = Duration::from_secs(30);
/// Headers that hold for one connection only.
const OF_ONE_CONNECTION: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Passes a question on; another node is asked when one does not begin to answer.
pub(crate) async fn read(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        let sentence = "A gateway takes POST /v1/transactions and questions (GET); speak to a node \
                        for anything else.";
        let status = StatusCode::METHOD_NOT_ALLOWED;
        return wire::error_answer(status, "method_not_allowed", sentence, "method");
    }
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let headers = gateway.question_headers(&parts.headers);
    let until = Instant::now() + BEGIN_MAX;
    let mut refused = None;
    for (position, node) in gateway.nodes_to_ask().into_iter().enumerate() {
        if position > 0 {
            gateway.counts.failovers.fetch_add(1, Ordering::Relaxed);
        }
        let (method, url) = (parts.method.clone(), format!("{node}{path}"));
        let asked =
            gateway.forwarder.upstream.open(method, &url, headers.clone(), Bytes::new(), until);
        match asked.await {
            Ok(answer) if is_temporary(answer.status()) => refused = Some(answer),
            Ok(answer) => return stream(answer),
            Err(error) => {
                tracing::debug!(node = &*node, %error, "a question goes to another node");
                gateway.suspect(&node);
            }
        }
    }
    refused.map_or_else(nobody, stream)
}

/// Another node may do better.
fn is_temporary(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::MISDIRECTED_REQUEST
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

fn nobody() -> Response {
    let sentence = "No node answers at the moment; try again shortly.";
    wire::error_answer(StatusCode::SERVICE_UNAVAILABLE, "no_node", sentence, "gateway")
}

impl Gateway {
    /// The headers of a question, with the height that its answer must know.
    fn question_headers(&self, from: &HeaderMap) -> HeaderMap {
        let mut headers = without_connection(from);
        headers.remove(header::HOST);
        headers.remove(header::CONTENT_LENGTH);
        let asked = headers.get(AT_LEAST_HEADER).and_then(|value| value.to_str().ok());
        let asked = asked.and_then(|value| value.parse().ok()).unwrap_or(0);
        let height = self.height.load(Ordering::Acquire).max(asked);
        if height > 0 {
            headers.insert(AT_LEAST_HEADER, HeaderValue::from(height));
        }
        headers
    }
}

fn without_connection(from: &HeaderMap) -> HeaderMap {
    let named = from.get(header::CONNECTION).and_then(|value| value.to_str().ok()).unwrap_or("");
    let is_named = |name: &HeaderName| {
        named.split(',').any(|named| named.trim().eq_ignore_ascii_case(name.as_str()))
    };
    let stays = |name: &HeaderName| !OF_ONE_CONNECTION.contains(&name.as_str()) && !is_named(name);
    let kept = from.iter().filter(|(name, _)| stays(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The answer as it comes; it may have no end.
fn stream(answer: Response<hyper::body::Incoming>) -> Response {
    let (mut parts, body) = answer.into_parts();
    parts.headers = without_connection(&parts.headers);
    Response::from_parts(parts, Body::new(body))
}
