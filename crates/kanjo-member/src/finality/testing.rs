//! A small cluster for tests of the rules: members with keys, a chain of blocks, votes.

use super::{Action, Batch, Beginning, ExecutedBlock, Finality, Input, Surroundings};
use bytes::Bytes;
use kanjo_consensus::boundary::CommittedEntry;
use kanjo_consensus::entry::Content;
use kanjo_consensus::vote::SignedVote;
use kanjo_ledger::block::{genesis_block, roots};
use kanjo_ledger::chain::{Chain, Offered};
use kanjo_ledger::{BlockContext, Ledger};
use kanjo_proof::merkle::Frontier;
use kanjo_proof::trust::SignedHeader;
use kanjo_types::block::{Vote, vote_digest};
use kanjo_types::genesis::{Cluster, Link, Rules, Voter};
use kanjo_types::membership::{MemberKind, Membership, Notice, Statement, notice_digest};
use kanjo_types::signature::{KeyKind, SecretKey};
use kanjo_types::stored::{Block, encode_block};
use kanjo_types::{Certificate, Genesis, Hash, Header, PublicKey};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The term of every entry.
pub(super) const TERM: u64 = 4;
pub(super) const EXECUTORS: [MemberKind; 3] = [MemberKind::Executor; 3];
pub(super) const WITH_WITNESS: [MemberKind; 3] =
    [MemberKind::Executor, MemberKind::Executor, MemberKind::Witness];

fn key(member: u16) -> SecretKey {
    SecretKey::from_seed(KeyKind::Ed25519, [u8::try_from(member + 1).unwrap(); 32]).unwrap()
}

pub(super) fn genesis(kinds: &[MemberKind]) -> Genesis {
    let voter = |(number, kind): (u16, &MemberKind)| {
        let PublicKey::Ed25519(vote_key) = key(number).public() else { unreachable!() };
        let address = format!("host-{number}:1");
        let api = format!("http://host-{number}");
        let link = Some(Link { key: [9; 32], address, api, attestor: None });
        Voter { kind: *kind, link, ..Voter::alone(&format!("node-{number}"), vote_key) }
    };
    Genesis {
        version: 1,
        name: "test".to_owned(),
        time_ms: 5,
        rules: Rules {
            replay_window_ms: 60_000,
            open_registration: false,
            open_tokens: false,
            operators: Vec::new(),
        },
        voters: (0..).zip(kinds).map(voter).collect(),
        cluster: Cluster::default(),
        users: Vec::new(),
        tokens: Vec::new(),
        wallets: Vec::new(),
    }
}

pub(super) fn vote(epoch: u64, voter: u16, height: u64, header: Hash) -> SignedVote {
    let answer = Hash([1; 32]);
    let signature = key(voter).sign(&vote_digest(epoch, height, &header, &answer));
    SignedVote { epoch, height, header, vote: Vote { voter, answer, signature } }
}

/// Stands for everything that waits for a block.
#[derive(Debug)]
pub(super) struct TestBatch {
    pub block: Option<ExecutedBlock>,
    pub marks: Vec<u64>,
}

impl Batch for TestBatch {
    type Mark = u64;

    fn block(&self) -> Option<ExecutedBlock> {
        self.block.clone()
    }

    fn take_marks(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.marks)
    }
}

pub(super) type Todo = Action<TestBatch, u64>;

/// A block as its leader made it.
#[derive(Clone)]
pub(super) struct Made {
    pub header: Header,
    pub bytes: Bytes,
    pub by: u16,
}

impl Made {
    pub(super) fn hash(&self) -> Hash {
        self.header.hash()
    }

    pub(super) fn height(&self) -> u64 {
        self.header.height
    }
}

/// One member's finality, and a leader's chain beside it.
pub(super) struct Rig {
    pub finality: Finality<TestBatch, u64>,
    pub around: Surroundings,
    pub membership: Arc<Membership>,
    pub chain: Chain,
    pub genesis: Genesis,
}

pub(super) fn beginning(me: u16, genesis: &Genesis) -> Beginning {
    let (block, ledger, _) = genesis_block(genesis);
    let membership: Arc<Membership> = ledger.membership().clone();
    let mut history = Frontier::default();
    history.push(block.header.hash());
    let vote = vote(0, 0, 0, block.header.hash()).vote;
    let certificate = Certificate { epoch: 0, votes: vec![vote] };
    let is_witness = !membership.member(me).unwrap().executes();
    Beginning {
        me,
        is_witness,
        program: Hash([5; 32]),
        last: SignedHeader { header: block.header, certificate },
        history,
        membership,
        void: std::collections::BTreeSet::new(),
    }
}

impl Rig {
    /// The genesis is final.
    pub(super) fn new(me: u16, kinds: &[MemberKind]) -> Self {
        let genesis = genesis(kinds);
        Self::begin(beginning(me, &genesis), genesis)
    }

    pub(super) fn begin(beginning: Beginning, genesis: Genesis) -> Self {
        Self {
            membership: beginning.membership.clone(),
            chain: Chain::new(beginning.last.header.clone(), beginning.history.clone()),
            finality: Finality::new(beginning),
            around: Surroundings { now_ms: 0, kept_to: 1, leading_term: 0 },
            genesis,
        }
    }

    pub(super) fn step(&mut self, input: Input<TestBatch, u64>) -> Vec<Todo> {
        self.finality.step(input, self.around);
        std::iter::from_fn(|| self.finality.next_action()).collect()
    }

