//! A small cluster to test policies on, and words to describe it in: test support.
//!
//! Namespaces x, y, z with labels `ns: x` and so on; pods a, b, c in each with the label `pod: a` and so on and the
//! named ports `web` (TCP 80) and `dns` (UDP 53; 1053 on pod c). Pod b of the second namespace has 10.0.2.2 and
//! fd00::2:2. Those of namespace x are wired to this node.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::compile::{Options, compile};
use crate::eval::{Flow, Half, Judgement, evaluate};
use crate::interpret::{Packet, forwards};
use crate::model::{LocalPod, NamedPort, Pod, PodKey, PodUid, Policy, Protocol, World};
use crate::ruleset::Ruleset;
use crate::translate;

#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) world: World,
    pub(crate) local: Vec<LocalPod>,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let mut world = World::default();
        for (i, namespace) in (1_u16..).zip(["x", "y", "z"]) {
            let labels = [("ns", namespace), ("kubernetes.io/metadata.name", namespace)];
            world
                .namespaces
                .insert(namespace.to_owned(), labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
            for (j, name) in (1_u16..).zip(["a", "b", "c"]) {
                let dns = if name == "c" { 1053 } else { 53 };
                let pod = Pod {
                    uid: Some(PodUid(format!("{namespace}-{name}"))),
                    labels: Arc::new([("pod".to_owned(), name.to_owned())].into()),
                    ips: [ip(&format!("10.0.{i}.{j}")), ip(&format!("fd00::{i}:{j}"))].into(),
                    ports: Arc::new(
                        [named("web", Protocol::Tcp, 80), named("dns", Protocol::Udp, dns)].into(),
                    ),
                    active: true,
                    host_network: false,
                    node: Some(format!("node-{namespace}")),
                };
                world.pods.insert(key(&format!("{namespace}/{name}")), pod.into());
            }
        }
        let mut cluster = Self { world, local: Vec::new() };
        ["x/a", "x/b", "x/c"].into_iter().for_each(|name| cluster.wire(name));
        cluster
    }

    /// With these policies, separated by lines of `---`; see [`policy`].
    pub(crate) fn with(policies: &str) -> Self {
        let mut cluster = Self::new();
        policies.split("\n---\n").for_each(|text| cluster.add(text));
        cluster
    }

    pub(crate) fn add(&mut self, text: &str) {
        let policy = policy(text);
        self.world.policies.insert(policy.key.clone(), policy.into());
    }

    /// The CNI has wired the pod with the addresses of its status.
    pub(crate) fn wire(&mut self, name: &str) {
        let key = key(name);
        let pod = self.world.pods.get(&key).expect("a pod of the cluster");
        let link = format!("weft{}{}", key.namespace, key.name);
        self.local.push(LocalPod {
            uid: pod.uid.clone(),
            key,
            link,
            ips: pod.ips.clone(),
            ports: BTreeSet::new(),
        });
    }

    pub(crate) fn pod(&mut self, name: &str) -> &mut Pod {
        Arc::make_mut(self.world.pods.get_mut(&key(name)).expect("a pod of the cluster"))
    }

    /// `x/a -> y/b tcp/80`; an address may stand for a pod, and `x/a.6` for its IPv6 address.
    pub(crate) fn judge(&self, flow: &str) -> Judgement {
        evaluate(&self.world, &self.local, &self.flow(flow))
    }

    /// Fails unless the evaluator, and for what passes this node the compiled ruleset, say so.
    pub(crate) fn expect(&self, flows: &[(&str, bool)]) {
        let ruleset = self.compile();
        for (text, allowed) in flows {
            let flow = self.flow(text);
            let judgement = evaluate(&self.world, &self.local, &flow);
            assert_eq!(
                judgement.allowed(),
                *allowed,
                "{text}: {}; {}",
                judgement.egress.reason,
                judgement.ingress.reason
            );
            let here = [&judgement.egress, &judgement.ingress].into_iter().filter(|half| half.enforced_here);
            let allowed_here = here.into_iter().all(Half::allowed);
            assert_eq!(
                forwards(&ruleset, &self.packet(&flow)),
                allowed_here,
                "{text}: the ruleset disagrees"
            );
        }
    }

    pub(crate) fn compile(&self) -> Ruleset {
        compile(&self.world, &self.local, &Options::default()).ruleset
    }

    pub(crate) fn problems(&self) -> Vec<String> {
        let compiled = compile(&self.world, &self.local, &Options::default());
        compiled.problems.iter().map(|problem| format!("{}: {}", problem.object, problem.reason)).collect()
    }

    /// The packet of a flow, as this node sees it.
    pub(crate) fn packet(&self, flow: &Flow) -> Packet {
        let link = |ip: IpAddr| {
            let wired = self.local.iter().find(|local| local.ips.contains(&ip));
            wired.map_or("eth0".to_owned(), |local| local.link.clone())
        };
        Packet {
            iif: link(flow.source),
            oif: link(flow.destination),
            source: Some(flow.source),
            destination: Some(flow.destination),
            protocol: flow.protocol,
            port: flow.port,
            ..Packet::default()
        }
    }

    pub(crate) fn flow(&self, text: &str) -> Flow {
        let (ends, port) = text.rsplit_once(' ').expect("`FROM -> TO PROTOCOL/PORT`");
        let (source, destination) = ends.split_once(" -> ").expect("`FROM -> TO PROTOCOL/PORT`");
        let (protocol, port) = port.split_once('/').map_or((port, None), |(p, port)| (p, Some(port)));
        let protocol = match protocol {
            "tcp" => 6,
            "udp" => 17,
            "sctp" => 132,
            "icmp" => 1,
            other => panic!("unknown protocol {other}"),
        };
        let port = port.map(|port| port.parse().expect("a port"));
        Flow { source: self.address(source), destination: self.address(destination), protocol, port }
    }

    fn address(&self, end: &str) -> IpAddr {
        let (name, v4) = end
            .strip_suffix(".6")
            .filter(|name| name.contains('/'))
            .map_or((end, true), |name| (name, false));
        if !name.contains('/') {
            return ip(name);
        }
        let pod = &self.world.pods[&key(name)];
        *pod.ips.iter().find(|ip| ip.is_ipv4() == v4).expect("the pod has such an address")
    }
}

/// `text` is the spec, with `name` and `namespace` beside its fields if they are not `p` and `x`.
pub(crate) fn policy(text: &str) -> Policy {
    #[derive(serde::Deserialize)]
    struct Place {
        name: Option<String>,
        namespace: Option<String>,
    }
    let place: Place = serde_saphyr::from_str(text).expect("YAML");
    let spec: NetworkPolicySpec = serde_saphyr::from_str(text).expect("YAML of a NetworkPolicy's spec");
    let name = place.name.or(Some("p".to_owned()));
    let namespace = place.namespace.or(Some("x".to_owned()));
    let metadata = ObjectMeta { name, namespace, ..ObjectMeta::default() };
    translate::policy(&NetworkPolicy { metadata, spec: Some(spec) }).expect("the policy has a name")
}

pub(crate) fn key(text: &str) -> PodKey {
    let (namespace, name) = text.split_once('/').expect("`namespace/name`");
    PodKey { namespace: namespace.to_owned(), name: name.to_owned() }
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub(crate) fn named(name: &str, protocol: Protocol, port: u16) -> NamedPort {
    NamedPort { name: name.to_owned(), protocol, port }
}
