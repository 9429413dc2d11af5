//! What the agents of all nodes have said of their sessions, and whether their word still counts. Pure.
//!
//! In: events of a watch of WeftNodes, and its failures. Silence is measured by our own clock, and while we hear: neither an
//! agent whose clock is wrong nor an API server that is away makes a node silent.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::watcher::Event;
use tokio::time::Instant;
use weft_api::crd::{PeerSessions, WeftNode};

/// A node that has said nothing for so long has no agent, and no sessions: three heartbeats.
pub(super) const SILENT: Duration = Duration::from_secs(15 * 60);

#[derive(Debug, Default)]
pub(super) struct Nodes {
    said: BTreeMap<String, Said>,
    /// Of a list that is under way.
    listing: BTreeMap<String, Said>,
    listed: bool,
    /// Since when the watch fails.
    deaf_since: Option<Instant>,
}

/// One node.
#[derive(Clone, Debug)]
struct Said {
    sessions: BTreeMap<String, PeerSessions>,
    observed: Timestamp,
    /// Until then it counts.
    until: Instant,
}

impl Nodes {
    pub(super) fn take(&mut self, event: Event<WeftNode>, now: Instant, date: Timestamp) {
        self.hear(now);
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(node) => {
                let said = self.read(&node, now, date);
                self.listing.extend(said.map(|said| (node.name_any(), said)));
            }
            Event::InitDone => {
                self.said = std::mem::take(&mut self.listing);
                self.listed = true;
            }
            Event::Apply(node) => match self.read(&node, now, date) {
                Some(said) => drop(self.said.insert(node.name_any(), said)),
                None => drop(self.said.remove(&node.name_any())),
            },
            Event::Delete(node) => drop(self.said.remove(&node.name_any())),
        }
    }

    /// The watch has failed.
    pub(super) fn lose(&mut self, now: Instant) {
        self.deaf_since.get_or_insert(now);
    }

    pub(super) fn is_deaf(&self) -> bool {
        self.deaf_since.is_some()
    }

    /// All nodes are known as they are.
    pub(super) fn is_complete(&self) -> bool {
        self.listed && !self.is_deaf()
    }

    /// Of a BGPPeer on a node; none where the node does not say so.
    pub(super) fn sessions(&self, node: &str, peer: &str, now: Instant) -> PeerSessions {
        let said = self.said.get(node).filter(|said| now < said.until);
        said.and_then(|said| said.sessions.get(peer)).cloned().unwrap_or_default()
    }

    /// What nobody could say meanwhile is not held against those who did not.
    fn hear(&mut self, now: Instant) {
        let Some(since) = self.deaf_since.take() else { return };
        for said in self.said.values_mut().filter(|said| said.until > since) {
            said.until += now - since;
        }
    }

    /// `None` where no agent has written yet.
    fn read(&self, node: &WeftNode, now: Instant, date: Timestamp) -> Option<Said> {
        let status = node.status.as_ref()?;
        let observed = status.observed_time.as_ref()?.0;
        let until = match self.said.get(&node.name_any()) {
            Some(known) if known.observed == observed => known.until,
            Some(_) => now + SILENT,
            // It may have said so long ago. All that we have of that is its clock.
            None => now + SILENT.saturating_sub(date.duration_since(observed).unsigned_abs()),
        };
        let sessions = status.bgp_peers.iter().map(|peer| (peer.name.clone(), peer.clone())).collect();
        Some(Said { sessions, observed, until })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const NOW: i64 = 1_800_000_000;

    fn date() -> Timestamp {
        Timestamp::from_second(NOW).unwrap()
    }

    /// `observed`: seconds ago, by the clock of the node.
    fn node(name: &str, established: u32, observed: i64) -> WeftNode {
        let observed = Timestamp::from_second(NOW - observed).unwrap();
        let object = json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "WeftNode", "metadata": { "name": name }, "spec": {},
            "status": {
                "observedTime": observed, "bgpPeers": [{ "name": "tor", "established": established, "total": 1 }],
            },
        });
        serde_json::from_value(object).unwrap()
    }

    fn listed(all: impl IntoIterator<Item = WeftNode>, now: Instant) -> Nodes {
        let mut nodes = Nodes::default();
        list(&mut nodes, all, now);
        nodes
    }

    fn list(nodes: &mut Nodes, all: impl IntoIterator<Item = WeftNode>, now: Instant) {
        nodes.take(Event::Init, now, date());
        all.into_iter().for_each(|node| nodes.take(Event::InitApply(node), now, date()));
        nodes.take(Event::InitDone, now, date());
    }

    fn is_up(nodes: &Nodes, node: &str, now: Instant) -> bool {
        nodes.sessions(node, "tor", now).established == 1
    }

    #[test]
    fn a_node_that_falls_silent_has_no_sessions_until_it_speaks() {
        let begun = Instant::now();
        let mut nodes = listed([node("n1", 1, 0)], begun);
        assert!(is_up(&nodes, "n1", begun + 14 * MINUTE) && !is_up(&nodes, "n1", begun + 15 * MINUTE));
        // A list says nothing new.
        list(&mut nodes, [node("n1", 1, 0)], begun + 16 * MINUTE);
        assert!(!is_up(&nodes, "n1", begun + 16 * MINUTE));
        nodes.take(Event::Apply(node("n1", 1, -960)), begun + 16 * MINUTE, date());
        assert!(is_up(&nodes, "n1", begun + 30 * MINUTE));
    }

    #[test]
    fn who_begins_to_listen_takes_what_was_said_long_ago_for_silence() {
        let now = Instant::now();
        let nodes = listed([node("old", 1, 16 * 60), node("new", 1, 60)], now);
        assert!(!is_up(&nodes, "old", now) && is_up(&nodes, "new", now));
        assert!(!is_up(&nodes, "new", now + 14 * MINUTE));
    }

    #[test]
    fn a_node_whose_clock_is_wrong_counts_from_its_second_word_on() {
        let now = Instant::now();
        for hours in [-5, 5] {
            let mut nodes = listed([node("n1", 1, hours * 3600)], now);
            nodes.take(Event::Apply(node("n1", 1, hours * 3600 - 300)), now + 5 * MINUTE, date());
            assert!(is_up(&nodes, "n1", now + 5 * MINUTE), "{hours}");
        }
    }

    #[test]
    fn while_nothing_can_be_heard_nobody_is_silent() {
        let begun = Instant::now();
        let all = || [node("up", 1, 0), node("away", 1, 840)];
        let mut nodes = listed(all(), begun);
        assert!(nodes.is_complete());
        nodes.lose(begun + 2 * MINUTE);
        nodes.lose(begun + 50 * MINUTE);
        assert!(!nodes.is_complete());
        nodes.take(Event::Init, begun + 60 * MINUTE, date());
        assert!(!is_up(&nodes, "away", begun + 58 * MINUTE), "it was silent before");
        list(&mut nodes, all(), begun + 60 * MINUTE);
        assert!(nodes.is_complete());
        let up = |name, minutes| is_up(&nodes, name, begun + minutes * MINUTE);
        assert!(up("up", 72) && !up("up", 73), "what is left of its time");
        assert!(!up("away", 60), "it was before");
    }

    #[test]
    fn nodes_that_say_nothing_and_nodes_that_go_have_no_sessions() {
        let now = Instant::now();
        let mut nodes = listed([node("n1", 1, 0), node("n2", 1, 0), node("n3", 1, 0)], now);
        nodes.take(Event::Apply(node("n1", 0, -10)), now, date());
        let mut mute = node("n2", 1, -10);
        mute.status = None;
        nodes.take(Event::Apply(mute), now, date());
        nodes.take(Event::Delete(node("n3", 1, 0)), now, date());
        assert!(["n1", "n2", "n3"].iter().all(|name| !is_up(&nodes, name, now)));
        assert_eq!(nodes.sessions("n1", "tor", now).total, 1);
        assert_eq!(nodes.sessions("n1", "other", now), PeerSessions::default());
    }

    #[test]
    fn a_list_counts_when_it_is_complete() {
        let now = Instant::now();
        let mut nodes = Nodes::default();
        assert!(!nodes.is_complete());
        list(&mut nodes, [node("n1", 1, 0)], now);
        // One that is not finished, and one that begins anew.
        nodes.take(Event::Init, now, date());
        nodes.take(Event::InitApply(node("n3", 1, 0)), now, date());
        nodes.take(Event::Init, now, date());
        nodes.take(Event::InitApply(node("n2", 1, 0)), now, date());
        assert!(is_up(&nodes, "n1", now) && !is_up(&nodes, "n2", now));
        nodes.take(Event::InitDone, now, date());
        assert!(!is_up(&nodes, "n1", now) && is_up(&nodes, "n2", now) && !is_up(&nodes, "n3", now));
    }
}
