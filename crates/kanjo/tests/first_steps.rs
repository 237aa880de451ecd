//! What a newcomer does, with the real binary: the demo, and every command that `kanjo dev`
//! suggests.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

const KANJO: &str = env!("CARGO_BIN_EXE_kanjo");

/// A node that is stopped with the test.
struct Node(Child, BufReader<ChildStdout>);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(directory: &Path, args: &[&str]) -> Node {
    let mut process = Command::new(KANJO)
        .args(args)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let out = BufReader::new(process.stdout.take().expect("piped"));
    Node(process, out)
}

fn lines_until(node: &mut Node, last: &str) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        assert!(node.1.read_line(&mut line).expect("read") > 0, "ended early: {lines:?}");
        lines.push(line.trim().to_owned());
        if line.contains(last) {
            return lines;
        }
    }
}

fn stop(mut node: Node) {
    let id = node.0.id().to_string();
    let told = Command::new("kill").args(["-TERM", &id]).status().expect("kill runs");
    assert!(told.success());
    assert!(node.0.wait().expect("ends").success(), "SIGTERM ends it cleanly");
}

fn run(directory: &Path, args: &[&str]) -> Output {
    Command::new(KANJO)
        .args(args)
        .current_dir(directory)
        .env_remove("KANJO_HOME")
        .env_remove("KANJO_NODE")
        .env_remove("KANJO_PASSPHRASE")
        .stdin(Stdio::null())
        .output()
        .expect("runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_suggested_command_works_word_by_word() {
    let directory = tempfile::tempdir().expect("temp dir");
    let at = directory.path();
    let dev = ["dev", "--data", "ledger", "--listen", "127.0.0.1:0"];
    let mut node = start(at, &dev);
    let lines = lines_until(&mut node, "Ctrl-C stops it");
    let mut commands: Vec<String> =
        lines.into_iter().filter(|line| line.starts_with(KANJO)).collect();
    let verify = commands.pop().expect("suggestions");
    assert!(commands.len() >= 8, "{commands:?}");
    let shell = |command: &str| {
        let output = Command::new("sh").args(["-c", command]).current_dir(at).output();
        let output = output.expect("sh runs");
        assert!(output.status.success(), "{command}\n{}", text(&output.stderr));
        text(&output.stdout)
    };
    let answers: Vec<String> = commands.iter().map(|command| shell(command)).collect();
    assert!(answers.iter().any(|text| text.contains("12.500000")), "the payment is shown");
    assert!(answers.last().expect("answers").contains("Proven from the genesis"));
    stop(node);
    assert!(shell(&verify).contains("Everything is as the genesis says"));

    let mut node = start(at, &dev);
    let lines = lines_until(&mut node, "Ctrl-C stops it");
    assert!(lines.iter().any(|line| line.contains("continued at height 3")), "{lines:?}");
    stop(node);
}

#[test]
fn the_demo_ends_by_itself_and_prints_one_object() {
    let directory = tempfile::tempdir().expect("temp dir");
    let output = run(directory.path(), &["demo", "--payments", "5000", "--users", "50", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!(json["payments"], 5_000);
    for field in
        ["proof_ok", "tamper_detected", "supply_ok", "freeze_ok", "reversal_ok", "bundle_ok"]
    {
        assert_eq!(json[field], true, "{field}");
    }
    for field in ["/latency_ms/p50", "/latency_ms/p99", "/payments_per_second"] {
        assert!(json.pointer(field).is_some_and(Value::is_number), "{field}");
    }
}

#[test]
fn the_experiment_adds_up() {
    let directory = tempfile::tempdir().expect("temp dir");
    for extra in [&["--file", "payments"][..], &["--file", "payments"], &["--batch", "700"]] {
        let mut args =
            vec!["bench", "emoney", "--accounts", "3000", "--payments", "2900", "--json"];
        args.extend(extra);
        let output = run(directory.path(), &args);
        assert!(output.status.success(), "{}", text(&output.stdout));
        let json: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
        assert_eq!(json["sum_ok"], true);
        assert_eq!(json["payments"], 2_900);
        assert!(json.pointer("/cpu_us_per_payment/signature").is_some_and(Value::is_number));
    }
}

#[test]
fn a_shared_user_pays_with_enough_signatures_only() {
    let directory = tempfile::tempdir().expect("temp dir");
    let at = directory.path();
    let mut node = start(at, &["dev", "--data", "ledger", "--listen", "127.0.0.1:0", "--json"]);
    let announced = lines_until(&mut node, "}").join("");
    let announced: Value = serde_json::from_str(&announced).expect("JSON");
    let api = announced["api"].as_str().expect("an address").to_owned();
    let call = |args: &str| {
        let mut all = vec!["--node", &api, "--home", "ledger/home"];
        all.extend(args.split(' '));
        run(at, &all)
    };
    let done = |args: &str| {
        let output = call(args);
        assert!(output.status.success(), "{args}\n{}", text(&output.stderr));
    };
    let refused = |args: &str, code: &str| {
        let output = call(&format!("{args} --json"));
        assert_eq!(output.status.code(), Some(1), "{args}");
        let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(json["error"]["code"], code, "{args}");
    };
    done("key new ann --no-passphrase");
    done("key new ben --no-passphrase --kind p256");
    done("key new cleo --no-passphrase --kind secp256k1");
    let shared = ["user", "create", "board", "--shared", "2 of ann,ben,cleo", "--with-wallet"];
    let mut all = vec!["--node", &api, "--home", "ledger/home"];
    all.extend(shared);
    assert!(run(at, &all).status.success());
    done("token issue VSM board 100");
    refused("pay board operator 1 --token VSM --key ann", "signatures_missing");
    done("tx draft board operator 2.25 --token VSM --out draft.json");
    refused("tx submit draft.json", "signatures_missing");
    done("tx sign draft.json --key cleo");
    refused("tx sign draft.json --key cleo", "signed_already");
    refused("tx sign draft.json --key operator", "foreign_key");
    done("tx sign draft.json --key ann");
    done("tx submit draft.json");
    refused("tx submit draft.json", "already_used");
    refused("pay board operator 1000 --token VSM", "insufficient_funds");
    refused("pay board nobody 1 --token VSM", "unknown_wallet_name");
    refused("pay board operator 1 --token ABC", "unknown_token");
    stop(node);
    refused("status", "unreachable");
}

#[test]
fn a_changed_proof_is_refused_offline() {
    let directory = tempfile::tempdir().expect("temp dir");
    let at = directory.path();
    let mut node = start(at, &["dev", "--data", "ledger", "--listen", "127.0.0.1:0", "--json"]);
    let announced = lines_until(&mut node, "}").join("");
    let announced: Value = serde_json::from_str(&announced).expect("JSON");
    let api = announced["api"].as_str().expect("an address").to_owned();
    let proof = ["proof", "state", "operator", "VSM", "--out", "proof.json"];
    let mut all = vec!["--node", &api, "--home", "ledger/home"];
    all.extend(proof);
    assert!(run(at, &all).status.success());
    stop(node);
    let check = ["proof", "check", "proof.json", "--genesis", "ledger/genesis.json"];
    assert_eq!(run(at, &check).status.code(), Some(0));
    let proof = std::fs::read_to_string(at.join("proof.json")).expect("read");
    let changed = proof.replace("1000000000000", "1000000000001");
    assert_ne!(proof, changed);
    std::fs::write(at.join("proof.json"), changed).expect("written");
    let output = run(at, &check);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("does not hold"), "{}", text(&output.stderr));
    let missing = ["proof", "check", "proof.json", "--genesis", "nowhere.json"];
    assert_eq!(run(at, &missing).status.code(), Some(1));
}
