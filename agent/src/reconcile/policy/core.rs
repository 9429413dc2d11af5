//! One commit: what was compiled follows the pods that changed elsewhere, or all is compiled and compared with what the
//! kernel holds; the difference is sent. Blocking.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_api::control::PolicyStatus;
use weft_api::control::Problem;
use weft_policy::compile::{Compiled, Followed, Options, compile};
use weft_policy::model::{LocalPod, World};
use weft_policy::nft::{Change, Dump, Transaction};
use weft_policy::ruleset::{KeyField, Ruleset, Value};

use crate::kernel::nft::{NftError, NftMonitor, NftTable};

pub(super) struct Core {
    table: NftTable,
    have: Have,
    options: Options,
}

/// What we know of the table.
#[derive(Default)]
enum Have {
    /// A commit failed.
    #[default]
    Nothing,
    /// It was read. What of it is ours shows when it is known what is wanted.
    Found(Dump),
    /// What the kernel has acknowledged.
    Committed(Box<Last>),
}

struct Last {
    compiled: Compiled,
    /// Of what it was compiled.
    world: World,
    local: Arc<Vec<LocalPod>>,
}

pub(super) struct Committed {
    pub(super) changes: usize,
    /// Whether established flows are to be judged by it.
    pub(super) judge: Judgement,
    /// UDP ports of the node that lead to a pod from now on.
    pub(super) opened: BTreeSet<SocketAddr>,
    pub(super) took: Duration,
    pub(super) counts: PolicyStatus,
    pub(super) problems: BTreeSet<Problem>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    None,
    /// Only pods came and went elsewhere: who talked to one that is gone has nobody to talk to.
    Later,
    Now,
}

impl Core {
    pub(super) fn open() -> Result<Self, NftError> {
        let (table, found) = NftTable::open()?;
        Ok(Self { table, have: Have::Found(found), options: Options::default() })
    }

    pub(super) fn monitor(&self) -> Result<NftMonitor, NftError> {
        Ok(NftMonitor::open(&self.table)?)
    }

    /// With `audit` the kernel is asked what it holds; else we know. `local` is another list where it says something else.
    pub(super) fn commit(
        &mut self,
        world: &World,
        local: &Arc<Vec<LocalPod>>,
        audit: bool,
    ) -> Result<Committed, NftError> {
        let begun = Instant::now();
        // Until the kernel has acknowledged this commit, nothing is known.
        let known = std::mem::take(&mut self.have);
        let mut have = if audit { Have::Nothing } else { known };
        let followed = match &mut have {
            Have::Committed(last) => last.follow(world, local),
            Have::Found(_) | Have::Nothing => None,
        };
        let (last, transaction, judge) = match (have, followed) {
            (Have::Committed(last), Some(followed)) => {
                (last, Transaction::of_sets(&followed.sets), Judgement::of(&followed))
            }
            (have, _) => {
                let compiled = compile(world, local, &self.options);
                let transaction = Transaction::diff(&compiled.ruleset, &self.held(have, &compiled)?);
                let judge = if transaction.is_empty() { Judgement::None } else { Judgement::Now };
                let last = Last { compiled, world: world.clone(), local: Arc::clone(local) };
                (Box::new(last), transaction, judge)
            }
        };
        if !transaction.is_empty() {
            self.table.commit(&transaction)?;
        }
        let committed = Committed {
            changes: transaction.changes().len(),
            judge,
            opened: opened_udp_ports(&transaction),
            took: begun.elapsed(),
            counts: counts(&last.compiled.ruleset),
            problems: last.compiled.problems.iter().cloned().collect(),
        };
        self.have = Have::Committed(last);
        Ok(committed)
    }

    /// What the table holds.
    fn held(&mut self, have: Have, wanted: &Compiled) -> Result<Ruleset, NftError> {
        Ok(match have {
            Have::Nothing => self.table.resync()?.recognise(&wanted.ruleset),
            Have::Found(found) => found.recognise(&wanted.ruleset),
            Have::Committed(last) => last.compiled.ruleset,
        })
    }
}

impl Last {
    fn follow(&mut self, world: &World, local: &Arc<Vec<LocalPod>>) -> Option<Followed> {
        if !Arc::ptr_eq(&self.local, local) {
            return None;
        }
        let followed = self.compiled.follow(&self.world, world)?;
        self.world = world.clone();
        Some(followed)
    }
}

impl Judgement {
    fn of(followed: &Followed) -> Self {
        match (followed.sets.is_empty(), followed.concerns_flows) {
            (true, _) => Self::None,
            (false, false) => Self::Later,
            (false, true) => Self::Now,
        }
    }
}

/// The unspecified address stands for all of its family.
fn opened_udp_ports(transaction: &Transaction) -> BTreeSet<SocketAddr> {
    let entries = transaction.changes().iter().filter_map(|change| match change {
        Change::AddMapElements { entries, .. } => Some(entries),
        _ => None,
    });
    let port = |(key, value): &(Vec<KeyField>, Value)| {
        let Value::Endpoint(pod, _) = value else { return None };
        let [at @ .., KeyField::Proto(17), KeyField::Port(port)] = &key[..] else { return None };
        let address = match (at, pod) {
            ([KeyField::Ipv4(v4)], _) => IpAddr::V4(*v4),
            ([KeyField::Ipv6(v6)], _) => IpAddr::V6(*v6),
            (_, IpAddr::V4(_)) => Ipv4Addr::UNSPECIFIED.into(),
            (_, IpAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
        };
        Some(SocketAddr::new(address, *port))
    };
    entries.flatten().filter_map(port).collect()
}

fn counts(ruleset: &Ruleset) -> PolicyStatus {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let elements = ruleset.sets.values().map(|set| set.elements.len()).sum::<usize>()
        + ruleset.maps.values().map(|map| map.elements.len()).sum::<usize>();
    PolicyStatus {
        revision: 0,
        policies: 0,
        chains: count(ruleset.chains.len()),
        sets: count(ruleset.sets.len() + ruleset.maps.len()),
        set_elements: count(elements),
        flow_scans: 0,
    }
}

#[cfg(test)]
mod tests {
    use weft_policy::model::{HostPort, PodKey, Protocol};

    use super::*;

    #[test]
    fn udp_ports_that_begin_to_lead_to_a_pod_are_named_with_their_address() {
        let port = |protocol, host_port, host_ip: Option<&str>| HostPort {
            protocol,
            host_port,
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            port: 8000,
        };
        let (udp, tcp) = (Protocol::Udp, Protocol::Tcp);
        let kept = port(udp, 53, None);
        let pod = |ports: &[HostPort]| LocalPod {
            key: PodKey { namespace: "demo".to_owned(), name: "dns".to_owned() },
            uid: None,
            link: "weft0".to_owned(),
            ips: ["10.1.0.2".parse().unwrap(), "fd00::2".parse().unwrap()].into(),
            ports: ports.iter().copied().collect(),
        };
        let ruleset =
            |ports: &[HostPort]| compile(&World::default(), &[pod(ports)], &Options::default()).ruleset;
        let more = [kept, port(udp, 54, None), port(tcp, 54, None), port(udp, 55, Some("192.0.2.1"))];
        let opened = opened_udp_ports(&Transaction::diff(&ruleset(&more), &ruleset(&[kept])));
        let expected = ["0.0.0.0:54", "[::]:54", "192.0.2.1:55"].map(|text| text.parse().unwrap());
        assert_eq!(opened, expected.into());
    }
}
