//! One connection to a server: TCP, through a proxy or not, with TLS or not, and the head of a message over it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::cancel::{Cancel, Guard};
use super::proxy::Proxy;
use super::tls;
use super::url::{Scheme, Url};

/// Largest head of a response, bytes. Go's transport allows 1 MB; no registry needs 64 KB.
const HEAD_LIMIT: usize = 64 << 10;
const BUFFER: usize = 16 << 10;
/// Most notes on the way to an answer (1xx), as in Go.
const MOST_NOTES: u32 = 5;
/// Most addresses of a name that are tried.
const MOST_ADDRESSES: usize = 16;
/// How long the first address of a family is tried before the other family's; an answer takes less on most networks.
const MOMENT: Duration = Duration::from_secs(1);
/// Least that an address is tried for, as in Go.
const LEAST: Duration = Duration::from_secs(2);
/// How many stalls' time a handshake, a head, or an answer that is read whole may take: ten minutes, as a rule.
const PATIENCE: u32 = 10;

/// Bounds of a socket's receive buffer that we choose, bytes.
const SMALLEST_RECEIVE_BUFFER: usize = 64 << 10;
const LARGEST_RECEIVE_BUFFER: usize = 1 << 20;

/// Why a connection did not come about.
#[derive(Debug)]
pub struct DialError {
    /// In the words of Go's `net`.
    pub message: String,
    /// The other side does not speak TLS, or with a certificate we do not take: a registry that may be
    /// insecure is then tried in the clear.
    pub tls: bool,
}

/// TLS lies over a socket, or over TLS to a proxy.
enum Stream {
    Plain(Socket),
    Tls(Box<StreamOwned<ClientConnection, Stream>>),
}

/// A socket, and when its peer has had all of our patience: one that sends a byte at a time never stalls.
struct Socket {
    tcp: TcpStream,
    until: Option<Instant>,
}

impl Stream {
    fn socket(&self) -> &Socket {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(tls) => tls.sock.socket(),
        }
    }

    fn socket_mut(&mut self) -> &mut Socket {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(tls) => tls.sock.socket_mut(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(Socket { until: Some(until), .. }) if *until <= Instant::now() => {
                Err(io::ErrorKind::TimedOut.into())
            }
            Stream::Plain(socket) => socket.tcp.read(out),
            Stream::Tls(tls) => tls.read(out),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.tcp.write(bytes),
            Stream::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(socket) => socket.tcp.flush(),
            Stream::Tls(tls) => tls.flush(),
        }
    }
}

/// A connection with its read buffer.
pub struct Conn {
    stream: Stream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Sends absolute targets: plain HTTP through a proxy.
    pub absolute: bool,
    /// Longest that the head of an answer may take, and an answer that is read whole.
    patience: Duration,
}

/// What a connection needs to come about.
pub struct Dial<'a> {
    pub url: &'a Url,
    pub proxy: Option<&'a Proxy>,
    /// For a proxy that is spoken to by TLS.
    pub proxy_tls: Option<Arc<ClientConfig>>,
    pub tls: Option<Arc<ClientConfig>>,
    pub connect_timeout: Duration,
    /// Longest wait for a single read or write.
    pub stall_timeout: Duration,
    /// Bytes a second that will be read at most, if that is known.
    pub read_rate: Option<u64>,
    pub cancel: &'a Cancel,
}

