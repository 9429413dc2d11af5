//! HTTP/1.1 over a listening socket, within bounds: whoever may connect cannot take the agent's memory, nor keep others out.
//!
//! In: connections. Out: one answer each. When there is no room for one more, the source that holds the most loses its
//! oldest: a pod that opens connections without end evicts its own, and the kubelet and Prometheus get in.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::supervise::brief;

/// Connections at once. A node's kubelet and a few scrapers hold one each, for milliseconds.
const MAX_CONNECTIONS: usize = 64;
/// A client writes its request in one go.
const HEADER_WITHIN: Duration = Duration::from_secs(5);
/// Of a connection, which is for one request: a client that reads a page slower than this is not waited for.
const CONNECTION_WITHIN: Duration = Duration::from_secs(60);
/// What is read or written at once, and so the longest header: our clients' have some hundred bytes.
const BUFFER: usize = 16 << 10;
/// For answers that are under way when the server stops: who asked for that stop is told that it comes.
const LAST_WORD: Duration = Duration::from_secs(1);
/// After an error of accept, which mostly is a lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket that listens.
pub(super) trait Listen: Send + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// A connection, and whose it is; `None` where all are one client's.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Option<IpAddr>)>> + Send;
}

impl Listen for TcpListener {
    type Stream = tokio::net::TcpStream;

    async fn accept(&self) -> io::Result<(Self::Stream, Option<IpAddr>)> {
        let (stream, source) = TcpListener::accept(self).await?;
        Ok((stream, Some(source.ip().to_canonical())))
    }
}

impl Listen for UnixListener {
    type Stream = tokio::net::UnixStream;

    async fn accept(&self) -> io::Result<(Self::Stream, Option<IpAddr>)> {
        let (stream, _) = UnixListener::accept(self).await?;
        Ok((stream, None))
    }
}

/// Until `stop`, and until what is being answered then has its answer.
pub(super) async fn serve(listener: impl Listen, router: Router, stop: CancellationToken) {
    let mut open = Connections::default();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, source)) => {
                open.make_room();
                open.0.push_back((source, brief(answer(stream, router.clone()))));
            }
            Err(error) => {
                warn!(%error, "http connection not accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    // Who is slower than that has lost its agent.
    let _ = timeout(LAST_WORD, open.end()).await;
}

/// Reads one request and writes its answer.
async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_WITHIN)
        .max_buf_size(BUFFER)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match timeout(CONNECTION_WITHIN, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "http connection failed"),
        Err(_) => debug!("http connection was too slow"),
    }
}

/// Those that are open, oldest first.
#[derive(Debug, Default)]
struct Connections(VecDeque<(Option<IpAddr>, JoinHandle<()>)>);

impl Connections {
    /// Of all of them.
    async fn end(self) {
        for (_, task) in self.0 {
            // Nobody waits for one that panicked.
            let _ = task.await;
        }
    }

    /// For one more.
    fn make_room(&mut self) {
        self.0.retain(|(_, task)| !task.is_finished());
        if self.0.len() < MAX_CONNECTIONS {
            return;
        }
        let sources: Vec<_> = self.0.iter().map(|(source, _)| *source).collect();
        if let Some((source, task)) = self.0.remove(victim(&sources)) {
            debug!(?source, "http connection evicted");
            task.abort();
        }
    }
}

/// The oldest of the source that has the most; `sources` are in order of age.
fn victim(sources: &[Option<IpAddr>]) -> usize {
    let mut counts = BTreeMap::new();
    for source in sources {
        *counts.entry(source).or_insert(0_usize) += 1;
    }
    let most = counts.values().max();
    sources.iter().position(|source| counts.get(source) == most).unwrap_or(0)
}

#[cfg(test)]
mod tests;
