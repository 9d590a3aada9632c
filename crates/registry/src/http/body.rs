//! The body of a response: its framing (RFC 9112 section 6), and the connection's return to the pool at its end.

use std::io::{self, Read};
use std::sync::Arc;

use super::cancel::Guard;
use super::conn::Conn;
use super::pool::Pool;

/// Most lines of trailers. Nobody reads them.
const MOST_TRAILERS: u32 = 64;

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// This many bytes are left.
    Length(u64),
    /// Chunked; this many bytes are left in the chunk. `None` before the first.
    Chunked(Option<u64>),
    /// Until the server hangs up.
    Close,
}

/// A body being read. Cut short it is an `UnexpectedEof`, never a silent end.
pub struct Body {
    live: Option<(Conn, Guard)>,
    framing: Framing,
    home: Option<(Arc<Pool>, String)>,
}

impl Body {
    pub fn new(conn: Conn, guard: Guard, framing: Framing, home: Option<(Arc<Pool>, String)>) -> Body {
        let mut body = Body {
            live: Some((conn, guard)),
            framing,
            home,
        };
        if framing == Framing::Length(0) {
            body.finish();
        }
        body
    }

    /// Bytes left, where the framing says so.
    pub fn length(&self) -> Option<u64> {
        match self.framing {
            Framing::Length(left) => Some(left),
            Framing::Chunked(_) | Framing::Close => None,
        }
    }

    /// Ends the body: the connection serves the next request, where the framing allows.
    fn finish(&mut self) {
        if let (Some((conn, _)), Some((pool, key))) = (self.live.take(), self.home.take()) {
            pool.put(key, conn);
        }
    }

    /// Reads it all, at most `limit` bytes, in good time. `Ok(None)` when it is longer.
    pub fn read_all(mut self, limit: u64) -> io::Result<Option<Vec<u8>>> {
        if let Some((conn, _)) = &mut self.live {
            conn.hurry();
        }
        let mut bytes = Vec::new();
        (&mut self).take(limit + 1).read_to_end(&mut bytes)?;
        Ok((bytes.len() as u64 <= limit).then_some(bytes))
    }

    /// Reads what is left if that is little, so that the connection can be used again.
    pub fn drain(self) {
        // A failure only costs the connection.
        let _ = self.read_all(64 << 10);
    }

    fn next_chunk(conn: &mut Conn) -> io::Result<u64> {
        let line = conn.read_line()?;
        let digits = line.split(|b| *b == b';').next().unwrap_or(&[]).trim_ascii();
        let text = std::str::from_utf8(digits).unwrap_or("");
        u64::from_str_radix(text, 16)
            .ok()
            .filter(|_| !text.starts_with('+'))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "malformed chunked encoding"))
    }
}

impl Read for Body {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let Some((conn, _)) = &mut self.live else { return Ok(0) };
        if out.is_empty() {
            return Ok(0);
        }
        let left = match self.framing {
            Framing::Length(left) | Framing::Chunked(Some(left)) => left,
            Framing::Close => u64::MAX,
            Framing::Chunked(None) => {
                let size = Body::next_chunk(conn)?;
                if size == 0 {
                    // Trailers, up to the empty line.
                    let mut lines = 0;
                    while !conn.read_line()?.is_empty() {
                        lines += 1;
                        if lines > MOST_TRAILERS {
                            return Err(io::Error::new(io::ErrorKind::InvalidData, "too many trailers"));
                        }
                    }
                    self.finish();
                    return Ok(0);
                }
                self.framing = Framing::Chunked(Some(size));
                size
            }
        };
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(out.len());
        let n = conn.read(&mut out[..most])?;
        if n == 0 {
            self.live = None;
            return match self.framing {
                Framing::Close => Ok(0),
                _ => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
        let left = left - n as u64;
        match self.framing {
            Framing::Length(_) => {
                self.framing = Framing::Length(left);
                if left == 0 {
                    self.finish();
                }
            }
            Framing::Chunked(_) if left == 0 => {
                if !conn.read_line()?.is_empty() {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "malformed chunked encoding"));
                }
                self.framing = Framing::Chunked(None);
            }
            Framing::Chunked(_) => self.framing = Framing::Chunked(Some(left)),
            Framing::Close => {}
        }
        Ok(n)
    }
}
