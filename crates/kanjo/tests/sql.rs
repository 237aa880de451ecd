//! SQL with the real binary: served by `kanjo dev` and `kanjo node`, asked by `kanjo sql` and by
//! psql, which `cargo xtask unit` installs.

#![cfg(feature = "sql")]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests panic")]

mod common;

use common::{Running, World, program};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// A ledger of one node with SQL, and where it is.
struct Ledger {
    world: World,
    node: Running,
    api: String,
    url: String,
}

impl Ledger {
    fn dev(dir: &Path) -> Self {
        let data = dir.join("ledger");
        let mut command = Command::new(program());
        command.args(["--json", "dev", "--listen", "127.0.0.1:0", "--sql"]);
        command.arg(format!("127.0.0.1:{}", kanjo_testing::free_port()));
        command.arg("--data").arg(&data);
        let node = Running::start(command);
        let mut world = World::new(dir);
        world.home = data.join("home");
        let text = |name: &str| node.told[name].as_str().expect("text").to_owned();
        let (api, url) = (text("api"), text("sql"));
        Self { world, node, api, url }
    }

    /// Two more wallets, and payments to them.
    fn pay(&self) {
        for name in ["alice", "bob"] {
            self.ask(&["key", "new", name, "--no-passphrase"]);
            self.ask(&["user", "create", name, "--key", name, "--with-wallet"]);
        }
        for (to, amount) in [("alice", "12.50"), ("bob", "0.25"), ("alice", "1")] {
            self.ask(&["pay", "operator", to, amount, "--token", "VSM"]);
        }
    }

    fn ask(&self, args: &[&str]) -> Value {
        self.world.ask_at(&self.api, args)
    }

    fn sql(&self, args: &[&str]) -> Output {
        sql(&self.url, args, "")
    }

    fn psql(&self, args: &[&str]) -> Output {
        let mut command = Command::new("psql");
        let command = command.args([&self.url, "-X", "-v", "ON_ERROR_STOP=1"]).args(args);
        command.stdin(Stdio::null()).output().expect("psql is installed: cargo xtask unit")
    }

    fn told_by_psql(&self, statement: &str) -> String {
        let output = self.psql(&["-A", "-t", "-c", statement]);
        assert!(output.status.success(), "{statement}: {}", text(&output.stderr));
        text(&output.stdout).trim().to_owned()
    }
}

fn sql(url: &str, args: &[&str], input: &str) -> Output {
    let mut command = Command::new(program());
    command.args(["sql", "--url", url]).args(args).stdin(Stdio::piped());
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped()).env("NO_COLOR", "1");
    let mut child = command.spawn().expect("it starts");
    // It may have ended, after an error, before it has read everything.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    child.wait_with_output().expect("it ends")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

const BY_TOKEN: &str = "SELECT t.symbol, count(*) AS payments, sum(p.amount) AS total \
    FROM transfers p JOIN tokens t ON t.id = p.token \
    WHERE p.kind = 'transfer' AND p.result = 'ok' GROUP BY t.symbol ORDER BY t.symbol";

#[test]
fn kanjo_sql_answers_in_every_form() {
    let dir = tempfile::tempdir().expect("temp dir");
    let ledger = Ledger::dev(dir.path());
    ledger.pay();

    let csv = done(&ledger.sql(&["--csv", "-c", BY_TOKEN]));
    assert_eq!(csv, "symbol,payments,total\nVSM,3,13750000\n");

    let json = done(&ledger.sql(&["--json", "-c", BY_TOKEN]));
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let columns = json!([
        { "name": "symbol", "type": "text" },
        { "name": "payments", "type": "bigint" },
        { "name": "total", "type": "numeric" },
    ]);
    assert_eq!(json["columns"], columns);
    assert_eq!(json["rows"], json!([{ "symbol": "VSM", "payments": 3, "total": "13750000" }]));
    assert_eq!(json["count"], 1);

    let aligned = done(&ledger.sql(&["-c", BY_TOKEN]));
    let expected = " symbol | payments |  total\n--------+----------+----------\n \
                    VSM    |        3 | 13750000\n(1 row)\n";
    assert_eq!(aligned, expected);
    let expanded = done(&ledger.sql(&["-c", "\\x on", "-c", BY_TOKEN]));
    assert!(expanded.contains("\nsymbol   | VSM\npayments | 3\n"), "{expanded}");

    // Each payment is in the balance that it made.
    let balances = "SELECT amount FROM balances WHERE symbol = 'VSM' ORDER BY amount; SELECT 1";
    let csv = done(&ledger.sql(&["--csv", "-c", balances]));
    assert_eq!(csv.lines().take(3).collect::<Vec<_>>(), ["amount", "0.25", "13.5"], "{csv}");
    assert!(csv.ends_with("1\n"), "{csv}");

    let tables = done(&ledger.sql(&["-c", "\\dt"]));
    for table in ["wallets", "wallet_states", "tokens", "transactions", "blocks"] {
        assert!(tables.lines().any(|line| line.trim().starts_with(table)), "{table}: {tables}");
    }
    let wallets = done(&ledger.sql(&["--csv", "-c", "\\d wallets"]));
    assert!(wallets.starts_with("column,type,null\nid,text,not null\nowner,text,"), "{wallets}");

    let script = "-- balances;\nSELECT 'a;\nb' AS x;\n\\timing off\nSELECT 2 AS y; SELECT 3\nAS z";
    let output = sql(&ledger.url, &["--csv"], script);
    assert_eq!(done(&output), "x\n\"a;\nb\"\ny\n2\nz\n3\n");
    ledger.node.terminate();
}

