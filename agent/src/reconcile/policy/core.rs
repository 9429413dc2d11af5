//! One commit: compile, compare with what the kernel holds, send the difference. Blocking.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use weft_api::control::PolicyStatus;
use weft_api::control::Problem;
use weft_policy::compile::{Options, compile};
use weft_policy::model::{LocalPod, World};
use weft_policy::nft::{Change, Dump, Transaction};
use weft_policy::ruleset::{KeyField, Ruleset, Value};

use crate::kernel::nft::{NftError, NftMonitor, NftTable};

pub(super) struct Core {
    table: NftTable,
    /// What the table held when it was read; `None` once `have` is known.
    found: Option<Dump>,
    have: Ruleset,
    options: Options,
}

pub(super) struct Committed {
    pub(super) changes: usize,
    /// UDP ports of the node that lead to a pod from now on.
    pub(super) opened: BTreeSet<SocketAddr>,
    pub(super) took: Duration,
    pub(super) counts: PolicyStatus,
    pub(super) problems: BTreeSet<Problem>,
}

impl Core {
    pub(super) fn open() -> Result<Self, NftError> {
        let (table, found) = NftTable::open()?;
        Ok(Self { table, found: Some(found), have: Ruleset::default(), options: Options::default() })
    }

    pub(super) fn monitor(&self) -> Result<NftMonitor, NftError> {
        Ok(NftMonitor::open(&self.table)?)
    }

    /// With `audit` the kernel is asked what it holds; else we know.
    pub(super) fn commit(
        &mut self,
        world: &World,
        local: &[LocalPod],
        audit: bool,
    ) -> Result<Committed, NftError> {
        let begun = Instant::now();
        let compiled = compile(world, local, &self.options);
        if audit {
            self.found = Some(self.table.resync()?);
        }
        if let Some(found) = self.found.take() {
            self.have = found.recognise(&compiled.ruleset);
        }
        let transaction = Transaction::diff(&compiled.ruleset, &self.have);
        let changes = transaction.changes().len();
        if !transaction.is_empty() {
            self.table.commit(&transaction)?;
        }
        let took = begun.elapsed();
        let counts = counts(&compiled.ruleset);
        self.have = compiled.ruleset;
        let problems = compiled.problems.into_iter().collect();
        Ok(Committed { changes, opened: opened_udp_ports(&transaction), took, counts, problems })
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
