//! `kanjo block`: the explorer's table (mission C6) and single blocks.

use crate::context::Context;
use crate::fail::{Done, Fail};
use crate::say;
use crate::text::{Align, Table, bold, dim, group_digits, grouped, utc};
use clap::Subcommand;
use kanjo_api::{BlockSummary, TokenView};
use kanjo_client::Page;
use kanjo_types::block::TokenAmount;

/// Blocks: list, show.
#[derive(Debug, Subcommand)]
pub enum BlockCommand {
    /// Height, time, producer, transactions and fees of the newest blocks.
    #[command(after_help = "Example:\n  kanjo block list --limit 5")]
    List {
        /// How many.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        /// Only blocks before this height.
        #[arg(long, value_name = "HEIGHT")]
        before: Option<u64>,
    },
    /// One block: header, certificate, transactions.
    #[command(after_help = "Example:\n  kanjo block show 7")]
    Show {
        /// Height.
        height: u64,
    },
}

/// Runs `kanjo block`.
pub fn block(ctx: &Context, command: &BlockCommand) -> Done {
    match command {
        BlockCommand::List { limit, before } => list(ctx, usize::from(*limit), *before),
        BlockCommand::Show { height } => show(ctx, *height),
    }
}

fn list(ctx: &Context, limit: usize, before: Option<u64>) -> Done {
    let client = ctx.client()?;
    let page = client.blocks(Page { before, limit: Some(limit) })?;
    let with_fees = page.blocks.iter().any(|block| !block.fees.is_empty());
    let tokens = if with_fees { client.tokens()? } else { Vec::new() };
    ctx.answer(&page, || {
        table(&page.blocks, &tokens).print();
        if let Some(before) = page.next_before {
            say!();
            say!("{}", dim(&format!("Older: add --before {before}")));
        }
    })
}

fn table(blocks: &[BlockSummary], tokens: &[TokenView]) -> Table {
    let mut table = Table::new(&[
        ("height", Align::Right),
        ("time", Align::Left),
        ("producer", Align::Left),
        ("transactions", Align::Right),
        ("fees", Align::Right),
    ]);
    for block in blocks {
        table.row([
            grouped(block.height),
            utc(block.time_ms),
            block.producer_name.clone(),
            grouped(block.transactions),
            fees(&block.fees, tokens),
        ]);
    }
    table
}

fn fees(fees: &[TokenAmount], tokens: &[TokenView]) -> String {
    if fees.is_empty() {
        return "0".to_owned();
    }
    let shown = fees.iter().map(|fee| match tokens.iter().find(|token| token.id == fee.token) {
        Some(token) => {
            format!("{} {}", group_digits(&fee.amount.to_decimal(token.decimals)), token.symbol)
        }
        None => format!("{} of token {}", grouped(fee.amount.0), fee.token),
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// More transactions than this are counted, not listed.
const TRANSACTIONS_SHOWN_MAX: usize = 20;

fn show(ctx: &Context, height: u64) -> Done {
    let client = ctx.client()?;
    let view = client.block(height).map_err(|error| {
        if error.is_not_found() {
            Fail::new("unknown_block", format!("there is no block {height} yet"))
                .next("see the newest: kanjo block list --limit 1")
        } else {
            error.into()
        }
    })?;
    ctx.answer(&view, || {
        let header = &view.header;
        say!("Block {}", bold(&grouped(header.height)));
        say!("  hash          {}", view.hash);
        for parent in &header.parents {
            say!("  parent        {parent}");
        }
        say!("  time          {}", utc(header.time_ms));
        say!("  producer      voter {}", header.producer);
        say!("  state root    {}", header.state_root);
        let votes = view.certificate.votes.len();
        say!("  certificate   {votes} {}", if votes == 1 { "vote" } else { "votes" });
        say!("  transactions  {}", grouped(header.transactions));
        for id in view.transactions.iter().take(TRANSACTIONS_SHOWN_MAX) {
            say!("    {id}");
        }
        match view.transactions.len().saturating_sub(TRANSACTIONS_SHOWN_MAX) {
            0 => {}
            more => say!("    … and {} more", grouped(more as u64)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kanjo_types::{Amount, Hash, TokenId};

    #[test]
    fn the_table_has_the_columns_of_the_explorer() {
        let fees = vec![TokenAmount { token: TokenId(7), amount: Amount(1500) }];
        let block = |height, transactions, fees| BlockSummary {
            height,
            time_ms: 1_795_257_909_123,
            producer: 0,
            producer_name: "node-1".to_owned(),
            transactions,
            fees,
            hash: Hash::ZERO,
        };
        let lines = table(&[block(1_002, 8_192, fees), block(7, 1, Vec::new())], &[]).lines();
        assert_eq!(
            lines,
            [
                "height  time                      producer  transactions              fees",
                " 1,002  2026-11-21T10:45:09.123Z  node-1           8,192  1,500 of token 7",
                "     7  2026-11-21T10:45:09.123Z  node-1               1                 0",
            ]
        );
    }
}
