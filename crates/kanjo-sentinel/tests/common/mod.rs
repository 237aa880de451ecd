//! What the tests share: certificates, requests, a TPM simulator.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use kanjo_sentinel::rules::{ProposalRequest, VoteRequest};
use kanjo_sentinel::tpm::Address;
use kanjo_types::Hash;
use kanjo_types::hash::{TAG_HEADER, digest};
use kanjo_types::id::ChainId;
use kanjo_types::membership::{MemberKind, NodeCertificate};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub fn hash(salt: u64) -> Hash {
    digest(TAG_HEADER, &[&salt.to_le_bytes()])
}

pub fn chain() -> ChainId {
    ChainId(hash(0xc4a1))
}

pub fn vote(height: u64, salt: u64) -> VoteRequest {
    VoteRequest { epoch: 0, height, header: hash(salt), challenge: hash(!salt) }
}

pub fn proposal(term: u64, height: u64, salt: u64) -> ProposalRequest {
    ProposalRequest { term, height, content: hash(salt) }
}

pub fn certificate(vote_key: [u8; 32], link_key: [u8; 32]) -> NodeCertificate {
    NodeCertificate {
        name: "one".to_owned(),
        kind: MemberKind::Executor,
        vote_key,
        link_key,
        address: "127.0.0.1:7000".to_owned(),
        api: "http://127.0.0.1:7001".to_owned(),
        attestor: None,
    }
}

/// A TPM simulator with its state in a directory; killed when dropped.
pub struct Swtpm {
    child: Child,
    pub address: Address,
    pub text: String,
}

impl Swtpm {
    pub fn start(state: &Path) -> Self {
        // Another process may take a free port before swtpm does: then with others.
        for _ in 0..10 {
            let (data, control) = (free_port(), free_port());
            let mut child = Command::new("swtpm")
                .args(["socket", "--tpm2", "--tpmstate"])
                .arg(format!("dir={}", state.display()))
                .args(["--server", &format!("type=tcp,bindaddr=127.0.0.1,port={data}")])
                .args(["--ctrl", &format!("type=tcp,bindaddr=127.0.0.1,port={control}")])
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("swtpm is needed on PATH: apt-get install swtpm (cargo xtask does it)");
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(10) {
                // Not the data port: swtpm takes one connection there, and would take this one.
                if TcpStream::connect(("127.0.0.1", control)).is_ok() {
                    let text = format!("swtpm:127.0.0.1:{data}:{control}");
                    return Self { child, address: text.parse().unwrap(), text };
                }
                if child.try_wait().unwrap().is_some() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("swtpm did not start");
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
