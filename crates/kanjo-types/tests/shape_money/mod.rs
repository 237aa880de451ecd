//! What the rules of money refuse by shape, each at its limit and one beyond.

use super::{ALICE, BOB, Scenario, off_curve, token};
use kanjo_types::access::Access;
use kanjo_types::block::{Header, Receipt};
use kanjo_types::id::{ActId, BundleId, ClaimId, PendingId, ScheduleId};
use kanjo_types::money::*;
use kanjo_types::policy::{ClassLimits, DURATION_MAX_MS, Fee, MovedOn, Policy, ReversalRule};
use kanjo_types::record::TransactionRecord;
use kanjo_types::transaction::Operation;
use kanjo_types::{
    Amount, ChainId, Hash, Refusal, ResultCode, TokenId, TransactionId, UserId, WalletId,
};

const TOKEN: TokenId = TokenId(1);

/// `count` users, ascending.
pub fn users(count: u8) -> Vec<UserId> {
    (1..=count).map(|n| UserId([n; 16])).collect()
}

fn refused(refusal: Refusal, field: &'static str) -> Option<(Refusal, &'static str)> {
    Some((refusal, field))
}

// ---- Policies ----

fn with_policy(policy: Policy) -> Operation {
    let Operation::CreateToken { symbol, name, decimals, issuer, grants, .. } =
        token("JPY", "yen", 0)
    else {
        panic!("a token")
    };
    let policy = Box::new(policy);
    Operation::CreateToken { symbol, name, decimals, issuer, policy, grants }
}

fn fee(flat: u128, basis_points: u16) -> Policy {
    let fee = Fee { flat: Amount(flat), basis_points, receiver: ALICE };
    Policy { fee: Some(fee), ..Policy::default() }
}

fn window(window_ms: u64) -> Policy {
    let reversal = Some(ReversalRule { window_ms, moved_on: MovedOn::Follow });
    Policy { reversal, ..Policy::default() }
}

fn classes(count: usize) -> Policy {
    Policy { classes: vec![ClassLimits::default(); count], ..Policy::default() }
}

fn notice(notice_ms: u64) -> Policy {
    Policy { notice_ms, ..Policy::default() }
}

/// As a new token's charter and as an act.
fn policies() -> Vec<Scenario> {
    let cases = [
        ("highest fee", fee(u128::MAX, 10_000), None),
        ("fee above the amount", fee(0, 10_001), Some("policy.fee.basis_points")),
        ("smallest fees", fee(1, 0), None),
        ("smallest share", fee(0, 1), None),
        ("a fee of nothing", fee(0, 0), Some("policy.fee")),
        ("shortest window", window(1), None),
        ("longest window", window(DURATION_MAX_MS), None),
        ("window without length", window(0), Some("policy.reversal.window_ms")),
        ("window too long", window(DURATION_MAX_MS + 1), Some("policy.reversal.window_ms")),
        ("eight classes", classes(8), None),
        ("nine classes", classes(9), Some("policy.classes")),
        ("longest notice", notice(DURATION_MAX_MS), None),
        ("notice too long", notice(u64::MAX), Some("policy.notice_ms")),
    ];
    let mut all = Vec::new();
    for (name, policy, field) in cases {
        let create = field.map(|field| (Refusal::InvalidPolicy, field));
        all.push((name, with_policy(policy.clone()), create));
        let act = Act::SetPolicy { token: TOKEN, policy: Box::new(policy) };
        // The same below `order.act`.
        let within = field.map(|field| (Refusal::InvalidPolicy, below_act(field)));
        all.push((name, order(act), within));
    }
    all
}

