//! What is typed for the rules of money: legs, conditions, grants of roles, intervals, rates. Each
//! is read as text first, and then given names and decimals by the ledger at hand.

use crate::commands::parse_amount;
use crate::context::Session;
use crate::fail::{Done, Fail};
use crate::text::{parse_duration, parse_time};
use kanjo_api::TokenView;
use kanjo_client::Of;
use kanjo_types::money::{Condition, Every, Grant, Leg, Role, WhenShort};
use kanjo_types::{Amount, Hash, WalletId};

/// `FROM pays AMOUNT SYMBOL to TO [for REFERENCE]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegText {
    from: String,
    amount: String,
    symbol: String,
    to: String,
    reference: String,
}

/// Reads a leg.
pub fn parse_leg(text: &str) -> Result<LegText, String> {
    let wrong = || {
        format!(
            "'{text}' is not a payment: write for example \"alice pays 100 JPY to bob\", with \
             \"for invoice 7\" behind it if you like"
        )
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let (payment, reference) = match words.as_slice() {
        [_, _, _, _, _, _] => (words.as_slice(), String::new()),
        [_, _, _, _, _, _, what_for, reference @ ..]
            if what_for.eq_ignore_ascii_case("for") && !reference.is_empty() =>
        {
            (words.split_at_checked(6).ok_or_else(wrong)?.0, reference.join(" "))
        }
        _ => return Err(wrong()),
    };
    match payment {
        [from, pays, amount, symbol, to, receiver]
            if pays.eq_ignore_ascii_case("pays") && to.eq_ignore_ascii_case("to") =>
        {
            Ok(LegText {
                from: (*from).to_owned(),
                amount: (*amount).to_owned(),
                symbol: (*symbol).to_owned(),
                to: (*receiver).to_owned(),
                reference,
            })
        }
        _ => Err(wrong()),
    }
}

impl LegText {
    /// With ids and smallest units.
    pub fn resolve(&self, session: &Session) -> Done<Leg> {
        let token = session.token(&self.symbol)?;
        Ok(Leg {
            token: token.id,
            from: session.book.wallet(&self.from)?,
            to: session.book.wallet(&self.to)?,
            amount: parse_amount(&self.amount, token.decimals)?,
            reference: self.reference.clone(),
        })
    }
}

/// `[WALLET] balance>=AMOUNT [SYMBOL]` and its like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConditionText {
    wallet: Option<String>,
    what: ConditionKind,
    symbol: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ConditionKind {
    AtLeast(String),
    AtMost(String),
    State(Hash),
    Approved,
    NotBefore(u64),
    NotAfter(u64),
}

/// Reads a condition.
pub fn parse_condition(text: &str) -> Result<ConditionText, String> {
    let wrong = || {
        format!(
            "'{text}' is not a condition: write [WALLET] balance>=AMOUNT [SYMBOL], balance<=…, \
             [WALLET] approved [SYMBOL], [WALLET] state=HASH [SYMBOL], time>=TIME or time<=TIME"
        )
    };
    // "balance >= 5" is as good as "balance>=5".
    let mut tidy = text.to_owned();
    for sign in [">=", "<=", "="] {
        for spaced in [format!(" {sign} "), format!(" {sign}"), format!("{sign} ")] {
            tidy = tidy.replace(&spaced, sign);
        }
    }
    let words: Vec<&str> = tidy.split_whitespace().collect();
    let kinds: Vec<Option<ConditionKind>> = words.iter().map(|word| condition_kind(word)).collect();
    let at = kinds.iter().position(Option::is_some).ok_or_else(wrong)?;
    let what = kinds.into_iter().nth(at).flatten().ok_or_else(wrong)?;
    let (before, after) = words.split_at_checked(at).ok_or_else(wrong)?;
    let one = |words: &[&str]| -> Result<Option<String>, String> {
        match words {
            [] => Ok(None),
            [word] => Ok(Some((*word).to_owned())),
            _ => Err(wrong()),
        }
    };
    let (wallet, symbol) = (one(before)?, one(after.get(1..).unwrap_or_default())?);
    let is_time = matches!(what, ConditionKind::NotBefore(_) | ConditionKind::NotAfter(_));
    if is_time && (wallet.is_some() || symbol.is_some()) {
        return Err(wrong());
    }
    Ok(ConditionText { wallet, what, symbol })
}

fn condition_kind(word: &str) -> Option<ConditionKind> {
    let after = |start: &str| word.strip_prefix(start);
    if word == "approved" {
        return Some(ConditionKind::Approved);
    }
    if let Some(amount) = after("balance>=") {
        return Some(ConditionKind::AtLeast(amount.to_owned()));
    }
    if let Some(amount) = after("balance<=") {
        return Some(ConditionKind::AtMost(amount.to_owned()));
    }
    if let Some(state) = after("state=") {
        return state.parse().ok().map(ConditionKind::State);
    }
    if let Some(time) = after("time>=") {
        return parse_time(time).ok().map(ConditionKind::NotBefore);
    }
    after("time<=").and_then(|time| parse_time(time).ok()).map(ConditionKind::NotAfter)
}

impl ConditionText {
    /// With ids and smallest units. What the text leaves out is that of the payment, if it is for
    /// one.
    pub fn resolve(
        &self,
        session: &Session,
        of_payment: Option<(WalletId, &TokenView)>,
    ) -> Done<Condition> {
        match &self.what {
            ConditionKind::NotBefore(time_ms) => {
                return Ok(Condition::NotBefore { time_ms: *time_ms });
            }
            ConditionKind::NotAfter(time_ms) => {
                return Ok(Condition::NotAfter { time_ms: *time_ms });
            }
            _ => {}
        }
        let wallet = match (&self.wallet, of_payment) {
            (Some(wallet), _) => session.book.wallet(wallet)?,
            (None, Some((wallet, _))) => wallet,
            (None, None) => return Err(Fail::usage("a condition here begins with its wallet")),
        };
        let named;
        let token = match (&self.symbol, of_payment) {
            (Some(symbol), _) => {
                named = session.token(symbol)?;
                &named
            }
            (None, Some((_, token))) => token,
            (None, None) => {
                return Err(Fail::usage("a condition here ends with its token's symbol"));
            }
        };
        let (token, decimals) = (token.id, token.decimals);
        Ok(match &self.what {
            ConditionKind::AtLeast(text) => {
                Condition::BalanceAtLeast { wallet, token, amount: whole(text, decimals)? }
            }
            ConditionKind::AtMost(text) => {
                Condition::BalanceAtMost { wallet, token, amount: whole(text, decimals)? }
            }
            ConditionKind::State(state) => Condition::StateIs { wallet, token, state: *state },
            _ => Condition::Approved { wallet, token },
        })
    }
}

/// An amount in whole tokens; zero is fine.
pub fn whole(text: &str, decimals: u8) -> Done<Amount> {
    Amount::parse_decimal(text, decimals).map_err(|error| Fail::new("bad_amount", error))
}

/// `ROLE=USER,USER:THRESHOLD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantText {
    role: Role,
    holders: HoldersText,
}

