//! Service and remote signer over a real Unix socket, in one process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{certificate, chain, hash, proposal, vote};
use kanjo_link::keys::LinkKey;
use kanjo_sentinel::directory::{self, AttestorSettings, Made, Settings};
use kanjo_sentinel::evidence::{self, Trust};
use kanjo_sentinel::measure::program_hash;
use kanjo_sentinel::service::{Handle, Options, Service, ServiceError};
use kanjo_sentinel::{Refusal, Remote, RemoteSigner, Signer, SignerError};
use kanjo_types::block::{integrity_answer, proposal_digest, vote_digest};
use kanjo_types::membership::{Notice, notice_digest};
use kanjo_types::signature::verify;
use kanjo_types::{Hash, PublicKey};
use std::fs;
use std::io::{Read, Write};
use std::num::NonZeroU64;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;

struct Home {
    home: TempDir,
    made: Made,
    node: LinkKey,
}

struct Running {
    handle: Handle,
    thread: JoinHandle<Result<(), ServiceError>>,
}

impl Home {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let attestor = AttestorSettings::Software { dir: home.path().join("attestor") };
        let settings = Settings { attestor, epoch_heights: NonZeroU64::MIN };
        let made = directory::init(&home.path().join("sentinel"), &settings).unwrap();
        Self { home, made, node: LinkKey::generate().unwrap() }
    }

    fn socket(&self) -> PathBuf {
        self.home.path().join("run/sentinel.sock")
    }

    fn service(&self) -> Result<Service, ServiceError> {
        let opened = directory::open(&self.home.path().join("sentinel"), None).unwrap();
        let options = Options {
            socket: self.socket(),
            node_key: self.node.public(),
            measure_every: Duration::from_secs(60),
        };
        Service::bind(options, opened.signing, opened.channel_key)
    }

    fn run(&self) -> Running {
        let service = self.service().unwrap();
        let handle = service.handle();
        Running { handle, thread: std::thread::spawn(|| service.run()) }
    }

    fn remote(&self) -> Remote {
        Remote {
            socket: self.socket(),
            sentinel_key: self.made.channel_key,
            node_key: self.node.clone(),
            chain: chain(),
            certificate: certificate(self.made.vote_key, self.node.public()),
            tries: 2,
            pause: Duration::from_millis(10),
            patience: Duration::from_secs(10),
        }
    }
}

impl Running {
    fn stop(self) {
        self.handle.stop();
        self.thread.join().unwrap().unwrap();
    }
}

#[test]
fn a_node_gets_proposals_votes_notices_and_evidence_signed() {
    let home = Home::new();
    let running = home.run();
    let mut signer = RemoteSigner::connect(home.remote()).unwrap();
    let key = PublicKey::Ed25519(home.made.vote_key);
    let program = program_hash(&std::env::current_exe().unwrap()).unwrap();
    assert_eq!((signer.vote_key(), signer.measurement()), (home.made.vote_key, program));

    let asked = [proposal(1, 1, 1), proposal(1, 2, 2)];
    for (asked, signature) in asked.iter().zip(signer.proposals(&asked).unwrap()) {
        let digest = proposal_digest(chain(), asked.term, asked.height, &asked.content);
        assert!(verify(&key, &digest, &signature));
    }
    let asked = vote(1, 1);
    let vote = signer.votes(3, &[asked]).unwrap()[0];
    let certificate = certificate(home.made.vote_key, home.node.public()).hash(chain());
    let answer = integrity_answer(&program, &certificate, &asked.challenge, &asked.header);
    assert_eq!((vote.voter, vote.answer), (3, answer));
    assert!(verify(&key, &vote_digest(0, 1, &asked.header, &answer), &vote.signature));

    let leave = Notice::Leave { member: 3 };
    let statement = signer.notice(3, 7, &leave).unwrap();
    assert!(verify(&key, &notice_digest(chain(), 7, &leave), &statement.signature));
    for refused in [Notice::Leave { member: 2 }, Notice::Eject { members: vec![2, 3] }] {
        let error = signer.notice(3, 7, &refused).unwrap_err();
        assert!(matches!(error, SignerError::Refused(Refusal::Notice { member: 3, .. })));
    }
    signer.notice(3, 7, &Notice::Eject { members: vec![1, 2] }).unwrap();

    let nonce = [5; 32];
    let answer = signer.evidence(&nonce).unwrap();
    let attestor = hex::decode(&home.made.attestation_key).unwrap().try_into().unwrap();
    let trust = Trust::Software { key: attestor };
    let claims = evidence::verify(&answer, &home.made.vote_key, &nonce, &trust).unwrap();
    assert_eq!((claims.measurement, claims.certificate), (program, certificate));
    assert_eq!(claims.highest_vote, Some(1));
    let short = signer.evidence(&[0; 7]).unwrap_err();
    assert!(matches!(short, SignerError::Refused(Refusal::Nonce { found: 7 })));
    running.stop();
}

