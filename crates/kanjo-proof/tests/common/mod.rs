//! A ledger small enough to read: rows in ordered maps, blocks built by hand, votes by known keys.
#![allow(dead_code, missing_docs)]

use kanjo_proof::proof::*;
use kanjo_proof::{AppendTree, Leaf, LeafUpdate, SignedHeader, StateTree, merkle};
use kanjo_types::block::vote_digest;
use kanjo_types::genesis::{Cluster, FirstUser, GENESIS_VERSION, Link, Rules, Voter};
use kanjo_types::money::{Act, Reason};
use kanjo_types::record::{RowKey, TransactionRecord, UserRecord, WalletRecord, WalletStateRecord};
use kanjo_types::signature::{KeyKind, SecretKey};
use kanjo_types::standing::{
    ActRecord, ActStatus, Links, ReversalKind, ReversalMove, ReversalRecord,
};
use kanjo_types::stored::genesis_receipt;
use kanjo_types::transaction::BODY_VERSION;
use kanjo_types::{
    Access, ActId, Amount, Certificate, ChainId, Genesis, Hash, Header, Operation, PublicKey,
    Receipt, Record, ResultCode, SignedTransaction, Table, TokenId, TransactionBody, TransactionId,
    UserId, Vote, WalletId,
};
use std::collections::{BTreeMap, BTreeSet};

pub fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(KeyKind::Ed25519, [seed; 32]).expect("any seed is an Ed25519 key")
}

pub fn genesis(voters: u8) -> Genesis {
    let voter = |number: u8| {
        let PublicKey::Ed25519(key) = key(100 + number).public() else { panic!("Ed25519") };
        let address = format!("host-{number}:1");
        let link =
            Link { key: [number + 1; 32], address: address.clone(), api: address, attestor: None };
        Voter { link: Some(link), ..Voter::alone(&format!("voter-{number}"), key) }
    };
    Genesis {
        version: GENESIS_VERSION,
        name: "test".into(),
        time_ms: 1_767_225_600_000,
        rules: Rules {
            replay_window_ms: 60_000,
            open_registration: true,
            open_tokens: true,
            operators: vec![],
        },
        voters: (0..voters).map(voter).collect(),
        cluster: Cluster::default(),
        users: vec![FirstUser { name: "ann".into(), access: Access::Single(key(1).public()) }],
        tokens: vec![],
        wallets: vec![],
    }
}

/// Spreads small numbers over all partitions.
pub fn spread(number: u64) -> [u8; 16] {
    let digest = blake3::hash(&number.to_le_bytes());
    digest.as_bytes()[..16].try_into().expect("16 bytes")
}

pub fn user(number: u64, transaction: Hash) -> Record {
    let id = UserId(spread(number));
    Record::User(UserRecord {
        id,
        version: 1,
        access: Access::Single(key(1).public()),
        sponsor: id,
        previous: Hash::ZERO,
        transaction,
    })
}

pub fn wallet(number: u64, transaction: Hash) -> Record {
    Record::Wallet(WalletRecord {
        id: WalletId(spread(number)),
        version: 1,
        owner: UserId(spread(number)),
        number: 0,
        previous: Hash::ZERO,
        transaction,
        owner_record: Hash::ZERO,
    })
}

pub fn balance(number: u64, token: u32, balance: u128, transaction: Hash) -> Record {
    Record::WalletState(WalletStateRecord {
        wallet: WalletId(spread(number)),
        token: TokenId(token),
        version: 1,
        balance: Amount(balance),
        extra: None,
        previous: Hash::ZERO,
        transaction,
        wallet_record: Hash::ZERO,
    })
}

/// The act that orders reversals in the sample.
pub fn act_id() -> ActId {
    ActId(spread(70))
}

