//! Joining a client's connection with a container's streams.
//!
//! The shim speaks Docker's frames, so an attached client without a terminal gets its bytes as they are; with one, the
//! frames are taken off. One thread, two small buffers: a slow client slows the container's output, as with Docker,
//! and costs no memory. The detach keys are looked for in what the client types.

use crate::Engine;
use crate::cancel::Cancel;
use crate::error::{Context, Error, Result};
use crate::logs;
use runtime::shim::{AttachOptions, Shim};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;
use sys::wake::{Interest, wait};

/// What a client wants to see.
#[derive(Clone, Copy, Debug, Default)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// A client that attached before its container was started.
pub struct Waiting {
    streams: Streams,
    deliver: mpsc::Sender<UnixStream>,
    wake: Arc<sys::wake::Wake>,
}

impl Waiting {
    /// Gives it its stream.
    pub(crate) fn connect(self, shim: &Shim) {
        match shim.attach(options(self.streams)) {
            // A client that left has dropped its end.
            Ok(stream) => drop(self.deliver.send(stream)),
            Err(e) => log::warn!("attach a client: {e}"),
        }
    }
}

impl Drop for Waiting {
    /// Whether it got a stream or the start failed: it need not wait any longer.
    fn drop(&mut self) {
        self.wake.set();
    }
}

fn options(streams: Streams) -> AttachOptions {
    AttachOptions {
        stdin: streams.stdin,
        stdout: streams.stdout,
        stderr: streams.stderr,
    }
}

/// An attachment that has begun, before the client's connection is there.
pub struct Attachment {
    pub tty: bool,
    stream: Result<UnixStream, (mpsc::Receiver<UnixStream>, Arc<sys::wake::Wake>)>,
    streams: Streams,
    detach: Vec<u8>,
    on_detach: Box<dyn Fn() + Send>,
}

/// Begins to attach: to a running container at once, to one that is not started yet when it will be.
pub fn begin(engine: &Arc<Engine>, name: &str, streams: Streams, detach_keys: &str) -> Result<Attachment> {
    let container = engine.containers.find(name)?;
    let detach = parse_keys(detach_keys)?;
    let mut inner = container.lock();
    let paused = matches!(
        inner.record.state,
        crate::container::State::Running { paused: true, .. }
    );
    if paused {
        return Err(Error::conflict(format!(
            "container {} is paused, unpause the container before attach",
            container.id
        )));
    }
    if inner.record.state == crate::container::State::Restarting {
        return Err(Error::conflict(format!(
            "container {} is restarting, wait until the container is running",
            container.id
        )));
    }
    let tty = inner.record.disk.config.tty;
    let shim = inner.live.shim.clone().filter(|_| inner.record.is_running());
    let stream = match shim {
        Some(shim) => {
            drop(inner);
            Ok(shim
                .attach(options(streams))
                .context(format!("attach to container {}", container.id.short()))?)
        }
        None => {
            let (deliver, receive) = mpsc::channel();
            let wake = Arc::new(sys::wake::Wake::new().context("make a wake-up")?);
            inner.live.waiting.push(Waiting {
                streams,
                deliver,
                wake: wake.clone(),
            });
            drop(inner);
            Err((receive, wake))
        }
    };
    engine.container_event("attach", &container.record(), &[]);
    let (engine, id) = (Arc::downgrade(engine), container.id.clone());
    let on_detach = Box::new(move || {
        if let Some(engine) = engine.upgrade()
            && let Ok(container) = engine.containers.find(id.as_str())
        {
            engine.container_event("detach", &container.record(), &[]);
        }
    });
    Ok(Attachment {
        tty,
        stream,
        streams,
        detach,
        on_detach,
    })
}

/// The client's side.
pub struct Client {
    pub input: Box<dyn Read + Send>,
    pub output: Box<dyn Write + Send>,
    /// The connection itself, for waiting on it and for seeing it close.
    pub socket: Option<OwnedFd>,
}

