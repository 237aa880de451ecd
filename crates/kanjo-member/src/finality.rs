//! From a committed entry to a final block: headers in the order of the log, own results, votes,
//! certificates.
//!
//! ```text
//!   sealer ──── Sealed ─┐      ┌─▶ Propose (blocks made here)
//!   engine ─ Committed ─┼─▶ ■ ─┼─▶ Replay (blocks made elsewhere) ─▶ executed, sealed
//!   members ─── Votes ──┤      ├─▶ AskVote, once committed and executed
//!   a peer ── Fetched ──┘      └─▶ Final, once certified: Release, HeightOnly
//! ```
//! One [`Finality::step`] for each thing that comes; what is to be done then comes out of
//! [`Finality::next_action`], in order. A node does it with threads and disks, the simulator with
//! tasks.
//!
//! # Invariants
//! - Nothing is released before its height is certified, and heights are released in order.
//! - A vote is asked for only when the entry is committed and this node computed its header.
//! - A block made here that the cluster did not commit at its height is never voted for: the ledger
//!   in memory is opened anew.

mod committed;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod votes;

use crate::witness::OtherRows;
use bytes::Bytes;
use kanjo_consensus::ballots::Ballots;
use kanjo_consensus::boundary::CommittedEntry;
use kanjo_consensus::vote::SignedVote;
use kanjo_ledger::chain::{Chain, Placed};
use kanjo_proof::merkle::Frontier;
use kanjo_proof::trust::SignedHeader;
use kanjo_types::membership::{Membership, Notice};
use kanjo_types::{Certificate, Hash};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// How far votes may run ahead of certificates on disk; less than a sentinel remembers.
pub const VOTES_AHEAD: u64 = 48;

/// What was executed together, with everything that waits for it to be final.
pub trait Batch {
    /// Somebody to be told when nothing that was made before is on its way any more.
    type Mark;

    /// Its block, if there is one.
    fn block(&self) -> Option<ExecutedBlock>;

    /// Who is to be told.
    fn take_marks(&mut self) -> Vec<Self::Mark>;
}

/// A block that was made or executed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutedBlock {
    /// Its height.
    pub height: u64,
    /// Hash of its header.
    pub hash: Hash,
    /// Of a block made here: its encoding.
    pub bytes: Bytes,
    /// Made here, and still to be proposed.
    pub is_made: bool,
    /// The membership after it.
    pub membership: Arc<Membership>,
    /// What this node computed otherwise than the block's leader.
    pub difference: Option<String>,
}

/// What a step is told.
#[derive(Debug)]
pub enum Input<B, P> {
    /// In order of heights.
    Sealed(Box<B>),
    /// From the engine, in order of heights, with its share of the room for entries under way.
    Committed(Box<CommittedEntry>, P),
    /// Votes of this node, or of another member that sent them itself.
    Votes(Vec<SignedVote>),
    /// Certificates got from a peer.
    Fetched(Vec<SignedHeader>),
    /// The term in which this node leads; nothing when it leads no more.
    Role {
        /// Which.
        term: Option<u64>,
    },
    /// Certificates were written: the sentinel may go on.
    Kept,
    /// The engine's voters are changed: blocks are made again, behind what is committed.
    Resume,
    /// Nothing came for a while.
    Tick,
}

/// What is outside, at the time of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Milliseconds since whenever; for a witness, others need not be told.
    pub now_ms: u64,
    /// Height after the last certificate on disk.
    pub kept_to: u64,
    /// Term in which this node leads; 0 when it does not.
    pub leading_term: u64,
}

/// What is to be done, in order.
#[derive(Debug)]
pub enum Action<B: Batch, P> {
    // ---- The log ----
    /// A block made here goes to the engine.
    Propose {
        /// Its height.
        height: u64,
        /// Hash of its header.
        header: Hash,
        /// Its encoding.
        bytes: Bytes,
    },
    /// An entry has its place in the chain.
    Placed {
        /// The entry.
        entry: Box<CommittedEntry>,
        /// Hash of the header that its height has.
        hash: Hash,
        /// Why the block in it does not count, if there is one that does not.
        void: Option<&'static str>,
    },
    /// A committed height is to be executed.
    Replay {
        /// What stands there.
        placed: Box<Placed>,
        /// The encoding of its block; nothing for an empty height.
        block: Option<Bytes>,
        /// Afterwards this node makes blocks.
        leads_after: bool,
    },
    /// An entry's share of the room for entries under way is free again.
    Free(P),

    // ---- Who makes blocks ----
    /// Behind what was to be replayed, this node makes blocks.
    Lead,
    /// It makes none any more, from now on.
    Follow,
    /// Behind what was to be replayed, a pause ends.
    Resume,
    /// The lowest block made here that is not committed is another one, or there is none.
    Made {
        /// Its height.
        lowest: Option<u64>,
    },
    /// Nothing made here is on its way: those who asked are told.
    Drained(Vec<B::Mark>),

