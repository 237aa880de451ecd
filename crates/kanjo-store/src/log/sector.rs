//! Sectors and their tags: what lets recovery tell a torn write from damage.
//!
//! Every sector of a frame starts with an 8-byte tag, so a sector that was written is never
//! blank, whatever the payload holds; and no payload can imitate the start of a frame, because
//! it never reaches the first 8 bytes of a sector.
//!
//! ```text
//! byte  0      1        4              8                                  512
//!       ┌──────┬────────┬──────────────┬───────────────────────────────────┐
//!       │ kind │ index  │ sequence low │ 504 bytes of the frame            │
//!       └──────┴────────┴──────────────┴───────────────────────────────────┘
//! ```

use crate::bytes::Bytes;
use crate::disk::SECTOR_BYTES;

/// Bytes of a tag.
pub(crate) const TAG_BYTES: usize = 8;
/// Bytes of a sector that carry the frame.
pub(crate) const SECTOR_DATA_BYTES: usize = SECTOR_BYTES - TAG_BYTES;
/// Sectors a frame may have: the index of a tag has 24 bits.
pub(crate) const FRAME_SECTORS_MAX: u32 = 1 << 24;

// Four set bits each, and four bits apart from one another: no single flip makes one kind
// of another, nor a blank sector of a written one.
const KIND_ONLY: u8 = 0x0f;
const KIND_FIRST: u8 = 0x33;
const KIND_BODY: u8 = 0x55;
const KIND_LAST: u8 = 0x69;

const fn far_apart(a: u8, b: u8) -> bool {
    a.count_ones() >= 4 && b.count_ones() >= 4 && (a ^ b).count_ones() >= 4
}

const _: () = {
    assert!(far_apart(KIND_ONLY, KIND_FIRST) && far_apart(KIND_ONLY, KIND_BODY));
    assert!(far_apart(KIND_ONLY, KIND_LAST) && far_apart(KIND_FIRST, KIND_BODY));
    assert!(far_apart(KIND_FIRST, KIND_LAST) && far_apart(KIND_BODY, KIND_LAST));
};

/// What the first 8 bytes of a sector say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag {
    kind: u8,
    index: u32,
    sequence_low: u32,
}

impl Tag {
    /// The tag of sector `index` of `count` of the frame with this sequence.
    pub(crate) fn new(index: u32, count: u32, sequence: u64) -> Self {
        debug_assert!(index < count && count <= FRAME_SECTORS_MAX);
        let kind = match (index == 0, index + 1 == count) {
            (true, true) => KIND_ONLY,
            (true, false) => KIND_FIRST,
            (false, true) => KIND_LAST,
            (false, false) => KIND_BODY,
        };
        Self { kind, index, sequence_low: low(sequence) }
    }

    pub(crate) fn encode(self) -> [u8; TAG_BYTES] {
        let [i0, i1, i2, _] = self.index.to_le_bytes();
        let [s0, s1, s2, s3] = self.sequence_low.to_le_bytes();
        [self.kind, i0, i1, i2, s0, s1, s2, s3]
    }

    /// Reads a tag; `None` if the sector is too short or its kind is unknown.
    pub(crate) fn decode(sector: &[u8]) -> Option<Self> {
        let [kind, i0, i1, i2, s0, s1, s2, s3] = Bytes::new(sector).array()?;
        if ![KIND_ONLY, KIND_FIRST, KIND_BODY, KIND_LAST].contains(&kind) {
            return None;
        }
        let index = u32::from_le_bytes([i0, i1, i2, 0]);
        Some(Self { kind, index, sequence_low: u32::from_le_bytes([s0, s1, s2, s3]) })
    }

    /// Whether a frame starts with this sector.
    pub(crate) fn starts_frame(self) -> bool {
        matches!(self.kind, KIND_ONLY | KIND_FIRST) && self.index == 0
    }

    /// Whether the sector belongs to the frame with this sequence (modulo 2³²).
    pub(crate) fn is_of(self, sequence: u64) -> bool {
        self.sequence_low == low(sequence)
    }
}

/// The low half of a sequence: enough to tell neighbours apart.
fn low(sequence: u64) -> u32 {
    (sequence & u64::from(u32::MAX)) as u32
}

/// Whether a sector was never written: preallocated zeros, of which one bit may have rotted.
pub(crate) fn is_blank(sector: &[u8]) -> bool {
    if sector.iter().fold(0, |all, byte| all | byte) == 0 {
        return true;
    }
    sector.iter().map(|byte| byte.count_ones()).sum::<u32>() <= 1
}

/// Builds a frame: puts a tag at the start of every sector, and the data behind it.
pub(crate) struct SectorWriter {
    out: Vec<u8>,
    sectors: u32,
    sequence: u64,
}

impl SectorWriter {
    /// A writer for exactly `sectors` sectors, reusing the memory of `buffer`.
    pub(crate) fn new(mut buffer: Vec<u8>, sectors: u32, sequence: u64) -> Self {
        buffer.clear();
        buffer.reserve(sectors as usize * SECTOR_BYTES);
        Self { out: buffer, sectors, sequence }
    }

    pub(crate) fn put(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let used = self.out.len() % SECTOR_BYTES;
            if used == 0 {
                let index = (self.out.len() / SECTOR_BYTES) as u32;
                assert!(index < self.sectors, "a frame has outgrown its extent");
                self.out.extend(Tag::new(index, self.sectors, self.sequence).encode());
                continue;
            }
            let (head, tail) = data.split_at(data.len().min(SECTOR_BYTES - used));
            self.out.extend_from_slice(head);
            data = tail;
        }
    }

    /// Pads the last sector with zeros and returns the frame.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let extent = self.sectors as usize * SECTOR_BYTES;
        assert!(self.out.len() + SECTOR_DATA_BYTES > extent, "a frame has fallen short");
        self.out.resize(extent, 0);
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sector_with_one_rotten_bit_is_still_blank_and_with_two_is_not() {
        let mut sector = [0u8; SECTOR_BYTES];
        assert!(is_blank(&sector));
        sector[300] = 0x10;
        assert!(is_blank(&sector));
        sector[7] = 0x01;
        assert!(!is_blank(&sector));
    }

    #[test]
    fn no_single_flip_blanks_a_tag_or_makes_a_body_start_a_frame() {
        for (index, count) in [(0, 1), (0, 3), (1, 3), (2, 3)] {
            let tag = Tag::new(index, count, 0);
            for bit in 0..64 {
                let mut bytes = tag.encode();
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(!is_blank(&bytes));
                if let Some(flipped) = Tag::decode(&bytes) {
                    assert!(!flipped.starts_frame() || tag.starts_frame());
                }
            }
        }
    }
}
