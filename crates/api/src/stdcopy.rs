//! Two output streams on one connection: Docker's frames of `[stream, 0, 0, 0, length as u32 big-endian]` and bytes.

use std::io::{self, Read, Write};

/// Bytes before each frame.
pub const HEADER: usize = 8;

/// Which stream a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdin,
    Stdout,
    Stderr,
    /// An error of the daemon's own, after which nothing follows.
    SystemError,
}

/// The header of a frame with `length` bytes.
pub fn header(stream: Stream, length: u32) -> [u8; HEADER] {
    let number = match stream {
        Stream::Stdin => 0,
        Stream::Stdout => 1,
        Stream::Stderr => 2,
        Stream::SystemError => 3,
    };
    let [a, b, c, d] = length.to_be_bytes();
    [number, 0, 0, 0, a, b, c, d]
}

/// Reads a header; `None` for a stream number that does not exist.
pub fn parse(header: [u8; HEADER]) -> Option<(Stream, u32)> {
    let stream = match header[0] {
        0 => Stream::Stdin,
        1 => Stream::Stdout,
        2 => Stream::Stderr,
        3 => Stream::SystemError,
        _ => return None,
    };
    Some((stream, u32::from_be_bytes([header[4], header[5], header[6], header[7]])))
}

/// Copies frames to the two outputs until the input ends; memory is one buffer whatever a frame claims to hold.
pub fn demux(mut input: impl Read, mut stdout: impl Write, mut stderr: impl Write) -> io::Result<()> {
    let mut buffer = [0u8; 16 * 1024];
    loop {
        let mut head = [0u8; HEADER];
        let mut got = 0;
        while got < HEADER {
            match input.read(&mut head[got..]) {
                Ok(0) if got == 0 => return Ok(()),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => got += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        let Some((stream, length)) = parse(head) else {
            return Err(io::Error::other(format!("Unrecognized input header: {}", head[0])));
        };
        let mut left = u64::from(length);
        let mut message = Vec::new();
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(buffer.len()).min(buffer.len());
            let n = input.read(&mut buffer[..want])?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            left -= n as u64;
            match stream {
                Stream::Stdin | Stream::Stdout => stdout.write_all(&buffer[..n])?,
                Stream::Stderr => stderr.write_all(&buffer[..n])?,
                Stream::SystemError if message.len() < 4096 => message.extend_from_slice(&buffer[..n]),
                Stream::SystemError => {}
            }
        }
        match stream {
            Stream::SystemError => {
                let text = String::from_utf8_lossy(&message);
                return Err(io::Error::other(format!("error from daemon in stream: {text}")));
            }
            Stream::Stderr => stderr.flush()?,
            _ => stdout.flush()?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_reach_their_outputs() {
        let mut wire = Vec::new();
        for (stream, text) in [
            (Stream::Stdout, "out"),
            (Stream::Stderr, "err"),
            (Stream::Stdout, "more"),
        ] {
            wire.extend_from_slice(&header(stream, text.len() as u32));
            wire.extend_from_slice(text.as_bytes());
        }
        let (mut out, mut err) = (Vec::new(), Vec::new());
        demux(&wire[..], &mut out, &mut err).unwrap();
        assert_eq!((out.as_slice(), err.as_slice()), (&b"outmore"[..], &b"err"[..]));
        assert!(demux(&wire[..wire.len() - 1], io::sink(), io::sink()).is_err());
        assert!(demux(&[9u8; 8][..], io::sink(), io::sink()).is_err());
        let mut huge = header(Stream::Stdout, u32::MAX).to_vec();
        huge.push(b'x');
        assert!(demux(&huge[..], io::sink(), io::sink()).is_err());
    }
}
