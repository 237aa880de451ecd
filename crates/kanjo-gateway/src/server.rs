//! The server: connections, limits, what goes where.

use crate::forward::{ForwardOptions, Forwarder, Submitted};
use crate::metrics::{self, Counts};
use crate::nodes::{Directory, Nodes};
use crate::read::read;
use crate::{watch, wire};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use kanjo_api::SUBMIT_BYTES_MAX;
use kanjo_types::outcome::Refusal;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch as told};
use tokio::task::JoinHandle;

/// Longest time for a body to arrive.
const BODY_TIME_MAX: Duration = Duration::from_secs(30);
/// Longest time for a request's head to arrive, and for a connection without requests.
const HEAD_TIME_MAX: Duration = Duration::from_secs(60);
/// How long a stop waits for requests under way.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// After a failure to accept (such as too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a gateway is to do, within which bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Base URLs of nodes.
    pub nodes: Vec<String>,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Longest time for one submission.
    pub deadline: Duration,
    /// Most connections at one time; more wait.
    pub connections_max: usize,
    /// Memory for bodies of submissions under way, all together, in KiB.
    pub body_room_kib: usize,
}

impl Config {
    /// A gateway to `nodes` on loopback, with the usual bounds.
    #[must_use]
    pub fn new(nodes: Vec<String>) -> Self {
        Self {
            nodes,
            listen: SocketAddr::from(([127, 0, 0, 1], 8470)),
            deadline: ForwardOptions::default().deadline,
            connections_max: 4_096,
            body_room_kib: 512 << 10,
        }
    }
}

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No node was named.
    #[error("a gateway needs at least one node")]
    NoNodes,
    /// Not an address of a node.
    #[error("'{0}' is not a node address; it must look like http://127.0.0.1:8480")]
    BadNode(String),
    /// The address can't be listened on.
    #[error("can't listen on {address}: {error}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
}

/// What handlers work with.
pub(crate) struct Gateway {
    pub nodes: Arc<Nodes>,
    pub forwarder: Forwarder,
    pub counts: Counts,
    /// The highest block that an answer to a submission spoke of: who submitted here reads it here.
    pub height: AtomicU64,
    body_room: Arc<Semaphore>,
}

impl Gateway {
    pub(crate) fn leader(&self) -> Option<Arc<str>> {
        self.nodes.leader()
    }

    pub(crate) fn nodes_to_ask(&self) -> Vec<Arc<str>> {
        self.nodes.readers()
    }

    pub(crate) fn suspect(&self, node: &str) {
        self.nodes.suspect(node);
    }
}

/// A gateway that serves.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    stop: told::Sender<bool>,
    accepting: JoinHandle<()>,
    watching: JoinHandle<()>,
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections and waits a little for requests under way.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let _ = tokio::time::timeout(STOP_GRACE, self.accepting).await;
        self.watching.abort();
    }
}

/// Starts a gateway on the current runtime.
///
/// # Errors
/// [`StartError`].
pub async fn start(config: Config) -> Result<Running, StartError> {
    if config.nodes.is_empty() {
        return Err(StartError::NoNodes);
    }
    let nodes = config.nodes.iter().map(|url| checked(url)).collect::<Result<Vec<_>, _>>()?;
    let nodes = Arc::new(Nodes::new(&nodes));
    let options = ForwardOptions { deadline: config.deadline, is_node: false };
    let forwarder = Forwarder::new(nodes.clone(), options);
    let upstream = forwarder.upstream.clone();
    let address = config.listen;
    let listen_error = |error| StartError::Listen { address, error };
    let listener = TcpListener::bind(address).await.map_err(listen_error)?;
    let address = listener.local_addr().map_err(listen_error)?;
    let gateway = Arc::new(Gateway {
        nodes: nodes.clone(),
        forwarder,
        counts: Counts::default(),
        height: AtomicU64::new(0),
        body_room: Arc::new(Semaphore::new(config.body_room_kib)),
    });
    let (stop, stopped) = told::channel(false);
    let watching = tokio::spawn(watch::watch(nodes, upstream));
    let accepting = tokio::spawn(accept(listener, gateway, config.connections_max, stopped));
    Ok(Running { address, stop, accepting, watching })
}

