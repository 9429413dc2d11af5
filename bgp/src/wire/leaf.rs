//! The two combinators that nom lacks for values in slices that are already cut to size.

use nom::Parser;
use nom::combinator::{all_consuming, iterator};

/// Errors carry nothing: whoever cut the slice knows what it is and what its failure means.
pub(super) type Parsed<'a, T> = nom::IResult<&'a [u8], T, ()>;

/// `parser` and then nothing more.
pub(super) fn exactly<'a, T>(
    parser: impl Parser<&'a [u8], Output = T, Error = ()>,
    input: &'a [u8],
) -> Option<T> {
    all_consuming(parser).parse(input).ok().map(|(_, value)| value)
}

/// As many as there are.
pub(super) fn list<'a, T, C: FromIterator<T>>(
    mut entry: impl Parser<&'a [u8], Output = T, Error = ()>,
) -> impl FnMut(&'a [u8]) -> Parsed<'a, C> {
    move |input| {
        let mut entries = iterator(input, |rest| entry.parse(rest));
        let all = entries.by_ref().collect();
        entries.finish().map(|(rest, ())| (rest, all))
    }
}
