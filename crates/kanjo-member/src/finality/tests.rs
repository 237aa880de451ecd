//! The rules, one by one, and all of them in any order of what comes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may end itself")]

use super::testing::*;
use super::{Action, Failure, Input, VOTES_AHEAD};
use crate::witness::made_in;
use kanjo_consensus::entry::Content;
use kanjo_types::Hash;
use kanjo_types::membership::Measurement;
use kanjo_types::stored::{decode_block, encode_block};
use std::collections::BTreeSet;
use std::sync::Arc;

#[test]
fn a_vote_is_asked_for_once_the_height_is_committed_and_computed() {
    let mut rig = Rig::new(0, &EXECUTORS);
    let [own, other] = [rig.next_block(0), rig.next_block(1)];
    let made = rig.execute(&own, true);
    assert!(matches!(&made[..], [Action::Propose { height: 1, .. }, Action::Made { .. }]));
    let committed = rig.commit(&own);
    assert_eq!(asked(&committed), [(1, 0)]);
    assert!(matches!(committed[..], [Action::Placed { .. }, Action::Free(1), ..]));
    let committed = rig.commit(&other);
    let [Action::Placed { void: None, .. }, Action::Replay { block: Some(_), .. }] = &committed[..]
    else {
        panic!("{committed:?}")
    };
    assert_eq!(asked(&rig.step(Input::Kept)), []);
    let executed = rig.execute(&other, false);
    assert!(matches!(executed[..], [Action::Free(2), Action::AskVote { height: 2, .. }]));
}

#[test]
fn only_what_is_certified_is_released_and_in_order() {
    let mut rig = Rig::new(0, &EXECUTORS);
    let blocks = [rig.next_block(0), rig.next_block(0)];
    for block in &blocks {
        rig.execute(block, true);
        rig.seal(None);
    }
    for block in &blocks {
        assert_eq!(out(&rig.commit(block)), []);
    }
    let [first, second] = &blocks;
    for voter in [1, 2] {
        assert_eq!(out(&rig.vote(voter, 2, second.hash())), []);
    }
    assert_eq!(out(&rig.vote(1, 1, first.hash())), []);
    let released = out(&rig.vote(0, 1, first.hash()));
    let wanted =
        [Out::Final(1), Out::Block(1), Out::Final(2), Out::Others, Out::Block(2), Out::Others];
    assert_eq!(released, wanted);
    assert!(rig.finality.is_idle());
    assert_eq!(out(&rig.seal(None)), [Out::Others], "all that it stands on is final");
}

#[test]
fn a_vote_from_outside_alone_makes_nothing_final_that_is_not_computed() {
    let mut rig = Rig::new(0, &EXECUTORS);
    let block = rig.next_block(1);
    let signed = certificate(0, &[1, 2], &block.header);
    assert_eq!(out(&rig.step(Input::Fetched(vec![signed]))), []);
    assert_eq!(out(&rig.commit(&block)), []);
    let executed = rig.execute(&block, false);
    assert_eq!(out(&executed), [Out::Final(1), Out::Block(1)]);
    // The power may take the certificate: this node votes, too.
    assert_eq!(asked(&executed), [(1, 0)]);
}

#[test]
fn a_block_made_here_that_is_not_the_committed_one_ends_the_run() {
    let mut rig = Rig::new(0, &EXECUTORS);
    let fork = rig.chain.clone();
    let own = rig.next_block(0);
    rig.execute(&own, true);
    rig.chain = fork;
    let others = rig.next_block(1);
    let committed = rig.commit(&others);
    assert_eq!(rewind(&committed), Some(None));
    assert!(!committed.iter().any(|action| matches!(action, Action::Replay { .. })));
    for voter in [1, 2] {
        let voted = rig.vote(voter, 1, others.hash());
        assert_eq!((asked(&voted), out(&voted)), (vec![], vec![]));
    }
}

