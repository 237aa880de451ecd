//! Copies of partitions made at different heights, and the ledger that a restart makes of them.

use super::Chain;
use kanjo_ledger::{Ledger, PartitionSnapshot};
use kanjo_types::codec;
use kanjo_types::stored::{decode_block, encode_block};

/// Of each partition the height of its copy, and its bytes.
pub struct Copies(Vec<Option<(u64, Vec<u8>)>>);

impl Copies {
    pub fn none() -> Self {
        Self(vec![None; 64])
    }

    /// Copies those partitions whose turn `number` is, as they are now.
    pub fn make(&mut self, chain: &Chain, turns: &[u8], number: usize) {
        for (partition, turn) in (0u16..).zip(turns) {
            if usize::from(*turn) == number {
                let bytes = codec::to_bytes(&chain.ledger.snapshot(partition));
                self.0[usize::from(partition)] = Some((chain.height(), bytes));
            }
        }
    }

    /// Loads the copies made up to block `last` and redoes the log up to it.
    pub fn restart(&self, chain: &Chain, last: usize) -> Ledger {
        let usable = |partition: u16| {
            let copy = self.0[usize::from(partition)].as_ref();
            copy.filter(|(height, _)| *height <= last as u64)
        };
        let mut restored = Ledger::new(&chain.genesis);
        for partition in 0..64 {
            if let Some((_, bytes)) = usable(partition) {
                let copy: PartitionSnapshot = codec::from_bytes(bytes).unwrap();
                // A second time, to see that it replaces what was there.
                restored.load(partition, copy.clone());
                restored.load(partition, copy);
            }
        }
        for block in chain.blocks.iter().take(last + 1) {
            let block = decode_block(&encode_block(block), chain.chain()).unwrap();
            let height = block.header.height;
            restored.redo(&block, |partition| usable(partition).is_none_or(|(at, _)| height > *at));
        }
        restored
    }
}
