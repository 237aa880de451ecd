//! Kills the real node with SIGKILL at random moments, under load and during its start, and checks
//! what is left: everything acknowledged with its very outcome, nothing half-applied, nothing
//! twice.
//!
//! `cargo xtask crash N` runs N rounds (environment `KANJO_CRASH_ROUNDS`); `KANJO_CRASH_SEED`
//! replays the choices of a run. Moments are drawn from the seed; what the machine does until then
//! is its own affair.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use kanjo_api::{SubmitOutcome, frames};
use kanjo_client::{Client, ClientError, Draft, Limits, Page};
use kanjo_proof::{Fact, ProofFile};
use kanjo_store::faults::SeededRng;
use kanjo_types::genesis::{
    Cluster, FirstToken, FirstUser, FirstWallet, GENESIS_VERSION, Rules, Voter,
};
use kanjo_types::signature::{KeyKind, SecretKey};
use kanjo_types::{
    Access, Amount, ChainId, Genesis, Hash, Operation, Policy, PublicKey, ResultCode,
    SignedTransaction, TokenId, TransactionId, UserId, WalletId, codec,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const ACCOUNTS: u64 = 8;
const FIRST_BALANCE: u128 = 1_000_000_000;
const TOO_MUCH: u128 = u128::MAX / 2;
const TOKEN: TokenId = TokenId(1);
const VOTE_SECRET: [u8; 32] = [91; 32];
const THREADS: u64 = 3;
/// A new ledger begins after so many rounds, so that first starts are killed too and audits stay
/// short.
const ROUNDS_PER_LEDGER: u64 = 50;
const ROUNDS_PER_AUDIT: u64 = 25;
/// Most transactions that are looked up one by one in a round; the rest is compared by block.
const LOOKED_UP_MAX: usize = 400;

fn key(seed: u64) -> SecretKey {
    let mut bytes = [9u8; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    SecretKey::from_seed(KeyKind::Ed25519, bytes).expect("any 32 bytes are an Ed25519 key")
}

fn access(seed: u64) -> Access {
    Access::Single(key(seed).public())
}

/// A ledger under test and everything known about it.
struct Ledger {
    data: PathBuf,
    genesis: Genesis,
    chain: ChainId,
    users: Vec<UserId>,
    wallets: Vec<WalletId>,
    keys: Vec<SecretKey>,
    next_number: AtomicU64,
    model: Model,
}

/// What must be so, by what was acknowledged.
#[derive(Default)]
struct Model {
    held: BTreeMap<WalletId, u128>,
    users: BTreeSet<UserId>,
    supply: u128,
    /// Transactions in blocks, failed ones included.
    recorded: u64,
    /// Of the newest round.
    acknowledged: Vec<(SignedTransaction, SubmitOutcome)>,
    /// A few of every earlier round.
    kept: Vec<(SignedTransaction, SubmitOutcome)>,
    /// Sent, not answered.
    unknown: Vec<SignedTransaction>,
    /// Headers seen as final, and proofs handed out, before kills.
    headers: Vec<(u64, Hash)>,
    proofs: Vec<String>,
    checked_to: u64,
}

fn new_genesis(name: &str) -> Genesis {
    let vote = SecretKey::from_seed(KeyKind::Ed25519, VOTE_SECRET).expect("a key").public();
    let PublicKey::Ed25519(vote) = vote else { unreachable!("an Ed25519 key") };
    let user = |n: u64| FirstUser { name: format!("u{n}"), access: access(n) };
    let wallet = |n: u64| FirstWallet {
        owner: format!("u{n}"),
        number: 0,
        balances: BTreeMap::from([("VSM".to_owned(), Amount(FIRST_BALANCE))]),
    };
    Genesis {
        version: GENESIS_VERSION,
        name: name.to_owned(),
        time_ms: 1_700_000_000_000,
        rules: Rules {
            replay_window_ms: 86_400_000,
            open_registration: true,
            open_tokens: false,
            operators: vec!["u0".to_owned()],
        },
        voters: vec![Voter::alone("node-1", vote)],
        cluster: Cluster::default(),
        users: (0..ACCOUNTS).map(user).collect(),
        tokens: vec![FirstToken {
            symbol: "VSM".to_owned(),
            name: "Versum".to_owned(),
            decimals: 6,
            issuer: "u0".to_owned(),
            policy: Policy::default(),
        }],
        wallets: (0..ACCOUNTS).map(wallet).collect(),
    }
}

impl Ledger {
    fn new(data: PathBuf, name: &str) -> Self {
        let genesis = new_genesis(name);
        kanjo_node::data::create(&data, &genesis, VOTE_SECRET).expect("a new ledger");
        let names = (0..ACCOUNTS).map(|n| format!("u{n}"));
        let wallets: Vec<WalletId> =
            names.clone().filter_map(|name| genesis.wallet_id(&name, 0)).collect();
        let model = Model {
            held: wallets.iter().map(|wallet| (*wallet, FIRST_BALANCE)).collect(),
            supply: FIRST_BALANCE * u128::from(ACCOUNTS),
            ..Model::default()
        };
        Self {
            data,
            chain: genesis.chain_id(),
            users: names.filter_map(|name| genesis.user_id(&name)).collect(),
            wallets,
            keys: (0..ACCOUNTS).map(key).collect(),
            genesis,
            next_number: AtomicU64::new(1_000),
            model,
        }
    }

    fn sign(&self, author: usize, operations: Vec<Operation>) -> SignedTransaction {
        let draft = Draft::new(self.chain, self.users[author]).operations(operations);
        draft.sign(&self.keys[author]).expect("a transaction")
    }

    fn transfer(&self, from: usize, to: WalletId, amount: u128) -> Operation {
        Operation::Transfer {
            token: TOKEN,
            from: self.wallets[from],
            to,
            amount: Amount(amount),
            reference: String::new(),
        }
    }

    fn payment(&self, rng: &mut SeededRng, amount_max: u64) -> SignedTransaction {
        let from = rng.below(ACCOUNTS) as usize;
        let to = (from + 1 + rng.below(ACCOUNTS - 1) as usize) % ACCOUNTS as usize;
        let amount = u128::from(1 + rng.below(amount_max));
        self.sign(from, vec![self.transfer(from, self.wallets[to], amount)])
    }

    /// One signature over many legs; one in three fails at its last leg.
    fn batch(&self, rng: &mut SeededRng) -> SignedTransaction {
        let from = rng.below(ACCOUNTS) as usize;
        let mut legs: Vec<Operation> = (0..2 + rng.below(200) as usize)
            .map(|leg| {
                let to = (from + 1 + leg % (ACCOUNTS as usize - 1)) % ACCOUNTS as usize;
                self.transfer(from, self.wallets[to], 1 + leg as u128)
            })
            .collect();
        if rng.below(3) == 0 {
            let to = self.wallets[(from + 1) % ACCOUNTS as usize];
            legs.push(self.transfer(from, to, TOO_MUCH));
        }
        self.sign(from, legs)
    }

    /// A new user with a wallet that gets its first money, all in one.
    fn newcomer(&self, rng: &mut SeededRng) -> SignedTransaction {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let sponsor = rng.below(ACCOUNTS) as usize;
        let user = UserId::derive(self.chain, &access(sponsor as u64), number);
        let wallet = WalletId::derive(self.chain, user, 0);
        let operations = vec![
            Operation::CreateUser { access: access(sponsor as u64), number },
            Operation::CreateWallet { owner: user, number: 0 },
            self.transfer(sponsor, wallet, 1 + u128::from(rng.below(50))),
        ];
        self.sign(sponsor, operations)
    }

    fn issue(&self, rng: &mut SeededRng) -> SignedTransaction {
        let to = self.wallets[rng.below(ACCOUNTS) as usize];
        let amount = Amount(1 + u128::from(rng.below(1_000)));
        let redeem = Operation::Redeem { token: TOKEN, from: self.wallets[0], amount: Amount(3) };
        self.sign(0, vec![Operation::Issue { token: TOKEN, to, amount }, redeem])
    }

    /// What a thread sends next: one JSON transaction, or frames.
    fn next_request(&self, rng: &mut SeededRng) -> Vec<SignedTransaction> {
        match rng.below(12) {
            0..=3 => vec![self.payment(rng, 500)],
            4..=6 => (0..2 + rng.below(30)).map(|_| self.payment(rng, 500)).collect(),
            7 | 8 => vec![self.batch(rng)],
            9 => {
                let from = rng.below(ACCOUNTS) as usize;
                let to = self.wallets[(from + 1) % ACCOUNTS as usize];
                vec![self.sign(from, vec![self.transfer(from, to, TOO_MUCH)])]
            }
            10 => vec![self.newcomer(rng), self.payment(rng, 9)],
            _ => vec![self.issue(rng)],
        }
    }

    /// Sends until the node is gone or `over` is set.
    fn send_until(&self, client: &Client, seed: u64, over: &AtomicBool) -> Sent {
        let mut rng = SeededRng::new(seed);
        let mut sent = Sent::default();
        for _ in 0..5_000 {
            if over.load(Ordering::Relaxed) {
                break;
            }
            let transactions = self.next_request(&mut rng);
            let answer = match &transactions[..] {
                [one] => client.submit(one).map(|outcome| vec![outcome]),
                many => client.submit_frames(&framed(many)).map(|answer| answer.outcomes),
            };
            match answer {
                Ok(outcomes) => {
                    assert_eq!(outcomes.len(), transactions.len());
                    sent.acknowledged.extend(transactions.into_iter().zip(outcomes));
                }
                Err(error) => {
                    assert!(
                        error.is_temporary() || matches!(error, ClientError::BadAnswer { .. }),
                        "{error}"
                    );
                    sent.unknown.extend(transactions);
                    break;
                }
            }
        }
        sent
    }
}

#[derive(Default)]
struct Sent {
    acknowledged: Vec<(SignedTransaction, SubmitOutcome)>,
    unknown: Vec<SignedTransaction>,
}

fn framed(transactions: &[SignedTransaction]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for transaction in transactions {
        frames::append(&codec::to_bytes(transaction), &mut bytes);
    }
    bytes
}

/// A node as a process of its own; killed when dropped, and by the end of its standard input.
struct Node {
    child: Child,
    url: String,
}

fn spawn(data: &Path) -> Child {
    let log = File::options().create(true).append(true).open(data.with_extension("stderr"));
    Command::new(env!("CARGO_BIN_EXE_kanjo"))
        .args(["--json", "node", "--listen", "127.0.0.1:0", "--stop-with-stdin"])
        .args(["--segment-bytes", "131072", "--checkpoint-interval-s", "1"])
        .args(["--verify-threads", "2", "--data"])
        .arg(data)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log.expect("a file for messages"))
        .spawn()
        .expect("the node is spawned")
}

impl Node {
    /// Starts and waits until it says where it listens.
    fn start(data: &Path) -> Self {
        let mut child = spawn(data);
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("read");
        let said: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|error| {
            let stderr = std::fs::read_to_string(data.with_extension("stderr"));
            let _ = child.kill();
            panic!("the node did not start: {error}: {line:?}\n{}", stderr.unwrap_or_default())
        });
        let url = said["api"].as_str().expect("an address").to_owned();
        Self { child, url }
    }

    fn client(&self) -> Client {
        // Sends once: what a resend would hide is to be seen here.
        Client::with_limits(&self.url, Limits { attempts: 1, ..Limits::default() })
            .expect("a client")
    }

    fn kill(mut self) {
        kill(&mut self.child);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        kill(&mut self.child);
    }
}

