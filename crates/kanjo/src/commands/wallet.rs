//! `kanjo wallet`: open, show, history, watch.

use crate::author::{Authored, Sent, SignArgs, access_of, send};
use crate::context::{Context, Session, print_json};
use crate::describe::direction_text;
use crate::fail::{Done, Fail};
use crate::home::check_name;
use crate::say;
use crate::text::{Align, Table, bold, dim, group_digits, short, utc};
use clap::{Args, Subcommand};
use kanjo_api::{BalanceView, HistoryPage, RecordView, TermsView, TokenView, WalletView};
use kanjo_client::Page;
use kanjo_types::record::{Record, WalletStateRecord};
use kanjo_types::{Amount, Operation, UserId, WalletId};
use serde_json::json;

/// Wallets: open, show, history, watch.
#[derive(Debug, Subcommand)]
pub enum WalletCommand {
    /// Open a wallet for a user.
    #[command(after_help = "Example:\n  kanjo wallet create savings --user alice")]
    Create(CreateArgs),
    /// What a wallet holds.
    #[command(after_help = "Example:\n  kanjo wallet show alice")]
    Show {
        /// Wallet id or local name.
        wallet: String,
    },
    /// The versions of a wallet's balance, newest first.
    #[command(after_help = "Example:\n  kanjo wallet history alice --token JPY --limit 5")]
    History(HistoryArgs),
    /// Print every change of a wallet as it becomes final.
    #[command(after_help = "Example:\n  kanjo wallet watch alice")]
    Watch {
        /// Wallet id or local name.
        wallet: String,
        /// Stop after this many changes.
        #[arg(long, value_name = "N")]
        count: Option<u64>,
    },
    /// Give a wallet's id a local name.
    #[command(after_help = "Example:\n  kanjo wallet name bob kjw1…")]
    Name {
        /// The name.
        name: String,
        /// The id.
        id: WalletId,
    },
}

/// Options of `kanjo wallet create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Local name of the wallet; the owner's name when left out.
    name: Option<String>,
    /// Owner: user id or local name.
    #[arg(long, value_name = "USER")]
    user: String,
    /// Which of the owner's wallets; the first free one when left out.
    #[arg(long)]
    number: Option<u64>,
    /// Who signs, when it is the owner's sponsor.
    #[arg(long = "as", value_name = "USER")]
    author: Option<String>,
    #[command(flatten)]
    sign: SignArgs,
}

/// Options of `kanjo wallet history`.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Wallet id or local name.
    wallet: String,
    /// Token symbol or number; needed when the wallet holds several.
    #[arg(long, value_name = "SYMBOL")]
    token: Option<String>,
    /// How many versions.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=999))]
    limit: u16,
    /// Only versions before this one.
    #[arg(long, value_name = "VERSION")]
    before: Option<u64>,
}

/// Runs `kanjo wallet`.
pub fn wallet(ctx: &Context, command: WalletCommand) -> Done {
    match command {
        WalletCommand::Create(args) => create(ctx, &args),
        WalletCommand::Show { wallet } => show(ctx, &wallet),
        WalletCommand::History(args) => history(ctx, &args),
        WalletCommand::Watch { wallet, count } => watch(ctx, &wallet, count),
        WalletCommand::Name { name, id } => {
            check_name(&name)?;
            let mut session = ctx.session()?;
            find(&session, id)?;
            session.book.wallets.insert(name.clone(), id);
            ctx.home.save_book(&session.book)?;
            ctx.answer(&json!({ "name": name, "id": id }), || say!("{name} is {id} from now on."))
        }
    }
}

/// The wallet with this id, or a failure that names it.
pub fn find(session: &Session, id: WalletId) -> Done<WalletView> {
    session.client.wallet(id).map_err(|error| {
        if error.is_not_found() {
            let message = format!("there is no wallet {} on this ledger", session.wallet_label(id));
            Fail::new("unknown_wallet", message)
                .next("check the id; a new wallet: kanjo wallet create NAME --user USER")
        } else {
            error.into()
        }
    })
}

