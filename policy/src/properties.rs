//! What holds for every world: the compiled ruleset means what the policies say.

pub(crate) mod random;

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use weft_api::control::Problem;

use crate::compile::{Options, compile};
use crate::eval::{Flow, Half, evaluate};
use crate::interpret::{Packet, forwards};
use crate::model::{PolicyKey, World};
use crate::nft::Transaction;
use crate::ruleset::{Chain, End, Match, Ruleset, Value, Verdict};
use crate::testing::{Cluster, policy};

proptest! {

    #[test]
    fn the_ruleset_forwards_what_the_evaluator_allows(cluster in random::cluster()) {
        let ruleset = cluster.compile();
        for flow in random::flows() {
            let judgement = evaluate(&cluster.world, &cluster.local, &flow);
            let allowed = [&judgement.egress, &judgement.ingress]
                .into_iter()
                .filter(|half| half.enforced_here)
                .all(Half::allowed);
            let packets = cluster.packets(&flow);
            let forwarded = packets.iter().any(|packet| forwards(&ruleset, packet));
            prop_assert_eq!(forwarded, allowed, "{:?}: {:?}", flow, judgement);
        }
    }

    #[test]
    fn only_a_pod_s_own_link_may_send_from_its_address(cluster in random::cluster()) {
        let ruleset = cluster.compile();
        for flow in random::flows() {
            for local in cluster.local.iter().filter(|local| !local.ips.contains(&flow.source)) {
                for mut packet in cluster.packets(&flow) {
                    packet.iif.clone_from(&local.link);
                    prop_assert!(!forwards(&ruleset, &packet), "{:?}", packet);
                }
            }
        }
    }

    #[test]
    fn names_are_complete_and_none_is_left_over(cluster in random::cluster()) {
        let ruleset = cluster.compile();
        let used = used_names(&ruleset);
        let base = ruleset.chains.iter().filter(|(_, chain)| chain.base.is_some()).map(|(name, _)| name);
        // Reached only when something is denied, disputed or revoked.
        let fixed = ["deny_e", "deny_i", "pending", "hairpin"].map(str::to_owned);
        let there: BTreeSet<_> = ruleset.chains.keys().chain(ruleset.sets.keys()).chain(ruleset.maps.keys()).collect();
        let expected: BTreeSet<_> = used.iter().chain(base).chain(&fixed).collect();
        prop_assert_eq!(there, expected);
        prop_assert!(used.iter().all(|name| name.len() <= 31));
    }

    #[test]
    fn neither_order_nor_names_of_policies_matter(cluster in random::cluster()) {
        let mut other = Cluster { world: cluster.world.clone(), local: cluster.local.clone() };
        other.local.reverse();
        let policies = std::mem::take(&mut other.world.policies);
        for (i, (key, mut policy)) in policies.into_inner().into_iter().rev().enumerate() {
            let key = PolicyKey { namespace: key.namespace, name: format!("r{i}") };
            Arc::make_mut(&mut policy).key = key.clone();
            other.world.policies.insert(key, policy);
        }
        prop_assert_eq!(other.compile(), cluster.compile());
    }

    #[test]
    fn a_ruleset_that_follows_pods_is_the_one_that_is_compiled_of_them(
        cluster in random::cluster(),
        edits in vec(vec(random::edit(), 1..4), 1..6),
    ) {
        let compile = |world: &World| compile(world, &cluster.local, &Options::default());
        let (mut before, mut compiled) = (cluster.world.clone(), compile(&cluster.world));
        for edits in edits {
            let mut after = before.clone();
            for (key, pod) in edits {
                match pod {
                    Some(pod) => drop(after.pods.insert(key, pod.into())),
                    None => drop(after.pods.remove(&key)),
                }
            }
            let (anew, have) = (compile(&after), compiled.ruleset.clone());
            match compiled.follow(&before, &after) {
                None => compiled = anew,
                Some(followed) => {
                    prop_assert_eq!((&compiled.ruleset, &compiled.problems), (&anew.ruleset, &anew.problems));
                    let mut kernel = have.clone();
                    Transaction::of_sets(&followed.sets).apply_to(&mut kernel);
                    prop_assert_eq!(&kernel, &anew.ruleset);
                    prop_assert_eq!(followed.sets.is_empty(), have == anew.ruleset);
                }
            }
            before = after;
        }
    }

    #[test]
    fn another_policy_on_isolated_pods_takes_nothing_away(mut cluster in random::cluster(), more in random::policy()) {
        for namespace in random::NAMESPACES {
            cluster.world.policies.insert(
                PolicyKey { namespace: namespace.to_owned(), name: "deny".to_owned() },
                policy(&format!("{{name: deny, namespace: {namespace}, policyTypes: [Ingress, Egress]}}")).into(),
            );
        }
        let before = cluster.compile();
        cluster.world.policies.insert(PolicyKey { name: "more".to_owned(), ..more.key.clone() }, more.into());
        let after = cluster.compile();
        for packet in random::flows().flat_map(|flow| cluster.packets(&flow)) {
            prop_assert!(!forwards(&before, &packet) || forwards(&after, &packet), "{:?}", packet);
        }
    }

    #[test]
    fn problems_are_those_of_policies_and_disputes(cluster in random::cluster()) {
        let compiled = compile(&cluster.world, &cluster.local, &Options::default());
        let (disputes, others): (Vec<_>, Vec<_>) =
            compiled.problems.into_iter().partition(|problem| problem.reason.starts_with("link "));
        let errors = cluster.world.policies.values().flat_map(|policy| {
            let object = format!("networkpolicy {}", policy.key);
            policy.errors.iter().map(move |error| Problem { object: object.clone(), reason: error.to_string() })
        });
        let mut expected: Vec<_> = errors.collect();
        expected.sort();
        prop_assert_eq!(others, expected);
        prop_assert_eq!(disputes.is_empty(), random::disputed(&cluster).is_empty());
    }
}

