//! One line for people about a record, or about the row that a key stands for.

use crate::utc::{Span, Utc};
use kanjo_types::membership::{MemberStatus, Membership};
use kanjo_types::money::{Act, Direction, Every, FreezeTarget, Reason, Role, Scope};
use kanjo_types::policy::{MovedOn, Policy, TokenRules};
use kanjo_types::record::{RowKey, StateExtra, TokenRecord, WalletStateRecord};
use kanjo_types::relation::RelationRecord;
use kanjo_types::row::{RowRecord, relation_of_key};
use kanjo_types::standing::{
    ActRecord, ActStatus, AttributeRecord, AuthorityRecord, BundleRecord, BundleStatus,
    ClaimRecord, Freeze, FreezeRecord, PendingRecord, PendingStatus, ReversalKind, ReversalRecord,
    ScheduleRecord, ScheduleStatus, TermsRecord,
};
use kanjo_types::{
    ActId, Amount, BundleId, ClaimId, PendingId, Record, RelationId, ScheduleId, Table, TokenId,
    UserId, WalletId,
};
use std::fmt::{self, Display, Formatter};

/// A record in one line.
pub(crate) struct Line<'a>(pub &'a Record);

impl Display for Line<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Record::User(user) => write!(f, "user {}", user.id)?,
            Record::Wallet(wallet) => write!(f, "wallet {} of user {}", wallet.id, wallet.owner)?,
            Record::Token(token) => write_token(f, token)?,
            Record::WalletState(state) => write_state(f, state)?,
            // It has one version only.
            Record::Transaction(transaction) => return write!(f, "transaction {}", transaction.id),
            Record::Pending(pending) => write_pending(f, pending)?,
            Record::Bundle(bundle) => write_bundle(f, bundle)?,
            Record::Schedule(schedule) => write_schedule(f, schedule)?,
            Record::Authority(authority) => write_authority(f, authority)?,
            Record::Act(act) => write_act_record(f, act)?,
            Record::Terms(terms) => write_terms(f, terms)?,
            Record::Freeze(freeze) => write_freeze(f, freeze)?,
            Record::Reversal(reversal) => write_reversal(f, reversal)?,
            Record::Claim(claim) => write_claim(f, claim)?,
            Record::Attribute(attribute) => write_attribute(f, attribute)?,
            // One row for each epoch, never changed.
            Record::Membership(membership) => return write_membership(f, membership),
            Record::Relation(relation) => write_relation(f, relation)?,
            Record::Row(row) => write_row(f, row)?,
        }
        write!(f, " (version {})", self.0.version())
    }
}

/// Writes the phrases that there are, with commas before them.
fn write_phrases(f: &mut Formatter<'_>, phrases: &[Option<String>]) -> fmt::Result {
    phrases.iter().flatten().try_for_each(|phrase| write!(f, ", {phrase}"))
}

fn some(amount: Amount) -> Option<Amount> {
    (amount.0 > 0).then_some(amount)
}

// ---- Balances and tokens ----

fn write_state(f: &mut Formatter<'_>, state: &WalletStateRecord) -> fmt::Result {
    write!(f, "{} of token {} in wallet {}", state.balance, state.token, state.wallet)?;
    write_extra(f, &state.extra())
}

/// What a wallet has beside its balance.
pub(crate) fn write_extra(f: &mut Formatter<'_>, extra: &StateExtra) -> fmt::Result {
    let phrases = [
        some(extra.reserved).map(|amount| format!("{amount} reserved")),
        some(extra.overdraft).map(|amount| format!("{amount} overdrawn")),
        some(extra.claims).map(|amount| format!("{amount} owed to claims")),
    ];
    write_phrases(f, &phrases)
}

fn write_token(f: &mut Formatter<'_>, token: &TokenRecord) -> fmt::Result {
    let (id, symbol) = (token.id, &token.symbol);
    write!(f, "token {id} {symbol}, issued {}, redeemed {}", token.issued, token.redeemed)?;
    let Some(rules) = &token.rules else { return Ok(()) };
    let TokenRules { policy, coming, .. } = rules.as_ref();
    write!(f, ", policy: {}", PolicyLine(policy))?;
    match coming {
        Some(coming) => {
            write!(f, "; from {}: {}", Utc(coming.from_ms), PolicyLine(&coming.policy))
        }
        None => Ok(()),
    }
}

