//! The task that makes blocks final, by the rules that a node's thread has, too
//! (`kanjo_member::finality`); builds that are broken on purpose bend what goes in.

use super::maker::{Reply, ToMaker};
use super::open::is_broken;
use super::replayer::ToReplay;
use super::sealer::SealedBatch;
use super::signer::ToSign;
use super::{End, Member};
use crate::scene::Broken;
use crate::time::{ms, since_start, sleep, within};
use bytes::Bytes;
use kanjo_consensus::boundary::CommittedEntry;
use kanjo_consensus::entry::Content;
use kanjo_consensus::vote::SignedVote;
use kanjo_member::finality::{
    Action, Batch, ExecutedBlock, Failure, Finality, Input, Surroundings, VOTES_AHEAD,
};
use kanjo_proof::trust::SignedHeader;
use kanjo_types::{Certificate, Hash};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

const _: () = assert!((VOTES_AHEAD as usize) < kanjo_sentinel::rules::VOTES_REMEMBERED);

/// How often a witness looks whether executors had their time.
const WITNESS_TICK: Duration = ms(50);

/// What finality is told.
pub(crate) enum Event {
    /// From the sealer, in order of heights.
    Sealed(Box<SealedBatch>),
    /// From the engine, in order of heights, with its share of the room for entries under way.
    Committed(Box<CommittedEntry>, OwnedSemaphorePermit),
    /// Own votes.
    Signed(Vec<SignedVote>),
    /// Votes of a member.
    Ballots(Vec<SignedVote>),
    /// Certificates got from a peer.
    Fetched(Vec<SignedHeader>),
    /// The term in which this node leads; nothing when it leads no more.
    Role { term: Option<u64> },
    /// Certificates were written: the sentinel may go on.
    Kept,
    /// Nothing came for a while.
    Tick,
    /// The engine's voters are changed: behind the entries that did it, blocks are made again.
    Resume,
    /// Ends the task.
    Stop,
}

/// A block on its way to the engine.
pub(crate) struct Proposal {
    pub height: u64,
    pub header: Hash,
    pub bytes: Bytes,
}

impl Batch for SealedBatch {
    type Mark = oneshot::Sender<()>;

    fn block(&self) -> Option<ExecutedBlock> {
        let block = self.block.as_ref()?;
        Some(ExecutedBlock {
            height: block.header.height,
            hash: block.hash,
            bytes: block.bytes.clone(),
            is_made: block.is_made,
            membership: block.membership.clone(),
            difference: block.difference.clone(),
        })
    }

    fn take_marks(&mut self) -> Vec<Self::Mark> {
        std::mem::take(&mut self.marks)
    }
}

/// What the observer is shown of a height when it is final.
#[derive(Default)]
struct Shown {
    /// The encoding of its block, if there is one that counts.
    block: Option<Bytes>,
    /// The state root of this node's own trees.
    computed: Option<Hash>,
}

/// The task's parts.
pub(crate) struct FinalityTask {
    member: Arc<Member>,
    proposals: UnboundedSender<Proposal>,
    rules: Finality<SealedBatch, OwnedSemaphorePermit>,
    /// Heights that are not final.
    shown: BTreeMap<u64, Shown>,
}

impl FinalityTask {
    pub(crate) fn new(
        member: Arc<Member>,
        proposals: UnboundedSender<Proposal>,
        rules: Finality<SealedBatch, OwnedSemaphorePermit>,
    ) -> Self {
        Self { member, proposals, rules, shown: BTreeMap::new() }
    }

    pub(crate) async fn run(mut self, mut events: UnboundedReceiver<Event>) {
        while let Some(event) = self.next_event(&mut events).await {
            if !self.member.is_alive() || self.member.ended().is_some() {
                return;
            }
            let input = match event {
                Event::Sealed(sealed) => self.sealed(sealed),
                Event::Committed(entry, permit) => self.committed(entry, permit),
                Event::Signed(votes) => self.signed(votes),
                Event::Ballots(votes) => Input::Votes(votes),
                Event::Fetched(signed) => Input::Fetched(signed),
                Event::Role { term } => Input::Role { term },
                Event::Kept => Input::Kept,
                Event::Resume => Input::Resume,
                Event::Tick => Input::Tick,
                Event::Stop => return,
            };
            self.rules.step(input, self.surroundings());
            while let Some(action) = self.rules.next_action() {
                self.carry_out(action);
            }
            if self.member.dice.hits(200_000) {
                sleep(self.member.dice.micros(1, 300)).await;
            }
        }
    }

    /// The next event; a witness looks at the clock in between.
    async fn next_event(&self, events: &mut UnboundedReceiver<Event>) -> Option<Event> {
        if !self.member.is_witness {
            return events.recv().await;
        }
        within(WITNESS_TICK, events.recv()).await.unwrap_or(Some(Event::Tick))
    }

    fn surroundings(&self) -> Surroundings {
        Surroundings {
            now_ms: u64::try_from(since_start().as_millis()).unwrap_or(u64::MAX),
            kept_to: self.member.kept_to.load(Ordering::Acquire),
            leading_term: self.member.leading_term.load(Ordering::Acquire),
        }
    }

    // ---- What goes in ----

