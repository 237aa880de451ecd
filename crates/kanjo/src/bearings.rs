//! Where a member stands that hears no leader: it asks the other members' APIs for the memberships
//! since, checks their proofs, and tells the node.
//!
//! ```text
//!  links ── none knows this node, or none is known to it ──▶ no leader
//!  API of any member ── proofs of memberships ──▶ checked from the genesis ──▶ node
//! ```
//! Links know members by the membership that their node has heard of. So a node that was away while
//! another one was admitted, which leads now, could not hear of it over its links; nor could one
//! that was removed meanwhile.

use crate::member;
use kanjo_client::{Client, Limits};
use kanjo_node::Bearings;
use kanjo_proof::Trust;
use kanjo_proof::proof::MembershipProof;
use kanjo_types::Genesis;
use kanjo_types::membership::Membership;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often it is looked whether the node hears a leader.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Without a leader for so long, others are asked, and again after as long.
const ASK_AFTER: Duration = Duration::from_secs(3);
/// How long one of them may take.
const ANSWER_MAX: Duration = Duration::from_secs(2);

fn limits() -> Limits {
    Limits { connect: ANSWER_MAX, read: ANSWER_MAX, attempts: 1, ..Limits::default() }
}

/// What is known and who can be asked.
pub struct Asking {
    trust: Trust,
    own_vote_key: [u8; 32],
    contact: Option<String>,
}

impl Asking {
    /// Starts from the genesis and, for a node that came later, from what it was told then.
    pub fn new(
        genesis: &Genesis,
        told: &[MembershipProof],
        own_vote_key: [u8; 32],
        contact: Option<String>,
    ) -> Option<Self> {
        let mut trust = Trust::new(genesis).ok()?;
        told.iter().try_for_each(|proof| trust.advance(proof)).ok()?;
        Some(Self { trust, own_vote_key, contact })
    }

    /// Looks after a node, on a thread of its own that ends with the node.
    pub fn watch(mut self, node: Bearings) {
        std::thread::spawn(move || {
            let mut silent_since = Instant::now();
            while let Some(hears) = node.hears_leader() {
                if hears {
                    silent_since = Instant::now();
                } else if silent_since.elapsed() >= ASK_AFTER {
                    if let Some(newest) = self.ask() {
                        node.learn(newest);
                    }
                    silent_since = Instant::now();
                }
                std::thread::sleep(LOOK_EVERY);
            }
        });
    }

    fn newest(&self) -> Option<&Arc<Membership>> {
        self.trust.membership(self.trust.epoch())
    }

    /// Asks one after the other until one tells of a membership that is new; nothing when none
    /// does.
    fn ask(&mut self) -> Option<Arc<Membership>> {
        let members = self.newest().map(|newest| newest.members.clone()).unwrap_or_default();
        let others = members.into_iter().map(|member| member.certificate);
        let others = others.filter(|other| other.vote_key != self.own_vote_key);
        let apis: Vec<String> = others.map(|other| other.api).chain(self.contact.clone()).collect();
        let before = self.trust.epoch();
        for api in apis {
            let Ok(client) = Client::with_limits(&api, limits()) else { continue };
            // What is proven stays, also when the rest is not.
            let _ = member::fetch(&client, &mut self.trust, Vec::new());
            if self.trust.epoch() > before {
                return self.newest().cloned();
            }
        }
        None
    }
}
