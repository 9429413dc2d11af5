use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::*;

/// Serves `ok` at `/`.
async fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", get(|| async { "ok" }));
    brief(serve(listener, router, CancellationToken::new()));
    address
}

async fn connect(from: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    socket.connect(to).await.unwrap()
}

/// What the server says until it closes; what it said before a reset counts.
async fn says(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

async fn ask(stream: &mut TcpStream) -> String {
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: n1\r\n\r\n").await;
    says(stream).await
}

fn sources(text: &str) -> Vec<Option<IpAddr>> {
    text.split(' ').map(|last| format!("10.0.0.{last}").parse().ok()).collect()
}

#[test]
fn the_oldest_of_the_source_with_the_most_makes_room() {
    for (held, evicted) in [("1 2 2 3", 1), ("2 1 1 1 2", 1), ("1 2 3", 0), ("3 3 1 1", 0)] {
        assert_eq!(victim(&sources(held)), evicted, "{held}");
    }
}

#[tokio::test]
async fn who_holds_all_connections_keeps_nobody_else_out() {
    let server = server().await;
    let mut kubelet = connect("127.0.0.2", server).await;
    let mut held = Vec::new();
    for _ in 0..2 * MAX_CONNECTIONS {
        let mut stream = connect("127.0.0.1", server).await;
        stream.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
        held.push(stream);
    }
    let scraper = ask(&mut connect("127.0.0.3", server).await).await;
    assert!(scraper.ends_with("ok"), "{scraper}");
    assert!(ask(&mut kubelet).await.ends_with("ok"), "it was there before all of them");
    assert_eq!(says(&mut held[0]).await, "", "the first of many was evicted");
}

#[tokio::test]
async fn a_header_without_an_end_is_not_waited_for() {
    let server = server().await;
    let mut slow = connect("127.0.0.1", server).await;
    slow.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
    let closed = timeout(CONNECTION_WITHIN / 2, says(&mut slow)).await;
    assert!(closed.is_ok(), "the header's deadline counts, not the connection's");
}

#[tokio::test]
async fn a_header_larger_than_the_buffer_is_refused_and_a_connection_is_for_one_request() {
    let server = server().await;
    let mut large = connect("127.0.0.1", server).await;
    let _ = large.write_all(format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(BUFFER)).as_bytes()).await;
    let answer = says(&mut large).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert!(ask(&mut connect("127.0.0.1", server).await).await.contains("connection: close"));
}

#[tokio::test]
async fn what_is_being_answered_when_the_server_stops_is_answered_first() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, answered) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
    // A request to stop: the server hears of it before there is an answer.
    let handler = {
        let (stop, answered) = (stop.clone(), Arc::clone(&answered));
        async move || {
            stop.cancel();
            for _ in 0..1_000 {
                tokio::task::yield_now().await;
            }
            answered.store(true, Ordering::Relaxed);
            "stopping"
        }
    };
    let server = brief(serve(listener, Router::new().route("/", get(handler)), stop));
    let mut client = connect("127.0.0.1", address).await;
    client.write_all(b"GET / HTTP/1.1\r\nhost: n1\r\n\r\n").await.unwrap();
    server.await.unwrap();
    assert!(answered.load(Ordering::Relaxed));
    assert!(says(&mut client).await.ends_with("stopping"));
}
