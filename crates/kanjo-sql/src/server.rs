//! Listening for clients.

use crate::engine::{Engine, Parts};
use crate::error::SqlError;
use crate::limits::Limits;
use crate::roles::Roles;
use crate::wire::Handlers;
use kanjo_client::Client;
use kanjo_types::ChainId;
use kanjo_view::{LogSource, View};
use pgwire::api::ConnectionManager;
use pgwire::tokio::process_socket;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

/// Stack of the threads that plan: expressions nest, and planning goes down with them.
const STACK_BYTES: usize = 32 << 20;
/// How long statements may go on when the service stops.
const STOP_MAX: Duration = Duration::from_secs(1);

/// SQL could not be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Threads or the listener.
    #[error("SQL can't be served: {0}")]
    Io(#[from] io::Error),
    /// The engine.
    #[error("the SQL engine can't be set up: {0}")]
    Engine(#[from] SqlError),
}

/// A running SQL service.
pub struct SqlServer {
    address: SocketAddr,
    runtime: Runtime,
}

impl std::fmt::Debug for SqlServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlServer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl SqlServer {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections.
    pub fn stop(self) {
        // On a thread of its own: whoever calls may itself be part of a runtime, which must not
        // wait.
        let _ = std::thread::spawn(move || self.runtime.shutdown_timeout(STOP_MAX)).join();
    }
}

/// What a SQL service works with.
pub struct Service {
    /// The rows.
    pub view: Arc<View>,
    /// The blocks.
    pub log: Arc<dyn LogSource>,
    /// Which ledger.
    pub chain: ChainId,
    /// Where transactions are submitted; without it the service only reads.
    pub client: Option<Arc<Client>>,
    /// Who may change what, as which user.
    pub roles: Roles,
    /// Limits.
    pub limits: Limits,
}

/// Serves SQL on `listener`. Whoever can connect may read the ledger, and do what the roles may
/// whose names it gives.
///
/// # Errors
/// [`ServeError`]; nothing is left running.
pub fn serve(listener: TcpListener, service: Service) -> Result<SqlServer, ServeError> {
    let Service { view, log, chain, client, roles, limits } = service;
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_stack_size(STACK_BYTES)
        .thread_name("kanjo-sql")
        .enable_all()
        .build()?;
    let connections = Arc::new(Semaphore::new(limits.connections_max));
    let parts = Parts { view, log, client, chain, roles, limits };
    let engine = Arc::new(Engine::new(parts)?);
    let listener = {
        let _inside = runtime.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    runtime.spawn(accept(listener, engine, connections));
    tracing::info!(%address, "SQL for whoever connects, without a password: keep it on loopback");
    Ok(SqlServer { address, runtime })
}

async fn accept(
    listener: tokio::net::TcpListener,
    engine: Arc<Engine>,
    connections: Arc<Semaphore>,
) {
    let manager = Arc::new(ConnectionManager::new());
    loop {
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::warn!(%error, "a SQL connection could not be taken");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else {
            tokio::spawn(refuse(socket));
            continue;
        };
        let _ = socket.set_nodelay(true);
        let handlers = Handlers::new(Arc::clone(&engine), Arc::clone(&manager));
        tokio::spawn(async move {
            if let Err(error) = process_socket(socket, None, handlers).await {
                tracing::debug!(%error, "a SQL connection ended");
            }
            drop(permit);
        });
    }
}

/// Says that there are too many, as PostgreSQL does.
async fn refuse(mut socket: TcpStream) {
    let mut body = Vec::new();
    for field in ["SFATAL", "VFATAL", "C53300", "Msorry, too many clients already"] {
        body.extend_from_slice(field.as_bytes());
        body.push(0);
    }
    body.push(0);
    let mut message = vec![b'E'];
    message.extend_from_slice(&(u32::try_from(body.len() + 4).unwrap_or(4)).to_be_bytes());
    message.extend_from_slice(&body);
    let _ = socket.write_all(&message).await;
    let _ = socket.shutdown().await;
}
