//! What must hold, checked from outside: it sees every final height of every correct member, every
//! vote, and every answer to a client.
//!
//! - No two certificates at a height, whoever holds them.
//! - Every certificate verifies from the genesis, through all changes of the membership.
//! - What was acknowledged is in a certified block, at the place and with the result that were
//!   told; it stays there.
//! - Replicas are identical: the root of a member's own trees is that of the certified header.
//! - Balances add up to what was issued.
//! - A proof of a wallet verifies from the genesis file alone.

use crate::member::Member;
use crate::proofs;
use crate::trace::Trace;
use crate::world::{FIRST_BALANCE, TOKEN};
use bytes::Bytes;
use kanjo_consensus::vote::SignedVote;
use kanjo_ledger::block::{genesis_block, membership_proof};
use kanjo_proof::Trust;
use kanjo_proof::proof::MembershipProof;
use kanjo_proof::trust::SignedHeader;
use kanjo_types::stored::{Block, Row, decode_block};
use kanjo_types::{Genesis, Hash, Record, ResultCode, TransactionId};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Most findings of a run that are kept.
const FINDINGS_MAX: usize = 16;

/// Where a transaction stands and what came of it.
pub type Place = (u64, u32, ResultCode);

struct State {
    trust: Option<Trust>,
    /// Header hashes of all final heights.
    finals: Vec<Hash>,
    recorded: BTreeMap<TransactionId, Place>,
    /// Every row version by hash, to make proofs of.
    records: BTreeMap<Hash, Record>,
    memberships: Vec<MembershipProof>,
    votes: BTreeMap<u64, BTreeMap<Hash, BTreeMap<u16, SignedVote>>>,
    acknowledged: BTreeMap<TransactionId, Place>,
    /// Clients were told that these are not taken, and gave up.
    not_taken: BTreeSet<TransactionId>,
    proofs: u64,
    findings: Vec<String>,
}

/// See the [module](self).
pub struct Observer {
    genesis: Genesis,
    trace: Arc<Trace>,
    state: Mutex<State>,
}

impl Observer {
    /// Looks at a ledger from its genesis on.
    #[must_use]
    pub fn new(genesis: Genesis, trace: Arc<Trace>) -> Self {
        let (block, _, _) = genesis_block(&genesis);
        let trust = Trust::new(&genesis).ok();
        let mut state = State {
            trust,
            finals: Vec::new(),
            recorded: BTreeMap::new(),
            records: BTreeMap::new(),
            memberships: Vec::new(),
            votes: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            not_taken: BTreeSet::new(),
            proofs: 0,
            findings: Vec::new(),
        };
        state.keep_rows(&block.genesis_rows);
        Self { genesis, trace, state: Mutex::new(state) }
    }

    pub(crate) fn trace(&self) -> Arc<Trace> {
        self.trace.clone()
    }

    /// Something that must not be.
    pub fn finding(&self, text: String) {
        self.state.lock().finding(&self.trace, text);
    }

    /// Something that must not be, unless the member is a criminal.
    pub fn finding_of(&self, member: &Member, text: String) {
        if member.crime.is_none() {
            self.finding(format!("n{}: {text}", member.me));
        }
    }

    /// All findings so far.
    #[must_use]
    pub fn findings(&self) -> Vec<String> {
        self.state.lock().findings.clone()
    }

    /// The next height that is final nowhere.
    #[must_use]
    pub fn next_final(&self) -> u64 {
        self.state.lock().finals.len() as u64
    }

