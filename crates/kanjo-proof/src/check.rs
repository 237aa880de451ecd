//! How each proof is checked. Order: the header's votes first, then what hangs from the header.

use crate::error::ProofError;
use crate::merkle::{self, MerkleError};
use crate::path::StatePath;
use crate::proof::{
    AbsenceProof, BlockProof, Carried, ExtendsProof, LaterHeader, MembershipProof, Proof,
    ProvenLeaf, ProvenReceipt, ProvenRow, ProvenTransaction, RangeProof, ReversalProof, StateProof,
    TransactionProof, VersionProof, WalletProof,
};
use crate::state::Leaf;
use crate::statement::{Fact, Statement};
use crate::trust::{Final, Trust};
use kanjo_types::money::Act;
use kanjo_types::record::{RowKey, WalletRecord};
use kanjo_types::standing::{ActRecord, ActStatus, ReversalKind, ReversalRecord};
use kanjo_types::{Genesis, Hash, Header, Record, Table, TokenId, codec};

/// Decodes the Borsh encoding of a [`Carried`] proof and checks it. Whatever the bytes, it answers
/// and never panics; this is the door that fuzzers knock at.
///
/// # Errors
/// [`ProofError::Decode`] when the bytes are no proof, otherwise as [`Proof::check`].
pub fn check_bytes(bytes: &[u8], genesis: &Genesis) -> Result<Statement, ProofError> {
    codec::from_bytes::<Carried>(bytes)?.check(genesis)
}

impl Carried {
    /// Learns the memberships one after the other, then checks the proof.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn check(&self, genesis: &Genesis) -> Result<Statement, ProofError> {
        self.check_with(&mut Trust::new(genesis)?)
    }

    /// As [`Carried::check`], with memberships that were learnt before; these are learnt, too.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn check_with(&self, trust: &mut Trust) -> Result<Statement, ProofError> {
        self.memberships.iter().try_for_each(|membership| trust.advance(membership))?;
        self.proof.check_with(trust)
    }
}

impl Proof {
    /// Checks the proof against a genesis and says what it proves.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn check(&self, genesis: &Genesis) -> Result<Statement, ProofError> {
        self.check_with(&Trust::new(genesis)?)
    }

    /// Checks the proof against a genesis that was looked at before: for many proofs.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn check_with(&self, trust: &Trust) -> Result<Statement, ProofError> {
        let (at, fact) = match self {
            Self::State(proof) => proof.check(trust)?,
            Self::Absence(proof) => proof.check(trust)?,
            Self::Range(proof) => proof.check(trust)?,
            Self::Wallet(proof) => proof.check(trust)?,
            Self::Version(proof) => proof.check(trust)?,
            Self::Transaction(proof) => proof.check(trust)?,
            Self::Block(proof) => proof.check(trust)?,
            Self::Extends(proof) => proof.check(trust)?,
            Self::Reversal(proof) => proof.check(trust)?,
        };
        Ok(Statement { chain: trust.chain(), at, fact })
    }
}

type Checked = Result<(Final, Fact), ProofError>;

/// Checks that the state of `header` has `leaf` where `path` says, in the table and partition of
/// `key`.
fn check_leaf(
    header: &Header,
    (table, key): (Table, RowKey),
    leaf: &Leaf,
    path: &StatePath,
) -> Result<(), ProofError> {
    if (path.table, path.partition) != (table, key.partition()) {
        return Err(ProofError::WrongPlace {
            expected: table,
            expected_partition: key.partition(),
            found: path.table,
            found_partition: path.partition,
        });
    }
    let computed =
        path.root(leaf).map_err(|error| ProofError::StatePath { key: leaf.key, error })?;
    if computed != header.state_root {
        let expected = header.state_root;
        return Err(ProofError::OtherStateRoot { key: leaf.key, expected, computed });
    }
    Ok(())
}

