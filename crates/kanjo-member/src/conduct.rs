//! How a member keeps the cluster in order: whom it asks, whom it hands leadership to, when it
//! leaves, comes back, or finds others gone.

use borsh::{BorshDeserialize, BorshSerialize};
use kanjo_consensus::engine::{EngineState, Role};
use kanjo_types::Hash;
use kanjo_types::membership::{Member, MemberStatus, Membership, Notice, Statement};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A node this close to the newest committed height may vote.
pub const LAG_MAX: u64 = 64;

/// Between members, on topic notices.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Question {
    /// To the leader: bring this notice to the ledger.
    Take {
        /// What changes.
        notice: Notice,
        /// Who agrees.
        statements: Vec<Statement>,
    },
    /// To a voter: do you find these members unreachable too?
    Eject {
        /// The epoch that the question is about.
        epoch: u64,
        /// By number.
        members: Vec<u16>,
    },
}

/// The engine's voters and learners that a membership asks for: all but those that are out for
/// good follow, so that a doubted one can be compared again.
#[must_use]
pub fn engine_members(membership: &Membership) -> (BTreeSet<u16>, BTreeSet<u16>) {
    let follows = |status| !matches!(status, MemberStatus::Voting | MemberStatus::Removed);
    let learners = membership.numbered().filter(|(_, member)| follows(member.status));
    (numbers(membership.voters()), numbers(learners))
}

/// Does the engine count whom the membership asks for?
#[must_use]
pub fn is_aligned(engine: &EngineState, membership: &Membership) -> bool {
    let (voters, learners) = engine_members(membership);
    engine.voters.as_slice() == [voters] && engine.learners == learners
}

fn numbers<T>(members: impl Iterator<Item = (u16, T)>) -> BTreeSet<u16> {
    members.map(|(number, _)| number).collect()
}

/// Would a vote of this member count? With a program that is not allowed it would not, and be held
/// against it.
#[must_use]
pub fn has_vote(membership: &Membership, me: u16, program: &Hash) -> bool {
    membership.member(me).is_some_and(Member::votes) && membership.allows(program)
}

/// The voters but `me`.
#[must_use]
pub fn other_voters(membership: &Membership, me: u16) -> BTreeSet<u16> {
    numbers(membership.voters().filter(|(number, _)| *number != me))
}

/// Voters that execute, but `me`.
#[must_use]
pub fn other_executors(membership: &Membership, me: u16) -> BTreeSet<u16> {
    let others = membership.voters().filter(|(number, _)| *number != me);
    numbers(others.filter(|(_, member)| member.executes()))
}

/// Who should lead of those that can be reached: the one that has most of the log.
#[must_use]
pub fn successor(
    voters: &BTreeSet<u16>,
    reachable: &BTreeSet<u16>,
    engine: &EngineState,
) -> Option<u16> {
    let there = voters.intersection(reachable).copied();
    there.max_by_key(|voter| engine.progress.get(voter).copied().flatten())
}

/// Has one of these the whole log of the leader?
#[must_use]
pub fn any_is_up_to_date(members: &BTreeSet<u16>, engine: &EngineState) -> bool {
    let has = |number: &u16| engine.progress.get(number).copied().flatten();
    members.iter().any(|number| has(number) >= engine.last_log)
}

/// Can a majority of the voters be heard from `me`?
#[must_use]
pub fn majority_is_there(membership: &Membership, me: u16, reachable: &BTreeSet<u16>) -> bool {
    let voters = membership.voters();
    let there = voters.filter(|(number, _)| *number == me || reachable.contains(number));
    there.count() >= membership.quorum()
}

/// Who may have certificates that are missing here: the leader, and one of the others, another one
/// each time, because those that were asked before may miss them, too.
#[must_use]
pub fn whom_to_ask(leader: Option<u16>, peers: &BTreeSet<u16>, turn: usize) -> Vec<u16> {
    let other = peers.iter().nth(turn.checked_rem(peers.len()).unwrap_or(0)).copied();
    leader.filter(|leader| peers.contains(leader)).into_iter().chain(other).collect()
}

