//! Which of the objects that users write are in force as written. Every node comes to the same answer: what only one node
//! cannot do stands in its own WeftNode.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use weft_api::crd::{BGPNodeOverrideSpec, BGPPeerSpec};
use weft_policy::translate;

use super::nodes::Overrides;
use super::{nodes, peers, settings};
use crate::problem::{About, Problem};
use crate::{Kind, NodeInfo, ObjectKey, Snapshot};

/// What holds instead of an object that cannot be read. The same words from agents that know an earlier version and from
/// those that do not, as one of them speaks for all.
const INSTEAD: &str =
    "agents that have read an earlier version keep to it until they restart, others do without the object";

/// Whether [`judge`] would say the same of both: most snapshots differ in pods alone.
pub fn reads_the_same(one: &Snapshot, other: &Snapshot) -> bool {
    let same_shown = one.shown == other.shown
        || one.shown.len() == other.shown.len()
            && one
                .shown
                .iter()
                .zip(other.shown.iter())
                .all(|((key, shown), (other_key, other))| key == other_key && shown.is_judged_as(other));
    super::reads_the_same(one, other) && same_shown && one.problems == other.problems
}

/// For each object that the server shows: `None` when it is in force, else why not. Where no Node is known at all, nothing
/// is said of what depends on them.
pub fn judge(snapshot: &Snapshot) -> BTreeMap<ObjectKey, Option<String>> {
    snapshot.shown.keys().map(|key| (key.clone(), refusal(snapshot, key))).collect()
}

fn refusal(snapshot: &Snapshot, key: &ObjectKey) -> Option<String> {
    if let Some(reason) = unread(snapshot, key) {
        return Some(format!("{reason}; {INSTEAD}"));
    }
    let bgp = &snapshot.bgp;
    let judged = match key.kind {
        Kind::BgpPeer => {
            let spec = bgp.peers.get(&key.name)?;
            peers::check(snapshot, spec).and_then(|()| check_nodes(snapshot, &key.name, spec))
        }
        Kind::BgpNodeOverride => {
            let spec = bgp.overrides.get(&key.name)?;
            nodes::check(snapshot, spec).and_then(|()| check_override(snapshot, &key.name, spec))
        }
        Kind::BgpAdvertisement => {
            selects_some(snapshot, bgp.advertisements.get(&key.name)?.node_selector.as_ref())
        }
        Kind::BgpPeerProfile => {
            let settings = &bgp.profiles.get(&key.name)?.session;
            peers::check_filters(snapshot, settings)
        }
        Kind::BgpConfiguration => {
            let settings = &bgp.configuration().session;
            peers::check_filters(snapshot, settings)
                .and_then(|()| settings::password(snapshot, settings).map(drop))
        }
        Kind::BgpFilter | Kind::Node | Kind::Namespace | Kind::Pod | Kind::NetworkPolicy | Kind::Secret => {
            Ok(())
        }
    };
    judged.err()
}

fn selects_some(snapshot: &Snapshot, selector: Option<&LabelSelector>) -> Result<(), String> {
    let selector = selector.map(translate::selector).transpose();
    let selector = selector.map_err(|reason| format!("spec.nodeSelector: {reason}"))?;
    let is_selected =
        |node: &NodeInfo| selector.as_ref().is_none_or(|selector| selector.matches(&node.labels));
    match snapshot.nodes.is_empty() || snapshot.nodes.values().any(|node| is_selected(node)) {
        true => Ok(()),
        false => Err("spec.nodeSelector: selects no node".to_owned()),
    }
}

/// Some node must be selected, and on none may an earlier one say otherwise.
fn check_override(snapshot: &Snapshot, name: &str, spec: &BGPNodeOverrideSpec) -> Result<(), String> {
    selects_some(snapshot, Some(&spec.node_selector))?;
    let configuration = snapshot.bgp.configuration();
    let overrides = Overrides::new(snapshot, &configuration);
    let overruled = snapshot.nodes.iter().find_map(|(node, info)| {
        overrides.overruled(info).remove(name).map(|reason| format!("{reason} on node {node}"))
    });
    overruled.map_or(Ok(()), Err)
}

