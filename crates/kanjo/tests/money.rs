//! A clerk's day: every command group of the rules of money once, with the real binary on a node of
//! its own, with what people and programs are told, refusals included.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const KANJO: &str = env!("CARGO_BIN_EXE_kanjo");

/// A ledger with its node, and a home with the keys of everybody.
struct Clerk {
    directory: TempDir,
    api: String,
    node: Child,
    _out: BufReader<ChildStdout>,
}

impl Drop for Clerk {
    fn drop(&mut self) {
        let _ = self.node.kill();
        let _ = self.node.wait();
    }
}

/// Words, where double quotes hold several together.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (position, part) in line.split('"').enumerate() {
        if position % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Clerk {
    /// A ledger where these users have keys and wallets of their own, beside the operator.
    fn with(users: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("temp dir");
        let mut node = Command::new(KANJO)
            .args(["dev", "--data", "ledger", "--listen", "127.0.0.1:0", "--json"])
            .current_dir(directory.path())
            .env_remove("KANJO_HOME")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let mut out = BufReader::new(node.stdout.take().expect("piped"));
        let mut line = String::new();
        out.read_line(&mut line).expect("announced");
        let announced: Value = serde_json::from_str(&line).expect("JSON");
        let api = announced["api"].as_str().expect("an address").to_owned();
        let clerk = Self { directory, api, node, _out: out };
        for user in users {
            clerk.done(&format!("key new {user} --no-passphrase"));
            clerk.done(&format!("user create {user} --key {user} --with-wallet"));
        }
        clerk
    }

    fn at(&self) -> &Path {
        self.directory.path()
    }

    fn call(&self, line: &str, json: bool) -> Output {
        let mut command = Command::new(KANJO);
        command.args(["--node", &self.api, "--home", "ledger/home"]).args(words(line));
        if json {
            command.arg("--json");
        }
        command
            .current_dir(self.at())
            .env_remove("KANJO_HOME")
            .env_remove("KANJO_NODE")
            .stdin(Stdio::null())
            .output()
            .expect("runs")
    }

    /// What people are told.
    fn done(&self, line: &str) -> String {
        let output = self.call(line, false);
        assert!(output.status.success(), "{line}\n{}", text(&output.stderr));
        text(&output.stdout)
    }

    /// What programs are told.
    fn json(&self, line: &str) -> Value {
        let output = self.call(line, true);
        assert!(output.status.success(), "{line}\n{}", text(&output.stdout));
        serde_json::from_slice(&output.stdout).expect("one JSON object")
    }

    /// Exit code 1, with this code and a next step where there is one.
    fn refused(&self, line: &str, code: &str) {
        let output = self.call(line, true);
        assert_eq!(output.status.code(), Some(1), "{line}\n{}", text(&output.stdout));
        let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(json["error"]["code"], code, "{line}\n{json}");
        let told = self.call(line, false);
        assert_eq!(told.status.code(), Some(1), "{line}");
        assert!(text(&told.stderr).starts_with("error: "), "{}", text(&told.stderr));
    }

    /// Exit code 2: typed wrongly.
    fn usage(&self, line: &str) {
        let output = self.call(line, false);
        assert_eq!(output.status.code(), Some(2), "{line}\n{}", text(&output.stderr));
    }

    /// What a wallet can spend of a token, in smallest units.
    fn balance(&self, wallet: &str, symbol: &str) -> String {
        self.held(wallet, symbol, "balance")
    }

    fn held(&self, wallet: &str, symbol: &str, field: &str) -> String {
        let view = self.json(&format!("wallet show {wallet}"));
        let balances = view["balances"].as_array().expect("balances");
        let held = balances.iter().find(|held| held["symbol"] == symbol);
        held.map_or("0", |held| held[field].as_str().expect("text")).to_owned()
    }

    /// Asks again until `done` says yes, for at most twenty seconds.
    fn wait_for(&self, line: &str, done: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let answer = self.json(line);
            if done(&answer) {
                return answer;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "{line}\n{answer}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The audit of the whole ledger after the day.
    fn close(mut self) {
        let id = self.node.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().expect("kill").success());
        assert!(self.node.wait().expect("ends").success());
        let verified = self.done("verify --data ledger");
        assert!(verified.contains("Everything is as the genesis says"), "{verified}");
    }
}

fn id<'a>(json: &'a Value, field: &str) -> &'a str {
    json[field].as_str().expect("an id")
}