fn below_act(field: &'static str) -> &'static str {
    match field {
        "policy.fee" => "order.act.policy.fee",
        "policy.fee.basis_points" => "order.act.policy.fee.basis_points",
        "policy.reversal.window_ms" => "order.act.policy.reversal.window_ms",
        "policy.classes" => "order.act.policy.classes",
        "policy.notice_ms" => "order.act.policy.notice_ms",
        other => panic!("{other}"),
    }
}

// ---- Roles ----

fn grant(role: Role, holders: Vec<UserId>, threshold: u8) -> Grant {
    Grant { role, holders, threshold }
}

fn granting(grants: Vec<Grant>) -> Operation {
    let Operation::CreateToken { symbol, name, decimals, issuer, policy, .. } =
        token("JPY", "yen", 0)
    else {
        panic!("a token")
    };
    Operation::CreateToken { symbol, name, decimals, issuer, policy, grants }
}

fn roles() -> Vec<Scenario> {
    use Role::{Auditor, Freezer, Guardian, Issuer};
    let role = |field| refused(Refusal::InvalidRole, field);
    let one = |role| grant(role, users(1), 1);
    let backwards = users(2).into_iter().rev().collect();
    let every_role = Role::OF_TOKENS.map(one).to_vec();
    let guardians = |grant, delay_ms| Operation::SetGuardians { grant, delay_ms };
    let set = |grant| order(Act::SetRole { token: TOKEN, grant });
    let (longest, threshold) = (DURATION_MAX_MS, "grants[0].threshold");
    vec![
        ("every role granted", granting(every_role), None),
        ("a role twice", granting(vec![one(Issuer), one(Issuer)]), role("grants")),
        ("roles descending", granting(vec![one(Freezer), one(Issuer)]), role("grants")),
        ("a guardian of a token", granting(vec![one(Guardian)]), role("grants[0].role")),
        ("16 of 16 holders", granting(vec![grant(Issuer, users(16), 16)]), None),
        ("17 holders", granting(vec![grant(Issuer, users(17), 1)]), role("grants[0].holders")),
        ("no holder", granting(vec![grant(Issuer, vec![], 0)]), role("grants[0].holders")),
        (
            "holders descending, in the second grant",
            granting(vec![one(Issuer), grant(Auditor, backwards, 1)]),
            role("grants[1].holders"),
        ),
        (
            "a holder twice",
            set(grant(Issuer, vec![UserId([1; 16]); 2], 1)),
            role("order.act.grant.holders"),
        ),
        ("nobody need agree", granting(vec![grant(Issuer, users(2), 0)]), role(threshold)),
        ("3 of 2", granting(vec![grant(Issuer, users(2), 3)]), role(threshold)),
        ("2 of 2 by act", set(grant(Issuer, users(2), 2)), None),
        ("3 of 2 by act", set(grant(Issuer, users(2), 3)), role("order.act.grant.threshold")),
        ("a guardian of a token by act", set(one(Guardian)), role("order.act.grant.role")),
        ("guardians", guardians(grant(Guardian, users(3), 2), longest), None),
        ("guardians without delay", guardians(one(Guardian), 0), None),
        ("delay too long", guardians(one(Guardian), longest + 1), role("delay_ms")),
        ("guardians of another role", guardians(one(Issuer), 0), role("grant.role")),
        ("2 of 1 guardians", guardians(grant(Guardian, users(1), 2), 0), role("grant.threshold")),
    ]
}

// ---- Payments in two steps, bundles, schedules ----

fn reserve(to: WalletId, amount: u128, reference: &str) -> Operation {
    Operation::Reserve {
        token: TOKEN,
        from: ALICE,
        to,
        amount: Amount(amount),
        expires_ms: 0,
        agent: None,
        linked: true,
        reference: reference.to_owned(),
    }
}

fn leg(to: WalletId, amount: u128, reference: &str) -> Leg {
    let reference = reference.to_owned();
    Leg { token: TOKEN, from: ALICE, to, amount: Amount(amount), reference }
}

fn bundle(parties: Vec<UserId>, conditions: usize, legs: Vec<Leg>) -> Operation {
    let conditions = vec![Condition::NotBefore { time_ms: 0 }; conditions];
    Operation::ProposeBundle { parties, conditions, legs, expires_ms: 0 }
}

fn payments() -> Vec<Scenario> {
    let long = "x".repeat(65);
    let pending = PendingId([1; 16]);
    let post = |amount: Option<u128>| Operation::Post { pending, amount: amount.map(Amount) };
    let good = || leg(BOB, 1, "");
    let second = |bad| bundle(users(1), 0, vec![good(), bad]);
    let parties = refused(Refusal::InvalidParties, "parties");
    let invalid = |field| refused(Refusal::InvalidBundle, field);
    let backwards = users(2).into_iter().rev().collect();
    let author = UserId([0xaa; 16]);
    vec![
        ("reserve", reserve(BOB, 1, &"x".repeat(64)), None),
        ("reserve nothing", reserve(BOB, 0, ""), refused(Refusal::ZeroAmount, "amount")),
        ("reserve for oneself", reserve(ALICE, 1, ""), refused(Refusal::SameWallet, "to")),
        (
            "a long reference",
            reserve(BOB, 1, &long),
            refused(Refusal::InvalidReference, "reference"),
        ),
        ("post all", post(None), None),
        ("post a part", post(Some(1)), None),
        ("post nothing", post(Some(0)), refused(Refusal::ZeroAmount, "amount")),
        ("void", Operation::Void { pending }, None),
        ("15 parties, 64 conditions, 64 legs", bundle(users(15), 64, vec![good(); 64]), None),
        ("16 parties", bundle(users(16), 0, vec![good()]), parties),
        ("no party", bundle(vec![], 0, vec![good()]), parties),
        ("parties descending", bundle(backwards, 0, vec![good()]), parties),
        ("the author as party", bundle(vec![author], 0, vec![good()]), parties),
        ("65 conditions", bundle(users(1), 65, vec![good()]), invalid("conditions")),
        ("65 legs", bundle(users(1), 0, vec![good(); 65]), invalid("legs")),
        ("no leg", bundle(users(1), 0, vec![]), invalid("legs")),
        ("empty leg", second(leg(BOB, 0, "")), refused(Refusal::ZeroAmount, "legs[1].amount")),
        ("leg to itself", second(leg(ALICE, 1, "")), refused(Refusal::SameWallet, "legs[1].to")),
        (
            "line break in a leg",
            second(leg(BOB, 1, "\n")),
            refused(Refusal::InvalidReference, "legs[1].reference"),
        ),
    ]
}

fn schedule(every: Option<Every>, times: Option<u32>, when_short: WhenShort) -> Operation {
    Operation::Schedule {
        token: TOKEN,
        from: ALICE,
        to: BOB,
        amount: Amount(1),
        first_ms: u64::MAX,
        every,
        times,
        when_short,
        reference: String::new(),
    }
}

fn changed_schedule(to: WalletId, amount: u128, reference: &str) -> Operation {
    Operation::Schedule {
        token: TOKEN,
        from: ALICE,
        to,
        amount: Amount(amount),
        first_ms: 0,
        every: None,
        times: None,
        when_short: WhenShort::Skip,
        reference: reference.to_owned(),
    }
}

fn schedules() -> Vec<Scenario> {
    use Every::{Milliseconds, Months};
    use WhenShort::{Retry, Skip, Stop};
    let invalid = |field| refused(Refusal::InvalidSchedule, field);
    let every = |every| schedule(Some(every), Some(1), Stop);
    let retry = |after_ms, times| schedule(None, None, Retry { after_ms, times });
    vec![
        ("once", schedule(None, None, Skip), None),
        ("each minute", every(Milliseconds(60_000)), None),
        ("faster", every(Milliseconds(59_999)), invalid("every.milliseconds")),
        ("each month", every(Months(1)), None),
        ("each ten years", every(Months(120)), None),
        ("no month", every(Months(0)), invalid("every.months")),
        ("121 months", every(Months(121)), invalid("every.months")),
        ("for ever", schedule(Some(Months(1)), None, Skip), None),
        ("never", schedule(Some(Months(1)), Some(0), Skip), invalid("times")),
        ("once, twice", schedule(None, Some(2), Skip), invalid("times")),
        ("retry", retry(60_000, 1), None),
        ("retry too soon", retry(59_999, 1), invalid("when_short")),
        ("retry never", retry(60_000, 0), invalid("when_short")),
        ("nothing later", changed_schedule(BOB, 0, ""), refused(Refusal::ZeroAmount, "amount")),
        ("oneself later", changed_schedule(ALICE, 1, ""), refused(Refusal::SameWallet, "to")),
        (
            "zero byte later",
            changed_schedule(BOB, 1, "\0"),
            refused(Refusal::InvalidReference, "reference"),
        ),
        (
            "interval goes before times",
            schedule(Some(Months(0)), Some(0), Retry { after_ms: 0, times: 0 }),
            invalid("every.months"),
        ),
    ]
}

// ---- Acts ----

fn order_for(act: Act, code: &str, reference: &str) -> Operation {
    let reason = Reason { code: code.to_owned(), reference: reference.to_owned() };
    let order = Box::new(Order { act, reason, expires_ms: 0 });
    Operation::Act { order, evidence: vec![] }
}

fn order(act: Act) -> Operation {
    order_for(act, "COURT_ORDER", "file 7")
}

fn issue(amount: u128) -> Act {
    Act::Issue { token: TOKEN, to: ALICE, amount: Amount(amount) }
}

fn terms(class: u8, credit: u128, floor: u128) -> Operation {
    let (credit, floor) = (Amount(credit), Amount(floor));
    order(Act::SetTerms { token: TOKEN, wallet: ALICE, approved: true, class, credit, floor })
}

fn transactions(from: u16, count: u16) -> Vec<TransactionId> {
    let id = |n: u16| {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        TransactionId(Hash(bytes))
    };
    (from..from + count).map(id).collect()
}

fn reverse(originals: Vec<TransactionId>, trail: Vec<TransactionId>) -> Act {
    Act::Reverse { token: TOKEN, originals, trail }
}

pub fn evidence() -> Evidence {
    let zero = Hash::ZERO;
    let header = Header {
        version: 1,
        chain: ChainId(zero),
        height: 1,
        parents: vec![],
        time_ms: 0,
        producer: 0,
        transactions: 1,
        transactions_root: zero,
        receipts_root: zero,
        state_root: zero,
        history_root: zero,
        fees: vec![],
        supply: vec![],
    };
    let record = TransactionRecord {
        id: TransactionId(zero),
        witness: zero,
        height: 1,
        position: 0,
        time_ms: 0,
        author_record: zero,
        spent: vec![],
    };
    let receipt = Receipt {
        id: TransactionId(zero),
        transaction: zero,
        result: ResultCode::Ok,
        failed_operation: None,
        rows_root: zero,
        rows: 0,
    };
    Evidence { header, record, receipt, path: vec![], rows: vec![], before: vec![] }
}

fn with_evidence(operation: Operation, count: usize) -> Operation {
    let evidence = vec![evidence(); count];
    match operation {
        Operation::Act { order, .. } => Operation::Act { order, evidence },
        Operation::ApproveAct { act, .. } => Operation::ApproveAct { act, evidence },
        other => other,
    }
}

fn acts() -> Vec<Scenario> {
    let reason = refused(Refusal::InvalidReason, "order.reason.code");
    let invalid_terms = |field| refused(Refusal::InvalidTerms, field);
    let amount = refused(Refusal::ZeroAmount, "order.act.amount");
    let redeem = |amount| Act::Redeem { token: TOKEN, from: ALICE, amount: Amount(amount) };
    let recover = |access| order(Act::Recover { user: UserId([1; 16]), access: Box::new(access) });
    let audit = Act::Audit { token: TOKEN, height: u64::MAX, header: Hash::ZERO };
    let target = FreezeTarget::Token;
    let freeze = Act::Freeze { token: TOKEN, target, direction: Direction::Both, until_ms: None };
    let line_break = order_for(issue(1), "A", "\n");
    vec![
        ("issue by act", order_for(issue(1), "A234567890_23456", ""), None),
        ("a code of 17", order_for(issue(1), "A2345678901234567", ""), reason),
        ("no code", order_for(issue(1), "", ""), reason),
        ("lower case", order_for(issue(1), "court", ""), reason),
        ("not ASCII", order_for(issue(1), "É", ""), reason),
        (
            "line break in the reason",
            line_break,
            refused(Refusal::InvalidReference, "order.reason.reference"),
        ),
        ("reason goes before the act", order_for(issue(0), "", ""), reason),
        ("issue nothing by act", order(issue(0)), amount),
        ("redeem by act", order(redeem(1)), None),
        ("redeem nothing by act", order(redeem(0)), amount),
        ("last class", terms(7, 0, 0), None),
        ("class 8", terms(8, 0, 0), invalid_terms("order.act.class")),
        ("credit", terms(0, u128::MAX, 0), None),
        ("floor", terms(0, 0, u128::MAX), None),
        ("credit and floor", terms(0, 1, 1), invalid_terms("order.act.floor")),
        ("new keys", recover(Access::Single(super::key(1))), None),
        (
            "keys off their curve",
            recover(Access::Single(off_curve())),
            refused(Refusal::InvalidKeys, "order.act.access"),
        ),
        ("audit", order(audit), None),
        ("freeze", order(freeze), None),
        ("unfreeze", order(Act::Unfreeze { token: TOKEN, target }), None),
    ]
}

fn reversals() -> Vec<Scenario> {
    let originals = refused(Refusal::InvalidReversal, "order.act.originals");
    let evidence = refused(Refusal::InvalidReversal, "evidence");
    let one = || order(reverse(transactions(0, 1), vec![]));
    let approve = || Operation::ApproveAct { act: ActId([1; 16]), evidence: vec![] };
    let twice = [transactions(0, 1), transactions(0, 1)].concat();
    vec![
        ("reverse one", one(), None),
        (
            "200 and 56 of a trail",
            order(reverse(transactions(0, 200), transactions(200, 56))),
            None,
        ),
        ("257", order(reverse(transactions(0, 200), transactions(200, 57))), originals),
        ("none", order(reverse(vec![], transactions(0, 1))), originals),
        ("one twice", order(reverse(twice, vec![])), originals),
        ("one in both", order(reverse(transactions(0, 2), transactions(1, 1))), originals),
        ("256 pieces of evidence", with_evidence(one(), 256), None),
        ("257 pieces of evidence", with_evidence(one(), 257), evidence),
        ("256 with an approval", with_evidence(approve(), 256), None),
        ("257 with an approval", with_evidence(approve(), 257), evidence),
        ("evidence for an issue", with_evidence(order(issue(1)), 1), evidence),
    ]
}

// ---- The rest ----

fn attribute(name: &str) -> [Operation; 2] {
    let (user, commitment) = (UserId([1; 16]), Hash::ZERO);
    [
        Operation::SetAttribute { user, name: name.to_owned(), commitment },
        Operation::EraseAttribute { user, name: name.to_owned() },
    ]
}

fn attributes() -> Vec<Scenario> {
    let invalid = refused(Refusal::InvalidAttribute, "name");
    let longest = "a".repeat(32);
    let longer = "a".repeat(33);
    let cases = [
        ("legal_name", None),
        ("_", None),
        ("0", None),
        (&longest, None),
        (&longer, invalid),
        ("", invalid),
        ("Name", invalid),
        ("a b", invalid),
        ("é", invalid),
    ];
    let of = |(name, wanted)| attribute(name).map(|operation| ("attribute", operation, wanted));
    cases.into_iter().flat_map(of).collect()
}

fn interest(wallets: usize, rate_ppm: u32, days: u16, year: u16) -> Operation {
    let to = vec![BOB; wallets];
    Operation::PayInterest { token: TOKEN, from: ALICE, to, rate_ppm, days, year }
}

fn interests() -> Vec<Scenario> {
    let invalid = |field| refused(Refusal::InvalidInterest, field);
    vec![
        ("least interest", interest(1, 1, 1, 360), None),
        ("most interest", interest(1_000, u32::MAX, u16::MAX, 366), None),
        ("365 days", interest(1, 1, 1, 365), None),
        ("nobody", interest(0, 1, 1, 365), invalid("to")),
        ("1,001 wallets", interest(1_001, 1, 1, 365), invalid("to")),
        ("no rate", interest(1, 0, 1, 365), invalid("rate_ppm")),
        ("no days", interest(1, 1, 0, 365), invalid("days")),
        ("364 days", interest(1, 1, 1, 364), invalid("year")),
    ]
}

fn plain() -> Vec<Scenario> {
    let ledger_only = refused(Refusal::LedgerOnly, "type");
    let (pending, schedule) = (PendingId([1; 16]), ScheduleId([1; 16]));
    let condition = Condition::NotAfter { time_ms: 0 };
    let run = Operation::RunSchedule { schedule, version: 1 };
    vec![
        ("condition", Operation::Require { condition }, None),
        ("agree", Operation::AgreeBundle { bundle: BundleId([1; 16]) }, None),
        ("decline", Operation::DeclineBundle { bundle: BundleId([1; 16]) }, None),
        ("cancel", Operation::CancelSchedule { schedule }, None),
        ("reject", Operation::RejectAct { act: ActId([1; 16]) }, None),
        ("finish", Operation::FinishAct { act: ActId([1; 16]) }, None),
        ("settle", Operation::SettleClaim { claim: ClaimId([1; 16]) }, None),
        ("expiry from outside", Operation::ExpirePending { pending }, ledger_only),
        ("a run from outside", run, ledger_only),
    ]
}

pub fn scenarios() -> Vec<Scenario> {
    [
        policies(),
        roles(),
        payments(),
        schedules(),
        acts(),
        reversals(),
        attributes(),
        interests(),
        plain(),
    ]
    .concat()
}
