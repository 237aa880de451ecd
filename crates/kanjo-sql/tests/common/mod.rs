//! A ledger of a few wallets that pay each other all the time, served over the wire.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, dead_code)] // A test may; each uses a part.

pub mod node;
pub mod text;

use kanjo_sql::{Limits, Roles, Service, SqlServer, serve};
use kanjo_types::block::{Certificate, Header};
use kanjo_types::record::{Record, RowKey, Table, TokenRecord, WalletRecord, WalletStateRecord};
use kanjo_types::stored::{Block, Location, Row};
use kanjo_types::{Amount, ChainId, Hash, TokenId, TransactionId, UserId, WalletId};
use kanjo_view::{LogError, LogSource, Version, View};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_postgres::{Client, NoTls};

pub const WALLETS: u8 = 20;
pub const EACH: u128 = 1_000;

/// Blocks in memory.
#[derive(Default)]
pub struct Log(Mutex<BTreeMap<u64, Arc<Block>>>);

impl LogSource for Log {
    fn newest(&self) -> u64 {
        self.0.lock().keys().next_back().copied().unwrap_or(0)
    }

    fn block(&self, height: u64) -> Result<Arc<Block>, LogError> {
        let found = self.0.lock().get(&height).cloned();
        found.ok_or_else(|| LogError(format!("no block {height}")))
    }

    fn find(&self, _: TransactionId) -> Result<Option<Location>, LogError> {
        Ok(None)
    }
}

pub fn wallet(number: u8) -> WalletId {
    WalletId([number.wrapping_mul(13); 16])
}

fn state(number: u8, version: u64, balance: u128, previous: Hash) -> Record {
    Record::WalletState(WalletStateRecord {
        wallet: wallet(number),
        token: TokenId(1),
        version,
        balance: Amount(balance),
        extra: None,
        previous,
        transaction: Hash([9; 32]),
        wallet_record: Hash([8; 32]),
    })
}

fn token(id: u32, symbol: &str, decimals: u8) -> Record {
    Record::Token(TokenRecord {
        id: TokenId(id),
        version: 1,
        symbol: symbol.to_owned(),
        name: symbol.to_owned(),
        decimals,
        issuer: UserId([1; 16]),
        issued: Amount(EACH * u128::from(WALLETS)),
        redeemed: Amount(0),
        rules: None,
        previous: Hash::ZERO,
        transaction: Hash([9; 32]),
        issuer_record: Hash([7; 32]),
    })
}

fn opened(number: u8) -> Record {
    Record::Wallet(WalletRecord {
        id: wallet(number),
        version: 1,
        owner: UserId([number % 3; 16]),
        number: u64::from(number),
        previous: Hash::ZERO,
        transaction: Hash([9; 32]),
        owner_record: Hash([6; 32]),
    })
}

fn block(height: u64, records: &[Record]) -> Block {
    let rows = records.iter().map(|record| Row {
        record: record.clone(),
        hash: record.hash(),
        previous_at: Location::default(),
        named: false,
    });
    let header = Header {
        version: 1,
        chain: ChainId::default(),
        height,
        parents: vec![Hash([u8::try_from(height % 250).unwrap(); 32])],
        time_ms: 1_700_000_000_000 + height,
        producer: 0,
        transactions: 0,
        transactions_root: Hash::ZERO,
        receipts_root: Hash::ZERO,
        state_root: Hash::ZERO,
        history_root: Hash::ZERO,
        fees: vec![],
        supply: vec![],
    };
    let genesis_rows = if height == 0 { rows.collect() } else { Vec::new() };
    let certificate = Certificate { epoch: 0, votes: vec![] };
    Block { header, certificate, entries: vec![], genesis_rows }
}

pub struct Served {
    pub server: Option<SqlServer>,
    pub view: Arc<View>,
    pub log: Arc<Log>,
    stop: Arc<AtomicBool>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }
}

impl Served {
    pub fn port(&self) -> u16 {
        self.server.as_ref().unwrap().address().port()
    }

    pub async fn connect(&self) -> Client {
        let config = format!("host=127.0.0.1 port={} user=tester dbname=kanjo", self.port());
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

pub fn served(limits: Limits) -> Served {
    let view = Arc::new(View::new(kanjo_view::Limits::default()));
    let log = Arc::new(Log::default());
    let mut records = vec![token(1, "JPY", 0), token(2, "EUR", 2), token(3, "FINE", 30)];
    for number in 0..WALLETS {
        records.push(opened(number));
        records.push(state(number, 1, EACH, Hash::ZERO));
    }
    for record in &records {
        let (table, key) = record.place().unwrap();
        let at = Location { height: 0, position: 0 };
        view.load(table, key, Version::of(record, record.hash(), at).unwrap());
    }
    log.0.lock().insert(0, Arc::new(block(0, &records)));
    view.start(0);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let service = Service {
        view: Arc::clone(&view),
        log: log.clone(),
        chain: ChainId::default(),
        client: None,
        roles: Roles::default(),
        limits,
    };
    let server = serve(listener, service).unwrap();
    Served { server: Some(server), view, log, stop: Arc::default() }
}

impl Served {
    /// Adds a block that changes these wallet states.
    pub fn apply(&self, changes: &[(u8, u64, u128)]) {
        let height = self.view.height() + 1;
        let rows = changes.iter().map(|(number, version, balance)| {
            let record = state(*number, *version, *balance, Hash([5; 32]));
            let at = Location { height, position: 0 };
            let version = Version::of(&record, record.hash(), at).unwrap();
            (Table::WalletStates, RowKey::wallet_state(wallet(*number), TokenId(1)), version)
        });
        self.view.apply(height, rows.collect::<Vec<_>>());
        self.log.0.lock().insert(height, Arc::new(block(height, &[])));
    }

    /// From now on each block moves money between two wallets.
    pub fn pay_on_and_on(self: &Arc<Self>) -> std::thread::JoinHandle<()> {
        let served = Arc::downgrade(self);
        let stop = Arc::clone(&self.stop);
        std::thread::spawn(move || {
            let mut balances = vec![EACH; usize::from(WALLETS)];
            let mut number = 0u64;
            while !stop.load(Ordering::Relaxed) {
                let Some(served) = served.upgrade() else { return };
                number += 1;
                let from = usize::try_from(number % u64::from(WALLETS)).unwrap();
                let to = usize::try_from((number * 7 + 3) % u64::from(WALLETS)).unwrap();
                let amount = balances[from] / 3;
                if from == to {
                    continue;
                }
                balances[from] -= amount;
                balances[to] += amount;
                let of = |at: usize| (u8::try_from(at).unwrap(), number + 1, balances[at]);
                served.apply(&[of(from), of(to)]);
                std::thread::sleep(std::time::Duration::from_micros(300));
            }
        })
    }
}
