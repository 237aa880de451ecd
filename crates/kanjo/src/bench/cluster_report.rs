//! The figures of a cluster, for people and as JSON.

use super::accounts::Shape;
use super::members::Used;
use crate::context::{Context, print_json};
use crate::fail::{Done, Fail, SILENT};
use crate::figures;
use crate::load::Outcome;
use crate::say;
use crate::text::{bold, dim, green, grouped, red};
use kanjo_api::cluster::TableRoots;
use serde_json::{Value, json};
use std::time::Duration;

/// One phase.
pub struct PhaseFigures {
    /// For people.
    pub title: String,
    /// Payments per second that were sent; as many as were answered when `None`.
    pub rate: Option<u64>,
    /// What came of it.
    pub phase: Outcome,
    /// Processor time by member.
    pub used: Vec<Used>,
    /// Processor time of this process, the load.
    pub load: f64,
    /// Energy of the whole machine, where it can be read.
    pub microjoules: Option<u64>,
}

/// Everything measured.
pub struct Figures {
    /// Nodes that execute.
    pub nodes: u64,
    /// Witnesses.
    pub witnesses: u64,
    /// Did all payments go to one node?
    pub all_to_one: bool,
    /// Names of the members.
    pub names: Vec<String>,
    /// Who led at the end.
    pub leader: String,
    /// Accounts through the ledger and payments signed.
    pub setup: Duration,
    /// In their order.
    pub phases: Vec<PhaseFigures>,
    /// What the receivers hold together, as each node says.
    pub received: Vec<u128>,
    /// Roots of all tables, the same on all nodes.
    pub tables: TableRoots,
}

impl PhaseFigures {
    fn sum(&self, part: impl Fn(&Used) -> f64) -> f64 {
        self.used.iter().map(part).sum()
    }

    /// Microseconds for a payment, of all members.
    fn us(&self, part: impl Fn(&Used) -> f64) -> f64 {
        figures::us_each(self.sum(part), self.phase.payments)
    }

    /// Seconds of processor time for a million payments: as many as microseconds for one.
    fn total_us(&self) -> f64 {
        self.us(|used| figures::sum(used.node, used.sentinel))
    }

    fn ms(&self, quantile: f64) -> f64 {
        figures::ms_of_us(self.phase.latency_at(quantile))
    }

    fn to_json(&self, names: &[String]) -> Value {
        let phase = &self.phase;
        let payments = phase.payments;
        let us = |seconds| figures::us_each(seconds, payments);
        let member = |(name, used): (&String, &Used)| {
            json!({ "name": name, "node": us(used.node), "of_it_certificates": us(used.certificate),
                "sentinel": us(used.sentinel) })
        };
        let total = self.sum(|used| figures::sum(used.node, used.sentinel));
        let certificates = self.sum(|used| used.certificate);
        let sentinels = self.sum(|used| used.sentinel);
        json!({
            "phase": self.title,
            "rate": self.rate,
            "payments": payments,
            "failed": phase.failed,
            "first_failure": phase.first_failure,
            "seconds": figures::seconds(phase.elapsed),
            "payments_per_second": figures::per_second(payments, phase.elapsed),
            "finality_ms": { "p50": self.ms(0.50), "p99": self.ms(0.99) },
            "cpu_us_per_payment": {
                "members": names.iter().zip(&self.used).map(member).collect::<Vec<_>>(),
                "all": self.total_us(),
                "load_process": us(self.load),
            },
            "share_percent": {
                "certificates": figures::percent(certificates, total),
                "sentinels": figures::percent(sentinels, total),
            },
            "cpu_seconds_per_million_payments": self.total_us(),
            "joules_per_million_payments": self.microjoules
                .map(|energy| figures::ratio_of(energy, payments)),
        })
    }
}

impl Figures {
    /// Shows the figures; fails when sums are wrong.
    pub fn show(&self, ctx: &Context, shape: &Shape) -> Done {
        let sum_ok = self.received.iter().all(|received| *received == shape.sum());
        let payments: u64 = self.phases.iter().map(|phase| phase.phase.payments).sum();
        if ctx.json {
            print_json(&self.to_json(shape, sum_ok));
        } else {
            self.print(shape, sum_ok);
        }
        if sum_ok && payments == shape.payments {
            return Ok(());
        }
        let failures = self.phases.iter().find_map(|phase| phase.phase.first_failure.clone());
        let message = format!(
            "{} of {} payments were done; {}",
            grouped(payments),
            grouped(shape.payments),
            failures.unwrap_or_default()
        );
        Err(Fail::new(if ctx.json { SILENT } else { "bench" }, message))
    }