/// A reversal of `original` in token 1.
pub fn reversal(
    original: &TransactionRecord,
    kind: ReversalKind,
    number: u64,
    transaction: Hash,
) -> Record {
    let moved = ReversalMove {
        wallet: WalletId(spread(number)),
        undone: Hash::ZERO,
        taken: Amount(7),
        given: Amount::ZERO,
    };
    Record::Reversal(Box::new(ReversalRecord {
        original: original.id,
        token: TokenId(1),
        links: Links { version: 1, previous: Hash::ZERO, transaction },
        kind,
        original_record: Record::Transaction(original.clone()).hash(),
        token_record: Hash::ZERO,
        act: act_id(),
        moves: vec![moved],
    }))
}

/// An act of the sample, done unless `status` says otherwise.
pub fn act(id: ActId, act: Act, status: ActStatus, transaction: Hash) -> Record {
    let maker = UserId(spread(1));
    Record::Act(Box::new(ActRecord {
        id,
        links: Links { version: 1, previous: Hash::ZERO, transaction },
        act,
        reason: Reason { code: "COURT_ORDER".to_owned(), reference: "file 7".to_owned() },
        maker,
        agreed: vec![maker],
        rejected_by: None,
        expires_ms: 1_800_000_000_000,
        authority: Hash::ZERO,
        token_record: Hash::ZERO,
        status,
    }))
}

pub fn reverse(token: u32, originals: &[TransactionId], trail: &[TransactionId]) -> Act {
    let (originals, trail) = (originals.to_vec(), trail.to_vec());
    Act::Reverse { token: TokenId(token), originals, trail }
}

pub struct TestBlock {
    pub signed: SignedHeader,
    pub transactions: Vec<(SignedTransaction, TransactionRecord)>,
    pub receipts: Vec<Receipt>,
    pub rows: Vec<Vec<Record>>,
}

pub struct Ledger {
    pub genesis: Genesis,
    pub chain: ChainId,
    pub tree: StateTree,
    pub leaves: BTreeMap<(Table, u16), Vec<Leaf>>,
    pub rows: BTreeMap<(Table, RowKey), (u32, Record)>,
    pub history: AppendTree,
    pub blocks: Vec<TestBlock>,
}

impl Ledger {
    /// A ledger whose genesis block has `rows`.
    pub fn new(voters: u8, rows: Vec<Record>) -> Self {
        let genesis = genesis(voters);
        let chain = genesis.chain_id();
        let mut ledger = Self {
            genesis,
            chain,
            tree: StateTree::new(),
            leaves: BTreeMap::new(),
            rows: BTreeMap::new(),
            history: AppendTree::new(),
            blocks: Vec::new(),
        };
        let hashes: Vec<Hash> = rows.iter().map(Record::hash).collect();
        let receipt = genesis_receipt(chain, rows.len(), merkle::root(&hashes));
        ledger.seal(vec![], vec![receipt], vec![rows]);
        ledger
    }

    /// One block: each item makes a transaction whose rows `make` gives for the transaction's hash.
    pub fn block(&mut self, make: &[&dyn Fn(Hash) -> Vec<Record>]) {
        let (mut transactions, mut receipts, mut rows) = (vec![], vec![], vec![]);
        for (position, make) in make.iter().enumerate() {
            let height = self.blocks.len() as u64;
            let signed = self.transaction(height * 1_000 + position as u64);
            let record = TransactionRecord {
                id: signed.body.id(),
                witness: signed.witness(),
                height,
                position: position as u32,
                time_ms: self.genesis.time_ms + height,
                author_record: Hash::ZERO,
                spent: vec![],
            };
            let hash = Record::Transaction(record.clone()).hash();
            let made = make(hash);
            let hashes: Vec<Hash> = made.iter().map(Record::hash).collect();
            receipts.push(Receipt {
                id: record.id,
                transaction: hash,
                result: ResultCode::Ok,
                failed_operation: None,
                rows_root: merkle::root(&hashes),
                rows: made.len() as u32,
            });
            transactions.push((signed, record));
            rows.push(made);
        }
        self.seal(transactions, receipts, rows);
    }

