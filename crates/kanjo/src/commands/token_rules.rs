//! `kanjo token policy` and `kanjo token role`, and how a token's rules are shown.

use crate::context::{Context, Session};
use crate::describe::{Labels, direction_text, grant_text, holders_text};
use crate::fail::{Done, Fail};
use crate::orders::{OrderArgs, order};
use crate::policy::{Part, PolicyArgs, policy_lines};
use crate::say;
use crate::text::{bold, utc};
use crate::typed::{GrantText, parse_grant};
use clap::{Args, Subcommand};
use kanjo_api::TokenView;
use kanjo_types::money::Act;
use kanjo_types::policy::Policy;
use serde_json::json;

/// The policy of a token.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Change a token's policy, within its charter. What is left out stays as it is.
    #[command(after_help = "Example:\n  kanjo token policy set GBP --fee-bp 3\n  \
        kanjo token policy set GBP --drop freezable --drop fee\n\n\
        A change in favour of holders is in force at once; one against them after the token's\n\
        notice; one beyond the charter never.")]
    Set(SetPolicyArgs),
}

/// Options of `kanjo token policy set`.
#[derive(Debug, Args)]
pub struct SetPolicyArgs {
    /// Token symbol or number.
    token: String,
    #[command(flatten)]
    policy: PolicyArgs,
    /// A part that is to hold no more; repeat it for more.
    #[arg(long = "drop", value_name = "PART", value_enum, help_heading = "Policy")]
    dropped: Vec<Part>,
    #[command(flatten)]
    order: OrderArgs,
}

/// The roles of a token.
#[derive(Debug, Subcommand)]
pub enum RoleCommand {
    /// Give a role to others, as ROLE=USER,USER:HOW_MANY.
    #[command(after_help = "Example:\n  kanjo token role set GBP freezer=alice,bob:2\n\n\
        Roles are issuer, freezer, reverser, approver, auditor and governor. With ':2', two of\n\
        the holders must agree to each act: maker and checker.")]
    Set(SetRoleArgs),
}

/// Options of `kanjo token role set`.
#[derive(Debug, Args)]
pub struct SetRoleArgs {
    /// Token symbol or number.
    token: String,
    /// Who holds which role.
    #[arg(value_name = "GRANT", value_parser = parse_grant)]
    grant: GrantText,
    #[command(flatten)]
    order: OrderArgs,
}

/// Runs `kanjo token policy`.
pub fn policy(ctx: &Context, command: PolicyCommand) -> Done {
    let PolicyCommand::Set(args) = command;
    let session = ctx.session()?;
    let token = session.token(&args.token)?;
    let mut policy = args.policy.apply(&session, token.decimals, token.policy.clone())?;
    args.dropped.iter().for_each(|part| part.drop_from(&mut policy));
    if policy == token.policy {
        return Err(Fail::new("nothing_changed", "this is the token's policy already")
            .next("see it with: kanjo token show SYMBOL"));
    }
    if let Some(field) = policy.harsher_than(&token.charter) {
        let message = format!(
            "the charter of {} does not permit this: {field} would be harsher to holders than when \
             the token was created",
            token.symbol
        );
        let fail = Fail::new("against_charter", message);
        return Err(Fail { field: Some(format!("policy.{field}")), ..fail }
            .next("see the charter with: kanjo token show SYMBOL"));
    }
    let act = Act::SetPolicy { token: token.id, policy: Box::new(policy) };
    let ordered = order(ctx, &session, act, Vec::new(), &args.order, Some("POLICY"))?;
    let after = session.client.token(token.id)?;
    if ctx.json {
        let extra = json!({
            "token": token.id, "policy": after.policy, "coming": after.coming,
        });
        return ctx.answer(&ordered.json(extra), || {});
    }
    let mut when = match &after.coming {
        Some(coming) => format!("announced, in force from {}", utc(coming.from_ms)),
        None => "in force now".to_owned(),
    };
    if token.coming.is_some() && token.coming != after.coming {
        when.push_str("; what was announced before is withdrawn");
    }
    ordered.tell(
        ctx,
        &session,
        &format!("{}: {when}.", bold(&format!("Policy of {}", token.symbol))),
    )
}

/// Runs `kanjo token role`.
pub fn role(ctx: &Context, command: RoleCommand) -> Done {
    let RoleCommand::Set(args) = command;
    let session = ctx.session()?;
    let token = session.token(&args.token)?;
    let grant = args.grant.resolve(&session)?;
    let act = Act::SetRole { token: token.id, grant: grant.clone() };
    let ordered = order(ctx, &session, act, Vec::new(), &args.order, Some("ROLE"))?;
    if ctx.json {
        return ctx.answer(&ordered.json(json!({ "token": token.id, "grant": grant })), || {});
    }
    let labels = Labels::of(&session)?;
    let head = bold(&format!("Roles of {}", token.symbol));
    ordered.tell(ctx, &session, &format!("{head}: {}.", grant_text(&grant, &labels)))
}

/// Prints what a token permits, and who may do what.
pub fn show_rules(session: &Session, token: &TokenView, labels: &Labels<'_>) {
    let lines = |policy: &Policy| {
        let money = |amount| labels.money(token.id, amount);
        policy_lines(policy, &money, &|id| session.wallet_label(id))
    };
    if let Some(freeze) = &token.frozen {
        let until =
            freeze.until_ms.map_or_else(String::new, |until| format!(" until {}", utc(until)));
        say!("  frozen          {} payments{until}", direction_text(freeze.direction));
    }
    let in_force = lines(&token.policy);
    if token.charter.is_plain() {
        say!("  policy          plain: nobody can freeze, reverse, limit or charge payments");
    } else {
        show_lines("policy", &in_force);
    }
    if token.charter != token.policy {
        let mut charter = without(&lines(&token.charter), &in_force);
        charter.insert(0, "a change of policy can go as far as this, and no further:".to_owned());
        show_lines("charter", &charter);
    }
    if let Some(coming) = &token.coming {
        let coming_lines = lines(&coming.policy);
        let mut changes = vec![format!("from {}:", utc(coming.from_ms))];
        changes.extend(without(&coming_lines, &in_force));
        let gone = without(&in_force, &coming_lines);
        changes.extend(gone.iter().map(|line| format!("no longer: {line}")));
        show_lines("coming", &changes);
    }
    let others: Vec<_> = token
        .authorities
        .iter()
        .filter(|one| one.threshold > 1 || one.holders != [token.issuer])
        .collect();
    for (position, one) in others.iter().enumerate() {
        let title = if position == 0 { "roles" } else { "" };
        let holders = holders_text(&one.holders, one.threshold, labels);
        say!("  {title:<14}  {} {holders}", one.role.name());
    }
    if others.is_empty() && !token.charter.is_plain() {
        say!("  roles           all held by the issuer");
    }
}

/// The lines that are not among the others.
fn without(lines: &[String], others: &[String]) -> Vec<String> {
    lines.iter().filter(|line| !others.contains(line)).cloned().collect()
}

fn show_lines(title: &str, lines: &[String]) {
    if lines.is_empty() {
        say!("  {title:<14}  plain");
    }
    for (position, line) in lines.iter().enumerate() {
        let title = if position == 0 { title } else { "" };
        say!("  {title:<14}  {line}");
    }
}
