//! Where the daemon listens, and the connection to it.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// Where the daemon is when nobody says otherwise.
pub const DEFAULT_HOST: &str = "unix:///var/run/balena-engine.sock";

const TCP_PATIENCE: Duration = Duration::from_secs(30);
const DEFAULT_PORT: u16 = 2375;

/// A daemon's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Unix(PathBuf),
    /// Host and port, not encrypted.
    Tcp(String),
}

impl Endpoint {
    /// Reads `unix://PATH`, `tcp://HOST[:PORT]`, `http://…` or `HOST:PORT`; the error is Docker's text.
    pub fn parse(text: &str) -> Result<Endpoint, String> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
        match scheme {
            "unix" if rest.is_empty() => Endpoint::parse(DEFAULT_HOST),
            "unix" => Ok(Endpoint::Unix(PathBuf::from(rest))),
            "tcp" | "http" => {
                let rest = rest.trim_end_matches('/');
                let host = if rest.is_empty() { "localhost" } else { rest };
                let (name, port) = match host.rsplit_once(':') {
                    Some((name, port)) if !port.contains(']') => (name, port),
                    _ => (host, ""),
                };
                let name = if name.is_empty() { "localhost" } else { name };
                let port = match port {
                    "" => DEFAULT_PORT,
                    port => port
                        .parse()
                        .map_err(|_| format!("invalid bind address format: {text}"))?,
                };
                Ok(Endpoint::Tcp(format!("{name}:{port}")))
            }
            "https" => Err(format!("TLS is not supported yet by this client: {text}")),
            "ssh" => Err(format!("connections by ssh are not supported: {text}")),
            _ => Err(format!("invalid bind address format: {text}")),
        }
    }

    /// Opens a connection.
    pub fn connect(&self) -> io::Result<Stream> {
        match self {
            Endpoint::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path)?)),
            Endpoint::Tcp(host) => {
                let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
                for address in host.to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, TCP_PATIENCE) {
                        Ok(stream) => {
                            stream.set_nodelay(true)?;
                            return Ok(Stream::Tcp(stream));
                        }
                        Err(e) => last = e,
                    }
                }
                Err(last)
            }
        }
    }

    /// What the `Host` header says.
    pub fn http_host(&self) -> &str {
        match self {
            Endpoint::Unix(_) => "api.moby.localhost",
            Endpoint::Tcp(host) => host,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix://{}", path.display()),
            Endpoint::Tcp(host) => write!(f, "tcp://{host}"),
        }
    }
}

/// A connection to a daemon.
#[derive(Debug)]
pub enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    /// The same connection under another descriptor.
    pub fn try_clone(&self) -> io::Result<Stream> {
        Ok(match self {
            Stream::Unix(stream) => Stream::Unix(stream.try_clone()?),
            Stream::Tcp(stream) => Stream::Tcp(stream.try_clone()?),
        })
    }

    /// Tells the other side that nothing more comes from here.
    pub fn close_write(&self) -> io::Result<()> {
        match self {
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    /// Ends both directions; readers in other threads wake up.
    pub fn close(&self) -> io::Result<()> {
        match self {
            Stream::Unix(stream) => stream.shutdown(Shutdown::Both),
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Both),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.read(buffer),
            Stream::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.write(buffer),
            Stream::Tcp(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Unix(stream) => stream.as_fd(),
            Stream::Tcp(stream) => stream.as_fd(),
        }
    }
}
