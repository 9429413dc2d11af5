//! The kernel's interfaces, each as thin as it can be: netlink, nftables, sysctl. The only place with `unsafe`.

pub mod readiness;
