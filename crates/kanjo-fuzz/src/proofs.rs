//! Proofs from anybody, checked against a fixed ledger: whatever checks must be true of that
//! ledger.

use crate::binary::decode;
use crate::sample::{Sample, sample};
use kanjo_ledger::block::rows_root;
use kanjo_proof::trust::Final;
use kanjo_proof::{Carried, Fact, ProofFile, Statement, check_bytes};
use kanjo_types::record::RowKey;
use kanjo_types::stored::{Block, genesis_receipt};
use kanjo_types::{Receipt, Record, Table, TokenId, codec};

/// A proof in its binary form.
pub fn proof_bytes(data: &[u8]) {
    let proof = decode::<Carried>(data);
    match check_bytes(data, &sample().genesis) {
        Ok(statement) => {
            assert!(proof.is_some(), "checked, but not one of its encodings");
            assert_true(&statement);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A proof file.
pub fn proof_json(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(file) = ProofFile::from_json(text) else { return };
    let own = file.to_json();
    assert!(own.is_ok(), "what was read can't be written");
    assert!(ProofFile::from_json(&own.unwrap_or_default()).as_ref() == Ok(&file));
    let genesis = &sample().genesis;
    match file.check(genesis) {
        Ok(statement) => {
            let binary = check_bytes(&codec::to_bytes(&(&file.memberships, &file.proof)), genesis);
            assert!(binary.is_ok_and(|same| same == statement), "the two forms differ");
            assert_true(&statement);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn assert_true(statement: &Statement) {
    let sample = sample();
    assert!(statement.chain == sample.genesis.chain_id(), "of another ledger");
    assert!(is_header(sample, &statement.at), "no such header: {:?}", statement.at);
    assert!(is_true(sample, statement) == Some(true), "a proof of a falsehood: {statement}");
    assert!(!statement.to_string().is_empty());
}

fn block_at<'a>(sample: &'a Sample, at: &Final) -> Option<&'a Block> {
    sample.blocks.get(usize::try_from(at.height).ok()?)
}

fn is_header(sample: &Sample, at: &Final) -> bool {
    block_at(sample, at).is_some_and(|block| {
        block.header.hash() == at.header
            && block.header.time_ms == at.time_ms
            && at.vouched.signed_by == ["voter"]
            && (at.vouched.executors, at.vouched.voters) == (1, 1)
    })
}

/// Every version made in a block, with the receipt.
fn versions(block: &Block) -> Vec<(&Record, Receipt)> {
    let rows = &block.genesis_rows;
    let receipt = genesis_receipt(block.header.chain, rows.len(), rows_root(rows));
    let mut versions: Vec<_> = rows.iter().map(|row| (&row.record, receipt.clone())).collect();
    for entry in &block.entries {
        let receipt = entry.receipt(rows_root(&entry.rows));
        versions.extend(entry.rows.iter().map(|row| (&row.record, receipt.clone())));
    }
    versions
}

fn is_true(sample: &Sample, statement: &Statement) -> Option<bool> {
    let block = block_at(sample, &statement.at)?;
    let rows = sample.rows.get(usize::try_from(statement.at.height).ok()?)?;
    let listed = |table: Table, from: RowKey, to: RowKey| {
        let all =
            rows.iter().filter(move |((of, key), _)| *of == table && from <= *key && *key <= to);
        all.map(|(_, record)| record.clone()).collect::<Vec<_>>()
    };
    Some(match &statement.fact {
        Fact::State { record } => rows.get(&record.place()?) == Some(record),
        Fact::Absence { table, key } => !rows.contains_key(&(*table, *key)),
        Fact::Range { rows: table, from, to, records } => listed(*table, *from, *to) == *records,
        Fact::Wallet { wallet, states } => {
            let from = RowKey::wallet_state(wallet.id, TokenId(0));
            let to = RowKey::wallet_state(wallet.id, TokenId(u32::MAX));
            let states: Vec<Record> = states.iter().cloned().map(Record::WalletState).collect();
            let row = rows.get(&(Table::Wallets, RowKey::wallet(wallet.id)));
            row == Some(&Record::Wallet(wallet.clone()))
                && listed(Table::WalletStates, from, to) == states
        }
        Fact::Version { record, receipt, transaction } => {
            let made = versions(block).iter().any(|(made, of)| *made == record && of == receipt);
            let by = transaction.as_ref().is_none_or(|signed| {
                let raw = codec::to_bytes(signed);
                block.entries.iter().any(|entry| entry.raw == raw && entry.record.id == receipt.id)
            });
            made && by
        }
        Fact::Transaction { transaction, hash, record, receipt } => {
            let raw = codec::to_bytes(transaction);
            block.entries.iter().any(|entry| {
                entry.raw == raw
                    && entry.hash == *hash
                    && entry.record == *record
                    && entry.receipt(rows_root(&entry.rows)) == *receipt
            })
        }
        Fact::Block { block, within } => {
            let known = sample.blocks.iter().any(|held| held.header == *block);
            known && within.as_ref().is_none_or(|within| is_header(sample, within))
        }
        Fact::Extends { earlier } => {
            is_header(sample, earlier) && earlier.height < statement.at.height
        }
        Fact::Reversal { made_at, transaction, receipt, reversal, act } => {
            let made = block_at(sample, made_at)?;
            let raw = codec::to_bytes(transaction);
            let is_made = made.entries.iter().any(|entry| {
                entry.raw == raw
                    && entry.hash == reversal.original_record
                    && entry.receipt(rows_root(&entry.rows)) == *receipt
            });
            let is_row = |record: Record| {
                record.place().is_some_and(|place| rows.get(&place) == Some(&record))
            };
            is_made
                && is_header(sample, made_at)
                && is_row(Record::Reversal(Box::new(reversal.clone())))
                && is_row(Record::Act(Box::new(act.clone())))
                && (reversal.original, reversal.act) == (receipt.id, act.id)
        }
    })
}
