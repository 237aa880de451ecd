//! `kanjo sql`: ask a node in SQL.

use crate::context::Context;
use crate::fail::{Done, Fail};
use crate::sql::{Connection, Console, Form, Target, URL_DEFAULT, repl};
use clap::Args;
use std::io::IsTerminal as _;

/// Options of `kanjo sql`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kanjo sql\n  \
    kanjo sql -c 'SELECT symbol, max(amount) AS most FROM balances GROUP BY symbol' --csv\n  \
    kanjo sql --url postgresql://127.0.0.1:5433/kanjo --json < report.sql\n\n\
    At a terminal it is a REPL with history and completion; \\? lists its commands. With -c, or when\n\
    standard input is no terminal, it does all statements up to the first error. Exit code 1 after an\n\
    error.\n\n\
    --json prints an object for each statement: {\"columns\": […], \"rows\": [{…}], \"count\": N}, or one\n\
    with \"error\". smallint, integer and bigint up to 2^53 - 1, real and double precision are JSON\n\
    numbers, boolean is true or false; all others are text, numeric (amounts) always, because readers of\n\
    JSON round. A column whose name came before gets _2.\n\
    --csv prints a header and the rows; what is NULL or empty text is empty.\n\
    Otherwise control characters in values are shown as symbols, and NULL as NULL; nothing is cut.")]
pub struct SqlArgs {
    /// A statement, or several with semicolons between, or a command such as '\dt'. May be given
    /// again.
    #[arg(short = 'c', long = "command", value_name = "SQL")]
    statements: Vec<String>,
    /// Address of SQL [env: KANJO_SQL; default: postgresql://127.0.0.1:5433/kanjo].
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Who asks; the one in the URL, or who runs this, when left out.
    #[arg(long, short = 'U')]
    user: Option<String>,
    /// Which database; the one in the URL, or kanjo, when left out.
    #[arg(long, short = 'd')]
    database: Option<String>,
    /// Print CSV with a header.
    #[arg(long)]
    csv: bool,
}

/// Runs `kanjo sql`.
pub fn sql(ctx: &Context, args: &SqlArgs) -> Done {
    let form = match (ctx.json, args.csv) {
        (true, true) => return Err(Fail::usage("--json and --csv are two forms: choose one")),
        (true, false) => Form::Json,
        (false, true) => Form::Csv,
        (false, false) => Form::Aligned,
    };
    let from_env = std::env::var("KANJO_SQL").ok().filter(|url| !url.is_empty());
    let url = args.url.clone().or(from_env).unwrap_or_else(|| URL_DEFAULT.to_owned());
    let target = Target::new(&url, args.user.as_deref(), args.database.as_deref())?;
    let is_repl = args.statements.is_empty() && std::io::stdin().is_terminal();
    let connection = Connection::open(target)?;
    let mut console = Console::new(connection, form, is_repl);
    if is_repl {
        return repl::run(&mut console, &ctx.home);
    }
    if args.statements.is_empty() {
        return console.script(std::io::stdin().lock());
    }
    args.statements.iter().try_for_each(|text| console.text(text).map(|_| ()))
}
