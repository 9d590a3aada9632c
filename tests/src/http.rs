//! One HTTP/1.1 request over any stream: enough to push to a registry and to talk to a daemon without a client.

use std::io::{BufRead, BufReader, Error, Read, Result, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Asks `127.0.0.1:port`.
pub fn local(port: u16, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
    at(&format!("127.0.0.1:{port}"), method, target, headers, body)
}

/// Asks `address:port`; gives up after some seconds.
pub fn at(address: &str, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
    let address = address.parse().map_err(Error::other)?;
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    over(stream, method, target, headers, body)
}

/// Asks a daemon on its unix socket.
pub fn unix(socket: &Path, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    over(stream, method, target, headers, body)
}

/// Asks over a connection, which ends with the answer.
pub fn over(
    mut stream: impl Read + Write,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Answer> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut reader = BufReader::new(stream);
    let status = line(&mut reader)?;
    let number = status.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = number.ok_or_else(|| Error::other(format!("not an HTTP answer: {status:?}")))?;
    let mut headers = Vec::new();
    loop {
        let line = line(&mut reader)?;
        match line.split_once(':') {
            Some((name, value)) => headers.push((name.to_owned(), value.trim().to_owned())),
            None => break,
        }
    }
    let mut answer = Answer {
        status,
        headers,
        body: Vec::new(),
    };
    if answer
        .header("transfer-encoding")
        .is_some_and(|value| value == "chunked")
    {
        loop {
            let size = line(&mut reader)?;
            let size = u64::from_str_radix(size.trim(), 16).map_err(Error::other)?;
            (&mut reader).take(size).read_to_end(&mut answer.body)?;
            line(&mut reader)?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = answer.header("content-length") {
        let length = length.parse().map_err(Error::other)?;
        if method != "HEAD" {
            reader.take(length).read_to_end(&mut answer.body)?;
        }
    } else {
        reader.read_to_end(&mut answer.body)?;
    }
    Ok(answer)
}

fn line(reader: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}
