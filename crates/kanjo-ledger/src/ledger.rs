//! The state of a ledger: its tables, remembered ids, and what the block under way has changed.

use crate::relations::RelationIndex;
use crate::replay::{ReplaySnapshot, ReplayWindow};
use crate::rows::{At, StandingRow, StateRow, TokenRow, UserRow, WalletRow};
use crate::scratch::Scratch;
use crate::table::{Slot, Table};
use borsh::{BorshDeserialize, BorshSerialize};
use kanjo_proof::state::{Leaf, LeafUpdate};
use kanjo_types::block::{SupplyChange, TokenAmount};
use kanjo_types::membership::Membership;
use kanjo_types::record::{self, PARTITIONS, Record, RowKey, WalletStateRecord};
use kanjo_types::stored::{Block, Entry, Location, Row as StoredRow};
use kanjo_types::transaction::LEDGER;
use kanjo_types::{Amount, ChainId, Genesis, Hash, TokenId, UserId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The block under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockContext {
    /// Its height.
    pub height: u64,
    /// Its time, milliseconds since 1970-01-01 UTC.
    pub time_ms: u64,
}

/// What a block changed, for the state trees and the header.
#[derive(Debug, Clone, Default)]
pub struct BlockEffects {
    /// Leaves that changed, each once.
    pub leaves: Vec<LeafUpdate>,
    /// Supplies that changed, by ascending token.
    pub supply: Vec<SupplyChange>,
    /// Fees taken, by ascending token.
    pub fees: Vec<TokenAmount>,
}

/// The rows of one partition of every table, and its remembered ids, at one height.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct PartitionSnapshot {
    users: Vec<UserRow>,
    wallets: Vec<WalletRow>,
    tokens: Vec<TokenRow>,
    states: Vec<StateRow>,
    /// By table, in the order of [`record::Table::STANDING`].
    standing: Vec<Vec<StandingRow>>,
    replay: ReplaySnapshot,
}

/// The state of a ledger.
pub struct Ledger {
    chain: ChainId,
    pub(crate) replay_window_ms: u64,
    open_registration: bool,
    pub(crate) open_tokens: bool,
    operators: BTreeSet<UserId>,
    /// Who changes the membership, and how many of them together.
    pub(crate) governors: BTreeSet<UserId>,
    pub(crate) governors_needed: usize,
    /// That of the genesis.
    pub(crate) first_membership: Arc<Membership>,
    /// The newest: follows from the rows.
    pub(crate) membership: Arc<Membership>,
    pub(crate) users: Table<UserRow>,
    pub(crate) wallets: Table<WalletRow>,
    pub(crate) tokens: Table<TokenRow>,
    pub(crate) states: Table<StateRow>,
    /// By table, in the order of [`record::Table::STANDING`].
    standing: Vec<Table<StandingRow>>,
    /// What the ledger has to do by itself, by time: follows from the rows.
    pub(crate) agenda: BTreeSet<(u64, record::Table, RowKey)>,
    /// Names and keys in tables of users: follow from the rows.
    pub(crate) relation_index: RelationIndex,
    pub(crate) symbols: BTreeMap<String, TokenId>,
    pub(crate) replay: ReplayWindow,
    /// Time of the newest block: ids are forgotten by it, so it must never go back.
    time_ms: u64,
    /// Sum of all balances, by token number − 1.
    circulating: Vec<u128>,
    dirty: Vec<(record::Table, Slot)>,
    supply_changed: BTreeSet<TokenId>,
    /// Tokens whose wallet states changed in the block under way; some of them twice.
    moved: Vec<TokenId>,
    /// Taken in the block under way.
    fees: BTreeMap<TokenId, Amount>,
    pub(crate) scratch: Scratch,
}