    /// Acknowledged transactions, and proofs checked.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.acknowledged.len() as u64, state.proofs)
    }

    /// The newest membership that is certified.
    #[must_use]
    pub fn membership(&self) -> Option<Arc<kanjo_types::Membership>> {
        let state = self.state.lock();
        let trust = state.trust.as_ref()?;
        trust.membership(trust.epoch()).cloned()
    }

    /// Votes on their way.
    pub(crate) fn saw_votes(&self, votes: &[SignedVote]) {
        let mut state = self.state.lock();
        for vote in votes {
            let headers = state.votes.entry(vote.height).or_default();
            headers.entry(vote.header).or_default().insert(vote.vote.voter, *vote);
        }
    }

    /// A height became final on a member. `block` is what its log holds there, `computed` the state
    /// root of its own trees.
    pub(crate) fn released(
        &self,
        member: &Member,
        signed: &SignedHeader,
        block: Option<&Bytes>,
        computed: Option<Hash>,
    ) {
        let (height, hash) = (signed.header.height, signed.header.hash());
        member.note(format!("final {height} {hash} by {} votes", signed.certificate.votes.len()));
        if member.crime.is_some() {
            return;
        }
        let me = member.me;
        let mut state = self.state.lock();
        if computed.is_some_and(|computed| computed != signed.header.state_root) {
            let text = format!("n{me} has another state than it released at height {height}");
            state.finding(&self.trace, text);
        }
        let checked = state.trust.as_ref().map(|trust| trust.check(signed));
        if let Some(Err(error)) = checked {
            let text = format!("n{me}: certificate of height {height} does not verify: {error}");
            state.finding(&self.trace, text);
        }
        let known = usize::try_from(height).ok().and_then(|at| state.finals.get(at).copied());
        match known {
            Some(known) if known == hash => {}
            Some(known) => {
                let text = format!("two final headers at height {height}: {known}, n{me}: {hash}");
                state.finding(&self.trace, text);
            }
            None if height == state.finals.len() as u64 => {
                state.finals.push(hash);
                let block =
                    block.and_then(|bytes| decode_block(bytes, self.genesis.chain_id()).ok());
                if let Some(block) = block {
                    let certificate = signed.certificate.clone();
                    state.learn(&self.trace, &Block { certificate, ..block });
                }
            }
            None => {
                let text = format!("n{me} released height {height} and left heights out");
                state.finding(&self.trace, text);
            }
        }
    }

    /// A client was told what came of its transaction.
    pub fn acknowledged(&self, id: TransactionId, place: Place) {
        let mut state = self.state.lock();
        let recorded = state.recorded.get(&id).copied();
        if recorded != Some(place) {
            let text = format!("acknowledged {id} at {place:?}, certified is {recorded:?}");
            state.finding(&self.trace, text);
        }
        if state.acknowledged.insert(id, place).is_some_and(|before| before != place) {
            state.finding(&self.trace, format!("{id} was acknowledged at two places"));
        }
    }

    /// A client was told that nothing of its transaction is on the ledger, and gave up.
    pub fn not_taken(&self, id: TransactionId) {
        self.state.lock().not_taken.insert(id);
    }

    /// Is this transaction in a final block?
    #[must_use]
    pub fn place_of(&self, id: TransactionId) -> Option<Place> {
        self.state.lock().recorded.get(&id).copied()
    }

    /// Looks at a member whose replica is at its last final height: sums, state, a proof.
    pub fn look_at(&self, member: &Member, account: u64, accounts: u64) {
        let next = member.next_final();
        if member.crime.is_some() || member.is_witness || next == 0 || !member.is_alive() {
            return;
        }
        let height = next - 1;
        let replica = member.replica.lock();
        let sealed = member.sealed.lock();
        if replica.is_open || replica.height != height || sealed.last.height != height {
            return;
        }
        if let Err(error) = replica.ledger.audit_supply() {
            self.finding(format!("n{} at height {height}: {error}", member.me));
        }
        let circulating = replica.ledger.circulating(TOKEN);
        if circulating != FIRST_BALANCE * u128::from(accounts) {
            self.finding(format!("n{} at height {height}: {circulating} in all", member.me));
        }
        let Some(signed) = member.signed(height) else { return };
        let mut state = self.state.lock();
        let proven = proofs::check_wallet(
            &self.genesis,
            (&replica.ledger, &sealed.trees),
            &signed,
            &state.memberships,
            &state.records,
            account,
        );
        match proven {
            Ok(()) => state.proofs += 1,
            Err(error) => {
                let text = format!("n{} at height {height}: proof of a wallet: {error}", member.me);
                state.finding(&self.trace, text);
            }
        }
    }

    /// At the end: looks for two quorums among all votes there ever were, and for what was lost.
    pub fn finish(&self) {
        let mut state = self.state.lock();
        let mut findings = Vec::new();
        for (height, headers) in state.votes.iter().filter(|(_, headers)| headers.len() > 1) {
            let certified =
                headers.iter().filter(|(header, votes)| state.has_quorum(*height, header, votes));
            let certified: Vec<&Hash> = certified.map(|(header, _)| header).collect();
            if certified.len() > 1 {
                findings.push(format!("votes for two certificates at height {height}"));
            }
        }
        for (id, place) in &state.acknowledged {
            if state.recorded.get(id) != Some(place) {
                findings.push(format!("acknowledged {id} at {place:?} is lost"));
            }
        }
        let happened = state.not_taken.iter().filter(|id| state.recorded.contains_key(id));
        findings.extend(happened.map(|id| format!("{id} was told as not taken, and happened")));
        findings.into_iter().for_each(|text| state.finding(&self.trace, text));
    }
}

impl State {
    fn finding(&mut self, trace: &Trace, text: String) {
        trace.note(format!("FINDING {text}"));
        if self.findings.len() < FINDINGS_MAX && !self.findings.contains(&text) {
            self.findings.push(text);
        }
    }

    fn keep_rows(&mut self, rows: &[Row]) {
        self.records.extend(rows.iter().map(|row| (row.hash, row.record.clone())));
    }

    fn learn(&mut self, trace: &Trace, block: &Block) {
        let height = block.header.height;
        for (position, entry) in (0u32..).zip(&block.entries) {
            let place = (height, position, entry.result);
            if self.recorded.insert(entry.record.id, place).is_some() {
                self.finding(trace, format!("{} was recorded twice", entry.record.id));
            }
            self.keep_rows(&entry.rows);
        }
        let Some(proof) = membership_proof(block) else { return };
        if let Some(Err(error)) = self.trust.as_mut().map(|trust| trust.advance(&proof)) {
            self.finding(trace, format!("membership made at {height} does not prove: {error}"));
        }
        self.memberships.push(proof);
    }

    fn has_quorum(&self, height: u64, header: &Hash, votes: &BTreeMap<u16, SignedVote>) -> bool {
        let Some(trust) = &self.trust else { return false };
        let epochs: BTreeSet<u64> = votes.values().map(|vote| vote.epoch).collect();
        epochs.into_iter().any(|epoch| {
            let Some(membership) = trust.membership(epoch) else { return false };
            let of_epoch = votes.values().filter(|vote| vote.epoch == epoch);
            let good = of_epoch
                .filter(|vote| membership.check_vote(height, header, &vote.vote).is_ok())
                .count();
            good >= membership.quorum()
        })
    }
}