/// Why an object cannot be read as the server has it. Of such an object some agents know an earlier version, so that no
/// judgement of another may rest on it.
fn unread<'a>(snapshot: &'a Snapshot, key: &ObjectKey) -> Option<&'a str> {
    let is_about = |problem: &&Problem| matches!(&problem.about, About::Object(about) if about == key);
    let problem = snapshot.problems.iter().find(is_about);
    problem.map(|problem| problem.reason.as_str())
}

/// Some node must have this peer, and of the nodes that it selects none may have another at its address: there the
/// first by name counts, as in [`peers::Planner`].
fn check_nodes(snapshot: &Snapshot, name: &str, spec: &BGPPeerSpec) -> Result<(), String> {
    let is_rival = |(other, rival): &(&String, &BGPPeerSpec)| {
        rival.address == spec.address
            && unread(snapshot, &ObjectKey::cluster(Kind::BgpPeer, other)).is_none()
            && peers::check(snapshot, rival).is_ok()
    };
    let mut earlier = snapshot.bgp.peers.range(..name.to_owned()).filter(is_rival);
    if snapshot.nodes.is_empty() {
        let rival = earlier.find(|(_, rival)| meet_anywhere(spec, rival));
        return rival.map_or(Ok(()), |(other, _)| Err(format!("spec.address: BGPPeer {other} has the same")));
    }
    let mut selected = peers::selected(snapshot, spec)?
        .filter(|node| unread(snapshot, &ObjectKey::cluster(Kind::Node, node)).is_none())
        .peekable();
    if selected.peek().is_none() {
        return Err("spec.nodeSelector: selects no node".to_owned());
    }
    let mut rivals = BTreeMap::new();
    for (other, rival) in earlier {
        for node in peers::selected(snapshot, rival)? {
            rivals.entry(node).or_insert(other);
        }
    }
    let mut shared = selected.filter_map(|node| Some((node, rivals.get(node)?)));
    let Some((node, other)) = shared.next() else { return Ok(()) };
    let more = match shared.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Err(format!("spec.address: BGPPeer {other} has the same on node {node}{more}"))
}

