//! The two combinators that nom lacks for values in slices that are already cut to size.

use nom::Parser;
use nom::combinator::all_consuming;
use nom::multi::fold_many0;

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
pub(super) fn list<'a, T, C: Default + Extend<T>>(
    entry: impl Parser<&'a [u8], Output = T, Error = ()>,
) -> impl Parser<&'a [u8], Output = C, Error = ()> {
    fold_many0(entry, C::default, |mut all: C, item| {
        all.extend([item]);
        all
    })
}
