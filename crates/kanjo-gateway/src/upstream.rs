//! Requests to nodes: kept connections, bounded in time and size.

use crate::wire::Answered;
use axum::http::{HeaderMap, Method, Request, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::time::Duration;
use tokio::time::Instant;

/// Longest wait for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Connections kept to one node without use.
const IDLE_PER_NODE_MAX: usize = 256;
/// How long they are kept.
const IDLE_MAX: Duration = Duration::from_secs(20);
/// Most bytes of an answer that is read whole.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failed {
    /// No node received anything.
    #[error("not sent: {0}")]
    NotSent(String),
    /// It may have been received.
    #[error("no answer: {0}")]
    Lost(String),
}

/// Connections to nodes. Cheap to clone; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Upstream {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_MAX));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(IDLE_PER_NODE_MAX)
            .build(connector);
        Self { client }
    }

    /// Sends a request; the answer's body is still to come.
    pub(crate) async fn open(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
        until: Instant,
    ) -> Result<Response<Incoming>, Failed> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = url.parse().map_err(|_| {
            Failed::NotSent(format!(
                "'{}' is no address",
                url.chars().take(200).collect::<String>()
            ))
        })?;
        *request.headers_mut() = headers;
        match tokio::time::timeout_at(until, self.client.request(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if error.is_connect() => Err(Failed::NotSent(with_cause(&error))),
            Ok(Err(error)) => Err(Failed::Lost(with_cause(&error))),
            Err(_) => Err(Failed::Lost("it took too long".to_owned())),
        }
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn whole(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
        until: Instant,
    ) -> Result<Answered, Failed> {
        let answer = self.open(method, url, headers, body, until).await?;
        let (parts, body) = answer.into_parts();
        let read = Limited::new(body, ANSWER_BYTES_MAX).collect();
        match tokio::time::timeout_at(until, read).await {
            Ok(Ok(body)) => {
                Ok(Answered { status: parts.status, headers: parts.headers, body: body.to_bytes() })
            }
            Ok(Err(error)) => Err(Failed::Lost(error.to_string())),
            Err(_) => Err(Failed::Lost("the answer took too long".to_owned())),
        }
    }
}

fn with_cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}
