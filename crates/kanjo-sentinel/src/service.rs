//! The sentinel at work: a Unix socket, one node at a time, the channel, the answers.
//!
//! # Invariants
//! - Nobody gets an answer who has not proven the node's key; a changed byte ends the session.
//! - The first message is the greeting; certificate and ledger are fixed by it for the session.
//! - The node's program is looked at before each request that signs; when that fails, nothing is
//!   signed and the session ends.
//! - When the guard has failed the service ends: only a new start can know what is on disk.

use crate::guard::GuardError;
use crate::measure::Measured;
use crate::message::{MESSAGE_MAX, Reply, Request, VERSION};
use crate::rules::Refusal;
use crate::signing::{Seen, Signing, Status};
use bytes::Bytes;
use kanjo_link::channel::BlockingChannel;
use kanjo_link::keys::{LinkKey, PublicLinkKey};
use kanjo_link::session::{Identity, LinkError, PURPOSE_SENTINEL};
use kanjo_types::codec;
use kanjo_types::id::ChainId;
use kanjo_types::membership::NodeCertificate;
use serde::Serialize;
use std::fs::{self, DirBuilder};
use std::io;
use std::net::Shutdown;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing::{info, warn};

/// Longest wait for the handshake, for the greeting, and for a reader of an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause after a failed accept: the process may be out of files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The prologue of a sentinel's channel names no ledger: a sentinel is made before its ledger is.
#[must_use]
pub fn identity(key: LinkKey) -> Identity {
    Identity { purpose: PURPOSE_SENTINEL, chain: [0; 32], key }
}

/// A service that can't begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The socket.
    #[error("the socket {path}: {why}", path = path.display())]
    Socket {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The guard has failed.
    #[error("the guard has failed: {0}")]
    Guard(#[from] GuardError),
}

/// What the service needs.
#[derive(Clone, Debug)]
pub struct Options {
    /// The socket; its directory must be closed to others, or open to one group (0750).
    pub socket: PathBuf,
    /// The node's link key: only its holder is answered.
    pub node_key: PublicLinkKey,
    /// How often the node's program is read again at least.
    pub measure_every: Duration,
}

/// The node at the other end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeSeen {
    /// Its process.
    pub pid: i32,
    /// Its name in its certificate.
    pub name: String,
    /// Hash of its certificate.
    pub certificate: kanjo_types::Hash,
    /// SHA-256 of its program.
    pub measurement: kanjo_types::Hash,
}

/// How the service stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceStatus {
    /// The sentinel.
    #[serde(flatten)]
    pub sentinel: Status,
    /// The node that is connected.
    pub node: Option<NodeSeen>,
}

/// Ends a service from another thread, and shows how it stands.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

struct Shared {
    stopping: AtomicBool,
    socket: PathBuf,
    session: Mutex<Option<UnixStream>>,
    status: Mutex<ServiceStatus>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Handle {
    /// Ends the service after the request under way.
    pub fn stop(&self) {
        self.0.stopping.store(true, Ordering::SeqCst);
        if let Some(session) = &*lock(&self.0.session) {
            // Only reading ends: the answer under way still leaves.
            let _ = session.shutdown(Shutdown::Read);
        }
        // Wakes the service if it waits for a node.
        drop(UnixStream::connect(&self.0.socket));
    }

    /// How the service stands.
    #[must_use]
    pub fn status(&self) -> ServiceStatus {
        lock(&self.0.status).clone()
    }

    fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::SeqCst)
    }
}

/// See the module.
pub struct Service {
    listener: UnixListener,
    options: Options,
    identity: Identity,
    signing: Signing,
    handle: Handle,
}

