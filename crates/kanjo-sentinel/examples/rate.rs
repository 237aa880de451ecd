//! How many votes a sentinel signs in a second, with every record durable: one at a time, and 64
//! in a batch. Run with: `cargo run --release -p kanjo-sentinel --example rate -- [DIRECTORY
//! [TPM]]`
#![allow(clippy::unwrap_used, clippy::float_arithmetic)]

use kanjo_link::keys::LinkKey;
use kanjo_sentinel::attestor::tpm2;
use kanjo_sentinel::directory::{self, AttestorSettings, Settings};
use kanjo_sentinel::service::{Handle, Options, Service};
use kanjo_sentinel::{Remote, RemoteSigner, Signer, VoteRequest};
use kanjo_types::Hash;
use kanjo_types::id::ChainId;
use kanjo_types::membership::{MemberKind, NodeCertificate};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

type Running = (RemoteSigner, Handle, JoinHandle<()>);

fn start(home: &Path, tpm: Option<&String>, epoch_heights: u64) -> Running {
    let dir = home.join("sentinel");
    let attestor = match tpm.cloned() {
        None => AttestorSettings::Software { dir: "attestor".into() },
        Some(tpm) => AttestorSettings::Tpm2 {
            tpm,
            counter_index: tpm2::COUNTER_INDEX,
            registers: tpm2::REGISTERS,
        },
    };
    let settings = Settings { attestor, epoch_heights: NonZeroU64::new(epoch_heights).unwrap() };
    let made = directory::init(&dir, &settings).unwrap();
    let opened = directory::open(&dir, None).unwrap();
    let node_key = LinkKey::generate().unwrap();
    let socket = home.join("run/sentinel.sock");
    let options = Options {
        socket: socket.clone(),
        node_key: node_key.public(),
        measure_every: Duration::from_secs(60),
    };
    let service = Service::bind(options, opened.signing, opened.channel_key).unwrap();
    let handle = service.handle();
    let thread = std::thread::spawn(|| service.run().unwrap());
    let certificate = NodeCertificate {
        name: "one".to_owned(),
        kind: MemberKind::Executor,
        vote_key: made.vote_key,
        link_key: node_key.public(),
        address: "127.0.0.1:7000".to_owned(),
        api: "http://127.0.0.1:7001".to_owned(),
        attestor: None,
    };
    let signer = RemoteSigner::connect(Remote {
        socket,
        sentinel_key: made.channel_key,
        node_key,
        chain: ChainId(Hash([1; 32])),
        certificate,
        tries: 3,
        pause: Duration::from_millis(10),
        patience: Duration::from_secs(10),
    });
    (signer.unwrap(), handle, thread)
}

fn main() {
    let tpm = std::env::args().nth(2);
    let parent = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    for (epoch_heights, batch) in [(1, 1), (1, 64), (64, 1), (64, 64)] {
        let home = tempfile::tempdir_in(&parent).unwrap();
        let (mut signer, handle, thread) = start(home.path(), tpm.as_ref(), epoch_heights);
        let (mut height, mut waits) = (0u64, Vec::new());
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(3) {
            let vote = |height| VoteRequest {
                epoch: 0,
                height,
                header: Hash([2; 32]),
                challenge: Hash([3; 32]),
            };
            let requests: Vec<VoteRequest> = (height..height + batch).map(vote).collect();
            let asked = Instant::now();
            signer.votes(0, &requests).unwrap();
            waits.push(asked.elapsed());
            height += batch;
        }
        drop(signer);
        handle.stop();
        thread.join().unwrap();
        let rate = height as f64 / waits.iter().sum::<Duration>().as_secs_f64();
        waits.sort_unstable();
        let place = |per_mille: usize| waits.get(waits.len() * per_mille / 1_000).copied();
        println!(
            "durable every {epoch_heights:>2} heights, batch {batch:>2}: {rate:>9.0} votes/s; \
             a batch takes p50 {:?}, p99 {:?}",
            place(500).unwrap_or_default(),
            place(990).unwrap_or_default(),
        );
    }
}