fn transaction(json: &Value) -> String {
    json["sent"]["id"].as_str().expect("a transaction").to_owned()
}

const EUR: &str = "token create EUR --name Euro --decimals 2 --issuer operator";

#[test]
fn a_policy_is_set_at_creation_and_never_gets_harsher() {
    let clerk = Clerk::with(&["alice", "bob"]);
    let created = clerk.done(&format!(
        "{EUR} --cap 1000 --freezable --fee-bp 100 --fee-flat 0.10 --fee-to operator \
         --class \"payment=100,day=150\" --class none --notice 1d --grant issuer=alice,bob:2"
    ));
    assert!(created.contains("at most 1,000.00 EUR in circulation"), "{created}");
    assert!(created.contains("0.10 EUR and 1.00%, to operator"), "{created}");
    assert!(created.contains("issuer 2 of 2"), "{created}");
    let token = clerk.json("token show EUR");
    assert_eq!(token["policy"]["supply_cap"], "100000");
    assert_eq!(token["charter"]["classes"][0]["max_day"], "15000");
    assert!(clerk.done("token list").contains("freezable, fee, limits"));

    // Maker and checker: the second issuer makes it happen.
    let ordered = clerk.json("token issue EUR alice 500 --as alice");
    assert_eq!(ordered["status"], "proposed");
    assert_eq!(clerk.balance("alice", "EUR"), "0");
    let told = clerk.done(&format!("act show {}", id(&ordered, "act")));
    assert!(told.contains("1 of 2") && told.contains("--as bob"), "{told}");
    clerk.refused(&format!("act approve {} --as alice", id(&ordered, "act")), "already_agreed");
    clerk.refused(&format!("act approve {} --as operator", id(&ordered, "act")), "not_holder");
    assert!(
        clerk.done(&format!("act approve {}", id(&ordered, "act"))).contains("Agreed and done")
    );
    assert_eq!(clerk.balance("alice", "EUR"), "50000");
    clerk.refused("token issue EUR alice 501 --as alice --as bob", "supply_cap");

    // Fee and limits.
    let paid = clerk.done("pay alice bob 100 --token EUR");
    assert!(paid.contains("a fee of 1.10 EUR"), "{paid}");
    assert_eq!(clerk.balance("alice", "EUR"), "39890");
    clerk.refused("pay alice bob 100.01 --token EUR", "payment_limit");
    clerk.refused("pay alice bob 50.01 --token EUR", "day_limit");

    // Within the charter at once or after the notice; beyond it never.
    let kinder = clerk.json("token policy set EUR --fee-bp 50 --drop freezable");
    assert_eq!((kinder["status"].as_str(), &kinder["coming"]), (Some("done"), &Value::Null));
    let back = clerk.json("token policy set EUR --fee-bp 60");
    assert_eq!(back["policy"]["fee"]["basis_points"], 50);
    assert_eq!(back["coming"]["policy"]["fee"]["basis_points"], 60);
    assert!(clerk.done("token show EUR").contains("coming"));
    clerk.refused("token policy set EUR --fee-bp 200", "against_charter");
    clerk.refused("token policy set VSM --freezable", "against_charter");
    clerk.refused("token policy set EUR --fee-bp 50", "nothing_changed");
    clerk.usage("token policy set EUR --moved-on claim");
    clerk.usage(&format!("{EUR} --fee-bp 5"));
    clerk.usage(&format!("{EUR} --class weight=3"));

    let roles = clerk.done("token role set EUR freezer=bob");
    assert!(roles.contains("freezer bob"), "{roles}");
    clerk.refused("token role set EUR auditor=bob --as bob", "not_holder");
    clerk.usage("token role set EUR king=bob");
    let hash = id(&clerk.json("block show 1"), "hash").to_owned();
    let line = format!("act audit JPY --height 1 --header {hash} --reference \"audit 1\"");
    assert!(clerk.done(&line).contains("Audited: block 1"));
    clerk.refused(&line.replace(&hash, &"0".repeat(64)), "other_header");
    clerk.close();
}

