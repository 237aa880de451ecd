//! What the tests of a node share: a small ledger, its node on real or faulty disks, a model of
//! what was acknowledged, and raw HTTP over loopback.
#![allow(missing_docs, dead_code)] // Each test uses a part.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use kanjo_api::{SubmitAnswer, SubmitOutcome, frames};
use kanjo_client::{Client, ClientError, Draft, Limits};
use kanjo_node::clock::{Clock, SystemClock};
use kanjo_node::{Config, RunningNode, StartError, audit};
use kanjo_store::disk::{Disk, RealDisk};
use kanjo_types::genesis::{
    Cluster, FirstToken, FirstUser, FirstWallet, GENESIS_VERSION, Rules, Voter,
};
use kanjo_types::signature::{KeyKind, SecretKey};
use kanjo_types::{
    Access, Amount, ChainId, Genesis, Operation, Policy, PublicKey, ResultCode, SignedTransaction,
    TokenId, TransactionId, UserId, WalletId, codec,
};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

pub mod cluster;
pub mod forgery;
pub mod money;

pub const VSM: TokenId = TokenId(1);
pub const JPY: TokenId = TokenId(2);
/// What each first wallet holds of both tokens.
pub const FIRST_BALANCE: u128 = 1_000_000;
pub const VOTE_SECRET: [u8; 32] = [77; 32];

/// A time for tests with a clock of their own.
pub const NOON: u64 = 1_800_000_000_000;

/// A clock that goes as told.
pub struct HandClock(AtomicU64);

