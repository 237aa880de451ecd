//! The block as the log keeps it: everything needed to redo, to prove and to walk history, nothing
//! twice.
//!
//! What follows from other bytes is left out and recomputed on reading: the chain id inside each
//! transaction, transaction ids and hashes, which wallet a state belongs to (the operations say
//! so), spent states. Layout (all integers little-endian or [`Compact`]; see `docs/format.md`):
//!
//! ```text
//! block  := format:u8=1  header:Header  certificate:Certificate  count:Compact  entry*count
//!           rows:Compact  row*rows                 (rows of the genesis; none above height 0)
//! entry  := length:Compact  transaction without its chain id
//!           result:u8  failed:Compact (0, or operation + 1)  author_record:32
//!           spent:Compact  transaction_hash:32*spent  rows:Compact  row*rows
//! row    := 0:u8 state                                      wallet state that the operations name
//!         | 1:u8 record:Record at                           anything else
//!         | 2:u8 wallet:16 token:Compact extra:Option<StateExtra> state    other wallet state
//! state  := version:Compact balance:Compact wallet_record:32 [previous:32 at]
//! at     := height:Compact position:Compact                 where the previous version was made
//! ```
//! `previous` and `at` of a wallet state are there only when its version is above 1. A wallet state
//! is of kind 0 when it is the next of [`touched_states`] and has nothing beside its balance, and
//! of kind 2 otherwise; either way it uses up the next touched state when it is that one.

use crate::amount::Amount;
use crate::block::{Certificate, Header, Receipt};
use crate::codec::{self, Compact, DecodeError};
use crate::hash::Hash;
use crate::id::{ChainId, TokenId, TransactionId, WalletId};
use crate::outcome::ResultCode;
use crate::record::{Record, Spent, StateExtra, TransactionRecord, WalletStateRecord};
use crate::transaction::{Operation, SignedTransaction, id_of_body_bytes};
use borsh::BorshDeserialize;
use borsh::io::{Error, ErrorKind};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The only block format there is.
pub const BLOCK_FORMAT: u8 = 1;

/// Where a transaction stands.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Location {
    /// Height of the block.
    pub height: u64,
    /// Position in the block, counted from 0.
    pub position: u32,
}

/// A new version of a row, and where the version before it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The version.
    pub record: Record,
    /// Its hash.
    pub hash: Hash,
    /// Where the previous version was made; meaningless for a first version.
    pub previous_at: Location,
    /// True for a wallet state whose turn it is among [`touched_states`]: its key need not be kept.
    pub named: bool,
}

/// A transaction in a block with what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Canonical bytes of the [`SignedTransaction`].
    pub raw: Bytes,
    /// Its record.
    pub record: TransactionRecord,
    /// Hash of the record.
    pub hash: Hash,
    /// What came of it.
    pub result: ResultCode,
    /// The operation that failed.
    pub failed_operation: Option<u32>,
    /// New versions: records of all other tables in the order in which the operations first touch
    /// them, then wallet states in the order in which they are first touched.
    pub rows: Vec<Row>,
}

impl Entry {
    /// The receipt, given the root over the hashes of `rows`.
    #[must_use]
    pub fn receipt(&self, rows_root: Hash) -> Receipt {
        Receipt {
            id: self.record.id,
            transaction: self.hash,
            result: self.result,
            failed_operation: self.failed_operation,
            rows_root,
            rows: u32::try_from(self.rows.len()).unwrap_or(u32::MAX),
        }
    }
}

/// A block with its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// What is agreed.
    pub header: Header,
    /// By whom.
    pub certificate: Certificate,
    /// Transactions in order.
    pub entries: Vec<Entry>,
    /// Rows of the genesis; none above height 0.
    pub genesis_rows: Vec<Row>,
}

/// The receipt of the genesis: its rows came from no transaction, the chain id stands for one.
#[must_use]
pub fn genesis_receipt(chain: ChainId, rows: usize, rows_root: Hash) -> Receipt {
    Receipt {
        id: TransactionId(chain.0),
        transaction: chain.0,
        result: ResultCode::Ok,
        failed_operation: None,
        rows_root,
        rows: u32::try_from(rows).unwrap_or(u32::MAX),
    }
}

/// Distinct wallet states that `operations` touch, in the order of first touch.
#[must_use]
pub fn touched_states(operations: &[Operation]) -> Vec<(WalletId, TokenId)> {
    distinct(operations.iter().flat_map(|operation| operation.touches().into_iter().flatten()))
}