/// What a policy permits.
struct PolicyLine<'a>(&'a Policy);

impl Display for PolicyLine<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let policy = self.0;
        let when = |holds: bool, phrase: &str| holds.then(|| phrase.to_owned());
        let reversible = policy.reversal.map(|rule| {
            let moved_on = match rule.moved_on {
                MovedOn::Refuse => "unless the money was paid on",
                MovedOn::Claim => "with claims for money paid on",
                MovedOn::Follow => "following money paid on",
            };
            format!("reversible for {} {moved_on}", Span(rule.window_ms))
        });
        let fee = policy.fee.map(|fee| {
            let (flat, points, receiver) = (fee.flat, fee.basis_points, fee.receiver);
            format!("fee {flat} and {points}/10,000 to wallet {receiver}")
        });
        let classes = policy.classes.len();
        let phrases = [
            policy.supply_cap.map(|cap| format!("at most {cap} in circulation")),
            when(policy.freezable, "freezable"),
            reversible,
            fee,
            when(policy.allow_list, "only approved wallets"),
            when(policy.credit, "credit"),
            when(policy.floors, "floors"),
            (classes > 0).then(|| format!("{classes} classes of wallets")),
        ];
        let mut phrases = phrases.iter().flatten();
        write!(f, "{}", phrases.next().map_or("plain", String::as_str))?;
        phrases.try_for_each(|phrase| write!(f, ", {phrase}"))
    }
}

// ---- Payments that stand ----

fn write_payment(
    f: &mut Formatter<'_>,
    (amount, token): (Amount, TokenId),
    (from, to): (WalletId, WalletId),
) -> fmt::Result {
    write!(f, "{amount} of token {token} from wallet {from} to wallet {to}")
}

fn write_pending(f: &mut Formatter<'_>, pending: &PendingRecord) -> fmt::Result {
    let PendingRecord { id, token, from, to, amount, .. } = pending;
    write!(f, "pending payment {id}: ")?;
    write_payment(f, (*amount, *token), (*from, *to))?;
    let members = pending.members.len();
    let status = match pending.status {
        PendingStatus::Open => format!("open until {}", Utc(pending.expires_ms)),
        PendingStatus::Posted(paid) => format!("posted with {paid}"),
        PendingStatus::Voided => "voided".to_owned(),
        PendingStatus::Expired => "expired".to_owned(),
    };
    let phrases = [
        some(pending.fee).map(|fee| format!("{fee} more for the fee")),
        (members > 0).then(|| format!("{members} more in its chain")),
        (pending.chain != *id).then(|| format!("in the chain of {}", pending.chain)),
        Some(status),
    ];
    write_phrases(f, &phrases)
}

fn write_bundle(f: &mut Formatter<'_>, bundle: &BundleRecord) -> fmt::Result {
    let (legs, parties) = (bundle.legs.len(), bundle.parties.len());
    let agreed = bundle.parties.iter().filter(|party| party.agreed).count();
    write!(f, "bundle {} of {legs} payments, {agreed} of {parties} parties agreed, ", bundle.id)?;
    match bundle.status {
        BundleStatus::Open => write!(f, "open until {}", Utc(bundle.expires_ms)),
        BundleStatus::Done => write!(f, "paid"),
        BundleStatus::Declined => write!(f, "declined"),
    }
}

fn write_schedule(f: &mut Formatter<'_>, schedule: &ScheduleRecord) -> fmt::Result {
    let ScheduleRecord { id, token, from, to, amount, first_ms, .. } = schedule;
    write!(f, "scheduled payment {id}: ")?;
    write_payment(f, (*amount, *token), (*from, *to))?;
    match schedule.every {
        None => write!(f, " at {}", Utc(*first_ms))?,
        Some(Every::Milliseconds(every)) => {
            write!(f, " every {} from {}", Span(every), Utc(*first_ms))?;
        }
        Some(Every::Months(1)) => write!(f, " every month from {}", Utc(*first_ms))?,
        Some(Every::Months(months)) => {
            write!(f, " every {months} months from {}", Utc(*first_ms))?;
        }
    }
    let times = if schedule.paid == 1 { "time" } else { "times" };
    write!(f, ", paid {} {times}, ", schedule.paid)?;
    match schedule.status {
        ScheduleStatus::Active => write!(f, "next at {}", Utc(schedule.next_ms)),
        ScheduleStatus::Ended => write!(f, "ended"),
        ScheduleStatus::Stopped => write!(f, "stopped because it could not pay"),
        ScheduleStatus::Cancelled => write!(f, "cancelled"),
    }
}

