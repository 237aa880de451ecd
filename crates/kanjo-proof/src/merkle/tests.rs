//! The published vectors of Certificate Transparency, and a recursion that follows RFC 6962 word by
//! word.

use super::*;
use proptest::prelude::*;

fn leaf_of_bytes(bytes: &[u8]) -> Hash {
    Hash(Sha256::new().chain_update([0u8]).chain_update(bytes).finalize().into())
}

#[test]
fn digests_are_plain_sha256() {
    for number in 0..200u8 {
        let (left, right) = (Hash([number; 32]), leaf_of_bytes(&[number]));
        assert_eq!(leaf(&left), leaf_of_bytes(&left.0));
        let bytes = [&[1u8][..], &left.0, &right.0].concat();
        assert_eq!(node(&left, &right), Hash(Sha256::digest(&bytes).into()));
    }
}

/// The eight inputs of the Certificate Transparency test suite.
const INPUTS: [&str; 8] = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
];

const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

fn hash(text: &str) -> Hash {
    text.parse().expect("64 hexadecimal digits")
}

fn vector_tree() -> AppendTree {
    let mut tree = AppendTree::new();
    for input in INPUTS {
        tree.push_digest(leaf_of_bytes(&hex::decode(input).expect("hex")));
    }
    tree
}

#[test]
fn roots_are_the_published_ones() {
    let bytes = INPUTS.map(|input| hex::decode(input).expect("hex"));
    let tree = vector_tree();
    for (size, root) in ROOTS.iter().enumerate() {
        assert_eq!(tree.root_at(size as u64), Some(hash(root)));
        let over_slice = root_by(&bytes[..size], &|input: &Vec<u8>| leaf_of_bytes(input));
        assert_eq!(over_slice, hash(root));
    }
    assert_eq!(tree.root_at(9), None);
    assert_eq!(EMPTY, hash(ROOTS[0]));
}

#[test]
fn paths_are_the_published_ones() {
    let a = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
    let b = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7";
    let cd = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e";
    let e = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b";
    let ef = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a";
    let gh = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0";
    let efgh = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4";
    let tree = vector_tree();
    let inclusions: [(u64, u64, Vec<&str>); 5] = [
        (0, 1, vec![]),
        (0, 8, vec![b, cd, efgh]),
        (5, 8, vec![e, gh, ROOTS[4]]),
        (2, 3, vec![ROOTS[2]]),
        (1, 5, vec![a, cd, e]),
    ];
    for (index, size, path) in inclusions {
        let path: Vec<Hash> = path.into_iter().map(hash).collect();
        assert_eq!(tree.inclusion(index, size).as_ref(), Some(&path));
        let digest = leaf_of_bytes(&hex::decode(INPUTS[index as usize]).expect("hex"));
        assert_eq!(root_from_digest(digest, index, size, &path), Ok(hash(ROOTS[size as usize])));
    }
    let consistencies: [(u64, u64, Vec<&str>); 4] = [
        (1, 1, vec![]),
        (1, 8, vec![b, cd, efgh]),
        (6, 8, vec![ef, gh, ROOTS[4]]),
        (2, 5, vec![cd, e]),
    ];
    for (from, to, path) in consistencies {
        let path: Vec<Hash> = path.into_iter().map(hash).collect();
        assert_eq!(tree.consistency(from, to).as_ref(), Some(&path));
        let roots = (hash(ROOTS[from as usize]), hash(ROOTS[to as usize]));
        assert_eq!(verify_consistency(from, to, roots.0, roots.1, &path), Ok(()));
    }
}

/// MTH of RFC 6962 §2.1 with the split point found by counting up.
fn naive_root(hashes: &[Hash]) -> Hash {
    match hashes.len() {
        0 => Hash(Sha256::digest(b"").into()),
        1 => leaf(&hashes[0]),
        size => {
            let mut k = 1;
            while k * 2 < size {
                k *= 2;
            }
            node(&naive_root(&hashes[..k]), &naive_root(&hashes[k..]))
        }
    }
}