/// Distinct wallet states that `operations` pay from, in the order of first payment.
#[must_use]
pub fn paying_states(operations: &[Operation]) -> Vec<(WalletId, TokenId)> {
    distinct(operations.iter().filter_map(|operation| match operation {
        Operation::Redeem { token, from, .. } | Operation::Transfer { token, from, .. } => {
            Some((*from, *token))
        }
        _ => None,
    }))
}

/// Walks wallet states in the order of their rows and says which are named by the operations.
pub struct Named {
    touched: std::iter::Peekable<std::vec::IntoIter<(WalletId, TokenId)>>,
}

impl Named {
    /// For the rows of a transaction with these operations.
    #[must_use]
    pub fn new(operations: &[Operation]) -> Self {
        Self { touched: touched_states(operations).into_iter().peekable() }
    }

    /// Is `key` the next touched state? Then it is used up.
    pub fn is_next(&mut self, key: (WalletId, TokenId)) -> bool {
        self.touched.next_if_eq(&key).is_some()
    }

    fn take(&mut self) -> Option<(WalletId, TokenId)> {
        self.touched.next()
    }
}

/// The states whose earlier versions a transaction spends, in order: those the operations pay from,
/// then those of rows whose keys are kept with them in the log (kind 2). `rows` are the wallet
/// states of the transaction in order: key, and whether it is kept in the short form.
#[must_use]
pub fn spent_states(
    operations: &[Operation],
    rows: impl Iterator<Item = ((WalletId, TokenId), bool)>,
) -> Vec<(WalletId, TokenId)> {
    let paying = paying_states(operations);
    // Keys of rows are distinct, so only those that operations pay from can come twice.
    let others = rows.filter_map(|(key, is_short)| (!is_short).then_some(key));
    distinct(paying.into_iter().chain(others))
}

fn distinct(keys: impl Iterator<Item = (WalletId, TokenId)>) -> Vec<(WalletId, TokenId)> {
    let mut found: Vec<(WalletId, TokenId)> = Vec::with_capacity(2);
    let mut seen = std::collections::BTreeSet::new();
    for key in keys {
        // A plain payment has two keys; a set only pays off for batches.
        let is_new = if found.len() < 8 {
            !found.contains(&key)
        } else {
            if seen.is_empty() {
                seen.extend(found.iter().copied());
            }
            seen.insert(key)
        };
        if is_new {
            found.push(key);
        }
    }
    found
}

const CHAIN_START: usize = 1;
const CHAIN_END: usize = 33;

/// Appends one entry to a block under construction.
pub fn append_entry(entry: &Entry, out: &mut Vec<u8>) {
    let (version, rest) = match (entry.raw.get(..CHAIN_START), entry.raw.get(CHAIN_END..)) {
        (Some(version), Some(rest)) => (version, rest),
        _ => (&[][..], &[][..]),
    };
    append_count(version.len() + rest.len(), out);
    out.extend_from_slice(version);
    out.extend_from_slice(rest);
    out.push(entry.result as u8);
    let failed = entry.failed_operation.map_or(0, |operation| u128::from(operation) + 1);
    codec::append(&Compact(failed), out);
    out.extend_from_slice(&entry.record.author_record.0);
    append_count(entry.record.spent.len(), out);
    entry.record.spent.iter().for_each(|spent| out.extend_from_slice(&spent.transaction.0));
    append_rows(&entry.rows, out);
}

fn append_count(count: usize, out: &mut Vec<u8>) {
    codec::append(&Compact(count as u128), out);
}

fn append_rows(rows: &[Row], out: &mut Vec<u8>) {
    append_count(rows.len(), out);
    for row in rows {
        if let Record::WalletState(state) = &row.record {
            if is_short(row, state) {
                out.push(0);
            } else {
                out.push(2);
                codec::append(&state.wallet, out);
                codec::append(&Compact(u128::from(state.token.0)), out);
                codec::append(&state.extra, out);
            }
            append_state(state, row.previous_at, out);
        } else {
            out.push(1);
            codec::append(&row.record, out);
            append_location(row.previous_at, out);
        }
    }
}

fn append_state(state: &WalletStateRecord, previous_at: Location, out: &mut Vec<u8>) {
    codec::append(&Compact(u128::from(state.version)), out);
    codec::append(&Compact(state.balance.0), out);
    out.extend_from_slice(&state.wallet_record.0);
    if state.version > 1 {
        out.extend_from_slice(&state.previous.0);
        append_location(previous_at, out);
    }
}

