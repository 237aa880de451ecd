//! The rules of money over HTTP: records and lists of every table, evidence and reversals, proofs,
//! fees, several signers.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::money::{
    EUR, FUNDS, LATER, act, assert_code, done, evidence, hex, list, make_token, pay, policy,
    proven, record, reserve, send, sign_with, signed, start, stop_and_audit,
};
use common::{HandClock, NOON, VSM, access, balance, client, get, is_done, key, must_end};
use kanjo_api::BalanceView;
use kanjo_client::{Client, Draft};
use kanjo_proof::Fact;
use kanjo_types::block::TokenAmount;
use kanjo_types::money::{Act, Direction, FreezeTarget};
use kanjo_types::policy::Policy;
use kanjo_types::record::RowKey;
use kanjo_types::standing::ActStatus;
use kanjo_types::{
    ActId, Amount, KeySignature, Operation, Record, ResultCode, SignedTransaction, Table, TokenId,
    TransactionId, UserId, WalletId,
};

fn held(client: &Client, wallet: WalletId, token: TokenId) -> BalanceView {
    let view = client.wallet(wallet).expect("a wallet");
    view.balances.into_iter().find(|held| held.token == token).expect("it holds the token")
}

#[test]
fn a_payment_is_reversed_with_its_evidence_and_all_of_it_is_on_record() {
    let (world, _, node) = start(4);
    let (client, address) = (client(&node), node.address());
    make_token(&world, &client, policy(&world), Vec::new());
    let payment = done(&client, &signed(&world, 1, vec![pay(&world, EUR, 1, 2, 1_000)]));
    assert_eq!(held(&client, world.wallets[1], EUR).balance.0, FUNDS - 1_011);
    let found = evidence(address, payment);
    assert_eq!((found.record.id, found.receipt.result), (payment, ResultCode::Ok));
    assert_eq!(found.rows.len(), 3, "payer, payee, who gets the fee");
    assert_eq!(found.before.len(), 2, "who gets the fee had nothing before");
    for before in &found.before {
        assert!(found.rows.iter().any(|row| row.previous() == before.hash()));
    }
    let reverse = |id, evidence| {
        let order = Act::Reverse { token: EUR, originals: vec![id], trail: Vec::new() };
        signed(&world, 0, vec![act(order, evidence)])
    };
    // What is not proven is not reversed: another amount, a header that is not there (yet).
    let mut forged = found.clone();
    let Record::WalletState(state) = &mut forged.rows[1] else { panic!("a state") };
    state.balance.0 += 1;
    let mut unborn = found.clone();
    unborn.header.height += 1_000_000;
    for evidence in [vec![], vec![forged], vec![unborn]] {
        let (result, _) = send(&client, &reverse(payment, evidence));
        assert_eq!(result, ResultCode::BadEvidence);
    }
    let reversed = done(&client, &reverse(payment, vec![found.clone()]));
    assert_eq!(held(&client, world.wallets[2], EUR).balance.0, FUNDS);
    assert_eq!(send(&client, &reverse(payment, vec![found])).0, ResultCode::AlreadyReversed);
    let row = RowKey::reversal(payment, EUR);
    let Record::Reversal(reversal) = record(address, "reversals", hex(row)).record else {
        panic!("a reversal")
    };
    let by = ActId::derive(reversed, 0, 0);
    assert_eq!((reversal.original, reversal.act), (payment, by));
    let Record::Act(order) = record(address, "acts", by).record else { panic!("an act") };
    assert_eq!((order.status, order.reason.code.as_str()), (ActStatus::Done, "COURT_ORDER"));
    for of in [world.wallets[1].to_string(), world.wallets[2].to_string(), EUR.to_string()] {
        assert_eq!(list(address, "reversals", of, 10), [Record::Reversal(reversal.clone())]);
    }
    let fact = proven(&world, address, &format!("/v1/proofs/records/reversals/{}", hex(row)));
    assert_eq!(fact, Fact::State { record: Record::Reversal(reversal.clone()) });
    let proof = |id: TransactionId, token: TokenId| {
        proven(&world, address, &format!("/v1/proofs/reversals/{id}?token={token}"))
    };
    let Fact::Reversal { transaction, reversal: proved, act, .. } = proof(payment, EUR) else {
        panic!("a reversal")
    };
    assert_eq!((transaction.body.id(), proved, act.id), (payment, *reversal, by));
    // What was not reversed, or not in this token.
    for (id, token) in [(payment, VSM), (reversed, EUR), (payment, TokenId(99))] {
        let key = RowKey::reversal(id, token);
        assert_eq!(proof(id, token), Fact::Absence { table: Table::Reversals, key });
    }
    let path = format!("/v1/proofs/reversals/{}?token=3", "11".repeat(32));
    assert_code(&get(address, &path), 404, "unknown_transaction");
    let path = format!("/v1/proofs/reversals/{payment}?token=x");
    assert_code(&get(address, &path), 400, "bad_request");
    stop_and_audit(&world, node);
}

