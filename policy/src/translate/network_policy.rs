//! NetworkPolicy to [`Policy`]: defaults filled in, every part understood or refused by the name of its field.

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::cidr::parse_cidr_sloppy;
use super::namespace::{name_of, namespace_of};
use super::port::{port_number, protocol};
use crate::model::{
    AnyOr, Block, FieldError, MAX_PORTS, MAX_PREFIXES, MAX_SELECTORS, NamespaceMatch, PodPeer, Policy,
    PolicyKey, PolicyPeer, PortMatch, PortSpec, Rule,
};
use crate::selector::{Operator, Requirement, Selector};

/// Refuses only a policy without a name. Other faults are in [`Policy::errors`], and what they touch is closed.
pub fn policy(object: &NetworkPolicy) -> Result<Policy, FieldError> {
    let metadata = &object.metadata;
    let key = PolicyKey { name: name_of(metadata)?, namespace: namespace_of(metadata) };
    let spec = object.spec.clone().unwrap_or_default();
    let mut reader = Reader { key, errors: Vec::new() };
    let (subjects, directions) = reader.scope(&spec);
    let (ingress, egress) = match directions {
        Some((ingress, egress)) => {
            (ingress.then(|| reader.ingress(&spec)), egress.then(|| reader.egress(&spec)))
        }
        // Whom it selects or in which direction is anyone's guess: it allows nothing at all.
        None => (Some(Vec::new()), Some(Vec::new())),
    };
    Ok(Policy { key: reader.key, object: spec, subjects, ingress, egress, errors: reader.errors })
}

