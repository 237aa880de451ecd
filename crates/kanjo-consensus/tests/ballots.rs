//! Votes become certificates, whatever the order, and never two for one height.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "a test may end itself"
)]

use kanjo_consensus::ballots::{
    AHEAD_HEIGHTS, Ballots, Event, Expected, KEPT_HEIGHTS, WITNESS_WAIT_MS,
};
use kanjo_consensus::vote::{SignedVote, VOTE_BYTES, decode_votes, encode_votes};
use kanjo_types::PublicKey;
use kanjo_types::block::{Vote, challenge, integrity_answer, vote_digest};
use kanjo_types::hash::Hash;
use kanjo_types::id::ChainId;
use kanjo_types::membership::{
    Measurement, Member, MemberKind, MemberStatus, Membership, NodeCertificate, Notice,
};
use kanjo_types::signature::{KeyKind, SecretKey};
use kanjo_types::standing::Links;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const PROGRAM: Hash = Hash([5; 32]);
const OTHER_PROGRAM: Hash = Hash([6; 32]);

fn chain() -> ChainId {
    ChainId(Hash([7; 32]))
}

fn key(voter: u16) -> SecretKey {
    SecretKey::from_seed(KeyKind::Ed25519, [u8::try_from(voter + 1).unwrap(); 32]).unwrap()
}

fn membership(kinds: &[MemberKind], measured: bool) -> Arc<Membership> {
    let member = |(number, kind): (u16, &MemberKind)| {
        let PublicKey::Ed25519(vote_key) = key(number).public() else { unreachable!() };
        Member {
            certificate: NodeCertificate {
                name: format!("node-{number}"),
                kind: *kind,
                vote_key,
                link_key: [0; 32],
                address: "a:1".to_owned(),
                api: "http://a".to_owned(),
                attestor: None,
            },
            status: MemberStatus::Voting,
            since_epoch: 0,
            reason: String::new(),
        }
    };
    let allowed = Measurement { program: PROGRAM, note: String::new() };
    Arc::new(Membership {
        epoch: 3,
        links: Links::default(),
        height: 0,
        members: (0..).zip(kinds).map(member).collect(),
        measurements: if measured { vec![allowed] } else { Vec::new() },
    })
}

fn executors(count: usize) -> Arc<Membership> {
    membership(&vec![MemberKind::Executor; count], true)
}

fn header(height: u64, which: u8) -> Hash {
    let mut bytes = [which; 32];
    bytes[0] = u8::try_from(height % 256).unwrap();
    Hash(bytes)
}

fn challenge_of(height: u64) -> Hash {
    challenge(&header(height.wrapping_sub(1), 0), &height.to_le_bytes())
}

fn expected(membership: &Arc<Membership>, height: u64, which: Option<u8>) -> Expected {
    Expected {
        header: which.map(|which| header(height, which)),
        challenge: challenge_of(height),
        membership: membership.clone(),
        signable: match which {
            Some(_) => Vec::new(),
            None => vec![header(height, 0), header(height, 1)],
        },
    }
}

fn vote_with(
    membership: &Membership,
    program: &Hash,
    voter: u16,
    height: u64,
    which: u8,
) -> SignedVote {
    let header = header(height, which);
    let certificate = membership.member(voter).unwrap().certificate.hash(chain());
    let answer = integrity_answer(program, &certificate, &challenge_of(height), &header);
    let epoch = membership.epoch;
    let signature = key(voter).sign(&vote_digest(epoch, height, &header, &answer));
    SignedVote { epoch, height, header, vote: Vote { voter, answer, signature } }
}

fn vote(membership: &Membership, voter: u16, height: u64, which: u8) -> SignedVote {
    vote_with(membership, &PROGRAM, voter, height, which)
}

fn certified(events: &[Event]) -> Vec<(u64, Hash)> {
    let one = |event: &Event| match event {
        Event::Certified { height, header, .. } => Some((*height, *header)),
        _ => None,
    };
    events.iter().filter_map(one).collect()
}