#[test]
fn a_block_that_was_executed_otherwise_is_void_from_then_on() {
    let mut rig = Rig::new(0, &EXECUTORS);
    let (mut block, base) = (rig.next_block(1), rig.genesis.clone());
    rig.commit(&block);
    let mut executed = rig.executed(&block, false);
    executed.difference = Some("another root".to_owned());
    let void = rewind(&rig.seal(Some(executed))).unwrap().unwrap();
    assert_eq!(void, (1, block.hash()));

    let mut begin = beginning(0, &base);
    begin.void = BTreeSet::from([void]);
    let mut rig = Rig::begin(begin, base);
    let empty = rig.chain.empty(1);
    let committed = rig.commit(&block);
    let [Action::Placed { void: Some(_), hash, .. }, Action::Replay { block: None, .. }] =
        &committed[..]
    else {
        panic!("{committed:?}")
    };
    assert_eq!(*hash, empty.hash());
    block.header = empty;
    assert_eq!(asked(&rig.execute(&block, false)), [(1, 0)]);
    // What nobody can read is void for everybody.
    let entry = entry(2, 1, Content::Block(vec![1, 2, 3].into()));
    let committed = rig.step(Input::Committed(Box::new(entry), 2));
    assert!(matches!(committed[..], [Action::Placed { void: Some(_), .. }, ..]));
}

#[test]
fn votes_run_so_far_ahead_of_certificates_on_disk() {
    let mut rig = Rig::new(0, &EXECUTORS);
    let mut all = Vec::new();
    for _ in 0..VOTES_AHEAD + 12 {
        let block = rig.next_block(1);
        rig.commit(&block);
        let executed = rig.execute(&block, false);
        assert!(matches!(executed[..], [Action::Free(_), ..]), "room for entries to execute");
        all.extend(asked(&executed).into_iter().map(|(height, _)| height));
    }
    assert_eq!(all, (1..1 + VOTES_AHEAD).collect::<Vec<_>>());
    rig.around.kept_to = 4;
    let more: Vec<u64> = asked(&rig.step(Input::Kept)).into_iter().map(|(at, _)| at).collect();
    assert_eq!(more, (1 + VOTES_AHEAD..4 + VOTES_AHEAD).collect::<Vec<_>>());
}

#[test]
fn a_new_membership_counts_above_the_block_that_made_it_once_that_is_final_and_on_disk() {
    for me in [0, 2] {
        let mut rig = Rig::new(me, &EXECUTORS);
        let (change, after) = rig.next_block_without(1, 2);
        let next = rig.next_block(1);
        rig.commit(&change);
        rig.commit(&next);
        let mut executed = rig.executed(&change, false);
        executed.membership = after.clone();
        let sealed = rig.seal(Some(executed));
        assert!(sealed.iter().any(|action| matches!(action, Action::SetMembership(_))));
        assert_eq!(asked(&sealed), [(1, 0)]);
        let mut executed = rig.executed(&next, false);
        executed.membership = after;
        assert_eq!(asked(&rig.seal(Some(executed))), []);
        rig.vote(0, 1, change.hash());
        let certified = rig.vote(1, 1, change.hash());
        assert_eq!(out(&certified), [Out::Final(1), Out::Block(1)]);
        assert_eq!(asked(&certified), []);
        rig.around.kept_to = 2;
        let wanted = if me == 0 { vec![(2, 1)] } else { vec![] };
        assert_eq!(asked(&rig.step(Input::Kept)), wanted, "member {me}");
    }
}

#[test]
fn a_program_that_is_not_allowed_has_no_vote() {
    for (allowed, votes) in [(Hash([5; 32]), 1), (Hash([6; 32]), 0)] {
        let base = genesis(&EXECUTORS);
        let mut begin = beginning(0, &base);
        let note = String::new();
        Arc::make_mut(&mut begin.membership).measurements =
            vec![Measurement { program: allowed, note }];
        let mut rig = Rig::begin(begin, base);
        let block = rig.next_block(1);
        rig.commit(&block);
        assert_eq!(asked(&rig.execute(&block, false)).len(), votes);
    }
}

