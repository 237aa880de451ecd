//! Stored entries: their form is pinned, and other bytes are refused.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "a test may end itself"
)]

use bytes::Bytes;
use kanjo_consensus::entry::{
    Content, ENTRY_BYTES_MAX, ENTRY_HEAD_BYTES, Entry, Proposal, decode_voters, encode_voters,
};
use kanjo_consensus::types::{Voters, entry_id};
use kanjo_types::block::{Certificate, HEADER_VERSION, Header};
use kanjo_types::hash::Hash;
use kanjo_types::id::ChainId;
use kanjo_types::stored::{Block, encode_block};
use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn block() -> Proposal {
    let header = Header {
        version: HEADER_VERSION,
        chain: ChainId(Hash([1; 32])),
        height: 9,
        parents: vec![Hash([2; 32])],
        time_ms: 3,
        producer: 1,
        transactions: 0,
        transactions_root: Hash::ZERO,
        receipts_root: Hash::ZERO,
        state_root: Hash::ZERO,
        history_root: Hash::ZERO,
        fees: Vec::new(),
        supply: Vec::new(),
    };
    let hash = header.hash();
    let certificate = Certificate { epoch: 0, votes: Vec::new() };
    let block = Block { header, certificate, entries: Vec::new(), genesis_rows: Vec::new() };
    Proposal { header: hash, bytes: encode_block(&block).into() }
}

fn signed(payload: EntryPayload<Proposal, u64, openraft::EmptyNode>) -> Entry {
    let mut entry = Entry::new(entry_id(0x0102, 9), payload);
    assert_eq!((entry.signature(), entry.stored().len()), (None, 0));
    assert!(entry.head().is_none());
    entry.sign(0x0304, [0xab; 64]);
    entry
}

#[test]
fn the_form_of_entries_is_pinned() {
    let head = |kind: &str| format!("02{kind}02010000000000000403{}", "ab".repeat(64));
    assert_eq!(hex(signed(EntryPayload::Blank).stored()), head("00"));
    let sets = vec![BTreeSet::from([0, 2]), BTreeSet::from([2, 5])];
    let voters = Voters::new_with_defaults(sets, [7]);
    let entry = signed(EntryPayload::Membership(voters));
    let content = ["02", "0200", "0000", "0200", "0200", "0200", "0500", "0100", "0700"].concat();
    assert_eq!(hex(entry.stored()), head("02") + &content);
    let proposal = block();
    let entry = signed(EntryPayload::Normal(proposal.clone()));
    assert_eq!(hex(entry.stored()), head("01") + &hex(&proposal.bytes));
}

#[test]
fn the_genesis_entry_is_pinned() {
    let entry = Entry::genesis(3);
    let content = ["01", "0300", "0000", "0100", "0200", "0000"].concat();
    assert_eq!(hex(entry.stored()), format!("0202{}{content}", "00".repeat(74)));
    assert_eq!((entry.index(), entry.term(), entry.proposer()), (0, 0, 0));
}

#[test]
fn what_is_signed_covers_the_kind_and_every_byte_of_the_content() {
    let covered = |entry: &Entry| {
        let (kind, content) = (entry.stored()[1], &entry.stored()[ENTRY_HEAD_BYTES..]);
        <[u8; 32]>::from(Sha256::digest([&[kind], content].concat()))
    };
    let entry = signed(EntryPayload::Normal(block()));
    assert_eq!(entry.digest().0, covered(&entry));
    assert_eq!(Entry::decode(9, entry.stored().clone()).unwrap().digest(), entry.digest());
    // Other bytes under the same header are another entry.
    let mut proposal = block();
    let mut bytes = proposal.bytes.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    proposal.bytes = bytes.into();
    assert_ne!(signed(EntryPayload::Normal(proposal)).digest(), entry.digest());
    let blank = signed(EntryPayload::Blank);
    assert_eq!(blank.digest().0, covered(&blank));
    let entry = Entry::genesis(2);
    assert_eq!(entry.digest().0, covered(&entry));
}

#[test]
fn a_signature_is_for_one_place() {
    let mut entry = signed(EntryPayload::Blank);
    entry.set_log_id(entry_id(3, 10));
    assert_eq!((entry.signature(), entry.stored().len()), (None, 0));
}

#[test]
fn entries_of_other_forms_are_refused() {
    let good = signed(EntryPayload::Blank).stored().to_vec();
    assert!(Entry::decode(9, good.clone().into()).is_ok());
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        Entry::decode(9, bytes.into()).unwrap_err().to_string()
    };
    assert!(with(0, 1).contains("format 1"));
    assert!(with(1, 3).contains("unknown kind 3"));
    assert!(with(1, 2).contains("malformed voters"));
    let longer = [&good[..], &[0]].concat();
    assert!(Entry::decode(9, longer.into()).unwrap_err().to_string().contains("with content"));
    let huge = Bytes::from(vec![2; ENTRY_BYTES_MAX + 1]);
    assert!(Entry::decode(9, huge).unwrap_err().to_string().contains("at most"));
    for end in 0..good.len() {
        assert!(Entry::decode(9, good[..end].to_vec().into()).is_err());
    }
}

#[test]
fn voters_of_other_forms_are_refused() {
    let decode = |bytes: &[u8]| decode_voters(bytes.to_vec().into()).map_err(|e| e.to_string());
    assert!(decode(&[1, 1, 0, 4, 0, 0, 0]).is_ok());
    assert!(decode(&[3]).unwrap_err().contains("3 sets"));
    assert!(decode(&[1, 2, 0, 4, 0, 4, 0, 0, 0]).unwrap_err().contains("out of order"));
    assert!(decode(&[1, 1, 5, 0]).unwrap_err().contains("members"));
    assert!(decode(&[1, 0, 0, 0, 0]).unwrap_err().contains("empty set"));
    assert!(decode(&[1, 1, 0, 4, 0, 1, 0, 4, 0]).unwrap_err().contains("a learner that votes"));
    assert!(decode(&[1, 1, 0, 4, 0, 0, 0, 0]).unwrap_err().contains("left over"));
}

proptest! {
    #[test]
    fn voters_read_back(
        sets in prop::collection::vec(prop::collection::btree_set(0u64..50, 1..20), 1..3),
        learners in prop::collection::btree_set(50u64..99, 0..9),
    ) {
        let voters = Voters::new_with_defaults(sets, learners);
        prop_assert_eq!(decode_voters(encode_voters(&voters).into()).unwrap(), voters);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0u8..3) {
        let _ = Entry::decode(1, bytes.clone().into());
        let mut entry = vec![2, kind];
        entry.extend(bytes);
        if let Ok(read) = Entry::decode(1, entry.clone().into()) {
            prop_assert_eq!(read.stored(), &Bytes::from(entry));
            prop_assert!(matches!(read.content(), Content::Blank | Content::Block(_) | Content::Voters(_)));
        }
    }
}
