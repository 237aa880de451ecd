//! Validity notices (mission M19, step 6): a member that holds a certificate says so, and whose
//! votes it was; members that miss votes fetch the certificate at once.
//!
//! ```text
//!   certified here ──▶ topic final: height, header, epoch, voters ──▶ others
//!                                                                       │ voted for the next
//!   certificates ◀── topic fetch ◀──────────────────────────────────────┘ height, and it stays
//! ```                                                                     uncertified
//! Only the newest height is told, and not often: a notice stands for all heights below. Nothing is
//! taken from a notice but that it is worth asking.

use crate::cluster::ClusterState;
use crate::cluster::fetch;
use crate::cluster::finality::Event;
use crate::shared::Shared;
use borsh::{BorshDeserialize, BorshSerialize};
use bytes::Bytes;
use crossbeam_channel::Sender;
use kanjo_link::bus::Topic;
use kanjo_member::conduct::has_vote;
use kanjo_proof::trust::SignedHeader;
use kanjo_types::membership::MEMBERS_MAX;
use kanjo_types::{Hash, codec};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Notify;

/// Least time between two notices of whoever coordinates.
const PACE: Duration = Duration::from_millis(25);
/// Least time between two notices of the others, who are heard when the coordinator is not.
const PACE_OF_OTHERS: Duration = Duration::from_millis(250);
/// Votes that are under way come within this time.
const GRACE: Duration = Duration::from_millis(25);
/// How long an answer may take.
const CALL: Duration = Duration::from_secs(1);
/// Pause after one that did not help.
const AGAIN: Duration = Duration::from_millis(250);
/// Certificates asked for at a time.
const COUNT: u32 = 64;
/// Longest notice: all members voted.
const BYTES_MAX: usize = 64 + 2 * MEMBERS_MAX;

/// A height that is final, and by whose votes.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Validity {
    pub height: u64,
    pub header: Hash,
    pub epoch: u64,
    /// By ascending number.
    pub voters: Vec<u16>,
}

impl Validity {
    fn of(signed: &SignedHeader) -> Self {
        Self {
            height: signed.header.height,
            header: signed.header.hash(),
            epoch: signed.certificate.epoch,
            voters: signed.certificate.votes.iter().map(|vote| vote.voter).collect(),
        }
    }

    fn read(body: &[u8]) -> Result<Self, String> {
        if body.len() > BYTES_MAX {
            return Err("a notice of a final height that is too long".to_owned());
        }
        let validity: Self = codec::from_bytes(body).map_err(|error| error.to_string())?;
        if !validity.voters.is_sorted_by(|a, b| a < b) {
            return Err("a notice of a final height with voters out of order".to_owned());
        }
        Ok(validity)
    }
}

/// The newest height that each member said is final.
#[derive(Default)]
pub(crate) struct Heard {
    by_member: Mutex<BTreeMap<u16, u64>>,
    news: Notify,
}

impl Heard {
    /// Takes a notice of a member.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn take(&self, from: u16, body: &[u8]) -> Result<Validity, String> {
        let validity = Validity::read(body)?;
        // A member that begins anew may be lower than it was.
        self.by_member.lock().insert(from, validity.height);
        self.news.notify_one();
        Ok(validity)
    }

    pub(crate) fn of(&self, member: u16) -> Option<u64> {
        self.by_member.lock().get(&member).copied()
    }

    /// The highest, and who said so.
    pub(crate) fn highest(&self) -> Option<(u64, u16)> {
        self.by_member.lock().iter().map(|(member, height)| (*height, *member)).max()
    }
}

/// Tells the others what is final here; works until the runtime ends.
pub(crate) async fn tell(shared: Arc<Shared>, cluster: Arc<ClusterState>) {
    let mut tips = shared.tip.subscribe();
    while tips.changed().await.is_ok() {
        let height = tips.borrow_and_update().height;
        // As a rule not on disk yet, so that this is a look at memory.
        if let Ok(signed) = shared.log.signed(height) {
            let body = Bytes::from(codec::to_bytes(&Validity::of(&signed)));
            cluster.bus.publish(Topic::Final, body);
        }
        let leads = cluster.leading_term.load(Ordering::Acquire) != 0;
        tokio::time::sleep(if leads { PACE } else { PACE_OF_OTHERS }).await;
    }
}

