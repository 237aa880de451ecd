//! A small ledger that makes consistent stored blocks. It knows balances, versions and links, and
//! nothing of permissions: enough for the block format, which stores what the rules decided.
#![allow(dead_code, missing_docs, reason = "each test file uses a part of it")]

use kanjo_types::access::{Access, PublicKey};
use kanjo_types::block::{Certificate, Header, SupplyChange, TokenAmount, Vote};
use kanjo_types::codec;
use kanjo_types::record::{
    Record, Spent, StateExtra, TokenRecord, TransactionRecord, UserRecord, WalletRecord,
    WalletStateRecord,
};
use kanjo_types::standing::{Links, PendingRecord, PendingStatus};
use kanjo_types::stored::{Block, Entry, Location, Named, Row, spent_states};
use kanjo_types::transaction::{LEDGER, Operation, SignedTransaction, TransactionBody};
use kanjo_types::{
    Amount, ChainId, Hash, KeySignature, PendingId, ResultCode, TokenId, UserId, WalletId,
};
use std::collections::BTreeMap;

pub const CHAIN: ChainId = ChainId(Hash([0xcc; 32]));
type StateKey = (WalletId, TokenId);

pub const START_MS: u64 = 1_767_225_600_000;

/// A version that stands, where it was made, and by which transaction record.
#[derive(Clone)]
struct Standing {
    record: Record,
    version: u64,
    hash: Hash,
    made_at: Location,
    made_by: Hash,
}

/// Rows by the canonical bytes of their place.
#[derive(Default)]
pub struct Ledger {
    rows: BTreeMap<Vec<u8>, Standing>,
    height: u64,
    tokens: u32,
    last_header: Hash,
}

pub fn user(n: u8) -> UserId {
    UserId([n; 16])
}

pub fn wallet(n: u8) -> WalletId {
    WalletId([0x80 | n; 16])
}

pub fn key(n: u8) -> Access {
    Access::Single(PublicKey::Ed25519([n; 32]))
}

/// Pending payments of this ledger are numbered.
pub fn pending(n: u8) -> PendingId {
    PendingId([n; 16])
}

pub fn reserve(token: u32, from: u8, to: u8, amount: u128) -> Operation {
    Operation::Reserve {
        token: TokenId(token),
        from: wallet(from),
        to: wallet(to),
        amount: Amount(amount),
        expires_ms: START_MS,
        agent: None,
        linked: false,
        reference: String::new(),
    }
}

pub fn expire(n: u8) -> Operation {
    Operation::ExpirePending { pending: pending(n) }
}

/// Pays one unit to each.
pub fn interest(token: u32, from: u8, to: &[u8]) -> Operation {
    let to = to.iter().map(|n| wallet(*n)).collect();
    let (token, from) = (TokenId(token), wallet(from));
    Operation::PayInterest { token, from, to, rate_ppm: 1, days: 1, year: 365 }
}

pub fn pay(token: u32, from: u8, to: u8, amount: u128, reference: &str) -> Operation {
    Operation::Transfer {
        token: TokenId(token),
        from: wallet(from),
        to: wallet(to),
        amount: Amount(amount),
        reference: reference.to_owned(),
    }
}

fn place(record: &Record) -> Vec<u8> {
    codec::to_bytes(&record.place().expect("a row"))
}

fn state_of(wallet: WalletId, token: TokenId) -> Record {
    Record::WalletState(WalletStateRecord {
        wallet,
        token,
        version: 0,
        balance: Amount::ZERO,
        extra: None,
        previous: Hash::ZERO,
        transaction: Hash::ZERO,
        wallet_record: Hash([wallet.0[0]; 32]),
    })
}

fn set_links(record: &mut Record, new_version: u64, new_previous: Hash, new_transaction: Hash) {
    let (version, previous, transaction) = match record {
        Record::User(r) => (&mut r.version, &mut r.previous, &mut r.transaction),
        Record::Wallet(r) => (&mut r.version, &mut r.previous, &mut r.transaction),
        Record::Token(r) => (&mut r.version, &mut r.previous, &mut r.transaction),
        Record::WalletState(r) => (&mut r.version, &mut r.previous, &mut r.transaction),
        Record::Transaction(_) => panic!("transactions are no rows"),
        other => {
            let links = other.links_mut().expect("links");
            (&mut links.version, &mut links.previous, &mut links.transaction)
        }
    };
    *version = new_version;
    *previous = new_previous;
    *transaction = new_transaction;
}

