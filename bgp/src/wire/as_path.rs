//! AS_PATH: the autonomous systems that a route has crossed (RFC 4271 §4.3 b, §5.1.2).
//!
//! One flat vector instead of a vector of vectors: each segment is a head word (kind and count) followed by its AS numbers.
//! Paths of up to five systems, which is nearly all of them, need no allocation and are compared and hashed in one go.

use std::fmt;

use bytes::{BufMut, BytesMut};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::DecodeContext;
use crate::types::{Asn, PeerKind};

/// Segment types that nobody uses any more.
const AS_SET: u8 = 1;
const AS_CONFED_SET: u8 = 4;

/// RFC 4271 §4.3 b and, for confederations, RFC 5065 §3. There are no sets: who aggregates does not say where
/// a route begins, and a path with one is malformed (RFC 9774 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SegmentKind {
    Sequence,
    ConfedSequence,
}

impl SegmentKind {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Sequence => 2,
            Self::ConfedSequence => 3,
        }
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        match code {
            2 => Some(Self::Sequence),
            3 => Some(Self::ConfedSequence),
            _ => None,
        }
    }

    pub(super) fn is_confederation(self) -> bool {
        self == Self::ConfedSequence
    }
}

/// One segment: 1 to 255 systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsSegment<'a> {
    pub kind: SegmentKind,
    pub asns: &'a [Asn],
}

impl AsSegment<'_> {
    /// What it adds to the length of a path (RFC 4271 §9.1.2.2 a, RFC 5065 §5.3).
    pub fn path_length(&self) -> usize {
        match self.kind {
            SegmentKind::Sequence => self.asns.len(),
            SegmentKind::ConfedSequence => 0,
        }
    }
}

/// The path, nearest system first. Empty for routes that begin within the AS.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<(SegmentKind, Vec<Asn>)>", into = "Vec<(SegmentKind, Vec<Asn>)>")]
pub struct AsPath {
    /// Segments, each a head (see [`head`]) and as many AS numbers as it says.
    words: SmallVec<[Asn; 6]>,
}

/// What one segment can count.
const MAX_SEGMENT: usize = u8::MAX as usize;

impl AsPath {
    /// A path of one sequence, nearest system first.
    pub fn from_sequence(asns: impl IntoIterator<Item = Asn>) -> Self {
        let asns: SmallVec<[Asn; 8]> = asns.into_iter().collect();
        let mut path = Self::default();
        path.push_segment(SegmentKind::Sequence, &asns);
        path
    }

    /// Appends at the far end; more than 255 systems become several segments, none becomes nothing.
    pub fn push_segment(&mut self, kind: SegmentKind, asns: &[Asn]) {
        for chunk in asns.chunks(MAX_SEGMENT) {
            self.words.push(head(kind, chunk.len()));
            self.words.extend_from_slice(chunk);
        }
    }

    pub fn segments(&self) -> Segments<'_> {
        Segments { words: &self.words }
    }

    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// For comparison with other paths (RFC 4271 §9.1.2.2 a): confederation segments count 0.
    pub fn path_length(&self) -> usize {
        self.segments().map(|segment| segment.path_length()).sum()
    }

    /// Every system of every segment, nearest first.
    pub fn asns(&self) -> impl Iterator<Item = Asn> {
        self.segments().flat_map(|segment| segment.asns.iter().copied())
    }

    pub fn contains(&self, asn: Asn) -> bool {
        self.asns().any(|member| member == asn)
    }

    /// The system that the path enters first: whose MEDs may be compared (RFC 4271 §9.1.2.2 c). `None` within the AS.
    pub fn neighbor_asn(&self) -> Option<Asn> {
        let first = self.segments().find(|segment| !segment.kind.is_confederation())?;
        first.asns.first().copied()
    }

    /// What a speaker does to a path that it sends to another AS (RFC 4271 §5.1.2 b).
    pub fn prepend(&mut self, asn: Asn) {
        match self.segments().next() {
            Some(AsSegment { kind: SegmentKind::Sequence, asns }) if asns.len() < MAX_SEGMENT => {
                let longer = head(SegmentKind::Sequence, asns.len() + 1);
                self.words.insert(0, longer);
                if let Some(slot) = self.words.get_mut(1) {
                    *slot = asn;
                }
            }
            Some(_) | None => self.words.insert_from_slice(0, &[head(SegmentKind::Sequence, 1), asn]),
        }
    }
}

