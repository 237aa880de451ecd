//! Tables over the log of final blocks.

use super::values::{Kind, Value};
use crate::error::{SqlError, code};
use kanjo_types::block::Vote;
use kanjo_types::stored::{Block, Entry};
use kanjo_types::transaction::{Operation, SignedTransaction};
use kanjo_types::{Amount, TokenId, WalletId};
use std::sync::Arc;

/// What a column of such a table can look at.
pub(crate) struct LogCell<'a> {
    pub block: &'a Block,
    pub entry: Option<&'a Entry>,
    /// The entry's transaction, decoded.
    pub signed: Option<&'a SignedTransaction>,
    /// Number of the operation, or of the vote.
    pub part: usize,
}

/// What a row of such a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Each {
    Block,
    Vote,
    Transaction,
    /// An operation that brings money into being, takes it out, or pays.
    Movement,
}

/// A column.
pub(crate) struct LogColumn {
    pub name: &'static str,
    pub kind: Kind,
    pub nullable: bool,
    pub get: fn(&LogCell<'_>) -> Result<Value, SqlError>,
}

/// A SQL table over the log.
pub(crate) struct LogTable {
    pub name: &'static str,
    pub each: Each,
    /// The column that names the transaction, which the index finds.
    pub id: Option<&'static str>,
    pub columns: Vec<LogColumn>,
}

fn wrong() -> SqlError {
    SqlError::new(code::INTERNAL, "a block holds something that does not belong there")
}

impl LogCell<'_> {
    fn entry(&self) -> Result<&Entry, SqlError> {
        self.entry.ok_or_else(wrong)
    }

    fn signed(&self) -> Result<&SignedTransaction, SqlError> {
        self.signed.ok_or_else(wrong)
    }

    fn vote(&self) -> Result<&Vote, SqlError> {
        self.block.certificate.votes.get(self.part).ok_or_else(wrong)
    }

    fn movement(&self) -> Result<Movement<'_>, SqlError> {
        let operation = self.signed()?.body.operations.get(self.part);
        operation.and_then(movement).ok_or_else(wrong)
    }
}

/// Money that an operation moves.
pub(crate) struct Movement<'a> {
    kind: &'static str,
    token: TokenId,
    from: Option<WalletId>,
    to: Option<WalletId>,
    amount: Amount,
    reference: &'a str,
}

/// What an operation moves by itself.
pub(crate) fn movement(operation: &Operation) -> Option<Movement<'_>> {
    let (kind, token, from, to, amount, reference) = match operation {
        Operation::Issue { token, to, amount } => ("issue", token, None, Some(*to), amount, ""),
        Operation::Redeem { token, from, amount } => {
            ("redeem", token, Some(*from), None, amount, "")
        }
        Operation::Transfer { token, from, to, amount, reference } => {
            ("transfer", token, Some(*from), Some(*to), amount, reference.as_str())
        }
        _ => return None,
    };
    Some(Movement { kind, token: *token, from, to, amount: *amount, reference })
}