#[test]
fn the_genesis_is_voted_for_like_any_height() {
    let base = genesis(&EXECUTORS);
    let mut begin = beginning(0, &base);
    begin.last.certificate.votes.clear();
    let hash = begin.last.header.hash();
    let mut rig = Rig::begin(begin, base);
    let block = rig.next_block(1);
    let first = || Box::new(entry(0, 0, Content::Blank));
    assert_eq!(asked(&rig.step(Input::Committed(first(), 0))), [(0, 0)]);
    rig.commit(&block);
    assert_eq!(asked(&rig.execute(&block, false)), [(1, 0)]);
    rig.vote(1, 0, hash);
    assert_eq!(out(&rig.vote(2, 0, hash)), [Out::Final(0), Out::HeightOnly]);

    // Answers of a ledger without a final height wait, too.
    let base = genesis(&EXECUTORS);
    let mut begin = beginning(0, &base);
    begin.last.certificate.votes.clear();
    let mut rig = Rig::begin(begin, base);
    assert_eq!(out(&rig.seal(None)), []);
    rig.step(Input::Committed(first(), 0));
    rig.vote(1, 0, hash);
    assert_eq!(out(&rig.vote(2, 0, hash)), [Out::Final(0), Out::HeightOnly, Out::Others]);

    // It comes again when the engine starts anew.
    let mut rig = Rig::new(0, &EXECUTORS);
    assert!(matches!(rig.step(Input::Committed(first(), 0))[..], [Action::Free(0)]));
}

#[test]
fn a_leader_makes_blocks_behind_its_first_entry_whatever_is_heard_first() {
    let leads = |actions: &[Todo]| {
        let one = |action: &Todo| match action {
            Action::Replay { leads_after, .. } => Some(*leads_after),
            Action::Lead => Some(true),
            _ => None,
        };
        actions.iter().filter_map(one).collect::<Vec<bool>>()
    };
    for role_first in [true, false] {
        let mut rig = Rig::new(0, &EXECUTORS);
        let mut told = Vec::new();
        let role = |rig: &mut Rig, told: &mut Vec<bool>| {
            rig.around.leading_term = TERM;
            told.extend(leads(&rig.step(Input::Role { term: Some(TERM) })));
        };
        if role_first {
            role(&mut rig, &mut told);
        }
        let blank = Box::new(rig.next_blank(0));
        told.extend(leads(&rig.step(Input::Committed(blank, 1))));
        if !role_first {
            role(&mut rig, &mut told);
        }
        assert_eq!(told, if role_first { vec![true] } else { vec![false, true] });
        // Nothing of that term is committed.
        assert!(leads(&rig.step(Input::Role { term: Some(TERM + 1) })).is_empty());
        assert!(matches!(rig.step(Input::Role { term: None })[..], [Action::Follow]));
        let others = Box::new(rig.next_blank(1));
        assert_eq!(leads(&rig.step(Input::Committed(others, 2))), [false]);
        assert!(matches!(rig.step(Input::Resume)[..], [Action::Resume]));
    }
    let mut rig = Rig::new(0, &EXECUTORS);
    let others = Box::new(rig.next_blank(1));
    rig.step(Input::Committed(others, 1));
    assert!(leads(&rig.step(Input::Role { term: Some(TERM) })).is_empty(), "not its own entry");
}

#[test]
fn marks_wait_until_nothing_made_here_is_on_its_way() {
    let mut rig = Rig::new(0, &EXECUTORS);
    let drained = |actions: &[Todo]| {
        actions.iter().any(|action| matches!(action, Action::Drained(marks) if *marks == [7]))
    };
    let mark = || Box::new(TestBatch { block: None, marks: vec![7] });
    assert!(drained(&rig.step(Input::Sealed(mark()))));
    let blocks = [rig.next_block(0), rig.next_block(0)];
    blocks.iter().for_each(|block| drop(rig.execute(block, true)));
    assert!(!drained(&rig.step(Input::Sealed(mark()))));
    let first = rig.commit(&blocks[0]);
    assert!(!drained(&first));
    assert!(first.iter().any(|action| matches!(action, Action::Made { lowest: Some(2) })));
    assert!(drained(&rig.commit(&blocks[1])));
}

