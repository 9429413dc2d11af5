//! ipBlocks as matches.
//!
//! A few prefixes are compared one after the other in the chain. Many become hash sets of network addresses, one for
//! each prefix length, each a single look-up of the masked address; their excepts are cut out beforehand, so that no
//! set ever denies. There is no interval set: changing one costs time in its size.

use std::collections::{BTreeMap, BTreeSet};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use weft_api::prefix::holds;

use crate::model::Block;

/// Up to so many comparisons are cheaper than one look-up in a set of ranges.
const MAX_INLINE: usize = 16;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Blocks {
    /// For each block its prefix and the excepts that matter to it.
    Inline(Vec<(IpNetwork, Vec<IpNetwork>)>),
    /// Prefixes by their length; none holds another.
    Masked(BTreeMap<u8, BTreeSet<IpNetwork>>),
}

/// Of blocks of one family.
pub(super) fn arrange<'a>(blocks: impl Iterator<Item = &'a Block>) -> Blocks {
    let blocks: Vec<_> = blocks.filter_map(simplify).collect();
    let prefixes: usize = blocks.iter().map(|(_, except)| 1 + except.len()).sum();
    if prefixes <= MAX_INLINE {
        return Blocks::Inline(blocks);
    }
    Blocks::Masked(flatten(&blocks))
}

fn flatten(blocks: &[(IpNetwork, Vec<IpNetwork>)]) -> BTreeMap<u8, BTreeSet<IpNetwork>> {
    let mut flat = BTreeSet::new();
    for (prefix, except) in blocks {
        subtract(*prefix, except, &mut flat);
    }
    let mut by_len: BTreeMap<u8, BTreeSet<IpNetwork>> = BTreeMap::new();
    for prefix in outermost(flat) {
        by_len.entry(prefix.prefix()).or_default().insert(prefix);
    }
    by_len
}

/// Without excepts that take nothing or that another holds; `None` if nothing is left of the block.
fn simplify(block: &Block) -> Option<(IpNetwork, Vec<IpNetwork>)> {
    if block.except.iter().any(|except| holds(*except, block.prefix)) {
        return None;
    }
    let inside = block.except.iter().filter(|except| holds(block.prefix, **except)).copied();
    Some((block.prefix, outermost(inside.collect())))
}

/// Those prefixes that no other holds. A prefix sorts before all that it holds.
fn outermost(prefixes: BTreeSet<IpNetwork>) -> Vec<IpNetwork> {
    let mut kept: Vec<IpNetwork> = Vec::new();
    for prefix in prefixes {
        if kept.last().is_none_or(|last| !holds(*last, prefix)) {
            kept.push(prefix);
        }
    }
    kept
}

/// `prefix` minus `except`, in prefixes. Halves what an except cuts; at most as deep as an address has bits.
fn subtract(prefix: IpNetwork, except: &[IpNetwork], out: &mut BTreeSet<IpNetwork>) {
    if except.iter().any(|except| holds(*except, prefix)) {
        return;
    }
    let inside: Vec<_> = except.iter().filter(|except| holds(prefix, **except)).copied().collect();
    match halves(prefix) {
        Some(halves) if !inside.is_empty() => {
            halves.into_iter().for_each(|half| subtract(half, &inside, out));
        }
        _ => {
            out.insert(prefix);
        }
    }
}