fn append_location(at: Location, out: &mut Vec<u8>) {
    codec::append(&Compact(u128::from(at.height)), out);
    codec::append(&Compact(u128::from(at.position)), out);
}

/// Appends the head of a block; its entries follow, then [`append_tail`].
pub fn append_head(header: &Header, certificate: &Certificate, out: &mut Vec<u8>) {
    out.push(BLOCK_FORMAT);
    codec::append(header, out);
    codec::append(certificate, out);
    codec::append(&Compact(u128::from(header.transactions)), out);
}

/// Appends what follows the entries: the rows of the genesis.
pub fn append_tail(genesis_rows: &[Row], out: &mut Vec<u8>) {
    // States of the genesis have no operations that name their wallets, so they are kept in full.
    append_count(genesis_rows.len(), out);
    for row in genesis_rows {
        out.push(1);
        codec::append(&row.record, out);
        append_location(row.previous_at, out);
    }
}

/// The bytes of a whole block.
#[must_use]
pub fn encode_block(block: &Block) -> Vec<u8> {
    let mut out = Vec::with_capacity(512 + 420 * block.entries.len());
    append_head(&block.header, &block.certificate, &mut out);
    block.entries.iter().for_each(|entry| append_entry(entry, &mut out));
    append_tail(&block.genesis_rows, &mut out);
    out
}

type Reading<T> = Result<T, Error>;

fn invalid(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidData, text.into())
}

fn take<'a>(input: &mut &'a [u8], length: usize) -> Reading<&'a [u8]> {
    let (taken, rest) = input
        .split_at_checked(length)
        .ok_or_else(|| invalid(format!("{length} bytes expected, {} are left", input.len())))?;
    *input = rest;
    Ok(taken)
}

fn take_value<T: BorshDeserialize>(input: &mut &[u8]) -> Reading<T> {
    <T as BorshDeserialize>::deserialize(input)
}

/// A count of things that take at least one byte each, so that a lie can't reserve memory.
fn take_count(input: &mut &[u8]) -> Reading<usize> {
    let count = Compact::read_u64(input)?;
    match usize::try_from(count) {
        Ok(count) if count <= input.len() => Ok(count),
        _ => Err(invalid(format!("{count} items claimed, {} bytes are left", input.len()))),
    }
}

fn take_location(input: &mut &[u8]) -> Reading<Location> {
    Ok(Location { height: Compact::read_u64(input)?, position: Compact::read_u32(input)? })
}

/// Reads the header and certificate at the start of a block's bytes, without the rest.
///
/// # Errors
/// [`DecodeError`] when they are not canonical or of an unknown format.
pub fn decode_head(bytes: &[u8]) -> Result<(Header, Certificate), DecodeError> {
    let mut input = bytes;
    read_head(&mut input).map_err(|error| DecodeError::Malformed(error.to_string()))
}

fn read_head(input: &mut &[u8]) -> Reading<(Header, Certificate)> {
    let format = take_value::<u8>(input)?;
    if format != BLOCK_FORMAT {
        return Err(invalid(format!("block format {format}; this software knows format 1")));
    }
    Ok((take_value::<Header>(input)?, take_value::<Certificate>(input)?))
}

/// Reads a block. `chain` restores the chain id of its transactions.
///
/// The hashes in the result are computed from the content; whether they are the ones the header
/// commits to is for the caller to check.
///
/// # Errors
/// [`DecodeError`] when the bytes are not the encoding of one block.
pub fn decode_block(bytes: &[u8], chain: ChainId) -> Result<Block, DecodeError> {
    let mut input = bytes;
    let block =
        read_block(&mut input, chain).map_err(|error| DecodeError::Malformed(error.to_string()))?;
    if input.is_empty() { Ok(block) } else { Err(DecodeError::TrailingBytes(input.len())) }
}

fn read_block(input: &mut &[u8], chain: ChainId) -> Reading<Block> {
    let (header, certificate) = read_head(input)?;
    let count = take_count(input)?;
    if count as u128 != u128::from(header.transactions) {
        return Err(invalid(format!(
            "{count} transactions follow, the header says {}",
            header.transactions
        )));
    }
    let mut entries = Vec::with_capacity(count.min(65_536));
    for position in 0..header.transactions {
        entries.push(read_entry(input, chain, &header, position)?);
    }
    let genesis_count = take_count(input)?;
    let mut genesis_rows = Vec::with_capacity(genesis_count.min(65_536));
    for _ in 0..genesis_count {
        genesis_rows.push(read_row(input, None)?);
    }
    if header.height > 0 && !genesis_rows.is_empty() {
        return Err(invalid("rows of a genesis above height 0"));
    }
    Ok(Block { header, certificate, entries, genesis_rows })
}

