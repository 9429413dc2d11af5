//! The lab's routers: what they shall do, in no daemon's language; [`bird`] and [`frr`] say it in theirs.
//!
//! A router carries its connected subnets and everything that it learns to every peer, with multipath, as a data centre's
//! routers do; it knows nothing of pods.

mod bird;
mod frr;

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::machine::Machine;
use super::process::Process;
use super::spec::RouterKind;
use crate::wait;

const START: Duration = Duration::from_secs(20);

#[derive(Clone, Debug)]
pub struct Router {
    pub name: String,
    pub kind: RouterKind,
    pub asn: u32,
    pub id: Ipv4Addr,
    /// Silence after which it gives a peer up.
    pub hold_seconds: u16,
    pub peers: Vec<RouterPeer>,
}

#[derive(Clone, Debug)]
pub struct RouterPeer {
    /// In BIRD the protocol's name, in FRR the description: `node1_v4`.
    pub name: String,
    pub address: IpAddr,
    pub asn: u32,
    /// Carries both families; otherwise that of its address.
    pub both_families: bool,
    /// Puts our AS in place of the peer's in paths sent to it, so that loop detection lets them pass.
    pub replace_as: bool,
}

impl RouterPeer {
    fn ipv4(&self) -> bool {
        self.both_families || self.address.is_ipv4()
    }

    fn ipv6(&self) -> bool {
        self.both_families || self.address.is_ipv6()
    }
}

impl Router {
    /// Starts the daemons; ready when the router's own command line answers.
    pub fn start(&self, machine: &Machine) -> Result<Vec<Process>> {
        match self.kind {
            RouterKind::Bird => self.start_bird(machine),
            RouterKind::Frr => self.start_frr(machine),
        }
    }

    /// Asks the router, in the words of its own command line: `birdc` or `vtysh -c`.
    pub fn ask(kind: RouterKind, machine: &Machine, question: &str) -> Result<String> {
        match kind {
            RouterKind::Bird => machine.run(["birdc", question]),
            RouterKind::Frr => machine.run(["vtysh", "-c", question]),
        }
    }

    /// As its operator would, until the daemons start again.
    pub fn set_session(&self, machine: &Machine, peer: &RouterPeer, enabled: bool) -> Result<()> {
        let verb = if enabled { "enable" } else { "disable" };
        let said = match self.kind {
            RouterKind::Bird => machine.run(["birdc", verb, &peer.name]),
            RouterKind::Frr => {
                let router = format!("router bgp {}", self.asn);
                let no = if enabled { "no " } else { "" };
                let shutdown = format!("{no}neighbor {} shutdown", peer.address);
                machine.run(["vtysh", "-c", "configure terminal", "-c", &router, "-c", &shutdown])
            }
        };
        said.map(drop)
    }

    fn start_bird(&self, machine: &Machine) -> Result<Vec<Process>> {
        machine.write("/etc/bird/bird.conf", &bird::config(self))?;
        machine.run(["mkdir", "-p", "/run/bird"])?;
        let bird = machine.daemon("bird", Command::new("bird").args(["-f", "-c", "/etc/bird/bird.conf"]))?;
        self.until_it_answers(machine, "show status", "up and running")?;
        Ok(vec![bird])
    }

    /// The configuration comes last: a session that is up before bgpd knows its links loses IPv6 routes for good
    /// ("no peer interface information").
    fn start_frr(&self, machine: &Machine) -> Result<Vec<Process>> {
        machine.write("/etc/frr/frr.conf", &frr::config(self))?;
        machine.run(["chown", "frr:frr", "/etc/frr/frr.conf"])?;
        machine.run(["install", "-d", "-o", "frr", "-g", "frr", "/run/frr"])?;
        let daemon = |name: &str| {
            machine.daemon(name, Command::new(format!("/usr/lib/frr/{name}")).args(["-A", "127.0.0.1"]))
        };
        let zebra = daemon("zebra")?;
        self.until_it_answers(machine, "show interface brief", "rack")?;
        let bgpd = daemon("bgpd")?;
        self.until_it_answers(machine, "show zebra client summary", "bgp")?;
        machine.run(["vtysh", "-b"])?;
        self.until_it_answers(machine, "show bgp summary", "local AS")?;
        Ok(vec![zebra, bgpd])
    }

    fn until_it_answers(&self, machine: &Machine, question: &str, answer: &str) -> Result<()> {
        wait::until(&format!("{answer:?} from {} on {}", self.kind, self.name), START, || {
            let said = Self::ask(self.kind, machine, question)?;
            Ok(said.contains(answer).then_some(()))
        })
        .with_context(|| format!("logs are in {}", machine.dir.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn tor(kind: RouterKind) -> Router {
        let peer = |name: &str, address: &str, asn, both_families, replace_as| RouterPeer {
            name: name.to_owned(),
            address: address.parse().unwrap(),
            asn,
            both_families,
            replace_as,
        };
        let peers = vec![
            peer("spine_v4", "10.0.20.1", 65000, false, false),
            peer("spine_v6", "fd00:1:0:20::1", 65000, false, false),
            peer("node3", "10.1.20.11", 64513, true, true),
        ];
        Router {
            name: "tor2".to_owned(),
            kind,
            asn: 65002,
            id: Ipv4Addr::new(10, 1, 20, 1),
            hold_seconds: 9,
            peers,
        }
    }
}
