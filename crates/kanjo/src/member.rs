//! The directory of a member of a cluster, as this program makes and uses it.
//!
//! ```text
//! DIR/genesis.json      the ledger
//! DIR/link.key          secret: the node's links to others
//! DIR/member.json       the node's certificate, its addresses, its sentinel
//! DIR/memberships.json  proofs of memberships, for a node that came later
//! DIR/sentinel/         the sentinel's own: vote key, guard, and the socket between the two
//! ```
//! The sentinel is a process of its own, and its directory may lie anywhere; here it lies beside
//! the node's data unless told otherwise.

use crate::attestor::AttestorChoice;
use crate::bearings::Asking;
use crate::fail::{Done, Fail};
use kanjo_api::cluster::NodeRole;
use kanjo_client::Client;
use kanjo_link::keys::LinkKey;
use kanjo_node::MemberOptions;
use kanjo_proof::Trust;
use kanjo_proof::proof::MembershipProof;
use kanjo_sentinel::client::{Signer, SignerError};
use kanjo_sentinel::directory;
use kanjo_sentinel::{Remote, RemoteSigner};
use kanjo_types::membership::{Membership, NodeCertificate};
use kanjo_types::{ChainId, Genesis};
use serde::{Deserialize, Serialize};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest path of a Unix socket that systems take.
const SOCKET_PATH_MAX: usize = 107;
/// How long a node waits for its sentinel when it starts.
const SENTINEL_WAIT: Duration = Duration::from_secs(20);

/// The content of `member.json`. Paths are taken from its directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberFile {
    /// Who the node is to the cluster.
    pub certificate: NodeCertificate,
    /// Where its API listens.
    pub listen: SocketAddr,
    /// Where its links listen, if elsewhere than the certificate says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_listen: Option<SocketAddr>,
    /// The process that signs for it.
    pub sentinel: SentinelPlace,
    /// Roles it takes; all that fall to it when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<NodeRole>>,
    /// A voter that can't be reached for so long is ejected.
    #[serde(default = "eject_after_ms")]
    pub eject_after_ms: u64,
    /// Leadership goes to a voter with more than twice the power.
    #[serde(default)]
    pub prefer_power: bool,
    /// A node to ask for the membership, until this one finds itself in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<String>,
}

fn eject_after_ms() -> u64 {
    u64::try_from(MemberOptions::default().eject_after.as_millis()).unwrap_or(5_000)
}

/// Where the sentinel is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SentinelPlace {
    /// Its directory.
    pub dir: PathBuf,
    /// Its socket.
    pub socket: PathBuf,
    /// Its channel key.
    #[serde(with = "hex::serde")]
    pub key: [u8; 32],
}

/// How a member is to be reached.
#[derive(Debug, Clone)]
pub struct Places {
    /// `host:port` for other nodes.
    pub address: String,
    /// URL for clients.
    pub api: String,
    /// Where the API listens.
    pub listen: SocketAddr,
    /// Where links listen, if elsewhere than `address`.
    pub link_listen: Option<SocketAddr>,
}

/// Keys of a node that is being made.
pub struct NewMember {
    /// Its file.
    pub file: MemberFile,
    /// Its link key, not written yet.
    pub link: LinkKey,
}

fn path(dir: &Path) -> PathBuf {
    dir.join("member.json")
}

fn memberships_path(dir: &Path) -> PathBuf {
    dir.join("memberships.json")
}

/// Is it the directory of a member of a cluster?
pub fn is_member(dir: &Path) -> bool {
    path(dir).exists()
}

