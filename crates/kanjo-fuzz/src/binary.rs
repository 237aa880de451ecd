//! Decoders of the canonical encoding and of stored blocks.

use crate::sample::sample;
use kanjo_ledger::BlockContext;
use kanjo_types::codec::{self, Compact, to_bytes};
use kanjo_types::membership::{Notice, Statement};
use kanjo_types::money::Evidence;
use kanjo_types::stored::{
    append_entry, append_head, append_tail, decode_head, decode_signed, encode_block,
};
use kanjo_types::{
    Access, Certificate, ChainId, Genesis, Hash, Header, Receipt, Record, SignedTransaction, stored,
};

/// Any chain will do: it is not in the bytes of a block.
pub const CHAIN: ChainId = ChainId(Hash([0xcc; 32]));

/// Decodes one value and asserts that it encodes to the same bytes.
pub(crate) fn decode<T>(data: &[u8]) -> Option<T>
where
    T: borsh::BorshDeserialize + borsh::BorshSerialize,
{
    let value = codec::from_bytes::<T>(data).ok()?;
    assert!(to_bytes(&value) == data, "two encodings of one value");
    Some(value)
}

/// A signed transaction, with everything that is computed from it before any ledger is asked.
pub fn decode_signed_transaction(data: &[u8]) {
    let Some(signed) = decode::<SignedTransaction>(data) else {
        assert!(decode_signed(data).is_err(), "refused by one decoder, taken by the other");
        return;
    };
    let decoded = decode_signed(data);
    assert!(decoded.as_ref().is_ok_and(|(same, id)| *same == signed && *id == signed.body.id()));
    let shape = signed.body.check_shape();
    assert!(shape.is_err() || !signed.body.operations.is_empty());
    let touched = stored::touched_states(&signed.body.operations);
    let paying = stored::paying_states(&signed.body.operations);
    assert!(paying.iter().all(|state| touched.contains(state)));
    let _ = signed.witness();
}

/// A record of any table.
pub fn decode_record(data: &[u8]) {
    if let Some(record) = decode::<Record>(data) {
        let in_range = |(_, key): (_, kanjo_types::record::RowKey)| key.partition() < 64;
        assert!(record.place().is_none_or(in_range));
        let _ = (record.hash(), record.previous(), record.transaction());
    }
}

/// What members say about themselves or each other, with their signatures: as it goes from node to
/// node before the ledger takes it.
pub fn decode_notice(data: &[u8]) {
    let Some((notice, statements)) = decode::<(Notice, Vec<Statement>)>(data) else { return };
    let ledger = &sample().ledger;
    let block = BlockContext { height: 2, time_ms: u64::MAX };
    // Nobody outside can sign for the only voter, and it can't go.
    let judged = ledger.judge_notice(block, &notice, &statements);
    assert!(judged.is_err_and(|error| !error.to_string().is_empty()));
}

/// What a reversal shows of a transaction.
pub fn decode_evidence(data: &[u8]) {
    if let Some(evidence) = decode::<Evidence>(data) {
        let _ = (evidence.header.hash(), evidence.receipt.hash());
        let rows = evidence.rows.iter().chain(&evidence.before);
        rows.for_each(|row| assert!(row.place().is_none() || !row.hash().is_zero()));
    }
}

/// A block header.
pub fn decode_header(data: &[u8]) {
    if let Some(header) = decode::<Header>(data) {
        let _ = header.hash();
    }
}

/// A receipt.
pub fn decode_receipt(data: &[u8]) {
    if let Some(receipt) = decode::<Receipt>(data) {
        let _ = receipt.hash();
    }
}

/// A certificate.
pub fn decode_certificate(data: &[u8]) {
    let _ = decode::<Certificate>(data);
}

/// The keys of a user.
pub fn decode_access(data: &[u8]) {
    if let Some(access) = decode::<Access>(data) {
        // Accepted keys are already in the one form that `new` gives.
        if access.check().is_ok() {
            let keys = access.keys().to_vec();
            assert!(Access::new(access.threshold(), keys) == Ok(access));
        }
    }
}

/// A genesis in its binary form.
pub fn decode_genesis(data: &[u8]) {
    if let Some(genesis) = decode::<Genesis>(data) {
        let _ = (genesis.check(), genesis.chain_id(), genesis.quorum());
    }
}

/// The compact integers of the block store.
pub fn decode_compact(data: &[u8]) {
    if let Some(Compact(value)) = decode::<Compact>(data) {
        assert!(Compact::read_u64(&mut &*data).is_ok() == u64::try_from(value).is_ok());
        assert!(Compact::read_u32(&mut &*data).is_ok() == u32::try_from(value).is_ok());
    }
}

/// A stored block.
pub fn decode_block(data: &[u8]) {
    let Ok(block) = stored::decode_block(data, CHAIN) else { return };
    assert!(encode_block(&block) == data, "two encodings of one block");
    let head = decode_head(data);
    assert!(head.is_ok_and(|(header, votes)| header == block.header && votes == block.certificate));
    let mut parts = Vec::new();
    append_head(&block.header, &block.certificate, &mut parts);
    block.entries.iter().for_each(|entry| append_entry(entry, &mut parts));
    append_tail(&block.genesis_rows, &mut parts);
    assert!(parts == data, "written in parts it differs");
    for entry in &block.entries {
        assert!(Record::Transaction(entry.record.clone()).hash() == entry.hash);
        assert!(entry.rows.iter().all(|row| row.record.hash() == row.hash));
        let _ = entry.receipt(Hash::ZERO).hash();
    }
}

/// The start of a stored block, which is read without the rest.
pub fn decode_block_head(data: &[u8]) {
    if let Ok((header, certificate)) = decode_head(data) {
        let mut bytes = Vec::new();
        append_head(&header, &certificate, &mut bytes);
        // The count after the head is not read here.
        let count = to_bytes(&Compact(u128::from(header.transactions))).len();
        let head = bytes.get(..bytes.len() - count).unwrap_or_default();
        assert!(data.starts_with(head), "two encodings of one head");
    }
}
