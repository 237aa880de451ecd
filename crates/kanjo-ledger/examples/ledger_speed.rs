//! How fast one thread executes plain transfers, by stage. Signatures are checked before the clock
//! starts.
//!
//! `cargo run --release -p kanjo-ledger --example ledger_speed -- [accounts] [payments] [block
//! size]`
#![allow(
    clippy::unwrap_used,
    clippy::float_arithmetic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a measurement, not the ledger"
)]

use kanjo_ledger::block::{genesis_block, roots};
use kanjo_ledger::{BlockContext, Ledger, Verified, prepare, verify};
use kanjo_proof::state::StateTree;
use kanjo_types::genesis::{Cluster, FirstToken, FirstUser, FirstWallet, Rules, Voter};
use kanjo_types::signature::{KeyKind, SecretKey};
use kanjo_types::stored::append_entry;
use kanjo_types::{
    Access, Amount, ChainId, Genesis, Operation, PublicKey, TokenId, TransactionBody, UserId,
    WalletId, codec,
};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const TIME_MS: u64 = 1_700_000_000_000;

/// A small generator, so that every run is the same.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound
    }
}

fn seed(number: usize) -> [u8; 32] {
    let mut seed = [3u8; 32];
    seed[..8].copy_from_slice(&(number as u64).to_le_bytes());
    seed
}

fn secret(number: usize) -> SecretKey {
    SecretKey::from_seed(KeyKind::Ed25519, seed(number)).unwrap()
}

/// Every `step`-th account can sign; the keys of the others are just bytes.
fn genesis(accounts: usize, step: usize) -> Genesis {
    let access = |number: usize| {
        let key = match number % step {
            0 => secret(number).public(),
            _ => PublicKey::Ed25519(seed(number)),
        };
        Access::Single(key)
    };
    let user = |number: usize| FirstUser { name: number.to_string(), access: access(number) };
    let balances: BTreeMap<String, Amount> = [("JPY".to_owned(), Amount(1_000_000))].into();
    let wallet = |number: usize| FirstWallet {
        owner: number.to_string(),
        number: 0,
        balances: balances.clone(),
    };
    Genesis {
        version: 1,
        name: "speed".to_owned(),
        time_ms: TIME_MS,
        rules: Rules {
            replay_window_ms: 3_600_000,
            open_registration: true,
            open_tokens: false,
            operators: Vec::new(),
        },
        voters: vec![Voter::alone("v", [1; 32])],
        cluster: Cluster::default(),
        users: (0..accounts).map(user).collect(),
        tokens: vec![FirstToken {
            symbol: "JPY".to_owned(),
            name: "Yen".to_owned(),
            decimals: 0,
            issuer: "0".to_owned(),
            policy: kanjo_types::Policy::default(),
        }],
        wallets: (0..accounts).map(wallet).collect(),
    }
}

fn raw_payments(chain: ChainId, genesis: &Genesis, step: usize, payments: usize) -> Vec<Vec<u8>> {
    let mut random = Random(1);
    let accounts = genesis.users.len();
    let user = |number: usize| UserId::derive(chain, &genesis.users[number].access, 0);
    let mut raws = Vec::with_capacity(payments);
    while raws.len() < payments {
        let (from, to) = (random.below(accounts / step) * step, random.below(accounts));
        if from == to {
            continue;
        }
        let transfer = Operation::Transfer {
            token: TokenId(1),
            from: WalletId::derive(chain, user(from), 0),
            to: WalletId::derive(chain, user(to), 0),
            amount: Amount(1),
            reference: String::new(),
        };
        let body = TransactionBody {
            version: 1,
            chain,
            author: user(from),
            valid_until_ms: TIME_MS + 1_800_000,
            salt: raws.len() as u64,
            operations: vec![transfer],
        };
        raws.push(codec::to_bytes(&body.sign(&secret(from))));
    }
    raws
}

/// CPU time of this thread where the system tells (Linux), else time of day since the start.
struct Clock(Instant);

impl Clock {
    fn now(&self) -> Duration {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let ran = text.split(' ').next().and_then(|number| number.parse().ok());
        ran.map_or_else(|| self.0.elapsed(), Duration::from_nanos)
    }
}