/// Draws the keys of a new member: its sentinel's, in `dir/sentinel`, and its links'.
pub fn new(
    dir: &Path,
    name: &str,
    kind: kanjo_types::membership::MemberKind,
    places: &Places,
    attestor: &AttestorChoice,
) -> Done<NewMember> {
    fs::create_dir_all(dir).map_err(|error| Fail::file(dir, error))?;
    let sentinel_dir = PathBuf::from("sentinel");
    let socket = sentinel_dir.join("node.sock");
    let dir_ = std::path::absolute(dir).map_err(|error| Fail::file(dir, error))?;
    let length = dir_.join(&socket).as_os_str().len();
    if length > SOCKET_PATH_MAX {
        let what =
            format!("the path of its socket would have {length} bytes, at most 107 are possible");
        return Err(Fail::file(dir, what).next("choose a directory with a shorter path"));
    }
    let made = dir_.join(&sentinel_dir);
    let made = directory::init(&made, &attestor.settings(&made))
        .map_err(|error| Fail::new("sentinel", error))?;
    let link = LinkKey::generate().map_err(|error| Fail::new("key", error))?;
    let certificate = NodeCertificate {
        name: name.to_owned(),
        kind,
        vote_key: made.vote_key,
        link_key: link.public(),
        address: places.address.clone(),
        api: places.api.clone(),
        attestor: Some(made.pinned),
    };
    let sentinel = SentinelPlace { dir: sentinel_dir, socket, key: made.channel_key };
    let file = MemberFile {
        certificate,
        listen: places.listen,
        link_listen: places.link_listen,
        sentinel,
        roles: None,
        eject_after_ms: eject_after_ms(),
        prefer_power: false,
        contact: None,
    };
    Ok(NewMember { file, link })
}

impl NewMember {
    /// Writes the directory: it can be started then.
    pub fn create(&self, dir: &Path, genesis: &Genesis) -> Done {
        write(&path(dir), &self.file)?;
        kanjo_node::data::create_member(dir, genesis, &self.link)
            .map_err(|error| Fail::new("data", error))
    }
}

fn write(path: &Path, content: &impl Serialize) -> Done {
    let text = serde_json::to_string_pretty(content).map_err(|error| Fail::file(path, error))?;
    let temporary = path.with_extension("json.tmp");
    fs::write(&temporary, format!("{text}\n")).map_err(|error| Fail::file(&temporary, error))?;
    fs::rename(&temporary, path).map_err(|error| Fail::file(path, error))
}

/// Reads the file of the member in `dir`.
pub fn read(dir: &Path) -> Done<MemberFile> {
    let path = path(dir);
    let text = fs::read_to_string(&path).map_err(|error| Fail::file(&path, error))?;
    serde_json::from_str(&text).map_err(|error| Fail::file(&path, error))
}

impl MemberFile {
    /// Connects to the sentinel, and waits a while for one that is starting.
    pub fn signer(&self, dir: &Path, chain: ChainId) -> Done<Box<dyn Signer>> {
        let link = LinkKey::read(&dir.join("link.key")).map_err(|error| Fail::new("key", error))?;
        let socket = dir.join(&self.sentinel.socket);
        let give_up_at = Instant::now() + SENTINEL_WAIT;
        loop {
            let remote = Remote {
                socket: socket.clone(),
                sentinel_key: self.sentinel.key,
                node_key: link.clone(),
                chain,
                certificate: self.certificate.clone(),
                tries: 2,
                pause: Duration::from_millis(20),
                patience: Duration::from_secs(5),
            };
            match RemoteSigner::connect(remote) {
                Ok(signer) => return Ok(Box::new(signer)),
                Err(SignerError::Unreachable { .. }) if Instant::now() < give_up_at => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(error) => return Err(self.no_sentinel(dir, &socket, &error)),
            }
        }
    }

    fn no_sentinel(&self, dir: &Path, socket: &Path, error: &SignerError) -> Fail {
        let next = format!(
            "run it: kanjo-sentinel run --dir {} --socket {} --node-key {}",
            dir.join(&self.sentinel.dir).display(),
            socket.display(),
            hex::encode(self.certificate.link_key)
        );
        Fail::new("sentinel", error).next(next)
    }

    /// Options of the node.
    pub fn options(&self, membership: Option<Arc<Membership>>) -> MemberOptions {
        MemberOptions {
            link_listen: self.link_listen,
            eject_after: Duration::from_millis(self.eject_after_ms),
            roles: self.roles.clone(),
            prefer_power: self.prefer_power,
            membership,
            ..MemberOptions::default()
        }
    }

