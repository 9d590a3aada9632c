//! The pipe between the runtime and the init it made: tagged messages one way, single bytes the other.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

/// What a child reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The root filesystem stands; the runtime's hooks may run. The child waits for a go.
    Hooks,
    /// The container is set up; only the program itself may be missing now.
    Ready,
    /// It failed; the text says at what.
    Failed(String),
}

/// One end.
#[derive(Debug)]
pub struct Channel(UnixStream);

impl Channel {
    /// Both ends, close-on-exec.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (parent, child) = UnixStream::pair()?;
        Ok((Self(parent), Self(child)))
    }

    pub fn send(&mut self, message: &Message) -> io::Result<()> {
        let (tag, text) = match message {
            Message::Hooks => (b'h', ""),
            Message::Ready => (b'r', ""),
            Message::Failed(text) => (b'f', text.as_str()),
        };
        let mut bytes = vec![tag];
        bytes.extend((text.len() as u32).to_le_bytes());
        bytes.extend(text.as_bytes());
        self.0.write_all(&bytes)
    }

    /// The next message; `None` when the other side closed, as it does by executing its program.
    pub fn receive(&mut self) -> io::Result<Option<Message>> {
        let mut head = [0u8; 5];
        match self.0.read_exact(&mut head) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
                ) =>
            {
                return Ok(None);
            }
            result => result?,
        }
        let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
        let mut text = Vec::new();
        (&mut self.0).take(u64::from(length)).read_to_end(&mut text)?;
        Ok(Some(match head[0] {
            b'h' => Message::Hooks,
            b'r' => Message::Ready,
            _ => Message::Failed(String::from_utf8_lossy(&text).into_owned()),
        }))
    }

    /// Lets the child continue.
    pub fn go(&mut self) -> io::Result<()> {
        self.0.write_all(b"g")
    }

    /// Waits for [`Channel::go`]; an error when the runtime is gone.
    pub fn wait(&mut self) -> io::Result<()> {
        self.0.read_exact(&mut [0u8])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        let (mut one, mut other) = Channel::pair().unwrap();
        for message in [Message::Hooks, Message::Ready, Message::Failed("mount x: y".into())] {
            one.send(&message).unwrap();
            assert_eq!(other.receive().unwrap(), Some(message));
        }
        other.go().unwrap();
        one.wait().unwrap();
        drop(one);
        assert_eq!(other.receive().unwrap(), None);
    }
}
