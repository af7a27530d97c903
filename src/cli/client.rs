//! The other end of the admin socket: a running gateway, or, when none runs, the same router in this process over the store.

use std::io;
use std::path::{Path, PathBuf};

use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tower::ServiceExt;

use crate::admin::api::ErrorBody;
use crate::admin::{Actor, router};
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::Output;
use crate::cli::{Global, open};
use crate::config::Config;

/// Who does what a command asks for.
pub(crate) enum Backend {
    /// A running gateway.
    Daemon {
        /// Its admin socket.
        socket: PathBuf,
    },
    /// This process, with the store open.
    Offline(Box<axum::Router>),
}

impl Backend {
    /// The gateway if one answers, else the store itself.
    pub(crate) async fn open(global: &Global, output: &Output) -> Result<Self, Failure> {
        let socket = socket_path(global)?;
        if answers(&socket).await? {
            return Ok(Self::Daemon { socket });
        }
        let admin = open::offline(&open::config(global)?.0).map_err(|error| error.into_failure(&socket))?;
        output.note("no running keygate: changing the store directly");
        Ok(Self::Offline(Box::new(router(admin))))
    }

    /// The gateway, if one answers.
    pub(crate) async fn daemon(global: &Global) -> Result<Option<Self>, Failure> {
        let socket = socket_path(global)?;
        Ok(answers(&socket).await?.then_some(Self::Daemon { socket }))
    }

    /// The gateway, for what only a running one can do.
    pub(crate) async fn running(global: &Global) -> Result<Self, Failure> {
        let missing = |socket: &Path| Failure::new(Exit::Unreachable, format!("no running keygate answers at {}", socket.display()));
        Self::find(global).await?.map_err(|socket| missing(&socket))
    }

    /// The gateway, or the socket at which none answers.
    pub(crate) async fn find(global: &Global) -> Result<Result<Self, PathBuf>, Failure> {
        let socket = socket_path(global)?;
        Ok(if answers(&socket).await? { Ok(Self::Daemon { socket }) } else { Err(socket) })
    }

    /// Asks, and reads the answer.
    pub(crate) async fn call<T: DeserializeOwned>(&self, method: Method, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        let answer = self.call_raw(method, path, body).await?;
        serde_json::from_slice(&answer).map_err(|error| {
            Failure::failed(format!(
                "the gateway's answer makes no sense (is it of another version?): line {}: not as expected",
                error.line()
            ))
        })
    }

    /// Asks without a body.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.call(Method::GET, path, &()).await
    }

    /// Asks, and hands out the answer piece by piece. An answer that breaks off is a failure.
    pub(crate) async fn download(&self, path: &str, take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
        let Self::Daemon { socket } = self else { return Err(Failure::failed("only a running gateway sends files")) };
        let request = Request::builder().uri(path).header(header::HOST, "keygate").body(Full::new(Bytes::new()));
        let request = request.map_err(|error| Failure::usage(format!("cannot ask for that: {error}")))?;
        let stream = UnixStream::connect(socket).await.map_err(|error| unreachable(socket, &error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| broke_off(socket, &error))?;
        let exchange = async move {
            let (parts, mut body) = sender.send_request(request).await.map_err(|error| broke_off(socket, &error))?.into_parts();
            if !parts.status.is_success() {
                let answer = body.collect().await.map_err(|error| broke_off(socket, &error))?;
                return Err(refused(parts.status, &answer.to_bytes()));
            }
            while let Some(frame) = body.frame().await {
                take(frame.map_err(|error| broke_off(socket, &error))?.data_ref().unwrap_or(&Bytes::new()))?;
            }
            Ok(())
        };
        tokio::join!(exchange, connection).0
    }

    /// Asks, and gives the answer's bytes once it is complete.
    pub(crate) async fn call_raw(&self, method: Method, path: &str, body: &impl Serialize) -> Result<Bytes, Failure> {
        let body = serde_json::to_vec(body).map_err(|error| Failure::failed(format!("cannot write JSON: {error}")))?;
        let body = if body == b"null" { Bytes::new() } else { Bytes::from(body) };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "keygate")
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|error| Failure::usage(format!("cannot ask for that: {error}")))?;
        let (status, answer) = match self {
            Self::Daemon { socket } => over_socket(socket, request).await?,
            Self::Offline(router) => in_process(router, request).await?,
        };
        if status.is_success() { Ok(answer) } else { Err(refused(status, &answer)) }
    }
}

