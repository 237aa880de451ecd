//! What is signed, in words: every operation, condition and act as one sentence.

use crate::context::Session;
use crate::fail::Done;
use crate::home::Book;
use crate::policy::policy_words;
use crate::say;
use crate::text::{duration, group_digits, short, utc};
use kanjo_api::TokenView;
use kanjo_types::membership::{
    Attestor, MemberKind, MembershipChange, NodeCertificate, Notice, Register,
};
use kanjo_types::money::{Act, Condition, Direction, Every, FreezeTarget, Grant, Leg, WhenShort};
use kanjo_types::relation::RelationChange;
use kanjo_types::row::RowChange;
use kanjo_types::{
    Access, Amount, Operation, RelationId, TokenId, TransactionBody, UserId, WalletId,
};

/// More operations than this are counted, not listed.
const OPERATIONS_SHOWN_MAX: usize = 20;

/// What ids and amounts are called.
pub struct Labels<'a> {
    book: &'a Book,
    /// Empty without a node: amounts stay in smallest units, as nobody is there to ask for
    /// decimals.
    tokens: Vec<TokenView>,
}

impl<'a> Labels<'a> {
    /// Local names only.
    pub fn offline(book: &'a Book) -> Self {
        Self { book, tokens: Vec::new() }
    }

    /// Local names, and the tokens of the ledger.
    pub fn of(session: &'a Session) -> Done<Self> {
        Ok(Self { book: &session.book, tokens: session.client.tokens()? })
    }

    /// The id, and the local name when there is one.
    pub fn user(&self, id: UserId) -> String {
        self.book.user_name(id).map_or_else(|| id.to_string(), |name| format!("{name} ({id})"))
    }

    /// The id, and the local name when there is one.
    pub fn wallet(&self, id: WalletId) -> String {
        self.book.wallet_name(id).map_or_else(|| id.to_string(), |name| format!("{name} ({id})"))
    }

    /// The local name, or the id.
    pub fn user_short(&self, id: UserId) -> String {
        self.book.user_name(id).map_or_else(|| id.to_string(), str::to_owned)
    }

    /// The local name, or the id.
    pub fn wallet_short(&self, id: WalletId) -> String {
        self.book.wallet_name(id).map_or_else(|| id.to_string(), str::to_owned)
    }

    fn token(&self, id: TokenId) -> Option<&TokenView> {
        self.tokens.iter().find(|token| token.id == id)
    }

    /// The symbol, or the number.
    pub fn symbol(&self, id: TokenId) -> String {
        self.token(id).map_or_else(|| format!("token {id}"), |token| token.symbol.clone())
    }

    /// An amount in whole tokens with its symbol.
    pub fn money(&self, token: TokenId, amount: Amount) -> String {
        self.token(token).map_or_else(
            || {
                let units = if amount.0 == 1 { "smallest unit" } else { "smallest units" };
                format!("{} {units} of token {token}", group_digits(&amount.to_string()))
            },
            |view| format!("{} {}", group_digits(&amount.to_decimal(view.decimals)), view.symbol),
        )
    }
}

/// Prints what is signed.
pub fn describe(body: &TransactionBody, labels: &Labels<'_>) {
    say!("  author    {}", labels.user(body.author));
    say!("  until     {}", utc(body.valid_until_ms));
    for operation in body.operations.iter().take(OPERATIONS_SHOWN_MAX) {
        say!("  does      {}", sentence(operation, labels));
    }
    match body.operations.len().saturating_sub(OPERATIONS_SHOWN_MAX) {
        0 => {}
        more => say!("            … and {more} more operations"),
    }
}

fn keys(access: &Access) -> String {
    match access {
        Access::Single(key) => format!("the key {key}"),
        Access::Shared { threshold, keys } => {
            let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
            format!("{threshold} of {} keys: {}", keys.len(), keys.join(", "))
        }
    }
}

fn what_for(reference: &str) -> String {
    if reference.is_empty() { String::new() } else { format!(", \"{reference}\"") }
}

