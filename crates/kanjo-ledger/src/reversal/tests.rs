use super::*;
use crate::testing::{Bench, TOKEN, act_of, order};
use kanjo_types::money::{Act, Role};
use kanjo_types::policy::{Fee, Policy};
use kanjo_types::standing::{ActStatus, ClaimRecord};
use kanjo_types::stored::Entry;
use kanjo_types::{ClaimId, Operation};

const NAMES: [&str; 6] = ["bank", "ann", "bob", "cid", "dee", "eve"];
const WINDOW_MS: u64 = 1_000;

fn bench(moved_on: MovedOn) -> Bench {
    let reversal = Some(ReversalRule { window_ms: WINDOW_MS, moved_on });
    let mut bench = Bench::new(&NAMES, Policy { reversal, ..Policy::default() });
    bench.issue("ann", 100);
    bench
}

fn reverse(bench: &Bench, originals: &[TransactionId], trail: &[TransactionId]) -> Operation {
    let act = Act::Reverse { token: TOKEN, originals: originals.to_vec(), trail: trail.to_vec() };
    let mut evidence = bench.evidence_of(originals);
    evidence.extend(bench.evidence_of(trail));
    Operation::Act { order: order(act, 0), evidence }
}

fn reversed(bench: &mut Bench, originals: &[TransactionId], trail: &[TransactionId]) -> Entry {
    let operation = reverse(bench, originals, trail);
    bench.run(&["bank"], vec![operation])
}

fn balances(bench: &Bench) -> [u128; 6] {
    NAMES.map(|name| bench.balance(name))
}

fn reversals(entry: &Entry) -> Vec<&ReversalRecord> {
    let of_reversal = entry.rows.iter().filter_map(|row| match &row.record {
        Record::Reversal(reversal) => Some(&**reversal),
        _ => None,
    });
    of_reversal.collect()
}

fn claims(entry: &Entry) -> Vec<&ClaimRecord> {
    let of_claim = entry.rows.iter().filter_map(|row| match &row.record {
        Record::Claim(claim) => Some(&**claim),
        _ => None,
    });
    of_claim.collect()
}

#[test]
fn claims_fill_creditors_in_order() {
    let wallet = |number| WalletId([number; 16]);
    let owed = matched(
        &[(wallet(1), 5), (wallet(2), 4)],
        &[(wallet(3), 3), (wallet(4), 0), (wallet(5), 6)],
    );
    let parts: Vec<(u8, u8, u128)> =
        owed.iter().map(|owed| (owed.debtor.0[0], owed.creditor.0[0], owed.amount)).collect();
    assert_eq!(parts, [(1, 3, 3), (1, 5, 2), (2, 5, 4)]);
    assert_eq!(matched(&[], &[(wallet(3), 3)]), []);
}

#[test]
fn a_payment_is_undone_once_and_says_so() {
    let mut bench = bench(MovedOn::Refuse);
    let paid = bench.pay("ann", "bob", 30);
    let entry = reversed(&mut bench, &[paid], &[]);
    assert_eq!(entry.result, ResultCode::Ok);
    assert_eq!(balances(&bench), [0, 100, 0, 0, 0, 0]);
    let [record] = reversals(&entry)[..] else { panic!("one record") };
    assert_eq!((record.original, record.kind), (paid, ReversalKind::Reversed));
    let moves: Vec<(WalletId, u128, u128)> =
        record.moves.iter().map(|part| (part.wallet, part.taken.0, part.given.0)).collect();
    assert_eq!(moves, [(bench.wallet("ann"), 0, 30), (bench.wallet("bob"), 30, 0)]);
    let evidence = bench.evidence(paid);
    assert_eq!(record.original_record, Record::Transaction(evidence.record.clone()).hash());
    for (part, row) in record.moves.iter().zip(&evidence.rows) {
        assert_eq!(part.undone, row.hash());
    }
    let again = reversed(&mut bench, &[paid], &[]);
    assert_eq!(again.result, ResultCode::AlreadyReversed);
    let of_reversal = reversed(&mut bench, &[entry.record.id], &[]);
    assert_eq!(of_reversal.result, ResultCode::NotReversible);
}

