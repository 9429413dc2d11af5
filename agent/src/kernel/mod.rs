//! The kernel's interfaces, each as thin as it can be: netlink, nftables, sysctl. The agent's only place with `unsafe`.

pub mod address;
pub mod conntrack;
pub mod descriptors;
pub mod link;
pub mod monitor;
mod netfilter;
pub mod nft;
mod notifications;
pub mod pod_links;
pub mod polled;
pub mod route;
pub mod rtnl;
pub mod shared;
pub mod sysctl;
pub mod uplink;
