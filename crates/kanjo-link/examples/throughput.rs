//! Prints how fast links over loopback are:
//! `cargo run --release -p kanjo-link --example throughput [SIZE]`. With a size: 4 GiB of requests
//! of that size and nothing else, to measure the processor's time from outside.
//!
//! Both sides share this machine's processors, so a real network's ends do better than half of it.

use bytes::Bytes;
use kanjo_link::mesh::{Limits, Mesh, MeshConfig, Peer};
use kanjo_link::{BoxFuture, Bus, BusError, Handler, LinkKey, Topic};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const TTL: Duration = Duration::from_secs(20);

/// Answers with as many bytes as it got on Elect, and with none otherwise.
#[derive(Default)]
struct Desk {
    heard: AtomicU64,
}

impl Handler for Desk {
    fn call(
        &self,
        _from: u16,
        topic: Topic,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, String>> {
        Box::pin(async move { Ok(if topic == Topic::Elect { body } else { Bytes::new() }) })
    }

    fn message(&self, _from: u16, _topic: Topic, _body: Bytes) {
        self.heard.fetch_add(1, Ordering::Relaxed);
    }
}

async fn start(me: u16, key: LinkKey) -> Result<(Arc<Mesh>, Arc<Desk>), Box<dyn Error>> {
    let desk = Arc::new(Desk::default());
    let config = MeshConfig {
        chain: [1; 32],
        me,
        key,
        listen: "127.0.0.1:0".to_owned(),
        peers: Vec::new(),
        limits: Limits::default(),
    };
    Ok((Mesh::start(config, Arc::clone(&desk) as Arc<dyn Handler>).await?, desk))
}

async fn round_trips(mesh: &Mesh, count: usize) -> Result<Vec<Duration>, BusError> {
    let mut took = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        mesh.call(1, Topic::Elect, Bytes::from_static(&[0; 100]), TTL).await?;
        took.push(began.elapsed());
    }
    took.sort();
    Ok(took)
}

fn print_round_trips(what: &str, took: &[Duration]) {
    let at = |part: usize| took.get(took.len() * part / 1_000).map_or(0, Duration::as_micros);
    println!("{what}: p50 {} µs, p99 {} µs, p99.9 {} µs", at(500), at(990), at(999));
}

async fn throughput(mesh: &Mesh, size: usize, total: usize) -> Result<(), BusError> {
    let body = Bytes::from(vec![7u8; size]);
    let began = Instant::now();
    // Four under way, as with a pipelined log.
    let calls = total / size / 4;
    let one = || async {
        for _ in 0..calls {
            mesh.call(1, Topic::Append, body.clone(), TTL).await?;
        }
        Ok::<(), BusError>(())
    };
    tokio::try_join!(one(), one(), one(), one())?;
    let sent = calls * 4 * size;
    let rate = sent as u128 * 1_000 / began.elapsed().as_micros().max(1);
    println!("requests of {size} B, four under way: {}.{:03} MB/s", rate / 1_000, rate % 1_000);
    Ok(())
}

async fn messages(mesh: &Mesh, desk: &Desk, count: u64) {
    let began = Instant::now();
    let (mut sent, before) = (0, desk.heard.load(Ordering::Relaxed));
    while sent < count {
        let heard = desk.heard.load(Ordering::Relaxed) - before;
        if sent - heard < 2_000 {
            mesh.send(1, Topic::Votes, Bytes::from_static(&[0; 150]));
            sent += 1;
        } else {
            tokio::task::yield_now().await;
        }
    }
    while desk.heard.load(Ordering::Relaxed) - before < count {
        tokio::task::yield_now().await;
    }
    let rate = u128::from(count) * 1_000_000 / began.elapsed().as_micros().max(1);
    println!("messages of 150 B: {rate}/s");
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    let keys = [LinkKey::generate()?, LinkKey::generate()?];
    let [first, second] = keys;
    let peers = [first.public(), second.public()];
    let (near, _) = start(0, first).await?;
    let (far, desk) = start(1, second).await?;
    let listed = (0u16..).zip(peers).zip([&near, &far]).map(|((number, key), mesh)| Peer {
        number,
        key,
        address: mesh.address().to_string(),
    });
    let listed: Vec<_> = listed.collect();
    near.set_peers(listed.clone());
    far.set_peers(listed);
    while !near.peers().iter().all(|peer| peer.connected == [true; 3]) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    if let Some(size) = std::env::args().nth(1) {
        return Ok(throughput(&near, size.parse()?, 4 << 30).await?);
    }
    print_round_trips("calls of 100 B, idle", &round_trips(&near, 20_000).await?);
    for (size, total) in
        [(1_000, 50 << 20), (100_000, 1 << 30), (1 << 20, 1 << 30), (8 << 20, 1 << 30)]
    {
        throughput(&near, size, total).await?;
    }
    messages(&near, &desk, 500_000).await;
    let stop = Arc::new(AtomicBool::new(false));
    let bulk = {
        let (near, stop) = (Arc::clone(&near), Arc::clone(&stop));
        tokio::spawn(async move {
            let body = Bytes::from(vec![7u8; 16 << 20]);
            while !stop.load(Ordering::Relaxed) {
                near.call(1, Topic::Snapshot, body.clone(), TTL).await?;
            }
            Ok::<(), BusError>(())
        })
    };
    print_round_trips("calls of 100 B, bulk alongside", &round_trips(&near, 5_000).await?);
    stop.store(true, Ordering::Relaxed);
    bulk.await??;
    let measured = near.peers().first().and_then(|peer| peer.round_trip_us);
    println!("round trip by pings: {} µs", measured.unwrap_or_default());
    Ok(())
}