impl Ledger {
    /// An empty ledger under the rules of `genesis`; the rows of block 0 are still to be
    /// [replayed](Self::redo).
    #[must_use]
    pub fn new(genesis: &Genesis) -> Self {
        let ids =
            |names: &[String]| names.iter().filter_map(|name| genesis.user_id(name)).collect();
        let first_membership = Arc::new(Membership::of_genesis(genesis));
        Self {
            chain: genesis.chain_id(),
            replay_window_ms: genesis.rules.replay_window_ms,
            open_registration: genesis.rules.open_registration,
            open_tokens: genesis.rules.open_tokens,
            operators: ids(&genesis.rules.operators),
            governors: ids(&genesis.cluster.governors),
            governors_needed: usize::from(genesis.cluster.threshold),
            membership: Arc::clone(&first_membership),
            first_membership,
            users: Table::default(),
            wallets: Table::default(),
            tokens: Table::default(),
            states: Table::default(),
            standing: record::Table::STANDING.iter().map(|_| Table::default()).collect(),
            agenda: BTreeSet::new(),
            relation_index: RelationIndex::default(),
            symbols: BTreeMap::new(),
            replay: ReplayWindow::default(),
            time_ms: 0,
            circulating: Vec::new(),
            dirty: Vec::new(),
            supply_changed: BTreeSet::new(),
            moved: Vec::new(),
            fees: BTreeMap::new(),
            scratch: Scratch::default(),
        }
    }

    /// Which ledger this is.
    #[must_use]
    pub fn chain(&self) -> ChainId {
        self.chain
    }

    /// May anyone register?
    #[must_use]
    pub fn open_registration(&self) -> bool {
        self.open_registration
    }

    /// Longest distance of `valid_until_ms` from the block's time.
    #[must_use]
    pub fn replay_window_ms(&self) -> u64 {
        self.replay_window_ms
    }

    pub(crate) fn is_operator(&self, user: &UserId) -> bool {
        self.operators.contains(user)
    }

    /// Newest users.
    #[must_use]
    pub fn users(&self) -> &Table<UserRow> {
        &self.users
    }

    /// Newest wallets.
    #[must_use]
    pub fn wallets(&self) -> &Table<WalletRow> {
        &self.wallets
    }

    /// Newest tokens.
    #[must_use]
    pub fn tokens(&self) -> &Table<TokenRow> {
        &self.tokens
    }

    /// Newest wallet states.
    #[must_use]
    pub fn states(&self) -> &Table<StateRow> {
        &self.states
    }

    /// Newest rows of a table of what stands beside the balances.
    ///
    /// # Panics
    /// For a table that is not in [`record::Table::STANDING`].
    #[must_use]
    pub fn standing(&self, table: record::Table) -> &Table<StandingRow> {
        let found = standing_position(table).and_then(|position| self.standing.get(position));
        #[allow(clippy::expect_used)] // Callers name the table in their source.
        found.expect("a table of what stands beside the balances")
    }

    fn standing_mut(&mut self, table: record::Table) -> Option<&mut Table<StandingRow>> {
        self.standing.get_mut(standing_position(table)?)
    }

    /// Remembered transaction ids.
    #[must_use]
    pub fn replay(&self) -> &ReplayWindow {
        &self.replay
    }

    /// Starts a block: forgets ids that can't be taken any more.
    ///
    /// # Panics
    /// When the time is before the last block's: an id forgotten since could be taken twice.
    pub fn begin_block(&mut self, block: BlockContext) {
        assert!(block.time_ms >= self.time_ms, "ledger time never goes back");
        self.time_ms = block.time_ms;
        self.replay.forget_before(block.time_ms);
        self.settle_indexes();
    }

