//! One operation of every kind beside the plain ones, and what they carry.

use super::*;
use kanjo_types::money::{
    Act, Condition, Direction, Every, Evidence, FreezeTarget, Grant, Leg, Order, Reason, Role,
    WhenShort, attribute_commitment,
};
use kanjo_types::policy::{ClassLimits, Fee, MovedOn, Policy, ReversalRule};
use kanjo_types::transaction::LEDGER;
use kanjo_types::{ActId, BundleId, ClaimId, PendingId, ScheduleId};

pub const LATER_MS: u64 = 1_767_312_000_000;

pub fn pending_id() -> PendingId {
    PendingId::derive(TransactionId(filled(0xc1)), 0, 0)
}

pub fn bundle_id() -> BundleId {
    BundleId::derive(TransactionId(filled(0xc1)), 1, 0)
}

pub fn schedule_id() -> ScheduleId {
    ScheduleId::derive(TransactionId(filled(0xc1)), 2, 0)
}

pub fn act_id() -> ActId {
    ActId::derive(TransactionId(filled(0xc1)), 3, 0)
}

pub fn claim_id() -> ClaimId {
    ClaimId::derive(TransactionId(filled(0xc1)), 3, 1)
}

/// The users of the genesis, ascending.
pub fn all_users() -> Vec<UserId> {
    let genesis = genesis();
    let mut users: Vec<UserId> =
        ["bank", "alice", "board"].iter().filter_map(|name| genesis.user_id(name)).collect();
    users.sort_unstable();
    users
}

/// Those beside the bank.
pub fn others() -> Vec<UserId> {
    let bank = genesis().user_id("bank").expect("bank");
    all_users().into_iter().filter(|user| *user != bank).collect()
}

pub fn policy() -> Policy {
    let limits = |max_day| ClassLimits {
        max_balance: Some(Amount(1_000_000)),
        max_payment: None,
        max_day: Some(Amount(max_day)),
    };
    Policy {
        supply_cap: Some(Amount(1_000_000_000)),
        freezable: true,
        reversal: Some(ReversalRule { window_ms: 259_200_000, moved_on: MovedOn::Claim }),
        fee: Some(Fee { flat: Amount(3), basis_points: 25, receiver: ids().2 }),
        allow_list: false,
        credit: true,
        floors: true,
        classes: vec![limits(50_000), limits(500_000)],
        notice_ms: 2_592_000_000,
    }
}

pub fn grant(role: Role) -> Grant {
    Grant { role, holders: all_users(), threshold: 2 }
}

pub fn conditions() -> Vec<Condition> {
    let (_, _, wallet, other) = ids();
    let (token, amount) = (TokenId(1), Amount(1_250));
    vec![
        Condition::BalanceAtLeast { wallet, token, amount },
        Condition::BalanceAtMost { wallet: other, token, amount },
        Condition::StateIs { wallet, token, state: filled(0xd1) },
        Condition::Approved { wallet: other, token },
        Condition::NotBefore { time_ms: 1_767_225_600_000 },
        Condition::NotAfter { time_ms: LATER_MS },
    ]
}

pub fn legs() -> Vec<Leg> {
    let (_, _, from, to) = ids();
    let leg = |from, to, amount, reference: &str| Leg {
        token: TokenId(1),
        from,
        to,
        amount: Amount(amount),
        reference: reference.to_owned(),
    };
    vec![leg(from, to, 100, "delivery"), leg(to, from, 7, "")]
}

pub fn reason() -> Reason {
    Reason { code: "COURT_ORDER".to_owned(), reference: "file 7/2026".to_owned() }
}

pub fn acts() -> Vec<(&'static str, Act)> {
    let (_, user, wallet, _) = ids();
    let (token, amount) = (TokenId(1), Amount(1_250));
    let (direction, until_ms) = (Direction::Outgoing, Some(LATER_MS));
    let freeze = |target| Act::Freeze { token, target, direction, until_ms };
    let (credit, floor) = (Amount::ZERO, Amount(500));
    let (originals, trail) = (vec![TransactionId(filled(1))], vec![TransactionId(filled(2))]);
    vec![
        ("act: issue", Act::Issue { token, to: wallet, amount }),
        ("act: redeem", Act::Redeem { token, from: wallet, amount }),
        ("act: freeze a wallet", freeze(FreezeTarget::Wallet(wallet))),
        ("act: freeze a user", freeze(FreezeTarget::User(user))),
        (
            "act: freeze the token",
            Act::Freeze {
                token,
                target: FreezeTarget::Token,
                direction: Direction::Both,
                until_ms: None,
            },
        ),
        ("act: unfreeze", Act::Unfreeze { token, target: FreezeTarget::Token }),
        (
            "act: set_terms",
            Act::SetTerms { token, wallet, approved: true, class: 1, credit, floor },
        ),
        ("act: reverse", Act::Reverse { token, originals, trail }),
        ("act: set_policy", Act::SetPolicy { token, policy: Box::new(policy()) }),
        ("act: set_role", Act::SetRole { token, grant: grant(Role::Reverser) }),
        ("act: recover", Act::Recover { user, access: Box::new(alice()) }),
        ("act: audit", Act::Audit { token, height: 7, header: header().hash() }),
    ]
}

