//! Merkle trees over 32-byte hashes as in RFC 6962 §2.1 (restated in RFC 9162 §2.1), with SHA-256.
//!
//! ```text
//! empty tree      SHA-256("")
//! leaf h          SHA-256(0x00 ‖ h)
//! inner node      SHA-256(0x01 ‖ left ‖ right)
//!
//! five leaves:            root             The left part of every node is the largest complete
//!                        /    \            tree that leaves something for the right, so a tree
//!                    abcd      e           only ever grows at its right edge: what was complete
//!                   /    \                 stays as it is, and an old root is found again in the
//!                 ab      cd               new tree. That is what a consistency proof shows.
//! ```
//! Two forms: [`root`] and [`inclusion`] over a slice (blocks: built once, thrown away), and
//! [`AppendTree`], which keeps every complete node (the history of headers: asked about for ever).

use kanjo_types::Hash;
use sha2::{Digest, Sha256};

/// A path did not lead where it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MerkleError {
    /// The position is outside the tree.
    #[error("position {index} in a tree of {size} leaves; positions are 0 to the size less 1")]
    IndexOutside {
        /// Position asked for.
        index: u64,
        /// Leaves of the tree.
        size: u64,
    },
    /// The later tree is smaller than the earlier one.
    #[error("a tree of {to} leaves can't extend one of {from}; the later tree is never smaller")]
    SizesReversed {
        /// Leaves of the earlier tree.
        from: u64,
        /// Leaves of the later tree.
        to: u64,
    },
    /// Not as many hashes as the position and the sizes call for.
    #[error("the path has {found} hashes; this position in this tree needs {needed}")]
    PathLength {
        /// Hashes given.
        found: usize,
        /// Hashes needed.
        needed: usize,
    },
    /// The hashes lead to another root.
    #[error("the path leads to root {computed}; the tree's root is {expected}")]
    OtherRoot {
        /// The root that should have come out.
        expected: Hash,
        /// The root that came out.
        computed: Hash,
    },
}

/// Root of the tree without leaves: `SHA-256("")`.
pub const EMPTY: Hash = kanjo_types::hash::EMPTY_ROOT;

fn sha256(parts: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    Hash(hasher.finalize().into())
}

/// Digest of the leaf that holds `hash`: `SHA-256(0x00 ‖ hash)`.
#[must_use]
pub fn leaf(hash: &Hash) -> Hash {
    sha256(&[&[0], &hash.0])
}

/// Digest of an inner node: `SHA-256(0x01 ‖ left ‖ right)`.
#[must_use]
pub fn node(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[1], &left.0, &right.0])
}

/// Leaves of the left part of a tree of `size` ≥ 2 leaves: the largest power of two below `size`.
fn left_size(size: usize) -> usize {
    1 << (size - 1).ilog2()
}

fn root_by<T>(items: &[T], leaf: &impl Fn(&T) -> Hash) -> Hash {
    match items {
        [] => EMPTY,
        [item] => leaf(item),
        [one, other] => node(&leaf(one), &leaf(other)),
        _ => {
            let (left, right) = items.split_at(left_size(items.len()));
            node(&root_by(left, leaf), &root_by(right, leaf))
        }
    }
}

/// Root of the tree with these leaves. Allocates nothing.
#[must_use]
pub fn root(hashes: &[Hash]) -> Hash {
    root_by(hashes, &leaf)
}

/// The hashes beside the way from leaf `index` to the root, lowest first; `None` outside the tree.
#[must_use]
pub fn inclusion(hashes: &[Hash], index: usize) -> Option<Vec<Hash>> {
    if index >= hashes.len() {
        return None;
    }
    let (mut rest, mut index) = (hashes, index);
    let mut path = Vec::new();
    while rest.len() > 1 {
        let (left, right) = rest.split_at(left_size(rest.len()));
        if index < left.len() {
            path.push(root(right));
            rest = left;
        } else {
            path.push(root(left));
            index -= left.len();
            rest = right;
        }
    }
    path.reverse();
    Some(path)
}

/// How the way from leaf `index` to the root of `size` > `index` leaves runs: first as many steps
/// as there are levels on which it has a right edge ahead of it (the bits of `index` say from which
/// side), then as many along the right edge (always from the right).
fn steps(index: u64, size: u64) -> (usize, usize) {
    let inner = u64::BITS - (index ^ (size - 1)).leading_zeros();
    let border = index.checked_shr(inner).unwrap_or(0).count_ones();
    (inner as usize, border as usize)
}

