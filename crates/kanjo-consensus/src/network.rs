//! The engine's calls over the bus, and its answers to those of others.
//!
//! ```text
//!  engine ─▶ Peer ── topic append: entries ─────────▶ bus ─▶ answer(): proposals checked ─▶ engine
//!               ├─── topic elect: heartbeats, votes
//!               └─── topic transfer
//! ```
//! A topic is a lane of its own, so entries never hold up a heartbeat.

use crate::boundary::{Notary, ProposalCheck};
use crate::entry::Entry;
use crate::machine::Machine;
use crate::types::{LeaderVote, Types};
use crate::wire::{self, Elect};
use bytes::Bytes;
use kanjo_link::bus::{Bus, BusError, Topic};
use openraft::alias::SnapshotOf;
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::vote::RaftLeaderId;
use openraft::{
    AsyncRuntime, EmptyNode, OptionalSend, RPCTypes, Raft, RaftNetworkFactory, RaftNetworkV2,
};
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// Entries get a millisecond more for each so many bytes: a slow link and disk, 16 MiB in a second.
const BYTES_PER_MS: usize = 16 << 10;

/// Makes a [`Peer`] for each node.
pub(crate) struct Network<R> {
    pub(crate) id: u16,
    pub(crate) bus: Arc<dyn Bus>,
    /// How long a few entries may take, to be on the other's disk, too. The engine's own limit is a
    /// heartbeat's, which is too short for a large block.
    pub(crate) append_timeout: Duration,
    pub(crate) runtime: PhantomData<fn() -> R>,
}

/// Calls one node.
pub(crate) struct Peer<R> {
    id: u16,
    to: u16,
    bus: Arc<dyn Bus>,
    append_timeout: Duration,
    heartbeats: bool,
    runtime: PhantomData<fn() -> R>,
}

impl<R> Network<R> {
    fn peer(&self, target: u64, heartbeats: bool) -> Peer<R> {
        Peer {
            id: self.id,
            // A number that no member has is a node that can't be reached.
            to: u16::try_from(target).unwrap_or(u16::MAX),
            bus: self.bus.clone(),
            append_timeout: self.append_timeout,
            heartbeats,
            runtime: PhantomData,
        }
    }
}

impl<R: AsyncRuntime> RaftNetworkFactory<Types<R>> for Network<R> {
    type Network = Peer<R>;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Peer<R> {
        self.peer(target, false)
    }

    async fn new_heartbeat_client(&mut self, target: u64, _node: &EmptyNode) -> Peer<R> {
        self.peer(target, true)
    }
}

impl<R: AsyncRuntime> Peer<R> {
    async fn call(
        &self,
        topic: Topic,
        action: RPCTypes,
        body: Bytes,
        ttl: Duration,
    ) -> Result<Bytes, RPCError<Types<R>>> {
        self.bus.call(self.to, topic, body, ttl).await.map_err(|error| match error {
            BusError::Timeout => {
                let (id, target) = (u64::from(self.id), u64::from(self.to));
                RPCError::Timeout(Timeout { action, id, target, timeout: ttl })
            }
            // The engine waits before it tries again, longer each time.
            error => RPCError::Unreachable(Unreachable::new(&error)),
        })
    }
}

fn malformed<R: AsyncRuntime>(error: crate::Malformed) -> RPCError<Types<R>> {
    RPCError::Network(NetworkError::new(&error))
}

