//! The built-in bus: TCP connections with Noise sessions between all members.
//!
//! ```text
//!   member 0                                             member 1
//!   ┌ lanes to 1 ─┐  control: elect, transfer, votes,    ┌ accepted ─┐
//!   │ queue ▶ task├── notices, final, measures ─────────▶│ desk      ├─▶ Handler
//!   │ queue ▶ task├── append ───────────────────────────▶│ desk      │
//!   │ queue ▶ task├── bulk: snapshot, fetch ────────────▶│ desk      │
//!   └─────────────┘◀── answers and pongs on the same ────└───────────┘
//!                      and three more the other way round, dialled by member 1
//! ```
//!
//! Who asks dials. Each class of topics has a connection of its own, so that bulk never delays
//! heartbeats, nor entries votes.
//!
//! Invariants:
//! - A handler is called only for members, by the number that belongs to the proven key.
//! - Bounded: handshakes under way, accepted connections (one for each member and class), calls
//!   under way and their bytes in each direction, queues in items and bytes.
//! - A call to a member without a connection fails at once.
//! - Any error ends the connection; the dialling side makes a new one, with growing pauses.

mod accept;
mod counters;
mod dial;
mod link;

pub use counters::{Snapshot, TopicSnapshot};

use crate::bus::{BoxFuture, Bus, BusError, Handler, Topic};
use crate::frame::MESSAGE_MAX;
use crate::keys::{LinkKey, PublicLinkKey, is_usable};
use crate::session::{Identity, LinkError, PURPOSE_MESH};
use crate::wire::{HEAD_MAX, Item};
use accept::Accepted;
use bytes::Bytes;
use counters::{Counter, Counters};
use dial::{Lane, NoCall};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, timeout_at};

const READ_BYTES: usize = 256 << 10;
const WRITE_BYTES: usize = 256 << 10;
const CONTROL_MAX: usize = 4 << 20;

/// Which connection a topic travels on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Class {
    /// Small and urgent.
    Control = 0,
    /// Entries of the log and heartbeats, in order.
    Append = 1,
    /// Large and patient.
    Bulk = 2,
}

impl Class {
    /// All of them, by number.
    pub const ALL: [Self; 3] = [Self::Control, Self::Append, Self::Bulk];

    /// The class of a topic.
    #[must_use]
    pub const fn of(topic: Topic) -> Self {
        match topic {
            Topic::Append => Self::Append,
            Topic::Snapshot | Topic::Fetch => Self::Bulk,
            Topic::Elect
            | Topic::Transfer
            | Topic::Votes
            | Topic::Notices
            | Topic::Final
            | Topic::Measures
            | Topic::Evidence => Self::Control,
        }
    }

    /// Most bytes of a body.
    #[must_use]
    pub const fn body_max(self) -> usize {
        self.message_max() - HEAD_MAX
    }

    const fn message_max(self) -> usize {
        match self {
            Self::Control => CONTROL_MAX,
            Self::Append | Self::Bulk => MESSAGE_MAX,
        }
    }

    const fn number(self) -> u8 {
        self as u8
    }

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// A member as links see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its number.
    pub number: u16,
    /// Its key.
    pub key: PublicLinkKey,
    /// Its `host:port`.
    pub address: String,
}

/// Bounds of a mesh.
#[derive(Clone, Debug)]
pub struct Limits {
    /// For connecting, and for the whole handshake.
    pub handshake: Duration,
    /// Handshakes under way with others that dial.
    pub handshakes_max: usize,
    /// Between two pings.
    pub ping_every: Duration,
    /// A connection on which nothing comes for this long is given up; more than two pings.
    pub silence: Duration,
    /// Calls under way on one connection.
    pub calls_max: usize,
    /// The same for bulk, whose answers are large.
    pub bulk_calls_max: usize,
    /// Bytes of calls of others under way on one connection.
    pub call_bytes: usize,
    /// Items waiting to be sent on one connection.
    pub queue_items: usize,
    /// Bytes waiting to be sent on one connection; one item may be larger.
    pub queue_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(3),
            handshakes_max: 64,
            ping_every: Duration::from_secs(1),
            silence: Duration::from_secs(5),
            calls_max: 256,
            bulk_calls_max: 16,
            call_bytes: 2 * MESSAGE_MAX,
            queue_items: 4_096,
            queue_bytes: MESSAGE_MAX,
        }
    }
}

