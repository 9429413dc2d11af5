//! Compares what of ours is on a lab's machines with what the model says should be.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result};

use super::model::Model;
use super::topology::{Cable, Via};
use super::traces::{self, Routes, difference};
use crate::lab::{Lab, OUTSIDE_CIDRS, RouterKind};

/// A pod that lives, by its node and addresses.
#[derive(Clone, Debug)]
pub struct Lodger {
    pub node: String,
    pub addresses: Vec<IpAddr>,
}

/// Nodes whose agents run and routers with power; of the others nothing is expected.
pub fn flaws(
    lab: &Lab,
    model: &Model,
    lodgers: &[Lodger],
    unwritten: &BTreeSet<String>,
) -> Result<Vec<String>> {
    let mut flaws = Vec::new();
    for tor in model.topology.tors.keys().filter(|tor| !model.damage.dark.contains(*tor)) {
        flaws.extend(sessions(lab, model, tor)?);
    }
    for node in model.topology.nodes.keys().filter(|node| model.runs(node)) {
        let local: Vec<_> = lodgers.iter().filter(|lodger| lodger.node == *node).collect();
        flaws.extend(links(lab, node, &local)?);
        for v6 in [false, true] {
            flaws.extend(routes(lab, model, node, &local, v6)?);
        }
        flaws.extend(rules(lab, node, &local, lodgers)?);
        flaws.extend(addresses(lab, node, &local)?);
        if !unwritten.contains(node) {
            flaws.extend(journal(lab, node, &local)?);
        }
    }
    Ok(flaws)
}

fn sessions(lab: &Lab, model: &Model, router: &str) -> Result<Option<String>> {
    let Some(sessions) = model.sessions(router) else { return Ok(None) };
    let spine = Cable::Spine { tor: router.to_owned() };
    let want = sessions.len() + if model.damage.cut.contains(&spine) { 0 } else { 2 };
    let (question, up) = match lab.tor(router)?.kind {
        RouterKind::Bird => ("show protocols", "Established"),
        RouterKind::Frr => ("show bgp neighbors", "BGP state = Established"),
    };
    let have = lab.ask(router, question)?.matches(up).count();
    Ok((have != want).then(|| format!("{router}: {have} sessions, not {want}")))
}

fn links(lab: &Lab, node: &str, local: &[&Lodger]) -> Result<Option<String>> {
    let (have, want) = (traces::links(&lab.run(node, "ip -o link show")?), local.len());
    Ok((have != want).then(|| format!("{node}: {have} links for {want} pods")))
}

fn routes(lab: &Lab, model: &Model, node: &str, local: &[&Lodger], v6: bool) -> Result<Option<String>> {
    let Some(learned) = model.learned(node, v6) else { return Ok(None) };
    let family = if v6 { "-6" } else { "-4" };
    let have = traces::routes(&lab.run(node, &format!("ip {family} -j route show proto 87"))?)?;
    let mut want = Routes::from([(model.topology.pod_cidr(node, v6).to_string(), BTreeSet::new())]);
    let pods = local.iter().flat_map(|lodger| &lodger.addresses).filter(|ip| ip.is_ipv6() == v6);
    want.extend(pods.map(|ip| (ip.to_string(), BTreeSet::new())));
    for (to, ways) in learned {
        let prefix = match to {
            Some(to) => model.topology.pod_cidr(&to, v6).to_string(),
            None => OUTSIDE_CIDRS[usize::from(v6)].to_owned(),
        };
        let gateways = ways.iter().map(|way| gateway(lab, node, way, v6)).collect::<Result<_>>()?;
        want.insert(prefix, gateways);
    }
    let set = |routes: Routes| routes.into_iter().collect::<BTreeSet<_>>();
    Ok(difference(&format!("{node}: routes"), &set(have), &set(want)))
}

fn gateway(lab: &Lab, node: &str, way: &Via, v6: bool) -> Result<String> {
    let addresses = match way {
        Via::Neighbour(other) => lab.node(other)?.uplinks.first().map(|uplink| uplink.addresses),
        Via::Tor(tor) => {
            let mut uplinks = lab.node(node)?.uplinks.iter();
            uplinks.find(|uplink| uplink.tor == *tor).map(|uplink| uplink.gateways)
        }
    };
    Ok(addresses.with_context(|| format!("{node} via {way:?}"))?.both()[usize::from(v6)].to_string())
}

/// The table names its pods, and no address that no pod has.
fn rules(lab: &Lab, node: &str, local: &[&Lodger], all: &[Lodger]) -> Result<Option<String>> {
    let named = traces::pod_addresses(&lab.run(node, "nft list table inet weft")?);
    let all: BTreeSet<IpAddr> = all.iter().flat_map(|lodger| lodger.addresses.clone()).collect();
    let local = local.iter().flat_map(|lodger| lodger.addresses.clone());
    let want = named.intersection(&all).copied().chain(local).collect();
    Ok(difference(&format!("{node}: table"), &named, &want))
}

fn addresses(lab: &Lab, node: &str, local: &[&Lodger]) -> Result<Option<String>> {
    let have = traces::allocations(&lab.weftctl(node, "ipam show -o json")?)?;
    let want = local.iter().map(|lodger| lodger.addresses.iter().copied().collect()).collect();
    Ok(difference(&format!("{node}: addresses"), &have, &want))
}

fn journal(lab: &Lab, node: &str, local: &[&Lodger]) -> Result<Option<String>> {
    let have = traces::journalled(&lab.machine(node)?.read("/run/weft/attachments.journal")?)?;
    let what = || format!("{node}: the journal has {} containers for {} pods", have.len(), local.len());
    Ok((have.len() != local.len()).then(what))
}
