//! The membership from outside: random changes and notices, light clients that follow the epochs,
//! forged and replayed statements, heights without transactions.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::cluster::{certificate, doubt, first_voters, node, state, vote};
use common::copies::Copies;
use common::{Chain, KeySet, START_MS, empty_genesis, first_user, snapshots};
use kanjo_ledger::block::{is_empty, membership_proof};
use kanjo_ledger::membership::notice_of;
use kanjo_ledger::{BlockContext, NoticeError, Verified};
use kanjo_proof::proof::{BlockProof, Carried, MembershipProof, Proof};
use kanjo_proof::trust::SignedHeader;
use kanjo_proof::{ProofError, Trust, check_bytes};
use kanjo_types::genesis::Cluster;
use kanjo_types::membership::{
    CertificateError, Measurement, MemberKind, MemberStatus, MembershipChange, Notice, Statement,
};
use kanjo_types::stored::Block;
use kanjo_types::{Genesis, Hash, Header, Operation, ResultCode, codec};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

const EXECUTORS: u16 = 4;
const WITNESSES: u16 = 1;

fn genesis() -> Genesis {
    let names = ["ann", "bob"];
    let cluster = Cluster {
        governors: names.map(str::to_owned).to_vec(),
        threshold: 1,
        measurements: Vec::new(),
    };
    Genesis {
        voters: first_voters(EXECUTORS, WITNESSES),
        cluster,
        users: names.map(|name| first_user(name, &KeySet::single(name))).to_vec(),
        ..empty_genesis()
    }
}

fn ordered(chain: &Chain, salt: u64, changes: Vec<MembershipChange>) -> Verified {
    let operations =
        changes.into_iter().map(|change| Operation::ChangeMembership { change }).collect();
    let author = chain.genesis.user_id("ann").unwrap();
    let valid_until_ms = START_MS + 10_000;
    let body = common::body(chain.chain(), author, valid_until_ms, salt, operations);
    chain.admit(&KeySet::single("ann").sign(body)).expect("well formed")
}

fn order(chain: &mut Chain, changes: Vec<MembershipChange>) -> ResultCode {
    let salt = chain.height();
    let verified = ordered(chain, salt, changes);
    chain.block(START_MS + salt, &[verified]).pop().unwrap().unwrap().result
}

fn hear(chain: &mut Chain, notice: &Notice, by: Vec<Statement>) -> Result<(), NoticeError> {
    let time_ms = START_MS + chain.height();
    chain.hear(time_ms, &[(notice.clone(), by)]).pop().unwrap().map(|_| ())
}

/// A notice that the members sign in the present epoch.
fn say(chain: &mut Chain, notice: &Notice, members: &[u16]) -> Result<(), NoticeError> {
    let statements = state(&chain.ledger, chain.ledger.membership().epoch, notice, members);
    hear(chain, notice, statements)
}

#[derive(Debug, Clone)]
enum Step {
    Admit(bool),
    Remove(u16),
    Readmit(u16),
    Allow(u8),
    Leave(u16),
    Return(u16),
    Eject(u16, u16),
    Doubt(u16, u8),
    /// By these members, whoever they are.
    Forged(u16, u8),
    Nothing,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let member = 0u16..8;
    let step = prop_oneof![
        2 => any::<bool>().prop_map(Step::Admit),
        1 => member.clone().prop_map(Step::Remove),
        3 => member.clone().prop_map(Step::Readmit),
        1 => (0u8..4).prop_map(Step::Allow),
        4 => member.clone().prop_map(Step::Leave),
        6 => member.clone().prop_map(Step::Return),
        2 => (member.clone(), member.clone()).prop_map(|(a, b)| Step::Eject(a, b)),
        2 => (member.clone(), any::<u8>()).prop_map(|(member, at)| Step::Doubt(member, at)),
        1 => (member, any::<u8>()).prop_map(|(member, by)| Step::Forged(member, by)),
        1 => Just(Step::Nothing),
    ];
    prop::collection::vec(step, 1..40)
}