/// May a node with this status ask for its vote again, `next_final` being the lowest height that
/// is not final here?
#[must_use]
pub fn may_come_back(status: MemberStatus, committed: Option<u64>, next_final: u64) -> bool {
    let is_away =
        matches!(status, MemberStatus::Standby | MemberStatus::Left | MemberStatus::Ejected);
    is_away && committed.is_some_and(|committed| committed.saturating_sub(next_final) <= LAG_MAX)
}

/// What a member that wants to leave does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// Nothing is left to do: it is out, or nobody else could go on.
    Done,
    /// Hand leadership over first.
    HandOver,
    /// Sign that it leaves.
    Sign,
    /// Others have to act.
    Wait,
}

/// The next step of `me` out of the quorum.
#[must_use]
pub fn leaving(membership: &Membership, me: u16, engine: &EngineState) -> Leaving {
    let leads = engine.role == Role::Leader;
    let is_voter = membership.member(me).is_some_and(Member::votes);
    let is_out = !engine.voters.iter().any(|set| set.contains(&me));
    if other_executors(membership, me).is_empty() || (!is_voter && (is_out || !leads)) {
        return Leaving::Done;
    }
    match (leads, is_voter) {
        (true, _) => Leaving::HandOver,
        (false, true) => Leaving::Sign,
        (false, false) => Leaving::Wait,
    }
}

/// May a leader take this notice of another member? One that leaves while others are down could
/// leave too few voters to let anybody back.
///
/// # Errors
/// Why not.
pub fn check_notice(
    notice: &Notice,
    membership: &Membership,
    me: u16,
    reachable: &BTreeSet<u16>,
) -> Result<(), String> {
    let Notice::Leave { member } = notice else { return Ok(()) };
    let mut there = reachable.clone();
    there.insert(me);
    if membership.goes_on_without(*member, &there) {
        return Ok(());
    }
    Err(format!("without member {member} too few of the voters left can be reached"))
}

/// Does this member agree that others are ejected?
///
/// # Errors
/// Why not.
pub fn check_ejection(
    epoch: u64,
    members: &[u16],
    membership: &Membership,
    down: &BTreeSet<u16>,
) -> Result<(), String> {
    if membership.epoch != epoch {
        return Err(format!("the epoch here is {}", membership.epoch));
    }
    match members.iter().find(|member| !down.contains(member)) {
        Some(here) => Err(format!("member {here} can be reached from here")),
        None => Ok(()),
    }
}

/// Voters that can't be reached, and since when.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Absent(BTreeMap<u16, Duration>);

impl Absent {
    /// Takes who can be reached `now`, as a time since some beginning.
    pub fn look(
        &mut self,
        membership: &Membership,
        me: u16,
        reachable: &BTreeSet<u16>,
        now: Duration,
    ) {
        // Who has no vote is not missed, and begins anew when it has one again.
        self.0.retain(|number, _| membership.member(*number).is_some_and(Member::votes));
        for (number, _) in membership.voters() {
            if number == me || reachable.contains(&number) {
                self.0.remove(&number);
            } else {
                self.0.entry(number).or_insert(now);
            }
        }
    }

    /// Those that could not be reached for that long.
    #[must_use]
    pub fn down(&self, now: Duration, eject_after: Duration) -> BTreeSet<u16> {
        let is_down = |since: &Duration| now.saturating_sub(*since) >= eject_after;
        self.0.iter().filter(|(_, since)| is_down(since)).map(|(number, _)| *number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_asked_in_turn() {
        let peers = BTreeSet::from([0, 1, 3, 4]);
        let asked = |turn| whom_to_ask(Some(3), &peers, turn);
        assert!((0..9).all(|turn| asked(turn).first() == Some(&3)), "the leader each time");
        let others: BTreeSet<u16> = (5..9).flat_map(asked).collect();
        assert_eq!(others, peers);
        assert_eq!(whom_to_ask(Some(2), &peers, 0), [0], "a leader that can't be reached");
        assert!(whom_to_ask(None, &BTreeSet::new(), 7).is_empty());
    }
}
