//! Keys of sets and maps: how their fields lie in the kernel's registers, and back.
//!
//! A key of one field is as long as the field. In a concatenation each field is padded to four bytes, the size of a
//! register. Addresses and ports are in network order, an interface name is NUL-padded to 16 bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::consts::{
    BYTEORDER_HOST, BYTEORDER_NETWORK, BYTEORDER_NONE, TYPE_BITS, TYPE_IFNAME, TYPE_INET_PROTO,
    TYPE_INET_SERVICE, TYPE_IPV4_ADDR, TYPE_IPV6_ADDR,
};
use crate::ruleset::{Family, Key, KeyField, KeyType, Value};

/// `IFNAMSIZ`
pub(super) const IFNAME_LEN: usize = 16;
const REGISTER_LEN: usize = 4;

impl KeyType {
    const ALL: [Self; 5] = [Self::Ipv4Addr, Self::Ipv6Addr, Self::InetProto, Self::InetService, Self::Ifname];

    /// nft's number of the type.
    fn number(self) -> u32 {
        match self {
            Self::Ipv4Addr => TYPE_IPV4_ADDR,
            Self::Ipv6Addr => TYPE_IPV6_ADDR,
            Self::InetProto => TYPE_INET_PROTO,
            Self::InetService => TYPE_INET_SERVICE,
            Self::Ifname => TYPE_IFNAME,
        }
    }

    /// In bytes, without padding.
    pub(super) fn len(self) -> usize {
        match self {
            Self::Ipv4Addr => 4,
            Self::Ipv6Addr => 16,
            Self::InetProto => 1,
            Self::InetService => 2,
            Self::Ifname => IFNAME_LEN,
        }
    }
}

/// In bytes, with padding.
pub(super) fn padded_len(fields: &[KeyType]) -> usize {
    match fields {
        [single] => single.len(),
        _ => fields.iter().map(|field| field.len().next_multiple_of(REGISTER_LEN)).sum(),
    }
}

pub(super) fn type_number(fields: &[KeyType]) -> u32 {
    fields.iter().fold(0, |number, field| number << TYPE_BITS | field.number())
}

/// The inverse of [`type_number`]; `None` for types that are not ours.
pub(super) fn parse_type_number(number: u32) -> Option<Vec<KeyType>> {
    let mut fields = Vec::new();
    let mut rest = number;
    while rest != 0 {
        let field = rest & ((1 << TYPE_BITS) - 1);
        fields.push(KeyType::ALL.into_iter().find(|candidate| candidate.number() == field)?);
        rest >>= TYPE_BITS;
    }
    fields.reverse();
    Some(fields)
}

/// What nft notes about a set's key, so that it prints it right. It notes nothing for concatenations.
pub(super) fn byteorder(fields: &[KeyType]) -> u32 {
    match fields {
        [KeyType::Ifname] => BYTEORDER_HOST,
        [_] => BYTEORDER_NETWORK,
        _ => BYTEORDER_NONE,
    }
}

/// The fields of a map's value that is an address and a port. They lie as those of a key do.
pub(super) fn endpoint_fields(family: Family) -> [KeyType; 2] {
    match family {
        Family::V4 => [KeyType::Ipv4Addr, KeyType::InetService],
        Family::V6 => [KeyType::Ipv6Addr, KeyType::InetService],
    }
}

pub(super) fn endpoint(address: IpAddr, port: u16) -> Key {
    let address = match address {
        IpAddr::V4(v4) => KeyField::Ipv4(v4),
        IpAddr::V6(v6) => KeyField::Ipv6(v6),
    };
    vec![address, KeyField::Port(port)]
}

/// The inverse of [`endpoint`].
pub(super) fn decode_endpoint(family: Family, bytes: &[u8]) -> Option<Value> {
    match decode(&endpoint_fields(family), bytes)?[..] {
        [KeyField::Ipv4(v4), KeyField::Port(port)] => Some(Value::Endpoint(v4.into(), port)),
        [KeyField::Ipv6(v6), KeyField::Port(port)] => Some(Value::Endpoint(v6.into(), port)),
        _ => None,
    }
}

pub(super) fn encode(key: &[KeyField], out: &mut Vec<u8>) {
    for field in key {
        let start = out.len();
        match field {
            KeyField::Ipv4(address) => out.extend_from_slice(&address.octets()),
            KeyField::Ipv6(address) => out.extend_from_slice(&address.octets()),
            KeyField::Proto(proto) => out.push(*proto),
            KeyField::Port(port) => out.extend_from_slice(&port.to_be_bytes()),
            KeyField::Ifname(name) => {
                out.extend_from_slice(&name.as_bytes()[..name.len().min(IFNAME_LEN - 1)]);
                out.resize(start + IFNAME_LEN, 0);
            }
        }
        if key.len() > 1 {
            out.resize(start + (out.len() - start).next_multiple_of(REGISTER_LEN), 0);
        }
    }
}

/// `None` when `bytes` is not a key of that type.
pub(super) fn decode(fields: &[KeyType], bytes: &[u8]) -> Option<Key> {
    if bytes.len() < padded_len(fields) {
        return None;
    }
    let mut rest = bytes;
    fields
        .iter()
        .map(|field| {
            let value = rest.get(..field.len())?;
            rest = rest.get(field.len().next_multiple_of(REGISTER_LEN)..).unwrap_or_default();
            decode_field(*field, value)
        })
        .collect()
}

fn decode_field(field: KeyType, value: &[u8]) -> Option<KeyField> {
    Some(match field {
        KeyType::Ipv4Addr => KeyField::Ipv4(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?)),
        KeyType::Ipv6Addr => KeyField::Ipv6(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?)),
        KeyType::InetProto => KeyField::Proto(*value.first()?),
        KeyType::InetService => KeyField::Port(u16::from_be_bytes(value.try_into().ok()?)),
        KeyType::Ifname => KeyField::Ifname(super::wire::text(value)?.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_their_types_survive_the_kernel() {
        let key = vec![
            KeyField::Ifname("weft0123456789a".into()),
            KeyField::Ipv6("fd00::1".parse().unwrap()),
            KeyField::Ipv4("10.0.0.1".parse().unwrap()),
            KeyField::Proto(6),
            KeyField::Port(443),
        ];
        let fields =
            [KeyType::Ifname, KeyType::Ipv6Addr, KeyType::Ipv4Addr, KeyType::InetProto, KeyType::InetService];

        let mut bytes = Vec::new();
        encode(&key, &mut bytes);

        assert_eq!(bytes.len(), padded_len(&fields));
        assert_eq!(decode(&fields, &bytes), Some(key));
        assert_eq!(parse_type_number(type_number(&fields)), Some(fields.to_vec()));
        assert_eq!(parse_type_number(TYPE_BITS), None);
    }
}
