//! The sentinel and who asks it: the node's `cluster/signing.rs`, with the sentinel in the process
//! and its guard on the node's disk.

use super::{Event, Member};
use crate::equivocator;
use crate::scene::{Broken, NodeSettings, Scene};
use crate::time::{ms, sleep, within};
use crate::world;
use kanjo_consensus::boundary::{self, NotaryError, ProposalRequest};
use kanjo_consensus::vote::SignedVote;
use kanjo_link::bus::BoxFuture;
use kanjo_sentinel::client::{LocalParts, LocalSigner, Signer, SignerError};
use kanjo_sentinel::rules::{self, VoteRequest};
use kanjo_store::disk::Disk;
use kanjo_store::faults::FaultyDisk;
use kanjo_store::slots::SlotFile;
use kanjo_types::block::{Vote, integrity_answer, proposal_digest, vote_digest};
use kanjo_types::membership::{Notice, Statement, notice_digest};
use kanjo_types::signature::{KeyKind, SecretKey};
use kanjo_types::{ChainId, Hash};
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

/// Most requests in one message to the sentinel.
const BATCH_MAX: usize = 32;
/// How long a sentinel that does not answer is left alone.
const PAUSE: Duration = ms(100);
/// The first pause before a proposal is signed again; it doubles up to [`PAUSE`].
const PAUSE_FIRST: Duration = ms(10);

type Signatures = Result<Vec<[u8; 64]>, NotaryError>;

/// What is to be signed.
pub(crate) enum ToSign {
    Vote {
        epoch: u64,
        height: u64,
        header: Hash,
        challenge: Hash,
    },
    Proposals {
        requests: Vec<ProposalRequest>,
        reply: oneshot::Sender<Signatures>,
    },
    Notice {
        epoch: u64,
        notice: Box<Notice>,
        reply: oneshot::Sender<Result<Statement, String>>,
    },
    /// Nothing new: ask again for what was not given.
    Again,
    Stop,
}

/// A sentinel, or what stands in its place in a build that is broken on purpose.
pub(crate) enum Sentinel {
    /// With its guard.
    Guarded(Box<LocalSigner>),
    /// Signs anything.
    Unguarded(Box<Unguarded>),
}

/// A key without a guard.
pub(crate) struct Unguarded {
    key: SecretKey,
    chain: ChainId,
    certificate: Hash,
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Sentinel {
    pub(crate) fn open(
        scene: &Scene,
        me: u16,
        disk: &FaultyDisk,
        settings: NodeSettings,
    ) -> Result<Self, String> {
        let certificate = world::certificate(me, settings.kind);
        let vote_seed = world::vote_seed(me);
        // Those of honest members keep to the rules: one that does not is enough.
        if scene.broken == Some(Broken::GuardOff) && settings.crime.is_some() {
            let key = SecretKey::from_seed(KeyKind::Ed25519, vote_seed).map_err(text)?;
            let (chain, certificate) = (scene.chain, certificate.hash(scene.chain));
            return Ok(Self::Unguarded(Box::new(Unguarded { key, chain, certificate })));
        }
        let slot = |name: &str| {
            let disk: Arc<dyn Disk> = Arc::new(disk.clone());
            SlotFile::open(disk, &Path::new("/sentinel").join(name)).map_err(text)
        };
        let (guard, record) = slot("guard")?;
        let (counter, count) = slot("counter")?;
        let parts = LocalParts {
            vote_seed,
            attestor_seed: world::attestor_seed(me),
            guard: (Box::new(guard), record),
            counter: (Box::new(counter), count),
            soon: None,
            epoch_heights: NonZeroU64::MIN.saturating_add(63),
        };
        let signer = LocalSigner::open(parts, scene.chain, &certificate, world::PROGRAM);
        signer.map(|signer| Self::Guarded(Box::new(signer))).map_err(text)
    }

    fn votes(&mut self, me: u16, requests: &[VoteRequest]) -> Result<Vec<Vote>, SignerError> {
        match self {
            Self::Guarded(signer) => signer.votes(me, requests),
            Self::Unguarded(key) => Ok(requests.iter().map(|asked| key.vote(me, asked)).collect()),
        }
    }

    fn proposals(&mut self, requests: &[ProposalRequest]) -> Result<Vec<[u8; 64]>, SignerError> {
        match self {
            Self::Guarded(signer) => {
                let asked = |request: &ProposalRequest| {
                    let ProposalRequest { term, height, content } = *request;
                    rules::ProposalRequest { term, height, content }
                };
                signer.proposals(&requests.iter().map(asked).collect::<Vec<_>>())
            }
            Self::Unguarded(key) => Ok(requests.iter().map(|asked| key.propose(asked)).collect()),
        }
    }

    fn notice(&mut self, me: u16, epoch: u64, notice: &Notice) -> Result<Statement, SignerError> {
        match self {
            Self::Guarded(signer) => signer.notice(me, epoch, notice),
            Self::Unguarded(key) => {
                let digest = notice_digest(key.chain, epoch, notice);
                Ok(Statement { member: me, signature: key.key.sign(&digest) })
            }
        }
    }
}

impl Unguarded {
    fn vote(&self, me: u16, asked: &VoteRequest) -> Vote {
        let VoteRequest { epoch, height, header, challenge } = asked;
        let answer = integrity_answer(&world::PROGRAM, &self.certificate, challenge, header);
        let signature = self.key.sign(&vote_digest(*epoch, *height, header, &answer));
        Vote { voter: me, answer, signature }
    }