/// On the wire. Two octets per system towards a speaker that does not know four (RFC 6793 §4.2.2).
impl AsPath {
    /// RFC 7606 §7.2, RFC 7607 §2, RFC 9774 §3; confederations belong inside the AS (RFC 5065 §5). `None`: malformed.
    pub(super) fn decode_received(value: &[u8], context: &DecodeContext) -> Option<Self> {
        let path = if context.four_octet_asn {
            Self::decode::<4>(value, u32::from_be_bytes)?
        } else {
            Self::decode::<2>(value, |octets| u32::from(u16::from_be_bytes(octets)))?
        };
        let confederation = || path.segments().any(|segment| segment.kind.is_confederation());
        (context.peer_kind == PeerKind::Internal || !confederation()).then_some(path)
    }

    /// AS4_PATH: four octets always, and its confederation segments are dropped (RFC 6793 §6).
    pub(super) fn decode_as4(value: &[u8]) -> Option<Self> {
        Self::decode::<4>(value, u32::from_be_bytes).map(|path| path.without_confederations())
    }

    /// What is wrong with an AS4_PATH is a set, for which the route goes rather than the attribute (RFC 9774 §3).
    pub(super) fn has_set_in_as4(mut value: &[u8]) -> bool {
        while let Some((&[kind, count], rest)) = value.split_first_chunk() {
            if kind == AS_SET || kind == AS_CONFED_SET {
                return true;
            }
            value = rest.get(usize::from(count) * 4..).unwrap_or_default();
        }
        false
    }

    fn decode<const WIDTH: usize>(mut value: &[u8], asn: impl Fn([u8; WIDTH]) -> u32) -> Option<Self> {
        // One sequence, as nearly always: a head, which is shorter on the wire, and its systems.
        let mut words = SmallVec::with_capacity(value.len().div_ceil(WIDTH));
        while let Some((&[kind, count], rest)) = value.split_first_chunk() {
            if count == 0 {
                return None;
            }
            let (asns, rest) = rest.split_at_checked(usize::from(count) * WIDTH)?;
            words.push(head(SegmentKind::from_code(kind)?, usize::from(count)));
            for octets in asns.as_chunks::<WIDTH>().0 {
                let asn = Some(asn(*octets)).filter(|asn| *asn != 0)?;
                words.push(Asn(asn));
            }
            value = rest;
        }
        value.is_empty().then_some(Self { words })
    }

    /// The octets of [`AsPath::put`].
    pub(super) fn wire_len(&self, four_octet_asn: bool) -> usize {
        let width = if four_octet_asn { 4 } else { 2 };
        self.segments().map(|segment| 2 + width * segment.asns.len()).sum()
    }

    pub(super) fn put(&self, out: &mut BytesMut, four_octet_asn: bool) {
        for AsSegment { kind, asns } in self.segments() {
            out.put_u8(kind.code());
            out.put_u8(u8::try_from(asns.len()).unwrap_or(u8::MAX));
            for asn in asns {
                if four_octet_asn { out.put_u32(asn.0) } else { out.put_u16(asn.two_octets()) }
            }
        }
    }

    /// What AS4_PATH must say beside an AS_PATH of two octets: nothing when that says it all (RFC 6793 §4.2.2).
    pub(super) fn as4_path(&self) -> Option<Self> {
        let loses = self.asns().any(|asn| asn.0 > u32::from(u16::MAX));
        loses.then(|| self.without_confederations())
    }

    /// As those outside the confederation see it (RFC 5065 §4).
    pub(crate) fn without_confederations(&self) -> Self {
        let mut path = Self::default();
        for AsSegment { kind, asns } in self.segments().filter(|segment| !segment.kind.is_confederation()) {
            path.push_segment(kind, asns);
        }
        path
    }

