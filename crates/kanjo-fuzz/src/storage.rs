//! What is read back from disk.

use crate::binary::decode;
use kanjo_ledger::PartitionSnapshot;
use kanjo_store::log::{FrameHeader, decode_frame};
use kanjo_store::slots::{self, FILE_BYTES, PAYLOAD_BYTES_MAX};

/// A frame of the block log, and its header alone.
pub fn log_frame(data: &[u8]) {
    let header = FrameHeader::decode(data);
    let frame = match decode_frame(data) {
        Ok(frame) => frame,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert!(header == Ok(frame.header), "two headers of one frame");
    let header = frame.header;
    assert!(header.extent_bytes() <= data.len() as u64, "a frame longer than its bytes");
    assert!(frame.header_hashes().count() as u64 == u64::from(header.block_count));
    let mut bytes = 0;
    for number in 0..u64::from(header.block_count) {
        let block = frame.block(header.first_height + number);
        assert!(block.is_some(), "block {number} is missing");
        // Each block has its height, hash and length in front.
        bytes += 44 + block.map_or(0, |(_, block)| block.len() as u64);
    }
    assert!(bytes == header.payload_bytes, "blocks of {bytes} bytes");
    let end = header.first_height + u64::from(header.block_count);
    assert!(
        frame.block(end).is_none() && frame.block(header.first_height.wrapping_sub(1)).is_none()
    );
}

/// A checkpoint file.
pub fn checkpoint(data: &[u8]) {
    let (chain, checkpoint) = match kanjo_store::checkpoint::decode(data) {
        Ok(decoded) => decoded,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let field = |start: usize, length: usize| data.get(start..start + length).unwrap_or_default();
    assert!(field(10, 2) == checkpoint.partition.to_le_bytes());
    assert!(field(16, 32) == chain);
    assert!(field(48, 8) == checkpoint.height.to_le_bytes());
    assert!(data.len() == 96 + checkpoint.payload.len());
    assert!(field(56, checkpoint.payload.len()) == checkpoint.payload);
}

/// A slot file: the two records of a voter.
pub fn slot_file(data: &[u8]) {
    match slots::decode(data) {
        Ok(Some(record)) => {
            assert!(data.len() == FILE_BYTES && record.payload.len() <= PAYLOAD_BYTES_MAX);
            // Its first sector lies in the slot of its sequence, and says the sequence.
            let start = FILE_BYTES / 2 * usize::from(record.sequence % 2 == 1);
            let sequence = data.get(start + 8..start + 16).unwrap_or_default();
            assert!(sequence == record.sequence.to_le_bytes());
        }
        Ok(None) => assert!(data.len() == FILE_BYTES),
        Err(fault) => assert!(!fault.to_string().is_empty()),
    }
}

/// The state of a partition, as checkpoints carry it.
pub fn partition_snapshot(data: &[u8]) {
    let _ = decode::<PartitionSnapshot>(data);
}
