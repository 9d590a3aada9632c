//! The userland proxy: a process that forwards one published port, where the kernel cannot or may not.
//!
//! Command line is `docker-proxy`'s. It writes one line to its standard output, `0` once it has the port or why
//! not, and closes it. TCP and UDP; a thread per connection direction, with 32 KiB each.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::portmap::Protocol;

/// The line that says all is well.
pub const READY: &str = "0";
/// How long a UDP client is remembered: Docker's 90 seconds.
const UDP_IDLE: Duration = Duration::from_secs(90);
const UDP_CLIENTS: usize = 1024;
const STACK: usize = 96 << 10;

/// What to forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    pub protocol: Protocol,
    pub host: SocketAddr,
    pub container: SocketAddr,
}

impl Forward {
    /// Parses `-proto tcp -host-ip IP -host-port N -container-ip IP -container-port N`; `--` and `=` also do.
    pub fn parse(args: &[String]) -> Result<Forward, String> {
        let mut values: HashMap<&str, &str> = HashMap::new();
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let flag = arg
                .strip_prefix("--")
                .or_else(|| arg.strip_prefix('-'))
                .ok_or(format!("unexpected argument {arg}"))?;
            match flag.split_once('=') {
                Some((name, value)) => values.insert(name, value),
                // Newer dockers hand a listening socket over by this; ours does not.
                None if flag == "use-listen-fd" => None,
                None => values.insert(flag, rest.next().ok_or(format!("flag needs an argument: -{flag}"))?),
            };
        }
        let get = |name: &str, default: &'static str| values.get(name).copied().unwrap_or(default);
        let address = |ip: &str, port: &str| -> Result<SocketAddr, String> {
            let bad = |what: &str| format!("invalid {what}");
            let address: IpAddr = get(ip, "").parse().map_err(|_| bad(ip))?;
            Ok(SocketAddr::new(address, get(port, "").parse().map_err(|_| bad(port))?))
        };
        let protocol: Protocol = get("proto", "tcp").parse().map_err(|e: crate::Error| e.to_string())?;
        if protocol == Protocol::Sctp {
            return Err("unsupported protocol sctp".to_owned());
        }
        Ok(Forward {
            protocol,
            host: address("host-ip", "host-port")?,
            container: address("container-ip", "container-port")?,
        })
    }
}

/// The process: forwards until it is ended. Its exit status.
pub fn main_proxy(args: &[String]) -> i32 {
    let failed = |text: String| {
        println!("{text}");
        1
    };
    let forward = match Forward::parse(args) {
        Ok(forward) => forward,
        Err(text) => return failed(text),
    };
    let host = forward.host;
    let family = if host.is_ipv4() { 4 } else { 6 };
    let describe = |e: io::Error| {
        let text = if e.kind() == io::ErrorKind::AddrInUse {
            "address already in use".to_owned()
        } else {
            e.to_string()
        };
        format!("listen {}{family} {host}: bind: {text}", forward.protocol)
    };
    match forward.protocol {
        Protocol::Udp => match bind(host, SocketType::DGRAM) {
            Ok(socket) => {
                ready();
                serve_udp(&Arc::new(socket.into()), forward.container);
            }
            Err(e) => return failed(describe(e)),
        },
        _ => match bind(host, SocketType::STREAM) {
            Ok(listener) => {
                ready();
                serve_tcp(&listener.into(), forward.container);
            }
            Err(e) => return failed(describe(e)),
        },
    }
    0
}

/// Binds the host's side: IPv6 without IPv4, which is another proxy's.
fn bind(host: SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = if host.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    if host.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if kind == SocketType::STREAM {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &host)?;
    if kind == SocketType::STREAM {
        rustix::net::listen(&socket, 128)?;
    }
    Ok(socket)
}

fn ready() {
    let mut out = io::stdout();
    // Whoever started us may have gone; the port is served all the same.
    let _ = writeln!(out, "{READY}").and_then(|()| out.flush());
    if let Ok(null) = std::fs::OpenOptions::new().write(true).open("/dev/null") {
        // Closes the pipe, so that the reader sees its end.
        let _ = rustix::stdio::dup2_stdout(null);
    }
}