    fn to_json(&self, shape: &Shape, sum_ok: bool) -> Value {
        let received: Vec<String> = self.received.iter().map(ToString::to_string).collect();
        json!({
            "nodes": self.nodes,
            "witnesses": self.witnesses,
            "load": if self.all_to_one { "all to one node" } else { "spread over all nodes" },
            "leader": self.leader,
            "accounts": shape.accounts,
            "setup_seconds": figures::seconds(self.setup),
            "phases": self.phases.iter().map(|p| p.to_json(&self.names)).collect::<Vec<_>>(),
            "received": received,
            "expected": shape.sum().to_string(),
            "sum_ok": sum_ok,
            "tables_identical": true,
            "height": self.tables.height,
            "state_root": self.tables.state_root,
            "energy": if self.phases.iter().any(|phase| phase.microjoules.is_some()) {
                "RAPL, the whole machine, the load included"
            } else {
                "not readable here: CPU-seconds only"
            },
        })
    }

    fn print(&self, shape: &Shape, sum_ok: bool) {
        let witnesses = match self.witnesses {
            0 => String::new(),
            count => format!(", {count} witnesses"),
        };
        let load = if self.all_to_one { "all to one node" } else { "spread over all" };
        say!();
        say!("  {}", bold(&format!("{} nodes{witnesses}, {load}", self.nodes)));
        say!();
        say!(
            "  {}",
            dim("sent          payments/s   p50 ms   p99 ms   CPU µs   certif.  sentinels")
        );
        for one in &self.phases {
            let rate = grouped(figures::per_second(one.phase.payments, one.phase.elapsed));
            say!(
                "  {:<13} {:>10} {:>8} {:>8} {:>8} {:>9} {:>10}",
                one.title,
                rate,
                one.ms(0.50),
                one.ms(0.99),
                one.total_us(),
                one.us(|used| used.certificate),
                one.us(|used| used.sentinel)
            );
        }
        say!();
        say!(
            "  {}",
            dim(
                "time to finality from when a payment was due; CPU of all nodes and sentinels a payment,"
            )
        );
        say!(
            "  {}",
            dim("and of it for votes and certificates, and of the sentinels (proof of integrity)")
        );
        say!();
        if let Some(last) = self.phases.last() {
            self.print_members(last);
        }
        let sum = format!(
            "{} received as every node says, 1 + 2 + … + {} = {}",
            grouped(self.received.first().copied().unwrap_or_default()),
            grouped(shape.payments),
            grouped(shape.sum())
        );
        fact("sum", &format!("{} {sum}", if sum_ok { green("✓") } else { red("✗") }));
        let (height, root) = (grouped(self.tables.height), self.tables.state_root);
        fact("tables", &format!("{} identical at height {height}: {root}", green("✓")));
        fact(
            "setup",
            &format!("{} s for accounts and signatures before", figures::seconds(self.setup)),
        );
        say!();
    }

    fn print_members(&self, last: &PhaseFigures) {
        let payments = last.phase.payments;
        let us = |seconds| figures::us_each(seconds, payments);
        for (name, used) in self.names.iter().zip(&last.used) {
            let leads = if *name == self.leader { " (leads)" } else { "" };
            let text = format!(
                "{} µs a payment at the maximum, its sentinel {}{leads}",
                us(used.node),
                us(used.sentinel)
            );
            fact(name, &text);
        }
        fact("load", &format!("{} µs a payment, on the same cores", us(last.load)));
        fact(
            "energy",
            &match last.microjoules {
                Some(energy) => format!(
                    "{} CPU-seconds, {} J a million payments (the whole machine, the load included)",
                    last.total_us(),
                    figures::ratio_of(energy, payments)
                ),
                None => format!(
                    "{} CPU-seconds a million payments; joules can't be read here",
                    last.total_us()
                ),
            },
        );
    }
}

fn fact(title: &str, text: &str) {
    say!("  {} {text}", dim(&format!("{title:<10}")));
}