    /// RFC 6793 §4.2.3: what OLD speakers have prepended stays, the rest is replaced by the path that has the real
    /// numbers. An AS4_PATH that is longer than the path cannot be right and is ignored.
    pub(super) fn merge_as4(&mut self, as4_path: &Self) {
        let Some(mut left) = self.path_length().checked_sub(as4_path.path_length()) else {
            return;
        };
        let mut merged = Self::default();
        for AsSegment { kind, asns } in self.segments() {
            match kind {
                SegmentKind::ConfedSequence => merged.push_segment(kind, asns),
                SegmentKind::Sequence => {
                    let (kept, replaced) = asns.split_at_checked(left).unwrap_or((asns, &[]));
                    merged.push_segment(kind, kept);
                    left -= kept.len();
                    if !replaced.is_empty() {
                        break;
                    }
                }
            }
        }
        for AsSegment { kind, asns } in as4_path.segments() {
            merged.push_segment(kind, asns);
        }
        *self = merged;
    }
}

/// The word before a segment's systems. At most 255 of them: `chunks` above and the wire see to that.
fn head(kind: SegmentKind, count: usize) -> Asn {
    let count = u8::try_from(count).unwrap_or(u8::MAX);
    Asn(u32::from_be_bytes([0, 0, kind.code(), count]))
}

/// Segments of an [`AsPath`], nearest first.
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    words: &'a [Asn],
}

impl<'a> Iterator for Segments<'a> {
    type Item = AsSegment<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let (head, rest) = self.words.split_first()?;
        let [_, _, code, count] = head.0.to_be_bytes();
        let (asns, rest) = rest.split_at_checked(usize::from(count))?;
        self.words = rest;
        Some(AsSegment { kind: SegmentKind::from_code(code)?, asns })
    }
}

impl From<Vec<(SegmentKind, Vec<Asn>)>> for AsPath {
    fn from(segments: Vec<(SegmentKind, Vec<Asn>)>) -> Self {
        let mut path = Self::default();
        for (kind, asns) in segments {
            path.push_segment(kind, &asns);
        }
        path
    }
}

impl From<AsPath> for Vec<(SegmentKind, Vec<Asn>)> {
    fn from(path: AsPath) -> Self {
        path.segments().map(|segment| (segment.kind, segment.asns.to_vec())).collect()
    }
}

/// As routers print it: `65001 65002`, confederations in parentheses.
impl fmt::Display for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, AsSegment { kind, asns }) in self.segments().enumerate() {
            let (open, close) = match kind {
                SegmentKind::Sequence => ("", ""),
                SegmentKind::ConfedSequence => ("(", ")"),
            };
            f.write_str(if index == 0 { "" } else { " " })?;
            f.write_str(open)?;
            for (index, asn) in asns.iter().enumerate() {
                write!(f, "{}{asn}", if index == 0 { "" } else { " " })?;
            }
            f.write_str(close)?;
        }
        Ok(())
    }
}

