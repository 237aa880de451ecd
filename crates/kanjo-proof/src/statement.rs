//! What a proof that checked has proven, in plain fields and in a few lines for people.

use crate::trust::Final;
use kanjo_types::record::{RowKey, TransactionRecord, WalletRecord, WalletStateRecord};
use kanjo_types::{
    ChainId, Hash, Header, Receipt, Record, SignedTransaction, Table, TokenId, UserId, WalletId,
};
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
        }
    }
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

/// A row that a key stands for.
struct Key(Table, RowKey);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ids, _) = self.1.0.0.as_chunks::<16>();
        let (numbers, _) = self.1.0.0.as_chunks::<4>();
        let id = ids.first().copied().unwrap_or_default();
        let number = |at: usize| u32::from_be_bytes(numbers.get(at).copied().unwrap_or_default());
        let (user, wallet) = (UserId(id), WalletId(id));
        let (first, fifth) = (TokenId(number(0)), TokenId(number(4)));
        match self.0 {
            Table::Users if self.1 == RowKey::user(user) => write!(f, "user {user}"),
            Table::Wallets if self.1 == RowKey::wallet(wallet) => write!(f, "wallet {wallet}"),
            Table::Tokens if self.1 == RowKey::token(first) => write!(f, "token {first}"),
            Table::WalletStates if self.1 == RowKey::wallet_state(wallet, fifth) => {
                write!(f, "token {fifth} in wallet {wallet}")
            }
            table => write!(f, "row of {table:?} with key {}", self.1.0),
        }
    }
}

/// A record in one line.
struct Line<'a>(&'a Record);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Record::User(user) => write!(f, "user {} (version {})", user.id, user.version),
            Record::Wallet(wallet) => {
                let (id, owner) = (wallet.id, wallet.owner);
                write!(f, "wallet {id} of user {owner} (version {})", wallet.version)
            }
            Record::Token(token) => {
                let (id, symbol) = (token.id, &token.symbol);
                let (issued, redeemed) = (token.issued, token.redeemed);
                write!(f, "token {id} {symbol}, issued {issued}, redeemed {redeemed} ")?;
                write!(f, "(version {})", token.version)
            }
            Record::WalletState(state) => {
                let (balance, token, wallet) = (state.balance, state.token, state.wallet);
                write!(f, "{balance} of token {token} in wallet {wallet} ")?;
                write!(f, "(version {})", state.version)
            }
            Record::Transaction(transaction) => write!(f, "transaction {}", transaction.id),
            other => crate::lines::write_line(f, other),
        }
    }
}

/// Who signed.
struct Signers<'a>(&'a Final);

impl fmt::Display for Signers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Final { signed_by, voters, .. } = self.0;
        write!(f, "by {} of {voters} voters:", signed_by.len())?;
        signed_by.iter().take(ROWS_SHOWN_MAX).try_for_each(|name| write!(f, " {name}"))
    }
}

/// Milliseconds since 1970 as `2026-01-31 23:59:59.999 UTC`.
struct Utc(u64);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, ms) = (self.0 / 86_400_000, self.0 % 86_400_000);
        // Civil date from a day count (Hinnant): years begin in March, eras have 400 years.
        let shifted = days + 719_468;
        let (era, day) = (shifted / 146_097, shifted % 146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day_of_year = day - (365 * year + year / 4 - year / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = era * 400 + year + u64::from(month <= 2);
        let (hour, minute) = (ms / 3_600_000, ms / 60_000 % 60);
        let (second, rest) = (ms / 1_000 % 60, ms % 1_000);
        write!(f, "{year:04}-{month:02}-{day_of_month:02} ")?;
        write!(f, "{hour:02}:{minute:02}:{second:02}.{rest:03} UTC")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_civil_dates() {
        let cases = [
            (0, "1970-01-01 00:00:00.000 UTC"),
            (951_782_400_000, "2000-02-29 00:00:00.000 UTC"),
            (1_709_251_199_999, "2024-02-29 23:59:59.999 UTC"),
            (1_767_225_600_001, "2026-01-01 00:00:00.001 UTC"),
            (4_107_542_400_000, "2100-03-01 00:00:00.000 UTC"),
        ];
        for (time_ms, text) in cases {
            assert_eq!(Utc(time_ms).to_string(), text);
        }
        assert!(Utc(u64::MAX).to_string().ends_with("UTC"));
    }
}