impl Conn {
    pub fn open(dial: &Dial<'_>) -> Result<(Conn, Guard), DialError> {
        let url = dial.url;
        let (host, port) = match dial.proxy {
            Some(proxy) => (proxy.host.as_str(), proxy.port),
            None => (url.host.as_str(), url.port),
        };
        // Go says so of everything that goes wrong on the way to a proxy: the registry is not to blame.
        let by = if dial.proxy.is_some() { "proxyconnect tcp: " } else { "" };
        let (tcp, round_trip) =
            connect(host, port, dial.connect_timeout, dial.cancel).map_err(|message| DialError {
                message: format!("{by}{message}"),
                tls: false,
            })?;
        let io = |e: io::Error| DialError {
            message: go_words(&e),
            tls: false,
        };
        let guard = dial.cancel.guard(&tcp).map_err(io)?;
        tcp.set_read_timeout(Some(dial.stall_timeout)).map_err(io)?;
        tcp.set_write_timeout(Some(dial.stall_timeout)).map_err(io)?;
        if let Some(rate) = dial.read_rate {
            rustix::net::sockopt::set_socket_recv_buffer_size(&tcp, receive_buffer(rate, round_trip))
                .map_err(|e| io(e.into()))?;
        }
        // Requests are small and answered at once; Nagle would hold the last piece back.
        tcp.set_nodelay(true).map_err(io)?;
        let mut conn = Conn {
            stream: Stream::Plain(Socket { tcp, until: None }),
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
            absolute: dial.proxy.is_some() && url.scheme == Scheme::Http,
            patience: dial.stall_timeout.saturating_mul(PATIENCE),
        };
        conn.hurry();
        if let (Some(proxy), Some(config)) = (dial.proxy, &dial.proxy_tls) {
            conn = conn.handshake(config.clone(), &proxy.host).map_err(|e| DialError {
                message: format!("{by}{}", e.message),
                tls: false,
            })?;
        }
        if let (Some(proxy), Scheme::Https) = (dial.proxy, url.scheme) {
            conn.tunnel(proxy, url)
                .map_err(|message| DialError { message, tls: false })?;
        }
        if let Some(config) = &dial.tls {
            conn = conn.handshake(config.clone(), &url.host)?;
        }
        Ok((conn, guard))
    }

    /// From now on all that comes has to come in good time, however little the peer waits in between.
    pub fn hurry(&mut self) {
        self.stream.socket_mut().until = Instant::now().checked_add(self.patience);
    }

    /// What comes from now on may take its time, but for a stall: a layer on a slow link.
    pub fn bide(&mut self) {
        self.stream.socket_mut().until = None;
    }

    /// Asks a proxy for a tunnel (RFC 9110 section 9.3.6).
    fn tunnel(&mut self, proxy: &Proxy, url: &Url) -> Result<(), String> {
        let target = url.host_port();
        let mut head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(value) = &proxy.authorization {
            head.push_str(&format!("Proxy-Authorization: {value}\r\n"));
        }
        head.push_str("\r\n");
        let ask = |conn: &mut Conn| {
            conn.write_all(head.as_bytes())?;
            conn.read_head()
        };
        let head = ask(self).map_err(|e| format!("proxyconnect tcp: {}", go_words(&e)))?;
        if head.status != 200 {
            // `Proxy Authentication Required`, as Go has it.
            let (status, reason) = head.reason.split_once(' ').unwrap_or((&head.reason, ""));
            return Err(if reason.is_empty() { status } else { reason }.to_owned());
        }
        Ok(())
    }

    fn handshake(self, config: Arc<ClientConfig>, host: &str) -> Result<Conn, DialError> {
        let fail = |message: String| DialError { message, tls: true };
        let mut below = self.stream;
        let name =
            ServerName::try_from(host.to_owned()).map_err(|_| fail(format!("tls: invalid server name {host}")))?;
        let mut session = ClientConnection::new(config, name).map_err(|e| fail(tls::describe(&e, host)))?;
        while session.is_handshaking() {
            if let Err(e) = session.complete_io(&mut below) {
                // Who hangs up said why before that, perhaps while we were writing.
                let said = match e.kind() {
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => session
                        .read_tls(&mut below)
                        .ok()
                        .and_then(|_| session.process_new_packets().err()),
                    _ => None,
                };
                let inner = said.as_ref().or(tls_error(&e));
                let message = inner.map_or_else(|| go_words(&e), |inner| tls::describe(inner, host));
                return Err(fail(message));
            }
        }
        Ok(Conn {
            stream: Stream::Tls(Box::new(StreamOwned::new(session, below))),
            ..self
        })
    }

    pub fn socket(&self) -> &TcpStream {
        &self.stream.socket().tcp
    }