/// One operation.
pub fn sentence(operation: &Operation, labels: &Labels<'_>) -> String {
    let wallet = |id: &WalletId| labels.wallet(*id);
    let user = |id: &UserId| labels.user(*id);
    match operation {
        Operation::CreateUser { access, number } => {
            format!("register user number {number} with {}", keys(access))
        }
        Operation::CreateWallet { owner, number } => {
            format!("open wallet number {number} of {}", user(owner))
        }
        Operation::CreateToken { symbol, decimals, issuer, policy, grants, .. } => format!(
            "create token {symbol}, {decimals} decimals, issued by {}; policy: {}{}",
            user(issuer),
            policy_words(policy, Some((*decimals, symbol)), labels),
            grants
                .iter()
                .map(|grant| format!("; {}", grant_text(grant, labels)))
                .collect::<String>()
        ),
        Operation::Issue { token, to, amount } => {
            format!("issue {} to {}", labels.money(*token, *amount), wallet(to))
        }
        Operation::Redeem { token, from, amount } => {
            format!("redeem {} from {}", labels.money(*token, *amount), wallet(from))
        }
        Operation::Transfer { token, from, to, amount, reference } => {
            let money = labels.money(*token, *amount);
            format!("pay {money} from {} to {}{}", wallet(from), wallet(to), what_for(reference))
        }
        Operation::RotateKeys { user: id, access } => {
            format!("replace the keys of {} by {}", user(id), keys(access))
        }
        Operation::Parties { users } => {
            let names: Vec<String> = users.iter().map(|id| labels.user(*id)).collect();
            format!("together with {}", names.join(", "))
        }
        Operation::Require { condition } => {
            format!("only if {}", condition_text(condition, labels))
        }
        _ => money_sentence(operation, labels),
    }
}

/// Pending payments, bundles, schedules and what follows them.
fn money_sentence(operation: &Operation, labels: &Labels<'_>) -> String {
    let wallet = |id: &WalletId| labels.wallet(*id);
    match operation {
        Operation::Reserve { token, from, to, amount, expires_ms, agent, linked, reference } => {
            let agent = agent.map_or_else(String::new, |id| format!(", agent {}", labels.user(id)));
            let linked = if *linked { ", with the one before" } else { "" };
            format!(
                "reserve {} of {} for {} until {}{agent}{linked}{}",
                labels.money(*token, *amount),
                wallet(from),
                wallet(to),
                utc(*expires_ms),
                what_for(reference)
            )
        }
        Operation::Post { pending, amount } => match amount {
            Some(amount) => format!(
                "post {} smallest units of pending payment {pending}",
                group_digits(&amount.to_string())
            ),
            None => format!("post pending payment {pending}"),
        },
        Operation::Void { pending } => format!("void pending payment {pending}"),
        Operation::ProposeBundle { parties, conditions, legs, expires_ms } => {
            let names: Vec<String> = parties.iter().map(|id| labels.user(*id)).collect();
            let legs: Vec<String> = legs.iter().map(|leg| leg_text(leg, labels)).collect();
            let only =
                conditions.iter().map(|one| format!("; only if {}", condition_text(one, labels)));
            format!(
                "propose to {} until {}: {}{}",
                names.join(", "),
                utc(*expires_ms),
                legs.join("; "),
                only.collect::<String>()
            )
        }
        Operation::AgreeBundle { bundle } => format!("agree to bundle {bundle}"),
        Operation::DeclineBundle { bundle } => format!("decline bundle {bundle}"),
        Operation::Schedule { token, from, to, amount, first_ms, every, when_short, .. } => {
            format!(
                "pay {} from {} to {} {} from {}, {}",
                labels.money(*token, *amount),
                wallet(from),
                wallet(to),
                every.map_or_else(|| "once".to_owned(), every_text),
                utc(*first_ms),
                when_short_text(*when_short)
            )
        }
        Operation::CancelSchedule { schedule } => format!("end scheduled payment {schedule}"),
        Operation::PayInterest { token, from, to, rate_ppm, days, year } => format!(
            "pay interest in {} from {} to {} wallets: {rate_ppm} millionths a year for {days} of \
             {year} days",
            labels.symbol(*token),
            wallet(from),
            to.len()
        ),
        _ => duty_sentence(operation, labels),
    }
}

