//! A chain of blocks under test: whatever is executed on it is checked from every side after each
//! block.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

pub mod cluster;
pub mod copies;
pub mod rules;

use kanjo_ledger::block::{build_trees, genesis_block, roots};
use kanjo_ledger::{
    BlockContext, Ledger, NoticeError, PartitionSnapshot, Prepared, Verified, evidence, prepare,
    verify,
};
use kanjo_proof::state::StateTree;
use kanjo_types::block::{Certificate, HEADER_VERSION, Header, SupplyChange};
use kanjo_types::genesis::{Cluster, FirstToken, FirstUser, FirstWallet, Rules, Voter};
use kanjo_types::hash::{TAG_SIGNERS, digest};
use kanjo_types::membership::{Notice, Statement};
use kanjo_types::money::Evidence;
use kanjo_types::record::{PARTITIONS, RowKey};
use kanjo_types::signature::{KeyKind, SecretKey};
use kanjo_types::stored::{
    Block, Entry, Location, Named, Row, decode_block, encode_block, paying_states,
};
use kanjo_types::transaction::{LEDGER, Refused};
use kanjo_types::{
    Access, Amount, ChainId, Genesis, Hash, KeySignature, Operation, Policy, Record, ResultCode,
    SignedTransaction, Table, TransactionBody, TransactionId, UserId, codec,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Time of every genesis here.
pub const START_MS: u64 = 1_700_000_000_000;

/// Keys of one user, in the order of its access.
#[derive(Clone)]
pub struct KeySet {
    pub access: Access,
    seeds: Vec<(KeyKind, [u8; 32])>,
}

impl KeySet {
    /// `threshold` of one key of each kind in `kinds`, derived from `name`.
    pub fn new(name: &str, threshold: u8, kinds: &[KeyKind]) -> Self {
        let seed = |number: usize| {
            let mut seed = [7u8; 32];
            seed.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
            seed[31] = u8::try_from(number).unwrap();
            seed
        };
        let mut seeds: Vec<(KeyKind, [u8; 32])> =
            kinds.iter().enumerate().map(|(number, kind)| (*kind, seed(number))).collect();
        let public = |(kind, seed): &(KeyKind, [u8; 32])| {
            SecretKey::from_seed(*kind, *seed).unwrap().public()
        };
        seeds.sort_by_key(public);
        let access = Access::new(threshold, seeds.iter().map(public).collect()).unwrap();
        Self { access, seeds }
    }

    /// One Ed25519 key.
    pub fn single(name: &str) -> Self {
        Self::new(name, 1, &[KeyKind::Ed25519])
    }

    /// As many signatures as needed, by the first keys.
    pub fn sign(&self, body: TransactionBody) -> SignedTransaction {
        let positions: Vec<u8> = (0..self.access.threshold()).collect();
        self.sign_at(body, &positions)
    }

    /// Signatures that claim the given key positions; a position without key is signed by the
    /// first.
    pub fn sign_at(&self, body: TransactionBody, positions: &[u8]) -> SignedTransaction {
        let digest = body.id().0;
        let signature = |position: &u8| {
            let (kind, seed) = *self.seeds.get(usize::from(*position)).unwrap_or(&self.seeds[0]);
            let signature = SecretKey::from_seed(kind, seed).unwrap().sign(&digest);
            KeySignature { key: *position, signature }
        };
        let signatures = positions.iter().map(signature).collect();
        SignedTransaction { body, signatures }
    }
}

/// A genesis to add users, tokens and wallets to.
pub fn empty_genesis() -> Genesis {
    let rules = Rules {
        replay_window_ms: 60_000,
        open_registration: false,
        open_tokens: false,
        operators: Vec::new(),
    };
    Genesis {
        version: 1,
        name: "test".to_owned(),
        time_ms: START_MS,
        rules,
        voters: vec![Voter::alone("v", [1; 32])],
        cluster: Cluster::default(),
        users: Vec::new(),
        tokens: Vec::new(),
        wallets: Vec::new(),
    }
}

pub fn first_user(name: &str, keys: &KeySet) -> FirstUser {
    FirstUser { name: name.to_owned(), access: keys.access.clone() }
}

pub fn first_token(symbol: &str, issuer: &str) -> FirstToken {
    FirstToken {
        symbol: symbol.to_owned(),
        name: format!("{symbol} of {issuer}"),
        decimals: 0,
        issuer: issuer.to_owned(),
        policy: Policy::default(),
    }
}

pub fn first_wallet(owner: &str, number: u64, balances: &[(&str, u128)]) -> FirstWallet {
    let balances =
        balances.iter().map(|(symbol, amount)| ((*symbol).to_owned(), Amount(*amount))).collect();
    FirstWallet { owner: owner.to_owned(), number, balances }
}

/// What is known of the newest version of a row.
#[derive(Clone, Copy)]
struct Known {
    version: u64,
    hash: Hash,
    transaction: Hash,
    at: Location,
}

pub fn snapshots(ledger: &Ledger) -> Vec<PartitionSnapshot> {
    (0..64).map(|partition| ledger.snapshot(partition)).collect()
}

/// The ledger under test, one that only redoes blocks, and everything seen so far.
pub struct Chain {
    pub genesis: Genesis,
    pub ledger: Ledger,
    pub tree: StateTree,
    pub redone: Ledger,
    pub blocks: Vec<Block>,
    /// How many transactions of the last block are the ledger's own.
    pub due: usize,
    /// Trees and the redone ledger are compared at each so many heights: it takes long.
    pub compared_every: u64,
    /// By key of the wallet's state.
    overdrafts: BTreeMap<RowKey, u128>,
    credits: BTreeMap<RowKey, u128>,
    known: BTreeMap<(Table, RowKey), Known>,
    taken: BTreeSet<Hash>,
}

impl Chain {
    pub fn new(genesis: Genesis) -> Self {
        genesis.check().expect("a good genesis");
        let (block, ledger, tree) = genesis_block(&genesis);
        let decoded = decode_block(&encode_block(&block), genesis.chain_id()).expect("decodes");
        assert_eq!(decoded, block, "the genesis block survives its encoding");
        let mut redone = Ledger::new(&genesis);
        redone.redo(&decoded, |_| true);
        let mut chain = Self {
            genesis,
            ledger,
            tree,
            redone,
            blocks: Vec::new(),
            due: 0,
            compared_every: 1,
            overdrafts: BTreeMap::new(),
            credits: BTreeMap::new(),
            known: BTreeMap::new(),
            taken: BTreeSet::new(),
        };
        let link = chain.chain().0;
        chain.check_rows(&block.genesis_rows, link, Location::default());
        chain.blocks.push(block);
        chain.check_state();
        chain
    }

    pub fn chain(&self) -> ChainId {
        self.ledger.chain()
    }

    pub fn height(&self) -> u64 {
        self.blocks.last().unwrap().header.height
    }

    /// The route of a node: shape, then signatures against the present keys.
    pub fn admit(&self, transaction: &SignedTransaction) -> Result<Verified, Refused> {
        self.admit_raw(codec::to_bytes(transaction))
    }

    pub fn admit_raw(&self, raw: Vec<u8>) -> Result<Verified, Refused> {
        let prepared: Prepared = prepare(raw.into(), self.chain())?;
        let keys = self.ledger.author_keys(prepared.transaction());
        verify(vec![(prepared, keys)]).pop().unwrap()
    }

    /// Executes one block.
    pub fn block(
        &mut self,
        time_ms: u64,
        transactions: &[Verified],
    ) -> Vec<Result<Entry, Refused>> {
        let context = BlockContext { height: self.height() + 1, time_ms };
        self.ledger.begin_block(context);
        let mut outcomes = Vec::new();
        let mut entries = self.ledger.run_due(context).expect("what is due can be recorded");
        self.due = entries.len();
        for transaction in transactions {
            let position = u32::try_from(entries.len()).unwrap();
            let transaction = self.with_headers(transaction.clone());
            let outcome = self.ledger.execute(context, position, &transaction);
            if let Ok(entry) = &outcome {
                entries.push(entry.clone());
            }
            outcomes.push(outcome);
        }
        self.finish(context, entries);
        outcomes
    }

    /// A block in which the ledger takes notices of members; those not taken leave no trace.
    pub fn hear(
        &mut self,
        time_ms: u64,
        notices: &[(Notice, Vec<Statement>)],
    ) -> Vec<Result<Entry, NoticeError>> {
        let context = BlockContext { height: self.height() + 1, time_ms };
        self.ledger.begin_block(context);
        let mut entries = self.ledger.run_due(context).expect("what is due can be recorded");
        let mut outcomes = Vec::new();
        for (notice, statements) in notices {
            let position = u32::try_from(entries.len()).unwrap();
            let before = Arc::clone(self.ledger.membership());
            let (notice, statements) = (notice.clone(), statements.clone());
            let outcome = self.ledger.take_notice(context, position, notice, statements);
            match &outcome {
                Ok(entry) => entries.push(entry.clone()),
                Err(_) => assert_eq!(*self.ledger.membership(), before, "nothing changes"),
            }
            outcomes.push(outcome);
        }
        self.finish(context, entries);
        outcomes
    }

    /// Ends a block, and checks everything that must hold after it.
    fn finish(&mut self, context: BlockContext, entries: Vec<Entry>) {
        let time_ms = context.time_ms;
        let roots = roots(&entries);
        let effects = self.ledger.end_block();
        self.tree.update(&effects.leaves);
        let header = Header {
            version: HEADER_VERSION,
            chain: self.chain(),
            height: context.height,
            parents: vec![self.blocks.last().unwrap().header.hash()],
            time_ms,
            producer: 0,
            transactions: u32::try_from(entries.len()).unwrap(),
            transactions_root: roots.transactions,
            receipts_root: roots.receipts,
            state_root: self.tree.root(),
            history_root: Hash::ZERO,
            fees: effects.fees,
            supply: effects.supply,
        };
        let certificate = Certificate { epoch: 0, votes: Vec::new() };
        let block = Block { header, certificate, entries, genesis_rows: Vec::new() };
        self.check_block(&block);
        self.blocks.push(block);
        self.check_state();
    }

    /// Header hashes of the earlier blocks that its evidence refers to, as a node gives them.
    pub fn with_headers(&self, mut transaction: Verified) -> Verified {
        let hash = |height: u64| {
            let block = self.blocks.get(usize::try_from(height).ok()?)?;
            Some((height, block.header.hash()))
        };
        let headers = transaction.wanted_headers().into_iter().filter_map(hash).collect();
        transaction.set_headers(headers);
        transaction
    }

    fn check_block(&mut self, block: &Block) {
        for (position, entry) in (0u32..).zip(&block.entries) {
            self.check_entry(entry, Location { height: block.header.height, position });
        }
        let tokens: Vec<SupplyChange> = block.header.supply.clone();
        assert!(tokens.is_sorted_by(|a, b| a.token < b.token), "supplies by ascending token");
        let decoded = decode_block(&encode_block(block), self.chain()).expect("decodes");
        assert_eq!(&decoded, block, "a block survives its encoding");
        self.redone.redo(&decoded, |_| true);
    }

    fn check_entry(&mut self, entry: &Entry, at: Location) {
        let transaction: SignedTransaction = codec::from_bytes(&entry.raw).unwrap();
        assert!(self.taken.insert(entry.record.id.0), "no id is recorded twice");
        assert_eq!(entry.record.id, transaction.body.id());
        assert_eq!(entry.record.witness, transaction.witness());
        assert_eq!((entry.record.height, entry.record.position), (at.height, at.position));
        assert_eq!(entry.hash, Record::Transaction(entry.record.clone()).hash());
        let author_record = self.signers_record(&transaction.body);
        assert_eq!(entry.record.author_record, author_record, "the signers' versions before");
        if entry.result != ResultCode::Ok {
            assert!(entry.rows.is_empty() && entry.record.spent.is_empty(), "failed: no trace");
            let failed = entry.failed_operation.expect("which one") as usize;
            assert!(failed < transaction.body.operations.len());
            return;
        }
        assert_eq!(entry.failed_operation, None);
        let spent: Vec<(Hash, Hash)> = spent_places(&transaction.body.operations, &entry.rows)
            .iter()
            .filter_map(|key| self.known.get(&(Table::WalletStates, *key)))
            .map(|known| (known.hash, known.transaction))
            .collect();
        let claimed: Vec<(Hash, Hash)> =
            entry.record.spent.iter().map(|spent| (spent.state, spent.transaction)).collect();
        assert_eq!(claimed, spent, "the spent states and the transactions before");
        self.check_overdrafts(&entry.rows);
        self.note_overdrafts(&entry.rows);
        self.check_rows(&entry.rows, entry.hash, at);
    }

    /// The record of the only signer, or a digest over those of all; zero for the ledger itself and
    /// for a user that is not there yet.
    fn signers_record(&self, body: &TransactionBody) -> Hash {
        let record = |user: &UserId| {
            let known = self.known.get(&(Table::Users, RowKey::user(*user)));
            known.map_or(Hash::ZERO, |known| known.hash)
        };
        if body.author == LEDGER || body.parties().is_empty() {
            return record(&body.author);
        }
        let signers = std::iter::once(&body.author).chain(body.parties());
        let records: Vec<Hash> = signers.map(record).collect();
        let records: Vec<&[u8]> = records.iter().map(|hash| &hash.0[..]).collect();
        digest(TAG_SIGNERS, &records)
    }

    fn check_rows(&mut self, rows: &[Row], transaction: Hash, at: Location) {
        let mut seen = BTreeSet::new();
        for row in rows {
            let place = row.record.place().expect("a row");
            assert!(seen.insert(place), "one new version of a row in a transaction");
            assert_eq!(row.hash, row.record.hash());
            assert_eq!(row.record.transaction(), transaction);
            let before = self.known.get(&place);
            assert_eq!(row.record.version(), before.map_or(0, |known| known.version) + 1);
            assert_eq!(row.record.previous(), before.map_or(Hash::ZERO, |known| known.hash));
            assert_eq!(row.previous_at, before.map_or_else(Location::default, |known| known.at));
            let known = Known { version: row.record.version(), hash: row.hash, transaction, at };
            self.known.insert(place, known);
        }
    }

    /// Sums and rules; at some heights also trees and the redone ledger.
    fn check_state(&self) {
        self.ledger.audit_supply().expect("balances add up");
        rules::check(&self.ledger);
        if self.height().is_multiple_of(self.compared_every) {
            self.compare();
        }
    }

    /// Trees built at once against those built in steps, and the ledger that only redoes blocks.
    pub fn compare(&self) {
        self.redone.audit_supply().expect("balances add up after redo");
        assert_eq!(self.tree.root(), build_trees(&self.ledger).root(), "trees");
        assert_eq!(self.tree.root(), self.blocks.last().unwrap().header.state_root);
        assert!(snapshots(&self.ledger) == snapshots(&self.redone), "redo gives the same rows");
        assert_eq!(self.ledger.next_due_ms(), self.redone.next_due_ms(), "agenda");
        assert_eq!(self.ledger.membership(), self.redone.membership(), "membership");
        assert_eq!(PARTITIONS, 64);
    }
}

/// What a transaction spends: the states its operations pay from, then those whose keys the log
/// keeps with them.
fn spent_places(operations: &[Operation], rows: &[Row]) -> Vec<RowKey> {
    let mut named = Named::new(operations);
    let mut places: Vec<RowKey> =
        paying_states(operations).iter().map(|key| RowKey::wallet_state(key.0, key.1)).collect();
    for row in rows {
        let Record::WalletState(state) = &row.record else { continue };
        let is_next = named.is_next((state.wallet, state.token));
        assert_eq!(row.named, is_next, "whether the operations name the state");
        let key = RowKey::wallet_state(state.wallet, state.token);
        let is_short = is_next && state.extra.is_none();
        if !is_short && !places.contains(&key) {
            places.push(key);
        }
    }
    places
}

pub fn body(
    chain: ChainId,
    author: kanjo_types::UserId,
    valid_until_ms: u64,
    salt: u64,
    operations: Vec<Operation>,
) -> TransactionBody {
    TransactionBody { version: 1, chain, author, valid_until_ms, salt, operations }
}

/// Evidence of a recorded transaction from the blocks of the chain.
pub fn evidence_of(chain: &Chain, id: TransactionId) -> Option<Evidence> {
    let find = |block: &Block| block.entries.iter().position(|entry| entry.record.id == id);
    let (block, position) =
        chain.blocks.iter().find_map(|block| find(block).map(|position| (block, position)))?;
    evidence::make(&block.header, &block.entries, u32::try_from(position).ok()?, |row| {
        let before = &chain.blocks[usize::try_from(row.previous_at.height).ok()?];
        let rows = match before.header.height {
            0 => &before.genesis_rows,
            _ => &before.entries[usize::try_from(row.previous_at.position).ok()?].rows,
        };
        let same = |other: &&Row| other.record.place() == row.record.place();
        rows.iter().find(same).map(|row| row.record.clone())
    })
}
