//! A set of prefixes that asks one question: does one of them hold this prefix?
//!
//! Shared, since every peer of a node is given the same set, and it has an entry for each node of the cluster: by value a
//! thousand nodes in one mesh would cost each of them a hundred megabytes.

use std::sync::Arc;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

/// In order, without host bits, and none within another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<IpNetwork>", into = "Vec<IpNetwork>")]
pub struct Prefixes(Arc<[IpNetwork]>);

impl Prefixes {
    /// `prefix` is one of them, or lies within one.
    pub fn hold(&self, prefix: IpNetwork) -> bool {
        // A prefix sorts before all that it holds, and nothing outside stands between them.
        let after = self.0.partition_point(|net| *net <= prefix);
        after.checked_sub(1).is_some_and(|index| holds(self.0[index], prefix))
    }

    pub fn iter(&self) -> impl Iterator<Item = IpNetwork> {
        self.0.iter().copied()
    }
}

impl From<Vec<IpNetwork>> for Prefixes {
    fn from(prefixes: Vec<IpNetwork>) -> Self {
        prefixes.into_iter().collect()
    }
}

impl From<Prefixes> for Vec<IpNetwork> {
    fn from(prefixes: Prefixes) -> Self {
        prefixes.0.to_vec()
    }
}

impl FromIterator<IpNetwork> for Prefixes {
    fn from_iter<I: IntoIterator<Item = IpNetwork>>(prefixes: I) -> Self {
        let mut prefixes: Vec<_> = prefixes.into_iter().map(without_host_bits).collect();
        prefixes.sort_unstable();
        prefixes.dedup_by(|later, earlier| holds(*earlier, *later));
        Self(prefixes.into())
    }
}

/// `inner` is `outer`, or lies within it.
pub(super) fn holds(outer: IpNetwork, inner: IpNetwork) -> bool {
    outer.prefix() <= inner.prefix() && outer.contains(inner.network())
}

fn without_host_bits(prefix: IpNetwork) -> IpNetwork {
    IpNetwork::new(prefix.network(), prefix.prefix()).expect("the length was valid for the same family")
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_outermost_are_kept_and_host_bits_are_not() {
        let texts = ["10.2.0.0/24", "fd00::1/64", "10.1.2.3/8", "10.0.0.0/8", "192.0.2.0/24"];
        let prefixes: Prefixes = texts.iter().map(|text| text.parse().unwrap()).collect();
        let kept: Vec<_> = prefixes.iter().map(|prefix| prefix.to_string()).collect();
        assert_eq!(kept, ["10.0.0.0/8", "192.0.2.0/24", "fd00::/64"]);
    }

    /// Few addresses and all lengths, so that many hold others.
    fn prefix() -> impl Strategy<Value = IpNetwork> {
        let v4 = (0..8_u32, 0..=32_u8).prop_map(|(high, len)| {
            IpNetwork::new(Ipv4Addr::from_bits(high << 29 | high).into(), len).unwrap()
        });
        let v6 = (0..8_u128, 0..=128_u8).prop_map(|(high, len)| {
            IpNetwork::new(Ipv6Addr::from_bits(high << 125 | high).into(), len).unwrap()
        });
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn the_answer_is_that_of_asking_each(written in prop::collection::vec(prefix(), 0..12), asked in prefix()) {
            let asked = without_host_bits(asked);
            let prefixes: Prefixes = written.iter().copied().collect();
            prop_assert_eq!(prefixes.hold(asked), written.iter().any(|net| holds(*net, asked)));
        }
    }

    #[test]
    fn it_comes_back_as_the_list_that_says_the_same() {
        let net = |text: &str| text.parse::<IpNetwork>().unwrap();
        let set = Prefixes::from(vec![net("10.1.0.0/16"), net("fd00::/8"), net("10.0.0.1/8")]);
        assert_eq!(Vec::from(set.clone()), [net("10.0.0.0/8"), net("fd00::/8")]);
        assert_eq!(set.iter().collect::<Vec<_>>(), Vec::from(set));
    }
}
