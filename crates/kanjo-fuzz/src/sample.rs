//! A small real ledger: a genesis with one voter, and one block with two payments, a failed one,
//! and a change of the membership.
//! Two rows are put in by hand: that the first payment was reversed, and by which act.
//!
//! Proofs are checked against it, and whatever checks is compared with what it really holds.

use bytes::Bytes;
use kanjo_ledger::block::{genesis_block, roots};
use kanjo_ledger::{BlockContext, Ledger, prepare_value, verify};
use kanjo_proof::merkle;
use kanjo_proof::state::StateTree;
use kanjo_proof::trust::SignedHeader;
use kanjo_types::block::{HEADER_VERSION, Vote, vote_digest};
use kanjo_types::genesis::{
    Cluster, FirstToken, FirstUser, FirstWallet, GENESIS_VERSION, Rules, Voter,
};
use kanjo_types::membership::{Measurement, MembershipChange};
use kanjo_types::money::{Act, Reason};
use kanjo_types::policy::Policy;
use kanjo_types::record::RowKey;
use kanjo_types::signature::{KeyKind, SecretKey};
use kanjo_types::standing::{ActRecord, ActStatus, Links, ReversalKind, ReversalRecord};
use kanjo_types::stored::{Block, Entry, Location, Row};
use kanjo_types::{
    Access, ActId, Amount, Certificate, Genesis, Hash, Header, Operation, PublicKey, Record, Table,
    TokenId, TransactionBody, UserId, WalletId,
};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Rows by table and key.
pub type Rows = BTreeMap<(Table, RowKey), Record>;

/// A ledger of two blocks.
pub struct Sample {
    /// What proofs are checked against.
    pub genesis: Genesis,
    /// Blocks 0 and 1, signed by the voter.
    pub blocks: Vec<Block>,
    /// The ledger after block 1.
    pub ledger: Ledger,
    /// Its trees.
    pub trees: StateTree,
    /// All rows after each block.
    pub rows: Vec<Rows>,
}

static SAMPLE: LazyLock<Option<Sample>> = LazyLock::new(Sample::make);

/// The sample, made once.
///
/// # Panics
/// When the ledger refuses what it is made from, which the first test of this crate would show.
pub fn sample() -> &'static Sample {
    #[allow(clippy::expect_used, reason = "fixed content, shown by every test")]
    SAMPLE.as_ref().expect("the sample ledger is valid")
}

fn secret(kind: KeyKind, seed: u8) -> Option<SecretKey> {
    SecretKey::from_seed(kind, [seed; 32]).ok()
}

fn genesis() -> Option<Genesis> {
    let PublicKey::Ed25519(voter) = secret(KeyKind::Ed25519, 9)?.public() else { return None };
    let alice = Access::new(1, vec![secret(KeyKind::Ed25519, 1)?.public()]).ok()?;
    let shared = [KeyKind::Ed25519, KeyKind::P256, KeyKind::Secp256k1];
    let shared = shared.map(|kind| secret(kind, 2).map(|key| key.public()));
    let bob = Access::new(2, shared.into_iter().collect::<Option<Vec<_>>>()?).ok()?;
    let token = |symbol: &str, decimals| FirstToken {
        symbol: symbol.to_owned(),
        name: format!("{symbol} of the sample"),
        decimals,
        issuer: "alice".to_owned(),
        policy: Policy { freezable: symbol == "GOLD", ..Policy::default() },
    };
    let balances = |pairs: &[(&str, u128)]| {
        pairs.iter().map(|(symbol, amount)| ((*symbol).to_owned(), Amount(*amount))).collect()
    };
    let wallet = |owner: &str, number, pairs: &[(&str, u128)]| FirstWallet {
        owner: owner.to_owned(),
        number,
        balances: balances(pairs),
    };
    Some(Genesis {
        version: GENESIS_VERSION,
        name: "sample".to_owned(),
        time_ms: 1_000_000,
        rules: Rules {
            replay_window_ms: 60_000,
            open_registration: true,
            open_tokens: false,
            operators: vec!["alice".to_owned()],
        },
        voters: vec![Voter::alone("voter", voter)],
        cluster: Cluster {
            governors: vec!["alice".to_owned()],
            threshold: 1,
            measurements: Vec::new(),
        },
        users: vec![
            FirstUser { name: "alice".to_owned(), access: alice },
            FirstUser { name: "bob".to_owned(), access: bob },
        ],
        tokens: vec![token("JPY", 0), token("GOLD", 6)],
        wallets: vec![
            wallet("alice", 0, &[("GOLD", 5_000_000), ("JPY", 1_000)]),
            wallet("bob", 0, &[("JPY", 1)]),
            wallet("alice", 1, &[]),
        ],
    })
}

/// The voter's certificate for a header.
fn sign(header: &Header) -> Option<Certificate> {
    let answer = Hash([9; 32]);
    let digest = vote_digest(0, header.height, &header.hash(), &answer);
    let signature = secret(KeyKind::Ed25519, 9)?.sign(&digest);
    Some(Certificate { epoch: 0, votes: vec![Vote { voter: 0, answer, signature }] })
}

/// What alice signs in block 1; the third one fails, the last one begins epoch 1.
fn operations(genesis: &Genesis) -> Option<[Vec<Operation>; 4]> {
    let wallet = |owner, number| genesis.wallet_id(owner, number);
    let pay = |from: WalletId, to: WalletId, token, amount| Operation::Transfer {
        token: TokenId(token),
        from,
        to,
        amount: Amount(amount),
        reference: "rent".to_owned(),
    };
    let (first, second) = (wallet("alice", 0)?, wallet("alice", 1)?);
    let bob = wallet("bob", 0)?;
    let owner = genesis.user_id("alice")?;
    let measurement = Measurement { program: Hash([8; 32]), note: "kanjo".to_owned() };
    Some([
        vec![pay(first, bob, 1, 400)],
        vec![Operation::CreateWallet { owner, number: 2 }, pay(first, second, 2, 7)],
        vec![pay(bob, first, 1, 1)],
        vec![Operation::ChangeMembership { change: MembershipChange::Allow { measurement } }],
    ])
}

