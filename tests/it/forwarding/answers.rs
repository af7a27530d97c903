//! What comes back: an upstream's answer without its cookies and hop-by-hop headers; one that could be read in two ways never.

use keygate::secret::Secret;
use keygate::upstream::{Credential, Kind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::http::Answer;
use crate::support::{Rig, Setup};

/// A gateway in front of an upstream that gives every request the same bytes and closes.
async fn rig_in_front_of(answer: &'static str) -> Rig {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.is_ok_and(|count| count == 1) {
                head.push(byte[0]);
            }
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let setup = Setup::new(Kind::Jellyfin).credential(Credential::Token(Secret::from("0123456789abcdef0123456789abcdef")));
    setup.with(move |config| config.upstreams[0].port = port).start().await
}

fn values(answer: &Answer, name: &str) -> Vec<String> {
    answer.headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_loses_its_cookies_and_hop_by_hop_headers_and_nothing_else() {
    let rig = rig_in_front_of(
        "HTTP/1.1 206 Partial\r\nConnection: X-Nominated, keep-alive\r\nX-Nominated: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\n\
         Proxy-Connection: close\r\nTrailer: X-A\r\nUpgrade: h2c\r\nSet-Cookie: connect.sid=1\r\nSet-Cookie: refresh_token=2\r\n\
         Content-Length: 5\r\nContent-Range: bytes 0-4/10\r\nETag: W/\"a\"\r\nVary: Accept\r\nVary: Origin\r\nX-Emby-Thing: kept\r\n\
         Access-Control-Allow-Origin: https://a.example\r\nContent-Encoding: br\r\n\r\nhello",
    )
    .await;
    let answer = rig.get("/Items/1/Download").await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (206, "hello"));
    let names = ["connection", "x-nominated", "keep-alive", "proxy-authenticate", "proxy-connection", "trailer", "upgrade", "set-cookie"];
    for name in names {
        assert_eq!(values(&answer, name), Vec::<String>::new(), "{name}");
    }
    for (name, wanted) in [
        ("content-length", &["5"][..]),
        ("content-range", &["bytes 0-4/10"]),
        ("etag", &["W/\"a\""]),
        ("vary", &["Accept", "Origin"]),
        ("x-emby-thing", &["kept"]),
        ("access-control-allow-origin", &["https://a.example"]),
        ("content-encoding", &["br"]),
    ] {
        assert_eq!(values(&answer, name), wanted, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_the_rules_is_502() {
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-A: a\0b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 abc\r\n\r\n",
        "hello\r\n\r\n",
        "",
    ] {
        let rig = rig_in_front_of(bytes).await;
        let answer = rig.get("/x").await;
        assert_eq!(answer.status, 502, "{bytes:?}: {}", answer.text());
        assert!(answer.json()["error"].as_str().is_some_and(|error| error.starts_with("upstream_")), "{bytes:?}: {}", answer.text());
    }
}
