//! `cni.sock`: accepts root's calls, reads them within bounds and deadlines, and writes each answer.

use std::fs::Permissions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, field};
use weft_api::CNI_SOCKET;
use weft_api::cni::{MAX_REQUEST, PROTOCOL, Reply, Request};
use weft_pods::cni::{Call, CallError, CniError, CniVersion, Sandboxed, Verb, result};

use super::arrival::{Arrival, Sandbox};
use super::service::Service;
use crate::gate::PolicyGate;
use crate::kernel::descriptors;
use crate::supervise::brief;

/// A client writes its request in one go.
const READ_DEADLINE: Duration = Duration::from_secs(2);
const WRITE_DEADLINE: Duration = Duration::from_secs(2);
/// Calls at once; more wait in the accept queue. A node starts a few hundred pods.
const MAX_CALLS: u32 = 1024;

/// Replaces the socket of an agent that is gone: the caller holds the run directory's lock.
pub(super) fn bind(run_dir: &Path) -> io::Result<UnixListener> {
    let path = run_dir.join(CNI_SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Until `stop`, and then until the calls that were accepted are answered.
pub(super) async fn serve<G: PolicyGate>(
    service: Arc<Service<G>>,
    listener: UnixListener,
    stop: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(MAX_CALLS as usize));
    while let Some(Ok(permit)) = stop.run_until_cancelled(Arc::clone(&room).acquire_owned()).await {
        let Some(accepted) = stop.run_until_cancelled(listener.accept()).await else { break };
        match accepted {
            Ok((stream, _)) => {
                let service = Arc::clone(&service);
                let answered = async move {
                    if let Err(error) = answer(&service, stream).await {
                        tracing::debug!(%error, "call not answered");
                    }
                    drop(permit);
                };
                brief(answered.instrument(tracing::info_span!(
                    "cni",
                    command = field::Empty,
                    container_id = field::Empty,
                    pod = field::Empty
                )));
            }
            // Out of descriptors, say: others must end first.
            Err(error) => {
                tracing::warn!(%error, "call not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    // The calls have the others.
    let _ = room.acquire_many(MAX_CALLS).await;
}

async fn answer<G: PolicyGate>(service: &Arc<Service<G>>, mut stream: UnixStream) -> io::Result<()> {
    if stream.peer_cred()?.uid() != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the caller is not root"));
    }
    let (body, descriptors) = timeout(READ_DEADLINE, read(&mut stream)).await??;
    let (exit_code, stdout) = match respond(service, &body, descriptors, &stream).await {
        Ok(stdout) => (0, stdout),
        Err(failed) => {
            tracing::info!(code = failed.error.code(), error = %failed.error, "call failed");
            (1, failed.document())
        }
    };
    let reply = serde_json::to_vec(&Reply { protocol: PROTOCOL, exit_code, stdout })?;
    let length = u32::try_from(reply.len()).map_err(io::Error::other)?.to_be_bytes();
    let write = async {
        stream.write_all(&length).await?;
        stream.write_all(&reply).await
    };
    timeout(WRITE_DEADLINE, write).await?
}

async fn read(stream: &mut UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut length = [0; 4];
    let (received, descriptors) = stream
        .async_io(Interest::READABLE, || descriptors::receive(stream, &mut length).map_err(io::Error::from))
        .await?;
    stream.read_exact(&mut length[received..]).await?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_REQUEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the request is too long"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok((body, descriptors))
}

/// The request in a frame. While an agent is replaced, clients of the release before and after call it too: between two
/// versions of the protocol in a row, fields come and go that need not be there.
pub fn decode(body: &[u8]) -> Result<Request, CniError> {
    #[derive(Deserialize)]
    struct Versioned {
        protocol: u32,
    }
    let unreadable = |error| CniError::Internal(format!("the request of weft-cni cannot be read: {error}"));
    let Versioned { protocol } = serde_json::from_slice(body).map_err(unreadable)?;
    if protocol.abs_diff(PROTOCOL) > 1 {
        let reason = format!("weft-cni speaks protocol {protocol} and the agent {PROTOCOL}: too far apart");
        return Err(CniError::TryAgain(reason));
    }
    serde_json::from_slice(body).map_err(unreadable)
}

/// The text for standard output.
async fn respond<G: PolicyGate>(
    service: &Arc<Service<G>>,
    body: &[u8],
    descriptors: Vec<OwnedFd>,
    stream: &UnixStream,
) -> Result<String, CallError> {
    let request = decode(body).map_err(|error| CallError { version: CniVersion::LATEST, error })?;
    let span = tracing::Span::current();
    span.record("command", request.env.get("CNI_COMMAND"));
    span.record("container_id", request.env.get("CNI_CONTAINERID"));
    let arrival = Arrival { started: request.started, stream };
    let Call { version, verb } = Call::parse(&request.env, &request.stdin)?;
    if let Verb::Add(Sandboxed { pod: Some(pod), .. }) | Verb::Check(Sandboxed { pod: Some(pod), .. }) = &verb
    {
        span.record("pod", field::display(pod));
    }
    let done = carry_out(service, version, verb, descriptors, &arrival).await;
    done.map_err(|error| CallError { version, error })
}

async fn carry_out<G: PolicyGate>(
    service: &Arc<Service<G>>,
    version: CniVersion,
    verb: Verb,
    descriptors: Vec<OwnedFd>,
    arrival: &Arrival<'_>,
) -> Result<String, CniError> {
    match verb {
        Verb::Add(pod) => {
            let attachment = service.add(&pod, Sandbox::new(descriptors)?, arrival).await?;
            return Ok(result::add(version, &attachment, &pod.netns));
        }
        Verb::Check(pod) => service.check(&pod, Sandbox::new(descriptors)?).await?,
        Verb::Del(id) => service.del(&id, arrival.started).await?,
        Verb::Gc(valid) => service.gc(valid).await?,
        Verb::Status => service.status()?,
        Verb::Version => return Ok(result::version(version)),
    }
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::cni::tests::{Open, RunDir};
    use crate::testing::{in_netns, ip};

    async fn ask(service: &Arc<Service<Open>>, command: &str, started: u64) -> Result<String, CniError> {
        let env = [
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", "c1"),
            ("CNI_NETNS", "/proc/thread-self/ns/net"),
            // One namespace plays node and pod.
            ("CNI_NETNS_OVERRIDE", "true"),
            ("CNI_IFNAME", "eth0"),
        ];
        let env = env.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let Call { version, verb } = Call::parse(&env, r#"{"cniVersion":"1.1.0","name":"weft"}"#).unwrap();
        let netns = std::fs::File::open("/proc/thread-self/ns/net").unwrap().into();
        let route = SockProtocol::NetlinkRoute;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, route).unwrap();
        let (_client, stream) = UnixStream::pair().unwrap();
        let arrival = Arrival { started, stream: &stream };
        carry_out(service, version, verb, vec![netns, socket], &arrival).await
    }

    /// A runtime that has lost patience deletes what it still adds; the two calls may arrive in any order.
    #[test]
    fn an_add_that_its_del_has_overtaken_is_refused() {
        in_netns(async || {
            let dir = RunDir::new("overtaken");
            let (_handle, service) = dir.agent().await;
            assert_eq!(ask(&service, "DEL", 100).await, Ok(String::new()));
            let refused = ask(&service, "ADD", 99).await.unwrap_err();
            assert!(refused.to_string().contains("given this attachment up"), "{refused}");
            assert!(!ip("link show").contains("weft"), "{}", ip("link show"));
            ask(&service, "ADD", 101).await.unwrap();
        });
    }

    fn frame(protocol: u32) -> Vec<u8> {
        let more = json!({ "comes": "with the next release" });
        json!({ "protocol": protocol, "started": 7, "env": {}, "stdin": "", "more": more }).to_string().into()
    }

    #[test]
    fn clients_of_the_releases_next_to_ours_are_served_and_others_told_why_not() {
        for protocol in [PROTOCOL - 1, PROTOCOL, PROTOCOL + 1] {
            assert_eq!(decode(&frame(protocol)).map(|request| request.started), Ok(7), "{protocol}");
        }
        let refused = decode(&frame(PROTOCOL + 2)).unwrap_err();
        assert_eq!(refused.code(), 11);
        assert!(
            refused.to_string().ends_with("speaks protocol 3 and the agent 1: too far apart"),
            "{refused}"
        );
    }

    proptest! {
        #[test]
        fn any_frame_is_read_or_refused(body: Vec<u8>, cut: prop::sample::Index, bit: prop::sample::Index) {
            let _ = decode(&body);
            let mut frame = frame(PROTOCOL);
            frame.truncate(cut.index(frame.len()) + 1);
            let bit = bit.index(frame.len() * 8);
            frame[bit / 8] ^= 1 << (bit % 8);
            let _ = decode(&frame);
        }
    }
}
