//! The Unix socket: made so that nobody can connect before its permissions are set, never taken from a living gateway, and
//! removed at the end.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::admin::{Actor, Admin};

/// Until a request's head is complete.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept: running out of descriptors must not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const BACKLOG: i32 = 64;

/// Who beside root may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketAccess {
    /// The gateway's own user (0600).
    Owner,
    /// Its group too (0660): for a group that is there for this alone.
    Group,
}

/// Why there is no admin socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A living process listens there.
    #[error("another keygate answers at {}; stop it, or set admin.socket to another path", .0.display())]
    Taken(PathBuf),
    /// Something else lies there.
    #[error("{} is not a socket; move it away, or set admin.socket to another path", .0.display())]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("cannot {what} the admin socket {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
}

/// A listening admin socket. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    file: SocketFile,
}

impl AdminSocket {
    /// Listens at `path`. A missing folder is made with 0700; a socket that nobody answers at is replaced. Call it within a runtime,
    /// and only while the store's lock is held: that keeps two gateways from replacing each other's socket at once.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn bind(path: &Path, access: SocketAccess) -> Result<Self, SocketError> {
        let failed = |what| move |source| SocketError::Io { what, path: path.to_owned(), source };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed("create the folder of"))?;
        }
        remove_stale(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed("create"))?;
        socket.bind(&SockAddr::unix(path).map_err(failed("name"))?).map_err(failed("bind"))?;
        let mode = match access {
            SocketAccess::Owner => 0o600,
            SocketAccess::Group => 0o660,
        };
        // Between bind and listen every connection is refused, whatever the umask left open.
        let file = SocketFile::of(path).map_err(failed("find"))?;
        fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed("set the permissions of"))?;
        socket.listen(BACKLOG).map_err(failed("listen on"))?;
        socket.set_nonblocking(true).map_err(failed("set up"))?;
        let listener = UnixListener::from_std(socket.into()).map_err(failed("set up"))?;
        Ok(Self { listener, file })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.file.path
    }
}

/// A socket of a dead process refuses connections; a living one accepts or is busy.
fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let failed = |what| move |source| SocketError::Io { what, path: path.to_owned(), source };
    let kind = match fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at")(error)),
    };
    if !kind.is_socket() {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    match StdUnixStream::connect(path) {
        Ok(_) => Err(SocketError::Taken(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed("replace")),
        Err(error) => Err(failed("try")(error)),
    }
}

/// The file that was bound: by its inode, so that a successor's socket at the same path is left alone.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), device: found.dev(), inode: found.ino() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode));
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the admin socket could not be removed: {error}");
        }
    }
}

/// Serves until `stop`; then the socket's file is gone, and what was being answered goes on in `tasks`.
pub async fn serve(socket: AdminSocket, admin: Arc<Admin>, tasks: TaskTracker, stop: CancellationToken) {
    let router = super::router(admin);
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = socket.listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                tasks.spawn(connection(stream, router.clone(), stop.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "the admin socket cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: UnixStream, router: axum::Router, stop: CancellationToken) {
    let peer = match stream.peer_cred() {
        Ok(found) => Actor::Socket { uid: found.uid(), pid: found.pid() },
        Err(error) => {
            tracing::warn!(%error, "a connection to the admin socket names no user and is closed: {error}");
            return;
        }
    };
    let service = router.map_request(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        request
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection to the admin socket broke off: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_living_socket_is_refused_and_a_dead_one_replaced() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("run/admin.sock");
        let living = AdminSocket::bind(&path, SocketAccess::Owner).expect("first");
        assert!(matches!(AdminSocket::bind(&path, SocketAccess::Owner), Err(SocketError::Taken(_))));
        std::mem::forget(living.file);
        drop(living.listener);
        assert!(path.exists(), "a killed process leaves its socket");
        AdminSocket::bind(&path, SocketAccess::Owner).expect("the dead one is replaced");
        assert!(!path.exists(), "and removed at the end");
    }

    #[tokio::test]
    async fn only_the_owner_gets_at_the_socket_and_its_new_folder() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("run/admin.sock");
        let _socket = AdminSocket::bind(&path, SocketAccess::Owner).expect("bound");
        let mode = |path: &Path| fs::metadata(path).expect("there").mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().expect("folder")), 0o700);
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("notes.txt");
        fs::write(&path, "mine").expect("written");
        assert!(matches!(AdminSocket::bind(&path, SocketAccess::Owner), Err(SocketError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).expect("there"), "mine");
    }

    #[tokio::test]
    async fn a_successors_socket_is_not_removed() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("admin.sock");
        let first = AdminSocket::bind(&path, SocketAccess::Owner).expect("first");
        fs::rename(&path, folder.path().join("moved.sock")).expect("moved");
        let _second = AdminSocket::bind(&path, SocketAccess::Owner).expect("second");
        drop(first);
        assert!(path.exists());
    }
}
