//! The mesh among strangers, and with somebody on the wire.
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
use common::{CHAIN, Desk, Node, SECOND, key, limits, nodes, until};
use kanjo_link::mesh::{Limits, Mesh, MeshConfig, Peer};
use kanjo_link::session::PURPOSE_MESH;
use kanjo_link::wire::Item;
use kanjo_link::{BlockingChannel, Bus, BusError, Identity, LinkError, Topic};
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

type Channel = BlockingChannel<TcpStream>;

/// Dials node 0 with the key of `number`, as another program would.
async fn dial(
    to: SocketAddr,
    chain: [u8; 32],
    number: u16,
    greeting: u8,
) -> Result<Channel, LinkError> {
    let task = move || {
        let stream = TcpStream::connect(to)?;
        stream.set_read_timeout(Some(5 * SECOND))?;
        let identity = Identity { purpose: PURPOSE_MESH, chain, key: key(number) };
        BlockingChannel::dial(stream, &identity, key(0).public(), &[greeting], 5 * SECOND)
    };
    tokio::task::spawn_blocking(task).await.unwrap()
}

async fn receive(mut channel: Channel) -> (Channel, Result<Item, LinkError>) {
    let task = move || {
        let got = channel.receive().and_then(Item::parse);
        (channel, got)
    };
    tokio::task::spawn_blocking(task).await.unwrap()
}

fn send(channel: &mut Channel, item: Item) {
    let (head, body) = item.into_parts();
    channel.send([&head[..], &body].concat().into()).unwrap();
}

fn request(id: u64, topic: Topic) -> Item {
    Item::Request { id, topic: topic.number(), ttl_ms: 1_000, body: Bytes::new() }
}

async fn welcomed(to: SocketAddr, greeting: u8) -> Channel {
    let channel = dial(to, CHAIN, 1, greeting).await.unwrap();
    let (channel, first) = receive(channel).await;
    assert_eq!(first.unwrap(), Item::Welcome);
    channel
}