    /// Takes a version into the tables. It must be newer than the one there.
    pub(crate) fn install(&mut self, record: &Record, hash: Hash, at: Location) {
        let at = At::from(at);
        let (table, (slot, before)) = match record {
            Record::User(user) => {
                let row = UserRow {
                    id: user.id,
                    access: user.access.clone(),
                    sponsor: user.sponsor,
                    version: user.version,
                    hash,
                    at,
                };
                (record::Table::Users, self.users.put(row))
            }
            Record::Wallet(wallet) => {
                let version = wallet.version;
                let row = WalletRow { id: wallet.id, owner: wallet.owner, version, hash, at };
                (record::Table::Wallets, self.wallets.put(row))
            }
            Record::Token(token) => {
                self.symbols.insert(token.symbol.clone(), token.id);
                self.supply_changed.insert(token.id);
                let row = TokenRow { record: token.clone(), hash, at };
                (record::Table::Tokens, self.tokens.put(row))
            }
            Record::WalletState(state) => {
                let slot = self.states.find(&(state.wallet, state.token));
                let wallet_slot = self.wallets.find(&state.wallet).map_or(0, |slot| slot.slot);
                assert!(wallet_slot > 0, "a wallet is there before its states");
                return self.install_state(state, hash, at, slot, wallet_slot);
            }
            Record::Transaction(_) => return,
            _ => return self.install_standing(record, hash, at),
        };
        self.dirty.push((table, slot));
        self.dirty.extend(before.map(|before| (table, before)));
    }

    fn install_standing(&mut self, record: &Record, hash: Hash, at: At) {
        let Some((table, key)) = record.place() else { return };
        let old = self.standing(table).get(&key).and_then(|row| crate::due::due_ms(&row.record));
        if let Some(due_ms) = old {
            self.agenda.remove(&(due_ms, table, key));
        }
        if let Some(due_ms) = crate::due::due_ms(record) {
            self.agenda.insert((due_ms, table, key));
        }
        if let Record::Membership(membership) = record {
            self.note_membership(membership);
        }
        self.index_standing(table, key, record);
        let row = StandingRow { key, record: record.clone(), hash, at };
        let Some(rows) = self.standing_mut(table) else { return };
        let (slot, before) = rows.put(row);
        self.dirty.push((table, slot));
        self.dirty.extend(before.map(|before| (table, before)));
    }

    /// Takes a version of a wallet state whose row is at `slot` (`None`: a new row).
    pub(crate) fn install_state(
        &mut self,
        state: &WalletStateRecord,
        hash: Hash,
        at: At,
        slot: Option<Slot>,
        wallet_slot: u32,
    ) {
        let row = StateRow {
            wallet: state.wallet,
            token: state.token,
            wallet_slot,
            balance: state.balance,
            extra: state.extra.clone(),
            version: state.version,
            hash,
            transaction: state.transaction,
            at,
        };
        let (slot, before, old) = match slot {
            Some(slot) => (slot, None, self.states.replace(slot, row)),
            None => {
                let (slot, before) = self.states.put(row);
                (slot, before, None)
            }
        };
        self.count(state.token, old.map_or(0, |old| old.worth()), state.worth());
        self.dirty.push((record::Table::WalletStates, slot));
        self.dirty.extend(before.map(|before| (record::Table::WalletStates, before)));
    }

    /// Takes a changed balance into the sum. Between the rows of one transaction, and between
    /// partitions of different heights on restart, the sum may pass 2¹²⁸ either way; it wraps, and
    /// is exact when all rows are in, because what was issued fits.
    fn count(&mut self, token: TokenId, old: u128, new: u128) {
        let position = token.0.saturating_sub(1) as usize;
        if self.circulating.len() <= position {
            self.circulating.resize(position + 1, 0);
        }
        if let Some(total) = self.circulating.get_mut(position) {
            *total = total.wrapping_sub(old).wrapping_add(new);
        }
        if self.moved.last() != Some(&token) {
            self.moved.push(token);
        }
    }

    /// Ends a block: what it changed, each leaf once.
    ///
    /// # Panics
    /// When the balances of a token no longer add up to issued − redeemed: the software is wrong,
    /// and no block may be made from it.
    pub fn end_block(&mut self) -> BlockEffects {
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.sort_unstable();
        dirty.dedup();
        let leaves = dirty.iter().filter_map(|(table, slot)| self.leaf_update(*table, *slot));
        let leaves: Vec<LeafUpdate> = leaves.collect();
        assert_eq!(leaves.len(), dirty.len(), "every changed slot has a leaf");
        dirty.clear();
        self.dirty = dirty;
        let mut moved = std::mem::take(&mut self.moved);
        moved.sort_unstable();
        moved.dedup();
        moved.iter().for_each(|token| self.check_supply(*token));
        moved.clear();
        self.moved = moved;
        let changed = std::mem::take(&mut self.supply_changed);
        let supply = changed.into_iter().filter_map(|token| self.supply_of(token)).collect();
        let fees = std::mem::take(&mut self.fees).into_iter();
        let fees = fees.map(|(token, amount)| TokenAmount { token, amount }).collect();
        BlockEffects { leaves, supply, fees }
    }

