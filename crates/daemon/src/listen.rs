//! Where clients connect: unix sockets, TCP, sockets that systemd opened.

use crate::serve;
use engine::Engine;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

/// An open listener.
pub enum Listener {
    Unix(std::os::unix::net::UnixListener),
    Tcp(std::net::TcpListener),
}

/// Opens all listeners.
pub fn open(hosts: &[String], group: &str) -> Result<Vec<Listener>, String> {
    let mut list = Vec::new();
    for host in hosts {
        let about = |e: &dyn std::fmt::Display| format!("failed to load listener {host}: {e}");
        if let Some(path) = host.strip_prefix("unix://") {
            list.push(Listener::Unix(unix(Path::new(path), group).map_err(|e| about(&e))?));
        } else if let Some(address) = host.strip_prefix("tcp://") {
            let address = if address.is_empty() { "127.0.0.1:2375" } else { address };
            let socket = std::net::TcpListener::bind(address).map_err(|e| about(&e))?;
            let local = socket.local_addr().map_err(|e| about(&e))?;
            if !local.ip().is_loopback() {
                log::warn!(
                    "Binding to IP address without --tlsverify is insecure and gives root access on this machine to everyone who has access to your network: {host}"
                );
            }
            list.push(Listener::Tcp(socket));
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
                    .map(of_systemd)
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|e| about(&e))?,
            );
        } else {
            return Err(about(&"it is neither unix://, tcp:// nor fd://"));
        }
    }
    Ok(list)
}

fn of_systemd(fd: OwnedFd) -> std::io::Result<Listener> {
    let unix = std::os::unix::net::UnixListener::from(fd);
    if unix.local_addr().is_ok() {
        return Ok(Listener::Unix(unix));
    }
    Ok(Listener::Tcp(std::net::TcpListener::from(OwnedFd::from(unix))))
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
    /// Accepts clients from now on, on the current runtime.
    pub fn serve(self, engine: Arc<Engine>) -> Result<(), String> {
        let about = |e: std::io::Error| format!("serve a listener: {e}");
        match self {
            Listener::Unix(socket) => {
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
            Listener::Tcp(socket) => {
                socket.set_nonblocking(true).map_err(about)?;
                let socket = tokio::net::TcpListener::from_std(socket).map_err(about)?;
                tokio::spawn(async move {
                    loop {
                        match socket.accept().await {
                            Ok((stream, _)) => drop(tokio::spawn(serve::connection(stream, engine.clone()))),
                            Err(e) => pause(e).await,
                        }
                    }
                });
            }
        }
        Ok(())
    }
}

/// Out of descriptors, most likely: others must end first.
async fn pause(error: std::io::Error) {
    log::warn!("accept a client: {error}");
    tokio::task::yield_now().await;
    std::thread::sleep(std::time::Duration::from_millis(20));
}
