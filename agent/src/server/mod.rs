//! The agent's HTTP servers: the control API on `agent.sock`, metrics and health over TCP, and where there are network
//! operators, for them the reading half of the control API over TLS.
//!
//! They only read: what they show is asked of the owners at that moment. The one thing that can be asked for is a stop, on
//! the socket.

mod answer;
mod bfd;
mod bgp;
mod control;
mod metrics;
mod operators;
mod policies;
mod recent;
mod serve;
mod stop;
mod tls;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;
use weft_api::AGENT_SOCKET;

use crate::agent::Agent;
use crate::readiness;
use crate::supervise::Supervisor;

pub use self::stop::stop_running;

use self::recent::Recent;
use self::serve::serve;
use self::tls::TlsListener;

/// Listens on all; they serve until `cancel`, and what comes back ends when they have answered. `client` is there where the
/// datastore is Kubernetes.
pub async fn spawn(
    tasks: &Supervisor,
    agent: Arc<Agent>,
    client: Option<kube::Client>,
    cancel: CancellationToken,
) -> anyhow::Result<TaskTracker> {
    let servers = TaskTracker::new();
    if let (Some(operators), Some(client)) = (&agent.config.operators, client) {
        let address = operators.address;
        let tcp = bind_tcp(address).await.with_context(|| format!("cannot listen on {address}"))?;
        let router = operators::router(Arc::clone(&agent), operators, client);
        let server = serve(TlsListener::over(tcp)?, router, cancel.clone());
        tasks.task("operators server", servers.track_future(server));
    }
    let path = agent.config.run_dir.join(AGENT_SOCKET);
    let unix = bind_unix(&path).with_context(|| format!("cannot listen on {}", path.display()))?;
    let address = agent.config.metrics_address;
    let tcp = bind_tcp(address).await.with_context(|| format!("cannot listen on {address}"))?;
    info!(socket = %path.display(), metrics = %tcp.local_addr()?, "http listening");
    let control = serve(unix, control::router(Arc::clone(&agent)), cancel.clone());
    tasks.task("control server", servers.track_future(control));
    tasks.task("metrics server", servers.track_future(serve(tcp, public_router(agent), cancel)));
    servers.close();
    Ok(servers)
}

/// So that nobody waits on a socket that nobody serves.
pub fn remove_socket(run_dir: &Path, name: &str) {
    // Not there is as good.
    let _ = std::fs::remove_file(run_dir.join(name));
}

/// What a report of this node is made of.
pub(crate) async fn summary(
    agent: &Agent,
) -> (weft_api::control::Status, Vec<weft_api::control::Peer>, Vec<weft_api::control::Pool>) {
    let pools = agent.cni.borrow().as_ref().map(|cni| cni.ipam().pools).unwrap_or_default();
    (control::collect_status(agent).await, bgp::peers(agent).await.unwrap_or_default(), pools)
}

fn bind_unix(path: &PathBuf) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// `[::]` means every address, also where the kernel has no IPv6.
async fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(_)
            if address.ip().is_unspecified()
                && address.is_ipv6()
                && !Path::new("/proc/sys/net/ipv6").exists() =>
        {
            TcpListener::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port())).await
        }
        result => result,
    }
}

/// What anybody may ask who reaches the port.
struct Public {
    agent: Arc<Agent>,
    metrics: Recent,
}

fn public_router(agent: Arc<Agent>) -> Router {
    Router::new()
        .route("/metrics", get(metrics_page))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready_page))
        .with_state(Arc::new(Public { agent, metrics: Recent::default() }))
}

async fn metrics_page(State(public): State<Arc<Public>>) -> impl IntoResponse {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let now = tokio::time::Instant::now();
    ([(header::CONTENT_TYPE, content_type)], public.metrics.page(now, metrics::render(&public.agent)).await)
}

async fn ready_page(State(public): State<Arc<Public>>) -> (StatusCode, String) {
    let waiting = readiness::waiting(&public.agent);
    match waiting.is_empty() {
        true => (StatusCode::OK, "ready\n".to_owned()),
        false => (StatusCode::SERVICE_UNAVAILABLE, format!("waiting: {}\n", waiting.join("; "))),
    }
}
