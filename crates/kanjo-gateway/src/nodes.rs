//! Which nodes there are, who leads, and who answers questions.

use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Who leads and who can be asked.
pub trait Directory: Send + Sync + 'static {
    /// Base URL of the API of the node that leads, as far as is known.
    fn leader(&self) -> Option<Arc<str>>;

    /// Nodes that hold the tables, in the order in which to ask them.
    fn readers(&self) -> Vec<Arc<str>>;

    /// The node did not do what a leader does, or did not answer.
    fn suspect(&self, node: &str);
}

/// What one node says of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// It answers.
    pub is_up: bool,
    /// It takes part, and is not stopping.
    pub is_ready: bool,
    /// It holds the tables.
    pub executes: bool,
    /// Its number.
    pub number: Option<u16>,
    /// The term that it is in.
    pub term: u64,
    /// The leader, as it knows.
    pub leader: Option<Leader>,
}

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// Its number.
    pub number: u16,
    /// Base URL of its API, as the membership has it.
    pub api: Arc<str>,
}

struct Known {
    nodes: Vec<(Arc<str>, Seen)>,
    leader: Option<Arc<str>>,
    /// The last one that was known.
    led: Option<Arc<str>>,
}

/// The nodes that a gateway was given, as they were seen last.
pub struct Nodes {
    known: RwLock<Known>,
    turn: AtomicUsize,
    /// How often the leader became another one.
    pub(crate) leader_changes: AtomicU64,
}

impl Nodes {
    /// Nodes of which nothing is known yet but their base URLs.
    #[must_use]
    pub fn new(urls: &[String]) -> Self {
        let fresh = Seen { is_up: true, is_ready: true, executes: true, ..Seen::default() };
        let nodes = urls.iter().map(|url| (Arc::from(url.as_str()), fresh.clone())).collect();
        Self {
            known: RwLock::new(Known { nodes, leader: None, led: None }),
            turn: AtomicUsize::new(0),
            leader_changes: AtomicU64::new(0),
        }
    }

    pub(crate) fn urls(&self) -> Vec<Arc<str>> {
        self.known.read().nodes.iter().map(|(url, _)| url.clone()).collect()
    }

    /// Nodes that answer questions.
    pub(crate) fn healthy(&self) -> usize {
        self.known.read().nodes.iter().filter(|(_, seen)| is_reader(seen)).count()
    }

    /// Takes in what a round of questions found; the highest term says who leads.
    pub fn update(&self, round: Vec<(Arc<str>, Seen)>) {
        let mut known = self.known.write();
        for (url, seen) in round {
            if let Some(entry) = known.nodes.iter_mut().find(|(known, _)| *known == url) {
                entry.1 = seen;
            }
        }
        let named = known.nodes.iter().filter(|(_, seen)| seen.is_up && seen.leader.is_some());
        let newest = named.max_by_key(|(_, seen)| seen.term);
        // The address that was given here goes before that of the membership: it may be another
        // one.
        let leader = newest.and_then(|(_, seen)| seen.leader.as_ref()).map(|leader| {
            let is_it = |seen: &Seen| seen.is_up && seen.number == Some(leader.number);
            let given = known.nodes.iter().find(|(_, seen)| is_it(seen));
            given.map_or_else(|| leader.api.clone(), |(url, _)| url.clone())
        });
        // A leader that was given up and is named again is no other one.
        if leader.is_some() && leader != known.led {
            tracing::info!(leader = leader.as_deref(), "leader");
            self.leader_changes.fetch_add(1, Ordering::Relaxed);
            known.led.clone_from(&leader);
        }
        known.leader = leader;
    }
}

fn is_reader(seen: &Seen) -> bool {
    seen.is_up && seen.is_ready && seen.executes
}

impl Directory for Nodes {
    fn leader(&self) -> Option<Arc<str>> {
        self.known.read().leader.clone()
    }

    /// In turn; those that are not well come last, for what is known may be old.
    fn readers(&self) -> Vec<Arc<str>> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let known = self.known.read();
        let executing = || known.nodes.iter().filter(|(_, seen)| seen.executes);
        let mut well: Vec<Arc<str>> =
            executing().filter(|(_, seen)| is_reader(seen)).map(|(url, _)| url.clone()).collect();
        if !well.is_empty() {
            let start = turn % well.len();
            well.rotate_left(start);
        }
        let rest = executing().filter(|(_, seen)| !is_reader(seen)).map(|(url, _)| url.clone());
        well.extend(rest);
        well
    }

    fn suspect(&self, node: &str) {
        let mut known = self.known.write();
        if known.leader.as_deref() == Some(node) {
            known.leader = None;
        }
        // Until the next round: a leader that others name is asked again then.
        for (url, seen) in &mut known.nodes {
            if &**url == node {
                seen.is_ready = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(term: u64, leader: &str) -> Seen {
        let leader = Leader { number: 7, api: Arc::from(leader) };
        let number = None;
        Seen { is_up: true, is_ready: true, executes: true, number, term, leader: Some(leader) }
    }

    #[test]
    fn the_newest_term_says_who_leads_and_a_suspect_leads_no_more() {
        let nodes = Nodes::new(&["a".to_owned(), "b".to_owned()]);
        assert_eq!(nodes.leader(), None);
        nodes.update(vec![("a".into(), seen(3, "a")), ("b".into(), seen(4, "b"))]);
        assert_eq!(nodes.leader().as_deref(), Some("b"));
        nodes.suspect("a");
        assert_eq!(nodes.leader().as_deref(), Some("b"));
        nodes.suspect("b");
        assert_eq!(nodes.leader(), None);
        nodes.update(vec![("a".into(), seen(4, "b"))]);
        assert_eq!(nodes.leader().as_deref(), Some("b"));
        let changes = || nodes.leader_changes.load(Ordering::Relaxed);
        assert_eq!(changes(), 1, "the same one, named again");
        nodes.update(vec![("a".into(), seen(5, "a"))]);
        assert_eq!((nodes.leader().as_deref(), changes()), (Some("a"), 2));
    }

    #[test]
    fn questions_go_round_and_the_unwell_come_last() {
        let nodes = Nodes::new(&["a".to_owned(), "b".to_owned(), "c".to_owned()]);
        let first: Vec<_> = (0..3).map(|_| nodes.readers()[0].clone()).collect();
        assert_eq!(first.iter().map(|url| &**url).collect::<Vec<_>>(), ["a", "b", "c"]);
        nodes.suspect("b");
        for _ in 0..4 {
            assert_eq!(nodes.readers().last().map(|url| &**url), Some("b"));
        }
        let witness = Seen { executes: false, ..seen(1, "a") };
        nodes.update(vec![("c".into(), witness)]);
        assert!(nodes.readers().iter().all(|url| &**url != "c"));
    }

    #[test]
    fn the_address_given_goes_before_that_of_the_membership() {
        let nodes = Nodes::new(&["a".to_owned()]);
        let own = Seen { number: Some(7), ..seen(1, "http://inside") };
        nodes.update(vec![("a".into(), own)]);
        assert_eq!(nodes.leader().as_deref(), Some("a"));
    }
}