fn kind(record: &Record) -> &'static str {
    match record {
        Record::User(_) => "users",
        Record::Wallet(_) => "wallets",
        Record::Token(_) => "tokens",
        Record::WalletState(_) => "wallet states",
        Record::Transaction(_) => "transactions",
        Record::Pending(_) => "pending payments",
        Record::Bundle(_) => "bundles",
        Record::Schedule(_) => "scheduled payments",
        Record::Authority(_) => "authorities",
        Record::Act(_) => "administrative acts",
        Record::Terms(_) => "terms",
        Record::Freeze(_) => "freezes",
        Record::Reversal(_) => "reversals",
        Record::Claim(_) => "claims",
        Record::Attribute(_) => "attributes",
        Record::Membership(_) => "memberships",
        Record::Relation(_) => "tables and views",
        Record::Row(_) => "rows of tables",
    }
}

impl ProvenRow {
    /// Checks the row against the header and gives back its table and key.
    fn check(&self, header: &Header) -> Result<(Table, RowKey), ProofError> {
        let wrong =
            ProofError::WrongRecord { expected: "a row of a table", found: kind(&self.record) };
        let (table, key) = self.record.place().ok_or(wrong)?;
        let leaf = Leaf { key, next: self.next, row: self.record.hash() };
        check_leaf(header, (table, key), &leaf, &self.path)?;
        Ok((table, key))
    }
}

impl StateProof {
    fn check(&self, trust: &Trust) -> Checked {
        let at = trust.check(&self.at)?;
        self.row.check(&self.at.header)?;
        Ok((at, Fact::State { record: self.row.record.clone() }))
    }
}

impl AbsenceProof {
    fn check(&self, trust: &Trust) -> Checked {
        let at = trust.check(&self.at)?;
        let Leaf { key: low, next, .. } = self.low.leaf;
        if !(low < self.key && self.key < next) {
            return Err(ProofError::NotBetween { key: self.key, low, next });
        }
        check_leaf(&self.at.header, (self.table, self.key), &self.low.leaf, &self.low.path)?;
        Ok((at, Fact::Absence { table: self.table, key: self.key }))
    }
}

/// Checks that `rows` are all rows of `table` with `from ≤ key ≤ to`.
fn check_list(
    header: &Header,
    table: Table,
    (from, to): (RowKey, RowKey),
    low: &ProvenLeaf,
    rows: &[ProvenRow],
) -> Result<(), ProofError> {
    if from <= RowKey::MIN || from > to || from.partition() != to.partition() {
        return Err(ProofError::NoRange { from, to });
    }
    if low.leaf.key >= from {
        return Err(ProofError::LowNotBelow { low: low.leaf.key, from });
    }
    check_leaf(header, (table, from), &low.leaf, &low.path)?;
    let mut next = low.leaf.next;
    for row in rows {
        let (found_table, key) = row.check(header)?;
        if found_table != table {
            let found = kind(&row.record);
            return Err(ProofError::WrongRecord { expected: "a row of the range's table", found });
        }
        if key != next {
            return Err(ProofError::BrokenList { expected: next, found: key });
        }
        if key < from || key > to {
            return Err(ProofError::OutsideRange { key, from, to });
        }
        next = row.next;
    }
    if next <= to { Err(ProofError::RangeCutShort { next, to }) } else { Ok(()) }
}

impl RangeProof {
    fn check(&self, trust: &Trust) -> Checked {
        let at = trust.check(&self.at)?;
        let (table, from, to) = (self.table, self.from, self.to);
        check_list(&self.at.header, table, (from, to), &self.low, &self.rows)?;
        let records = self.rows.iter().map(|row| row.record.clone()).collect();
        Ok((at, Fact::Range { rows: table, from, to, records }))
    }
}

impl WalletProof {
    fn check(&self, trust: &Trust) -> Checked {
        let at = trust.check(&self.at)?;
        let Record::Wallet(wallet) = &self.wallet.record else {
            let found = kind(&self.wallet.record);
            return Err(ProofError::WrongRecord { expected: "a wallet", found });
        };
        self.wallet.check(&self.at.header)?;
        let range = wallet_range(wallet);
        check_list(&self.at.header, Table::WalletStates, range, &self.low, &self.states)?;
        let states = self.states.iter().filter_map(|row| match &row.record {
            Record::WalletState(state) => Some(state.clone()),
            _ => None,
        });
        Ok((at, Fact::Wallet { wallet: wallet.clone(), states: states.collect() }))
    }
}

