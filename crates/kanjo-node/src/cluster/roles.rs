//! Who does what in the cluster (missions M19, M21): a function of the membership and of what the
//! nodes measured, so that nobody assigns roles and nobody has to keep them.
//!
//! ```text
//!  every second, each node: own measures ── topic measures ──▶ all nodes
//!  each node: membership + measures that are not stale ──▶ assign ──▶ roles, each with its reason
//! ```
//! A node that crashed sends nothing: its measures grow stale, and its roles are others' at the
//! next look. What a node says of itself (power, disk) can only bring it work; whether it votes in
//! time and whether it is doubted is what the others say of it, and the middle of what they say
//! counts.
//!
//! # Invariants
//! - Same membership and measures, same roles: no clock, no randomness, no order of arrival.
//! - Roles decide about no vote and no certificate: a wrong measure makes the cluster slower, never
//!   wrong.

use borsh::{BorshDeserialize, BorshSerialize};
use kanjo_api::cluster::NodeRole;
use kanjo_types::Hash;
use kanjo_types::membership::{Member, Membership};
use std::collections::{BTreeMap, BTreeSet};

/// A node this close to the newest height is up to date.
pub(crate) const LAG_MAX: u64 = 64;
/// Votes in time, in thousandths, below which a node is not relied on.
const IN_TIME_MIN: u16 = 500;
/// Bytes that must be free for the whole log to be kept on.
const DISK_MIN: u64 = 1 << 30;
/// Most others that a node tells about.
pub(crate) const OTHERS_MAX: usize = 1_024;

/// What a node measured.
#[derive(Debug, Clone, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Measures {
    /// Signature checks per second on all its cores.
    pub checks_per_s: u64,
    /// Bytes free where its data is.
    pub disk_free: u64,
    /// Newest final height.
    pub height: u64,
    /// Microseconds to others and back, by number.
    pub round_trips: Vec<(u16, u64)>,
    /// Share of recent heights that each voter voted for in time, in thousandths, by number.
    pub in_time: Vec<(u16, u16)>,
    /// Members it doubts.
    pub doubted: Vec<u16>,
    /// Roles it takes by configuration, as a mask by position in [`NodeRole::ALL`]; nothing: any.
    pub takes: Option<u8>,
    /// SHA-256 of its program. For people alone: votes prove it.
    pub program: Hash,
}

impl Measures {
    /// Is it of a size that an honest node sends?
    pub(crate) fn is_bounded(&self) -> bool {
        self.round_trips.len() <= OTHERS_MAX
            && self.in_time.len() <= OTHERS_MAX
            && self.doubted.len() <= OTHERS_MAX
    }

    fn takes(&self, role: NodeRole) -> bool {
        self.takes.is_none_or(|mask| mask & bit(role) != 0)
    }

    /// Mean time to others and back.
    fn mean_round_trip(&self) -> Option<u64> {
        let count = u64::try_from(self.round_trips.len()).ok().filter(|count| *count > 0)?;
        let sum: u64 =
            self.round_trips.iter().fold(0, |sum, (_, micros)| sum.saturating_add(*micros));
        Some(sum / count)
    }
}

/// The place of a role in a mask.
pub(crate) fn bit(role: NodeRole) -> u8 {
    1 << (role as u8)
}

/// A role given to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub role: NodeRole,
    pub node: u16,
    pub why: String,
}

/// A node that is there and may have roles.
struct Candidate<'a> {
    number: u16,
    member: &'a Member,
    measures: &'a Measures,
    lag: u64,
    in_time: u16,
}

impl Candidate<'_> {
    fn is_current(&self) -> bool {
        self.lag <= LAG_MAX
    }

    fn executes(&self) -> bool {
        self.member.executes()
    }
}

/// The middle of what all say; the lower one of two.
fn middle(mut values: Vec<u16>) -> Option<u16> {
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied()
}

/// How reliable a node is by what all say; new ones are taken to be.
fn in_time(measures: &BTreeMap<u16, Measures>, number: u16) -> u16 {
    let said = measures.values().flat_map(|one| &one.in_time);
    let of_it = said.filter(|(of, _)| *of == number).map(|(_, share)| *share);
    middle(of_it.collect()).unwrap_or(1_000)
}

/// Does more than half of those that are there doubt it?
fn is_doubted(measures: &BTreeMap<u16, Measures>, number: u16) -> bool {
    let doubting = measures.values().filter(|one| one.doubted.contains(&number)).count();
    doubting * 2 > measures.len()
}

fn candidates<'a>(
    membership: &'a Membership,
    measures: &'a BTreeMap<u16, Measures>,
) -> Vec<Candidate<'a>> {
    let newest = measures.values().map(|one| one.height).max().unwrap_or(0);
    let there = membership.numbered().filter_map(|(number, member)| {
        let measures_of = measures.get(&number)?;
        let stands = !matches!(
            member.status,
            kanjo_types::membership::MemberStatus::Removed
                | kanjo_types::membership::MemberStatus::Doubted
        );
        (stands && !is_doubted(measures, number)).then(|| Candidate {
            number,
            member,
            measures: measures_of,
            lag: newest.saturating_sub(measures_of.height),
            in_time: in_time(measures, number),
        })
    });
    there.collect()
}