#[test]
fn established_flows_pass_unless_revoked() {
    let cluster = Cluster::with("{podSelector: {}, policyTypes: [Ingress, Egress]}");
    let ruleset = cluster.compile();
    let new = cluster.packet(&cluster.flow("y/a -> x/a tcp/80"));
    assert!(!forwards(&ruleset, &new));
    let established = Packet { established: true, ..new.clone() };
    assert!(forwards(&ruleset, &established));
    assert!(forwards(&ruleset, &Packet { mark: 0x0000_4000, ..established.clone() }), "another's mark bit");
    assert!(!forwards(&ruleset, &Packet { mark: 0x4000_0001, ..established }));

    let ruleset = Cluster::new().compile();
    assert!(forwards(&ruleset, &new));
    assert!(
        !forwards(&ruleset, &Packet { mark: 0x4000_0000, ..new }),
        "revoked, seen first from the other side"
    );
}

#[test]
fn a_link_without_a_pod_passes_nothing() {
    let cluster = Cluster::new();
    let ruleset = cluster.compile();
    let flow = cluster.flow("10.0.1.99 -> 10.0.1.98 tcp/80");
    let outside = cluster.packet(&flow);
    assert!(forwards(&ruleset, &outside), "not between pods of this node");
    assert!(!forwards(&ruleset, &Packet { iif: "weftnew".to_owned(), ..outside.clone() }));
    assert!(!forwards(&ruleset, &Packet { oif: "weftnew".to_owned(), ..outside }));
}

#[test]
fn neighbour_discovery_passes_the_spoofing_check_and_nothing_else_link_local_does() {
    use crate::interpret::passes;
    use crate::ruleset::Hook;
    let ruleset = Cluster::new().compile();
    let from = |source: &str, icmpv6_type| Packet {
        iif: "weftxa".to_owned(),
        source: Some(source.parse().unwrap()),
        protocol: 58,
        icmpv6_type: Some(icmpv6_type),
        ..Packet::default()
    };
    for (source, icmpv6_type, passing) in [
        ("fe80::1", 135, true),
        ("::", 135, true),
        ("fe80::1", 136, true),
        ("fe80::1", 134, false),
        ("fe80::1", 128, false),
        ("fd00::1:2", 135, false),
    ] {
        assert_eq!(
            passes(&ruleset, Hook::Prerouting, &from(source, icmpv6_type)),
            passing,
            "{source} {icmpv6_type}"
        );
    }
    let udp = Packet { protocol: 17, port: Some(53), ..from("fe80::1", 135) };
    assert!(!passes(&ruleset, Hook::Prerouting, &udp));
}

impl Cluster {
    /// A flow's packet by each link that its ends may be at.
    fn packets(&self, flow: &Flow) -> Vec<Packet> {
        let links = |ip| {
            let links: Vec<_> =
                self.local.iter().filter(|pod| pod.ips.contains(&ip)).map(|pod| pod.link.clone()).collect();
            if links.is_empty() { vec!["eth0".to_owned()] } else { links }
        };
        let pairs = links(flow.source)
            .into_iter()
            .flat_map(|iif| links(flow.destination).into_iter().map(move |oif| (iif.clone(), oif)));
        pairs.map(|(iif, oif)| Packet { iif, oif, ..self.packet(flow) }).collect()
    }
}

/// All names that rules and map entries refer to.
fn used_names(ruleset: &Ruleset) -> BTreeSet<String> {
    let rules = ruleset.chains.values().flat_map(|Chain { rules, .. }| rules);
    let mut used = BTreeSet::new();
    for rule in rules {
        used.extend(rule.matches.iter().filter_map(Match::set).cloned());
        match &rule.end {
            End::Continue | End::Masquerade => {}
            End::Verdict(verdict) => used.extend(target(verdict)),
            End::AddrMap { map, .. } | End::Dnat { map, .. } => used.extend([map.clone()]),
            End::PortMap(entries) => used.extend(entries.values().filter_map(target)),
        }
    }
    let verdicts =
        ruleset.maps.values().flat_map(|map| map.elements.values()).filter_map(|value| match value {
            Value::Verdict(verdict) => target(verdict),
            Value::Endpoint(..) => None,
        });
    used.extend(verdicts);
    used
}

fn target(verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::Jump(name) | Verdict::Goto(name) => Some(name.clone()),
        Verdict::Accept | Verdict::Drop | Verdict::Return => None,
    }
}