fn create(ctx: &Context, args: &CreateArgs) -> Done {
    let mut session = ctx.session()?;
    let owner = session.book.user(&args.user)?;
    let name = args.name.clone().or_else(|| session.book.user_name(owner).map(str::to_owned));
    let name =
        name.ok_or_else(|| Fail::usage("give the wallet a name: kanjo wallet create NAME"))?;
    check_name(&name)?;
    let number = match args.number {
        Some(number) => number,
        None => first_free(&session, owner)?,
    };
    let id = WalletId::derive(session.status.chain, owner, number);
    if session.book.wallets.get(&name).is_some_and(|other| *other != id) {
        return Err(Fail::new("name_taken", format!("'{name}' is the name of another wallet"))
            .next("choose another name: kanjo wallet create NAME --user USER"));
    }
    let author = args.author.as_ref().map_or(Ok(owner), |author| session.book.user(author))?;
    let access = access_of(&session.client, author)?;
    let operations = vec![Operation::CreateWallet { owner, number }];
    let sent = send(ctx, &session, Authored { author, access, operations }, &args.sign)?;
    session.book.wallets.insert(name.clone(), id);
    ctx.home.save_book(&session.book)?;
    ctx.answer(&json!({ "wallet": id, "name": name, "number": number, "sent": sent }), || {
        if matches!(sent, Sent::Recorded { .. }) {
            say!("Wallet {} opened.", bold(&name));
        }
        say!("  wallet  {id}");
        say!("  {}", dim(&sent.sentence()));
    })
}

/// Most wallet numbers that are tried one by one.
const NUMBERS_TRIED_MAX: u64 = 1_000;

fn first_free(session: &Session, owner: UserId) -> Done<u64> {
    for number in 0..NUMBERS_TRIED_MAX {
        let id = WalletId::derive(session.status.chain, owner, number);
        match session.client.wallet(id) {
            Ok(_) => {}
            Err(error) if error.is_not_found() => return Ok(number),
            Err(error) => return Err(error.into()),
        }
    }
    Err(Fail::usage("this user has a thousand wallets; give the next one's --number"))
}

fn show(ctx: &Context, wallet: &str) -> Done {
    let session = ctx.session()?;
    let id = session.book.wallet(wallet)?;
    let view = find(&session, id)?;
    ctx.answer(&view, || {
        say!("Wallet {}", bold(&session.wallet_label(id)));
        say!("  id     {id}");
        say!("  owner  {}", session.user_label(view.owner));
        say!();
        if view.balances.is_empty() {
            say!("  holds nothing yet");
            return;
        }
        let mut table = Table::new(&[
            ("token", Align::Left),
            ("balance", Align::Right),
            ("version", Align::Right),
            ("state", Align::Left),
        ])
        .indented(2);
        for held in &view.balances {
            table.row([
                held.symbol.clone(),
                group_digits(&held.balance.to_decimal(held.decimals)),
                held.version.to_string(),
                short(&held.state),
            ]);
        }
        table.print();
        for held in &view.balances {
            beside(held).iter().for_each(|line| say!("  {}: {line}", held.symbol));
        }
    })
}

/// What a wallet has in a token beside its balance: a line each.
fn beside(held: &BalanceView) -> Vec<String> {
    let money = |amount: Amount| {
        format!("{} {}", group_digits(&amount.to_decimal(held.decimals)), held.symbol)
    };
    let mut lines = Vec::new();
    if held.reserved != Amount::ZERO {
        lines.push(format!("{} reserved for pending payments", money(held.reserved)));
    }
    if held.overdraft != Amount::ZERO {
        lines.push(format!("overdrawn by {}", money(held.overdraft)));
    }
    if held.claims != Amount::ZERO {
        lines.push(format!("owes {} in claims; it can't pay before", money(held.claims)));
    }
    if held.available != held.balance {
        lines.push(format!("{} available", money(held.available)));
    }
    if let Some(direction) = held.frozen {
        lines.push(format!("{} payments are frozen", direction_text(direction)));
    }
    if let Some(terms) = held.terms {
        lines.push(terms_words(terms, &money));
    }
    lines
}

fn terms_words(terms: TermsView, money: &dyn Fn(Amount) -> String) -> String {
    let approved = if terms.approved { "approved, " } else { "" };
    let mut words = format!("{approved}class {}", terms.class);
    if terms.credit != Amount::ZERO {
        words.push_str(&format!(", credit {}", money(terms.credit)));
    }
    if terms.floor != Amount::ZERO {
        words.push_str(&format!(", floor {}", money(terms.floor)));
    }
    words
}