struct Session {
    channel: BlockingChannel<UnixStream>,
    measured: Measured,
    seen: Seen,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("a message that can't be read: {0}")]
    Message(#[from] codec::DecodeError),
    #[error("refused: {0}")]
    Refused(Refusal),
    #[error("input or output: {0}")]
    Io(#[from] io::Error),
}

impl Service {
    /// Binds the socket.
    ///
    /// # Errors
    /// [`ServiceError::Socket`]: its directory is open to others, or somebody listens there.
    pub fn bind(
        options: Options,
        mut signing: Signing,
        channel_key: LinkKey,
    ) -> Result<Self, ServiceError> {
        let listener = bind(&options.socket)
            .map_err(|why| ServiceError::Socket { path: options.socket.clone(), why })?;
        let status = ServiceStatus { sentinel: signing.status(), node: None };
        let handle = Handle(Arc::new(Shared {
            stopping: AtomicBool::new(false),
            socket: options.socket.clone(),
            session: Mutex::new(None),
            status: Mutex::new(status),
        }));
        Ok(Self { listener, options, identity: identity(channel_key), signing, handle })
    }

    /// To stop it from another thread.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Serves until it is stopped, then ends the guard's run cleanly.
    ///
    /// # Errors
    /// [`ServiceError::Guard`] when the guard has failed; nothing was signed after that.
    pub fn run(mut self) -> Result<(), ServiceError> {
        let mut done = Ok(());
        while done.is_ok() && !self.handle.is_stopping() {
            match self.listener.accept() {
                Ok((stream, _)) if !self.handle.is_stopping() => {
                    match self.serve(stream) {
                        Ok(()) | Err(Ended::Link(LinkError::Closed)) => info!("the node has left"),
                        Err(ended) => warn!("session ended: {ended}"),
                    }
                    *lock(&self.handle.0.session) = None;
                    self.publish(None);
                }
                Ok(_) => {}
                Err(error) => {
                    warn!("accepting a connection: {error}");
                    std::thread::sleep(ACCEPT_PAUSE);
                }
            }
            if let Some(why) = self.signing.guard().stopped() {
                done = Err(GuardError::Stopped(why.to_owned()).into());
            }
        }
        // Best effort: the next start removes what is left, too.
        let _ = fs::remove_file(&self.options.socket);
        done.and_then(|()| Ok(self.signing.close()?))
    }

    fn serve(&mut self, stream: UnixStream) -> Result<(), Ended> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        *lock(&self.handle.0.session) = Some(stream.try_clone()?);
        if self.handle.is_stopping() {
            return Ok(());
        }
        let known = vec![self.options.node_key];
        let mut channel = BlockingChannel::answer(stream, &self.identity, known, PATIENCE)?;
        channel.set_message_max(MESSAGE_MAX);
        let (mut session, name) = match self.greet(&mut channel) {
            Ok((measured, seen, name)) => (Session { channel, measured, seen }, name),
            Err(Ended::Refused(refusal)) => {
                send(&mut channel, &Reply::Refused(refusal.clone()))?;
                return Err(Ended::Refused(refusal));
            }
            Err(ended) => return Err(ended),
        };
        let (pid, seen) = (session.measured.pid(), session.seen);
        info!(pid, name, measurement = %seen.measurement, "node connected");
        let (certificate, measurement) = (seen.certificate, seen.measurement);
        self.publish(Some(NodeSeen { pid, name, certificate, measurement }));
        let (vote_key, measurement) = (self.signing.vote_key(), seen.measurement);
        send(&mut session.channel, &Reply::Welcome { vote_key, measurement })?;
        session.channel.stream().set_read_timeout(None)?;
        while !self.handle.is_stopping() && self.signing.guard().stopped().is_none() {
            let request: Request = codec::from_bytes(&session.channel.receive()?)?;
            let reply = self.answer(&mut session, request);
            self.publish_progress(&session.seen);
            send(&mut session.channel, &reply)?;
            if let Reply::Refused(refusal @ (Refusal::Greeting | Refusal::Measurement(_))) = reply {
                return Err(Ended::Refused(refusal));
            }
        }
        Ok(())
    }

    fn greet(
        &mut self,
        channel: &mut BlockingChannel<UnixStream>,
    ) -> Result<(Measured, Seen, String), Ended> {
        let greeting = codec::from_bytes(&channel.receive()?)?;
        let Request::Hello { version, chain, certificate } = greeting else {
            return Err(Ended::Refused(Refusal::Greeting));
        };
        if version != VERSION {
            let refusal = Refusal::Version { asked: version, known: VERSION };
            return Err(Ended::Refused(refusal));
        }
        let measured = self.admit(channel, chain, &certificate).map_err(Ended::Refused)?;
        let (measured, measurement) = measured;
        let seen = Seen { chain, certificate: certificate.hash(chain), measurement };
        Ok((measured, seen, certificate.name))
    }

    fn admit(
        &mut self,
        channel: &BlockingChannel<UnixStream>,
        chain: ChainId,
        certificate: &NodeCertificate,
    ) -> Result<(Measured, kanjo_types::Hash), Refusal> {
        if certificate.link_key != channel.peer() {
            let why = "its link_key is not the one of this channel".to_owned();
            return Err(Refusal::Certificate(why));
        }
        let refused = |error: crate::measure::MeasureError| Refusal::Measurement(error.to_string());
        let mut measured = Measured::peer(channel.stream()).map_err(refused)?;
        let measurement = measured.program(self.options.measure_every).map_err(refused)?;
        self.signing.greet(chain, certificate).map_err(refusal)?;
        Ok((measured, measurement))
    }

    fn answer(&mut self, session: &mut Session, request: Request) -> Reply {
        match session.measured.program(self.options.measure_every) {
            Ok(measurement) => session.seen.measurement = measurement,
            Err(error) => return Reply::Refused(Refusal::Measurement(error.to_string())),
        }
        let (seen, signing) = (&session.seen, &mut self.signing);
        let reply = match request {
            Request::Hello { .. } => Err(Refusal::Greeting.into()),
            Request::Proposals(requests) => {
                signing.proposals(seen.chain, &requests).map(Reply::Signatures)
            }
            Request::Votes { member, requests } => {
                signing.votes(seen, member, &requests).map(Reply::Votes)
            }
            Request::Notice { member, epoch, notice } => {
                signing.notice(seen.chain, member, epoch, &notice).map(Reply::Statement)
            }
            Request::Evidence { nonce } => signing.evidence(seen, &nonce).map(Reply::Evidence),
            Request::Status => Ok(Reply::Status(signing.status())),
        };
        reply.unwrap_or_else(|error| {
            warn!("refused: {error}");
            Reply::Refused(refusal(error))
        })
    }

    fn publish(&mut self, node: Option<NodeSeen>) {
        let sentinel = self.signing.status();
        *lock(&self.handle.0.status) = ServiceStatus { sentinel, node };
    }

    fn publish_progress(&mut self, seen: &Seen) {
        let sentinel = self.signing.status();
        let mut status = lock(&self.handle.0.status);
        status.sentinel = sentinel;
        if let Some(node) = &mut status.node {
            node.measurement = seen.measurement;
        }
    }
}

