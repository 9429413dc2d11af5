//! Which of upstream's specs are run: a suite's name, and ginkgo's words for it. Pure.

use std::str::FromStr;

use anyhow::{Result, bail};

const NETPOL: &str = r"\[sig-network\] Netpol";
const NETWORK: &str = r"\[sig-network\].*\[Conformance\]";

/// Two stacks of policy, both directions, names, blocks, ports and changes; then every kind of Service, DNS, and the
/// paths between pods and nodes. About a tenth of the time of everything.
const SUBSET: [&str; 2] = [
    r"\[sig-network\] Netpol .*(support a 'default-deny-all' policy|using UDP should enforce policy based on Ports|from a pod in a different namespace based on PodSelector and NamespaceSelector|one named port|allow ingress access from updated pod|except clause while egress|stop enforcing policies after)",
    r"\[sig-network\] (Networking Granular Checks|HostPort|DNS should provide DNS for (services|the cluster)|Proxy .*through a service and a pod|Services should (serve multiport|be able to create a functioning NodePort|have session affinity work for NodePort)).*\[Conformance\]",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// NetworkPolicy, end to end: 45 specs.
    Netpol,
    /// What a network must do to be called Kubernetes: 45 specs.
    Network,
    All,
    /// About 10 minutes of both.
    Subset,
}

impl Suite {
    /// Specs that match any of these are run.
    pub(super) fn focus(self) -> Vec<&'static str> {
        match self {
            Self::Netpol => vec![NETPOL],
            Self::Network => vec![NETWORK],
            Self::All => vec![NETPOL, NETWORK],
            Self::Subset => SUBSET.to_vec(),
        }
    }
}

impl FromStr for Suite {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "netpol" => Ok(Self::Netpol),
            "network" => Ok(Self::Network),
            "all" => Ok(Self::All),
            "subset" => Ok(Self::Subset),
            _ => bail!("{text}: netpol, network, all or subset"),
        }
    }
}
