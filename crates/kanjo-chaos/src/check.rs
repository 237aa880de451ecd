//! What must hold once all faults are over.

use crate::Trouble;
use crate::cluster::Cluster;
use crate::load::{Accounts, FIRST_BALANCE, Paid, Place, Seen, TOKEN, Told};
use kanjo_client::{Client, ClientError, Limits, Page};
use kanjo_types::{Hash, ResultCode, TransactionId, WalletId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Findings of one kind that are written out; the others are counted.
const SHOWN_MAX: usize = 5;
/// Threads that look up payments at one node.
const THREADS: usize = 2;

/// Findings, shortened where there are many of one kind.
#[derive(Default)]
pub(crate) struct Findings {
    all: BTreeMap<&'static str, Vec<String>>,
}

impl Findings {
    pub(crate) fn add(&mut self, kind: &'static str, what: String) {
        self.all.entry(kind).or_default().push(what);
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (kind, what) in other.all {
            self.all.entry(kind).or_default().extend(what);
        }
    }

    pub(crate) fn lines(self) -> Vec<String> {
        let mut lines = Vec::new();
        for (kind, all) in self.all {
            let more = all.len().saturating_sub(SHOWN_MAX);
            lines.extend(all.into_iter().take(SHOWN_MAX).map(|what| format!("{kind}: {what}")));
            if more > 0 {
                lines.push(format!("{kind}: {more} more of this kind"));
            }
        }
        lines
    }
}

/// What the ledger says of a payment.
enum Found {
    At(Place),
    Nothing,
}

/// A node as one that is asked about the past.
struct Archive<'a> {
    name: &'a str,
    client: Client,
}

impl<'a> Archive<'a> {
    fn of(name: &'a str, api: &str) -> Result<Self, Trouble> {
        let limits = Limits { read: Duration::from_secs(10), ..Limits::default() };
        let client = Client::with_limits(api, limits);
        Ok(Self { name, client: client.map_err(|error| Trouble::new("client", error))? })
    }

    fn find(&self, id: TransactionId) -> Result<Found, ClientError> {
        match self.client.transaction(id) {
            Ok(view) => Ok(Found::At(Place {
                height: view.height,
                position: view.position,
                result: view.result,
            })),
            Err(error) if error.is_not_found() => Ok(Found::Nothing),
            Err(error) => Err(error),
        }
    }

    /// All payments as this node knows them, against what clients were told. Gives those that are
    /// in the ledger although their clients don't know.
    fn payments(&self, seen: &Seen) -> (Findings, BTreeMap<TransactionId, Place>) {
        let mut findings = Findings::default();
        let mut unknown = BTreeMap::new();
        let piece = seen.sent.len().div_ceil(THREADS).max(1);
        std::thread::scope(|scope| {
            let pieces = seen.sent.chunks(piece);
            let threads: Vec<_> =
                pieces.map(|sent| scope.spawn(move || self.some_payments(sent))).collect();
            for thread in threads {
                match thread.join() {
                    Ok((some, recorded)) => {
                        findings.merge(some);
                        unknown.extend(recorded);
                    }
                    Err(_) => findings.add("check", "a thread panicked".to_owned()),
                }
            }
        });
        (findings, unknown)
    }

    fn some_payments(
        &self,
        sent: &[crate::load::Sent],
    ) -> (Findings, BTreeMap<TransactionId, Place>) {
        let (mut findings, mut unknown) = (Findings::default(), BTreeMap::new());
        let name = self.name;
        for one in sent {
            let id = one.id;
            match (self.find(id), &one.told) {
                (Err(error), _) => findings.add("no answer", format!("{name}, {id}: {error}")),
                (Ok(Found::At(place)), Told::Recorded(told)) if place == *told => {}
                (Ok(Found::At(place)), Told::Recorded(told)) => {
                    let what = format!("{name}, {id}: {place:?}, the client was told {told:?}");
                    findings.add("acknowledged otherwise", what);
                }
                (Ok(Found::Nothing), Told::Recorded(told)) => {
                    let what = format!("{name} does not know {id}, acknowledged as {told:?}");
                    findings.add("ACKNOWLEDGED AND LOST", what);
                }
                (Ok(Found::At(place)), Told::Refused(code)) => {
                    unknown.insert(id, place);
                    let what = format!("{name}, {id}: {place:?}, the client was told '{code}'");
                    findings.add("refused and recorded", what);
                }
                (Ok(Found::At(place)), Told::Unknown(_)) => {
                    unknown.insert(id, place);
                }
                (Ok(Found::Nothing), Told::Refused(_) | Told::Unknown(_)) => {}
            }
        }
        (findings, unknown)
    }

    /// Hashes of all blocks up to a height, oldest first.
    fn history(&self, to: u64) -> Result<Vec<Hash>, ClientError> {
        let mut hashes = Vec::new();
        let mut before = Some(to.saturating_add(1));
        while before.is_some() {
            let page = self.client.blocks(Page { before, limit: Some(1_000) })?;
            hashes.extend(page.blocks.iter().map(|block| block.hash));
            before = page.next_before;
        }
        hashes.reverse();
        Ok(hashes)
    }
}

/// What must be so at the end.
struct Expected {
    balances: BTreeMap<WalletId, u128>,
    payments: BTreeSet<TransactionId>,
}

