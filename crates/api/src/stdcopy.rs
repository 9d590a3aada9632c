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

/// Reads the header of the next frame; nothing where the input ends between two.
pub fn next(input: &mut impl Read) -> io::Result<Option<(Stream, u32)>> {
    let mut head = [0; HEADER];
    let mut got = 0;
    while got < HEADER {
        match input.read(&mut head[got..]) {
            Ok(0) if got == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    match parse(head) {
        Some(found) => Ok(Some(found)),
        None => Err(io::Error::other(format!("Unrecognized input header: {}", head[0]))),
    }
}

/// Reads the next frame whole; one that claims to have more than `most` bytes is an error.
pub fn read(input: &mut impl Read, most: u32) -> io::Result<Option<(Stream, Vec<u8>)>> {
    let Some((stream, length)) = next(input)? else {
        return Ok(None);
    };
    if length > most {
        return Err(io::Error::other(format!(
            "a frame of {length} bytes, {most} at most are taken"
        )));
    }
    let mut bytes = Vec::new();
    let got = input.take(length.into()).read_to_end(&mut bytes)?;
    match u32::try_from(got) == Ok(length) {
        true => Ok(Some((stream, bytes))),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Writes a frame; one of more than `most` bytes is an error, and nothing of it is written.
pub fn write(out: &mut impl Write, stream: Stream, bytes: &[u8], most: u32) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= most);
    let Some(length) = length else {
        return Err(io::Error::other(format!(
            "{} bytes for a frame, {most} at most are taken",
            bytes.len()
        )));
    };
    out.write_all(&header(stream, length))?;
    out.write_all(bytes)
}

/// Copies frames to the two outputs until the input ends; memory is one buffer whatever a frame claims to hold.
pub fn demux(mut input: impl Read, mut stdout: impl Write, mut stderr: impl Write) -> io::Result<()> {
    let mut buffer = [0u8; 16 * 1024];
    loop {
        let Some((stream, length)) = next(&mut input)? else {
            return Ok(());
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

    /// What is written is read; what is cut off or claims too much is an error.
    #[test]
    fn whole_frames() {
        let mut wire = Vec::new();
        write(&mut wire, Stream::Stdin, b"job", 3).unwrap();
        write(&mut wire, Stream::SystemError, b"", 3).unwrap();
        assert!(write(&mut wire, Stream::Stdout, b"four", 3).is_err());
        let mut rest = &wire[..];
        assert_eq!(read(&mut rest, 3).unwrap(), Some((Stream::Stdin, b"job".to_vec())));
        assert_eq!(read(&mut rest, 3).unwrap(), Some((Stream::SystemError, Vec::new())));
        assert_eq!(read(&mut rest, 3).unwrap(), None);
        assert!(read(&mut &wire[..], 2).is_err());
        for length in 1..HEADER + 3 {
            assert!(read(&mut &wire[..length], 3).is_err(), "{length}");
        }
    }

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
