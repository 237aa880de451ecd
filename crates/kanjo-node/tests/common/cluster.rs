//! Clusters of members in one process.

use super::*;
use kanjo_api::cluster::NodeView;
use kanjo_link::keys::LinkKey;
use kanjo_node::clock::SystemClock;
use kanjo_node::{Ended, MemberOptions, start_member};
use kanjo_sentinel::client::{LocalParts, LocalSigner, Signer, SignerError};
use kanjo_sentinel::rules::{ProposalRequest, VoteRequest};
use kanjo_sentinel::signing::Status;
use kanjo_store::disk::{DiskFile, DiskLock};
use kanjo_store::slots::SlotFile;
use kanjo_types::Hash;
use kanjo_types::block::Vote;
use kanjo_types::genesis::Link;
use kanjo_types::membership::{Attestor, MemberKind, MemberStatus, Notice, Statement};
use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

const ATTESTOR_SEED: [u8; 32] = [9; 32];

/// What vouches for the sentinels of the test.
fn attestor() -> Attestor {
    let key = SecretKey::from_seed(KeyKind::Ed25519, ATTESTOR_SEED).expect("a key").public();
    let PublicKey::Ed25519(key) = key else { unreachable!("an Ed25519 key") };
    Attestor::Software { key }
}

/// The real disk, until it is full: space set aside earlier can still be written.
struct SmallDisk {
    is_full: Arc<AtomicBool>,
}

impl Disk for SmallDisk {
    fn create(&self, path: &Path) -> std::io::Result<Arc<dyn DiskFile>> {
        if self.is_full.load(Ordering::Acquire) {
            return Err(std::io::Error::from(std::io::ErrorKind::StorageFull));
        }
        RealDisk.create(path)
    }

    fn open(&self, path: &Path) -> std::io::Result<Arc<dyn DiskFile>> {
        RealDisk.open(path)
    }