    /// Takes fees into the block's sums, which stop at 2¹²⁸ − 1.
    pub(crate) fn count_fees(&mut self, fees: &[(TokenId, Amount)]) {
        for (token, amount) in fees {
            let sum = self.fees.entry(*token).or_default();
            *sum = Amount(sum.0.saturating_add(amount.0));
        }
    }

    fn check_supply(&self, token: TokenId) {
        let Some(row) = self.tokens.get(&token) else { return };
        assert_eq!(
            row.record.issued.0.checked_sub(row.record.redeemed.0),
            Some(self.circulating(token)),
            "balances and reservations of token {token} add up to issued - redeemed"
        );
    }

    fn supply_of(&self, token: TokenId) -> Option<SupplyChange> {
        let record = &self.tokens.get(&token)?.record;
        Some(SupplyChange { token, issued: record.issued, redeemed: record.redeemed })
    }

    /// Sum of all balances and reservations of a token, less its overdrafts.
    #[must_use]
    pub fn circulating(&self, token: TokenId) -> u128 {
        let position = token.0.saturating_sub(1) as usize;
        self.circulating.get(position).copied().unwrap_or(0)
    }

    /// Checks for every token that balances add up to issued − redeemed, from the balances
    /// themselves.
    ///
    /// # Errors
    /// The first token that does not, with both sums.
    pub fn audit_supply(&self) -> Result<(), SupplyMismatch> {
        let mut sums: BTreeMap<TokenId, u128> = BTreeMap::new();
        for row in partitions().flat_map(|partition| self.states.rows(partition)) {
            let sum = sums.entry(row.token).or_default();
            *sum = sum.wrapping_add(row.worth());
        }
        for row in partitions().flat_map(|partition| self.tokens.rows(partition)) {
            let token = row.record.id;
            let balances = sums.remove(&token).unwrap_or(0);
            let outstanding = row.record.issued.0.saturating_sub(row.record.redeemed.0);
            if balances != outstanding || balances != self.circulating(token) {
                return Err(SupplyMismatch { token, balances, outstanding });
            }
        }
        match sums.into_iter().next() {
            Some((token, balances)) => Err(SupplyMismatch { token, balances, outstanding: 0 }),
            None => Ok(()),
        }
    }

    fn leaf_update(&self, table: record::Table, slot: Slot) -> Option<LeafUpdate> {
        let leaf = match table {
            record::Table::Users => self.users.leaf(slot),
            record::Table::Wallets => self.wallets.leaf(slot),
            record::Table::Tokens => self.tokens.leaf(slot),
            record::Table::WalletStates => self.states.leaf(slot),
            _ => self.standing(table).leaf(slot),
        }?;
        Some(LeafUpdate { table, partition: slot.partition, slot: slot.slot, leaf })
    }

    /// All leaves of a partition of a table by slot, to build its tree at once.
    #[must_use]
    pub fn leaves(&self, table: record::Table, partition: u16) -> Vec<Leaf> {
        match table {
            record::Table::Users => self.users.leaves(partition).collect(),
            record::Table::Wallets => self.wallets.leaves(partition).collect(),
            record::Table::Tokens => self.tokens.leaves(partition).collect(),
            record::Table::WalletStates => self.states.leaves(partition).collect(),
            _ => self.standing(table).leaves(partition).collect(),
        }
    }

