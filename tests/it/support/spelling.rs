//! Requests made from the tables of routes: paths that a pattern stands for, and all ways to write a path that reach the same handler.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use keygate::keys::ApiKey;
use keygate::upstream::Kind;
use keygate::upstream::dialect::{self, Route};

use crate::support::http::{self as client, Answer};
use crate::support::net::TcpStream;

const METHODS: [Method; 6] = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

pub(crate) fn parsed(request: &str) -> (Method, &str) {
    let (method, path) = request.split_once(' ').expect("a method and a path");
    (method.parse().expect("a method"), path)
}

pub(crate) fn methods(route: &Route) -> impl Iterator<Item = &'static Method> + Clone {
    METHODS.iter().filter(|method| route.methods.contains(method))
}

/// Paths that a pattern stands for.
pub(crate) fn examples(pattern: &str) -> Vec<String> {
    let front: String = pattern
        .split('/')
        .filter(|part| !part.is_empty() && !part.contains('*'))
        .map(|part| match (part.split_once('{'), part.rsplit_once('}')) {
            (Some((begin, _)), Some((_, end))) => format!("/{begin}7f{end}"),
            _ => format!("/{part}"),
        })
        .collect();
    let below = [format!("{front}/7f"), format!("{front}/7f/8e.x/9d")];
    match pattern {
        "/" => vec!["/".to_owned()],
        pattern if pattern.ends_with("/**") => vec![front, below[1].clone()],
        pattern if pattern.ends_with("/*") => below.to_vec(),
        _ => vec![front],
    }
}

/// Spellings of a path that the servers, or some of their versions, read as the same.
pub(crate) fn spellings(path: &str, kind: Kind) -> Vec<String> {
    if path == "/" {
        return vec!["/".to_owned(), "//".to_owned()];
    }
    let encoded = |place: usize| format!("{}%{:02X}{}", &path[..place], path.as_bytes()[place], &path[place + 1..]);
    let mut all = vec![path.to_owned(), path.to_ascii_uppercase(), path.to_ascii_lowercase(), format!("{path}/"), format!("//{path}")];
    all.extend(path.match_indices('/').map(|(place, _)| format!("{}/{}", &path[..place], &path[place..])));
    all.push(path.bytes().map(|byte| if byte == b'/' { "/".to_owned() } else { format!("%{byte:02x}") }).collect());
    all.extend([encoded(1), encoded(path.len() - 1), format!("{path}?a=/b/../c&x"), format!("{path}/?")]);
    for base in dialect::of(kind).base_paths() {
        all.extend([format!("/{base}{path}"), format!("/{}{path}/", base.to_ascii_uppercase()), format!("//{base}//{}", &path[1..])]);
    }
    if kind != Kind::Audiobookshelf {
        all.extend([format!("{path}.json"), format!("{path}.xml"), format!("/emby/emby{path}")]);
    }
    all
}

/// Spellings that can be read in more than one way.
pub(crate) fn ambiguous(path: &str) -> [String; 7] {
    let (front, last) = path.rsplit_once('/').expect("a slash");
    [
        format!("/.{path}"),
        format!("/x/..{path}"),
        format!("{path}/%2e"),
        format!("{front}/%2F{last}"),
        format!("{front}/{last}%5c"),
        format!("{path};x=1"),
        format!("{path}%00"),
    ]
}

/// One connection for many requests.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Connection {
    pub(crate) async fn to(address: SocketAddr) -> Self {
        let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        Self { sender, host: address.to_string() }
    }

    pub(crate) async fn ask(&mut self, method: &Method, target: &str, key: Option<&ApiKey>) -> Answer {
        let mut request = Request::builder().method(method).uri(target).header("host", &self.host);
        if let Some(key) = key {
            request = request.header("x-emby-token", key.expose());
        }
        self.sender.ready().await.expect("still open");
        let answer = self.sender.send_request(request.body(Full::default()).expect(target));
        let (head, body) = tokio::time::timeout(client::PATIENCE, answer).await.expect("in time").expect("an answer").into_parts();
        Answer { status: head.status, headers: head.headers, body: body.collect().await.unwrap().to_bytes() }
    }
}
