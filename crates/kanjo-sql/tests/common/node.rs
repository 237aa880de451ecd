//! A real node of a ledger with some users, and SQL for them.

use super::super::common::text;
use kanjo_client::Client;
use kanjo_node::{Config, RunningNode};
use kanjo_sql::{Limits, Role, Roles, Service, SqlServer, serve};
use kanjo_types::genesis::{
    Cluster, FirstToken, FirstUser, FirstWallet, GENESIS_VERSION, Rules, Voter,
};
use kanjo_types::signature::{KeyKind, SecretKey};
use kanjo_types::{Access, Amount, Genesis, Policy, PublicKey, WalletId};
use std::net::TcpListener;
use std::sync::Arc;
use tokio_postgres::{Client as Postgres, NoTls};

const VOTE_SECRET: [u8; 32] = [77; 32];
pub const FIRST_BALANCE: u128 = 1_000_000;
pub const USERS: [&str; 3] = ["alice", "bob", "carol"];

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(KeyKind::Ed25519, [seed; 32]).unwrap()
}

fn genesis() -> Genesis {
    let vote = SecretKey::from_seed(KeyKind::Ed25519, VOTE_SECRET).unwrap().public();
    let PublicKey::Ed25519(vote) = vote else { unreachable!("an Ed25519 key") };
    let token = |symbol: &str, decimals| FirstToken {
        symbol: symbol.to_owned(),
        name: symbol.to_owned(),
        decimals,
        issuer: "alice".to_owned(),
        policy: Policy::default(),
    };
    let seeds = (1u8..).zip(USERS);
    let users = seeds.map(|(seed, name)| FirstUser {
        name: name.to_owned(),
        access: Access::Single(key(seed).public()),
    });
    let wallets = USERS.map(|name| FirstWallet {
        owner: name.to_owned(),
        number: 0,
        balances: [("JPY".to_owned(), Amount(FIRST_BALANCE))].into(),
    });
    Genesis {
        version: GENESIS_VERSION,
        name: "SQL".to_owned(),
        time_ms: 1_700_000_000_000,
        rules: Rules {
            replay_window_ms: 86_400_000,
            open_registration: true,
            open_tokens: true,
            operators: vec!["alice".to_owned()],
        },
        voters: vec![Voter::alone("node-1", vote)],
        cluster: Cluster::default(),
        users: users.collect(),
        tokens: vec![token("JPY", 0), token("EUR", 2)],
        wallets: wallets.to_vec(),
    }
}

/// A node with SQL; both stop with it.
pub struct Node {
    _dir: Option<Arc<tempfile::TempDir>>,
    genesis: Genesis,
    pub node: Option<RunningNode>,
    pub server: Option<SqlServer>,
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
        }
        if let Some(node) = self.node.take() {
            node.stop().unwrap();
        }
    }
}

impl Node {
    pub fn start() -> Self {
        Self::with(Limits::default())
    }

    pub fn with(limits: Limits) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let genesis = genesis();
        kanjo_node::data::create(&dir.path().join("data"), &genesis, VOTE_SECRET).unwrap();
        Self::open(dir, genesis, limits)
    }

    fn open(dir: Arc<tempfile::TempDir>, genesis: Genesis, limits: Limits) -> Self {
        let mut config = Config::new(dir.path().join("data"));
        config.listen = "127.0.0.1:0".parse().unwrap();
        config.view = true;
        let node = kanjo_node::start(config).unwrap();
        let client = Client::new(&format!("http://{}", node.address())).unwrap();
        let mut roles = Roles::default();
        for (seed, name) in (1u8..).zip(USERS) {
            let user = genesis.user_id(name).unwrap();
            roles.add(name, Role { user, key: Some(Arc::new(key(seed))) });
        }
        let service = Service {
            view: node.view().unwrap(),
            log: node.log(),
            chain: node.chain(),
            client: Some(Arc::new(client)),
            roles,
            limits,
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = serve(listener, service).unwrap();
        Self { _dir: Some(dir), genesis, node: Some(node), server: Some(server) }
    }

    /// Stops it and starts it again on the same data.
    pub fn restart(mut self) -> Self {
        let dir = self._dir.take().unwrap();
        let genesis = self.genesis.clone();
        drop(self);
        Self::open(dir, genesis, Limits::default())
    }

    pub async fn connect(&self, role: &str) -> Postgres {
        let port = self.server.as_ref().unwrap().address().port();
        let config = format!("host=127.0.0.1 port={port} user={role} dbname=kanjo");
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    pub fn wallet(&self, name: &str) -> WalletId {
        self.genesis.wallet_id(name, 0).unwrap()
    }

    pub fn user(&self, name: &str) -> String {
        self.genesis.user_id(name).unwrap().to_string()
    }

    /// What a wallet holds.
    pub async fn balance(&self, client: &Postgres, name: &str) -> u128 {
        let wallet = self.wallet(name);
        let sql =
            format!("SELECT balance FROM wallet_states WHERE wallet = '{wallet}' AND token = 1");
        text::one(client, &sql).await.parse().unwrap()
    }
}
