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
use kanjo_sentinel::rules::{self, Refusal, VoteRequest};
use kanjo_types::Hash;
use kanjo_types::membership::{Notice, Statement};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Most requests in one message to the sentinel.
const BATCH_MAX: usize = 64;
/// How long a sentinel that does not answer is left alone.
const PAUSE: Duration = Duration::from_millis(200);
/// The first pause before a proposal is signed again; it doubles up to [`PAUSE`].
const PAUSE_FIRST: Duration = Duration::from_millis(20);

type Signatures = Result<Vec<[u8; 64]>, NotaryError>;

/// What is to be signed.
pub(crate) enum ToSign {
    /// This node's vote for a committed and executed height.
    Vote { epoch: u64, height: u64, header: Hash, challenge: Hash },
    /// Entries that this node, as leader, is about to append.
    Proposals { requests: Vec<ProposalRequest>, reply: oneshot::Sender<Signatures> },
    /// A statement about a member.
    Notice { epoch: u64, notice: Box<Notice>, reply: oneshot::Sender<Result<Statement, String>> },
    /// What the sentinel says of itself, for a member's nonce.
    Evidence { nonce: Vec<u8>, reply: oneshot::Sender<Result<Vec<u8>, String>> },
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
                match &signed {
                    Err(error) if comes_back(error) => self.silent(error),
                    Ok(_) => self.cluster.sentinel_answers(),
                    Err(_) => {}
                }
                let _ = reply.send(signed.map_err(notary_error));
            }
            ToSign::Notice { epoch, notice, reply } => {
                let signed = self.signer.notice(self.cluster.me, epoch, &notice);
                let _ = reply.send(signed.map_err(|error| error.to_string()));
            }
            ToSign::Evidence { nonce, reply } => {
                let evidence = self.signer.evidence(&nonce);
                let _ = reply.send(evidence.map_err(|error| error.to_string()));
            }
        }
    }

    /// Asks for votes; false when the sentinel can't be reached and they are to be asked again.
    fn vote(&mut self, requests: &mut Vec<VoteRequest>) -> bool {
        let batch: Vec<VoteRequest> = requests.iter().take(BATCH_MAX).copied().collect();
        let mut signed = Vec::with_capacity(batch.len());
        match self.vote_once(&batch) {
            Ok(votes) => signed = votes,
            Err(error) if comes_back(&error) => return false,
            // One that is refused takes the others with it: each for itself.
            Err(_) => {
                for request in &batch {
                    match self.vote_once(std::slice::from_ref(request)) {
                        Ok(votes) => signed.extend(votes),
                        Err(error) if comes_back(&error) => return false,
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
                if comes_back(&error) {
                    self.silent(&error);
                }
                Err(error)
            }
        }
    }

    fn silent(&self, error: &SignerError) {
        if self.cluster.sentinel_silent(error.to_string()) {
            tracing::warn!(%error, "the sentinel does not sign now");
        }
    }
}

/// Is the sentinel only away, until it is started again or can look at this process again?
fn comes_back(error: &SignerError) -> bool {
    matches!(
        error,
        SignerError::Unreachable { .. }
            | SignerError::Refused(Refusal::Stopped(_) | Refusal::Measurement(_))
    )
}

fn to_sentinel(request: ProposalRequest) -> rules::ProposalRequest {
    let ProposalRequest { term, height, content } = request;
    rules::ProposalRequest { term, height, content }
}

/// The engine's word for it.
fn notary_error(error: SignerError) -> NotaryError {
    if comes_back(&error) {
        NotaryError::Unreachable(error.to_string())
    } else {
        NotaryError::Refused(error.to_string())
    }
}

/// Has entries of the log signed for the engine. While the sentinel is away it waits, and the
/// engine with it: without heartbeats from here the others elect another leader. When the sentinel
/// is back the engine goes on, and hears who leads.
pub(crate) struct SentinelNotary {
    pub requests: Sender<ToSign>,
    pub shared: Arc<Shared>,
    pub cluster: Arc<ClusterState>,
}

impl Notary for SentinelNotary {
    fn sign(&self, requests: Vec<ProposalRequest>) -> BoxFuture<'static, Signatures> {
        let (signing, shared) = (self.requests.clone(), self.shared.clone());
        let cluster = self.cluster.clone();
        Box::pin(async move {
            let mut pause = PAUSE_FIRST;
            loop {
                match sign_once(&signing, requests.clone()).await {
                    Err(NotaryError::Unreachable(_)) if !shared.stopping() => {
                        cluster.set_signing_waits(true);
                        tokio::time::sleep(pause).await;
                        pause = pause.saturating_mul(2).min(PAUSE);
                    }
                    signed => {
                        cluster.set_signing_waits(false);
                        return signed;
                    }
                }
            }
        })
    }

    fn waits(&self) -> bool {
        self.cluster.signing_waits()
    }
}

async fn sign_once(signing: &Sender<ToSign>, requests: Vec<ProposalRequest>) -> Signatures {
    let stopping = || NotaryError::Unreachable("the node is stopping".to_owned());
    let (reply, answer) = oneshot::channel();
    signing.send(ToSign::Proposals { requests, reply }).map_err(|_| stopping())?;
    answer.await.map_err(|_| stopping())?
}
