use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ipam(pools: &[&str]) -> Ipam {
    let mut ipam = Ipam::default();
    ipam.set_pools(&pools.iter().map(|pool| pool.parse().unwrap()).collect::<Vec<_>>(), &[]);
    ipam
}

fn take_one(ipam: &mut Ipam, now: Duration) -> Addresses {
    let addresses = ipam.pick(now).unwrap();
    ipam.take(&addresses).unwrap();
    addresses
}

#[test]
fn network_and_broadcast_of_a_v4_pool_are_never_handed_out() {
    let mut ipam = ipam(&["10.0.0.0/30"]);
    let taken: Vec<_> = (0..2).map(|_| take_one(&mut ipam, secs(0)).v4.unwrap().to_string()).collect();
    assert_eq!(taken, ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(ipam.pick(secs(0)), Err(IpamError::Exhausted { family: "IPv4", used: 2, cooling: 0 }));
}

#[test]
fn pools_of_one_and_two_addresses_use_all_of_them() {
    assert_eq!(take_one(&mut ipam(&["10.0.0.7/32"]), secs(0)).v4, Some("10.0.0.7".parse().unwrap()));
    let mut two = ipam(&["10.0.0.6/31"]);
    assert_eq!(take_one(&mut two, secs(0)).v4, Some("10.0.0.6".parse().unwrap()));
    assert_eq!(take_one(&mut two, secs(0)).v4, Some("10.0.0.7".parse().unwrap()));
    assert_eq!(take_one(&mut ipam(&["fd00::6/127"]), secs(0)).v6, Some("fd00::6".parse().unwrap()));
    assert_eq!(take_one(&mut ipam(&["fd00::4/126"]), secs(0)).v6, Some("fd00::5".parse().unwrap()));
}

#[test]
fn a_pod_gets_both_families_or_nothing() {
    let mut ipam = ipam(&["10.0.0.0/30", "fd00::/64"]);
    take_one(&mut ipam, secs(0));
    take_one(&mut ipam, secs(0));
    let before = ipam.clone();
    assert!(matches!(ipam.pick(secs(0)), Err(IpamError::Exhausted { family: "IPv4", .. })));
    assert_eq!(ipam, before);
}

#[test]
fn a_released_address_rests_as_long_as_others_are_free_and_at_least_the_quarantine() {
    let mut ipam = ipam(&["10.0.0.0/29"]);
    let first = take_one(&mut ipam, secs(0));
    ipam.release(&first, Some(secs(10)));
    for _ in 0..5 {
        assert_ne!(take_one(&mut ipam, secs(11)), first);
    }
    let short = secs(10) + MIN_QUARANTINE - secs(1);
    assert_eq!(ipam.pick(short), Err(IpamError::Exhausted { family: "IPv4", used: 5, cooling: 1 }));
    assert_eq!(ipam.pick(secs(10) + MIN_QUARANTINE), Ok(first));
}

#[test]
fn the_address_that_was_released_first_is_reused_first() {
    let mut ipam = ipam(&["10.0.0.0/29"]);
    let taken: Vec<_> = (0..6).map(|_| take_one(&mut ipam, secs(0))).collect();
    ipam.release(&taken[4], Some(secs(1)));
    ipam.release(&taken[2], Some(secs(2)));
    assert_eq!(take_one(&mut ipam, secs(60)), taken[4]);
    assert_eq!(take_one(&mut ipam, secs(60)), taken[2]);
}

#[test]
fn an_address_that_carried_no_traffic_needs_no_rest() {
    let mut ipam = ipam(&["10.0.0.4/32"]);
    let only = take_one(&mut ipam, secs(0));
    ipam.release(&only, None);
    assert_eq!(ipam.pick(secs(0)), Ok(only));
}

#[test]
fn pods_keep_their_addresses_when_pools_change_and_cooling_survives_it() {
    let mut ipam = ipam(&["10.0.0.0/30"]);
    let (kept, cooling) = (take_one(&mut ipam, secs(0)), take_one(&mut ipam, secs(0)));
    ipam.release(&cooling, Some(secs(5)));
    ipam.set_pools(&["10.9.0.0/30".parse().unwrap()], &[]);
    assert_eq!(take_one(&mut ipam, secs(6)).v4, Some("10.9.0.1".parse().unwrap()));
    ipam.set_pools(&["10.0.0.0/30".parse().unwrap()], &[]);
    assert_eq!(ipam.take(&kept), Err(IpamError::InUse(kept.iter().next().unwrap())));
    assert!(matches!(ipam.pick(secs(7)), Err(IpamError::Exhausted { used: 1, cooling: 1, .. })));
}

#[test]
fn the_same_pools_once_more_change_nothing() {
    let mut ipam = ipam(&["10.0.0.0/24"]);
    take_one(&mut ipam, secs(0));
    let second = take_one(&mut ipam, secs(0));
    ipam.release(&second, None);
    let before = ipam.clone();
    ipam.set_pools(&["10.0.0.0/24".parse().unwrap()], &[]);
    assert_eq!(ipam, before, "nor does the cursor move");
    ipam.set_pools(&["10.0.0.0/24".parse().unwrap()], &["10.0.0.3".parse().unwrap()]);
    assert_eq!(
        ipam.pools().map(|(_, counts)| counts.reserved).collect::<Vec<_>>(),
        [3],
        "other reservations count"
    );
}

/// Within a word of the bitmap, and over many.
#[test]
fn a_pool_is_handed_out_in_order_and_round_again() {
    for (pool, first, usable) in
        [("10.0.0.0/28", "10.0.0.0", 14), ("10.0.0.0/24", "10.0.0.0", 254), ("fd00::/120", "fd00::", 255)]
    {
        let mut ipam = ipam(&[pool]);
        let nth = |n: u8| match first.parse().unwrap() {
            IpAddr::V4(v4) => IpAddr::from((v4.to_bits() + u32::from(n)).to_be_bytes()),
            IpAddr::V6(v6) => IpAddr::from((v6.to_bits() + u128::from(n)).to_be_bytes()),
        };
        for n in 1..=usable {
            let taken = take_one(&mut ipam, secs(0));
            assert_eq!(taken.iter().next(), Some(nth(n)));
            // Behind the cursor: its turn is in the next round.
            if n % 3 == 0 {
                ipam.release(&taken, None);
            }
        }
        for n in (1..=usable).filter(|n| n % 3 == 0) {
            assert_eq!(take_one(&mut ipam, secs(0)).iter().next(), Some(nth(n)));
        }
        assert!(ipam.pick(secs(0)).is_err());
    }
}

#[test]
fn what_has_cooled_down_is_free_and_what_no_pool_holds_is_forgotten() {
    for pools in [&["10.0.0.4/32"][..], &["10.0.1.0/24"]] {
        let mut ipam = ipam(&["10.0.0.4/32"]);
        let only = take_one(&mut ipam, secs(0));
        ipam.release(&only, Some(secs(10)));
        ipam.set_pools(&pools.iter().map(|pool| pool.parse().unwrap()).collect::<Vec<_>>(), &[]);
        ipam.pick(secs(10) + COOLDOWN - secs(1)).unwrap();
        assert_eq!(ipam.cooling().len(), 1);
        ipam.pick(secs(10) + COOLDOWN).unwrap();
        assert_eq!(ipam.cooling(), []);
    }
}

/// More would be a bitmap of 2^64 bits.
#[test]
fn of_a_large_pool_the_first_part_is_handed_out() {
    for pool in ["10.0.0.0/8", "fd00::/64"] {
        let sizes: Vec<_> = ipam(&[pool]).pools().map(|(_, counts)| counts.size).collect();
        assert_eq!(sizes, [1 << 16], "{pool}");
    }
}

#[test]
fn a_pool_inside_another_does_not_double_its_addresses() {
    let ipam = ipam(&["10.0.0.0/24", "10.0.0.64/26"]);
    assert_eq!(ipam.pools().map(|(cidr, _)| cidr.to_string()).collect::<Vec<_>>(), ["10.0.0.0/24"]);
}

#[test]
fn reserved_addresses_are_never_handed_out() {
    let mut ipam = Ipam::default();
    ipam.set_pools(&["10.0.0.0/30".parse().unwrap()], &["10.0.0.1".parse().unwrap()]);
    assert_eq!(take_one(&mut ipam, secs(0)).v4, Some("10.0.0.2".parse().unwrap()));
}

#[test]
fn without_a_pool_there_is_no_address() {
    assert_eq!(Ipam::default().pick(secs(0)), Err(IpamError::NoPools));
}

/// What happens to a node's addresses.
#[derive(Clone, Debug)]
enum Op {
    Take,
    /// The n-th of those in use, modulo; with or without rest.
    Release(usize, bool),
    Wait(u64),
    Pools(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => Just(Op::Take),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(n, rest)| Op::Release(n, rest)),
        2 => (0u64..200).prop_map(Op::Wait),
        1 => (0usize..4).prop_map(Op::Pools),
    ]
}