#[test]
fn money_is_reserved_posted_and_given_back() {
    let clerk = Clerk::with(&["alice", "hotel", "agent"]);
    clerk.done("token issue JPY alice 1000");
    let one = clerk.json("pending reserve alice hotel 200 --token JPY --expires-in 2d");
    assert_eq!(clerk.balance("alice", "JPY"), "800");
    assert_eq!(clerk.held("alice", "JPY", "reserved"), "200");
    let one = id(&one, "pending");
    assert!(clerk.done("wallet show alice").contains("200 JPY reserved"));
    clerk.refused(&format!("pending post {one} --as agent"), "not_agent");
    clerk.refused(&format!("pending post {one} --amount 201"), "post_too_much");
    assert!(clerk.done(&format!("pending post {one} --amount 180")).contains("posted 180 JPY"));
    assert_eq!(
        (clerk.balance("alice", "JPY"), clerk.balance("hotel", "JPY")),
        ("820".into(), "180".into())
    );
    clerk.refused(&format!("pending void {one}"), "already_settled");

    let chain = clerk.json(
        "pending reserve alice hotel 100 --token JPY --agent agent \
         --also \"alice pays 5 JPY to agent for handling\"",
    );
    assert_eq!(chain["chain"].as_array().map(Vec::len), Some(2));
    let head = id(&chain, "pending");
    let second = chain["chain"][1].as_str().expect("an id");
    clerk.refused(&format!("pending post {second}"), "unknown_pending");
    clerk.refused(&format!("pending post {head} --amount 5"), "part_of_chain");
    clerk.done(&format!("pending post {head}"));
    assert_eq!(clerk.balance("agent", "JPY"), "5");
    let listed = clerk.json("pending list alice");
    assert_eq!(listed["records"].as_array().map(Vec::len), Some(3));
    assert!(clerk.done("pending list agent --user").contains("posted 5 JPY"));

    let short = clerk.json("pending reserve alice hotel 10 --token JPY --expires-in 1s");
    let line = format!("pending show {}", id(&short, "pending"));
    clerk.wait_for(&line, |record| record["status"] == "expired");
    assert!(clerk.done(&line).contains("the money went back"));
    assert_eq!(clerk.balance("alice", "JPY"), "715");
    clerk.usage("pending reserve alice hotel 10 --token JPY --also \"5 JPY to agent\"");
    clerk.close();
}