impl HandClock {
    pub fn at(now_ms: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(now_ms)))
    }

    pub fn set(&self, now_ms: u64) {
        self.0.store(now_ms, Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The Ed25519 key with this seed.
pub fn key(seed: u64) -> SecretKey {
    let mut bytes = [5u8; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    SecretKey::from_seed(KeyKind::Ed25519, bytes).expect("any 32 bytes are an Ed25519 key")
}

pub fn access(seed: u64) -> Access {
    Access::Single(key(seed).public())
}

/// A ledger of a few users with a wallet each, in a directory that goes away with it.
pub struct World {
    pub dir: tempfile::TempDir,
    pub genesis: Genesis,
    pub chain: ChainId,
    pub users: Vec<UserId>,
    pub wallets: Vec<WalletId>,
}

pub fn genesis(name: &str, accounts: u64, vote_secret: [u8; 32]) -> Genesis {
    let vote = SecretKey::from_seed(KeyKind::Ed25519, vote_secret).expect("a key").public();
    let PublicKey::Ed25519(vote) = vote else { unreachable!("an Ed25519 key") };
    let token = |symbol: &str, decimals| FirstToken {
        symbol: symbol.to_owned(),
        name: symbol.to_owned(),
        decimals,
        issuer: "u0".to_owned(),
        policy: Policy::default(),
    };
    let both = ["JPY", "VSM"].map(|symbol| (symbol.to_owned(), Amount(FIRST_BALANCE)));
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
        users: (0..accounts)
            .map(|n| FirstUser { name: format!("u{n}"), access: access(n) })
            .collect(),
        tokens: vec![token("VSM", 6), token("JPY", 0)],
        wallets: (0..accounts)
            .map(|n| FirstWallet {
                owner: format!("u{n}"),
                number: 0,
                balances: both.iter().cloned().collect(),
            })
            .collect(),
    }
}

impl World {
    pub fn new(accounts: u64) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let genesis = genesis("Test ledger", accounts, VOTE_SECRET);
        kanjo_node::data::create(&dir.path().join("data"), &genesis, VOTE_SECRET)
            .expect("a new ledger");
        let name = |n: u64| format!("u{n}");
        Self {
            chain: genesis.chain_id(),
            users: (0..accounts).filter_map(|n| genesis.user_id(&name(n))).collect(),
            wallets: (0..accounts).filter_map(|n| genesis.wallet_id(&name(n), 0)).collect(),
            dir,
            genesis,
        }
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn log_dir(&self) -> PathBuf {
        self.data().join("log")
    }

    /// Small segments and frequent checkpoints, so that short tests meet both.
    pub fn config(&self) -> Config {
        let mut config = Config::new(self.data());
        config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        config.block_interval_ms = 1;
        config.segment_bytes = 48 << 10;
        config.checkpoint_interval_s = 1;
        config.verify_threads = 2;
        config
    }

    pub fn start(&self) -> RunningNode {
        kanjo_node::start(self.config()).expect("the node starts")
    }

    pub fn start_on(&self, disk: &(impl Disk + Clone + 'static)) -> RunningNode {
        self.try_start_on(disk).expect("the node starts")
    }

    pub fn try_start_on(
        &self,
        disk: &(impl Disk + Clone + 'static),
    ) -> Result<RunningNode, StartError> {
        kanjo_node::start_with(self.config(), Arc::new(disk.clone()), Arc::new(SystemClock))
    }

    pub fn start_with_clock(&self, clock: Arc<dyn Clock>) -> RunningNode {
        kanjo_node::start_with(self.config(), Arc::new(RealDisk), clock).expect("the node starts")
    }

    /// The audit of the stopped node finds nothing wrong.
    pub fn assert_audit_clean(&self, disk: Arc<dyn Disk>) -> audit::Report {
        let report = audit::verify_on(&self.data(), disk, &mut |_| {}).expect("audited");
        assert!(report.ok, "the audit found {:?}", report.first_error);
        report
    }

    pub fn draft(&self, author: usize) -> Draft {
        Draft::new(self.chain, self.users[author])
    }

    pub fn transfer(&self, from: usize, to: usize, amount: u128) -> Operation {
        transfer(self.wallets[from], self.wallets[to], amount)
    }

    pub fn pay(&self, from: usize, to: usize, amount: u128) -> SignedTransaction {
        self.sign(from, vec![self.transfer(from, to, amount)])
    }

    pub fn sign(&self, author: usize, operations: Vec<Operation>) -> SignedTransaction {
        let draft = self.draft(author).operations(operations);
        draft.sign(&key(author as u64)).expect("a transaction")
    }

    /// Balances in VSM of the first wallets.
    pub fn balances(&self, client: &Client) -> Vec<u128> {
        self.wallets.iter().map(|wallet| balance(client, *wallet, VSM)).collect()
    }
}

pub fn transfer(from: WalletId, to: WalletId, amount: u128) -> Operation {
    Operation::Transfer {
        token: VSM,
        from,
        to,
        amount: Amount(amount),
        reference: "test".to_owned(),
    }
}

pub fn balance(client: &Client, wallet: WalletId, token: TokenId) -> u128 {
    let view = client.wallet(wallet).expect("a wallet");
    view.balances.iter().find(|held| held.token == token).map_or(0, |held| held.balance.0)
}

/// A client that sends once and says what came.
pub fn client(node: &RunningNode) -> Client {
    client_at(node.address())
}

pub fn client_at(address: SocketAddr) -> Client {
    let limits = Limits { attempts: 1, ..Limits::default() };
    Client::with_limits(&format!("http://{address}"), limits).expect("a client")
}

pub fn framed(transactions: &[SignedTransaction]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for transaction in transactions {
        frames::append(&codec::to_bytes(transaction), &mut bytes);
    }
    bytes
}

pub fn submit_all(client: &Client, transactions: &[SignedTransaction]) -> Vec<SubmitOutcome> {
    let SubmitAnswer { outcomes } =
        client.submit_frames(&framed(transactions)).expect("an answer to frames");
    assert_eq!(outcomes.len(), transactions.len(), "one outcome for each");
    outcomes
}

/// Everything that was sent, what was acknowledged of it, and what follows for the balances.
#[derive(Default)]
pub struct Model {
    pub acknowledged: Vec<(SignedTransaction, SubmitOutcome)>,
    pub unknown: Vec<SignedTransaction>,
}

pub fn is_recorded(outcome: &SubmitOutcome) -> bool {
    matches!(outcome, SubmitOutcome::Recorded { .. })
}

pub fn is_done(outcome: &SubmitOutcome) -> bool {
    matches!(outcome, SubmitOutcome::Recorded { result: ResultCode::Ok, .. })
}

/// What a ledger says about a transaction, as an outcome; `None` when it is not there.
pub fn look_up(client: &Client, id: TransactionId) -> Option<SubmitOutcome> {
    match client.transaction(id) {
        Ok(view) => {
            assert_eq!(view.id, id);
            Some(view.outcome())
        }
        Err(error) if error.is_not_found() => None,
        Err(error) => panic!("looking up {id}: {error}"),
    }
}

impl Model {
    /// Sends and notes what came.
    pub fn submit(
        &mut self,
        client: &Client,
        transaction: SignedTransaction,
    ) -> Result<SubmitOutcome, ClientError> {
        let outcome = client.submit(&transaction);
        match &outcome {
            Ok(outcome) => self.acknowledged.push((transaction, outcome.clone())),
            Err(ClientError::Refused { body, .. }) if body.code != "outcome_unknown" => {}
            Err(_) => self.unknown.push(transaction),
        }
        outcome
    }

    pub fn merge(&mut self, other: Self) {
        self.acknowledged.extend(other.acknowledged);
        self.unknown.extend(other.unknown);
    }

    /// Asks the ledger for everything: what was acknowledged is there as it was acknowledged, the
    /// rest is there whole or not at all, the same bytes are never taken twice, and every balance
    /// follows from it.
    pub fn check(&mut self, world: &World, client: &Client) {
        for (transaction, outcome) in &self.acknowledged {
            let id = transaction.body.id();
            let found = look_up(client, id);
            assert_eq!(found.as_ref(), Some(outcome), "acknowledged transaction {id}");
        }
        for transaction in std::mem::take(&mut self.unknown) {
            let before = look_up(client, transaction.body.id());
            let again = client.submit(&transaction);
            match (before, again) {
                (Some(before), again) => {
                    let code = again.as_ref().err().and_then(ClientError::code);
                    assert_eq!(code, Some("already_used"), "{again:?}");
                    self.acknowledged.push((transaction, before));
                }
                (None, again) => {
                    let again = again.expect("what was never taken is taken now");
                    self.acknowledged.push((transaction, again));
                }
            }
        }
        assert_eq!(world.balances(client), self.balances(world), "balances follow from the model");
        let supply = client.token(VSM).expect("a token").supply.0;
        assert_eq!(supply, FIRST_BALANCE * world.wallets.len() as u128, "supply adds up");
    }

    pub fn balances(&self, world: &World) -> Vec<u128> {
        let mut held: BTreeMap<WalletId, u128> =
            world.wallets.iter().map(|wallet| (*wallet, FIRST_BALANCE)).collect();
        // Order does not matter for the sums: wrap on the way, be exact at the end.
        for (transaction, outcome) in self.acknowledged.iter().filter(|(_, o)| is_done(o)) {
            for operation in &transaction.body.operations {
                let Operation::Transfer { from, to, amount, token: VSM, .. } = operation else {
                    panic!("the model knows transfers of VSM only: {outcome:?}")
                };
                let payer = held.entry(*from).or_default();
                *payer = payer.wrapping_sub(amount.0);
                let payee = held.entry(*to).or_default();
                *payee = payee.wrapping_add(amount.0);
            }
        }
        world.wallets.iter().map(|wallet| held[wallet]).collect()
    }
}

/// Payments from a few threads until each has sent `count` or the node refuses; every third is a
/// batch.
pub fn load(world: &World, node: &RunningNode, threads: usize, count: usize) -> Model {
    load_until(world, node, threads, count, &AtomicBool::new(false))
}

/// As [`load`], until `enough` is set.
pub fn load_until(
    world: &World,
    node: &RunningNode,
    threads: usize,
    count: usize,
    enough: &AtomicBool,
) -> Model {
    load_at(world, node.address(), threads, count, enough)
}

pub fn load_at(
    world: &World,
    address: SocketAddr,
    threads: usize,
    count: usize,
    enough: &AtomicBool,
) -> Model {
    let mut model = Model::default();
    std::thread::scope(|scope| {
        let work = |thread: usize| {
            let client = client_at(address);
            let mut model = Model::default();
            let (accounts, mut refused) = (world.wallets.len(), 0);
            for n in 0..count {
                let payer = (thread + n) % accounts;
                let legs = if n % 3 == 2 { 5 } else { 1 };
                let legs = (1..=legs).map(|leg| {
                    let payee = (payer + 1 + leg % (accounts - 1)) % accounts;
                    world.transfer(payer, payee, (n % 7 + leg) as u128)
                });
                let payment = world.sign(payer, legs.collect());
                refused += usize::from(model.submit(&client, payment).is_err());
                if refused > 3 || enough.load(Ordering::Relaxed) {
                    break;
                }
            }
            model
        };
        let handles: Vec<_> =
            (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        handles.into_iter().for_each(|handle| model.merge(handle.join().expect("a load thread")));
    });
    model
}

/// Waits, a bounded number of times, until `what` holds.
pub fn wait_until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("waited in vain until {what}");
}

/// Runs `work` on a thread of its own; fails when it hangs.
pub fn must_end<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(work()));
    ended.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| panic!("{what} hangs"))
}

/// An answer to a raw request.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: HTTP {} {}", self.status, self.text()))
    }

    /// An error answer has a code, a sentence and, nearly always, the field.
    pub fn code(&self) -> String {
        let json = self.json();
        let message = json["message"].as_str().expect("a message");
        assert!(
            message.len() > 10 && message.ends_with(['.', ')', ';', '"']) || message.len() > 20
        );
        json["code"].as_str().expect("a code").to_owned()
    }

    pub fn field(&self) -> String {
        self.json()["field"].as_str().expect("a field").to_owned()
    }
}

