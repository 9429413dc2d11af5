//! Communities as people write them: one, or a pattern for many.
//!
//! `65000:100` (RFC 1997), `4200000000:1:2` (RFC 8092), `rt:65000:100` and `soo:192.0.2.1:7` (RFC 4360), or a name of RFC 1997's
//! registry. In a pattern each number may be a range, `100-199`, or `*`.

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// One community.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommunityText(Community<u32>);

/// A community, or many.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommunityPatternText(Community<RangeInclusive<u32>>);

/// `N` is a number, or what stands for many.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Community<N> {
    /// ASN and value, both of 16 bits.
    Standard([N; 2]),
    Large([N; 3]),
    Extended {
        purpose: CommunityPurpose,
        administrator: CommunityAdministrator<N>,
        value: N,
    },
}

/// What an extended community says (RFC 4360 §4, §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CommunityPurpose {
    RouteTarget,
    RouteOrigin,
}

/// Whose an extended community is. Its value has 32 bits with an AS of 16, else 16 (RFC 4360 §3, RFC 5668).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CommunityAdministrator<N> {
    Asn(N),
    Address(Ipv4Addr),
}

/// IANA's "BGP Well-known Communities", as far as routers know them by name.
const WELL_KNOWN: [(&str, [u32; 2]); 6] = [
    ("graceful-shutdown", [65535, 0]),
    ("llgr-stale", [65535, 6]),
    ("no-llgr", [65535, 7]),
    ("blackhole", [65535, 666]),
    ("no-export", [65535, 65281]),
    ("no-advertise", [65535, 65282]),
];

const SHORT: u32 = u16::MAX as u32;

impl CommunityText {
    pub fn parts(&self) -> &Community<u32> {
        &self.0
    }
}

impl CommunityPatternText {
    pub fn parts(&self) -> &Community<RangeInclusive<u32>> {
        &self.0
    }
}

/// Of a pattern's kind, with numbers that fit.
fn parse<N>(text: &str, number: impl Fn(&str, u32) -> Option<N>) -> Option<Community<N>> {
    let named = WELL_KNOWN.iter().find(|(name, _)| *name == text);
    if let Some((_, [asn, value])) = named {
        let of = |part: u32| number(&part.to_string(), SHORT);
        return Some(Community::Standard([of(*asn)?, of(*value)?]));
    }
    let parts: Vec<&str> = text.split(':').collect();
    match *parts.as_slice() {
        [purpose @ ("rt" | "soo"), administrator, value] => {
            let purpose =
                if purpose == "rt" { CommunityPurpose::RouteTarget } else { CommunityPurpose::RouteOrigin };
            let address = administrator.parse().ok().map(CommunityAdministrator::Address);
            let asn = || number(administrator, u32::MAX).map(CommunityAdministrator::Asn);
            // The value is long exactly when the AS is short.
            let is_short = address.is_none() && number(administrator, SHORT).is_some();
            let value = number(value, if is_short { u32::MAX } else { SHORT })?;
            Some(Community::Extended { purpose, administrator: address.or_else(asn)?, value })
        }
        [asn, value] => Some(Community::Standard([number(asn, SHORT)?, number(value, SHORT)?])),
        [global, local1, local2] => {
            let whole = |part| number(part, u32::MAX);
            Some(Community::Large([whole(global)?, whole(local1)?, whole(local2)?]))
        }
        _ => None,
    }
}

/// Digits alone: no sign.
fn digits(text: &str, most: u32) -> Option<u32> {
    let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())??;
    (number <= most).then_some(number)
}

fn range(text: &str, most: u32) -> Option<RangeInclusive<u32>> {
    if text == "*" {
        return Some(0..=most);
    }
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let range = digits(low, most)?..=digits(high, most)?;
    (!range.is_empty()).then_some(range)
}

fn write<N>(
    f: &mut fmt::Formatter<'_>,
    community: &Community<N>,
    number: impl Fn(&N, u32) -> String,
) -> fmt::Result {
    match community {
        Community::Standard([asn, value]) => write!(f, "{}:{}", number(asn, SHORT), number(value, SHORT)),
        Community::Large([global, local1, local2]) => {
            let [global, local1, local2] = [global, local1, local2].map(|part| number(part, u32::MAX));
            write!(f, "{global}:{local1}:{local2}")
        }
        Community::Extended { purpose, administrator, value } => {
            let purpose = match purpose {
                CommunityPurpose::RouteTarget => "rt",
                CommunityPurpose::RouteOrigin => "soo",
            };
            let administrator = match administrator {
                CommunityAdministrator::Asn(asn) => number(asn, u32::MAX),
                CommunityAdministrator::Address(address) => address.to_string(),
            };
            write!(f, "{purpose}:{administrator}:{}", number(value, u32::MAX))
        }
    }
}

