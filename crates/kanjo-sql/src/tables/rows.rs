//! Which SQL table a table of the ledger is, and what its columns hold: the one place for it.

use super::keys::{Form, Part};
use super::values::{Kind, Value};
use crate::error::{SqlError, code};
use kanjo_types::money::{FreezeTarget, Scope};
use kanjo_types::record::{Record, RowKey, StateExtra, Table};
use kanjo_types::standing::PendingStatus;
use kanjo_types::stored::Row as Stored;
use kanjo_types::{Amount, Hash, TokenId, UserId, WalletId};
use kanjo_view::{Content, Version};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Symbol and decimal places of the tokens that a scan has met.
pub(crate) type Tokens = BTreeMap<TokenId, (String, u8)>;

/// What a column can look at.
pub(crate) struct Cell<'a> {
    pub key: &'a RowKey,
    pub version: &'a Version,
    /// The row as the log keeps it, when a column asked for it.
    pub stored: Option<&'a Stored>,
    pub tokens: &'a Tokens,
}

/// What a column needs beside the row in the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    Nothing,
    /// The row as the log keeps it, because the view leaves its hash links out.
    Log,
    /// Its token.
    Token,
}

/// A column.
pub(crate) struct Column {
    pub name: &'static str,
    pub kind: Kind,
    pub nullable: bool,
    pub needs: Needs,
    pub get: fn(&Cell<'_>) -> Result<Value, SqlError>,
}

/// A SQL table over one of the ledger's.
pub(crate) struct RowTable {
    pub name: &'static str,
    pub table: Table,
    /// The columns that its key begins with.
    pub key: &'static [Part],
    pub columns: Vec<Column>,
}

fn wrong() -> SqlError {
    SqlError::new(code::INTERNAL, "a row holds something that does not belong into its table")
}

impl Cell<'_> {
    fn bytes<const N: usize>(&self, from: usize) -> [u8; N] {
        let bytes = self.key.0.0.get(from..).and_then(|rest| rest.first_chunk::<N>());
        bytes.copied().unwrap_or([0; N])
    }

    fn id(&self) -> [u8; 16] {
        self.bytes(0)
    }

    fn token(&self) -> TokenId {
        TokenId(u32::from_be_bytes(self.bytes(16)))
    }

    fn record(&self) -> Result<&Record, SqlError> {
        match (&self.version.content, self.stored) {
            (Content::Record(record), _) => Ok(record),
            (_, Some(stored)) => Ok(&stored.record),
            _ => Err(wrong()),
        }
    }

    fn state(&self) -> Result<(u128, StateExtra), SqlError> {
        match &self.version.content {
            Content::State(balance, extra) => {
                Ok((u128::from_le_bytes(*balance), extra.as_deref().copied().unwrap_or_default()))
            }
            _ => Err(wrong()),
        }
    }

    fn display(&self, units: u128) -> Result<Value, SqlError> {
        let (_, decimals) = self.tokens.get(&self.token()).ok_or_else(wrong)?;
        Ok(Value::Display(units, *decimals))
    }
}

/// The token of a row whose key is a wallet and a token.
pub(crate) fn token_of(key: &RowKey) -> TokenId {
    let bytes = key.0.0.get(16..20).and_then(|rest| rest.first_chunk::<4>());
    TokenId(u32::from_be_bytes(bytes.copied().unwrap_or([0; 4])))
}

fn column(name: &'static str, kind: Kind, get: fn(&Cell<'_>) -> Result<Value, SqlError>) -> Column {
    Column { name, kind, nullable: false, needs: Needs::Nothing, get }
}