impl<R: AsyncRuntime> RaftNetworkV2<Types<R>> for Peer<R> {
    type SnapshotData = ();

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types<R>>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types<R>>, RPCError<Types<R>>> {
        let action = RPCTypes::AppendEntries;
        if self.heartbeats && request.entries.is_empty() {
            let body = wire::encode_append(Some(Elect::Heartbeat), &request, &[]);
            let answer = self.call(Topic::Elect, action, body, option.soft_ttl()).await?;
            return wire::decode_appended(answer).map_err(malformed);
        }
        let count = wire::entries_that_fit(&request.entries);
        let entries = request.entries.get(..count).unwrap_or_default();
        let body = wire::encode_append(None, &request, entries);
        let for_size = Duration::from_millis((body.len() / BYTES_PER_MS) as u64);
        let ttl = self.append_timeout.max(option.soft_ttl()) + for_size;
        let answer = self.call(Topic::Append, action, body, ttl).await?;
        let response = wire::decode_appended(answer).map_err(malformed)?;
        let last = entries.last().map(Entry::id);
        match response {
            AppendEntriesResponse::Success if count < request.entries.len() => {
                Ok(AppendEntriesResponse::PartialSuccess(last))
            }
            AppendEntriesResponse::PartialSuccess(to)
                if !entries.iter().any(|entry| Some(entry.id()) == to) =>
            {
                let why = "it took entries that were not sent".to_owned();
                Err(malformed(crate::Malformed { what: "answer to append", why }))
            }
            response => Ok(response),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types<R>>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types<R>>, RPCError<Types<R>>> {
        let body = wire::encode_ballot(Elect::Vote, &request);
        let answer = self.call(Topic::Elect, RPCTypes::Vote, body, option.soft_ttl()).await?;
        wire::decode_answer(answer).map_err(malformed)
    }

    // Left out, the engine would count it as granted by everyone.
    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types<R>>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types<R>>, RPCError<Types<R>>> {
        let body = wire::encode_ballot(Elect::PreVote, &request);
        let answer = self.call(Topic::Elect, RPCTypes::Vote, body, option.soft_ttl()).await?;
        wire::decode_answer(answer).map_err(malformed)
    }

    async fn full_snapshot(
        &mut self,
        _vote: LeaderVote,
        _snapshot: SnapshotOf<Types<R>, ()>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types<R>>, StreamingError<Types<R>>> {
        Err(StreamingError::Unreachable(Unreachable::new(&no_snapshots())))
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types<R>>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types<R>>, RPCError<Types<R>>> {
        let body = wire::encode_transfer(&request);
        let (topic, action) = (Topic::Transfer, RPCTypes::TransferLeader);
        let answer = self.call(topic, action, body, option.soft_ttl()).await?;
        wire::decode_handed(answer).map_err(malformed)
    }
}

/// Why there is no snapshot: asked for one, something is wrong with a log.
pub(crate) fn no_snapshots() -> io::Error {
    let text =
        "the engine makes no snapshots: logs are complete, and a new node copies blocks first";
    io::Error::new(io::ErrorKind::Unsupported, text)
}

/// The engine as others call it.
pub(crate) struct Server<R: AsyncRuntime> {
    pub(crate) raft: Raft<Types<R>, Machine<R>>,
    pub(crate) check: Arc<dyn ProposalCheck>,
    pub(crate) notary: Arc<dyn Notary>,
    /// The first entry of every log.
    pub(crate) genesis: Entry,
}

impl<R: AsyncRuntime> Server<R> {
    /// Answers a call on `append`, `elect`, `transfer` or `snapshot`.
    pub(crate) async fn answer(
        &self,
        from: u16,
        topic: Topic,
        body: Bytes,
    ) -> Result<Bytes, String> {
        if self.notary.waits() {
            return Err("the engine waits for the sentinel of this node".to_owned());
        }
        match topic {
            Topic::Append => self.append(from, body).await,
            Topic::Elect => {
                let (kind, body) = Elect::take(body).map_err(text)?;
                match kind {
                    Elect::Heartbeat => self.append(from, body).await,
                    Elect::Vote => {
                        let request = wire::decode_ballot(body).map_err(text)?;
                        same_node(from, &request.vote)?;
                        let response = self.raft.vote(request).await.map_err(text)?;
                        Ok(wire::encode_answer(&response))
                    }
                    Elect::PreVote => {
                        let request = wire::decode_ballot(body).map_err(text)?;
                        same_node(from, &request.vote)?;
                        let response = self.raft.pre_vote(request).await.map_err(text)?;
                        Ok(wire::encode_answer(&response))
                    }
                }
            }
            Topic::Transfer => {
                let request = wire::decode_transfer(body).map_err(text)?;
                same_node(from, request.from_leader())?;
                let response = self.raft.handle_transfer_leader(request).await.map_err(text)?;
                Ok(wire::encode_handed(&response))
            }
            Topic::Snapshot => Err(no_snapshots().to_string()),
            other => Err(format!("the engine takes no calls on topic {other}")),
        }
    }

    async fn append(&self, from: u16, body: Bytes) -> Result<Bytes, String> {
        let mut request = wire::decode_append::<R>(body).map_err(text)?;
        same_node(from, &request.vote)?;
        let term = request.vote.leader_id().term();
        let checked = request.entries.iter().map(|entry| self.check(from, term, entry));
        let refused = checked.enumerate().find_map(|(at, check)| Some((at, check.err()?)));
        // What comes before an entry that is refused is taken: it may hold the membership that
        // names the proposer.
        let mut taken = None;
        if let Some((at, why)) = refused {
            request.entries.truncate(at);
            taken = Some(request.entries.last().ok_or(why)?.id());
        }
        let response = self.raft.append_entries(request).await.map_err(text)?;
        Ok(wire::encode_appended(&match (response, taken) {
            (AppendEntriesResponse::Success, Some(to)) => {
                AppendEntriesResponse::PartialSuccess(Some(to))
            }
            (response, _) => response,
        }))
    }

    fn check(&self, from: u16, term: u64, entry: &Entry) -> Result<(), String> {
        if entry.index() == 0 {
            let same = *entry == self.genesis;
            return same.then_some(()).ok_or_else(|| "another genesis".to_owned());
        }
        let (of, proposer) = (entry.term(), entry.proposer());
        if of > term || (of == term && proposer != from) {
            return Err(format!(
                "member {from} leads term {term}; the entry is of {proposer}, {of}"
            ));
        }
        let head = entry.head().ok_or_else(|| "an entry without a signature".to_owned())?;
        self.check.check(from, &head)
    }
}

/// Nobody speaks for another node: the link says who it is.
fn same_node(from: u16, vote: &LeaderVote) -> Result<(), String> {
    let named = *vote.leader_id().node_id();
    if named == u64::from(from) {
        return Ok(());
    }
    Err(format!("member {from} speaks for node {named}"))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