    fn fill(&mut self) -> io::Result<usize> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let n = read_stream(&mut self.stream, &mut self.buffer[self.end..])?;
        self.end += n;
        Ok(n)
    }

    fn buffered(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Reads the head of a response. The server's hanging up before its first byte is `UnexpectedEof`.
    pub fn read_head(&mut self) -> io::Result<Head> {
        let mut notes = 0;
        loop {
            if let Some(head) = parse_head(self.buffered())? {
                self.start += head.length;
                // 1xx are notes on the way to the answer (RFC 9110 section 15.2).
                if (100..200).contains(&head.status) {
                    notes += 1;
                    if notes > MOST_NOTES {
                        let text = "net/http: too many 1xx informational responses";
                        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                    }
                    continue;
                }
                self.buffer.truncate(BUFFER.max(self.end));
                return Ok(head);
            }
            if self.buffered().len() >= HEAD_LIMIT {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "net/http: server response headers exceeded 65536 bytes",
                ));
            }
            if self.end == self.buffer.len() && self.start == 0 {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads a line of a chunked body, without its end. At most 4 KiB.
    pub fn read_line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.buffered().iter().position(|b| *b == b'\n') {
                let line = self.buffered()[..at].trim_ascii_end().to_vec();
                self.start += at + 1;
                return Ok(line);
            }
            if self.buffered().len() > 4096 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "chunk header too long"));
            }
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

impl Read for Conn {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.start == self.end {
            // Large reads go past the buffer: one copy less for layers.
            if out.len() >= BUFFER {
                return read_stream(&mut self.stream, out);
            }
            if self.fill()? == 0 {
                return Ok(0);
            }
        }
        let n = out.len().min(self.end - self.start);
        out[..n].copy_from_slice(&self.buffer[self.start..self.start + n]);
        self.start += n;
        Ok(n)
    }
}

impl Write for Conn {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn read_stream(stream: &mut Stream, out: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(out) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Bytes that the kernel may receive ahead of who reads so many a second, from a server that answers after `round_trip`:
/// what comes in twice that time, and in the hundredth of a second in which a reader may be late. More would only come
/// for nothing when a pull is cut, and left to itself the kernel makes it megabytes.
fn receive_buffer(rate: u64, round_trip: Duration) -> usize {
    let time = round_trip.min(Duration::from_secs(1)) * 2 + Duration::from_millis(10);
    let bytes = u128::from(rate) * time.as_micros() / 1_000_000;
    usize::try_from(bytes).map_or(LARGEST_RECEIVE_BUFFER, |bytes| {
        bytes.clamp(SMALLEST_RECEIVE_BUFFER, LARGEST_RECEIVE_BUFFER)
    })
}

/// A connection, and how long the other side took to answer (RFC 9293 section 3.5).
fn connect(host: &str, port: u16, timeout: Duration, cancel: &Cancel) -> Result<(TcpStream, Duration), String> {
    let addresses: Vec<SocketAddr> = (host, port)
        .to_socket_addrs()
        .map_err(|_| format!("dial tcp: lookup {host}: no such host"))?
        .take(MOST_ADDRESSES)
        .collect();
    let mut last = format!("dial tcp: lookup {host}: no such host");
    for (address, timeout) in attempts(&addresses, timeout) {
        if cancel.is_cancelled() {
            break;
        }
        let begun = Instant::now();
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(tcp) => return Ok((tcp, begun.elapsed())),
            Err(e) if e.kind() == io::ErrorKind::TimedOut => last = format!("dial tcp {address}: i/o timeout"),
            Err(e) => last = format!("dial tcp {address}: connect: {}", go_words(&e)),
        }
    }
    Err(last)
}

/// Whom to try, in order, and for how long.
///
/// Where there are addresses of both families, the first of each has a moment before anything else: a network whose IPv6
/// leads nowhere would cost the whole time for each connection. Then all share the time, as in Go.
fn attempts(addresses: &[SocketAddr], timeout: Duration) -> Vec<(SocketAddr, Duration)> {
    let first_of = |v6: bool| addresses.iter().position(|address| address.is_ipv6() == v6);
    let mut plan = Vec::new();
    if let (Some(v4), Some(v6)) = (first_of(false), first_of(true)) {
        let short = MOMENT.min(timeout);
        plan.extend([v4.min(v6), v4.max(v6)].map(|at| (addresses[at], short)));
    }
    let share = timeout / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let share = share.max(LEAST.min(timeout));
    plan.extend(addresses.iter().map(|address| (*address, share)));
    plan
}

/// An I/O error as Go prints it: what Docker's users search for.
pub fn go_words(error: &io::Error) -> String {
    if let Some(rustls::Error::AlertReceived(alert)) = tls_error(error) {
        return format!("remote error: tls: {}", alert_words(&format!("{alert:?}")));
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset by peer".to_owned(),
        io::ErrorKind::BrokenPipe => "broken pipe".to_owned(),
        io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "i/o timeout".to_owned(),
        io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        _ => error.to_string(),
    }
}

/// What TLS said, where an I/O error is its.
pub fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// An alert as Go's `crypto/tls` names it: `BadCertificate` is `bad certificate`, most of the time.
fn alert_words(name: &str) -> String {
    let odd = match name {
        "BadRecordMac" => "bad record MAC",
        "CertificateExpired" => "expired certificate",
        "CertificateRevoked" => "revoked certificate",
        "CertificateUnknown" => "unknown certificate",
        "DecodeError" => "error decoding message",
        "DecryptError" => "error decrypting message",
        "InsufficientSecurity" => "insufficient security level",
        "ProtocolVersion" => "protocol version not supported",
        "UnknownCA" => "unknown certificate authority",
        _ => "",
    };
    if !odd.is_empty() {
        return odd.to_owned();
    }
    let mut words = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(c.to_ascii_lowercase());
    }
    words
}

