//! What a review found, and COPY.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // A test may.

mod common;

use bytes::Bytes;
use common::node::Node;
use common::text::{code, count, lines, one};
use futures_util::{SinkExt as _, TryStreamExt as _};
use std::time::Duration;
use tokio_postgres::Client;

async fn run(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

async fn copy_in(client: &Client, sql: &str, data: &str) -> Result<u64, tokio_postgres::Error> {
    let mut sink = Box::pin(client.copy_in::<_, Bytes>(sql).await?);
    for piece in data.as_bytes().chunks(7) {
        sink.send(Bytes::copy_from_slice(piece)).await?;
    }
    sink.as_mut().finish().await
}

async fn copy_out(client: &Client, sql: &str) -> String {
    let stream = client.copy_out(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let pieces: Vec<Bytes> = stream.try_collect().await.unwrap();
    String::from_utf8(pieces.concat()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_copied_in_and_out() {
    let node = Node::start();
    let alice = node.connect("alice").await;
    run(
        &alice,
        "CREATE TABLE t (id int PRIMARY KEY, name text, price numeric(8, 2), at timestamptz)",
    )
    .await;
    let csv = "id,name,price\n1,\"a,b\",1.5\n2,,\n3,\"\",7\n";
    let sql = "COPY t (id, name, price) FROM STDIN WITH (FORMAT csv, HEADER)";
    assert_eq!(copy_in(&alice, sql, csv).await.unwrap(), 3);
    assert_eq!(
        copy_in(&alice, "COPY t FROM STDIN", "4\tx\\ty\t\\N\t2026-01-31 12:00:00+00\n")
            .await
            .unwrap(),
        1
    );
    let out = copy_out(
        &alice,
        "COPY (SELECT id, name, price FROM t ORDER BY id) TO STDOUT WITH (FORMAT csv, HEADER)",
    )
    .await;
    assert_eq!(out, "id,name,price\n1,\"a,b\",1.50\n2,,\n3,\"\",7.00\n4,x\ty,\n");
    let text = copy_out(&alice, "COPY t TO STDOUT").await;
    run(
        &alice,
        "CREATE TABLE u (id int PRIMARY KEY, name text, price numeric(8, 2), at timestamptz)",
    )
    .await;
    assert_eq!(copy_in(&alice, "COPY u FROM STDIN", &text).await.unwrap(), 4);
    let differ = "SELECT count(*) FROM t JOIN u ON t.id = u.id
        WHERE (t.name IS NOT DISTINCT FROM u.name) AND (t.at IS NOT DISTINCT FROM u.at)";
    assert_eq!(one(&alice, differ).await, "4");
    for (data, expected) in
        [("9,x\n", "22P04"), ("x,y,1\n", "22P02"), ("1,again,1\n", "23505"), ("8,\"x", "22P04")]
    {
        let sql = "COPY t (id, name, price) FROM STDIN WITH (FORMAT csv)";
        let error = copy_in(&alice, sql, data).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), expected, "{data}");
    }
    assert_eq!(one(&alice, "SELECT count(*) FROM t").await, "4", "nothing of what failed is there");
    assert_eq!(code(&alice, "COPY t TO '/tmp/t'").await, "0A000");
    let bob = node.connect("bob").await;
    assert_eq!(code(&bob, "COPY t TO STDOUT").await, "42501");
}

#[tokio::test(flavor = "multi_thread")]
async fn time_goes_on() {
    let node = Node::start();
    let alice = node.connect("alice").await;
    run(&alice, "CREATE TABLE t (id int PRIMARY KEY, at timestamptz)").await;
    run(&alice, "INSERT INTO t VALUES (1, now())").await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    run(&alice, "INSERT INTO t VALUES (2, now())").await;
    assert_eq!(
        one(&alice, "SELECT (SELECT at FROM t WHERE id = 2) > (SELECT at FROM t WHERE id = 1)")
            .await,
        "t"
    );
    assert_eq!(one(&alice, "SELECT max(at) <= now() FROM t").await, "t");
}

#[tokio::test(flavor = "multi_thread")]
async fn sub_queries_of_a_change_see_the_tables_that_they_name() {
    let node = Node::start();
    let alice = node.connect("alice").await;
    run(
        &alice,
        "CREATE TABLE t (id int PRIMARY KEY, a int, b int); CREATE TABLE other (a int PRIMARY KEY)",
    )
    .await;
    run(
        &alice,
        "INSERT INTO t VALUES (1, 1, 1), (2, 2, 2), (3, 3, 3); INSERT INTO other VALUES (70)",
    )
    .await;
    let counted = "INSERT INTO t VALUES (4, 4, 4) RETURNING (SELECT count(*) FROM t)";
    assert_eq!(lines(&alice, counted).await, ["4"]);
    let both = "INSERT INTO t VALUES (1, 0, 0) ON CONFLICT (id)
        DO UPDATE SET a = (SELECT max(a) FROM other), b = (SELECT max(b) FROM t) + excluded.id RETURNING a, b";
    assert_eq!(lines(&alice, both).await, ["70|5"]);
    assert_eq!(count(&alice, "UPDATE t SET a = 0, b = 0").await, 4, "the same value twice");
    assert_eq!(count(&alice, "UPDATE t SET a = id, b = id").await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_take_the_node_too_much_is_refused() {
    let node = Node::start();
    let alice = node.connect("alice").await;
    let mut bomb = "WITH c0 AS (SELECT 1 AS x)".to_owned();
    for number in 1..12 {
        let before = number - 1;
        bomb.push_str(&format!(", c{number} AS (SELECT x FROM c{before}"));
        (0..6).for_each(|_| bomb.push_str(&format!(" UNION ALL SELECT x FROM c{before}")));
        bomb.push(')');
    }
    bomb.push_str(" SELECT count(*) FROM c11");
    assert_eq!(code(&alice, &bomb).await, "54001");
    run(&alice, "CREATE TABLE t (id bigint PRIMARY KEY)").await;
    let many = "INSERT INTO t SELECT x FROM generate_series(1, 1000000000) a(x)";
    assert_eq!(code(&alice, many).await, "54000");
    // Sixty-five portals.
    let sql = "SELECT x FROM generate_series(1, 10) a(x)";
    let mut other = node.connect("alice").await;
    let transaction = other.transaction().await.unwrap();
    let statement = transaction.prepare(sql).await.unwrap();
    let mut portals = Vec::new();
    let refused = loop {
        match transaction.bind(&statement, &[]).await {
            Ok(portal) => portals.push(portal),
            Err(error) => break error,
        }
        assert!(portals.len() < 100);
    };
    assert_eq!(refused.code().unwrap().code(), "54000");
    assert_eq!(one(&alice, "SELECT 1").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn views_are_planned_when_they_are_made_and_end_with_their_rights() {
    let node = Node::start();
    let alice = node.connect("alice").await;
    assert_eq!(code(&alice, "CREATE VIEW v AS SELECT * FROM nowhere").await, "42P01");
    assert_eq!(code(&alice, "CREATE VIEW v AS SELECT 'a''''b' AS x").await, "0A000");
    run(&alice, "CREATE TABLE t (id int PRIMARY KEY, secret text); INSERT INTO t VALUES (1, 'x')")
        .await;
    run(&alice, "CREATE VIEW v AS SELECT id FROM t; GRANT SELECT ON v TO bob").await;
    let bob = node.connect("bob").await;
    let prepared = bob.prepare("SELECT id FROM v").await.unwrap();
    assert_eq!(bob.query(&prepared, &[]).await.unwrap().len(), 1, "with the rights of its owner");
    assert_eq!(code(&bob, "SELECT * FROM t").await, "42501");
    let known = "SELECT count(*) FROM information_schema.columns WHERE table_name = 't'";
    assert_eq!(one(&bob, known).await, "2", "what may not be read is described all the same");
    run(&alice, "REVOKE SELECT ON v FROM bob").await;
    let refused = bob.query(&prepared, &[]).await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "42501");
    // A view whose table is gone keeps nobody from looking at the others.
    run(&alice, "DROP TABLE t").await;
    let names = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'wallets'";
    assert_ne!(one(&alice, names).await, "0");
    assert_eq!(code(&alice, "SELECT * FROM v").await, "42P01");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_follows_references_however_long_they_are() {
    let node = Node::start();
    let alice = node.connect("alice").await;
    run(
        &alice,
        "CREATE TABLE chain (id int PRIMARY KEY, up int REFERENCES chain ON DELETE CASCADE)",
    )
    .await;
    run(
        &alice,
        "CREATE TABLE tag (id int PRIMARY KEY, chain int REFERENCES chain ON DELETE SET NULL)",
    )
    .await;
    run(&alice, "INSERT INTO chain VALUES (0, NULL); INSERT INTO chain SELECT x, x - 1 FROM generate_series(1, 60) a(x)").await;
    run(&alice, "INSERT INTO tag VALUES (1, 59), (2, NULL)").await;
    run(&alice, "DELETE FROM chain WHERE id = 0").await;
    assert_eq!(one(&alice, "SELECT count(*) FROM chain").await, "0");
    assert_eq!(lines(&alice, "SELECT id, chain FROM tag ORDER BY id").await, ["1|", "2|"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_change_who_may_do_what_are_not_ignored() {
    let node = Node::start();
    let alice = node.connect("alice").await;
    run(&alice, "CREATE TABLE t (id int PRIMARY KEY)").await;
    assert_eq!(code(&alice, "SET ROLE bob").await, "0A000");
    assert_eq!(one(&alice, "SELECT current_user").await, "alice");
    run(&alice, "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY").await;
    assert_eq!(code(&alice, "INSERT INTO t VALUES (1)").await, "25006");
    run(&alice, "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE; INSERT INTO t VALUES (1)")
        .await;
    // Several statements of one message are one transaction.
    assert_eq!(code(&alice, "INSERT INTO t VALUES (2); INSERT INTO t VALUES (1)").await, "23505");
    assert_eq!(one(&alice, "SELECT count(*) FROM t").await, "1");
    // So are changes that were prepared and closed again, however many.
    for id in 10..1_100i32 {
        let statement = alice.prepare("SELECT id FROM t WHERE id = $1").await.unwrap();
        if id % 500 == 0 {
            assert_eq!(alice.query(&statement, &[&id]).await.unwrap().len(), 0);
        }
    }
}
