//! What this node measures for the roles: its power once, the rest every second.

use crate::cluster::ClusterState;
use crate::cluster::roles::{Assignment, Measures, OTHERS_MAX, assign, bit};
use crate::shared::Shared;
use bytes::Bytes;
use kanjo_api::cluster::NodeRole;
use kanjo_link::bus::Topic;
use kanjo_types::signature::{KeyKind, SecretKey, verify};
use kanjo_types::{Hash, codec};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How often measures are sent.
pub(crate) const EVERY: Duration = Duration::from_secs(1);
/// Measures of others that are older count no more.
const STALE: Duration = Duration::from_secs(4);
/// How long the self-test runs.
const SELF_TEST: Duration = Duration::from_millis(30);
/// Heights by which reliability is judged.
const WINDOW: usize = 128;
/// Votes for the newest heights may still come.
const SETTLED: u64 = 2;
/// First byte of a message: another one for each change of [`Measures`].
const VERSION: u8 = 1;
/// Largest message that is taken.
const BYTES_MAX: usize = 64 << 10;

/// What was measured here and elsewhere.
#[derive(Default)]
pub(crate) struct Measured {
    by_node: Mutex<BTreeMap<u16, (Instant, Measures)>>,
    voted: Mutex<Voted>,
}

/// Who voted in time for recent heights, by the certificates of this node.
#[derive(Default)]
struct Voted {
    next: u64,
    heights: VecDeque<BTreeSet<u16>>,
}

impl Measured {
    /// What another node sent.
    pub(crate) fn take(&self, from: u16, body: &Bytes) -> Result<(), String> {
        if body.len() > BYTES_MAX {
            return Err("its measures are too long".to_owned());
        }
        let (version, body) = body.split_first().ok_or("its measures are empty")?;
        if *version != VERSION {
            // Another build, as during an upgrade: it is measured by its own kind.
            return Ok(());
        }
        let measures: Measures = codec::from_bytes(body).map_err(|error| error.to_string())?;
        if !measures.is_bounded() {
            return Err("its measures name too many others".to_owned());
        }
        self.by_node.lock().insert(from, (Instant::now(), measures));
        Ok(())
    }

    /// Measures that are not stale, by node.
    pub(crate) fn fresh(&self) -> BTreeMap<u16, Measures> {
        let by_node = self.by_node.lock();
        let fresh = by_node.iter().filter(|(_, (at, _))| at.elapsed() < STALE);
        fresh.map(|(number, (_, measures))| (*number, measures.clone())).collect()
    }

    /// Who does what now.
    pub(crate) fn roles(&self, cluster: &ClusterState) -> Vec<Assignment> {
        assign(&cluster.membership(), &self.fresh())
    }

    /// Measures, keeps and tells.
    pub(crate) fn measure(&self, shared: &Shared, cluster: &ClusterState) {
        self.look_who_voted(shared);
        let membership = cluster.membership();
        let links = cluster.links().map(|links| links.peers()).unwrap_or_default();
        let round_trips = links.iter().filter_map(|link| {
            let is_up = link.connected.iter().all(|up| *up);
            link.round_trip_us.filter(|_| is_up).map(|micros| (link.peer.number, micros))
        });
        let voters: Vec<u16> = membership.voters().map(|(number, _)| number).collect();
        let doubted: BTreeSet<u16> =
            cluster.doubts().into_iter().map(|(member, _, _)| member).collect();
        let own = Measures {
            checks_per_s: checks_per_s(shared.config.verify_threads()),
            disk_free: disk_free(&shared.config.data),
            height: shared.tip().height,
            round_trips: round_trips.take(OTHERS_MAX).collect(),
            in_time: self.in_time(&voters),
            doubted: doubted.into_iter().collect(),
            takes: cluster.takes(),
            program: cluster.program(),
        };
        let told = [&[VERSION], codec::to_bytes(&own).as_slice()].concat();
        cluster.bus.publish(Topic::Measures, Bytes::from(told));
        self.by_node.lock().insert(cluster.me, (Instant::now(), own));
    }

    /// Reads the certificates of heights that are new.
    fn look_who_voted(&self, shared: &Shared) {
        let mut voted = self.voted.lock();
        let end = (shared.tip().height + 1).saturating_sub(SETTLED);
        let start = voted.next.max(end.saturating_sub(WINDOW as u64));
        for height in start..end {
            let Ok(signed) = shared.log.signed(height) else { break };
            let voters = signed.certificate.votes.iter().map(|vote| vote.voter).collect();
            voted.heights.push_back(voters);
            voted.next = height + 1;
        }
        let surplus = voted.heights.len().saturating_sub(WINDOW);
        voted.heights.drain(..surplus);
    }

    fn in_time(&self, voters: &[u16]) -> Vec<(u16, u16)> {
        let voted = self.voted.lock();
        let count = voted.heights.len();
        if count == 0 {
            return Vec::new();
        }
        let share = |voter: u16| {
            let of_it = voted.heights.iter().filter(|voters| voters.contains(&voter)).count();
            (voter, u16::try_from(of_it * 1_000 / count).unwrap_or(1_000))
        };
        voters.iter().map(|voter| share(*voter)).collect()
    }
}

/// Roles of a configuration as a mask.
pub(crate) fn mask(roles: &[NodeRole]) -> u8 {
    roles.iter().fold(0, |mask, role| mask | bit(*role))
}

/// Bytes free where the data is; 0 when that can't be found out.
fn disk_free(data: &Path) -> u64 {
    rustix::fs::statvfs(data).map_or(0, |about| about.f_bavail.saturating_mul(about.f_frsize))
}

/// Signature checks per second of this machine, measured once for the process: one thread's,
/// times the threads that check.
fn checks_per_s(threads: usize) -> u64 {
    static ONE_THREAD: OnceLock<u64> = OnceLock::new();
    let one = *ONE_THREAD.get_or_init(self_test);
    one.saturating_mul(threads as u64)
}

fn self_test() -> u64 {
    let Ok(key) = SecretKey::from_seed(KeyKind::Ed25519, [7; 32]) else { return 0 };
    let digest = Hash([9; 32]);
    let (public, signature) = (key.public(), key.sign(&digest));
    let (start, mut done) = (Instant::now(), 0u64);
    while start.elapsed() < SELF_TEST {
        if !verify(&public, &digest, &signature) {
            return 0;
        }
        done += 1;
    }
    let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
    done.saturating_mul(1_000_000) / micros
}
