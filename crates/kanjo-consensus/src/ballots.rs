//! Collects votes and makes certificates (pure: no clock but the time it is told, no I/O, no hash
//! maps).
//!
//! ```text
//!  votes of all members ──▶ vote() ──┐   early ones wait, bounded
//!  own header, challenge ──▶ expect() ┼─▶ checked votes, by header ──▶ Certified, by height
//!  time, for a witness ────▶ tick() ──┘
//!                                                         ├──▶ WitnessMaySign, by height
//!                                                         ├──▶ Differs, Contradicted, Equivocation
//!                                                         └──▶ Strengthened, later
//! ```
//! # What a witness signs
//! A witness computes nothing: its vote says that the entry of this header was committed, and the
//! executors say what its result is. It votes for a header
//! - that more than half of the executors voted for: at once, whatever the others say;
//! - that fewer voted for, when no executor voted for another one, and their votes with those of
//!   all witnesses are a quorum: once the missing executors had [`WITNESS_WAIT_MS`]. An executor
//!   that let it pass is not waited for again until it votes, or the membership changes.
//!
//! So one lying executor of three can't stop the cluster and can't have its header certified, and
//! an executor and a witness go on when the other executor is gone. Then the result rests on that
//! one executor.
//!
//! # Invariants
//! - [`Event::Certified`] comes once for each height, in the order of heights, and what it carries
//!   passes [`Membership::check`]: more than half of the voters, an executor among them.
//! - After [`Event::Contradicted`] nothing is certified any more: this replica is wrong, or most
//!   others are, and it must stop.
//! - Memory is bounded: votes for heights that are not expected yet wait only within
//!   [`AHEAD_HEIGHTS`], two for each voter and height; certified heights are kept for
//!   [`KEPT_HEIGHTS`].

use crate::vote::SignedVote;
use kanjo_types::block::{Certificate, Vote, integrity_answer};
use kanjo_types::hash::Hash;
use kanjo_types::id::ChainId;
use kanjo_types::membership::{MEMBERS_MAX, Membership, Notice};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How far above the last certified height votes may wait for [`Ballots::expect`].
pub const AHEAD_HEIGHTS: u64 = 1_024;
/// How many certified heights take later votes.
pub const KEPT_HEIGHTS: u64 = 64;
/// How long a witness waits for executors that have not voted, in milliseconds.
pub const WITNESS_WAIT_MS: u64 = 500;
/// Votes of one voter that may wait for one height: a lie and the truth.
const EARLY_VOTES_MAX: usize = 2;
/// Headers that one voter may vote for at one height: the second one proves its guilt.
const HEADERS_MAX: usize = 2;

/// What this node knows of a height.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The header it found; `None` for a witness, which finds none of its own.
    pub header: Option<Hash>,
    /// [`challenge`](kanjo_types::block::challenge) of parent and proposal.
    pub challenge: Hash,
    /// The membership that votes: the newest one made below the height.
    pub membership: Arc<Membership>,
    /// For a witness: the headers that the committed entry can have, that of its block and that of
    /// an empty height. Others it never signs.
    pub signable: Vec<Hash>,
}

/// What came of votes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The height is final.
    Certified {
        /// Which.
        height: u64,
        /// Its header.
        header: Hash,
        /// Who says so.
        certificate: Certificate,
    },
    /// A vote came for a height that is certified already.
    Strengthened {
        /// Which.
        height: u64,
        /// The certificate with all votes so far.
        certificate: Certificate,
    },
    /// A vote that counts for nothing.
    BadVote {
        /// Whose it says it is; nobody has checked that.
        voter: u16,
        /// For which height.
        height: u64,
        /// What is wrong.
        why: String,
    },
    /// A voter voted for another header than the certified one.
    Differs {
        /// A [`Notice::Doubt`].
        notice: Notice,
    },
    /// Another header than this node's is certified. The node must stop.
    Contradicted {
        /// Where.
        height: u64,
        /// The certified header.
        certified: Hash,
        /// By whom.
        certificate: Certificate,
        /// This node's.
        ours: Hash,
    },
    /// Two headers have a quorum each at one height: proof that voters signed twice. The first one
    /// stays certified.
    Equivocation {
        /// Where.
        height: u64,
        /// The certified one.
        first: (Hash, Certificate),
        /// The other one.
        second: (Hash, Certificate),
    },
    /// A witness may vote for this header now; by ascending height.
    WitnessMaySign {
        /// Which height.
        height: u64,
        /// The header that executors voted for, one of [`Expected::signable`].
        header: Hash,
    },
}

