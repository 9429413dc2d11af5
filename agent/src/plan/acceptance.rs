//! Which of the objects that users write are in force as written. Every node comes to the same answer: what only one node
//! cannot do stands in its own NodeStatus.

use std::collections::BTreeMap;

use super::{communities, peers};
use crate::watch::{Kind, ObjectKey, Snapshot};

/// For each object that the server shows: `None` when it is in force, else why not.
pub fn judge(snapshot: &Snapshot) -> BTreeMap<ObjectKey, Option<String>> {
    snapshot.shown.keys().map(|key| (key.clone(), refusal(snapshot, key))).collect()
}

fn refusal(snapshot: &Snapshot, key: &ObjectKey) -> Option<String> {
    let name = key.to_string();
    // Refused when it was read; the last good version stays in force.
    if let Some(problem) = snapshot.problems.iter().find(|problem| problem.object == name) {
        return Some(problem.reason.clone());
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
