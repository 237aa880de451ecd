//! What the demo shows of the rules of money: a freeze, a reversal with its proof, and a payment
//! versus payment that two parties sign.

use super::screen::{Screen, clipped};
use super::world::{Person, TOKENS, World, done};
use crate::commands::read_genesis;
use crate::fail::{Done, Fail};
use crate::text::{group_digits, short};
use kanjo_api::SubmitOutcome;
use kanjo_client::{Client, Cosigning, Draft, Signer, now_ms};
use kanjo_proof::ProofFile;
use kanjo_proof::statement::Fact;
use kanjo_types::money::{Act, Direction, Evidence, FreezeTarget, Order, Reason};
use kanjo_types::outcome::ResultCode;
use kanjo_types::signature::SecretKey;
use kanjo_types::{Access, Amount, Operation, TokenId, TransactionId, UserId};
use std::path::Path;

/// What held and what did not.
#[derive(Debug, Default)]
pub struct Money {
    /// A frozen wallet's payment was refused with the code that says so.
    pub freeze_ok: bool,
    /// A reversal gave the money back, and its proof checked from the genesis file alone.
    pub reversal_ok: bool,
    /// Two payments in two tokens were made at once, signed by both payers.
    pub bundle_ok: bool,
}

const VSM: usize = 0;
const JPY: usize = 1;
/// Most that is paid in JPY, so that everybody has it.
const YEN: u128 = 25_000;
/// Why the payment is reversed.
const COURT_ORDER: &str = "COURT_ORDER";
/// VSM in the bundle, in millionths: 0.05, so that everybody still has it.
const VERSUM: u128 = 50_000;

/// Shows all of it with the first two users.
pub fn run(
    screen: &Screen,
    client: &Client,
    world: &mut World,
    genesis_file: &Path,
) -> Done<Money> {
    screen.heading("The rules of money: JPY was created to be frozen and reversed, VSM was not");
    Ok(Money {
        freeze_ok: freeze(screen, client, world)?,
        reversal_ok: reversal(screen, client, world, genesis_file)?,
        bundle_ok: bundle(screen, client, world)?,
    })
}

fn person(world: &World, position: usize) -> Done<&Person> {
    world.people.get(position).ok_or_else(|| Fail::new("demo", "fewer than two users"))
}

fn submit(
    client: &Client,
    world: &World,
    author: UserId,
    key: &SecretKey,
    operation: Operation,
) -> Done<SubmitOutcome> {
    let draft = Draft::new(world.chain, author).operation(operation);
    Ok(client.submit(&draft.sign(key)?)?)
}

/// A payment in JPY between the first two users.
fn pay(client: &Client, world: &World, from: usize, to: usize) -> Done<SubmitOutcome> {
    let (from, to) = (person(world, from)?, person(world, to)?);
    let transfer = transfer(JPY, from, to, YEN)?;
    submit(client, world, from.user, &from.key, transfer)
}

fn token(position: usize) -> Done<TokenId> {
    TOKENS.get(position).map(|token| token.id).ok_or_else(|| Fail::new("demo", "no such token"))
}

fn transfer(token: usize, from: &Person, to: &Person, amount: u128) -> Done<Operation> {
    Ok(Operation::Transfer {
        token: self::token(token)?,
        from: from.wallet,
        to: to.wallet,
        amount: Amount(amount),
        reference: String::new(),
    })
}

/// An act of the operator, who holds every role.
fn order(client: &Client, world: &World, act: Act, code: &str, evidence: Vec<Evidence>) -> Done {
    let reason = Reason { code: code.to_owned(), reference: "case 7".to_owned() };
    let order = Order { act, reason, expires_ms: now_ms() + 3_600_000 };
    let operation = Operation::Act { order: Box::new(order), evidence };
    done(submit(client, world, world.operator_id, &world.operator, operation)?).map(|_| ())
}

fn freeze(screen: &Screen, client: &Client, world: &World) -> Done<bool> {
    let token = token(JPY)?;
    let target = FreezeTarget::Wallet(person(world, 0)?.wallet);
    let act = Act::Freeze { token, target, direction: Direction::Both, until_ms: None };
    order(client, world, act, "FRAUD", Vec::new())?;
    let outcome = pay(client, world, 0, 1)?;
    let result = match outcome {
        SubmitOutcome::Recorded { result, .. } => result,
        SubmitOutcome::Refused { refusal, .. } => return Err(Fail::new(refusal.code(), refusal)),
    };
    order(client, world, Act::Unfreeze { token, target }, "CLEARED", Vec::new())?;
    let good = result == ResultCode::SourceFrozen;
    let text = format!("A frozen wallet's payment is refused: {}", result.code());
    screen.check(good, &text, &["both the freeze and its end are acts with a reason".to_owned()]);
    Ok(good)
}

