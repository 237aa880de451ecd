//! Listings of rows that concern a wallet, a user or a token.

use crate::context::{Context, Session};
use crate::fail::{Done, Fail};
use crate::say;
use crate::text::{Table as TextTable, dim};
use crate::typed::resolve_subject;
use clap::Args;
use kanjo_api::RecordPage;
use kanjo_client::Of;
use kanjo_types::record::{Record, RowKey, Table};

/// Whose rows, and which part of them.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Whom or what they concern: a wallet, a user or a token, by name, symbol or id.
    #[arg(value_name = "WALLET|USER|TOKEN")]
    pub subject: String,
    /// The name is a user's, where a wallet has the same.
    #[arg(long)]
    pub user: bool,
    /// How many.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=999))]
    pub limit: u16,
    /// Where the page before ended.
    #[arg(long, value_name = "CURSOR")]
    pub cursor: Option<String>,
}

/// A page of a table.
pub fn page(session: &Session, table: Table, args: &ListArgs) -> Done<RecordPage> {
    // Rows of these tables are found by their users only, whatever wallets have the same name.
    let user_first = args.user || matches!(table, Table::Bundles | Table::Attributes);
    let of = resolve_subject(session, &args.subject, user_first)?;
    check_kind(table, of)?;
    let limit = usize::from(args.limit);
    Ok(session.client.records(table, of, limit, args.cursor.as_deref())?)
}

/// What rows of a table can be found by: otherwise the list would be empty without a word.
fn check_kind(table: Table, of: Of) -> Done {
    let (fine, by) = match table {
        Table::Bundles | Table::Attributes => (matches!(of, Of::User(_)), "user"),
        Table::Schedules | Table::Claims | Table::Terms => {
            (!matches!(of, Of::User(_)), "wallet or token")
        }
        Table::Pendings => (true, "wallet, token or agent"),
        _ => (true, "wallet, user or token"),
    };
    if fine {
        return Ok(());
    }
    Err(Fail::usage(format!("these are listed by {by}: give a {by} by its name or id")))
}

/// Answers with a page: as JSON, or with a table that `row` fills.
pub fn answer(
    ctx: &Context,
    page: &RecordPage,
    mut table: TextTable,
    row: impl Fn(&Record) -> Option<Vec<String>>,
) -> Done {
    ctx.answer(page, || {
        if page.records.is_empty() && page.next_cursor.is_none() {
            say!("None.");
            return;
        }
        for cells in page.records.iter().filter_map(|view| row(&view.record)) {
            table.row(cells);
        }
        table.print();
        if let Some(cursor) = &page.next_cursor {
            say!("{}", dim(&format!("More: add --cursor {cursor}")));
        }
    })
}

/// The newest version of a row, or a failure that says what there is none of.
pub fn record(session: &Session, table: Table, key: RowKey, what: &str) -> Done<Record> {
    let view = session.client.record(table, key).map_err(|error| {
        if error.is_not_found() {
            let message = format!("there is no {what} on this ledger");
            Fail::new("not_found", message).next("check the id; 'list' shows what there is")
        } else {
            Fail::from(error)
        }
    })?;
    Ok(view.record)
}

/// What the node should not have answered.
pub fn other_record() -> Fail {
    Fail::new("bad_answer", "the node answered with a record of another kind")
}
