//! Valid proofs of the sample ledger, of every kind.

use super::Corpus;
use kanjo_fuzz::sample::{Sample, sample, signed};
use kanjo_ledger::block::{membership_proof, receipt_hash, rows_root};
use kanjo_proof::proof::{
    AbsenceProof, BlockProof, ExtendsProof, LaterHeader, ProvenLeaf, ProvenReceipt, ProvenRow,
    ProvenTransaction, RangeProof, ReversalProof, StateProof, TransactionProof, VersionProof,
    WalletProof,
};
use kanjo_proof::{Carried, Leaf, Proof, ProofFile, check_bytes, merkle};
use kanjo_types::record::{PARTITIONS, RowKey};
use kanjo_types::stored::{Row, genesis_receipt};
use kanjo_types::{Hash, Record, Table, TokenId, codec};

/// The leaf with the greatest key at or below `key`.
fn floor(sample: &Sample, table: Table, key: RowKey) -> ProvenLeaf {
    let partition = key.partition();
    let leaves = (0u32..).zip(sample.ledger.leaves(table, partition));
    let at_or_below = leaves.filter(|(_, leaf)| leaf.key <= key);
    let (slot, leaf) = at_or_below.max_by_key(|(_, leaf)| leaf.key).expect("the bound leaf");
    ProvenLeaf { leaf, path: sample.trees.path(table, partition, slot).expect("a slot") }
}

fn row(sample: &Sample, record: &Record) -> ProvenRow {
    let (table, key) = record.place().expect("a row");
    let ProvenLeaf { leaf: Leaf { key: found, next, .. }, path } = floor(sample, table, key);
    assert_eq!(found, key, "the row is there");
    ProvenRow { record: record.clone(), next, path }
}

fn listed(sample: &Sample, table: Table, from: RowKey, to: RowKey) -> Vec<ProvenRow> {
    let rows = sample.rows[1].range((table, from)..=(table, to));
    rows.map(|(_, record)| row(sample, record)).collect()
}

fn path_of(rows: &[Row], index: usize) -> Vec<Hash> {
    let hashes: Vec<Hash> = rows.iter().map(|row| row.hash).collect();
    merkle::inclusion(&hashes, index).expect("within")
}

fn below(key: RowKey) -> RowKey {
    let mut bytes = key.0.0;
    for byte in bytes.iter_mut().rev() {
        *byte = byte.wrapping_sub(1);
        if *byte != 0xff {
            break;
        }
    }
    RowKey(Hash(bytes))
}

fn of_state(sample: &Sample) -> Vec<Proof> {
    let at = sample.at().expect("a header");
    let mut proofs = Vec::new();
    for ((table, key), record) in &sample.rows[1] {
        let at = at.clone();
        proofs.push(Proof::State(StateProof { at: at.clone(), row: row(sample, record) }));
        let key = RowKey(Hash(key.0.0.map(|byte| byte ^ 1)));
        let low = floor(sample, *table, key);
        proofs.push(Proof::Absence(AbsenceProof { at, table: *table, key, low }));
        if let Record::Wallet(wallet) = record {
            let bound = |token| RowKey::wallet_state(wallet.id, TokenId(token));
            let (from, to) = (bound(0), bound(u32::MAX));
            proofs.push(Proof::Wallet(WalletProof {
                at: sample.at().expect("a header"),
                wallet: row(sample, record),
                low: floor(sample, Table::WalletStates, below(from)),
                states: listed(sample, Table::WalletStates, from, to),
            }));
        }
    }
    // All rows of a partition: the widest range.
    for partition in (0..PARTITIONS).step_by(7).chain([0]) {
        let mut edge = [0u8; 32];
        edge[0] = u8::try_from(partition << 2).expect("six bits");
        edge[31] = 1;
        let from = RowKey(Hash(edge));
        edge[1..].fill(0xfe);
        edge[0] |= 3;
        let (to, at) = (RowKey(Hash(edge)), at.clone());
        for table in Table::ALL {
            let (low, rows) = (floor(sample, table, below(from)), listed(sample, table, from, to));
            proofs.push(Proof::Range(RangeProof { at: at.clone(), table, from, to, low, rows }));
        }
    }
    proofs
}