#[test]
fn more_than_half_makes_a_certificate_and_later_votes_strengthen_it() {
    let members = executors(3);
    let mut ballots = Ballots::new(chain(), 5);
    assert!(ballots.expect(5, expected(&members, 5, Some(0))).is_empty());
    let first = ballots.vote(&vote(&members, 2, 5, 0));
    assert_eq!(certified(&first), []);
    let events = ballots.vote(&vote(&members, 0, 5, 0));
    let Some(Event::Certified { certificate, .. }) = events.first() else { panic!("{events:?}") };
    assert_eq!(members.check(5, &header(5, 0), certificate).unwrap().executors, 2);
    assert_eq!(ballots.next_height(), 6);
    assert!(ballots.vote(&vote(&members, 0, 5, 0)).is_empty(), "the same vote again");
    let events = ballots.vote(&vote(&members, 1, 5, 0));
    let [Event::Strengthened { height: 5, certificate }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(members.check(5, &header(5, 0), certificate).unwrap().signed_by.len(), 3);
    assert_eq!(ballots.certificate(5), Some((header(5, 0), certificate.clone())));
}

#[test]
fn heights_are_certified_in_their_order() {
    let members = executors(3);
    let mut ballots = Ballots::new(chain(), 0);
    for height in 0..3 {
        ballots.expect(height, expected(&members, height, Some(0)));
    }
    let mut events = Vec::new();
    for height in [2, 1, 0] {
        for voter in [0, 1] {
            events.extend(ballots.vote(&vote(&members, voter, height, 0)));
        }
    }
    let heights: Vec<u64> = certified(&events).into_iter().map(|(height, _)| height).collect();
    assert_eq!(heights, [0, 1, 2]);
}

#[test]
fn votes_that_come_early_wait_and_their_number_is_bounded() {
    let members = executors(3);
    let mut ballots = Ballots::new(chain(), 0);
    // Two lies in the name of voter 0 fill its places; the others' are free.
    for which in [8, 9] {
        ballots.vote(&vote_with(&members, &OTHER_PROGRAM, 0, 0, which));
    }
    for voter in [0, 1, 2] {
        ballots.vote(&vote(&members, voter, 0, 0));
    }
    ballots.vote(&vote(&members, 1, AHEAD_HEIGHTS, 0));
    ballots.vote(&vote(&members, 1, AHEAD_HEIGHTS - 1, 0));
    let events = ballots.expect(0, expected(&members, 0, Some(0)));
    let bad = events.iter().filter(|event| matches!(event, Event::BadVote { voter: 0, .. }));
    assert_eq!(bad.count(), 2);
    assert_eq!(certified(&events), [(0, header(0, 0))]);
    assert!(ballots.expect(AHEAD_HEIGHTS, expected(&members, AHEAD_HEIGHTS, None)).is_empty());
    // The vote for the height below was kept: with one more it makes a quorum, in its turn.
    let height = AHEAD_HEIGHTS - 1;
    ballots.expect(height, expected(&members, height, None));
    let events = ballots.vote(&vote(&members, 2, height, 0));
    assert_eq!(events, [], "heights between are not certified");
    assert_eq!(ballots.certificate(height).unwrap().1.votes.len(), 2);
}

#[test]
fn bad_votes_count_for_nothing() {
    let members = executors(3);
    let mut ballots = Ballots::new(chain(), 0);
    ballots.expect(0, expected(&members, 0, Some(0)));
    let mut forged = vote(&members, 0, 0, 0);
    forged.vote.signature[5] ^= 1;
    let mut stranger = vote(&members, 0, 0, 0);
    stranger.vote.voter = 9;
    let mut other_epoch = vote(&members, 0, 0, 0);
    other_epoch.epoch = 4;
    let program = vote_with(&members, &OTHER_PROGRAM, 0, 0, 0);
    for (vote, why) in [
        (forged, "the signature of voter 0 is wrong"),
        (stranger, "voter 9 is none of the 3 voters of this epoch"),
        (other_epoch, "it is of membership epoch 4; the height is of epoch 3"),
        (program, "its answer to the challenge is that of no allowed program"),
    ] {
        let events = ballots.vote(&vote);
        let [Event::BadVote { height: 0, why: found, .. }] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!(found, why);
    }
    assert_eq!(certified(&ballots.vote(&vote(&members, 1, 0, 0))), []);
    assert_eq!(certified(&ballots.vote(&vote(&members, 0, 0, 0))).len(), 1);
}

#[test]
fn without_measurements_any_answer_counts() {
    let members = membership(&[MemberKind::Executor; 3], false);
    let mut ballots = Ballots::new(chain(), 0);
    ballots.expect(0, expected(&members, 0, Some(0)));
    ballots.vote(&vote_with(&members, &OTHER_PROGRAM, 0, 0, 0));
    let events = ballots.vote(&vote_with(&members, &Hash::ZERO, 1, 0, 0));
    assert_eq!(certified(&events).len(), 1);
}

#[test]
fn a_voter_that_differs_is_doubted_by_its_own_vote() {
    let members = executors(3);
    for early in [true, false] {
        let mut ballots = Ballots::new(chain(), 0);
        ballots.expect(0, expected(&members, 0, Some(0)));
        let differs = vote(&members, 2, 0, 1);
        let mut events = Vec::new();
        if early {
            events.extend(ballots.vote(&differs));
        }
        events.extend(ballots.vote(&vote(&members, 0, 0, 0)));
        events.extend(ballots.vote(&vote(&members, 1, 0, 0)));
        if !early {
            events.extend(ballots.vote(&differs));
        }
        let Some(Event::Differs { notice }) = events.last() else { panic!("{events:?}") };
        let Notice::Doubt { height: 0, voted, vote, certified, certificate } = notice else {
            panic!("{notice:?}")
        };
        assert_eq!((*voted, *certified), (header(0, 1), header(0, 0)));
        members.check_vote(0, voted, vote).unwrap();
        members.check(0, certified, certificate).unwrap();
        assert_eq!(events.len(), 2, "once");
    }
}

#[test]
fn a_replica_that_is_contradicted_certifies_nothing_more() {
    let members = executors(3);
    let mut ballots = Ballots::new(chain(), 0);
    for height in [0, 1] {
        ballots.expect(height, expected(&members, height, Some(1)));
    }
    ballots.vote(&vote(&members, 0, 0, 0));
    let events = ballots.vote(&vote(&members, 1, 0, 0));
    let [Event::Contradicted { height: 0, certified: found, ours, certificate }] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!((*found, *ours), (header(0, 0), header(0, 1)));
    members.check(0, found, certificate).unwrap();
    for voter in [0, 1, 2] {
        assert_eq!(certified(&ballots.vote(&vote(&members, voter, 1, 1))), []);
    }
    assert_eq!(ballots.next_height(), 0);
}

#[test]
fn two_quorums_are_reported_and_certify_once() {
    let members = executors(3);
    let mut ballots = Ballots::new(chain(), 0);
    ballots.expect(0, expected(&members, 0, Some(0)));
    let mut events = Vec::new();
    for which in [0, 1] {
        for voter in [0, 1] {
            events.extend(ballots.vote(&vote(&members, voter, 0, which)));
        }
    }
    events.extend(ballots.vote(&vote(&members, 2, 0, 1)));
    assert_eq!(certified(&events), [(0, header(0, 0))]);
    let found = events.iter().filter_map(|event| match event {
        Event::Equivocation { height: 0, first, second } => Some((first, second)),
        _ => None,
    });
    let found: Vec<_> = found.collect();
    let [(first, second)] = &found[..] else { panic!("{events:?}") };
    members.check(0, &first.0, &first.1).unwrap();
    members.check(0, &second.0, &second.1).unwrap();
    assert_ne!(first.0, second.0);
}

#[test]
fn a_voter_that_signs_everything_keeps_nobody_from_certifying() {
    let members = executors(3);
    let mut ballots = Ballots::new(chain(), 0);
    ballots.expect(0, expected(&members, 0, Some(0)));
    let mut refused = 0;
    for which in 1..40 {
        let events = ballots.vote(&vote(&members, 2, 0, which));
        refused += events.iter().filter(|e| matches!(e, Event::BadVote { voter: 2, .. })).count();
    }
    assert_eq!(refused, 37, "two are kept, as proof");
    ballots.vote(&vote(&members, 0, 0, 0));
    let events = ballots.vote(&vote(&members, 1, 0, 0));
    assert_eq!(certified(&events), [(0, header(0, 0))]);
    assert_eq!(events.iter().filter(|e| matches!(e, Event::Differs { .. })).count(), 2);
}

#[test]
fn witnesses_alone_certify_nothing_and_sign_last() {
    use MemberKind::{Executor, Witness};
    let members = membership(&[Executor, Executor, Executor, Witness], true);
    let mut ballots = Ballots::new(chain(), 0);
    ballots.expect(0, expected(&members, 0, None));
    ballots.expect(1, expected(&members, 1, None));
    // Four voters, quorum three: two executors and the witness.
    assert!(ballots.vote(&vote(&members, 0, 0, 0)).is_empty());
    ballots.vote(&vote(&members, 0, 1, 0));
    assert!(ballots.vote(&vote(&members, 1, 1, 0)).is_empty(), "height 0 comes first");
    let events = ballots.vote(&vote(&members, 2, 0, 0));
    let may = |height| Event::WitnessMaySign { height, header: header(height, 0) };
    assert_eq!(events, [may(0), may(1)]);
    let events = ballots.vote(&vote(&members, 3, 0, 0));
    assert_eq!(certified(&events), [(0, header(0, 0))]);

    let mut ballots = Ballots::new(chain(), 0);
    ballots.expect(0, expected(&members, 0, None));
    ballots.vote(&vote(&members, 0, 0, 0));
    ballots.vote(&vote(&members, 1, 0, 1));
    let events = ballots.vote(&vote(&members, 2, 0, 0));
    assert_eq!(events, [may(0)], "one executor of three voted otherwise");

    let members = membership(&[Executor, Witness, Witness], true);
    let mut ballots = Ballots::new(chain(), 0);
    ballots.expect(0, expected(&members, 0, None));
    for voter in [1, 2] {
        assert!(ballots.vote(&vote(&members, voter, 0, 0)).is_empty(), "no executor");
    }
    let events = ballots.vote(&vote(&members, 0, 0, 0));
    assert_eq!(certified(&events).len(), 1);
}

#[test]
fn a_witness_waits_once_for_an_executor_that_is_gone() {
    use MemberKind::{Executor, Witness};
    let members = membership(&[Executor, Executor, Witness], true);
    let mut ballots = Ballots::new(chain(), 0);
    let may = |height| Event::WitnessMaySign { height, header: header(height, 0) };
    for height in 0..6 {
        ballots.expect(height, expected(&members, height, None));
    }
    for height in 0..3 {
        assert_eq!(ballots.vote(&vote(&members, 0, height, 0)), [], "the other executor may come");
    }
    assert_eq!(ballots.tick(70_000), [], "from now on it waits");
    assert_eq!(ballots.tick(70_000 + WITNESS_WAIT_MS - 1), []);
    assert_eq!(ballots.tick(70_000 + WITNESS_WAIT_MS), [may(0), may(1), may(2)]);
    assert_eq!(ballots.vote(&vote(&members, 0, 3, 0)), [may(3)], "it is known to be gone");
    // It is back, and late: it is waited for again.
    ballots.vote(&vote(&members, 1, 3, 0));
    assert_eq!(ballots.vote(&vote(&members, 0, 4, 0)), []);
    assert_eq!(ballots.tick(90_000), []);
    assert!(ballots.vote(&vote(&members, 1, 4, 0)).contains(&may(4)), "both voted");
    // A header that the log does not have is not signed, whoever votes for it.
    ballots.vote(&vote(&members, 0, 5, 7));
    assert_eq!(ballots.tick(100_000), []);
    assert_eq!(ballots.tick(100_000 + WITNESS_WAIT_MS), []);
}

#[test]
fn executors_that_differ_without_a_majority_get_no_witness() {
    use MemberKind::{Executor, Witness};
    let members = membership(&[Executor, Executor, Witness], true);
    let mut ballots = Ballots::new(chain(), 0);
    ballots.expect(0, expected(&members, 0, None));
    ballots.vote(&vote(&members, 0, 0, 0));
    ballots.tick(0);
    ballots.vote(&vote(&members, 1, 0, 1));
    assert_eq!(ballots.tick(10 * WITNESS_WAIT_MS), []);
    // One of three lies, the others have not voted: its header is not signed, however long it
    // takes.
    let members = membership(&[Executor, Executor, Executor, Witness], true);
    let mut ballots = Ballots::new(chain(), 0);
    ballots.expect(0, expected(&members, 0, None));
    ballots.vote(&vote(&members, 0, 0, 1));
    for seconds in 0..10 {
        assert_eq!(ballots.tick(seconds * 1_000), []);
    }
    ballots.vote(&vote(&members, 1, 0, 0));
    let may = Event::WitnessMaySign { height: 0, header: header(0, 0) };
    assert_eq!(ballots.vote(&vote(&members, 2, 0, 0)), [may]);
}

#[test]
fn old_heights_are_forgotten() {
    let members = executors(1);
    let mut ballots = Ballots::new(chain(), 0);
    for height in 0..2 * KEPT_HEIGHTS {
        ballots.expect(height, expected(&members, height, Some(0)));
        assert_eq!(certified(&ballots.vote(&vote(&members, 0, height, 0))).len(), 1);
    }
    assert!(ballots.certificate(KEPT_HEIGHTS - 1).is_none());
    assert!(ballots.certificate(KEPT_HEIGHTS).is_some());
    assert!(ballots.vote(&vote(&members, 0, 3, 1)).is_empty());
}

#[test]
fn a_certificate_of_another_node_is_as_good_as_votes() {
    let members = executors(3);
    let mut theirs = Ballots::new(chain(), 0);
    theirs.expect(0, expected(&members, 0, Some(0)));
    theirs.vote(&vote(&members, 0, 0, 0));
    theirs.vote(&vote(&members, 1, 0, 0));
    let (header, certificate) = theirs.certificate(0).unwrap();
    let mut ours = Ballots::new(chain(), 0);
    ours.votes_of(0, header, &certificate);
    assert_eq!(certified(&ours.expect(0, expected(&members, 0, Some(0)))), [(0, header)]);
}

/// What a voter does at a height.
#[derive(Clone, Copy, Debug)]
enum Act {
    Silent,
    Votes(u8),
    VotesTwice,
    Forged,
    OtherProgram,
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        1 => Just(Act::Silent),
        6 => Just(Act::Votes(0)),
        1 => Just(Act::Votes(1)),
        1 => Just(Act::VotesTwice),
        1 => Just(Act::Forged),
        1 => Just(Act::OtherProgram),
    ]
}