/// What is known of one height.
#[derive(Default)]
struct Height {
    expected: Option<Expected>,
    /// Votes that wait for `expected`.
    early: BTreeMap<u16, Vec<SignedVote>>,
    /// Checked votes by header and voter.
    votes: BTreeMap<Hash, BTreeMap<u16, Vote>>,
    /// The header that has a certificate, whether it was emitted or not.
    chosen: Option<Hash>,
    /// Two quorums were reported.
    equivocated: bool,
    /// When a witness began to wait for executors.
    waits_since: Option<u64>,
}

/// What a witness does at a height.
enum Witness {
    Signs(Hash),
    /// Once these executors have voted, or had time to.
    WaitsFor(BTreeSet<u16>),
    Nothing,
}

impl Height {
    fn certificate(&self, epoch: u64, header: &Hash) -> Certificate {
        let votes = self.votes.get(header).into_iter().flat_map(BTreeMap::values);
        Certificate { epoch, votes: votes.copied().collect() }
    }

    /// Do the votes for this header make a certificate?
    fn has_quorum(&self, membership: &Membership, header: &Hash) -> bool {
        let Some(votes) = self.votes.get(header) else { return false };
        let executes = |voter: &u16| membership.member(*voter).is_some_and(|m| m.executes());
        votes.len() >= membership.quorum() && votes.keys().any(executes)
    }

    /// What a witness does here; see the [module](self). Nobody waits for those who are `away`.
    fn for_witness(&self, away: &BTreeSet<u16>) -> Witness {
        let Some(Expected { membership, signable, .. }) = &self.expected else {
            return Witness::Nothing;
        };
        let of_kind = |executes| {
            let members = membership.voters().filter(move |(_, m)| m.executes() == executes);
            members.map(|(number, _)| number).collect::<BTreeSet<u16>>()
        };
        let (executors, witnesses) = (of_kind(true), of_kind(false));
        let voted = self.votes.iter().map(|(header, votes)| {
            let by: BTreeSet<u16> =
                votes.keys().copied().filter(|voter| executors.contains(voter)).collect();
            (*header, by)
        });
        let voted: Vec<(Hash, BTreeSet<u16>)> = voted.filter(|(_, by)| !by.is_empty()).collect();
        let most = voted.iter().find(|(_, by)| by.len() * 2 > executors.len());
        if let Some((header, _)) = most {
            let is_committed = signable.contains(header);
            return if is_committed { Witness::Signs(*header) } else { Witness::Nothing };
        }
        let [(header, by)] = voted.as_slice() else { return Witness::Nothing };
        if !signable.contains(header) || by.len() + witnesses.len() < membership.quorum() {
            return Witness::Nothing;
        }
        let missing: BTreeSet<u16> =
            executors.into_iter().filter(|e| !by.contains(e) && !away.contains(e)).collect();
        if missing.is_empty() { Witness::Signs(*header) } else { Witness::WaitsFor(missing) }
    }
}

/// Votes by height; see the [module](self).
pub struct Ballots {
    chain: ChainId,
    /// The lowest height that is not certified.
    next: u64,
    /// The lowest height that no witness was told of.
    next_for_witness: u64,
    stopped: bool,
    heights: BTreeMap<u64, Height>,
    /// The epoch in which executors let a witness wait in vain, and those who did.
    away: (u64, BTreeSet<u16>),
}

impl Ballots {
    /// Begins at `next_height`, the lowest height that has no certificate yet.
    #[must_use]
    pub fn new(chain: ChainId, next_height: u64) -> Self {
        Self {
            chain,
            next: next_height,
            next_for_witness: next_height,
            stopped: false,
            heights: BTreeMap::new(),
            away: (0, BTreeSet::new()),
        }
    }

    /// The lowest height that is not certified.
    #[must_use]
    pub fn next_height(&self) -> u64 {
        self.next
    }

