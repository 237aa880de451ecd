//! One record of every table beside users, wallets, tokens and states.

use super::money::*;
use super::*;
use kanjo_types::money::{Direction, Every, FreezeTarget, Role, Scope, WhenShort};
use kanjo_types::standing::*;

fn links(version: u64) -> Links {
    let previous = if version == 1 { Hash::ZERO } else { filled(0x11) };
    Links { version, previous, transaction: filled(0x22) }
}

pub fn records() -> Vec<(&'static str, Record)> {
    let mut all = payments();
    all.extend(bundles());
    all.extend(administration());
    all.extend(reversals());
    all
}

fn pending(status: PendingStatus, members: Vec<kanjo_types::PendingId>) -> Record {
    let (_, agent, from, to) = ids();
    Record::Pending(Box::new(PendingRecord {
        id: pending_id(),
        links: links(2),
        token: TokenId(1),
        from,
        to,
        amount: Amount(1_250),
        fee: Amount(6),
        created_ms: 1_767_225_600_000,
        expires_ms: LATER_MS,
        agent: members.is_empty().then_some(agent),
        chain: pending_id(),
        members,
        reference: "hotel".to_owned(),
        status,
    }))
}

fn schedule(every: Option<Every>, when_short: WhenShort, status: ScheduleStatus) -> Record {
    let (_, _, from, to) = ids();
    let result = ResultCode::InsufficientFunds;
    let run = Run { due_ms: LATER_MS, at_ms: LATER_MS + 5, result };
    Record::Schedule(Box::new(ScheduleRecord {
        id: schedule_id(),
        links: links(3),
        token: TokenId(1),
        from,
        to,
        amount: Amount(80_000),
        first_ms: LATER_MS,
        every,
        times: every.map(|_| 12),
        when_short,
        reference: "rent".to_owned(),
        date: 1,
        tries: 2,
        next_ms: LATER_MS + 3_600_000,
        paid: 1,
        last: every.map(|_| run),
        status,
    }))
}

fn payments() -> Vec<(&'static str, Record)> {
    let other = kanjo_types::PendingId::derive(TransactionId(filled(0xc1)), 1, 0);
    let retry = WhenShort::Retry { after_ms: 3_600_000, times: 3 };
    let claim = ClaimRecord {
        id: claim_id(),
        links: links(2),
        token: TokenId(1),
        debtor: ids().3,
        creditor: ids().2,
        amount: Amount(700),
        paid: Amount(250),
        act: act_id(),
    };
    vec![
        ("pending payment", pending(PendingStatus::Open, vec![other])),
        ("posted payment", pending(PendingStatus::Posted(Amount(1_000)), vec![])),
        ("voided payment", pending(PendingStatus::Voided, vec![])),
        ("expired payment", pending(PendingStatus::Expired, vec![])),
        ("schedule", schedule(Some(Every::Months(1)), retry, ScheduleStatus::Active)),
        ("ended schedule", schedule(None, WhenShort::Stop, ScheduleStatus::Ended)),
        ("claim", Record::Claim(Box::new(claim))),
    ]
}

fn bundles() -> Vec<(&'static str, Record)> {
    let bank = ids().1;
    let party = |user| BundleParty { user, agreed: user == bank };
    let record = BundleRecord {
        id: bundle_id(),
        links: links(1),
        parties: all_users().into_iter().map(party).collect(),
        conditions: conditions(),
        legs: legs(),
        expires_ms: LATER_MS,
        status: BundleStatus::Open,
    };
    vec![("bundle", Record::Bundle(Box::new(record)))]
}

fn authority(scope: Scope, role: Role, delay_ms: u64) -> Record {
    let (holders, threshold) = (all_users(), 2);
    let links = links(1);
    Record::Authority(Box::new(AuthorityRecord {
        scope,
        role,
        links,
        holders,
        threshold,
        delay_ms,
    }))
}

fn act_record(act: kanjo_types::money::Act, status: ActStatus) -> Record {
    let bank = ids().1;
    Record::Act(Box::new(ActRecord {
        id: act_id(),
        links: links(2),
        act,
        reason: reason(),
        maker: bank,
        agreed: vec![bank],
        rejected_by: (status == ActStatus::Rejected).then_some(bank),
        expires_ms: LATER_MS,
        authority: filled(0xa5),
        token_record: filled(0xa6),
        status,
    }))
}

fn administration() -> Vec<(&'static str, Record)> {
    let (_, user, wallet, _) = ids();
    let token = TokenId(1);
    let freeze = |target, freeze| {
        let (act, reason) = (act_id(), reason());
        let record = FreezeRecord { token, target, links: links(2), freeze, act, reason };
        Record::Freeze(Box::new(record))
    };
    let outgoing = Freeze { direction: Direction::Outgoing, until_ms: Some(LATER_MS) };
    let terms = TermsRecord {
        wallet,
        token,
        links: links(1),
        approved: true,
        class: 1,
        credit: Amount::ZERO,
        floor: Amount(500),
        act: act_id(),
    };
    let attribute = |erased_ms| {
        Record::Attribute(Box::new(AttributeRecord {
            user,
            name: "legal_name".to_owned(),
            links: links(1),
            commitment: filled(0xb5),
            custodian: user,
            erased_ms,
        }))
    };
    let mut acts = acts().into_iter().map(|(_, act)| act);
    let mut act = |status| act_record(acts.next().expect("an act"), status);
    vec![
        ("authority of a token", authority(Scope::Token(token), Role::Reverser, 0)),
        ("guardians", authority(Scope::User(user), Role::Guardian, 604_800_000)),
        ("proposed act", act(ActStatus::Proposed)),
        ("waiting act", act(ActStatus::Waiting(LATER_MS))),
        ("done act", act(ActStatus::Done)),
        ("rejected act", act(ActStatus::Rejected)),
        ("terms", Record::Terms(Box::new(terms))),
        ("frozen wallet", freeze(FreezeTarget::Wallet(wallet), Some(outgoing))),
        ("frozen user", freeze(FreezeTarget::User(user), Some(outgoing))),
        ("frozen token", freeze(FreezeTarget::Token, Some(outgoing))),
        ("ended freeze", freeze(FreezeTarget::Token, None)),
        ("attribute", attribute(None)),
        ("erased attribute", attribute(Some(LATER_MS))),
    ]
}

fn reversals() -> Vec<(&'static str, Record)> {
    let wallet = ids().3;
    let moved =
        ReversalMove { wallet, undone: filled(0xd2), taken: Amount(1_250), given: Amount::ZERO };
    let reversal = |kind, moves| {
        Record::Reversal(Box::new(ReversalRecord {
            original: TransactionId(filled(0xd3)),
            token: TokenId(1),
            links: links(1),
            kind,
            original_record: filled(0xd4),
            token_record: filled(0xd5),
            act: act_id(),
            moves,
        }))
    };
    vec![
        ("reversed transaction", reversal(ReversalKind::Reversed, vec![moved])),
        ("followed transaction", reversal(ReversalKind::Followed, vec![])),
    ]
}
