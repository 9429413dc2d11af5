//! Which of two connections to one peer stays (RFC 4271 §6.8; RFC 6286 §2.3 for equal identifiers).
//!
//! Both ends ask the same question of the same numbers, so they keep the same connection.

use crate::types::{Asn, RouterId};

/// One end of a session, as its OPEN names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) router_id: RouterId,
    pub(crate) asn: Asn,
}

/// Who dialed the connection that stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    Dialed,
    Accepted,
}

/// The connection that the greater end has dialed stays.
pub(crate) fn keep(local: End, remote: End) -> Keep {
    if (local.router_id, local.asn) > (remote.router_id, remote.asn) { Keep::Dialed } else { Keep::Accepted }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn end(id: u32, asn: u32) -> End {
        End { router_id: RouterId(Ipv4Addr::from_bits(id)), asn: Asn(asn) }
    }

    #[test]
    fn the_greater_identifier_keeps_what_it_dialed() {
        assert_eq!(keep(end(0x0a00_0002, 1), end(0x0a00_0001, 9)), Keep::Dialed);
        assert_eq!(keep(end(0x0a00_0001, 9), end(0x0a00_0002, 1)), Keep::Accepted);
        // Compared as unsigned numbers, not octet by octet from the wrong end.
        assert_eq!(keep(end(0xc000_0000, 1), end(0x0aff_ffff, 1)), Keep::Dialed);
    }

    #[test]
    fn equal_identifiers_are_told_apart_by_as() {
        assert_eq!(keep(end(5, 65001), end(5, 65000)), Keep::Dialed);
        assert_eq!(keep(end(5, 65000), end(5, 65001)), Keep::Accepted);
    }

    #[test]
    fn the_two_ends_never_keep_different_connections() {
        for (left, right) in [((1, 1), (2, 1)), ((2, 1), (1, 1)), ((3, 1), (3, 2)), ((9, 4), (1, 7))] {
            let (left, right) = (end(left.0, left.1), end(right.0, right.1));
            assert_ne!(keep(left, right), keep(right, left));
        }
    }
}