/// Fetches certificates whose votes did not come.
pub(crate) struct Listener {
    pub cluster: Arc<ClusterState>,
    /// The lowest height without a certificate.
    pub next_height: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// The newest height that the engine has committed.
    pub committed: Arc<dyn Fn() -> Option<u64> + Send + Sync>,
    pub finality: Sender<Event>,
}

impl Listener {
    /// Works until the runtime ends.
    pub(crate) async fn run(self) {
        loop {
            self.cluster.heard.news.notified().await;
            while let Some((next, from)) = self.missing() {
                tokio::time::sleep(GRACE).await;
                if self.missing() != Some((next, from)) {
                    // Votes come.
                    continue;
                }
                if !self.fetch(next, from).await {
                    tokio::time::sleep(AGAIN).await;
                    break;
                }
            }
        }
    }

    /// The next height, and who holds its certificate, when only votes can be missing here: this
    /// node has its own, or has none to give.
    fn missing(&self) -> Option<(u64, u16)> {
        let next = (self.next_height)();
        let (heard, from) = self.cluster.heard.highest()?;
        let is_committed = (self.committed)().is_some_and(|committed| committed >= next);
        let membership = self.cluster.membership();
        let me = membership.member(self.cluster.me)?;
        let may_vote =
            me.executes() && has_vote(&membership, self.cluster.me, &self.cluster.program());
        let gave_its_own = !may_vote || self.cluster.has_voted(next);
        (heard >= next && is_committed && gave_its_own).then_some((next, from))
    }

    /// True when certificates came.
    async fn fetch(&self, from_height: u64, member: u16) -> bool {
        let Some(signed) = fetch::ask(&self.cluster, member, from_height, COUNT, CALL).await else {
            return false;
        };
        tracing::debug!(from_height, member, "fetched certificates whose votes are missing");
        self.finality.send(Event::Fetched(signed)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kanjo_consensus::vote::SignedVote;
    use kanjo_link::bus::{BoxFuture, Bus, BusError};
    use kanjo_types::block::{Header, Vote};
    use kanjo_types::membership::{Member, MemberKind, MemberStatus, Membership, NodeCertificate};
    use kanjo_types::standing::Links;
    use kanjo_types::{Certificate, ChainId};

    fn signed(height: u64) -> SignedHeader {
        let header = Header {
            version: 1,
            chain: ChainId(Hash::ZERO),
            height,
            parents: Vec::new(),
            time_ms: 0,
            producer: 0,
            transactions: 0,
            transactions_root: Hash::ZERO,
            receipts_root: Hash::ZERO,
            state_root: Hash::ZERO,
            history_root: Hash::ZERO,
            fees: Vec::new(),
            supply: Vec::new(),
        };
        let vote = |voter| Vote { voter, answer: Hash::ZERO, signature: [0; 64] };
        SignedHeader {
            header,
            certificate: Certificate { epoch: 3, votes: [0, 2].map(vote).into() },
        }
    }

    fn notice(height: u64) -> Vec<u8> {
        codec::to_bytes(&Validity::of(&signed(height)))
    }

    #[test]
    fn a_notice_reads_back_and_a_wrong_one_is_refused() {
        let read = Validity::read(&notice(7)).expect("reads");
        assert_eq!((read.height, read.epoch, read.voters.as_slice()), (7, 3, [0, 2].as_slice()));
        assert_eq!(read.header, signed(7).header.hash());
        assert!(Validity::read(&[notice(7), vec![0]].concat()).is_err());
        assert!(Validity::read(&[]).is_err());
        for voters in [vec![2, 0], vec![1, 1]] {
            let wrong = Validity { voters, ..Validity::of(&signed(7)) };
            assert!(Validity::read(&codec::to_bytes(&wrong)).is_err());
        }
        let all = (0..2_000).collect();
        let long = Validity { voters: all, ..Validity::of(&signed(7)) };
        assert!(Validity::read(&codec::to_bytes(&long)).is_err());
    }

    proptest::proptest! {
        /// Bytes come from another member, who may be anything: they are a notice or an error, and
        /// one notice has one form.
        #[test]
        fn any_bytes_are_a_notice_or_an_error(
            tail in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80),
            whole in proptest::prelude::any::<bool>(),
        ) {
            let body = if whole { [&notice(7)[..48], &tail].concat() } else { tail };
            if let Ok(read) = Validity::read(&body) {
                proptest::prop_assert_eq!(codec::to_bytes(&read), body);
            }
        }
    }

    #[test]
    fn the_highest_of_what_was_heard_counts() {
        let heard = Heard::default();
        assert_eq!(heard.highest(), None);
        heard.take(1, &notice(7)).expect("taken");
        heard.take(2, &notice(9)).expect("taken");
        assert_eq!((heard.highest(), heard.of(1)), (Some((9, 2)), Some(7)));
    }

    /// Answers every question with the certificate of height 5, and keeps who was asked.
    #[derive(Default)]
    struct Others(Mutex<Vec<u16>>);

    impl Bus for Others {
        fn call(
            &self,
            to: u16,
            topic: Topic,
            _: Bytes,
            _: Duration,
        ) -> BoxFuture<'static, Result<Bytes, BusError>> {
            assert_eq!(topic, Topic::Fetch);
            self.0.lock().push(to);
            let answer = vec![signed(5)];
            Box::pin(async move { Ok(Bytes::from(codec::to_bytes(&answer))) })
        }

        fn send(&self, _: u16, _: Topic, _: Bytes) {}

        fn publish(&self, _: Topic, _: Bytes) {}
    }