#[test]
fn a_witness_votes_for_what_executors_voted_for() {
    let mut rig = Rig::new(2, &WITH_WITNESS);
    let block = rig.next_block(1);
    let committed = rig.commit(&block);
    assert!(matches!(committed[..], [Action::Placed { .. }, Action::Free(1)]));
    assert_eq!(asked(&rig.vote(0, 1, block.hash())), []);
    let voted = rig.vote(1, 1, block.hash());
    assert_eq!(out(&voted), [Out::Final(1), Out::HeightOnly]);

    // One executor is gone: the witness waits for it, then votes, and that makes the certificate.
    let block = rig.next_block(1);
    rig.commit(&block);
    assert_eq!(asked(&rig.vote(1, 2, block.hash())), []);
    rig.around.now_ms += 1_000;
    assert_eq!(asked(&rig.step(Input::Tick)), [(2, 0)]);
    assert_eq!(out(&rig.vote(2, 2, block.hash())), [Out::Final(2), Out::HeightOnly]);
}

#[test]
fn a_witness_follows_executors_that_find_a_block_void_and_nobody_further() {
    let mut rig = Rig::new(2, &WITH_WITNESS);
    let empty = rig.chain.empty(1).hash();
    let block = rig.next_block(1);
    rig.commit(&block);
    rig.vote(0, 1, empty);
    assert_eq!(rewind(&rig.vote(1, 1, empty)), Some(Some((1, block.hash()))));

    let mut rig = Rig::new(2, &WITH_WITNESS);
    let block = rig.next_block(1);
    rig.commit(&block);
    let strange = Hash([3; 32]);
    rig.vote(0, 1, strange);
    let voted = rig.vote(1, 1, strange);
    assert!(matches!(voted[..], [Action::Fail(Failure::NotInLog { height: 1, .. })]), "{voted:?}");
}

#[test]
fn a_witness_takes_memberships_from_rows_that_the_header_commits_to() {
    let kinds = [EXECUTORS[0], EXECUTORS[0], WITH_WITNESS[2], EXECUTORS[0]];
    let mut rig = Rig::new(2, &kinds);
    let (change, after) = rig.next_block_without(1, 3);
    let next = rig.next_block(1);
    let committed = rig.commit(&change);
    let taken = committed.iter().find_map(|action| match action {
        Action::SetMembership(membership) => Some(membership.clone()),
        _ => None,
    });
    assert_eq!(taken, Some(after.clone()));
    rig.commit(&next);
    rig.vote(0, 1, change.hash());
    rig.vote(1, 1, change.hash());
    let certified = rig.vote(3, 1, change.hash());
    let remembered = certified.iter().find_map(|action| match action {
        Action::HeightOnly { remembers } => remembers.clone(),
        _ => None,
    });
    assert_eq!(remembered, Some(after), "it writes the change down");

    // The same rows under a header that says otherwise.
    let chain = rig.genesis.chain_id();
    let mut rig = Rig::new(2, &kinds);
    let mut block = decode_block(&change.bytes, chain).unwrap();
    block.header.receipts_root = Hash([1; 32]);
    assert!(made_in(&block).is_err());
    let forged = Made { bytes: encode_block(&block).into(), header: block.header, by: 1 };
    let committed = rig.commit(&forged);
    assert!(committed.iter().any(|action| matches!(action, Action::OtherRows(_))));
    assert!(!committed.iter().any(|action| matches!(action, Action::SetMembership(_))));
}

#[test]
fn a_member_that_others_contradict_stops() {
    let mut rig = Rig::new(0, &EXECUTORS);
    let block = rig.next_block(1);
    rig.commit(&block);
    rig.execute(&block, false);
    rig.vote(1, 1, Hash([8; 32]));
    let voted = rig.vote(2, 1, Hash([8; 32]));
    let [Action::Fail(Failure::Contradicted { height: 1, ours, .. })] = &voted[..] else {
        panic!("{voted:?}")
    };
    assert_eq!(*ours, block.hash());
    assert_eq!(rig.finality.next_height(), 1);
    let gap = Box::new(entry(5, 1, Content::Blank));
    let committed = rig.step(Input::Committed(gap, 5));
    let failure = Failure::OutOfOrder { committed: 5, last: 1 };
    assert!(matches!(&committed[..], [Action::Fail(found)] if *found == failure));
}

