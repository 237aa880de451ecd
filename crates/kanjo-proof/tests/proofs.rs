//! Every proof checks, and no proof survives a change.
#![allow(missing_docs, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::*;
use kanjo_proof::proof::Proof;
use kanjo_proof::{Carried, Fact, ProofError, ProofFile, Statement, check_bytes};
use kanjo_types::membership::CertificateError;
use kanjo_types::record::{PARTITIONS, RowKey};
use kanjo_types::{Amount, Genesis, Hash, Record, Table, TokenId, WalletId, codec};
use proptest::prelude::*;

/// The binary form of a proof that the genesis's voters signed.
fn bytes(proof: &Proof) -> Vec<u8> {
    codec::to_bytes(&Carried { memberships: vec![], proof: proof.clone() })
}

fn check(proof: &Proof, genesis: &Genesis) -> Result<Statement, ProofError> {
    let statement = check_bytes(&bytes(proof), genesis);
    assert_eq!(statement, proof.check(genesis));
    statement
}

#[test]
fn every_kind_of_proof_checks_and_says_what_it_proves() {
    let ledger = sample(3);
    for (name, proof) in proofs(&ledger) {
        let statement =
            check(&proof, &ledger.genesis).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(statement.chain, ledger.chain);
        assert_eq!(statement.at.vouched.signed_by, ["voter-0", "voter-1", "voter-2"]);
        let text = statement.to_string();
        assert!(
            text.contains("by voter-0, voter-1, voter-2 (3 of 3 voters; 3 of them executed it)"),
            "{text}"
        );
        let json = serde_json::to_string(&statement).expect("json");
        assert_eq!(serde_json::from_str::<Statement>(&json).expect("json"), statement);
    }
}

#[test]
fn a_wallet_shows_all_it_holds() {
    let ledger = sample(1);
    let statement = check(&ledger.wallet(WalletId(spread(1))), &ledger.genesis).expect("checks");
    let Fact::Wallet { states, .. } = &statement.fact else { panic!("a wallet") };
    let held: Vec<(TokenId, Amount)> =
        states.iter().map(|state| (state.token, state.balance)).collect();
    let expected = [(1, 93), (2, 107), (9, 5)].map(|(t, a)| (TokenId(t), Amount(a)));
    assert_eq!(held, expected);
    assert!(statement.to_string().contains("107 of token 2"));
}

#[test]
fn an_absent_row_is_named() {
    let ledger = sample(1);
    let text = |table, key| {
        let statement = check(&ledger.absence(table, key), &ledger.genesis).expect("checks");
        statement.to_string().lines().next().map(str::to_owned).expect("a line")
    };
    let id = WalletId(spread(999));
    let key = RowKey::wallet(id);
    assert_eq!(text(Table::Wallets, key), format!("there is no wallet {id}"));
    let key = RowKey::wallet_state(id, TokenId(3));
    assert_eq!(text(Table::WalletStates, key), format!("there is no token 3 in wallet {id}"));
    assert_eq!(text(Table::Tokens, RowKey::token(TokenId(7))), "there is no token 7");
    let odd = RowKey(Hash([9; 32]));
    assert!(text(Table::Users, odd).starts_with("there is no row of Users with key 0909"));
}

#[test]
fn a_list_with_a_row_left_out_is_refused() {
    let ledger = sample(1);
    for left_out in 0..3 {
        let Proof::Wallet(mut proof) = ledger.wallet(WalletId(spread(1))) else {
            panic!("a wallet")
        };
        proof.states.remove(left_out);
        let error = Proof::Wallet(proof).check(&ledger.genesis).expect_err("refused");
        let cut_short = matches!(error, ProofError::RangeCutShort { .. });
        assert!(cut_short || matches!(error, ProofError::BrokenList { .. }), "{error}");
    }
}

#[test]
fn a_row_below_the_range_is_refused() {
    let ledger = sample(1);
    let state = |token| RowKey::wallet_state(WalletId(spread(1)), TokenId(token));
    let Proof::Range(mut proof) = ledger.range(Table::WalletStates, state(1), state(2)) else {
        panic!("a range")
    };
    proof.from = state(2);
    let error = Proof::Range(proof).check(&ledger.genesis);
    let (key, from, to) = (state(1), state(2), state(2));
    assert_eq!(error, Err(ProofError::OutsideRange { key, from, to }));
}