/// `USER,USER:THRESHOLD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldersText {
    users: Vec<String>,
    threshold: u8,
}

/// Reads who holds a role of a token.
pub fn parse_grant(text: &str) -> Result<GrantText, String> {
    let wrong = || {
        format!(
            "'{text}' is not a grant: write ROLE=USER,USER:HOW_MANY, such as \
             freezer=alice,bob:2; roles are issuer, freezer, reverser, approver, auditor, governor"
        )
    };
    let (role, holders) = text.split_once('=').ok_or_else(wrong)?;
    Ok(GrantText {
        role: parse_role(role.trim()).ok_or_else(wrong)?,
        holders: parse_holders(holders).map_err(|_| wrong())?,
    })
}

/// A role of a token.
pub fn parse_role(text: &str) -> Option<Role> {
    Role::OF_TOKENS.into_iter().find(|role| role.name() == text)
}

/// Reads holders; one must agree unless it says how many.
pub fn parse_holders(text: &str) -> Result<HoldersText, String> {
    let wrong =
        || format!("'{text}' names no holders: write USER,USER:HOW_MANY, such as ann,ben,cleo:2");
    let (users, threshold) = match text.rsplit_once(':') {
        Some((users, threshold)) => (users, threshold.trim().parse().map_err(|_| wrong())?),
        None => (text, 1),
    };
    let users: Vec<String> = users.split(',').map(|user| user.trim().to_owned()).collect();
    if threshold == 0 || usize::from(threshold) > users.len() || users.iter().any(String::is_empty)
    {
        return Err(wrong());
    }
    Ok(HoldersText { users, threshold })
}

