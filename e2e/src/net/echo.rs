//! An echo server: what comes in by TCP or UDP, over IPv4 or IPv6, goes back.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};

use super::Namespace;
use super::probe::roomy;

/// How soon a blocked thread notices that it shall end.
const NOTICE: Duration = Duration::from_millis(50);

/// Serves until dropped.
#[derive(Debug)]
pub struct EchoServer {
    port: u16,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl EchoServer {
    /// Listens on every address of `namespace`, present and future.
    pub fn start(namespace: &Namespace, port: u16) -> Result<Self> {
        let (tcp, udp) = namespace.enter(|| bind(port))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (tcp_stop, udp_stop) = (Arc::clone(&stop), Arc::clone(&stop));
        let threads = vec![
            thread::spawn(move || accept(&tcp, &tcp_stop)),
            thread::spawn(move || echo_datagrams(&udp, &udp_stop)),
        ];
        Ok(Self { port, stop, threads })
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A server that failed shows in the traffic of whoever talks to it.
            let _ = thread.join();
        }
    }
}

/// Serves on the calling thread's namespace until the process ends.
pub fn serve(port: u16) -> Result<()> {
    let (tcp, udp) = bind(port)?;
    let forever = Arc::new(AtomicBool::new(false));
    let datagrams = Arc::clone(&forever);
    thread::spawn(move || echo_datagrams(&udp, &datagrams));
    accept(&tcp, &forever)
}

fn bind(port: u16) -> Result<(TcpListener, UdpSocket)> {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let tcp = Socket::new(Domain::IPV6, Type::STREAM, None)?;
    tcp.set_only_v6(false)?;
    tcp.set_reuse_address(true)?;
    tcp.set_read_timeout(Some(NOTICE))?;
    tcp.bind(&any.into()).with_context(|| format!("TCP port {port}"))?;
    tcp.listen(128)?;
    let udp = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
    udp.set_only_v6(false)?;
    udp.set_read_timeout(Some(NOTICE))?;
    roomy(&udp)?;
    udp.bind(&any.into()).with_context(|| format!("UDP port {port}"))?;
    Ok((tcp.into(), udp.into()))
}

fn accept(listener: &TcpListener, stop: &Arc<AtomicBool>) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                let stop = Arc::clone(stop);
                thread::spawn(move || echo_stream(stream, &stop));
            }
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error).context("accept"),
        }
    }
    Ok(())
}

fn echo_stream(mut stream: TcpStream, stop: &AtomicBool) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(NOTICE))?;
    let mut buffer = [0; 16 * 1024];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => stream.write_all(&buffer[..length])?,
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error).context("read"),
        }
    }
    Ok(())
}

fn echo_datagrams(socket: &UdpSocket, stop: &AtomicBool) -> Result<()> {
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        // Errors are ICMP answers to earlier echoes, or full queues: a server goes on.
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    }
    Ok(())
}

pub(super) fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