    fn transaction(&self, number: u64) -> SignedTransaction {
        let body = TransactionBody {
            version: BODY_VERSION,
            chain: self.chain,
            author: UserId(spread(1)),
            valid_until_ms: u64::MAX,
            salt: number,
            operations: vec![Operation::Issue {
                token: TokenId(1),
                to: WalletId(spread(2)),
                amount: Amount(u128::from(number) + 1),
            }],
        };
        body.sign(&key(1))
    }

    fn seal(
        &mut self,
        transactions: Vec<(SignedTransaction, TransactionRecord)>,
        receipts: Vec<Receipt>,
        rows: Vec<Vec<Record>>,
    ) {
        self.put(rows.concat());
        let height = self.blocks.len() as u64;
        let records: Vec<Hash> = transactions.iter().map(record_hash).collect();
        let receipt_hashes: Vec<Hash> = receipts.iter().map(Receipt::hash).collect();
        let header = Header {
            version: 1,
            chain: self.chain,
            height,
            parents: self
                .blocks
                .last()
                .map(|block| block.signed.header.hash())
                .into_iter()
                .collect(),
            time_ms: self.genesis.time_ms + height,
            producer: 0,
            transactions: transactions.len() as u32,
            transactions_root: merkle::root(&records),
            receipts_root: merkle::root(&receipt_hashes),
            state_root: self.tree.root(),
            history_root: self.history.root(),
            fees: vec![],
            supply: vec![],
        };
        self.history.push(header.hash());
        let signed = sign(header, self.genesis.voters.len() as u16);
        self.blocks.push(TestBlock { signed, transactions, receipts, rows });
    }

    /// Books rows into the leaves and the tree, as a ledger does for one block.
    pub fn put(&mut self, records: Vec<Record>) {
        let mut dirty = BTreeSet::new();
        for record in records {
            let (table, key) = record.place().expect("a row");
            let place = (table, key.partition());
            let leaves = self.leaves.entry(place).or_insert_with(|| vec![Leaf::bound(RowKey::MAX)]);
            let row = record.hash();
            let slot = if let Some((slot, held)) = self.rows.get_mut(&(table, key)) {
                *held = record;
                leaves[*slot as usize].row = row;
                *slot
            } else {
                let below = (0..leaves.len()).filter(|slot| leaves[*slot].key < key);
                let low = below.max_by_key(|slot| leaves[*slot].key).expect("the bound leaf");
                let next = std::mem::replace(&mut leaves[low].next, key);
                dirty.insert((place, low as u32));
                leaves.push(Leaf { key, next, row });
                let slot = leaves.len() as u32 - 1;
                self.rows.insert((table, key), (slot, record));
                slot
            };
            dirty.insert((place, slot));
        }
        let updates: Vec<LeafUpdate> = dirty
            .into_iter()
            .rev()
            .map(|((table, partition), slot)| {
                let leaf = self.leaves[&(table, partition)][slot as usize];
                LeafUpdate { table, partition, slot, leaf }
            })
            .collect();
        self.tree.update(&updates);
    }

    pub fn at(&self) -> SignedHeader {
        self.blocks.last().expect("a genesis").signed.clone()
    }

    pub fn row(&self, table: Table, key: RowKey) -> ProvenRow {
        let (slot, record) = &self.rows[&(table, key)];
        let next = self.leaves[&(table, key.partition())][*slot as usize].next;
        let path = self.tree.path(table, key.partition(), *slot).expect("a slot");
        ProvenRow { record: record.clone(), next, path }
    }

    /// The leaf with the largest key below `key`.
    pub fn low(&self, table: Table, key: RowKey) -> ProvenLeaf {
        let bound = vec![Leaf::bound(RowKey::MAX)];
        let leaves = self.leaves.get(&(table, key.partition())).unwrap_or(&bound);
        let (slot, leaf) = leaves
            .iter()
            .enumerate()
            .filter(|(_, leaf)| leaf.key < key)
            .max_by_key(|(_, leaf)| leaf.key)
            .expect("the bound leaf");
        let path = self.tree.path(table, key.partition(), slot as u32).expect("a slot");
        ProvenLeaf { leaf: *leaf, path }
    }