/// Node 0, whose only member is 1, which is nowhere.
async fn alone(limits: Limits) -> Node {
    let nowhere = Peer { number: 1, key: key(1).public(), address: "127.0.0.1:1".to_owned() };
    Node::start_at(0, "127.0.0.1:0", limits, vec![nowhere]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_and_other_ledgers_are_turned_away() {
    let node = alone(limits()).await;
    let channel = dial(node.mesh.address(), CHAIN, 5, 0).await.unwrap();
    assert!(receive(channel).await.1.is_err(), "no welcome for a stranger");
    until(|| node.mesh.counters().unknown_keys == 1).await;

    assert!(dial(node.mesh.address(), [8; 32], 1, 0).await.is_err());
    until(|| node.mesh.counters().failed_handshakes == 1).await;

    let channel = dial(node.mesh.address(), CHAIN, 1, 3).await.unwrap();
    assert!(receive(channel).await.1.is_err(), "no such class");
    until(|| node.mesh.counters().failed_handshakes == 2).await;
    assert_eq!(node.mesh.counters().accepted, 0);
    welcomed(node.mesh.address(), 0).await;
    assert_eq!(node.mesh.counters().accepted, 1);
    assert!(node.desk.asked.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_ledgers_with_the_same_keys_never_connect() {
    let one = Node::start(0, limits()).await;
    let desk = Arc::new(Desk::default());
    let config = MeshConfig {
        chain: [8; 32],
        me: 1,
        key: key(1),
        listen: "127.0.0.1:0".to_owned(),
        peers: vec![one.peer()],
        limits: limits(),
    };
    let other = Mesh::start(config, desk).await.unwrap();
    let address = other.address().to_string();
    one.mesh.set_peers(vec![Peer { number: 1, key: key(1).public(), address }]);
    until(|| one.mesh.counters().failed_handshakes > 2 && other.counters().failed_handshakes > 2)
        .await;
    assert_eq!((one.mesh.counters().accepted, one.mesh.counters().dialled), (0, 0));
    assert!(matches!(one.call(1, Topic::Elect, "").await, Err(BusError::Unreachable { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_handshake_is_dropped_and_too_many_are_refused() {
    let limits = Limits { handshake: Duration::from_millis(400), handshakes_max: 2, ..limits() };
    let node = alone(limits).await;
    let to = node.mesh.address();
    let began = Instant::now();
    let drip = move || {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        // A valid first message, one byte at a time, for longer than is allowed.
        for byte in [32u8, 0].into_iter().chain(std::iter::repeat(9)) {
            if std::io::Write::write_all(&mut stream, &[byte]).is_err() {
                break;
            }
            if let Ok(0) = stream.read(&mut [0; 64]) {
                break;
            }
            assert!(began.elapsed() < 10 * SECOND);
        }
        began.elapsed()
    };
    let drips = [tokio::task::spawn_blocking(drip), tokio::task::spawn_blocking(drip)];
    tokio::time::sleep(Duration::from_millis(100)).await;
    let third = tokio::task::spawn_blocking(move || {
        TcpStream::connect(to).and_then(|mut stream| stream.read(&mut [0; 8])).unwrap_or(0)
    });
    assert_eq!(third.await.unwrap(), 0, "closed at once");
    assert_eq!(node.mesh.counters().turned_away, 1);
    for drip in drips {
        assert!(drip.await.unwrap() >= Duration::from_millis(390));
    }
    until(|| node.mesh.counters().slow_handshakes == 2).await;
    welcomed(to, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_instead_of_a_handshake_is_dropped() {
    let node = alone(limits()).await;
    let texts: [&[u8]; 3] = [b"GET / HTTP/1.1\r\n\r\n", &[0xff; 400], &[0, 0, 0]];
    for (before, text) in (0u64..).zip(texts) {
        let mut stream = tokio::net::TcpStream::connect(node.mesh.address()).await.unwrap();
        stream.write_all(text).await.unwrap();
        // Either an orderly end or a reset, as there is unread input.
        assert_eq!(stream.read(&mut [0; 64]).await.unwrap_or(0), 0);
        until(|| node.mesh.counters().failed_handshakes == before + 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_has_one_connection_for_each_class() {
    let node = alone(limits()).await;
    let to = node.mesh.address();
    let (control, bulk) = (welcomed(to, 0).await, welcomed(to, 2).await);
    let again = welcomed(to, 0).await;
    assert!(receive(control).await.1.is_err(), "the newer one takes its place");
    assert_eq!(node.mesh.counters().replaced, 1);
    for mut channel in [again, bulk] {
        send(&mut channel, Item::Ping(4));
        assert_eq!(receive(channel).await.1.unwrap(), Item::Pong(4));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_breaks_the_rules_loses_its_connection() {
    let node = alone(limits()).await;
    let to = node.mesh.address();
    // A topic of another class, and one of a later version, are refused; the link stays.
    let mut channel = welcomed(to, 0).await;
    let later = Item::Request { id: 2, topic: 200, ttl_ms: 9, body: Bytes::new() };
    send(&mut channel, request(1, Topic::Fetch));
    send(&mut channel, later);
    send(&mut channel, Item::Message { topic: 200, body: Bytes::new() });
    send(&mut channel, request(3, Topic::Elect));
    let (channel, first) = receive(channel).await;
    assert_eq!(first.unwrap(), Item::refusal(1, "unknown topic".into()));
    let (channel, second) = receive(channel).await;
    assert_eq!(second.unwrap(), Item::refusal(2, "unknown topic".into()));
    let (mut channel, third) = receive(channel).await;
    assert_eq!(third.unwrap(), Item::Answer { id: 3, body: Bytes::new() });
    // What only the answering side says ends it.
    send(&mut channel, Item::Pong(1));
    assert!(receive(channel).await.1.is_err());
    until(|| node.mesh.counters().broken == 1).await;
    // So does a message that is longer than its class allows, after its first record.
    let mut channel = welcomed(to, 0).await;
    let body = Bytes::from(vec![0; 5 << 20]);
    let (head, body) = Item::Message { topic: 0, body }.into_parts();
    let sent = tokio::task::spawn_blocking(move || {
        let sent = channel.send([&head[..], &body].concat().into());
        (channel, sent)
    });
    let (channel, _) = sent.await.unwrap();
    assert!(receive(channel).await.1.is_err());
    until(|| node.mesh.counters().broken == 2).await;
    assert!(node.desk.heard.lock().is_empty());
}

/// Forwards to `to`; flips one bit of what is sent there while told to.
async fn proxy(to: SocketAddr, flip: Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = tokio::net::TcpStream::connect(to).await else { continue };
            let flip = Arc::clone(&flip);
            let ((mut near_from, mut near_to), (mut far_from, mut far_to)) =
                (near.into_split(), far.into_split());
            tokio::spawn(async move { tokio::io::copy(&mut far_from, &mut near_to).await });
            tokio::spawn(async move {
                let mut piece = vec![0; 4_096];
                while let Ok(count @ 1..) = near_from.read(&mut piece).await {
                    if count > 1_000 && flip.swap(false, Ordering::SeqCst) {
                        piece[700] ^= 4;
                    }
                    if far_to.write_all(&piece[..count]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_closes_the_connection_and_nothing_of_it_is_handled() {
    let nodes = nodes(2, limits()).await;
    let flip = Arc::new(AtomicBool::new(false));
    let address = proxy(nodes[1].mesh.address(), Arc::clone(&flip)).await.to_string();
    nodes[0].mesh.set_peers(vec![Peer { address, ..nodes[1].peer() }]);
    until(|| nodes[0].connected(1)).await;
    assert_eq!(nodes[0].call(1, Topic::Append, vec![1; 3_000]).await.unwrap().len(), 3_000);
    let asked = nodes[1].desk.asked.lock().len();

    flip.store(true, Ordering::SeqCst);
    let answer = nodes[0].call(1, Topic::Append, vec![1; 3_000]).await;
    assert!(matches!(answer, Err(BusError::Unreachable { .. })), "{answer:?}");
    assert!(!flip.load(Ordering::SeqCst), "a bit was flipped");
    assert_eq!(nodes[1].mesh.counters().broken, 1);
    assert_eq!(nodes[1].desk.asked.lock().len(), asked);

    until(|| nodes[0].connected(1)).await;
    assert_eq!(nodes[0].call(1, Topic::Append, vec![1; 3_000]).await.unwrap().len(), 3_000);
    nodes[0].mesh.publish(Topic::Votes, Bytes::from_static(b"on"));
    until(|| nodes[1].desk.heard.lock().len() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_member_is_given_up() {
    let nodes = nodes(1, limits()).await;
    // A member that shakes hands and then neither reads nor says anything.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming().flatten() {
            let identity = Identity { purpose: PURPOSE_MESH, chain: CHAIN, key: key(1) };
            let known = vec![key(4).public()];
            let Ok(mut channel) = BlockingChannel::answer(stream, &identity, known, SECOND) else {
                continue;
            };
            send(&mut channel, Item::Welcome);
            held.push(channel);
        }
    });
    drop(nodes);
    let short = Limits { silence: Duration::from_millis(300), ..limits() };
    let silent = Peer { number: 1, key: key(1).public(), address };
    let node = Node::start_at(4, "127.0.0.1:0", short, vec![silent]).await;
    until(|| node.connected(1)).await;
    let answer = node.call(1, Topic::Elect, "").await;
    assert!(matches!(answer, Err(BusError::Unreachable { .. })), "{answer:?}");
}