    // ---- Votes ----
    /// The sentinel is asked for this node's vote.
    AskVote {
        /// Of the membership that votes.
        epoch: u64,
        /// For which height.
        height: u64,
        /// What stands there.
        header: Hash,
        /// What the sentinel answers.
        challenge: Hash,
    },
    /// A membership was made that was not known.
    SetMembership(Arc<Membership>),
    /// A witness does not take a change of the membership.
    OtherRows(OtherRows),
    /// A vote counts for nothing.
    BadVote {
        /// Whose it says it is.
        voter: u16,
        /// For which height.
        height: u64,
        /// What is wrong.
        why: String,
    },
    /// A member voted for another header than the certified one: the ledger should know.
    Differs {
        /// A [`Notice::Doubt`].
        notice: Notice,
    },

    // ---- What is final ----
    /// The next height is final.
    Final {
        /// Its header, certified.
        signed: SignedHeader,
    },
    /// Answers may go out; all that they need is final.
    Release {
        /// What waited.
        batch: Box<B>,
        /// Its block is that of the height that became final last.
        is_newest: bool,
    },
    /// Nothing waits for the height that became final last: it is the genesis, or a witness's.
    HeightOnly {
        /// What a witness is to write down.
        remembers: Option<Arc<Membership>>,
    },
    /// A certificate has more votes than before.
    Strengthen {
        /// Of which height.
        height: u64,
        /// All votes so far.
        certificate: Certificate,
    },

    // ---- The end of a run ----
    /// The ledger in memory is not the cluster's: it is to be opened anew.
    Rewind {
        /// Why.
        reason: String,
        /// A block that this node executed otherwise.
        void: Option<(u64, Hash)>,
    },
    /// The node must not go on.
    Fail(Failure),
}

/// Why a node must not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The engine left heights out.
    #[error("the engine committed height {committed} after {last}")]
    OutOfOrder {
        /// What came.
        committed: u64,
        /// What came before.
        last: u64,
    },
    /// Another header than this node's is certified.
    #[error(
        "at height {height} a majority certified {certified}, this node computed {ours}: its \
         memory, its disk or its program is faulty"
    )]
    Contradicted {
        /// Where.
        height: u64,
        /// What others found.
        certified: Hash,
        /// What this node found.
        ours: Hash,
    },
    /// Two headers are certified.
    #[error(
        "two certificates at height {height}: voters signed twice; the proof is in the log of this \
         process"
    )]
    Equivocation {
        /// Where.
        height: u64,
        /// One of them.
        first: Box<(Hash, Certificate)>,
        /// The other one.
        second: Box<(Hash, Certificate)>,
    },
    /// What is certified is neither what the log holds nor an empty height.
    #[error("at height {height} {header} is certified, and no entry of the log has that header")]
    NotInLog {
        /// Where.
        height: u64,
        /// What is certified.
        header: Hash,
    },
}

/// What finality begins with.
#[derive(Debug)]
pub struct Beginning {
    /// Number of this member.
    pub me: u16,
    /// Does it execute nothing?
    pub is_witness: bool,
    /// SHA-256 of its program.
    pub program: Hash,
    /// The newest header on disk; without votes it is that of a genesis nobody has certified yet.
    pub last: SignedHeader,
    /// Hashes of all headers up to that one.
    pub history: Frontier,
    /// The membership after it.
    pub membership: Arc<Membership>,
    /// Height and header hash of blocks that this node executed otherwise, before a rewind.
    pub void: BTreeSet<(u64, Hash)>,
}

/// A committed height that is not final.
struct Pending<P> {
    placed: Placed,
    /// This node computed the same header; a witness needs not.
    is_computed: bool,
    /// Kept until this node has executed it.
    permit: Option<P>,
    /// On a witness: the header of this height if its block does not count.
    empty: Option<Hash>,
}

/// A batch that is not released.
struct Waiting<B> {
    /// The height that must be final first.
    needs: u64,
    has_block: bool,
    batch: Box<B>,
}

/// See the [module](self).
pub struct Finality<B: Batch, P> {
    me: u16,
    is_witness: bool,
    program: Hash,
    chain: Chain,
    ballots: Ballots,
    void: BTreeSet<(u64, Hash)>,
    /// As told at the beginning of this step.
    around: Surroundings,
    pending: BTreeMap<u64, Pending<P>>,
    /// Hashes of the headers of blocks made here and not committed yet.
    made: BTreeMap<u64, Hash>,
    /// The lowest of them, as was said last.
    said_made: Option<u64>,
    waiting: VecDeque<Waiting<B>>,
    /// Certified heights that are not released yet.
    certified: BTreeMap<u64, SignedHeader>,
    /// Memberships by the first height that they count for.
    memberships: BTreeMap<u64, Arc<Membership>>,
    /// The lowest height that is not final.
    next_release: u64,
    sealed_to: u64,
    /// The lowest height for which no votes are expected yet.
    next_ask: u64,
    marks: Vec<B::Mark>,
    /// Term of the newest first entry of this node as leader.
    own_blank: Option<u64>,
    /// A witness: the height at which it last wrote down what it knows.
    remembered: u64,
    actions: VecDeque<Action<B, P>>,
}

