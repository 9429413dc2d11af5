//! RFC 5880 §4.1, and the checks of §6.8.6.

use proptest::prelude::*;

use super::*;

/// Of the RFC's picture, octet by octet.
#[test]
fn a_packet_is_laid_out_as_in_the_rfc() {
    let packet = Packet {
        diagnostic: Diagnostic::NeighborSignaledSessionDown,
        state: State::Init,
        poll: true,
        demand: true,
        my_discriminator: discriminator(0x0102_0304),
        your_discriminator: Some(discriminator(0x0506_0708)),
        desired_min_tx: Duration::from_micros(0x0a0b_0c0d),
        required_min_rx: Duration::from_micros(0x1a1b_1c1d),
        required_min_echo_rx: Duration::from_micros(5),
        ..from_peer(State::Init)
    };
    let octets = [
        0x23, 0xa2, 3, 24, 1, 2, 3, 4, 5, 6, 7, 8, 0x0a, 0x0b, 0x0c, 0x0d, 0x1a, 0x1b, 0x1c, 0x1d, 0, 0, 0, 5,
    ];
    assert_eq!(packet.encode(), octets);
    assert_eq!(Packet::decode(&octets), Ok(packet));
}

#[test]
fn each_flag_has_its_bit() {
    type Set = fn(&mut Packet);
    let flags: [(u8, Set); 4] = [
        (0x20, |packet| packet.poll = true),
        (0x10, |packet| packet.is_final = true),
        (0x08, |packet| packet.control_plane_independent = true),
        (0x02, |packet| packet.demand = true),
    ];
    for (bit, set) in flags {
        let mut packet = from_peer(State::Up);
        set(&mut packet);
        let octets = packet.encode();
        assert_eq!(octets[1], 0xc0 | bit);
        assert_eq!(Packet::decode(&octets), Ok(packet));
    }
}

#[test]
fn each_state_has_its_number() {
    for (number, state) in [State::AdminDown, State::Down, State::Init, State::Up].into_iter().enumerate() {
        let octets = from_peer(state).encode();
        assert_eq!(usize::from(octets[1] >> 6), number);
        assert_eq!(Packet::decode(&octets).unwrap().state, state);
    }
}

#[test]
fn what_is_malformed_is_named() {
    let change = |index: usize, octet: u8| {
        let mut octets = from_peer(State::Up).encode().to_vec();
        octets[index] = octet;
        octets
    };
    let without = |range: std::ops::Range<usize>, state: State| {
        let mut octets = from_peer(state).encode().to_vec();
        octets[range].fill(0);
        octets
    };
    let longer = |mut octets: Vec<u8>| {
        octets.extend([0, 0]);
        octets
    };
    let whole = from_peer(State::Up).encode();
    let length = |length, payload| Malformed::Length { length, payload };
    for (octets, malformed) in [
        (Vec::new(), length(0, 0)),
        (whole[..3].to_vec(), length(0, 3)),
        (whole[..23].to_vec(), length(24, 23)),
        (change(3, 23), length(23, 24)),
        (change(3, 25), length(25, 24)),
        (change(0, 0x00), Malformed::Version(0)),
        (change(0, 0x40), Malformed::Version(2)),
        (change(2, 0), Malformed::DetectMultiplier),
        (change(1, 0xc1), Malformed::Multipoint),
        (without(4..8, State::Up), Malformed::MyDiscriminator),
        (without(8..12, State::Up), Malformed::YourDiscriminator(State::Up)),
        (without(8..12, State::Init), Malformed::YourDiscriminator(State::Init)),
        // With authentication 26 octets are the least.
        (change(1, 0xc4), length(24, 24)),
        (longer([&change(1, 0xc4)[..3], &[26], &whole[4..]].concat()), Malformed::Authentication),
    ] {
        assert_eq!(Packet::decode(&octets), Err(malformed), "{octets:02x?}");
    }
}

#[test]
fn whoever_is_down_need_not_know_us() {
    for state in [State::Down, State::AdminDown] {
        let packet = Packet { your_discriminator: None, ..from_peer(state) };
        assert_eq!(Packet::decode(&packet.encode()), Ok(packet));
    }
}

#[test]
fn what_follows_the_packet_is_not_looked_at() {
    let packet = from_peer(State::Up);
    assert_eq!(Packet::decode(&[&packet.encode()[..], &[0xff; 9]].concat()), Ok(packet));
}

#[test]
fn diagnostics_that_nobody_has_named_are_kept() {
    for code in 0..32 {
        let mut octets = from_peer(State::Up).encode();
        octets[0] = 0x20 | code;
        let packet = Packet::decode(&octets).unwrap();
        assert_eq!(packet.encode(), octets);
        assert_eq!(matches!(packet.diagnostic, Diagnostic::Reserved(_)), code > 8);
    }
}

proptest! {
    #[test]
    fn what_is_understood_is_written_as_it_was_read(octets in proptest::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(packet) = Packet::decode(&octets) {
            let again = packet.encode();
            prop_assert_eq!(&again[..3], &octets[..3]);
            prop_assert_eq!(&again[4..], &octets[4..24]);
        }
    }
}