/// What only a simulator calls, to see that the loss of a rule is found.
#[test]
fn a_build_that_is_broken_on_purpose_goes_on() {
    let mut rig = Rig::new(0, &EXECUTORS);
    let fork = rig.chain.clone();
    let own = rig.next_block(0);
    rig.execute(&own, true);
    let commit = |made: &Made| entry(1, made.by, Content::Block(made.bytes.clone()));
    rig.finality.forget_made_if_lost(&commit(&own));
    rig.chain = fork;
    let others = rig.next_block(1);
    assert!(matches!(rig.step(Input::Tick)[..], []), "its own block is not lost");
    rig.finality.forget_made_if_lost(&commit(&others));
    let committed = rig.commit(&others);
    assert!(committed.iter().any(|action| matches!(action, Action::Replay { .. })));
    assert_eq!(rewind(&committed), None);

    let mut rig = Rig::new(0, &EXECUTORS);
    let own = rig.next_block(0);
    rig.execute(&own, true);
    rig.commit(&own);
    let alone = certificate(0, &[0], &own.header).certificate;
    rig.finality.believe(1, own.hash(), alone);
    assert_eq!(out(&rig.step(Input::Tick)), [Out::Final(1), Out::Block(1)]);
    let others = rig.next_block(1);
    rig.commit(&others);
    let signed = certificate(0, &[1, 2], &others.header);
    rig.finality.believe(2, others.hash(), signed.certificate);
    assert_eq!(out(&rig.step(Input::Tick)), [], "it was not executed");
    assert_eq!(out(&rig.execute(&others, false)), [Out::Final(2), Out::Block(2)]);
}

mod any_order {
    use super::*;
    use kanjo_consensus::vote::SignedVote;
    use kanjo_types::membership::Membership;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    /// What came so far and what is still to come.
    struct Play {
        rig: Rig,
        me: u16,
        blocks: Vec<Made>,
        /// Whose votes count at each height; the first one is for height 1.
        memberships: Vec<Arc<Membership>>,
        /// Blocks up to this height are made here.
        leads_to: usize,
        votes: Vec<SignedVote>,
        own: VecDeque<SignedVote>,
        sealed: usize,
        replays: VecDeque<usize>,
        proposed: usize,
        committed: usize,
        asked: usize,
        finals: usize,
        released: usize,
        others: usize,
    }

    impl Play {
        fn new(me: u16, heights: usize, leads_to: usize, change_at: usize) -> Self {
            let is_witness = me == 2;
            let mut rig = Rig::new(me, if is_witness { &WITH_WITNESS } else { &EXECUTORS });
            let leads_to = if is_witness { 0 } else { leads_to.min(heights) };
            let mut newest = rig.membership.clone();
            let (mut blocks, mut memberships) = (Vec::new(), vec![newest.clone()]);
            for at in 1..=heights {
                let by = if at <= leads_to { me } else { 1 };
                let (block, after) = if at == change_at && !is_witness {
                    rig.next_block_without(by, 2)
                } else {
                    (rig.next_block(by), newest)
                };
                newest = after;
                blocks.push(block);
                memberships.push(newest.clone());
            }
            let mut play = Self {
                rig,
                me,
                blocks,
                memberships,
                leads_to,
                votes: Vec::new(),
                own: VecDeque::new(),
                sealed: 0,
                replays: VecDeque::new(),
                proposed: 0,
                committed: 0,
                asked: 0,
                finals: 0,
                released: 0,
                others: 0,
            };
            for (block, counts) in play.blocks.iter().zip(&play.memberships) {
                let others = counts.voters().filter(|(voter, _)| *voter != me);
                let (epoch, height) = (counts.epoch, block.height());
                play.votes.extend(others.map(|(by, _)| vote(epoch, by, height, block.hash())));
            }
            play
        }

        fn seal(&mut self, at: usize, is_made: bool) {
            let mut block = self.rig.executed(&self.blocks[at - 1], is_made);
            block.membership = self.memberships[at].clone();
            self.sealed = at;
            let actions = self.rig.seal(Some(block));
            self.look(actions);
        }

