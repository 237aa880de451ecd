//! What the demo shows. Silent with `--json`.

use super::world::{TOKENS, World};
use crate::commands::history_lines;
use crate::figures;
use crate::load::{Outcome, cores};
use crate::say;
use crate::text::{bold, dim, green, grouped, red, short};
use indicatif::{ProgressBar, ProgressStyle};
use kanjo_api::{HistoryPage, TokenView};
use kanjo_node::RunningNode;
use kanjo_types::WalletId;
use std::time::Duration;

/// The screen of the demo.
pub struct Screen {
    silent: bool,
}

/// A long reason on one line.
pub fn clipped(text: &str) -> String {
    crate::text::clipped(text, 88)
}

impl Screen {
    /// A screen, or none.
    pub fn new(silent: bool) -> Self {
        Self { silent }
    }

    fn fact(&self, title: &str, text: &str, aside: &str) {
        if !self.silent {
            say!("  {title:<9} {text}  {}", dim(aside));
        }
    }

    /// A section.
    pub fn heading(&self, text: &str) {
        if !self.silent {
            say!();
            say!("  {}", bold(text));
            say!();
        }
    }

    /// The first lines.
    pub fn title(&self) {
        if !self.silent {
            say!();
            say!("  {}  {}", bold("kanjo"), dim("a relational ledger for digital money"));
            say!();
        }
    }

    /// The node runs.
    pub fn ledger(&self, node: &RunningNode) {
        let text = format!("one node on {}, in a temporary directory", node.address());
        self.fact("Ledger", &text, &format!("chain {}", short(&node.chain())));
    }

    /// Everybody is there.
    pub fn created(&self, world: &World, took: Duration) {
        let tokens = TOKENS.map(|token| token.symbol).join(" and ");
        let people = grouped(world.people.len() as u64);
        let text = format!("{people} users, a wallet each, tokens {tokens}");
        self.fact("Created", &text, &format!("{} s", figures::seconds(took)));
    }

    /// The payments are signed.
    pub fn signed(&self, payments: u64, took: Duration) {
        let text = format!(
            "{} payments, each by its payer's key, before the clock starts",
            grouped(payments)
        );
        let aside = format!("{} s on {} cores", figures::seconds(took), cores());
        self.fact("Signed", &text, &aside);
    }

    /// A bar for the payments.
    pub fn bar(&self, payments: u64) -> ProgressBar {
        if self.silent {
            return ProgressBar::hidden();
        }
        let template = "  Paying    {bar:40} {human_pos} of {human_len}  {per_sec}";
        let style = ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .with_key(
                "per_sec",
                |state: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
                    let rate = figures::per_second(state.pos(), state.elapsed());
                    // A progress bar that can't be drawn is no reason to stop.
                    let _ = write!(out, "{}/s", grouped(rate));
                },
            );
        ProgressBar::new(payments).with_style(style.progress_chars("━╸─"))
    }

    /// Rate and latency.
    pub fn result(&self, outcome: &Outcome, connections: usize, frame: usize) {
        if self.silent {
            return;
        }
        let rate = grouped(figures::per_second(outcome.payments, outcome.elapsed));
        let ms = |quantile| figures::ms_of_us(outcome.latency_at(quantile));
        let seconds = figures::seconds(outcome.elapsed);
        let paid = format!("{} payments, final and on disk", grouped(outcome.payments));
        self.fact("Paid", &paid, &format!("{seconds} s"));
        say!();
        say!("  {}", bold(&format!("{rate} payments a second")));
        say!("  p50 {} ms, p99 {} ms {}", ms(0.50), ms(0.99), dim("from sending to final"));
        let how = format!(
            "over HTTP on this machine, {connections} connections, {} payments in a request",
            grouped(frame as u64)
        );
        say!("  {}", dim(&how));
        if outcome.failed > 0 {
            say!("  {} {} payments failed", red("✗"), grouped(outcome.failed));
        }
    }

    /// One wallet's history.
    pub fn history(&self, wallet: WalletId, token: &TokenView, page: &HistoryPage, limit: usize) {
        if self.silent {
            return;
        }
        self.heading(&format!("One wallet's history, {}", token.symbol));
        say!("  {}", dim(&wallet.to_string()));
        history_lines(page, token, limit).print();
    }

    /// A check with its details.
    pub fn check(&self, good: bool, text: &str, details: &[String]) {
        if self.silent {
            return;
        }
        say!("  {} {text}", if good { green("✓") } else { red("✗") });
        for detail in details {
            say!("    {}", dim(detail));
        }
    }

    /// The last lines.
    pub fn goodbye(&self, program: &str) {
        if self.silent {
            return;
        }
        say!();
        say!(
            "  {} Next, a ledger of your own: {}",
            green("Everything holds."),
            bold(&format!("{program} dev"))
        );
        say!();
    }
}