fn votes_of(members: &Membership, act: Act, voter: u16, height: u64) -> Vec<SignedVote> {
    match act {
        Act::Silent => Vec::new(),
        Act::Votes(which) => vec![vote(members, voter, height, which)],
        Act::VotesTwice => (0..2).map(|which| vote(members, voter, height, which)).collect(),
        Act::Forged => {
            let mut vote = vote(members, voter, height, 0);
            vote.vote.signature[40] ^= 4;
            vec![vote]
        }
        Act::OtherProgram => vec![vote_with(members, &OTHER_PROGRAM, voter, height, 0)],
    }
}

#[derive(Clone, Debug)]
enum Step {
    Vote(SignedVote),
    Expect(u64),
}

const HEIGHTS: u64 = 4;

fn histories() -> impl Strategy<Value = (Arc<Membership>, Vec<Vec<Act>>, Vec<Step>)> {
    let kind = prop_oneof![3 => Just(MemberKind::Executor), 1 => Just(MemberKind::Witness)];
    prop::collection::vec(kind, 1..6).prop_flat_map(|mut kinds| {
        kinds[0] = MemberKind::Executor;
        let members = membership(&kinds, true);
        let height = prop::collection::vec(acts(), kinds.len());
        let history = prop::collection::vec(height, usize::try_from(HEIGHTS).unwrap());
        (history, any::<u64>()).prop_flat_map(move |(history, _)| {
            let members = members.clone();
            let mut steps: Vec<Step> = (0..HEIGHTS).map(Step::Expect).collect();
            for (height, acts) in (0..).zip(&history) {
                for (voter, act) in (0..).zip(acts) {
                    // Each comes twice.
                    let votes = votes_of(&members, *act, voter, height).into_iter();
                    steps.extend(votes.flat_map(|vote| [Step::Vote(vote), Step::Vote(vote)]));
                }
            }
            (Just(members), Just(history), Just(steps).prop_shuffle())
        })
    })
}