impl Ledger {
    /// Block 0: users 1 … 4 with wallets 1 … 4, token 1, and money in wallets 1 and 2.
    pub fn genesis() -> (Self, Block) {
        let mut ledger = Self::default();
        let token = Self::token_record(TokenId(1), "JPY", "Japanese yen", 0, user(1));
        let mut records: Vec<Record> =
            (1..=4).map(|n| Self::user_record(user(n), key(n))).collect();
        records.push(token);
        records.extend((1..=4).map(|n| Self::wallet_record(wallet(n), user(n), 0)));
        for n in [1, 2] {
            let Record::WalletState(mut state) = state_of(wallet(n), TokenId(1)) else { continue };
            state.balance = Amount(1_000_000);
            records.push(Record::WalletState(state));
        }
        ledger.tokens = 1;
        let at = Location::default();
        let genesis_rows =
            records.into_iter().map(|record| ledger.put(record, CHAIN.0, at)).collect();
        let block = ledger.block(vec![], genesis_rows);
        (ledger, block)
    }

    fn user_record(id: UserId, access: Access) -> Record {
        let (previous, transaction) = (Hash::ZERO, Hash::ZERO);
        Record::User(UserRecord { id, version: 0, access, sponsor: id, previous, transaction })
    }

    fn wallet_record(id: WalletId, owner: UserId, number: u64) -> Record {
        let (previous, transaction, owner_record) =
            (Hash::ZERO, Hash::ZERO, Hash([owner.0[0]; 32]));
        let version = 0;
        let record =
            WalletRecord { id, version, owner, number, previous, transaction, owner_record };
        Record::Wallet(record)
    }

    fn token_record(id: TokenId, symbol: &str, name: &str, decimals: u8, issuer: UserId) -> Record {
        Record::Token(TokenRecord {
            id,
            version: 0,
            symbol: symbol.to_owned(),
            name: name.to_owned(),
            decimals,
            issuer,
            issued: Amount(2_000_000),
            redeemed: Amount::ZERO,
            rules: None,
            previous: Hash::ZERO,
            transaction: Hash::ZERO,
            issuer_record: Hash([issuer.0[0]; 32]),
        })
    }

    /// Makes the next version of a row.
    fn put(&mut self, mut record: Record, transaction: Hash, at: Location) -> Row {
        let place = place(&record);
        let (version, previous, previous_at) = match self.rows.get(&place) {
            Some(standing) => (standing.version + 1, standing.hash, standing.made_at),
            None => (1, Hash::ZERO, Location::default()),
        };
        set_links(&mut record, version, previous, transaction);
        let hash = record.hash();
        let (made_at, made_by, copy) = (at, transaction, record.clone());
        self.rows.insert(place, Standing { record: copy, version, hash, made_at, made_by });
        Row { record, hash, previous_at, named: false }
    }

    fn current(&self, fallback: Record) -> Record {
        self.rows.get(&place(&fallback)).map_or(fallback, |standing| standing.record.clone())
    }

    fn block(&mut self, entries: Vec<Entry>, genesis_rows: Vec<Row>) -> Block {
        let height = self.height;
        let change = SupplyChange { token: TokenId(1), issued: Amount(9), redeemed: Amount(3) };
        let header = Header {
            version: 1,
            chain: CHAIN,
            height,
            parents: if height == 0 { vec![] } else { vec![self.last_header] },
            time_ms: START_MS + height,
            producer: 1,
            transactions: u32::try_from(entries.len()).expect("few"),
            transactions_root: Hash([1; 32]),
            receipts_root: Hash([2; 32]),
            state_root: Hash([3; 32]),
            history_root: Hash([4; 32]),
            fees: vec![TokenAmount { token: TokenId(1), amount: Amount(height.into()) }],
            supply: if height.is_multiple_of(2) { vec![] } else { vec![change] },
        };
        let votes = (0..3)
            .map(|voter| Vote { voter, answer: Hash([5; 32]), signature: [0x55; 64] })
            .collect();
        self.last_header = header.hash();
        self.height += 1;
        Block { header, certificate: Certificate { epoch: 0, votes }, entries, genesis_rows }
    }

    /// Goes on at a greater height.
    pub fn skip_to(&mut self, height: u64) {
        assert!(height >= self.height);
        self.height = height;
    }