impl Expected {
    fn new(accounts: &Accounts) -> Self {
        let balances = accounts.wallets().map(|wallet| (wallet, FIRST_BALANCE)).collect();
        Self { balances, payments: BTreeSet::new() }
    }

    fn take(&mut self, id: TransactionId, paid: &Paid, result: ResultCode) {
        let is_new = self.payments.insert(id);
        if !is_new || result != ResultCode::Ok {
            return;
        }
        for (from, to, amount) in paid.iter() {
            let change = |held: &u128, less: u128, more: u128| {
                held.saturating_sub(less).saturating_add(more)
            };
            if let Some(held) = self.balances.get_mut(from) {
                *held = change(held, *amount, 0);
            }
            if let Some(held) = self.balances.get_mut(to) {
                *held = change(held, 0, *amount);
            }
        }
    }
}

/// Figures of the check.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checked {
    pub(crate) height: u64,
    pub(crate) unknown_recorded: u64,
}

/// Compares everything that was told with what all executors hold.
pub(crate) fn check(
    cluster: &Cluster,
    accounts: &Accounts,
    seen: &Seen,
    findings: &mut Findings,
) -> Result<Checked, Trouble> {
    let executors: Vec<_> = cluster.nodes.iter().filter(|node| node.executes).collect();
    let height = cluster.heights().into_iter().flatten().min().unwrap_or(0);
    let mut recorded: Option<BTreeMap<TransactionId, Place>> = None;
    let mut history: Option<Vec<Hash>> = None;
    for node in &executors {
        let archive = Archive::of(&node.name, &node.api)?;
        wait_for_index(&archive, seen);
        let (found, unknown) = archive.payments(seen);
        findings.merge(found);
        if recorded.get_or_insert_with(|| unknown.clone()) != &unknown {
            findings.add("replicas differ", format!("{} in payments of unknown fate", node.name));
        }
        let own = archive.history(height).map_err(|error| Trouble::new("blocks", error))?;
        if own.len() as u64 != height + 1 {
            let what = format!("{} lists {} blocks up to {height}", node.name, own.len());
            findings.add("history", what);
        }
        if history.get_or_insert_with(|| own.clone()) != &own {
            findings.add("TWO HISTORIES", format!("{} has other blocks", node.name));
        }
    }
    let recorded = recorded.unwrap_or_default();
    let mut expected = Expected::new(accounts);
    for one in &seen.sent {
        let place = match &one.told {
            Told::Recorded(place) => Some(place),
            Told::Refused(_) | Told::Unknown(_) => recorded.get(&one.id),
        };
        if let Some(place) = place {
            expected.take(one.id, &one.paid, place.result);
        }
    }
    for node in &executors {
        balances(&Archive::of(&node.name, &node.api)?, &expected, findings);
    }
    if let Some(node) = executors.first() {
        once(&Archive::of(&node.name, &node.api)?, height, &expected, findings);
    }
    Ok(Checked { height, unknown_recorded: recorded.len() as u64 })
}

/// The index is written behind finality: a look-up may be early by a moment.
fn wait_for_index(archive: &Archive<'_>, seen: &Seen) {
    let highest = seen.sent.iter().filter_map(|one| match &one.told {
        Told::Recorded(place) => Some((place.height, one.id)),
        _ => None,
    });
    let Some((_, newest)) = highest.max() else { return };
    let give_up_at = Instant::now() + Duration::from_secs(10);
    while Instant::now() < give_up_at && !matches!(archive.find(newest), Ok(Found::At(_))) {
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn balances(archive: &Archive<'_>, expected: &Expected, findings: &mut Findings) {
    let name = archive.name;
    let mut sum = 0u128;
    for (wallet, held) in &expected.balances {
        match archive.client.wallet(*wallet) {
            Ok(view) => {
                let balance = view.balances.iter().find(|balance| balance.token == TOKEN);
                let balance = balance.map_or(0, |balance| balance.balance.0);
                sum = sum.saturating_add(balance);
                if balance != *held {
                    let what = format!("{name}, {wallet}: {balance}, by the answers {held}");
                    findings.add("BALANCE", what);
                }
            }
            Err(error) => findings.add("no answer", format!("{name}, {wallet}: {error}")),
        }
    }
    let all = FIRST_BALANCE.saturating_mul(expected.balances.len() as u128);
    if sum != all {
        findings.add("SUM", format!("{name} holds {sum} in all wallets, {all} were paid in"));
    }
}

/// Every payment is in the blocks once, and no payment that nobody sent.
fn once(archive: &Archive<'_>, height: u64, expected: &Expected, findings: &mut Findings) {
    let mut met = BTreeSet::new();
    for height in 1..=height {
        match archive.client.block(height) {
            Ok(block) => {
                for id in block.transactions {
                    if !met.insert(id) {
                        findings.add("TWICE", format!("{id}, again at height {height}"));
                    }
                }
            }
            Err(error) => findings.add("no answer", format!("block {height}: {error}")),
        }
    }
    let lost = expected.payments.difference(&met).count();
    if lost > 0 {
        findings.add("ACKNOWLEDGED AND LOST", format!("{lost} payments are in no block"));
    }
}