/// Attributes, guardians, acts, and what the ledger does by itself.
fn duty_sentence(operation: &Operation, labels: &Labels<'_>) -> String {
    match operation {
        Operation::SetAttribute { user, name, .. } => {
            format!("commit to attribute {name} of {}", labels.user(*user))
        }
        Operation::EraseAttribute { user, name } => {
            format!("declare attribute {name} of {} erased", labels.user(*user))
        }
        Operation::SetGuardians { grant, delay_ms } => {
            format!("name {}, after {}", grant_text(grant, labels), duration(*delay_ms))
        }
        Operation::Act { order, .. } => format!(
            "order: {} ({}{})",
            act_text(&order.act, labels),
            order.reason.code,
            what_for(&order.reason.reference)
        ),
        Operation::ApproveAct { act, .. } => format!("agree to act {act}"),
        Operation::RejectAct { act } => format!("reject act {act}"),
        Operation::FinishAct { act } => format!("finish act {act}"),
        Operation::SettleClaim { claim } => format!("settle claim {claim}"),
        Operation::ExpirePending { pending } => format!("give back expired payment {pending}"),
        Operation::RunSchedule { schedule, .. } => format!("make scheduled payment {schedule}"),
        Operation::ChangeMembership { change } => format!("cluster: {}", change_text(change)),
        Operation::TakeNotice { notice, .. } => format!("cluster: {}", notice_text(notice)),
        Operation::Define { relation, change, .. } => define_text(*relation, change),
        Operation::Write { relation, changes, .. } => write_text(*relation, changes),
        _ => "something this program has no words for".to_owned(),
    }
}

/// A change of a table or view of users.
fn define_text(relation: Option<RelationId>, change: &RelationChange) -> String {
    let relation = relation.map_or(String::new(), |number| format!(" {number}"));
    let what = match change {
        RelationChange::Create { schema, name, kind } => {
            return format!("create {} {schema:?}.{name:?}", kind.word());
        }
        RelationChange::AddColumn { column } => format!("add column {:?}", column.name),
        RelationChange::AddConstraint { constraint } => {
            format!("add constraint {:?}", constraint.name())
        }
        RelationChange::DropConstraint { name } => format!("drop constraint {name:?}"),
        RelationChange::AddIndex { index } => format!("add index {:?}", index.name),
        RelationChange::DropIndex { name } => format!("drop index {name:?}"),
        RelationChange::SetGrants { grants } => format!("set {} grants", grants.len()),
        RelationChange::Rename { schema, name } => format!("rename to {schema:?}.{name:?}"),
        RelationChange::SetOwner { owner } => format!("give to user {owner}"),
        RelationChange::Drop => "drop".to_owned(),
    };
    format!("table or view{relation}: {what}")
}

/// Changes of rows, counted.
fn write_text(relation: RelationId, changes: &[RowChange]) -> String {
    let count = |is: fn(&RowChange) -> bool| changes.iter().filter(|change| is(change)).count();
    let inserted = count(|change| matches!(change, RowChange::Insert { .. }));
    let updated = count(|change| matches!(change, RowChange::Update { .. }));
    let deleted = count(|change| matches!(change, RowChange::Delete { .. }));
    format!("table {relation}: insert {inserted}, update {updated}, delete {deleted} rows")
}

