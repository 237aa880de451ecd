//! What a proof that checked has proven, in plain fields and in a few lines for people.

use crate::lines::{Key, Line, ReasonLine, reversal_name, write_extra};
use crate::trust::Final;
use crate::utc::Utc;
use kanjo_types::membership::Vouched;
use kanjo_types::record::{RowKey, TransactionRecord, WalletRecord, WalletStateRecord};
use kanjo_types::standing::{ActRecord, ReversalMove, ReversalRecord};
use kanjo_types::{ChainId, Hash, Header, Receipt, Record, SignedTransaction, Table, TokenId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// More rows than this are counted, not listed, in the form for people.
const ROWS_SHOWN_MAX: usize = 20;

/// What was proven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// Of which ledger.
    pub chain: ChainId,
    /// At which final header; the later one when there are two.
    pub at: Final,
    /// What.
    pub fact: Fact,
}

/// What holds at the header of a [`Statement`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fact {
    /// The record is the current version of its row.
    State {
        /// The record.
        record: Record,
    },
    /// No row of the table has the key.
    Absence {
        /// The table.
        table: Table,
        /// The key.
        key: RowKey,
    },
    /// These are all rows of the table with `from ≤ key ≤ to`.
    Range {
        /// The table.
        #[serde(rename = "table")]
        rows: Table,
        /// First key.
        from: RowKey,
        /// Last key.
        to: RowKey,
        /// The rows by ascending key.
        records: Vec<Record>,
    },
    /// The wallet exists and holds this and nothing else.
    Wallet {
        /// The wallet.
        wallet: WalletRecord,
        /// Its state in every token that it ever held, by ascending token.
        states: Vec<WalletStateRecord>,
    },
    /// The record was made in this block.
    Version {
        /// The record.
        record: Record,
        /// Receipt of the transaction that made it.
        receipt: Receipt,
        /// That transaction, when the proof has it.
        transaction: Option<SignedTransaction>,
    },
    /// The transaction is in this block, with this result.
    Transaction {
        /// The transaction.
        transaction: SignedTransaction,
        /// Hash of its record.
        hash: Hash,
        /// Its record.
        record: TransactionRecord,
        /// Its receipt.
        receipt: Receipt,
    },
    /// The block is final.
    Block {
        /// Its header.
        block: Header,
        /// A later final header that has it in its history.
        within: Option<Final>,
    },
    /// The ledger at this header is the ledger at the earlier one and what was added since.
    Extends {
        /// The earlier header.
        earlier: Final,
    },
    /// The transaction was in the ledger, and was reversed or followed.
    Reversal {
        /// At which final header the transaction is in the ledger.
        made_at: Final,
        /// The transaction.
        transaction: SignedTransaction,
        /// Its receipt.
        receipt: Receipt,
        /// What was done with it.
        reversal: ReversalRecord,
        /// By which act.
        act: ActRecord,
    },
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.fact)?;
        writeln!(f, "  at      {}", self.at)?;
        writeln!(f, "  header  {}", self.at.header)?;
        writeln!(f, "  signed  {}", Signers(&self.at))?;
        write!(f, "  ledger  {}", self.chain)
    }
}

impl fmt::Display for Final {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "height {}, {}", self.height, Utc(self.time_ms))
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State { record } => write!(f, "{} is current", Line(record)),
            Self::Absence { table, key } => {
                write!(f, "there is no {}", Key(*table, *key))
            }
            Self::Range { rows, from, to, records } => {
                write!(f, "{} rows of {rows:?} from {} to {}", records.len(), from.0, to.0)?;
                write_lines(f, records.iter())
            }
            Self::Wallet { wallet, states } => {
                write!(f, "wallet {} of user {} holds", wallet.id, wallet.owner)?;
                if states.is_empty() {
                    write!(f, " nothing")?;
                }
                for state in states.iter().take(ROWS_SHOWN_MAX) {
                    write!(f, "\n  {} of token {}", state.balance, state.token)?;
                    write_extra(f, &state.extra())?;
                }
                write_rest(f, states.len())
            }
            Self::Version { record, receipt, .. } => {
                write!(f, "{} was made by transaction {}", Line(record), receipt.id)
            }
            Self::Transaction { transaction, record, receipt, .. } => {
                let operations = transaction.body.operations.len();
                write!(f, "transaction {} of user {}", receipt.id, transaction.body.author)?;
                write!(f, "\n  {operations} operations, position {}", record.position)?;
                write!(f, "\n  result  {}", receipt.result)
            }
            Self::Block { block, within } => {
                write!(f, "block {} with {} transactions", block.height, block.transactions)?;
                match within {
                    Some(later) => write!(f, " is in the history of {later}"),
                    None => write!(f, " is final"),
                }
            }
            Self::Extends { earlier } => {
                write!(f, "the ledger extends the one at {earlier}, header {}", earlier.header)
            }
            Self::Reversal { made_at, transaction, reversal, act, .. } => {
                let (original, author) = (reversal.original, transaction.body.author);
                let kind = reversal_name(reversal.kind);
                write!(f, "transaction {original} of user {author}")?;
                write!(f, "\n  made    {made_at}")?;
                write!(f, "\n  {kind} in token {} by act {}", reversal.token, act.id)?;
                write!(f, "\n  reason  {}", ReasonLine(&act.reason))?;
                for moved in reversal.moves.iter().take(ROWS_SHOWN_MAX) {
                    write_move(f, reversal.token, moved)?;
                }
                write_rest(f, reversal.moves.len())
            }
        }
    }
}

fn write_move(f: &mut fmt::Formatter<'_>, token: TokenId, moved: &ReversalMove) -> fmt::Result {
    let ReversalMove { wallet, taken, given, .. } = moved;
    if taken.0 > 0 {
        write!(f, "\n  {taken} of token {token} taken from wallet {wallet}")?;
    }
    if given.0 > 0 {
        write!(f, "\n  {given} of token {token} given to wallet {wallet}")?;
    }
    Ok(())
}

fn write_lines<'a>(
    f: &mut fmt::Formatter<'_>,
    records: impl ExactSizeIterator<Item = &'a Record>,
) -> fmt::Result {
    let count = records.len();
    for record in records.take(ROWS_SHOWN_MAX) {
        write!(f, "\n  {}", Line(record))?;
    }
    write_rest(f, count)
}

fn write_rest(f: &mut fmt::Formatter<'_>, count: usize) -> fmt::Result {
    match count.saturating_sub(ROWS_SHOWN_MAX) {
        0 => Ok(()),
        rest => write!(f, "\n  … and {rest} more"),
    }
}

/// Who signed.
struct Signers<'a>(&'a Final);

impl fmt::Display for Signers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Vouched { signed_by, executors, voters } = &self.0.vouched;
        let (votes, shown) = (signed_by.len(), signed_by.get(..ROWS_SHOWN_MAX));
        write!(f, "by {}", shown.unwrap_or(signed_by).join(", "))?;
        if let rest @ 1.. = votes.saturating_sub(ROWS_SHOWN_MAX) {
            write!(f, " and {rest} more")?;
        }
        let word = if *voters == 1 { "voter" } else { "voters" };
        write!(f, " ({votes} of {voters} {word}; {executors} of them executed it)")
    }
}