fn column(
    name: &'static str,
    kind: Kind,
    get: fn(&LogCell<'_>) -> Result<Value, SqlError>,
) -> LogColumn {
    LogColumn { name, kind, nullable: false, get }
}

fn optional(
    name: &'static str,
    kind: Kind,
    get: fn(&LogCell<'_>) -> Result<Value, SqlError>,
) -> LogColumn {
    LogColumn { name, kind, nullable: true, get }
}

fn height() -> LogColumn {
    column("height", Kind::Whole, |cell| Ok(Value::Whole(cell.block.header.height)))
}

fn time() -> LogColumn {
    column("time", Kind::Time, |cell| Ok(Value::Time(cell.block.header.time_ms)))
}

fn position() -> LogColumn {
    column("position", Kind::Whole, |cell| {
        Ok(Value::Whole(u64::from(cell.entry()?.record.position)))
    })
}

fn result() -> LogColumn {
    column("result", Kind::Text, |cell| Ok(Value::name(&cell.entry()?.result)))
}

fn failed_operation() -> LogColumn {
    optional("failed_operation", Kind::Whole, |cell| {
        Ok(Value::option(cell.entry()?.failed_operation, |failed| Value::Whole(failed.into())))
    })
}

/// All tables over the log.
pub(crate) fn tables() -> Vec<Arc<LogTable>> {
    let tables = [blocks(), certificates(), transactions(), transfers(), receipts()];
    tables.into_iter().map(Arc::new).collect()
}

fn blocks() -> LogTable {
    let columns = vec![
        height(),
        column("hash", Kind::Text, |cell| Ok(Value::text(cell.block.header.hash()))),
        time(),
        optional("previous", Kind::Text, |cell| {
            Ok(Value::option(cell.block.header.parents.first(), Value::text))
        }),
        column("producer", Kind::Whole, |cell| Ok(Value::Whole(cell.block.header.producer.into()))),
        column("transactions", Kind::Whole, |cell| {
            Ok(Value::Whole(cell.block.header.transactions.into()))
        }),
        column("transactions_root", Kind::Text, |cell| {
            Ok(Value::text(cell.block.header.transactions_root))
        }),
        column("receipts_root", Kind::Text, |cell| {
            Ok(Value::text(cell.block.header.receipts_root))
        }),
        column("state_root", Kind::Text, |cell| Ok(Value::text(cell.block.header.state_root))),
        column("history_root", Kind::Text, |cell| Ok(Value::text(cell.block.header.history_root))),
        column("fees", Kind::Text, |cell| Ok(Value::json(&cell.block.header.fees))),
        column("supply", Kind::Text, |cell| Ok(Value::json(&cell.block.header.supply))),
    ];
    LogTable { name: "blocks", each: Each::Block, id: None, columns }
}

fn certificates() -> LogTable {
    let columns = vec![
        height(),
        column("epoch", Kind::Whole, |cell| Ok(Value::Whole(cell.block.certificate.epoch))),
        column("voter", Kind::Whole, |cell| Ok(Value::Whole(cell.vote()?.voter.into()))),
        column("answer", Kind::Text, |cell| Ok(Value::text(cell.vote()?.answer))),
        column("signature", Kind::Text, |cell| {
            Ok(Value::Text(hex::encode(cell.vote()?.signature)))
        }),
    ];
    LogTable { name: "certificates", each: Each::Vote, id: None, columns }
}

fn transactions() -> LogTable {
    let columns = vec![
        column("id", Kind::Text, |cell| Ok(Value::text(cell.entry()?.record.id))),
        height(),
        position(),
        time(),
        column("author", Kind::Text, |cell| Ok(Value::text(cell.signed()?.body.author))),
        result(),
        failed_operation(),
        column("operations", Kind::Whole, |cell| {
            Ok(Value::Whole(cell.signed()?.body.operations.len() as u64))
        }),
        column("body", Kind::Text, |cell| Ok(Value::json(&cell.signed()?.body.operations))),
        optional("valid_until", Kind::Time, |cell| {
            Ok(Value::Time(cell.signed()?.body.valid_until_ms))
        }),
        column("hash", Kind::Text, |cell| Ok(Value::text(cell.entry()?.hash))),
        column("witness", Kind::Text, |cell| Ok(Value::text(cell.entry()?.record.witness))),
        optional("author_record", Kind::Text, |cell| {
            Ok(Value::hash(cell.entry()?.record.author_record))
        }),
        column("spent", Kind::Text, |cell| Ok(Value::json(&cell.entry()?.record.spent))),
    ];
    LogTable { name: "transactions", each: Each::Transaction, id: Some("id"), columns }
}

fn transfers() -> LogTable {
    let columns = vec![
        column("transaction_id", Kind::Text, |cell| Ok(Value::text(cell.entry()?.record.id))),
        height(),
        position(),
        time(),
        column("operation", Kind::Whole, |cell| Ok(Value::Whole(cell.part as u64))),
        column("kind", Kind::Text, |cell| Ok(Value::text(cell.movement()?.kind))),
        column("token", Kind::Whole, |cell| Ok(Value::Whole(cell.movement()?.token.0.into()))),
        optional("from_wallet", Kind::Text, |cell| {
            Ok(Value::option(cell.movement()?.from, Value::text))
        }),
        optional("to_wallet", Kind::Text, |cell| {
            Ok(Value::option(cell.movement()?.to, Value::text))
        }),
        column("amount", Kind::Units, |cell| Ok(Value::units(cell.movement()?.amount))),
        column("reference", Kind::Text, |cell| Ok(Value::text(cell.movement()?.reference))),
        result(),
    ];
    LogTable { name: "transfers", each: Each::Movement, id: Some("transaction_id"), columns }
}

fn receipts() -> LogTable {
    let columns = vec![
        column("transaction_id", Kind::Text, |cell| Ok(Value::text(cell.entry()?.record.id))),
        height(),
        position(),
        time(),
        column("transaction", Kind::Text, |cell| Ok(Value::text(cell.entry()?.hash))),
        result(),
        failed_operation(),
        column("rows", Kind::Whole, |cell| Ok(Value::Whole(cell.entry()?.rows.len() as u64))),
        column("row_hashes", Kind::Text, |cell| {
            let hashes: Vec<_> = cell.entry()?.rows.iter().map(|row| row.hash).collect();
            Ok(Value::json(&hashes))
        }),
    ];
    LogTable { name: "receipts", each: Each::Transaction, id: Some("transaction_id"), columns }
}
