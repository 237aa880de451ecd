//! Kinds of faults, and their order.

use kanjo_store::faults::SeededRng;
use serde::Serialize;

/// What is done to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// SIGKILL of a node that follows.
    KillFollower,
    /// SIGKILL of the node that leads.
    KillLeader,
    /// SIGKILL of a node, again while it starts, and again.
    KillAgain,
    /// SIGKILL of a node and its sentinel.
    KillBoth,
    /// SIGSTOP of the leader, then SIGCONT.
    PauseLeader,
    /// SIGSTOP of a follower, then SIGCONT.
    PauseFollower,
    /// SIGKILL of all nodes at once.
    KillAll,
    /// SIGKILL of all nodes and all sentinels at once.
    KillEverything,
    /// SIGTERM: it leaves the quorum and stops.
    Leave,
    /// One is killed, and when it is ejected, another.
    KillTwo,
    /// SIGKILL of a sentinel.
    KillSentinel,
    /// SIGKILL of the leader's sentinel.
    KillLeadersSentinel,
    /// SIGSTOP of a sentinel, then SIGCONT.
    PauseSentinel,
    /// The leader's connections end, and new ones are refused.
    CutLeader,
    /// A follower's connections end, and new ones are refused.
    CutFollower,
    /// Nothing gets to the leader or from it; connections stay open.
    StallLeader,
    /// What the leader sends does not arrive.
    MuteLeader,
    /// What is sent to the leader does not arrive.
    DeafLeader,
    /// A follower and the leader can't talk to each other; both can to the others.
    CutPair,
    /// The cluster falls into two halves: no majority.
    Halves,
    /// Everything to and from one node takes longer.
    Slow,
    /// Connections end again and again.
    Resets,
    /// Bits flip on the way, again and again.
    Corrupt,
    /// The disk of a follower is full.
    FullFollower,
    /// The disk of the leader is full.
    FullLeader,
}

/// A group of faults, as `--faults` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Group {
    /// Nodes die, stand still, leave.
    Kill,
    /// Links break.
    Partition,
    /// Disks are full.
    Disk,
    /// Sentinels die and stand still.
    Sentinel,
}

impl Fault {
    /// All kinds, by their group.
    pub const ALL: [(Group, Self); 25] = [
        (Group::Kill, Self::KillFollower),
        (Group::Kill, Self::KillLeader),
        (Group::Kill, Self::KillAgain),
        (Group::Kill, Self::KillBoth),
        (Group::Kill, Self::PauseLeader),
        (Group::Kill, Self::PauseFollower),
        (Group::Kill, Self::KillAll),
        (Group::Kill, Self::KillEverything),
        (Group::Kill, Self::Leave),
        (Group::Kill, Self::KillTwo),
        (Group::Sentinel, Self::KillSentinel),
        (Group::Sentinel, Self::KillLeadersSentinel),
        (Group::Sentinel, Self::PauseSentinel),
        (Group::Partition, Self::CutLeader),
        (Group::Partition, Self::CutFollower),
        (Group::Partition, Self::StallLeader),
        (Group::Partition, Self::MuteLeader),
        (Group::Partition, Self::DeafLeader),
        (Group::Partition, Self::CutPair),
        (Group::Partition, Self::Halves),
        (Group::Partition, Self::Slow),
        (Group::Partition, Self::Resets),
        (Group::Partition, Self::Corrupt),
        (Group::Disk, Self::FullFollower),
        (Group::Disk, Self::FullLeader),
    ];

    /// Its name, as in JSON.
    #[must_use]
    pub fn name(self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(name)) => name,
            _ => format!("{self:?}"),
        }
    }

    /// Is a fault of the leader, rather than of any node?
    pub(crate) fn is_of_leader(self) -> bool {
        matches!(
            self,
            Self::KillLeader
                | Self::PauseLeader
                | Self::KillLeadersSentinel
                | Self::CutLeader
                | Self::StallLeader
                | Self::MuteLeader
                | Self::DeafLeader
                | Self::FullLeader
        )
    }

    /// Does a majority go on?
    pub(crate) fn leaves_majority(self) -> bool {
        !matches!(self, Self::KillAll | Self::KillEverything | Self::Halves)
    }

    /// Are there enough nodes for it?
    pub(crate) fn fits(self, nodes: usize) -> bool {
        self != Self::KillTwo || nodes >= 4
    }
}

/// All kinds in an order from the seed, again and again, so that each comes equally often.
pub(crate) struct Deck {
    kinds: Vec<Fault>,
    left: Vec<Fault>,
    is_shuffled: bool,
}

impl Deck {
    /// In the order given, or shuffled.
    pub(crate) fn new(kinds: Vec<Fault>, is_shuffled: bool) -> Self {
        Self { kinds, left: Vec::new(), is_shuffled }
    }

    /// The next one; nothing when there are none, or an order that was given is over.
    pub(crate) fn next(&mut self, rng: &mut SeededRng) -> Option<Fault> {
        if self.left.is_empty() {
            self.left = self.kinds.iter().rev().copied().collect();
            if !self.is_shuffled {
                self.kinds.clear();
            }
        }
        if !self.is_shuffled {
            return self.left.pop();
        }
        let place = usize::try_from(rng.below(self.left.len() as u64)).unwrap_or(0);
        (place < self.left.len()).then(|| self.left.swap_remove(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deck_deals_all_kinds_equally_often_and_the_same_for_a_seed() {
        let kinds: Vec<Fault> = Fault::ALL.iter().map(|(_, fault)| *fault).collect();
        let deal = |seed| {
            let (mut deck, mut rng) = (Deck::new(kinds.clone(), true), SeededRng::new(seed));
            (0..3 * kinds.len()).filter_map(|_| deck.next(&mut rng)).collect::<Vec<_>>()
        };
        let dealt = deal(7);
        assert_eq!(dealt, deal(7));
        assert_ne!(dealt, deal(8));
        for kind in &kinds {
            assert_eq!(dealt.iter().filter(|one| *one == kind).count(), 3, "{kind:?}");
        }
    }

    #[test]
    fn an_order_that_was_given_is_kept_and_ends() {
        let order = vec![Fault::Leave, Fault::KillAll];
        let (mut deck, mut rng) = (Deck::new(order.clone(), false), SeededRng::new(1));
        let dealt: Vec<Fault> = std::iter::from_fn(|| deck.next(&mut rng)).collect();
        assert_eq!(dealt, order);
    }
}
