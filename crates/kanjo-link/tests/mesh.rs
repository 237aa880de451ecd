//! The mesh among honest members.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests"
)]

mod common;

use bytes::Bytes;
use common::{Node, SECOND, all_connected, key, limits, nodes, until};
use kanjo_link::mesh::{Class, Limits, Peer};
use kanjo_link::{Bus, BusError, Topic};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

fn unreachable(answer: &Result<Bytes, BusError>, part: &str) -> bool {
    matches!(answer, Err(BusError::Unreachable { why, .. }) if why.contains(part))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_call_each_other_and_know_who_asks() {
    let nodes = nodes(3, limits()).await;
    for a in &nodes {
        for b in nodes.iter().filter(|b| b.number != a.number) {
            for topic in [Topic::Elect, Topic::Append, Topic::Snapshot, Topic::Fetch] {
                let body = format!("{topic} from {}", a.number);
                assert_eq!(a.call(b.number, topic, body.clone()).await.unwrap(), body);
            }
        }
    }
    for node in &nodes {
        let mut asked = node.desk.asked.lock().clone();
        asked.sort_unstable();
        let expected = (0..3u16).filter(|other| *other != node.number);
        assert_eq!(asked, expected.flat_map(|other| [other; 4]).collect::<Vec<_>>());
    }
    let refused = nodes[0].call(1, Topic::Final, "x").await;
    assert_eq!(refused, Err(BusError::Refused("not here".into())));
    assert_eq!(nodes[0].call(1, Topic::Elect, "").await.unwrap(), "");
    assert!(unreachable(&nodes[0].call(0, Topic::Elect, "me").await, "not a member"));
    assert!(unreachable(&nodes[0].call(9, Topic::Elect, "who").await, "not a member"));
    let counted = nodes[0].mesh.counters();
    assert_eq!((counted.refused, counted.unreachable, counted.broken), (1, 2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_come_in_any_order() {
    let nodes = nodes(2, limits()).await;
    let began = Instant::now();
    let calls = (0..60).map(|length| {
        let call = nodes[0].mesh.call(1, Topic::Votes, vec![7u8; length].into(), 10 * SECOND);
        tokio::spawn(async move { (length, call.await, Instant::now()) })
    });
    let calls: Vec<_> = calls.collect();
    let mut ended = Vec::new();
    for call in calls {
        let (length, answer, at) = call.await.unwrap();
        assert_eq!(answer.unwrap().len(), length);
        ended.push(at);
    }
    assert!(ended[0] > ended[59], "the first call pauses longest");
    assert!(began.elapsed() < SECOND, "one after the other they would take 1.8 s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_reaches_one_and_a_publication_all_others() {
    let nodes = nodes(3, limits()).await;
    nodes[0].mesh.send(2, Topic::Notices, Bytes::from_static(b"for two"));
    nodes[1].mesh.publish(Topic::Votes, Bytes::from_static(b"for all"));
    until(|| nodes[2].desk.heard.lock().len() == 2 && nodes[0].desk.heard.lock().len() == 1).await;
    let mut heard = nodes[2].desk.heard.lock().clone();
    heard.sort_by_key(|(from, ..)| *from);
    assert_eq!(heard[0], (0, Topic::Notices, Bytes::from_static(b"for two")));
    assert_eq!(heard[1], (1, Topic::Votes, Bytes::from_static(b"for all")));
    assert!(nodes[1].desk.heard.lock().is_empty());
    nodes[0].mesh.send(9, Topic::Votes, Bytes::from_static(b"nobody"));
    let counted = nodes[0].mesh.counters();
    let votes = counted.topics.iter().find(|of| of.topic == Topic::Votes).unwrap();
    assert_eq!((votes.dropped, votes.received, votes.sent), (1, 1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_32_mib_arrive_both_ways() {
    let nodes = nodes(2, limits()).await;
    let body: Vec<u8> = (0..32u32 << 20).map(|at| (at ^ (at >> 11)) as u8).collect();
    let body = Bytes::from(body);
    let (there, back) = tokio::join!(
        nodes[0].call(1, Topic::Snapshot, body.clone()),
        nodes[1].call(0, Topic::Append, body.clone())
    );
    assert!(there.unwrap() == body && back.unwrap() == body);
    let too_large = Bytes::from(vec![0; Class::Control.body_max() + 1]);
    assert_eq!(nodes[0].call(1, Topic::Votes, too_large).await, Err(BusError::TooLarge));
    let just = Bytes::from(vec![0; Class::Control.body_max()]);
    assert_eq!(nodes[0].call(1, Topic::Elect, just.clone()).await.unwrap(), just);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_ends_with_its_time_to_live_on_both_sides() {
    let nodes = nodes(2, limits()).await;
    let began = Instant::now();
    let ttl = Duration::from_millis(200);
    let call = nodes[0].mesh.call(1, Topic::Transfer, Bytes::new(), ttl);
    let call = tokio::spawn(call);
    until(|| nodes[1].desk.asleep.load(Ordering::SeqCst) == 1).await;
    assert_eq!(call.await.unwrap(), Err(BusError::Timeout));
    assert!(began.elapsed() >= ttl && began.elapsed() < 5 * SECOND);
    until(|| nodes[1].desk.asleep.load(Ordering::SeqCst) == 0).await;
    assert_eq!(nodes[0].mesh.counters().timeouts, 1);
    assert_eq!(nodes[0].call(1, Topic::Elect, "still").await.unwrap(), "still");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_under_way_are_limited_on_both_sides() {
    let limited = |calls_max| Limits { calls_max, ..limits() };
    let nodes = [
        Node::start(0, limited(3)).await,
        Node::start(1, limits()).await,
        Node::start(2, limited(1)).await,
    ];
    let peers: Vec<Peer> = nodes.iter().map(Node::peer).collect();
    nodes.iter().for_each(|node| node.mesh.set_peers(peers.clone()));
    all_connected(&nodes).await;
    let sleep = |to| nodes[0].mesh.call(to, Topic::Transfer, Bytes::new(), 10 * SECOND);
    // The one who asks: three and no more, until one is given up.
    let mut held = vec![sleep(1), sleep(1), sleep(1)];
    assert!(unreachable(&sleep(1).await, "too many"));
    held.pop();
    assert_eq!(nodes[0].call(1, Topic::Elect, "x").await.unwrap(), "x");
    // The one who is asked: one and no more.
    held.push(sleep(2));
    until(|| nodes[2].desk.asleep.load(Ordering::SeqCst) == 1).await;
    assert!(matches!(sleep(2).await, Err(BusError::Refused(why)) if why.contains("too many")));
    assert_eq!(nodes[2].mesh.counters().busy, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_drops_messages_and_counts_them() {
    let few = Limits { queue_items: 4, ..limits() };
    let nodes = nodes(2, few).await;
    for _ in 0..200_000 {
        nodes[0].mesh.send(1, Topic::Measures, Bytes::from_static(b"m"));
    }
    let counted = nodes[0].mesh.counters();
    let of = *counted.topics.iter().find(|of| of.topic == Topic::Measures).unwrap();
    assert!(of.dropped > 0 && of.sent > 0 && of.dropped + of.sent == 200_000, "{of:?}");
    until(|| nodes[1].desk.heard.lock().len() as u64 == of.sent).await;
    // Bytes count too, but what is larger than the bound still goes through alone.
    let small = Limits { queue_bytes: 1_000, ..limits() };
    nodes[0].mesh.close();
    let other = Node::start_at(0, "127.0.0.1:0", small, vec![nodes[1].peer()]).await;
    until(|| other.connected(1)).await;
    assert_eq!(other.call(1, Topic::Fetch, vec![1; 50_000]).await.unwrap().len(), 50_000);
    for _ in 0..2_000 {
        other.mesh.send(1, Topic::Fetch, Bytes::from(vec![1; 900]));
    }
    let counted = other.mesh.counters();
    assert!(counted.topics.iter().any(|of| of.topic == Topic::Fetch && of.dropped > 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_restarts_is_reached_again() {
    let mut nodes = nodes(3, limits()).await;
    let gone = nodes.remove(1);
    let (address, peers) =
        (gone.mesh.address().to_string(), vec![nodes[0].peer(), nodes[1].peer()]);
    let waiting = tokio::spawn(nodes[0].mesh.call(1, Topic::Transfer, Bytes::new(), 60 * SECOND));
    until(|| gone.desk.asleep.load(Ordering::SeqCst) == 1).await;
    gone.mesh.shut_down().await;
    assert!(unreachable(&waiting.await.unwrap(), "broke during the call"));
    assert_eq!(gone.call(0, Topic::Elect, "x").await, Err(BusError::Closed));
    until(|| !nodes[0].connected(1)).await;
    let began = Instant::now();
    assert!(matches!(nodes[0].call(1, Topic::Elect, "x").await, Err(BusError::Unreachable { .. })));
    assert!(began.elapsed() < SECOND, "a call without a connection fails at once");
    assert_eq!(nodes[0].call(2, Topic::Elect, "x").await.unwrap(), "x", "the others go on");

    let back = Node::start_at(1, &address, limits(), peers).await;
    until(|| nodes[0].connected(1) && nodes[1].connected(1) && back.connected(0)).await;
    assert_eq!(nodes[0].call(1, Topic::Elect, "again").await.unwrap(), "again");
    assert_eq!(back.call(2, Topic::Append, "again").await.unwrap(), "again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_replaced_at_run_time() {
    let nodes = nodes(3, limits()).await;
    let peers: Vec<Peer> = nodes.iter().map(Node::peer).collect();
    let before = nodes[0].mesh.counters().dialled;
    nodes[0].mesh.set_peers(peers.clone());
    assert!(nodes[0].connected(1) && nodes[0].connected(2), "the same members: nothing ends");

    nodes[0].mesh.set_peers(peers[..2].to_vec());
    assert!(unreachable(&nodes[0].call(2, Topic::Elect, "x").await, "not a member"));
    until(|| !nodes[2].mesh.peers()[0].connected.contains(&true)).await;
    assert_eq!(nodes[0].call(1, Topic::Elect, "x").await.unwrap(), "x");
    assert_eq!(nodes[0].mesh.counters().dialled, before, "the other links went on");
    until(|| nodes[0].mesh.counters().unknown_keys > 0).await;

    nodes[0].mesh.set_peers(peers.clone());
    all_connected(&nodes).await;
    assert_eq!(nodes[2].call(0, Topic::Elect, "x").await.unwrap(), "x");

    // Member 1 has another key now: neither direction works, until the right one is back.
    let mut other = peers.clone();
    other[1].key = key(77).public();
    nodes[0].mesh.set_peers(other);
    until(|| !nodes[0].connected(1) && !nodes[1].connected(0)).await;
    until(|| nodes[0].mesh.peers()[0].why.as_ref().is_some_and(|why| why.contains("not expected")))
        .await;
    nodes[0].mesh.set_peers(peers.clone());
    all_connected(&nodes).await;

    // One key, two numbers: the lower one has it.
    let mut twice = peers;
    twice.push(Peer { number: 7, ..twice[1].clone() });
    twice.push(Peer { number: 8, key: [0; 32], ..twice[1].clone() });
    nodes[0].mesh.set_peers(twice);
    assert_eq!(nodes[0].mesh.peers().iter().map(|p| p.peer.number).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn round_trips_and_bytes_are_measured() {
    let nodes = nodes(2, limits()).await;
    until(|| nodes[0].mesh.peers()[0].round_trip_us.is_some()).await;
    let before = nodes[0].mesh.peers()[0].clone();
    assert!(before.why.is_none() && before.round_trip_us.unwrap() < 5_000_000);
    nodes[0].call(1, Topic::Fetch, vec![1; 100_000]).await.unwrap();
    let after = nodes[0].mesh.peers()[0].clone();
    assert!(after.bytes_out >= before.bytes_out + 100_000);
    assert!(after.bytes_in >= before.bytes_in + 100_000);
    let silent = Limits { silence: Duration::from_millis(400), ..limits() };
    let third = Node::start_at(3, "127.0.0.1:0", silent, vec![nodes[0].peer()]).await;
    nodes[0].mesh.set_peers(vec![nodes[1].peer(), third.peer()]);
    until(|| third.connected(0)).await;
    let dialled = third.mesh.counters().dialled;
    tokio::time::sleep(SECOND).await;
    assert_eq!(third.mesh.counters().dialled, dialled, "pings keep an idle link alive");
}