#[test]
fn errors_have_a_code_a_place_a_hint_and_an_exit_code() {
    let dir = tempfile::tempdir().expect("temp dir");
    let ledger = Ledger::dev(dir.path());

    let wrong =
        ledger.sql(&["-c", "SELECT 1;\nSELECT *\nFORM wallets", "-c", "SELECT 'not reached'"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong.stdout).contains("(1 row)"), "what came before is done");
    assert!(!text(&wrong.stdout).contains("not reached"));
    let said = text(&wrong.stderr);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("ERROR 42601: syntax error"), "{said}");
    assert!(lines[1].starts_with("LINE 2: FORM wallets"), "{said}");
    let mark = lines[2].find('^').expect("a mark");
    assert!(lines[1][mark..].starts_with("wallets"), "{said}");

    let unknown = ledger.sql(&["-c", "SELECT balanc FROM wallet_states"]);
    assert_eq!(unknown.status.code(), Some(1));
    let said = text(&unknown.stderr);
    assert!(said.starts_with("ERROR 42703: ") && said.contains("HINT: "), "{said}");
    assert!(said.contains("balance"), "the hint names what there is: {said}");

    let unknown = ledger.sql(&["--json", "-c", "SELECT 1 FROM nowhere"]);
    assert_eq!(unknown.status.code(), Some(1));
    let json: Value = serde_json::from_str(&text(&unknown.stdout)).expect("JSON");
    assert_eq!(json["error"]["code"], "42P01", "{json}");

    let refused =
        sql(&ledger.url, &[], "INSERT INTO wallets VALUES ('x');\nSELECT 'not reached';\n");
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).starts_with("ERROR 42501: "), "{}", text(&refused.stderr));
    assert!(text(&refused.stdout).is_empty());

    let nobody = format!("postgresql://127.0.0.1:{}/kanjo", kanjo_testing::free_port());
    let nobody = sql(&nobody, &["-c", "SELECT 1"], "");
    assert_eq!(nobody.status.code(), Some(1));
    let said = text(&nobody.stderr);
    assert!(said.contains("nobody listens at") && said.contains("next: "), "{said}");

    let address = ledger.api.trim_start_matches("http://");
    let other = sql(address, &["-c", "SELECT 1"], "");
    assert_eq!(other.status.code(), Some(1));
    assert!(text(&other.stderr).contains("does not speak SQL"), "{}", text(&other.stderr));
    ledger.node.terminate();
}