#[test]
fn refusals_are_typed_and_the_session_goes_on() {
    let home = Home::new();
    let running = home.run();
    let mut signer = RemoteSigner::connect(home.remote()).unwrap();
    let first = signer.votes(0, &[vote(4, 1)]).unwrap();
    let refused = signer.votes(0, &[vote(4, 2)]).unwrap_err();
    let SignerError::Refused(refusal) = refused else { panic!("{refused}") };
    assert_eq!(refusal, Refusal::SignedOther { height: 4, epoch: 0, header: hash(1) });
    assert_eq!(signer.votes(0, &[vote(4, 1)]).unwrap(), first);
    let status = running.handle.status();
    assert_eq!(status.sentinel.highest_vote, Some(4));
    let own = i32::try_from(std::process::id()).unwrap();
    assert_eq!(status.node.as_ref().map(|node| node.pid), Some(own));
    running.stop();
}

#[test]
fn nobody_else_than_the_node_is_answered_and_the_node_trusts_nobody_else() {
    let home = Home::new();
    let running = home.run();
    let other = LinkKey::generate().unwrap();
    let thief = Remote {
        certificate: certificate(home.made.vote_key, other.public()),
        node_key: other.clone(),
        ..home.remote()
    };
    let refused = RemoteSigner::connect(thief).map(drop).expect_err("must refuse");
    assert!(matches!(refused, SignerError::Unreachable { tries: 2, .. }), "{refused}");
    let misled = Remote { sentinel_key: other.public(), ..home.remote() };
    let refused = RemoteSigner::connect(misled).map(drop).expect_err("must refuse");
    assert!(refused.to_string().contains("is not expected"), "{refused}");
    // Somebody who says nothing is not waited for longer than the handshake may take.
    let silent = UnixStream::connect(home.socket()).unwrap();
    drop(silent);
    RemoteSigner::connect(home.remote()).unwrap().votes(0, &[vote(1, 1)]).unwrap();
    running.stop();
}

#[test]
fn certificates_of_other_keys_and_other_ledgers_are_refused() {
    let home = Home::new();
    let running = home.run();
    let other = LinkKey::generate().unwrap();
    let refused = |remote: Remote| match RemoteSigner::connect(remote).err() {
        Some(SignerError::Refused(refusal)) => refusal,
        other => panic!("{:?}", other.map(|error| error.to_string())),
    };
    let vote_key = kanjo_types::signature::SecretKey::from_seed(
        kanjo_types::signature::KeyKind::Ed25519,
        [9; 32],
    );
    let PublicKey::Ed25519(wrong) = vote_key.unwrap().public() else { panic!("not Ed25519") };
    let of_other_sentinel = certificate(wrong, home.node.public());
    let refusal = refused(Remote { certificate: of_other_sentinel, ..home.remote() });
    assert!(refusal.to_string().contains("vote_key"), "{refusal}");
    let of_other_node = certificate(home.made.vote_key, other.public());
    let refusal = refused(Remote { certificate: of_other_node, ..home.remote() });
    assert!(refusal.to_string().contains("link_key"), "{refusal}");
    drop(RemoteSigner::connect(home.remote()).unwrap());
    let elsewhere = kanjo_types::id::ChainId(Hash([1; 32]));
    let refusal = refused(Remote { chain: elsewhere, ..home.remote() });
    assert_eq!(refusal, Refusal::OtherChain { bound: chain(), asked: elsewhere });
    running.stop();
}

