//! The values that the vectors are made of. They never change: `vectors/encoding.json` is made anew
//! from them.
#![allow(dead_code, missing_docs, reason = "each test file uses a part of it")]

pub mod cluster;
pub mod money;
pub mod standing;
pub mod tables;

use kanjo_types::access::{Access, KeySignature, PublicKey};
use kanjo_types::block::{
    Certificate, Header, Receipt, SupplyChange, TokenAmount, Vote, vote_digest,
};
use kanjo_types::genesis::{
    Cluster, FirstToken, FirstUser, FirstWallet, Genesis, Link, Rules, Voter,
};
use kanjo_types::membership::MemberKind;
use kanjo_types::money::Role;
use kanjo_types::policy::{ComingPolicy, Policy, TokenRules};
use kanjo_types::record::{
    Record, Spent, StateExtra, TokenRecord, TransactionRecord, UserRecord, WalletRecord,
    WalletStateRecord,
};
use kanjo_types::signature::{KeyKind, SecretKey};
use kanjo_types::stored::genesis_receipt;
use kanjo_types::transaction::{Operation, SignedTransaction, TransactionBody};
use kanjo_types::{Amount, ChainId, Hash, ResultCode, TokenId, TransactionId, UserId, WalletId};
use std::collections::BTreeMap;

pub fn secret(kind: KeyKind, seed: u8) -> SecretKey {
    SecretKey::from_seed(kind, [seed; 32]).expect("valid seed")
}

pub fn bank() -> Access {
    Access::Single(secret(KeyKind::Ed25519, 1).public())
}

pub fn alice() -> Access {
    Access::Single(secret(KeyKind::P256, 2).public())
}

pub fn board() -> Access {
    let keys = [KeyKind::Ed25519, KeyKind::P256, KeyKind::Secp256k1];
    Access::new(2, keys.map(|kind| secret(kind, 3).public()).to_vec()).expect("valid")
}

pub fn genesis() -> Genesis {
    let vote_key = |seed| match secret(KeyKind::Ed25519, seed).public() {
        PublicKey::Ed25519(key) => key,
        _ => [0; 32],
    };
    let user = |name: &str, access| FirstUser { name: name.to_owned(), access };
    let balances = BTreeMap::from([("JPY".to_owned(), Amount(1_000_000))]);
    Genesis {
        version: 1,
        name: "example".to_owned(),
        time_ms: 1_767_225_600_000,
        rules: Rules {
            replay_window_ms: 3_600_000,
            open_registration: true,
            open_tokens: false,
            operators: vec!["bank".to_owned()],
        },
        voters: (1..=3u8)
            .map(|n| Voter {
                name: format!("node-{n}"),
                key: vote_key(100 + n),
                kind: if n == 3 { MemberKind::Witness } else { MemberKind::Executor },
                link: Some(Link {
                    key: [0xc0 + n; 32],
                    address: format!("node-{n}.example:7100"),
                    api: format!("https://node-{n}.example"),
                    attestor: (n == 1).then(cluster::software),
                }),
            })
            .collect(),
        cluster: Cluster {
            governors: vec!["bank".to_owned(), "board".to_owned()],
            threshold: 2,
            measurements: vec![cluster::measurement()],
        },
        users: vec![user("bank", bank()), user("alice", alice()), user("board", board())],
        tokens: vec![FirstToken {
            symbol: "JPY".to_owned(),
            name: "Japanese yen".to_owned(),
            decimals: 0,
            issuer: "bank".to_owned(),
            policy: Policy::default(),
        }],
        wallets: vec![
            FirstWallet { owner: "bank".to_owned(), number: 0, balances },
            FirstWallet { owner: "alice".to_owned(), number: 0, balances: BTreeMap::new() },
        ],
    }
}

pub fn ids() -> (ChainId, UserId, WalletId, WalletId) {
    let genesis = genesis();
    let user = genesis.user_id("bank").expect("bank");
    let wallet = |owner| genesis.wallet_id(owner, 0).expect("wallet");
    (genesis.chain_id(), user, wallet("bank"), wallet("alice"))
}

pub fn operations() -> Vec<(&'static str, Operation)> {
    let (_, user, from, to) = ids();
    let (token, amount) = (TokenId(1), Amount(1_250));
    let text = str::to_owned;
    let create_token = |policy, grants| Operation::CreateToken {
        symbol: text("USD"),
        name: text("US dollar"),
        decimals: 2,
        issuer: user,
        policy: Box::new(policy),
        grants,
    };
    let granted = vec![money::grant(Role::Issuer), money::grant(Role::Governor)];
    vec![
        ("create_user", Operation::CreateUser { access: board(), number: 1 }),
        ("create_wallet", Operation::CreateWallet { owner: user, number: 2 }),
        ("create_token", create_token(Policy::default(), vec![])),
        ("create_token with a policy", create_token(money::policy(), granted)),
        ("issue", Operation::Issue { token, to: from, amount: Amount(u128::MAX) }),
        ("redeem", Operation::Redeem { token, from, amount }),
        ("transfer", Operation::Transfer { token, from, to, amount, reference: text("家賃 7月") }),
        ("transfer without reference", pay(from, to, 1)),
        ("rotate_keys", Operation::RotateKeys { user, access: alice() }),
    ]
}

pub fn pay(from: WalletId, to: WalletId, amount: u128) -> Operation {
    let reference = String::new();
    Operation::Transfer { token: TokenId(1), from, to, amount: Amount(amount), reference }
}