fn climb(start: Hash, index: u64, inner: &[Hash], border: &[Hash]) -> Hash {
    let mut digest = start;
    let mut bits = index;
    for sibling in inner {
        digest = if bits & 1 == 0 { node(&digest, sibling) } else { node(sibling, &digest) };
        bits >>= 1;
    }
    border.iter().fold(digest, |digest, sibling| node(sibling, &digest))
}

fn split_path(
    path: &[Hash],
    (inner, border): (usize, usize),
) -> Result<(&[Hash], &[Hash]), MerkleError> {
    let needed = inner + border;
    if path.len() != needed {
        return Err(MerkleError::PathLength { found: path.len(), needed });
    }
    path.split_at_checked(inner).ok_or(MerkleError::PathLength { found: path.len(), needed })
}

fn root_from_digest(
    digest: Hash,
    index: u64,
    size: u64,
    path: &[Hash],
) -> Result<Hash, MerkleError> {
    if index >= size {
        return Err(MerkleError::IndexOutside { index, size });
    }
    let (inner, border) = split_path(path, steps(index, size))?;
    Ok(climb(digest, index, inner, border))
}

/// The root that `path` gives for a tree of `size` leaves whose leaf `index` holds `leaf_hash`.
///
/// # Errors
/// [`MerkleError::IndexOutside`] and [`MerkleError::PathLength`].
pub fn root_from_path(
    leaf_hash: Hash,
    index: u64,
    size: u64,
    path: &[Hash],
) -> Result<Hash, MerkleError> {
    root_from_digest(leaf(&leaf_hash), index, size, path)
}

/// Checks that leaf `index` of the tree of `size` leaves with root `root` holds `leaf_hash`.
///
/// # Errors
/// [`MerkleError`] when the position is outside, the path has the wrong length or leads elsewhere.
pub fn verify_inclusion(
    leaf_hash: Hash,
    index: u64,
    size: u64,
    path: &[Hash],
    root: Hash,
) -> Result<(), MerkleError> {
    same(root, root_from_path(leaf_hash, index, size, path)?)
}

fn same(expected: Hash, computed: Hash) -> Result<(), MerkleError> {
    if expected == computed { Ok(()) } else { Err(MerkleError::OtherRoot { expected, computed }) }
}

/// Checks that the tree of `to_size` leaves with root `to_root` begins with the leaves of the tree
/// of `from_size` leaves with root `from_root` (RFC 9162 §2.1.4.2). The empty tree is the beginning
/// of all.
///
/// # Errors
/// [`MerkleError`] when the sizes are reversed, the path has the wrong length or leads elsewhere.
pub fn verify_consistency(
    from_size: u64,
    to_size: u64,
    from_root: Hash,
    to_root: Hash,
    path: &[Hash],
) -> Result<(), MerkleError> {
    if from_size > to_size {
        return Err(MerkleError::SizesReversed { from: from_size, to: to_size });
    }
    if from_size == 0 || from_size == to_size {
        split_path(path, (0, 0))?;
        let expected = if from_size == 0 { EMPTY } else { to_root };
        return same(expected, from_root);
    }
    // The way starts at the last complete subtree of the earlier tree. If that is the whole tree,
    // its root is known; otherwise it is the first hash of the path.
    let last = from_size - 1;
    let shift = from_size.trailing_zeros();
    let (inner, border) = steps(last, to_size);
    let inner = inner - shift as usize;
    let (start, rest) = if from_size.is_power_of_two() {
        (from_root, path)
    } else {
        let needed = 1 + inner + border;
        path.split_first()
            .map(|(start, rest)| (*start, rest))
            .ok_or(MerkleError::PathLength { found: 0, needed })?
    };
    let (inner, border) = split_path(rest, (inner, border))?;
    let bits = last >> shift;
    let mut from = start;
    for (level, sibling) in inner.iter().enumerate() {
        // What lies to the right of the way came after the earlier tree.
        if (bits >> level) & 1 == 1 {
            from = node(sibling, &from);
        }
    }
    from = border.iter().fold(from, |digest, sibling| node(sibling, &digest));
    same(from_root, from)?;
    same(to_root, climb(start, bits, inner, border))
}

/// The right edge of an append-only tree: enough for its root and for appending, in logarithmic
/// space. Roots are those of [`AppendTree`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    len: u64,
    /// Roots of the complete subtrees, largest first: one for each bit set in `len`.
    complete: Vec<Hash>,
}