/// `None` of a single address. A prefix has no host bits, so the sum carries nothing.
fn halves(prefix: IpNetwork) -> Option<[IpNetwork; 2]> {
    let len = prefix.prefix() + 1;
    match prefix {
        IpNetwork::V4(v4) => {
            let high = u32::from(v4.ip()) + 1_u32.checked_shl(32_u32.checked_sub(len.into())?)?;
            let half = |ip| Ipv4Network::new(ip, len).ok().map(IpNetwork::V4);
            Some([half(v4.ip())?, half(high.into())?])
        }
        IpNetwork::V6(v6) => {
            let high = u128::from(v6.ip()) + 1_u128.checked_shl(128_u32.checked_sub(len.into())?)?;
            let half = |ip| Ipv6Network::new(ip, len).ok().map(IpNetwork::V6);
            Some([half(v6.ip())?, half(high.into())?])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(prefix: &str, except: &[&str]) -> Block {
        let except = except.iter().map(|text| text.parse().unwrap()).collect();
        Block { prefix: prefix.parse().unwrap(), except }
    }

    fn minus(prefix: &str, except: &[&str]) -> Vec<String> {
        let block = block(prefix, except);
        let mut out = BTreeSet::new();
        subtract(block.prefix, &block.except.into_iter().collect::<Vec<_>>(), &mut out);
        out.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn excepts_are_cut_out_in_halves() {
        assert_eq!(minus("10.0.0.0/30", &["10.0.0.1/32"]), ["10.0.0.0/32", "10.0.0.2/31"]);
        assert_eq!(minus("0.0.0.0/0", &["128.0.0.0/1"]), ["0.0.0.0/1"]);
        assert_eq!(minus("fd00::/126", &["fd00::/128", "fd00::3/128"]), ["fd00::1/128", "fd00::2/128"]);
        assert_eq!(minus("fd00::/125", &["fd00::/126"]), ["fd00::4/126"]);
        assert_eq!(minus("10.0.0.0/32", &["10.0.0.0/32"]), [""; 0]);
        assert_eq!(minus("10.0.0.0/8", &["11.0.0.0/8", "fd00::/8"]), ["10.0.0.0/8"]);
    }

    #[test]
    fn useless_excepts_are_forgotten_and_useless_blocks_too() {
        let blocks = [
            block("10.0.0.0/8", &["10.1.0.0/16", "10.1.2.0/24", "11.0.0.0/8"]),
            block("10.2.0.0/16", &["10.0.0.0/8"]),
        ];
        let kept = ("10.0.0.0/8".parse().unwrap(), vec!["10.1.0.0/16".parse().unwrap()]);
        assert_eq!(arrange(blocks.iter()), Blocks::Inline(vec![kept]));
    }

    proptest::proptest! {
        /// With the first and last addresses of all prefixes, inside and just outside: nothing happens elsewhere.
        #[test]
        fn both_forms_mean_what_the_blocks_hold(raw in proptest::collection::vec(prefixes(), 0..12)) {
            let blocks: Vec<_> = raw.iter().map(|(prefix, except)| Block { prefix: *prefix, except: except.clone() }).collect();
            let edges: BTreeSet<u32> = raw.iter().flat_map(|(prefix, except)| except.iter().chain([prefix])).flat_map(edges).collect();
            for ip in edges.into_iter().map(|bits| std::net::IpAddr::V4(bits.into())) {
                let held = blocks.iter().any(|block| block.holds(ip));
                let inline: Vec<_> = blocks.iter().filter_map(simplify).collect();
                let inline = inline.iter().any(|(p, except)| p.contains(ip) && !except.iter().any(|e| e.contains(ip)));
                let masked = flatten(&blocks.iter().filter_map(simplify).collect::<Vec<_>>());
                let masked = masked.values().flatten().filter(|prefix| prefix.contains(ip)).count();
                proptest::prop_assert_eq!(inline, held);
                proptest::prop_assert_eq!(masked, usize::from(held), "in one set at most");
            }
        }
    }

    /// Few bits that differ, so that prefixes meet.
    fn prefixes() -> impl proptest::strategy::Strategy<Value = (IpNetwork, BTreeSet<IpNetwork>)> {
        use proptest::prelude::*;
        let prefix = || {
            (prop_oneof![Just(0_u8), Just(8), 24..=32_u8], 0..8_u32, 0..3_u32).prop_map(|(len, low, high)| {
                let any = IpNetwork::new(std::net::Ipv4Addr::from(0x0a00_0000 | high << 8 | low).into(), len);
                let any = any.expect("a length of IPv4");
                IpNetwork::new(any.network(), len).expect("a length of IPv4")
            })
        };
        (prefix(), proptest::collection::btree_set(prefix(), 0..4))
    }

    fn edges(prefix: &IpNetwork) -> Vec<u32> {
        let IpNetwork::V4(v4) = prefix else { panic!("only IPv4 here") };
        let (first, last) = (u32::from(v4.network()), u32::from(v4.broadcast()));
        vec![first, last, first.saturating_sub(1), last.saturating_add(1)]
    }

    #[test]
    fn more_than_sixteen_prefixes_become_sets_by_length() {
        let blocks: Vec<_> = (0..17).map(|i| block(&format!("10.{i}.0.0/16"), &[])).collect();
        let wide = block("10.0.0.0/15", &[]);
        let Blocks::Masked(sets) = arrange(blocks.iter().chain([&wide])) else { panic!("expected sets") };
        assert_eq!(sets.iter().map(|(len, set)| (*len, set.len())).collect::<Vec<_>>(), [(15, 1), (16, 15)]);
    }

    #[test]
    fn excepts_count_as_prefixes() {
        let blocks: Vec<_> =
            (0..9).map(|i| block(&format!("10.{i}.0.0/16"), &[&format!("10.{i}.1.0/24")])).collect();
        assert!(matches!(arrange(blocks[..8].iter()), Blocks::Inline(_)));
        assert!(matches!(arrange(blocks.iter()), Blocks::Masked(_)));
    }
}
