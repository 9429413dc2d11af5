//! Network policies as they act, and the answer to "may A talk to B?".

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::Deserialize;
use weft_api::control::{ExplainStep, Explanation, Policy};
use weft_intent::Snapshot;
use weft_policy::eval::{Flow, Half, Reason, evaluate};
use weft_policy::model::{LocalPod, PodKey, World};

use super::answer::Failure;
use crate::agent::Agent;

#[derive(Debug, Deserialize)]
pub(super) struct ExplainQuery {
    /// `namespace/pod` or an address.
    from: String,
    to: String,
    /// `tcp` (the default), `udp`, `sctp`, `icmp`, `icmpv6` or a number.
    protocol: Option<String>,
    port: Option<u16>,
}

pub(super) fn list(agent: &Agent) -> Result<Vec<Policy>, Failure> {
    let snapshot = agent.snapshots.borrow().clone();
    let snapshot = snapshot.ok_or_else(|| Failure::not_yet("the datastore has not been read yet"))?;
    let local = agent.policy.local();
    let here: BTreeSet<&PodKey> = local.iter().map(|pod| &pod.key).collect();
    let policies = snapshot.world.policies.values().map(|policy| {
        let subjects: Vec<&PodKey> = snapshot.world.subjects(policy).map(|(key, _)| key).collect();
        let directions = [("Ingress", policy.ingress.is_some()), ("Egress", policy.egress.is_some())];
        Policy {
            namespace: policy.key.namespace.clone(),
            name: policy.key.name.clone(),
            directions: directions
                .iter()
                .filter(|(_, acts)| *acts)
                .map(|(name, _)| (*name).to_owned())
                .collect(),
            local_pods: subjects.iter().filter(|key| here.contains(*key)).map(ToString::to_string).collect(),
            pods: u32::try_from(subjects.len()).unwrap_or(u32::MAX),
        }
    });
    Ok(policies.collect())
}

pub(super) fn explain(agent: &Agent, query: &ExplainQuery) -> Result<Explanation, Failure> {
    let snapshot = agent.snapshots.borrow().clone();
    let snapshot = snapshot.ok_or_else(|| Failure::not_yet("the datastore has not been read yet"))?;
    judge(&snapshot, &agent.policy.local(), query)
}

fn judge(snapshot: &Snapshot, local: &[LocalPod], query: &ExplainQuery) -> Result<Explanation, Failure> {
    let (name, protocol) = protocol(query.protocol.as_deref().unwrap_or("tcp"))?;
    let (source, destination) = endpoints(&snapshot.world, local, &query.from, &query.to)?;
    let judgement =
        evaluate(&snapshot.world, local, &Flow { source, destination, protocol, port: query.port });
    for (half, address) in [(&judgement.egress, source), (&judgement.ingress, destination)] {
        if half.reason == Reason::NotAPod
            && let Some(unused) = unused(snapshot, address)
        {
            return Err(Failure::not_found(unused));
        }
    }
    Ok(Explanation {
        from: query.from.clone(),
        to: query.to.clone(),
        protocol: name,
        port: query.port,
        allowed: judgement.allowed(),
        steps: vec![step("Egress", &judgement.egress), step("Ingress", &judgement.ingress)],
    })
}

/// What is wrong with an address of a node's pods that no pod has: nobody answers there, whatever policy says.
fn unused(snapshot: &Snapshot, address: IpAddr) -> Option<String> {
    snapshot.nodes.iter().find_map(|(node, info)| {
        let cidr = info.pod_cidrs.iter().find(|cidr| cidr.contains(address))?;
        Some(format!("no pod has the address {address}, which is in {cidr} of node {node}"))
    })
}

fn step(direction: &str, half: &Half) -> ExplainStep {
    ExplainStep {
        direction: direction.to_owned(),
        allowed: half.allowed(),
        reason: half.reason.to_string(),
        policies: half.policies().iter().map(ToString::to_string).collect(),
        enforced_here: half.enforced_here,
    }
}

fn protocol(text: &str) -> Result<(String, u8), Failure> {
    let name = text.to_ascii_lowercase();
    let number = match name.as_str() {
        "tcp" => 6,
        "udp" => 17,
        "sctp" => 132,
        "icmp" => 1,
        "icmpv6" => 58,
        other => other.parse().map_err(|_| Failure::bad_request(format!("{text} is no protocol")))?,
    };
    Ok((name, number))
}

/// A pair of addresses of one family; IPv4 first.
fn endpoints(world: &World, local: &[LocalPod], from: &str, to: &str) -> Result<(IpAddr, IpAddr), Failure> {
    let (sources, destinations) = (addresses(world, local, from)?, addresses(world, local, to)?);
    let pair = [true, false].into_iter().find_map(|v4| {
        let of_family = |list: &BTreeSet<IpAddr>| list.iter().copied().find(|ip| ip.is_ipv4() == v4);
        Some((of_family(&sources)?, of_family(&destinations)?))
    });
    pair.ok_or_else(|| Failure::bad_request(format!("{from} and {to} have no addresses of one family")))
}

/// For pods of this node, those that the CNI gave.
fn addresses(world: &World, local: &[LocalPod], text: &str) -> Result<BTreeSet<IpAddr>, Failure> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok([address].into());
    }
    let (namespace, name) = text
        .split_once('/')
        .ok_or_else(|| Failure::bad_request(format!("{text} is neither namespace/pod nor an address")))?;
    let key = PodKey { namespace: namespace.to_owned(), name: name.to_owned() };
    let wired = local.iter().find(|pod| pod.key == key).map(|pod| pod.ips.clone());
    let known = || world.pods.get(&key).map(|pod| pod.ips.clone());
    match wired.or_else(known) {
        Some(addresses) if !addresses.is_empty() => Ok(addresses),
        Some(_) => Err(Failure::not_found(format!("pod {key} has no address yet"))),
        None => Err(Failure::not_found(format!("no pod {key}"))),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use axum::response::IntoResponse as _;
    use weft_intent::NodeInfo;

    use super::*;

    #[test]
    fn an_address_of_a_node_s_pods_that_no_pod_has_is_named_with_its_node() {
        let mut snapshot = Snapshot::default();
        let pod_cidrs = vec!["10.1.0.0/24".parse().unwrap(), "fd00:1::/64".parse().unwrap()];
        snapshot.nodes.insert("n1".to_owned(), NodeInfo { pod_cidrs, ..NodeInfo::default() }.into());
        let ask = |to: &str| {
            let query = ExplainQuery {
                from: "192.0.2.7".to_owned(),
                to: to.to_owned(),
                protocol: None,
                port: Some(80),
            };
            let answer = judge(&snapshot, &[], &query).map(|explanation| explanation.allowed);
            answer.map_err(|failure| failure.into_response().status())
        };
        assert_eq!(ask("10.1.0.77"), Err(StatusCode::NOT_FOUND));
        let said = unused(&snapshot, "10.1.0.77".parse().unwrap());
        assert_eq!(
            said.as_deref(),
            Some("no pod has the address 10.1.0.77, which is in 10.1.0.0/24 of node n1")
        );
        assert_eq!(ask("10.2.0.1"), Ok(true), "nobody's address, which may be anybody's");
    }
}
