//! The API server by plain HTTP, through `kubectl proxy`: no program starts for a request, so a bench can time one call
//! or make thousands.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::lab::{CONTROL, Process};
use crate::net::Namespace;
use crate::wait;

const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8001);
const LIMIT: Duration = Duration::from_secs(20);
/// Requests at once of [`Api::send_all`]; the server works on no more with the cores of one machine.
const WORKERS: usize = 8;

pub(super) struct Api {
    control: Namespace,
    proxy: Process,
}

/// Method, path, body.
pub(super) type Request = (&'static str, String, Value);

impl Api {
    /// Only one may be open at a time.
    pub(super) fn open(cluster: &Cluster) -> Result<Self> {
        let machine = cluster.lab().machine(CONTROL)?;
        let mut kubectl = Command::new(cluster.program("kubectl")?);
        kubectl.arg("--kubeconfig").arg(cluster.kubeconfig()).args(["proxy", "--port=8001"]);
        let api =
            Self { control: machine.namespace()?, proxy: machine.daemon("kubectl-proxy", &mut kubectl)? };
        wait::until("kubectl proxy", LIMIT, || api.send("GET", "/readyz", &Value::Null).map(Some))?;
        Ok(api)
    }

    pub(super) fn send(&self, method: &str, path: &str, body: &Value) -> Result<()> {
        self.control.enter(|| send(method, path, body))
    }

    /// Each of `work` on a thread of its own, which sends by [`send`]; returns when all have ended.
    pub(super) fn work<W: FnOnce() -> Result<()> + Send>(&self, work: Vec<W>) -> Result<()> {
        thread::scope(|scope| {
            let workers: Vec<_> =
                work.into_iter().map(|work| scope.spawn(|| self.control.enter(work))).collect();
            let ended =
                workers.into_iter().map(|worker| worker.join().map_err(|_| anyhow!("a worker panicked"))?);
            ended.collect()
        })
    }

    /// All of them, in no order; the first error ends it.
    pub(super) fn send_all(&self, requests: &[Request]) -> Result<()> {
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some((method, path, body)) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                send(method, path, body)?;
            }
            Ok(())
        };
        self.work(vec![work; WORKERS])
    }
}

/// From a thread of the control machine.
pub(super) fn send(method: &str, path: &str, body: &Value) -> Result<()> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let length = body.len();
    let request = format!("{method} {path} HTTP/1.1\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n");
    exchange(ADDRESS, &request, &body).with_context(|| format!("{method} {path}")).map(drop)
}

/// What a server says of `path`, from the calling thread's namespace.
pub(super) fn get(address: SocketAddr, path: &str) -> Result<String> {
    exchange(address, &format!("GET {path} HTTP/1.1\r\n"), "")
}

/// The whole answer, where its status is one of success.
fn exchange(address: SocketAddr, request: &str, body: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_nodelay(true)?;
    stream.write_all(format!("{request}Host: localhost\r\nConnection: close\r\n\r\n{body}").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).context("an HTTP status")?;
    let reason = answer.lines().last().unwrap_or_default();
    ensure!(status.starts_with('2'), "{status} {reason}");
    Ok(answer)
}

impl Drop for Api {
    fn drop(&mut self) {
        if let Err(error) = self.proxy.kill() {
            eprintln!("kubectl proxy: {error:#}");
        }
    }
}