#[test]
fn a_series_takes_from_its_end_and_gives_to_its_start() {
    let mut bench = bench(MovedOn::Refuse);
    let first = bench.pay("ann", "bob", 30);
    let second = bench.pay("bob", "cid", 30);
    assert_eq!(reversed(&mut bench, &[first], &[]).result, ResultCode::FundsMoved);
    let wrong_order = reversed(&mut bench, &[first, second], &[]);
    assert_eq!(wrong_order.result, ResultCode::BadEvidence);
    let entry = reversed(&mut bench, &[second, first], &[]);
    assert_eq!(entry.result, ResultCode::Ok);
    assert_eq!(balances(&bench), [0, 100, 0, 0, 0, 0]);
    let touched = |name| {
        let wallet = bench.wallet(name);
        entry.rows.iter().any(|row| match &row.record {
            Record::WalletState(state) => state.wallet == wallet,
            _ => false,
        })
    };
    assert!(touched("ann") && touched("cid") && !touched("bob"), "b has nothing to do with it");
}

#[test]
fn what_can_not_be_reversed() {
    let mut bench = bench(MovedOn::Refuse);
    let issued = bench.issue("bob", 5);
    assert_eq!(reversed(&mut bench, &[issued], &[]).result, ResultCode::NotReversible);
    let too_much = bench.transfer("bob", "cid", 6);
    let failed = bench.run(&["bob"], vec![too_much]);
    assert_eq!(failed.result, ResultCode::InsufficientFunds);
    let failed = reversed(&mut bench, &[failed.record.id], &[]);
    assert_eq!(failed.result, ResultCode::NotReversible);
    let there_and_back = vec![bench.transfer("bob", "cid", 5), bench.transfer("cid", "bob", 5)];
    let nothing = bench.done(&["bob", "cid"], there_and_back);
    assert_eq!(reversed(&mut bench, &[nothing], &[]).result, ResultCode::NotReversible);
    let paid = bench.pay("ann", "bob", 1);
    let with_trail = reversed(&mut bench, &[paid], &[nothing]);
    assert_eq!(with_trail.result, ResultCode::PolicyForbids);
    let operation = reverse(&bench, &[paid], &[]);
    let by_ann = bench.run(&["ann"], vec![operation]);
    assert_eq!(by_ann.result, ResultCode::NotHolder);
    let later = bench.pay("ann", "bob", 1);
    // Each transaction is a millisecond after the one before.
    bench.time_ms += WINDOW_MS;
    assert_eq!(reversed(&mut bench, &[later], &[]).result, ResultCode::ReversalTooLate);
    let last = bench.pay("ann", "bob", 1);
    bench.time_ms += WINDOW_MS - 1;
    assert_eq!(reversed(&mut bench, &[last], &[]).result, ResultCode::Ok);
}

#[test]
fn fees_come_back_with_the_payment() {
    let reversal = Some(ReversalRule { window_ms: WINDOW_MS, moved_on: MovedOn::Refuse });
    // Wallet ids follow from the genesis, which the token is not part of.
    let receiver = Bench::new(&NAMES, Policy::default()).wallet("eve");
    let fee = Some(Fee { flat: Amount(2), basis_points: 1_000, receiver });
    let mut bench = Bench::new(&NAMES, Policy { reversal, fee, ..Policy::default() });
    bench.issue("ann", 100);
    let paid = bench.pay("ann", "bob", 40);
    assert_eq!(balances(&bench), [0, 54, 40, 0, 0, 6]);
    assert_eq!(reversed(&mut bench, &[paid], &[]).result, ResultCode::Ok);
    assert_eq!(balances(&bench), [0, 100, 0, 0, 0, 0]);
}

#[test]
fn claims_are_left_and_settled() {
    let mut bench = bench(MovedOn::Claim);
    let paid = bench.pay("ann", "bob", 30);
    bench.pay("bob", "cid", 20);
    let entry = reversed(&mut bench, &[paid], &[]);
    assert_eq!(entry.result, ResultCode::Ok);
    assert_eq!(balances(&bench), [0, 80, 0, 20, 0, 0]);
    let [claim] = claims(&entry)[..] else { panic!("one claim") };
    assert_eq!((claim.debtor, claim.creditor), (bench.wallet("bob"), bench.wallet("ann")));
    assert_eq!((claim.amount, claim.paid), (Amount(20), Amount(0)));
    let settle = |claim| vec![Operation::SettleClaim { claim }];
    let id = claim.id;
    assert_eq!(bench.run(&["eve"], settle(id)).result, ResultCode::NothingToPay);
    let unknown = ClaimId([9; 16]);
    assert_eq!(bench.run(&["eve"], settle(unknown)).result, ResultCode::UnknownClaim);
    bench.pay("cid", "bob", 15);
    let transfer = bench.transfer("bob", "cid", 1);
    assert_eq!(bench.run(&["bob"], vec![transfer]).result, ResultCode::ClaimOpen);
    let first = bench.done(&["eve"], settle(id));
    assert_eq!(balances(&bench), [0, 95, 0, 5, 0, 0]);
    bench.pay("ann", "bob", 7);
    bench.done(&["eve"], settle(id));
    assert_eq!(balances(&bench), [0, 93, 2, 5, 0, 0]);
    assert_eq!(bench.run(&["eve"], settle(id)).result, ResultCode::ClaimSettled);
    bench.pay("bob", "cid", 2);
    assert_eq!(reversed(&mut bench, &[first], &[]).result, ResultCode::NotReversible);
}

