//! A small ledger for tests inside this crate: users with one key each, a block per call.

use crate::block::{genesis_block, roots};
use crate::{BlockContext, Ledger, evidence, prepare_value, verify_one};
use kanjo_types::block::{Certificate, HEADER_VERSION, Header};
use kanjo_types::genesis::{Cluster, FirstUser, FirstWallet, Rules, Voter};
use kanjo_types::money::{Act, Evidence, Grant, Order, Reason, Role};
use kanjo_types::policy::Policy;
use kanjo_types::signature::{KeyKind, SecretKey};
use kanjo_types::standing::ActRecord;
use kanjo_types::stored::{Block, Entry, Row};
use kanjo_types::{
    Access, Amount, Genesis, Hash, KeySignature, Operation, Record, ResultCode, SignedTransaction,
    TokenId, TransactionBody, TransactionId, UserId, WalletId,
};
use std::collections::BTreeMap;

pub(crate) const START_MS: u64 = 1_700_000_000_000;
/// The token under test; `bank` issues it.
pub(crate) const TOKEN: TokenId = TokenId(1);

fn key(name: &str) -> SecretKey {
    let mut seed = [7u8; 32];
    seed.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
    SecretKey::from_seed(KeyKind::Ed25519, seed).expect("valid seed")
}

/// An act as ordered; `expires_ms` counts for one that is proposed only.
pub(crate) fn order(act: Act, expires_ms: u64) -> Box<Order> {
    let reason = Reason { code: "COURT_ORDER".to_owned(), reference: String::new() };
    Box::new(Order { act, reason, expires_ms })
}

/// The act that a transaction recorded.
pub(crate) fn act_of(entry: &Entry) -> ActRecord {
    let mut acts = entry.rows.iter().filter_map(|row| match &row.record {
        Record::Act(act) => Some((**act).clone()),
        _ => None,
    });
    acts.next().expect("an act")
}

pub(crate) struct Bench {
    pub ledger: Ledger,
    pub time_ms: u64,
    pub blocks: Vec<Block>,
    records: BTreeMap<Hash, Record>,
    salt: u64,
}

impl Bench {
    /// Users with a wallet each, and the token with `policy`, of which `bank` holds all roles.
    pub(crate) fn new(names: &[&str], policy: Policy) -> Self {
        let user = |name: &&str| FirstUser {
            name: (*name).to_owned(),
            access: Access::Single(key(name).public()),
        };
        let wallet = |name: &&str| FirstWallet {
            owner: (*name).to_owned(),
            number: 0,
            balances: BTreeMap::new(),
        };
        let genesis = Genesis {
            version: 1,
            name: "test".to_owned(),
            time_ms: START_MS,
            rules: Rules {
                replay_window_ms: 60_000,
                open_registration: false,
                open_tokens: true,
                operators: Vec::new(),
            },
            voters: vec![Voter::alone("v", [1; 32])],
            cluster: Cluster::default(),
            users: names.iter().map(user).collect(),
            tokens: Vec::new(),
            wallets: names.iter().map(wallet).collect(),
        };
        genesis.check().expect("a good genesis");
        let (block, ledger, _) = genesis_block(&genesis);
        let (records, blocks) = (BTreeMap::new(), vec![block]);
        let mut bench = Self { ledger, time_ms: START_MS, blocks, records, salt: 0 };
        let create = Operation::CreateToken {
            symbol: "JPY".to_owned(),
            name: "yen".to_owned(),
            decimals: 0,
            issuer: bench.user("bank"),
            policy: Box::new(policy),
            grants: Vec::new(),
        };
        bench.done(&["bank"], vec![create]);
        bench
    }

    pub(crate) fn user(&self, name: &str) -> UserId {
        UserId::derive(self.ledger.chain(), &Access::Single(key(name).public()), 0)
    }

    pub(crate) fn wallet(&self, name: &str) -> WalletId {
        WalletId::derive(self.ledger.chain(), self.user(name), 0)
    }

    pub(crate) fn balance(&self, name: &str) -> u128 {
        self.ledger.states().get(&(self.wallet(name), TOKEN)).map_or(0, |row| row.balance.0)
    }

    fn header(&self, height: u64) -> Hash {
        self.blocks[usize::try_from(height).expect("small")].header.hash()
    }