fn optional(
    name: &'static str,
    kind: Kind,
    get: fn(&Cell<'_>) -> Result<Value, SqlError>,
) -> Column {
    Column { nullable: true, ..column(name, kind, get) }
}

impl Column {
    fn needs(self, needs: Needs) -> Self {
        Self { needs, ..self }
    }
}

/// A column of a table whose rows are whole records.
macro_rules! of {
    ($variant:ident, $record:ident => $value:expr) => {
        |cell| match cell.record()? {
            Record::$variant($record) => Ok($value),
            _ => Err(wrong()),
        }
    };
}

/// What every row has: version, place, hash, hash links.
fn with_links(mut columns: Vec<Column>, links_in_log: bool) -> Vec<Column> {
    let needs = if links_in_log { Needs::Log } else { Needs::Nothing };
    columns.extend([
        column("version", Kind::Whole, |cell| Ok(Value::Whole(cell.version.number))),
        column("height", Kind::Whole, |cell| Ok(Value::Whole(cell.version.at().height))),
        column("position", Kind::Whole, |cell| {
            Ok(Value::Whole(u64::from(cell.version.at().position)))
        }),
        column("record_hash", Kind::Text, |cell| Ok(Value::text(cell.version.hash))),
        optional("previous", Kind::Text, |cell| Ok(Value::hash(cell.record()?.previous())))
            .needs(needs),
        optional("transaction", Kind::Text, |cell| Ok(Value::hash(cell.record()?.transaction())))
            .needs(needs),
    ]);
    columns
}

const WALLET_AND_TOKEN: &[Part] = &[
    Part { column: "wallet", form: Form::Wallet },
    Part { column: "token", form: Form::Number32 },
];

/// All tables over rows, by name.
pub(crate) fn tables() -> Vec<Arc<RowTable>> {
    let tables = vec![
        users(),
        wallets(),
        tokens(),
        wallet_states(),
        balances(),
        pendings(),
        bundles(),
        schedules(),
        authorities(),
        acts(),
        terms(),
        freezes(),
        reversals(),
        claims(),
        attributes(),
        memberships(),
    ];
    tables.into_iter().map(Arc::new).collect()
}

fn users() -> RowTable {
    let columns = vec![
        column("id", Kind::Text, |cell| Ok(Value::text(UserId(cell.id())))),
        column("keys", Kind::Text, |cell| match &cell.version.content {
            Content::User(user) => Ok(Value::json(&user.0)),
            _ => Err(wrong()),
        }),
        column("sponsor", Kind::Text, |cell| match &cell.version.content {
            Content::User(user) => Ok(Value::text(user.1)),
            _ => Err(wrong()),
        }),
    ];
    RowTable {
        name: "users",
        table: Table::Users,
        key: &[Part { column: "id", form: Form::User }],
        columns: with_links(columns, true),
    }
}

fn wallets() -> RowTable {
    let columns = vec![
        column("id", Kind::Text, |cell| Ok(Value::text(WalletId(cell.id())))),
        column("owner", Kind::Text, |cell| match &cell.version.content {
            Content::Wallet(owner) => Ok(Value::text(owner)),
            _ => Err(wrong()),
        }),
        column("number", Kind::Whole, of!(Wallet, wallet => Value::Whole(wallet.number)))
            .needs(Needs::Log),
        column("owner_record", Kind::Text, of!(Wallet, wallet => Value::text(wallet.owner_record)))
            .needs(Needs::Log),
    ];
    RowTable {
        name: "wallets",
        table: Table::Wallets,
        key: &[Part { column: "id", form: Form::Wallet }],
        columns: with_links(columns, true),
    }
}

fn tokens() -> RowTable {
    let columns = vec![
        column("id", Kind::Whole, of!(Token, token => Value::Whole(u64::from(token.id.0)))),
        column("symbol", Kind::Text, of!(Token, token => Value::text(&token.symbol))),
        column("name", Kind::Text, of!(Token, token => Value::text(&token.name))),
        column(
            "decimals",
            Kind::Whole,
            of!(Token, token => Value::Whole(u64::from(token.decimals))),
        ),
        column("issuer", Kind::Text, of!(Token, token => Value::text(token.issuer))),
        column("issued", Kind::Units, of!(Token, token => Value::units(token.issued))),
        column("redeemed", Kind::Units, of!(Token, token => Value::units(token.redeemed))),
        optional(
            "rules",
            Kind::Text,
            of!(Token, token => Value::option(token.rules.as_ref(), Value::json)),
        ),
        column("issuer_record", Kind::Text, of!(Token, token => Value::text(token.issuer_record))),
    ];
    RowTable {
        name: "tokens",
        table: Table::Tokens,
        key: &[Part { column: "id", form: Form::Number32 }],
        columns: with_links(columns, false),
    }
}

fn state_keys() -> Vec<Column> {
    vec![
        column("wallet", Kind::Text, |cell| Ok(Value::text(WalletId(cell.id())))),
        column("token", Kind::Whole, |cell| Ok(Value::Whole(u64::from(cell.token().0)))),
    ]
}

fn wallet_states() -> RowTable {
    let mut columns = state_keys();
    columns.extend([
        column("balance", Kind::Units, |cell| Ok(Value::Number(cell.state()?.0))),
        column("reserved", Kind::Units, |cell| Ok(Value::units(cell.state()?.1.reserved))),
        column("overdraft", Kind::Units, |cell| Ok(Value::units(cell.state()?.1.overdraft))),
        column("claims", Kind::Units, |cell| Ok(Value::units(cell.state()?.1.claims))),
        column(
            "wallet_record",
            Kind::Text,
            of!(WalletState, state => Value::text(state.wallet_record)),
        )
        .needs(Needs::Log),
    ]);
    RowTable {
        name: "wallet_states",
        table: Table::WalletStates,
        key: WALLET_AND_TOKEN,
        columns: with_links(columns, true),
    }
}

fn balances() -> RowTable {
    let mut columns = state_keys();
    columns.extend([
        column("symbol", Kind::Text, |cell| {
            let (symbol, _) = cell.tokens.get(&cell.token()).ok_or_else(wrong)?;
            Ok(Value::text(symbol))
        })
        .needs(Needs::Token),
        column("amount", Kind::Display, |cell| cell.display(cell.state()?.0)).needs(Needs::Token),
        column("reserved", Kind::Display, |cell| cell.display(cell.state()?.1.reserved.0))
            .needs(Needs::Token),
        column("overdraft", Kind::Display, |cell| cell.display(cell.state()?.1.overdraft.0))
            .needs(Needs::Token),
    ]);
    RowTable {
        name: "balances",
        table: Table::WalletStates,
        key: WALLET_AND_TOKEN,
        columns: with_links(columns, true),
    }
}

fn pendings() -> RowTable {
    let columns = vec![
        column("id", Kind::Text, of!(Pending, pending => Value::text(pending.id))),
        column("token", Kind::Whole, of!(Pending, pending => Value::Whole(pending.token.0.into()))),
        column("from_wallet", Kind::Text, of!(Pending, pending => Value::text(pending.from))),
        column("to_wallet", Kind::Text, of!(Pending, pending => Value::text(pending.to))),
        column("amount", Kind::Units, of!(Pending, pending => Value::units(pending.amount))),
        column("fee", Kind::Units, of!(Pending, pending => Value::units(pending.fee))),
        column("status", Kind::Text, of!(Pending, pending => Value::name(&pending.status))),
        optional(
            "posted",
            Kind::Units,
            of!(Pending, pending => match pending.status {
                PendingStatus::Posted(amount) => Value::units(amount),
                _ => Value::Null,
            }),
        ),
        column("created", Kind::Time, of!(Pending, pending => Value::Time(pending.created_ms))),
        optional("expires", Kind::Time, of!(Pending, pending => Value::Time(pending.expires_ms))),
        optional(
            "agent",
            Kind::Text,
            of!(Pending, pending => Value::option(pending.agent, Value::text)),
        ),
        column("chain", Kind::Text, of!(Pending, pending => Value::text(pending.chain))),
        column("members", Kind::Text, of!(Pending, pending => Value::json(&pending.members))),
        column("reference", Kind::Text, of!(Pending, pending => Value::text(&pending.reference))),
    ];
    RowTable {
        name: "pendings",
        table: Table::Pendings,
        key: &[Part { column: "id", form: Form::Pending }],
        columns: with_links(columns, false),
    }
}

fn bundles() -> RowTable {
    let columns = vec![
        column("id", Kind::Text, of!(Bundle, bundle => Value::text(bundle.id))),
        column("status", Kind::Text, of!(Bundle, bundle => Value::name(&bundle.status))),
        column("parties", Kind::Text, of!(Bundle, bundle => Value::json(&bundle.parties))),
        column("conditions", Kind::Text, of!(Bundle, bundle => Value::json(&bundle.conditions))),
        column("legs", Kind::Text, of!(Bundle, bundle => Value::json(&bundle.legs))),
        optional("expires", Kind::Time, of!(Bundle, bundle => Value::Time(bundle.expires_ms))),
    ];
    RowTable {
        name: "bundles",
        table: Table::Bundles,
        key: &[Part { column: "id", form: Form::Bundle }],
        columns: with_links(columns, false),
    }
}

fn schedules() -> RowTable {
    let columns = vec![
        column("id", Kind::Text, of!(Schedule, order => Value::text(order.id))),
        column("token", Kind::Whole, of!(Schedule, order => Value::Whole(order.token.0.into()))),
        column("from_wallet", Kind::Text, of!(Schedule, order => Value::text(order.from))),
        column("to_wallet", Kind::Text, of!(Schedule, order => Value::text(order.to))),
        column("amount", Kind::Units, of!(Schedule, order => Value::units(order.amount))),
        column("status", Kind::Text, of!(Schedule, order => Value::name(&order.status))),
        optional("first", Kind::Time, of!(Schedule, order => Value::Time(order.first_ms))),
        optional("next", Kind::Time, of!(Schedule, order => Value::Time(order.next_ms))),
        optional(
            "every",
            Kind::Text,
            of!(Schedule, order => {
                Value::option(order.every.as_ref(), Value::json)
            }),
        ),
        optional(
            "times",
            Kind::Whole,
            of!(Schedule, order => {
                Value::option(order.times, |times| Value::Whole(times.into()))
            }),
        ),
        column("paid", Kind::Whole, of!(Schedule, order => Value::Whole(order.paid.into()))),
        column("when_short", Kind::Text, of!(Schedule, order => Value::json(&order.when_short))),
        optional(
            "last",
            Kind::Text,
            of!(Schedule, order => {
                Value::option(order.last.as_ref(), Value::json)
            }),
        ),
        column("reference", Kind::Text, of!(Schedule, order => Value::text(&order.reference))),
    ];
    RowTable {
        name: "schedules",
        table: Table::Schedules,
        key: &[Part { column: "id", form: Form::Schedule }],
        columns: with_links(columns, false),
    }
}

fn authorities() -> RowTable {
    let columns = vec![
        optional(
            "token",
            Kind::Whole,
            of!(Authority, authority => match authority.scope {
                Scope::Token(token) => Value::Whole(token.0.into()),
                Scope::User(_) => Value::Null,
            }),
        ),
        optional(
            "user_id",
            Kind::Text,
            of!(Authority, authority => match authority.scope {
                Scope::Token(_) => Value::Null,
                Scope::User(user) => Value::text(user),
            }),
        ),
        column("role", Kind::Text, of!(Authority, authority => Value::name(&authority.role))),
        column("holders", Kind::Text, of!(Authority, authority => Value::json(&authority.holders))),
        column(
            "threshold",
            Kind::Whole,
            of!(Authority, authority => {
                Value::Whole(authority.threshold.into())
            }),
        ),
        column(
            "delay_ms",
            Kind::Whole,
            of!(Authority, authority => Value::Whole(authority.delay_ms)),
        ),
    ];
    RowTable {
        name: "authorities",
        table: Table::Authorities,
        key: &[],
        columns: with_links(columns, false),
    }
}

fn acts() -> RowTable {
    let columns = vec![
        column("id", Kind::Text, of!(Act, act => Value::text(act.id))),
        column("act", Kind::Text, of!(Act, act => Value::json(&act.act))),
        column("reason_code", Kind::Text, of!(Act, act => Value::text(&act.reason.code))),
        column("reason_reference", Kind::Text, of!(Act, act => Value::text(&act.reason.reference))),
        column("maker", Kind::Text, of!(Act, act => Value::text(act.maker))),
        column("agreed", Kind::Text, of!(Act, act => Value::json(&act.agreed))),
        optional(
            "rejected_by",
            Kind::Text,
            of!(Act, act => Value::option(act.rejected_by, Value::text)),
        ),
        column("status", Kind::Text, of!(Act, act => Value::name(&act.status))),
        optional("expires", Kind::Time, of!(Act, act => Value::Time(act.expires_ms))),
        optional("authority", Kind::Text, of!(Act, act => Value::hash(act.authority))),
        optional("token_record", Kind::Text, of!(Act, act => Value::hash(act.token_record))),
    ];
    RowTable {
        name: "acts",
        table: Table::Acts,
        key: &[Part { column: "id", form: Form::Act }],
        columns: with_links(columns, false),
    }
}

fn terms() -> RowTable {
    let mut columns = state_keys();
    columns.extend([
        column("approved", Kind::Truth, of!(Terms, terms => Value::Truth(terms.approved))),
        column("class", Kind::Whole, of!(Terms, terms => Value::Whole(terms.class.into()))),
        column("credit", Kind::Units, of!(Terms, terms => Value::units(terms.credit))),
        column("floor", Kind::Units, of!(Terms, terms => Value::units(terms.floor))),
        column("act", Kind::Text, of!(Terms, terms => Value::text(terms.act))),
    ]);
    RowTable {
        name: "terms",
        table: Table::Terms,
        key: WALLET_AND_TOKEN,
        columns: with_links(columns, false),
    }
}

fn freezes() -> RowTable {
    let columns = vec![
        column("token", Kind::Whole, of!(Freeze, freeze => Value::Whole(freeze.token.0.into()))),
        optional(
            "wallet",
            Kind::Text,
            of!(Freeze, freeze => match freeze.target {
                FreezeTarget::Wallet(wallet) => Value::text(wallet),
                _ => Value::Null,
            }),
        ),
        optional(
            "user_id",
            Kind::Text,
            of!(Freeze, freeze => match freeze.target {
                FreezeTarget::User(user) => Value::text(user),
                _ => Value::Null,
            }),
        ),
        optional(
            "direction",
            Kind::Text,
            of!(Freeze, freeze => {
                Value::option(freeze.freeze, |freeze| Value::name(&freeze.direction))
            }),
        ),
        optional(
            "until",
            Kind::Time,
            of!(Freeze, freeze => {
                Value::option(freeze.freeze.and_then(|freeze| freeze.until_ms), Value::Time)
            }),
        ),
        column(
            "in_force",
            Kind::Truth,
            of!(Freeze, freeze => Value::Truth(freeze.freeze.is_some())),
        ),
        column("act", Kind::Text, of!(Freeze, freeze => Value::text(freeze.act))),
        column("reason_code", Kind::Text, of!(Freeze, freeze => Value::text(&freeze.reason.code))),
    ];
    RowTable {
        name: "freezes",
        table: Table::Freezes,
        key: &[],
        columns: with_links(columns, false),
    }
}

fn reversals() -> RowTable {
    let columns = vec![
        column("original", Kind::Text, of!(Reversal, reversal => Value::text(reversal.original))),
        column(
            "token",
            Kind::Whole,
            of!(Reversal, reversal => Value::Whole(reversal.token.0.into())),
        ),
        column("kind", Kind::Text, of!(Reversal, reversal => Value::name(&reversal.kind))),
        column(
            "original_record",
            Kind::Text,
            of!(Reversal, reversal => {
                Value::text(reversal.original_record)
            }),
        ),
        column(
            "token_record",
            Kind::Text,
            of!(Reversal, reversal => Value::text(reversal.token_record)),
        ),
        column("act", Kind::Text, of!(Reversal, reversal => Value::text(reversal.act))),
        column("moves", Kind::Text, of!(Reversal, reversal => Value::json(&reversal.moves))),
    ];
    RowTable {
        name: "reversals",
        table: Table::Reversals,
        key: &[],
        columns: with_links(columns, false),
    }
}

fn claims() -> RowTable {
    let columns = vec![
        column("id", Kind::Text, of!(Claim, claim => Value::text(claim.id))),
        column("token", Kind::Whole, of!(Claim, claim => Value::Whole(claim.token.0.into()))),
        column("debtor", Kind::Text, of!(Claim, claim => Value::text(claim.debtor))),
        column("creditor", Kind::Text, of!(Claim, claim => Value::text(claim.creditor))),
        column("amount", Kind::Units, of!(Claim, claim => Value::units(claim.amount))),
        column("paid", Kind::Units, of!(Claim, claim => Value::units(claim.paid))),
        column(
            "open",
            Kind::Units,
            of!(Claim, claim => {
                Value::units(claim.amount.checked_sub(claim.paid).unwrap_or(Amount::ZERO))
            }),
        ),
        column("act", Kind::Text, of!(Claim, claim => Value::text(claim.act))),
    ];
    RowTable {
        name: "claims",
        table: Table::Claims,
        key: &[Part { column: "id", form: Form::Claim }],
        columns: with_links(columns, false),
    }
}

fn attributes() -> RowTable {
    let columns = vec![
        column("user_id", Kind::Text, of!(Attribute, attribute => Value::text(attribute.user))),
        column("name", Kind::Text, of!(Attribute, attribute => Value::text(&attribute.name))),
        column(
            "commitment",
            Kind::Text,
            of!(Attribute, attribute => Value::text(attribute.commitment)),
        ),
        column(
            "custodian",
            Kind::Text,
            of!(Attribute, attribute => Value::text(attribute.custodian)),
        ),
        optional(
            "erased",
            Kind::Time,
            of!(Attribute, attribute => {
                Value::option(attribute.erased_ms, Value::Time)
            }),
        ),
    ];
    RowTable {
        name: "attributes",
        table: Table::Attributes,
        key: &[Part { column: "user_id", form: Form::User }],
        columns: with_links(columns, false),
    }
}

fn memberships() -> RowTable {
    let columns = vec![
        column("epoch", Kind::Whole, of!(Membership, membership => Value::Whole(membership.epoch))),
        column(
            "since",
            Kind::Whole,
            of!(Membership, membership => Value::Whole(membership.height)),
        ),
        column(
            "members",
            Kind::Text,
            of!(Membership, membership => Value::json(&membership.members)),
        ),
        column(
            "measurements",
            Kind::Text,
            of!(Membership, membership => {
                Value::json(&membership.measurements)
            }),
        ),
    ];
    RowTable {
        name: "memberships",
        table: Table::Memberships,
        key: &[Part { column: "epoch", form: Form::Number64 }],
        columns: with_links(columns, false),
    }
}

/// Of a row as the log keeps it: is it this version?
pub(crate) fn is_version(stored: &Stored, table: Table, key: &RowKey, hash: Hash) -> bool {
    stored.hash == hash && stored.record.place() == Some((table, *key))
}
