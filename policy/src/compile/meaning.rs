//! What a set stands for, as octets; the set is named by their hash.
//!
//! Names outlive an upgrade only if the octets do: with others the first commit of the new agent replaces every set. So
//! they are written out here and never derived from how a type is called or printed. Different meanings have different
//! octets: each text and each list begins with its length, each choice with a number.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::allowance::{NamedItem, Peers};
use crate::model::{Block, NamespaceMatch, PodPeer};
use crate::selector::{Operator, Selector};

/// Of the pods that any of `peers` means.
pub(super) fn of_pods(peers: &BTreeSet<&PodPeer>) -> Vec<u8> {
    let mut out = Vec::new();
    list(&mut out, peers.iter(), |out, peer| pod_peer(out, peer));
    out
}

/// Of the ports that the peers name for themselves. Neither order nor repetition counts.
pub(super) fn of_named(items: &[NamedItem<'_>], peers: &[Peers<'_>]) -> Vec<u8> {
    let item = |item: &NamedItem<'_>| {
        let mut out = vec![item.protocol.number()];
        text(&mut out, item.name);
        union(&mut out, &peers[item.peers]);
        out
    };
    let items: BTreeSet<_> = items.iter().map(item).collect();
    let mut out = Vec::new();
    list(&mut out, items.iter(), Extend::extend);
    out
}

pub(super) fn of_prefixes(prefixes: &BTreeSet<IpNetwork>) -> Vec<u8> {
    let mut out = Vec::new();
    list(&mut out, prefixes.iter(), |out, prefix| self::prefix(out, *prefix));
    out
}

fn union(out: &mut Vec<u8>, peers: &Peers<'_>) {
    out.push(peers.any.into());
    list(out, peers.pods.iter(), |out, peer| pod_peer(out, peer));
    list(out, peers.blocks.iter(), |out, block| self::block(out, block));
}

fn pod_peer(out: &mut Vec<u8>, peer: &PodPeer) {
    match &peer.namespaces {
        NamespaceMatch::Named(name) => {
            out.push(0);
            text(out, name);
        }
        NamespaceMatch::Labelled(labels) => {
            out.push(1);
            selector(out, labels);
        }
    }
    selector(out, &peer.pods);
}

fn selector(out: &mut Vec<u8>, given: &Selector) {
    list(out, given.requirements.iter(), |out, requirement| {
        text(out, &requirement.key);
        let (number, values) = match &requirement.operator {
            Operator::In(values) => (0, Some(values)),
            Operator::NotIn(values) => (1, Some(values)),
            Operator::Exists => (2, None),
            Operator::DoesNotExist => (3, None),
        };
        out.push(number);
        if let Some(values) = values {
            list(out, values.iter(), |out, value| text(out, value));
        }
    });
}

fn block(out: &mut Vec<u8>, block: &Block) {
    prefix(out, block.prefix);
    list(out, block.except.iter(), |out, except| prefix(out, *except));
}

/// The family first, which says how many octets follow.
fn prefix(out: &mut Vec<u8>, prefix: IpNetwork) {
    match prefix.ip() {
        IpAddr::V4(v4) => {
            out.extend([4, prefix.prefix()]);
            out.extend(v4.octets());
        }
        IpAddr::V6(v6) => {
            out.extend([6, prefix.prefix()]);
            out.extend(v6.octets());
        }
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    length(out, text.len());
    out.extend(text.bytes());
}

fn list<T>(
    out: &mut Vec<u8>,
    items: impl ExactSizeIterator<Item = T>,
    mut each: impl FnMut(&mut Vec<u8>, T),
) {
    length(out, items.len());
    items.for_each(|item| each(out, item));
}

fn length(out: &mut Vec<u8>, length: usize) {
    out.extend(format!("{length}:").bytes());
}

#[cfg(test)]
mod tests {
    use crate::testing::Cluster;

    /// Another name here means that every node replaces these sets when it is upgraded.
    #[test]
    fn sets_keep_their_names_from_release_to_release() {
        let blocks: Vec<_> = (0..17).map(|i| format!("{{ipBlock: {{cidr: 10.{i}.0.0/16}}}}")).collect();
        let cluster = Cluster::with(&format!(
            "
{{name: selectors, podSelector: {{matchLabels: {{pod: a}}}}, policyTypes: [Ingress], ingress: [{{from: [
  {{podSelector: {{matchExpressions: [{{key: k, operator: NotIn, values: [a, b]}}, {{key: e, operator: Exists}}]}}}},
  {{namespaceSelector: {{matchExpressions: [{{key: d, operator: DoesNotExist}}]}}, podSelector: {{matchLabels: {{pod: b}}}}}}]}}]}}
---
{{name: named, podSelector: {{matchLabels: {{pod: a}}}}, policyTypes: [Egress], egress: [
  {{ports: [{{port: web}}], to: [{{namespaceSelector: {{}}}}, {{ipBlock: {{cidr: 'fd00::/8', except: ['fd00::/16']}}}}]}},
  {{to: [{}]}}]}}",
            blocks.join(", ")
        ));
        let names = cluster.compile().sets.into_keys().filter(|name| name.contains('_'));
        assert_eq!(names.collect::<Vec<_>>(), NAMES);
    }

    const NAMES: [&str; 5] = [
        "m4_dbbecacc303d1c07",
        "n4_89ffb5fa184d018f",
        "n6_89ffb5fa184d018f",
        "u4_f4e90d860e121dc7",
        "u6_f4e90d860e121dc7",
    ];
}