    /// The certificate of a recent height, with all votes so far.
    #[must_use]
    pub fn certificate(&self, height: u64) -> Option<(Hash, Certificate)> {
        let entry = self.heights.get(&height)?;
        let (header, epoch) = (entry.chosen?, entry.expected.as_ref()?.membership.epoch);
        Some((header, entry.certificate(epoch, &header)))
    }

    fn is_kept(&self, height: u64) -> bool {
        height.saturating_add(KEPT_HEIGHTS) >= self.next
    }

    /// Says what this node found at a committed height. Only the first call for a height counts.
    pub fn expect(&mut self, height: u64, expected: Expected) -> Vec<Event> {
        let mut events = Vec::new();
        if height < self.next {
            return events;
        }
        let entry = self.heights.entry(height).or_default();
        if entry.expected.is_some() {
            return events;
        }
        entry.expected = Some(expected);
        let early = std::mem::take(&mut entry.early);
        for vote in early.into_values().flatten() {
            self.take(&vote, &mut events);
        }
        self.advance(&mut events);
        events
    }

    /// Takes a vote. Hand in only votes that came from the voter itself or in a certificate, so
    /// that nobody can use up the places of another's early votes.
    pub fn vote(&mut self, vote: &SignedVote) -> Vec<Event> {
        let mut events = Vec::new();
        if !self.is_kept(vote.height) {
            return events;
        }
        let is_expected = |height: &Height| height.expected.is_some();
        if self.heights.get(&vote.height).is_some_and(is_expected) {
            self.take(vote, &mut events);
            self.advance(&mut events);
        } else if vote.height >= self.next && vote.height - self.next < AHEAD_HEIGHTS {
            self.keep_early(vote);
        }
        events
    }

    /// Takes the votes of a certificate that another node sent.
    pub fn votes_of(&mut self, height: u64, header: Hash, certificate: &Certificate) -> Vec<Event> {
        let epoch = certificate.epoch;
        let votes = certificate.votes.iter().take(MEMBERS_MAX);
        votes
            .flat_map(|vote| self.vote(&SignedVote { epoch, height, header, vote: *vote }))
            .collect()
    }

    /// Tells a witness the time in milliseconds, since whenever. Others need not be told.
    pub fn tick(&mut self, now_ms: u64) -> Vec<Event> {
        let mut events = Vec::new();
        let Some(height) = self.heights.get_mut(&self.next_for_witness) else { return events };
        if let Witness::WaitsFor(missing) = height.for_witness(&self.away.1) {
            let since = *height.waits_since.get_or_insert(now_ms);
            if now_ms.saturating_sub(since) >= WITNESS_WAIT_MS {
                self.away.1.extend(missing);
                self.tell_witness(&mut events);
            }
        }
        events
    }

    fn keep_early(&mut self, vote: &SignedVote) {
        if usize::from(vote.vote.voter) >= MEMBERS_MAX {
            return;
        }
        let entry = self.heights.entry(vote.height).or_default();
        let waiting = entry.early.entry(vote.vote.voter).or_default();
        if waiting.len() < EARLY_VOTES_MAX && !waiting.contains(vote) {
            waiting.push(*vote);
        }
    }

    /// Checks a vote for an expected height and counts it.
    fn take(&mut self, vote: &SignedVote, events: &mut Vec<Event>) {
        let Some(entry) = self.heights.get_mut(&vote.height) else { return };
        let Some(expected) = &entry.expected else { return };
        let (height, header, voter) = (vote.height, vote.header, vote.vote.voter);
        // The same vote again is no news; the first one stays, whatever the signature's form.
        if entry.votes.get(&header).is_some_and(|votes| votes.contains_key(&voter)) {
            return;
        }
        if let Err(why) = check(self.chain, expected, vote) {
            events.push(Event::BadVote { voter, height, why });
            return;
        }
        let voted = entry.votes.values().filter(|votes| votes.contains_key(&voter)).count();
        if voted >= HEADERS_MAX {
            let why = format!("it voted for {voted} other headers at this height");
            events.push(Event::BadVote { voter, height, why });
            return;
        }
        entry.votes.entry(header).or_default().insert(voter, vote.vote);
        self.away.1.remove(&voter);
        let membership = expected.membership.clone();
        match entry.chosen {
            None if entry.has_quorum(&membership, &header) => {
                entry.chosen = Some(header);
            }
            None => {}
            // Reported together with the certificate, if that is still to come.
            Some(_) if height >= self.next => {}
            Some(chosen) if chosen == header => {
                let certificate = entry.certificate(membership.epoch, &header);
                events.push(Event::Strengthened { height, certificate });
            }
            Some(chosen) => {
                let certificate = entry.certificate(membership.epoch, &chosen);
                events.push(doubt(height, (header, vote.vote), (chosen, certificate)));
            }
        }
        self.equivocation(height, header, events);
    }

