use super::*;
use crate::testing::{Bench, TOKEN, act_of};
use kanjo_types::money::{Direction, FreezeTarget};
use kanjo_types::policy::{Policy, ReversalRule};
use kanjo_types::stored::Entry;
use kanjo_types::{Access, Amount, Operation, TokenId, TransactionId, WalletId};

const NAMES: [&str; 6] = ["bank", "ann", "bob", "cid", "dee", "eve"];

fn code(entry: &Entry) -> ResultCode {
    entry.result
}

fn freezable() -> Policy {
    Policy { freezable: true, notice_ms: 100, ..Policy::default() }
}

fn freeze(bench: &Bench, name: &str) -> Act {
    Act::Freeze {
        token: TOKEN,
        target: FreezeTarget::Wallet(bench.wallet(name)),
        direction: Direction::Outgoing,
        until_ms: None,
    }
}

fn terms(bench: &Bench, approved: bool, class: u8, credit: u128, floor: u128) -> Act {
    let (wallet, credit, floor) = (bench.wallet("ann"), Amount(credit), Amount(floor));
    Act::SetTerms { token: TOKEN, wallet, approved, class, credit, floor }
}

#[test]
fn freezes_are_made_and_ended() {
    let mut bench = Bench::new(&NAMES, freezable());
    bench.issue("ann", 10);
    let act = freeze(&bench, "ann");
    assert_eq!(code(&bench.order(&["ann"], act.clone())), ResultCode::NotHolder);
    let frozen = bench.order(&["bank"], act.clone());
    assert_eq!(code(&frozen), ResultCode::Ok);
    let record = act_of(&frozen);
    assert_eq!(record.status, ActStatus::Done);
    assert!(record.authority.is_zero() && !record.token_record.is_zero());
    let transfer = bench.transfer("ann", "bob", 1);
    assert_eq!(code(&bench.run(&["ann"], vec![transfer.clone()])), ResultCode::SourceFrozen);
    assert_eq!(code(&bench.order(&["bank"], act)), ResultCode::AlreadyFrozen);
    let target = FreezeTarget::Wallet(bench.wallet("ann"));
    let unfreeze = Act::Unfreeze { token: TOKEN, target };
    assert_eq!(code(&bench.order(&["bank"], unfreeze.clone())), ResultCode::Ok);
    assert_eq!(code(&bench.order(&["bank"], unfreeze)), ResultCode::NotFrozen);
    assert_eq!(code(&bench.run(&["ann"], vec![transfer])), ResultCode::Ok);
    let until = |until_ms| Act::Freeze {
        token: TOKEN,
        target: FreezeTarget::Token,
        direction: Direction::Both,
        until_ms: Some(until_ms),
    };
    let past = until(bench.time_ms);
    assert_eq!(code(&bench.order(&["bank"], past)), ResultCode::InvalidTime);
}

#[test]
fn what_the_policy_does_not_permit_is_not_even_proposed() {
    for policy in [Policy::default(), Policy { credit: true, ..Policy::default() }] {
        let mut bench = Bench::new(&NAMES, policy.clone());
        let originals = vec![TransactionId(Hash([1; 32]))];
        let reverse = Act::Reverse { token: TOKEN, originals, trail: vec![] };
        let mut forbidden = vec![
            freeze(&bench, "ann"),
            terms(&bench, true, 0, 0, 0),
            terms(&bench, false, 1, 0, 0),
            terms(&bench, false, 0, 0, 1),
            reverse,
        ];
        if policy.is_plain() {
            forbidden.push(terms(&bench, false, 0, 1, 0));
            forbidden.push(Act::SetPolicy { token: TOKEN, policy: Box::default() });
        } else {
            let harsher = Box::new(freezable());
            let against = Act::SetPolicy { token: TOKEN, policy: harsher };
            assert_eq!(code(&bench.order(&["bank"], against)), ResultCode::AgainstCharter);
            let credit = terms(&bench, false, 0, 1, 0);
            assert_eq!(code(&bench.order(&["bank"], credit)), ResultCode::Ok);
        }
        for role in Role::OF_TOKENS.into_iter().filter(|role| *role != Role::Issuer) {
            if role != Role::Governor {
                let grant = bench.grant(role, &["bank", "bob"], 2);
                let act = Act::SetRole { token: TOKEN, grant };
                assert_eq!(code(&bench.order(&["bank"], act)), ResultCode::Ok);
            }
        }
        for act in forbidden {
            let result = code(&bench.order(&["bank"], act.clone()));
            assert_eq!(result, ResultCode::PolicyForbids, "{act:?}");
        }
    }
}

