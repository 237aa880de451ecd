//! What the status page says of the cluster: the ledger's membership, the engine's state, links,
//! measures and roles, as this node sees them now.

use crate::cluster::evidence::Finding;
use crate::cluster::state::age_ms;
use crate::cluster::{ClusterState, SentinelState};
use crate::shared::Shared;
use kanjo_api::cluster::{
    ClusterStatus, DoubtView, EngineRole, EvidenceView, Heights, NodeRole, NodeView, RoleView,
    SentinelView,
};
use kanjo_consensus::engine::{EngineState, Role};
use kanjo_link::mesh::PeerStatus;
use kanjo_types::membership::{Member, MemberStatus, Membership};

/// The cluster as this node sees it; a ledger of one node is a cluster of one.
pub(crate) fn status(shared: &Shared) -> ClusterStatus {
    match &shared.cluster {
        Some(cluster) => of_member(shared, cluster),
        None => alone(shared),
    }
}

fn view(number: u16, member: &Member) -> NodeView {
    let certificate = &member.certificate;
    NodeView {
        number,
        name: certificate.name.clone(),
        kind: certificate.kind,
        status: member.status,
        since_epoch: member.since_epoch,
        reason: member.reason.clone(),
        api: certificate.api.clone(),
        address: certificate.address.clone(),
        connected: None,
        why: None,
        round_trip_us: None,
        height: None,
        lag: None,
        checks_per_s: None,
        disk_free: None,
        in_time: None,
        evidence: None,
        program: None,
        allowed: None,
    }
}

fn evidence(cluster: &ClusterState, number: u16) -> Option<EvidenceView> {
    let found = cluster.evidence.of(number)?;
    let (state, why, appraised) = match found.finding {
        Finding::Appraised(appraised) => ("appraised", None, Some(appraised)),
        Finding::Refused(why) => ("refused", Some(why), None),
        Finding::Unanswered(why) => ("unanswered", Some(why), None),
    };
    Some(EvidenceView {
        state: state.to_owned(),
        age_ms: age_ms(found.at),
        why,
        attestor: appraised.as_ref().map(|one| one.attestor.name().to_owned()),
        pinned: appraised.as_ref().map(|one| one.is_pinned),
        count: appraised.as_ref().map(|one| one.count),
        highest_vote: appraised.and_then(|one| one.highest_vote),
    })
}

fn alone(shared: &Shared) -> ClusterStatus {
    let membership = shared.ledger.read().membership().clone();
    let height = shared.tip().height;
    let name = name_of(&membership, 0);
    let views = membership
        .numbered()
        .map(|(number, member)| NodeView { height: Some(height), ..view(number, member) });
    let roles = NodeRole::ALL.map(|role| RoleView {
        role,
        node: 0,
        name: name.clone(),
        why: "the only node".to_owned(),
    });
    ClusterStatus {
        ledger: shared.genesis.name.clone(),
        chain: shared.chain,
        me: 0,
        name,
        role: EngineRole::Alone,
        stopped: None,
        term: 0,
        leader: Some(0),
        epoch: membership.epoch,
        epoch_height: membership.height,
        quorum: membership.quorum(),
        heights: Heights {
            certified: height,
            committed: Some(height),
            log: Some(height),
            heard: None,
        },
        engine_voters: vec![vec![0]],
        learners: Vec::new(),
        nodes: views.collect(),
        sentinel: SentinelView {
            state: "none".to_owned(),
            why: None,
            attestor: None,
            program: None,
            allowed: None,
        },
        measurements: membership.measurements.clone(),
        doubts: Vec::new(),
        roles: roles.into(),
    }
}