    fn propose(&self, asked: &ProposalRequest) -> [u8; 64] {
        let ProposalRequest { term, height, content } = asked;
        self.key.sign(&proposal_digest(self.chain, *term, *height, content))
    }
}

/// The task's parts.
pub(crate) struct Signing {
    pub member: Arc<Member>,
    pub sentinel: Sentinel,
}

impl Signing {
    pub(crate) async fn run(mut self, mut requests: UnboundedReceiver<ToSign>) {
        let mut votes: Vec<VoteRequest> = Vec::new();
        loop {
            let first = if votes.is_empty() {
                requests.recv().await
            } else {
                // Those that the sentinel did not give are asked for again.
                within(PAUSE, requests.recv()).await.unwrap_or(Some(ToSign::Again))
            };
            let Some(first) = first else { return };
            // A write, a sync, and a count.
            sleep(self.member.scene.disk_time(self.member.me)).await;
            let mut group = vec![first];
            while group.len() < BATCH_MAX
                && let Ok(next) = requests.try_recv()
            {
                group.push(next);
            }
            for request in group {
                if !self.member.is_alive() {
                    return;
                }
                match request {
                    ToSign::Vote { epoch, height, header, challenge } => {
                        votes.push(VoteRequest { epoch, height, header, challenge });
                    }
                    ToSign::Stop => return self.close(),
                    other => self.answer(other),
                }
            }
            if !votes.is_empty() && !self.is_away() {
                let most = votes.len().min(BATCH_MAX);
                let batch: Vec<VoteRequest> = votes.drain(..most).collect();
                self.vote(&batch);
            }
        }
    }

    /// Is the sentinel away? Whoever asks it finds out.
    fn is_away(&self) -> bool {
        let is_away = self.member.scene.is_sentinel_away(self.member.me);
        self.member.sentinel_is_away.store(is_away, Ordering::Release);
        is_away
    }

    fn answer(&mut self, request: ToSign) {
        match request {
            ToSign::Vote { .. } | ToSign::Again | ToSign::Stop => {}
            ToSign::Proposals { reply, .. } if self.is_away() => {
                let _ = reply.send(Err(NotaryError::Unreachable("it is away".to_owned())));
            }
            ToSign::Proposals { requests, reply } => {
                let signed = self.sentinel.proposals(&requests);
                let _ = reply.send(signed.map_err(notary_error));
            }
            ToSign::Notice { reply, .. } if self.is_away() => {
                let _ = reply.send(Err("it is away".to_owned()));
            }
            ToSign::Notice { epoch, notice, reply } => {
                let signed = self.sentinel.notice(self.member.me, epoch, &notice);
                let _ = reply.send(signed.map_err(text));
            }
        }
    }

    fn close(self) {
        if let Sentinel::Guarded(signer) = self.sentinel {
            // It may be on a disk without power.
            let _ = signer.close();
        }
    }

    fn vote(&mut self, requests: &[VoteRequest]) {
        let mut signed = Vec::with_capacity(requests.len());
        match self.vote_once(requests) {
            Ok(votes) => signed = votes,
            // One that is refused takes the others with it: each for itself.
            Err(_) => {
                for request in requests {
                    match self.vote_once(std::slice::from_ref(request)) {
                        Ok(votes) => signed.extend(votes),
                        Err(error) => self
                            .member
                            .note(format!("no vote at height {}: {error}", request.height)),
                    }
                }
            }
        }
        self.member.publish_votes(&signed);
        // A criminal's own node need not know.
        signed.retain(|vote| !equivocator::is_second(&self.member, vote));
        let _ = self.member.inboxes.finality.send(Event::Signed(signed));
    }

    fn vote_once(&mut self, requests: &[VoteRequest]) -> Result<Vec<SignedVote>, SignerError> {
        let votes = self.sentinel.votes(self.member.me, requests)?;
        let signed = |(request, vote): (&VoteRequest, Vote)| SignedVote {
            epoch: request.epoch,
            height: request.height,
            header: request.header,
            vote,
        };
        Ok(requests.iter().zip(votes).map(signed).collect())
    }
}

fn notary_error(error: SignerError) -> NotaryError {
    match error {
        SignerError::Unreachable { .. } => NotaryError::Unreachable(error.to_string()),
        other => NotaryError::Refused(other.to_string()),
    }
}

/// Has entries of the log signed for the engine. While the sentinel is away it waits, and the
/// engine with it.
pub(crate) struct Notary {
    pub member: Arc<Member>,
}

impl boundary::Notary for Notary {
    fn sign(&self, requests: Vec<ProposalRequest>) -> BoxFuture<'static, Signatures> {
        let member = self.member.clone();
        Box::pin(async move {
            let mut pause = PAUSE_FIRST;
            loop {
                match sign_once(&member, requests.clone()).await {
                    Err(NotaryError::Unreachable(_)) if member.is_alive() => {
                        member.signing_waits.store(true, Ordering::Release);
                        sleep(pause).await;
                        pause = pause.saturating_mul(2).min(PAUSE);
                    }
                    signed => {
                        member.signing_waits.store(false, Ordering::Release);
                        return signed;
                    }
                }
            }
        })
    }

    fn waits(&self) -> bool {
        self.member.signing_waits.load(Ordering::Acquire)
    }
}

async fn sign_once(member: &Member, requests: Vec<ProposalRequest>) -> Signatures {
    let stopping = || NotaryError::Unreachable("the node is stopping".to_owned());
    let (reply, answer) = oneshot::channel();
    member.inboxes.signer.send(ToSign::Proposals { requests, reply }).map_err(|_| stopping())?;
    answer.await.map_err(|_| stopping())?
}
