//! Wallets and tokens as the API shows them, with the rules that hold now.

use kanjo_api::{AuthorityView, BalanceView, TermsView, TokenView};
use kanjo_ledger::Ledger;
use kanjo_ledger::rows::{StateRow, TokenRow};
use kanjo_ledger::table::Row as _;
use kanjo_types::money::{Direction, FreezeTarget, Role, Scope};
use kanjo_types::policy::Policy;
use kanjo_types::record::{RowKey, Table};
use kanjo_types::standing::Freeze;
use kanjo_types::stored::Location;
use kanjo_types::{Amount, Record, TokenId, UserId};

/// A look at the tables, and the newest block that anything seen came from.
pub(super) struct Seen<'a> {
    ledger: &'a Ledger,
    time_ms: u64,
    pub newest: u64,
}

/// The direction that stops what either stops.
fn joined(a: Option<Direction>, b: Option<Direction>) -> Option<Direction> {
    match (a, b) {
        (Some(a), Some(b)) if a == b => Some(a),
        (Some(_), Some(_)) => Some(Direction::Both),
        (a, b) => a.or(b),
    }
}

impl<'a> Seen<'a> {
    pub(super) fn new(ledger: &'a Ledger, time_ms: u64) -> Self {
        Self { ledger, time_ms, newest: 0 }
    }

    pub(super) fn note(&mut self, at: Location) {
        self.newest = self.newest.max(at.height);
    }

    fn standing(&mut self, table: Table, key: RowKey) -> Option<&'a Record> {
        let row = self.ledger.standing(table).get(&key)?;
        self.note(row.made_at());
        Some(&row.record)
    }

    fn freeze(&mut self, token: TokenId, target: FreezeTarget) -> Option<Freeze> {
        match self.standing(Table::Freezes, RowKey::freeze(token, target)) {
            Some(Record::Freeze(record)) => record.at(self.time_ms),
            _ => None,
        }
    }

    fn policy(&self, row: &'a TokenRow) -> Option<&'a Policy> {
        row.record.rules.as_deref().map(|rules| rules.at(self.time_ms))
    }

    fn terms(&mut self, state: &StateRow) -> Option<TermsView> {
        match self.standing(Table::Terms, RowKey::wallet_state(state.wallet, state.token)) {
            Some(Record::Terms(terms)) => Some(TermsView {
                approved: terms.approved,
                class: terms.class,
                credit: terms.credit,
                floor: terms.floor,
            }),
            _ => None,
        }
    }

    /// Which payments of a wallet are stopped now.
    fn frozen(&mut self, state: &StateRow, owner: UserId) -> Option<Direction> {
        let token = state.token;
        if self.freeze(token, FreezeTarget::Token).is_some() {
            return Some(Direction::Both);
        }
        let wallet = self.freeze(token, FreezeTarget::Wallet(state.wallet));
        let user = self.freeze(token, FreezeTarget::User(owner));
        joined(wallet.map(|freeze| freeze.direction), user.map(|freeze| freeze.direction))
    }

    /// A wallet's state in one token.
    pub(super) fn balance(&mut self, state: &StateRow, owner: UserId) -> BalanceView {
        self.note(state.made_at());
        let token = self.ledger.tokens().get(&state.token);
        // Without rules there is nothing else to look up.
        let policy = token.and_then(|token| self.policy(token));
        let terms = policy.and_then(|_| self.terms(state));
        let freezable = policy.is_some_and(|policy| policy.freezable);
        let frozen = if freezable { self.frozen(state, owner) } else { None };
        let extra = state.extra();
        let record = token.map(|token| &token.record);
        BalanceView {
            token: state.token,
            symbol: record.map(|record| record.symbol.clone()).unwrap_or_default(),
            decimals: record.map_or(0, |record| record.decimals),
            balance: state.balance,
            reserved: extra.reserved,
            overdraft: extra.overdraft,
            claims: extra.claims,
            available: available(state, policy, terms.as_ref()),
            frozen,
            terms,
            version: state.version,
            state: state.hash,
        }
    }

    /// A token, its policy and who holds its roles.
    pub(super) fn token(&mut self, row: &'a TokenRow) -> TokenView {
        self.note(row.made_at());
        let record = &row.record;
        let rules = record.rules.as_deref();
        let coming = rules.and_then(|rules| rules.coming.clone());
        let policy = self.policy(row).cloned().unwrap_or_default();
        let frozen =
            if policy.freezable { self.freeze(record.id, FreezeTarget::Token) } else { None };
        TokenView {
            id: record.id,
            symbol: record.symbol.clone(),
            name: record.name.clone(),
            decimals: record.decimals,
            issuer: record.issuer,
            issued: record.issued,
            redeemed: record.redeemed,
            supply: record.issued.checked_sub(record.redeemed).unwrap_or_default(),
            policy,
            charter: rules.map(|rules| rules.charter.clone()).unwrap_or_default(),
            coming: coming.filter(|coming| coming.from_ms > self.time_ms),
            authorities: Role::OF_TOKENS.map(|role| self.authority(row, role)).into(),
            frozen,
        }
    }

    fn authority(&mut self, row: &TokenRow, role: Role) -> AuthorityView {
        let key = RowKey::authority(Scope::Token(row.record.id), role);
        match self.standing(Table::Authorities, key) {
            Some(Record::Authority(record)) => {
                let (holders, threshold) = (record.holders.clone(), record.threshold);
                AuthorityView { role, holders, threshold }
            }
            _ => AuthorityView { role, holders: vec![row.record.issuer], threshold: 1 },
        }
    }
}

/// What a wallet could pay, freezes and limits aside. Credit and floor hold as far as the policy in
/// force permits them.
fn available(state: &StateRow, policy: Option<&Policy>, terms: Option<&TermsView>) -> Amount {
    let extra = state.extra();
    if extra.claims > Amount::ZERO {
        return Amount::ZERO;
    }
    let held = |permits: fn(&Policy) -> bool, what: fn(&TermsView) -> Amount| {
        let terms = terms.filter(|_| policy.is_some_and(permits));
        terms.map_or(0, |terms| what(terms).0)
    };
    let floor = held(|policy| policy.floors, |terms| terms.floor);
    let credit = held(|policy| policy.credit, |terms| terms.credit);
    let own = state.balance.0.saturating_sub(floor);
    let borrowed = credit.saturating_sub(extra.overdraft.0);
    Amount(own.saturating_add(borrowed))
}
