//! Arbitrary records of what stands beside the balances.

use super::money::*;
use super::*;
use kanjo_types::policy::{ComingPolicy, TokenRules};
use kanjo_types::record::StateExtra;
use kanjo_types::standing::*;
use proptest::option::of;
use proptest::sample::select;

pub fn rules() -> impl Strategy<Value = Option<Box<TokenRules>>> {
    let coming =
        (policy(), any::<u64>()).prop_map(|(policy, from_ms)| ComingPolicy { policy, from_ms });
    let rules = (policy(), policy(), of(coming))
        .prop_map(|(charter, policy, coming)| Box::new(TokenRules { charter, policy, coming }));
    of(rules)
}

/// Mostly none of it; otherwise anything, the one form or not.
pub fn extra() -> impl Strategy<Value = Option<Box<StateExtra>>> {
    let amounts = (amount(), amount(), amount(), any::<u32>(), amount());
    let extra = amounts.prop_map(|(reserved, overdraft, claims, day, paid_today)| {
        Box::new(StateExtra { reserved, overdraft, claims, day, paid_today })
    });
    of(extra)
}

fn links() -> impl Strategy<Value = Links> {
    (any::<u64>(), hash(), hash()).prop_map(|(version, previous, transaction)| Links {
        version,
        previous,
        transaction,
    })
}

pub fn record() -> impl Strategy<Value = Record> {
    prop_oneof![payments(), agreements(), administration()]
}

fn payments() -> impl Strategy<Value = Record> {
    prop_oneof![pending(), schedule(), claim()]
}

fn agreements() -> impl Strategy<Value = Record> {
    prop_oneof![bundle(), authority(), act_record(), attribute()]
}

fn administration() -> impl Strategy<Value = Record> {
    prop_oneof![terms(), freeze(), reversed()]
}

fn pending() -> impl Strategy<Value = Record> {
    let status = prop_oneof![
        Just(PendingStatus::Open),
        amount().prop_map(PendingStatus::Posted),
        Just(PendingStatus::Voided),
        Just(PendingStatus::Expired),
    ];
    let payment = (token(), wallet(), wallet(), amount(), amount(), text(20));
    let chain = (pending_id(), vec(pending_id(), 0..3), of(user()));
    (pending_id(), links(), payment, any::<(u64, u64)>(), chain, status).prop_map(
        |(id, links, payment, (created_ms, expires_ms), (chain, members, agent), status)| {
            let (token, from, to, amount, fee, reference) = payment;
            Record::Pending(Box::new(PendingRecord {
                id,
                links,
                token,
                from,
                to,
                amount,
                fee,
                created_ms,
                expires_ms,
                agent,
                chain,
                members,
                reference,
                status,
            }))
        },
    )
}

fn schedule() -> impl Strategy<Value = Record> {
    let status = select(vec![
        ScheduleStatus::Active,
        ScheduleStatus::Ended,
        ScheduleStatus::Stopped,
        ScheduleStatus::Cancelled,
    ]);
    let run = (any::<(u64, u64)>(), select(ResultCode::ALL))
        .prop_map(|((due_ms, at_ms), result)| Run { due_ms, at_ms, result });
    let payment = (token(), wallet(), wallet(), amount(), text(20));
    let plan = (of(every()), any::<Option<u32>>(), when_short());
    let progress = (any::<(u64, u32, u8, u64, u32)>(), of(run), status);
    (schedule_id(), links(), payment, plan, progress).prop_map(
        |(id, links, (token, from, to, amount, reference), plan, progress)| {
            let (every, times, when_short) = plan;
            let ((first_ms, date, tries, next_ms, paid), last, status) = progress;
            Record::Schedule(Box::new(ScheduleRecord {
                id,
                links,
                token,
                from,
                to,
                amount,
                first_ms,
                every,
                times,
                when_short,
                reference,
                date,
                tries,
                next_ms,
                paid,
                last,
                status,
            }))
        },
    )
}