/// Forwards connections until accepting fails for good.
pub fn serve_tcp(listener: &TcpListener, container: SocketAddr) {
    loop {
        let client = match listener.accept() {
            Ok((client, _)) => client,
            // No descriptors left, or the client went away: wait for better times.
            Err(_) => {
                thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        // Without a thread the client is dropped, which tells it.
        let _ = thread::Builder::new().stack_size(STACK).spawn(move || {
            let Ok(server) = TcpStream::connect_timeout(&container, Duration::from_secs(30)) else {
                return;
            };
            let (Ok(client_in), Ok(server_in)) = (client.try_clone(), server.try_clone()) else {
                return;
            };
            let back = thread::Builder::new()
                .stack_size(STACK)
                .spawn(move || pump(server_in, client));
            pump(client_in, server);
            if let Ok(back) = back {
                let _ = back.join();
            }
        });
    }
}

/// Copies one direction, and passes its end on: a half-closed connection stays half open.
fn pump(mut from: TcpStream, mut to: TcpStream) {
    // A broken side shows as the end of the other.
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}

/// Forwards datagrams: each client gets a socket of its own towards the container.
pub fn serve_udp(socket: &Arc<UdpSocket>, container: SocketAddr) {
    let clients: Arc<Mutex<HashMap<SocketAddr, Arc<UdpSocket>>>> = Arc::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        // Refusals for earlier answers are reported here; they concern one client only.
        let Ok((length, client)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let known = clients
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&client)
            .cloned();
        let server = match known {
            Some(server) => server,
            None => match udp_client(socket, client, container, &clients) {
                Some(server) => server,
                None => continue,
            },
        };
        let _ = server.send(&buffer[..length]);
    }
}

fn udp_client(
    socket: &Arc<UdpSocket>,
    client: SocketAddr,
    container: SocketAddr,
    clients: &Arc<Mutex<HashMap<SocketAddr, Arc<UdpSocket>>>>,
) -> Option<Arc<UdpSocket>> {
    let any: SocketAddr = if container.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0; 16], 0).into()
    };
    let server = UdpSocket::bind(any).ok()?;
    server.connect(container).ok()?;
    server.set_read_timeout(Some(UDP_IDLE)).ok()?;
    let server = Arc::new(server);
    {
        let mut known = clients.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= UDP_CLIENTS {
            return None;
        }
        known.insert(client, server.clone());
    }
    let (socket, clients, answers) = (socket.clone(), clients.clone(), server.clone());
    let spawned = thread::Builder::new().stack_size(STACK).spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length) = answers.recv(&mut buffer) {
            if socket.send_to(&buffer[..length], client).is_err() {
                break;
            }
        }
        clients.lock().unwrap_or_else(PoisonError::into_inner).remove(&client);
    });
    spawned.ok().map(|_| server)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn parse(line: &str) -> Result<Forward, String> {
        Forward::parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn command_line() {
        let forward =
            parse("-proto udp -host-ip 0.0.0.0 -host-port 53 --container-ip=172.17.0.2 -container-port 5353").unwrap();
        assert_eq!(forward.protocol, Protocol::Udp);
        assert_eq!(forward.container.to_string(), "172.17.0.2:5353");
        for bad in [
            "-proto x",
            "-host-ip",
            "what",
            "-proto tcp -host-ip 1.2.3.4 -host-port x",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn forwards_tcp_with_half_close() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = server.local_addr().unwrap();
        thread::spawn(move || {
            let mut stream = server.accept().unwrap().0;
            let mut all = String::new();
            stream.read_to_string(&mut all).unwrap();
            stream.write_all(all.to_uppercase().as_bytes()).unwrap();
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap();
        thread::spawn(move || serve_tcp(&listener, target));
        let mut client = TcpStream::connect(port).unwrap();
        client.write_all(b"hello").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "HELLO");
    }

    #[test]
    fn forwards_udp() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let target = server.local_addr().unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 100];
            while let Ok((n, from)) = server.recv_from(&mut buffer) {
                server.send_to(&buffer[..n], from).unwrap();
            }
        });
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        let port = socket.local_addr().unwrap();
        thread::spawn(move || serve_udp(&socket, target));
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        for text in [b"one", b"two"] {
            client.send_to(text, port).unwrap();
            let mut buffer = [0; 100];
            let n = client.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..n], text);
        }
    }
}
