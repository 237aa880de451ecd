//! Through the wire, with an unmodified client.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // A test may.

mod common;

use common::text::{all as texts, code, one};
use common::{EACH, WALLETS, served, wallet};
use kanjo_sql::Limits;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_postgres::types::ToSql;

#[tokio::test(flavor = "multi_thread")]
async fn queries_of_every_kind_are_answered() {
    let served = served(Limits::default());
    let client = served.connect().await;
    let total = (EACH * u128::from(WALLETS)).to_string();
    let cases: &[(&str, &str)] = &[
        ("SELECT count(*) FROM wallets", "20"),
        ("SELECT sum(balance) FROM wallet_states", &total),
        ("SELECT symbol FROM tokens WHERE id = 2", "EUR"),
        ("SELECT count(*) FROM wallet_states s JOIN wallets w ON w.id = s.wallet", "20"),
        (
            "SELECT sum(s.balance) FROM wallet_states s JOIN wallets w ON w.id = s.wallet \
             WHERE w.owner = (SELECT min(owner) FROM wallets)",
            "6000",
        ),
        (
            "WITH poor AS (SELECT * FROM wallet_states WHERE balance < 2000) SELECT count(*) FROM poor",
            "20",
        ),
        (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10) \
             SELECT sum(i) FROM n",
            "55",
        ),
        (
            "SELECT max(place) FROM (SELECT row_number() OVER (ORDER BY wallet) AS place \
             FROM wallet_states) p",
            "20",
        ),
        (
            "SELECT count(*) FROM wallets w WHERE EXISTS (SELECT 1 FROM wallet_states s WHERE s.wallet = w.id)",
            "20",
        ),
        ("SELECT amount FROM balances WHERE symbol = 'JPY' LIMIT 1", "1000"),
        ("SELECT count(*) FROM blocks", "1"),
        ("SELECT time FROM blocks WHERE height = 0", "2023-11-14 22:13:20+00"),
        ("SELECT number FROM wallets ORDER BY number DESC LIMIT 1", "19"),
        ("SELECT count(*) FROM certificates", "0"),
        ("SELECT 1.5 + 1.25", "2.75"),
        ("SELECT true AND NOT false", "t"),
    ];
    for (sql, expected) in cases {
        assert_eq!(one(&client, sql).await, *expected, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_looked_up_and_not_searched_for() {
    let served = served(Limits::default());
    let client = served.connect().await;
    for number in 0..WALLETS {
        let sql = format!(
            "SELECT balance FROM wallet_states WHERE wallet = '{}' AND token = 1",
            wallet(number)
        );
        assert_eq!(one(&client, &sql).await, EACH.to_string());
        let plan = texts(&client, &format!("EXPLAIN {sql}")).await;
        let plan = plan.concat().into_iter().flatten().collect::<String>();
        assert!(!plan.contains("FilterExec"), "{plan}");
    }
    let both = format!(
        "SELECT count(*) FROM wallets WHERE id IN ('{}', '{}', 'nobody')",
        wallet(1),
        wallet(2)
    );
    assert_eq!(one(&client, &both).await, "2");
    assert_eq!(one(&client, "SELECT count(*) FROM tokens WHERE id > 1 AND id <= 3").await, "2");
    assert_eq!(one(&client, "SELECT count(*) FROM tokens WHERE id BETWEEN -5 AND 1").await, "1");
    assert_eq!(one(&client, "SELECT count(*) FROM tokens WHERE id > 99999999999").await, "0");
    let upper = format!(
        "SELECT count(*) FROM wallets WHERE id = '{}'",
        wallet(1).to_string().to_uppercase()
    );
    assert_eq!(one(&client, &upper).await, "0", "another text is not equal");
}

#[tokio::test(flavor = "multi_thread")]
async fn money_never_wraps() {
    let served = served(Limits::default());
    let client = served.connect().await;
    let overflows = [
        "SELECT 9223372036854775807 + 1",
        "SELECT -9223372036854775807 - 2",
        "SELECT 9223372036854775807 * 2",
        "SELECT x + 1 FROM (VALUES (9223372036854775807)) v(x)",
        "SELECT x * x FROM (VALUES (4000000000)) v(x)",
        "SELECT height - 9223372036854775807 - 9223372036854775807 FROM blocks",
        "SELECT x * x FROM (VALUES (CAST('99999999999999999999999999999999999999' AS numeric(38,0)))) v(x)",
        "SELECT CAST(9223372036854775807 AS integer)",
    ];
    for sql in overflows {
        assert_eq!(code(&client, sql).await, "22003", "{sql}");
    }
    assert_eq!(code(&client, "SELECT 1 / 0").await, "22012");
    assert_eq!(code(&client, "SELECT x / 0 FROM (VALUES (1.5)) v(x)").await, "22012");
    // A sum has room.
    let sums = "SELECT sum(x) FROM (VALUES (9223372036854775807), (9223372036854775807)) v(x)";
    assert_eq!(one(&client, sums).await, "18446744073709551614");
    let sums = "SELECT sum(x) OVER () FROM (VALUES (CAST('99999999999999999999999999999999999999' AS \
                numeric(38,0))), (CAST('99999999999999999999999999999999999999' AS numeric(38,0)))) v(x) LIMIT 1";
    assert_eq!(one(&client, sums).await, "199999999999999999999999999999999999998");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correlated_count_of_nothing_is_zero() {
    let served = served(Limits::default());
    let client = served.connect().await;
    let sql = "SELECT t.symbol, (SELECT count(*) FROM wallet_states s WHERE s.token = t.id) \
               FROM tokens t ORDER BY t.id";
    let counts: Vec<_> = texts(&client, sql).await.into_iter().map(|row| row[1].clone()).collect();
    let expected = ["20", "0", "0"].map(|count| Some(count.to_owned()));
    assert_eq!(counts, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_snapshot_adds_up_while_money_moves() {
    let served = Arc::new(served(Limits::default()));
    let payer = served.pay_on_and_on();
    let total = (EACH * u128::from(WALLETS)).to_string();
    let client = served.connect().await;
    for _ in 0..30 {
        let sql =
            "SELECT sum(balance), count(*), (SELECT sum(amount) FROM balances) FROM wallet_states";
        let row = texts(&client, sql).await.remove(0);
        assert_eq!(row[0].as_deref(), Some(total.as_str()));
        assert_eq!(row[2].as_deref(), Some(total.as_str()));
    }
    // In a transaction every statement sees the same.
    client.batch_execute("BEGIN").await.unwrap();
    let all = "SELECT wallet, balance, version FROM wallet_states ORDER BY wallet";
    let first = texts(&client, all).await;
    let height = served.view.height();
    while served.view.height() < height + 20 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(texts(&client, all).await, first);
    client.batch_execute("COMMIT").await.unwrap();
    assert_ne!(texts(&client, all).await, first);
    drop(served);
    payer.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_statements_take_parameters_and_answer_in_binary() {
    let served = served(Limits::default());
    let client = served.connect().await;
    let sql =
        "SELECT wallet, token, version, height FROM wallet_states WHERE wallet = $1 AND token = $2";
    let statement = client.prepare(sql).await.unwrap();
    for number in 0..5 {
        let id = wallet(number).to_string();
        let parameters: [&(dyn ToSql + Sync); 2] = [&id, &1i64];
        let row = client.query_one(&statement, &parameters).await.unwrap();
        assert_eq!(row.get::<_, String>(0), id);
        assert_eq!(row.get::<_, i64>(1), 1);
        assert_eq!(row.get::<_, i64>(2), 1);
        assert_eq!(row.get::<_, i64>(3), 0);
    }
    let row = client
        .query_one("SELECT true, 1.5::double precision, time FROM blocks", &[])
        .await
        .unwrap();
    assert!(row.get::<_, bool>(0));
    assert!((row.get::<_, f64>(1) - 1.5).abs() < f64::EPSILON);
    let time: std::time::SystemTime = row.get(2);
    let since = time.duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(since.as_secs(), 1_700_000_000);
    let rows = client.query("SELECT id FROM tokens ORDER BY id LIMIT $1", &[&2i64]).await.unwrap();
    assert_eq!(rows.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_say_what_they_are() {
    let served = served(Limits::default());
    let client = served.connect().await;
    let cases = [
        ("SELEC 1", "42601"),
        ("SELECT * FROM nothing", "42P01"),
        ("SELECT nothing FROM wallets", "42703"),
        ("SELECT nothing(1)", "42883"),
        ("SELECT CAST('x' AS bigint)", "22P02"),
        ("INSERT INTO wallets VALUES ('x')", "42501"),
        ("UPDATE wallets SET id = 'x'", "42501"),
        ("DELETE FROM wallets", "42501"),
        ("CREATE TABLE mine (id bigint)", "42501"),
        ("DROP TABLE wallets", "42501"),
        ("TRUNCATE wallets", "42501"),
        ("COPY wallets TO '/tmp/wallets'", "0A000"),
        ("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'", "42601"),
        ("WITH gone AS (DELETE FROM wallets RETURNING id) SELECT * FROM gone", "0A000"),
        ("SELECT * INTO mine FROM wallets", "0A000"),
        ("SELECT * FROM wallets FOR UPDATE", "0A000"),
        ("SELECT * FROM wallets FOR SYSTEM_TIME AS OF '2026-01-01'", "0A000"),
        ("SELECT * FROM '/etc/passwd'", "42P01"),
        ("SHOW nothing", "42704"),
    ];
    for (sql, expected) in cases {
        assert_eq!(code(&client, sql).await, expected, "{sql}");
    }
    assert_eq!(one(&client, "SELECT 1").await, "1", "the connection lives on");
    client.batch_execute("BEGIN").await.unwrap();
    assert_eq!(code(&client, "SELECT * FROM nothing").await, "42P01");
    assert_eq!(code(&client, "SELECT 1").await, "25P02");
    client.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(one(&client, "SELECT 1").await, "1");
}

/// Much work, row after row.
const LONG: &str = "SELECT count(*) FROM generate_series(1, 100000000) a(x) \
                    CROSS JOIN generate_series(1, 100000000) b(y)";

#[tokio::test(flavor = "multi_thread")]
async fn statements_can_be_cancelled_and_time_out() {
    let limits = Limits { statement_timeout: Duration::from_millis(700), ..Limits::default() };
    let served = served(limits);
    let client = served.connect().await;
    assert_eq!(code(&client, LONG).await, "57014", "the time is up");
    let cancel = client.cancel_token();
    let canceller = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(150)).await;
        cancel.cancel_query(tokio_postgres::NoTls).await.unwrap();
    });
    assert_eq!(code(&client, LONG).await, "57014");
    canceller.await.unwrap();
    assert_eq!(one(&client, "SELECT 1").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_input_is_refused_and_the_service_lives_on() {
    let served = served(Limits::default());
    let client = served.connect().await;
    let giant = format!("SELECT '{}'", "x".repeat(2 << 20));
    assert_eq!(code(&client, &giant).await, "54000");
    let deep = format!("SELECT {}1{}", "(".repeat(5_000), ")".repeat(5_000));
    assert_eq!(code(&client, &deep).await, "54001");
    let nested = format!("SELECT {}1{}", "(SELECT ".repeat(2_000), ")".repeat(2_000));
    assert_eq!(code(&client, &nested).await, "54001");
    let long = format!("SELECT 1{}", " + 1".repeat(100_000));
    assert_eq!(code(&client, &long).await, "54001");
    let not = format!("SELECT {} true", "NOT ".repeat(100_000));
    assert_eq!(code(&client, &not).await, "54001");
    // As long as may be.
    let long = format!("SELECT 1{}", " + 1".repeat(350));
    assert_eq!(one(&client, &long).await, "351");
    for garbage in
        [&[0u8; 64][..], &[0xff; 64], b"GET / HTTP/1.1\r\n\r\n", &[0, 0, 0, 8, 4, 210, 22, 47]]
    {
        let mut socket =
            tokio::net::TcpStream::connect(("127.0.0.1", served.port())).await.unwrap();
        socket.write_all(garbage).await.unwrap();
        let mut answer = Vec::new();
        let _ =
            tokio::time::timeout(Duration::from_millis(200), socket.read_to_end(&mut answer)).await;
    }
    assert_eq!(one(&client, "SELECT 1").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_bounded() {
    let limits = Limits { statement_memory_bytes_max: 4 << 20, ..Limits::default() };
    let served = served(limits);
    let client = served.connect().await;
    let sql = "SELECT count(DISTINCT (x * 7919) % 4999999) FROM generate_series(1, 5000000) a(x)";
    assert_eq!(code(&client, sql).await, "53200");
    assert_eq!(one(&client, "SELECT 1").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_are_held_and_too_many_are_told() {
    let limits = Limits { connections_max: 200, ..Limits::default() };
    let served = served(limits);
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(served.connect().await);
    }
    let config = format!("host=127.0.0.1 port={} user=tester dbname=kanjo", served.port());
    let refused = tokio_postgres::connect(&config, tokio_postgres::NoTls).await;
    let refused = refused.err().unwrap();
    assert_eq!(refused.code().map(|code| code.code()), Some("53300"), "{refused:?}");
    assert_eq!(one(&idle[150], "SELECT count(*) FROM wallets").await, "20");
}