impl<B: Batch, P> Finality<B, P> {
    /// Everything up to the last header on disk is final, if that has a certificate.
    ///
    /// # Panics
    /// When the history does not end with the last header.
    #[must_use]
    pub fn new(beginning: Beginning) -> Self {
        let Beginning { me, is_witness, program, last, history, membership, void } = beginning;
        let tip = last.header.height;
        let next = if last.certificate.votes.is_empty() { tip } else { tip + 1 };
        Self {
            me,
            is_witness,
            program,
            ballots: Ballots::new(last.header.chain, next),
            chain: Chain::new(last.header, history),
            void,
            around: Surroundings::default(),
            pending: BTreeMap::new(),
            made: BTreeMap::new(),
            said_made: None,
            waiting: VecDeque::new(),
            certified: BTreeMap::new(),
            memberships: BTreeMap::from([(next, membership)]),
            next_release: next,
            sealed_to: tip,
            next_ask: next,
            marks: Vec::new(),
            own_blank: None,
            remembered: tip,
            actions: VecDeque::new(),
        }
    }

    /// Takes what came; then its [actions](Self::next_action) are to be carried out.
    pub fn step(&mut self, input: Input<B, P>, around: Surroundings) {
        self.around = around;
        match input {
            Input::Sealed(batch) => self.sealed(batch),
            Input::Committed(entry, permit) => self.committed(entry, permit),
            Input::Votes(votes) => votes.iter().for_each(|vote| {
                let events = self.ballots.vote(vote);
                self.count(events);
            }),
            Input::Fetched(signed) => signed.iter().for_each(|one| self.fetched(one)),
            Input::Role { term } => self.role(term),
            Input::Kept => self.ask_votes(),
            Input::Resume => self.act(Action::Resume),
            Input::Tick => {}
        }
        if self.is_witness {
            // Executors that it waits for may have had their time.
            let events = self.ballots.tick(around.now_ms);
            self.count(events);
        }
        self.release_ready();
        self.say_made();
    }

    /// What is to be done next.
    pub fn next_action(&mut self) -> Option<Action<B, P>> {
        self.actions.pop_front()
    }

    /// The lowest height that is not final.
    #[must_use]
    pub fn next_height(&self) -> u64 {
        self.next_release
    }

    /// Does nobody wait for a height to be final?
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    fn act(&mut self, action: Action<B, P>) {
        self.actions.push_back(action);
    }

    /// The membership whose votes count at a height; nothing before this node has executed the
    /// height below.
    fn membership_at(&self, height: u64) -> Option<&Arc<Membership>> {
        self.memberships.range(..=height).next_back().map(|(_, membership)| membership)
    }

    /// A leader makes blocks once its first entry is committed and executed; which of the two is
    /// heard first is open.
    fn role(&mut self, term: Option<u64>) {
        match term {
            None => self.act(Action::Follow),
            Some(term) if self.own_blank == Some(term) => self.act(Action::Lead),
            Some(_) => {}
        }
    }

    fn sealed(&mut self, mut batch: Box<B>) {
        self.marks.append(&mut batch.take_marks());
        let Some(block) = batch.block() else {
            let needs = self.sealed_to;
            return self.waiting.push_back(Waiting { needs, has_block: false, batch });
        };
        let ExecutedBlock { height, hash, bytes, is_made, membership, difference } = block;
        self.sealed_to = height;
        if let Some(reason) = difference {
            let void = self.pending.get(&height).map(|pending| (height, pending.placed.hash));
            return self.act(Action::Rewind { reason, void });
        }
        let newest = self.memberships.last_key_value().map(|(_, newest)| newest.epoch);
        if newest != Some(membership.epoch) {
            self.set_membership(height, membership);
        }
        if is_made {
            self.made.insert(height, hash);
            self.act(Action::Propose { height, header: hash, bytes });
        } else if let Some(pending) = self.pending.get_mut(&height) {
            pending.is_computed = true;
            let permit = pending.permit.take();
            self.free(permit);
        }
        self.waiting.push_back(Waiting { needs: height, has_block: true, batch });
        self.ask_votes();
    }

    /// What a block makes of the membership counts above it.
    fn set_membership(&mut self, height: u64, membership: Arc<Membership>) {
        self.memberships.insert(height + 1, membership.clone());
        self.act(Action::SetMembership(membership));
    }

    fn free(&mut self, permit: Option<P>) {
        self.actions.extend(permit.map(Action::Free));
    }

    fn say_made(&mut self) {
        let lowest = self.made.first_key_value().map(|(height, _)| *height);
        if lowest != self.said_made {
            self.said_made = lowest;
            self.act(Action::Made { lowest });
        }
        if lowest.is_none() && !self.marks.is_empty() {
            let marks = std::mem::take(&mut self.marks);
            self.act(Action::Drained(marks));
        }
    }
}
