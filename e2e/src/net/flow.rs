//! A steady flow to an echo server, at a fixed pace: what got lost, and how long nothing came back.

use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::Namespace;
use super::echo::is_timeout;
use super::probe::{Proto, udp_towards};
use crate::wait;

/// How long an echo may take before it counts as lost, on a machine with many threads for each core.
const STRAGGLERS: Duration = Duration::from_secs(3);
const NOTICE: Duration = Duration::from_millis(20);
const RECORD: usize = 8;

/// Runs from [`Flow::start`] to [`Flow::stop`], or until dropped.
#[derive(Debug)]
pub struct Flow {
    sent: Arc<AtomicU64>,
    echoed: Arc<AtomicU64>,
    last: Arc<Mutex<LastEcho>>,
    stop: Arc<AtomicBool>,
    /// The sender has ended: what was sent is known.
    over: Arc<AtomicBool>,
    /// Sender and receiver.
    threads: Option<(JoinHandle<Result<()>>, JoinHandle<Arrivals>)>,
}

/// Before the first, both are the flow's start.
#[derive(Clone, Copy, Debug)]
struct LastEcho {
    came: Instant,
    /// When what it answers was sent.
    sent: Instant,
}

/// Counts are of records: datagrams for UDP, pieces of the stream for TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowReport {
    pub sent: u64,
    pub echoed: u64,
    /// The longest time between two echoes, or before the first.
    pub longest_gap: Duration,
    /// Why a TCP connection ended before its time.
    pub broken: Option<String>,
}

impl FlowReport {
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.echoed)
    }
}

impl fmt::Display for FlowReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gap = self.longest_gap.as_secs_f64() * 1000.0;
        write!(out, "{} sent, {} lost, longest gap {gap:.1} ms", self.sent, self.lost())?;
        match &self.broken {
            Some(why) => write!(out, ", broken: {why}"),
            None => Ok(()),
        }
    }
}

#[derive(Debug, Default)]
struct Arrivals {
    longest_gap: Duration,
    broken: Option<String>,
}