impl Attachment {
    /// Carries bytes both ways until the container's side ends, the client leaves, or types the detach keys.
    pub fn run(self, mut client: Client, cancel: &Cancel) -> Result<()> {
        let stream = match self.stream {
            Ok(stream) => stream,
            Err((receive, wake)) => {
                let gone = |socket: &Option<OwnedFd>| -> Result<bool> {
                    let mut fds = vec![(wake.as_fd(), Interest::Read), (cancel.as_fd(), Interest::Read)];
                    if let Some(socket) = socket {
                        fds.push((socket.as_fd(), Interest::Hangup));
                    }
                    let ready = wait(&fds, None).context("wait for the container's start")?;
                    Ok(!ready[0].read && ready.iter().skip(1).any(|r| r.read || r.closed))
                };
                if gone(&client.socket)? {
                    return Err(Error::cancelled());
                }
                match receive.try_recv() {
                    Ok(stream) => stream,
                    // The start failed; the start's own answer says why.
                    Err(_) => return Ok(()),
                }
            }
        };
        let detached = relay(stream, &mut client, self.streams.stdin, self.tty, &self.detach, cancel)?;
        if detached {
            (self.on_detach)();
        }
        Ok(())
    }
}

/// Bytes carried at a time.
const BUFFER: usize = 32 << 10;

/// Carries bytes between a shim's stream and a client. Returns whether the client typed the detach keys.
pub(crate) fn relay(
    stream: UnixStream,
    client: &mut Client,
    stdin: bool,
    tty: bool,
    detach: &[u8],
    cancel: &Cancel,
) -> Result<bool> {
    let Client { input, output, socket } = client;
    let mut output = Unframe {
        out: &mut **output,
        on: tty,
        head: Vec::new(),
        left: 0,
    };
    let mut to_shim = stream.try_clone().context("duplicate the shim's stream")?;
    let mut from_shim = stream;
    let mut buffer = vec![0u8; BUFFER];
    let mut keys = Keys {
        wanted: detach,
        seen: 0,
    };
    // Without a socket there is nothing to poll: such a client only listens.
    let mut typing = stdin && socket.is_some();
    loop {
        let ready = {
            let mut fds = vec![(from_shim.as_fd(), Interest::Read), (cancel.as_fd(), Interest::Read)];
            if let Some(socket) = &socket {
                fds.push((socket.as_fd(), if typing { Interest::Read } else { Interest::Hangup }));
            }
            wait(&fds, None).context("wait for a container's output")?
        };
        if ready[1].read {
            return Err(Error::cancelled());
        }
        if ready[0].read || ready[0].closed {
            let n = from_shim.read(&mut buffer).context("read a container's output")?;
            if n == 0 {
                return Ok(false);
            }
            output.write_all(&buffer[..n]).map_err(|_| Error::cancelled())?;
        }
        let Some(side) = ready.get(2) else { continue };
        if typing && (side.read || side.closed) {
            let n = input.read(&mut buffer).unwrap_or(0);
            if n == 0 {
                typing = false;
                // Half-close: the container sees the end of its input, the client still its output.
                let _ = to_shim.shutdown(std::net::Shutdown::Write);
                if side.closed {
                    return Ok(false);
                }
                continue;
            }
            let (pass, detached) = keys.filter(&buffer[..n]);
            // A container that reads no more has closed its end; what it writes still counts.
            if to_shim.write_all(&pass).is_err() {
                typing = false;
            }
            if detached {
                return Ok(true);
            }
        } else if !typing && side.closed {
            return Ok(false);
        }
    }
}

/// Takes Docker's frames off, for terminals; passes all through otherwise.
struct Unframe<'a> {
    out: &'a mut dyn Write,
    on: bool,
    head: Vec<u8>,
    left: u64,
}

impl Unframe<'_> {
    fn write_all(&mut self, mut bytes: &[u8]) -> std::io::Result<()> {
        if !self.on {
            self.out.write_all(bytes)?;
            return self.out.flush();
        }
        while !bytes.is_empty() {
            if self.left == 0 {
                let missing = api::stdcopy::HEADER - self.head.len();
                let take = missing.min(bytes.len());
                self.head.extend_from_slice(&bytes[..take]);
                bytes = &bytes[take..];
                if let Ok(head) = <[u8; api::stdcopy::HEADER]>::try_from(self.head.as_slice()) {
                    self.head.clear();
                    self.left = api::stdcopy::parse(head).map_or(0, |(_, length)| u64::from(length));
                }
                continue;
            }
            let take = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            self.out.write_all(&bytes[..take])?;
            self.left -= take as u64;
            bytes = &bytes[take..];
        }
        self.out.flush()
    }
}