impl HoldersText {
    /// With ids.
    pub fn resolve(&self, session: &Session, role: Role) -> Done<Grant> {
        let mut holders =
            self.users.iter().map(|user| session.book.user(user)).collect::<Done<Vec<_>>>()?;
        holders.sort_unstable();
        if holders.is_sorted_by(|a, b| a < b) {
            return Ok(Grant { role, holders, threshold: self.threshold });
        }
        Err(Fail::usage(format!("a holder is named twice: {}", self.users.join(", "))))
    }
}

impl GrantText {
    /// With ids.
    pub fn resolve(&self, session: &Session) -> Done<Grant> {
        self.holders.resolve(session, self.role)
    }
}

/// Several grants in the ledger's order.
pub fn resolve_grants(session: &Session, grants: &[GrantText]) -> Done<Vec<Grant>> {
    let mut grants = grants.iter().map(|grant| grant.resolve(session)).collect::<Done<Vec<_>>>()?;
    grants.sort_by_key(|grant| grant.role);
    Ok(grants)
}

/// How often: a duration, `1month`, `3months`.
pub fn parse_every(text: &str) -> Result<Every, String> {
    if let Some(count) = text.strip_suffix("months").or_else(|| text.strip_suffix("month")) {
        return count
            .parse()
            .map(Every::Months)
            .map_err(|_| format!("'{text}' is not an interval: write 1month, 3months or 7d"));
    }
    let length = parse_duration(text)
        .map_err(|_| format!("'{text}' is not an interval: write 1month, 3months, 7d or 24h"))?;
    Ok(Every::Milliseconds(u64::try_from(length.as_millis()).unwrap_or(u64::MAX)))
}

/// What happens when a scheduled payment can't be made: `skip`, `stop`, `retry:1h:3`.
pub fn parse_when_short(text: &str) -> Result<WhenShort, String> {
    let wrong = || format!("'{text}' is none of skip, stop and retry:AFTER:TIMES (retry:1h:3)");
    match text {
        "skip" => Ok(WhenShort::Skip),
        "stop" => Ok(WhenShort::Stop),
        _ => {
            let rest = text.strip_prefix("retry:").ok_or_else(wrong)?;
            let (after, times) = rest.split_once(':').ok_or_else(wrong)?;
            let after = parse_duration(after).map_err(|_| wrong())?;
            Ok(WhenShort::Retry {
                after_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
                times: times.parse().map_err(|_| wrong())?,
            })
        }
    }
}

/// A yearly rate in percent, such as `2.5%`: millionths.
pub fn parse_rate(text: &str) -> Result<u32, String> {
    let wrong = || format!("'{text}' is not a yearly rate: write percent such as 2.5%");
    let number = text.trim().strip_suffix('%').ok_or_else(wrong)?.trim_end();
    let ppm = Amount::parse_decimal(number, 4).map_err(|_| wrong())?;
    u32::try_from(ppm.0).ok().filter(|ppm| *ppm > 0).ok_or_else(wrong)
}