// ---- Administration ----

/// A role of something.
struct RoleLine(Scope, Role);

impl Display for RoleLine {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} of ", self.1.name())?;
        match self.0 {
            Scope::Token(token) => write!(f, "token {token}"),
            Scope::User(user) => write!(f, "user {user}"),
        }
    }
}

fn write_authority(f: &mut Formatter<'_>, authority: &AuthorityRecord) -> fmt::Result {
    let AuthorityRecord { scope, role, holders, threshold, delay_ms, .. } = authority;
    write!(f, "{}: {threshold} of {} holders must agree", RoleLine(*scope, *role), holders.len())?;
    let delay = (*delay_ms > 0).then(|| format!("{} ahead", Span(*delay_ms)));
    write_phrases(f, &[delay])
}

/// What is frozen, in a token.
struct Target(FreezeTarget, TokenId);

impl Display for Target {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            FreezeTarget::Wallet(wallet) => write!(f, "wallet {wallet} in token {}", self.1),
            FreezeTarget::User(user) => write!(f, "user {user} in token {}", self.1),
            FreezeTarget::Token => write!(f, "token {}", self.1),
        }
    }
}

fn payments(direction: Direction) -> &'static str {
    match direction {
        Direction::Incoming => "incoming payments",
        Direction::Outgoing => "outgoing payments",
        Direction::Both => "all payments",
    }
}

fn until(time_ms: Option<u64>) -> String {
    time_ms.map_or_else(String::new, |time_ms| format!(" until {}", Utc(time_ms)))
}

/// What an act does.
struct ActLine<'a>(&'a Act);

impl Display for ActLine<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Act::Issue { token, to, amount } => {
                write!(f, "issue {amount} of token {token} to wallet {to}")
            }
            Act::Redeem { token, from, amount } => {
                write!(f, "redeem {amount} of token {token} from wallet {from}")
            }
            Act::Freeze { token, target, direction, until_ms } => {
                let (target, payments) = (Target(*target, *token), payments(*direction));
                write!(f, "freeze {payments} of {target}{}", until(*until_ms))
            }
            Act::Unfreeze { token, target } => write!(f, "unfreeze {}", Target(*target, *token)),
            Act::SetTerms { token, wallet, .. } => {
                write!(f, "set the terms of wallet {wallet} in token {token}")
            }
            Act::Reverse { token, originals, trail } => {
                write!(f, "reverse {} transactions in token {token}", originals.len())?;
                let followed = trail.len();
                let phrase = (followed > 0).then(|| format!("following {followed} more"));
                write_phrases(f, &[phrase])
            }
            Act::SetPolicy { token, policy } => {
                write!(f, "set the policy of token {token} to: {}", PolicyLine(policy))
            }
            Act::SetRole { token, grant } => {
                let role = RoleLine(Scope::Token(*token), grant.role);
                let (threshold, holders) = (grant.threshold, grant.holders.len());
                write!(f, "give the role {role} to {threshold} of {holders} holders")
            }
            Act::Recover { user, .. } => write!(f, "give user {user} new keys"),
            Act::Audit { token, height, .. } => {
                write!(f, "record an audit of block {height} for token {token}")
            }
        }
    }
}

/// Why.
pub(crate) struct ReasonLine<'a>(pub &'a Reason);

impl Display for ReasonLine<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.code)?;
        if self.0.reference.is_empty() { Ok(()) } else { write!(f, " '{}'", self.0.reference) }
    }
}

fn write_act_record(f: &mut Formatter<'_>, record: &ActRecord) -> fmt::Result {
    let ActRecord { id, act, reason, maker, agreed, .. } = record;
    write!(f, "act {id}: {}, for {}", ActLine(act), ReasonLine(reason))?;
    write!(f, ", ordered by user {maker}, {} agreed, ", agreed.len())?;
    match (record.status, record.rejected_by) {
        (ActStatus::Proposed, _) => write!(f, "proposed until {}", Utc(record.expires_ms)),
        (ActStatus::Waiting(ready_ms), _) => write!(f, "waits until {}", Utc(ready_ms)),
        (ActStatus::Done, _) => write!(f, "done"),
        (ActStatus::Rejected, Some(user)) => write!(f, "rejected by user {user}"),
        (ActStatus::Rejected, None) => write!(f, "rejected"),
    }
}