#[test]
fn what_an_act_names_must_exist() {
    let reversal =
        Some(ReversalRule { window_ms: 1, moved_on: kanjo_types::policy::MovedOn::Claim });
    let mut bench = Bench::new(&NAMES, Policy { reversal, ..freezable() });
    let (token, wallet, user) = (TOKEN, WalletId([9; 16]), UserId([9; 16]));
    let amount = Amount(1);
    let frozen = |target| Act::Unfreeze { token, target };
    let nobody = Grant { role: Role::Issuer, holders: vec![user], threshold: 1 };
    let access =
        Box::new(bench.ledger.users().get(&bench.user("eve")).expect("known").access.clone());
    let acts = [
        (Act::Audit { token: TokenId(2), height: 0, header: Hash::ZERO }, ResultCode::UnknownToken),
        (Act::Issue { token, to: wallet, amount }, ResultCode::UnknownTargetWallet),
        (Act::Redeem { token, from: wallet, amount }, ResultCode::UnknownSourceWallet),
        (frozen(FreezeTarget::Wallet(wallet)), ResultCode::UnknownWallet),
        (frozen(FreezeTarget::User(user)), ResultCode::UnknownUser),
        (Act::SetRole { token, grant: nobody.clone() }, ResultCode::UnknownUser),
        (Act::Recover { user, access: access.clone() }, ResultCode::UnknownUser),
        (Act::Recover { user: bench.user("ann"), access }, ResultCode::NotHolder),
    ];
    for (act, result) in acts {
        // By one who holds nothing: that comes after.
        assert_eq!(code(&bench.order(&["ann"], act.clone())), result, "{act:?}");
    }
    let unknown = ActId([9; 16]);
    for operation in [
        Operation::ApproveAct { act: unknown, evidence: vec![] },
        Operation::RejectAct { act: unknown },
        Operation::FinishAct { act: unknown },
    ] {
        assert_eq!(code(&bench.run(&["bank"], vec![operation])), ResultCode::UnknownAct);
    }
    let guardians = |grant| vec![Operation::SetGuardians { grant, delay_ms: 0 }];
    let nobody = Grant { role: Role::Guardian, ..nobody };
    assert_eq!(code(&bench.run(&["ann"], guardians(nobody))), ResultCode::UnknownUser);
    let itself = bench.grant(Role::Guardian, &["ann", "bob"], 1);
    assert_eq!(code(&bench.run(&["ann"], guardians(itself))), ResultCode::NotPermitted);
}

