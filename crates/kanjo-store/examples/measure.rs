//! What the store costs here: `cargo run --release -p kanjo-store --example measure -- <dir>`.
//! Appends groups to a log on the real disk, reads them back, and indexes two million ids.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::float_arithmetic)]

use kanjo_store::BlockRef;
use kanjo_store::disk::RealDisk;
use kanjo_store::faults::SeededRng;
use kanjo_store::index::{Index, IndexEntry};
use kanjo_store::log::{BlockLog, LogOptions};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

const GROUPS: u64 = 400;
const GROUP_BYTES: usize = 256 * 1_024;
const IDS: u64 = 2_000_000;
const BATCH: u64 = 10_000;

/// CPU seconds of this process, all threads, from `/proc`.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn measure_log(dir: &Path) {
    let options = LogOptions::default();
    let (mut log, _) = BlockLog::open(Arc::new(RealDisk), dir, [1; 32], options).unwrap();
    log.prepare_next().unwrap();
    let mut rng = SeededRng::new(1);
    let bytes: Vec<u8> = (0..GROUP_BYTES).map(|_| rng.next_u64() as u8).collect();
    let mut micros = Vec::new();
    let (wall, cpu) = (Instant::now(), cpu_s());
    for height in 0..GROUPS {
        log.prepare_next().unwrap();
        let start = Instant::now();
        log.append(&[BlockRef { height, header_hash: [2; 32], bytes: &bytes }]).unwrap();
        micros.push(start.elapsed().as_micros());
    }
    let (wall, cpu) = (wall.elapsed().as_secs_f64(), cpu_s() - cpu);
    micros.sort_unstable();
    let at = |per_mille: usize| micros[micros.len() * per_mille / 1_000];
    println!(
        "log: {GROUPS} groups of {} KiB: p50 {} us, p99 {} us; {:.0} us CPU a group; {wall:.1} s",
        GROUP_BYTES >> 10,
        at(500),
        at(990),
        cpu / GROUPS as f64 * 1e6,
    );
    let (start, cpu) = (Instant::now(), cpu_s());
    assert_eq!(log.iter_from(0).map(Result::unwrap).count() as u64, GROUPS);
    let mebibytes = ((GROUPS as usize * GROUP_BYTES) >> 20) as f64;
    let (wall, cpu) = (start.elapsed().as_secs_f64(), cpu_s() - cpu);
    println!("log: read back {:.0} MiB/s, {cpu:.2} s CPU", mebibytes / wall);
    drop(log);
    let start = Instant::now();
    let (_, report) = BlockLog::open(Arc::new(RealDisk), dir, [1; 32], options).unwrap();
    println!("log: reopened in {:?}, {} segments", start.elapsed(), report.segments);
}

fn measure_index(dir: &Path) {
    let index = Index::open(dir).unwrap();
    let mut rng = SeededRng::new(2);
    let (wall, cpu) = (Instant::now(), cpu_s());
    for height in 0..IDS / BATCH {
        let entries: Vec<IndexEntry> = (0..BATCH as u32)
            .map(|position| {
                let mut id = [0; 32];
                id.chunks_mut(8).for_each(|c| c.copy_from_slice(&rng.next_u64().to_le_bytes()));
                IndexEntry::Transaction { id, position }
            })
            .collect();
        index.record(height, &entries).unwrap();
    }
    index.flush().unwrap();
    let wall = wall.elapsed().as_secs_f64();
    // Background merges end before the CPU is read.
    std::thread::sleep(std::time::Duration::from_secs(3));
    let cpu = cpu_s() - cpu;
    println!(
        "index: {:.2} us CPU, {:.2} us wall an id",
        cpu / IDS as f64 * 1e6,
        wall / IDS as f64 * 1e6
    );
}

fn main() {
    let dir = std::env::args().nth(1).expect("a directory to measure in");
    let dir = Path::new(&dir);
    measure_log(&dir.join("log"));
    measure_index(&dir.join("index"));
}
