//! The network between nodes: every link goes through a listener here, one for each ordered pair.
//!
//! ```text
//!   node a ── dials ──▶ listener (a,b) ── dials ──▶ node b
//!              flow a→b: requests of a, answers of a to what b asked
//!              flow b→a: the other direction, on the same connections
//! ```
//! A fault belongs to a flow, so that a network can fail one way. Bytes are never lost while a
//! connection stays open, as with TCP: they stall, and come later.

use crate::Trouble;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Bytes that are passed on at once.
const PIECE_BYTES: usize = 64 << 10;

/// How a flow is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Weather {
    /// Nothing is passed on; connections stay open.
    stalls: bool,
    /// Each piece waits for so long.
    delay: Duration,
    /// New connections are closed at once.
    refuses: bool,
    /// Connections end when this changes.
    resets: u64,
}

/// One direction between two nodes.
struct Flow {
    weather: watch::Sender<Weather>,
    /// One bit of the next piece is flipped.
    corrupts: AtomicBool,
}

impl Flow {
    fn new() -> Arc<Self> {
        let weather = watch::Sender::new(Weather::default());
        Arc::new(Self { weather, corrupts: AtomicBool::new(false) })
    }
}

/// Nodes by their place; a flow by the places of sender and receiver.
type Flows = BTreeMap<(usize, usize), Arc<Flow>>;

/// All links of a cluster.
pub(crate) struct Network {
    flows: Flows,
    /// Where a node reaches another.
    addresses: BTreeMap<(usize, usize), SocketAddr>,
    _runtime: Runtime,
}

impl Network {
    /// Listens for every ordered pair of nodes, whose own link addresses these are.
    pub(crate) fn start(nodes: &[SocketAddr]) -> Result<Self, Trouble> {
        let fail = |error: std::io::Error| Trouble::new("the network between nodes", error);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("network")
            .enable_all()
            .build()
            .map_err(fail)?;
        let places = 0..nodes.len();
        let pairs: Vec<(usize, usize)> = places
            .clone()
            .flat_map(|from| places.clone().map(move |to| (from, to)))
            .filter(|(from, to)| from != to)
            .collect();
        let flows: Flows = pairs.iter().map(|pair| (*pair, Flow::new())).collect();
        let mut addresses = BTreeMap::new();
        for (from, to) in pairs {
            let Some(target) = nodes.get(to).copied() else { continue };
            let (Some(there), Some(back)) = (flows.get(&(from, to)), flows.get(&(to, from))) else {
                continue;
            };
            let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).map_err(fail)?;
            addresses.insert((from, to), listener.local_addr().map_err(fail)?);
            runtime.spawn(serve(listener, target, there.clone(), back.clone()));
        }
        Ok(Self { flows, addresses, _runtime: runtime })
    }

    /// Where `from` reaches `to`.
    pub(crate) fn address(&self, from: usize, to: usize) -> Option<SocketAddr> {
        self.addresses.get(&(from, to)).copied()
    }

    fn change(&self, from: usize, to: usize, change: impl FnOnce(&mut Weather)) {
        if let Some(flow) = self.flows.get(&(from, to)) {
            flow.weather.send_modify(change);
        }
    }

    /// Connections between the two end, and new ones are closed at once.
    pub(crate) fn cut(&self, one: usize, other: usize) {
        for (from, to) in [(one, other), (other, one)] {
            self.change(from, to, |weather| {
                weather.refuses = true;
                weather.resets += 1;
            });
        }
    }

    /// What `from` sends to `to` stalls.
    pub(crate) fn stall(&self, from: usize, to: usize) {
        self.change(from, to, |weather| weather.stalls = true);
    }

    /// What `from` sends to `to` comes later.
    pub(crate) fn delay(&self, from: usize, to: usize, delay: Duration) {
        self.change(from, to, |weather| weather.delay = delay);
    }

    /// Connections between the two end; new ones are fine.
    pub(crate) fn reset(&self, one: usize, other: usize) {
        self.change(one, other, |weather| weather.resets += 1);
    }

    /// One bit of what `from` sends to `to` next is flipped.
    pub(crate) fn corrupt(&self, from: usize, to: usize) {
        if let Some(flow) = self.flows.get(&(from, to)) {
            flow.corrupts.store(true, Ordering::Release);
        }
    }

    /// All is well again.
    pub(crate) fn heal(&self) {
        for flow in self.flows.values() {
            flow.corrupts.store(false, Ordering::Release);
            flow.weather.send_modify(|weather| {
                *weather = Weather { resets: weather.resets, ..Weather::default() };
            });
        }
    }
}