fn claim() -> impl Strategy<Value = Record> {
    let sums = (token(), wallet(), wallet(), amount(), amount());
    (claim_id(), links(), sums, act_id()).prop_map(
        |(id, links, (token, debtor, creditor, amount, paid), act)| {
            let record = ClaimRecord { id, links, token, debtor, creditor, amount, paid, act };
            Record::Claim(Box::new(record))
        },
    )
}

fn bundle() -> impl Strategy<Value = Record> {
    let status = select(vec![BundleStatus::Open, BundleStatus::Done, BundleStatus::Declined]);
    let party = (user(), any::<bool>()).prop_map(|(user, agreed)| BundleParty { user, agreed });
    let lists = (vec(party, 0..3), vec(condition(), 0..3), vec(leg(), 0..3));
    (bundle_id(), links(), lists, any::<u64>(), status).prop_map(
        |(id, links, (parties, conditions, legs), expires_ms, status)| {
            let record = BundleRecord { id, links, parties, conditions, legs, expires_ms, status };
            Record::Bundle(Box::new(record))
        },
    )
}

fn authority() -> impl Strategy<Value = Record> {
    (scope(), role(), links(), vec(user(), 0..4), any::<u8>(), any::<u64>()).prop_map(
        |(scope, role, links, holders, threshold, delay_ms)| {
            let record = AuthorityRecord { scope, role, links, holders, threshold, delay_ms };
            Record::Authority(Box::new(record))
        },
    )
}

fn act_record() -> impl Strategy<Value = Record> {
    let status = prop_oneof![
        Just(ActStatus::Proposed),
        any::<u64>().prop_map(ActStatus::Waiting),
        Just(ActStatus::Done),
        Just(ActStatus::Rejected),
    ];
    let what = (act_id(), links(), act(), reason(), any::<u64>());
    let who = (user(), vec(user(), 0..3), of(user()));
    (what, who, hash(), hash(), status).prop_map(
        |(what, (maker, agreed, rejected_by), authority, token_record, status)| {
            let (id, links, act, reason, expires_ms) = what;
            Record::Act(Box::new(ActRecord {
                id,
                links,
                act,
                reason,
                maker,
                agreed,
                rejected_by,
                expires_ms,
                authority,
                token_record,
                status,
            }))
        },
    )
}

fn attribute() -> impl Strategy<Value = Record> {
    (user(), text(10), links(), hash(), user(), any::<Option<u64>>()).prop_map(
        |(user, name, links, commitment, custodian, erased_ms)| {
            let record = AttributeRecord { user, name, links, commitment, custodian, erased_ms };
            Record::Attribute(Box::new(record))
        },
    )
}

fn terms() -> impl Strategy<Value = Record> {
    let what = (any::<bool>(), any::<u8>(), amount(), amount());
    (wallet(), token(), links(), what, act_id()).prop_map(
        |(wallet, token, links, (approved, class, credit, floor), act)| {
            Record::Terms(Box::new(TermsRecord {
                wallet,
                token,
                links,
                approved,
                class,
                credit,
                floor,
                act,
            }))
        },
    )
}

fn freeze() -> impl Strategy<Value = Record> {
    let freeze = (direction(), any::<Option<u64>>())
        .prop_map(|(direction, until_ms)| Freeze { direction, until_ms });
    (token(), freeze_target(), links(), of(freeze), act_id(), reason()).prop_map(
        |(token, target, links, freeze, act, reason)| {
            let record = FreezeRecord { token, target, links, freeze, act, reason };
            Record::Freeze(Box::new(record))
        },
    )
}

fn reversed() -> impl Strategy<Value = Record> {
    let kind = select(vec![ReversalKind::Reversed, ReversalKind::Followed]);
    let a_move = (wallet(), hash(), amount(), amount())
        .prop_map(|(wallet, undone, taken, given)| ReversalMove { wallet, undone, taken, given });
    let relations = (hash(), hash(), act_id());
    (hash(), token(), links(), kind, relations, vec(a_move, 0..3)).prop_map(
        |(original, token, links, kind, (original_record, token_record, act), moves)| {
            Record::Reversal(Box::new(ReversalRecord {
                original: TransactionId(original),
                token,
                links,
                kind,
                original_record,
                token_record,
                act,
                moves,
            }))
        },
    )
}
