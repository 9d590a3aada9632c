//! The name server of containers on networks of one's own: `127.0.0.11` in each of them.
//!
//! One thread for each container, inside its network namespace, waits at two sockets. What the networks know by name is
//! answered; everything else goes to the servers that the container, the daemon or the host names, from inside the
//! namespace, so that a container without a way out has none by this either. Servers on the host's loopback are asked
//! from outside. The sockets listen at ports of the kernel's choice, to which the packet filter of the namespace sends
//! port 53: a name server may run in a container. Nothing here outlives the daemon; the next one serves anew.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sys::wake::{Interest, Wake, wait};

use crate::dns::{self, Code, Question};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::firewall;
use crate::netns::Sandbox;

/// Where containers find it.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// How long one server may take.
const PATIENCE: Duration = Duration::from_secs(4);
/// Queries of one container under way to other servers; more are dropped, and asked again.
const MOST: u32 = 100;
/// Longest message over UDP that is taken in, bytes.
const LARGEST: usize = 4096;
const STACK: usize = 64 * 1024;

/// What the networks know.
pub trait Names: Send + Sync {
    /// The addresses that a name has for this container; `None` if it is nobody's.
    fn lookup(&self, name: &str) -> Option<Vec<Ipv4Addr>>;
    /// The name of an address, with its network: `web.n1`.
    fn name_of(&self, address: Ipv4Addr) -> Option<String>;
}

/// Serves one container until it is dropped.
#[derive(Debug)]
pub struct Resolver {
    stop: Arc<Wake>,
    thread: Option<JoinHandle<()>>,
}