    /// Reports a second header with a quorum, once.
    fn equivocation(&mut self, height: u64, header: Hash, events: &mut Vec<Event>) {
        let Some(entry) = self.heights.get_mut(&height) else { return };
        let (Some(expected), Some(chosen)) = (&entry.expected, entry.chosen) else { return };
        let membership = &expected.membership;
        if entry.equivocated || chosen == header || !entry.has_quorum(membership, &header) {
            return;
        }
        let certificate = |header: &Hash| (*header, entry.certificate(membership.epoch, header));
        let (first, second) = (certificate(&chosen), certificate(&header));
        entry.equivocated = true;
        events.push(Event::Equivocation { height, first, second });
    }

    /// Emits what can be said in the order of heights.
    fn advance(&mut self, events: &mut Vec<Event>) {
        while !self.stopped {
            let height = self.next;
            let Some(entry) = self.heights.get(&height) else { break };
            let (Some(expected), Some(header)) = (&entry.expected, entry.chosen) else { break };
            let certificate = entry.certificate(expected.membership.epoch, &header);
            if let Some(ours) = expected.header.filter(|ours| *ours != header) {
                self.stopped = true;
                events.push(Event::Contradicted { height, certified: header, certificate, ours });
                break;
            }
            events.push(Event::Certified { height, header, certificate: certificate.clone() });
            for (voted, votes) in entry.votes.iter().filter(|(voted, _)| **voted != header) {
                let differs =
                    |vote: &Vote| doubt(height, (*voted, *vote), (header, certificate.clone()));
                events.extend(votes.values().map(differs));
            }
            self.next += 1;
        }
        let kept_from = self.next.saturating_sub(KEPT_HEIGHTS);
        self.heights = self.heights.split_off(&kept_from);
        self.tell_witness(events);
    }

    fn tell_witness(&mut self, events: &mut Vec<Event>) {
        self.next_for_witness = self.next_for_witness.max(self.next);
        while !self.stopped {
            let height = self.next_for_witness;
            let Some(entry) = self.heights.get(&height) else { break };
            let epoch = entry.expected.as_ref().map(|expected| expected.membership.epoch);
            if let Some(epoch) = epoch.filter(|epoch| *epoch != self.away.0) {
                self.away = (epoch, BTreeSet::new());
            }
            let Witness::Signs(header) = entry.for_witness(&self.away.1) else { break };
            events.push(Event::WitnessMaySign { height, header });
            self.next_for_witness += 1;
        }
    }
}

fn doubt(
    height: u64,
    (voted, vote): (Hash, Vote),
    (certified, certificate): (Hash, Certificate),
) -> Event {
    Event::Differs { notice: Notice::Doubt { height, voted, vote, certified, certificate } }
}

/// Epoch, voter, signature, and that the answer is that of an allowed program.
fn check(chain: ChainId, expected: &Expected, vote: &SignedVote) -> Result<(), String> {
    let Expected { membership, challenge, .. } = expected;
    if vote.epoch != membership.epoch {
        let (found, epoch) = (vote.epoch, membership.epoch);
        return Err(format!("it is of membership epoch {found}; the height is of epoch {epoch}"));
    }
    let member = membership
        .check_vote(vote.height, &vote.header, &vote.vote)
        .map_err(|error| error.to_string())?;
    if membership.measurements.is_empty() {
        return Ok(());
    }
    let certificate = member.certificate.hash(chain);
    let answer = |program: &Hash| integrity_answer(program, &certificate, challenge, &vote.header);
    let allowed = &membership.measurements;
    if allowed.iter().any(|measurement| answer(&measurement.program) == vote.vote.answer) {
        return Ok(());
    }
    Err("its answer to the challenge is that of no allowed program".to_owned())
}
