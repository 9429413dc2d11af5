//! AS_PATH: the autonomous systems that a route has crossed (RFC 4271 §4.3 b, §5.1.2).
//!
//! One flat vector instead of a vector of vectors: each segment is a head word (kind and count) followed by its AS numbers.
//! Paths of up to five systems, which is nearly all of them, need no allocation and are compared and hashed in one go.

use std::fmt;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::types::Asn;

/// RFC 4271 §4.3 b and, for confederations, RFC 5065 §3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SegmentKind {
    Set,
    Sequence,
    ConfedSequence,
    ConfedSet,
}

impl SegmentKind {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Set => 1,
            Self::Sequence => 2,
            Self::ConfedSequence => 3,
            Self::ConfedSet => 4,
        }
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Set),
            2 => Some(Self::Sequence),
            3 => Some(Self::ConfedSequence),
            4 => Some(Self::ConfedSet),
            _ => None,
        }
    }

    pub(super) fn is_confederation(self) -> bool {
        matches!(self, Self::ConfedSequence | Self::ConfedSet)
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
            SegmentKind::Set => 1,
            SegmentKind::ConfedSequence | SegmentKind::ConfedSet => 0,
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

    /// For comparison with other paths (RFC 4271 §9.1.2.2 a): a set counts 1, confederation segments count 0.
    pub fn path_length(&self) -> usize {
        self.segments().map(|segment| segment.path_length()).sum()
    }

    /// Every system of every segment, nearest first.
    pub fn asns(&self) -> impl Iterator<Item = Asn> {
        self.segments().flat_map(|segment| segment.asns.iter().copied())
    }

    /// The loop check (RFC 4271 §9.1.2).
    pub fn contains(&self, asn: Asn) -> bool {
        self.asns().any(|member| member == asn)
    }

    /// The system that the path enters first: whose MEDs may be compared (RFC 4271 §9.1.2.2 c). `None` within the AS,
    /// or when an aggregate hides it in a set.
    pub fn neighbor_asn(&self) -> Option<Asn> {
        let first = self.segments().find(|segment| !segment.kind.is_confederation())?;
        match first.kind {
            SegmentKind::Sequence => first.asns.first().copied(),
            SegmentKind::Set | SegmentKind::ConfedSequence | SegmentKind::ConfedSet => None,
        }
    }

    /// The system where the path begins, unless a set hides it.
    pub fn origin_asn(&self) -> Option<Asn> {
        let last = self.segments().last()?;
        if last.kind == SegmentKind::Sequence { last.asns.last().copied() } else { None }
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

/// As routers print it: `65001 65002 {64512,64513}`, confederations in parentheses and brackets.
impl fmt::Display for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, AsSegment { kind, asns }) in self.segments().enumerate() {
            let (open, separator, close) = match kind {
                SegmentKind::Sequence => ("", " ", ""),
                SegmentKind::Set => ("{", ",", "}"),
                SegmentKind::ConfedSequence => ("(", " ", ")"),
                SegmentKind::ConfedSet => ("[", ",", "]"),
            };
            f.write_str(if index == 0 { "" } else { " " })?;
            f.write_str(open)?;
            for (index, asn) in asns.iter().enumerate() {
                write!(f, "{}{asn}", if index == 0 { "" } else { separator })?;
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
    fn prepending_to_a_set_a_full_sequence_or_nothing_opens_a_segment() {
        let mut set = AsPath::from(vec![(SegmentKind::Set, vec![Asn(1), Asn(2)])]);
        set.prepend(Asn(9));
        assert_eq!(set.to_string(), "9 {1,2}");

        let mut full = sequence(&[7; 255]);
        full.prepend(Asn(9));
        assert_eq!(full.segments().map(|segment| segment.asns.len()).collect::<Vec<_>>(), [1, 255]);

        let mut empty = AsPath::default();
        empty.prepend(Asn(9));
        assert_eq!(empty, sequence(&[9]));
    }

    #[test]
    fn sets_count_one_and_confederations_nothing() {
        let path = AsPath::from(vec![
            (SegmentKind::ConfedSequence, vec![Asn(64512)]),
            (SegmentKind::Sequence, vec![Asn(1), Asn(2)]),
            (SegmentKind::Set, vec![Asn(3), Asn(4)]),
        ]);
        assert_eq!(path.path_length(), 3);
        assert_eq!(path.neighbor_asn(), Some(Asn(1)));
        assert_eq!(path.origin_asn(), None);
        assert!(path.contains(Asn(4)) && !path.contains(Asn(5)));
        assert_eq!(path.to_string(), "(64512) 1 2 {3,4}");
    }

    #[test]
    fn serialised_paths_come_back() {
        let path =
            AsPath::from(vec![(SegmentKind::Sequence, vec![Asn(1)]), (SegmentKind::Set, vec![Asn(2)])]);
        let json = serde_json::to_string(&path).unwrap();
        assert_eq!(json, r#"[["sequence",[1]],["set",[2]]]"#);
        assert_eq!(serde_json::from_str::<AsPath>(&json).unwrap(), path);
    }
}