impl Limits {
    fn calls_of(&self, class: Class) -> usize {
        if class == Class::Bulk { self.bulk_calls_max } else { self.calls_max }
    }
}

/// What a mesh is started with.
#[derive(Clone, Debug)]
pub struct MeshConfig {
    /// Chain id of the ledger.
    pub chain: [u8; 32],
    /// Our number.
    pub me: u16,
    /// Our key.
    pub key: LinkKey,
    /// `host:port` to listen on; port 0 takes a free one.
    pub listen: String,
    /// The members; we may be among them.
    pub peers: Vec<Peer>,
    /// Bounds.
    pub limits: Limits,
}

/// How the link to a member stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who, and where.
    pub peer: Peer,
    /// Are the connections that we dial up, by [`Class::ALL`]?
    pub connected: [bool; 3],
    /// Why the first that isn't is not.
    pub why: Option<String>,
    /// Smoothed time of a ping and its answer; none before the first one.
    pub round_trip_us: Option<u64>,
    /// Bytes received, sealed, since the member was added.
    pub bytes_in: u64,
    /// Bytes sent, sealed, since the member was added.
    pub bytes_out: u64,
}

/// A member, its lanes and their figures.
struct PeerState {
    peer: Peer,
    lanes: [Arc<Lane>; 3],
    bytes_in: Counter,
    bytes_out: Counter,
    /// 0: not measured.
    round_trip_us: AtomicU64,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl PeerState {
    fn lane(&self, class: Class) -> &Arc<Lane> {
        let [control, append, bulk] = &self.lanes;
        match class {
            Class::Control => control,
            Class::Append => append,
            Class::Bulk => bulk,
        }
    }

    /// An eighth of every new measurement goes into the figure.
    fn measured(&self, round_trip: Duration) {
        let new = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX).max(1);
        let old = self.round_trip_us.load(Ordering::Relaxed);
        let smooth = if old == 0 { new } else { old - old / 8 + new / 8 };
        self.round_trip_us.store(smooth.max(1), Ordering::Relaxed);
    }

    fn status(&self) -> PeerStatus {
        let connected = Class::ALL.map(|class| self.lane(class).live().is_some());
        let down = self.lanes.iter().find(|lane| lane.live().is_none());
        let round_trip_us = self.round_trip_us.load(Ordering::Relaxed);
        PeerStatus {
            peer: self.peer.clone(),
            connected,
            why: down.map(|lane| lane.why()),
            round_trip_us: (round_trip_us > 0).then_some(round_trip_us),
            bytes_in: self.bytes_in.get(),
            bytes_out: self.bytes_out.get(),
        }
    }

    fn stop(&self) {
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
    }
}

#[derive(Default)]
struct Peers {
    by_number: BTreeMap<u16, Arc<PeerState>>,
    by_key: HashMap<PublicLinkKey, u16>,
}

/// What all tasks of a mesh share.
struct Shared {
    identity: Identity,
    me: u16,
    limits: Limits,
    handler: Arc<dyn Handler>,
    peers: RwLock<Peers>,
    accepted: Mutex<Accepted>,
    counters: Counters,
    closed: AtomicBool,
}

/// The built-in bus. Ends when dropped or closed.
pub struct Mesh {
    shared: Arc<Shared>,
    runtime: Handle,
    address: SocketAddr,
    /// Taken by whoever waits for its end.
    listening: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Mesh {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Mesh({} on {})", self.shared.me, self.address)
    }
}