impl Resolver {
    /// Starts serving in a sandbox. `servers` are asked in order for what nobody here is called.
    pub fn start(sandbox: &Sandbox, names: Arc<dyn Names>, servers: Vec<IpAddr>) -> Result<Resolver> {
        let stop = Arc::new(Wake::new().what(|| "make a wake for a resolver".to_owned())?);
        let (namespace, wake) = (sandbox.open()?, stop.clone());
        let shown = sandbox.path().display().to_string();
        let (ready, started) = sync_channel::<Result<()>>(1);
        let work = move || {
            let opened = sys::namespace::join(&namespace, sys::namespace::NEWNET)
                .what(|| format!("enter network namespace {shown}"))
                .and_then(|()| open());
            // It is in the namespace now, and so is every thread that it starts.
            drop(namespace);
            match opened {
                Ok((udp, tcp)) => {
                    let _ = ready.send(Ok(()));
                    let server = Server {
                        names,
                        servers,
                        busy: AtomicU32::new(0),
                    };
                    serve(&Arc::new(server), &udp, &tcp, &wake);
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        };
        let thread = thread::Builder::new().name("resolver".into()).stack_size(STACK);
        let thread = thread.spawn(work).what(|| "start a thread for a resolver".to_owned())?;
        let ended = || Err(Error::new(ErrorKind::System, "the resolver's thread ended"));
        started.recv().unwrap_or_else(|_| ended())?;
        Ok(Resolver {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.stop.set();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The sockets, with port 53 led to them.
fn open() -> Result<(UdpSocket, TcpListener)> {
    let listen = |port| -> io::Result<(UdpSocket, TcpListener)> {
        Ok((UdpSocket::bind((ADDRESS, port))?, TcpListener::bind((ADDRESS, port))?))
    };
    let (udp, tcp) = listen(0).what(|| format!("listen at {ADDRESS}"))?;
    let ports = udp
        .local_addr()
        .and_then(|udp| Ok((udp.port(), tcp.local_addr()?.port())));
    let (udp_port, tcp_port) = ports.what(|| format!("look at the ports of {ADDRESS}"))?;
    if firewall::redirect_dns(udp_port, tcp_port).is_ok() || by_iptables(udp_port, tcp_port) {
        return Ok((udp, tcp));
    }
    // No NAT in this kernel: the port itself, as long as nobody in the container wants it.
    listen(53).what(|| format!("listen at {ADDRESS}:53"))
}

/// The same by iptables, in a chain of our own, emptied of what a daemon before us led elsewhere.
fn by_iptables(udp: u16, tcp: u16) -> bool {
    const CHAIN: &str = "BALENA-RESOLVER";
    let address = ADDRESS.to_string();
    let run = |words: &[&str]| {
        let mut command = Command::new("iptables");
        command.args(["-w", "-t", "nat"]).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let lead = |protocol: &str, port: u16| {
        let to = format!("{address}:{port}");
        let target = ["-j", "DNAT", "--to-destination", &to];
        run(&[&["-A", CHAIN, "-p", protocol, "--dport", "53"][..], &target].concat())
    };
    let jump = ["OUTPUT", "-d", &address, "-j", CHAIN];
    let made = run(&["-N", CHAIN]) || run(&["-F", CHAIN]);
    made && lead("udp", udp)
        && lead("tcp", tcp)
        && (run(&[&["-C"][..], &jump].concat()) || run(&[&["-A"][..], &jump].concat()))
}

struct Server {
    names: Arc<dyn Names>,
    servers: Vec<IpAddr>,
    busy: AtomicU32,
}

fn serve(server: &Arc<Server>, udp: &UdpSocket, tcp: &TcpListener, stop: &Wake) {
    let _ = udp.set_nonblocking(true);
    let _ = tcp.set_nonblocking(true);
    let mut buffer = vec![0u8; LARGEST];
    loop {
        let fds = [
            (stop.as_fd(), Interest::Read),
            (udp.as_fd(), Interest::Read),
            (tcp.as_fd(), Interest::Read),
        ];
        let ready = match wait(&fds, None) {
            Ok(ready) => ready,
            Err(e) => return log::error!("resolver: wait for queries: {e}"),
        };
        if ready[0].read {
            return;
        }
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            datagram(server, udp, &buffer[..length], from);
        }
        while let Ok((stream, _)) = tcp.accept() {
            let server = server.clone();
            in_background(&server.clone(), move || connection(&server, stream));
        }
    }
}

fn datagram(server: &Arc<Server>, udp: &UdpSocket, query: &[u8], from: SocketAddr) {
    // A reply that cannot be sent is asked for again.
    if let Some(reply) = own(&*server.names, query) {
        let _ = udp.send_to(&reply, from);
        return;
    }
    let Ok(udp) = udp.try_clone() else { return };
    let (query, asked) = (query.to_vec(), server.clone());
    in_background(server, move || {
        if let Some(reply) = elsewhere(&asked.servers, &query, over_udp) {
            let _ = udp.send_to(&reply, from);
        }
    });
}

/// Runs work on a thread of its own, unless there are too many.
fn in_background(server: &Arc<Server>, work: impl FnOnce() + Send + 'static) {
    struct Busy(Arc<Server>);
    impl Drop for Busy {
        fn drop(&mut self) {
            self.0.busy.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let before = server.busy.fetch_add(1, Ordering::Relaxed);
    let busy = Busy(server.clone());
    if before >= MOST {
        return;
    }
    let spawned = thread::Builder::new()
        .name("query".into())
        .stack_size(STACK)
        .spawn(move || {
            let _busy = busy;
            work();
        });
    if let Err(e) = spawned {
        log::warn!("resolver: start a thread for a query: {e}");
    }
}

/// A client over TCP: messages with their length before them.
fn connection(server: &Arc<Server>, mut stream: TcpStream) {
    let _ = stream.set_nonblocking(false);
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let _ = stream.set_write_timeout(Some(PATIENCE));
    while let Ok(query) = framed(&mut stream) {
        let reply = own(&*server.names, &query).or_else(|| elsewhere(&server.servers, &query, over_tcp));
        let Some(reply) = reply else { return };
        if write_framed(&mut stream, &reply).is_err() {
            return;
        }
    }
}

fn framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

fn write_framed(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], message].concat())
}

/// The answer, if the networks know one.
fn own(names: &dyn Names, query: &[u8]) -> Option<Vec<u8>> {
    let question = dns::question(query)?;
    if question.kind == dns::PTR {
        let name = names.name_of(dns::reversed(&question.name)?)?;
        return Some(dns::pointer(query, &question, &name));
    }
    let mut addresses = names.lookup(&question.name)?;
    if question.kind != dns::A {
        // The name is there, and has none of what is asked for.
        addresses.clear();
    }
    Some(dns::addresses(query, &question, &addresses))
}

/// Asks the servers in order; the first that replies has the word.
fn elsewhere(servers: &[IpAddr], query: &[u8], ask: fn(SocketAddr, &[u8]) -> io::Result<Vec<u8>>) -> Option<Vec<u8>> {
    let question: Question = dns::question(query)?;
    for server in servers {
        match ask(SocketAddr::new(*server, 53), query) {
            // Not somebody else's reply that came by.
            Ok(reply) if reply.len() >= 12 && reply[..2] == query[..2] => return Some(reply),
            Ok(_) => {}
            Err(e) => log::debug!("resolver: ask {server} for {:?}: {e}", question.name),
        }
    }
    Some(dns::failure(query, &question, Code::ServerFailure))
}

fn over_udp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = outside_for(server, move || UdpSocket::bind((any, 0)))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(query)?;
    let mut reply = vec![0; LARGEST];
    let length = socket.recv(&mut reply)?;
    reply.truncate(length);
    Ok(reply)
}

fn over_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = outside_for(server, move || TcpStream::connect_timeout(&server, PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write_framed(&mut stream, query)?;
    framed(&mut stream)
}

/// Makes a socket: for a server on the host's loopback in the host's network namespace, else in this thread's.
fn outside_for<T: Send>(server: SocketAddr, make: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    if !server.ip().is_loopback() {
        return make();
    }
    // The daemon's first thread never left it.
    let host = std::fs::File::open(format!("/proc/{}/ns/net", std::process::id()))?;
    thread::scope(|scope| {
        let inside = move || {
            sys::namespace::join(&host, sys::namespace::NEWNET)?;
            make()
        };
        let handle = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, inside)?;
        handle
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("a thread ended")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Known;

    impl Names for Known {
        fn lookup(&self, name: &str) -> Option<Vec<Ipv4Addr>> {
            (name == "web").then(|| vec![Ipv4Addr::new(10, 0, 0, 2)])
        }
        fn name_of(&self, address: Ipv4Addr) -> Option<String> {
            (address == Ipv4Addr::new(10, 0, 0, 2)).then(|| "web.n1".into())
        }
    }

    fn query(name: &[u8], kind: u8) -> Vec<u8> {
        [&[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], name, &[0, 0, kind, 0, 1]].concat()
    }

    #[test]
    fn own_names() {
        let reply = own(&Known, &query(b"\x03web", 1)).unwrap();
        assert!(reply.ends_with(&[10, 0, 0, 2]));
        // AAAA: the name is there, without such an address.
        assert_eq!(own(&Known, &query(b"\x03web", 28)).unwrap()[3..8], [0x80, 0, 1, 0, 0]);
        assert_eq!(own(&Known, &query(b"\x04else", 1)), None);
        let reverse = query(b"\x012\x010\x010\x0210\x07in-addr\x04arpa", 12);
        assert!(own(&Known, &reverse).unwrap().ends_with(b"\x03web\x02n1\x00"));
    }

    #[test]
    fn nobody_to_ask_is_a_failure() {
        let reply = elsewhere(&[], &query(b"\x04else", 1), over_udp).unwrap();
        assert_eq!(reply[3] & 15, 2);
    }
}