#[test]
fn evidence_of_the_newest_blocks_is_waited_for_and_the_audit_sees_the_same() {
    let (world, _, node) = start(3);
    let (client, address) = (client(&node), node.address());
    make_token(&world, &client, policy(&world), Vec::new());
    // The reversal travels with payments that open blocks before it, from several threads.
    let ids: Vec<TransactionId> = (0..6)
        .map(|_| done(&client, &signed(&world, 1, vec![pay(&world, EUR, 1, 2, 10)])))
        .collect();
    std::thread::scope(|scope| {
        let noise = |n: usize| {
            let client = common::client_at(address);
            for _ in 0..40 {
                let from = n % 3;
                done(&client, &signed(&world, from, vec![world.transfer(from, (n + 1) % 3, 1)]));
            }
        };
        (0..3).for_each(|n| drop(scope.spawn(move || noise(n))));
        for id in &ids {
            let order = Act::Reverse { token: EUR, originals: vec![*id], trail: Vec::new() };
            done(&client, &signed(&world, 0, vec![act(order, vec![evidence(address, *id)])]));
        }
        // Headers of blocks that are under way while it is executed.
        let mut early = evidence(address, ids[0]);
        for ahead in 0..8 {
            early.header.height = node.height() + ahead;
            let order = Act::Reverse { token: EUR, originals: vec![ids[0]], trail: Vec::new() };
            let order = signed(&world, 0, vec![act(order, vec![early.clone()])]);
            let (result, _) = must_end("evidence", {
                let client = common::client_at(address);
                move || send(&client, &order)
            });
            assert!(!result.is_ok());
        }
    });
    assert_eq!(held(&client, world.wallets[2], EUR).balance.0, FUNDS);
    stop_and_audit(&world, node);
    let node = world.start_with_clock(HandClock::at(NOON));
    assert_eq!(list(node.address(), "reversals", EUR, 2).len(), 6);
    stop_and_audit(&world, node);
}

