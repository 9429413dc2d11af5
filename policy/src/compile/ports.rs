//! Port classes: the axis of each protocol cut at all ends of ranges, each piece with the union of its peers.

use std::collections::BTreeSet;

use super::allowance::Peers;
use crate::ruleset::PortKey;

/// Cuts overlapping ranges into disjoint ones, in order; neighbours that allow the same are one piece.
pub(super) fn classes<'a>(items: &[(PortKey, Peers<'a>)]) -> Vec<(PortKey, Peers<'a>)> {
    let protocols: BTreeSet<u8> = items.iter().map(|(key, _)| key.proto).collect();
    let mut classes: Vec<(PortKey, Peers<'a>)> = Vec::new();
    for proto in protocols {
        let items: Vec<_> = items.iter().filter(|(key, _)| key.proto == proto).collect();
        let ranges: Vec<_> = items.iter().map(|(key, _)| (key.first, key.last)).collect();
        for (first, last) in pieces(&ranges) {
            let mut peers = Peers::default();
            let holding = items.iter().filter(|(key, _)| key.first <= first && last <= key.last);
            holding.for_each(|(_, more)| peers.unite(more));
            match classes.last_mut() {
                Some((key, same)) if key.proto == proto && follows(key.last, first) && *same == peers => {
                    key.last = last;
                }
                _ => classes.push((PortKey { proto, first, last }, peers)),
            }
        }
    }
    classes
}

/// The pieces that the ends of the ranges make, those that lie in no range left out.
fn pieces(ranges: &[(u16, u16)]) -> Vec<(u16, u16)> {
    // Where a piece begins; 65536 ends the last one.
    let cuts: BTreeSet<u32> =
        ranges.iter().flat_map(|&(first, last)| [u32::from(first), u32::from(last) + 1]).collect();
    let ends = cuts.iter().skip(1);
    let pieces = cuts
        .iter()
        .zip(ends)
        .filter_map(|(&first, &end)| Some((u16::try_from(first).ok()?, u16::try_from(end - 1).ok()?)));
    pieces.filter(|piece| ranges.iter().any(|range| range.0 <= piece.0 && piece.1 <= range.1)).collect()
}

fn follows(last: u16, first: u16) -> bool {
    last.checked_add(1) == Some(first)
}

#[cfg(test)]
mod tests {
    use super::pieces;

    #[test]
    fn ranges_are_cut_where_others_begin_or_end() {
        assert_eq!(pieces(&[(80, 80), (443, 443)]), [(80, 80), (443, 443)]);
        assert_eq!(pieces(&[(1, 100), (50, 200)]), [(1, 49), (50, 100), (101, 200)]);
        assert_eq!(pieces(&[(0, 65535), (80, 80)]), [(0, 79), (80, 80), (81, 65535)]);
        assert_eq!(pieces(&[(65535, 65535), (1, 65535)]), [(1, 65534), (65535, 65535)]);
        assert_eq!(pieces(&[]), []);
    }
}