#[test]
fn payments_depend_on_conditions_and_bundles_on_all_parties() {
    let clerk = Clerk::with(&["alice", "bob"]);
    clerk.done("token issue JPY alice 1000");
    clerk.done("token issue VSM bob 10");
    clerk.done("pay alice bob 10 --token JPY --require \"balance>=1000\" --not-after 1h");
    clerk.refused("pay alice bob 10 --token JPY --require \"balance>=1000\"", "balance_too_low");
    clerk.refused("pay alice bob 1 --token JPY --require \"bob balance<=9\"", "balance_too_high");
    clerk.refused("pay alice bob 1 --token JPY --not-before 1h", "too_early");
    clerk.refused("pay alice bob 1 --token JPY --not-after 2020-01-01T00:00:00Z", "too_late");
    let state = clerk.held("alice", "JPY", "state");
    clerk.done(&format!("pay alice bob 10 --token JPY --if-state {state}"));
    clerk.refused(&format!("pay alice bob 10 --token JPY --if-state {state}"), "state_changed");
    clerk.usage("pay alice bob 10 --token JPY --require \"balance>10\"");

    // Signed offline by both, in a file.
    let legs = "--leg \"alice pays 100 JPY to bob\" --leg \"bob pays 1.5 VSM to alice\"";
    let told = clerk.done(&format!("bundle new {legs} --out swap.json"));
    assert!(told.contains("1.500000 VSM") && told.contains("together with bob"), "{told}");
    let signed = clerk.json("bundle sign swap.json --key alice");
    assert_eq!((&signed["signatures"], &signed["needed"]), (&1.into(), &2.into()));
    clerk.refused("bundle send swap.json", "signatures_missing");
    clerk.refused("bundle sign swap.json --key operator", "foreign_key");
    assert!(clerk.done("bundle sign swap.json --key bob").contains("2 of 2"));
    clerk.done("bundle send swap.json");
    assert_eq!(
        (clerk.balance("alice", "VSM"), clerk.balance("bob", "JPY")),
        ("1500000".into(), "120".into())
    );

    // Agreed to on the ledger.
    let proposed =
        clerk.json(&format!("bundle propose {legs} --require \"alice balance>=500 JPY\""));
    let bundle = id(&proposed, "bundle");
    assert!(clerk.done(&format!("bundle show {bundle}")).contains("open"));
    clerk.refused(&format!("bundle agree {bundle} --as operator"), "not_party");
    let agreed = clerk.json(&format!("bundle agree {bundle}"));
    assert_eq!(agreed["status"], "done");
    assert_eq!(clerk.balance("alice", "VSM"), "3000000");
    clerk.refused(&format!("bundle decline {bundle}"), "bundle_closed");
    let other = clerk.json(&format!("bundle propose {legs} --as bob"));
    let declined = clerk.json(&format!("bundle decline {} --as alice", id(&other, "bundle")));
    assert_eq!(declined["status"], "declined");
    assert!(clerk.done("bundle list alice").contains("declined, nothing was paid"));
    clerk.usage("bundle new --leg \"alice gives bob 5\" --out x.json");
    clerk.close();
}

#[test]
fn freezes_and_reversals_need_a_policy_a_role_and_a_reason() {
    let clerk = Clerk::with(&["alice", "bob", "cleo"]);
    clerk.done(&format!(
        "{EUR} --freezable --reversible 24h --moved-on claim --grant freezer=alice,bob:2"
    ));
    clerk.done("token issue EUR cleo 100");
    clerk.usage("freeze cleo --token EUR");
    clerk.usage("freeze cleo --reason FRAUD");
    let told =
        clerk.done("freeze cleo --token EUR --reason FRAUD --reference \"case 7\" --as alice");
    assert!(told.contains("Proposed, not done yet") && told.contains("--as bob"), "{told}");
    clerk.done("pay cleo bob 1 --token EUR");
    let open = clerk.json("act list EUR --open");
    let act = open["records"][0]["record"]["id"].as_str().expect("an act").to_owned();
    clerk.done(&format!("act approve {act}"));
    clerk.refused("pay cleo bob 1 --token EUR", "source_frozen");
    assert!(clerk.done("freeze list EUR").contains("wallet cleo"));
    assert!(clerk.done("wallet show cleo").contains("incoming and outgoing payments are frozen"));
    clerk.refused("freeze cleo --token EUR --reason FRAUD --as alice --as bob", "already_frozen");
    clerk.refused(&format!("act reject {act} --as bob"), "act_closed");
    clerk.done("unfreeze cleo --token EUR --as alice --as bob");
    clerk.refused("freeze cleo --token VSM --reason FRAUD", "policy_forbids");

    let user = "freeze bob --user --token EUR --reason FRAUD --outgoing --until 30d";
    assert!(clerk.done(&format!("{user} --as alice --as bob")).contains("all wallets of bob"));
    clerk.done("pay cleo bob 1 --token EUR");
    clerk.refused("pay bob cleo 1 --token EUR", "source_frozen");
    clerk.done("freeze --token-wide --token EUR --reason INCIDENT --as alice --as bob");
    clerk.refused("pay cleo alice 1 --token EUR", "token_frozen");
    clerk.done("unfreeze --token-wide --token EUR --as alice --as bob");
    clerk.done("unfreeze bob --user --token EUR --as alice --as bob");

    // Bob paid on what he got: a claim stays.
    let payment = transaction(&clerk.json("pay cleo bob 50 --token EUR"));
    clerk.done("pay bob alice 30 --token EUR");
    let reversed = clerk.json(&format!("reverse {payment} --token EUR --reason COURT_ORDER"));
    assert_eq!(reversed["status"], "done");
    assert_eq!(reversed["claims"][0]["amount"], "2800");
    assert_eq!(clerk.balance("bob", "EUR"), "0");
    clerk.refused(
        &format!("reverse {payment} --token EUR --reason COURT_ORDER"),
        "already_reversed",
    );
    let plain = transaction(&clerk.json("pay operator bob 1 --token VSM"));
    clerk.refused(&format!("reverse {plain} --token VSM --reason ERROR"), "policy_forbids");
    let listed = clerk.json("claim list bob");
    let claim = listed["records"][0]["record"]["id"].as_str().expect("a claim").to_owned();
    clerk.refused(&format!("claim settle {claim}"), "nothing_to_pay");
    clerk.done("token issue EUR bob 100");
    clerk.refused("pay bob alice 1 --token EUR", "claim_open");
    assert!(clerk.done(&format!("claim settle {claim}")).contains("28.00 EUR"));
    clerk.refused(&format!("claim settle {claim}"), "claim_settled");
    clerk.done("pay bob alice 1 --token EUR");

    clerk.done(&format!("proof reversal {payment} --token EUR --out reversal.proof"));
    clerk.done(&format!("proof record acts {act} --out act.proof"));
    clerk.done("proof record freezes EUR/cleo --out freeze.proof");
    clerk.usage("proof record nothing x");
    for file in ["reversal", "act", "freeze"] {
        let check = format!("proof check {file}.proof --genesis ledger/genesis.json");
        assert!(clerk.done(&check).contains("Proven from the genesis"), "{file}");
    }
    clerk.close();
}

