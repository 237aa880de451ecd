//! The sealer: roots over a block's transactions, receipts and state, the header, the bytes. On a
//! ledger of one node also the vote. For a block that another node made it compares instead: header
//! and bytes must be the same.

use crate::background::PartitionCopy;
use crate::blocks::no_votes;
use crate::cluster::finality::Event;
use crate::data::Voter;
use crate::flow::Flow;
use crate::metrics::Stage;
use crate::proofs::PendingProof;
use crate::sequencer::{Batch, BatchBlock, Origin};
use crate::shared::{Reply, Shared};
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
use kanjo_ledger::block::roots;
use kanjo_ledger::recompute::Difference;
use kanjo_ledger::{BlockContext, BlockEffects};
use kanjo_proof::state::StateTree;
use crate::tables::{PendingTables, WaitingTables};
use kanjo_proof::trust::SignedHeader;
use kanjo_types::block::{
    Certificate, HEADER_VERSION, Header, Vote, challenge, integrity_answer, vote_digest,
};
use kanjo_types::membership::Membership;
use kanjo_types::stored::{Entry, append_entry, append_head, append_tail};
use kanjo_types::Hash;
use std::sync::Arc;
use tokio::sync::oneshot;

/// A block ready to be written or voted for, with everything that waits for it.
pub(crate) struct Sealed {
    pub block: Option<SealedBlock>,
    pub replies: Vec<Reply>,
    pub proofs: Vec<PendingProof>,
    pub tables: Vec<PendingTables>,
    pub copies: Vec<PartitionCopy>,
    pub marks: Vec<oneshot::Sender<()>>,
}

pub(crate) struct SealedBlock {
    pub header: Header,
    pub hash: Hash,
    /// Of a block made here: its encoding.
    pub bytes: Bytes,
    pub entries: Arc<Vec<Entry>>,
    /// Made here, and in a cluster still to be proposed.
    pub is_made: bool,
    /// The membership after the block.
    pub membership: Arc<Membership>,
    /// What this node computed otherwise than the block's leader.
    pub difference: Option<Difference>,
}

/// Who certifies.
pub(crate) enum Sealing {
    /// This node alone: the certificate is in the block.
    Alone {
        voter: Voter,
        /// SHA-256 of the program that runs.
        measurement: Hash,
    },
    /// The cluster; blocks made here wait for room.
    Cluster { me: u16, flow: Arc<Flow> },
}

/// Who gets sealed batches.
pub(crate) enum Next {
    /// On a ledger of one node.
    Writer(Sender<Sealed>),
    /// In a cluster.
    Finality(Sender<Event>),
}

impl Next {
    /// False when nobody is there any more.
    fn send(&self, sealed: Sealed) -> bool {
        match self {
            Self::Writer(writer) => writer.send(sealed).is_ok(),
            Self::Finality(events) => events.send(Event::Sealed(Box::new(sealed))).is_ok(),
        }
    }
}

pub(crate) struct Sealer {
    pub shared: Arc<Shared>,
    pub batches: Receiver<Batch>,
    pub next: Next,
    pub trees: StateTree,
    pub sealing: Sealing,
    /// The membership that decides on the next height.
    pub epoch: u64,
    pub last: SignedHeader,
    pub waiting: WaitingTables,
}

/// The vote of `voter` over a header, as the only voter: nobody proposed the block to it. The
/// answer is made in the process, for the program that it runs.
pub(crate) fn certify(
    voter: &Voter,
    measurement: &Hash,
    epoch: u64,
    header: &Header,
) -> Certificate {
    let hash = header.hash();
    let parent = header.parents.first().copied().unwrap_or_default();
    let seed = challenge(&parent, &[]);
    let answer = integrity_answer(measurement, &voter.certificate, &seed, &hash);
    let signature = voter.key.sign(&vote_digest(epoch, header.height, &hash, &answer));
    Certificate { epoch, votes: vec![Vote { voter: voter.position, answer, signature }] }
}

