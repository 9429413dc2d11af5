//! The addresses of this node: which are free, in use, cooling down, or never handed out.
//!
//! In: pools (the node's pod CIDRs), taken and released addresses, the time since boot. Out: a free address of every
//! family that has a pool. Pure. Reuse is as late as possible: the cursor goes round the pool, and a released address
//! cools down, because peers keep connections to it (120 s is the conntrack timeout of an unanswered SYN).
//!
//! Invariants: an address is used by one at a time; per pool, `free + used + cooling + reserved = size`; a cooling
//! address is not picked before [`MIN_QUARANTINE`], and not before [`COOLDOWN`] while any other is free.

mod block;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use weft_api::prefix::{holds, without_host_bits};

use self::block::Block;
pub use self::block::Counts;
use crate::attachment::Addresses;

/// How long a released address rests while others are free.
pub const COOLDOWN: Duration = Duration::from_secs(120);
/// How long it rests in any case.
pub const MIN_QUARANTINE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IpamError {
    #[error("the node has no podCIDR")]
    NoPools,
    /// `cooling` of the pool's addresses were released less than [`MIN_QUARANTINE`] ago.
    #[error("no free {family} address: {used} in use, {cooling} released a moment ago")]
    Exhausted { family: &'static str, used: u32, cooling: u32 },
    #[error("{0} is in use already")]
    InUse(IpAddr),
}

/// All addresses of the node. Addresses outside every pool can be in use too: pools change, pods stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ipam {
    blocks: BTreeMap<IpNetwork, Block>,
    reserved: Vec<IpAddr>,
    used: BTreeSet<IpAddr>,
    /// Cooling addresses that no pool holds, with the time of their release.
    strays: BTreeMap<IpAddr, Duration>,
}

impl Ipam {
    /// Replaces the pools. `reserved` addresses are never handed out. A pool inside another one is ignored, as its
    /// addresses would exist twice.
    pub fn set_pools(&mut self, pools: &[IpNetwork], reserved: &[IpAddr]) {
        let networks: BTreeSet<IpNetwork> = pools.iter().map(|pool| without_host_bits(*pool)).collect();
        let inside_another =
            |inner: &IpNetwork| networks.iter().any(|outer| outer != inner && holds(*outer, *inner));
        let wanted: BTreeSet<IpNetwork> =
            networks.iter().filter(|network| !inside_another(network)).copied().collect();
        // The cursor of a pool that stays must stay where it is.
        if self.reserved == reserved && wanted.iter().eq(self.blocks.keys()) {
            return;
        }
        self.reserved = reserved.to_vec();
        for block in std::mem::take(&mut self.blocks).into_values() {
            self.strays.extend(block.into_cooling());
        }
        for network in wanted {
            let mut block = Block::new(network, reserved);
            for address in &self.used {
                block.take(*address);
            }
            let mut cooling: Vec<_> =
                self.strays.extract_if(.., |address, _| block.holds(*address)).collect();
            cooling.sort_by_key(|(_, at)| *at);
            for (address, at) in cooling {
                block.cool(address, at);
            }
            self.blocks.insert(network, block);
        }
    }

    /// One address of every family that has a pool, all or none; takes nothing. `now` is the time since boot.
    pub fn pick(&mut self, now: Duration) -> Result<Addresses, IpamError> {
        if self.blocks.is_empty() {
            return Err(IpamError::NoPools);
        }
        self.strays.retain(|_, at| now.saturating_sub(*at) < COOLDOWN);
        let mut addresses = Addresses::default();
        if let Some(IpAddr::V4(v4)) = self.pick_family(IpNetwork::is_ipv4, "IPv4", now)? {
            addresses.v4 = Some(v4);
        }
        if let Some(IpAddr::V6(v6)) = self.pick_family(IpNetwork::is_ipv6, "IPv6", now)? {
            addresses.v6 = Some(v6);
        }
        Ok(addresses)
    }

    fn pick_family(
        &mut self,
        of_family: fn(&IpNetwork) -> bool,
        family: &'static str,
        now: Duration,
    ) -> Result<Option<IpAddr>, IpamError> {
        let mut blocks: Vec<&mut Block> =
            self.blocks.iter_mut().filter(|(net, _)| of_family(net)).map(|(_, block)| block).collect();
        if blocks.is_empty() {
            return Ok(None);
        }
        // A fresh address of any pool before a cooling one of the first.
        let fresh = blocks.iter_mut().find_map(|block| block.fresh(now));
        if let Some(address) = fresh.or_else(|| blocks.iter().find_map(|block| block.rested(now))) {
            return Ok(Some(address));
        }
        let counts = blocks.iter().map(|block| block.counts());
        let (used, cooling) =
            counts.fold((0, 0), |sum, counts| (sum.0 + counts.used, sum.1 + counts.cooling));
        Err(IpamError::Exhausted { family, used, cooling })
    }

    /// Marks addresses as in use, all or none. They may lie outside every pool.
    pub fn take(&mut self, addresses: &Addresses) -> Result<(), IpamError> {
        if let Some(address) = addresses.iter().find(|address| self.used.contains(address)) {
            return Err(IpamError::InUse(address));
        }
        for address in addresses.iter() {
            self.used.insert(address);
            self.strays.remove(&address);
            for block in self.blocks.values_mut() {
                block.take(address);
            }
        }
        Ok(())
    }

    /// They are nobody's: their link is gone. `cooling_since` is `None` for addresses that never carried traffic.
    pub fn release(&mut self, addresses: &Addresses, cooling_since: Option<Duration>) {
        for address in addresses.iter().filter(|address| self.used.remove(address)) {
            let block = self.blocks.values_mut().find(|block| block.holds(address));
            match (block, cooling_since) {
                (Some(block), Some(at)) => {
                    block.free(address);
                    block.cool(address, at);
                }
                (Some(block), None) => block.free(address),
                (None, Some(at)) => drop(self.strays.insert(address, at)),
                (None, None) => {}
            }
        }
    }

    /// Lets an address cool that is not in use, as remembered from before a restart.
    pub fn cool(&mut self, address: IpAddr, at: Duration) {
        if self.used.contains(&address) {
            return;
        }
        match self.blocks.values_mut().find(|block| block.holds(address)) {
            Some(block) => block.cool(address, at),
            None => drop(self.strays.insert(address, at)),
        }
    }

    /// What is cooling, in order of release. Includes what has cooled down and was not needed since.
    pub fn cooling(&self) -> Vec<(IpAddr, Duration)> {
        let mut cooling: Vec<_> = self.strays.iter().map(|(address, at)| (*address, *at)).collect();
        cooling.extend(self.blocks.values().flat_map(Block::cooling));
        cooling.sort_by_key(|(address, at)| (*at, *address));
        cooling
    }

    /// The pools in order, counted.
    pub fn pools(&self) -> impl Iterator<Item = (IpNetwork, Counts)> {
        self.blocks.iter().map(|(network, block)| (*network, block.counts()))
    }
}

#[cfg(test)]
mod tests;
