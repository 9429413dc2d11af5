//! What is asked of prefixes everywhere. `bgp` asks it of itself, since it knows nothing of ours.

use ipnetwork::IpNetwork;

/// `inner` is `outer`, or lies within it.
pub fn holds(outer: IpNetwork, inner: IpNetwork) -> bool {
    outer.prefix() <= inner.prefix() && outer.contains(inner.network())
}

/// The prefix itself: `10.1.2.3/16` becomes `10.1.0.0/16`.
pub fn without_host_bits(prefix: IpNetwork) -> IpNetwork {
    IpNetwork::new(prefix.network(), prefix.prefix()).expect("the length was valid for the same family")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNetwork {
        text.parse().expect("a prefix")
    }

    #[test]
    fn a_prefix_holds_itself_and_what_lies_within() {
        let cases = [
            ("10.0.0.0/8", "10.0.0.0/8", true),
            ("10.0.0.0/8", "10.1.2.3/16", true),
            ("10.1.0.0/16", "10.0.0.0/8", false),
            ("10.1.0.0/16", "10.2.0.0/24", false),
            ("0.0.0.0/0", "192.0.2.1/32", true),
            ("0.0.0.0/0", "::/0", false),
            ("::/0", "10.0.0.0/8", false),
            ("fd00::/8", "fd00:1::/64", true),
        ];
        for (outer, inner, expected) in cases {
            assert_eq!(holds(net(outer), net(inner)), expected, "{outer} {inner}");
        }
    }

    #[test]
    fn host_bits_go() {
        assert_eq!(without_host_bits(net("10.1.2.3/16")), net("10.1.0.0/16"));
        assert_eq!(without_host_bits(net("fd00::1/64")), net("fd00::/64"));
    }
}