    fn sealed(&mut self, mut sealed: Box<SealedBatch>) -> Input<SealedBatch, OwnedSemaphorePermit> {
        if let Some(block) = &mut sealed.block {
            if is_broken(&self.member, Broken::NoRewind) {
                block.difference = None;
            }
            let shown = self.shown.entry(block.header.height).or_default();
            shown.computed = shown.computed.or(Some(block.computed));
            if block.is_made && is_broken(&self.member, Broken::AcknowledgeEarly) {
                sealed.replies.drain(..).for_each(Reply::send);
            }
        }
        Input::Sealed(sealed)
    }

    fn committed(
        &mut self,
        entry: Box<CommittedEntry>,
        permit: OwnedSemaphorePermit,
    ) -> Input<SealedBatch, OwnedSemaphorePermit> {
        if is_broken(&self.member, Broken::NoRewind) {
            self.rules.forget_made_if_lost(&entry);
        }
        Input::Committed(entry, permit)
    }

    fn signed(&mut self, votes: Vec<SignedVote>) -> Input<SealedBatch, OwnedSemaphorePermit> {
        if !is_broken(&self.member, Broken::QuorumOfOne) {
            return Input::Votes(votes);
        }
        for vote in votes {
            let certificate = Certificate { epoch: vote.epoch, votes: vec![vote.vote] };
            self.rules.believe(vote.height, vote.header, certificate);
        }
        Input::Tick
    }

    // ---- What comes out ----

    fn replay(&self, message: ToReplay) {
        let _ = self.member.inboxes.replayer.send(message);
    }

    fn carry_out(&mut self, action: Action<SealedBatch, OwnedSemaphorePermit>) {
        match action {
            Action::Propose { height, header, bytes } => {
                let _ = self.proposals.send(Proposal { height, header, bytes });
            }
            Action::Placed { entry, hash, void } => self.placed(*entry, hash, void),
            Action::Replay { placed, block, leads_after } => {
                self.replay(ToReplay::Height { placed, block, leads_after });
            }
            Action::Free(permit) => drop(permit),
            Action::Lead => self.replay(ToReplay::PassOn(ToMaker::Lead)),
            Action::Resume => self.replay(ToReplay::PassOn(ToMaker::Resume)),
            Action::Follow => {
                let _ = self.member.inboxes.maker.send(ToMaker::Follow);
            }
            Action::Made { lowest } => self.member.note_made(lowest),
            Action::Drained(marks) => marks.into_iter().for_each(|mark| {
                let _ = mark.send(());
            }),
            Action::AskVote { epoch, height, header, challenge } => {
                let vote = ToSign::Vote { epoch, height, header, challenge };
                let _ = self.member.inboxes.signer.send(vote);
            }
            Action::SetMembership(membership) => self.member.set_membership(membership),
            Action::OtherRows(error) => self.member.note(error.to_string()),
            Action::BadVote { voter, height, why } => {
                self.member.note(format!("a vote of n{voter} at {height} does not count: {why}"));
                self.member.scene.crimes.count_bad_vote();
            }
            Action::Differs { notice } => {
                self.member.note("a member voted for another header");
                self.member.offer_notice(notice);
            }
            Action::Final { signed } => self.final_height(signed),
            Action::Release { batch, .. } => self.let_out(*batch),
            // This member writes the certificate of every height, and a witness nothing else.
            Action::HeightOnly { .. } => {}
            Action::Strengthen { height, certificate } => {
                self.member.strengthen(height, certificate);
            }
            Action::Rewind { reason, void } => self.member.rewind(&reason, void),
            Action::Fail(failure) => self.fail(&failure),
        }
    }

    fn placed(&mut self, entry: CommittedEntry, hash: Hash, void: Option<&'static str>) {
        let CommittedEntry { index: height, term, proposer, content, .. } = entry;
        let kind = match (&content, void) {
            (_, Some(why)) => format!("void block ({why})"),
            (Content::Block(_), _) => "block".to_owned(),
            (Content::Blank, _) => "blank".to_owned(),
            (Content::Voters(_), _) => "voters".to_owned(),
        };
        self.member
            .note(format!("committed {height} of n{proposer} in term {term}: {kind} {hash}"));
        if let (Content::Block(bytes), None) = (content, void) {
            self.shown.entry(height).or_default().block = Some(bytes);
        }
    }

    fn final_height(&mut self, signed: SignedHeader) {
        let height = signed.header.height;
        self.member.recent.lock().insert(height, signed.clone());
        self.member.next_release.store(height + 1, Ordering::Release);
        let Shown { block, computed } = self.shown.remove(&height).unwrap_or_default();
        self.member.scene.observer.released(&self.member, &signed, block.as_ref(), computed);
        let _ = self.member.inboxes.keeper.send(Some(signed));
    }

    fn let_out(&self, sealed: SealedBatch) {
        if sealed.block.as_ref().is_some_and(|block| block.is_made) {
            self.member.flow.add_permits(1);
        }
        sealed.replies.into_iter().for_each(Reply::send);
    }

    fn fail(&self, failure: &Failure) {
        let reason = match failure {
            Failure::Equivocation { height, first, second } => {
                let text = format!("two certificates at {height}: {} {}", first.0, second.0);
                self.member.scene.observer.finding_of(&self.member, text.clone());
                text
            }
            Failure::Contradicted { height, certified, ours } => {
                format!("height {height}: certified {certified}, computed {ours}")
            }
            Failure::OutOfOrder { .. } | Failure::NotInLog { .. } => failure.to_string(),
        };
        self.member.end(End::Failed(reason));
    }
}
