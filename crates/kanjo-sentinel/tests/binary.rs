//! The program end to end: made, started, killed, started again, with an old copy put back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{certificate, chain, hash, vote};
use kanjo_link::keys::LinkKey;
use kanjo_sentinel::{Refusal, Remote, RemoteSigner, Signer, SignerError};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

struct Home {
    home: TempDir,
    node: LinkKey,
    made: Value,
}

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kanjo-sentinel"));
    command.args(arguments).stdin(Stdio::null()).env("RUST_LOG", "info");
    command
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn key(value: &Value) -> [u8; 32] {
    hex::decode(value.as_str().unwrap()).unwrap().try_into().unwrap()
}

impl Home {
    fn new(more: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("sentinel");
        let mut init = program(&["init", "--json", "--dir"]);
        let output = init.arg(&dir).args(more).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let made = serde_json::from_slice(&output.stdout).unwrap();
        Self { home, node: LinkKey::generate().unwrap(), made }
    }

    fn dir(&self) -> PathBuf {
        self.home.path().join("sentinel")
    }

    fn socket(&self) -> PathBuf {
        self.home.path().join("run/sentinel.sock")
    }

    fn command(&self) -> Command {
        let mut run = program(&["run", "--node-key", &hex::encode(self.node.public())]);
        run.arg("--dir").arg(self.dir()).arg("--socket").arg(self.socket());
        run
    }

    fn start(&self) -> Process {
        Process(self.command().stderr(Stdio::null()).spawn().unwrap())
    }

    fn connect(&self) -> RemoteSigner {
        RemoteSigner::connect(Remote {
            socket: self.socket(),
            sentinel_key: key(&self.made["channel_key"]),
            node_key: self.node.clone(),
            chain: chain(),
            certificate: certificate(key(&self.made["vote_key"]), self.node.public()),
            tries: 20,
            pause: Duration::from_millis(20),
            patience: Duration::from_secs(10),
        })
        .unwrap()
    }

    fn status(&self) -> Value {
        let output = program(&["status", "--json", "--dir"]).arg(self.dir()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// Killed when dropped.
struct Process(Child);

impl Process {
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// SIGTERM, then a clean end.
    fn stop(mut self) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "it does not stop");
            std::thread::sleep(Duration::from_millis(10));
        };
        assert!(status.success(), "{status}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn killed_and_started_again_it_signs_the_same_and_nothing_else() {
    let home = Home::new(&[]);
    let sentinel = home.start();
    let mut signer = home.connect();
    let first = signer.votes(0, &[vote(1, 1)]).unwrap();
    let status = home.status();
    assert_eq!((&status["running"], &status["highest_vote"]), (&true.into(), &1.into()));
    assert_eq!(status["node"]["name"], "one");
    sentinel.kill();

    let status = home.status();
    assert_eq!((&status["running"], &status["highest_vote"]), (&false.into(), &1.into()));
    let sentinel = home.start();
    // The same signer: it connects again by itself.
    assert_eq!(signer.votes(0, &[vote(1, 1)]).unwrap(), first);
    let refused = signer.votes(0, &[vote(1, 2)]).unwrap_err();
    let SignerError::Refused(refusal) = refused else { panic!("{refused}") };
    assert_eq!(refusal, Refusal::SignedOther { height: 1, epoch: 0, header: hash(1) });
    signer.votes(0, &[vote(2, 2)]).unwrap();
    sentinel.stop();
    assert!(!home.socket().exists() && !home.dir().join("status.sock").exists());
    assert_eq!(home.status()["highest_vote"], 2);
}

#[test]
fn an_old_copy_put_back_is_refused() {
    let elsewhere = tempfile::tempdir().unwrap();
    let attestor = elsewhere.path().to_str().unwrap();
    let home = Home::new(&["--attestor-dir", attestor]);
    let sentinel = home.start();
    let mut signer = home.connect();
    signer.votes(0, &[vote(1, 1)]).unwrap();
    let copy = home.home.path().join("copy");
    copy_dir(&home.dir(), &copy);
    signer.votes(0, &[vote(2, 2)]).unwrap();
    sentinel.kill();
    copy_dir(&copy, &home.dir());
    let output = home.command().output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("restored from an old copy"), "{}", text(&output));
}

#[test]
fn two_of_one_directory_and_wrong_words_are_refused_and_help_has_examples() {
    let home = Home::new(&[]);
    let _sentinel = home.start();
    drop(home.connect());
    let output = home.command().output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("locked"), "{}", text(&output));
    let again = program(&["init", "--dir"]).arg(home.dir()).output().unwrap();
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again).contains("never written over"), "{}", text(&again));
    let wrong = program(&["run", "--dir", "x", "--socket", "y", "--node-key", "zz"]);
    let wrong = { wrong }.output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    let missing = program(&["status", "--dir", "/nonexistent"]).output().unwrap();
    assert!(text(&missing).contains("kanjo-sentinel init"), "{}", text(&missing));
    for arguments in
        [&["--help"][..], &["init", "--help"], &["run", "--help"], &["status", "--help"]]
    {
        let help = program(arguments).output().unwrap();
        assert!(help.status.success() && text(&help).contains("Examples:"), "{}", text(&help));
    }
}
