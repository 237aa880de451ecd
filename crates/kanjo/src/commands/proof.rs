//! `kanjo proof`: get proofs from a node, check them from a genesis file alone.

use crate::context::{Context, Session};
use crate::fail::{Done, Fail};
use crate::say;
use crate::text::{bold, dim, green, group_digits};
use crate::typed::{parse_role, resolve_subject};
use clap::{Args, Subcommand};
use kanjo_client::{Of, table_name};
use kanjo_proof::ProofFile;
use kanjo_proof::statement::{Fact, Statement};
use kanjo_types::id::ParseIdError;
use kanjo_types::money::{FreezeTarget, Role, Scope};
use kanjo_types::record::{RowKey, WalletStateRecord};
use kanjo_types::{
    ActId, BundleId, ClaimId, Genesis, Hash, PendingId, Record, RelationId, ScheduleId, Table,
    TransactionId,
};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Proofs: get one from a node, check one from a genesis file alone.
#[derive(Debug, Subcommand)]
pub enum ProofCommand {
    /// That a wallet exists and holds what it holds, or that it does not exist.
    #[command(after_help = "Example:\n  kanjo proof wallet alice --out alice.proof")]
    Wallet {
        /// Wallet id or local name.
        wallet: String,
        #[command(flatten)]
        out: Out,
    },
    /// A wallet's balance in one token, now or in an earlier version; or that it never held any.
    #[command(after_help = "Example:\n  kanjo proof state alice JPY --out alice-jpy.proof\n  \
        kanjo proof state alice JPY --version 3 --out then.proof")]
    State {
        /// Wallet id or local name.
        wallet: String,
        /// Token symbol or number.
        token: String,
        /// An earlier version of the balance.
        #[arg(long, value_name = "N")]
        version: Option<u64>,
        #[command(flatten)]
        out: Out,
    },
    /// A user and its keys, or that it does not exist.
    #[command(after_help = "Example:\n  kanjo proof user alice --out alice-keys.proof")]
    User {
        /// User id or local name.
        user: String,
        #[command(flatten)]
        out: Out,
    },
    /// A token and its supply.
    #[command(after_help = "Example:\n  kanjo proof token JPY --out jpy.proof")]
    Token {
        /// Token symbol or number.
        token: String,
        #[command(flatten)]
        out: Out,
    },
    /// That a transaction is in a final block, and what came of it.
    #[command(after_help = "Example:\n  kanjo proof tx 9f3c… --out receipt.proof")]
    Tx {
        /// Transaction id.
        id: TransactionId,
        #[command(flatten)]
        out: Out,
    },
    /// That a block is part of the ledger.
    #[command(after_help = "Example:\n  kanjo proof block 7 --out block-7.proof")]
    Block {
        /// Height.
        height: u64,
        #[command(flatten)]
        out: Out,
    },
    /// That the ledger at one height extends the ledger at an earlier one.
    #[command(after_help = "Example:\n  kanjo proof extends 7 90 --out extends.proof")]
    Extends {
        /// The earlier height.
        from: u64,
        /// The later height.
        to: u64,
        #[command(flatten)]
        out: Out,
    },
    /// A row of any table, or that there is none.
    #[command(after_help = "Example:\n  kanjo proof record acts kja1… --out act.proof\n  \
        kanjo proof record freezes JPY/alice --out frozen.proof\n\n\
        Keys: an id; WALLET/SYMBOL in wallet_states and terms; SYMBOL/ROLE or USER/guardian in\n\
        authorities; SYMBOL/WALLET, SYMBOL/USER or SYMBOL/* in freezes; TX/SYMBOL in reversals;\n\
        USER/NAME in attributes; or 64 hexadecimal digits.")]
    Record {
        /// Table, such as pendings, acts, terms, freezes, claims.
        #[arg(value_parser = parse_table)]
        table: Table,
        /// Key of the row.
        key: String,
        #[command(flatten)]
        out: Out,
    },
    /// What a reversal did with a transaction, or that it was not reversed.
    #[command(after_help = "Example:\n  kanjo proof reversal 9f3c… --token JPY --out back.proof")]
    Reversal {
        /// Transaction id.
        tx: TransactionId,
        /// Token symbol or number.
        #[arg(long, value_name = "SYMBOL")]
        token: String,
        #[command(flatten)]
        out: Out,
    },
    /// Check a proof, offline, trusting nothing but the genesis file.
    #[command(after_help = "Example:\n  kanjo proof check alice.proof --genesis genesis.json\n\n\
        Exit code 0 when the proof holds, 1 when it does not.")]
    Check {
        /// The proof.
        file: PathBuf,
        /// The genesis of the ledger, from somebody you trust.
        #[arg(long, value_name = "FILE")]
        genesis: PathBuf,
    },
}

/// Where a proof goes.
#[derive(Debug, Args)]
pub struct Out {
    /// Write the proof to FILE; it is printed when left out.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs `kanjo proof`.
pub fn proof(ctx: &Context, command: &ProofCommand) -> Done {
    if let ProofCommand::Check { file, genesis } = command {
        return check(ctx, file, genesis);
    }
    let session = ctx.session()?;
    let (text, out) = fetch(&session, command)?;
    let Some(path) = out else {
        crate::text::line(text.trim_end());
        return Ok(());
    };
    std::fs::write(path, &text).map_err(|error| Fail::file(path, error))?;
    ctx.answer(&json!({ "file": path, "bytes": text.len() }), || {
        say!("Proof written to {}, {} bytes.", bold(&path.display().to_string()), text.len());
        ctx.next(&format!("proof check {} --genesis GENESIS_FILE", path.display()));
    })
}

fn fetch<'a>(session: &Session, command: &'a ProofCommand) -> Done<(String, Option<&'a PathBuf>)> {
    let client = &session.client;
    let (text, out) = match command {
        ProofCommand::Wallet { wallet, out } => {
            (client.proof_of_wallet(session.book.wallet(wallet)?), out)
        }
        ProofCommand::State { wallet, token, version, out } => {
            let wallet = session.book.wallet(wallet)?;
            let token = session.token(token)?.id;
            (client.proof_of_state(wallet, token, *version), out)
        }
        ProofCommand::User { user, out } => (client.proof_of_user(session.book.user(user)?), out),
        ProofCommand::Token { token, out } => {
            let token = match token.parse() {
                Ok(number) => kanjo_types::TokenId(number),
                Err(_) => session.token(token)?.id,
            };
            (client.proof_of_token(token), out)
        }
        ProofCommand::Tx { id, out } => (client.proof_of_transaction(*id), out),
        ProofCommand::Block { height, out } => (client.proof_of_block(*height), out),
        ProofCommand::Extends { from, to, out } => (client.proof_of_extension(*from, *to), out),
        ProofCommand::Record { table, key, out } => {
            (client.proof_of_record(*table, row_key(session, *table, key)?), out)
        }
        ProofCommand::Reversal { tx, token, out } => {
            (client.proof_of_reversal(*tx, session.token(token)?.id), out)
        }
        ProofCommand::Check { .. } => return Err(Fail::usage("'check' needs no node")),
    };
    Ok((text?, out.out.as_ref()))
}

fn parse_table(text: &str) -> Result<Table, String> {
    let found = Table::ALL.into_iter().find(|table| table_name(*table) == text);
    found.ok_or_else(|| {
        let names = Table::ALL.map(table_name).join(", ");
        format!("'{text}' is no table; there are {names}")
    })
}

/// The key of a row as typed.
fn row_key(session: &Session, table: Table, text: &str) -> Done<RowKey> {
    if text.len() == 64
        && let Ok(key) = text.parse::<Hash>()
    {
        return Ok(RowKey(key));
    }
    let book = &session.book;
    let item = |id: Result<[u8; 16], ParseIdError>| {
        id.map(RowKey::item).map_err(|error| Fail::new("bad_id", error))
    };
    let parts = || {
        text.split_once('/').ok_or_else(|| {
            Fail::usage(format!(
                "a key of {} has two parts, such as alice/JPY: see 'kanjo help proof record'",
                table_name(table)
            ))
        })
    };
    let token = |text: &str| session.token(text).map(|token| token.id);
    match table {
        Table::Users => Ok(RowKey::user(book.user(text)?)),
        Table::Wallets => Ok(RowKey::wallet(book.wallet(text)?)),
        Table::Tokens => Ok(RowKey::token(token(text)?)),
        Table::Pendings => item(text.parse::<PendingId>().map(|id| id.0)),
        Table::Bundles => item(text.parse::<BundleId>().map(|id| id.0)),
        Table::Schedules => item(text.parse::<ScheduleId>().map(|id| id.0)),
        Table::Acts => item(text.parse::<ActId>().map(|id| id.0)),
        Table::Claims => item(text.parse::<ClaimId>().map(|id| id.0)),
        Table::Memberships => {
            let epoch = text.parse().map_err(|error| Fail::usage(format!("'{text}': {error}")))?;
            Ok(RowKey::epoch(epoch))
        }
        Table::Relations => {
            let number = text.parse().map_err(|error| Fail::usage(format!("'{text}': {error}")))?;
            Ok(RowKey::relation(RelationId(number)))
        }
        Table::Rows => Err(Fail::usage("a key of rows has 64 hexadecimal digits")),
        Table::WalletStates | Table::Terms => {
            let (wallet, symbol) = parts()?;
            Ok(RowKey::wallet_state(book.wallet(wallet)?, token(symbol)?))
        }
        Table::Authorities => match parts()? {
            (user, "guardian") => {
                Ok(RowKey::authority(Scope::User(book.user(user)?), Role::Guardian))
            }
            (symbol, role) => {
                let role = parse_role(role)
                    .ok_or_else(|| Fail::usage(format!("'{role}' is no role of a token")))?;
                Ok(RowKey::authority(Scope::Token(token(symbol)?), role))
            }
        },
        Table::Freezes => {
            let (symbol, target) = parts()?;
            let target = match target {
                "*" => FreezeTarget::Token,
                name => match resolve_subject(session, name, false)? {
                    Of::User(user) => FreezeTarget::User(user),
                    Of::Wallet(wallet) => FreezeTarget::Wallet(wallet),
                    Of::Token(_) => return Err(Fail::usage("write * for the whole token")),
                },
            };
            Ok(RowKey::freeze(token(symbol)?, target))
        }
        Table::Reversals => {
            let (tx, symbol) = parts()?;
            let tx = tx.parse().map_err(|error| Fail::new("bad_id", error))?;
            Ok(RowKey::reversal(tx, token(symbol)?))
        }
        Table::Attributes => {
            let (user, name) = parts()?;
            Ok(RowKey::attribute(book.user(user)?, name))
        }
    }
}

/// Reads and checks a genesis file.
pub fn read_genesis(path: &Path) -> Done<Genesis> {
    kanjo_node::data::read_genesis(path).map_err(|error| {
        Fail::new("genesis", error).next(
            "it is genesis.json in the data directory of a node you trust; 'kanjo genesis --out \
             FILE' gets it from a node",
        )
    })
}

fn check(ctx: &Context, file: &Path, genesis: &Path) -> Done {
    let genesis = read_genesis(genesis)?;
    let text = std::fs::read_to_string(file).map_err(|error| Fail::file(file, error))?;
    let proof = ProofFile::from_json(&text).map_err(|error| {
        Fail::new("bad_proof", format!("{}: {error}", file.display()))
            .next("get it again: kanjo proof … --out FILE")
    })?;
    let statement = proof.check(&genesis).map_err(|error| {
        Fail::new("proof_fails", format!("The proof does not hold: {error}."))
            .next("don't rely on it; get it again, or ask where it was changed")
    })?;
    ctx.answer(&json!({ "ok": true, "statement": statement }), || {
        say!("{} Proven from the genesis of {} alone:", green("✓"), bold(&genesis.name));
        say!();
        statement.to_string().lines().for_each(|line| say!("  {line}"));
        for line in whole_tokens(&statement, &genesis) {
            say!("{}", dim(&format!("  {line}")));
        }
    })
}

/// Balances in whole tokens, for the tokens of the genesis: their decimals are beyond doubt.
fn whole_tokens(statement: &Statement, genesis: &Genesis) -> Vec<String> {
    let states: Vec<&WalletStateRecord> = match &statement.fact {
        Fact::State { record: Record::WalletState(state) }
        | Fact::Version { record: Record::WalletState(state), .. } => vec![state],
        Fact::Wallet { states, .. } => states.iter().collect(),
        _ => Vec::new(),
    };
    let whole = |state: &&WalletStateRecord| {
        let position = usize::try_from(state.token.0).ok()?.checked_sub(1)?;
        let token = genesis.tokens.get(position)?;
        let amount = group_digits(&state.balance.to_decimal(token.decimals));
        Some(format!("in whole tokens: {amount} {}", token.symbol))
    };
    states.iter().filter_map(whole).collect()
}