/// One request on a connection of its own.
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    stream.write_all(head.as_bytes()).expect("the head is sent");
    // A server may refuse before it has read everything.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    parse_answer(&answer)
}

fn parse_answer(bytes: &[u8]) -> Answer {
    let split = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let split = split.unwrap_or_else(|| panic!("no HTTP answer in {} bytes", bytes.len()));
    let head = String::from_utf8_lossy(&bytes[..split]).to_lowercase();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let rest = &bytes[split + 4..];
    let body =
        if head.contains("transfer-encoding: chunked") { unchunk(rest) } else { rest.to_vec() };
    Answer { status, body }
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(String::from_utf8_lossy(&rest[..end]).trim(), 16);
        let size = size.unwrap_or(0).min(rest.len() - end - 2);
        if size == 0 {
            break;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = rest.get(end + 4 + size..).unwrap_or_default();
    }
    body
}

pub fn get(address: SocketAddr, path: &str) -> Answer {
    request(address, "GET", path, &[], b"")
}

pub fn post_json(address: SocketAddr, body: &[u8]) -> Answer {
    request(address, "POST", "/v1/transactions", &[("content-type", "application/json")], body)
}

pub fn post_binary(address: SocketAddr, body: &[u8]) -> Answer {
    let headers = [("content-type", "application/octet-stream"), ("accept", "application/json")];
    request(address, "POST", "/v1/transactions", &headers, body)
}

/// Files of a directory on the real disk with an ending.
pub fn files_in(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .collect();
    found.sort();
    found
}