#[test]
fn several_issuers_agree_to_issue_and_redeem() {
    let mut bench = Bench::new(&NAMES, Policy::default());
    let (token, to) = (TOKEN, bench.wallet("dee"));
    let grant = bench.grant(Role::Issuer, &["bob", "cid", "dee"], 2);
    assert_eq!(code(&bench.order(&["bank"], Act::SetRole { token, grant })), ResultCode::Ok);
    let issue = Act::Issue { token, to, amount: Amount(10) };
    let at_once = bench.order(&["bob", "cid"], issue.clone());
    assert_eq!((code(&at_once), act_of(&at_once).status), (ResultCode::Ok, ActStatus::Done));
    assert_eq!(bench.balance("dee"), 10);
    let direct = Operation::Issue { token, to, amount: Amount(10) };
    assert_eq!(code(&bench.run(&["bob"], vec![direct])), ResultCode::ApprovalNeeded);
    let approve = |act| vec![Operation::ApproveAct { act, evidence: vec![] }];
    let redeem = Act::Redeem { token, from: to, amount: Amount(4) };
    let proposed = act_of(&bench.order(&["bob"], redeem)).id;
    assert_eq!(code(&bench.run(&["cid"], approve(proposed))), ResultCode::NotWalletOwner);
    assert_eq!(code(&bench.run(&["dee"], approve(proposed))), ResultCode::Ok);
    assert_eq!(bench.balance("dee"), 6);
    let late = act_of(&bench.order(&["bob"], issue.clone()));
    bench.time_ms = late.expires_ms;
    assert_eq!(code(&bench.run(&["cid"], approve(late.id))), ResultCode::ActExpired);
    let withdrawn = act_of(&bench.order(&["bob"], issue.clone())).id;
    let reject = vec![Operation::RejectAct { act: withdrawn }];
    assert_eq!(code(&bench.run(&["bank"], reject.clone())), ResultCode::NotHolder);
    assert_eq!(code(&bench.run(&["dee"], reject.clone())), ResultCode::Ok);
    assert_eq!(code(&bench.run(&["dee"], reject)), ResultCode::ActClosed);
    // Who is no holder any more does not count.
    let proposed = act_of(&bench.order(&["bob"], issue)).id;
    let grant = bench.grant(Role::Issuer, &["cid", "dee"], 2);
    bench.order(&["bank"], Act::SetRole { token, grant });
    let still = act_of(&bench.run(&["cid"], approve(proposed)));
    assert_eq!((still.status, still.agreed.len()), (ActStatus::Proposed, 2));
    assert_eq!(act_of(&bench.run(&["dee"], approve(proposed))).status, ActStatus::Done);
    assert_eq!(bench.balance("dee"), 16);
}

#[test]
fn a_proposal_expires_within_its_bounds() {
    let mut bench = Bench::new(&NAMES, Policy::default());
    let token = TOKEN;
    let grant = bench.grant(Role::Auditor, &["bob", "cid"], 2);
    bench.order(&["bank"], Act::SetRole { token, grant });
    let audit = Act::Audit { token, height: 1, header: Hash::ZERO };
    let mut propose = |after_ms: i64| {
        let expires_ms = (bench.time_ms + 1).saturating_add_signed(after_ms);
        let order = crate::testing::order(audit.clone(), expires_ms);
        bench.run(&["bob"], vec![Operation::Act { order, evidence: vec![] }]).result
    };
    let longest = i64::try_from(DURATION_MAX_MS).expect("small");
    assert_eq!(propose(-1), ResultCode::InvalidTime);
    assert_eq!(propose(0), ResultCode::Ok);
    assert_eq!(propose(longest), ResultCode::Ok);
    assert_eq!(propose(longest + 1), ResultCode::InvalidTime);
}

#[test]
fn guardians_recover_a_user_unless_it_objects() {
    let mut bench = Bench::new(&NAMES, Policy::default());
    let guardians = bench.grant(Role::Guardian, &["bob", "cid"], 2);
    let set = Operation::SetGuardians { grant: guardians, delay_ms: 50 };
    bench.done(&["ann"], vec![set]);
    let eve = bench.ledger.users().get(&bench.user("eve")).expect("known").access.clone();
    let recover = Act::Recover { user: bench.user("ann"), access: Box::new(Access::clone(&eve)) };
    assert_eq!(code(&bench.order(&["eve"], recover.clone())), ResultCode::NotHolder);
    let vetoed = act_of(&bench.order(&["bob", "cid"], recover.clone())).id;
    bench.done(&["ann"], vec![Operation::RejectAct { act: vetoed }]);
    let record = act_of(&bench.order(&["bob", "cid"], recover));
    assert_eq!(record.status, ActStatus::Waiting(bench.time_ms + 50));
    let finish = |act| vec![Operation::FinishAct { act }];
    assert_eq!(bench.run(&["dee"], finish(record.id)).result, ResultCode::ActNotReady);
    let approve = Operation::ApproveAct { act: record.id, evidence: vec![] };
    assert_eq!(bench.run(&["bob"], vec![approve]).result, ResultCode::ActWaiting);
    bench.time_ms += 50;
    assert_eq!(bench.run(&["dee"], finish(vetoed)).result, ResultCode::ActClosed);
    bench.done(&["dee"], finish(record.id));
    let ann = bench.ledger.users().get(&bench.user("ann")).expect("known");
    assert_eq!((ann.version, &ann.access), (2, &eve));
    assert_eq!(ann.sponsor, bench.user("ann"));
}
