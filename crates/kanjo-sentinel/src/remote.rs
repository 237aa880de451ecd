//! A [`Signer`] whose key is in another process: the node's end of the channel.
//!
//! # Invariants
//! - A request is sent again after the channel broke, at most [`Remote::tries`] times. That is
//!   safe: the guard signs the same again and nothing else.

use crate::client::{Signer, SignerError};
use crate::message::{MESSAGE_MAX, Reply, Request, VERSION};
use crate::rules::{ProposalRequest, VoteRequest};
use crate::service::identity;
use crate::signing::Status;
use bytes::Bytes;
use kanjo_link::channel::BlockingChannel;
use kanjo_link::keys::{LinkKey, PublicLinkKey};
use kanjo_link::session::LinkError;
use kanjo_types::Hash;
use kanjo_types::block::Vote;
use kanjo_types::codec;
use kanjo_types::id::ChainId;
use kanjo_types::membership::{NodeCertificate, Notice, Statement};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

/// Longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Where the sentinel is, and who we are.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Its socket.
    pub socket: PathBuf,
    /// Its channel key.
    pub sentinel_key: PublicLinkKey,
    /// Our link key.
    pub node_key: LinkKey,
    /// The ledger.
    pub chain: ChainId,
    /// Our certificate.
    pub certificate: NodeCertificate,
    /// How often a request is tried.
    pub tries: u32,
    /// Pause after the first failure; it doubles up to a second.
    pub pause: Duration,
    /// Longest wait for an answer.
    pub patience: Duration,
}

/// See the module.
pub struct RemoteSigner {
    remote: Remote,
    channel: Option<BlockingChannel<UnixStream>>,
    vote_key: [u8; 32],
    measurement: Hash,
}

/// Whether trying again helps.
enum Failed {
    Again(String),
    For(SignerError),
}

impl From<LinkError> for Failed {
    fn from(error: LinkError) -> Self {
        Self::Again(error.to_string())
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self::Again(error.to_string())
    }
}

impl RemoteSigner {
    /// Connects and greets.
    ///
    /// # Errors
    /// [`SignerError`].
    pub fn connect(remote: Remote) -> Result<Self, SignerError> {
        let (vote_key, measurement) = ([0; 32], Hash::ZERO);
        let mut signer = Self { remote, channel: None, vote_key, measurement };
        signer.ask(&Request::Status)?;
        Ok(signer)
    }

    fn ask(&mut self, request: &Request) -> Result<Reply, SignerError> {
        let mut pause = self.remote.pause;
        let mut last = String::new();
        for attempt in 0..self.remote.tries {
            if attempt > 0 {
                sleep(pause);
                pause = pause.saturating_mul(2).min(PAUSE_MAX);
            }
            match self.try_once(request) {
                Ok(Reply::Refused(refusal)) => return Err(refusal.into()),
                Ok(reply) => return Ok(reply),
                Err(Failed::For(error)) => return Err(error),
                Err(Failed::Again(why)) => last = why,
            }
        }
        Err(SignerError::Unreachable { tries: self.remote.tries, last })
    }

    fn try_once(&mut self, request: &Request) -> Result<Reply, Failed> {
        let mut channel = match self.channel.take() {
            Some(channel) => channel,
            None => self.greet()?,
        };
        let reply = exchange(&mut channel, request)?;
        // Only a channel on which all went well is used again.
        self.channel = Some(channel);
        Ok(reply)
    }

    fn greet(&mut self) -> Result<BlockingChannel<UnixStream>, Failed> {
        let Remote { socket, sentinel_key, node_key, chain, certificate, patience, .. } =
            &self.remote;
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(*patience))?;
        stream.set_write_timeout(Some(*patience))?;
        let identity = identity(node_key.clone());
        let mut channel = BlockingChannel::dial(stream, &identity, *sentinel_key, &[], *patience)?;
        channel.set_message_max(MESSAGE_MAX);
        let (chain, certificate) = (*chain, certificate.clone());
        let hello = Request::Hello { version: VERSION, chain, certificate };
        match exchange(&mut channel, &hello)? {
            Reply::Welcome { vote_key, measurement } => {
                self.vote_key = vote_key;
                self.measurement = measurement;
                Ok(channel)
            }
            Reply::Refused(refusal) => Err(Failed::For(refusal.into())),
            _ => Err(Failed::For(unexpected())),
        }
    }
}

fn exchange(channel: &mut BlockingChannel<UnixStream>, request: &Request) -> Result<Reply, Failed> {
    channel.send(Bytes::from(codec::to_bytes(request)))?;
    let reply = codec::from_bytes(&channel.receive()?);
    reply.map_err(|error| Failed::For(SignerError::Answer(error.to_string())))
}

fn unexpected() -> SignerError {
    SignerError::Answer("it answers another question".to_owned())
}

impl Signer for RemoteSigner {
    fn proposals(&mut self, requests: &[ProposalRequest]) -> Result<Vec<[u8; 64]>, SignerError> {
        match self.ask(&Request::Proposals(requests.to_vec()))? {
            Reply::Signatures(signatures) if signatures.len() == requests.len() => Ok(signatures),
            _ => Err(unexpected()),
        }
    }

    fn votes(&mut self, member: u16, requests: &[VoteRequest]) -> Result<Vec<Vote>, SignerError> {
        match self.ask(&Request::Votes { member, requests: requests.to_vec() })? {
            Reply::Votes(votes) if votes.len() == requests.len() => Ok(votes),
            _ => Err(unexpected()),
        }
    }

    fn notice(
        &mut self,
        member: u16,
        epoch: u64,
        notice: &Notice,
    ) -> Result<Statement, SignerError> {
        match self.ask(&Request::Notice { member, epoch, notice: notice.clone() })? {
            Reply::Statement(statement) => Ok(statement),
            _ => Err(unexpected()),
        }
    }

    fn evidence(&mut self, nonce: &[u8]) -> Result<Vec<u8>, SignerError> {
        match self.ask(&Request::Evidence { nonce: nonce.to_vec() })? {
            Reply::Evidence(evidence) => Ok(evidence),
            _ => Err(unexpected()),
        }
    }

    fn status(&mut self) -> Result<Status, SignerError> {
        match self.ask(&Request::Status)? {
            Reply::Status(status) => Ok(status),
            _ => Err(unexpected()),
        }
    }

    fn measurement(&self) -> Hash {
        self.measurement
    }

    fn vote_key(&self) -> [u8; 32] {
        self.vote_key
    }
}