fn of_member(shared: &Shared, cluster: &ClusterState) -> ClusterStatus {
    let membership = cluster.membership();
    let engine = cluster.engine().map(kanjo_consensus::engine::Engine::now);
    let certified = shared.tip().height;
    let doubts = cluster.doubts().into_iter().map(|(member, age_ms, why)| DoubtView {
        member,
        name: name_of(&membership, member),
        age_ms,
        why,
    });
    let roles = cluster.measured.roles(cluster).into_iter().map(|one| RoleView {
        role: one.role,
        node: one.node,
        name: name_of(&membership, one.node),
        why: one.why,
    });
    let voters = engine.iter().flat_map(|engine| &engine.voters);
    let waits = cluster.signing_waits();
    let stopped = engine.as_ref().and_then(|engine| engine.stopped.clone());
    let stopped = stopped.or_else(|| waits.then(|| "the engine waits for the sentinel".to_owned()));
    ClusterStatus {
        ledger: shared.genesis.name.clone(),
        chain: shared.chain,
        me: cluster.me,
        name: name_of(&membership, cluster.me),
        role: engine
            .as_ref()
            .filter(|_| !waits)
            .map_or(EngineRole::Stopped, |engine| role(engine.role)),
        stopped,
        term: engine.as_ref().map_or(0, |engine| engine.term),
        leader: cluster.heard_leader(),
        epoch: membership.epoch,
        epoch_height: membership.height,
        quorum: membership.quorum(),
        heights: Heights {
            certified,
            committed: engine.as_ref().and_then(|engine| engine.committed),
            log: engine.as_ref().and_then(|engine| engine.last_log),
            heard: cluster.heard.highest().map(|(height, _)| height),
        },
        engine_voters: voters.map(|set| set.iter().copied().collect()).collect(),
        learners: engine.iter().flat_map(|engine| engine.learners.iter().copied()).collect(),
        nodes: nodes(cluster, &membership, engine.as_ref(), certified),
        sentinel: sentinel(cluster, &membership),
        measurements: membership.measurements.clone(),
        doubts: doubts.collect(),
        roles: roles.collect(),
    }
}

fn role(role: Role) -> EngineRole {
    match role {
        Role::Learner => EngineRole::Learner,
        Role::Follower => EngineRole::Follower,
        Role::Candidate => EngineRole::Candidate,
        Role::Leader => EngineRole::Leader,
        Role::Stopped => EngineRole::Stopped,
    }
}

pub(crate) fn name_of(membership: &Membership, number: u16) -> String {
    let member = membership.member(number);
    member.map_or_else(|| number.to_string(), |member| member.certificate.name.clone())
}

fn nodes(
    cluster: &ClusterState,
    membership: &Membership,
    engine: Option<&EngineState>,
    certified: u64,
) -> Vec<NodeView> {
    let links: Vec<PeerStatus> = cluster.links().map(|links| links.peers()).unwrap_or_default();
    let measured = cluster.measured.fresh();
    let own = measured.get(&cluster.me);
    let log = engine.and_then(|engine| engine.last_log);
    let views = membership.numbered().map(|(number, member)| {
        let mut view = view(number, member);
        let is_me = number == cluster.me;
        let link = links.iter().find(|link| link.peer.number == number);
        if !is_me && member.status != MemberStatus::Removed {
            view.connected = Some(link.is_some_and(|link| link.connected.iter().all(|up| *up)));
            view.why = link.and_then(|link| link.why.clone());
            view.round_trip_us = link.and_then(|link| link.round_trip_us);
        }
        if let Some(measures) = measured.get(&number) {
            view.height = Some(measures.height);
            view.lag = Some(certified.saturating_sub(measures.height));
            view.checks_per_s = Some(measures.checks_per_s);
            view.disk_free = Some(measures.disk_free);
            view.program = Some(measures.program);
        }
        // Told with each group of heights, and so newer than what was measured.
        if let Some(told) = cluster.heard.of(number) {
            view.height = view.height.max(Some(told));
            view.lag = view.height.map(|height| certified.saturating_sub(height));
        }
        if is_me {
            (view.height, view.lag) = (Some(certified), Some(0));
            view.program = Some(cluster.program());
        } else if let Some(progress) = engine.and_then(|engine| engine.progress.get(&number)) {
            // The leader's books are newer than what was told.
            let at = progress.map_or(0, |height| height + 1);
            view.lag = log.map(|log| (log + 1).saturating_sub(at));
        }
        let share = own.and_then(|own| own.in_time.iter().find(|(of, _)| *of == number));
        view.in_time = share.map(|(_, share)| *share);
        view.evidence = evidence(cluster, number);
        view.allowed = view.program.map(|program| membership.allows(&program));
        view
    });
    views.collect()
}

fn sentinel(cluster: &ClusterState, membership: &Membership) -> SentinelView {
    let own = cluster.own();
    let (state, why) = match cluster.sentinel() {
        SentinelState::Unknown => ("unknown", None),
        SentinelState::Answers => ("answers", None),
        SentinelState::Silent(why) => ("silent", Some(why)),
        SentinelState::Refuses(why) => ("refuses", Some(why)),
    };
    SentinelView {
        state: state.to_owned(),
        why,
        attestor: own.attestor.map(str::to_owned),
        allowed: Some(membership.allows(&own.program)),
        program: Some(own.program),
    }
}