/// The keys of all states that a wallet can have.
fn wallet_range(wallet: &WalletRecord) -> (RowKey, RowKey) {
    let key = |token| RowKey::wallet_state(wallet.id, TokenId(token));
    (key(0), key(u32::MAX))
}

fn in_tree(tree: &'static str) -> impl Fn(MerkleError) -> ProofError {
    move |error| ProofError::Tree { tree, error }
}

fn agree(what: &'static str, expected: u64, found: u64) -> Result<(), ProofError> {
    if expected == found { Ok(()) } else { Err(ProofError::Disagree { what, expected, found }) }
}

impl ProvenReceipt {
    fn check(&self, header: &Header) -> Result<(), ProofError> {
        // The rows of the genesis have one receipt of their own, though no transaction made them.
        let size = if header.height == 0 { 1 } else { u64::from(header.transactions) };
        let (leaf, position) = (self.receipt.hash(), u64::from(self.position));
        merkle::verify_inclusion(leaf, position, size, &self.path, header.receipts_root)
            .map_err(in_tree("receipts"))
    }

    /// Checks the receipt against the header, and that a version is the one at `place` of its rows.
    fn check_row(
        &self,
        header: &Header,
        record: &Record,
        place: (u32, &[Hash]),
    ) -> Result<(), ProofError> {
        self.check(header)?;
        let (receipt, found) = (&self.receipt, record.transaction());
        if receipt.transaction != found {
            return Err(ProofError::ReceiptOfAnother {
                receipt: receipt.transaction,
                record: found,
            });
        }
        let (index, path) = place;
        let (index, size) = (u64::from(index), u64::from(receipt.rows));
        merkle::verify_inclusion(record.hash(), index, size, path, receipt.rows_root)
            .map_err(in_tree("rows"))
    }
}

impl MembershipProof {
    /// Checks the way from the row to the header; the header's votes are for [`Trust::advance`].
    pub(crate) fn check_row(&self) -> Result<(), ProofError> {
        let record = Record::Membership(Box::new(self.membership.clone()));
        self.receipt.check_row(&self.at.header, &record, (self.index, &self.path))
    }
}

impl ProvenTransaction {
    /// Checks the transaction against the header and against a receipt that was checked, and gives
    /// back the hash of its record.
    fn check(&self, header: &Header, receipt: &ProvenReceipt) -> Result<Hash, ProofError> {
        let (record, id) = (&self.record, self.signed.body.id());
        let found_chain = self.signed.body.chain;
        if found_chain != header.chain {
            return Err(ProofError::WrongChain { expected: header.chain, found: found_chain });
        }
        for (part, found) in [("record", record.id), ("receipt", receipt.receipt.id)] {
            if found != id {
                return Err(ProofError::WrongTransaction { part, expected: id, found });
            }
        }
        let witness = self.signed.witness();
        if record.witness != witness {
            return Err(ProofError::WrongWitness { expected: record.witness, found: witness });
        }
        agree("the height", header.height, record.height)?;
        agree("the time", header.time_ms, record.time_ms)?;
        agree("the position", u64::from(record.position), u64::from(receipt.position))?;
        let hash = Record::Transaction(record.clone()).hash();
        if receipt.receipt.transaction != hash {
            let receipt = receipt.receipt.transaction;
            return Err(ProofError::ReceiptOfAnother { receipt, record: hash });
        }
        let (position, size) = (u64::from(record.position), u64::from(header.transactions));
        merkle::verify_inclusion(hash, position, size, &self.path, header.transactions_root)
            .map_err(in_tree("transactions"))?;
        Ok(hash)
    }
}

impl VersionProof {
    fn check(&self, trust: &Trust) -> Checked {
        let at = trust.check(&self.at)?;
        if self.record.place().is_none() {
            let found = kind(&self.record);
            return Err(ProofError::WrongRecord { expected: "a row of a table", found });
        }
        self.receipt.check_row(&self.at.header, &self.record, (self.index, &self.path))?;
        if let Some(transaction) = &self.transaction {
            transaction.check(&self.at.header, &self.receipt)?;
        }
        let signed = self.transaction.as_ref().map(|transaction| transaction.signed.clone());
        let (record, receipt) = (self.record.clone(), self.receipt.receipt.clone());
        Ok((at, Fact::Version { record, receipt, transaction: signed }))
    }
}