fn write_terms(f: &mut Formatter<'_>, terms: &TermsRecord) -> fmt::Result {
    let approved = if terms.approved { "approved" } else { "not approved" };
    write!(f, "terms of wallet {} in token {}: {approved}", terms.wallet, terms.token)?;
    let phrases = [
        Some(format!("class {}", terms.class)),
        some(terms.credit).map(|credit| format!("credit {credit}")),
        some(terms.floor).map(|floor| format!("floor {floor}")),
    ];
    write_phrases(f, &phrases)
}

fn write_freeze(f: &mut Formatter<'_>, record: &FreezeRecord) -> fmt::Result {
    let (target, reason) = (Target(record.target, record.token), ReasonLine(&record.reason));
    match record.freeze {
        Some(Freeze { direction, until_ms }) => {
            let until = until(until_ms);
            write!(f, "{} of {target} frozen{until}, for {reason}", payments(direction))
        }
        None => write!(f, "{target} no longer frozen, for {reason}"),
    }
}

pub(crate) fn reversal_name(kind: ReversalKind) -> &'static str {
    match kind {
        ReversalKind::Reversed => "reversed",
        ReversalKind::Followed => "followed",
    }
}

fn write_reversal(f: &mut Formatter<'_>, record: &ReversalRecord) -> fmt::Result {
    let (original, token, kind) = (record.original, record.token, reversal_name(record.kind));
    write!(f, "transaction {original} {kind} in token {token} by act {}", record.act)
}

fn write_claim(f: &mut Formatter<'_>, claim: &ClaimRecord) -> fmt::Result {
    let ClaimRecord { id, token, debtor, creditor, amount, paid, .. } = claim;
    write!(f, "claim {id}: wallet {debtor} owes wallet {creditor} {amount} of token {token}")?;
    write!(f, ", {paid} paid")
}

fn write_attribute(f: &mut Formatter<'_>, attribute: &AttributeRecord) -> fmt::Result {
    let AttributeRecord { user, name, custodian, erased_ms, .. } = attribute;
    write!(f, "attribute {name} of user {user}, kept by user {custodian}")?;
    write_phrases(f, &[erased_ms.map(|erased_ms| format!("erased {}", Utc(erased_ms)))])
}

// ---- The cluster ----

fn write_membership(f: &mut Formatter<'_>, membership: &Membership) -> fmt::Result {
    let of = |status| membership.members.iter().filter(move |member| member.status == status);
    let witnesses = membership.voters().filter(|(_, member)| !member.executes()).count();
    let some = |status, word: &str| {
        let count = of(status).count();
        (count > 0).then(|| format!("{count} {word}"))
    };
    let members = membership.members.len();
    let word = if members == 1 { "member" } else { "members" };
    write!(f, "membership of epoch {}: {members} {word}", membership.epoch)?;
    write!(f, ", {} voting", membership.voters().count())?;
    if witnesses > 0 {
        write!(f, " ({witnesses} as witness)")?;
    }
    let programs = membership.measurements.len();
    let phrases = [
        some(MemberStatus::Standby, "standby"),
        some(MemberStatus::Left, "left"),
        some(MemberStatus::Ejected, "ejected"),
        some(MemberStatus::Doubted, "doubted"),
        some(MemberStatus::Removed, "removed"),
        (programs > 0).then(|| {
            let word = if programs == 1 { "program" } else { "programs" };
            format!("{programs} {word} allowed")
        }),
        Some(format!("made in block {}", membership.height)),
    ];
    write_phrases(f, &phrases)
}

// ---- Tables of users ----

fn write_relation(f: &mut Formatter<'_>, relation: &RelationRecord) -> fmt::Result {
    let RelationRecord { number, schema, name, owner, .. } = relation;
    let kind = relation.kind.word();
    let dropped = if relation.dropped { ", dropped" } else { "" };
    write!(f, "{kind} {number} {schema:?}.{name:?} of user {owner}{dropped}")
}

