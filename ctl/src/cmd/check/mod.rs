//! `weftctl check`: before the install, what this node lacks. What a kernel can do is tried, in namespaces that are gone
//! afterwards; nothing of the node is changed.

mod kernel;
mod node;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::{Outcome, print};
use crate::{Output, render};

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Where the runtime looks for network configurations.
    #[arg(long, default_value = "/etc/cni/net.d", value_name = "DIR")]
    cni_conf_dir: PathBuf,
    /// TCP port of BGP, which must be free.
    #[arg(long, default_value_t = 179, value_name = "PORT")]
    bgp_port: u16,
    /// TCP port of metrics and health, which must be free.
    #[arg(long, default_value_t = 9179, value_name = "PORT")]
    metrics_port: u16,
}

/// The answer to one question.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) check: &'static str,
    pub(crate) verdict: Verdict,
    /// What was found, and for what is not fine, what to do.
    pub(crate) detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Ok,
    /// Weft works, with the restriction that is named.
    Warning,
    /// Weft will not work.
    Missing,
}

impl Finding {
    fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, detail: detail.into() }
    }

    fn warning(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warning, detail: detail.into() }
    }

    fn missing(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Missing, detail: detail.into() }
    }
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
