//! What happens in a run, drawn from its seed.

use crate::crimes::Crime;
use crate::dice::Dice;
use crate::net::Weather;
use crate::scene::{Broken, NodeSettings};
use kanjo_types::membership::MemberKind;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A node loses power, and comes back soon.
    Crash,
    /// A node loses power in the middle of a write.
    TornCrash,
    /// A node loses power for so long that others eject it.
    LongCrash,
    /// All lose power together.
    PowerCut,
    /// Two groups don't hear each other.
    Partition,
    /// A node is heard and doesn't hear, or the other way round.
    OneWay,
    /// A disk takes its time.
    SlowDisk,
    /// A disk has no room.
    FullDisk,
    /// A node leaves the quorum, stops, and comes back.
    Leave,
    /// A sentinel does not answer for a while.
    SentinelAway,
    /// The leader is told to hand over.
    HandOver,
    /// Governors admit a node.
    Admit,
}

impl Fault {
    const ALL: [Self; 12] = [
        Self::Crash,
        Self::TornCrash,
        Self::LongCrash,
        Self::PowerCut,
        Self::Partition,
        Self::OneWay,
        Self::SlowDisk,
        Self::FullDisk,
        Self::Leave,
        Self::SentinelAway,
        Self::HandOver,
        Self::Admit,
    ];
}

/// See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Nodes of the genesis that execute.
    pub executors: u16,
    /// Nodes of the genesis that don't.
    pub witnesses: u16,
    /// Accounts, and clients that pay from them.
    pub accounts: u64,
    /// One node and what it does wrong.
    pub criminal: Option<(u16, Crime)>,
    /// The network while there are faults.
    pub weather: Weather,
    /// Kinds of faults.
    pub faults: Vec<Fault>,
    /// Time between two faults, in milliseconds.
    pub pause_ms: u64,
    /// How long there are faults, in milliseconds.
    pub faults_ms: u64,
    /// How far clocks may be off, in milliseconds.
    pub skew_ms: u64,
}

impl Plan {
    /// The plan of a seed. For a build that is broken on purpose, what brings it to light is in
    /// every plan.
    #[must_use]
    pub fn draw(dice: &Dice, broken: Option<Broken>, faults_ms: Option<u64>) -> Self {
        let executors = dice.pick(&[3, 3, 3, 4, 5]).unwrap_or(3);
        let witnesses = dice.pick(&[0, 0, 1]).unwrap_or(0);
        let some_crime = dice.pick(&Crime::ALL);
        let crime = if dice.below(3) == 0 { some_crime } else { None };
        let crime = match broken {
            Some(Broken::GuardOff) => Some(Crime::Equivocator),
            Some(_) => None,
            None => crime,
        };
        let number = u16::try_from(dice.below(3)).unwrap_or(0);
        let bad = dice.below(3);
        let weather = Weather {
            loss_ppm: u32::try_from(dice.below(30_000 * bad + 1)).unwrap_or(0),
            twice_ppm: u32::try_from(dice.below(30_000 * bad + 1)).unwrap_or(0),
            slow_ppm: u32::try_from(dice.below(100_000 * bad + 1)).unwrap_or(0),
            slow_max_us: dice.between(2_000, 60_000),
        };
        let mut faults: Vec<Fault> =
            Fault::ALL.into_iter().filter(|_| dice.below(2) == 0).collect();
        if faults.is_empty() || broken == Some(Broken::NoRewind) {
            faults.extend([Fault::Crash, Fault::Partition]);
        }
        let plan = Self {
            executors,
            witnesses,
            accounts: dice.between(3, 6),
            criminal: crime.map(|crime| (number, crime)),
            weather,
            faults,
            pause_ms: dice.between(100, 800),
            faults_ms: faults_ms.unwrap_or_else(|| dice.between(2_000, 6_000)),
            skew_ms: dice.pick(&[0, 5, 200]).unwrap_or(0),
        };
        if broken != Some(Broken::GuardOff) {
            return plan;
        }
        // Two blocks can both have a quorum only where the criminal makes it up: with three voters.
        let (faults, weather) = (vec![Fault::HandOver], Weather::default());
        Self { executors: 3, witnesses: 0, faults, weather, pause_ms: 300, ..plan }
    }

    /// What a node is.
    #[must_use]
    pub fn settings(&self, number: u16, dice: &Dice) -> NodeSettings {
        let is_witness = number >= self.executors && number < self.executors + self.witnesses;
        let kind = if is_witness { MemberKind::Witness } else { MemberKind::Executor };
        let crime =
            self.criminal.filter(|(criminal, _)| *criminal == number).map(|(_, crime)| crime);
        let ahead = i64::try_from(dice.below(self.skew_ms * 2 + 1)).unwrap_or(0);
        let skew_ms = ahead - i64::try_from(self.skew_ms).unwrap_or(0);
        NodeSettings { kind, skew_ms, crime }
    }
}
