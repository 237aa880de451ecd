//! The thread that talks to the sentinel: votes, proposals, statements. What has gathered while one
//! request was under way goes with the next, so that the sentinel's durable guard is written once
//! for many.

use crate::cluster::ClusterState;
use crate::cluster::finality::Event;
use crate::metrics::Stage;
use crate::shared::Shared;
use crossbeam_channel::{Receiver, Sender};
use kanjo_consensus::boundary::{Notary, NotaryError, ProposalRequest};
use kanjo_consensus::vote::SignedVote;
use kanjo_link::bus::BoxFuture;
use kanjo_sentinel::client::{Signer, SignerError};
use kanjo_sentinel::rules::{self, VoteRequest};
use kanjo_types::Hash;
use kanjo_types::membership::{Notice, Statement};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Most requests in one message to the sentinel.
const BATCH_MAX: usize = 64;
/// How long a sentinel that does not answer is left alone.
const PAUSE: Duration = Duration::from_millis(200);

type Signatures = Result<Vec<[u8; 64]>, NotaryError>;

/// What is to be signed.
pub(crate) enum ToSign {
    /// This node's vote for a committed and executed height.
    Vote { epoch: u64, height: u64, header: Hash, challenge: Hash },
    /// Entries that this node, as leader, is about to append.
    Proposals { requests: Vec<ProposalRequest>, reply: oneshot::Sender<Signatures> },
    /// A statement about a member.
    Notice { epoch: u64, notice: Box<Notice>, reply: oneshot::Sender<Result<Statement, String>> },
    /// The node stops.
    Stop,
}

/// The thread's work.
pub(crate) struct Signing {
    pub shared: Arc<Shared>,
    pub cluster: Arc<ClusterState>,
    pub requests: Receiver<ToSign>,
    pub finality: Sender<Event>,
    pub signer: Box<dyn Signer>,
}

impl Signing {
    /// Works until everybody who may ask is gone, or the node stops.
    pub(crate) fn run(mut self) {
        let cpu = self.shared.metrics.thread(Stage::Certificate);
        let mut votes: Vec<VoteRequest> = Vec::new();
        loop {
            let first = if votes.is_empty() {
                match self.requests.recv() {
                    Ok(request) => Some(request),
                    Err(_) => return,
                }
            } else {
                self.requests.try_recv().ok()
            };
            let more: Vec<ToSign> = self.requests.try_iter().take(BATCH_MAX).collect();
            for request in first.into_iter().chain(more) {
                match request {
                    ToSign::Vote { epoch, height, header, challenge } => {
                        votes.push(VoteRequest { epoch, height, header, challenge });
                    }
                    ToSign::Stop => return,
                    other => self.answer(other),
                }
            }
            if !votes.is_empty() && !self.vote(&mut votes) {
                if self.shared.stopping() {
                    return;
                }
                std::thread::sleep(PAUSE);
            }
            cpu.lap();
        }
    }

    fn answer(&mut self, request: ToSign) {
        match request {
            ToSign::Vote { .. } | ToSign::Stop => {}
            ToSign::Proposals { requests, reply } => {
                let requests: Vec<_> = requests.into_iter().map(to_sentinel).collect();
                let signed = self.signer.proposals(&requests);
                let _ = reply.send(signed.map_err(notary_error));
            }
            ToSign::Notice { epoch, notice, reply } => {
                let signed = self.signer.notice(self.cluster.me, epoch, &notice);
                let _ = reply.send(signed.map_err(|error| error.to_string()));
            }
        }
    }

    /// Asks for votes; false when the sentinel can't be reached and they are to be asked again.
    fn vote(&mut self, requests: &mut Vec<VoteRequest>) -> bool {
        let batch: Vec<VoteRequest> = requests.iter().take(BATCH_MAX).copied().collect();
        let mut signed = Vec::with_capacity(batch.len());
        match self.vote_once(&batch) {
            Ok(votes) => signed = votes,
            Err(SignerError::Unreachable { .. }) => return false,
            // One that is refused takes the others with it: each for itself.
            Err(_) => {
                for request in &batch {
                    match self.vote_once(std::slice::from_ref(request)) {
                        Ok(votes) => signed.extend(votes),
                        Err(SignerError::Unreachable { .. }) => return false,
                        Err(error) => {
                            let height = request.height;
                            tracing::error!(height, %error, "the sentinel does not vote");
                            self.cluster.sentinel_refuses(format!("height {height}: {error}"));
                        }
                    }
                }
            }
        }
        requests.drain(..batch.len());
        self.cluster.publish_votes(&signed);
        let _ = self.finality.send(Event::Signed(signed));
        true
    }

    fn vote_once(&mut self, requests: &[VoteRequest]) -> Result<Vec<SignedVote>, SignerError> {
        match self.signer.votes(self.cluster.me, requests) {
            Ok(votes) => {
                self.cluster.sentinel_answers();
                let signed = |(request, vote): (&VoteRequest, _)| SignedVote {
                    epoch: request.epoch,
                    height: request.height,
                    header: request.header,
                    vote,
                };
                Ok(requests.iter().zip(votes).map(signed).collect())
            }
            Err(error) => {
                if matches!(error, SignerError::Unreachable { .. }) {
                    tracing::warn!(%error, "the sentinel does not answer");
                    self.cluster.sentinel_silent(error.to_string());
                }
                Err(error)
            }
        }
    }
}

fn to_sentinel(request: ProposalRequest) -> rules::ProposalRequest {
    let ProposalRequest { term, height, content } = request;
    rules::ProposalRequest { term, height, content }
}

/// The engine's word for it.
fn notary_error(error: SignerError) -> NotaryError {
    match error {
        SignerError::Unreachable { .. } => NotaryError::Unreachable(error.to_string()),
        other => NotaryError::Refused(other.to_string()),
    }
}

/// Has entries of the log signed for the engine.
pub(crate) struct SentinelNotary(pub Sender<ToSign>);

impl Notary for SentinelNotary {
    fn sign(&self, requests: Vec<ProposalRequest>) -> BoxFuture<'static, Signatures> {
        let (reply, answer) = oneshot::channel();
        let asked = self.0.send(ToSign::Proposals { requests, reply });
        Box::pin(async move {
            asked.map_err(|_| NotaryError::Unreachable("the node is stopping".to_owned()))?;
            answer.await.map_err(|_| NotaryError::Unreachable("the node is stopping".to_owned()))?
        })
    }
}