struct Stages {
    clock: Clock,
    took: Vec<(&'static str, Duration)>,
}

impl Stages {
    fn new() -> Self {
        Self { clock: Clock(Instant::now()), took: Vec::new() }
    }
}

impl Stages {
    fn measure<T>(&mut self, name: &'static str, work: impl FnOnce() -> T) -> T {
        let start = self.clock.now();
        let result = work();
        let took = self.clock.now().saturating_sub(start);
        match self.took.iter_mut().find(|(other, _)| *other == name) {
            Some((_, total)) => *total += took,
            None => self.took.push((name, took)),
        }
        result
    }
}

fn admit(ledger: &Ledger, raws: Vec<Vec<u8>>, stages: &mut Stages) -> Vec<Verified> {
    let prepared: Vec<_> = stages.measure("prepare", || {
        raws.into_iter().map(|raw| prepare(raw.into(), ledger.chain()).unwrap()).collect()
    });
    let items: Vec<_> = stages.measure("author keys", || {
        let keys = |prepared: &kanjo_ledger::Prepared| ledger.author_keys(prepared.transaction());
        prepared.into_iter().map(|prepared| (keys(&prepared), prepared)).collect()
    });
    let items: Vec<_> = items.into_iter().map(|(keys, prepared)| (prepared, keys)).collect();
    let mut items = items.into_iter();
    let mut verified = Vec::with_capacity(items.len());
    stages.measure("signatures, batches of 1,024", || {
        while items.len() > 0 {
            let batch: Vec<_> = items.by_ref().take(1_024).collect();
            verified.extend(verify(batch).into_iter().map(Result::unwrap));
        }
    });
    verified
}

fn run(
    ledger: &mut Ledger,
    tree: &mut StateTree,
    payments: &[Verified],
    block_size: usize,
    stages: &mut Stages,
) {
    let mut bytes = Vec::new();
    for (height, payments) in (1u64..).zip(payments.chunks(block_size)) {
        let block = BlockContext { height, time_ms: TIME_MS + height };
        let mut entries = Vec::with_capacity(payments.len());
        stages.measure("execute", || {
            ledger.begin_block(block);
            for (position, payment) in (0u32..).zip(payments) {
                let entry = ledger.execute(block, position, payment).unwrap();
                assert!(entry.result.is_ok());
                entries.push(entry);
            }
        });
        stages.measure("roots", || std::hint::black_box(roots(&entries)));
        let effects = stages.measure("end_block", || ledger.end_block());
        stages.measure("tree", || tree.update(&effects.leaves));
        bytes.clear();
        stages.measure("encode", || {
            entries.iter().for_each(|entry| append_entry(entry, &mut bytes));
        });
        stages.measure("drop", || drop(entries));
    }
}

fn main() {
    let numbers: Vec<usize> =
        std::env::args().skip(1).filter_map(|text| text.replace(',', "").parse().ok()).collect();
    let number = |position: usize, other: usize| numbers.get(position).copied().unwrap_or(other);
    let (accounts, payments) = (number(0, 1_000_000).max(10), number(1, 300_000).max(1));
    let block_size = number(2, 4_000).max(1);
    let step = 5;
    let genesis = genesis(accounts, step);
    let (_, mut ledger, mut tree) = genesis_block(&genesis);
    let raws = raw_payments(ledger.chain(), &genesis, step, payments);
    let (mut admission, mut stages) = (Stages::new(), Stages::new());
    let verified = admit(&ledger, raws, &mut admission);
    run(&mut ledger, &mut tree, &verified, block_size, &mut stages);
    ledger.audit_supply().unwrap();
    let each = |took: Duration| took.as_secs_f64() * 1e6 / payments as f64;
    println!("{payments} payments over {accounts} accounts in blocks of {block_size}, one thread");
    println!("before the clock, CPU µs per payment:");
    admission.took.iter().for_each(|(name, took)| println!("  {name:<30} {:>7.3}", each(*took)));
    println!("execution WITHOUT signature checks, CPU µs per payment:");
    stages.took.iter().for_each(|(name, took)| println!("  {name:<30} {:>7.3}", each(*took)));
    let counted = ["execute", "roots", "end_block", "tree"];
    let total: Duration =
        stages.took.iter().filter(|(name, _)| counted.contains(name)).map(|(_, took)| *took).sum();
    println!("  {:<30} {:>7.3}", "execute+roots+end_block+tree", each(total));
}
