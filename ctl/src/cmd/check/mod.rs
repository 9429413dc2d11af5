//! `weftctl check`: before the install, what this node lacks. What a kernel can do is tried, in namespaces that are gone
//! afterwards; nothing of the node is changed.

mod kernel;
mod node;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::{Outcome, print};
use crate::answer::Verdict;
use crate::{Output, render};

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Look here for the configurations of other networks, as the runtime does.
    #[arg(long, default_value = "/etc/cni/net.d", value_name = "DIR")]
    cni_conf_dir: PathBuf,
    /// Expect this TCP port to be free, for BGP.
    #[arg(long, default_value_t = 179, value_name = "PORT")]
    bgp_port: u16,
    /// Expect this TCP port to be free, for metrics and health.
    #[arg(long, default_value_t = 9179, value_name = "PORT")]
    metrics_port: u16,
}

pub(crate) fn run(options: &Options, output: Output) -> Result<Outcome> {
    let mut findings = vec![node::capabilities(), kernel::policy(), kernel::veth()];
    findings.extend(node::sysctls());
    findings.push(node::port("BGP port", options.bgp_port));
    findings.push(node::port("metrics port", options.metrics_port));
    findings.push(node::other_networks(&options.cni_conf_dir));
    findings.extend(node::network_managers());
    print(output, &findings, |findings| render::findings(findings))?;
    Ok(Outcome::of(findings.iter().all(|finding| finding.verdict != Verdict::Missing)))
}