/// `http://host[:port]`, without a slash at the end.
fn checked(url: &str) -> Result<String, StartError> {
    let bad = || StartError::BadNode(url.chars().take(200).collect());
    let trimmed = url.trim().trim_end_matches('/');
    let host = trimmed.strip_prefix("http://").ok_or_else(bad)?;
    if host.is_empty() || host.contains(['/', '?', '#', ' ', '@']) {
        return Err(bad());
    }
    trimmed.parse::<axum::http::Uri>().map_err(|_| bad())?;
    Ok(trimmed.to_owned())
}

async fn accept(
    listener: TcpListener,
    gateway: Arc<Gateway>,
    connections_max: usize,
    mut stopped: told::Receiver<bool>,
) {
    let room = Arc::new(Semaphore::new(connections_max));
    let all = u32::try_from(connections_max).unwrap_or(u32::MAX);
    let router = router(gateway.clone());
    loop {
        // A place first: connections beyond them wait in the system's queue.
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let serving = serve(stream, router.clone(), stopped.clone());
                let gateway = gateway.clone();
                tokio::spawn(async move {
                    gateway.counts.connections.fetch_add(1, Ordering::Relaxed);
                    serving.await;
                    gateway.counts.connections.fetch_sub(1, Ordering::Relaxed);
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Until the last one has ended.
    let _ = room.acquire_many(all).await;
}

async fn serve(stream: TcpStream, router: Router, mut stopped: told::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = &mut connection => return log_end(ended),
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
    connection.as_mut().graceful_shutdown();
    if let Ok(ended) = tokio::time::timeout(STOP_GRACE, connection).await {
        log_end(ended);
    }
}

fn log_end(ended: Result<(), hyper::Error>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

fn router(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/v1/transactions", post(submit))
        .route("/health/live", get(|| async { "live\n" }))
        .route("/health/ready", get(ready))
        .route("/metrics", get(own_metrics))
        .fallback(read)
        .method_not_allowed_fallback(read)
        .layer(middleware::from_fn_with_state(gateway.clone(), count))
        .with_state(gateway)
}

async fn count(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    gateway.counts.requests.fetch_add(1, Ordering::Relaxed);
    next.run(request).await
}

/// Ready when the leader is known and a node answers questions.
async fn ready(State(gateway): State<Arc<Gateway>>) -> Response {
    let no = |why: &'static str| (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    match (gateway.leader(), gateway.nodes.healthy()) {
        (Some(_), 1..) => (StatusCode::OK, "ready\n").into_response(),
        (None, _) => no("no_leader\n"),
        (Some(_), 0) => no("no_node\n"),
    }
}

async fn own_metrics(State(gateway): State<Arc<Gateway>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], metrics::render(&gateway)).into_response()
}

async fn submit(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let length = parts.headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > SUBMIT_BYTES_MAX as u64) {
        return wire::refusal_answer(Refusal::TooLarge);
    }
    let read = tokio::time::timeout(BODY_TIME_MAX, gateway.read_body(body)).await;
    let (body, _room) = match read {
        Ok(Ok(read)) => read,
        Ok(Err(refused)) => return refused,
        Err(_) => {
            let sentence = "The request took more than 30 seconds to arrive; nothing was taken.";
            let status = StatusCode::REQUEST_TIMEOUT;
            return wire::error_answer(status, "too_slow", sentence, "request");
        }
    };
    let Submitted { response, height } = gateway.forwarder.submit(&parts.headers, body).await;
    gateway.height.fetch_max(height, Ordering::AcqRel);
    response
}

impl Gateway {
    /// Reads a body within the room for all of them. Room is taken for what has arrived, not for
    /// what is claimed.
    async fn read_body(
        &self,
        body: Body,
    ) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Response> {
        let mut bytes = BytesMut::new();
        let mut room: Option<OwnedSemaphorePermit> = None;
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| {
                let status = StatusCode::BAD_REQUEST;
                wire::error_answer(status, "bad_request", &error.to_string(), "request")
            })?;
            if bytes.len() + chunk.len() > SUBMIT_BYTES_MAX {
                return Err(wire::refusal_answer(Refusal::TooLarge));
            }
            let kib = u32::try_from(chunk.len() / 1_024 + 1).unwrap_or(u32::MAX);
            let Ok(more) = self.body_room.clone().try_acquire_many_owned(kib) else {
                self.counts.overloaded.fetch_add(1, Ordering::Relaxed);
                return Err(wire::refusal_answer(Refusal::Overloaded));
            };
            match &mut room {
                Some(room) => room.merge(more),
                None => room = Some(more),
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok((bytes.freeze(), room))
    }
}