/// Whom or what a listing is about: a wallet, a user or a token, by name, symbol or id.
pub fn resolve_subject(session: &Session, text: &str, user_first: bool) -> Done<Of> {
    let user = || session.book.users.get(text).copied().map(Of::User);
    let wallet = || session.book.wallets.get(text).copied().map(Of::Wallet);
    let named = if user_first { user().or_else(wallet) } else { wallet().or_else(user) };
    if let Some(named) = named {
        return Ok(named);
    }
    if text.starts_with("kju1") {
        return Ok(Of::User(session.book.user(text)?));
    }
    if text.starts_with("kjw1") {
        return Ok(Of::Wallet(session.book.wallet(text)?));
    }
    session.token(text).map(|token| Of::Token(token.id)).map_err(|_| {
        Fail::new(
            "unknown_subject",
            format!("'{text}' is neither a wallet, a user nor a token known here"),
        )
        .next("see the tokens with 'kanjo token list'; name ids with 'kanjo wallet name'")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legs_are_read_as_people_write_them() {
        let leg = parse_leg("alice pays 12.50 JPY to bob").expect("fine");
        let parts = [&leg.from, &leg.amount, &leg.symbol, &leg.to, &leg.reference];
        assert_eq!(parts, ["alice", "12.50", "JPY", "bob", ""]);
        let leg = parse_leg("alice Pays 1 JPY To bob for invoice 7, part 2").expect("fine");
        assert_eq!(leg.reference, "invoice 7, part 2");
        for bad in [
            "",
            "alice pays 1 to bob",
            "alice pays 1 JPY bob",
            "alice pays 1 JPY to",
            "alice pays 1 JPY to bob cleo",
            "alice pays 1 JPY to bob for",
            "a b c d e f",
        ] {
            assert!(parse_leg(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn conditions_are_read_with_and_without_wallet_and_token() {
        let at_least = |wallet: Option<&str>, symbol: Option<&str>| ConditionText {
            wallet: wallet.map(str::to_owned),
            what: ConditionKind::AtLeast("100".to_owned()),
            symbol: symbol.map(str::to_owned),
        };
        assert_eq!(parse_condition("balance>=100"), Ok(at_least(None, None)));
        assert_eq!(parse_condition("balance >= 100 JPY"), Ok(at_least(None, Some("JPY"))));
        assert_eq!(
            parse_condition("alice balance>=100 JPY"),
            Ok(at_least(Some("alice"), Some("JPY")))
        );
        let kind = |text: &str| parse_condition(text).expect("fine").what;
        assert_eq!(kind("bob approved JPY"), ConditionKind::Approved);
        assert_eq!(kind("time<=1970-01-01T00:00:01Z"), ConditionKind::NotAfter(1_000));
        let state = format!("state={}", "ab".repeat(32));
        assert_eq!(kind(&state), ConditionKind::State(Hash([0xab; 32])));
        for bad in [
            "",
            "balance>100",
            "alice",
            "a b balance>=1",
            "balance>=1 JPY VSM",
            "state=12",
            "time>=tomorrow",
            "alice time>=1970-01-01T00:00:01Z",
        ] {
            assert!(parse_condition(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn grants_name_role_holders_and_how_many() {
        let grant = parse_grant("freezer=alice, bob:2").expect("fine");
        assert_eq!((grant.role, grant.holders.threshold), (Role::Freezer, 2));
        assert_eq!(grant.holders.users, ["alice", "bob"]);
        assert_eq!(parse_grant("issuer=alice").expect("fine").holders.threshold, 1);
        for bad in ["", "freezer", "freezer=", "king=alice", "freezer=a,b:3", "freezer=a:0"] {
            assert!(parse_grant(bad).is_err(), "{bad}");
        }
        assert!(parse_grant("guardian=alice").is_err(), "guardians are not of a token");
    }

    #[test]
    fn intervals_retries_and_rates() {
        assert_eq!(parse_every("1month"), Ok(Every::Months(1)));
        assert_eq!(parse_every("3months"), Ok(Every::Months(3)));
        assert_eq!(parse_every("7d"), Ok(Every::Milliseconds(604_800_000)));
        assert!(parse_every("month").is_err());
        assert_eq!(parse_when_short("skip"), Ok(WhenShort::Skip));
        let retry = WhenShort::Retry { after_ms: 3_600_000, times: 3 };
        assert_eq!(parse_when_short("retry:1h:3"), Ok(retry));
        assert!(parse_when_short("retry:1h").is_err());
        assert_eq!(parse_rate("2.5%"), Ok(25_000));
        assert_eq!(parse_rate("0.0001%"), Ok(1));
        for bad in ["2.5", "%", "0%", "0.00001%", "-1%"] {
            assert!(parse_rate(bad).is_err(), "{bad}");
        }
    }
}