/// Carries bytes between node and sentinel; flips one bit of the n-th piece from the node.
fn tampering_proxy(path: &std::path::Path, to: PathBuf, flip_piece: u64) -> Arc<AtomicU64> {
    let listener = UnixListener::bind(path).unwrap();
    let sessions = Arc::new(AtomicU64::new(0));
    let counted = sessions.clone();
    std::thread::spawn(move || {
        let mut pieces = 0;
        for from_node in listener.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
            let (mut node, mut sentinel) = (from_node.unwrap(), UnixStream::connect(&to).unwrap());
            let (mut back_from, mut back_to) =
                (sentinel.try_clone().unwrap(), node.try_clone().unwrap());
            let back = std::thread::spawn(move || {
                let _ = std::io::copy(&mut back_from, &mut back_to);
                let _ = back_to.shutdown(std::net::Shutdown::Both);
            });
            let mut buffer = [0; 65_536];
            while let Ok(count @ 1..) = node.read(&mut buffer) {
                pieces += 1;
                if pieces == flip_piece {
                    buffer[count - 1] ^= 1;
                }
                if sentinel.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            let _ = sentinel.shutdown(std::net::Shutdown::Both);
            back.join().unwrap();
        }
    });
    sessions
}

#[test]
fn a_tampered_frame_closes_the_session_and_the_next_one_signs() {
    // From the handshake through the greeting to requests.
    for flip_piece in 1..=5 {
        let home = Home::new();
        let running = home.run();
        let proxy = home.home.path().join("proxy.sock");
        let sessions = tampering_proxy(&proxy, home.socket(), flip_piece);
        let remote = Remote { socket: proxy, ..home.remote() };
        let mut signer = RemoteSigner::connect(remote).unwrap();
        for height in 1..4 {
            signer.votes(0, &[vote(height, height)]).unwrap();
        }
        assert_eq!(sessions.load(Ordering::SeqCst), 2, "piece {flip_piece}");
        running.stop();
    }
}

#[test]
fn a_service_stops_cleanly_and_a_signer_finds_the_next_one() {
    let home = Home::new();
    let running = home.run();
    let mut signer = RemoteSigner::connect(home.remote()).unwrap();
    let first = signer.votes(0, &[vote(1, 1)]).unwrap();
    let count = signer.status().unwrap().count;
    running.stop();
    assert!(!home.socket().exists());
    let gone = signer.votes(0, &[vote(2, 2)]).unwrap_err();
    assert!(matches!(gone, SignerError::Unreachable { tries: 2, .. }), "{gone}");
    let running = home.run();
    assert_eq!(signer.votes(0, &[vote(1, 1)]).unwrap(), first, "the same signature again");
    // One for the clean stop, one for the start.
    assert_eq!(signer.status().unwrap().count, count + 2);
    running.stop();
}

#[test]
fn a_socket_open_to_others_is_refused_and_so_is_one_in_use() {
    let home = Home::new();
    let dir = home.home.path().join("run");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    let refused = home.service().map(drop).expect_err("must refuse").to_string();
    assert!(refused.contains("chmod 0700"), "{refused}");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
    let other = UnixListener::bind(home.socket()).unwrap();
    let refused = home.service().map(drop).expect_err("must refuse").to_string();
    assert!(refused.contains("listens here already"), "{refused}");
    drop(other);
    // What a killed sentinel left is taken over. A group may enter.
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o750)).unwrap();
    let running = home.run();
    let mode = fs::metadata(home.socket()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o660);
    running.stop();
}

#[test]
fn a_directory_is_made_once_and_its_keys_are_closed_to_others() {
    let home = Home::new();
    let dir = home.home.path().join("sentinel");
    let attestor = AttestorSettings::Software { dir: home.home.path().join("attestor") };
    let settings = Settings { attestor, epoch_heights: NonZeroU64::MIN };
    let again = directory::init(&dir, &settings).map(drop).expect_err("must refuse").to_string();
    assert!(again.contains("never written over"), "{again}");
    let mode = |name: &str| fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("."), mode("vote.key"), mode("channel.key")), (0o700, 0o600, 0o600));
    let opened = directory::open(&dir, None).unwrap();
    let second = directory::open(&dir, None).map(drop).expect_err("must refuse").to_string();
    assert!(second.contains("locked"), "{second}");
    assert_eq!(opened.settings, settings);
    drop(opened);
    fs::set_permissions(dir.join("vote.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let open = directory::open(&dir, None).map(drop).expect_err("must refuse").to_string();
    assert!(open.contains("0600"), "{open}");
}