fn leaves(count: usize) -> Vec<Hash> {
    (0..count).map(|number| leaf_of_bytes(&number.to_le_bytes())).collect()
}

#[test]
fn every_inclusion_and_consistency_of_small_trees_checks() {
    let all = leaves(40);
    let tree: AppendTree = all.iter().copied().collect();
    for to in 0..=all.len() {
        let to_root = naive_root(&all[..to]);
        assert_eq!(root(&all[..to]), to_root);
        assert_eq!(tree.root_at(to as u64), Some(to_root));
        for from in 0..=to {
            let path = tree.consistency(from as u64, to as u64).expect("within");
            let from_root = naive_root(&all[..from]);
            let (a, b) = (from as u64, to as u64);
            assert_eq!(verify_consistency(a, b, from_root, to_root, &path), Ok(()));
            if from > 0 && from < to {
                assert!(verify_consistency(a, b, to_root, to_root, &path).is_err());
                assert!(verify_consistency(a, b, from_root, from_root, &path).is_err());
            }
        }
        for index in 0..to {
            let path = inclusion(&all[..to], index).expect("within");
            assert_eq!(tree.inclusion(index as u64, to as u64).as_ref(), Some(&path));
            let check = |leaf, index: usize, size: usize| {
                verify_inclusion(leaf, index as u64, size as u64, &path, to_root)
            };
            assert_eq!(check(all[index], index, to), Ok(()));
            assert!(check(all[(index + 1) % 40], index, to).is_err());
            assert!((0..to).all(|other| other == index || check(all[index], other, to).is_err()));
        }
        assert_eq!(inclusion(&all[..to], to), None);
    }
}

#[test]
fn outside_answers_nothing() {
    let tree: AppendTree = leaves(5).into_iter().collect();
    assert_eq!(
        (tree.inclusion(5, 5), tree.inclusion(0, 6), tree.inclusion(0, 0)),
        (None, None, None)
    );
    assert_eq!((tree.consistency(4, 3), tree.consistency(0, 6)), (None, None));
    assert_eq!((tree.root_at(6), tree.root_at(u64::MAX)), (None, None));
    assert_eq!(AppendTree::new().root(), EMPTY);
    assert_eq!(AppendTree::new().consistency(0, 0), Some(vec![]));
}

fn hostile_size() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), 0u64..70, Just(u64::MAX), (0u32..64).prop_map(|bits| 1 << bits)]
}

proptest! {
    #[test]
    fn large_trees_agree(size in 1usize..1_200, a: usize, b: usize) {
        let all = leaves(size);
        let tree: AppendTree = all.iter().copied().collect();
        let expected = naive_root(&all);
        prop_assert_eq!(root(&all), expected);
        prop_assert_eq!(tree.root(), expected);
        let (index, from) = (a % size, b % (size + 1));
        let path = tree.inclusion(index as u64, size as u64).expect("within");
        prop_assert_eq!(Some(path.clone()), inclusion(&all, index));
        let (index, size) = (index as u64, size as u64);
        prop_assert!(verify_inclusion(all[index as usize], index, size, &path, expected).is_ok());
        let earlier = tree.root_at(from as u64).expect("within");
        prop_assert_eq!(earlier, naive_root(&all[..from]));
        let path = tree.consistency(from as u64, size).expect("within");
        prop_assert!(verify_consistency(from as u64, size, earlier, expected, &path).is_ok());
    }

    #[test]
    fn hostile_sizes_never_panic(a in hostile_size(), b in hostile_size(), length in 0usize..130) {
        let path = vec![EMPTY; length];
        let refused = verify_inclusion(EMPTY, a, b, &path, EMPTY);
        prop_assert!(refused.is_err());
        let _ = verify_consistency(a, b, EMPTY, EMPTY, &path);
        let tree: AppendTree = leaves(9).into_iter().collect();
        let _ = (tree.inclusion(a, b), tree.consistency(a, b), tree.root_at(a));
    }
}
