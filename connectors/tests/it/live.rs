//! The transport that really sends, against a socket on this machine.

use std::time::Duration;

use bytes::Bytes;
use counterpart_connectors::{LiveOptions, LiveTransport, Transport, TransportError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Answers one request with these bytes, then closes; returns what was asked.
async fn serve(answer: &'static [u8]) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let served = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let read = socket.read(&mut request).await.unwrap();
        socket.write_all(answer).await.unwrap();
        socket.shutdown().await.unwrap();
        String::from_utf8_lossy(&request[..read]).into_owned()
    });
    (address, served)
}

fn get(address: &str) -> http::Request<Bytes> {
    http::Request::get(format!("{address}/people?token=s3cret")).header("x-a", "b").body(Bytes::new()).unwrap()
}

fn transport(max_body: usize) -> LiveTransport {
    LiveTransport::new(LiveOptions { max_body, ..LiveOptions::default() }).unwrap()
}

#[tokio::test]
async fn an_answer_comes_back_whole() {
    let (address, served) = serve(b"HTTP/1.1 201 Created\r\nx-b: c\r\ncontent-length: 2\r\n\r\n{}").await;
    let answer = transport(100).send(get(&address)).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["x-b"], &answer.body()[..]),
        (201, &"c".parse().unwrap(), &b"{}"[..])
    );
    let asked = served.await.unwrap().to_lowercase();
    assert!(asked.starts_with("get /people?token=s3cret http/1.1") && asked.contains("x-a: b"), "{asked}");
    assert!(asked.contains("user-agent: counterpart/"), "{asked}");
}

#[tokio::test]
async fn redirects_are_handed_back() {
    let (address, _served) =
        serve(b"HTTP/1.1 302 Found\r\nlocation: https://elsewhere.example/\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(transport(100).send(get(&address)).await.unwrap().status(), 302);
}

#[tokio::test]
async fn what_surely_was_not_sent_is_told_from_what_was_not_answered() {
    // Nobody listens on port 1 of this machine.
    let refused = transport(100).send(get("http://127.0.0.1:1")).await.unwrap_err();
    assert!(matches!(&refused, TransportError::NotSent { .. }), "{refused:?}");

    for cut in [&b""[..], b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{"] {
        let (address, _served) = serve(cut).await;
        let error = transport(100).send(get(&address)).await.unwrap_err();
        assert!(matches!(&error, TransportError::NoAnswer { .. }), "{error:?}");
        assert!(!format!("{refused} {error}").contains("s3cret"), "{error}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_cut() {
    let (address, _served) = serve(b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n01234567890123456789").await;
    let error = transport(10).send(get(&address)).await.unwrap_err();
    assert!(matches!(&error, TransportError::NoAnswer { reason } if reason.contains("larger than 10")), "{error:?}");
}

#[tokio::test]
async fn a_silent_server_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let options = LiveOptions { total: Duration::from_millis(50), ..LiveOptions::default() };
    let error = LiveTransport::new(options).unwrap().send(get(&address)).await.unwrap_err();
    assert!(matches!(error, TransportError::NoAnswer { .. }), "{error:?}");
}