impl fmt::Debug for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AsPath({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(asns: &[u32]) -> AsPath {
        AsPath::from_sequence(asns.iter().copied().map(Asn))
    }

    #[test]
    fn prepending_extends_the_first_sequence() {
        let mut path = sequence(&[65002, 65003]);
        path.prepend(Asn(65001));
        assert_eq!(path, sequence(&[65001, 65002, 65003]));
    }

    #[test]
    fn prepending_to_a_full_sequence_or_nothing_opens_a_segment() {
        let mut full = sequence(&[7; 255]);
        full.prepend(Asn(9));
        assert_eq!(full.segments().map(|segment| segment.asns.len()).collect::<Vec<_>>(), [1, 255]);

        let mut empty = AsPath::default();
        empty.prepend(Asn(9));
        assert_eq!(empty, sequence(&[9]));
    }

    #[test]
    fn confederations_count_nothing_and_are_not_seen_outside() {
        let path = AsPath::from(vec![
            (SegmentKind::ConfedSequence, vec![Asn(64512)]),
            (SegmentKind::Sequence, vec![Asn(1), Asn(2)]),
        ]);
        assert_eq!(path.path_length(), 2);
        assert_eq!(path.neighbor_asn(), Some(Asn(1)));
        assert!(path.contains(Asn(64512)) && !path.contains(Asn(5)));
        assert_eq!(path.to_string(), "(64512) 1 2");
        assert_eq!(path.without_confederations(), sequence(&[1, 2]));
    }

    #[test]
    fn a_path_that_two_octets_can_say_needs_no_as4_path() {
        assert_eq!(sequence(&[1, 65535]).as4_path(), None);
        let confederation = (SegmentKind::ConfedSequence, vec![Asn(64512)]);
        let long = (SegmentKind::Sequence, vec![Asn(1), Asn(65536)]);
        assert_eq!(AsPath::from(vec![confederation, long]).as4_path(), Some(sequence(&[1, 65536])));
    }

    #[test]
    fn a_set_is_found_behind_whole_segments_alone() {
        for (asns, set) in [(1, AS_SET), (2, AS_CONFED_SET)] {
            let sequence = [&[2, asns][..], &[0, 0, 0, 9].repeat(asns.into())].concat();
            assert!(AsPath::has_set_in_as4(&[&sequence[..], &[set, 1, 0, 0, 0, 7]].concat()));
            assert!(!AsPath::has_set_in_as4(&sequence));
        }
        assert!(!AsPath::has_set_in_as4(&[2, 1, AS_SET, 1, 0, 9]), "that is a number");
    }

    #[test]
    fn only_a_path_without_segments_is_empty() {
        assert!(AsPath::default().is_empty() && sequence(&[]).is_empty());
        assert!(!sequence(&[1]).is_empty());
    }

    /// `own` as an OLD speaker sent it, `as4` beside it.
    fn merged(own: &[(SegmentKind, &[u32])], as4: &[(SegmentKind, &[u32])]) -> String {
        let path = |segments: &[(SegmentKind, &[u32])]| {
            let owned = segments.iter().map(|(kind, asns)| (*kind, asns.iter().copied().map(Asn).collect()));
            AsPath::from(owned.collect::<Vec<_>>())
        };
        let mut own = path(own);
        own.merge_as4(&path(as4));
        own.to_string()
    }

    #[test]
    fn as4_path_replaces_the_end_that_it_covers() {
        use SegmentKind::{ConfedSequence, Sequence};
        assert_eq!(
            merged(&[(Sequence, &[100, 23456, 23456])], &[(Sequence, &[70000, 80000])]),
            "100 70000 80000"
        );
        assert_eq!(
            merged(&[(Sequence, &[1]), (Sequence, &[2, 23456])], &[(Sequence, &[70000])]),
            "1 2 70000"
        );
        // Across a boundary of segments.
        assert_eq!(
            merged(&[(Sequence, &[1, 2]), (Sequence, &[23456, 4])], &[(Sequence, &[70000, 4])]),
            "1 2 70000 4"
        );
        assert_eq!(
            merged(&[(ConfedSequence, &[9]), (Sequence, &[23456])], &[(Sequence, &[70000])]),
            "(9) 70000"
        );
    }

    #[test]
    fn an_as4_path_longer_than_the_path_is_ignored() {
        use SegmentKind::Sequence;
        assert_eq!(merged(&[(Sequence, &[23456])], &[(Sequence, &[70000, 80000])]), "23456");
    }

    #[test]
    fn serialised_paths_come_back() {
        let segments =
            vec![(SegmentKind::ConfedSequence, vec![Asn(1)]), (SegmentKind::Sequence, vec![Asn(2)])];
        let path = AsPath::from(segments);
        let json = serde_json::to_string(&path).unwrap();
        assert_eq!(json, r#"[["confed-sequence",[1]],["sequence",[2]]]"#);
        assert_eq!(serde_json::from_str::<AsPath>(&json).unwrap(), path);
    }
}
