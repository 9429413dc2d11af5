//! Who has an address: among the pods wired here, and as a peer.
//!
//! The CNI's word counts before the API's. A pod wired here has the addresses of its links and no others, and no other
//! pod has them, whatever a status says that lags behind. So a reused address belongs at once to its new pod.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use weft_api::control::Problem;

use crate::model::{LocalPod, Pod, PodKey, World};

/// A local address: the link it must come from, and whose policies rule it.
#[derive(Clone, Copy)]
pub(super) enum Owner<'a> {
    Pod {
        link: &'a str,
        key: &'a PodKey,
        pod: &'a Pod,
    },
    /// In no namespace: open both ways.
    Nameless {
        link: &'a str,
    },
    /// The pod's labels are not known yet, or it has ended: closed both ways.
    Closed {
        link: &'a str,
    },
    /// Two links claim it: closed both ways and from both.
    Disputed,
}

pub(super) struct Owners<'a> {
    world: &'a World,
    wired: BTreeMap<&'a PodKey, Vec<&'a LocalPod>>,
    addresses: BTreeMap<IpAddr, Owner<'a>>,
}

impl<'a> Owners<'a> {
    pub(super) fn new(world: &'a World, local: &'a [LocalPod], problems: &mut Vec<Problem>) -> Self {
        let mut wired: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut claims: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for pod in local.iter().collect::<BTreeSet<_>>() {
            wired.entry(&pod.key).or_default().push(pod);
            for ip in &pod.ips {
                claims.entry(*ip).or_default().push(pod);
            }
        }
        let settle = |(ip, claims): (IpAddr, Vec<&'a LocalPod>)| (ip, settle(world, ip, &claims, problems));
        Self { world, wired, addresses: claims.into_iter().map(settle).collect() }
    }

    /// Every address of a pod wired here.
    pub(super) fn local(&self) -> impl Iterator<Item = (IpAddr, Owner<'a>)> {
        self.addresses.iter().map(|(ip, owner)| (*ip, *owner))
    }

    /// The pods wired here.
    pub(super) fn wired(&self) -> impl Iterator<Item = &'a PodKey> {
        self.wired.keys().copied()
    }

    /// Pairs of links that lead to one pod.
    pub(super) fn hairpins(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let same_pod = self.wired.values();
        same_pod.flat_map(|links| links.iter().flat_map(|a| links.iter().map(|b| (&*a.link, &*b.link))))
    }

    /// The pods that can be peers, in the order of their keys, with their addresses.
    pub(super) fn peers(&self) -> impl Iterator<Item = (&'a PodKey, &'a Pod, Cow<'a, BTreeSet<IpAddr>>)> {
        let pods = self.world.pods.iter().filter(|(_, pod)| pod.active && !pod.host_network);
        pods.map(|(key, pod)| (key, &**pod, self.addresses_of(key, pod)))
    }

    fn addresses_of(&self, key: &PodKey, pod: &'a Pod) -> Cow<'a, BTreeSet<IpAddr>> {
        let mut links = self.wired.get(key).into_iter().flatten().filter(|local| local.is(pod)).peekable();
        if links.peek().is_some() {
            return Cow::Owned(links.flat_map(|local| &local.ips).copied().collect());
        }
        let is_free = |ip: &&IpAddr| !self.addresses.contains_key(*ip);
        if pod.ips.iter().all(|ip| is_free(&ip)) {
            return Cow::Borrowed(&pod.ips);
        }
        Cow::Owned(pod.ips.iter().filter(is_free).copied().collect())
    }
}

/// A pod that has ended yields to one that lives; that two live ones share an address is for someone to repair.
fn settle<'a>(
    world: &'a World,
    ip: IpAddr,
    claims: &[&'a LocalPod],
    problems: &mut Vec<Problem>,
) -> Owner<'a> {
    let state =
        |local: &&'a LocalPod| world.pods.get(&local.key).filter(|pod| local.is(pod) && !pod.host_network);
    let lives = |local: &&&'a LocalPod| state(local).is_none_or(|pod| pod.active);
    let living: Vec<_> = claims.iter().filter(lives).collect();
    match living.as_slice() {
        [] => claims.first().map_or(Owner::Disputed, |local| Owner::Closed { link: &local.link }),
        [local] if local.is_nameless() => Owner::Nameless { link: &local.link },
        [local] => match state(local) {
            Some(pod) => Owner::Pod { link: &local.link, key: &local.key, pod },
            None => Owner::Closed { link: &local.link },
        },
        [first, others @ ..] => {
            let others: Vec<_> = others.iter().map(|local| local.link.as_str()).collect();
            problems.push(Problem {
                object: format!("pod {}", first.key),
                reason: format!(
                    "link {}: has the address {ip} that {} has too; it is closed",
                    first.link,
                    others.join(", ")
                ),
            });
            Owner::Disputed
        }
    }
}