    /// The next block of the leader's chain.
    pub(super) fn next_block(&mut self, by: u16) -> Made {
        let mut header = self.chain.empty(by);
        header.state_root = Hash([by as u8 + 0x40; 32]);
        self.put(by, header, Vec::new())
    }

    fn put(&mut self, by: u16, header: Header, entries: Vec<kanjo_types::stored::Entry>) -> Made {
        let offered =
            Offered { proposer: by, signature: &[2; 64], block: Some(&header), known_void: None };
        assert_eq!(self.chain.place(offered).void, None);
        let certificate = Certificate { epoch: 0, votes: Vec::new() };
        let block = Block { header, certificate, entries, genesis_rows: Vec::new() };
        Made { bytes: encode_block(&block).into(), header: block.header, by }
    }

    /// The next block, in which a member leaves; what it makes of the membership.
    pub(super) fn next_block_without(&mut self, by: u16, leaves: u16) -> (Made, Arc<Membership>) {
        let mut ledger = Ledger::new(&self.genesis);
        let (block, ..) = genesis_block(&self.genesis);
        ledger.redo(&block, |_| true);
        let notice = Notice::Leave { member: leaves };
        let digest = notice_digest(self.genesis.chain_id(), self.membership.epoch, &notice);
        let statement = Statement { member: leaves, signature: key(leaves).sign(&digest) };
        let context = BlockContext { height: self.chain.height() + 1, time_ms: 5 };
        let entry = ledger.take_notice(context, 0, notice, vec![statement]).unwrap();
        ledger.end_block();
        let entries = vec![entry];
        let mut header = self.chain.empty(by);
        let roots = roots(&entries);
        (header.transactions, header.transactions_root) = (1, roots.transactions);
        header.receipts_root = roots.receipts;
        (self.put(by, header, entries), ledger.membership().clone())
    }

    /// A new leader's first entry.
    pub(super) fn next_blank(&mut self, by: u16) -> CommittedEntry {
        let offered = Offered { proposer: by, signature: &[2; 64], block: None, known_void: None };
        let height = self.chain.place(offered).header.height;
        entry(height, by, Content::Blank)
    }

    pub(super) fn commit(&mut self, made: &Made) -> Vec<Todo> {
        let entry = entry(made.height(), made.by, Content::Block(made.bytes.clone()));
        self.step(Input::Committed(Box::new(entry), made.height()))
    }

    pub(super) fn executed(&self, made: &Made, is_made: bool) -> ExecutedBlock {
        ExecutedBlock {
            height: made.height(),
            hash: made.hash(),
            bytes: if is_made { made.bytes.clone() } else { Bytes::new() },
            is_made,
            membership: self.membership.clone(),
            difference: None,
        }
    }

    pub(super) fn seal(&mut self, block: Option<ExecutedBlock>) -> Vec<Todo> {
        self.step(Input::Sealed(Box::new(TestBatch { block, marks: Vec::new() })))
    }

    /// A block that this member executed, made here or not.
    pub(super) fn execute(&mut self, made: &Made, is_made: bool) -> Vec<Todo> {
        let block = self.executed(made, is_made);
        self.seal(Some(block))
    }

    /// A vote of a member for what it found.
    pub(super) fn vote(&mut self, voter: u16, height: u64, header: Hash) -> Vec<Todo> {
        let epoch = self.membership.epoch;
        self.step(Input::Votes(vec![vote(epoch, voter, height, header)]))
    }
}

pub(super) fn entry(index: u64, proposer: u16, content: Content) -> CommittedEntry {
    CommittedEntry { index, term: TERM, proposer, signature: [2; 64], content }
}

/// Heights that votes are asked for, with the epoch.
pub(super) fn asked(actions: &[Todo]) -> Vec<(u64, u64)> {
    let one = |action: &Todo| match action {
        Action::AskVote { height, epoch, .. } => Some((*height, *epoch)),
        _ => None,
    };
    actions.iter().filter_map(one).collect()
}

/// What becomes final and what is let out, in order: a height that is final, the height of a block
/// that is released, nothing for a batch without one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Out {
    Final(u64),
    Block(u64),
    Others,
    HeightOnly,
}

pub(super) fn out(actions: &[Todo]) -> Vec<Out> {
    let one = |action: &Todo| match action {
        Action::Final { signed } => Some(Out::Final(signed.header.height)),
        Action::Release { batch, is_newest: true } => {
            batch.block.as_ref().map(|block| Out::Block(block.height))
        }
        Action::Release { .. } => Some(Out::Others),
        Action::HeightOnly { .. } => Some(Out::HeightOnly),
        _ => None,
    };
    actions.iter().filter_map(one).collect()
}

/// The block that is void for a rewind, if there is a rewind.
pub(super) fn rewind(actions: &[Todo]) -> Option<Option<(u64, Hash)>> {
    actions.iter().find_map(|action| match action {
        Action::Rewind { void, .. } => Some(*void),
        _ => None,
    })
}

/// Votes of each member for each height, in this order.
pub(super) fn certificate(epoch: u64, voters: &[u16], header: &Header) -> SignedHeader {
    let (height, hash) = (header.height, header.hash());
    let votes: BTreeMap<u16, Vote> =
        voters.iter().map(|voter| (*voter, vote(epoch, *voter, height, hash).vote)).collect();
    let certificate = Certificate { epoch, votes: votes.into_values().collect() };
    SignedHeader { header: header.clone(), certificate }
}
