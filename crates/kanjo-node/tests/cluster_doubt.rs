//! A member whose results differ: it is doubted by its own votes, loses its vote in the ledger, and
//! the others go on; governors let it back.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use bytes::Bytes;
use common::cluster::Cluster;
use common::key;
use kanjo_client::Draft;
use kanjo_consensus::vote::{SignedVote, decode_votes, encode_votes};
use kanjo_link::bus::{BoxFuture, Bus, Handler, Topic};
use kanjo_link::mesh::{Limits, Mesh, MeshConfig, Peer};
use kanjo_sentinel::client::{LocalSigner, Signer};
use kanjo_sentinel::rules::VoteRequest;
use kanjo_types::membership::{MemberStatus, MembershipChange};
use kanjo_types::{Hash, Operation, ResultCode};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

/// Member 2 with a faulty memory: for each height that others vote for, its sentinel signs another
/// header.
struct Faulty {
    signer: Mutex<LocalSigner>,
    bus: Mutex<Option<Weak<Mesh>>>,
}

impl Handler for Faulty {
    fn call(&self, _: u16, _: Topic, _: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        Box::pin(async { Err("it only votes".to_owned()) })
    }

    fn message(&self, _from: u16, topic: Topic, body: Bytes) {
        let heard = match topic {
            Topic::Votes => decode_votes(body).unwrap_or_default(),
            _ => return,
        };
        for SignedVote { epoch, height, header, .. } in heard {
            let mut other = header;
            other.0[0] ^= 1;
            let request = VoteRequest { epoch, height, header: other, challenge: Hash([7; 32]) };
            let signed = self.signer.lock().unwrap().votes(2, &[request]);
            // Heard from another voter before: it has signed already.
            let Ok(votes) = signed else { continue };
            let vote = SignedVote { epoch, height, header: other, vote: votes[0] };
            let bus = self.bus.lock().unwrap().as_ref().and_then(Weak::upgrade);
            if let Some(bus) = bus {
                bus.publish(Topic::Votes, encode_votes(&[vote]));
            }
        }
    }
}

/// Its links, as the member whose keys they are.
async fn link(cluster: &Cluster, faulty: Arc<Faulty>) -> Arc<Mesh> {
    let voters = &cluster.genesis.voters;
    let peer = |n: u16| {
        let link = voters[usize::from(n)].link.clone().unwrap();
        Peer { number: n, key: link.key, address: link.address }
    };
    let config = MeshConfig {
        chain: cluster.genesis.chain_id().0.0,
        me: 2,
        key: cluster.members[2].link.clone(),
        listen: peer(2).address,
        peers: vec![peer(0), peer(1)],
        limits: Limits::default(),
    };
    let mesh = Mesh::start(config, faulty.clone()).await.unwrap();
    *faulty.bus.lock().unwrap() = Some(Arc::downgrade(&mesh));
    mesh
}

fn status_of_2(cluster: &Cluster, at: usize) -> MemberStatus {
    cluster.client(at).cluster().unwrap().nodes[2].status
}

fn wait_for(cluster: &mut Cluster, at: usize, wanted: MemberStatus) {
    let give_up_at = Instant::now() + Duration::from_secs(20);
    while status_of_2(cluster, at) != wanted {
        assert!(Instant::now() < give_up_at, "{:?}", cluster.client(at).cluster());
        cluster.tend();
        let _ = cluster.try_pay(at, 0, 1, 1);
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_member_with_other_results_is_doubted_and_the_others_go_on() {
    let mut cluster = Cluster::new(3, 0, 4);
    // Its silence alone is no reason here.
    cluster.options.eject_after = Duration::from_secs(3_600);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let signer = Mutex::new(cluster.signer(2));
    let faulty = Arc::new(Faulty { signer, bus: Mutex::default() });
    let mesh = runtime.block_on(link(&cluster, faulty.clone()));
    (0..2).for_each(|n| cluster.start(n));
    let leader = cluster.wait_leader();
    cluster.pay_rounds(leader, 10);
    wait_for(&mut cluster, leader, MemberStatus::Doubted);
    let status = cluster.client(leader).cluster().unwrap();
    assert_eq!(status.quorum, 2);
    assert!(status.nodes[2].reason.contains("another header"), "{:?}", status.nodes[2]);
    assert!(status.nodes[..2].iter().all(|node| node.status == MemberStatus::Voting));
    cluster.pay_rounds(leader, 10);
    mesh.close();
    drop((mesh, faulty));
    runtime.shutdown_timeout(Duration::from_secs(1));

    // Mended, it follows without a vote, and stays doubted until governors say otherwise.
    cluster.start(2);
    cluster.pay_rounds(leader, 20);
    cluster.assert_agree(Duration::from_secs(20));
    assert_eq!(status_of_2(&cluster, leader), MemberStatus::Doubted);
    let change = MembershipChange::Readmit { member: 2, reason: "new memory".to_owned() };
    let draft = Draft::new(cluster.genesis.chain_id(), cluster.users[0]);
    let signed = draft.operation(Operation::ChangeMembership { change }).sign(&key(0)).unwrap();
    assert_eq!(cluster.record(leader, &signed), Some(ResultCode::Ok));
    wait_for(&mut cluster, leader, MemberStatus::Voting);
    cluster.wait_voters(3);
    cluster.assert_agree(Duration::from_secs(20));
    cluster.stop_all();
    cluster.assert_audits_clean();
}