impl Frontier {
    /// Number of leaves.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True without leaves.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a leaf.
    pub fn push(&mut self, hash: Hash) {
        let mut carry = leaf(&hash);
        let mut size = self.len;
        while size % 2 == 1 {
            let Some(left) = self.complete.pop() else { break };
            carry = node(&left, &carry);
            size /= 2;
        }
        self.complete.push(carry);
        self.len += 1;
    }

    /// Root over all leaves.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut smallest_first = self.complete.iter().rev().copied();
        let Some(last) = smallest_first.next() else { return EMPTY };
        smallest_first.fold(last, |right, left| node(&left, &right))
    }
}

/// A tree that only grows, with every complete node kept: any root, inclusion or consistency path
/// of now or of any earlier size takes O(log n). 64 bytes a leaf.
///
/// Invariant: level `k` holds `len() / 2^k` digests, each of a complete subtree of `2^k` leaves.
#[derive(Debug, Clone, Default)]
pub struct AppendTree {
    levels: Vec<Vec<Hash>>,
}

impl AppendTree {
    /// The empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of leaves.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.len() as u64)
    }

    /// True without leaves.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a leaf.
    pub fn push(&mut self, hash: Hash) {
        self.push_digest(leaf(&hash));
    }

    fn push_digest(&mut self, digest: Hash) {
        let mut carry = digest;
        for level in &mut self.levels {
            level.push(carry);
            match level.as_slice() {
                [.., left, right] if level.len().is_multiple_of(2) => carry = node(left, right),
                _ => return,
            }
        }
        self.levels.push(vec![carry]);
    }

    /// Digest of the subtree of `size` leaves from `start`. `start` is a multiple of the smallest
    /// power of two that is at least `size`, and the subtree lies within the tree.
    fn subtree(&self, start: u64, size: u64) -> Option<Hash> {
        if size.is_power_of_two() {
            let level = self.levels.get(size.ilog2() as usize)?;
            let position = usize::try_from(start >> size.ilog2()).ok()?;
            return level.get(position).copied();
        }
        let left = left_size_u64(size);
        Some(node(&self.subtree(start, left)?, &self.subtree(start + left, size - left)?))
    }

    /// Root over all leaves.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.root_at(self.len()).unwrap_or(EMPTY)
    }

    /// Root over the first `size` leaves; `None` when there are fewer.
    #[must_use]
    pub fn root_at(&self, size: u64) -> Option<Hash> {
        if size == 0 { Some(EMPTY) } else { self.subtree(0, size).filter(|_| size <= self.len()) }
    }

    /// Path of leaf `index` in the tree of the first `size` leaves; `None` outside.
    #[must_use]
    pub fn inclusion(&self, index: u64, size: u64) -> Option<Vec<Hash>> {
        if index >= size || size > self.len() {
            return None;
        }
        let (mut start, mut rest) = (0, size);
        let mut path = Vec::new();
        while rest > 1 {
            let left = left_size_u64(rest);
            if index - start < left {
                path.push(self.subtree(start + left, rest - left)?);
                rest = left;
            } else {
                path.push(self.subtree(start, left)?);
                start += left;
                rest -= left;
            }
        }
        path.reverse();
        Some(path)
    }

    /// Path that shows the first `from_size` leaves to be the beginning of the first `to_size`;
    /// `None` when the sizes are reversed or there are fewer leaves.
    #[must_use]
    pub fn consistency(&self, from_size: u64, to_size: u64) -> Option<Vec<Hash>> {
        if from_size > to_size || to_size > self.len() {
            return None;
        }
        let mut path = Vec::new();
        if from_size == 0 || from_size == to_size {
            return Some(path);
        }
        let (mut start, mut rest) = (0, to_size);
        while from_size - start != rest {
            let left = left_size_u64(rest);
            if from_size - start <= left {
                path.push(self.subtree(start + left, rest - left)?);
                rest = left;
            } else {
                path.push(self.subtree(start, left)?);
                start += left;
                rest -= left;
            }
        }
        if start > 0 {
            path.push(self.subtree(start, rest)?);
        }
        path.reverse();
        Some(path)
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.levels.iter().map(|level| level.capacity() * size_of::<Hash>()).sum()
    }
}

fn left_size_u64(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

impl FromIterator<Hash> for AppendTree {
    fn from_iter<I: IntoIterator<Item = Hash>>(hashes: I) -> Self {
        let mut tree = Self::new();
        hashes.into_iter().for_each(|hash| tree.push(hash));
        tree
    }
}

#[cfg(test)]
mod tests;
