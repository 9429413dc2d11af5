//! Network policies as they act, and the answer to "may A talk to B?".

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::Deserialize;
use weft_api::control::{ExplainStep, Explanation, Policy};
use weft_policy::eval::{Flow, Half, evaluate};
use weft_policy::model::{LocalPod, PodKey, World};

use super::Agent;
use super::control::Failure;

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
    let local = agent.policy.local();
    let (name, protocol) = protocol(query.protocol.as_deref().unwrap_or("tcp"))?;
    let (source, destination) = endpoints(&snapshot.world, &local, &query.from, &query.to)?;
    let judgement =
        evaluate(&snapshot.world, &local, &Flow { source, destination, protocol, port: query.port });
    Ok(Explanation {
        from: query.from.clone(),
        to: query.to.clone(),
        protocol: name,
        port: query.port,
        allowed: judgement.allowed(),
        steps: vec![step("Egress", &judgement.egress), step("Ingress", &judgement.ingress)],
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
