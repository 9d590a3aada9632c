//! Where clients connect: unix sockets, TCP, sockets that systemd opened.

use crate::anew::Inheritance;
use crate::serve;
use engine::Engine;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

/// An open listener, and the host that it was asked for by.
pub struct Listener {
    host: String,
    socket: Socket,
}

enum Socket {
    Unix(std::os::unix::net::UnixListener),
    Tcp(std::net::TcpListener),
}

/// Opens all listeners, or takes over those that were open before a crash.
pub fn open(hosts: &[String], group: &str, inheritance: &mut Inheritance) -> Result<Vec<Listener>, String> {
    let mut all = Vec::new();
    for host in hosts {
        let about = |e: &dyn std::fmt::Display| format!("failed to load listener {host}: {e}");
        let mut list = Vec::new();
        let inherited = inheritance.listeners_of(host);
        if !inherited.is_empty() {
            for fd in inherited {
                list.push(of_unknown_kind(fd).map_err(|e| about(&e))?);
            }
        } else if let Some(path) = host.strip_prefix("unix://") {
            list.push(Socket::Unix(unix(Path::new(path), group).map_err(|e| about(&e))?));
        } else if let Some(address) = host.strip_prefix("tcp://") {
            let address = if address.is_empty() { "127.0.0.1:2375" } else { address };
            let socket = std::net::TcpListener::bind(address).map_err(|e| about(&e))?;
            let local = socket.local_addr().map_err(|e| about(&e))?;
            if !local.ip().is_loopback() {
                log::warn!(
                    "Binding to IP address without --tlsverify is insecure and gives root access on this machine to everyone who has access to your network: {host}"
                );
            }
            list.push(Socket::Tcp(socket));
        } else if host == "fd://" || host.starts_with("fd://") {
            let inherited = crate::notify::listeners();
            if inherited.is_empty() {
                return Err(about(
                    &"no sockets found via socket activation: make sure the service was started by systemd",
                ));
            }
            list.extend(
                inherited
                    .into_iter()
                    .map(of_unknown_kind)
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|e| about(&e))?,
            );
        } else {
            return Err(about(&"it is neither unix://, tcp:// nor fd://"));
        }
        all.extend(list.into_iter().map(|socket| Listener {
            host: host.clone(),
            socket,
        }));
    }
    Ok(all)
}

/// A socket that somebody else opened, systemd or a daemon that crashed.
fn of_unknown_kind(fd: OwnedFd) -> std::io::Result<Socket> {
    let unix = std::os::unix::net::UnixListener::from(fd);
    if unix.local_addr().is_ok() {
        return Ok(Socket::Unix(unix));
    }
    Ok(Socket::Tcp(std::net::TcpListener::from(OwnedFd::from(unix))))
}

fn unix(path: &Path, group: &str) -> std::io::Result<std::os::unix::net::UnixListener> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match std::fs::symlink_metadata(path) {
        // What a daemon that was killed left behind; one that lives holds the pid file.
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => return Err(std::io::Error::other("there is a file of that name that is no socket")),
        Err(_) => {}
    }
    let socket = std::os::unix::net::UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    match group_id(group) {
        Some(gid) => std::os::unix::fs::chown(path, Some(0), Some(gid))?,
        None => log::debug!(
            "Unix socket {}: no group \"{group}\"; only root can use it",
            path.display()
        ),
    }
    Ok(socket)
}

fn group_id(name: &str) -> Option<u32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let text = std::fs::read_to_string("/etc/group").ok()?;
    let mut lines = text.lines().map(|l| l.split(':').collect::<Vec<_>>());
    lines
        .find(|f| f.first() == Some(&name))
        .and_then(|f| f.get(2)?.parse().ok())
}

impl Listener {
    /// Its host and its socket.
    pub fn named(&self) -> (String, BorrowedFd<'_>) {
        let fd = match &self.socket {
            Socket::Unix(socket) => socket.as_fd(),
            Socket::Tcp(socket) => socket.as_fd(),
        };
        (self.host.clone(), fd)
    }

    /// Accepts clients from now on, on the current runtime.
    pub fn serve(self, engine: Arc<Engine>) -> Result<(), String> {
        let about = |e: std::io::Error| format!("serve a listener: {e}");
        match self.socket {
            Socket::Unix(socket) => {
                socket.set_nonblocking(true).map_err(about)?;
                let socket = tokio::net::UnixListener::from_std(socket).map_err(about)?;
                tokio::spawn(async move {
                    loop {
                        match socket.accept().await {
                            Ok((stream, _)) => drop(tokio::spawn(serve::connection(stream, engine.clone()))),
                            Err(e) => pause(e).await,
                        }
                    }
                });
            }
            Socket::Tcp(socket) => {
                socket.set_nonblocking(true).map_err(about)?;
                let socket = tokio::net::TcpListener::from_std(socket).map_err(about)?;
                tokio::spawn(async move {
                    loop {
                        match socket.accept().await.and_then(|(stream, _)| as_stream_socket(stream)) {
                            Ok(stream) => drop(tokio::spawn(serve::connection(stream, engine.clone()))),
                            Err(e) => pause(e).await,
                        }
                    }
                });
            }
        }
        Ok(())
    }
}

/// A TCP connection under the type of a unix one: both are stream sockets, and nothing asks for their addresses.
fn as_stream_socket(stream: tokio::net::TcpStream) -> std::io::Result<tokio::net::UnixStream> {
    let socket = OwnedFd::from(stream.into_std()?);
    tokio::net::UnixStream::from_std(socket.into())
}

/// Out of descriptors, most likely: others must end first.
async fn pause(error: std::io::Error) {
    log::warn!("accept a client: {error}");
    tokio::task::yield_now().await;
    std::thread::sleep(std::time::Duration::from_millis(20));
}
