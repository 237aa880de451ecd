//! The HTTP API under `/v1`, health, metrics, and the OpenAPI document.

mod cluster;
mod error;
mod extract;
mod forward;
mod lookup;
mod openapi;
mod proof;
mod record;
mod stream;
mod submit;
mod view;

use crate::intake::Intake;
use crate::metrics::Readings;
use crate::shared::{Health, Shared, ToSequencer};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use crossbeam_channel::Sender;
use error::ApiError;
use kanjo_gateway::Forwarder;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};

/// Threads that serve HTTP.
const HTTP_THREADS: usize = 2;
/// How long a stop waits for requests under way.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// What handlers work with.
pub(crate) struct Api {
    pub shared: Arc<Shared>,
    pub intake: Arc<Intake>,
    pub sequencer: Sender<ToSequencer>,
    /// Room for bodies of submit requests, in KiB.
    pub body_room: Arc<Semaphore>,
    /// Passes submissions on to the leader; only on members of a cluster.
    pub forwarder: Option<Forwarder>,
}

/// The running server.
pub(crate) struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: JoinHandle<()>,
}

impl Server {
    /// Stops taking requests and waits a little for those under way.
    pub(crate) fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        let _ = self.thread.join();
    }
}

/// Serves on `listener` on threads of its own.
pub(crate) fn serve(
    listener: std::net::TcpListener,
    shared: Arc<Shared>,
    intake: Arc<Intake>,
    sequencer: Sender<ToSequencer>,
) -> io::Result<Server> {
    listener.set_nonblocking(true)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(HTTP_THREADS)
        .thread_name("kanjo-http")
        .enable_all()
        .build()?;
    let router = router(Arc::new(Api {
        forwarder: forward::forwarder(&shared),
        shared,
        intake,
        sequencer,
        body_room: Arc::new(Semaphore::new(submit::BODY_ROOM_KILOBYTES)),
    }));
    let work = move || {
        runtime.block_on(async move {
            let listener = match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => listener,
                Err(error) => return tracing::error!(%error, "the HTTP API can't listen"),
            };
            let (grace_sender, grace) = oneshot::channel::<()>();
            let shutdown = async move {
                let _ = stopped.await;
                let _ = grace_sender.send(());
            };
            let service = router.into_make_service_with_connect_info::<SocketAddr>();
            let server = axum::serve(listener, service).with_graceful_shutdown(shutdown);
            let deadline = async move {
                let _ = grace.await;
                tokio::time::sleep(STOP_GRACE).await;
            };
            tokio::select! {
                outcome = server.into_future() => if let Err(error) = outcome {
                    tracing::error!(%error, "the HTTP API ended");
                },
                () = deadline => {}
            }
        });
        runtime.shutdown_background();
    };
    let thread = std::thread::Builder::new().name("kanjo-http".to_owned()).spawn(work)?;
    Ok(Server { stop: Some(stop), thread })
}

fn router(api: Arc<Api>) -> Router {
    let v1 = Router::new()
        .route("/status", get(lookup::status))
        .route("/genesis", get(lookup::genesis))
        .route("/transactions", post(submit::submit))
        .route("/transactions/{id}", get(lookup::transaction))
        .route("/transactions/{id}/evidence", get(record::evidence_of))
        .route("/records/{table}", get(record::records))
        .route("/records/{table}/{key}", get(record::record))
        .route("/records/{table}/{key}/history", get(record::record_history))
        .route("/wallets/{id}", get(lookup::wallet))
        .route("/wallets/{id}/history", get(lookup::wallet_history))
        .route("/wallets/{id}/states/{token}", get(lookup::wallet_state))
        .route("/users/{id}", get(lookup::user))
        .route("/tokens", get(lookup::tokens))
        .route("/tokens/{id}", get(lookup::token))
        .route("/blocks", get(lookup::blocks))
        .route("/blocks/{height}", get(lookup::block))
        .route("/proofs/wallets/{id}", get(proof::wallet))
        .route("/proofs/wallets/{id}/states/{token}", get(proof::state))
        .route("/proofs/users/{id}", get(proof::user))
        .route("/proofs/tokens/{id}", get(proof::token))
        .route("/proofs/records/{table}/{key}", get(proof::record))
        .route("/proofs/reversals/{id}", get(proof::reversal))
        .route("/proofs/transactions/{id}", get(proof::transaction))
        .route("/proofs/blocks/{height}", get(proof::block))
        .route("/proofs/extends", get(proof::extends))
        .route("/proofs/memberships", get(cluster::memberships))
        .route("/cluster", get(cluster::cluster))
        .route("/cluster/tables", get(cluster::tables))
        .route("/cluster/memberships/{epoch}", get(cluster::membership))
        .route("/cluster/leave", post(cluster::leave))
        .route("/stream/blocks", get(stream::blocks))
        .route("/stream/wallets/{id}", get(stream::wallet))
        .route("/openapi.json", get(openapi::document))
        .layer(middleware::from_fn_with_state(api.clone(), cluster::refuse_of_witness));
    Router::new()
        .nest("/v1", v1)
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(api.clone(), count))
        .with_state(api)
}

async fn count(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    api.shared.metrics.requests.fetch_add(1, Ordering::Relaxed);
    if let Err(behind) = lookup::wait_at_least(&api.shared, request.headers()).await {
        return behind.into_response();
    }
    next.run(request).await
}

async fn not_found() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "unknown_path", "There is nothing at this path.")
        .field("path; see /v1/openapi.json")
}

async fn method_not_allowed() -> ApiError {
    let sentence = "This path does not take this method; see /v1/openapi.json.";
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", sentence).field("method")
}

/// The process answers.
#[utoipa::path(get, path = "/health/live", tag = "operation", responses((status = 200)))]
async fn live() -> &'static str {
    "live\n"
}

/// The node takes transactions (200), or says why it does not (503).
#[utoipa::path(get, path = "/health/ready", tag = "operation",
    responses((status = 200), (status = 503)))]
async fn ready(State(api): State<Arc<Api>>) -> Response {
    match api.shared.health() {
        Health::Running => (StatusCode::OK, "ready\n").into_response(),
        Health::Stopped(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("stopped: {reason}\n")).into_response()
        }
        health => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", health.name())).into_response(),
    }
}

/// Metrics in the text format of Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operation", responses((status = 200)))]
async fn metrics(State(api): State<Arc<Api>>) -> Response {
    let shared = &api.shared;
    let height = shared.tip().height;
    let readings = Readings {
        height,
        in_flight: shared.in_flight.load(Ordering::Relaxed) as u64,
        index_lag: (height + 1).saturating_sub(shared.index.next_height().unwrap_or(0)),
        running: shared.health() == Health::Running,
    };
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], shared.metrics.render(&readings)).into_response()
}

/// An answer or an error.
type Answer<T> = Result<Json<T>, ApiError>;
