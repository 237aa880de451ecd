//! A replica's half of a block: the same transactions again, and the same result or none.
//!
//! A leader executed the block and wrote down what came of it. A replica takes only the
//! transactions from it, checks every signature, executes, and encodes the block anew: its bytes
//! must be the leader's, header included. So nothing of what the leader wrote is taken on trust
//! (mission M19-5).

use crate::admission::{AuthorKeys, Prepared, Verified, prepare, verify, verify_one};
use crate::ledger::{BlockContext, Ledger};
use bytes::Bytes;
use kanjo_types::Hash;
use kanjo_types::membership::{Notice, Statement};
use kanjo_types::stored::Entry;
use kanjo_types::transaction::{LEDGER, Operation, SignedTransaction};
use kanjo_types::{ChainId, TransactionId, codec};

/// Where the author stands in the bytes of a transaction: behind the version and the chain id.
const AUTHOR_AT: std::ops::Range<usize> = 33..49;

/// A block that this replica does not compute as its leader did.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// A transaction that can't be in a block.
    #[error("transaction {position}: {why}")]
    Transaction {
        /// Which.
        position: u32,
        /// Why not.
        why: String,
    },
    /// What the ledger has to do by itself is left out, or something else stands there.
    #[error("transaction {position} is not what is due: expected {expected}")]
    Due {
        /// Which.
        position: u32,
        /// What is due.
        expected: TransactionId,
    },
    /// The results differ.
    #[error("{what} is {found}, computed here {computed}")]
    Result {
        /// Which part of the header, or its bytes.
        what: &'static str,
        /// The leader's.
        found: Hash,
        /// Ours.
        computed: Hash,
    },
}

/// A transaction of a block whose signatures were checked ahead of its turn.
pub enum Ready {
    /// Of the ledger itself.
    Own(Bytes),
    /// Good against the signers' keys of that moment.
    Good(Verified),
    /// To be looked at again at its turn: a transaction before it may bring the author or his keys.
    Later(Prepared),
}

/// Checks the signatures of a block's transactions as one batch, against the keys of now. Any
/// thread may do it before the block's turn.
///
/// # Errors
/// [`Difference::Transaction`] for bytes that can't be a transaction of this ledger.
pub fn ready(ledger: &Ledger, raws: Vec<Bytes>) -> Result<Vec<Ready>, Difference> {
    let chain = ledger.chain();
    let mut places = Vec::with_capacity(raws.len());
    let mut batch = Vec::with_capacity(raws.len());
    for (position, raw) in (0u32..).zip(raws) {
        if raw.get(AUTHOR_AT) == Some(&LEDGER.0) {
            places.push(Some(raw));
            continue;
        }
        let prepared = prepare_at(position, raw, chain)?;
        let keys = ledger.author_keys(prepared.transaction());
        batch.push((prepared, keys));
        places.push(None);
    }
    let again: Vec<Bytes> = batch.iter().map(|(prepared, _)| prepared.raw().clone()).collect();
    let mut verified = verify(batch).into_iter().zip(again);
    let mut out = Vec::with_capacity(places.len());
    for (position, place) in (0u32..).zip(places) {
        out.push(match (place, ()) {
            (Some(raw), ()) => Ready::Own(raw),
            (None, ()) => match verified.next() {
                Some((Ok(verified), _)) => Ready::Good(verified),
                Some((Err(_), raw)) => Ready::Later(prepare_at(position, raw, chain)?),
                None => return Err(other(position, "has no outcome")),
            },
        });
    }
    Ok(out)
}

fn other(position: u32, why: impl ToString) -> Difference {
    Difference::Transaction { position, why: why.to_string() }
}

fn prepare_at(position: u32, raw: Bytes, chain: ChainId) -> Result<Prepared, Difference> {
    prepare(raw, chain).map_err(|refused| other(position, refused))
}

/// Executes the transactions of a block. The block is to be ended by the caller
/// ([`Ledger::end_block`]), and its header compared.
///
/// After an error the ledger holds part of the block: it must be opened anew.
///
/// # Errors
/// The first [`Difference`].
pub fn recompute(
    ledger: &mut Ledger,
    block: BlockContext,
    transactions: Vec<Ready>,
    headers: &mut dyn FnMut(&Verified) -> Vec<(u64, Hash)>,
) -> Result<Vec<Entry>, Difference> {
    ledger.begin_block(block);
    let mut entries = ledger.run_due(block).map_err(|refused| other(0, refused))?;
    entries.reserve(transactions.len().saturating_sub(entries.len()));
    let mut transactions = transactions.into_iter();
    for (position, due) in (0u32..).zip(&entries) {
        let expected = due.record.id;
        match transactions.next() {
            Some(Ready::Own(raw)) if raw == due.raw => {}
            _ => return Err(Difference::Due { position, expected }),
        }
    }
    let first = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    for (position, transaction) in (first..).zip(transactions) {
        let mut verified = match transaction {
            Ready::Own(raw) => {
                entries.push(take_notice(ledger, block, position, &raw)?);
                continue;
            }
            Ready::Good(verified) => verified,
            Ready::Later(prepared) => {
                let keys: Option<AuthorKeys> = ledger.author_keys(prepared.transaction());
                verify_one(prepared, keys).map_err(|refused| other(position, refused))?
            }
        };
        if !verified.wanted_headers().is_empty() {
            let known = headers(&verified);
            verified.set_headers(known);
        }
        let entry = ledger.execute(block, position, &verified);
        entries.push(entry.map_err(|refused| other(position, refused))?);
    }
    Ok(entries)
}

fn take_notice(
    ledger: &mut Ledger,
    block: BlockContext,
    position: u32,
    raw: &Bytes,
) -> Result<Entry, Difference> {
    let (notice, statements) = notice_of(raw).ok_or_else(|| other(position, "not due here"))?;
    let entry = ledger.take_notice(block, position, notice, statements);
    let entry = entry.map_err(|error| other(position, error))?;
    if entry.raw != *raw {
        return Err(other(position, "is not as the ledger itself writes it"));
    }
    Ok(entry)
}

fn notice_of(raw: &[u8]) -> Option<(Notice, Vec<Statement>)> {
    let transaction: SignedTransaction = codec::from_bytes(raw).ok()?;
    let mut operations = transaction.body.operations.into_iter();
    match (operations.next(), operations.next()) {
        (Some(Operation::TakeNotice { notice, statements }), None) => Some((*notice, statements)),
        _ => None,
    }
}