fn history(ctx: &Context, args: &HistoryArgs) -> Done {
    let session = ctx.session()?;
    let id = session.book.wallet(&args.wallet)?;
    let view = find(&session, id)?;
    let token = match &args.token {
        Some(token) => session.token(token)?,
        None => only_token(&session, &view)?,
    };
    // One version more than shown, to know the change made by the oldest one shown.
    let limit = usize::from(args.limit);
    let page = Page { before: args.before, limit: Some(limit + 1) };
    let mut page = session.client.history(id, token.id, page)?;
    let lines = history_lines(&page, &token, limit);
    if page.versions.len() > limit {
        page.versions.truncate(limit);
        page.next_before = page.versions.last().and_then(|view| Some(state(view)?.version));
    }
    ctx.answer(&page, || {
        say!("Wallet {}, {}", bold(&session.wallet_label(id)), token.symbol);
        say!();
        lines.print();
        if page.versions.is_empty() {
            say!("  nothing yet");
        }
        if let Some(before) = page.next_before {
            say!();
            say!("{}", dim(&format!("Older: add --before {before}")));
        }
    })
}

/// The history as a table.
pub fn history_lines(page: &HistoryPage, token: &TokenView, limit: usize) -> Table {
    let mut table = Table::new(&[
        ("version", Align::Right),
        ("time", Align::Left),
        ("change", Align::Right),
        ("balance", Align::Right),
        ("block", Align::Right),
        ("transaction", Align::Left),
    ])
    .indented(2);
    let states: Vec<(&RecordView, &WalletStateRecord)> =
        page.versions.iter().filter_map(|view| Some((view, state(view)?))).collect();
    let older = states.iter().skip(1).map(|(_, state)| Some(state.balance)).chain([None]);
    for ((view, state), older) in states.iter().zip(older).take(limit) {
        let before = if state.version == 1 { Some(Amount::ZERO) } else { older };
        table.row([
            state.version.to_string(),
            utc(view.time_ms),
            before.map_or_else(String::new, |before| change(before, state.balance, token.decimals)),
            group_digits(&state.balance.to_decimal(token.decimals)),
            view.height.to_string(),
            short(&view.transaction_id),
        ]);
    }
    table
}

fn state(view: &RecordView) -> Option<&WalletStateRecord> {
    match &view.record {
        Record::WalletState(state) => Some(state),
        _ => None,
    }
}

fn change(before: Amount, after: Amount, decimals: u8) -> String {
    match (after.checked_sub(before), before.checked_sub(after)) {
        (Some(up), _) => format!("+{}", group_digits(&up.to_decimal(decimals))),
        (None, Some(down)) => format!("-{}", group_digits(&down.to_decimal(decimals))),
        (None, None) => String::new(),
    }
}

/// The one token that a wallet holds.
fn only_token(session: &Session, view: &WalletView) -> Done<TokenView> {
    match view.balances.as_slice() {
        [one] => session.token(&one.symbol),
        [] => Err(Fail::new("no_history", "this wallet has never held anything")),
        several => {
            let symbols: Vec<&str> = several.iter().map(|held| held.symbol.as_str()).collect();
            let list = symbols.join(", ");
            Err(Fail::usage(format!("this wallet holds {list}; say which with --token SYMBOL")))
        }
    }
}

fn watch(ctx: &Context, wallet: &str, count: Option<u64>) -> Done {
    let session = ctx.session()?;
    let id = session.book.wallet(wallet)?;
    find(&session, id)?;
    let tokens = session.client.tokens()?;
    let stream = session.client.stream_wallet(id)?;
    if !ctx.json {
        say!("Watching {}; Ctrl-C ends it.", bold(&session.wallet_label(id)));
    }
    for (seen, event) in (1..).zip(stream) {
        let event = event?;
        if ctx.json {
            print_json(&event);
        } else if let Some(state) = state(&event.version) {
            let token = tokens.iter().find(|token| token.id == state.token);
            let (symbol, decimals) =
                token.map_or(("?", 0), |token| (token.symbol.as_str(), token.decimals));
            say!(
                "{}  {} {symbol}  {}",
                utc(event.version.time_ms),
                group_digits(&state.balance.to_decimal(decimals)),
                dim(&format!("version {}, block {}", state.version, event.version.height))
            );
        }
        if count.is_some_and(|count| seen >= count) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_carry_their_sign() {
        assert_eq!(change(Amount(1_000), Amount(2_500), 2), "+15.00");
        assert_eq!(change(Amount(2_500_000), Amount(0), 0), "-2,500,000");
    }
}
