//! One TCP connection: the two tasks that read and write it.
//!
//! Reader and writer share nothing but the socket, so a peer that does not read does not stop us from hearing it, and
//! neither ever makes the speaker's task wait.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};

use crate::speaker::Input;
use crate::types::ConnId;

/// Messages that wait to be written. The speaker bounds their bytes; this bounds their number, and a peer that gets
/// beyond it is closed.
const WRITE_QUEUE: usize = 8192;
/// Taken from the socket at once. Allocated only when there is something to read, so that an idle session holds none.
const READ_CHUNK: usize = 64 * 1024;
/// Messages handed to the kernel in one call.
const WRITE_BATCH: usize = 64;
/// A closing connection gets this long, in all.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(4);
/// Of which so much for the peer to close its side: closing with unread data would reset the connection and lose our last word.
const LINGER: Duration = Duration::from_secs(1);

/// What connections and dials tell the speaker's task.
#[derive(Debug)]
pub(super) enum Report {
    Dialed { conn: ConnId, result: io::Result<TcpStream> },
    Input(Input),
}

/// The speaker's end of a connection. Dropped: what is queued is written, then it closes.
#[derive(Debug)]
pub(super) struct ConnHandle {
    queue: mpsc::Sender<Bytes>,
    reader: AbortHandle,
    writer: JoinHandle<()>,
}

impl ConnHandle {
    pub(super) fn start(conn: ConnId, stream: TcpStream, reports: mpsc::Sender<Report>) -> Self {
        let (queue, messages) = mpsc::channel(WRITE_QUEUE);
        let (from_peer, to_peer) = stream.into_split();
        let mut reading = tokio::spawn(read(conn, from_peer, reports.clone()));
        let reader = reading.abort_handle();
        let writer = tokio::spawn(async move {
            let closed_by_us = write(conn, to_peer, messages, reports).await.is_ok();
            // After an error the reader comes to the end by itself, and must live to report it.
            if closed_by_us && tokio::time::timeout(LINGER, &mut reading).await.is_err() {
                reading.abort();
            }
        });
        Self { queue, reader, writer }
    }

    /// False when the queue is full.
    pub(super) fn send(&self, bytes: Bytes) -> bool {
        self.queue.try_send(bytes).is_ok()
    }

    /// Writes what is queued and closes; done when the task is.
    pub(super) fn close(self) -> JoinHandle<()> {
        let Self { queue, reader, mut writer } = self;
        drop(queue);
        tokio::spawn(async move {
            if tokio::time::timeout(FLUSH_TIMEOUT, &mut writer).await.is_err() {
                writer.abort();
                reader.abort();
            }
        })
    }

    pub(super) fn abort(self) {
        self.reader.abort();
        self.writer.abort();
    }
}

async fn read(conn: ConnId, socket: OwnedReadHalf, reports: mpsc::Sender<Report>) {
    while let Ok(()) = socket.readable().await {
        let mut buffer = BytesMut::with_capacity(READ_CHUNK);
        match socket.try_read_buf(&mut buffer) {
            Ok(0) => break,
            Ok(_) => {
                let received = Input::Received { conn, bytes: buffer.freeze() };
                if reports.send(Report::Input(received)).await.is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    // The speaker may have ended: then nobody wants to know.
    let _ = reports.send(Report::Input(Input::Closed { conn })).await;
}

/// Until the speaker closes the connection, or an error when something else ends it. A peer that does not read is the send hold timer's business.
async fn write(
    conn: ConnId,
    mut socket: OwnedWriteHalf,
    mut messages: mpsc::Receiver<Bytes>,
    reports: mpsc::Sender<Report>,
) -> io::Result<()> {
    let mut waiting = VecDeque::new();
    let mut batch = Vec::new();
    while messages.recv_many(&mut batch, WRITE_BATCH).await > 0 {
        waiting.extend(batch.drain(..));
        while !waiting.is_empty() {
            let len = write_some(&mut socket, &mut waiting).await?;
            if reports.send(Report::Input(Input::Sent { conn, len })).await.is_err() {
                return Ok(()); // The speaker has ended.
            }
        }
    }
    // The peer may be gone already; then there is nothing left to tell it.
    let _ = socket.shutdown().await;
    Ok(())
}

async fn write_some(socket: &mut OwnedWriteHalf, waiting: &mut VecDeque<Bytes>) -> io::Result<usize> {
    let slices: Vec<IoSlice<'_>> =
        waiting.iter().take(WRITE_BATCH).map(|bytes| IoSlice::new(bytes)).collect();
    let written = socket.write_vectored(&slices).await?;
    if written == 0 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    let mut left = written;
    while let Some(first) = waiting.front_mut() {
        let taken = left.min(first.len());
        first.advance(taken);
        left -= taken;
        if !first.is_empty() {
            break;
        }
        waiting.pop_front();
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn what_the_kernel_takes_in_pieces_arrives_whole() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, _) = listener.accept().unwrap();
        ours.set_nonblocking(true).unwrap();
        // Many times what a socket buffers, in messages of unequal length.
        let messages = || (1..=255u8).map(|n| vec![n; 1000 * usize::from(n)]);
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            peer.read_to_end(&mut all).map(|_| all)
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let sent = runtime.block_on(async {
            let (_, mut socket) = TcpStream::from_std(ours).unwrap().into_split();
            let mut waiting: VecDeque<Bytes> = messages().map(Bytes::from).collect();
            let mut sent = 0;
            while !waiting.is_empty() {
                sent += write_some(&mut socket, &mut waiting).await.unwrap();
            }
            socket.shutdown().await.unwrap();
            sent
        });
        let expected: Vec<u8> = messages().flatten().collect();
        assert_eq!(sent, expected.len());
        assert!(reader.join().unwrap().unwrap() == expected, "other octets arrived");
    }
}