fn change_of(chain: &Chain, step: &Step) -> Option<MembershipChange> {
    let reason = String::new();
    Some(match *step {
        Step::Admit(witness) => {
            let number = u16::try_from(chain.ledger.membership().members.len()).unwrap();
            let kind = if witness { MemberKind::Witness } else { MemberKind::Executor };
            MembershipChange::Admit { certificate: Box::new(node(number, kind)) }
        }
        Step::Remove(member) => MembershipChange::Remove { member, reason },
        Step::Readmit(member) => MembershipChange::Readmit { member, reason },
        Step::Allow(byte) => MembershipChange::Allow {
            measurement: Measurement { program: Hash([byte; 32]), note: String::new() },
        },
        _ => return None,
    })
}

/// A notice and who signs it.
fn notice_of_step(chain: &Chain, step: &Step) -> Option<(Notice, Vec<u16>)> {
    let membership = chain.ledger.membership();
    let voters = || membership.voters().map(|(number, _)| number);
    Some(match *step {
        Step::Leave(member) => (Notice::Leave { member }, vec![member]),
        Step::Return(member) => (Notice::Return { member }, vec![member]),
        Step::Eject(a, b) => {
            let mut members = vec![a, b];
            members.sort_unstable();
            members.dedup();
            let others = voters().filter(|number| !members.contains(number)).collect();
            (Notice::Eject { members }, others)
        }
        Step::Doubt(member, at) => {
            let height = u64::from(at) % chain.height().max(1);
            (doubt(&chain.ledger, height, member), vec![])
        }
        Step::Forged(member, by) => {
            let signers = (0..8).filter(|bit| by >> bit & 1 == 1 && *bit != member).collect();
            (Notice::Leave { member }, signers)
        }
        _ => return None,
    })
}

/// Signs the newest block by all voters of its epoch.
fn sign(chain: &mut Chain) {
    let height = chain.height();
    let membership = chain.ledger.membership_at(height);
    let voters: Vec<u16> = membership.voters().map(|(number, _)| number).collect();
    let block = chain.blocks.last_mut().unwrap();
    let hash = block.header.hash();
    block.certificate = certificate(membership.epoch, height, &hash, &voters);
}

fn play(steps: &[Step]) -> (Chain, Copies) {
    let (mut chain, mut copies) = (Chain::new(genesis()), Copies::none());
    chain.compared_every = 8;
    sign(&mut chain);
    for (number, step) in steps.iter().enumerate() {
        if let Some(change) = change_of(&chain, step) {
            order(&mut chain, vec![change]);
        } else if let Some((notice, members)) = notice_of_step(&chain, step) {
            let heard = say(&mut chain, &notice, &members);
            assert!(heard.is_err() || !matches!(step, Step::Forged(..)), "{step:?}");
        } else {
            chain.hear(START_MS + chain.height(), &[]);
        }
        sign(&mut chain);
        // The membership lies in partition 0; some others beside it.
        let turns: Vec<u8> = (0..64).map(|partition| partition % 40).collect();
        copies.make(&chain, &turns, steps.len().saturating_sub(number + 1));
    }
    (chain, copies)
}

fn signed(block: &Block) -> SignedHeader {
    SignedHeader { header: block.header.clone(), certificate: block.certificate.clone() }
}