/// A change of the cluster's membership.
pub fn change_text(change: &MembershipChange) -> String {
    let why = |reason: &str| match reason {
        "" => String::new(),
        reason => format!(", because: {reason}"),
    };
    match change {
        MembershipChange::Admit { certificate } => {
            let NodeCertificate { name, kind, vote_key, link_key, address, api, attestor } =
                &**certificate;
            let kind = match kind {
                MemberKind::Executor => "executor",
                MemberKind::Witness => "witness",
            };
            let (vote_key, link_key) = (hex::encode(vote_key), hex::encode(link_key));
            format!(
                "admit {kind} {name} at {address}, API {api}, vote key {vote_key}, link key \
                 {link_key}, {}",
                attestor_text(attestor.as_ref())
            )
        }
        MembershipChange::Remove { member, reason } => {
            format!("remove member {member} for good{}", why(reason))
        }
        MembershipChange::Readmit { member, reason } => {
            format!("readmit doubted member {member}{}", why(reason))
        }
        MembershipChange::Allow { measurement } => {
            format!("allow program {} ({})", measurement.program, measurement.note)
        }
        MembershipChange::Disallow { program } => format!("allow program {program} no more"),
    }
}

/// Whoever signs should see all that it vouches for.
fn attestor_text(attestor: Option<&Attestor>) -> String {
    match attestor {
        None => "no attestor".to_owned(),
        Some(Attestor::Software { key }) => format!("software attestor {}", hex::encode(key)),
        Some(Attestor::Tpm2 { key, registers }) => {
            let register = |one: &Register| format!("{}={}", one.number, one.value);
            let registers: Vec<String> = registers.iter().map(register).collect();
            format!("tpm2 attestor {}, registers {}", hex::encode(key), registers.join(" "))
        }
    }
}

/// What members say.
fn notice_text(notice: &Notice) -> String {
    match notice {
        Notice::Leave { member } => format!("member {member} leaves"),
        Notice::Return { member } => format!("member {member} votes again"),
        Notice::Eject { members } => {
            let members: Vec<String> = members.iter().map(u16::to_string).collect();
            format!("members {} are ejected: they could not be reached", members.join(", "))
        }
        Notice::Doubt { height, vote, .. } => {
            format!("member {} is doubted: it voted otherwise at height {height}", vote.voter)
        }
    }
}

/// A condition.
pub fn condition_text(condition: &Condition, labels: &Labels<'_>) -> String {
    match condition {
        Condition::BalanceAtLeast { wallet, token, amount } => {
            format!("{} holds at least {}", labels.wallet(*wallet), labels.money(*token, *amount))
        }
        Condition::BalanceAtMost { wallet, token, amount } => {
            format!("{} holds at most {}", labels.wallet(*wallet), labels.money(*token, *amount))
        }
        Condition::StateIs { wallet, token, state } => {
            let (wallet, symbol) = (labels.wallet(*wallet), labels.symbol(*token));
            format!("the {symbol} state of {wallet} is {}", short(state))
        }
        Condition::Approved { wallet, token } => {
            format!("{} is approved for {}", labels.wallet(*wallet), labels.symbol(*token))
        }
        Condition::NotBefore { time_ms } => format!("it is not before {}", utc(*time_ms)),
        Condition::NotAfter { time_ms } => format!("it is not after {}", utc(*time_ms)),
        Condition::RowIs { relation, key, hash } => {
            format!("row {} of table {relation} is {}", short(&key.0), short(hash))
        }
        Condition::RangeIs { relation, from, to, .. } => {
            let (from, to) = (short(&from.0), short(&to.0));
            format!("rows {from} to {to} of table {relation} are as read")
        }
        Condition::RelationIs { relation, hash } => {
            format!("table or view {relation} is {}", short(hash))
        }
    }
}

/// A leg of a bundle.
pub fn leg_text(leg: &Leg, labels: &Labels<'_>) -> String {
    format!(
        "{} pays {} to {}{}",
        labels.wallet_short(leg.from),
        labels.money(leg.token, leg.amount),
        labels.wallet_short(leg.to),
        what_for(&leg.reference)
    )
}

/// How often.
pub fn every_text(every: Every) -> String {
    match every {
        Every::Milliseconds(ms) => format!("every {}", duration(ms)),
        Every::Months(1) => "every month".to_owned(),
        Every::Months(months) => format!("every {months} months"),
    }
}