impl Sealer {
    pub(crate) fn run(mut self) {
        let cpu = self.shared.metrics.thread(Stage::Tree);
        while let Ok(batch) = self.batches.recv() {
            let block = batch.block.map(|block| self.seal(block));
            let proofs = batch.proofs.into_iter();
            let proofs = proofs.filter_map(|query| query.prove(&self.trees, &self.last)).collect();
            let tables = self.waiting.look(batch.tables, &self.last.header, &self.trees);
            let Batch { replies, copies, marks, .. } = batch;
            let sealed = Sealed { block, replies, proofs, tables, copies, marks };
            if let (Sealing::Cluster { flow, .. }, Some(block)) = (&self.sealing, &sealed.block)
                && block.is_made
                && !flow.enter(block.bytes.len())
            {
                return;
            }
            if !self.next.send(sealed) {
                return;
            }
            cpu.lap();
        }
    }

    fn seal(&mut self, block: BatchBlock) -> SealedBlock {
        let BatchBlock { context, entries, effects, origin, membership } = block;
        let (header, certificate, bytes, difference) = match &origin {
            Origin::Made => {
                let header = self.header(context, &entries, effects, self.me());
                let certificate = self.certificate(&header);
                let bytes = encode(&header, &certificate, &entries);
                (header, certificate, bytes, None)
            }
            Origin::Empty(placed) => (placed.header.clone(), no_votes(), Bytes::new(), None),
            Origin::Replayed(placed, content) => {
                let producer = placed.header.producer;
                let header = self.header(context, &entries, effects, producer);
                let bytes = encode(&header, &no_votes(), &entries);
                let difference = difference(&placed.header, content, &header, &bytes);
                (header, no_votes(), Bytes::new(), difference)
            }
        };
        let hash = header.hash();
        {
            let mut history = self.shared.history.write();
            assert_eq!(history.len(), context.height, "the history holds every earlier header");
            history.push(hash);
        }
        self.last = SignedHeader { header: header.clone(), certificate };
        self.epoch = membership.epoch;
        SealedBlock {
            header,
            hash,
            bytes,
            entries: Arc::new(entries),
            is_made: matches!(origin, Origin::Made),
            membership,
            difference,
        }
    }

    fn me(&self) -> u16 {
        match &self.sealing {
            Sealing::Alone { voter, .. } => voter.position,
            Sealing::Cluster { me, .. } => *me,
        }
    }

    fn certificate(&self, header: &Header) -> Certificate {
        let Sealing::Alone { voter, measurement } = &self.sealing else { return no_votes() };
        certify(voter, measurement, self.epoch, header)
    }

    /// The header that follows from what was executed.
    fn header(
        &mut self,
        context: BlockContext,
        entries: &[Entry],
        effects: BlockEffects,
        producer: u16,
    ) -> Header {
        let roots = roots(entries);
        self.trees.update(&effects.leaves);
        Header {
            version: HEADER_VERSION,
            chain: self.shared.chain,
            height: context.height,
            parents: vec![self.last.header.hash()],
            time_ms: context.time_ms,
            producer,
            transactions: u32::try_from(entries.len()).unwrap_or(u32::MAX),
            transactions_root: roots.transactions,
            receipts_root: roots.receipts,
            state_root: self.trees.root(),
            history_root: self.shared.history.read().root(),
            fees: effects.fees,
            supply: effects.supply,
        }
    }
}

fn encode(header: &Header, certificate: &Certificate, entries: &[Entry]) -> Bytes {
    let mut bytes = Vec::with_capacity(1_024 + 448 * entries.len());
    append_head(header, certificate, &mut bytes);
    entries.iter().for_each(|entry| append_entry(entry, &mut bytes));
    append_tail(&[], &mut bytes);
    Bytes::from(bytes)
}

/// The first part of a header that differs, or the bytes.
fn difference(
    found: &Header,
    found_bytes: &[u8],
    computed: &Header,
    computed_bytes: &[u8],
) -> Option<Difference> {
    if found == computed && found_bytes == computed_bytes {
        return None;
    }
    let parts = [
        ("the transactions root", found.transactions_root, computed.transactions_root),
        ("the receipts root", found.receipts_root, computed.receipts_root),
        ("the state root", found.state_root, computed.state_root),
        ("the header", found.hash(), computed.hash()),
    ];
    let differs = parts.into_iter().find(|(_, found, computed)| found != computed);
    // The same header over other bytes: what the leader wrote beside it is not what it signed.
    let (what, found, computed) =
        differs.unwrap_or(("the encoding", found.hash(), computed.hash()));
    Some(Difference::Result { what, found, computed })
}
