//! Many attempts at once: did the payload come back before the deadline?
//!
//! One thread for each place to send from, which waits for all its sockets together, so that a hundred closed pairs take no
//! longer than one.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::net::{Namespace, Proto};

/// Within a lab an answer takes a millisecond, or some hundred when the machine is busy.
const LIMIT: Duration = Duration::from_millis(400);
const PAYLOAD: &[u8] = b"weft-e2e soak\r\n";

#[derive(Clone, Debug)]
pub struct Attempt {
    pub from: Namespace,
    pub to: SocketAddr,
    pub proto: Proto,
}

/// Whether each was answered, in their order.
pub fn attempt_all(attempts: &[Attempt]) -> Result<Vec<bool>> {
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, attempt) in attempts.iter().enumerate() {
        places.entry(attempt.from.label()).or_default().push(index);
    }
    let mut answered = vec![false; attempts.len()];
    thread::scope(|scope| {
        let threads: Vec<_> = places
            .values()
            .map(|indexes| {
                let from = &attempts[indexes[0]].from;
                scope.spawn(move || from.enter(move || from_here(attempts, indexes)))
            })
            .collect();
        for thread in threads {
            for index in thread.join().map_err(|_| anyhow!("a prober panicked"))?? {
                answered[index] = true;
            }
        }
        Ok(answered)
    })
}

/// Which of `indexes` were answered.
fn from_here(attempts: &[Attempt], indexes: &[usize]) -> Result<Vec<usize>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = runtime.block_on(async {
        let mut asking = JoinSet::new();
        for index in indexes.iter().copied() {
            let Attempt { to, proto, .. } = attempts[index];
            asking.spawn(async move {
                let answered = timeout(LIMIT, ask(proto, to)).await.is_ok_and(|asked| asked.is_ok());
                answered.then_some(index)
            });
        }
        asking.join_all().await
    });
    Ok(asked.into_iter().flatten().collect())
}

async fn ask(proto: Proto, to: SocketAddr) -> io::Result<()> {
    let mut buffer = [0; PAYLOAD.len()];
    match proto {
        Proto::Tcp => {
            let stream = TcpStream::connect(to).await?;
            stream.try_write(PAYLOAD)?;
            stream.readable().await?;
            match stream.try_read(&mut buffer)? {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                _ => Ok(()),
            }
        }
        Proto::Udp => {
            let any: IpAddr =
                if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let socket = UdpSocket::bind((any, 0)).await?;
            socket.connect(to).await?;
            socket.send(PAYLOAD).await?;
            socket.recv(&mut buffer).await.map(drop)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::EchoServer;

    #[test]
    fn what_answers_is_told_from_what_does_not() {
        let here = Namespace::create("here").unwrap();
        here.enter(|| {
            let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status()?;
            anyhow::ensure!(up.success(), "ip");
            Ok(())
        })
        .unwrap();
        let _echo = EchoServer::start(&here, 8080).unwrap();
        let attempt = |to: &str, proto| Attempt { from: here.clone(), to: to.parse().unwrap(), proto };
        let attempts = [
            attempt("127.0.0.1:8080", Proto::Tcp),
            attempt("127.0.0.1:8081", Proto::Tcp),
            attempt("[::1]:8080", Proto::Udp),
            attempt("[::1]:8081", Proto::Udp),
            attempt("192.0.2.1:8080", Proto::Udp),
        ];
        assert_eq!(attempt_all(&attempts).unwrap(), [true, false, true, false, false]);
    }
}