/// What happens when a scheduled payment can't be made.
pub fn when_short_text(when_short: WhenShort) -> String {
    match when_short {
        WhenShort::Skip => "skipped when it can't be paid".to_owned(),
        WhenShort::Stop => "stopped when it can't be paid".to_owned(),
        WhenShort::Retry { after_ms, times } => {
            format!(
                "tried again {times} times, {} apart, when it can't be paid",
                duration(after_ms)
            )
        }
    }
}

/// Which payments.
pub fn direction_text(direction: Direction) -> &'static str {
    match direction {
        Direction::Incoming => "incoming",
        Direction::Outgoing => "outgoing",
        Direction::Both => "incoming and outgoing",
    }
}

/// What is frozen.
pub fn target_text(target: FreezeTarget, labels: &Labels<'_>) -> String {
    match target {
        FreezeTarget::Wallet(id) => format!("wallet {}", labels.wallet_short(id)),
        FreezeTarget::User(id) => format!("all wallets of {}", labels.user_short(id)),
        FreezeTarget::Token => "the whole token".to_owned(),
    }
}

/// Who holds a role.
pub fn grant_text(grant: &Grant, labels: &Labels<'_>) -> String {
    let holders = holders_text(&grant.holders, grant.threshold, labels);
    format!("{} {holders}", grant.role.name())
}

/// Holders, and how many of them must agree.
pub fn holders_text(holders: &[UserId], threshold: u8, labels: &Labels<'_>) -> String {
    let names: Vec<String> = holders.iter().map(|id| labels.user_short(*id)).collect();
    match names.len() {
        1 => names.concat(),
        count => format!("{threshold} of {count}: {}", names.join(", ")),
    }
}

/// An administrative act.
pub fn act_text(act: &Act, labels: &Labels<'_>) -> String {
    match act {
        Act::Issue { token, to, amount } => {
            format!("issue {} to {}", labels.money(*token, *amount), labels.wallet_short(*to))
        }
        Act::Redeem { token, from, amount } => {
            format!("redeem {} from {}", labels.money(*token, *amount), labels.wallet_short(*from))
        }
        Act::Freeze { token, target, direction, until_ms } => format!(
            "freeze {} in {}, {} payments{}",
            target_text(*target, labels),
            labels.symbol(*token),
            direction_text(*direction),
            until_ms.map_or_else(String::new, |until| format!(", until {}", utc(until)))
        ),
        Act::Unfreeze { token, target } => {
            format!("unfreeze {} in {}", target_text(*target, labels), labels.symbol(*token))
        }
        Act::SetTerms { token, wallet, approved, class, credit, floor } => format!(
            "terms of {}: {}class {class}, credit {}, floor {}",
            labels.wallet_short(*wallet),
            if *approved { "approved, " } else { "" },
            labels.money(*token, *credit),
            labels.money(*token, *floor)
        ),
        Act::Reverse { token, originals, trail } => {
            let ids: Vec<String> = originals.iter().map(short).collect();
            let followed = match trail.len() {
                0 => String::new(),
                count => format!(", followed through {count} payments"),
            };
            format!("reverse {} in {}{followed}", ids.join(", "), labels.symbol(*token))
        }
        Act::SetPolicy { token, policy } => {
            let view = labels.token(*token);
            let scale = view.map(|view| (view.decimals, view.symbol.as_str()));
            let words = policy_words(policy, scale, labels);
            format!("set the policy of {}: {words}", labels.symbol(*token))
        }
        Act::SetRole { token, grant } => {
            format!("{}: make {}", labels.symbol(*token), grant_text(grant, labels))
        }
        Act::Recover { user, access } => {
            format!("give {} new keys: {}", labels.user_short(*user), keys(access))
        }
        Act::Audit { height, header, .. } => {
            format!("block {height} was audited, header {}", short(header))
        }
    }
}