    /// The next block, of these transactions. One whose operations can't all be done is recorded as
    /// failed.
    pub fn next(&mut self, transactions: Vec<Vec<Operation>>) -> Block {
        let entries = transactions.into_iter().zip(0..);
        let entries = entries.map(|(operations, at)| self.entry(operations, at)).collect();
        self.block(entries, vec![])
    }

    fn entry(&mut self, operations: Vec<Operation>, position: u32) -> Entry {
        let of_the_ledger = matches!(operations.first(), Some(Operation::ExpirePending { .. }));
        let body = TransactionBody {
            version: 1,
            chain: CHAIN,
            author: if of_the_ledger { LEDGER } else { user(1) },
            valid_until_ms: START_MS + 60_000,
            salt: self.height * 1_000 + u64::from(position),
            operations,
        };
        let signature = KeySignature { key: 0, signature: [0x66; 64] };
        let signatures = if of_the_ledger { vec![] } else { vec![signature] };
        let signed = SignedTransaction { body, signatures };
        let operations = &signed.body.operations;
        let outcome = Trial::of(self, operations);
        let (spent, named) = match &outcome {
            Ok(trial) => self.spent(operations, trial),
            Err(_) => (vec![], vec![]),
        };
        let record = Record::Transaction(TransactionRecord {
            id: signed.body.id(),
            witness: signed.witness(),
            height: self.height,
            position,
            time_ms: START_MS + self.height,
            author_record: if of_the_ledger { Hash::ZERO } else { Hash([0xa0; 32]) },
            spent,
        });
        let hash = record.hash();
        let Record::Transaction(record) = record else { panic!("a transaction") };
        let at = Location { height: self.height, position };
        let (result, failed_operation, rows) = match outcome {
            Ok(trial) => (ResultCode::Ok, None, self.take(trial, &named, hash, at)),
            Err(failed) => (ResultCode::InsufficientFunds, Some(failed), vec![]),
        };
        let raw = codec::to_bytes(&signed).into();
        Entry { raw, record, hash, result, failed_operation, rows }
    }

    /// Makes new versions of all that a transaction changes.
    fn take(&mut self, trial: Trial, named: &[bool], hash: Hash, at: Location) -> Vec<Row> {
        let others = trial.others.into_iter().map(|record| self.put(record, hash, at));
        let mut rows: Vec<Row> = others.collect();
        for (state, named) in trial.states.into_iter().zip(named) {
            let row = self.put(Record::WalletState(state), hash, at);
            rows.push(Row { named: *named, ..row });
        }
        rows
    }

    /// The states that are spent, with the transactions that made them, and which of the changed
    /// states the operations name.
    fn spent(&self, operations: &[Operation], trial: &Trial) -> (Vec<Spent>, Vec<bool>) {
        let mut walk = Named::new(operations);
        let keys = || trial.states.iter().map(|state| (state.wallet, state.token));
        let named: Vec<bool> = keys().map(|key| walk.is_next(key)).collect();
        let short = trial.states.iter().zip(&named);
        let short = short.map(|(state, named)| *named && state.extra.is_none());
        let spent = spent_states(operations, keys().zip(short)).into_iter();
        let found =
            spent.filter_map(|(wallet, token)| self.rows.get(&place(&state_of(wallet, token))));
        let spent = found.map(|row| Spent { state: row.hash, transaction: row.made_by });
        (spent.collect(), named)
    }

    fn made_by(&self, operation: &Operation, earlier: usize) -> Record {
        match operation {
            Operation::CreateUser { access, number } => {
                let id = UserId::derive(CHAIN, access, *number);
                self.current(Self::user_record(id, access.clone()))
            }
            Operation::RotateKeys { user, access } => {
                let mut record = self.current(Self::user_record(*user, access.clone()));
                if let Record::User(user) = &mut record {
                    user.access = access.clone();
                }
                record
            }
            Operation::CreateWallet { owner, number } => {
                let id = WalletId::derive(CHAIN, *owner, *number);
                self.current(Self::wallet_record(id, *owner, *number))
            }
            Operation::CreateToken { symbol, name, decimals, issuer, .. } => {
                let number = u32::try_from(earlier).expect("few") + 100 * self.height_32();
                Self::token_record(TokenId(self.tokens + number), symbol, name, *decimals, *issuer)
            }
            _ => panic!("moves money"),
        }
    }

    fn height_32(&self) -> u32 {
        u32::try_from(self.height).expect("few blocks")
    }
}

/// New values in the order of the format.
#[derive(Default)]
struct Trial {
    others: Vec<Record>,
    states: Vec<WalletStateRecord>,
}