    pub fn state(&self, table: Table, key: RowKey) -> Proof {
        Proof::State(StateProof { at: self.at(), row: self.row(table, key) })
    }

    pub fn absence(&self, table: Table, key: RowKey) -> Proof {
        Proof::Absence(AbsenceProof { at: self.at(), table, key, low: self.low(table, key) })
    }

    fn between(&self, table: Table, from: RowKey, to: RowKey) -> Vec<ProvenRow> {
        let keys = self.rows.range((table, from)..=(table, to)).map(|((_, key), _)| *key);
        keys.map(|key| self.row(table, key)).collect()
    }

    pub fn range(&self, table: Table, from: RowKey, to: RowKey) -> Proof {
        let (low, rows) = (self.low(table, from), self.between(table, from, to));
        Proof::Range(RangeProof { at: self.at(), table, from, to, low, rows })
    }

    pub fn wallet(&self, id: WalletId) -> Proof {
        let key = |token| RowKey::wallet_state(id, TokenId(token));
        Proof::Wallet(WalletProof {
            at: self.at(),
            wallet: self.row(Table::Wallets, RowKey::wallet(id)),
            low: self.low(Table::WalletStates, key(0)),
            states: self.between(Table::WalletStates, key(0), key(u32::MAX)),
        })
    }

    pub fn receipt(&self, height: usize, position: usize) -> ProvenReceipt {
        let block = &self.blocks[height];
        let hashes: Vec<Hash> = block.receipts.iter().map(Receipt::hash).collect();
        ProvenReceipt {
            receipt: block.receipts[position].clone(),
            position: position as u32,
            path: merkle::inclusion(&hashes, position).expect("within"),
        }
    }

    pub fn proven(&self, height: usize, position: usize) -> ProvenTransaction {
        let block = &self.blocks[height];
        let hashes: Vec<Hash> = block.transactions.iter().map(record_hash).collect();
        let (signed, record) = block.transactions[position].clone();
        let path = merkle::inclusion(&hashes, position).expect("within");
        ProvenTransaction { signed, record, path }
    }

    pub fn transaction_proof(&self, height: usize, position: usize) -> Proof {
        Proof::Transaction(TransactionProof {
            at: self.blocks[height].signed.clone(),
            transaction: self.proven(height, position),
            receipt: self.receipt(height, position),
        })
    }

    pub fn version(&self, height: usize, position: usize, index: usize, whole: bool) -> Proof {
        let rows = &self.blocks[height].rows[position];
        let hashes: Vec<Hash> = rows.iter().map(Record::hash).collect();
        Proof::Version(VersionProof {
            at: self.blocks[height].signed.clone(),
            record: rows[index].clone(),
            index: index as u32,
            path: merkle::inclusion(&hashes, index).expect("within"),
            receipt: self.receipt(height, position),
            transaction: whole.then(|| self.proven(height, position)),
        })
    }

    pub fn later(&self, earlier: usize, later: usize) -> LaterHeader {
        let path = self.history.inclusion(earlier as u64, later as u64).expect("within");
        LaterHeader { at: self.blocks[later].signed.clone(), path }
    }

    pub fn block_proof(&self, height: usize, later: Option<usize>) -> Proof {
        let within = later.map(|later| self.later(height, later));
        Proof::Block(BlockProof { at: self.blocks[height].signed.clone(), within })
    }

    /// That the transaction at a place was reversed, by the act with this id.
    pub fn reversal_proof(&self, height: usize, position: usize, act: ActId) -> ReversalProof {
        let Proof::Transaction(original) = self.transaction_proof(height, position) else {
            panic!("a transaction")
        };
        let key = RowKey::reversal(original.receipt.receipt.id, TokenId(1));
        let of = |proof| match proof {
            Proof::State(proof) => proof,
            other => panic!("{other:?}"),
        };
        let reversal = of(self.state(Table::Reversals, key));
        let act = of(self.state(Table::Acts, RowKey::item(act.0)));
        ReversalProof { original, reversal, act }
    }