#[test]
fn another_genesis_refuses_everything() {
    let ledger = sample(1);
    let mut other = genesis(1);
    other.name = "other".into();
    for (name, proof) in proofs(&ledger) {
        let error = check(&proof, &other).expect_err(name);
        assert!(matches!(error, ProofError::WrongChain { .. }), "{name}: {error}");
    }
}

#[test]
fn votes_must_be_a_quorum_of_distinct_voters_in_order() {
    let ledger = sample(3);
    let with = |votes: &[usize]| {
        let Proof::Block(mut proof) = ledger.block_proof(2, None) else { panic!("a block") };
        let all = proof.at.certificate.votes.clone();
        proof.at.certificate.votes = votes.iter().map(|vote| all[*vote]).collect();
        check(&Proof::Block(proof), &ledger.genesis)
    };
    assert_eq!(with(&[0]), Err(CertificateError::NotEnoughVotes { needed: 2, found: 1 }.into()));
    assert_eq!(with(&[]), Err(CertificateError::NotEnoughVotes { needed: 2, found: 0 }.into()));
    assert_eq!(with(&[1, 1]), Err(CertificateError::VoteOrder(1).into()));
    assert_eq!(with(&[2, 1]), Err(CertificateError::VoteOrder(1).into()));
    assert_eq!(with(&[0, 2]).expect("a quorum").at.vouched.signed_by, ["voter-0", "voter-2"]);

    let tamper = |change: &dyn Fn(&mut kanjo_types::Certificate)| {
        let Proof::Block(mut proof) = ledger.block_proof(2, None) else { panic!("a block") };
        change(&mut proof.at.certificate);
        check(&Proof::Block(proof), &ledger.genesis).expect_err("refused")
    };
    assert_eq!(tamper(&|c| c.epoch = 1), ProofError::Epoch { found: 1, known: 0 });
    assert_eq!(
        tamper(&|c| c.votes[2].voter = 3),
        CertificateError::UnknownVoter { voter: 3, voters: 3 }.into()
    );
    assert_eq!(tamper(&|c| c.votes[1].signature[0] ^= 1), CertificateError::BadVote(1).into());
    let swapped = tamper(&|c| c.votes[0].signature = c.votes[1].signature);
    assert_eq!(swapped, CertificateError::BadVote(0).into());
}

#[test]
fn a_voter_listed_twice_in_the_genesis_does_not_count_twice() {
    let ledger = sample(1);
    let mut genesis = ledger.genesis.clone();
    genesis.voters.push(genesis.voters[0].clone());
    assert!(matches!(ledger.block_proof(0, None).check(&genesis), Err(ProofError::Genesis(_))));
}

#[test]
fn heights_must_ascend() {
    let ledger = sample(1);
    let Proof::Extends(mut proof) = ledger.extends(1, 3) else { panic!("extends") };
    std::mem::swap(&mut proof.earlier, &mut proof.later.at);
    let error = Proof::Extends(proof).check(&ledger.genesis);
    assert_eq!(error, Err(ProofError::NotLater { earlier: 3, later: 1 }));
}

#[test]
fn a_present_key_is_never_shown_absent() {
    let ledger = sample(1);
    for ((table, key), (slot, _)) in &ledger.rows {
        for leaf_slot in [ledger.low(*table, *key), {
            let path = ledger.tree.path(*table, key.partition(), *slot).expect("a slot");
            let leaf = ledger.leaves[&(*table, key.partition())][*slot as usize];
            kanjo_proof::proof::ProvenLeaf { leaf, path }
        }] {
            let Proof::Absence(mut proof) = ledger.absence(*table, *key) else { panic!("absence") };
            proof.low = leaf_slot;
            let error = Proof::Absence(proof).check(&ledger.genesis).expect_err("refused");
            assert!(matches!(error, ProofError::NotBetween { .. }), "{error}");
        }
    }
}

/// True when the changed proof answers another question, and answers it truly.
fn another_true_answer(ledger: &Ledger, statement: &Statement) -> bool {
    let keys = |table: Table, from: RowKey, to: RowKey| -> Vec<Record> {
        let rows = ledger.rows.range((table, from)..=(table, to));
        rows.map(|(_, (_, record))| record.clone()).collect()
    };
    match &statement.fact {
        Fact::Absence { table, key } => !ledger.rows.contains_key(&(*table, *key)),
        Fact::Range { rows, from, to, records } => keys(*rows, *from, *to) == *records,
        _ => false,
    }
}

