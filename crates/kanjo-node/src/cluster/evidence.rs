//! Members ask each other what stands behind their sentinels, and keep what they found.
//!
//! ```text
//!  this node ── topic evidence: fresh nonce ──▶ member ──▶ its sentinel
//!      └── appraise ◀── evidence (EAT) ◀───────────┘
//! ```
//! When a link comes up, and again every minute. What is refused is a doubt on the status page and
//! nothing more: another node's word on evidence that only it has seen is no proof for the ledger.

use crate::cluster::ClusterState;
use crate::cluster::signing::ToSign;
use bytes::Bytes;
use crossbeam_channel::Sender;
use kanjo_link::bus::Topic;
use kanjo_sentinel::appraisal::{AppraisalError, Appraised, Known, appraise};
use kanjo_sentinel::evidence::NONCE_LEN;
use kanjo_types::membership::MemberStatus;
use kanjo_types::{ChainId, Hash};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// How often a member is asked.
const EVERY: Duration = Duration::from_secs(60);
/// A member that did not answer is asked again after this.
const RETRY: Duration = Duration::from_secs(5);
/// How long an answer may take: a TPM signs slowly, and its sentinel has other work.
const CALL: Duration = Duration::from_secs(10);
/// How often to look whose turn it is.
const LOOK: Duration = Duration::from_millis(250);
/// A member that asks more often than this is told to wait: votes need the sentinel, too.
const LEAST: Duration = Duration::from_secs(2);
/// Bytes of a nonce asked with here.
const NONCE_BYTES: usize = 32;

/// What is known of a member's evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    Appraised(Appraised),
    Refused(String),
    Unanswered(String),
}

/// A finding, when, and what went before.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub finding: Finding,
    pub at: Instant,
    /// The certificate that it is about, and what was appraised of it last.
    last: Option<(Hash, Appraised)>,
}

/// Findings by member.
#[derive(Default)]
pub(crate) struct Findings {
    by_member: Mutex<BTreeMap<u16, Found>>,
    asked: Mutex<BTreeMap<u16, Instant>>,
}

impl Findings {
    pub(crate) fn of(&self, member: u16) -> Option<Found> {
        self.by_member.lock().get(&member).cloned()
    }

    /// Members whose evidence is refused, when, and why.
    pub(crate) fn refused(&self) -> Vec<(u16, Instant, String)> {
        let refused = |(member, found): (&u16, &Found)| match &found.finding {
            Finding::Refused(why) => Some((*member, found.at, format!("its evidence: {why}"))),
            _ => None,
        };
        self.by_member.lock().iter().filter_map(refused).collect()
    }

    fn last(&self, member: u16, certificate: Hash) -> Option<Appraised> {
        let last = self.by_member.lock().get(&member)?.last.clone();
        last.filter(|(of, _)| *of == certificate).map(|(_, appraised)| appraised)
    }

    fn note(&self, member: u16, certificate: Hash, finding: Finding) {
        let mut by_member = self.by_member.lock();
        let before = by_member.get(&member).map(|found| &found.finding);
        if let (Finding::Unanswered(_), Some(Finding::Refused(_))) = (&finding, before) {
            // Silence takes nothing back.
            return;
        }
        let last = match &finding {
            Finding::Appraised(appraised) => Some((certificate, appraised.clone())),
            _ => by_member.get(&member).and_then(|found| found.last.clone()),
        };
        by_member.insert(member, Found { finding, at: Instant::now(), last });
    }

    /// May this member ask now?
    fn may_ask(&self, member: u16) -> bool {
        let mut asked = self.asked.lock();
        let is_soon = asked.get(&member).is_some_and(|at| at.elapsed() < LEAST);
        if !is_soon {
            asked.insert(member, Instant::now());
        }
        !is_soon
    }
}

/// Answers a member that asks for the evidence of this node's sentinel.
///
/// # Errors
/// Why it gets none.
pub(crate) async fn answer(
    cluster: Arc<ClusterState>,
    signer: Sender<ToSign>,
    from: u16,
    nonce: Bytes,
) -> Result<Bytes, String> {
    if !NONCE_LEN.contains(&nonce.len()) {
        return Err("a nonce has 8 to 64 bytes".to_owned());
    }
    if !cluster.evidence.may_ask(from) {
        return Err("asked too soon; come again".to_owned());
    }
    let stopping = || "this node is stopping".to_owned();
    let (reply, evidence) = oneshot::channel();
    signer.send(ToSign::Evidence { nonce: nonce.to_vec(), reply }).map_err(|_| stopping())?;
    evidence.await.map_err(|_| stopping())?.map(Bytes::from)
}

/// Asks, judges, and keeps what it found.
pub(crate) struct Appraiser {
    pub chain: ChainId,
    pub cluster: Arc<ClusterState>,
    pub reachable: Arc<dyn Fn() -> BTreeSet<u16> + Send + Sync>,
}

/// Who has been asked, and whose turn is when.
#[derive(Default)]
struct Turns {
    under_way: BTreeSet<u16>,
    next: BTreeMap<u16, Instant>,
}

impl Turns {
    /// Who is to be asked now: who can be reached and was not, and whose time has come.
    fn due(&mut self, reachable: &BTreeSet<u16>, now: Instant) -> Vec<u16> {
        self.next.retain(|member, _| reachable.contains(member));
        let is_due = |member: &&u16| {
            !self.under_way.contains(*member)
                && self.next.get(*member).is_none_or(|next| *next <= now)
        };
        let due: Vec<u16> = reachable.iter().filter(is_due).copied().collect();
        self.under_way.extend(&due);
        due
    }

