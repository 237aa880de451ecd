//! `kanjo verify`: recompute a whole ledger from its genesis, offline.

use crate::context::Context;
use crate::fail::{Done, Fail};
use crate::figures;
use crate::say;
use crate::text::{bold, dim, green, grouped, red};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use kanjo_node::audit::{self, AuditError, Finding, Report};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Instant;

/// Options of `kanjo verify`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kanjo verify --data ./kanjo-dev\n\n\
    Recomputes every hash, link, signature, execution, tree and supply from the genesis on, and\n\
    names the first record that is wrong. Opens the log as a start does: an unfinished write at its\n\
    end is cut off, nothing else is changed. Exit code 0 when all is right, 1 when not.")]
pub struct VerifyArgs {
    /// Data directory of the node.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

/// Runs `kanjo verify`.
pub fn verify(ctx: &Context, args: &VerifyArgs) -> Done {
    let bar = if ctx.json { ProgressBar::hidden() } else { bar() };
    let start = Instant::now();
    let report = audit::verify(&args.data, &mut |progress| {
        bar.set_length(progress.blocks_total);
        bar.set_position(progress.blocks_done);
        let transactions = grouped(progress.transactions);
        bar.set_message(format!("{}, {transactions} transactions", progress.phase));
    });
    bar.finish_and_clear();
    let report = report.map_err(|error| match error {
        AuditError::Data(error) => Fail::new("verify", error)
            .next("give the data directory of a node: kanjo verify --data DIR"),
        AuditError::Log(error) => Fail::new("verify", error)
            .next("stop the node that runs on it (Ctrl-C there), then verify again"),
    })?;
    if ctx.json {
        crate::context::print_json(&report_json(&report));
    }
    let took = figures::seconds(start.elapsed());
    let counts = format!(
        "{} blocks, {} transactions, {took} s",
        grouped(report.blocks),
        grouped(report.transactions)
    );
    match &report.first_error {
        None if report.ok => {
            if !ctx.json {
                say!("{} {}", green("✓"), bold("Everything is as the genesis says."));
                say!("  {}", dim(&counts));
                say!("  chain   {}", report.chain);
                if let Some(header) = report.header_hash {
                    say!("  header  {header}");
                }
                say!(
                    "  {}",
                    dim("Compare both with what you got from elsewhere, as from 'kanjo status'.")
                );
            }
            Ok(())
        }
        finding => {
            if !ctx.json {
                say!("{} {}", red("✗"), bold("This ledger is not what it should be."));
                say!("  checked  {counts}");
            }
            Err(wrong(finding.as_ref(), ctx.json))
        }
    }
}

/// In JSON the report has said everything; the failure only sets the exit code.
fn wrong(finding: Option<&Finding>, silent: bool) -> Fail {
    let text = finding.map_or_else(|| "something is wrong".to_owned(), place);
    let fail = Fail::new(if silent { crate::fail::SILENT } else { "ledger_wrong" }, text);
    fail.next("don't run the node on this data; restore a copy and verify that")
}

fn place(finding: &Finding) -> String {
    let height = finding.height.map(|height| format!("block {height}"));
    let position = finding.position.map(|position| format!("transaction {position}"));
    let place: Vec<String> = height.into_iter().chain(position).collect();
    let place = if place.is_empty() { String::new() } else { format!("{}, ", place.join(", ")) };
    format!("first error: {place}{}: {}", finding.record, finding.problem)
}

fn report_json(report: &Report) -> Value {
    let first_error = report.first_error.as_ref().map(|finding| {
        json!({
            "height": finding.height,
            "position": finding.position,
            "record": finding.record,
            "problem": finding.problem,
        })
    });
    json!({
        "blocks": report.blocks,
        "transactions": report.transactions,
        "ok": report.ok,
        "first_error": first_error,
        "chain": report.chain,
        "header_hash": report.header_hash,
    })
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("  {bar:32} {pos}/{len} blocks  {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style.progress_chars("█▉▊▋▌▍▎▏ "))
}
