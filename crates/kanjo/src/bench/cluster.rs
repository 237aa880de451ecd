//! `kanjo bench emoney --nodes N`: the experiment on a cluster, at several rates.
//!
//! ```text
//!  this process                              node 1 ◀─▶ node 2 ◀─▶ node 3   each with its sentinel
//!  1 accounts, payments signed ────────────▶ creates, issues
//!  2 one payment at a time   ──────────────▶ time to finality without load
//!  3 at each rate, spread over all nodes ──▶ time to finality, CPU by process
//!  4 the rest as fast as answers come ─────▶ payments per second
//!  5 what was received, on every node; roots of all tables, node by node
//! ```

use super::accounts::{self, Shape};
use super::cluster_report::{Figures, PhaseFigures};
use super::energy::Energy;
use super::members::{Members, Used};
use super::paced::Payments;
use super::prepare::{self, Prepared};
use super::{EmoneyArgs, bar};
use crate::context::Context;
use crate::fail::{Done, Fail};
use crate::load::{self, Pace, Sending};
use kanjo_client::{Client, Limits};
use std::path::Path;
use std::time::{Duration, Instant};

/// Payments one at a time.
const IDLE_PAYMENTS: u64 = 200;
/// Seconds at each rate.
const SECONDS_EACH: u64 = 5;
/// Requests per second at a rate: payments that are due together go together.
const REQUESTS_PER_SECOND: u64 = 200;
/// Connections while the rate is given: enough that none waits for another.
const PACED_CONNECTIONS: usize = 64;
/// Rates unless they are given.
const RATES: [u64; 3] = [1_000, 5_000, 10_000];

/// A measured cluster.
struct Trial<'a> {
    members: &'a Members,
    clients: Vec<Client>,
    payments: Payments,
    phases: Vec<PhaseFigures>,
}

/// Runs the experiment on a cluster of `nodes`.
pub fn run(ctx: &Context, args: &EmoneyArgs, shape: &Shape, dir: &Path, nodes: u64) -> Done {
    if shape.legs.is_some() || args.file.is_some() || shape.payments != shape.accounts {
        return Err(Fail::usage("--nodes does not go with --batch, --file or --payments"));
    }
    let rates = if args.rates.is_empty() { RATES.to_vec() } else { args.rates.clone() };
    let paced = rates.iter().map(|rate| rate.saturating_mul(SECONDS_EACH));
    let needed = paced.fold(IDLE_PAYMENTS, u64::saturating_add);
    if needed >= shape.payments {
        return Err(Fail::usage(format!(
            "these rates take {needed} payments in {SECONDS_EACH} seconds each, and some must be \
             left for the maximum: give more --accounts"
        )));
    }
    let operator = accounts::operator()?;
    let plan = accounts::plan(&operator)?;
    let limits = Limits { submit: Duration::from_secs(600), ..Limits::default() };
    let sentinel = args.sentinel.as_ref();
    let (members, genesis) = Members::start(plan, dir, nodes, args.witnesses, sentinel, limits)?;
    let bench = accounts::Bench::new(&genesis, operator, shape)?;
    let all = members.executors();
    let first = all.first().cloned().ok_or_else(|| Fail::usage("a cluster has nodes"))?;

    let start = Instant::now();
    let bar = bar(ctx, "Accounts", shape.accounts);
    let prepared = prepare::run(&bench, &first, None, &bar);
    bar.finish_and_clear();
    let Prepared { requests, .. } = prepared?;
    let setup = start.elapsed();

    let clients = if args.all_to_one { vec![first] } else { all.clone() };
    let payments = Payments::new(requests);
    let mut trial = Trial { members: &members, clients, payments, phases: Vec::new() };
    trial.phase("one at a time", IDLE_PAYMENTS, 1, 1, None)?;
    for rate in rates {
        let each = rate.div_ceil(REQUESTS_PER_SECOND);
        let count = rate.saturating_mul(SECONDS_EACH);
        let title = format!("{rate}/s");
        trial.phase(&title, count, each, PACED_CONNECTIONS, Some(rate))?;
    }
    let connections = usize::try_from(args.connections).unwrap_or(1);
    trial.phase("maximum", u64::MAX, shape.frame, connections, None)?;

    let phases = trial.phases;
    // First, for it waits until all nodes are equally far.
    let tables = members.compare()?;
    let mut received = Vec::new();
    for client in &all {
        received.push(prepare::received(&bench, client)?);
    }
    let (names, leader) = (members.names(), members.leader()?);
    members.stop()?;
    let figures = Figures {
        nodes,
        witnesses: args.witnesses,
        all_to_one: args.all_to_one,
        names,
        leader,
        setup,
        phases,
        received,
        tables,
    };
    figures.show(ctx, shape)
}

impl Trial<'_> {
    fn phase(
        &mut self,
        title: &str,
        count: u64,
        each: u64,
        connections: usize,
        rate: Option<u64>,
    ) -> Done {
        let requests = self.payments.take(count, each)?;
        let (before, energy) = (self.members.used()?, Energy::take());
        let load = super::measure::own_cpu();
        let pace = rate.map(|rate| Pace { rate, each });
        let sending = Sending { clients: &self.clients, connections, pace };
        let phase = load::run(&sending, requests.as_slice(), &|_| {})?;
        let load = crate::figures::increase(load, super::measure::own_cpu());
        let after = self.members.used()?;
        let energy = energy.zip(Energy::take());
        let used = before.iter().zip(&after).map(|(before, after)| difference(before, after));
        self.phases.push(PhaseFigures {
            title: title.to_owned(),
            rate,
            phase,
            used: used.collect(),
            load,
            microjoules: energy.map(|(before, after)| after.microjoules_since(&before)),
        });
        Ok(())
    }
}

fn difference(before: &Used, after: &Used) -> Used {
    let increase = crate::figures::increase;
    Used {
        node: increase(before.node, after.node),
        certificate: increase(before.certificate, after.certificate),
        sentinel: increase(before.sentinel, after.sentinel),
    }
}
