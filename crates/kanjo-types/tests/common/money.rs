//! Arbitrary values of the rules of money: policies, operations, acts, evidence.

use super::*;
use kanjo_types::id::{ActId, BundleId, ClaimId, PendingId, ScheduleId};
use kanjo_types::money::{
    Act, Condition, Direction, Every, Evidence, FreezeTarget, Grant, Leg, Order, Reason, Role,
    Scope, WhenShort,
};
use kanjo_types::policy::{ClassLimits, Fee, MovedOn, Policy, ReversalRule};
use proptest::option::of;
use proptest::sample::select;

pub fn pending_id() -> impl Strategy<Value = PendingId> {
    bytes::<16>().prop_map(PendingId)
}

pub fn bundle_id() -> impl Strategy<Value = BundleId> {
    bytes::<16>().prop_map(BundleId)
}

pub fn schedule_id() -> impl Strategy<Value = ScheduleId> {
    bytes::<16>().prop_map(ScheduleId)
}

pub fn act_id() -> impl Strategy<Value = ActId> {
    bytes::<16>().prop_map(ActId)
}

pub fn claim_id() -> impl Strategy<Value = ClaimId> {
    bytes::<16>().prop_map(ClaimId)
}

pub fn policy() -> impl Strategy<Value = Policy> {
    let moved_on = select(vec![MovedOn::Refuse, MovedOn::Claim, MovedOn::Follow]);
    let reversal = (any::<u64>(), moved_on)
        .prop_map(|(window_ms, moved_on)| ReversalRule { window_ms, moved_on });
    let fee = (amount(), any::<u16>(), wallet()).prop_map(|(flat, basis_points, receiver)| Fee {
        flat,
        basis_points,
        receiver,
    });
    let limits = (of(amount()), of(amount()), of(amount())).prop_map(
        |(max_balance, max_payment, max_day)| ClassLimits { max_balance, max_payment, max_day },
    );
    let switches = any::<[bool; 4]>();
    let parts = (of(amount()), of(reversal), of(fee), switches, vec(limits, 0..4), any::<u64>());
    let full = parts.prop_map(|(supply_cap, reversal, fee, switches, classes, notice_ms)| {
        let [freezable, allow_list, credit, floors] = switches;
        Policy {
            supply_cap,
            freezable,
            reversal,
            fee,
            allow_list,
            credit,
            floors,
            classes,
            notice_ms,
        }
    });
    prop_oneof![1 => Just(Policy::default()), 3 => full]
}

pub fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        (wallet(), token(), amount()).prop_map(|(wallet, token, amount)| {
            Condition::BalanceAtLeast { wallet, token, amount }
        }),
        (wallet(), token(), amount()).prop_map(|(wallet, token, amount)| {
            Condition::BalanceAtMost { wallet, token, amount }
        }),
        (wallet(), token(), hash()).prop_map(|(wallet, token, state)| Condition::StateIs {
            wallet,
            token,
            state
        }),
        (wallet(), token()).prop_map(|(wallet, token)| Condition::Approved { wallet, token }),
        any::<u64>().prop_map(|time_ms| Condition::NotBefore { time_ms }),
        any::<u64>().prop_map(|time_ms| Condition::NotAfter { time_ms }),
    ]
}

pub fn leg() -> impl Strategy<Value = Leg> {
    (token(), wallet(), wallet(), amount(), text(20))
        .prop_map(|(token, from, to, amount, reference)| Leg { token, from, to, amount, reference })
}

pub fn every() -> impl Strategy<Value = Every> {
    prop_oneof![any::<u64>().prop_map(Every::Milliseconds), any::<u16>().prop_map(Every::Months)]
}

pub fn when_short() -> impl Strategy<Value = WhenShort> {
    prop_oneof![
        Just(WhenShort::Skip),
        Just(WhenShort::Stop),
        (any::<u64>(), any::<u8>())
            .prop_map(|(after_ms, times)| WhenShort::Retry { after_ms, times }),
    ]
}

pub fn role() -> impl Strategy<Value = Role> {
    select([&Role::OF_TOKENS[..], &[Role::Guardian]].concat())
}

pub fn scope() -> impl Strategy<Value = Scope> {
    prop_oneof![token().prop_map(Scope::Token), user().prop_map(Scope::User)]
}

pub fn grant() -> impl Strategy<Value = Grant> {
    (role(), vec(user(), 0..4), any::<u8>()).prop_map(|(role, holders, threshold)| Grant {
        role,
        holders,
        threshold,
    })
}

pub fn freeze_target() -> impl Strategy<Value = FreezeTarget> {
    prop_oneof![
        wallet().prop_map(FreezeTarget::Wallet),
        user().prop_map(FreezeTarget::User),
        Just(FreezeTarget::Token),
    ]
}

pub fn direction() -> impl Strategy<Value = Direction> {
    select(vec![Direction::Incoming, Direction::Outgoing, Direction::Both])
}

pub fn reason() -> impl Strategy<Value = Reason> {
    (text(10), text(20)).prop_map(|(code, reference)| Reason { code, reference })
}

fn transaction_ids() -> impl Strategy<Value = Vec<TransactionId>> {
    vec(hash().prop_map(TransactionId), 0..4)
}