    /// Takes the outcome of a final block from the log, without executing it: for restart.
    /// Partitions for which `applies` is false already contain the block (their checkpoint is at or
    /// above its height).
    pub fn redo(&mut self, block: &Block, applies: impl Fn(u16) -> bool) {
        let at = |position| Location { height: block.header.height, position };
        self.relation_index.stale = true;
        for row in &block.genesis_rows {
            self.redo_row(row, at(0), &applies);
        }
        for (position, entry) in (0u32..).zip(&block.entries) {
            let id = entry.record.id;
            if applies(record::RowKey(id.0).partition())
                && let Some(valid_until_ms) = valid_until_of(entry)
            {
                self.replay.insert(&id, valid_until_ms);
            }
            entry.rows.iter().for_each(|row| self.redo_row(row, at(position), &applies));
        }
        self.time_ms = self.time_ms.max(block.header.time_ms);
        self.replay.forget_before(block.header.time_ms);
        self.dirty.clear();
        self.supply_changed.clear();
        self.moved.clear();
        self.fees.clear();
    }

    fn redo_row(&mut self, row: &StoredRow, at: Location, applies: &impl Fn(u16) -> bool) {
        if row.record.place().is_some_and(|(_, key)| applies(key.partition())) {
            self.install(&row.record, row.hash, at);
        }
    }

    /// A copy of one partition's rows and remembered ids.
    #[must_use]
    pub fn snapshot(&self, partition: u16) -> PartitionSnapshot {
        PartitionSnapshot {
            users: self.users.rows(partition).to_vec(),
            wallets: self.wallets.rows(partition).to_vec(),
            tokens: self.tokens.rows(partition).to_vec(),
            states: self.states.rows(partition).to_vec(),
            standing: self.standing.iter().map(|table| table.rows(partition).to_vec()).collect(),
            replay: self.replay.snapshot(partition),
        }
    }

    /// Replaces one partition by a copy.
    pub fn load(&mut self, partition: u16, snapshot: PartitionSnapshot) {
        let counted = |row: &StateRow| (row.token, row.worth());
        let old: Vec<_> = self.states.rows(partition).iter().map(counted).collect();
        old.into_iter().for_each(|(token, balance)| self.count(token, balance, 0));
        self.symbols.retain(|_, id| record::RowKey::token(*id).partition() != partition);
        for row in &snapshot.tokens {
            self.symbols.insert(row.record.symbol.clone(), row.record.id);
        }
        for row in &snapshot.states {
            self.count(row.token, 0, row.worth());
        }
        self.moved.clear();
        self.agenda.retain(|(_, _, key)| key.partition() != partition);
        for (table, rows) in record::Table::STANDING.into_iter().zip(snapshot.standing) {
            let due = rows.iter().filter_map(|row| {
                crate::due::due_ms(&row.record).map(|due_ms| (due_ms, table, row.key))
            });
            self.agenda.extend(due);
            if let Some(standing) = self.standing_mut(table) {
                standing.load(partition, rows);
            }
        }
        self.relation_index.stale = true;
        self.find_membership();
        self.users.load(partition, snapshot.users);
        self.wallets.load(partition, snapshot.wallets);
        self.tokens.load(partition, snapshot.tokens);
        self.states.load(partition, snapshot.states);
        self.replay.load(partition, snapshot.replay);
    }
}

/// Until when the id of an entry is remembered. What the ledger does by itself is not: nobody can
/// send it, and it is never done twice.
fn valid_until_of(entry: &Entry) -> Option<u64> {
    // version 1 · chain 32 · author 16 · valid_until 8
    if entry.raw.get(33..49)? == LEDGER.0 {
        return None;
    }
    let bytes = entry.raw.get(49..57)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*bytes))
}

fn standing_position(table: record::Table) -> Option<usize> {
    (table as usize).checked_sub(record::Table::Pendings as usize)
}

/// Every partition number.
pub(crate) fn partitions() -> impl Iterator<Item = u16> {
    (0..).take(PARTITIONS)
}

/// Balances of a token don't add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("token {token}: balances add up to {balances}, issued - redeemed is {outstanding}")]
pub struct SupplyMismatch {
    /// Which token.
    pub token: TokenId,
    /// Sum of its balances.
    pub balances: u128,
    /// Issued − redeemed.
    pub outstanding: u128,
}