pub fn evidence() -> Evidence {
    let records = records();
    let of = |name: &str| {
        let found = records.iter().find(|(of, _)| *of == name);
        found.map(|(_, record)| record.clone()).expect("a record of this name")
    };
    let Record::Transaction(record) = of("transaction") else { panic!("a transaction") };
    Evidence {
        header: header(),
        record,
        receipt: receipts().swap_remove(0).1,
        path: vec![filled(0xe1), filled(0xe2)],
        rows: vec![of("later wallet state")],
        before: vec![of("first wallet state")],
    }
}

/// All that users can order after the first place.
pub fn operations() -> Vec<(&'static str, Operation)> {
    let order = |act| Box::new(Order { act, reason: reason(), expires_ms: LATER_MS });
    let mut all = vec![("require", Operation::Require { condition: conditions()[0] })];
    all.extend(payments());
    all.extend(attributes());
    for (name, act) in acts() {
        all.push((name, Operation::Act { order: order(act), evidence: vec![] }));
    }
    let act = act_id();
    let delay_ms = 604_800_000;
    let (grant, rate_ppm, days, year) = (grant(Role::Guardian), 15_000, 90, 365);
    let (_, _, from, to) = ids();
    let interest =
        Operation::PayInterest { token: TokenId(1), from, to: vec![to], rate_ppm, days, year };
    all.extend([
        ("set_guardians", Operation::SetGuardians { grant, delay_ms }),
        ("approve_act", Operation::ApproveAct { act, evidence: vec![evidence()] }),
        ("reject_act", Operation::RejectAct { act }),
        ("finish_act", Operation::FinishAct { act }),
        ("settle_claim", Operation::SettleClaim { claim: claim_id() }),
        ("pay_interest", interest),
    ]);
    all
}

fn payments() -> Vec<(&'static str, Operation)> {
    let (_, agent, from, to) = ids();
    let (token, amount, expires_ms) = (TokenId(1), Amount(1_250), LATER_MS);
    let (pending, bundle, schedule) = (pending_id(), bundle_id(), schedule_id());
    let reserve = |agent, linked, reference: &str| Operation::Reserve {
        token,
        from,
        to,
        amount,
        expires_ms,
        agent,
        linked,
        reference: reference.to_owned(),
    };
    let (conditions, legs) = (conditions(), legs());
    vec![
        ("reserve", reserve(None, false, "")),
        ("reserve, linked, with an agent", reserve(Some(agent), true, "hotel")),
        ("post", Operation::Post { pending, amount: None }),
        ("post a part", Operation::Post { pending, amount: Some(Amount(1_000)) }),
        ("void", Operation::Void { pending }),
        (
            "propose_bundle",
            Operation::ProposeBundle { parties: others(), conditions, legs, expires_ms },
        ),
        ("agree_bundle", Operation::AgreeBundle { bundle }),
        ("decline_bundle", Operation::DeclineBundle { bundle }),
        ("schedule", plan(None, None, WhenShort::Skip)),
        ("schedule each day", plan(Some(Every::Milliseconds(86_400_000)), None, WhenShort::Stop)),
        (
            "schedule each month",
            plan(
                Some(Every::Months(1)),
                Some(12),
                WhenShort::Retry { after_ms: 3_600_000, times: 3 },
            ),
        ),
        ("cancel_schedule", Operation::CancelSchedule { schedule }),
    ]
}

fn plan(every: Option<Every>, times: Option<u32>, when_short: WhenShort) -> Operation {
    let (_, _, from, to) = ids();
    Operation::Schedule {
        token: TokenId(1),
        from,
        to,
        amount: Amount(80_000),
        first_ms: LATER_MS,
        every,
        times,
        when_short,
        reference: "rent".to_owned(),
    }
}

fn attributes() -> Vec<(&'static str, Operation)> {
    let user = ids().1;
    let name = || "legal_name".to_owned();
    let commitment = attribute_commitment(&[5; 32], "legal_name", "山田 花子");
    vec![
        ("set_attribute", Operation::SetAttribute { user, name: name(), commitment }),
        ("erase_attribute", Operation::EraseAttribute { user, name: name() }),
    ]
}

pub fn of_the_ledger() -> Vec<(&'static str, Operation)> {
    let (pending, schedule) = (pending_id(), schedule_id());
    vec![
        ("expire_pending", Operation::ExpirePending { pending }),
        ("run_schedule", Operation::RunSchedule { schedule, version: 3 }),
    ]
}

/// The bank and the board sign together: key 0 is the bank's, keys 1 to 3 are the board's.
pub fn by_bank_and_board() -> SignedTransaction {
    let (_, _, from, to) = ids();
    let board = genesis().user_id("board").expect("board");
    let body = body(vec![Operation::Parties { users: vec![board] }, pay(from, to, 1)]);
    let id = body.id();
    let sign = |key, kind, seed| {
        let signature = secret(kind, seed).sign(&id.0);
        KeySignature { key, signature }
    };
    let signatures = vec![
        sign(0, KeyKind::Ed25519, 1),
        sign(1, KeyKind::Ed25519, 3),
        sign(3, KeyKind::Secp256k1, 3),
    ];
    SignedTransaction { body, signatures }
}

/// A transaction of the ledger itself: nobody signs it.
pub fn by_the_ledger() -> SignedTransaction {
    let (_, run) = of_the_ledger().swap_remove(1);
    let mut body = body(vec![run]);
    body.author = LEDGER;
    body.salt = 0;
    body.valid_until_ms = LATER_MS;
    SignedTransaction { body, signatures: vec![] }
}
