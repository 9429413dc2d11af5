//! Which of the objects that users write are in force as written. Every node comes to the same answer: what only one node
//! cannot do stands in its own NodeStatus.

use std::collections::BTreeMap;

use super::{communities, peers};
use crate::watch::{Kind, ObjectKey, Snapshot};

/// What holds instead of an object that cannot be read. The same words from agents that know an earlier version and from
/// those that do not, as one of them speaks for all.
const INSTEAD: &str =
    "agents that have read an earlier version keep to it until they restart, others do without the object";

/// For each object that the server shows: `None` when it is in force, else why not.
pub fn judge(snapshot: &Snapshot) -> BTreeMap<ObjectKey, Option<String>> {
    snapshot.shown.keys().map(|key| (key.clone(), refusal(snapshot, key))).collect()
}

fn refusal(snapshot: &Snapshot, key: &ObjectKey) -> Option<String> {
    let name = key.to_string();
    if let Some(problem) = snapshot.problems.iter().find(|problem| problem.object == name) {
        return Some(format!("{}; {INSTEAD}", problem.reason));
    }
    match key.kind {
        Kind::BgpPeer => peers::check(snapshot, snapshot.bgp_peers.get(&key.name)?).err(),
        Kind::BgpConfiguration => {
            let mut problems = Default::default();
            communities(&snapshot.bgp.communities, &mut problems);
            problems.into_iter().next().map(|problem| problem.reason)
        }
        Kind::Node | Kind::Namespace | Kind::Pod | Kind::NetworkPolicy | Kind::Secret => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::Problem;
    use crate::watch::acceptance::Shown;

    #[test]
    fn what_cannot_be_read_says_what_holds_instead_also_where_nothing_is_known() {
        let key = ObjectKey { kind: Kind::BgpPeer, namespace: String::new(), name: "tor".to_owned() };
        let problem =
            Problem { object: "BGPPeer tor".to_owned(), reason: "spec.asn: 0 is nobody's".to_owned() };
        let unread = Snapshot {
            problems: [problem].into(),
            shown: [(key.clone(), Shown::default())].into(),
            ..Snapshot::default()
        };
        let spec = serde_json::json!({ "address": "192.0.2.1", "asn": "external" });
        let known = Snapshot {
            bgp_peers: [("tor".to_owned(), serde_json::from_value(spec).unwrap())].into(),
            ..unread.clone()
        };
        let verdict = judge(&unread)[&key].clone().unwrap();
        assert_eq!(verdict, format!("spec.asn: 0 is nobody's; {INSTEAD}"));
        assert_eq!(judge(&known)[&key].as_ref(), Some(&verdict), "agents must not contradict each other");
    }
}