impl Trial {
    /// What the operations make, or the one that can't be done.
    fn of(ledger: &Ledger, operations: &[Operation]) -> Result<Self, u32> {
        let mut trial = Self::default();
        for (operation, at) in operations.iter().zip(0u32..) {
            trial.apply(ledger, operation).ok_or(at)?;
        }
        Ok(trial)
    }

    fn state(&mut self, ledger: &Ledger, key: StateKey) -> &mut WalletStateRecord {
        let found = self.states.iter().position(|state| (state.wallet, state.token) == key);
        let position = found.unwrap_or_else(|| {
            if let Record::WalletState(state) = ledger.current(state_of(key.0, key.1)) {
                self.states.push(state);
            }
            self.states.len() - 1
        });
        &mut self.states[position]
    }

    fn take(&mut self, ledger: &Ledger, key: StateKey, amount: Amount) -> Option<()> {
        let state = self.state(ledger, key);
        state.balance = state.balance.checked_sub(amount)?;
        Some(())
    }

    fn give(&mut self, ledger: &Ledger, key: StateKey, amount: Amount) -> Option<()> {
        let state = self.state(ledger, key);
        state.balance = state.balance.checked_add(amount)?;
        Some(())
    }

    /// Sets what is reserved in a wallet.
    fn hold(&mut self, ledger: &Ledger, key: StateKey, change: impl Fn(&mut StateExtra)) {
        let state = self.state(ledger, key);
        let mut extra = state.extra();
        change(&mut extra);
        state.extra = extra.canonical();
    }

    fn apply(&mut self, ledger: &Ledger, operation: &Operation) -> Option<()> {
        match operation {
            Operation::Issue { token, to, amount } => self.give(ledger, (*to, *token), *amount),
            Operation::Redeem { token, from, amount } => {
                self.take(ledger, (*from, *token), *amount)
            }
            Operation::Transfer { token, from, to, amount, .. } => {
                self.take(ledger, (*from, *token), *amount)?;
                self.give(ledger, (*to, *token), *amount)
            }
            Operation::PayInterest { token, from, to, .. } => {
                for to in to {
                    self.take(ledger, (*from, *token), Amount(1))?;
                    self.give(ledger, (*to, *token), Amount(1))?;
                }
                Some(())
            }
            Operation::Reserve { .. } => self.reserve(ledger, operation),
            Operation::ExpirePending { pending } => self.expire(ledger, *pending),
            _ => {
                self.others.push(ledger.made_by(operation, self.others.len()));
                Some(())
            }
        }
    }

    fn reserve(&mut self, ledger: &Ledger, operation: &Operation) -> Option<()> {
        let Operation::Reserve { token, from, to, amount, expires_ms, reference, .. } = operation
        else {
            return None;
        };
        self.take(ledger, (*from, *token), *amount)?;
        self.hold(ledger, (*from, *token), |extra| extra.reserved.0 += amount.0);
        // The number after all that there are.
        let made = |record: &Record| matches!(record, Record::Pending(_));
        let before = ledger.rows.values().filter(|standing| made(&standing.record)).count();
        let here = self.others.iter().filter(|record| made(record)).count();
        let id = pending(u8::try_from(before + here + 1).ok()?);
        self.others.push(Record::Pending(Box::new(PendingRecord {
            id,
            links: Links::default(),
            token: *token,
            from: *from,
            to: *to,
            amount: *amount,
            fee: Amount::ZERO,
            created_ms: START_MS,
            expires_ms: *expires_ms,
            agent: None,
            chain: id,
            members: vec![],
            reference: reference.clone(),
            status: PendingStatus::Open,
        })));
        Some(())
    }

    fn expire(&mut self, ledger: &Ledger, id: PendingId) -> Option<()> {
        let mut found = ledger.rows.values().find_map(|standing| match &standing.record {
            Record::Pending(pending) if pending.id == id => Some(pending.clone()),
            _ => None,
        })?;
        let known = self.others.iter().any(|record| matches!(record, Record::Pending(_)));
        if found.status != PendingStatus::Open || known {
            return None;
        }
        let (key, amount) = ((found.from, found.token), found.amount);
        self.hold(ledger, key, |extra| extra.reserved.0 -= amount.0);
        self.give(ledger, key, amount)?;
        found.status = PendingStatus::Expired;
        self.others.push(Record::Pending(found));
        Some(())
    }
}