/// What a part means, or (field below the part, reason).
type Read<T> = Result<T, (&'static str, String)>;

struct Reader {
    key: PolicyKey,
    errors: Vec<FieldError>,
}

impl Reader {
    /// The subjects, and whether ingress and egress are isolated; `None` if the policy is unusable.
    fn scope(&mut self, spec: &NetworkPolicySpec) -> (Selector, Option<(bool, bool)>) {
        let empty = LabelSelector::default();
        let subjects = selector(spec.pod_selector.as_ref().unwrap_or(&empty)).map_err(|reason| ("", reason));
        let subjects = self.note("spec.podSelector", subjects);
        let directions = self.note("spec.policyTypes", directions(spec).map_err(|reason| ("", reason)));
        let size = self.note("spec", size(spec).map_err(|reason| ("", reason)));
        match subjects {
            Some(subjects) => (subjects, directions.filter(|_| size.is_some())),
            None => (Selector::default(), None),
        }
    }

    fn ingress(&mut self, spec: &NetworkPolicySpec) -> Vec<Rule> {
        let rules = spec.ingress.iter().flatten().enumerate();
        rules
            .map(|(index, rule)| {
                let at = format!("spec.ingress[{index}]");
                Rule {
                    ports: self.ports(&at, &rule.ports),
                    peers: self.peers(&format!("{at}.from"), &rule.from),
                }
            })
            .collect()
    }

    fn egress(&mut self, spec: &NetworkPolicySpec) -> Vec<Rule> {
        let rules = spec.egress.iter().flatten().enumerate();
        rules
            .map(|(index, rule)| {
                let at = format!("spec.egress[{index}]");
                Rule { ports: self.ports(&at, &rule.ports), peers: self.peers(&format!("{at}.to"), &rule.to) }
            })
            .collect()
    }

    fn ports(&mut self, at: &str, ports: &Option<Vec<NetworkPolicyPort>>) -> AnyOr<PortMatch> {
        self.list(&format!("{at}.ports"), ports, port_match)
    }

    fn peers(&mut self, at: &str, peers: &Option<Vec<NetworkPolicyPeer>>) -> AnyOr<PolicyPeer> {
        let namespace = self.key.namespace.clone();
        self.list(at, peers, |peer| policy_peer(peer, &namespace))
    }

    /// A missing list and an empty one are the same: over the wire nobody can tell them apart.
    fn list<T, U>(&mut self, at: &str, items: &Option<Vec<T>>, read: impl Fn(&T) -> Read<U>) -> AnyOr<U> {
        match items.as_deref() {
            None | Some([]) => AnyOr::Any,
            Some(items) => {
                let items = items.iter().enumerate();
                AnyOr::Only(
                    items.filter_map(|(i, item)| self.note(&format!("{at}[{i}]"), read(item))).collect(),
                )
            }
        }
    }

    fn note<T>(&mut self, at: &str, read: Read<T>) -> Option<T> {
        let (below, reason) = match read {
            Ok(value) => return Some(value),
            Err(fault) => fault,
        };
        self.errors.push(FieldError { field: format!("{at}{below}"), reason });
        None
    }
}

/// Without `policyTypes`: ingress always, egress if there are egress rules.
fn directions(spec: &NetworkPolicySpec) -> Result<(bool, bool), String> {
    let types = spec.policy_types.as_deref().unwrap_or_default();
    if types.is_empty() {
        return Ok((true, spec.egress.as_ref().is_some_and(|rules| !rules.is_empty())));
    }
    if let Some(other) = types.iter().find(|name| !matches!(name.as_str(), "Ingress" | "Egress")) {
        return Err(format!(
            "`{other}` is neither Ingress nor Egress; the policy denies both to what it selects"
        ));
    }
    let lists = |wanted: &str| types.iter().any(|name| name == wanted);
    Ok((lists("Ingress"), lists("Egress")))
}

/// The error says of what it has too much.
fn size(spec: &NetworkPolicySpec) -> Result<(), String> {
    let ingress = spec.ingress.iter().flatten().map(|rule| (&rule.ports, &rule.from));
    let egress = spec.egress.iter().flatten().map(|rule| (&rule.ports, &rule.to));
    let (mut ports, mut selectors, mut prefixes) = (0, 0, 0);
    for (rule_ports, peers) in ingress.chain(egress) {
        ports += rule_ports.as_ref().map_or(0, Vec::len);
        for peer in peers.iter().flatten() {
            match &peer.ip_block {
                Some(block) => prefixes += 1 + block.except.as_ref().map_or(0, Vec::len),
                None => selectors += 1,
            }
        }
    }
    let limits = [
        (ports, MAX_PORTS, "ports"),
        (selectors, MAX_SELECTORS, "peers"),
        (prefixes, MAX_PREFIXES, "prefixes in ipBlocks"),
    ];
    match limits.into_iter().find(|(count, most, _)| count > most) {
        Some((count, most, what)) => Err(format!(
            "has {count} {what}, more than {most}; the policy denies both ways to what it selects"
        )),
        None => Ok(()),
    }
}

fn port_match(port: &NetworkPolicyPort) -> Read<PortMatch> {
    let protocol = protocol(port.protocol.as_deref()).map_err(|reason| (".protocol", reason))?;
    let number = |field, value: i32| {
        port_number(value).ok_or_else(|| (field, format!("{value} is not between 1 and 65535")))
    };
    let port = match (&port.port, port.end_port) {
        (None, None) => PortSpec::All,
        (Some(IntOrString::String(name)), None) => PortSpec::Named(name.clone()),
        (Some(IntOrString::Int(first)), end) => {
            let first = number(".port", *first)?;
            let last = end.map_or(Ok(first), |end| number(".endPort", end))?;
            if last < first {
                return Err((".endPort", format!("{last} is less than port {first}")));
            }
            PortSpec::Range { first, last }
        }
        (None | Some(IntOrString::String(_)), Some(_)) => {
            return Err((".endPort", "needs a numeric port to begin at".to_owned()));
        }
    };
    Ok(PortMatch { protocol, port })
}

fn policy_peer(peer: &NetworkPolicyPeer, namespace: &str) -> Read<PolicyPeer> {
    let read = |field, given: &LabelSelector| selector(given).map_err(|reason| (field, reason));
    let pods = peer.pod_selector.as_ref().map(|given| read(".podSelector", given)).transpose()?;
    let namespaces =
        peer.namespace_selector.as_ref().map(|given| read(".namespaceSelector", given)).transpose()?;
    match (&peer.ip_block, namespaces, pods) {
        (Some(given), None, None) => block(given).map(PolicyPeer::Block),
        (Some(_), _, _) => Err(("", "has an ipBlock beside a selector; it matches nothing".to_owned())),
        (None, None, None) => Err(("", "has no field known here; it matches nothing".to_owned())),
        (None, None, Some(pods)) => {
            Ok(PolicyPeer::Pods(PodPeer { namespaces: NamespaceMatch::Named(namespace.to_owned()), pods }))
        }
        (None, Some(namespaces), pods) => Ok(PolicyPeer::Pods(PodPeer {
            namespaces: NamespaceMatch::Labelled(namespaces),
            pods: pods.unwrap_or_default(),
        })),
    }
}

/// With one unreadable `except` the whole block is unusable: it would allow what its author took out.
fn block(given: &IPBlock) -> Read<Block> {
    let prefix = |field, text: &str| {
        parse_cidr_sloppy(text)
            .ok_or_else(|| (field, format!("`{text}` is no CIDR; the block matches nothing")))
    };
    Ok(Block {
        prefix: prefix(".ipBlock.cidr", &given.cidr)?,
        except: given
            .except
            .iter()
            .flatten()
            .map(|text| prefix(".ipBlock.except", text))
            .collect::<Result<_, _>>()?,
    })
}

/// The error says what is wrong, not where.
pub fn selector(given: &LabelSelector) -> Result<Selector, String> {
    let labels = given.match_labels.iter().flatten().map(|(key, value)| {
        Ok(Requirement { key: key.clone(), operator: Operator::In([value.clone()].into()) })
    });
    let expressions = given.match_expressions.iter().flatten().map(requirement);
    Ok(Selector { requirements: labels.chain(expressions).collect::<Result<_, String>>()? })
}

fn requirement(given: &LabelSelectorRequirement) -> Result<Requirement, String> {
    let values = given.values.iter().flatten().cloned().collect();
    let operator = match (given.operator.as_str(), given.values.as_deref().unwrap_or_default()) {
        ("In" | "NotIn", []) => return Err(format!("{} for `{}` has no values", given.operator, given.key)),
        ("In", _) => Operator::In(values),
        ("NotIn", _) => Operator::NotIn(values),
        ("Exists", []) => Operator::Exists,
        ("DoesNotExist", []) => Operator::DoesNotExist,
        ("Exists" | "DoesNotExist", _) => {
            return Err(format!("{} for `{}` has values", given.operator, given.key));
        }
        (other, _) => return Err(format!("`{other}` for `{}` is no operator", given.key)),
    };
    Ok(Requirement { key: given.key.clone(), operator })
}
