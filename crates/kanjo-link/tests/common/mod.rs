//! Meshes on loopback and a handler whose behaviour depends on the topic.
#![allow(dead_code, missing_docs)]

use bytes::Bytes;
use kanjo_link::mesh::{Limits, Mesh, MeshConfig, Peer};
use kanjo_link::{BoxFuture, Bus, BusError, Handler, LinkKey, Topic};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub const CHAIN: [u8; 32] = [7; 32];
pub const SECOND: Duration = Duration::from_secs(1);

pub fn key(number: u16) -> LinkKey {
    LinkKey::from_private(&[number as u8 + 1; 32]).unwrap()
}

pub fn limits() -> Limits {
    Limits { ping_every: Duration::from_millis(50), ..Limits::default() }
}

/// Echoes on Elect, Append, Fetch; refuses on Final; sleeps for ever on Transfer.
#[derive(Default)]
pub struct Desk {
    pub heard: Mutex<Vec<(u16, Topic, Bytes)>>,
    pub asked: Mutex<Vec<u16>>,
    pub asleep: Arc<AtomicUsize>,
}

struct Asleep(Arc<AtomicUsize>);

impl Drop for Asleep {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Handler for Desk {
    fn call(
        &self,
        from: u16,
        topic: Topic,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, String>> {
        self.asked.lock().push(from);
        if topic == Topic::Transfer {
            self.asleep.fetch_add(1, Ordering::SeqCst);
            let asleep = Asleep(Arc::clone(&self.asleep));
            return Box::pin(async move {
                let _asleep = asleep;
                std::future::pending().await
            });
        }
        Box::pin(async move {
            match topic {
                Topic::Final => Err("not here".to_owned()),
                // The longer, the sooner: answers overtake each other.
                Topic::Votes => {
                    let pause = 60u64.saturating_sub(body.len() as u64);
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                    Ok(body)
                }
                _ => Ok(body),
            }
        })
    }

    fn message(&self, from: u16, topic: Topic, body: Bytes) {
        self.heard.lock().push((from, topic, body));
    }
}

pub struct Node {
    pub number: u16,
    pub mesh: Arc<Mesh>,
    pub desk: Arc<Desk>,
}

impl Node {
    pub async fn start(number: u16, limits: Limits) -> Self {
        Self::start_at(number, "127.0.0.1:0", limits, Vec::new()).await
    }

    pub async fn start_at(number: u16, listen: &str, limits: Limits, peers: Vec<Peer>) -> Self {
        let desk = Arc::new(Desk::default());
        let listen = listen.to_owned();
        let config =
            MeshConfig { chain: CHAIN, me: number, key: key(number), listen, peers, limits };
        let began = Instant::now();
        loop {
            // Another test's outgoing connection may have this port for a moment.
            match Mesh::start(config.clone(), Arc::clone(&desk) as Arc<dyn Handler>).await {
                Ok(mesh) => return Self { number, mesh, desk },
                Err(error) => assert!(began.elapsed() < 20 * SECOND, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn peer(&self) -> Peer {
        let address = format!("localhost:{}", self.mesh.address().port());
        Peer { number: self.number, key: key(self.number).public(), address }
    }

    pub async fn call(
        &self,
        to: u16,
        topic: Topic,
        body: impl Into<Bytes>,
    ) -> Result<Bytes, BusError> {
        self.mesh.call(to, topic, body.into(), 10 * SECOND).await
    }

    pub fn connected(&self, to: u16) -> bool {
        self.mesh.peers().iter().any(|peer| peer.peer.number == to && peer.connected == [true; 3])
    }
}

/// Nodes 0 to `count` − 1, all connected.
pub async fn nodes(count: u16, limits: Limits) -> Vec<Node> {
    let mut nodes = Vec::new();
    for number in 0..count {
        nodes.push(Node::start(number, limits.clone()).await);
    }
    let peers: Vec<Peer> = nodes.iter().map(Node::peer).collect();
    for node in &nodes {
        node.mesh.set_peers(peers.clone());
    }
    all_connected(&nodes).await;
    nodes
}

pub async fn all_connected(nodes: &[Node]) {
    for a in nodes {
        for b in nodes.iter().filter(|b| b.number != a.number) {
            until(|| a.connected(b.number)).await;
        }
    }
}

/// Waits until it holds; fails after a long time.
pub async fn until(holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < 20 * SECOND, "it never held");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
