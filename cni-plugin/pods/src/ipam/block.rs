//! One pool: a bitmap of what cannot be handed out, a cursor, and a ring of what cools down.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnetwork::IpNetwork;

use super::{COOLDOWN, MIN_QUARANTINE};

/// Of a larger pool only the first part is handed out: more addresses than a node has pods, in 8 KiB of bitmap.
const MAX_SIZE: u32 = 1 << 16;
const WORD: u32 = u64::BITS;

/// `free + used + cooling + reserved = size`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub size: u32,
    pub free: u32,
    pub used: u32,
    pub cooling: u32,
    pub reserved: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    network: IpNetwork,
    size: u32,
    /// Set: used, cooling or reserved. Bits from `size` on are set.
    taken: Vec<u64>,
    /// Where the search begins: one after the last address that was taken.
    cursor: u32,
    /// Released slots, oldest first.
    ring: VecDeque<(u32, Duration)>,
    /// In order.
    reserved: Vec<u32>,
    used: u32,
}

impl Block {
    pub(super) fn new(network: IpNetwork, reserved: &[IpAddr]) -> Self {
        let host_bits = if network.is_ipv4() { 32 } else { 128 } - u32::from(network.prefix());
        let size = 1u32.checked_shl(host_bits).unwrap_or(MAX_SIZE).min(MAX_SIZE);
        let mut block = Self {
            network,
            size,
            taken: vec![0; size.div_ceil(WORD) as usize],
            cursor: 0,
            ring: VecDeque::new(),
            reserved: Vec::new(),
            used: 0,
        };
        for slot in size..size.next_multiple_of(WORD) {
            block.set(slot);
        }
        let ends = Self::unusable_ends(&network).into_iter().filter_map(|address| block.slot(address));
        let mut slots: Vec<u32> =
            ends.chain(reserved.iter().filter_map(|address| block.slot(*address))).collect();
        slots.sort_unstable();
        slots.dedup();
        for slot in &slots {
            block.set(*slot);
        }
        block.reserved = slots;
        block
    }

    /// The network and broadcast address of IPv4, the subnet-router anycast address of IPv6; none in pools of one or two.
    fn unusable_ends(network: &IpNetwork) -> Vec<IpAddr> {
        match network {
            IpNetwork::V4(v4) if v4.prefix() <= 30 => {
                vec![IpAddr::V4(v4.network()), IpAddr::V4(v4.broadcast())]
            }
            IpNetwork::V6(v6) if v6.prefix() <= 126 => vec![IpAddr::V6(v6.network())],
            IpNetwork::V4(_) | IpNetwork::V6(_) => Vec::new(),
        }
    }

    /// Whether this block keeps the books of an address: it is inside, and not reserved.
    pub(super) fn holds(&self, address: IpAddr) -> bool {
        self.usable_slot(address).is_some()
    }

    fn usable_slot(&self, address: IpAddr) -> Option<u32> {
        self.slot(address).filter(|slot| self.reserved.binary_search(slot).is_err())
    }

    /// The slot of an address, if it is inside.
    fn slot(&self, address: IpAddr) -> Option<u32> {
        let offset = match (self.network.network(), address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                u128::from(address.to_bits().checked_sub(base.to_bits())?)
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => address.to_bits().checked_sub(base.to_bits())?,
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
        };
        u32::try_from(offset).ok().filter(|slot| *slot < self.size)
    }

    fn address(&self, slot: u32) -> IpAddr {
        match self.network.network() {
            IpAddr::V4(base) => IpAddr::V4(Ipv4Addr::from_bits(base.to_bits() + slot)),
            IpAddr::V6(base) => IpAddr::V6(Ipv6Addr::from_bits(base.to_bits() + u128::from(slot))),
        }
    }

    /// A free address, first after the cursor. What has cooled down becomes free.
    pub(super) fn fresh(&mut self, now: Duration) -> Option<IpAddr> {
        while let Some((slot, at)) = self.ring.front().copied() {
            if now.saturating_sub(at) < COOLDOWN {
                break;
            }
            self.ring.pop_front();
            self.clear(slot);
        }
        self.first_clear().map(|slot| self.address(slot))
    }

    /// The address that has cooled longest, if that is long enough to be used in need.
    pub(super) fn rested(&self, now: Duration) -> Option<IpAddr> {
        let (slot, at) = self.ring.front()?;
        (now.saturating_sub(*at) >= MIN_QUARANTINE).then(|| self.address(*slot))
    }

    /// No effect on an address that the block does not hold; nor have the next two.
    pub(super) fn take(&mut self, address: IpAddr) {
        let Some(slot) = self.usable_slot(address) else { return };
        if self.is_set(slot) {
            self.ring.retain(|(cooling, _)| *cooling != slot);
        }
        self.set(slot);
        self.used += 1;
        self.cursor = (slot + 1) % self.size;
    }

    /// The inverse of [`Block::take`].
    pub(super) fn free(&mut self, address: IpAddr) {
        let Some(slot) = self.usable_slot(address) else { return };
        self.clear(slot);
        self.used -= 1;
    }

    /// Lets a free address cool.
    pub(super) fn cool(&mut self, address: IpAddr, at: Duration) {
        if let Some(slot) = self.usable_slot(address).filter(|slot| !self.is_set(*slot)) {
            self.set(slot);
            self.ring.push_back((slot, at));
        }
    }

    pub(super) fn cooling(&self) -> impl Iterator<Item = (IpAddr, Duration)> {
        self.ring.iter().map(|(slot, at)| (self.address(*slot), *at))
    }

    pub(super) fn into_cooling(self) -> Vec<(IpAddr, Duration)> {
        self.cooling().collect()
    }

    pub(super) fn counts(&self) -> Counts {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (cooling, reserved) = (count(self.ring.len()), count(self.reserved.len()));
        let free: u32 = self.taken.iter().map(|word| word.count_zeros()).sum();
        Counts { size: self.size, free, used: self.used, cooling, reserved }
    }

    fn first_clear(&self) -> Option<u32> {
        let words = u32::try_from(self.taken.len()).ok()?;
        let (first, bit) = (self.cursor / WORD, self.cursor % WORD);
        // The cursor's word twice: first its bits from the cursor on, at the end those before it.
        let candidates = (0..=words).map(|i| {
            let index = (first + i) % words;
            let hidden = if i == 0 { (1u64 << bit) - 1 } else { 0 };
            (index, self.taken[index as usize] | hidden)
        });
        candidates
            .into_iter()
            .find(|(_, word)| *word != u64::MAX)
            .map(|(index, word)| index * WORD + word.trailing_ones())
    }

    fn is_set(&self, slot: u32) -> bool {
        self.taken[(slot / WORD) as usize] & (1 << (slot % WORD)) != 0
    }

    fn set(&mut self, slot: u32) {
        self.taken[(slot / WORD) as usize] |= 1 << (slot % WORD);
    }

    fn clear(&mut self, slot: u32) {
        self.taken[(slot / WORD) as usize] &= !(1 << (slot % WORD));
    }
}