        /// Lets the next thing of a kind come, if there is one; false when there is none.
        fn come(&mut self, kind: u8, which: usize) -> bool {
            match kind {
                0 if self.sealed < self.leads_to => self.seal(self.sealed + 1, true),
                1 if self.committed < self.proposed.max(self.others_from()) => {
                    self.committed += 1;
                    let block = self.blocks[self.committed - 1].clone();
                    let actions = self.rig.commit(&block);
                    self.look(actions);
                }
                2 => {
                    let Some(at) = self.replays.pop_front() else { return false };
                    self.seal(at, false);
                }
                3 if !self.votes.is_empty() => {
                    let vote = self.votes.swap_remove(which % self.votes.len());
                    let actions = self.rig.step(Input::Votes(vec![vote]));
                    self.look(actions);
                }
                4 => {
                    let Some(vote) = self.own.pop_front() else { return false };
                    let actions = self.rig.step(Input::Votes(vec![vote]));
                    self.look(actions);
                }
                5 if self.rig.around.kept_to <= self.finals as u64 => {
                    self.rig.around.kept_to = self.finals as u64 + 1;
                    let actions = self.rig.step(Input::Kept);
                    self.look(actions);
                }
                6 if self.me != 2 && self.others < 4 => {
                    self.others += 1;
                    let actions = self.rig.seal(None);
                    self.look(actions);
                }
                _ => return false,
            }
            true
        }

        /// How far others' blocks can be committed: all, behind those made here.
        fn others_from(&self) -> usize {
            if self.committed >= self.leads_to { self.blocks.len() } else { 0 }
        }

        fn look(&mut self, actions: Vec<Todo>) {
            for action in actions {
                self.look_at(action);
            }
        }

        fn look_at(&mut self, action: Todo) {
            match action {
                Action::Propose { height, .. } => {
                    self.proposed += 1;
                    assert_eq!(height, self.proposed as u64);
                }
                Action::Replay { placed, .. } => {
                    self.replays.push_back(usize::try_from(placed.header.height).unwrap());
                }
                Action::AskVote { epoch, height, header, .. } => {
                    let at = usize::try_from(height).unwrap();
                    // An executor votes for each height, a witness where it is needed.
                    assert!(at == self.asked + 1 || (at > self.asked && self.me == 2));
                    assert!(at <= self.committed && (at <= self.sealed || self.me == 2));
                    assert_eq!(epoch, self.memberships[at - 1].epoch);
                    let is_new = at > 1 && epoch != self.memberships[at - 2].epoch;
                    assert!(!is_new || self.rig.around.kept_to >= height, "the change is on disk");
                    assert_eq!(header, self.blocks[at - 1].hash());
                    self.asked = at;
                    self.own.push_back(vote(epoch, self.me, height, header));
                }
                Action::Final { signed } => {
                    self.finals += 1;
                    assert_eq!(signed.header, self.blocks[self.finals - 1].header);
                    let (height, hash) = (signed.header.height, signed.header.hash());
                    let counts = &self.memberships[self.finals - 1];
                    counts.check(height, &hash, &signed.certificate).unwrap();
                    assert!(self.finals <= self.committed);
                    assert!(self.finals <= self.sealed || self.me == 2);
                    assert_eq!(self.released, self.finals - 1, "all below is released");
                    self.released += usize::from(self.me == 2);
                }
                Action::Release { batch, is_newest } => {
                    assert_eq!(is_newest, batch.block.is_some());
                    if let Some(block) = batch.block {
                        self.released += 1;
                        assert_eq!(block.height, self.released as u64);
                        assert_eq!(self.released, self.finals);
                    }
                }
                Action::Rewind { .. } | Action::Fail(_) | Action::BadVote { .. } => {
                    panic!("{action:?}")
                }
                _ => {}
            }
        }

        /// All that is left comes.
        fn end(&mut self) {
            while (0..6).any(|kind| self.come(kind, 0)) {}
            assert_eq!(self.finals, self.blocks.len());
            assert_eq!(self.released, self.blocks.len());
            assert!(self.rig.finality.is_idle());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_height_becomes_final_once_in_order_and_rightly(
            me in prop_oneof![Just(0u16), Just(1), Just(2)],
            heights in 1usize..7,
            leads_to in 0usize..7,
            change_at in 0usize..7,
            order in prop::collection::vec((0u8..7, 0usize..64), 0..90),
        ) {
            let mut play = Play::new(me, heights, leads_to, change_at);
            for (kind, which) in order {
                play.come(kind, which);
            }
            play.end();
        }
    }
}