fn write_row(f: &mut Formatter<'_>, row: &RowRecord) -> fmt::Result {
    write!(f, "row of table {} with key {}", row.relation, row.key.0)?;
    match &row.values {
        Some(values) => write!(f, ", {} values", values.len()),
        None => write!(f, ", deleted"),
    }
}

// ---- Keys ----

/// A row that a key stands for.
pub(crate) struct Key(pub Table, pub RowKey);

impl Display for Key {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (ids, _) = self.1.0.0.as_chunks::<16>();
        let id = ids.first().copied().unwrap_or_default();
        let (user, wallet) = (UserId(id), WalletId(id));
        let (first, fifth) = (self.token_at(0), self.token_at(16));
        let is = |key: RowKey| self.1 == key;
        let is_item = is(RowKey::item(id));
        match self.0 {
            Table::Users if is(RowKey::user(user)) => write!(f, "user {user}"),
            Table::Wallets if is(RowKey::wallet(wallet)) => write!(f, "wallet {wallet}"),
            Table::Tokens if is(RowKey::token(first)) => write!(f, "token {first}"),
            Table::WalletStates if is(RowKey::wallet_state(wallet, fifth)) => {
                write!(f, "token {fifth} in wallet {wallet}")
            }
            Table::Terms if is(RowKey::wallet_state(wallet, fifth)) => {
                write!(f, "record of terms of wallet {wallet} in token {fifth}")
            }
            Table::Pendings if is_item => write!(f, "pending payment {}", PendingId(id)),
            Table::Bundles if is_item => write!(f, "bundle {}", BundleId(id)),
            Table::Schedules if is_item => write!(f, "scheduled payment {}", ScheduleId(id)),
            Table::Acts if is_item => write!(f, "act {}", ActId(id)),
            Table::Claims if is_item => write!(f, "claim {}", ClaimId(id)),
            Table::Memberships if is(RowKey::epoch(self.epoch())) => {
                write!(f, "membership of epoch {}", self.epoch())
            }
            Table::Relations if is(RowKey::relation(RelationId(first.0))) => {
                write!(f, "table or view {first}")
            }
            Table::Rows => {
                write!(f, "row of table {} with key {}", relation_of_key(self.1), self.1.0)
            }
            Table::Authorities => self.write_role(f, [Scope::Token(first), Scope::User(user)]),
            Table::Freezes => self.write_freeze(f, id),
            Table::Attributes => {
                write!(f, "attribute of user {user} with key {}", self.1.0)
            }
            table => write_other(f, table, self.1),
        }
    }
}

fn write_other(f: &mut Formatter<'_>, table: Table, key: RowKey) -> fmt::Result {
    write!(f, "row of {table:?} with key {}", key.0)
}

impl Key {
    /// The token number that begins at a byte.
    fn token_at(&self, at: usize) -> TokenId {
        let bytes = self.1.0.0.get(at..).and_then(|rest| rest.first_chunk::<4>());
        TokenId(u32::from_be_bytes(bytes.copied().unwrap_or_default()))
    }

    fn epoch(&self) -> u64 {
        u64::from_be_bytes(self.1.0.0.first_chunk::<8>().copied().unwrap_or_default())
    }

    fn write_role(&self, f: &mut Formatter<'_>, scopes: [Scope; 2]) -> fmt::Result {
        let roles = || Role::OF_TOKENS.into_iter().chain([Role::Guardian]);
        let mut all = scopes.into_iter().flat_map(|scope| roles().map(move |role| (scope, role)));
        match all.find(|(scope, role)| RowKey::authority(*scope, *role) == self.1) {
            Some((scope, role)) => write!(f, "record of holders for {}", RoleLine(scope, role)),
            None => write_other(f, self.0, self.1),
        }
    }

    fn write_freeze(&self, f: &mut Formatter<'_>, id: [u8; 16]) -> fmt::Result {
        let token = self.token_at(17);
        let wallet = FreezeTarget::Wallet(WalletId(id));
        let targets = [wallet, FreezeTarget::User(UserId(id)), FreezeTarget::Token];
        match targets.into_iter().find(|target| RowKey::freeze(token, *target) == self.1) {
            Some(target) => write!(f, "freeze of {}", Target(target, token)),
            None => write_other(f, self.0, self.1),
        }
    }
}