    fn sign(&mut self, signers: &[&str], operations: Vec<Operation>) -> SignedTransaction {
        self.salt += 1;
        let mut parties: Vec<(UserId, &str)> =
            signers[1..].iter().map(|name| (self.user(name), *name)).collect();
        parties.sort_unstable();
        let mut all = operations;
        if !parties.is_empty() {
            let users = parties.iter().map(|(user, _)| *user).collect();
            all.insert(0, Operation::Parties { users });
        }
        let body = TransactionBody {
            version: 1,
            chain: self.ledger.chain(),
            author: self.user(signers[0]),
            valid_until_ms: self.time_ms + 60_000,
            salt: self.salt,
            operations: all,
        };
        let digest = body.id().0;
        let names = signers[..1].iter().copied().chain(parties.iter().map(|(_, name)| *name));
        let signatures = (0u8..)
            .zip(names)
            .map(|(position, name)| KeySignature {
                key: position,
                signature: key(name).sign(&digest),
            })
            .collect();
        SignedTransaction { body, signatures }
    }

    /// One transaction in a block of its own, one millisecond later.
    pub(crate) fn run(&mut self, signers: &[&str], operations: Vec<Operation>) -> Entry {
        self.time_ms += 1;
        let signed = self.sign(signers, operations);
        let prepared = prepare_value(&signed, self.ledger.chain()).expect("well formed");
        let keys = self.ledger.author_keys(prepared.transaction());
        let mut verified = verify_one(prepared, keys).expect("verifies");
        let wanted = verified.wanted_headers().into_iter();
        let below = self.blocks.len() as u64;
        let headers = wanted.filter(|height| *height < below);
        let headers = headers.map(|height| (height, self.header(height))).collect();
        verified.set_headers(headers);
        let context = BlockContext { height: below, time_ms: self.time_ms };
        self.ledger.begin_block(context);
        let entry = self.ledger.execute(context, 0, &verified).expect("recorded");
        let effects = self.ledger.end_block();
        self.ledger.audit_supply().expect("adds up");
        self.records.extend(entry.rows.iter().map(|row| (row.hash, row.record.clone())));
        let roots = roots(std::slice::from_ref(&entry));
        let header = Header {
            version: HEADER_VERSION,
            chain: self.ledger.chain(),
            height: context.height,
            parents: vec![self.header(context.height - 1)],
            time_ms: self.time_ms,
            producer: 0,
            transactions: 1,
            transactions_root: roots.transactions,
            receipts_root: roots.receipts,
            state_root: Hash::ZERO,
            history_root: Hash::ZERO,
            fees: effects.fees,
            supply: effects.supply,
        };
        let certificate = Certificate { epoch: 0, votes: Vec::new() };
        let entries = vec![entry.clone()];
        self.blocks.push(Block { header, certificate, entries, genesis_rows: Vec::new() });
        entry
    }

    /// As [`Bench::run`]; must pass. Gives the id.
    pub(crate) fn done(&mut self, signers: &[&str], operations: Vec<Operation>) -> TransactionId {
        let entry = self.run(signers, operations);
        assert_eq!(entry.result, ResultCode::Ok, "operation {:?}", entry.failed_operation);
        entry.record.id
    }

    pub(crate) fn issue(&mut self, to: &str, amount: u128) -> TransactionId {
        let (to, amount) = (self.wallet(to), Amount(amount));
        self.done(&["bank"], vec![Operation::Issue { token: TOKEN, to, amount }])
    }

    pub(crate) fn pay(&mut self, from: &str, to: &str, amount: u128) -> TransactionId {
        let transfer = self.transfer(from, to, amount);
        self.done(&[from], vec![transfer])
    }

    pub(crate) fn transfer(&self, from: &str, to: &str, amount: u128) -> Operation {
        Operation::Transfer {
            token: TOKEN,
            from: self.wallet(from),
            to: self.wallet(to),
            amount: Amount(amount),
            reference: String::new(),
        }
    }

    pub(crate) fn grant(&self, role: Role, names: &[&str], threshold: u8) -> Grant {
        let mut holders: Vec<UserId> = names.iter().map(|name| self.user(name)).collect();
        holders.sort_unstable();
        Grant { role, holders, threshold }
    }

    /// Orders an act without evidence; proposals hold for ten milliseconds.
    pub(crate) fn order(&mut self, signers: &[&str], act: Act) -> Entry {
        let order = order(act, self.time_ms + 10);
        self.run(signers, vec![Operation::Act { order, evidence: Vec::new() }])
    }

    pub(crate) fn evidence(&self, id: TransactionId) -> Evidence {
        let holds = |block: &&Block| block.entries.iter().any(|entry| entry.record.id == id);
        let block = self.blocks.iter().find(holds).expect("recorded");
        let position = block.entries.iter().position(|entry| entry.record.id == id);
        let position = u32::try_from(position.expect("found")).expect("small");
        let before = |row: &Row| self.records.get(&row.record.previous()).cloned();
        evidence::make(&block.header, &block.entries, position, before).expect("evidence")
    }

    pub(crate) fn evidence_of(&self, ids: &[TransactionId]) -> Vec<Evidence> {
        ids.iter().map(|id| self.evidence(*id)).collect()
    }
}
