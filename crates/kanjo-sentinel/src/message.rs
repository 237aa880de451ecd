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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{PROPOSALS_REMEMBERED, VOTES_REMEMBERED};
    use kanjo_types::codec::{from_bytes, to_bytes};
    use proptest::prelude::*;

    #[test]
    fn the_longest_batches_fit_a_message() {
        let vote =
            VoteRequest { epoch: 1, height: 2, header: Hash([3; 32]), challenge: Hash([4; 32]) };
        let votes = Request::Votes { member: 5, requests: vec![vote; VOTES_REMEMBERED] };
        let answer = Vote { voter: 5, answer: Hash([6; 32]), signature: [7; 64] };
        let answers = Reply::Votes(vec![answer; VOTES_REMEMBERED]);
        let proposal = ProposalRequest { term: 1, height: 2, content: Hash([3; 32]) };
        let proposals = Request::Proposals(vec![proposal; PROPOSALS_REMEMBERED]);
        for request in [votes, proposals] {
            assert!(to_bytes(&request).len() < MESSAGE_MAX / 4);
            assert_eq!(from_bytes(&to_bytes(&request)), Ok(request));
        }
        assert!(to_bytes(&answers).len() < MESSAGE_MAX / 4);
        let everybody = (0..kanjo_types::membership::MEMBERS_MAX as u16).collect();
        let notice = Notice::Eject { members: everybody };
        let eject = Request::Notice { member: 1, epoch: 2, notice };
        assert!(to_bytes(&eject).len() < MESSAGE_MAX);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_and_what_is_read_has_one_form(
            kind in 0u8..8,
            mut bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            if let Ok(request) = from_bytes::<Request>(&bytes) {
                prop_assert_eq!(to_bytes(&request), bytes.clone());
            }
            if let Ok(reply) = from_bytes::<Reply>(&bytes) {
                prop_assert_eq!(to_bytes(&reply), bytes.clone());
            }
            let record = [&[crate::rules::RECORD_FORMAT], &bytes[..]].concat();
            if let Ok(state) = crate::rules::GuardState::from_record(&record) {
                prop_assert_eq!(state.to_record(), record);
            }
        }
    }
}