fn of_history(sample: &Sample) -> Vec<Proof> {
    let [first, second] = sample.blocks.as_slice() else { panic!("two blocks") };
    let mut proofs = Vec::new();
    let hashes: Vec<Hash> = first.genesis_rows.iter().map(|row| row.hash).collect();
    let receipt = genesis_receipt(first.header.chain, hashes.len(), rows_root(&first.genesis_rows));
    for (index, row) in first.genesis_rows.iter().enumerate() {
        proofs.push(Proof::Version(VersionProof {
            at: signed(first),
            record: row.record.clone(),
            index: u32::try_from(index).expect("small"),
            path: path_of(&first.genesis_rows, index),
            receipt: ProvenReceipt { receipt: receipt.clone(), position: 0, path: Vec::new() },
            transaction: None,
        }));
    }
    let records: Vec<Hash> = second.entries.iter().map(|entry| entry.hash).collect();
    let receipts: Vec<Hash> = second.entries.iter().map(receipt_hash).collect();
    for (position, entry) in second.entries.iter().enumerate() {
        let transaction = ProvenTransaction {
            signed: codec::from_bytes(&entry.raw).expect("canonical"),
            record: entry.record.clone(),
            path: merkle::inclusion(&records, position).expect("within"),
        };
        let receipt = ProvenReceipt {
            receipt: entry.receipt(rows_root(&entry.rows)),
            position: entry.record.position,
            path: merkle::inclusion(&receipts, position).expect("within"),
        };
        for (index, row) in entry.rows.iter().enumerate() {
            proofs.push(Proof::Version(VersionProof {
                at: signed(second),
                record: row.record.clone(),
                index: u32::try_from(index).expect("small"),
                path: path_of(&entry.rows, index),
                receipt: receipt.clone(),
                transaction: (index % 2 == 0).then(|| transaction.clone()),
            }));
        }
        let at = signed(second);
        proofs.push(Proof::Transaction(TransactionProof { at, transaction, receipt }));
    }
    proofs.push(reversal(sample));
    let later = LaterHeader { at: signed(second), path: Vec::new() };
    for (block, within) in [(first, None), (second, None), (first, Some(later.clone()))] {
        proofs.push(Proof::Block(BlockProof { at: signed(block), within }));
    }
    let earlier = signed(first);
    proofs.push(Proof::Extends(ExtendsProof { earlier, later, consistency: Vec::new() }));
    proofs
}

/// That the first payment was reversed.
fn reversal(sample: &Sample) -> Proof {
    let second = &sample.blocks[1];
    let records: Vec<Hash> = second.entries.iter().map(|entry| entry.hash).collect();
    let receipts: Vec<Hash> = second.entries.iter().map(receipt_hash).collect();
    let entry = &second.entries[0];
    let original = TransactionProof {
        at: signed(second),
        transaction: ProvenTransaction {
            signed: codec::from_bytes(&entry.raw).expect("canonical"),
            record: entry.record.clone(),
            path: merkle::inclusion(&records, 0).expect("within"),
        },
        receipt: ProvenReceipt {
            receipt: entry.receipt(rows_root(&entry.rows)),
            position: 0,
            path: merkle::inclusion(&receipts, 0).expect("within"),
        },
    };
    let current = |wanted: Table| {
        let (_, record) =
            sample.rows[1].iter().find(|((table, _), _)| *table == wanted).expect("a row");
        StateProof { at: signed(second), row: row(sample, record) }
    };
    let (reversal, act) = (current(Table::Reversals), current(Table::Acts));
    Proof::Reversal(Box::new(ReversalProof { original, reversal, act }))
}

/// Both forms of every proof.
pub fn proofs(corpus: &mut Corpus) {
    let sample = sample();
    for proof in [of_state(sample), of_history(sample)].concat() {
        let bytes = codec::to_bytes(&Carried { memberships: vec![], proof: proof.clone() });
        let checked = check_bytes(&bytes, &sample.genesis);
        assert!(checked.is_ok(), "{checked:?}: {proof:?}");
        corpus.push(("proof_bytes", bytes));
        let file = ProofFile::new(sample.genesis.chain_id(), proof);
        corpus.push(("proof_json", serde_json::to_vec(&file).expect("JSON")));
    }
    // With the membership that block 1 made.
    let memberships = vec![membership_proof(&sample.blocks[1]).expect("a new epoch")];
    let proof = of_state(sample).swap_remove(0);
    let carried = Carried { memberships: memberships.clone(), proof: proof.clone() };
    let bytes = codec::to_bytes(&carried);
    assert!(check_bytes(&bytes, &sample.genesis).is_ok());
    corpus.push(("proof_bytes", bytes));
    let file = ProofFile::new(sample.genesis.chain_id(), proof).with_memberships(memberships);
    corpus.push(("proof_json", serde_json::to_vec(&file).expect("JSON")));
}
