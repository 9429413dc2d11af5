//! Prefix lists: an octet of length in bits, then as many octets as it needs (RFC 4271 §4.3, RFC 4760 §5).
//!
//! In: a slice that holds nothing else. Out: [`Nlri`], host bits cleared, because some speakers leave them set.

use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::{BufMut, BytesMut};
use ipnetwork::{Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

use crate::types::AfiSafi;

/// Prefixes of one family, host bits zero, in wire order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Nlri {
    V4(Vec<Ipv4Network>),
    V6(Vec<Ipv6Network>),
}

impl Nlri {
    /// `None` when a length is beyond the family's or the last prefix is cut short: nothing of the list can be trusted.
    pub(super) fn decode(family: AfiSafi, octets: &[u8]) -> Option<Self> {
        match family {
            AfiSafi::Ipv4Unicast => decode_list(octets).map(Self::V4),
            AfiSafi::Ipv6Unicast => decode_list(octets).map(Self::V6),
        }
    }

    pub fn family(&self) -> AfiSafi {
        match self {
            Self::V4(_) => AfiSafi::Ipv4Unicast,
            Self::V6(_) => AfiSafi::Ipv6Unicast,
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::V4(prefixes) => prefixes.len(),
            Self::V6(prefixes) => prefixes.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An address prefix of one of our families.
pub trait Prefix: Copy + sealed::OnWire {
    const FAMILY: AfiSafi;
}

impl Prefix for Ipv4Network {
    const FAMILY: AfiSafi = AfiSafi::Ipv4Unicast;
}

impl Prefix for Ipv6Network {
    const FAMILY: AfiSafi = AfiSafi::Ipv6Unicast;
}

/// Writes as many of `prefixes` as `room` octets hold; says how many those are.
pub(super) fn put_prefixes<P: Prefix>(out: &mut BytesMut, prefixes: &[P], room: usize) -> usize {
    let mut left = room;
    for (count, prefix) in prefixes.iter().enumerate() {
        let Some(rest) = left.checked_sub(prefix.wire_len()) else {
            return count;
        };
        prefix.put(out);
        left = rest;
    }
    prefixes.len()
}

fn decode_list<P: Prefix>(mut octets: &[u8]) -> Option<Vec<P>> {
    // Most prefixes take 4 octets (IPv4 /17 to /24) or more.
    let mut prefixes = Vec::with_capacity(octets.len().div_ceil(4));
    while let Some((bits, rest)) = octets.split_first() {
        prefixes.push(P::decode(*bits, rest)?);
        octets = rest.get(octets_of(*bits)..)?;
    }
    Some(prefixes)
}

fn octets_of(bits: u8) -> usize {
    usize::from(bits.div_ceil(8))
}

mod sealed {
    use super::{BufMut, BytesMut, Ipv4Addr, Ipv4Network, Ipv6Addr, Ipv6Network, octets_of};

    pub trait OnWire: Sized {
        /// The prefix of `bits` whose octets stand at the front of `octets`. Reads what is there; that there is enough, the
        /// caller sees when it cuts it off.
        fn decode(bits: u8, octets: &[u8]) -> Option<Self>;
        fn wire_len(&self) -> usize;
        fn put(&self, out: &mut BytesMut);
    }

    impl OnWire for Ipv4Network {
        fn decode(bits: u8, octets: &[u8]) -> Option<Self> {
            let address = u32::from_be_bytes(first_octets(octets));
            let mask = u32::MAX.checked_shl(32u32.checked_sub(u32::from(bits))?).unwrap_or(0);
            Self::new_checked(Ipv4Addr::from_bits(address & mask), bits)
        }

        fn wire_len(&self) -> usize {
            1 + octets_of(self.prefix())
        }

        fn put(&self, out: &mut BytesMut) {
            let [a, b, c, d] = self.ip().octets();
            let octets = [self.prefix(), a, b, c, d];
            out.put_slice(octets.get(..self.wire_len()).unwrap_or_default());
        }
    }

    impl OnWire for Ipv6Network {
        fn decode(bits: u8, octets: &[u8]) -> Option<Self> {
            let address = u128::from_be_bytes(first_octets(octets));
            let mask = u128::MAX.checked_shl(128u32.checked_sub(u32::from(bits))?).unwrap_or(0);
            Self::new_checked(Ipv6Addr::from_bits(address & mask), bits)
        }

        fn wire_len(&self) -> usize {
            1 + octets_of(self.prefix())
        }

        fn put(&self, out: &mut BytesMut) {
            out.put_u8(self.prefix());
            out.put_slice(self.ip().octets().get(..octets_of(self.prefix())).unwrap_or_default());
        }
    }

    /// The first N octets, zeroes where there are fewer. Reading beyond the prefix costs less than finding its end: the
    /// mask clears what belongs to the next one.
    fn first_octets<const N: usize>(octets: &[u8]) -> [u8; N] {
        octets.first_chunk().copied().unwrap_or_else(|| {
            let mut padded = [0; N];
            padded.iter_mut().zip(octets).for_each(|(slot, octet)| *slot = *octet);
            padded
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(octets: &[u8]) -> Option<Vec<String>> {
        match Nlri::decode(AfiSafi::Ipv4Unicast, octets)? {
            Nlri::V4(prefixes) => Some(prefixes.iter().map(ToString::to_string).collect()),
            Nlri::V6(_) => None,
        }
    }

    #[test]
    fn prefixes_follow_each_other_without_padding() {
        let list = [0, 8, 10, 24, 192, 0, 2, 32, 192, 0, 2, 1];
        assert_eq!(v4(&list).unwrap(), ["0.0.0.0/0", "10.0.0.0/8", "192.0.2.0/24", "192.0.2.1/32"]);
    }

    #[test]
    fn a_list_is_as_long_as_its_prefixes_are_many() {
        for (family, list) in [(AfiSafi::Ipv4Unicast, [8, 10, 0]), (AfiSafi::Ipv6Unicast, [8, 0xfd, 0])] {
            let lists = [0, 2, 3].map(|octets| Nlri::decode(family, &list[..octets]).unwrap());
            let lens = lists.map(|nlri| (nlri.len(), nlri.is_empty()));
            assert_eq!(lens, [(0, true), (1, false), (2, false)]);
        }
    }

    #[test]
    fn host_bits_are_cleared() {
        assert_eq!(v4(&[12, 0xac, 0x1f]).unwrap(), ["172.16.0.0/12"]);
        let v6 = Nlri::decode(AfiSafi::Ipv6Unicast, &[20, 0x20, 0x01, 0xff]);
        assert_eq!(v6, Some(Nlri::V6(vec!["2001:f000::/20".parse().unwrap()])));
    }

    #[test]
    fn a_length_beyond_the_family_or_the_list_spoils_the_list() {
        assert_eq!(v4(&[33, 10, 0, 0, 0, 0]), None);
        assert_eq!(v4(&[8, 10, 24, 192, 0]), None);
        let mut host = [0; 18];
        host[0] = 129;
        assert_eq!(Nlri::decode(AfiSafi::Ipv6Unicast, &host), None);
        assert_eq!(Nlri::decode(AfiSafi::Ipv6Unicast, &[128, 0]), None);
    }

    #[test]
    fn only_whole_prefixes_are_written() {
        let prefixes: Vec<Ipv4Network> = vec!["10.0.0.0/8".parse().unwrap(), "192.0.2.0/24".parse().unwrap()];
        let mut out = BytesMut::new();
        assert_eq!(put_prefixes(&mut out, &prefixes, 5), 1);
        assert_eq!(&*out, [8, 10]);
    }
}