#[test]
fn the_approver_sets_terms_and_the_ledger_pays_by_itself() {
    let clerk = Clerk::with(&["alice", "bob"]);
    clerk.done(&format!("{EUR} --allow-list --credit --floors --class payment=100 --class none"));
    clerk.refused("token issue EUR alice 500", "not_approved");
    clerk.done("terms set alice --token EUR --approve");
    clerk.done("token issue EUR alice 500");
    clerk.refused("pay alice bob 1 --token EUR", "not_approved");
    clerk.done("terms set bob --token EUR --approve");
    clerk.refused("pay alice bob 200 --token EUR", "payment_limit");
    let terms = clerk.json("terms set alice --token EUR --class 1 --credit 50");
    assert_eq!((&terms["approved"], &terms["credit"]), (&true.into(), &"5000".into()));
    clerk.done("pay alice bob 540 --token EUR");
    assert!(clerk.done("wallet show alice").contains("overdrawn by 40.00 EUR"));
    clerk.done("terms set bob --token EUR --class 1 --floor 500");
    clerk.refused("pay bob alice 50 --token EUR", "below_floor");
    clerk.refused("terms set bob --token EUR --credit 5", "invalid_terms");
    clerk.refused("terms set bob --token VSM --class 1", "policy_forbids");
    assert!(clerk.done("terms show bob --token EUR").contains("floor     500.00 EUR"));
    assert!(clerk.done("terms list EUR").contains("credit 50.00 EUR"));

    clerk.done("terms set operator --token EUR --approve --class 1");
    clerk.done("token issue EUR operator 100");
    let line = "interest pay --token EUR --from operator --rate 2.5% --days 365";
    assert!(clerk.done(&format!("{line} bob")).contains("Interest paid"));
    assert_eq!(clerk.balance("bob", "EUR"), "55350");
    clerk.refused(&format!("{line} alice"), "nothing_to_pay");
    clerk.usage("interest pay --token EUR --from operator --rate 2.5 --days 365 bob");

    clerk.done("token issue JPY bob 7");
    let once = clerk.json("schedule new bob alice 5 --token JPY --first 1s");
    let line = format!("schedule show {}", id(&once, "schedule"));
    clerk.wait_for(&line, |record| record["status"] == "ended");
    assert!(clerk.done(&line).contains("paid    1 time\n"));
    assert_eq!(clerk.balance("alice", "JPY"), "5");
    let standing =
        clerk.json("schedule new bob alice 5 --token JPY --first 1s --every 60s --when-short stop");
    let line = format!("schedule show {}", id(&standing, "schedule"));
    let stopped = clerk.wait_for(&line, |record| record["status"] == "stopped");
    assert_eq!(stopped["last"]["result"], "insufficient_funds");
    clerk
        .refused("schedule new bob alice 5 --token JPY --first 1s --every 59s", "invalid_schedule");
    let cancel = format!("schedule cancel {}", id(&standing, "schedule"));
    clerk.refused(&cancel, "schedule_ended");
    let later = clerk.json("schedule new bob alice 1 --token JPY --first 24h --every 1month");
    clerk.done(&format!("schedule cancel {}", id(&later, "schedule")));
    assert!(clerk.done("schedule list bob").contains("every month"));
    clerk.refused(
        "schedule new bob alice 1 --token JPY --first 2020-01-01T00:00:00Z",
        "invalid_time",
    );
    clerk.usage("schedule new bob alice 1 --token JPY --first 1h --times 3");
    clerk.close();
}