impl Mesh {
    /// Listens, and dials the members. Must be called in a tokio runtime, whose tasks it uses.
    ///
    /// # Errors
    /// [`LinkError::Io`]: the address can't be listened on.
    pub async fn start(
        config: MeshConfig,
        handler: Arc<dyn Handler>,
    ) -> Result<Arc<Self>, LinkError> {
        let listener = TcpListener::bind(&config.listen).await?;
        let address = listener.local_addr()?;
        let MeshConfig { chain, me, key, peers, limits, .. } = config;
        let shared = Arc::new(Shared {
            identity: Identity { purpose: PURPOSE_MESH, chain, key },
            me,
            limits,
            handler,
            peers: RwLock::default(),
            accepted: Mutex::default(),
            counters: Counters::default(),
            closed: AtomicBool::new(false),
        });
        let runtime = Handle::current();
        let listening = runtime.spawn(accept::listen(Arc::clone(&shared), listener));
        let listening = Mutex::new(Some(listening));
        let mesh = Arc::new(Self { shared, runtime, address, listening });
        mesh.set_peers(peers);
        Ok(mesh)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Replaces the members. Links to those that stay as they were go on; all others end. Of two
    /// with one key, or one number, only the one with the lower number, or the first, counts; we
    /// ourselves don't, nor keys that prove nothing ([`is_usable`]).
    pub fn set_peers(&self, mut wanted: Vec<Peer>) {
        wanted.sort_by_key(|peer| peer.number);
        let own = self.shared.identity.key.public();
        let mut peers = self.shared.peers.write();
        if self.shared.closed.load(Ordering::Acquire) {
            return;
        }
        let mut old = std::mem::take(&mut *peers);
        let mut changed = Vec::new();
        for peer in wanted {
            let known =
                peers.by_key.contains_key(&peer.key) || peers.by_number.contains_key(&peer.number);
            let ourselves = peer.number == self.shared.me || peer.key == own;
            if known || ourselves || !is_usable(&peer.key) {
                continue;
            }
            let number = peer.number;
            peers.by_key.insert(peer.key, number);
            let state = match old.by_number.remove(&number) {
                Some(same) if same.peer == peer => same,
                other => {
                    changed.extend(other);
                    self.begin(peer)
                }
            };
            peers.by_number.insert(number, state);
        }
        changed.extend(old.by_number.into_values());
        for gone in &changed {
            gone.stop();
        }
        // An accepted connection carries its member's number and figures, so it ends with them.
        let ended = |key: &PublicLinkKey| changed.iter().any(|gone| gone.peer.key == *key);
        self.shared.accepted.lock().retain(|key| peers.by_key.contains_key(key) && !ended(key));
    }

    fn begin(&self, peer: Peer) -> Arc<PeerState> {
        let state = Arc::new(PeerState {
            peer,
            lanes: Class::ALL.map(|class| Arc::new(Lane::new(class))),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            round_trip_us: AtomicU64::new(0),
            tasks: Mutex::default(),
        });
        let keep = |lane: &Arc<Lane>| {
            let task = dial::keep(Arc::clone(&self.shared), Arc::clone(&state), Arc::clone(lane));
            self.runtime.spawn(task).abort_handle()
        };
        let tasks = state.lanes.iter().map(keep).collect();
        *state.tasks.lock() = tasks;
        state
    }

    /// How the links stand, by number.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.shared.peers.read().by_number.values().map(|peer| peer.status()).collect()
    }

    /// What was counted since the start.
    #[must_use]
    pub fn counters(&self) -> Snapshot {
        self.shared.counters.snapshot()
    }

    /// Ends all links and stops listening. Calls under way fail.
    pub fn close(&self) {
        let mut peers = self.shared.peers.write();
        self.shared.closed.store(true, Ordering::Release);
        if let Some(listening) = self.listening.lock().as_ref() {
            listening.abort();
        }
        for peer in peers.by_number.values() {
            peer.stop();
        }
        *peers = Peers::default();
    }

