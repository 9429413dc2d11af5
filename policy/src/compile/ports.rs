//! Port classes: the axis of each protocol cut at all ends of ranges, each piece with the union of its peers.

use std::collections::BTreeMap;

use super::allowance::Peers;
use crate::ruleset::PortKey;

/// Disjoint ranges in order, each with the union that it allows, by index; neighbours that allow the same are one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Classes<'a> {
    pub(super) unions: Vec<Peers<'a>>,
    pub(super) ranges: Vec<(PortKey, usize)>,
}

/// Where a range of `item` begins, or ends just before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cut {
    proto: u8,
    /// 65536 ends what ends with the axis.
    at: u32,
    begins: bool,
    item: usize,
}

/// `items` are ranges, which may overlap, each with the index of its peers. One walk over the ends of all ranges. `None` if
/// the pieces and unions would be more work than `budget`.
pub(super) fn classes<'a>(
    items: &[(PortKey, usize)],
    peers: &[Peers<'a>],
    budget: &mut usize,
) -> Option<Classes<'a>> {
    let cuts = |&(PortKey { proto, first, last }, item): &(PortKey, usize)| {
        let cut = |at, begins| Cut { proto, at, begins, item };
        [cut(u32::from(first), true), cut(u32::from(last) + 1, false)]
    };
    let mut cuts: Vec<Cut> = items.iter().flat_map(cuts).collect();
    cuts.sort_unstable();

    let mut sweep =
        Sweep { peers, budget, piece_begins: 0, known: BTreeMap::new(), classes: Classes::default() };
    // By how many ranges each item holds the piece that follows.
    let mut holding: BTreeMap<usize, usize> = BTreeMap::new();
    for here in cuts.chunk_by(|a, b| (a.proto, a.at) == (b.proto, b.at)) {
        if let Some(Cut { proto, at, .. }) = here.first().filter(|_| !holding.is_empty()) {
            sweep.end_piece(*proto, *at, &holding)?;
        }
        for cut in here {
            let count = holding.entry(cut.item).or_default();
            *count = if cut.begins { *count + 1 } else { *count - 1 };
            if *count == 0 {
                holding.remove(&cut.item);
            }
        }
        sweep.piece_begins = here.first().map_or(0, |cut| cut.at);
    }
    Some(sweep.classes)
}

struct Sweep<'s, 'a> {
    peers: &'s [Peers<'a>],
    budget: &'s mut usize,
    piece_begins: u32,
    /// The union of each set of items that was met.
    known: BTreeMap<Vec<usize>, usize>,
    classes: Classes<'a>,
}

impl Sweep<'_, '_> {
    fn end_piece(&mut self, proto: u8, end: u32, holding: &BTreeMap<usize, usize>) -> Option<()> {
        self.spend(holding.len())?;
        let items: Vec<usize> = holding.keys().copied().collect();
        let union = match self.known.get(&items) {
            Some(union) => *union,
            None => self.unite(items)?,
        };
        let first = u16::try_from(self.piece_begins).ok()?;
        let last = u16::try_from(end - 1).ok()?;
        let Classes { unions, ranges } = &mut self.classes;
        match ranges.last_mut() {
            Some((key, same))
                if key.proto == proto
                    && key.last.checked_add(1) == Some(first)
                    && (*same == union || unions[*same] == unions[union]) =>
            {
                key.last = last;
            }
            _ => ranges.push((PortKey { proto, first, last }, union)),
        }
        Some(())
    }

    fn unite(&mut self, items: Vec<usize>) -> Option<usize> {
        let mut union = Peers::default();
        for item in &items {
            self.spend(self.peers[*item].weight())?;
            union.unite(&self.peers[*item]);
        }
        let index = self.classes.unions.len();
        self.classes.unions.push(union);
        self.known.insert(items, index);
        Some(index)
    }

    fn spend(&mut self, work: usize) -> Option<()> {
        spend(self.budget, work)
    }
}

/// `None` if that is more than is left; then nothing is.
pub(super) fn spend(budget: &mut usize, work: usize) -> Option<()> {
    let left = budget.checked_sub(work);
    *budget = left.unwrap_or_default();
    left.map(drop)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Each range with peers of its own, as pieces and how many of the ranges hold them.
    fn pieces(ranges: &[(u16, u16)]) -> Vec<(u16, u16)> {
        let blocks: Vec<_> = (0..ranges.len()).map(|i| block(u8::try_from(i).unwrap())).collect();
        let peers: Vec<_> =
            blocks.iter().map(|block| Peers { blocks: [block].into(), ..Peers::default() }).collect();
        let classes = classes(&items(ranges), &peers, &mut { usize::MAX }).unwrap();
        for (key, union) in &classes.ranges {
            let holding = ranges
                .iter()
                .zip(&blocks)
                .filter(|((first, last), _)| *first <= key.first && key.last <= *last);
            let holding: BTreeSet<_> = holding.map(|(_, block)| block).collect();
            assert_eq!(classes.unions[*union].blocks, holding);
        }
        classes.ranges.iter().map(|(key, _)| (key.first, key.last)).collect()
    }

    fn items(ranges: &[(u16, u16)]) -> Vec<(PortKey, usize)> {
        let key = |(first, last): &(u16, u16)| PortKey { proto: 6, first: *first, last: *last };
        ranges.iter().map(key).zip(0..).collect()
    }

    fn block(number: u8) -> crate::model::Block {
        let prefix = ipnetwork::IpNetwork::new([10, number, 0, 0].into(), 16).unwrap();
        crate::model::Block { prefix, except: BTreeSet::new() }
    }

    #[test]
    fn ranges_are_cut_where_others_begin_or_end() {
        assert_eq!(pieces(&[(80, 80), (443, 443)]), [(80, 80), (443, 443)]);
        assert_eq!(pieces(&[(1, 100), (50, 200)]), [(1, 49), (50, 100), (101, 200)]);
        assert_eq!(pieces(&[(0, 65535), (80, 80)]), [(0, 79), (80, 80), (81, 65535)]);
        assert_eq!(pieces(&[(65535, 65535), (1, 65535)]), [(1, 65534), (65535, 65535)]);
        assert_eq!(pieces(&[(80, 80), (81, 81)]), [(80, 80), (81, 81)]);
        assert_eq!(pieces(&[]), []);
    }

    #[test]
    fn neighbours_that_allow_the_same_are_one_and_protocols_are_apart() {
        let everybody = [Peers { any: true, ..Peers::default() }];
        let key = |proto, first, last| PortKey { proto, first, last };
        let items = [(key(6, 80, 81), 0), (key(17, 83, 84), 0), (key(6, 82, 82), 0), (key(6, 81, 82), 0)];
        let classes = classes(&items, &everybody, &mut { usize::MAX }).unwrap();
        assert_eq!(classes.ranges, [(key(6, 80, 82), 0), (key(17, 83, 84), 0)]);
    }

    /// A policy of a thousand ports for one group of peers costs a piece each.
    #[test]
    fn work_grows_with_the_ports_and_stops_at_the_budget() {
        let peers = [Peers { any: true, ..Peers::default() }];
        let key = |port| (PortKey { proto: 6, first: port, last: port }, 0);
        let items: Vec<_> = (1..=1000).map(|i| key(2 * i)).collect();
        assert!(classes(&items, &peers, &mut 1001).is_some());
        assert!(classes(&items, &peers, &mut 1000).is_none());
    }
}
