//! What all parts of a run share: the ledger's genesis, the network, the checks, the trace.

use crate::crimes::{Crime, Crimes};
use crate::dice::Dice;
use crate::net::Net;
use crate::observer::Observer;
use crate::time::since_start;
use crate::trace::Trace;
use kanjo_types::membership::MemberKind;
use kanjo_types::{ChainId, Genesis};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A build that is broken on purpose: the simulator must see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The sentinel of a leader that shows two histories signs anything.
    GuardOff,
    /// A node's own vote makes a height final.
    QuorumOfOne,
    /// Clients are answered when a block is made.
    AcknowledgeEarly,
    /// A node that executed what the cluster did not commit goes on from there.
    NoRewind,
}

impl Broken {
    /// Each of them, with its name on the command line.
    pub const ALL: [(Self, &str); 4] = [
        (Self::GuardOff, "guard-off"),
        (Self::QuorumOfOne, "quorum-of-one"),
        (Self::AcknowledgeEarly, "acknowledge-early"),
        (Self::NoRewind, "no-rewind"),
    ];
}

/// What a node is, in every run of its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    /// Executor or witness.
    pub kind: MemberKind,
    /// How far its clock is off.
    pub skew_ms: i64,
    /// What it does wrong.
    pub crime: Option<Crime>,
}

/// See the [module](self).
pub struct Scene {
    /// Of the ledger.
    pub genesis: Genesis,
    /// Its digest.
    pub chain: ChainId,
    /// What is broken on purpose.
    pub broken: Option<Broken>,
    /// Randomness.
    pub dice: Dice,
    /// All links.
    pub net: Arc<Net>,
    /// What happened.
    pub trace: Arc<Trace>,
    /// What must hold.
    pub observer: Observer,
    /// What criminals heard and what became of their crimes.
    pub crimes: Crimes,
    /// Longest time of a write, in microseconds, of disks that are slow.
    slow_disks: Mutex<BTreeMap<u16, u64>>,
    /// Sentinels that don't answer, and until when.
    sentinels_away: Mutex<BTreeMap<u16, Duration>>,
    crimes_go_on: AtomicBool,
}

impl Scene {
    /// An empty scene.
    #[must_use]
    pub fn new(genesis: Genesis, observer: Observer, dice: &Dice, broken: Option<Broken>) -> Self {
        Self {
            chain: genesis.chain_id(),
            genesis,
            broken,
            dice: dice.fork(),
            net: Arc::new(Net::new(dice.fork())),
            trace: observer.trace(),
            observer,
            crimes: Crimes::default(),
            slow_disks: Mutex::default(),
            sentinels_away: Mutex::default(),
            crimes_go_on: AtomicBool::new(true),
        }
    }

    /// How long the next write of a node takes.
    #[must_use]
    pub fn disk_time(&self, number: u16) -> Duration {
        let slow = self.slow_disks.lock().get(&number).copied();
        self.dice.micros(50, slow.unwrap_or(400))
    }

    /// Makes a disk slow, or as it was.
    pub fn set_disk(&self, number: u16, slow_max_us: Option<u64>) {
        let mut slow = self.slow_disks.lock();
        match slow_max_us {
            Some(most) => slow.insert(number, most),
            None => slow.remove(&number),
        };
    }

    /// The sentinel of a node does not answer until then.
    pub fn send_sentinel_away(&self, number: u16, until: Duration) {
        self.sentinels_away.lock().insert(number, until);
    }

    /// Does the sentinel of a node not answer now?
    #[must_use]
    pub fn is_sentinel_away(&self, number: u16) -> bool {
        self.sentinels_away.lock().get(&number).is_some_and(|until| *until > since_start())
    }

    /// All disks as they were, and all sentinels back.
    pub fn mend_machines(&self) {
        self.slow_disks.lock().clear();
        self.sentinels_away.lock().clear();
    }

    /// Do criminals still break the rules?
    #[must_use]
    pub fn crimes_go_on(&self) -> bool {
        self.crimes_go_on.load(Ordering::Acquire)
    }

    /// From now on they keep them.
    pub fn end_crimes(&self) {
        self.crimes_go_on.store(false, Ordering::Release);
    }
}