    /// As [`Self::close`], and waits until the address is free again.
    pub async fn shut_down(&self) {
        self.close();
        let listening = self.listening.lock().take();
        if let Some(listening) = listening {
            // It was aborted: the error says so.
            let _ = listening.await;
        }
    }

    fn find(&self, to: u16) -> Result<Arc<PeerState>, BusError> {
        if self.shared.closed.load(Ordering::Acquire) {
            return Err(BusError::Closed);
        }
        let unknown = || BusError::Unreachable { to, why: "not a member with a link".to_owned() };
        self.shared.peers.read().by_number.get(&to).cloned().ok_or_else(unknown)
    }

    fn begin_call(
        &self,
        to: u16,
        topic: Topic,
        body: Bytes,
        until: Instant,
    ) -> Result<(dial::Pending, tokio::sync::oneshot::Receiver<dial::Answer>), BusError> {
        let class = Class::of(topic);
        if body.len() > class.body_max() {
            return Err(BusError::TooLarge);
        }
        let peer = self.find(to)?;
        let lane = peer.lane(class);
        let unreachable = |why: String| BusError::Unreachable { to, why };
        let live = lane.live().ok_or_else(|| unreachable(lane.why()))?;
        let (pending, receiver) =
            live.begin(self.shared.limits.calls_of(class)).map_err(|error| match error {
                NoCall::Gone => unreachable("the connection broke".to_owned()),
                NoCall::TooMany => unreachable("too many calls are under way".to_owned()),
            })?;
        let request = Item::Request { id: pending.id, topic: topic.number(), ttl_ms: 0, body };
        live.queue
            .push(request, Some(until))
            .map_err(|_| unreachable("the queue is full".to_owned()))?;
        Ok((pending, receiver))
    }

    fn send_to(&self, peer: &PeerState, topic: Topic, body: Bytes) {
        let class = Class::of(topic);
        let counted = self.shared.counters.topic(topic);
        let fits = body.len() <= class.body_max();
        let live = peer.lane(class).live().filter(|_| fits);
        let item = Item::Message { topic: topic.number(), body };
        match live.map(|live| live.queue.push(item, None)) {
            Some(Ok(())) => counted.sent.one(),
            Some(Err(_)) | None => counted.dropped.one(),
        };
    }
}

impl Bus for Mesh {
    fn call(
        &self,
        to: u16,
        topic: Topic,
        body: Bytes,
        ttl: Duration,
    ) -> BoxFuture<'static, Result<Bytes, BusError>> {
        self.shared.counters.topic(topic).called.one();
        let now = Instant::now();
        let until = now.checked_add(ttl).unwrap_or(now + Duration::from_secs(86_400));
        let begun = self.begin_call(to, topic, body, until);
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let answer = match begun {
                Err(error) => Err(error),
                Ok((_pending, receiver)) => match timeout_at(until, receiver).await {
                    Ok(Ok(answer)) => answer,
                    Ok(Err(_)) => {
                        let why = "the connection broke during the call".to_owned();
                        Err(BusError::Unreachable { to, why })
                    }
                    Err(_) => Err(BusError::Timeout),
                },
            };
            match &answer {
                Err(BusError::Unreachable { .. }) => shared.counters.unreachable.one(),
                Err(BusError::Timeout) => shared.counters.timeouts.one(),
                Err(BusError::Refused(_)) => shared.counters.refused.one(),
                Err(BusError::TooLarge | BusError::Closed) | Ok(_) => 0,
            };
            answer
        })
    }

    fn send(&self, to: u16, topic: Topic, body: Bytes) {
        match self.find(to) {
            Ok(peer) => self.send_to(&peer, topic, body),
            Err(_) => {
                self.shared.counters.topic(topic).dropped.one();
            }
        }
    }

    fn publish(&self, topic: Topic, body: Bytes) {
        let peers: Vec<_> = self.shared.peers.read().by_number.values().cloned().collect();
        for peer in peers {
            self.send_to(&peer, topic, body.clone());
        }
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.close();
    }
}
