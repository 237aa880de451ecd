//! What the ledger does by itself when its time has come: gives expired pending payments back, and
//! makes scheduled payments.
//!
//! Such work stands in blocks as transactions of the author [`LEDGER`] without signatures. They are
//! the first of their block (notices of members, which others bring, may stand anywhere: see
//! [`crate::membership`]); which there are, and what they say, follows from the state and the
//! block's time alone, so every node makes the same, and an audit computes them anew.

use crate::execute::Taken;
use crate::ledger::{BlockContext, Ledger};
use crate::scratch::WEIGHT_MAX;
use crate::turn::Turn;
use bytes::Bytes;
use kanjo_types::record::{Record, RowKey, Table};
use kanjo_types::standing::{PendingStatus, ScheduleStatus};
use kanjo_types::stored::Entry;
use kanjo_types::transaction::{BODY_VERSION, LEDGER, Refused};
use kanjo_types::{Hash, Operation, ResultCode, SignedTransaction, TransactionBody, codec};

/// Most things done by the ledger itself in one block; the rest is done in the next ones, also when
/// these have changed 16,384 rows.
pub const DUE_MAX: usize = 1_024;

/// The first ledger time at which a block must deal with a row, if ever.
pub(crate) fn due_ms(record: &Record) -> Option<u64> {
    match record {
        // The first of a chain stands for all of it.
        Record::Pending(pending)
            if pending.status == PendingStatus::Open && pending.chain == pending.id =>
        {
            pending.expires_ms.checked_add(1)
        }
        Record::Schedule(schedule) if schedule.status == ScheduleStatus::Active => {
            Some(schedule.next_ms)
        }
        _ => None,
    }
}

impl Ledger {
    /// The earliest time at which the ledger has something to do by itself.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<u64> {
        self.agenda.first().map(|(due_ms, _, _)| *due_ms)
    }

    /// Does what is due at the time of `block`, at most [`DUE_MAX`] things, as its first
    /// transactions. To be called once, at the start of a block.
    ///
    /// # Errors
    /// Never for a sound ledger: an entry that can't be recorded.
    pub fn run_due(&mut self, block: BlockContext) -> Result<Vec<Entry>, Refused> {
        let due = self.agenda.iter().take_while(|(due_ms, _, _)| *due_ms <= block.time_ms);
        let due: Vec<(Table, RowKey)> =
            due.take(DUE_MAX).map(|(_, table, key)| (*table, *key)).collect();
        let mut entries = Vec::with_capacity(due.len());
        let mut weight = 0usize;
        for (position, (table, key)) in (0u32..).zip(due) {
            let Some(operation) = self.due_operation(table, key) else { continue };
            let entry = self.run_one(block, position, operation)?;
            // Chains are long; all of them together are no more than one transaction may be.
            weight = weight.saturating_add(entry.rows.len());
            entries.push(entry);
            if weight >= WEIGHT_MAX {
                break;
            }
        }
        Ok(entries)
    }

    fn due_operation(&self, table: Table, key: RowKey) -> Option<Operation> {
        match &self.standing(table).get(&key)?.record {
            Record::Pending(pending) => Some(Operation::ExpirePending { pending: pending.id }),
            Record::Schedule(schedule) => Some(Operation::RunSchedule {
                schedule: schedule.id,
                version: schedule.links.version,
            }),
            _ => None,
        }
    }

    fn run_one(
        &mut self,
        block: BlockContext,
        position: u32,
        operation: Operation,
    ) -> Result<Entry, Refused> {
        let transaction = self.own_transaction(block, 0, operation);
        let body = &transaction.body;
        let turn =
            Turn { block, id: body.id(), number: 0, author: LEDGER, parties: &[], headers: &[] };
        self.scratch.clear();
        let done = match body.operations.first() {
            Some(Operation::ExpirePending { pending }) => self.expire_pending(&turn, *pending),
            Some(Operation::RunSchedule { schedule, .. }) => self.run_schedule(&turn, *schedule),
            _ => Err(ResultCode::NotPermitted),
        };
        assert_eq!(done, Ok(()), "what is due can always be dealt with");
        self.record_own(block, position, &transaction)
    }

    /// A transaction of the ledger itself.
    pub(crate) fn own_transaction(
        &self,
        block: BlockContext,
        salt: u64,
        operation: Operation,
    ) -> SignedTransaction {
        let body = TransactionBody {
            version: BODY_VERSION,
            chain: self.chain(),
            author: LEDGER,
            valid_until_ms: block.time_ms,
            salt,
            operations: vec![operation],
        };
        SignedTransaction { body, signatures: Vec::new() }
    }

    /// Makes what is on the scratch pad so, by a transaction of the ledger itself.
    pub(crate) fn record_own(
        &mut self,
        block: BlockContext,
        position: u32,
        transaction: &SignedTransaction,
    ) -> Result<Entry, Refused> {
        let raw = Bytes::from(codec::to_bytes(transaction));
        let taken = Taken {
            raw: &raw,
            id: transaction.body.id(),
            witness: transaction.witness(),
            author_record: Hash::ZERO,
            operations: &transaction.body.operations,
        };
        self.conclude(block, position, &taken, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, TOKEN};
    use kanjo_types::Amount;
    use kanjo_types::money::CHAIN_MAX;
    use kanjo_types::policy::Policy;

    #[test]
    fn many_long_chains_expire_in_several_blocks() {
        const CHAINS: usize = 127;
        let mut bench = Bench::new(&["bank", "ann", "bob"], Policy::default());
        bench.issue("ann", 20_000);
        let expires_ms = bench.time_ms + 1_000;
        for _ in 0..2 {
            let reserve = |number| Operation::Reserve {
                token: TOKEN,
                from: bench.wallet("ann"),
                to: bench.wallet("bob"),
                amount: Amount(1),
                expires_ms,
                agent: None,
                linked: number % CHAIN_MAX > 0,
                reference: String::new(),
            };
            let operations = (0..CHAINS * CHAIN_MAX).map(reserve).collect();
            bench.done(&["ann"], operations);
        }
        let time_ms = expires_ms + 1;
        let mut done = Vec::new();
        for height in 4..7 {
            let block = BlockContext { height, time_ms };
            bench.ledger.begin_block(block);
            done.push(bench.ledger.run_due(block).expect("sound").len());
            bench.ledger.end_block();
        }
        // 64 pending payments and a wallet state each.
        assert_eq!(done, [253, 1, 0]);
        assert_eq!(bench.balance("ann"), 20_000);
    }
}