/// Voters with a good vote for a header.
fn good(acts: &[Act], which: u8) -> BTreeSet<u16> {
    let votes = |act: &Act| match act {
        Act::Votes(found) => *found == which,
        Act::VotesTwice => true,
        Act::Silent | Act::Forged | Act::OtherProgram => false,
    };
    (0..).zip(acts).filter(|(_, act)| votes(act)).map(|(voter, _)| voter).collect()
}

fn is_quorum(members: &Membership, voters: &BTreeSet<u16>) -> bool {
    let executes = |voter: &u16| members.member(*voter).unwrap().executes();
    2 * voters.len() > members.members.len() && voters.iter().any(executes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_order_gives_certificates_for_what_has_a_quorum(
        (members, history, steps) in histories(),
    ) {
        let mut ballots = Ballots::new(chain(), 0);
        let mut seen: BTreeMap<u64, Hash> = BTreeMap::new();
        let mut stopped = false;
        let mut witness_next = 0;
        for step in steps {
            let events = match step {
                Step::Vote(vote) => ballots.vote(&vote),
                Step::Expect(height) => ballots.expect(height, expected(&members, height, Some(0))),
            };
            for event in events {
                match event {
                    Event::Certified { height, header: found, certificate } => {
                        prop_assert!(!stopped);
                        prop_assert_eq!(height, seen.len() as u64, "in order");
                        prop_assert!(seen.insert(height, found).is_none());
                        prop_assert_eq!(found, header(height, 0), "ours");
                        members.check(height, &found, &certificate).unwrap();
                    }
                    Event::Contradicted { height, certified, certificate, .. } => {
                        prop_assert_eq!(height, seen.len() as u64);
                        prop_assert_eq!(certified, header(height, 1));
                        members.check(height, &certified, &certificate).unwrap();
                        stopped = true;
                    }
                    Event::Differs { notice: Notice::Doubt { height, voted, vote, certified, .. } } => {
                        prop_assert_eq!(seen.get(&height), Some(&certified));
                        prop_assert!(voted != certified);
                        members.check_vote(height, &voted, &vote).unwrap();
                    }
                    Event::Equivocation { height, first, second } => {
                        prop_assert!(first.0 != second.0);
                        members.check(height, &first.0, &first.1).unwrap();
                        members.check(height, &second.0, &second.1).unwrap();
                    }
                    Event::WitnessMaySign { height, .. } => {
                        prop_assert!(height >= witness_next, "ascending");
                        witness_next = height + 1;
                    }
                    Event::BadVote { voter, height, .. } => {
                        let act = history[usize::try_from(height).unwrap()][usize::from(voter)];
                        prop_assert!(matches!(act, Act::Forged | Act::OtherProgram));
                    }
                    Event::Strengthened { height, certificate } => {
                        members.check(height, &seen[&height], &certificate).unwrap();
                    }
                    Event::Differs { notice } => prop_assert!(false, "{notice:?}"),
                }
            }
        }
        // Everything has arrived: heights with a quorum for our header only, up to the first
        // without, must be certified; the first with a quorum for the other one only contradicts.
        let mut sure = 0;
        for acts in &history {
            match (is_quorum(&members, &good(acts, 0)), is_quorum(&members, &good(acts, 1))) {
                (true, false) => sure += 1,
                _ => break,
            }
        }
        prop_assert!(seen.len() >= sure);
        let next = &history.get(seen.len());
        if let Some(acts) = next {
            prop_assert!(stopped || !is_quorum(&members, &good(acts, 0)));
        }
    }

    #[test]
    fn a_witness_signs_what_most_executors_say_or_nobody_denies(
        (members, history, steps) in histories(),
        times in prop::collection::vec(0u64..400, 1..40),
    ) {
        let mut ballots = Ballots::new(chain(), 0);
        let executes = |voter: u16| members.member(voter).unwrap().executes();
        let executors = (0..).zip(&members.members).filter(|(voter, _)| executes(*voter)).count();
        // Good votes of executors that came so far, by height and header.
        let mut came: BTreeMap<(u64, Hash), BTreeSet<u16>> = BTreeMap::new();
        let (mut next, mut stopped, mut now_ms) = (0, false, 0);
        let mut times = times.into_iter().cycle();
        // At the end time passes until nothing more comes of it.
        let rest = std::iter::repeat_n(None, 40);
        for step in steps.into_iter().map(Some).chain(rest) {
            let mut events = Vec::new();
            match step {
                Some(Step::Vote(vote)) => {
                    let at = usize::try_from(vote.height).unwrap();
                    let act = history[at][usize::from(vote.vote.voter)];
                    if executes(vote.vote.voter) && !matches!(act, Act::Forged | Act::OtherProgram) {
                        came.entry((vote.height, vote.header)).or_default().insert(vote.vote.voter);
                    }
                    events.extend(ballots.vote(&vote));
                }
                Some(Step::Expect(height)) => {
                    events.extend(ballots.expect(height, expected(&members, height, None)));
                }
                None => {}
            }
            now_ms += times.next().unwrap();
            events.extend(ballots.tick(now_ms));
            for event in events {
                let Event::WitnessMaySign { height, header: found } = event else {
                    stopped |= matches!(event, Event::Contradicted { .. });
                    continue;
                };
                prop_assert!(height >= next, "ascending");
                next = height + 1;
                let by = came.get(&(height, found)).map_or(0, BTreeSet::len);
                let others = came.keys().any(|(at, other)| *at == height && *other != found);
                prop_assert!(by > 0);
                prop_assert!(by * 2 > executors || !others, "{by} of {executors}");
            }
        }
        // What it is still to sign first, if anything: neither most executors agree there, nor can
        // their votes and all witnesses' be a quorum.
        let next = next.max(ballots.next_height());
        if let Some(acts) = history.get(usize::try_from(next).unwrap()).filter(|_| !stopped) {
            let witnesses = members.members.len() - executors;
            let by = |which| good(acts, which).into_iter().filter(|v| executes(*v)).count();
            let (ours, others) = (by(0), by(1));
            prop_assert!(ours * 2 <= executors && others * 2 <= executors);
            let is_enough = |one: usize| one > 0 && (one + witnesses) * 2 > members.members.len();
            prop_assert!(!(is_enough(ours) && others == 0));
            prop_assert!(!(is_enough(others) && ours == 0));
        }
    }

    #[test]
    fn votes_read_back_and_other_bytes_are_refused(
        count in 0usize..5, cut in any::<prop::sample::Index>(), voter in any::<u16>(),
    ) {
        let vote = SignedVote {
            epoch: 1,
            height: u64::from(voter),
            header: Hash([2; 32]),
            vote: Vote { voter, answer: Hash([3; 32]), signature: [4; 64] },
        };
        let votes = vec![vote; count];
        let bytes = encode_votes(&votes);
        prop_assert_eq!(bytes.len(), 2 + count * VOTE_BYTES);
        prop_assert_eq!(decode_votes(bytes.clone()).unwrap(), votes);
        let cut = cut.index(bytes.len());
        prop_assert!(decode_votes(bytes.slice(..cut)).is_err());
        let mut longer = bytes.to_vec();
        longer.push(0);
        prop_assert!(decode_votes(longer.into()).is_err());
    }
}

#[test]
fn the_form_of_a_message_of_votes_is_pinned() {
    let vote = SignedVote {
        epoch: 0x0102,
        height: 0x0304_0506,
        header: Hash([0xaa; 32]),
        vote: Vote { voter: 0x0708, answer: Hash([0xbb; 32]), signature: [0xcc; 64] },
    };
    let text = [
        "0100",
        "0201000000000000",
        "0605040300000000",
        &"aa".repeat(32),
        "0807",
        &"bb".repeat(32),
        &"cc".repeat(64),
    ]
    .concat();
    let hex: String = encode_votes(&[vote]).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, text);
}
