//! What a transaction that passed makes: new versions from the scratch pad.

use crate::ledger::Ledger;
use crate::scratch::{Scratch, Touched};
use crate::table::Row as _;
use kanjo_types::record::{Record, RowKey, Table, UserRecord, WalletRecord, WalletStateRecord};
use kanjo_types::stored::{Location, Row};
use kanjo_types::{Hash, TokenId, UserId, WalletId};

fn row(record: Record, previous_at: Location) -> Row {
    Row { hash: record.hash(), record, previous_at, named: false }
}

impl Ledger {
    /// Makes the new versions and takes them into the tables. `named` says of each drafted wallet
    /// state whether it is the next that the operations name.
    pub(crate) fn commit(&mut self, at: Location, transaction: Hash, named: &[bool]) -> Vec<Row> {
        let scratch = std::mem::take(&mut self.scratch);
        let count = scratch.order.len() + scratch.states.iter().count();
        let mut rows = Vec::with_capacity(count);
        for touched in &scratch.order {
            let made = match touched {
                Touched::User(id) => self.user_row(*id, &scratch, transaction),
                Touched::Wallet(id) => self.wallet_row(*id, &scratch, transaction),
                Touched::Token(id) => self.token_row(*id, &scratch, transaction),
                Touched::Standing(table, key) => {
                    self.standing_row(*table, *key, &scratch, transaction)
                }
            };
            if let Some(row) = made {
                self.install(&row.record, row.hash, at);
                rows.push(row);
            }
        }
        for (((wallet, token), draft), named) in scratch.states.iter().zip(named) {
            let slot = scratch.wallet_slots.get(wallet).copied();
            let slot = slot.or_else(|| self.wallets.find(wallet));
            let wallet_record = slot.and_then(|slot| self.wallets.at(slot));
            assert!(
                wallet_record.is_some_and(|row| row.id == *wallet),
                "a state's wallet was found before"
            );
            let wallet_slot = slot.map_or(0, |slot| slot.slot);
            let before = draft.before;
            let record = Record::WalletState(WalletStateRecord {
                wallet: *wallet,
                token: *token,
                version: before.map_or(0, |before| before.version) + 1,
                balance: draft.balance,
                extra: draft.extra.canonical(),
                previous: before.map_or(Hash::ZERO, |before| before.hash),
                transaction,
                wallet_record: wallet_record.map_or(Hash::ZERO, |row| row.hash),
            });
            let previous_at = before.map_or_else(Location::default, |before| before.at);
            let hash = record.hash();
            let state_slot = before.map(|before| before.slot);
            if let Record::WalletState(state) = &record {
                self.install_state(state, hash, at.into(), state_slot, wallet_slot);
            }
            rows.push(Row { hash, record, previous_at, named: *named });
        }
        assert_eq!(rows.len(), count, "every draft made a version");
        self.relation_index.changing.clear();
        self.count_fees(&scratch.fees);
        self.scratch = scratch;
        rows
    }

    fn user_row(&self, id: UserId, scratch: &Scratch, transaction: Hash) -> Option<Row> {
        let draft = scratch.users.get(&id)?;
        let old = self.users.get(&id);
        let record = Record::User(UserRecord {
            id,
            version: old.map_or(0, |row| row.version) + 1,
            access: draft.access.clone(),
            sponsor: draft.sponsor,
            previous: old.map_or(Hash::ZERO, |row| row.hash),
            transaction,
        });
        let previous_at = old.map_or_else(Location::default, |row| row.at.into());
        Some(row(record, previous_at))
    }

    fn wallet_row(&self, id: WalletId, scratch: &Scratch, transaction: Hash) -> Option<Row> {
        let draft = scratch.wallets.get(&id)?;
        let owner = self.users.get(&draft.owner)?;
        let record = Record::Wallet(WalletRecord {
            id,
            version: 1,
            owner: draft.owner,
            number: draft.number,
            previous: Hash::ZERO,
            transaction,
            owner_record: owner.hash(),
        });
        Some(row(record, Location::default()))
    }

    fn token_row(&self, id: TokenId, scratch: &Scratch, transaction: Hash) -> Option<Row> {
        let mut record = scratch.tokens.get(&id)?.clone();
        let issuer = self.users.get(&record.issuer)?;
        record.transaction = transaction;
        record.issuer_record = issuer.hash();
        let old = self.tokens.get(&id);
        let previous_at = old.map_or_else(Location::default, |row| row.at.into());
        Some(row(Record::Token(record), previous_at))
    }

    fn standing_row(
        &self,
        table: Table,
        key: RowKey,
        scratch: &Scratch,
        transaction: Hash,
    ) -> Option<Row> {
        let mut record = scratch.standing.get(&(table, key))?.clone();
        record.links_mut()?.transaction = transaction;
        if let Record::Row(row) = &mut record {
            row.references = self.references(row, scratch);
        }
        let old = self.standing(table).get(&key);
        let previous_at = old.map_or_else(Location::default, |row| row.made_at());
        Some(row(record, previous_at))
    }
}