impl TransactionProof {
    fn check(&self, trust: &Trust) -> Checked {
        let at = trust.check(&self.at)?;
        self.receipt.check(&self.at.header)?;
        let hash = self.transaction.check(&self.at.header, &self.receipt)?;
        Ok((
            at,
            Fact::Transaction {
                transaction: self.transaction.signed.clone(),
                hash,
                record: self.transaction.record.clone(),
                receipt: self.receipt.receipt.clone(),
            },
        ))
    }
}

impl LaterHeader {
    /// Checks that the later header has `earlier` in its history.
    fn check(&self, trust: &Trust, earlier: &Final) -> Result<Final, ProofError> {
        let later = trust.check(&self.at)?;
        if later.height <= earlier.height {
            return Err(ProofError::NotLater { earlier: earlier.height, later: later.height });
        }
        let (leaf, root) = (earlier.header, self.at.header.history_root);
        merkle::verify_inclusion(leaf, earlier.height, later.height, &self.path, root)
            .map_err(in_tree("history"))?;
        Ok(later)
    }
}

impl BlockProof {
    fn check(&self, trust: &Trust) -> Checked {
        let at = trust.check(&self.at)?;
        let within = self.within.as_ref().map(|later| later.check(trust, &at)).transpose()?;
        Ok((at, Fact::Block { block: self.at.header.clone(), within }))
    }
}

impl ExtendsProof {
    fn check(&self, trust: &Trust) -> Checked {
        let earlier = trust.check(&self.earlier)?;
        let later = self.later.check(trust, &earlier)?;
        merkle::verify_consistency(
            earlier.height,
            later.height,
            self.earlier.header.history_root,
            self.later.at.header.history_root,
            &self.consistency,
        )
        .map_err(in_tree("history"))?;
        Ok((later, Fact::Extends { earlier }))
    }
}

/// Checks that the act was done and orders the reversal.
fn check_order(reversal: &ReversalRecord, act: &ActRecord) -> Result<(), ProofError> {
    let original = reversal.original;
    if act.id != reversal.act {
        return Err(ProofError::OtherAct { expected: reversal.act, found: act.id });
    }
    if act.status != ActStatus::Done {
        return Err(ProofError::ActNotDone(act.id));
    }
    let ordered = match (&act.act, reversal.kind) {
        (Act::Reverse { token, originals, .. }, ReversalKind::Reversed) => {
            *token == reversal.token && originals.contains(&original)
        }
        (Act::Reverse { token, trail, .. }, ReversalKind::Followed) => {
            *token == reversal.token && trail.contains(&original)
        }
        _ => false,
    };
    if ordered { Ok(()) } else { Err(ProofError::NotOrdered { act: act.id, original }) }
}

impl ReversalProof {
    fn check(&self, trust: &Trust) -> Checked {
        let (made_at, original) = self.original.check(trust)?;
        let (at, _) = self.reversal.check(trust)?;
        let (act_at, _) = self.act.check(trust)?;
        if at.header != act_at.header {
            return Err(ProofError::TwoHeaders { reversal: at.header, act: act_at.header });
        }
        let wrong = |expected, found| ProofError::WrongRecord { expected, found: kind(found) };
        let Record::Reversal(reversal) = &self.reversal.row.record else {
            return Err(wrong("a reversal", &self.reversal.row.record));
        };
        let Record::Act(act) = &self.act.row.record else {
            return Err(wrong("an administrative act", &self.act.row.record));
        };
        let Fact::Transaction { transaction, hash, receipt, .. } = original else {
            return Err(ProofError::NotOrdered { act: act.id, original: reversal.original });
        };
        if reversal.original != receipt.id {
            let (expected, found) = (receipt.id, reversal.original);
            return Err(ProofError::WrongTransaction { part: "reversal", expected, found });
        }
        if reversal.original_record != hash {
            let found = reversal.original_record;
            return Err(ProofError::OtherOriginal { expected: hash, found });
        }
        check_order(reversal, act)?;
        let (reversal, act) = (reversal.as_ref().clone(), act.as_ref().clone());
        Ok((at, Fact::Reversal { made_at, transaction, receipt, reversal, act }))
    }
}
