//! Proofs of reversals, and every way to show one that was not.
#![allow(missing_docs, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::*;
use kanjo_proof::proof::{Proof, ReversalProof, StateProof};
use kanjo_proof::{Fact, ProofError};
use kanjo_types::membership::CertificateError;
use kanjo_types::money::{Act, FreezeTarget};
use kanjo_types::record::{RowKey, TransactionRecord};
use kanjo_types::standing::{ActStatus, ReversalKind};
use kanjo_types::{ActId, Hash, Record, Table, TokenId, TransactionId};

fn check(ledger: &Ledger, proof: ReversalProof) -> Result<Fact, ProofError> {
    let proof = Proof::Reversal(Box::new(proof));
    proof.check(&ledger.genesis).map(|statement| statement.fact)
}

fn state(ledger: &Ledger, table: Table, key: RowKey) -> StateProof {
    let Proof::State(proof) = ledger.state(table, key) else { panic!("a state") };
    proof
}

fn record(ledger: &Ledger, height: usize, position: usize) -> TransactionRecord {
    ledger.blocks[height].transactions[position].1.clone()
}

#[test]
fn a_reversed_transaction_is_shown_with_who_ordered_it_and_why() {
    let ledger = sample(1);
    let proof = ledger.reversed(1, 0);
    let statement = proof.check(&ledger.genesis).expect("checks");
    assert_eq!(statement.at.height, 4);
    let Fact::Reversal { made_at, transaction, receipt, reversal, act } = &statement.fact else {
        panic!("a reversal")
    };
    assert_eq!((made_at.height, transaction.body.id()), (1, receipt.id));
    assert_eq!((reversal.kind, reversal.original), (ReversalKind::Reversed, receipt.id));
    assert_eq!((act.id, act.status), (reversal.act, ActStatus::Done));
    let text = statement.to_string();
    for part in [
        format!("transaction {}", receipt.id),
        format!("reversed in token 1 by act {}", act.id),
        "reason  COURT_ORDER 'file 7'".to_owned(),
        "7 of token 1 taken from wallet".to_owned(),
        "made    height 1,".to_owned(),
    ] {
        assert!(text.contains(&part), "'{part}' in {text}");
    }
    let followed = ledger.reversed(1, 1).check(&ledger.genesis).expect("checks").to_string();
    assert!(followed.contains("followed in token 1"), "{followed}");
}

#[test]
fn a_reversal_of_another_transaction_is_refused() {
    let ledger = sample(1);
    let with = |height, position| {
        let mut proof = ledger.reversal_proof(1, 0, act_id());
        let Proof::Transaction(other) = ledger.transaction_proof(height, position) else {
            panic!("a transaction")
        };
        proof.original = other;
        check(&ledger, proof)
    };
    for (height, position) in [(1, 1), (1, 2), (2, 0), (4, 0)] {
        let expected = record(&ledger, height, position).id;
        let found = record(&ledger, 1, 0).id;
        let error = ProofError::WrongTransaction { part: "reversal", expected, found };
        assert_eq!(with(height, position), Err(error));
    }
    assert!(with(1, 0).is_ok());
}

#[test]
fn records_of_other_kinds_are_refused() {
    let ledger = sample(1);
    let user = || {
        state(&ledger, Table::Users, *ledger.rows.keys().next().map(|(_, k)| k).expect("a user"))
    };
    let mut proof = ledger.reversal_proof(1, 0, act_id());
    proof.reversal = user();
    let (expected, found) = ("a reversal", "users");
    assert_eq!(check(&ledger, proof), Err(ProofError::WrongRecord { expected, found }));
    let mut proof = ledger.reversal_proof(1, 0, act_id());
    proof.act = user();
    let expected = "an administrative act";
    assert_eq!(check(&ledger, proof), Err(ProofError::WrongRecord { expected, found }));
    let mut proof = ledger.reversal_proof(1, 0, act_id());
    std::mem::swap(&mut proof.reversal, &mut proof.act);
    assert!(matches!(check(&ledger, proof), Err(ProofError::WrongRecord { .. })));
}

#[test]
fn both_rows_must_be_of_one_header_and_all_headers_final() {
    let mut ledger = sample(1);
    let before = ledger.reversal_proof(1, 0, act_id());
    ledger.block(&[&|hash| vec![balance(1, 9, 6, hash)]]);
    let after = ledger.reversal_proof(1, 0, act_id());
    assert!(check(&ledger, before.clone()).is_ok() && check(&ledger, after.clone()).is_ok());
    for (reversal, act) in [(&before, &after), (&after, &before)] {
        let mixed = ReversalProof { act: act.act.clone(), ..reversal.clone() };
        let error = check(&ledger, mixed).expect_err("must refuse");
        assert!(matches!(error, ProofError::TwoHeaders { .. }), "{error}");
    }
    let unsigned: [fn(&mut ReversalProof); 3] = [
        |proof| proof.original.at.certificate.votes.clear(),
        |proof| proof.reversal.at.certificate.votes.clear(),
        |proof| proof.act.at.certificate.votes.clear(),
    ];
    for change in unsigned {
        let mut proof = after.clone();
        change(&mut proof);
        let error = check(&ledger, proof);
        assert_eq!(error, Err(CertificateError::NotEnoughVotes { needed: 1, found: 0 }.into()));
    }
}