fn held(client: &Client, world: &World, position: usize, token: usize) -> Done<u128> {
    let token = self::token(token)?;
    let view = client.wallet(person(world, position)?.wallet)?;
    Ok(view.balances.iter().find(|one| one.token == token).map_or(0, |one| one.balance.0))
}

fn reversal(screen: &Screen, client: &Client, world: &World, genesis_file: &Path) -> Done<bool> {
    let before = (held(client, world, 0, JPY)?, held(client, world, 1, JPY)?);
    let paid = done(pay(client, world, 0, 1)?)?;
    let token = token(JPY)?;
    let parts = client.reversal_parts(&[paid], &[])?;
    let act = Act::Reverse { token, originals: parts.originals, trail: parts.trail };
    order(client, world, act, COURT_ORDER, parts.evidence)?;
    let after = (held(client, world, 0, JPY)?, held(client, world, 1, JPY)?);
    let proof = client.proof_of_reversal(paid, token)?;
    let proven = proves_reversal(&proof, paid, token, genesis_file)?;
    let good = before == after && proven.is_ok();
    let amount = group_digits(&YEN.to_string());
    let text = format!("A payment of {amount} JPY is reversed, and its proof holds");
    let detail = match proven {
        Ok(()) if good => {
            format!("transaction {}, reversal and act, from the genesis file alone", short(&paid))
        }
        Ok(()) => "the balances are not what they were before".to_owned(),
        Err(reason) => reason,
    };
    screen.check(good, &text, &[clipped(&detail)]);
    Ok(good)
}

/// Does the proof say, from the genesis file alone, that the transaction was reversed?
fn proves_reversal(
    text: &str,
    original: TransactionId,
    token: TokenId,
    genesis_file: &Path,
) -> Done<Result<(), String>> {
    let genesis = read_genesis(genesis_file)?;
    let file = ProofFile::from_json(text).map_err(|error| Fail::new("bad_proof", error))?;
    let statement = match file.check(&genesis) {
        Ok(statement) => statement,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let says_so = match &statement.fact {
        Fact::Reversal { receipt, reversal, act, .. } => {
            receipt.id == original
                && (reversal.token, reversal.act) == (token, act.id)
                && act.reason.code == COURT_ORDER
        }
        _ => false,
    };
    Ok(if says_so { Ok(()) } else { Err("it speaks of something else".to_owned()) })
}

fn bundle(screen: &Screen, client: &Client, world: &mut World) -> Done<bool> {
    let (a, b) = (person(world, 0)?, person(world, 1)?);
    let body = Draft::new(world.chain, a.user)
        .operation(Operation::Parties { users: vec![b.user] })
        .operation(transfer(JPY, a, b, YEN)?)
        .operation(transfer(VSM, b, a, VERSUM)?)
        .body()?;
    let signer = |one: &Person| Signer { user: one.user, access: Access::Single(one.key.public()) };
    let mut file = Cosigning::together(body, vec![signer(a), signer(b)])?;
    file.sign(&a.key)?;
    let one_is_not_enough = file.clone().finish().is_err();
    file.sign(&b.key)?;
    let before = (held(client, world, 0, VSM)?, held(client, world, 1, JPY)?);
    done(client.submit(&file.finish()?)?)?;
    let after = (held(client, world, 0, VSM)?, held(client, world, 1, JPY)?);
    let good = one_is_not_enough && (before.0 + VERSUM, before.1 + YEN) == after;
    let decimals = TOKENS.get(VSM).map_or(0, |token| token.decimals);
    let text = format!(
        "{} JPY against {} VSM: both are paid at once, or neither",
        group_digits(&YEN.to_string()),
        Amount(VERSUM).to_decimal(decimals)
    );
    screen.check(good, &text, &["one transaction that both payers signed".to_owned()]);
    world.expect(0, 1, JPY, YEN)?;
    world.expect(1, 0, VSM, VERSUM)?;
    Ok(good)
}
