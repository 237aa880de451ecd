//! A whole cluster in one process, under simulated time, network, disk and randomness.
//!
//! ```text
//!             ┌───────────────── SimRuntime: one thread, virtual time, seeded ─────────────────┐
//!  clients,   │ member 0          member 1          member 2          … (crimes.rs: one of them)│
//!  gateways ─▶│  engine, finality, maker, sealer, signer, keeper, manager (member/)             │
//!             │  FaultyDisk: log, certificates, sentinel's guard                                │
//!             │      └────────────────┴── net.rs ───────┴── loss, delay, cuts                   │
//!             │ plan.rs, cluster.rs: crashes, torn writes, full disks, members come and go      │
//!             └──────────────┬─────────────────────────────────────────────────────────────────┘
//!                            ▼
//!               observer.rs: what must hold, after every final height
//! ```
//! Engine, log, ledger, ballots, guard and proofs are the real ones. The node's threads are tasks
//! here ([`member`]), with the same rules.
//!
//! # Invariants
//! - A seed replays a run exactly: the hash over all events is the same each time.
//! - Nothing here uses the machine's clock, its randomness, its disk or a thread.
#![forbid(unsafe_code)]

pub mod clients;
pub mod cluster;
pub mod crimes;
pub mod dice;
mod equivocator;
mod gateway;
pub mod member;
pub mod net;
pub mod observer;
mod panics;
pub mod plan;
pub mod proofs;
pub mod run;
pub mod scene;
pub mod time;
pub mod trace;
pub mod world;

pub use run::{Options, Report, simulate};
pub use scene::Broken;
