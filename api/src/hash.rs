//! A hash that is the same in every build, on every machine and in every release, as those of std are not: an agent that
//! starts finds the names again that another has given.

/// FNV-1a, 64 bits. Whoever minds a collision must look for it.
pub fn fnv1a(octets: impl IntoIterator<Item = u8>) -> u64 {
    let mix = |hash: u64, octet| (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3);
    octets.into_iter().fold(0xcbf2_9ce4_8422_2325, mix)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As its authors give them.
    #[test]
    fn the_hash_is_fnv1a() {
        let vectors =
            [("", 0xcbf2_9ce4_8422_2325), ("a", 0xaf63_dc4c_8601_ec8c), ("foobar", 0x8594_4171_f739_67e8)];
        for (text, hash) in vectors {
            assert_eq!(fnv1a(text.bytes()), hash, "{text}");
        }
    }
}
