//! `weft-agent cleanup`: takes everything that carries our mark off a node that is not to be Weft's any more.
//!
//! In: a node whose agent has gone. Out: a line for each thing removed. An uninstall alone leaves it all: pods that run
//! stay connected and protected until somebody asks for this. Safe to repeat.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use weft_api::ROUTE_PROTOCOL;
use weft_pods::mark::attachment_of;

use crate::cni::conflist::{CONFLIST, PLUGIN, POKE};
use crate::fib::RouteOp;
use crate::file::unfinished;
use crate::kernel::link::{self, Observed};
use crate::kernel::nft::NftTable;
use crate::kernel::route::RouteSocket;
use crate::kernel::rtnl::Rtnl;
use crate::lock::{LOCK, RunDirLock};
use crate::remember::{STATE_DIR, STATE_FILE};
use crate::supervise::brief;

const NO_SUCH_ROUTE: i32 = libc::ESRCH;

/// Flags as those of `weft-agent run`.
#[derive(Args, Clone, Debug)]
pub struct Cleanup {
    /// Cut pods that are still connected. Without it they are named, and nothing is removed.
    #[arg(long)]
    pub with_pods: bool,
    /// How long to wait for the agent to leave, in seconds.
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    pub wait: u64,
    /// Stay until SIGTERM when done: for a DaemonSet, whose pods must not end.
    #[arg(long)]
    pub hold: bool,
    /// That of the agent.
    #[arg(long, env = weft_api::RUN_DIR_ENV, default_value = weft_api::RUN_DIR, value_name = "DIR")]
    pub run_dir: PathBuf,
    /// That of the agent.
    #[arg(long, env = "WEFT_STATE_DIR", default_value = STATE_DIR, value_name = "DIR")]
    pub state_dir: PathBuf,
    /// Where runtimes look for network configurations.
    #[arg(long, env = "WEFT_CNI_CONF_DIR", default_value = "/etc/cni/net.d", value_name = "DIR")]
    pub cni_conf_dir: PathBuf,
    /// Where runtimes look for CNI binaries.
    #[arg(long, env = "WEFT_CNI_BIN_DIR", default_value = "/opt/cni/bin", value_name = "DIR")]
    pub cni_bin_dir: PathBuf,
}

/// What was removed, in words.
pub async fn run(cleanup: &Cleanup) -> anyhow::Result<Vec<String>> {
    // An agent that runs would put it all back, or defend it; one that starts has to wait.
    let lock = RunDirLock::take(&cleanup.run_dir, Duration::from_secs(cleanup.wait)).await?;
    let mut rtnl = Rtnl::open().context("netlink")?;
    let links = link::observe(&mut rtnl).context("cannot read links")?;
    if !links.is_empty() && !cleanup.with_pods {
        let pods: Vec<_> = links.iter().map(pod).collect();
        bail!(
            "{} pods are still connected ({}): drain the node, or cut them with --with-pods",
            pods.len(),
            pods.join(", ")
        );
    }
    // First what makes a runtime ask us for more.
    let mut removed = Vec::new();
    remove_file(&cleanup.cni_conf_dir.join(CONFLIST), &mut removed)?;
    remove_file(&cleanup.cni_conf_dir.join(POKE), &mut removed)?;
    remove_file(&cleanup.cni_bin_dir.join(PLUGIN), &mut removed)?;
    for link in &links {
        let name = &link.link.name;
        link::delete(&mut rtnl, link.link.ifindex).with_context(|| format!("link {name} not removed"))?;
        removed.push(format!("link {name} of {}", pod(link)));
    }
    remove_routes(&mut removed).await.context("routes not removed")?;
    if NftTable::remove()? {
        removed.push("nftables table inet weft".to_owned());
    }
    remove_file(&cleanup.state_dir.join(STATE_FILE), &mut removed)?;
    // It may be a mount, or hold somebody else's files.
    let _ = std::fs::remove_dir(&cleanup.state_dir);
    empty(&cleanup.run_dir, &mut removed)?;
    lock.remove()?;
    // The folder itself may be a mount.
    let _ = std::fs::remove_dir(&cleanup.run_dir);
    Ok(removed)
}

/// By the link's alias; a link whose alias cannot be read is named as it is.
fn pod(observed: &Observed) -> String {
    let link = &observed.link;
    let alias = link.alias.as_deref().unwrap_or_default();
    let attachment = attachment_of(&link.name, link.ifindex, link.mtu, alias, &link.names);
    let pod = attachment.and_then(|attachment| attachment.pod);
    pod.map_or_else(|| link.name.clone(), |pod| format!("{}/{}", pod.namespace, pod.name))
}

async fn remove_routes(removed: &mut Vec<String>) -> io::Result<()> {
    let (socket, connection) = RouteSocket::open()?;
    brief(connection);
    let keys = socket
        .dump(|keys: &mut Vec<_>, route| keys.extend((route.protocol == ROUTE_PROTOCOL).then_some(route.key)))
        .await?;
    let ops: Vec<_> = keys.iter().map(|key| RouteOp::Delete(*key)).collect();
    for refused in socket.apply(&ops).await? {
        if refused.error.raw_os_error() != Some(NO_SUCH_ROUTE) {
            return Err(refused.error);
        }
    }
    removed.extend(keys.iter().map(|key| format!("route {}", key.prefix)));
    Ok(())
}

/// With what an agent that was killed while it wrote has left beside it.
fn remove_file(path: &Path, removed: &mut Vec<String>) -> anyhow::Result<()> {
    for path in [path, &unfinished(path)] {
        match std::fs::remove_file(path) {
            Ok(()) => removed.push(path.display().to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("{} not removed", path.display())),
        }
    }
    Ok(())
}

/// But for the lock, which is held.
fn empty(dir: &Path, removed: &mut Vec<String>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        if entry.file_name() == LOCK {
            continue;
        }
        let path = entry.path();
        let gone = if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(&path)
        } else {
            std::fs::remove_file(&path)
        };
        gone.with_context(|| format!("{} not removed", path.display()))?;
        removed.push(path.display().to_string());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