/// The roles of all nodes, by role, then number. `measures` holds what is not stale.
pub(crate) fn assign(
    membership: &Membership,
    measures: &BTreeMap<u16, Measures>,
) -> Vec<Assignment> {
    let there = candidates(membership, measures);
    let mut all = Vec::new();
    for role in NodeRole::ALL {
        let may: Vec<&Candidate<'_>> =
            there.iter().filter(|candidate| candidate.measures.takes(role)).collect();
        let mut assigned = match role {
            NodeRole::Client => each(role, &may, |one| {
                let fits = one.executes() && one.is_current();
                fits.then(|| format!("executes, {} behind", heights(one.lag)))
            }),
            NodeRole::Worker => each(role, &may, |one| {
                let power = one.measures.checks_per_s;
                one.executes().then(|| format!("executes, {power} signature checks/s"))
            }),
            NodeRole::Persistence => persistence(&may),
            NodeRole::Coordination => coordination(&may).into_iter().collect(),
            NodeRole::Messaging => messaging(&may).into_iter().collect(),
            NodeRole::Backup => backup(&may, &all).into_iter().collect(),
        };
        for one in &mut assigned {
            let is_set = measures.get(&one.node).is_some_and(|measures| measures.takes.is_some());
            if is_set {
                one.why.push_str("; by configuration");
            }
        }
        all.append(&mut assigned);
    }
    all
}

fn heights(count: u64) -> String {
    if count == 1 { "1 height".to_owned() } else { format!("{count} heights") }
}

fn each(
    role: NodeRole,
    may: &[&Candidate<'_>],
    why: impl Fn(&Candidate<'_>) -> Option<String>,
) -> Vec<Assignment> {
    let given =
        may.iter().filter_map(|one| why(one).map(|why| Assignment { role, node: one.number, why }));
    given.collect()
}

/// All that have room; when none has, the one with most.
fn persistence(may: &[&Candidate<'_>]) -> Vec<Assignment> {
    let role = NodeRole::Persistence;
    let gigabytes = |one: &Candidate<'_>| one.measures.disk_free >> 30;
    let roomy = each(role, may, |one| {
        let has_room = one.measures.disk_free >= DISK_MIN;
        has_room.then(|| format!("keeps the whole log, {} GiB free", gigabytes(one)))
    });
    if !roomy.is_empty() {
        return roomy;
    }
    let most = first(may, |one| one.measures.disk_free);
    let why = || "no node has 1 GiB free; it has most".to_owned();
    most.map(|one| Assignment { role, node: one.number, why: why() }).into_iter().collect()
}

/// The one with most of something; of several the lowest number.
fn first<'a, 'b>(
    may: &[&'b Candidate<'a>],
    most: impl Fn(&Candidate<'a>) -> u64,
) -> Option<&'b Candidate<'a>> {
    let mut best: Option<&Candidate<'a>> = None;
    for one in may {
        if best.is_none_or(|best| most(one) > most(best)) {
            best = Some(one);
        }
    }
    best
}

/// Orders blocks best: an executor with a vote, up to date, reliable, with most power.
fn coordination(may: &[&Candidate<'_>]) -> Option<Assignment> {
    let fit: Vec<&Candidate<'_>> = may
        .iter()
        .copied()
        .filter(|one| one.executes() && one.member.votes() && one.is_current())
        .collect();
    let reliable: Vec<&Candidate<'_>> =
        fit.iter().copied().filter(|one| one.in_time >= IN_TIME_MIN).collect();
    let (among, note) =
        if reliable.is_empty() { (fit, ", none votes in time") } else { (reliable, "") };
    let best = first(&among, |one| one.measures.checks_per_s)?;
    let power = best.measures.checks_per_s;
    let why = format!(
        "most power ({power} signature checks/s) of {} voters that execute and are up to date{note}; \
         votes in time {} of 1000",
        among.len(),
        best.in_time
    );
    Some(Assignment { role: NodeRole::Coordination, node: best.number, why })
}

/// Nearest to all others.
fn messaging(may: &[&Candidate<'_>]) -> Option<Assignment> {
    let far = |one: &Candidate<'_>| one.measures.mean_round_trip().unwrap_or(u64::MAX);
    let best = first(may, |one| u64::MAX - far(one))?;
    let why = match best.measures.mean_round_trip() {
        Some(mean) => format!("nearest to all others, {mean} µs there and back on average"),
        None => "no round trip is measured yet; lowest number".to_owned(),
    };
    Some(Assignment { role: NodeRole::Messaging, node: best.number, why })
}

/// Most room, beside the one that orders where there is another.
fn backup(may: &[&Candidate<'_>], given: &[Assignment]) -> Option<Assignment> {
    let busy: BTreeSet<u16> =
        given.iter().filter(|one| one.role == NodeRole::Coordination).map(|one| one.node).collect();
    let others: Vec<&Candidate<'_>> =
        may.iter().copied().filter(|one| !busy.contains(&one.number)).collect();
    let (among, beside) =
        if others.is_empty() { (may, "") } else { (&*others, " beside the coordination") };
    let best = first(among, |one| one.measures.disk_free)?;
    let why = format!("most room{beside}, {} GiB free", best.measures.disk_free >> 30);
    Some(Assignment { role: NodeRole::Backup, node: best.number, why })
}

#[cfg(test)]
#[path = "roles_tests.rs"]
mod tests;
