//! What one client may take of it: bytes, time, connections.

use std::time::Duration;

use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Site, bearer, word};
use crate::support::http as client;
use crate::support::net::TcpStream;

#[tokio::test]
async fn a_body_of_more_than_64_kib_is_refused_announced_or_not() {
    let site = Site::start().await;
    let headers = [("authorization", &*bearer(&site.all)), ("content-type", "application/json")];
    let body = |length: usize| format!("{}{{\"name\":\"n\"}}", " ".repeat(length - 12));
    let fits = site.bare(Method::POST, "/api/admin-tokens", &headers, body(64 * 1024)).await;
    assert_eq!(fits.status, 400, "read, and found wanting: {}", fits.text());
    let announced = site.bare(Method::POST, "/api/admin-tokens", &headers, body(64 * 1024 + 1)).await;
    assert_eq!((announced.status.as_u16(), word(&announced).as_str()), (413, "too_large"));
    let mut request = client::head(
        "POST",
        "/api/admin-tokens",
        &[
            ("Host", b"localhost"),
            ("Authorization", bearer(&site.all).as_bytes()),
            ("Content-Type", b"application/json"),
            ("Transfer-Encoding", b"chunked"),
        ],
    );
    for _ in 0..65 {
        request.extend_from_slice(b"400\r\n");
        request.extend_from_slice(&[b' '; 1024]);
        request.extend_from_slice(b"\r\n");
    }
    let chunked = client::raw(site.address, &request).await;
    assert_eq!(client::status_of(&chunked), 413, "{chunked}");
}

#[tokio::test]
async fn a_head_or_a_body_that_does_not_come_ends_its_connection() {
    let site = Site::start().await;
    let mut head = TcpStream::connect(site.address).await.unwrap();
    head.write_all(b"GET /api/status HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").await.unwrap();
    let mut body = TcpStream::connect(site.address).await.unwrap();
    let begun = client::head(
        "POST",
        "/api/admin-tokens",
        &[
            ("Host", b"localhost"),
            ("Authorization", bearer(&site.all).as_bytes()),
            ("Content-Type", b"application/json"),
            ("Content-Length", b"100"),
        ],
    );
    body.write_all(&begun).await.unwrap();
    let mut silent = TcpStream::connect(site.address).await.unwrap();
    let read = |stream: TcpStream| async move {
        let mut stream = stream;
        let mut got = Vec::new();
        // A reset is an end as well.
        let _ = tokio::time::timeout(client::PATIENCE, stream.read_to_end(&mut got)).await.expect("it ends");
        String::from_utf8_lossy(&got).into_owned()
    };
    silent.flush().await.unwrap();
    let (head, body, silent) = tokio::join!(read(head), read(body), read(silent));
    assert_eq!(client::status_of(&body), 408, "{body}");
    assert!(!head.contains(" 200 ") && silent.is_empty(), "{head}{silent}");
}

#[tokio::test]
async fn a_head_of_more_than_32_kib_is_refused() {
    let site = Site::start().await;
    let long = vec![b'a'; 40 * 1024];
    let answer = client::raw(site.address, &client::head("GET", "/api/status", &[("Host", b"localhost"), ("X-Long", &long)])).await;
    assert_eq!(client::status_of(&answer), 431, "{answer}");
}

#[tokio::test]
async fn there_are_places_for_so_many_connections_and_one_that_ends_makes_room() {
    let site = Site::start().await;
    let mut held = Vec::new();
    for _ in 0..128 {
        held.push(TcpStream::connect(site.address).await.unwrap());
    }
    let mut one_more = TcpStream::connect(site.address).await.unwrap();
    let mut byte = [0];
    let ended = tokio::time::timeout(client::PATIENCE, one_more.read(&mut byte)).await.expect("it ends at once");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    held.clear();
    let patience = tokio::time::Instant::now() + client::PATIENCE;
    let headers = [("authorization", &*bearer(&site.all))];
    while client::try_send(site.address, Method::GET, "/api/status", &headers, "").await.is_err() {
        assert!(tokio::time::Instant::now() < patience, "no place becomes free");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