#[test]
fn wallets_and_tokens_show_what_rules_and_approvers_make_of_them() {
    let (world, clock, node) = start(4);
    let client = client(&node);
    let charter = Policy { notice_ms: 1_000, ..policy(&world) };
    make_token(&world, &client, charter.clone(), Vec::new());
    let [_, w1, w2, w3] = world.wallets[..] else { panic!("wallets") };
    let order = |act_| done(&client, &signed(&world, 0, vec![act(act_, Vec::new())]));
    let terms = |wallet, credit, floor| Act::SetTerms {
        token: EUR,
        wallet,
        approved: false,
        class: 0,
        credit: Amount(credit),
        floor: Amount(floor),
    };
    order(terms(w1, 0, 4_000));
    order(terms(w2, 700, 0));
    done(&client, &signed(&world, 1, vec![reserve(&world, EUR, 1, 3, 1_000, LATER)]));
    let view = held(&client, w1, EUR);
    assert_eq!((view.balance.0, view.reserved.0), (FUNDS - 1_011, 1_011));
    assert_eq!(view.available.0, FUNDS - 1_011 - 4_000);
    assert_eq!(view.terms.map(|terms| terms.floor.0), Some(4_000));
    done(&client, &signed(&world, 2, vec![pay(&world, EUR, 2, 3, FUNDS)]));
    let view = held(&client, w2, EUR);
    assert_eq!((view.balance.0, view.overdraft.0, view.available.0), (0, 101, 599));
    let freeze =
        |target, direction, until_ms| Act::Freeze { token: EUR, target, direction, until_ms };
    order(freeze(FreezeTarget::Wallet(w3), Direction::Incoming, None));
    assert_eq!(held(&client, w3, EUR).frozen, Some(Direction::Incoming));
    let owner = FreezeTarget::User(world.users[3]);
    order(freeze(owner, Direction::Outgoing, Some(NOON + 10)));
    assert_eq!(held(&client, w3, EUR).frozen, Some(Direction::Both));
    assert_eq!((held(&client, w1, EUR).frozen, held(&client, w1, VSM).frozen), (None, None));
    clock.set(NOON + 11);
    assert_eq!(held(&client, w3, EUR).frozen, Some(Direction::Incoming));
    order(freeze(FreezeTarget::Token, Direction::Both, None));
    assert_eq!(held(&client, w1, EUR).frozen, Some(Direction::Both));
    // Kinder at once; back to the charter after its notice.
    let kinder = Policy { fee: None, credit: false, floors: false, ..charter.clone() };
    let set = |policy: &Policy| Act::SetPolicy { token: EUR, policy: Box::new(policy.clone()) };
    order(set(&kinder));
    assert_eq!(held(&client, w1, EUR).available.0, FUNDS - 1_011);
    assert_eq!(held(&client, w2, EUR).available.0, 0);
    order(set(&charter));
    let token = client.token(EUR).expect("a token");
    assert_eq!((&token.policy, &token.charter), (&kinder, &charter));
    let coming = token.coming.expect("announced");
    assert_eq!((coming.policy, coming.from_ms), (charter.clone(), NOON + 11 + 1_000));
    assert_eq!(token.frozen.map(|freeze| freeze.direction), Some(Direction::Both));
    assert_eq!(token.supply.0, 3 * FUNDS);
    clock.set(NOON + 11 + 1_000);
    let token = client.token(EUR).expect("a token");
    assert_eq!((token.policy, token.coming), (charter, None));
    let plain = client.token(VSM).expect("a token");
    assert_eq!((plain.policy, plain.charter, plain.frozen), <_>::default());
    assert_eq!(client.tokens().expect("tokens").len(), 3);
    stop_and_audit(&world, node);
}

#[test]
fn fees_are_in_the_block_list_and_their_receiver_sees_them_come() {
    let (world, _, node) = start(3);
    let client = client(&node);
    make_token(&world, &client, policy(&world), Vec::new());
    let mut changes = client.stream_wallet(world.wallets[0]).expect("a stream");
    let mut blocks = client.stream_blocks(None).expect("a stream");
    let two = vec![pay(&world, EUR, 1, 2, 100), pay(&world, EUR, 1, 2, 1_000)];
    done(&client, &signed(&world, 1, two));
    done(&client, &signed(&world, 1, vec![world.transfer(1, 2, 5)]));
    let listed = client.blocks(kanjo_client::Page { before: None, limit: Some(3) });
    let fees: Vec<_> = listed.expect("blocks").blocks.into_iter().map(|b| b.fees).collect();
    let taken = vec![TokenAmount { token: EUR, amount: Amount(2 + 11) }];
    assert_eq!(fees, [vec![], taken.clone(), vec![]]);
    let (change, block) = must_end("the streams", move || {
        let change = changes.next().expect("open").expect("a change").version;
        (change, blocks.next().expect("open").expect("a block"))
    });
    let Record::WalletState(state) = change.record else { panic!("a state") };
    assert_eq!((state.token, state.balance.0), (EUR, 13));
    assert_eq!(block.fees, taken);
    assert_eq!(held(&client, world.wallets[0], EUR).balance.0, 13);
    stop_and_audit(&world, node);
}