/// The head of a response.
#[derive(Debug)]
pub struct Head {
    pub status: u16,
    /// `404 Not Found`, as the server wrote it.
    pub reason: String,
    pub headers: Vec<(String, String)>,
    /// HTTP/1.1 and not 1.0.
    pub persistent: bool,
    pub length: usize,
}

fn parse_head(bytes: &[u8]) -> io::Result<Option<Head>> {
    let mut fields = [httparse::EMPTY_HEADER; 96];
    let mut response = httparse::Response::new(&mut fields);
    let malformed = |e: httparse::Error| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("net/http: malformed HTTP response: {e}"),
        )
    };
    let httparse::Status::Complete(length) = response.parse(bytes).map_err(malformed)? else {
        return Ok(None);
    };
    let status = response.code.unwrap_or(0);
    let headers = response
        .headers
        .iter()
        .map(|h| {
            (
                h.name.to_ascii_lowercase(),
                String::from_utf8_lossy(h.value).into_owned(),
            )
        })
        .collect();
    Ok(Some(Head {
        status,
        reason: format!("{status} {}", response.reason.unwrap_or(""))
            .trim_end()
            .to_owned(),
        headers,
        persistent: response.version == Some(1),
        length,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receive_buffer_is_as_large_as_the_way_is_long() {
        let ms = Duration::from_millis;
        for (rate, round_trip, bytes) in [
            (2_000_000, ms(0), 64 << 10),
            (12_000_000, ms(0), 120_000),
            (12_000_000, ms(20), 600_000),
            (12_000_000, ms(200), 1 << 20),
            (1, ms(30_000), 64 << 10),
            (u64::MAX, ms(30_000), 1 << 20),
            (u64::MAX, Duration::MAX / 4, 1 << 20),
        ] {
            assert_eq!(receive_buffer(rate, round_trip), bytes, "{rate} {round_trip:?}");
        }
    }

    fn plan(addresses: &[&str]) -> Vec<(String, u64)> {
        let addresses: Vec<SocketAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        attempts(&addresses, Duration::from_secs(30))
            .into_iter()
            .map(|(address, time)| (address.to_string(), time.as_secs()))
            .collect()
    }

    #[test]
    fn a_family_that_leads_nowhere_costs_a_moment() {
        let (v4, other, v6) = ("10.0.0.1:443", "10.0.0.2:443", "[fd00::1]:443");
        let of =
            |list: &[(&str, u64)]| -> Vec<(String, u64)> { list.iter().map(|(a, t)| (a.to_string(), *t)).collect() };
        assert_eq!(plan(&[v4]), of(&[(v4, 30)]));
        assert_eq!(plan(&[v4, other]), of(&[(v4, 15), (other, 15)]));
        assert_eq!(
            plan(&[v6, v4, other]),
            of(&[(v6, 1), (v4, 1), (v6, 10), (v4, 10), (other, 10)])
        );
        assert_eq!(plan(&[]), of(&[]));
        assert!(plan(&[v4; 16]).iter().all(|(_, time)| *time == 2));
    }
}