    fn three() -> Arc<Membership> {
        let member = |name: &str| Member {
            certificate: NodeCertificate {
                name: name.to_owned(),
                kind: MemberKind::Executor,
                vote_key: [1; 32],
                link_key: [2; 32],
                address: "a:1".to_owned(),
                api: "http://a:2".to_owned(),
                attestor: None,
            },
            status: MemberStatus::Voting,
            since_epoch: 0,
            reason: String::new(),
        };
        Arc::new(Membership {
            epoch: 0,
            links: Links::default(),
            height: 0,
            members: ["a", "b", "c"].map(member).into(),
            measurements: Vec::new(),
        })
    }

    #[tokio::test]
    async fn a_certificate_whose_votes_do_not_come_is_fetched_from_whoever_has_it() {
        let others = Arc::new(Others::default());
        let (notices, _kept) = tokio::sync::mpsc::unbounded_channel();
        let cluster =
            Arc::new(ClusterState::new(0, three(), Arc::default(), others.clone(), notices));
        let (finality, events) = crossbeam_channel::unbounded();
        let next = Arc::new(std::sync::atomic::AtomicU64::new(5));
        let listener = Listener {
            cluster: cluster.clone(),
            next_height: {
                let next = next.clone();
                Arc::new(move || next.load(Ordering::Acquire))
            },
            committed: Arc::new(|| Some(5)),
            finality,
        };
        cluster.heard.take(2, &notice(5)).expect("taken");
        assert_eq!(listener.missing(), None, "its own vote is not given yet");
        let vote = Vote { voter: 0, answer: Hash::ZERO, signature: [0; 64] };
        cluster.publish_votes(&[SignedVote { epoch: 0, height: 5, header: Hash::ZERO, vote }]);
        assert_eq!(listener.missing(), Some((5, 2)));
        let running = tokio::spawn(listener.run());
        let fetched = tokio::task::spawn_blocking(move || {
            let event = events.recv_timeout(Duration::from_secs(20)).expect("an event");
            // As finality does with it.
            next.store(6, Ordering::Release);
            event
        });
        let Event::Fetched(certificates) = fetched.await.expect("ends") else {
            panic!("another event")
        };
        assert_eq!(certificates, [signed(5)]);
        assert!(others.0.lock().iter().all(|asked| *asked == 2), "of whoever told");
        running.abort();
    }
}
