//! A cluster of engines in one process: order survives crashes, cuts and changes of voters.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "a test may end itself"
)]

mod harness;

use harness::{Cluster, block, ms, propose, said, simulate, sleep};
use kanjo_consensus::boundary::CommittedEntry;
use kanjo_consensus::bus::Topic;
use kanjo_consensus::engine::{EngineError, Role};
use kanjo_consensus::entry::Content;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn numbers(entries: &[CommittedEntry]) -> Vec<u64> {
    entries.iter().filter_map(said).map(|(_, number)| number).collect()
}

/// Every block is at the height it says.
fn at_their_heights(entries: &[CommittedEntry]) {
    for entry in entries {
        if let Some((height, number)) = said(entry) {
            assert_eq!(entry.index, height, "block {number}");
        }
    }
}

#[test]
fn a_thousand_blocks_survive_a_crash_of_the_leader() {
    for seed in 0..3 {
        simulate(seed, async {
            let mut cluster = Cluster::start(3, 0).await;
            let mut next = 0;
            let mut done = propose(&cluster, 500, &mut next).await;
            let (leader, term) = cluster.leader().await;
            cluster.crash(leader, 20).await;
            done.extend(propose(&cluster, 300, &mut next).await);
            let (other, later) = cluster.leader().await;
            assert!(other != leader && later > term);
            cluster.up(leader).await;
            done.extend(propose(&cluster, 200, &mut next).await);
            cluster.settled(done.len() as u64).await;
            let entries = cluster.agree();
            at_their_heights(&entries);
            let found: BTreeSet<u64> = numbers(&entries).into_iter().collect();
            assert!(found.is_superset(&done), "a committed block is gone");
            assert_eq!(found.len(), numbers(&entries).len(), "none is there twice");
            cluster.stop().await;
        });
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let run = || {
        let history = Arc::new(std::sync::Mutex::new(Vec::new()));
        let taken = history.clone();
        simulate(11, async move {
            let mut cluster = Cluster::start(3, 0).await;
            let mut next = 0;
            *cluster.net.loss.lock().unwrap() = 50;
            propose(&cluster, 100, &mut next).await;
            let (leader, _) = cluster.leader().await;
            cluster.crash(leader, 3).await;
            propose(&cluster, 50, &mut next).await;
            *taken.lock().unwrap() = cluster.agree();
            cluster.stop().await;
        });
        history.lock().unwrap().clone()
    };
    let first = run();
    assert!(first.len() > 150);
    assert_eq!(first, run());
}

#[test]
fn a_leader_that_is_cut_off_loses_only_what_was_not_committed() {
    simulate(2, async {
        let mut cluster = Cluster::start(3, 0).await;
        let mut next = 0;
        let mut done = propose(&cluster, 50, &mut next).await;
        let (leader, term) = cluster.leader().await;
        cluster.net.isolate(leader, (0..3).filter(|id| *id != leader));
        // Nobody else ever sees these.
        let engine = cluster.engine(leader).clone();
        let height = engine.now().last_log.unwrap() + 1;
        for lost in 0..5 {
            let block = harness::block(height + lost, 1_000_000 + lost);
            engine.propose(term, height + lost, block).await.unwrap();
        }
        sleep(ms(1_000)).await;
        let new = loop {
            let (new, _) = cluster.leader().await;
            if new != leader {
                break new;
            }
        };
        assert!(cluster.engine(new).now().term > term);
        done.extend(propose(&cluster, 50, &mut next).await);
        cluster.net.heal();
        cluster.settled(done.len() as u64).await;
        let entries = cluster.agree();
        at_their_heights(&entries);
        let found = numbers(&entries);
        assert!(found.iter().all(|number| *number < 1_000_000));
        assert!(done.iter().all(|number| found.contains(number)));
        let follower = engine.now();
        assert_eq!((follower.role, follower.leader), (Role::Follower, Some(new)));
        let late = engine.propose(term, height, harness::block(height, 1)).await;
        assert_eq!(late, Err(EngineError::NotLeader(Some(new))));
        cluster.stop().await;
    });
}

#[test]
fn without_a_majority_nothing_is_committed_and_it_goes_on_afterwards() {
    simulate(3, async {
        let mut cluster = Cluster::start(3, 0).await;
        let mut next = 0;
        propose(&cluster, 20, &mut next).await;
        let (leader, term) = cluster.leader().await;
        cluster.net.isolate(0, [1, 2]);
        cluster.net.isolate(1, [0, 2]);
        let before = cluster.agree().len();
        let height = cluster.engine(leader).now().last_log.unwrap() + 1;
        let block = harness::block(height, 1_000_000);
        cluster.engine(leader).propose(term, height, block).await.unwrap();
        sleep(ms(2_000)).await;
        assert_eq!(cluster.agree().len(), before);
        cluster.net.heal();
        propose(&cluster, 20, &mut next).await;
        at_their_heights(&cluster.agree());
        cluster.stop().await;
    });
}

#[test]
fn a_cut_in_one_direction_does_not_stop_the_others() {
    simulate(4, async {
        let mut cluster = Cluster::start(3, 0).await;
        let mut next = 0;
        propose(&cluster, 10, &mut next).await;
        let (leader, _) = cluster.leader().await;
        // The leader hears nobody, and everybody hears the leader.
        for other in (0..3).filter(|id| *id != leader) {
            cluster.net.cut(other, leader);
        }
        sleep(ms(1_500)).await;
        let mut others = cluster.nodes.iter().filter(|node| node.id != leader);
        assert!(others.any(|node| node.engine.as_ref().unwrap().now().role == Role::Leader));
        cluster.net.heal();
        propose(&cluster, 10, &mut next).await;
        cluster.stop().await;
    });
}

#[test]
fn a_leader_that_hears_nobody_does_not_hold_the_others_up_by_what_it_sends_again() {
    simulate(4, async {
        let mut cluster = Cluster::start(3, 0).await;
        let mut next = 0;
        propose(&cluster, 10, &mut next).await;
        let (leader, term) = cluster.leader().await;
        for other in (0..3).filter(|id| *id != leader) {
            cluster.net.cut(other, leader);
        }
        // Entries are on their way and more come; no answer does, and the leader sends them again.
        let engine = cluster.engine(leader).clone();
        let mut height = engine.now().last_log.unwrap() + 1;
        let leads = |id: &u16| cluster.engine(*id).now().role == Role::Leader;
        let mut waited = 0;
        while !(0..3).filter(|id| *id != leader).any(|id| leads(&id)) {
            if engine.propose(term, height, block(height, 1_000 + height)).await.is_ok() {
                height += 1;
            }
            sleep(ms(20)).await;
            waited += 20;
            assert!(waited < 3_000, "simulated milliseconds");
        }
        cluster.net.heal();
        propose(&cluster, 10, &mut next).await;
        cluster.stop().await;
    });
}

#[test]
fn entries_before_one_that_is_refused_are_taken() {
    simulate(5, async {
        let mut cluster = Cluster::start(3, 0).await;
        let mut next = 0;
        propose(&cluster, 10, &mut next).await;
        let (leader, _) = cluster.leader().await;
        let late = (leader + 1) % 3;
        cluster.crash(late, 0).await;
        propose(&cluster, 40, &mut next).await;
        *cluster.net.unknown_from.lock().unwrap() = Some(30);
        cluster.up(late).await;
        sleep(ms(2_000)).await;
        assert_eq!(cluster.engine(late).now().last_log, Some(29));
        *cluster.net.unknown_from.lock().unwrap() = None;
        propose(&cluster, 10, &mut next).await;
        at_their_heights(&cluster.agree());
        cluster.stop().await;
    });
}

#[test]
fn voters_are_added_and_removed() {
    simulate(5, async {
        let mut cluster = Cluster::start(3, 2).await;
        let mut next = 0;
        propose(&cluster, 30, &mut next).await;
        let (leader, _) = cluster.leader().await;
        let engine = cluster.engine(leader).clone();
        engine.add_learner(3).await.unwrap();
        engine.add_learner(3).await.unwrap();
        assert_eq!(engine.now().learners, BTreeSet::from([3]));
        engine.change_voters(BTreeSet::from([0, 1, 2, 3]), BTreeSet::from([4])).await.unwrap();
        propose(&cluster, 30, &mut next).await;
        cluster.settled(60).await;
        let out = (0..3).find(|id| *id != leader).unwrap();
        let rest: BTreeSet<u16> = (0..4).filter(|id| *id != out).collect();
        engine.change_voters(rest.clone(), BTreeSet::new()).await.unwrap();
        assert_eq!(engine.now().voters, vec![rest.clone()]);
        assert!(engine.now().learners.is_empty());
        let height = engine.now().last_log;
        engine.change_voters(rest.clone(), BTreeSet::new()).await.unwrap();
        assert_eq!(engine.now().last_log, height, "no change takes no height");
        cluster.crash(out, 0).await;
        cluster.crash(4, 0).await;
        // The leader leaves, too, and hands over.
        let rest: BTreeSet<u16> = rest.into_iter().filter(|id| *id != leader).collect();
        engine.change_voters(rest.clone(), BTreeSet::new()).await.unwrap();
        sleep(ms(1_000)).await;
        let (new, _) = cluster.leader().await;
        assert!(rest.contains(&new));
        cluster.crash(leader, 0).await;
        propose(&cluster, 30, &mut next).await;
        let entries = cluster.agree();
        at_their_heights(&entries);
        let changes = entries.iter().filter(|entry| matches!(entry.content, Content::Voters(_)));
        // Genesis; learner; two for 3, with 4 as learner; two, and one that leaves 4 out; two.
        assert_eq!(changes.count(), 1 + 1 + 2 + 3 + 2);
        cluster.stop().await;
    });
}

#[test]
fn a_change_of_voters_that_was_interrupted_is_ended_by_the_next_leader() {
    simulate(6, async {
        let mut cluster = Cluster::start(3, 1).await;
        let mut next = 0;
        propose(&cluster, 10, &mut next).await;
        let (leader, _) = cluster.leader().await;
        let engine = cluster.engine(leader).clone();
        let changing = engine.clone();
        let change = async move {
            changing.change_voters(BTreeSet::from([0, 1, 2, 3]), BTreeSet::new()).await
        };
        drop(<harness::R as openraft::AsyncRuntime>::spawn(change));
        // As soon as another node has the joint entry, the leader dies.
        let other = (0..3).find(|id| *id != leader).unwrap();
        while !cluster.engine(other).now().is_joint() {
            sleep(ms(1)).await;
        }
        cluster.crash(leader, 0).await;
        let (new, _) = cluster.leader().await;
        while cluster.engine(new).now().is_joint() {
            sleep(ms(5)).await;
        }
        assert_eq!(cluster.engine(new).now().voters, vec![BTreeSet::from([0, 1, 2, 3])]);
        propose(&cluster, 10, &mut next).await;
        cluster.up(leader).await;
        cluster.settled(20).await;
        cluster.stop().await;
    });
}

#[test]
fn a_leader_that_hands_over_amid_a_change_of_voters_does_not_ask_without_end() {
    simulate(6, async {
        let mut cluster = Cluster::start(3, 1).await;
        let mut next = 0;
        propose(&cluster, 10, &mut next).await;
        let (leader, term) = cluster.leader().await;
        let engine = cluster.engine(leader).clone();
        let changing = engine.clone();
        let change = async move {
            changing.change_voters(BTreeSet::from([0, 1, 2, 3]), BTreeSet::new()).await
        };
        drop(<harness::R as openraft::AsyncRuntime>::spawn(change));
        while !engine.now().is_joint() {
            sleep(ms(1)).await;
        }
        // The one that is to lead never hears of it, and until others elect somebody the leader
        // refuses everything. Simulated time stands still while tasks ask without a pause, and the
        // runtime ends that.
        let to = (0..3).find(|id| *id != leader).unwrap();
        cluster.net.isolate(to, (0..4).filter(|id| *id != to));
        engine.transfer_leader(to).await.unwrap();
        while cluster.leader().await.1 == term {
            sleep(ms(5)).await;
        }
        cluster.net.heal();
        while cluster.nodes.iter().any(|node| node.engine.as_ref().unwrap().now().is_joint()) {
            sleep(ms(5)).await;
        }
        propose(&cluster, 10, &mut next).await;
        cluster.settled(20).await;
        cluster.stop().await;
    });
}

#[test]
fn leadership_is_handed_over_when_asked() {
    simulate(7, async {
        let mut cluster = Cluster::start(3, 0).await;
        let mut next = 0;
        propose(&cluster, 10, &mut next).await;
        let (leader, _) = cluster.leader().await;
        let to = (leader + 1) % 3;
        cluster.engine(leader).transfer_leader(to).await.unwrap();
        sleep(ms(50)).await;
        assert_eq!(cluster.leader().await.0, to, "without waiting for a silence");
        propose(&cluster, 10, &mut next).await;
        cluster.stop().await;
    });
}

#[test]
fn a_proposal_with_a_wrong_signature_is_not_appended() {
    simulate(8, async {
        let mut cluster = Cluster::start(3, 0).await;
        let mut next = 0;
        propose(&cluster, 10, &mut next).await;
        let (leader, term) = cluster.leader().await;
        let victim = (leader + 1) % 3;
        let spoilt = Arc::new(AtomicU64::new(0));
        let count = spoilt.clone();
        *cluster.net.tamper.lock().unwrap() = Some(Box::new(move |_, to, topic, body| {
            // A bit of the first entry's signature.
            if to != victim || topic != Topic::Append || body.len() < 200 {
                return body;
            }
            count.fetch_add(1, Ordering::Relaxed);
            let mut bytes = body.to_vec();
            // vote 11, prev 17, commit 17, count 4, length 4, format and kind 2, term 8, number 2.
            bytes[11 + 17 + 17 + 4 + 4 + 2 + 8 + 2 + 20] ^= 1;
            bytes.into()
        }));
        let height = cluster.engine(leader).now().last_log.unwrap() + 1;
        for more in 0..5 {
            let block = harness::block(height + more, 500 + more);
            cluster.engine(leader).propose(term, height + more, block).await.unwrap();
        }
        sleep(ms(1_000)).await;
        assert!(spoilt.load(Ordering::Relaxed) > 0);
        assert_eq!(cluster.engine(victim).log().next_index(), height, "nothing was appended");
        assert_eq!(cluster.agree().len() as u64, height + 5, "the others went on");
        *cluster.net.tamper.lock().unwrap() = None;
        cluster.settled(height + 4).await;
        cluster.agree();
        cluster.stop().await;
    });
}

#[test]
fn a_whole_cluster_that_lost_power_goes_on_in_a_new_term() {
    simulate(9, async {
        let mut cluster = Cluster::start(3, 0).await;
        let mut next = 0;
        let mut done = propose(&cluster, 100, &mut next).await;
        let (_, term) = cluster.leader().await;
        for id in 0..3 {
            cluster.crash(id, 40).await;
        }
        for id in 0..3 {
            cluster.up(id).await;
        }
        done.extend(propose(&cluster, 20, &mut next).await);
        assert!(cluster.leader().await.1 > term);
        cluster.settled(done.len() as u64).await;
        let found = numbers(&cluster.agree());
        assert!(done.iter().all(|number| found.contains(number)));
        cluster.stop().await;
    });
}

#[test]
fn an_engine_that_has_stopped_has_let_go_of_its_files() {
    simulate(12, async {
        let mut cluster = Cluster::start(3, 0).await;
        let mut next = 0;
        for _ in 0..6 {
            let (leader, _) = cluster.leader().await;
            let old = cluster.engine(leader).clone();
            cluster.restart(leader).await;
            assert_eq!(old.now().role, Role::Stopped);
            propose(&cluster, 5, &mut next).await;
        }
        cluster.settled(30).await;
        at_their_heights(&cluster.agree());
        cluster.stop().await;
    });
}

#[test]
fn a_leader_knows_who_is_silent_and_how_far_others_are() {
    simulate(10, async {
        let mut cluster = Cluster::start(3, 0).await;
        let mut next = 0;
        propose(&cluster, 10, &mut next).await;
        let (leader, _) = cluster.leader().await;
        let silent = (leader + 1) % 3;
        let other = (leader + 2) % 3;
        cluster.net.isolate(silent, [leader, other]);
        sleep(ms(500)).await;
        propose(&cluster, 10, &mut next).await;
        sleep(ms(100)).await;
        let engine = cluster.engine(leader);
        let silences = engine.silences();
        assert!(silences[&silent].unwrap() > ms(400), "{silences:?}");
        assert!(silences[&other].unwrap() < ms(100), "{silences:?}");
        let state = engine.now();
        assert_eq!(state.progress[&other], state.last_log);
        assert!(state.progress[&silent] < state.last_log);
        assert!(cluster.engine(other).silences().is_empty());
        cluster.stop().await;
    });
}

#[test]
fn whatever_happens_nothing_committed_is_lost_or_changed() {
    let more = std::env::var("KANJO_SEEDS").ok().and_then(|text| text.parse().ok());
    for seed in 100..100 + more.unwrap_or(30) {
        println!("seed {seed}");
        simulate(seed, async move {
            let mut cluster = Cluster::start(3, 0).await;
            let (mut next, mut random) = (0, seed);
            let mut below = |bound: u64| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (random >> 33) % bound
            };
            let mut done = BTreeSet::new();
            for _ in 0..6 {
                done.extend(propose(&cluster, 5 + below(30), &mut next).await);
                *cluster.net.loss.lock().unwrap() = [0, 10, 30][usize::try_from(below(3)).unwrap()];
                let node = u16::try_from(below(3)).unwrap();
                let other = (node + 1) % 3;
                let act = below(5);
                println!("{act} on {node}, with loss {}", cluster.net.loss.lock().unwrap());
                match act {
                    0 => cluster.net.isolate(node, [other, (node + 2) % 3]),
                    1 => cluster.net.cut(node, other),
                    2 => {
                        let lost = usize::try_from(below(20)).unwrap();
                        cluster.crash(node, lost).await;
                        sleep(ms(below(400))).await;
                        cluster.up(node).await;
                    }
                    3 => {
                        for id in 0..3 {
                            cluster.crash(id, 5).await;
                        }
                        for id in 0..3 {
                            cluster.up(id).await;
                        }
                    }
                    _ => {
                        let (leader, _) = cluster.leader().await;
                        cluster.engine(leader).transfer_leader(node).await.unwrap();
                    }
                }
                sleep(ms(below(300))).await;
                cluster.agree();
                cluster.net.heal();
            }
            *cluster.net.loss.lock().unwrap() = 0;
            done.extend(propose(&cluster, 5, &mut next).await);
            cluster.settled(done.len() as u64).await;
            let entries = cluster.agree();
            at_their_heights(&entries);
            let found: BTreeSet<u64> = numbers(&entries).into_iter().collect();
            assert!(found.is_superset(&done), "seed {seed}: a committed block is gone");
            cluster.stop().await;
        });
    }
}
