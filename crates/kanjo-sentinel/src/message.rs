//! What node and sentinel say to each other: Borsh, one message after the other, each request
//! answered before the next is read.
//!
//! ```text
//!  node                                                sentinel
//!   │── Hello {version, chain, certificate} ─────────────▶│ measures the node's program
//!   │◀── Welcome {vote key, measurement} / Refused ───────│
//!   │── Proposals / Votes / Notice / Evidence / Status ──▶│ guard, attestor, key
//!   │◀── Signatures / Votes / Statement / … / Refused ────│
//! ```
//!
//! # Invariants
//! - A message has at most [`MESSAGE_MAX`] bytes, before and after decoding.

use crate::rules::{ProposalRequest, Refusal, VoteRequest};
use crate::signing::Status;
use borsh::{BorshDeserialize, BorshSerialize};
use kanjo_types::Hash;
use kanjo_types::block::Vote;
use kanjo_types::id::ChainId;
use kanjo_types::membership::{NodeCertificate, Notice, Statement};

/// The only version there is.
pub const VERSION: u16 = 1;
/// Most bytes of a message.
pub const MESSAGE_MAX: usize = 64 << 10;

/// From the node.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Request {
    /// First, and once.
    Hello {
        /// [`VERSION`].
        version: u16,
        /// The ledger.
        chain: ChainId,
        /// The node's.
        certificate: NodeCertificate,
    },
    /// Sign proposals.
    Proposals(Vec<ProposalRequest>),
    /// Vote.
    Votes {
        /// As this member.
        member: u16,
        /// For these headers.
        requests: Vec<VoteRequest>,
    },
    /// Sign a notice.
    Notice {
        /// As this member.
        member: u16,
        /// In this membership epoch.
        epoch: u64,
        /// What.
        notice: Notice,
    },
    /// Give evidence.
    Evidence {
        /// The asker's.
        nonce: Vec<u8>,
    },
    /// Say how you stand.
    Status,
}

/// From the sentinel.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Reply {
    /// To the greeting.
    Welcome {
        /// The vote key.
        vote_key: [u8; 32],
        /// What the node's program measured.
        measurement: Hash,
    },
    /// Under proposals, in their order.
    Signatures(Vec<[u8; 64]>),
    /// In the order asked.
    Votes(Vec<Vote>),
    /// Under a notice.
    Statement(Statement),
    /// See [`crate::evidence`].
    Evidence(Vec<u8>),
    /// How it stands.
    Status(Status),
    /// Nothing is signed.
    Refused(Refusal),
}