#[test]
fn psql_browses_and_asks_and_a_restart_keeps_all() {
    let dir = tempfile::tempdir().expect("temp dir");
    let ledger = Ledger::dev(dir.path());
    ledger.pay();

    let tables = done(&ledger.psql(&["-c", "\\dt"]));
    for table in ["wallets", "wallet_states", "balances", "transfers", "certificates"] {
        assert!(tables.contains(table), "{table}: {tables}");
    }
    let wallets = done(&ledger.psql(&["-c", "\\d wallets"]));
    for column in ["id", "owner", "number", "record_hash", "previous"] {
        assert!(wallets.contains(column), "{column}: {wallets}");
    }
    assert_eq!(ledger.told_by_psql(BY_TOKEN), "VSM|3|13750000");
    let alice = ledger.ask(&["wallet", "show", "alice"]);
    let alice = common::find(&alice, "id").and_then(Value::as_str).expect("an id").to_owned();
    let received = format!(
        "SELECT w.owner = u.id, count(*), sum(p.amount) FROM transfers p \
         JOIN wallets w ON w.id = p.to_wallet JOIN users u ON u.id = w.owner \
         WHERE w.id = '{alice}' GROUP BY 1"
    );
    assert_eq!(ledger.told_by_psql(&received), "t|2|13500000");
    let supply = "SELECT sum(balance) = (SELECT issued - redeemed FROM tokens WHERE id = 1) \
                  FROM wallet_states WHERE token = 1";
    assert_eq!(ledger.told_by_psql(supply), "t");
    let all = "SELECT count(*), max(height), min(record_hash) FROM wallet_states";
    let before = ledger.told_by_psql(all);
    ledger.node.terminate();

    // The same directory as a node, at another address.
    let mut command = Command::new(program());
    command.args(["--json", "node", "--listen", "127.0.0.1:0", "--stop-with-stdin"]);
    command.args(["--sql", "127.0.0.1:0", "--data"]).arg(dir.path().join("ledger"));
    let node = Running::start(command);
    let text = |name: &str| node.told[name].as_str().expect("text").to_owned();
    let (api, url) = (text("api"), text("sql"));
    let again = Ledger { world: World::new(dir.path()), node, api, url };
    assert_eq!(again.told_by_psql(all), before);
    assert_eq!(again.told_by_psql(BY_TOKEN), "VSM|3|13750000");
    again.node.stop();
}

#[test]
fn sql_is_for_this_machine_unless_told_otherwise_and_can_be_left_out() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut command = Command::new(program());
    command.args(["dev", "--sql", "0.0.0.0:0", "--data"]).arg(dir.path().join("ledger"));
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("no password") && said.contains("--sql-allow-remote"), "{said}");
    assert!(!dir.path().join("ledger").exists(), "nothing was made");

    let mut command = Command::new(program());
    command.args(["--json", "dev", "--listen", "127.0.0.1:0", "--no-sql", "--data"]);
    command.arg(dir.path().join("ledger"));
    let node = Running::start(command);
    assert_eq!(node.told["sql"], Value::Null);
    node.terminate();
}

#[test]
fn every_node_of_a_cluster_answers_in_sql() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut world = World::new(dir.path());
    let dev = world.dev(&["--no-gateway", "--sql"]);
    world.ask(0, &["key", "new", "alice", "--no-passphrase"]);
    world.ask(0, &["user", "create", "alice", "--key", "alice", "--with-wallet"]);
    world.pay(1, "2.5");
    let nodes = dev.told["nodes"].as_array().expect("nodes");
    for node in nodes {
        let url = node["sql"].as_str().expect("an address");
        // Nodes see a block as final one after the other.
        common::wait("the payment is there", || {
            let output = sql(url, &["--csv", "-c", BY_TOKEN], "");
            done(&output) == "symbol,payments,total\nVSM,1,2500000\n"
        });
        let members = "SELECT count(*) > 1 FROM certificates WHERE height = 1";
        let votes = done(&sql(url, &["--csv", "-c", members], ""));
        assert!(votes.ends_with("t\n"), "{votes}");
    }
    dev.stop();
}

#[test]
fn an_interrupt_cancels_the_statement_that_runs() {
    let dir = tempfile::tempdir().expect("temp dir");
    let ledger = Ledger::dev(dir.path());
    let long = "SELECT max(x) FROM generate_series(1, 900000000000) a(x)";
    // When the second statement runs is not told. Until then Ctrl-C ends the program.
    let canceled = [300, 1_000, 5_000].into_iter().any(|pause_ms| {
        let mut command = Command::new(program());
        command.args(["sql", "--csv", "--url", &ledger.url, "-c", "SELECT 1", "-c", long]);
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut line = String::new();
        let out = child.stdout.as_mut().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("a line");
        std::thread::sleep(Duration::from_millis(pause_ms));
        common::signal("-INT", u64::from(child.id()));
        let output = child.wait_with_output().expect("it ends");
        output.status.code() == Some(1) && text(&output.stderr).contains("ERROR 57014")
    });
    assert!(canceled);
    assert_eq!(done(&ledger.sql(&["--csv", "-c", "SELECT 2 AS n"])), "n\n2\n");
    ledger.node.terminate();
}
