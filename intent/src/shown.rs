//! What a server shows of one of our own resources beside what its user wrote: which version it is, and what agents have
//! said about it.

use serde::Deserialize;
use serde_json::Value;

use crate::Kind;

/// The condition that tells whether an object is in force as written.
pub const ACCEPTED: &str = "Accepted";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Counts changes of the spec.
    pub generation: i64,
    /// The condition [`ACCEPTED`].
    pub accepted: Option<Accepted>,
    /// Of a BGPPeer: how many of its sessions are established.
    pub sessions: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Accepted {
    /// `True` or `False`.
    pub status: String,
    pub reason: String,
    pub message: String,
    /// The version of the object that was judged.
    pub observed_generation: i64,
    /// Of `status`.
    pub last_transition_time: String,
}

impl Shown {
    /// What is said of sessions is nobody's verdict.
    pub fn is_judged_as(&self, other: &Self) -> bool {
        (self.generation, &self.accepted) == (other.generation, &other.accepted)
    }
}

impl Accepted {
    /// Of an object that is in force, or refused for a reason.
    pub fn new(refusal: Option<&str>) -> Self {
        let (status, reason) = if refusal.is_none() { ("True", "InForce") } else { ("False", "Refused") };
        Self {
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: refusal.unwrap_or("in force as written").to_owned(),
            ..Self::default()
        }
    }

    /// Whoever said it, whenever, of which version.
    pub fn says_the_same(&self, other: &Self) -> bool {
        (&self.status, &self.reason, &self.message) == (&other.status, &other.reason, &other.message)
    }
}

/// `None` for kinds that have no such condition.
pub fn shown(kind: Kind, object: &Value) -> Option<Shown> {
    if !Kind::OURS.contains(&kind) {
        return None;
    }
    let generation = object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or_default();
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let accepted = conditions.into_iter().flatten().find(|condition| condition["type"] == ACCEPTED);
    let accepted = accepted.and_then(|condition| Accepted::deserialize(condition).ok());
    let sessions = object.pointer("/status/sessionsEstablished").and_then(Value::as_str).map(str::to_owned);
    Some(Shown { generation, accepted, sessions })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_agents_have_said_is_found_among_others() {
        let object = json!({
            "metadata": { "generation": 7 },
            "status": { "conditions": [
                { "type": "Other", "status": "True" },
                { "type": "Accepted", "status": "False", "reason": "Refused", "message": "why", "observedGeneration": 6,
                  "lastTransitionTime": "2026-01-01T00:00:00Z" },
            ], "sessionsEstablished": "1/2" },
        });
        let shown = shown(Kind::BgpPeer, &object).unwrap();
        assert_eq!(shown.sessions.as_deref(), Some("1/2"));
        let accepted = shown.accepted.unwrap();
        assert_eq!((shown.generation, accepted.observed_generation), (7, 6));
        assert_eq!((accepted.status.as_str(), accepted.message.as_str()), ("False", "why"));
        assert_eq!(super::shown(Kind::Pod, &object), None);
    }
}