#[test]
fn no_byte_of_a_proof_can_be_changed() {
    let ledger = sample(1);
    for (name, proof) in proofs(&ledger) {
        let bytes = bytes(&proof);
        let truth = check_bytes(&bytes, &ledger.genesis).expect(name);
        let mut passed = 0;
        for position in 0..bytes.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut bytes = bytes.clone();
                bytes[position] ^= change;
                let Ok(statement) = check_bytes(&bytes, &ledger.genesis) else { continue };
                assert_ne!(statement, truth, "{name}: byte {position} means nothing");
                let excused = another_true_answer(&ledger, &statement);
                assert!(excused, "{name}: byte {position} changed to prove {statement}");
                passed += 1;
            }
        }
        // Only the bytes of the question itself: a key, or the two ends of a range.
        assert!(passed <= 3 * 64, "{name}: {passed}");
        for length in 0..bytes.len() {
            assert!(check_bytes(&bytes[..length], &ledger.genesis).is_err());
        }
    }
}

#[test]
fn files_round_trip_and_say_what_is_wrong() {
    let ledger = sample(3);
    for (name, proof) in proofs(&ledger) {
        let file = ProofFile::new(ledger.chain, proof);
        let text = file.to_json().expect(name);
        let read = ProofFile::from_json(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(read, file);
        assert!(read.check(&ledger.genesis).is_ok());
    }
    let text = ProofFile::new(ledger.chain, ledger.block_proof(0, None)).to_json().expect("json");
    let error = |text: &str| ProofFile::from_json(text).expect_err("refused").to_string();
    let newer = text.replace("\"kanjo_proof\": 1", "\"kanjo_proof\": 2");
    assert_eq!(error(&newer), "proof file version 2; this software knows version 1");
    assert!(error("{}").contains("kanjo_proof"));
    assert!(error("not json").contains("not a proof file"));
    assert!(error(&text.replace("\"block\"", "\"blok\"")).contains("blok"));
    assert!(error(&text.replace("\"epoch\"", "\"epic\"")).contains("epoch"));
    assert!(error(&" ".repeat((64 << 20) + 1)).contains("64 MiB"));
    let mut other = ProofFile::from_json(&text).expect("read");
    other.chain.0 = Hash::ZERO;
    assert!(matches!(other.check(&ledger.genesis), Err(ProofError::WrongChain { .. })));
    // Fields that later software adds are passed over.
    let wider = text.replacen('{', "{ \"note\": \"from a newer node\",", 1);
    assert!(ProofFile::from_json(&wider).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_row_and_every_absent_key_has_a_proof(
        batches in prop::collection::vec(prop::collection::vec((0u64..60, 0u32..4), 0..40), 1..5),
    ) {
        let mut ledger = Ledger::new(1, vec![]);
        for (number, batch) in batches.iter().enumerate() {
            let made = |hash: Hash| batch.iter().map(|(row, token)| match token {
                0 => wallet(*row, hash),
                token => balance(*row, *token, number as u128, hash),
            }).collect();
            ledger.block(&[&made]);
        }
        for (table, key) in ledger.rows.keys() {
            let statement = ledger.state(*table, *key).check(&ledger.genesis).expect("checks");
            let Fact::State { record } = statement.fact else { panic!("a state") };
            prop_assert_eq!(record.place(), Some((*table, *key)));
        }
        for number in 0..60 {
            let key = RowKey::wallet(WalletId(spread(number)));
            if !ledger.rows.contains_key(&(Table::Wallets, key)) {
                prop_assert!(ledger.absence(Table::Wallets, key).check(&ledger.genesis).is_ok());
            } else {
                let wallet = ledger.wallet(WalletId(spread(number)));
                prop_assert!(wallet.check(&ledger.genesis).is_ok());
            }
        }
        for partition in 0..PARTITIONS as u8 {
            let (mut from, mut to) = ([0; 32], [0xff; 32]);
            from[0] = partition << 2;
            from[31] = 1;
            to[0] = partition << 2 | 3;
            to[31] = 0xfe;
            let (from, to) = (RowKey(Hash(from)), RowKey(Hash(to)));
            let range = ledger.range(Table::WalletStates, from, to);
            prop_assert!(range.check(&ledger.genesis).is_ok());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        prop_assert!(check_bytes(&bytes, &genesis(1)).is_err());
    }

    #[test]
    fn several_changes_never_panic(
        which in 0usize..16,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let ledger = sample(1);
        let (_, proof) = proofs(&ledger).swap_remove(which);
        let mut bytes = bytes(&proof);
        for (index, byte) in changes {
            let position = index.index(bytes.len());
            bytes[position] = byte;
        }
        let _ = check_bytes(&bytes, &ledger.genesis);
    }
}