pub fn body(operations: Vec<Operation>) -> TransactionBody {
    let (chain, author, ..) = ids();
    let valid_until_ms = 1_767_225_660_000;
    TransactionBody { version: 1, chain, author, valid_until_ms, salt: 0x0102_0304, operations }
}

pub fn payment() -> SignedTransaction {
    let (_, _, from, to) = ids();
    body(vec![pay(from, to, 1_250)]).sign(&secret(KeyKind::Ed25519, 1))
}

/// The board is a party of the bundle already.
fn not_of_the_board((_, operation): &(&str, Operation)) -> bool {
    !matches!(operation, Operation::ProposeBundle { .. })
}

pub fn by_the_board() -> SignedTransaction {
    let all = operations().into_iter().chain(money::operations()).chain(cluster::operations());
    let mut body = body(all.filter(not_of_the_board).map(|(_, operation)| operation).collect());
    body.author = genesis().user_id("board").expect("board");
    let id = body.id();
    let sign = |key, kind| KeySignature { key, signature: secret(kind, 3).sign(&id.0) };
    let signatures = vec![sign(0, KeyKind::Ed25519), sign(2, KeyKind::Secp256k1)];
    SignedTransaction { body, signatures }
}

pub fn filled(byte: u8) -> Hash {
    Hash([byte; 32])
}

pub fn records() -> Vec<(&'static str, Record)> {
    let (_, user, wallet, _) = ids();
    let (previous, transaction) = (filled(0x11), filled(0x22));
    let state = |version, previous, balance, extra: Option<StateExtra>| {
        let extra = extra.map(Box::new);
        let (token, wallet_record) = (TokenId(1), filled(0x55));
        let balance = Amount(balance);
        Record::WalletState(WalletStateRecord {
            wallet,
            token,
            version,
            balance,
            extra,
            previous,
            transaction,
            wallet_record,
        })
    };
    let (sponsor, owner_record, issuer_record) = (user, filled(0x33), filled(0x44));
    let user_record =
        UserRecord { id: user, version: 2, access: board(), sponsor, previous, transaction };
    let wallet_record = WalletRecord {
        id: wallet,
        version: 1,
        owner: user,
        number: 0,
        previous: Hash::ZERO,
        transaction,
        owner_record,
    };
    let token_record = TokenRecord {
        id: TokenId(1),
        version: 2,
        symbol: "JPY".to_owned(),
        name: "Japanese yen".to_owned(),
        decimals: 0,
        issuer: user,
        issued: Amount(1_000_000),
        redeemed: Amount(1_250),
        rules: None,
        previous,
        transaction,
        issuer_record,
    };
    let coming = Some(ComingPolicy { policy: Policy::default(), from_ms: money::LATER_MS });
    let (charter, policy) = (money::policy(), money::policy());
    let rules = Some(Box::new(TokenRules { charter, policy, coming }));
    let ruled_token = TokenRecord { rules, ..token_record.clone() };
    let extra = StateExtra {
        reserved: Amount(1_250),
        overdraft: Amount::ZERO,
        claims: Amount(450),
        day: 20_454,
        paid_today: Amount(1_250),
    };
    let payment = payment();
    let transaction_record = TransactionRecord {
        id: payment.body.id(),
        witness: payment.witness(),
        height: 7,
        position: 3,
        time_ms: 1_767_225_601_500,
        author_record: filled(0x66),
        spent: vec![Spent { state: filled(0x77), transaction: filled(0x88) }],
    };
    vec![
        ("user", Record::User(user_record)),
        ("wallet", Record::Wallet(wallet_record)),
        ("token", Record::Token(token_record)),
        ("token with rules", Record::Token(ruled_token)),
        ("first wallet state", state(1, Hash::ZERO, 0, None)),
        ("later wallet state", state(9, previous, 998_750, None)),
        ("wallet state with more", state(10, previous, 998_000, Some(extra))),
        ("transaction", Record::Transaction(transaction_record)),
    ]
}

pub fn header() -> Header {
    let (chain, ..) = ids();
    let (token, issued, redeemed) = (TokenId(1), Amount(1_000_000), Amount(1_250));
    Header {
        version: 1,
        chain,
        height: 7,
        parents: vec![filled(0x99)],
        time_ms: 1_767_225_601_500,
        producer: 2,
        transactions: 4,
        transactions_root: filled(0xa1),
        receipts_root: filled(0xa2),
        state_root: filled(0xa3),
        history_root: filled(0xa4),
        fees: vec![TokenAmount { token, amount: Amount(5) }],
        supply: vec![SupplyChange { token, issued, redeemed }],
    }
}

pub fn certificate() -> Certificate {
    let header = header();
    let vote = |voter: u16, seed| {
        let answer = filled(seed);
        let digest = vote_digest(0, header.height, &header.hash(), &answer);
        let signature = secret(KeyKind::Ed25519, seed).sign(&digest);
        Vote { voter, answer, signature }
    };
    Certificate { epoch: 0, votes: vec![vote(0, 101), vote(2, 103)] }
}

pub fn receipts() -> Vec<(&'static str, Receipt)> {
    let id = payment().body.id();
    let good = Receipt {
        id,
        transaction: filled(0x22),
        result: ResultCode::Ok,
        failed_operation: None,
        rows_root: filled(0xb1),
        rows: 2,
    };
    let failed = Receipt {
        result: ResultCode::InsufficientFunds,
        failed_operation: Some(0),
        rows: 0,
        ..good.clone()
    };
    let genesis = genesis_receipt(ids().0, 6, filled(0xb2));
    vec![("done", good), ("failed", failed), ("genesis", genesis)]
}