async fn serve(listener: TcpListener, target: SocketAddr, there: Arc<Flow>, back: Arc<Flow>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, as a rule: others close soon.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        if there.weather.borrow().refuses {
            continue;
        }
        tokio::spawn(pass(stream, target, there.clone(), back.clone()));
    }
}

/// Passes on what comes on one connection, until one side or a fault ends it.
async fn pass(stream: TcpStream, target: SocketAddr, there: Arc<Flow>, back: Arc<Flow>) {
    let (resets_there, resets_back) = (there.weather.subscribe(), back.weather.subscribe());
    let Ok(onward) = TcpStream::connect(target).await else { return };
    let _ = (stream.set_nodelay(true), onward.set_nodelay(true));
    let (from, answers_to) = stream.into_split();
    let (answers_from, to) = onward.into_split();
    tokio::select! {
        () = pump(from, to, &there) => {}
        () = pump(answers_from, answers_to, &back) => {}
        () = reset(resets_there) => {}
        () = reset(resets_back) => {}
    }
}

async fn reset(mut weather: watch::Receiver<Weather>) {
    let at_first = weather.borrow_and_update().resets;
    // An error: the network is gone.
    let _ = weather.wait_for(|now| now.resets != at_first).await;
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, flow: &Flow) {
    let mut weather = flow.weather.subscribe();
    let mut piece = vec![0u8; PIECE_BYTES];
    loop {
        let Ok(count) = from.read(&mut piece).await else { return };
        let delay = weather.borrow_and_update().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        // Not read, not sent: the sender's own buffers fill.
        if weather.wait_for(|now| !now.stalls).await.is_err() || count == 0 {
            return;
        }
        let Some(bytes) = piece.get_mut(..count) else { return };
        if flow.corrupts.swap(false, Ordering::AcqRel)
            && let Some(byte) = bytes.get_mut(count / 2)
        {
            *byte ^= 0x10;
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    /// A node that sends back what it gets.
    fn echo() -> SocketAddr {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                std::thread::spawn(move || {
                    let mut bytes = [0u8; 64];
                    while let Ok(count @ 1..) = stream.read(&mut bytes) {
                        if stream.write_all(&bytes[..count]).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    fn ask(stream: &mut std::net::TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
        stream.write_all(text)?;
        let mut answer = vec![0u8; text.len()];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    }

    #[test]
    fn a_stall_keeps_bytes_and_a_cut_ends_connections() {
        let network = Network::start(&[echo(), echo()]).expect("a network");
        let connect = || {
            let address = network.address(0, 1).expect("an address");
            let stream = std::net::TcpStream::connect(address).expect("a connection");
            let wait = Some(Duration::from_millis(200));
            stream.set_read_timeout(wait).expect("a timeout");
            stream
        };
        let mut stream = connect();
        assert_eq!(ask(&mut stream, b"one").expect("an answer"), b"one");
        // One way: the question arrives, the answer does not.
        network.stall(1, 0);
        assert!(ask(&mut stream, b"two").is_err());
        network.heal();
        let mut late = [0u8; 3];
        stream.read_exact(&mut late).expect("what stalled comes");
        assert_eq!(&late, b"two");
        network.corrupt(0, 1);
        assert_ne!(ask(&mut stream, b"six").expect("an answer"), b"six");
        assert_eq!(ask(&mut stream, b"six").expect("an answer"), b"six");
        network.cut(0, 1);
        assert!(ask(&mut stream, b"ten").is_err());
        assert!(ask(&mut connect(), b"ten").is_err());
        network.heal();
        assert_eq!(ask(&mut connect(), b"ten").expect("an answer"), b"ten");
    }
}