/// SIGKILL.
fn kill(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn look_up(client: &Client, id: TransactionId) -> Option<SubmitOutcome> {
    match client.transaction(id) {
        Ok(view) => Some(view.outcome()),
        Err(error) if error.is_not_found() => None,
        Err(error) => panic!("looking up {id}: {error}"),
    }
}

impl Model {
    /// Takes an outcome into account.
    fn apply(&mut self, chain: ChainId, transaction: &SignedTransaction, outcome: &SubmitOutcome) {
        let SubmitOutcome::Recorded { result, .. } = outcome else {
            panic!("nothing here is refused: {outcome:?}")
        };
        self.recorded += 1;
        if *result != ResultCode::Ok {
            assert_eq!(*result, ResultCode::InsufficientFunds, "nothing else fails");
            return;
        }
        // Sums wrap on the way and are exact at the end.
        for operation in &transaction.body.operations {
            let mut change = |wallet: WalletId, change: u128| {
                let held = self.held.entry(wallet).or_default();
                *held = held.wrapping_add(change);
            };
            match operation {
                Operation::CreateUser { access, number } => {
                    self.users.insert(UserId::derive(chain, access, *number));
                }
                Operation::CreateWallet { owner, number } => {
                    change(WalletId::derive(chain, *owner, *number), 0);
                }
                Operation::Issue { to, amount, .. } => {
                    change(*to, amount.0);
                    self.supply += amount.0;
                }
                Operation::Redeem { from, amount, .. } => {
                    change(*from, amount.0.wrapping_neg());
                    self.supply -= amount.0;
                }
                Operation::Transfer { from, to, amount, .. } => {
                    change(*from, amount.0.wrapping_neg());
                    change(*to, amount.0);
                }
                other => panic!("not sent here: {other:?}"),
            }
        }
    }
}

/// New rows a transaction would make; none of them may be there when it is not.
fn assert_nothing_of(chain: ChainId, client: &Client, transaction: &SignedTransaction) {
    for operation in &transaction.body.operations {
        if let Operation::CreateUser { access, number } = operation {
            let user = UserId::derive(chain, access, *number);
            let error = client.user(user).expect_err("half a transaction");
            assert!(error.is_not_found(), "{error}");
            let wallet = WalletId::derive(chain, user, 0);
            let error = client.wallet(wallet).expect_err("half a transaction");
            assert!(error.is_not_found(), "{error}");
        }
    }
}

impl Ledger {
    /// Everything that must hold after a restart.
    fn check(&mut self, client: &Client, rng: &mut SeededRng, thoroughly: bool) {
        self.check_acknowledged(client);
        self.check_unknown(client);
        self.check_balances(client, rng, thoroughly);
        self.check_blocks(client);
        self.check_proofs(client);
    }

    fn check_acknowledged(&mut self, client: &Client) {
        let mut blocks: BTreeMap<u64, Vec<TransactionId>> = BTreeMap::new();
        let acknowledged = std::mem::take(&mut self.model.acknowledged);
        let each = acknowledged.len().div_ceil(LOOKED_UP_MAX).max(1);
        for (number, (transaction, outcome)) in acknowledged.iter().enumerate() {
            let id = transaction.body.id();
            let SubmitOutcome::Recorded { id: told, height, position, .. } = outcome else {
                panic!("refused: {outcome:?}")
            };
            assert_eq!(*told, id);
            if number % each == 0 {
                let found = look_up(client, id);
                assert_eq!(found.as_ref(), Some(outcome), "acknowledged before the kill");
            }
            let ids = blocks.entry(*height).or_insert_with(|| {
                client.block(*height).expect("an acknowledged block").transactions
            });
            assert_eq!(ids.get(*position as usize), Some(&id), "at its very place");
            self.model.apply(self.chain, transaction, outcome);
        }
        for (transaction, outcome) in &self.model.kept {
            let found = look_up(client, transaction.body.id());
            assert_eq!(found.as_ref(), Some(outcome), "acknowledged many kills ago");
        }
        for (transaction, _) in acknowledged.iter().rev().take(3) {
            let error = client.submit(transaction).expect_err("never twice");
            assert_eq!(error.code(), Some("already_used"), "{error}");
        }
        self.model.kept.extend(acknowledged.into_iter().take(2));
        self.model.kept.truncate(60);
    }

    /// What was not answered is there whole or not at all; sent again, it is there once.
    fn check_unknown(&mut self, client: &Client) {
        for (number, transaction) in std::mem::take(&mut self.model.unknown).iter().enumerate() {
            match look_up(client, transaction.body.id()) {
                Some(outcome) => {
                    let error = client.submit(transaction).expect_err("never twice");
                    assert_eq!(error.code(), Some("already_used"), "{error}");
                    self.model.apply(self.chain, transaction, &outcome);
                }
                None => {
                    assert_nothing_of(self.chain, client, transaction);
                    if number % 2 == 0 {
                        let outcome = client.submit(transaction).expect("taken now");
                        self.model.apply(self.chain, transaction, &outcome);
                        let error = client.submit(transaction).expect_err("never twice");
                        assert_eq!(error.code(), Some("already_used"), "{error}");
                    }
                }
            }
        }
    }

    fn check_balances(&self, client: &Client, rng: &mut SeededRng, thoroughly: bool) {
        let model = &self.model;
        let status = client.status().expect("a status");
        assert_eq!(status.transactions, model.recorded, "every transaction once");
        let token = client.token(TOKEN).expect("the token");
        assert_eq!(token.supply.0, model.supply, "issued - redeemed");
        let sum = model.held.values().fold(0u128, |sum, held| sum.wrapping_add(*held));
        assert_eq!(sum, model.supply, "the model adds up");
        assert_eq!(status.rows.wallets as usize, model.held.len(), "no wallet more or less");
        assert_eq!(status.rows.users as usize, model.users.len() + ACCOUNTS as usize);
        for (wallet, held) in &model.held {
            let looked_at = self.wallets.contains(wallet) || thoroughly || rng.below(20) == 0;
            if looked_at {
                let view = client.wallet(*wallet).expect("a wallet");
                let found = view.balances.first().map_or(0, |balance| balance.balance.0);
                assert_eq!(found, *held, "balance of {wallet}");
            }
        }
    }

    /// Heights without gaps, each block on the one before.
    fn check_blocks(&mut self, client: &Client) {
        let tip = client.status().expect("a status").height;
        let from = self.model.checked_to.max(tip.saturating_sub(900));
        let limit = Some((tip - from + 1) as usize);
        let page = client.blocks(Page { before: Some(tip + 1), limit }).expect("blocks");
        let heights: Vec<u64> = page.blocks.iter().rev().map(|block| block.height).collect();
        assert_eq!(heights, (from..=tip).collect::<Vec<_>>(), "no gaps");
        for block in page.blocks.iter().zip(page.blocks.iter().skip(1)).step_by(7) {
            let (newer, older) = block;
            let header = client.block(newer.height).expect("a block").header;
            assert_eq!(header.parents, vec![older.hash], "each on the one before");
            assert_eq!(header.hash(), newer.hash);
        }
        self.model.checked_to = tip;
    }

    /// Headers and proofs from before the kill hold for the ledger as it is now.
    fn check_proofs(&mut self, client: &Client) {
        let tip = client.status().expect("a status").height;
        for (height, hash) in &self.model.headers {
            assert_eq!(client.block(*height).expect("a final block").hash, *hash);
            if *height == tip {
                continue;
            }
            let text = client.proof_of_extension(*height, tip).expect("a proof");
            let file = ProofFile::from_json(&text).expect("a proof file");
            let statement = file.check(&self.genesis).expect("it checks");
            let Fact::Extends { earlier } = statement.fact else { panic!("{statement}") };
            assert_eq!((earlier.height, earlier.header), (*height, *hash));
            assert_eq!(statement.at.height, tip);
        }
        for text in &self.model.proofs {
            let file = ProofFile::from_json(text).expect("a proof file");
            let statement = file.check(&self.genesis).expect("a proof outlives the kill");
            let block = client.block(statement.at.height).expect("a final block");
            assert_eq!(block.hash, statement.at.header, "the proof's header is in the ledger");
        }
        let keep = |length: usize| length.saturating_sub(4);
        self.model.headers.drain(..keep(self.model.headers.len()));
        self.model.proofs.drain(..keep(self.model.proofs.len()));
    }

    /// Load from a few threads, and a kill in the middle of it.
    fn load_and_kill(&mut self, node: Node, rng: &mut SeededRng) {
        let over = AtomicBool::new(false);
        let alive_ms = if rng.below(4) == 0 { rng.below(25) } else { 25 + rng.below(350) };
        let seeds: Vec<u64> = (0..THREADS).map(|_| rng.next_u64()).collect();
        let (mut sent, mut seen) = (Sent::default(), None);
        std::thread::scope(|scope| {
            let (ledger, over) = (&*self, &over);
            let loading: Vec<_> = seeds
                .into_iter()
                .map(|seed| {
                    let client = node.client();
                    scope.spawn(move || ledger.send_until(&client, seed, over))
                })
                .collect();
            let client = node.client();
            std::thread::sleep(Duration::from_millis(alive_ms / 2));
            if let (Ok(status), Ok(proof)) =
                (client.status(), client.proof_of_state(ledger.wallets[0], TOKEN, None))
            {
                seen = Some((status, proof));
            }
            std::thread::sleep(Duration::from_millis(alive_ms / 2));
            node.kill();
            over.store(true, Ordering::Relaxed);
            for thread in loading {
                let of_thread = thread.join().expect("a load thread");
                sent.acknowledged.extend(of_thread.acknowledged);
                sent.unknown.extend(of_thread.unknown);
            }
        });
        if let Some((status, proof)) = seen {
            self.model.headers.push((status.height, status.header_hash));
            self.model.proofs.push(proof);
        }
        self.model.acknowledged = sent.acknowledged;
        self.model.unknown = sent.unknown;
    }

    fn verify(&self) {
        let output = Command::new(env!("CARGO_BIN_EXE_kanjo"))
            .args(["--json", "verify", "--data"])
            .arg(&self.data)
            .output()
            .expect("the audit runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        let report: serde_json::Value = serde_json::from_str(&text).expect("a report");
        assert_eq!(report["ok"], true, "{text}");
        assert_eq!(report["transactions"], self.model.recorded, "{text}");
    }
}

fn number_from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn crash(rounds: u64, seed: u64) {
    println!("{rounds} rounds, KANJO_CRASH_SEED={seed}");
    let dir = tempfile::tempdir().expect("a directory");
    let mut rng = SeededRng::new(seed);
    let (mut acknowledged, mut unknown, mut early_kills) = (0, 0, 0);
    let mut ledger = Ledger::new(dir.path().join("ledger-0"), "Crash 0");
    for round in 0..rounds {
        if round > 0 && round % ROUNDS_PER_LEDGER == 0 {
            let name = format!("ledger-{round}");
            ledger = Ledger::new(dir.path().join(&name), &name);
        }
        // Kills during the start, first starts included.
        for _ in 0..rng.below(3) {
            let mut child = spawn(&ledger.data);
            std::thread::sleep(Duration::from_micros(rng.below(60_000)));
            kill(&mut child);
            early_kills += 1;
        }
        let node = Node::start(&ledger.data);
        let last = round + 1 == rounds || (round + 1) % ROUNDS_PER_LEDGER == 0;
        ledger.check(&node.client(), &mut rng, last);
        ledger.load_and_kill(node, &mut rng);
        acknowledged += ledger.model.acknowledged.len();
        unknown += ledger.model.unknown.len();
        if last || (round + 1) % ROUNDS_PER_AUDIT == 0 {
            // After the kill, and with everything unanswered settled.
            let node = Node::start(&ledger.data);
            ledger.check(&node.client(), &mut rng, last);
            node.kill();
            ledger.verify();
            println!(
                "round {}: {acknowledged} acknowledged, {unknown} under way at a kill, \
                 {early_kills} kills during a start, audit clean at {} transactions",
                round + 1,
                ledger.model.recorded
            );
        }
    }
}

#[test]
fn a_few_kills_lose_nothing_acknowledged() {
    crash(5, number_from_env("KANJO_CRASH_SEED", 2));
}

#[test]
#[ignore = "minutes: run it with 'cargo xtask crash'"]
fn hundreds_of_kills_lose_nothing_acknowledged() {
    let rounds = number_from_env("KANJO_CRASH_ROUNDS", 200);
    crash(rounds, number_from_env("KANJO_CRASH_SEED", 1));
}
