//! Proofs of wallets, made from a replica as a node makes them and checked as a client does.

use crate::world;
use kanjo_ledger::Ledger;
use kanjo_ledger::table::{Row, Slot, Table};
use kanjo_proof::proof::{Carried, MembershipProof, Proof, ProvenLeaf, ProvenRow, WalletProof};
use kanjo_proof::state::StateTree;
use kanjo_proof::trust::SignedHeader;
use kanjo_types::record::RowKey;
use kanjo_types::{Genesis, Hash, Record, TokenId, codec, record};
use std::collections::BTreeMap;

struct Maker<'a> {
    trees: &'a StateTree,
    records: &'a BTreeMap<Hash, Record>,
}

impl Maker<'_> {
    fn leaf<R: Row>(
        &self,
        kind: record::Table,
        table: &Table<R>,
        slot: Slot,
    ) -> Result<ProvenLeaf, String> {
        let leaf = table.leaf(slot).ok_or("a slot without a leaf")?;
        let path = self.trees.path(kind, slot.partition, slot.slot).ok_or("a leaf without path")?;
        Ok(ProvenLeaf { leaf, path })
    }

    fn row<R: Row>(
        &self,
        kind: record::Table,
        table: &Table<R>,
        slot: Slot,
    ) -> Result<ProvenRow, String> {
        let ProvenLeaf { leaf, path } = self.leaf(kind, table, slot)?;
        let record = self.records.get(&leaf.row).ok_or("a version that no final block made")?;
        Ok(ProvenRow { record: record.clone(), next: leaf.next, path })
    }
}

/// Makes the proof of an account's wallet and checks it from the genesis.
///
/// # Errors
/// What is wrong, as text.
pub fn check_wallet(
    genesis: &Genesis,
    (ledger, trees): (&Ledger, &StateTree),
    at: &SignedHeader,
    memberships: &[MembershipProof],
    records: &BTreeMap<Hash, Record>,
    account: u64,
) -> Result<(), String> {
    use record::Table::{WalletStates, Wallets};
    let maker = Maker { trees, records };
    let id = world::wallet(genesis, account).ok_or("no such account")?;
    let slot = ledger.wallets().find(&id).ok_or("the wallet is not in the ledger")?;
    let table = ledger.states();
    let low = table.floor(RowKey::wallet_state(id, TokenId(0)).partition(), &(id, TokenId(0)));
    let mut states = Vec::new();
    let mut next = table.following(low);
    while let Some(slot) = next.filter(|slot| table.at(*slot).is_some_and(|row| row.wallet == id)) {
        states.push(maker.row(WalletStates, table, slot)?);
        next = table.following(slot);
    }
    let proof = WalletProof {
        at: at.clone(),
        wallet: maker.row(Wallets, ledger.wallets(), slot)?,
        low: maker.leaf(WalletStates, table, low)?,
        states,
    };
    let carried = Carried { memberships: memberships.to_vec(), proof: Proof::Wallet(proof) };
    let bytes = codec::to_bytes(&carried);
    kanjo_proof::check_bytes(&bytes, genesis).map(drop).map_err(|error| error.to_string())
}