    pub fn reversed(&self, height: usize, position: usize) -> Proof {
        Proof::Reversal(Box::new(self.reversal_proof(height, position, act_id())))
    }

    pub fn extends(&self, earlier: usize, later: usize) -> Proof {
        Proof::Extends(ExtendsProof {
            earlier: self.blocks[earlier].signed.clone(),
            later: self.later(earlier, later),
            consistency: self.history.consistency(earlier as u64, later as u64).expect("within"),
        })
    }
}

fn record_hash((_, record): &(SignedTransaction, TransactionRecord)) -> Hash {
    Record::Transaction(record.clone()).hash()
}

/// Signs a header by the first `voters` voters.
pub fn sign(header: Header, voters: u16) -> SignedHeader {
    let answer = Hash([7; 32]);
    let digest = vote_digest(0, header.height, &header.hash(), &answer);
    let vote = |voter: u16| Vote { voter, answer, signature: key(100 + voter as u8).sign(&digest) };
    let votes = (0..voters).map(vote).collect();
    SignedHeader { header, certificate: Certificate { epoch: 0, votes } }
}

/// A ledger of five blocks with something for every kind of proof.
pub fn sample(voters: u8) -> Ledger {
    let chain = genesis(voters).chain_id().0;
    let mut rows: Vec<Record> = (1..12).map(|number| wallet(number, chain)).collect();
    rows.extend((1..12).map(|number| user(number, chain)));
    rows.extend((1..12).map(|number| balance(number, 1, 100, chain)));
    let mut ledger = Ledger::new(voters, rows);
    let pay = |from: u64, to: u64| {
        move |hash: Hash| vec![balance(from, 1, 93, hash), balance(to, 2, 107, hash)]
    };
    ledger.block(&[&pay(1, 2), &pay(3, 1), &pay(4, 5)]);
    ledger.block(&[&pay(6, 1)]);
    ledger.block(&[&pay(7, 8), &pay(8, 7), &|hash| vec![balance(1, 9, 5, hash)]]);
    let record = |position: usize| ledger.blocks[1].transactions[position].1.clone();
    let (first, second) = (record(0), record(1));
    let made = move |hash: Hash| {
        vec![
            act(act_id(), reverse(1, &[first.id], &[second.id]), ActStatus::Done, hash),
            reversal(&first, ReversalKind::Reversed, 1, hash),
            reversal(&second, ReversalKind::Followed, 3, hash),
        ]
    };
    ledger.block(&[&made]);
    ledger
}

/// One proof of each kind, and of each shape a kind can have.
pub fn proofs(ledger: &Ledger) -> Vec<(&'static str, Proof)> {
    let id = WalletId(spread(1));
    let state = |token| RowKey::wallet_state(id, TokenId(token));
    let absent = RowKey::wallet(WalletId(spread(999)));
    vec![
        ("state", ledger.state(Table::WalletStates, state(1))),
        ("user", ledger.state(Table::Users, RowKey::user(UserId(spread(5))))),
        ("absence", ledger.absence(Table::Wallets, absent)),
        ("range", ledger.range(Table::WalletStates, state(1), state(2))),
        ("empty range", ledger.range(Table::WalletStates, state(3), state(8))),
        ("wallet", ledger.wallet(id)),
        ("version", ledger.version(1, 2, 1, true)),
        ("version without transaction", ledger.version(3, 0, 0, false)),
        ("genesis version", ledger.version(0, 0, 3, false)),
        ("transaction", ledger.transaction_proof(1, 1)),
        ("block", ledger.block_proof(0, None)),
        ("block in history", ledger.block_proof(1, Some(3))),
        ("extends", ledger.extends(1, 3)),
        ("extends the genesis", ledger.extends(0, 2)),
        ("reversal", ledger.reversed(1, 0)),
        ("followed", ledger.reversed(1, 1)),
    ]
}
