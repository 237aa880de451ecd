//! What tests of the rules of money share: a token with rules, several signers, typed answers.

use super::{Answer, HandClock, NOON, World, get, key, must_end};
use kanjo_api::{RecordPage, RecordView, SubmitOutcome};
use kanjo_client::Client;
use kanjo_node::RunningNode;
use kanjo_proof::{Fact, ProofFile};
use kanjo_store::disk::RealDisk;
use kanjo_types::money::{Act, Evidence, Grant, Order, Reason, WhenShort};
use kanjo_types::policy::{Fee, MovedOn, Policy, ReversalRule};
use kanjo_types::record::RowKey;
use kanjo_types::{
    Amount, KeySignature, Operation, Record, ResultCode, SignedTransaction, TokenId, TransactionId,
    UserId, WalletId,
};
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use std::sync::Arc;

/// The token with rules: the third of the ledger.
pub const EUR: TokenId = TokenId(3);
/// What each wallet but the first gets of it.
pub const FUNDS: u128 = 10_000;
/// Some time later than every test.
pub const LATER: u64 = NOON + 10_000_000;

/// Everything is permitted; payments cost one unit and one in a hundred, for the first wallet.
pub fn policy(world: &World) -> Policy {
    Policy {
        freezable: true,
        reversal: Some(ReversalRule { window_ms: 86_400_000, moved_on: MovedOn::Claim }),
        fee: Some(Fee { flat: Amount(1), basis_points: 100, receiver: world.wallets[0] }),
        credit: true,
        floors: true,
        ..Policy::default()
    }
}

/// Signed by the author and by parties beside it.
pub fn sign_with(
    world: &World,
    author: usize,
    parties: &[usize],
    operations: Vec<Operation>,
) -> SignedTransaction {
    let mut signers: Vec<(UserId, usize)> =
        parties.iter().map(|party| (world.users[*party], *party)).collect();
    signers.sort_unstable();
    let users: Vec<UserId> = signers.iter().map(|(user, _)| *user).collect();
    let first = (!users.is_empty()).then_some(Operation::Parties { users });
    let draft = world.draft(author).at(NOON).operations(first).operations(operations);
    let body = draft.valid_for(std::time::Duration::from_secs(86_000)).body().expect("a body");
    let id = body.id().0;
    let seeds = std::iter::once(author).chain(signers.iter().map(|(_, seed)| *seed));
    let sign = |(position, seed): (usize, usize)| KeySignature {
        key: position as u8,
        signature: key(seed as u64).sign(&id),
    };
    let signatures = seeds.enumerate().map(sign).collect();
    SignedTransaction { body, signatures }
}

pub fn signed(world: &World, author: usize, operations: Vec<Operation>) -> SignedTransaction {
    sign_with(world, author, &[], operations)
}

/// Sends; what came of it, and the transaction's id.
pub fn send(client: &Client, transaction: &SignedTransaction) -> (ResultCode, TransactionId) {
    match client.submit(transaction).expect("recorded") {
        SubmitOutcome::Recorded { result, id, .. } => (result, id),
        refused => panic!("{refused:?}"),
    }
}

/// Sends what must pass.
pub fn done(client: &Client, transaction: &SignedTransaction) -> TransactionId {
    let (result, id) = send(client, transaction);
    assert_eq!(result, ResultCode::Ok, "{transaction:?}");
    id
}

/// Makes the token with rules and fills all wallets but the first.
pub fn make_token(world: &World, client: &Client, policy: Policy, grants: Vec<Grant>) {
    let create = Operation::CreateToken {
        symbol: "EUR".to_owned(),
        name: "Euro".to_owned(),
        decimals: 2,
        issuer: world.users[0],
        policy: Box::new(policy),
        grants,
    };
    let issue = |to: &WalletId| Operation::Issue { token: EUR, to: *to, amount: Amount(FUNDS) };
    let issues = world.wallets.iter().skip(1).map(issue);
    done(client, &signed(world, 0, std::iter::once(create).chain(issues).collect()));
}

pub fn pay(world: &World, token: TokenId, from: usize, to: usize, amount: u128) -> Operation {
    Operation::Transfer {
        token,
        from: world.wallets[from],
        to: world.wallets[to],
        amount: Amount(amount),
        reference: "test".to_owned(),
    }
}

pub fn reserve(
    world: &World,
    token: TokenId,
    from: usize,
    to: usize,
    amount: u128,
    expires_ms: u64,
) -> Operation {
    Operation::Reserve {
        token,
        from: world.wallets[from],
        to: world.wallets[to],
        amount: Amount(amount),
        expires_ms,
        agent: None,
        linked: false,
        reference: String::new(),
    }
}

pub fn schedule(
    world: &World,
    token: TokenId,
    from: usize,
    to: usize,
    first_ms: u64,
    times: u32,
) -> Operation {
    Operation::Schedule {
        token,
        from: world.wallets[from],
        to: world.wallets[to],
        amount: Amount(10),
        first_ms,
        every: Some(kanjo_types::money::Every::Milliseconds(60_000)),
        times: Some(times),
        when_short: WhenShort::Skip,
        reference: String::new(),
    }
}

pub fn act(act: Act, evidence: Vec<Evidence>) -> Operation {
    let reason = Reason { code: "COURT_ORDER".to_owned(), reference: "file 7".to_owned() };
    Operation::Act { order: Box::new(Order { act, reason, expires_ms: LATER }), evidence }
}

/// The typed answer to a GET that succeeds.
pub fn read<T: DeserializeOwned>(address: SocketAddr, path: &str) -> T {
    let answer = get(address, path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub fn record(address: SocketAddr, table: &str, key: impl std::fmt::Display) -> RecordView {
    read(address, &format!("/v1/records/{table}/{key}"))
}

/// All rows of a table that concern somebody, page by page.
pub fn list(
    address: SocketAddr,
    table: &str,
    of: impl std::fmt::Display,
    limit: usize,
) -> Vec<Record> {
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/v1/records/{table}?of={of}&limit={limit}{cursor}");
        let page: RecordPage = read(address, &path);
        assert!(page.records.len() <= limit);
        found.extend(page.records.into_iter().map(|view| view.record));
        match page.next_cursor {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

pub fn hex(key: RowKey) -> String {
    key.0.to_string()
}

pub fn assert_code(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{}", answer.text());
}

pub fn start(accounts: u64) -> (World, Arc<HandClock>, RunningNode) {
    let (world, clock) = (World::new(accounts), HandClock::at(NOON));
    let node = world.start_with_clock(clock.clone());
    (world, clock, node)
}

pub fn stop_and_audit(world: &World, node: RunningNode) {
    must_end("stop", move || node.stop()).expect("a clean stop");
    world.assert_audit_clean(Arc::new(RealDisk));
}

pub fn evidence(address: SocketAddr, id: TransactionId) -> Evidence {
    read(address, &format!("/v1/transactions/{id}/evidence"))
}

pub fn proven(world: &World, address: SocketAddr, path: &str) -> Fact {
    let answer = get(address, path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    let file = ProofFile::from_json(&answer.text()).expect("a proof file");
    file.check(&world.genesis).unwrap_or_else(|error| panic!("{path}: {error}")).fact
}

/// Users by ascending id.
pub fn sorted(world: &World, users: &[usize]) -> Vec<UserId> {
    let mut users: Vec<UserId> = users.iter().map(|user| world.users[*user]).collect();
    users.sort_unstable();
    users
}
