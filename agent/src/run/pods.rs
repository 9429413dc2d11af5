//! Pods: the CNI server, from the first plan on, and what it must know.

use std::convert::Infallible;
use std::sync::Arc;

use anyhow::Context;
use tokio::sync::watch;
use tracing::{info, warn};
use weft_api::control::Problem;

use crate::agent::Agent;
use crate::cni::{CniConfig, CniHandle, CniService, conflist};
use crate::config::Config;
use crate::kernel::sysctl;
use crate::readiness;
use crate::supervise::Supervisor;

/// Starts the server when there is a plan, and tells it what changes. Fails when it cannot be started.
pub(super) async fn wire(
    tasks: &Supervisor,
    agent: &Arc<Agent>,
    cni: &watch::Sender<Option<CniHandle>>,
    sysctl_problems: &watch::Sender<Vec<Problem>>,
) -> anyhow::Result<Infallible> {
    // Never when planning has ended, which its supervisor tells.
    if agent.desired.clone().wait_for(Option::is_some).await.is_err() {
        return std::future::pending().await;
    }
    sysctl_problems.send_replace(sysctl::ensure(&agent.config.proc_sys_net));
    install_client(&agent.config);
    let handle = start(tasks, agent).await?;
    cni.send_replace(Some(handle.clone()));
    tokio::join!(feed(handle, agent), readiness::keep(Arc::clone(agent)));
    std::future::pending().await
}

fn install_client(config: &Config) {
    let installed =
        config.cni_binary.as_deref().map(|binary| conflist::install_client(binary, &config.cni_bin_dir));
    if let Some(Err(error)) = installed {
        warn!(path = %config.cni_bin_dir.display(), %error, "cni binary not installed");
    }
}

async fn start(tasks: &Supervisor, agent: &Agent) -> anyhow::Result<CniHandle> {
    let mut mtu = agent.mtu.clone();
    let mtu = mtu.wait_for(Option::is_some).await.context("no MTU")?.as_ref().map_or(0, |mtu| mtu.bytes);
    let config = CniConfig {
        run_dir: agent.config.run_dir.clone(),
        node: agent.config.node.clone(),
        mtu,
        proc_sys_net: agent.config.proc_sys_net.clone(),
    };
    let handle = CniService::spawn(tasks, config, agent.policy.clone());
    let handle = handle.await.context("cannot start the CNI server")?;
    info!(mtu, "cni server listening");
    Ok(handle)
}

/// Pools and the MTU, and the news that somebody took a pod's route away. Ends with the plans.
async fn feed(cni: CniHandle, agent: &Agent) {
    let (mut desired, mut mtu) = (agent.desired.clone(), agent.mtu.clone());
    let pod_routes = agent.routes.pod_routes_lost();
    loop {
        let pools = desired.borrow_and_update().as_ref().map(|desired| desired.pod_cidrs.clone());
        cni.set_pools(&pools.unwrap_or_default());
        if let Some(mtu) = mtu.borrow_and_update().as_ref() {
            cni.set_mtu(mtu.bytes);
        }
        tokio::select! {
            changed = desired.changed() => if changed.is_err() { return },
            changed = mtu.changed() => if changed.is_err() { return },
            () = pod_routes.notified() => cni.audit(),
        }
    }
}