#[test]
fn the_money_is_followed() {
    let mut bench = bench(MovedOn::Follow);
    let unrelated = bench.pay("ann", "cid", 1);
    bench.pay("cid", "ann", 1);
    bench.issue("bob", 5);
    let early = bench.pay("bob", "dee", 5);
    let paid = bench.pay("ann", "bob", 30);
    let on = bench.pay("bob", "cid", 20);
    let further = bench.pay("cid", "dee", 15);
    assert_eq!(reversed(&mut bench, &[paid], &[]).result, ResultCode::FundsMoved);
    assert_eq!(reversed(&mut bench, &[paid], &[on]).result, ResultCode::FundsMoved);
    for trail in [&[further, on][..], &[unrelated, on], &[early, on, further], &[further]] {
        let entry = reversed(&mut bench, &[paid], trail);
        assert_eq!(entry.result, ResultCode::BadEvidence, "{trail:?}");
    }
    let entry = reversed(&mut bench, &[paid], &[on, further]);
    assert_eq!(entry.result, ResultCode::Ok);
    assert_eq!(balances(&bench), [0, 100, 0, 0, 5, 0]);
    let records = reversals(&entry);
    let kinds: Vec<ReversalKind> = records.iter().map(|record| record.kind).collect();
    assert_eq!(kinds, [ReversalKind::Reversed, ReversalKind::Followed, ReversalKind::Followed]);
    let passed: Vec<(u128, u128)> =
        records[2].moves.iter().map(|part| (part.taken.0, part.given.0)).collect();
    assert_eq!(passed, [(0, 15), (15, 0)]);
    assert_eq!(reversed(&mut bench, &[on], &[]).result, ResultCode::AlreadyReversed);
}

#[test]
fn only_what_was_received_before_is_followed() {
    let mut bench = bench(MovedOn::Follow);
    bench.issue("bob", 50);
    let first = bench.pay("ann", "bob", 10);
    let on = bench.pay("bob", "cid", 60);
    let second = bench.pay("ann", "bob", 40);
    bench.pay("bob", "dee", 40);
    // Of the 60 only 10 were ann's; the 40 came later and went to dee.
    let entry = reversed(&mut bench, &[second, first], &[on]);
    assert_eq!(entry.result, ResultCode::FundsMoved);
    let entry = reversed(&mut bench, &[first], &[on]);
    assert_eq!(entry.result, ResultCode::Ok);
    assert_eq!(balances(&bench), [0, 60, 0, 50, 40, 0]);
}

#[test]
fn followed_money_that_came_back_to_its_payer_is_there() {
    let mut bench = bench(MovedOn::Follow);
    let paid = bench.pay("ann", "bob", 30);
    let back = bench.pay("bob", "ann", 30);
    assert_eq!(reversed(&mut bench, &[paid], &[back]).result, ResultCode::Ok);
    assert_eq!(balances(&bench), [0, 100, 0, 0, 0, 0]);
}