/// Whether a gateway answers there. A socket that may not be opened is not the same as none: going on to the store would only
/// meet its lock, or worse, another store.
async fn answers(socket: &Path) -> Result<bool, Failure> {
    match UnixStream::connect(socket).await {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => Ok(false),
        Err(error) => Err(unreachable(socket, &error)),
    }
}

fn unreachable(socket: &Path, error: &dyn std::error::Error) -> Failure {
    let advice = "run this as root or as the gateway's own user";
    Failure::new(Exit::Unreachable, format!("cannot talk to the gateway at {}: {error} ({advice}?)", socket.display()))
}

fn socket_path(global: &Global) -> Result<PathBuf, Failure> {
    match &global.socket {
        Some(socket) => Ok(socket.clone()),
        None => Config::admin_socket(global.config.as_deref()).map_err(open::problems),
    }
}

fn broke_off(socket: &Path, error: &dyn std::error::Error) -> Failure {
    let text = format!("the gateway at {} broke off: {error}; look whether the change was made", socket.display());
    Failure::new(Exit::Unreachable, text)
}

async fn over_socket(socket: &Path, request: Request<Bytes>) -> Result<(StatusCode, Bytes), Failure> {
    let broken = |error: &dyn std::error::Error| broke_off(socket, error);
    let stream = UnixStream::connect(socket).await.map_err(|error| unreachable(socket, &error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    let exchange = async move {
        let (parts, body) = sender.send_request(request.map(Full::new)).await?.into_parts();
        Ok::<_, hyper::Error>((parts.status, body.collect().await?.to_bytes()))
    };
    // The connection ends when the exchange has let go of its sender.
    let (answer, _) = tokio::join!(exchange, connection);
    answer.map_err(|error| broken(&error))
}

async fn in_process(router: &axum::Router, request: Request<Bytes>) -> Result<(StatusCode, Bytes), Failure> {
    let mut request = request.map(Body::from);
    request.extensions_mut().insert(Actor::Offline { uid: rustix::process::getuid().as_raw() });
    let answer: Response<Body> = router.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.map_err(|error| Failure::failed(format!("the answer broke off: {error}")))?;
    Ok((parts.status, body.to_bytes()))
}

fn refused(status: StatusCode, answer: &[u8]) -> Failure {
    let body = serde_json::from_slice::<ErrorBody>(answer).ok();
    let exit = match status {
        // By the word: a configuration that is wrong is 422 too.
        _ if body.as_ref().is_some_and(|body| body.error == "upstream_refused") => Exit::Upstream,
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => Exit::Usage,
        StatusCode::NOT_FOUND => Exit::NotFound,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => Exit::Upstream,
        _ => Exit::Failed,
    };
    let message = body.map_or_else(|| format!("the gateway answered {status} without saying why"), |body| body.message);
    Failure::new(exit, message)
}

/// A text as one component of a path or a query.
pub(crate) fn encoded(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_becomes_the_right_exit_code() {
        let body = br#"{"error":"x","message":"because"}"#;
        let exit = |status: u16| refused(StatusCode::from_u16(status).expect("a status"), body).exit;
        assert_eq!(exit(400), Exit::Usage);
        assert_eq!(exit(404), Exit::NotFound);
        assert_eq!(exit(409), Exit::Failed);
        assert_eq!(exit(500), Exit::Failed);
        assert_eq!(exit(502), Exit::Upstream);
        assert_eq!(exit(504), Exit::Upstream);
        assert_eq!(exit(422), Exit::Usage);
        let of_upstream = br#"{"error":"upstream_refused","message":"because"}"#;
        assert_eq!(refused(StatusCode::UNPROCESSABLE_ENTITY, of_upstream).exit, Exit::Upstream);
        assert_eq!(refused(StatusCode::BAD_REQUEST, body).message, "because");
    }

    #[test]
    fn names_are_encoded_byte_by_byte() {
        assert_eq!(encoded("abs/Küche & co"), "abs%2FK%C3%BCche%20%26%20co");
    }

    #[tokio::test]
    async fn no_socket_and_a_dead_socket_are_no_gateway() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("admin.sock");
        assert!(!answers(&path).await.expect("no socket"));
        let listener = tokio::net::UnixListener::bind(&path).expect("bound");
        assert!(answers(&path).await.expect("a living one"));
        drop(listener);
        assert!(!answers(&path).await.expect("a dead one"));
    }
}