impl Sample {
    fn make() -> Option<Self> {
        let genesis = genesis()?;
        let (mut block, mut ledger, mut trees) = genesis_block(&genesis);
        block.certificate = sign(&block.header)?;
        let context = BlockContext { height: 1, time_ms: genesis.time_ms + 5 };
        ledger.begin_block(context);
        let mut entries = execute(&genesis, &mut ledger, context)?;
        let effects = ledger.end_block();
        trees.update(&effects.leaves);
        put_reversal(&mut entries, &mut ledger, &mut trees, &block.header)?;
        let roots = roots(&entries);
        let before = block.header.hash();
        let header = Header {
            version: HEADER_VERSION,
            chain: genesis.chain_id(),
            height: 1,
            parents: vec![before],
            time_ms: context.time_ms,
            producer: 0,
            transactions: u32::try_from(entries.len()).ok()?,
            transactions_root: roots.transactions,
            receipts_root: roots.receipts,
            state_root: trees.root(),
            history_root: merkle::root(&[before]),
            fees: Vec::new(),
            supply: effects.supply,
        };
        let certificate = sign(&header)?;
        let placed =
            |record: &Record| record.place().map(|(table, key)| ((table, key), record.clone()));
        let first: Rows = block.genesis_rows.iter().filter_map(|row| placed(&row.record)).collect();
        let mut second = first.clone();
        let made = entries.iter().flat_map(|entry| &entry.rows);
        second.extend(made.filter_map(|row| placed(&row.record)));
        let next = Block { header, certificate, entries, genesis_rows: Vec::new() };
        let (blocks, rows) = (vec![block, next], vec![first, second]);
        Some(Self { genesis, blocks, ledger, trees, rows })
    }

    /// The newest header.
    #[must_use]
    pub fn at(&self) -> Option<SignedHeader> {
        self.blocks.last().map(signed)
    }

    /// A user's id by its name in the genesis.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<UserId> {
        self.genesis.user_id(name)
    }
}

/// Puts in the second transaction's rows that it reversed the first one, by an act.
fn put_reversal(
    entries: &mut [Entry],
    ledger: &mut Ledger,
    trees: &mut StateTree,
    header: &Header,
) -> Option<()> {
    let [original, by, ..] = entries else { return None };
    let (id, token, transaction) = (original.record.id, TokenId(1), by.hash);
    let links = Links { version: 1, previous: Hash::ZERO, transaction };
    let act = ActRecord {
        id: ActId::derive(by.record.id, 0, 0),
        links,
        act: Act::Reverse { token, originals: vec![id], trail: vec![] },
        reason: Reason { code: "ERROR".to_owned(), reference: String::new() },
        maker: UserId([1; 16]),
        agreed: vec![UserId([1; 16])],
        rejected_by: None,
        expires_ms: header.time_ms,
        authority: Hash::ZERO,
        token_record: Hash::ZERO,
        status: ActStatus::Done,
    };
    let reversal = ReversalRecord {
        original: id,
        token,
        links,
        kind: ReversalKind::Reversed,
        original_record: original.hash,
        token_record: Hash::ZERO,
        act: act.id,
        moves: vec![],
    };
    let records = [Record::Act(Box::new(act)), Record::Reversal(Box::new(reversal))];
    let made = records.map(|record| {
        let (hash, previous_at) = (record.hash(), Location::default());
        Row { record, hash, previous_at, named: false }
    });
    // As after a restart: rows that a block says were made are taken in without executing it.
    let alone = Entry { raw: Bytes::new(), rows: made.to_vec(), ..by.clone() };
    let block = Block {
        header: header.clone(),
        certificate: Certificate { epoch: 0, votes: Vec::new() },
        entries: vec![alone],
        genesis_rows: Vec::new(),
    };
    ledger.redo(&block, |_| true);
    for (table, key) in made.iter().filter_map(|row| row.record.place()) {
        let leaves = ledger.leaves(table, key.partition());
        trees.load_partition(table, key.partition(), leaves.into_iter());
    }
    by.rows.splice(0..0, made);
    Some(())
}

/// A block's header with its certificate.
#[must_use]
pub fn signed(block: &Block) -> SignedHeader {
    SignedHeader { header: block.header.clone(), certificate: block.certificate.clone() }
}

fn execute(genesis: &Genesis, ledger: &mut Ledger, context: BlockContext) -> Option<Vec<Entry>> {
    let key = secret(KeyKind::Ed25519, 1)?;
    let mut entries = Vec::new();
    for (position, operations) in (0u32..).zip(operations(genesis)?) {
        let body = TransactionBody {
            version: kanjo_types::transaction::BODY_VERSION,
            chain: genesis.chain_id(),
            author: genesis.user_id("alice")?,
            valid_until_ms: context.time_ms + 1_000,
            salt: u64::from(position),
            operations,
        };
        let prepared = prepare_value(&body.sign(&key), genesis.chain_id()).ok()?;
        let keys = ledger.author_keys(prepared.transaction());
        let verified = verify(vec![(prepared, keys)]).pop()?.ok()?;
        entries.push(ledger.execute(context, position, &verified).ok()?);
    }
    Some(entries)
}