    fn list(&self, dir: &Path) -> std::io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> std::io::Result<()> {
        RealDisk.create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> std::io::Result<()> {
        RealDisk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> std::io::Result<()> {
        RealDisk.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> std::io::Result<Box<dyn DiskLock>> {
        RealDisk.lock(path)
    }
}

/// A member under test.
pub struct Member {
    /// Its disk takes no new file.
    pub is_full: Arc<AtomicBool>,
    pub dir: PathBuf,
    pub vote_seed: [u8; 32],
    pub link: LinkKey,
    pub api: SocketAddr,
    pub node: Option<RunningNode>,
    pub void: BTreeSet<(u64, Hash)>,
    /// Its sentinel does not answer.
    pub is_away: Arc<AtomicBool>,
}

/// A sentinel that can be away.
struct MayBeAway {
    signer: LocalSigner,
    is_away: Arc<AtomicBool>,
}

impl MayBeAway {
    fn here(&mut self) -> Result<&mut LocalSigner, SignerError> {
        if self.is_away.load(Ordering::Acquire) {
            return Err(SignerError::Unreachable { tries: 1, last: "it is away".to_owned() });
        }
        Ok(&mut self.signer)
    }
}

impl Signer for MayBeAway {
    fn proposals(&mut self, requests: &[ProposalRequest]) -> Result<Vec<[u8; 64]>, SignerError> {
        self.here()?.proposals(requests)
    }

    fn votes(&mut self, member: u16, requests: &[VoteRequest]) -> Result<Vec<Vote>, SignerError> {
        self.here()?.votes(member, requests)
    }

    fn notice(
        &mut self,
        member: u16,
        epoch: u64,
        notice: &Notice,
    ) -> Result<Statement, SignerError> {
        self.here()?.notice(member, epoch, notice)
    }

    fn evidence(&mut self, nonce: &[u8]) -> Result<Vec<u8>, SignerError> {
        self.here()?.evidence(nonce)
    }

    fn status(&mut self) -> Result<Status, SignerError> {
        self.here()?.status()
    }

    fn measurement(&self) -> Hash {
        self.signer.measurement()
    }

    fn vote_key(&self) -> [u8; 32] {
        self.signer.vote_key()
    }
}

/// A cluster under test.
pub struct Cluster {
    pub world: tempfile::TempDir,
    pub genesis: Genesis,
    pub members: Vec<Member>,
    pub users: Vec<UserId>,
    pub wallets: Vec<WalletId>,
    pub options: MemberOptions,
}

impl Cluster {
    pub fn new(executors: usize, witnesses: usize, accounts: u64) -> Self {
        Self::with(executors, witnesses, accounts, |_| {})
    }

    /// A cluster whose genesis was changed before anything is made of it.
    pub fn with(
        executors: usize,
        witnesses: usize,
        accounts: u64,
        change: impl FnOnce(&mut Genesis),
    ) -> Self {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(std::env::var("KANJO_LOG").unwrap_or_else(|_| "warn".to_owned()))
            .with_test_writer()
            .try_init();
        let world = tempfile::tempdir().expect("a directory");
        let mut genesis = genesis("Test cluster", accounts, VOTE_SECRET);
        genesis.voters.clear();
        let mut members = Vec::new();
        for n in 0..executors + witnesses {
            let vote_seed = [n as u8 + 1; 32];
            let vote = SecretKey::from_seed(KeyKind::Ed25519, vote_seed).expect("a key").public();
            let PublicKey::Ed25519(key) = vote else { unreachable!("an Ed25519 key") };
            let link = LinkKey::generate().expect("a key");
            let api = SocketAddr::from(([127, 0, 0, 1], kanjo_testing::free_port()));
            genesis.voters.push(Voter {
                name: format!("node-{}", n + 1),
                key,
                kind: if n < executors { MemberKind::Executor } else { MemberKind::Witness },
                link: Some(Link {
                    key: link.public(),
                    address: format!("127.0.0.1:{}", kanjo_testing::free_port()),
                    api: format!("http://{api}"),
                    attestor: Some(attestor()),
                }),
            });
            let dir = world.path().join(format!("node-{}", n + 1));
            let (node, void, is_away) = (None, BTreeSet::new(), Arc::default());
            let is_full = Arc::default();
            members.push(Member { is_full, dir, vote_seed, link, api, node, void, is_away });
        }
        genesis.cluster.governors = vec!["u0".to_owned()];
        genesis.cluster.threshold = 1;
        change(&mut genesis);
        for member in &members {
            kanjo_node::data::create_member(&member.dir, &genesis, &member.link).expect("made");
        }
        let name = |n: u64| format!("u{n}");
        Self {
            users: (0..accounts).filter_map(|n| genesis.user_id(&name(n))).collect(),
            wallets: (0..accounts).filter_map(|n| genesis.wallet_id(&name(n), 0)).collect(),
            world,
            genesis,
            members,
            options: MemberOptions { eject_after: Duration::from_secs(2), ..Default::default() },
        }
    }

    pub fn signer(&self, n: usize) -> LocalSigner {
        let member = &self.members[n];
        let dir = member.dir.join("sentinel");
        std::fs::create_dir_all(&dir).expect("a directory");
        let slot = |name: &str| {
            let (file, value) =
                SlotFile::open(Arc::new(RealDisk), &dir.join(name)).expect("a slot");
            (Box::new(file) as Box<dyn kanjo_sentinel::guard::RecordStore>, value)
        };
        let parts = LocalParts {
            vote_seed: member.vote_seed,
            attestor_seed: ATTESTOR_SEED,
            guard: slot("guard"),
            counter: slot("counter"),
            soon: None,
            epoch_heights: NonZeroU64::new(64).expect("not zero"),
        };
        let certificate = self.genesis.voters[n].certificate();
        LocalSigner::open(parts, self.genesis.chain_id(), &certificate, Hash([3; 32]))
            .expect("a signer")
    }

    pub fn start(&mut self, n: usize) {
        let member = &self.members[n];
        let (signer, is_away) = (self.signer(n), member.is_away.clone());
        let signer = Box::new(MayBeAway { signer, is_away });
        let mut config = Config::new(&member.dir);
        config.listen = member.api;
        config.block_interval_ms = 2;
        config.segment_bytes = 256 << 10;
        config.checkpoint_interval_s = 1;
        config.verify_threads = 1;
        let node = start_member(
            config,
            &self.options,
            signer,
            Arc::new(SmallDisk { is_full: member.is_full.clone() }),
            Arc::new(SystemClock),
            member.void.clone(),
        );
        self.members[n].node = Some(node.expect("the member starts"));
    }

    pub fn start_all(&mut self) {
        (0..self.members.len()).for_each(|n| self.start(n));
    }

    /// Restarts members that ask for it.
    pub fn tend(&mut self) {
        for n in 0..self.members.len() {
            let ended = self.members[n].node.as_ref().and_then(RunningNode::ended);
            match ended {
                None => {}
                Some(Ended::Rewind { void, reason }) => {
                    eprintln!("node-{} rewinds: {reason}", n + 1);
                    self.members[n].void.extend(void);
                    let _ = self.members[n].node.take().expect("running").stop();
                    self.start(n);
                }
                Some(Ended::Failed(reason)) => panic!("node-{} failed: {reason}", n + 1),
            }
        }
    }

    pub fn client(&self, n: usize) -> Client {
        Client::new(&format!("http://{}", self.members[n].api)).expect("a client")
    }

    /// A member that takes payments.
    pub fn wait_leader(&mut self) -> usize {
        let give_up_at = Instant::now() + Duration::from_secs(20);
        while Instant::now() < give_up_at {
            self.tend();
            for n in 0..self.members.len() {
                // Others pass payments on, so that it must lead as well.
                if self.members[n].node.is_some()
                    && self.leads(n)
                    && self.try_pay(n, 0, 1, 1) == Some(ResultCode::Ok)
                {
                    return n;
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("no leader in 20 seconds");
    }

    /// Does it lead, as it says itself?
    pub fn leads(&self, n: usize) -> bool {
        self.client(n).cluster().is_ok_and(|status| status.leader == Some(status.me))
    }

    pub fn transaction(&self, from: usize, to: usize, amount: u128) -> SignedTransaction {
        let draft = Draft::new(self.genesis.chain_id(), self.users[from]);
        let operation = transfer(self.wallets[from], self.wallets[to], amount);
        draft.operations(vec![operation]).sign(&key(from as u64)).expect("a transaction")
    }

    pub fn try_pay(&self, at: usize, from: usize, to: usize, amount: u128) -> Option<ResultCode> {
        self.record(at, &self.transaction(from, to, amount))
    }

    pub fn record(&self, at: usize, signed: &SignedTransaction) -> Option<ResultCode> {
        match self.client(at).submit(signed) {
            Ok(SubmitOutcome::Recorded { result, .. }) => Some(result),
            _ => None,
        }
    }

    pub fn pay(&mut self, at: usize, from: usize, to: usize, amount: u128) -> ResultCode {
        self.try_pay(at, from, to, amount).expect("the payment is recorded")
    }

    /// Payments in a circle, each recorded as done.
    pub fn pay_rounds(&mut self, at: usize, rounds: usize) {
        for round in 0..rounds {
            assert_eq!(self.pay(at, round % 4, (round + 1) % 4, 5), ResultCode::Ok);
        }
    }

    pub fn balances(&self, at: usize) -> Vec<u128> {
        let client = self.client(at);
        self.wallets.iter().map(|wallet| balance(&client, *wallet, VSM)).collect()
    }

    /// A planned stop.
    pub fn leave_and_stop(&mut self, n: usize) {
        self.members[n].node.as_ref().expect("running").leave().expect("the others take it");
        self.stop(n);
    }

    /// Waits until every running member knows a membership with so many voters, and its engine
    /// counts the same ones: before that, a death can cost the old quorum.
    pub fn wait_voters(&mut self, voters: usize) {
        let give_up_at = Instant::now() + Duration::from_secs(40);
        loop {
            self.tend();
            let views: Vec<_> = self.running().iter().map(|n| self.voters(*n)).collect();
            let is_settled = |(ledger, engine): &(Vec<u16>, Vec<Vec<u16>>)| {
                ledger.len() == voters && engine.as_slice() == [ledger.clone()]
            };
            if views.iter().all(is_settled) {
                return;
            }
            assert!(Instant::now() < give_up_at, "voters: {views:?}, not {voters}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Voters as a member's ledger and its engine count them.
    fn voters(&self, n: usize) -> (Vec<u16>, Vec<Vec<u16>>) {
        let Ok(status) = self.client(n).cluster() else { return Default::default() };
        let is_voter = |node: &&NodeView| node.status == MemberStatus::Voting;
        let voters = status.nodes.iter().filter(is_voter).map(|node| node.number);
        (voters.collect(), status.engine_voters)
    }

    pub fn running(&self) -> Vec<usize> {
        (0..self.members.len()).filter(|n| self.members[*n].node.is_some()).collect()
    }

    /// All running members come to the same height and header.
    pub fn assert_agree(&mut self, within: Duration) {
        let give_up_at = Instant::now() + within;
        loop {
            self.tend();
            let tips: Vec<_> = self.running().iter().map(|n| self.tip(*n)).collect();
            if tips.windows(2).all(|pair| pair[0] == pair[1]) {
                return;
            }
            assert!(Instant::now() < give_up_at, "the members differ: {tips:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn tip(&self, n: usize) -> (u64, Hash) {
        let status = self.client(n).status().expect("a status");
        (status.height, status.header_hash)
    }

    pub fn stop(&mut self, n: usize) {
        self.members[n].node.take().expect("running").stop().expect("stops cleanly");
    }

    /// The audit of each stopped executor finds nothing wrong, and the same last header.
    pub fn assert_audits_clean(&self) {
        let audited = |member: &Member| {
            let report = audit::verify(&member.dir, &mut |_| {}).expect("audited");
            assert!(report.ok, "the audit found {:?}", report.first_error);
            assert!(report.transactions > 0);
            report.header_hash
        };
        let hashes: Vec<_> = self.members.iter().map(audited).collect();
        assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "{hashes:?}");
    }

    pub fn stop_all(&mut self) {
        for n in self.running() {
            self.stop(n);
        }
    }
}