/// Looks for the detach keys in what is typed; what might be their beginning is held back.
struct Keys<'a> {
    wanted: &'a [u8],
    seen: usize,
}

impl Keys<'_> {
    fn filter(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut pass = Vec::with_capacity(typed.len());
        for byte in typed {
            if self.wanted.is_empty() {
                pass.push(*byte);
                continue;
            }
            if self.wanted[self.seen] == *byte {
                self.seen += 1;
                if self.seen == self.wanted.len() {
                    return (pass, true);
                }
                continue;
            }
            pass.extend_from_slice(&self.wanted[..self.seen]);
            self.seen = 0;
            if self.wanted[0] == *byte {
                self.seen = 1;
            } else {
                pass.push(*byte);
            }
        }
        (pass, false)
    }
}

/// Reads a key sequence: `ctrl-p,ctrl-q`; empty is that default.
pub fn parse_keys(text: &str) -> Result<Vec<u8>> {
    if text.is_empty() {
        return Ok(vec![16, 17]);
    }
    let bad = || Error::invalid(format!("Invalid detach keys ({text}) provided"));
    text.split(',')
        .map(|key| match (key.strip_prefix("ctrl-"), key.as_bytes()) {
            (Some(letter), _) => match letter.as_bytes() {
                [c @ b'a'..=b'z'] => Ok(c - b'a' + 1),
                [b'@'] => Ok(0),
                [b'['] => Ok(27),
                [b'\\'] => Ok(28),
                [b']'] => Ok(29),
                [b'^'] => Ok(30),
                [b'_'] => Ok(31),
                _ => Err(bad()),
            },
            (None, [c]) => Ok(*c),
            _ => Err(bad()),
        })
        .collect()
}

/// Writes what was logged before, for `attach?logs=1`.
pub fn replay(engine: &Engine, name: &str, streams: Streams, out: &mut dyn Write) -> Result<()> {
    let options = logs::Options {
        stdout: streams.stdout,
        stderr: streams.stderr,
        ..logs::Options::default()
    };
    logs::write(engine, name, &options, out, None)
}

/// How long an exec's end may take to be known after its streams closed.
pub(crate) const AFTERMATH: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys() {
        assert_eq!(parse_keys("").unwrap(), [16, 17]);
        assert_eq!(parse_keys("ctrl-a,x,ctrl-]").unwrap(), [1, b'x', 29]);
        for bad in ["ctrl-", "ctrl-A", "ab", "ctrl-p,", ","] {
            assert!(parse_keys(bad).is_err(), "{bad}");
        }
        let mut keys = Keys {
            wanted: &[16, 17],
            seen: 0,
        };
        assert_eq!(keys.filter(&[1, 16]), (vec![1], false));
        assert_eq!(keys.filter(&[2]), (vec![16, 2], false));
        assert_eq!(keys.filter(&[16, 16, 17, 9]), (vec![16], true));
    }

    #[test]
    fn frames_come_off_wherever_they_are_cut() {
        let mut wire = Vec::new();
        for text in ["hello", " ", "world"] {
            wire.extend_from_slice(&api::stdcopy::header(api::stdcopy::Stream::Stdout, text.len() as u32));
            wire.extend_from_slice(text.as_bytes());
        }
        for size in [1, 3, 7, 100] {
            let shared = Arc::new(std::sync::Mutex::new(Vec::new()));
            struct Shared(Arc<std::sync::Mutex<Vec<u8>>>);
            impl Write for Shared {
                fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                    self.0.lock().unwrap().extend_from_slice(bytes);
                    Ok(bytes.len())
                }
                fn flush(&mut self) -> std::io::Result<()> {
                    Ok(())
                }
            }
            let mut sink = Shared(shared.clone());
            let mut unframe = Unframe {
                out: &mut sink,
                on: true,
                head: Vec::new(),
                left: 0,
            };
            for chunk in wire.chunks(size) {
                unframe.write_all(chunk).unwrap();
            }
            assert_eq!(shared.lock().unwrap().as_slice(), b"hello world");
        }
    }
}