    fn done(&mut self, member: u16, next: Instant) {
        self.under_way.remove(&member);
        self.next.insert(member, next);
    }
}

impl Appraiser {
    /// Works until the runtime ends.
    pub(crate) async fn run(self) {
        let this = Arc::new(self);
        let mut turns = Turns::default();
        let mut asked = JoinSet::new();
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    for member in turns.due(&this.askable(), Instant::now()) {
                        asked.spawn(this.clone().ask(member));
                    }
                }
                Some(done) = asked.join_next() => match done {
                    Ok((member, wait)) => turns.done(member, Instant::now() + wait),
                    Err(error) => {
                        tracing::error!(%error, "an appraisal ended badly");
                        turns.under_way.clear();
                    }
                },
            }
        }
    }

    fn askable(&self) -> BTreeSet<u16> {
        let membership = self.cluster.membership();
        let mut reachable = (self.reachable)();
        reachable.retain(|number| {
            let member = membership.member(*number);
            *number != self.cluster.me
                && member.is_some_and(|member| member.status != MemberStatus::Removed)
        });
        reachable
    }

    /// Asks a member and judges what it answers; gives the time until it is asked again.
    async fn ask(self: Arc<Self>, member: u16) -> (u16, Duration) {
        let mut nonce = [0u8; NONCE_BYTES];
        if let Err(error) = getrandom::fill(&mut nonce) {
            tracing::error!(%error, "no randomness for a nonce");
            return (member, RETRY);
        }
        let bus = &self.cluster.bus;
        let answer = bus.call(member, Topic::Evidence, Bytes::copy_from_slice(&nonce), CALL).await;
        let is_good = self.judge(member, &nonce, answer.map_err(|error| error.to_string()));
        // Not all at once: a TPM may stand behind it.
        let apart = Duration::from_millis(u64::from(self.cluster.me % 32) * 250);
        (member, if is_good { EVERY + apart } else { RETRY })
    }

    /// True when the evidence holds.
    fn judge(&self, member: u16, nonce: &[u8], answer: Result<Bytes, String>) -> bool {
        let membership = self.cluster.membership();
        let Some(certificate) = membership.member(member).map(|member| &member.certificate) else {
            return false;
        };
        let (findings, hash) = (&self.cluster.evidence, certificate.hash(self.chain));
        let evidence = match answer {
            Ok(evidence) => evidence,
            Err(why) => {
                findings.note(member, hash, Finding::Unanswered(why));
                return false;
            }
        };
        let before = findings.last(member, hash);
        let known = Known { chain: self.chain, certificate, nonce, before: before.as_ref() };
        match appraise(&evidence, known, |program| membership.allows(program)) {
            Ok(appraised) => {
                findings.note(member, hash, Finding::Appraised(appraised));
                true
            }
            Err(error) => {
                let name = &certificate.name;
                tracing::warn!(member, name, %error, "evidence of a member is refused");
                if let AppraisalError::CountSetBack { .. } | AppraisalError::VotesSetBack { .. } =
                    error
                {
                    // It will count on from there; that it was set back must not be forgotten.
                    self.cluster.note_doubt(member, error.to_string());
                }
                findings.note(member, hash, Finding::Refused(error.to_string()));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_asked_when_it_comes_and_when_its_time_has_come() {
        let (mut turns, start) = (Turns::default(), Instant::now());
        let both = BTreeSet::from([1, 2]);
        assert_eq!(turns.due(&both, start), [1, 2]);
        assert!(turns.due(&both, start).is_empty(), "both are being asked");
        turns.done(1, start + EVERY);
        turns.done(2, start + RETRY);
        assert!(turns.due(&both, start).is_empty());
        assert_eq!(turns.due(&both, start + RETRY), [2]);
        turns.done(2, start + RETRY + EVERY);
        assert!(turns.due(&BTreeSet::from([2]), start + RETRY).is_empty());
        assert_eq!(turns.due(&both, start + RETRY), [1], "its link was down meanwhile");
    }

    #[test]
    fn whoever_asks_too_often_waits_and_others_do_not() {
        let findings = Findings::default();
        assert!(findings.may_ask(1));
        assert!(!findings.may_ask(1));
        assert!(findings.may_ask(2));
    }

    #[test]
    fn a_refusal_is_a_doubt_until_evidence_holds_again() {
        let (findings, certificate) = (Findings::default(), Hash([1; 32]));
        let appraised = Appraised {
            attestor: kanjo_sentinel::attestor::AttestorKind::Software,
            is_pinned: true,
            measurement: Hash([2; 32]),
            count: 3,
            highest_vote: None,
        };
        findings.note(4, certificate, Finding::Appraised(appraised.clone()));
        findings.note(4, certificate, Finding::Refused("wrong".to_owned()));
        assert_eq!(findings.last(4, certificate), Some(appraised.clone()), "is remembered");
        assert_eq!(findings.last(4, Hash([9; 32])), None, "a new certificate begins anew");
        assert_eq!(findings.refused().len(), 1);
        findings.note(4, certificate, Finding::Unanswered("away".to_owned()));
        assert_eq!(findings.refused().len(), 1, "silence takes nothing back");
        findings.note(4, certificate, Finding::Appraised(appraised));
        assert!(findings.refused().is_empty());
    }
}