impl FromStr for CommunityText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = parse(text, digits).map(Self);
        read.ok_or_else(|| {
            format!("{text:?} is no community like 65000:100, 4200000000:1:2, rt:65000:100 or no-export")
        })
    }
}

impl fmt::Display for CommunityText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Community::Standard(parts) = &self.0
            && let Some((name, _)) = WELL_KNOWN.iter().find(|(_, known)| known == parts)
        {
            return f.write_str(name);
        }
        write(f, &self.0, |number, _| number.to_string())
    }
}

impl FromStr for CommunityPatternText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = parse(text, range).map(Self);
        read.ok_or_else(|| {
            format!(
                "{text:?} matches no community: they are like 65000:100, 65000:100-199, 65000:*, 4200000000:1:*, rt:65000:100 or no-export"
            )
        })
    }
}

impl fmt::Display for CommunityPatternText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, &self.0, |range, most| match (*range.start(), *range.end()) {
            (0, end) if end == most => "*".to_owned(),
            (low, high) if low == high => low.to_string(),
            (low, high) => format!("{low}-{high}"),
        })
    }
}

macro_rules! text {
    ($type:ty, $name:literal, $pattern:literal) => {
        impl TryFrom<String> for $type {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(community: $type) -> Self {
                community.to_string()
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "maxLength": 80, "pattern": $pattern })
            }
        }
    };
}

text!(CommunityText, "Community", "^([0-9]+(:[0-9]+){1,2}|(rt|soo):[0-9.]+:[0-9]+|[a-z][a-z-]+)$");
text!(
    CommunityPatternText,
    "CommunityPattern",
    "^([0-9*-]+(:[0-9*-]+){1,2}|(rt|soo):[0-9.*-]+:[0-9*-]+|[a-z][a-z-]+)$"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_community_is_read_as_it_is_written_and_written_as_it_is_read() {
        let cases = [
            ("65000:100", Community::Standard([65000, 100])),
            ("65535:65281", Community::Standard([65535, 65281])),
            ("4200000000:1:2", Community::Large([4_200_000_000, 1, 2])),
            (
                "rt:65000:4200000000",
                Community::Extended {
                    purpose: CommunityPurpose::RouteTarget,
                    administrator: CommunityAdministrator::Asn(65000),
                    value: 4_200_000_000,
                },
            ),
            (
                "soo:192.0.2.1:7",
                Community::Extended {
                    purpose: CommunityPurpose::RouteOrigin,
                    administrator: CommunityAdministrator::Address([192, 0, 2, 1].into()),
                    value: 7,
                },
            ),
        ];
        for (text, parts) in cases {
            let community: CommunityText = text.parse().unwrap();
            assert_eq!(*community.parts(), parts, "{text}");
            assert_eq!(community.to_string().parse::<CommunityText>().unwrap(), community, "{text}");
        }
        let named: CommunityText = "no-export".parse().unwrap();
        assert_eq!(named, "65535:65281".parse().unwrap());
        assert_eq!(named.to_string(), "no-export");
    }

    #[test]
    fn what_is_no_community_is_refused() {
        let refused = [
            "",
            "1",
            "1:2:3:4",
            "65536:1",
            "1:65536",
            "+1:2",
            "1:-2",
            "1:*",
            "1:2-3",
            "no-such",
            "rt:1",
            "rt:65536:65536",
            "soo:192.0.2.1:65536",
            "4294967296:0:0",
            "1:",
            ":1",
            "1: 2",
        ];
        for text in refused {
            assert!(text.parse::<CommunityText>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_pattern_has_ranges_in_the_place_of_numbers() {
        for (text, parts) in [
            ("65000:100-199", Community::Standard([65000..=65000, 100..=199])),
            ("65000:*", Community::Standard([65000..=65000, 0..=65535])),
            ("*:*:7", Community::Large([0..=u32::MAX, 0..=u32::MAX, 7..=7])),
        ] {
            let pattern: CommunityPatternText = text.parse().unwrap();
            assert_eq!(*pattern.parts(), parts, "{text}");
            assert_eq!(pattern.to_string(), text);
        }
        assert_eq!(
            "no-export".parse::<CommunityPatternText>().unwrap(),
            "65535:65281".parse::<CommunityPatternText>().unwrap()
        );
        for text in ["65000:199-100", "65000:1-65536", "65000:-", "65000:1-", "65000:**", "*", "rt:*:70000-"]
        {
            assert!(text.parse::<CommunityPatternText>().is_err(), "{text:?}");
        }
    }
}