/// Less than half of the votes, and more.
fn by_part(block: &Block, votes: usize) -> SignedHeader {
    let mut signed = signed(block);
    signed.certificate.votes.truncate(votes);
    signed
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        rng_seed: RngSeed::Fixed(0x6d65_6d62),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// After every block [`common::cluster::check`] looks at all epochs: consecutive, one voter
    /// that executes at least.
    #[test]
    fn a_light_client_follows_every_epoch(steps in steps()) {
        let (chain, _) = play(&steps);
        let proofs: Vec<MembershipProof> =
            chain.blocks.iter().filter_map(membership_proof).collect();
        let newest = chain.ledger.membership().epoch;
        prop_assert_eq!(proofs.len() as u64, newest);
        let mut trust = Trust::new(&chain.genesis).unwrap();
        let ignorant = trust.clone();
        for proof in &proofs {
            trust.advance(proof).expect("the next epoch");
            trust.advance(proof).expect("known already");
        }
        prop_assert_eq!(trust.epoch(), newest);
        for block in &chain.blocks {
            let height = block.header.height;
            let membership = chain.ledger.membership_at(height);
            let checked = trust.check(&signed(block)).expect("certified");
            prop_assert_eq!(checked.epoch, membership.epoch);
            prop_assert_eq!(checked.vouched.voters, membership.voters().count());
            prop_assert_eq!(ignorant.check(&signed(block)).is_ok(), membership.epoch == 0);
            prop_assert!(trust.check(&by_part(block, membership.quorum() - 1)).is_err());
            for epoch in (0..=newest).filter(|epoch| *epoch != membership.epoch) {
                let other = chain.ledger.membership_of(epoch).unwrap();
                let voters: Vec<u16> = other.voters().map(|(number, _)| number).collect();
                let mut signed = signed(block);
                let hash = block.header.hash();
                signed.certificate = certificate(epoch, height, &hash, &voters);
                let refused = ProofError::OtherEpoch { epoch, height };
                prop_assert_eq!(trust.check(&signed), Err(refused));
            }
            for (number, member) in membership.numbered().filter(|(_, member)| !member.votes()) {
                let mut signed = signed(block);
                let own = vote(membership.epoch, height, &block.header.hash(), number);
                signed.certificate.votes.push(own);
                signed.certificate.votes.sort_by_key(|vote| vote.voter);
                let refused = trust.check(&signed);
                prop_assert!(refused.is_err(), "{member:?}");
            }
        }
    }

    /// Restarted from copies of different heights, or redone from the log, it is the same.
    #[test]
    fn a_restart_finds_the_same_membership(steps in steps(), cut in any::<prop::sample::Index>()) {
        let (chain, copies) = play(&steps);
        chain.compare();
        let last = cut.index(chain.blocks.len());
        let restored = copies.restart(&chain, last);
        let above = chain.ledger.membership_at(last as u64 + 1);
        prop_assert_eq!(restored.membership(), &above);
    }
}

#[test]
fn a_proof_carries_the_memberships_it_needs() {
    let steps = [Step::Admit(false), Step::Return(5), Step::Leave(0), Step::Nothing];
    let (chain, _) = play(&steps);
    let memberships: Vec<_> = chain.blocks.iter().filter_map(membership_proof).collect();
    let at = signed(chain.blocks.last().unwrap());
    let carried = |memberships: &[MembershipProof]| {
        let proof = Proof::Block(BlockProof { at: at.clone(), within: None });
        let carried = Carried { memberships: memberships.to_vec(), proof };
        check_bytes(&codec::to_bytes(&carried), &chain.genesis)
    };
    let text = carried(&memberships).expect("checks").to_string();
    let words = "by node-1, node-2, node-3, node-4, node-5 (5 of 5 voters; 4 of them executed it)";
    assert!(text.contains(words), "{text}");
    let unknown = ProofError::Epoch { found: 3, known: 2 };
    assert_eq!(carried(&memberships[..2]), Err(unknown));
    let skipped = carried(&memberships[1..]).expect_err("the first is missing");
    assert_eq!(skipped, ProofError::Epoch { found: 1, known: 0 });
    assert!(carried(&[memberships[0].clone(), memberships[2].clone()]).is_err());
}

#[test]
fn a_membership_that_the_block_did_not_make_is_refused() {
    let (chain, _) = play(&[Step::Leave(4), Step::Leave(3), Step::Nothing]);
    let proofs: Vec<_> = chain.blocks.iter().filter_map(membership_proof).collect();
    let refused = |change: &dyn Fn(&mut MembershipProof)| {
        let mut trust = Trust::new(&chain.genesis).unwrap();
        let mut proof = proofs[0].clone();
        change(&mut proof);
        let error = trust.advance(&proof).expect_err("refused");
        assert_eq!(trust.epoch(), 0, "nothing is learnt");
        error
    };
    let tree = |error| matches!(error, ProofError::Tree { .. });
    assert!(tree(refused(&|proof| proof.membership.members[4].status = MemberStatus::Voting)));
    assert!(tree(refused(&|proof| proof.membership.epoch = 2)));
    assert!(tree(refused(&|proof| proof.membership.height = 9)));
    assert!(tree(refused(&|proof| proof.receipt.receipt.rows += 1)));
    let other = refused(&|proof| proof.membership.links.transaction = Hash::ZERO);
    assert!(matches!(other, ProofError::ReceiptOfAnother { .. }));
    let few = refused(&|proof| proof.at.certificate.votes.truncate(2));
    assert_eq!(few, CertificateError::NotEnoughVotes { needed: 3, found: 2 }.into());
    let later = refused(&|proof| proof.at = signed(&chain.blocks[2]));
    assert_eq!(later, ProofError::Epoch { found: 1, known: 0 });

    let mut trust = Trust::new(&chain.genesis).unwrap();
    trust.advance(&proofs[0]).expect("the next");
    trust.advance(&proofs[1]).expect("the next");
    let again = trust.learn(chain.ledger.membership().clone());
    assert_eq!(again, Err(ProofError::NotNextEpoch { expected: 3, found: 2 }));
}