#[test]
fn a_reversal_that_is_not_in_the_state_is_refused() {
    let ledger = sample(1);
    let tamper = |change: &dyn Fn(&mut ReversalProof)| {
        let mut proof = ledger.reversal_proof(1, 0, act_id());
        change(&mut proof);
        check(&ledger, proof).expect_err("must refuse")
    };
    let state_root = |error: &ProofError| matches!(error, ProofError::OtherStateRoot { .. });
    let amount = tamper(&|proof| {
        let Record::Reversal(record) = &mut proof.reversal.row.record else { panic!() };
        record.moves.clear();
    });
    assert!(state_root(&amount), "{amount}");
    let done = tamper(&|proof| {
        let Record::Act(record) = &mut proof.act.row.record else { panic!() };
        record.reason.code = "ERROR".to_owned();
    });
    assert!(state_root(&done), "{done}");
    let moved = tamper(&|proof| proof.reversal.row.path.slot ^= 1);
    assert!(matches!(moved, ProofError::OtherStateRoot { .. } | ProofError::StatePath { .. }));
}

/// A ledger whose state says `made` of the transaction at height 1, position 0. An honest ledger
/// makes no such rows; the check does not rest on that.
fn odd(made: impl Fn(&TransactionRecord, Hash) -> Vec<Record>) -> (Ledger, ReversalProof) {
    let mut ledger = Ledger::new(1, vec![]);
    ledger.block(&[&|hash| vec![balance(1, 1, 5, hash)]]);
    let original = record(&ledger, 1, 0);
    ledger.block(&[&|hash| made(&original, hash)]);
    let proof = ledger.reversal_proof(1, 0, act_id());
    (ledger, proof)
}

#[test]
fn the_act_must_be_the_one_named_and_done_and_order_this() {
    let other = TransactionId(Hash([9; 32]));
    let acts = |act_of: &dyn Fn(TransactionId) -> Act, status, kind| {
        let (ledger, proof) = odd(|original, hash| {
            let order = act_of(original.id);
            vec![act(act_id(), order, status, hash), reversal(original, kind, 1, hash)]
        });
        check(&ledger, proof).map(|_| ()).map_err(|error| error.to_string())
    };
    let refused = |act_of: &dyn Fn(TransactionId) -> Act, kind| {
        let error = acts(act_of, ActStatus::Done, kind).expect_err("must refuse");
        assert!(error.contains("does not reverse transaction"), "{error}");
    };
    let (reversed, followed) = (ReversalKind::Reversed, ReversalKind::Followed);
    let names = |id: TransactionId| reverse(1, &[other, id], &[]);
    let follows = |id: TransactionId| reverse(1, &[other], &[id]);
    assert_eq!(acts(&names, ActStatus::Done, reversed), Ok(()));
    assert_eq!(acts(&follows, ActStatus::Done, followed), Ok(()));
    for status in [ActStatus::Proposed, ActStatus::Waiting(0), ActStatus::Rejected] {
        let error = acts(&names, status, reversed).expect_err("must refuse");
        assert!(error.contains("is not done"), "{error}");
    }
    refused(&names, followed);
    refused(&follows, reversed);
    refused(&|_| reverse(1, &[other], &[]), reversed);
    refused(&|id| reverse(2, &[id], &[]), reversed);
    refused(&|_| Act::Unfreeze { token: TokenId(1), target: FreezeTarget::Token }, reversed);
}

#[test]
fn another_act_or_another_version_of_the_transaction_is_refused() {
    let stranger = ActId(spread(71));
    let (ledger, _) = odd(|original, hash| {
        let order = || reverse(1, &[original.id], &[]);
        vec![
            act(act_id(), order(), ActStatus::Done, hash),
            act(stranger, order(), ActStatus::Done, hash),
            reversal(original, ReversalKind::Reversed, 1, hash),
        ]
    });
    let proof = ledger.reversal_proof(1, 0, stranger);
    let (expected, found) = (act_id(), stranger);
    assert_eq!(check(&ledger, proof), Err(ProofError::OtherAct { expected, found }));

    let (ledger, proof) = odd(|original, hash| {
        let moved = TransactionRecord { position: 1, ..original.clone() };
        let order = reverse(1, &[original.id], &[]);
        vec![
            act(act_id(), order, ActStatus::Done, hash),
            reversal(&moved, ReversalKind::Reversed, 1, hash),
        ]
    });
    let error = check(&ledger, proof).expect_err("must refuse");
    assert!(matches!(error, ProofError::OtherOriginal { .. }), "{error}");
}
