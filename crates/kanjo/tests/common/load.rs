//! Payments of the operator to one wallet, many at a time, as fast as answers come.

use super::World;
use kanjo_api::{SubmitOutcome, frames};
use kanjo_client::{Client, Draft, Limits};
use kanjo_types::signature::{KeyKind, SecretKey};
use kanjo_types::{Amount, ChainId, Genesis, Operation, TokenId, UserId, WalletId, codec};
use serde_json::Value;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Payments in a request.
const FRAME: u64 = 500;
/// Requests under way.
const CONNECTIONS: u64 = 4;

/// Whoever pays.
pub struct Load {
    client: Client,
    key: SecretKey,
    chain: ChainId,
    operator: UserId,
    from: WalletId,
    to: WalletId,
    salt: AtomicU64,
    /// Payments that were answered.
    pub paid: AtomicU64,
}

impl Load {
    /// Pays from the operator of a development cluster to the first wallet of another user, by way
    /// of any of these nodes.
    pub fn new(world: &World, apis: &str, to: &Value) -> Self {
        let limits = Limits { submit: Duration::from_secs(120), ..Limits::default() };
        let client = Client::with_limits(apis, limits).expect("addresses");
        let genesis: Genesis = client.genesis().expect("a genesis");
        let file = std::fs::read_to_string(world.home.join("keys/operator.json")).expect("a key");
        let file: Value = serde_json::from_str(&file).expect("JSON");
        let mut seed = [0u8; 32];
        let secret = file["secret"]["plain"].as_str().expect("not encrypted");
        hex::decode_to_slice(secret, &mut seed).expect("hexadecimal");
        let to = to.as_str().expect("a wallet").parse().expect("a wallet id");
        Self {
            client,
            key: SecretKey::from_seed(KeyKind::Ed25519, seed).expect("a key"),
            chain: genesis.chain_id(),
            operator: genesis.user_id("operator").expect("an operator"),
            from: genesis.wallet_id("operator", 0).expect("a wallet"),
            to,
            salt: AtomicU64::new(0),
            paid: AtomicU64::new(0),
        }
    }

    fn frame(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for _ in 0..FRAME {
            let transfer = Operation::Transfer {
                token: TokenId(1),
                from: self.from,
                to: self.to,
                amount: Amount(1),
                reference: String::new(),
            };
            let draft = Draft::new(self.chain, self.operator).operation(transfer);
            let body = draft.body_with_salt(self.salt.fetch_add(1, Ordering::Relaxed));
            frames::append(&codec::to_bytes(&body.sign(&self.key)), &mut out);
        }
        out
    }

    /// Pays until `enough` says so; every payment must be done, once.
    pub fn run(&self, enough: impl Fn() -> bool + Sync) {
        std::thread::scope(|scope| {
            for _ in 0..CONNECTIONS {
                scope.spawn(|| {
                    while !enough() {
                        let answer = self.client.submit_frames(&self.frame()).expect("answered");
                        for outcome in &answer.outcomes {
                            let is_done = matches!(outcome,
                                SubmitOutcome::Recorded { result, .. } if result.is_ok());
                            assert!(is_done, "{outcome:?}");
                        }
                        self.paid.fetch_add(FRAME, Ordering::Relaxed);
                    }
                });
            }
        });
    }
}