/// Whatever nodes there are, one that has either of these peers has both.
fn meet_anywhere(one: &BGPPeerSpec, other: &BGPPeerSpec) -> bool {
    let selector = |peer: &BGPPeerSpec| peer.node_selector.clone().unwrap_or_default();
    let (one, other) = (selector(one), selector(other));
    one == other || [one, other].contains(&LabelSelector::default())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use weft_policy::model::CopyOnWrite;

    use super::*;
    use crate::BgpObjects;
    use crate::shown::{Accepted, Shown};

    fn peer(name: &str) -> ObjectKey {
        ObjectKey { kind: Kind::BgpPeer, namespace: String::new(), name: name.to_owned() }
    }

    /// Two racks of two nodes, and BGPPeers `name: (address, rack)`; the empty rack selects all.
    fn racks(peers: &[(&str, &str, &str)]) -> Snapshot {
        let node = |rack: &str| {
            let labels = [("rack".to_owned(), rack.to_owned())].into();
            Arc::new(NodeInfo { labels, ..NodeInfo::default() })
        };
        let spec = |address: &str, rack: &str| {
            let selector = match rack {
                "" => serde_json::json!({}),
                rack => serde_json::json!({ "matchLabels": { "rack": rack } }),
            };
            serde_json::from_value(
                serde_json::json!({ "address": address, "asn": 65001, "nodeSelector": selector }),
            )
            .unwrap()
        };
        Snapshot {
            nodes: [("n1", "a"), ("n2", "a"), ("n3", "b"), ("n4", "b")]
                .map(|(name, rack)| (name.to_owned(), node(rack)))
                .into(),
            bgp: CopyOnWrite::new(BgpObjects {
                peers: peers
                    .iter()
                    .map(|(name, address, rack)| ((*name).to_owned(), spec(address, rack)))
                    .collect(),
                ..BgpObjects::default()
            }),
            shown: peers.iter().map(|(name, ..)| (peer(name), Shown::default())).collect(),
            ..Snapshot::default()
        }
    }

    fn verdict(snapshot: &Snapshot, name: &str) -> Option<String> {
        judge(snapshot)[&peer(name)].clone()
    }

    #[test]
    fn of_two_peers_with_one_address_the_second_says_where_it_is_not_in_force() {
        let address = "192.0.2.9";
        let both = racks(&[("first", address, "a"), ("second", address, "")]);
        assert_eq!(verdict(&both, "first"), None);
        let wanted = "spec.address: BGPPeer first has the same on node n1 and 1 more";
        assert_eq!(verdict(&both, "second").as_deref(), Some(wanted));
        // As on the node itself.
        let planned = crate::plan::desired(&both, "n1").unwrap();
        assert!(planned.problems.iter().any(|problem| problem.about == About::Object(peer("second"))));

        let apart = racks(&[("first", address, "a"), ("second", address, "b")]);
        assert_eq!((verdict(&apart, "first"), verdict(&apart, "second")), (None, None));
        let others = racks(&[("first", address, ""), ("second", "192.0.2.10", "")]);
        assert_eq!(verdict(&others, "second"), None);
    }

    #[test]
    fn without_any_node_only_what_holds_on_all_is_said() {
        let address = "192.0.2.9";
        let judged = |peers: &[(&str, &str, &str)]| {
            let snapshot = Snapshot { nodes: CopyOnWrite::default(), ..racks(peers) };
            verdict(&snapshot, "second")
        };
        let wanted = Some("spec.address: BGPPeer first has the same".to_owned());
        for (one, other) in [("", ""), ("a", ""), ("", "a"), ("a", "a")] {
            assert_eq!(judged(&[("first", address, one), ("second", address, other)]), wanted);
        }
        assert_eq!(judged(&[("first", address, "a"), ("second", address, "b")]), None);
        assert_eq!(judged(&[("first", address, ""), ("second", "192.0.2.10", "")]), None);
    }

    #[test]
    fn a_count_of_sessions_is_judged_by_nobody_and_whatever_else_is_shown_is() {
        let before = racks(&[("tor", "192.0.2.9", "")]);
        let shows =
            |name: &str, shown: Shown| Snapshot { shown: [(peer(name), shown)].into(), ..before.clone() };
        let counted = Shown { sessions: Some("1/4".to_owned()), ..Shown::default() };
        assert!(reads_the_same(&before, &shows("tor", counted)));
        let edited = Shown { generation: 2, ..Shown::default() };
        let accepted = Shown { accepted: Some(Accepted::new(None)), ..Shown::default() };
        for other in [shows("tor", edited), shows("tor", accepted), shows("other", Shown::default())] {
            assert!(!reads_the_same(&before, &other));
        }
        assert!(!reads_the_same(&before, &Snapshot { shown: CopyOnWrite::default(), ..before.clone() }));
    }

    #[test]
    fn a_peer_that_selects_no_node_says_so() {
        let snapshot = racks(&[("tor", "192.0.2.9", "c")]);
        assert_eq!(verdict(&snapshot, "tor").as_deref(), Some("spec.nodeSelector: selects no node"));
    }

    /// Of an object of another kind, by its spec.
    fn judged(snapshot: &Snapshot, kind: Kind) -> Option<String> {
        let key = ObjectKey { kind, namespace: String::new(), name: "it".to_owned() };
        let shown = [(key.clone(), Shown::default())].into();
        judge(&Snapshot { shown, ..snapshot.clone() })[&key].clone()
    }

    #[test]
    fn objects_of_every_kind_say_why_they_are_not_in_force() {
        let rack = |rack: &str| serde_json::json!({ "matchLabels": { "rack": rack } });
        let mut snapshot = racks(&[]);
        for (label, selected) in [("a", None), ("c", Some("spec.nodeSelector: selects no node"))] {
            let advertisement = serde_json::json!({ "nodeSelector": rack(label) });
            snapshot.bgp.advertisements =
                [("it".to_owned(), serde_json::from_value(advertisement).unwrap())].into();
            assert_eq!(judged(&snapshot, Kind::BgpAdvertisement).as_deref(), selected, "{label}");
            let of_rack = serde_json::json!({ "nodeSelector": rack(label), "asn": 65001 });
            snapshot.bgp.overrides = [("it".to_owned(), serde_json::from_value(of_rack).unwrap())].into();
            assert_eq!(judged(&snapshot, Kind::BgpNodeOverride).as_deref(), selected, "{label}");
        }
        let all =
            |asn: u32| serde_json::from_value(serde_json::json!({ "nodeSelector": {}, "asn": asn })).unwrap();
        snapshot.bgp.overrides = [("a".to_owned(), all(1)), ("it".to_owned(), all(2))].into();
        let reason = "spec.asn: BGPNodeOverride a says otherwise on node n1";
        assert_eq!(judged(&snapshot, Kind::BgpNodeOverride).as_deref(), Some(reason));

        let settings = serde_json::json!({ "session": { "importFilters": ["f"] } });
        let profile: weft_api::crd::BGPPeerProfileSpec = serde_json::from_value(settings).unwrap();
        let configuration = snapshot.bgp.written.get_or_insert_default();
        configuration.session = profile.session.clone();
        snapshot.bgp.profiles = [("it".to_owned(), profile)].into();
        for kind in [Kind::BgpPeerProfile, Kind::BgpConfiguration] {
            assert!(judged(&snapshot, kind).unwrap().contains("BGPFilter f is missing"), "{kind}");
        }
        snapshot.bgp.filters.insert("f".to_owned(), Default::default());
        for kind in [Kind::BgpPeerProfile, Kind::BgpConfiguration] {
            assert_eq!(judged(&snapshot, kind), None, "{kind}");
        }
    }

    #[test]
    fn what_some_agents_know_from_earlier_does_not_count_against_others() {
        let mut snapshot = racks(&[("first", "192.0.2.9", ""), ("second", "192.0.2.9", "")]);
        assert!(verdict(&snapshot, "second").is_some());
        snapshot.problems.insert(Problem::of(Kind::BgpPeer, "first", "spec.asn: 0"));
        assert_eq!(verdict(&snapshot, "second"), None);
        // One that is refused by all is on no node.
        let refused = racks(&[("first", "127.0.0.1", ""), ("second", "127.0.0.1", "")]);
        assert!(verdict(&refused, "second").unwrap().contains("is no address of a router"));
    }

    #[test]
    fn what_cannot_be_read_says_what_holds_instead_also_where_nothing_is_known() {
        let key = peer("tor");
        let problem = Problem::of(Kind::BgpPeer, "tor", "spec.asn: 0 is nobody's");
        let unread = Snapshot {
            problems: [problem].into(),
            shown: [(key.clone(), Shown::default())].into(),
            ..Snapshot::default()
        };
        let spec = serde_json::json!({ "address": "192.0.2.1", "asn": "external" });
        let known = Snapshot {
            bgp: CopyOnWrite::new(BgpObjects {
                peers: [("tor".to_owned(), serde_json::from_value(spec).unwrap())].into(),
                ..BgpObjects::default()
            }),
            ..unread.clone()
        };
        let verdict = judge(&unread)[&key].clone().unwrap();
        assert_eq!(verdict, format!("spec.asn: 0 is nobody's; {INSTEAD}"));
        assert_eq!(judge(&known)[&key].as_ref(), Some(&verdict), "agents must not contradict each other");
    }
}
