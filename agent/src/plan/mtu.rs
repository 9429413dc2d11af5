//! The MTU of pods' links.
//!
//! In: the links by which pods' packets leave the node. Out: the smallest of their MTUs, within what a link can have and
//! IPv6 needs (RFC 8200 §5): a pod is wired in any case, and a link that is too small is a problem with a name.

use ipnetwork::IpNetwork;

use weft_api::control::Problem;

/// Where nothing says otherwise.
const DEFAULT: u32 = 1500;
const LEAST: u32 = 68;
const LEAST_OF_IPV6: u32 = 1280;
const MOST: u32 = 65_535;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodMtu {
    pub bytes: u32,
    /// Whose MTU it is; `None` where it is configured, or nothing says.
    pub link: Option<String>,
    pub problem: Option<Problem>,
}

/// `uplinks`: names and MTUs.
pub fn choose(configured: Option<u32>, uplinks: &[(String, u32)], pod_cidrs: &[IpNetwork]) -> PodMtu {
    let smallest = uplinks.iter().min_by_key(|(name, mtu)| (*mtu, name));
    let (wanted, link) = match (configured, smallest) {
        (Some(bytes), _) => (bytes, None),
        (None, Some((name, bytes))) => (*bytes, Some(name.clone())),
        (None, None) => (DEFAULT, None),
    };
    let least = if pod_cidrs.iter().any(IpNetwork::is_ipv6) { LEAST_OF_IPV6 } else { LEAST };
    let problem = (wanted < least).then(|| Problem {
        object: link.as_ref().map_or("the MTU of pods".to_owned(), |name| format!("link {name}")),
        reason: format!("its MTU is {wanted} and pods need {least}: what is larger does not leave by it"),
    });
    PodMtu { bytes: wanted.clamp(least, MOST), link, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uplinks: &[(&str, u32)], pod_cidrs: &[&str]) -> PodMtu {
        let uplinks: Vec<_> = uplinks.iter().map(|(name, mtu)| ((*name).to_owned(), *mtu)).collect();
        let pod_cidrs: Vec<_> = pod_cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect();
        choose(None, &uplinks, &pod_cidrs)
    }

    #[test]
    fn the_smallest_uplink_decides_and_is_named() {
        let mtu = of(&[("eth1", 9000), ("eth0", 1450)], &["10.1.0.0/24", "fd00:1::/64"]);
        assert_eq!(mtu, PodMtu { bytes: 1450, link: Some("eth0".to_owned()), problem: None });
        assert_eq!(of(&[], &["10.1.0.0/24"]).bytes, DEFAULT);
        assert_eq!(of(&[("big", 65_536)], &["10.1.0.0/24"]).bytes, MOST);
        let configured = choose(Some(1400), &[("eth0".to_owned(), 1300)], &[]);
        assert_eq!(configured, PodMtu { bytes: 1400, link: None, problem: None });
    }

    #[test]
    fn a_link_too_small_for_ipv6_is_a_problem_and_no_reason_to_wire_no_pod() {
        let mtu = of(&[("eth0", 1500), ("tun0", 1200)], &["10.1.0.0/24", "fd00:1::/64"]);
        assert_eq!((mtu.bytes, mtu.link.as_deref()), (1280, Some("tun0")));
        assert_eq!(mtu.problem.unwrap().object, "link tun0");
        let v4 = of(&[("tun0", 1200)], &["10.1.0.0/24"]);
        assert_eq!((v4.bytes, v4.problem), (1200, None));
    }
}
