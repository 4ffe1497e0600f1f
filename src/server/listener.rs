//! One listening socket, TCP or Unix, and its accepted streams as plain `std` sockets: a socket
//! must leave the acceptor's runtime before a worker's runtime can take it over.

use std::{
    fmt, io,
    net::SocketAddr,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::FileTypeExt as _,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use super::closing;
use crate::config::Listen;

/// Connections that the kernel holds for us while all workers are busy.
const BACKLOG: i32 = 1024;

/// A socket that is bound and listening.
#[derive(Debug)]
pub struct Listener {
    bound: Bound,
    /// How to shake hands, where connections over IP are in TLS.
    tls: Option<Arc<ServerConfig>>,
}

#[derive(Debug)]
enum Bound {
    /// Over IP.
    Tcp(TcpListener),
    /// Over a file-system path.
    Unix(UnixListener, SocketFile),
}

/// The file of a Unix socket. Without a listener it would only confuse the next start.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// An accepted connection on its way to a worker.
#[derive(Debug)]
pub(super) enum Accepted {
    Tcp(std::net::TcpStream, SocketAddr, Option<Arc<ServerConfig>>),
    Unix(std::os::unix::net::UnixStream),
}

/// A socket could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else has the address.
    #[error("{0} is already in use; stop the other process or choose another address")]
    Taken(String),
    /// Everything else.
    #[error("cannot listen on {0}: {1}")]
    Other(String, #[source] io::Error),
}

impl Listener {
    /// Binds. A Unix socket's stale file is removed first; a live one is an error.
    pub fn bind(listen: &Listen) -> Result<Self, BindError> {
        let bound = match listen {
            Listen::Tcp(addr) => bind_tcp(*addr).map(Bound::Tcp),
            Listen::Unix(path) => {
                bind_unix(path).map(|socket| Bound::Unix(socket, SocketFile(path.clone())))
            }
        };
        let listener = bound.map(|bound| Self { bound, tls: None });
        listener.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => BindError::Taken(listen.to_string()),
            _ => BindError::Other(listen.to_string(), error),
        })
    }

    /// Speaks TLS from now on, where it is over IP.
    #[must_use]
    pub fn with_tls(mut self, tls: &Arc<ServerConfig>) -> Self {
        self.tls = Some(tls.clone());
        self
    }

    /// Where it listens, with the port that the kernel chose for port 0.
    #[must_use]
    pub fn address(&self) -> Listen {
        match &self.bound {
            Bound::Tcp(socket) => socket.local_addr().map_or_else(
                |_| Listen::Tcp(SocketAddr::from(([0, 0, 0, 0], 0))),
                Listen::Tcp,
            ),
            Bound::Unix(_, file) => Listen::Unix(file.0.clone()),
        }
    }

    /// The TCP address, with the port that the kernel chose for port 0.
    #[must_use]
    pub fn tcp_addr(&self) -> Option<SocketAddr> {
        match &self.bound {
            Bound::Tcp(socket) => socket.local_addr().ok(),
            Bound::Unix(..) => None,
        }
    }

    /// Whether it is over IP and only this machine reaches it.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.tcp_addr()
            .is_some_and(|addr| addr.ip().to_canonical().is_loopback())
    }

    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match &self.bound {
            Bound::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                // Tokens are small writes: without this, Nagle would hold them back for an ACK. Refused
                // only by a socket that is already gone, whose worker will see that.
                let _ = stream.set_nodelay(true);
                Ok(Accepted::Tcp(stream.into_std()?, peer, self.tls.clone()))
            }
            Bound::Unix(socket, _) => Ok(Accepted::Unix(socket.accept().await?.0.into_std()?)),
        }
    }

    /// Closes, and gives those who had connected by then. Blocks for a moment; see [`closing`].
    ///
    /// # Errors
    /// When the system does not give the socket back.
    pub(super) fn close(self) -> io::Result<Vec<Accepted>> {
        match self.bound {
            Bound::Tcp(socket) => Ok(closing::close_tcp(socket.into_std()?, self.tls.as_ref())),
            Bound::Unix(socket, file) => {
                drop(file);
                Ok(closing::close_unix(&socket.into_std()?))
            }
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.bound {
            Bound::Tcp(_) => match self.tcp_addr() {
                Some(addr) => write!(f, "{addr}"),
                None => f.write_str("a TCP port"),
            },
            Bound::Unix(_, file) => write!(f, "unix:{}", file.0.display()),
        }
    }
}

/// For options of the socket that are not set here.
impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.bound {
            Bound::Tcp(socket) => socket.as_fd(),
            Bound::Unix(socket, _) => socket.as_fd(),
        }
    }
}

fn bind_tcp(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if is_socket {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        std::fs::remove_file(path)?;
    }
    UnixListener::bind(path)
}