fn read_entry(input: &mut &[u8], chain: ChainId, header: &Header, position: u32) -> Reading<Entry> {
    let raw = read_raw(input, chain)?;
    let (transaction, id) =
        decode_signed(&raw).map_err(|error| invalid(format!("transaction {position}: {error}")))?;
    let result = take_value::<ResultCode>(input)?;
    let failed_operation = match Compact::read_u64(input)? {
        0 => None,
        above => {
            Some(u32::try_from(above - 1).map_err(|_| invalid("failed operation above 2^32"))?)
        }
    };
    let author_record = take_value::<Hash>(input)?;
    let spent_count = take_count(input)?;
    let spent_transactions =
        (0..spent_count).map(|_| take_value::<Hash>(input)).collect::<Reading<Vec<Hash>>>()?;
    let row_count = take_count(input)?;
    let operations = &transaction.body.operations;
    let mut named = Named::new(operations);
    let mut rows = Vec::with_capacity(row_count.min(65_536));
    for _ in 0..row_count {
        rows.push(read_row(input, Some(&mut named))?);
    }
    let spent = restore_spent(operations, &rows, &spent_transactions)?;
    let record = TransactionRecord {
        id,
        witness: transaction.witness(),
        height: header.height,
        position,
        time_ms: header.time_ms,
        author_record,
        spent,
    };
    let record = Record::Transaction(record);
    let hash = record.hash();
    let Record::Transaction(record) = record else { return Err(invalid("not a transaction")) };
    rows.iter_mut().for_each(|row| link(row, hash));
    Ok(Entry { raw, record, hash, result, failed_operation, rows })
}

/// Reads the header and the canonical bytes of the transactions of a block, and passes over what
/// came of them: for a replica, which computes that itself.
///
/// # Errors
/// [`DecodeError`] when the bytes are not the encoding of one block.
pub fn decode_transactions(
    bytes: &[u8],
    chain: ChainId,
) -> Result<(Header, Vec<Bytes>), DecodeError> {
    let malformed = |error: Error| DecodeError::Malformed(error.to_string());
    let mut input = bytes;
    let (header, _) = read_head(&mut input).map_err(malformed)?;
    let count = take_count(&mut input).map_err(malformed)?;
    if count as u128 != u128::from(header.transactions) {
        return Err(DecodeError::Malformed("another number of transactions".to_owned()));
    }
    let mut raws = Vec::with_capacity(count.min(65_536));
    for _ in 0..count {
        raws.push(skip_entry(&mut input, chain).map_err(malformed)?);
    }
    Ok((header, raws))
}

fn skip_entry(input: &mut &[u8], chain: ChainId) -> Reading<Bytes> {
    let raw = read_raw(input, chain)?;
    take_value::<ResultCode>(input)?;
    Compact::read_u64(input)?;
    take_value::<Hash>(input)?;
    let spent = take_count(input)?;
    let bytes = spent.checked_mul(32).ok_or_else(|| invalid("too many spent states"))?;
    take(input, bytes)?;
    for _ in 0..take_count(input)? {
        skip_row(input)?;
    }
    Ok(raw)
}

fn skip_row(input: &mut &[u8]) -> Reading<()> {
    match take_value::<u8>(input)? {
        0 => {}
        1 => {
            take_value::<Record>(input)?;
            take_location(input)?;
            return Ok(());
        }
        2 => {
            take(input, 16)?;
            Compact::read_u32(input)?;
            take_value::<Option<Box<StateExtra>>>(input)?;
        }
        kind => return Err(invalid(format!("row of kind {kind}"))),
    }
    let version = Compact::read_u64(input)?;
    take_value::<Compact>(input)?;
    take(input, 32)?;
    if version > 1 {
        take(input, 32)?;
        take_location(input)?;
    }
    Ok(())
}

/// The bytes of a transaction, with its chain id put back.
fn read_raw(input: &mut &[u8], chain: ChainId) -> Reading<Bytes> {
    let length = take_count(input)?;
    let stripped = take(input, length)?;
    let (version, rest) =
        stripped.split_at_checked(CHAIN_START).ok_or_else(|| invalid("an empty transaction"))?;
    let mut raw = Vec::with_capacity(length + 32);
    raw.extend_from_slice(version);
    raw.extend_from_slice(&chain.0.0);
    raw.extend_from_slice(rest);
    Ok(Bytes::from(raw))
}