#[test]
fn several_signers_pay_as_one_and_every_signature_counts() {
    let (world, _, node) = start(3);
    let client = client(&node);
    let swap = || vec![world.transfer(0, 1, 5), world.transfer(1, 2, 3), world.transfer(2, 0, 1)];
    let good = sign_with(&world, 0, &[1, 2], swap());
    let code = |change: &dyn Fn(&mut SignedTransaction)| {
        let mut bad = good.clone();
        change(&mut bad);
        client.submit(&bad).expect_err("refused").code().expect("a code").to_owned()
    };
    assert_eq!(code(&|bad| bad.signatures.truncate(2)), "signature_count");
    assert_eq!(code(&|bad| bad.signatures.swap(0, 1)), "signature_order");
    assert_eq!(code(&|bad| bad.signatures[1].key = 2), "signature_order");
    assert_eq!(code(&|bad| bad.signatures[2].key = 3), "signature_count");
    assert_eq!(code(&|bad| bad.signatures[1].signature[9] ^= 1), "bad_signature");
    assert_eq!(
        code(&|bad| bad.signatures[2].signature = bad.signatures[0].signature),
        "bad_signature"
    );
    let unknown = Operation::Parties { users: vec![UserId([9; 16])] };
    let draft = world.draft(0).at(NOON).operations([unknown, world.transfer(0, 1, 1)]);
    let error = client.submit(&draft.sign(&key(0)).expect("signed")).expect_err("refused");
    assert_eq!(error.code(), Some("unknown_author"));
    done(&client, &good);
    let first = common::FIRST_BALANCE;
    assert_eq!(world.balances(&client), [first - 4, first + 2, first + 2]);
    // Without the others' signatures their wallets are not spent from.
    let (result, _) = send(&client, &signed(&world, 0, swap()));
    assert_eq!(result, ResultCode::NotWalletOwner);
    stop_and_audit(&world, node);
}

#[test]
fn a_party_made_or_with_new_keys_in_the_same_request_counts_at_its_turn() {
    let (world, _, node) = start(2);
    let client = client(&node);
    let newcomer = UserId::derive(world.chain, &access(900), 0);
    let wallet = WalletId::derive(world.chain, newcomer, 0);
    let together = |with: u64, amount| {
        let operations = [
            Operation::Parties { users: vec![newcomer] },
            world.transfer(0, 1, 1),
            common::transfer(wallet, world.wallets[1], amount),
        ];
        let body = world.draft(0).at(NOON).operations(operations).body().expect("a body");
        let id = body.id().0;
        let sign = |position, seed| KeySignature { key: position, signature: key(seed).sign(&id) };
        SignedTransaction { signatures: vec![sign(0, 0), sign(1, with)], body }
    };
    let by_newcomer = |with: u64, operation| {
        Draft::new(world.chain, newcomer)
            .at(NOON)
            .operation(operation)
            .sign(&key(with))
            .expect("ok")
    };
    let make = vec![
        Operation::CreateUser { access: access(900), number: 0 },
        Operation::CreateWallet { owner: newcomer, number: 0 },
        common::transfer(world.wallets[0], wallet, 100),
    ];
    let rotate = Operation::RotateKeys { user: newcomer, access: access(901) };
    let request = [
        signed(&world, 0, make),
        together(900, 10),
        together(901, 20),
        by_newcomer(900, rotate),
        together(900, 30),
        together(901, 40),
    ];
    let outcomes = common::submit_all(&client, &request);
    let passed: Vec<bool> = outcomes.iter().map(is_done).collect();
    assert_eq!(passed, [true, true, false, true, false, true], "{outcomes:?}");
    assert_eq!(balance(&client, wallet, VSM), 50);
    stop_and_audit(&world, node);
}