impl Flow {
    /// `rate` records a second from `namespace` to an echo server at `to`.
    pub fn start(namespace: &Namespace, proto: Proto, to: SocketAddr, rate: u32) -> Result<Self> {
        let (mut write, read) = namespace.enter(|| connect(proto, to))?;
        let (sent, echoed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let start = Instant::now();
        let last = Arc::new(Mutex::new(LastEcho { came: start, sent: start }));
        let (stop, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let sender = {
            let (sent, stop) = (Arc::clone(&sent), Arc::clone(&stop));
            thread::spawn(move || send(&mut write, start, rate, &sent, &stop))
        };
        let receiver = {
            let (sent, echoed, last) = (Arc::clone(&sent), Arc::clone(&echoed), Arc::clone(&last));
            let over = Arc::clone(&over);
            thread::spawn(move || receive(read, start, &sent, &echoed, &last, &over))
        };
        Ok(Self { sent, echoed, last, stop, over, threads: Some((sender, receiver)) })
    }

    /// Records sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Records that came back so far.
    pub fn echoed(&self) -> u64 {
        self.echoed.load(Ordering::Relaxed)
    }

    /// Waits until nothing has come back for `quiet`, and tells when the last record that got through was sent: what
    /// waited in a queue on its way back does not count.
    pub fn until_silent(&self, quiet: Duration, limit: Duration) -> Result<Instant> {
        wait::until("silence", limit, || {
            let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
            Ok((last.came.elapsed() >= quiet).then_some(last.sent))
        })
    }

    /// Stops sending, waits for the last echoes, and tells what happened.
    pub fn stop(mut self) -> Result<FlowReport> {
        self.stop.store(true, Ordering::Relaxed);
        let (sender, receiver) = self.threads.take().context("a flow stops once")?;
        let sending = sender.join().map_err(|_| anyhow!("the sender panicked"))?;
        self.over.store(true, Ordering::Relaxed);
        let arrivals = receiver.join().map_err(|_| anyhow!("the receiver panicked"))?;
        Ok(FlowReport {
            sent: self.sent.load(Ordering::Relaxed),
            echoed: self.echoed.load(Ordering::Relaxed),
            longest_gap: arrivals.longest_gap,
            broken: sending.err().map(|error| error.to_string()).or(arrivals.broken),
        })
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.over.store(true, Ordering::Relaxed);
    }
}

type Writer = Box<dyn FnMut(&[u8]) -> std::io::Result<usize> + Send>;
type Reader = Box<dyn FnMut(&mut [u8]) -> std::io::Result<usize> + Send>;

fn connect(proto: Proto, to: SocketAddr) -> Result<(Writer, Reader)> {
    match proto {
        Proto::Tcp => {
            let mut writer = TcpStream::connect_timeout(&to, Duration::from_secs(3))
                .with_context(|| format!("TCP to {to}"))?;
            writer.set_nodelay(true)?;
            writer.set_read_timeout(Some(NOTICE))?;
            writer.set_write_timeout(Some(NOTICE))?;
            let mut reader = writer.try_clone()?;
            Ok((Box::new(move |record| writer.write(record)), Box::new(move |buffer| reader.read(buffer))))
        }
        Proto::Udp => {
            let socket = udp_towards(to)?;
            socket.set_read_timeout(Some(NOTICE))?;
            let reader = socket.try_clone()?;
            // What ICMP reports here is a loss of this datagram or an earlier one; the counts show it.
            let write = move |record: &[u8]| Ok(socket.send(record).unwrap_or(record.len()));
            Ok((Box::new(write), Box::new(move |buffer| datagram(&reader, buffer))))
        }
    }
}

/// An ICMP error is not the end of a UDP flow: it reads as silence.
fn datagram(socket: &std::net::UdpSocket, buffer: &mut [u8]) -> std::io::Result<usize> {
    match socket.recv(&mut buffer[..RECORD]) {
        Err(error) if !is_timeout(&error) => Err(std::io::ErrorKind::WouldBlock.into()),
        other => other,
    }
}

/// A record says when it was sent: nanoseconds since the flow's start.
fn send(write: &mut Writer, start: Instant, rate: u32, sent: &AtomicU64, stop: &AtomicBool) -> Result<()> {
    let pace = Duration::from_secs(1) / rate;
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let record = u64::try_from(start.elapsed().as_nanos())?.to_be_bytes();
        let mut written = 0;
        while written < RECORD {
            match write(&record[written..]) {
                Ok(length) => written += length,
                // The connection is stuck and its buffer full.
                Err(error) if is_timeout(&error) && stop.load(Ordering::Relaxed) => return Ok(()),
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        sent.fetch_add(1, Ordering::Relaxed);
        due += pace;
        // The pace of a traffic generator, not a wait for a condition.
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

fn receive(
    mut read: Reader,
    start: Instant,
    sent: &AtomicU64,
    echoed: &AtomicU64,
    last: &Mutex<LastEcho>,
    over: &AtomicBool,
) -> Arrivals {
    let mut arrivals = Arrivals::default();
    let mut buffer = [0; 4096];
    let (mut bytes, mut partial, mut stopped) = (0, Vec::new(), None);
    let last = || last.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        match read(&mut buffer) {
            Ok(0) => {
                arrivals.broken = Some("closed by the server".to_owned());
                return arrivals;
            }
            Ok(length) => {
                bytes += length;
                partial.extend_from_slice(&buffer[..length]);
                let sent = newest(&mut partial).map(|nanoseconds| start + Duration::from_nanos(nanoseconds));
                let mut last = last();
                let now = LastEcho { came: Instant::now(), sent: sent.unwrap_or(last.sent) };
                let before = std::mem::replace(&mut *last, now);
                arrivals.longest_gap = arrivals.longest_gap.max(now.came - before.came);
                echoed.store((bytes / RECORD) as u64, Ordering::Relaxed);
            }
            Err(error) if is_timeout(&error) => {}
            Err(error) => {
                arrivals.broken = Some(error.to_string());
                return arrivals;
            }
        }
        if over.load(Ordering::Relaxed) {
            let since = *stopped.get_or_insert_with(Instant::now);
            let complete = echoed.load(Ordering::Relaxed) >= sent.load(Ordering::Relaxed);
            if complete || since.elapsed() > STRAGGLERS {
                arrivals.longest_gap = arrivals.longest_gap.max(since.saturating_duration_since(last().came));
                return arrivals;
            }
        }
    }
}

/// The last record that is whole; what follows it stays.
fn newest(bytes: &mut Vec<u8>) -> Option<u64> {
    let whole = bytes.len() / RECORD * RECORD;
    let newest = bytes[..whole].last_chunk::<RECORD>().map(|record| u64::from_be_bytes(*record));
    bytes.drain(..whole);
    newest
}
