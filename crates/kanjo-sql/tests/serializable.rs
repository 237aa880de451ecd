//! Concurrent transactions over registers and a list of them, drawn at random: what came of them
//! must be what some order of them, one after the other, would have given. The version of a row
//! that each read says which transaction it came after (after Elle, Kingsbury and Alvaro, VLDB
//! 2020).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // A test may.

mod common;

use common::node::Node;
use common::text::one;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio_postgres::Client;

const REGISTERS: i64 = 5;
const CLIENTS: u64 = 6;
const EACH: u64 = 25;

/// What a transaction that committed has done. Each value that is written is written once.
#[derive(Debug, Default)]
struct Done {
    id: i64,
    /// By register: the value that it read.
    reads: BTreeMap<i64, i64>,
    /// By register: the value that it put there, having read it.
    writes: BTreeMap<i64, i64>,
    /// Transactions whose row in the list it saw, when it looked at all of them.
    saw: Option<BTreeSet<i64>>,
    /// Did it add a row of its own?
    listed: bool,
}

async fn transaction(client: &Client, id: i64, rng: &mut ChaCha8Rng) -> Option<Done> {
    let mut done = Done { id, ..Done::default() };
    let work = async {
        client.batch_execute("BEGIN").await?;
        for _ in 0..=rng.next_u32() % 3 {
            let register = i64::from(rng.next_u32()) % REGISTERS;
            if done.writes.contains_key(&register) {
                continue;
            }
            let sql = "SELECT v FROM registers WHERE id = $1";
            let value: i64 = client.query_one(sql, &[&register]).await?.get(0);
            done.reads.insert(register, value);
            if rng.next_u32().is_multiple_of(2) {
                let sql = "UPDATE registers SET v = $1 WHERE id = $2";
                assert_eq!(client.execute(sql, &[&id, &register]).await?, 1);
                done.writes.insert(register, id);
            }
        }
        if rng.next_u32().is_multiple_of(3) {
            let rows = client.query("SELECT id FROM list WHERE id > 0", &[]).await?;
            done.saw = Some(rows.iter().map(|row| row.get(0)).collect());
        }
        if rng.next_u32().is_multiple_of(3) {
            client.execute("INSERT INTO list VALUES ($1)", &[&id]).await?;
            done.listed = true;
        }
        client.batch_execute("COMMIT").await
    };
    match work.await {
        Ok(()) => Some(done),
        Err(error) => {
            let code = error.code().unwrap_or_else(|| panic!("{error:?}")).code().to_owned();
            assert_eq!(code, "40001", "{error:?}");
            client.batch_execute("ROLLBACK").await.unwrap();
            None
        }
    }
}

/// Who must come before whom: writes before what read or overwrote them, reads before what
/// overwrote what they read, and the same for rows of the list.
fn edges(all: &BTreeMap<i64, Done>) -> Vec<(i64, i64)> {
    let mut edges = Vec::new();
    // By register and value that was overwritten: who did it. Two would be a lost update.
    let mut next: BTreeMap<(i64, i64), i64> = BTreeMap::new();
    for done in all.values() {
        for register in done.writes.keys() {
            let replaced = next.insert((*register, done.reads[register]), done.id);
            assert_eq!(replaced, None, "two overwrote the same value: {done:?}");
        }
    }
    for done in all.values() {
        for (register, value) in &done.reads {
            if *value != 0 {
                assert!(all.contains_key(value), "read what never committed: {done:?}");
                edges.push((*value, done.id));
            }
            if let Some(after) = next.get(&(*register, *value)).filter(|after| **after != done.id) {
                edges.push((done.id, *after));
            }
        }
        let Some(saw) = &done.saw else { continue };
        for other in all.values().filter(|other| other.listed && other.id != done.id) {
            match saw.contains(&other.id) {
                true => edges.push((other.id, done.id)),
                false => edges.push((done.id, other.id)),
            }
        }
    }
    edges
}

/// An order, or what is left when there is none.
fn ordered(all: &BTreeMap<i64, Done>, edges: &[(i64, i64)]) -> Result<Vec<i64>, BTreeSet<i64>> {
    let mut left: BTreeSet<i64> = all.keys().copied().collect();
    let mut order = Vec::new();
    while !left.is_empty() {
        let blocked: BTreeSet<i64> = edges
            .iter()
            .filter(|(before, _)| left.contains(before))
            .map(|(_, after)| *after)
            .collect();
        let free: Vec<i64> = left.difference(&blocked).copied().collect();
        if free.is_empty() {
            return Err(left);
        }
        free.iter().for_each(|id| {
            left.remove(id);
        });
        order.extend(free);
    }
    Ok(order)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_commits_could_have_come_one_after_the_other() {
    let node = Arc::new(Node::start());
    let alice = node.connect("alice").await;
    alice
        .batch_execute(
            "CREATE TABLE registers (id bigint PRIMARY KEY, v bigint NOT NULL);
             CREATE TABLE list (id bigint PRIMARY KEY);
             GRANT ALL ON registers TO PUBLIC; GRANT ALL ON list TO PUBLIC;
             INSERT INTO registers SELECT x, 0 FROM generate_series(0, 4) a(x)",
        )
        .await
        .unwrap();
    let mut tasks = Vec::new();
    for number in 0..CLIENTS {
        let role = common::node::USERS[usize::try_from(number).unwrap() % 3];
        let client = node.connect(role).await;
        tasks.push(tokio::spawn(async move {
            let mut rng = ChaCha8Rng::seed_from_u64(number);
            let mut all = Vec::new();
            for turn in 0..EACH {
                let id = i64::try_from(number * EACH + turn + 1).unwrap();
                all.extend(transaction(&client, id, &mut rng).await);
            }
            all
        }));
    }
    let mut all = BTreeMap::new();
    for task in tasks {
        all.extend(task.await.unwrap().into_iter().map(|done| (done.id, done)));
    }
    assert!(all.len() > 30, "only {} of {} committed", all.len(), CLIENTS * EACH);
    let edges = edges(&all);
    let order = ordered(&all, &edges);
    let order = order.unwrap_or_else(|left| panic!("no order of {left:?} explains {all:?}"));
    assert_eq!(order.len(), all.len());
    // What is there at the end is what the last of them wrote.
    for register in 0..REGISTERS {
        let last = one(&alice, &format!("SELECT v FROM registers WHERE id = {register}")).await;
        let writers = all.values().filter(|done| done.writes.contains_key(&register));
        let overwritten: BTreeSet<i64> = all
            .values()
            .filter(|done| done.writes.contains_key(&register))
            .map(|done| done.reads[&register])
            .collect();
        let newest: Vec<i64> =
            writers.map(|done| done.id).filter(|id| !overwritten.contains(id)).collect();
        let expected = newest.first().copied().unwrap_or(0);
        assert!(
            newest.len() <= 1 && last == expected.to_string(),
            "{register}: {last}, {newest:?}"
        );
    }
}

#[test]
fn a_cycle_is_found() {
    let skew = |id, read: i64, write: i64| Done {
        id,
        reads: [(read, 0), (write, 0)].into(),
        writes: [(write, id)].into(),
        ..Done::default()
    };
    let all: BTreeMap<i64, Done> = [(1, skew(1, 0, 1)), (2, skew(2, 1, 0))].into();
    assert!(ordered(&all, &edges(&all)).is_err());
    let all: BTreeMap<i64, Done> = [(1, skew(1, 0, 1)), (2, skew(2, 2, 0))].into();
    assert_eq!(ordered(&all, &edges(&all)).unwrap(), [1, 2]);
}
