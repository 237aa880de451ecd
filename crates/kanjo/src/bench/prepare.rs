//! Before the clock starts: accounts through the ledger, payments signed. After it: what was
//! received.

use super::accounts::{Bench, Chunk};
use super::file::{self, PaymentFile, Writer};
use crate::fail::{Done, Fail};
use crate::load::{Ready, Source, on_all_cores};
use indicatif::ProgressBar;
use kanjo_api::SubmitOutcome;
use kanjo_client::Client;
use std::path::Path;

/// Payments ready to be sent.
pub struct Prepared {
    /// Where they are.
    pub requests: Box<dyn Source>,
    /// Were they signed in an earlier run?
    pub reused: bool,
}

/// Ready requests kept in memory.
struct InMemory(Vec<Ready>);

impl Source for InMemory {
    fn request(&self, position: usize) -> Done<Option<crate::load::Request<'_>>> {
        self.0.as_slice().request(position)
    }
}

/// Creates all accounts and signs all payments, on all cores.
pub fn run(
    bench: &Bench,
    client: &Client,
    file: Option<&Path>,
    bar: &ProgressBar,
) -> Done<Prepared> {
    submit(client, &bench.receivers())?;
    let kept = file.map(|path| PaymentFile::open(path, bench)).transpose()?.flatten();
    let writer = match (file, &kept) {
        (Some(path), None) => Some(Writer::create(path, bench)?),
        _ => None,
    };
    let sign = kept.is_none();
    let count = usize::try_from(bench.shape.chunks()).map_err(|e| Fail::new("bench", e))?;
    let made = on_all_cores(count, |position| {
        let Chunk { setup, payments, accounts } = bench.chunk(position as u64, sign)?;
        submit(client, &setup)?;
        bar.inc(accounts);
        match &writer {
            Some(writer) => writer.append(&payments).map(|()| Vec::new()),
            None => Ok(payments),
        }
    })?;
    let requests: Box<dyn Source> = match (kept, writer, file) {
        (Some(kept), _, _) => return Ok(Prepared { requests: Box::new(kept), reused: true }),
        (None, Some(writer), Some(path)) => {
            writer.finish()?;
            Box::new(PaymentFile::open(path, bench)?.ok_or_else(|| file::damaged(path))?)
        }
        _ => Box::new(InMemory(made.into_iter().flatten().collect())),
    };
    Ok(Prepared { requests, reused: false })
}

fn submit(client: &Client, frame: &[u8]) -> Done {
    let answer = client.submit_frames(frame)?;
    let failed = answer.outcomes.iter().find(
        |outcome| !matches!(outcome, SubmitOutcome::Recorded { result, .. } if result.is_ok()),
    );
    failed.map_or(Ok(()), |outcome| Err(Fail::new("setup", format!("setup failed: {outcome:?}"))))
}

/// What all receivers hold together.
pub fn received(bench: &Bench, client: &Client) -> Done<u128> {
    let count = usize::try_from(bench.shape.receivers).map_err(|e| Fail::new("bench", e))?;
    let held = on_all_cores(count, |position| {
        let view = client.wallet(bench.receiver(position as u64))?;
        Ok(view.balances.iter().fold(0u128, |sum, held| sum.saturating_add(held.balance.0)))
    })?;
    Ok(held.into_iter().fold(0u128, u128::saturating_add))
}