/// Decodes canonical bytes of a signed transaction and computes its id from them.
///
/// # Errors
/// [`DecodeError`] when the bytes are not the canonical encoding of one signed transaction.
pub fn decode_signed(raw: &[u8]) -> Result<(SignedTransaction, TransactionId), DecodeError> {
    let transaction: SignedTransaction = codec::from_bytes(raw)?;
    // The signatures are last: a 4-byte count and 65 bytes each. What is before them is the body.
    let body_length = raw.len().saturating_sub(4 + 65 * transaction.signatures.len());
    let body = raw.get(..body_length).unwrap_or_default();
    Ok((transaction, id_of_body_bytes(body)))
}

/// Sets the transaction link of a row that was read without it, and its hash.
fn link(row: &mut Row, transaction: Hash) {
    match &mut row.record {
        Record::WalletState(state) => state.transaction = transaction,
        _ => return,
    }
    row.hash = row.record.hash();
}

/// Reads a row of an entry, whose operations name the states in `named`, or of the genesis
/// (`None`).
fn read_row(input: &mut &[u8], named: Option<&mut Named>) -> Reading<Row> {
    match take_value::<u8>(input)? {
        0 => {
            let key = named
                .and_then(Named::take)
                .ok_or_else(|| invalid("more wallet states than operations touch"))?;
            read_state(input, key, None, true)
        }
        1 => {
            let record = take_value::<Record>(input)?;
            if record.place().is_none() {
                return Err(invalid("a transaction record among the rows"));
            }
            if named.is_some() && matches!(record, Record::WalletState(_)) {
                return Err(invalid("a wallet state in full in an entry; it has a shorter form"));
            }
            let previous_at = take_location(input)?;
            Ok(Row { hash: record.hash(), record, previous_at, named: false })
        }
        2 => {
            let named = named.ok_or_else(|| invalid("a row of kind 2 in the genesis"))?;
            let wallet = take_value::<WalletId>(input)?;
            let token = TokenId(Compact::read_u32(input)?);
            let extra = take_value::<Option<Box<StateExtra>>>(input)?;
            if extra.as_ref().is_some_and(|extra| extra.canonical().as_ref() != Some(extra)) {
                return Err(invalid("what a wallet state has beside its balance is not canonical"));
            }
            let is_next = named.is_next((wallet, token));
            if is_next && extra.is_none() {
                return Err(invalid("a wallet state of kind 2 that has a shorter form"));
            }
            read_state(input, (wallet, token), extra, is_next)
        }
        other => Err(invalid(format!("row kind {other}; this software knows 0, 1 and 2"))),
    }
}

fn read_state(
    input: &mut &[u8],
    (wallet, token): (WalletId, TokenId),
    extra: Option<Box<StateExtra>>,
    named: bool,
) -> Reading<Row> {
    let version = Compact::read_u64(input)?;
    let Compact(balance) = take_value::<Compact>(input)?;
    let wallet_record = take_value::<Hash>(input)?;
    let (previous, previous_at) = if version > 1 {
        (take_value::<Hash>(input)?, take_location(input)?)
    } else {
        (Hash::ZERO, Location::default())
    };
    let record = Record::WalletState(WalletStateRecord {
        wallet,
        token,
        version,
        balance: Amount(balance),
        extra,
        previous,
        transaction: Hash::ZERO,
        wallet_record,
    });
    Ok(Row { hash: Hash::ZERO, record, previous_at, named })
}

/// Is the state of this row kept without its key?
fn is_short(row: &Row, state: &WalletStateRecord) -> bool {
    row.named && state.extra.is_none()
}

fn restore_spent(
    operations: &[Operation],
    rows: &[Row],
    transactions: &[Hash],
) -> Reading<Vec<Spent>> {
    let mut previous = std::collections::BTreeMap::new();
    let mut kept = Vec::with_capacity(rows.len());
    for row in rows {
        if let Record::WalletState(state) = &row.record {
            let key = (state.wallet, state.token);
            kept.push((key, is_short(row, state)));
            if state.version > 1 {
                previous.insert(key, state.previous);
            }
        }
    }
    let states: Vec<Hash> = spent_states(operations, kept.into_iter())
        .into_iter()
        .filter_map(|key| previous.get(&key).copied())
        .collect();
    if states.len() != transactions.len() {
        return Err(invalid(format!(
            "{} spent states, {} links to earlier transactions",
            states.len(),
            transactions.len()
        )));
    }
    let pairs = states.into_iter().zip(transactions);
    Ok(pairs.map(|(state, transaction)| Spent { state, transaction: *transaction }).collect())
}
