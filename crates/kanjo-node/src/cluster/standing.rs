//! This node's own standing: it comes back when it has caught up, leaves before a planned stop,
//! does not vote with a program that is not allowed, and ends when governors removed it.
//!
//! ```text
//!  standby, left, ejected   caught up, program allowed: sign Return, send it to the leader
//!  voting                   program not allowed, others go on without it: sign Leave
//!  removed                  say so, end
//! ```

use crate::cluster::finality::Event;
use crate::cluster::manager::{CALL, Manager, PAUSE_MAX, TICK};
use kanjo_consensus::engine::EngineState;
use kanjo_member::conduct::{self, Leaving};
use kanjo_types::membership::{MemberStatus, Membership, Notice};
use std::time::Instant;

impl Manager {
    pub(super) async fn watch_own(&mut self, engine: &EngineState) {
        let membership = self.cluster.membership();
        let Some(me) = membership.member(self.cluster.me) else { return };
        if me.status == MemberStatus::Removed {
            return self.end_removed(&membership, &me.reason);
        }
        if !membership.allows(&self.cluster.program()) {
            return self.without_vote(engine, &membership).await;
        }
        if std::mem::take(&mut self.state.told_program) {
            tracing::warn!("the cluster allows this node's program now");
        }
        let next = self.shared.log.next_height();
        if !self.state.leaving && conduct::may_come_back(me.status, engine.committed, next) {
            self.come_back(&membership).await;
        }
    }

    /// Ends the node once the block that removed it is final here, or known to be from elsewhere.
    fn end_removed(&self, membership: &Membership, reason: &str) {
        let is_final = self.shared.log.next_height() > membership.height;
        if is_final || self.cluster.was_told(membership.epoch) {
            let Membership { epoch, height, .. } = membership;
            self.shared.fail(format!(
                "governors removed this node from the cluster (epoch {epoch}, block {height}): {reason}"
            ));
        }
    }

    /// Votes of a program that is not allowed count nowhere, so none are asked for and none given.
    /// A voter leaves the quorum as soon as others have shown that they make blocks final without
    /// it: before that, nobody would be helped.
    async fn without_vote(&mut self, engine: &EngineState, membership: &Membership) {
        if !self.state.told_program {
            self.state.told_program = true;
            let program = self.cluster.program();
            tracing::error!(
                "this node has no vote: the cluster does not allow its program {program}. Have a \
                 governor allow it (kanjo cluster allow {program}), or start the node with a program \
                 that is allowed"
            );
        }
        let is_voter = membership.member(self.cluster.me).is_some_and(|me| me.votes());
        let others_go_on = self.shared.log.next_height() > membership.height.saturating_add(1);
        if !is_voter || !others_go_on || Instant::now() < self.state.next_ask {
            return;
        }
        self.state.next_ask = Instant::now() + CALL;
        if let Err(error) = self.step_back(engine, membership).await {
            tracing::warn!(%error, "the sentinel signs no leave");
        }
    }

    async fn come_back(&mut self, membership: &Membership) {
        if self.cluster.heard_leader().is_none() || Instant::now() < self.state.next_ask {
            return;
        }
        self.state.next_ask = Instant::now() + CALL;
        let notice = Notice::Return { member: self.cluster.me };
        match self.sign(membership.epoch, &notice).await {
            Ok(statement) => self.bring(notice, vec![statement]).await,
            Err(error) => tracing::warn!(%error, "the sentinel signs no return"),
        }
    }

    /// One step out of the quorum: a leader hands over, others sign that they leave. True when
    /// there is none left to go.
    async fn step_back(
        &mut self,
        engine: &EngineState,
        membership: &Membership,
    ) -> Result<bool, String> {
        let me = self.cluster.me;
        match conduct::leaving(membership, me, engine) {
            Leaving::Done => return Ok(true),
            Leaving::Wait => {}
            Leaving::HandOver => {
                if self.pause().await {
                    self.hand_over(&conduct::other_voters(membership, me)).await;
                    if !self.state.leaving {
                        // Where the hand-over failed this node goes on.
                        let _ = self.finality.send(Event::Resume);
                    }
                }
            }
            Leaving::Sign => {
                let notice = Notice::Leave { member: me };
                let statement = self.sign(membership.epoch, &notice).await?;
                self.bring(notice, vec![statement]).await;
            }
        }
        Ok(false)
    }

    /// Leaves the quorum before a planned stop: hands leadership over, signs the notice, and waits
    /// until the others go on without it.
    pub(super) async fn leave(&mut self) -> Result<(), String> {
        self.state.leaving = true;
        let give_up_at = Instant::now() + PAUSE_MAX;
        while Instant::now() < give_up_at {
            let membership = self.cluster.membership();
            if self.step_back(&self.engine.now(), &membership).await? {
                return Ok(());
            }
            for _ in 0..5 {
                tokio::time::sleep(TICK).await;
                self.watch_engine(&self.engine.now());
            }
        }
        Err("the cluster did not take the notice of leaving in time; stopping all the same"
            .to_owned())
    }
}