fn send(channel: &mut BlockingChannel<UnixStream>, reply: &Reply) -> Result<(), LinkError> {
    channel.send(Bytes::from(codec::to_bytes(reply)))
}

fn refusal(error: GuardError) -> Refusal {
    match error {
        GuardError::Refused(refusal) => refusal,
        other => Refusal::Stopped(other.to_string()),
    }
}

fn bind(path: &Path) -> Result<UnixListener, String> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let dir = parent.unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| error.to_string())?;
    let about = fs::metadata(dir).map_err(|error| error.to_string())?;
    let mode = about.permissions().mode();
    // A group may enter, so that node and sentinel can be two users; nobody else may.
    if mode & 0o027 != 0 {
        let dir = dir.display();
        return Err(format!("its directory is open to others; run: chmod 0700 {dir}"));
    }
    if let Ok(about) = fs::symlink_metadata(path) {
        if !about.file_type().is_socket() {
            return Err("something that is not a socket has this name".to_owned());
        }
        if UnixStream::connect(path).is_ok() {
            return Err("somebody listens here already".to_owned());
        }
        fs::remove_file(path).map_err(|error| error.to_string())?;
    }
    let listener = UnixListener::bind(path).map_err(|error| error.to_string())?;
    let open_to = if mode & 0o010 == 0 { 0o600 } else { 0o660 };
    let permissions = fs::Permissions::from_mode(open_to);
    fs::set_permissions(path, permissions).map_err(|error| error.to_string())?;
    Ok(listener)
}