pub fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (token(), wallet(), amount()).prop_map(|(token, to, amount)| Act::Issue {
            token,
            to,
            amount
        }),
        (token(), wallet(), amount()).prop_map(|(token, from, amount)| Act::Redeem {
            token,
            from,
            amount
        }),
        (token(), freeze_target(), direction(), any::<Option<u64>>()).prop_map(
            |(token, target, direction, until_ms)| Act::Freeze {
                token,
                target,
                direction,
                until_ms
            }
        ),
        (token(), freeze_target()).prop_map(|(token, target)| Act::Unfreeze { token, target }),
        (token(), wallet(), any::<bool>(), any::<u8>(), amount(), amount()).prop_map(
            |(token, wallet, approved, class, credit, floor)| Act::SetTerms {
                token,
                wallet,
                approved,
                class,
                credit,
                floor
            }
        ),
        (token(), transaction_ids(), transaction_ids())
            .prop_map(|(token, originals, trail)| Act::Reverse { token, originals, trail }),
        (token(), policy())
            .prop_map(|(token, policy)| Act::SetPolicy { token, policy: Box::new(policy) }),
        (token(), grant()).prop_map(|(token, grant)| Act::SetRole { token, grant }),
        (user(), access())
            .prop_map(|(user, access)| Act::Recover { user, access: Box::new(access) }),
        (token(), any::<u64>(), hash()).prop_map(|(token, height, header)| Act::Audit {
            token,
            height,
            header
        }),
    ]
}

pub fn order() -> impl Strategy<Value = Order> {
    (act(), reason(), any::<u64>()).prop_map(|(act, reason, expires_ms)| Order {
        act,
        reason,
        expires_ms,
    })
}

pub fn evidence() -> impl Strategy<Value = Evidence> {
    let records = || vec(record(), 0..3);
    (header(), transaction_record(), receipt(), vec(hash(), 0..3), records(), records()).prop_map(
        |(header, record, receipt, path, rows, before)| Evidence {
            header,
            record,
            receipt,
            path,
            rows,
            before,
        },
    )
}

/// Operations beside the plain ones, without evidence: it is long.
pub fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![parties_and_payments(), bundles_and_schedules(), acts(), of_the_ledger()]
}

fn parties_and_payments() -> impl Strategy<Value = Operation> {
    let reserve = (token(), wallet(), wallet(), amount(), any::<u64>());
    let reserve =
        (reserve, of(user()), any::<bool>(), text(20)).prop_map(
            |((token, from, to, amount, expires_ms), agent, linked, reference)| {
                Operation::Reserve { token, from, to, amount, expires_ms, agent, linked, reference }
            },
        );
    let interest = (token(), wallet(), vec(wallet(), 0..4), any::<(u32, u16, u16)>()).prop_map(
        |(token, from, to, (rate_ppm, days, year))| Operation::PayInterest {
            token,
            from,
            to,
            rate_ppm,
            days,
            year,
        },
    );
    prop_oneof![
        vec(user(), 0..4).prop_map(|users| Operation::Parties { users }),
        condition().prop_map(|condition| Operation::Require { condition }),
        reserve,
        (pending_id(), of(amount()))
            .prop_map(|(pending, amount)| Operation::Post { pending, amount }),
        pending_id().prop_map(|pending| Operation::Void { pending }),
        interest,
        claim_id().prop_map(|claim| Operation::SettleClaim { claim }),
    ]
}

fn bundles_and_schedules() -> impl Strategy<Value = Operation> {
    let propose = (vec(user(), 0..4), vec(condition(), 0..3), vec(leg(), 0..3), any::<u64>());
    let propose = propose.prop_map(|(parties, conditions, legs, expires_ms)| {
        Operation::ProposeBundle { parties, conditions, legs, expires_ms }
    });
    let payment = (token(), wallet(), wallet(), amount(), any::<u64>());
    let schedule = (payment, of(every()), any::<Option<u32>>(), when_short(), text(20)).prop_map(
        |((token, from, to, amount, first_ms), every, times, when_short, reference)| {
            Operation::Schedule {
                token,
                from,
                to,
                amount,
                first_ms,
                every,
                times,
                when_short,
                reference,
            }
        },
    );
    prop_oneof![
        propose,
        bundle_id().prop_map(|bundle| Operation::AgreeBundle { bundle }),
        bundle_id().prop_map(|bundle| Operation::DeclineBundle { bundle }),
        schedule,
        schedule_id().prop_map(|schedule| Operation::CancelSchedule { schedule }),
    ]
}

fn acts() -> impl Strategy<Value = Operation> {
    prop_oneof![
        (user(), text(10), hash()).prop_map(|(user, name, commitment)| Operation::SetAttribute {
            user,
            name,
            commitment
        }),
        (user(), text(10)).prop_map(|(user, name)| Operation::EraseAttribute { user, name }),
        (grant(), any::<u64>())
            .prop_map(|(grant, delay_ms)| Operation::SetGuardians { grant, delay_ms }),
        order().prop_map(|order| Operation::Act { order: Box::new(order), evidence: vec![] }),
        act_id().prop_map(|act| Operation::ApproveAct { act, evidence: vec![] }),
        act_id().prop_map(|act| Operation::RejectAct { act }),
        act_id().prop_map(|act| Operation::FinishAct { act }),
    ]
}

pub fn of_the_ledger() -> impl Strategy<Value = Operation> {
    prop_oneof![
        pending_id().prop_map(|pending| Operation::ExpirePending { pending }),
        (schedule_id(), any::<u64>())
            .prop_map(|(schedule, version)| Operation::RunSchedule { schedule, version }),
    ]
}

/// Operations that carry evidence.
pub fn reversal() -> impl Strategy<Value = Operation> {
    prop_oneof![
        (order(), vec(evidence(), 0..3))
            .prop_map(|(order, evidence)| Operation::Act { order: Box::new(order), evidence }),
        (act_id(), vec(evidence(), 0..3))
            .prop_map(|(act, evidence)| Operation::ApproveAct { act, evidence }),
    ]
}