    /// The newest membership that is proven from the genesis, if this node is not in the genesis:
    /// from its directory, or from its contact when it is in none of those.
    pub fn membership(&self, dir: &Path, genesis: &Genesis) -> Done<Option<Arc<Membership>>> {
        let is_mine = |membership: &Membership| {
            let mut members = membership.members.iter();
            members.any(|member| member.certificate.vote_key == self.certificate.vote_key)
        };
        let first = Membership::of_genesis(genesis);
        let Some(contact) = self.contact.as_ref().filter(|_| !is_mine(&first)) else {
            return Ok(None);
        };
        let kept = kept(dir)?;
        let mut trust = Trust::new(genesis).map_err(|error| Fail::new("genesis", error))?;
        learn(&mut trust, &kept)?;
        let newest = |trust: &Trust| trust.membership(trust.epoch()).cloned();
        if let Some(known) = newest(&trust).filter(|known| is_mine(known)) {
            return Ok(Some(known));
        }
        let proofs = fetch(&Client::new(contact)?, &mut trust, kept)?;
        keep(dir, &proofs)?;
        match newest(&trust).filter(|known| is_mine(known)) {
            Some(known) => Ok(Some(known)),
            None => Err(not_admitted(&self.certificate.name, dir)),
        }
    }
}

impl MemberFile {
    /// Who to ask where this node stands when it hears no leader.
    pub fn asking(&self, dir: &Path, genesis: &Genesis) -> Option<Asking> {
        let told = kept(dir).unwrap_or_default();
        Asking::new(genesis, &told, self.certificate.vote_key, self.contact.clone())
    }
}

fn not_admitted(name: &str, dir: &Path) -> Fail {
    let file = dir.join("certificate.json");
    Fail::new("not_admitted", format!("{name} is no member of the cluster yet"))
        .next(format!("a governor admits it: kanjo cluster add {}", file.display()))
}

fn learn(trust: &mut Trust, proofs: &[MembershipProof]) -> Done {
    let learnt = proofs.iter().try_for_each(|proof| trust.advance(proof));
    learnt.map_err(|error| Fail::new("memberships", format!("memberships are not proven: {error}")))
}

/// The memberships after those that are known, from a node; each is checked.
pub fn fetch(
    client: &Client,
    trust: &mut Trust,
    mut proofs: Vec<MembershipProof>,
) -> Done<Vec<MembershipProof>> {
    loop {
        let more: Vec<MembershipProof> = client.membership_proofs(trust.epoch())?;
        if more.is_empty() {
            return Ok(proofs);
        }
        let before = trust.epoch();
        learn(trust, &more)?;
        if trust.epoch() == before {
            return Err(Fail::new("bad_answer", "the contact repeats memberships"));
        }
        proofs.extend(more);
    }
}

/// The proofs of memberships in the directory of a member.
fn kept(dir: &Path) -> Done<Vec<MembershipProof>> {
    let path = memberships_path(dir);
    match fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).map_err(|error| Fail::file(&path, error)),
        Err(_) => Ok(Vec::new()),
    }
}

/// Keeps proofs of memberships in the directory of a member.
pub fn keep(dir: &Path, proofs: &[MembershipProof]) -> Done {
    write(&memberships_path(dir), &proofs)
}

/// The program of the sentinel: the one named, or the one beside this program.
pub fn sentinel_program(given: Option<&PathBuf>) -> Done<PathBuf> {
    if let Some(given) = given {
        return Ok(given.clone());
    }
    let own = std::env::current_exe().map_err(|error| Fail::new("program", error))?;
    let beside = own.with_file_name("kanjo-sentinel");
    if beside.is_file() {
        return Ok(beside);
    }
    Err(Fail::new("no_sentinel", format!("there is no {}", beside.display()))
        .next("build it: cargo build --release -p kanjo-sentinel; or name it with --sentinel FILE"))
}
