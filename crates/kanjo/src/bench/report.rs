//! The figures, for people and as JSON.

use super::accounts::Shape;
use super::measure::Measure;
use crate::context::{Context, print_json};
use crate::fail::{Done, Fail, SILENT};
use crate::figures;
use crate::load::Outcome;
use crate::say;
use crate::text::{bold, dim, green, grouped, red};
use serde_json::{Map, Value, json};
use std::path::Path;
use std::time::Duration;

/// Everything measured.
pub struct Figures {
    /// Accounts through the ledger and payments signed.
    pub setup: Duration,
    /// Were the signed payments those of an earlier run?
    pub reused: bool,
    /// The load.
    pub outcome: Outcome,
    /// Seconds of processor time that this process, the load, used meanwhile.
    pub load_cpu: f64,
    /// The node before it.
    pub before: Measure,
    /// The node after it.
    pub after: Measure,
    /// What the receivers hold together.
    pub received: u128,
    /// How long the node took to stop.
    pub stop: Duration,
}

impl Figures {
    fn cpu_us(&self) -> Vec<(String, f64)> {
        let payments = self.outcome.payments;
        let mut list: Vec<(String, f64)> = self
            .after
            .stages_since(&self.before)
            .into_iter()
            .map(|(stage, seconds)| (stage, figures::us_each(seconds, payments)))
            .collect();
        let total = figures::increase(self.before.cpu, self.after.cpu);
        list.push(("total".to_owned(), figures::us_each(total, payments)));
        list
    }

    fn bytes_per_payment(&self) -> u64 {
        let bytes = figures::increase(self.before.log_bytes, self.after.log_bytes);
        figures::ratio(bytes, self.outcome.payments)
    }

    /// Shows the figures; fails when the sum is wrong.
    pub fn show(
        &self,
        ctx: &Context,
        shape: &Shape,
        connections: u64,
        data: Option<&Path>,
    ) -> Done {
        let sum_ok = self.received == shape.sum();
        let all_paid = self.outcome.failed == 0 && self.outcome.payments == shape.payments;
        if ctx.json {
            print_json(&self.to_json(shape, connections, sum_ok));
        } else {
            self.print(shape, connections, sum_ok, data);
        }
        if sum_ok && all_paid {
            return Ok(());
        }
        let why = self.outcome.first_failure.clone().unwrap_or_default();
        let message = format!(
            "{} of {} payments were done, {} received of {}; {why}",
            grouped(self.outcome.payments),
            grouped(shape.payments),
            grouped(self.received),
            grouped(shape.sum())
        );
        Err(Fail::new(if ctx.json { SILENT } else { "bench" }, message))
    }

    fn to_json(&self, shape: &Shape, connections: u64, sum_ok: bool) -> Value {
        let outcome = &self.outcome;
        let cpu: Map<String, Value> =
            self.cpu_us().into_iter().map(|(stage, us)| (stage, json!(us))).collect();
        let blocks = figures::increase(self.before.blocks, self.after.blocks);
        json!({
            "accounts": shape.accounts,
            "payments": outcome.payments,
            "failed": outcome.failed,
            "batch": shape.legs,
            "signatures": if shape.legs.is_some() { "one for each batch, by the operator" }
                else { "one for each payment, by its account's key" },
            "connections": connections,
            "payments_per_request": shape.frame.max(shape.legs.unwrap_or(0)),
            "receivers": shape.receivers,
            "seconds": figures::seconds(outcome.elapsed),
            "payments_per_second": figures::per_second(outcome.payments, outcome.elapsed),
            "latency_ms": {
                "p50": figures::ms_of_us(outcome.latency_at(0.50)),
                "p99": figures::ms_of_us(outcome.latency_at(0.99)),
            },
            "cpu_us_per_payment": cpu,
            "load_process_cpu_us_per_payment": figures::us_each(self.load_cpu, outcome.payments),
            "bytes_per_payment": self.bytes_per_payment(),
            "blocks": blocks as u64,
            "rss_bytes": self.after.rss_bytes,
            "received": self.received.to_string(),
            "expected": shape.sum().to_string(),
            "sum_ok": sum_ok,
            "setup": {
                "seconds": figures::seconds(self.setup),
                "accounts_per_second": figures::per_second(shape.accounts, self.setup),
                "payments_signed_before": true,
                "payments_from_file": self.reused,
            },
            "stop_seconds": figures::seconds(self.stop),
        })
    }

    fn print(&self, shape: &Shape, connections: u64, sum_ok: bool, data: Option<&Path>) {
        let outcome = &self.outcome;
        let rate = grouped(figures::per_second(outcome.payments, outcome.elapsed));
        say!();
        say!("  {}", bold(&format!("{rate} payments a second")));
        say!();
        let signed = match shape.legs {
            None => "each with its own account's signature".to_owned(),
            Some(legs) => format!(
                "in batches of {}, one signature each, all accounts owned by the operator",
                grouped(legs)
            ),
        };
        fact("payments", &format!("{}, {signed}", grouped(outcome.payments)));
        fact("accounts", &format!("{} with balances 1 … N", grouped(shape.accounts)));
        let load = format!(
            "{connections} connections, about {} payments a request, {} s",
            grouped(shape.frame.max(shape.legs.unwrap_or(0))),
            figures::seconds(outcome.elapsed)
        );
        fact("load", &load);
        let ms = |quantile| figures::ms_of_us(outcome.latency_at(quantile));
        fact("latency", &format!("p50 {} ms, p99 {} ms, sent to final", ms(0.50), ms(0.99)));
        let cpu: Vec<String> =
            self.cpu_us().iter().map(|(stage, us)| format!("{stage} {us}")).collect();
        fact("node CPU", &format!("µs a payment: {}", cpu.join(", ")));
        let load_cpu = figures::us_each(self.load_cpu, outcome.payments);
        fact("load CPU", &format!("{load_cpu} µs a payment, on the same cores"));
        fact("log", &format!("{} bytes a payment", grouped(self.bytes_per_payment())));
        fact("memory", &format!("{} resident", figures::bytes(self.after.rss_bytes)));
        let signing = if self.reused { "payments from the file" } else { "payments signed" };
        let setup = format!(
            "{} s for accounts made and {signing}, before the clock started",
            figures::seconds(self.setup)
        );
        fact("setup", &setup);
        let sum = format!(
            "{} received, 1 + 2 + … + {} = {}",
            grouped(self.received),
            grouped(shape.payments),
            grouped(shape.sum())
        );
        fact("sum", &format!("{} {sum}", if sum_ok { green("✓") } else { red("✗") }));
        if let Some(data) = data {
            fact("data", &format!("{} (check it: kanjo verify)", data.display()));
        }
        say!();
    }
}

fn fact(title: &str, text: &str) {
    say!("  {} {text}", dim(&format!("{title:<10}")));
}
