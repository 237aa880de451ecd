use super::*;
use kanjo_types::membership::{MemberKind, MemberStatus, NodeCertificate};
use kanjo_types::standing::Links;

fn member(name: &str, kind: MemberKind, status: MemberStatus) -> Member {
    let certificate = NodeCertificate {
        name: name.to_owned(),
        kind,
        vote_key: [1; 32],
        link_key: [2; 32],
        address: "a:1".to_owned(),
        api: "http://a:2".to_owned(),
        attestor: None,
    };
    Member { certificate, status, since_epoch: 0, reason: String::new() }
}

fn three_and_a_witness() -> Membership {
    use MemberKind::{Executor, Witness};
    let members = [("a", Executor), ("b", Executor), ("c", Executor), ("w", Witness)];
    let members = members.map(|(name, kind)| member(name, kind, MemberStatus::Voting));
    Membership {
        epoch: 0,
        links: Links::default(),
        height: 0,
        members: members.into(),
        measurements: Vec::new(),
    }
}

fn measured(checks_per_s: u64, disk_gib: u64, height: u64) -> Measures {
    Measures { checks_per_s, disk_free: disk_gib << 30, height, ..Measures::default() }
}

fn all() -> BTreeMap<u16, Measures> {
    BTreeMap::from([
        (0, measured(10_000, 50, 900)),
        (1, measured(40_000, 40, 900)),
        (2, measured(20_000, 60, 899)),
        (3, measured(90_000, 30, 900)),
    ])
}

fn who(given: &[Assignment], role: NodeRole) -> Vec<u16> {
    given.iter().filter(|one| one.role == role).map(|one| one.node).collect()
}

#[test]
fn the_strongest_voter_that_executes_coordinates_and_executors_work() {
    let given = assign(&three_and_a_witness(), &all());
    // The witness has more power and can't: it executes nothing.
    assert_eq!(who(&given, NodeRole::Coordination), [1]);
    assert_eq!(who(&given, NodeRole::Worker), [0, 1, 2]);
    assert_eq!(who(&given, NodeRole::Client), [0, 1, 2]);
    assert_eq!(who(&given, NodeRole::Persistence), [0, 1, 2, 3]);
    assert_eq!(who(&given, NodeRole::Backup), [2]);
    let why = &given.iter().find(|one| one.role == NodeRole::Coordination).expect("there").why;
    assert!(why.contains("40000 signature checks/s") && why.contains("of 3 voters"), "{why}");
}

#[test]
fn roles_move_when_a_node_is_gone() {
    let (membership, mut measures) = (three_and_a_witness(), all());
    measures.remove(&1);
    let given = assign(&membership, &measures);
    assert_eq!(who(&given, NodeRole::Coordination), [2]);
    assert_eq!(who(&given, NodeRole::Worker), [0, 2]);
    assert_eq!(who(&given, NodeRole::Backup), [0]);
    assert!(given.iter().all(|one| one.node != 1));
}

#[test]
fn who_lags_neither_coordinates_nor_serves_clients() {
    let (membership, mut measures) = (three_and_a_witness(), all());
    measures.entry(1).and_modify(|one| one.height = 900 - LAG_MAX - 1);
    let given = assign(&membership, &measures);
    assert_eq!(who(&given, NodeRole::Coordination), [2]);
    assert_eq!(who(&given, NodeRole::Client), [0, 2]);
    assert_eq!(who(&given, NodeRole::Worker), [0, 1, 2]);
}

#[test]
fn what_most_say_of_a_node_counts_not_what_one_says() {
    let (membership, mut measures) = (three_and_a_witness(), all());
    let say = |measures: &mut BTreeMap<u16, Measures>, from: u16, share: u16| {
        measures.entry(from).and_modify(|one| one.in_time = vec![(1, share)]);
    };
    // One slanders; it praises itself.
    [(0, 0), (1, 1_000), (2, 990), (3, 980)].iter().for_each(|(from, share)| {
        say(&mut measures, *from, *share);
    });
    assert_eq!(who(&assign(&membership, &measures), NodeRole::Coordination), [1]);
    [0, 2, 3].iter().for_each(|from| say(&mut measures, *from, 100));
    assert_eq!(who(&assign(&membership, &measures), NodeRole::Coordination), [2]);
}

#[test]
fn the_doubted_have_no_role() {
    let (mut membership, mut measures) = (three_and_a_witness(), all());
    for from in [0, 2, 3] {
        measures.entry(from).and_modify(|one| one.doubted = vec![1]);
    }
    assert!(assign(&membership, &measures).iter().all(|one| one.node != 1));
    measures.entry(3).and_modify(|one| one.doubted = Vec::new());
    // Two of four are no majority.
    assert_eq!(who(&assign(&membership, &measures), NodeRole::Coordination), [1]);
    membership.members[1].status = MemberStatus::Doubted;
    assert!(assign(&membership, &measures).iter().all(|one| one.node != 1));
}

#[test]
fn a_member_without_a_vote_works_and_does_not_coordinate() {
    let mut membership = three_and_a_witness();
    membership.members[1].status = MemberStatus::Left;
    let given = assign(&membership, &all());
    assert_eq!(who(&given, NodeRole::Coordination), [2]);
    assert!(who(&given, NodeRole::Worker).contains(&1));
}

#[test]
fn configuration_goes_before_measures_and_says_so() {
    let (membership, mut measures) = (three_and_a_witness(), all());
    measures.entry(1).and_modify(|one| one.takes = Some(bit(NodeRole::Backup)));
    let given = assign(&membership, &measures);
    assert_eq!(who(&given, NodeRole::Coordination), [2]);
    assert_eq!(who(&given, NodeRole::Backup), [0]);
    measures.entry(0).and_modify(|one| one.takes = Some(bit(NodeRole::Worker)));
    measures.entry(3).and_modify(|one| one.takes = Some(0));
    let given = assign(&membership, &measures);
    assert_eq!(who(&given, NodeRole::Backup), [1]);
    let why = &given.iter().find(|one| one.role == NodeRole::Backup).expect("there").why;
    assert!(why.ends_with("by configuration"), "{why}");
    assert!(given.iter().all(|one| one.node != 3));
}

#[test]
fn the_nearest_passes_messages_on() {
    let (membership, mut measures) = (three_and_a_witness(), all());
    let far = [(0u16, 900u64), (1, 500), (2, 80), (3, 81)];
    for (number, micros) in far {
        measures.entry(number).and_modify(|one| {
            one.round_trips = vec![(9, micros), (8, micros)];
        });
    }
    assert_eq!(who(&assign(&membership, &measures), NodeRole::Messaging), [2]);
}

#[test]
fn nobody_there_means_no_roles() {
    assert!(assign(&three_and_a_witness(), &BTreeMap::new()).is_empty());
}

#[test]
fn full_disks_keep_the_log_where_most_room_is() {
    let (membership, mut measures) = (three_and_a_witness(), all());
    measures.values_mut().for_each(|one| one.disk_free >>= 10);
    assert_eq!(who(&assign(&membership, &measures), NodeRole::Persistence), [2]);
}