#[test]
fn changed_evidence_proves_nothing() {
    let mut bench = bench(MovedOn::Refuse);
    let other = bench.pay("ann", "bob", 7);
    let paid = bench.pay("ann", "bob", 30);
    let good = bench.evidence(paid);
    let other = bench.evidence(other);
    let act = || Act::Reverse { token: TOKEN, originals: vec![paid], trail: vec![] };
    type Change<'a> = &'a dyn Fn(&mut Evidence);
    let changes: [(&str, Change<'_>); 14] = [
        ("another block", &|evidence| evidence.header = other.header.clone()),
        ("a changed header", &|evidence| evidence.header.time_ms += 1),
        ("a block to come", &|evidence| evidence.header.height = 1_000),
        ("another transaction", &|evidence| *evidence = other.clone()),
        ("a changed record", &|evidence| evidence.record.time_ms += 1),
        ("another position", &|evidence| evidence.record.position = 1),
        ("a changed result", &|evidence| evidence.receipt.result = ResultCode::PolicyForbids),
        ("a longer path", &|evidence| evidence.path.push(Hash::ZERO)),
        ("other rows", &|evidence| evidence.rows.clone_from(&other.rows)),
        ("a row less", &|evidence| drop(evidence.rows.pop())),
        ("rows turned round", &|evidence| evidence.rows.reverse()),
        ("other states before", &|evidence| evidence.before.clone_from(&other.before)),
        ("a state before less", &|evidence| drop(evidence.before.pop())),
        ("a state before more", &|evidence| evidence.before.push(other.rows[0].clone())),
    ];
    for (name, change) in changes {
        let mut evidence = good.clone();
        change(&mut evidence);
        let operation = Operation::Act { order: order(act(), 0), evidence: vec![evidence] };
        let entry = bench.run(&["bank"], vec![operation]);
        assert_eq!(entry.result, ResultCode::BadEvidence, "{name}");
    }
    for evidence in [vec![], vec![good.clone(), other]] {
        let operation = Operation::Act { order: order(act(), 0), evidence };
        assert_eq!(bench.run(&["bank"], vec![operation]).result, ResultCode::BadEvidence);
    }
    let operation = Operation::Act { order: order(act(), 0), evidence: vec![good] };
    assert_eq!(bench.run(&["bank"], vec![operation]).result, ResultCode::Ok);
}

#[test]
fn a_reversal_is_proposed_and_then_approved_with_evidence() {
    let mut bench = bench(MovedOn::Refuse);
    let set_role = Act::SetRole {
        token: TOKEN,
        grant: bench.grant(Role::Reverser, &["bank", "dee", "eve"], 2),
    };
    let operation = Operation::Act { order: order(set_role, 0), evidence: vec![] };
    bench.done(&["bank"], vec![operation]);
    let paid = bench.pay("ann", "bob", 30);
    let act = Act::Reverse { token: TOKEN, originals: vec![paid], trail: vec![] };
    let expires_ms = bench.time_ms + 100;
    let proposed = |evidence| Operation::Act { order: order(act.clone(), expires_ms), evidence };
    let early = bench.evidence_of(&[paid]);
    let entry = bench.run(&["dee"], vec![proposed(early)]);
    assert_eq!(entry.result, ResultCode::BadEvidence);
    let entry = bench.run(&["ann", "dee"], vec![proposed(vec![])]);
    assert_eq!(entry.result, ResultCode::Ok);
    let record = act_of(&entry);
    assert_eq!(record.status, ActStatus::Proposed);
    assert_eq!((record.maker, &record.agreed), (bench.user("ann"), &vec![bench.user("dee")]));
    let approve = |evidence| vec![Operation::ApproveAct { act: record.id, evidence }];
    assert_eq!(bench.run(&["ann"], approve(vec![])).result, ResultCode::NotHolder);
    assert_eq!(bench.run(&["dee"], approve(vec![])).result, ResultCode::AlreadyAgreed);
    assert_eq!(bench.run(&["eve"], approve(vec![])).result, ResultCode::BadEvidence);
    let evidence = bench.evidence_of(&[paid]);
    let entry = bench.run(&["eve"], approve(evidence));
    assert_eq!(entry.result, ResultCode::Ok);
    assert_eq!(act_of(&entry).status, ActStatus::Done);
    assert_eq!(act_of(&entry).links.version, 2);
    assert_eq!(balances(&bench), [0, 100, 0, 0, 0, 0]);
    assert_eq!(bench.run(&["bank"], approve(vec![])).result, ResultCode::ActClosed);
}

#[test]
fn the_largest_batch_of_payments_can_be_undone() {
    use kanjo_types::transaction::{OPERATIONS_MAX, TRANSACTION_BYTES_MAX};
    let mut bench = bench(MovedOn::Refuse);
    bench.issue("ann", 20_000);
    let owner = bench.user("bob");
    let numbers = || 1..=OPERATIONS_MAX as u64;
    let opened = numbers().map(|number| Operation::CreateWallet { owner, number }).collect();
    bench.done(&["bob"], opened);
    let chain = bench.ledger.chain();
    let pay = |number| Operation::Transfer {
        token: TOKEN,
        from: WalletId::derive(chain, bench.user("ann"), 0),
        to: WalletId::derive(chain, owner, number),
        amount: Amount(1),
        reference: String::new(),
    };
    let batch: Vec<Operation> = numbers().map(pay).collect();
    bench.done(&["ann"], batch.clone());
    let second = bench.done(&["ann"], batch);
    let undo = reverse(&bench, &[second], &[]);
    assert!(kanjo_types::codec::to_bytes(&undo).len() > TRANSACTION_BYTES_MAX);
    assert_eq!(bench.run(&["bank"], vec![undo]).result, ResultCode::Ok);
    assert_eq!(bench.balance("ann"), 20_100 - OPERATIONS_MAX as u128);
}
