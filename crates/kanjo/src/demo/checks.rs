//! What the demo checks after the payments.

use super::screen::Screen;
use super::world::{Person, TOKENS, World};
use crate::commands::read_genesis;
use crate::fail::{Done, Fail};
use crate::load::{Outcome, on_all_cores};
use kanjo_client::{Client, Page};
use kanjo_proof::statement::Fact;
use kanjo_proof::{Proof, ProofFile};
use kanjo_types::record::{Record, WalletStateRecord};
use kanjo_types::{Amount, Genesis, TokenId, WalletId};
use std::path::Path;

/// What held and what did not.
pub struct Checks {
    /// A wallet state's proof checked from the genesis file alone, and says what the ledger said.
    pub proof_ok: bool,
    /// The same proof with a changed record was refused.
    pub tamper_detected: bool,
    /// All balances are as expected and add up to what was issued less what was redeemed.
    pub supply_ok: bool,
}

/// Versions of the history that are shown.
const HISTORY_SHOWN: usize = 5;

/// Runs and shows all checks.
pub fn run(
    screen: &Screen,
    client: &Client,
    world: &World,
    outcome: &Outcome,
    genesis_file: &Path,
) -> Done<Checks> {
    let person = first(world)?;
    let token = client.token(TokenId(1))?;
    // From here on only the genesis file and the proof's own text are used.
    let text = client.proof_of_state(person.wallet, token.id, None)?;
    let genesis = read_genesis(genesis_file)?;
    let expected = world.expected.first().and_then(|held| held.first()).copied();
    let expected = expected.filter(|_| outcome.failed == 0).map(Amount);
    screen.heading("What you need not take on trust");
    let proof_ok = check_proof(screen, &text, &genesis, person.wallet, expected)?;
    let tamper_detected = check_tampered(screen, &text, &genesis)?;
    let supply_ok = check_supply(screen, client, world, outcome)?;
    Ok(Checks { proof_ok, tamper_detected, supply_ok })
}

fn first(world: &World) -> Done<&Person> {
    world.people.first().ok_or_else(|| Fail::new("demo", "no users"))
}

/// Shows one wallet's history.
pub fn history(screen: &Screen, client: &Client, world: &World) -> Done {
    let person = first(world)?;
    let token = client.token(TokenId(1))?;
    let page = Page { before: None, limit: Some(HISTORY_SHOWN + 1) };
    let history = client.history(person.wallet, token.id, page)?;
    screen.history(person.wallet, &token, &history, HISTORY_SHOWN);
    Ok(())
}

fn read_proof(text: &str) -> Done<ProofFile> {
    ProofFile::from_json(text).map_err(|error| Fail::new("bad_proof", error))
}

fn check_proof(
    screen: &Screen,
    text: &str,
    genesis: &Genesis,
    wallet: WalletId,
    expected: Option<Amount>,
) -> Done<bool> {
    let statement = match read_proof(text)?.check(genesis) {
        Ok(statement) => statement,
        Err(error) => {
            screen.check(
                false,
                "a proof of this balance from the genesis file alone",
                &[error.to_string()],
            );
            return Ok(false);
        }
    };
    let state = match &statement.fact {
        Fact::State { record: Record::WalletState(state) } => Some(state),
        Fact::Version { record: Record::WalletState(state), .. } => Some(state),
        _ => None,
    };
    let fits = |state: &WalletStateRecord| {
        state.wallet == wallet && expected.is_none_or(|expected| expected == state.balance)
    };
    let good = state.is_some_and(fits);
    let balance = state.map_or_else(String::new, |state| {
        let decimals = TOKENS.first().map_or(0, |token| token.decimals);
        crate::text::group_digits(&state.balance.to_decimal(decimals))
    });
    let height = crate::text::grouped(statement.at.height);
    screen.check(
        good,
        &format!("This balance is proven from the genesis file alone: {balance} VSM"),
        &[
            format!(
                "at height {height}, by the votes of {}",
                statement.at.vouched.signed_by.join(", ")
            ),
            format!("a proof of {} bytes; checking it needs no node and no network", text.len()),
        ],
    );
    Ok(good)
}

/// Really changes the record inside the proof, writes it as a file, reads it back, and checks it.
fn check_tampered(screen: &Screen, text: &str, genesis: &Genesis) -> Done<bool> {
    let mut file = read_proof(text)?;
    let state = match &mut file.proof {
        Proof::State(proof) => &mut proof.row.record,
        Proof::Version(proof) => &mut proof.record,
        _ => return Err(Fail::new("bad_proof", "the node's proof is not of a wallet state")),
    };
    let Record::WalletState(state) = state else {
        return Err(Fail::new("bad_proof", "the node's proof is not of a wallet state"));
    };
    let million = Amount(1_000_000_000_000);
    state.balance = state.balance.checked_add(million).unwrap_or(Amount::ZERO);
    let changed = file.to_json().map_err(|error| Fail::new("bad_proof", error))?;
    let answer = read_proof(&changed)?.check(genesis);
    let noticed = answer.is_err();
    let why = answer.err().map_or_else(|| "it was accepted".to_owned(), |error| error.to_string());
    screen.check(
        noticed,
        "The same proof with 1,000,000 VSM more in the record is refused",
        &[crate::demo::screen::clipped(&why)],
    );
    Ok(noticed)
}

fn check_supply(screen: &Screen, client: &Client, world: &World, outcome: &Outcome) -> Done<bool> {
    let count = world.people.len() + 1;
    let held = on_all_cores(count, |position| {
        let wallet = world.people.get(position).map_or(world.operator_wallet, |p| p.wallet);
        let view = client.wallet(wallet)?;
        let of = |token: TokenId| {
            let found = view.balances.iter().find(|held| held.token == token);
            found.map_or(0, |held| held.balance.0)
        };
        Ok(TOKENS.map(|token| of(token.id)))
    })?;
    let as_expected = outcome.failed > 0
        || world.expected.iter().zip(&held).all(|(expected, held)| expected == held);
    let mut good = as_expected;
    let mut lines = Vec::new();
    for (position, demo_token) in TOKENS.iter().enumerate() {
        let token = client.token(demo_token.id)?;
        let mut balances = held.iter().filter_map(|held| held.get(position));
        let sum = balances.try_fold(0u128, |sum, balance| sum.checked_add(*balance));
        let supply = token.issued.checked_sub(token.redeemed);
        let equal = sum.map(Amount) == supply && supply == Some(token.supply);
        good &= equal;
        let shown = |amount: Amount| crate::text::group_digits(&amount.to_decimal(token.decimals));
        lines.push(format!(
            "{}: {} issued − {} redeemed {} {} in {} wallets",
            token.symbol,
            shown(token.issued),
            shown(token.redeemed),
            if equal { "=" } else { "≠" },
            sum.map_or_else(|| "too much".to_owned(), |sum| shown(Amount(sum))),
            crate::text::grouped(count as u64)
        ));
    }
    if !as_expected {
        lines.push("some balances are not what the payments should have made them".to_owned());
    }
    screen.check(good, "All balances add up", &lines);
    Ok(good)
}
