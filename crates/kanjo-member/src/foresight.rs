//! Members that stand in a node's log and not yet in its ledger.
//!
//! A node knows members by the blocks it has executed, and executes what is committed. After a
//! power cut of all nodes nothing is, until a leader is heard; and that leader, or a voter without
//! whom there is no majority, may be one that the newest blocks of the log admitted. Whom to link
//! with, and whose proposals to append, is then taken from the log. Votes are not: they count by
//! the membership that was executed.
//!
//! # Invariants
//! - What is known of a member from executed blocks stays; the log only adds members.
//! - The blocks were appended with the signatures of members' sentinels.

use crate::witness::made_in;
use kanjo_consensus::engine::EngineState;
use kanjo_consensus::entry::Content;
use kanjo_consensus::log::LogReader;
use kanjo_types::ChainId;
use kanjo_types::membership::Membership;
use kanjo_types::stored::decode_block;
use std::io;
use std::sync::Arc;

/// So many entries at the end of a log are looked at: many times what is ever under way.
const ENTRIES_MAX: u64 = 1_024;

/// Does the engine count, or bring entries to, a number that is no member here?
#[must_use]
pub fn names_strangers(engine: &EngineState, known: &Membership) -> bool {
    let mut numbers = engine.voters.iter().flatten().chain(&engine.learners);
    numbers.any(|number| known.member(*number).is_none())
}

/// `executed` with the members that the newest blocks of the log above it add; nothing when they
/// add none. Reads the disk.
///
/// # Errors
/// The log's.
pub fn foresee(
    log: &LogReader,
    chain: ChainId,
    executed: &Membership,
) -> io::Result<Option<Arc<Membership>>> {
    let end = log.next_index();
    let from = executed.height.saturating_add(1).max(end.saturating_sub(ENTRIES_MAX));
    for index in (from..end).rev() {
        let Some(entry) = log.entry(index)? else { continue };
        let Content::Block(bytes) = entry.content() else { continue };
        let Ok(block) = decode_block(bytes, chain) else { continue };
        // One whose rows don't give its roots will be found void: what is below it counts.
        if let Ok(Some(newest)) = made_in(&block) {
            return Ok(added(executed, &newest));
        }
    }
    Ok(None)
}

fn added(executed: &Membership, newest: &Membership) -> Option<Arc<Membership>> {
    let more = newest.members.get(executed.members.len()..)?;
    if more.is_empty() {
        return None;
    }
    let mut merged = executed.clone();
    merged.members.extend_from_slice(more);
    Some(Arc::new(merged))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kanjo_types::membership::{Member, MemberKind, MemberStatus, NodeCertificate};
    use std::collections::BTreeSet;

    fn member(name: &str, status: MemberStatus) -> Member {
        let certificate = NodeCertificate {
            name: name.to_owned(),
            kind: MemberKind::Executor,
            vote_key: [1; 32],
            link_key: [2; 32],
            address: String::new(),
            api: String::new(),
            attestor: None,
        };
        Member { certificate, status, since_epoch: 0, reason: String::new() }
    }

    fn membership(names: &[&str], status: MemberStatus) -> Membership {
        Membership {
            epoch: 0,
            links: kanjo_types::standing::Links::default(),
            height: 0,
            members: names.iter().map(|name| member(name, status)).collect(),
            measurements: Vec::new(),
        }
    }

    #[test]
    fn the_log_adds_members_and_changes_none() {
        let executed = membership(&["a", "b"], MemberStatus::Voting);
        let newest = membership(&["a", "mallory", "c"], MemberStatus::Standby);
        let merged = added(&executed, &newest).expect("one more");
        assert_eq!(merged.members[..2], executed.members[..]);
        assert_eq!(merged.members[2..], newest.members[2..]);
        assert_eq!(merged.voters().count(), 2, "who votes is as it was");
        assert!(added(&newest, &executed).is_none() && added(&executed, &executed).is_none());
    }

    #[test]
    fn a_voter_that_is_no_member_here_is_a_stranger() {
        let known = membership(&["a", "b"], MemberStatus::Voting);
        let engine = |voters: &[u16], learners: &[u16]| EngineState {
            role: kanjo_consensus::engine::Role::Follower,
            term: 1,
            leader: None,
            last_log: None,
            committed: None,
            voters: vec![voters.iter().copied().collect()],
            learners: BTreeSet::from_iter(learners.iter().copied()),
            progress: Default::default(),
            stopped: None,
        };
        assert!(!names_strangers(&engine(&[0, 1], &[]), &known));
        assert!(names_strangers(&engine(&[0, 1, 2], &[]), &known));
        assert!(names_strangers(&engine(&[0, 1], &[2]), &known));
    }
}