#[test]
fn attributes_stay_here_and_guardians_bring_keys_back() {
    let clerk = Clerk::with(&["alice", "ann", "ben"]);
    let set = clerk.json("attribute set alice legal_name \"Alice Example\"");
    let file = clerk.at().join(id(&set, "file"));
    assert!(std::fs::read_to_string(&file).expect("kept here").contains("Alice Example"));
    let shown = clerk.json("attribute show alice legal_name");
    assert_eq!(shown["opens"], true);
    let salt = id(&shown["kept"], "salt");
    let check =
        |value: &str| format!("attribute check alice legal_name --value \"{value}\" --salt {salt}");
    assert!(clerk.done(&check("Alice Example")).contains("This is the legal_name of alice"));
    clerk.refused(&check("Alice Examplf"), "commitment_differs");
    clerk.refused("attribute set alice legal_name Mallory --as ann", "not_custodian");
    assert!(file.exists(), "a refused change leaves what was kept");
    let erased = clerk.json("attribute erase alice legal_name");
    assert_eq!(erased["file_erased"], true);
    assert!(!file.exists());
    assert!(clerk.done("attribute list alice").contains("legal_name"));
    assert!(clerk.json("attribute show alice legal_name")["record"]["erased_ms"].is_number());
    clerk.refused("attribute erase alice legal_name", "attribute_erased");
    clerk.refused("attribute show alice passport", "unknown_attribute");
    clerk.usage("attribute set alice Name x");

    clerk.done("key new alice-2 --no-passphrase");
    clerk.refused("recovery start alice --new-key alice-2 --as ann", "no_guardians");
    clerk.done("recovery guardians alice ann,ben:2 --delay 1s");
    let start = "recovery start alice --new-key alice-2 --as ann";
    let act = clerk.json(start);
    assert_eq!(act["status"], "proposed");
    let act = id(&act, "act");
    clerk.refused(&format!("recovery finish {act}"), "act_not_ready");
    assert!(clerk.done(&format!("recovery approve {act}")).contains("waits"));
    assert!(clerk.done(&format!("recovery veto {act}")).contains("Rejected"));
    clerk.refused(&format!("recovery finish {act}"), "act_closed");
    let act = clerk.json(&format!("{start} --as ben"));
    assert_eq!(act["status"], "waiting");
    std::thread::sleep(Duration::from_millis(1_100));
    assert!(clerk.done(&format!("recovery finish {}", id(&act, "act"))).contains("Done"));
    let user = clerk.json("user show alice");
    let new = clerk.json("key show alice-2");
    assert_eq!(user["current"]["record"]["access"]["single"], new["public"]);
    clerk.refused("pay alice ann 1 --token VSM --key alice", "foreign_key");
    clerk.close();
}