#[test]
fn forged_and_replayed_statements_are_refused() {
    let mut chain = Chain::new(genesis());
    let leave = Notice::Leave { member: 2 };
    // By another member's key, under its number.
    let mut forged = state(&chain.ledger, 0, &leave, &[1]);
    forged[0].member = 2;
    assert_eq!(hear(&mut chain, &leave, forged), Err(NoticeError::Signature(2)));
    // Of another epoch.
    let early = state(&chain.ledger, 1, &leave, &[2]);
    assert_eq!(hear(&mut chain, &leave, early), Err(NoticeError::Signature(2)));
    // Of another notice.
    let other = state(&chain.ledger, 0, &Notice::Leave { member: 3 }, &[2]);
    assert_eq!(hear(&mut chain, &leave, other), Err(NoticeError::Signature(2)));

    let right = state(&chain.ledger, 0, &leave, &[2]);
    assert_eq!(hear(&mut chain, &leave, right.clone()), Ok(()));
    let back = Notice::Return { member: 2 };
    let returning = state(&chain.ledger, 1, &back, &[2]);
    assert_eq!(hear(&mut chain, &back, returning.clone()), Ok(()));
    // The same once more, in another epoch.
    assert_eq!(hear(&mut chain, &leave, right), Err(NoticeError::Signature(2)));
    assert_eq!(say(&mut chain, &leave, &[2]), Ok(()));
    assert_eq!(hear(&mut chain, &back, returning), Err(NoticeError::Signature(2)));
    assert_eq!(say(&mut chain, &back, &[2]), Ok(()));

    // One of those who eject did not sign; 5 → 3 takes three.
    let eject = Notice::Eject { members: vec![3, 4] };
    let epoch = chain.ledger.membership().epoch;
    let mut three = state(&chain.ledger, epoch, &eject, &[0, 1, 2]);
    three[1].signature[5] ^= 1;
    assert_eq!(hear(&mut chain, &eject, three), Err(NoticeError::Signature(1)));
    let twice = state(&chain.ledger, epoch, &eject, &[0, 1, 1]);
    assert_eq!(hear(&mut chain, &eject, twice), Err(NoticeError::Order));
    assert_eq!(say(&mut chain, &eject, &[0, 1, 2]), Ok(()));
}

#[test]
fn doubt_takes_a_vote_against_a_certificate() {
    let mut chain = Chain::new(genesis());
    chain.hear(START_MS, &[]);
    let membership = chain.ledger.membership().clone();
    let good = doubt(&chain.ledger, 1, 2);
    let altered = |change: &dyn Fn(&mut Notice)| {
        let mut notice = good.clone();
        change(&mut notice);
        let block = BlockContext { height: 2, time_ms: START_MS };
        chain.ledger.judge_notice(block, &notice, &[]).expect_err("refused")
    };
    let parts = |notice: &mut Notice, change: &dyn Fn(&mut u64, &mut Hash, &mut Hash)| {
        let Notice::Doubt { height, voted, certified, .. } = notice else { panic!("a doubt") };
        change(height, voted, certified);
    };
    let votes = |notice: &mut Notice, kept: &[usize]| {
        let Notice::Doubt { certificate, .. } = notice else { panic!("a doubt") };
        let all = certificate.votes.clone();
        certificate.votes = kept.iter().map(|position| all[*position]).collect();
    };
    let bad = |voter| NoticeError::Evidence(CertificateError::BadVote(voter));
    assert_eq!(altered(&|n| parts(n, &|_, voted, _| *voted = Hash([9; 32]))), bad(2));
    assert_eq!(altered(&|n| parts(n, &|_, _, header| *header = Hash([9; 32]))), bad(0));
    assert_eq!(altered(&|n| parts(n, &|height, _, _| *height = 0)), bad(0));
    let same = altered(&|n| parts(n, &|_, voted, certified| *voted = *certified));
    assert_eq!(same, NoticeError::SameHeader);
    let late = altered(&|n| parts(n, &|height, _, _| *height = 2));
    assert_eq!(late, NoticeError::Height { epoch: 0, height: 2 });
    let few = CertificateError::NotEnoughVotes { needed: 3, found: 2 };
    assert_eq!(altered(&|n| votes(n, &[0, 1])), NoticeError::Evidence(few));
    let later = altered(&|n| {
        let Notice::Doubt { certificate, .. } = n else { panic!("a doubt") };
        certificate.epoch = 1;
    });
    assert_eq!(later, NoticeError::Epoch { found: 1, first: 0, last: 0 });

    let needless = state(&chain.ledger, 0, &good, &[0]);
    let error = hear(&mut chain, &good, needless);
    assert_eq!(error, Err(NoticeError::Signers { needed: 0, found: 1 }));
    assert_eq!(say(&mut chain, &good, &[]), Ok(()));
    let now = chain.ledger.membership();
    assert_eq!(now.members[2].status, MemberStatus::Doubted);
    assert_eq!(now.members[2].reason, "voted for another header at height 1");
    assert_eq!((membership.voters().count(), now.voters().count()), (5, 4));
}