proptest! {
    /// Against a model that remembers all addresses one by one.
    #[test]
    fn addresses_are_unique_counted_and_rested(ops in prop::collection::vec(op(), 1..200)) {
        let choices: [&[&str]; 4] =
            [&["10.0.0.0/28", "fd00::/124"], &["10.0.0.0/29"], &["fd00::/125", "10.1.0.0/30"], &["10.0.0.0/28"]];
        let mut ipam = ipam(choices[0]);
        let (mut now, mut used, mut rested) = (secs(1000), Vec::new(), BTreeMap::new());
        for op in ops {
            match op {
                Op::Take => if let Ok(addresses) = ipam.pick(now) {
                    for address in addresses.iter() {
                        prop_assert!(!used.iter().flat_map(Addresses::iter).any(|taken| taken == address));
                        if let Some(at) = rested.remove(&address) {
                            prop_assert!(now - at >= MIN_QUARANTINE);
                        }
                    }
                    ipam.take(&addresses).unwrap();
                    used.push(addresses);
                },
                Op::Release(n, rest) if !used.is_empty() => {
                    let addresses = used.swap_remove(n % used.len());
                    ipam.release(&addresses, rest.then_some(now));
                    if rest {
                        rested.extend(addresses.iter().map(|address| (address, now)));
                    }
                }
                Op::Release(..) => {}
                Op::Wait(seconds) => now += secs(seconds),
                Op::Pools(n) => {
                    let pools: Vec<_> = choices[n].iter().map(|pool| pool.parse().unwrap()).collect();
                    ipam.set_pools(&pools, &[]);
                }
            }
            let distinct: BTreeSet<_> = used.iter().flat_map(Addresses::iter).collect();
            prop_assert_eq!(distinct.len(), used.iter().flat_map(Addresses::iter).count());
            for (network, counts) in ipam.pools() {
                prop_assert_eq!(counts.free + counts.used + counts.cooling + counts.reserved, counts.size);
                // An address from before a change of pools may be the broadcast address of a new one: reserved.
                let usable = |address: &&IpAddr| {
                    network.contains(**address)
                        && **address != network.network()
                        && (network.is_ipv6() || **address != network.broadcast())
                };
                let inside = distinct.iter().filter(usable).count();
                prop_assert_eq!(counts.used as usize, inside);
            }
        }
    }
}
