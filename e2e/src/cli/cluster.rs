//! `weft-e2e cluster …`

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::{Subcommand, ValueEnum};
use weft_e2e::cluster::{self, Cluster, ClusterSpec, ProxyMode};
use weft_e2e::lab::{LabSpec, Programs, RackSpec, RouterKind};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Raise a cluster; it stays until `cluster down`.
    Up {
        #[arg(long, default_value = "cluster")]
        name: String,
        /// Nodes, spread over the racks.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=18))]
        nodes: u8,
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=9))]
        racks: u8,
        /// IPv6 beside IPv4.
        #[arg(long)]
        dual_stack: bool,
        /// The router of every rack. Default: BIRD and FRR in turn.
        #[arg(long)]
        tor: Option<RouterKind>,
        #[arg(long, value_enum, default_value_t = Proxy::Nftables)]
        proxy: Proxy,
        /// The network plugin. `none` leaves the nodes NotReady.
        #[arg(long, value_enum, default_value_t = Plugin::Weft)]
        cni: Plugin,
    },
    /// Remove a cluster, also after a crash. Safe to repeat.
    Down {
        #[arg(long, default_value = "cluster")]
        name: String,
    },
    /// Nodes, what Weft says of them, and pods.
    Status {
        #[arg(long, default_value = "cluster")]
        name: String,
    },
    /// Run kubectl as the cluster's administrator.
    Kubectl {
        #[arg(long, default_value = "cluster")]
        name: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        words: Vec<String>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Proxy {
    Nftables,
    Iptables,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Plugin {
    Weft,
    None,
}

pub(crate) fn run(verb: Verb, programs: &Programs) -> Result<ExitCode> {
    match verb {
        Verb::Up { name, nodes, racks, dual_stack, tor, proxy, cni } => {
            let lab = LabSpec { racks: spread(nodes, racks, tor)?, ..LabSpec::default() };
            let proxy = match proxy {
                Proxy::Nftables => ProxyMode::Nftables,
                Proxy::Iptables => ProxyMode::Iptables,
            };
            up(&name, &ClusterSpec { lab, dual_stack, proxy, ..ClusterSpec::default() }, cni, programs)?;
        }
        Verb::Down { name } => {
            let was = if cluster::down(&name)? { "removed" } else { "was not there" };
            println!("cluster {name} {was}");
        }
        Verb::Status { name } => {
            let cluster = Cluster::attach(&name, programs)?;
            print!("{}", cluster.kubectl(&["get", "nodes", "-o", "wide"])?);
            print!("{}", cluster.kubectl(&["get", "pods", "-A", "-o", "wide"])?);
        }
        Verb::Kubectl { name, words } => {
            let code = Cluster::attach(&name, programs)?.kubectl_here(&words)?;
            return Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn up(name: &str, spec: &ClusterSpec, cni: Plugin, programs: &Programs) -> Result<()> {
    let start = Instant::now();
    let cluster = Cluster::raise(name, spec, programs)?;
    println!("{:5.1} s  API server, kubelets and kube-proxies run", start.elapsed().as_secs_f32());
    let installed = match cni {
        Plugin::Weft => cluster.load_weft_image().and_then(|()| cluster.install_weft(&[])),
        Plugin::None => Ok(()),
    };
    if cni == Plugin::Weft && installed.is_ok() {
        println!("{:5.1} s  Weft is installed, every node is Ready", start.elapsed().as_secs_f32());
    }
    print!("{}", cluster.kubectl(&["get", "nodes", "-o", "wide"])?);
    // What went wrong can only be seen on a cluster that is still there.
    cluster.keep()?;
    installed
}

/// The first racks take one more when it does not divide.
fn spread(nodes: u8, racks: u8, tor: Option<RouterKind>) -> Result<Vec<RackSpec>> {
    anyhow::ensure!(nodes >= racks, "{nodes} nodes do not fill {racks} racks");
    let router =
        |rack: u8| tor.unwrap_or(if rack.is_multiple_of(2) { RouterKind::Bird } else { RouterKind::Frr });
    let nodes = |rack: u8| nodes / racks + u8::from(rack < nodes % racks);
    Ok((0..racks).map(|rack| RackSpec { tors: vec![router(rack)], nodes: nodes(rack) }).collect())
}