#[test]
fn a_replica_takes_the_notice_it_finds_in_a_block() {
    let mut chain = Chain::new(genesis());
    let mut replica = kanjo_ledger::block::genesis_block(&chain.genesis).1;
    assert_eq!(say(&mut chain, &Notice::Leave { member: 4 }, &[4]), Ok(()));
    let other = MembershipChange::Disallow { program: Hash::ZERO };
    let ordered = ordered(&chain, 1, vec![other]);
    assert!(notice_of(ordered.prepared().raw()).is_none());
    for block in &chain.blocks[1..] {
        let context = BlockContext { height: block.header.height, time_ms: block.header.time_ms };
        replica.begin_block(context);
        for entry in &block.entries {
            let Some((notice, statements)) = notice_of(&entry.raw) else { continue };
            let position = entry.record.position;
            let taken = replica.take_notice(context, position, notice, statements);
            assert_eq!(taken.as_ref(), Ok(entry));
        }
        replica.end_block();
    }
    assert_eq!(replica.membership(), chain.ledger.membership());
    assert_eq!(replica.membership().epoch, 1);
}

#[test]
fn only_the_header_changes_at_a_height_without_a_block() {
    let (chain, _) = play(&[Step::Leave(4)]);
    let parent = &chain.blocks.last().unwrap().header;
    let (hash, history) = (parent.hash(), Hash([3; 32]));
    let header = Header::empty(parent, hash, history, 2);
    assert!(is_empty(&header, parent, hash, history));
    let changes: [fn(&mut Header); 6] = [
        |header| header.time_ms += 1,
        |header| header.height += 1,
        |header| header.parents.clear(),
        |header| header.state_root = Hash::ZERO,
        |header| header.transactions = 1,
        |header| header.history_root = Hash::ZERO,
    ];
    for change in changes {
        let mut other = header.clone();
        change(&mut other);
        assert!(!is_empty(&other, parent, hash, history));
    }
    let mut redone = chain.redone;
    let before = snapshots(&redone);
    let certificate = certificate(1, header.height, &header.hash(), &[0, 1, 2]);
    let block = Block { header, certificate, entries: vec![], genesis_rows: vec![] };
    let bytes = kanjo_types::stored::encode_block(&block);
    let decoded = kanjo_types::stored::decode_block(&bytes, redone.chain());
    assert_eq!(decoded.as_ref(), Ok(&block));
    redone.redo(&block, |_| true);
    assert!(snapshots(&redone) == before);
    assert_eq!(redone.membership(), chain.ledger.membership());
    assert!(membership_proof(&block).is_none());
}

/// Otherwise the properties above would say little.
#[test]
fn random_steps_reach_every_standing() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = [0usize; 6];
    for _ in 0..24 {
        let steps = steps().new_tree(&mut runner).expect("steps").current();
        let (chain, _) = play(&steps);
        for member in &chain.ledger.membership().members {
            seen[member.status as usize] += 1;
        }
    }
    println!("voting, standby, left, ejected, doubted, removed: {seen:?}");
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}
