//! A hijacked connection joined with the terminal: input, output, detach keys, signals, window size.
//!
//! Threads report to one channel; whoever waits at its end decides. Signals are blocked before the first of these
//! threads is made and read from a descriptor.

use crate::cli::Cli;
use crate::command::Failure;
use crate::terminal;
use api::client::{Client, Hijacked, Request, Stream};
use api::stdcopy;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use sys::signal::SignalFd;
use sys::wake::{Interest, wait};

/// What happened.
pub enum Event {
    /// Nothing more comes from the container.
    OutputEnded(io::Result<()>),
    /// The user typed the detach keys.
    Detached,
    /// The container ended, or waiting for it failed.
    Exited(Result<i64, String>),
    /// We are asked to end.
    Killed(i32),
}

/// Which streams are joined.
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
    /// Bytes that detach; only looked for on a terminal.
    pub keys: Vec<u8>,
}

/// Docker's detach keys.
const CTRL_P_Q: [u8; 2] = [16, 17];

/// Reads `ctrl-p,ctrl-q`; empty is the configured or the usual sequence.
pub fn detach_keys(cli: &Cli, text: &str) -> Result<Vec<u8>, Failure> {
    let config = cli.config.borrow();
    let text = if text.is_empty() {
        config.text("detachKeys")
    } else {
        text
    };
    if text.is_empty() {
        return Ok(CTRL_P_Q.to_vec());
    }
    text.split(',')
        .map(|key| {
            let lower = key.to_ascii_lowercase();
            match (lower.strip_prefix("ctrl-").map(str::as_bytes), key.as_bytes()) {
                (Some([letter @ b'a'..=b'z']), _) => Ok(letter - b'a' + 1),
                (Some(b"@"), _) => Ok(0),
                (Some([sign @ (b'[' | b'\\' | b']' | b'^' | b'_')]), _) => Ok(sign - b'@'),
                (None, [one]) => Ok(*one),
                _ => Err(Failure::new(format!(
                    "invalid detach keys ({text}): Unknown character: '{key}'"
                ))),
            }
        })
        .collect()
}

/// Starts copying in both directions.
pub fn join(connection: Hijacked, streams: Streams, events: &Sender<Event>) {
    let Hijacked { input, stream, framed } = connection;
    let framed = framed.unwrap_or(!streams.tty);
    if streams.stdin {
        let events = events.clone();
        let keys = if streams.tty && terminal::is_input() {
            streams.keys.clone()
        } else {
            Vec::new()
        };
        in_background(move || send_input(stream, &keys, &events));
    }
    let events = events.clone();
    let (want_out, want_err) = (streams.stdout, streams.stderr);
    in_background(move || {
        let out = |wanted: bool, to: Box<dyn Write>| if wanted { to } else { Box::new(io::sink()) };
        let result = if framed {
            stdcopy::demux(
                input,
                out(want_out, Box::new(io::stdout())),
                out(want_err, Box::new(io::stderr())),
            )
        } else {
            copy(input, io::stdout())
        };
        // The main thread may have left.
        let _ = events.send(Event::OutputEnded(result));
    });
}

/// Copies and flushes what comes as it comes.
pub fn copy(mut input: impl Read, mut out: impl Write) -> io::Result<()> {
    let mut buffer = [0u8; 16 * 1024];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => {
                out.write_all(&buffer[..n])?;
                out.flush()?;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

fn send_input(mut stream: Stream, keys: &[u8], events: &Sender<Event>) {
    let mut buffer = [0u8; 16 * 1024];
    let mut matched = 0;
    loop {
        // Without the lock of std's stdin, which another thread may hold for good.
        let n = match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => break,
        };
        let mut bytes = Vec::with_capacity(n + keys.len());
        for byte in &buffer[..n] {
            if keys.is_empty() {
                bytes.push(*byte);
                continue;
            }
            if *byte != keys[matched] {
                bytes.extend_from_slice(&keys[..matched]);
                matched = 0;
            }
            if *byte == keys[matched] {
                matched += 1;
                if matched == keys.len() {
                    let _ = events.send(Event::Detached);
                    return;
                }
            } else {
                bytes.push(*byte);
            }
        }
        if stream.write_all(&bytes).is_err() {
            return;
        }
    }
    // The container sees the end of its input; its output still comes.
    let _ = stream.close_write();
}

/// Starts a thread that no signal reaches: those that we wait for must not be lost to it, nor end us by way of it.
fn in_background(work: impl FnOnce() + Send + 'static) {
    std::thread::spawn(move || {
        // It fails only for a set that does not exist.
        let _ = sys::signal::block_all();
        work();
    });
}

/// Calls `act` for each of these signals, on a thread; they are blocked everywhere from now on.
pub fn on_signals(signals: &[i32], act: impl Fn(i32) + Send + 'static) -> Result<(), Failure> {
    let fd = SignalFd::new(signals)?;
    in_background(move || {
        loop {
            if wait(&[(fd.as_fd(), Interest::Read)], None).is_err() {
                return;
            }
            while let Ok(Some(received)) = fd.next() {
                act(received.signal);
            }
        }
    });
    Ok(())
}

/// Signals that are passed on to a container: all that do not mean ourselves or our reads and writes.
pub fn proxied() -> Vec<i32> {
    let ours = [4, 5, 7, 8, 9, 11, 13, 17, 19, 21, 22, 23, 28];
    (1..=31).filter(|signal| !ours.contains(signal)).collect()
}

/// Passes signals on to a container.
pub fn proxy_signals(client: &Arc<Client>, id: &str) -> Result<(), Failure> {
    let (client, id) = (client.clone(), id.to_string());
    on_signals(&proxied(), move |signal| {
        // A container that has just ended is no error.
        let _ = client.send(Request::post(format!("/containers/{id}/kill")).query("signal", signal.to_string()));
    })
}

/// Reports signals that would end us, so that the terminal is restored first.
pub fn report_kills(events: &Sender<Event>) -> Result<(), Failure> {
    let events = events.clone();
    on_signals(&[1, 2, 3, 15], move |signal| {
        let _ = events.send(Event::Killed(signal));
    })
}

/// Makes a program that draws draw again: its terminal becomes a little larger, and then what it was.
pub fn redraw(client: &Client, id: &str) {
    if let Some([height, width]) = terminal::size() {
        let request = Request::post(format!("/containers/{id}/resize")).query("h", (height + 1).to_string());
        // Not seeing the prompt at once is no reason to fail.
        let _ = client.send(request.query("w", (width + 1).to_string()));
    }
}

/// Keeps a container's or an exec's terminal as large as ours. `path` is what `/resize` stands behind.
pub fn follow_size(client: &Arc<Client>, path: &str) -> Result<(), Failure> {
    let (client, path) = (client.clone(), path.to_string());
    let resize = move || -> bool {
        let Some([height, width]) = terminal::size() else {
            return true;
        };
        let request = Request::post(format!("{path}/resize")).query("h", height.to_string());
        client.send(request.query("w", width.to_string())).is_ok()
    };
    let at_first = resize.clone();
    on_signals(&[28], move |_| {
        resize();
    })?;
    in_background(move || {
        // The process may not have its terminal yet.
        for attempt in 1..10u64 {
            if at_first() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10 * attempt));
        }
    });
    Ok(())
}

/// Asks for a container's end; the request is with the daemon when this returns.
pub fn wait_for(client: &Client, id: &str, condition: &str, events: &Sender<Event>) -> Result<(), Failure> {
    let request = Request::post(format!("/containers/{id}/wait")).query_unless_empty("condition", condition);
    let response = client.send(request)?;
    let events = events.clone();
    in_background(move || {
        let ended = match response.json::<api::container::WaitResponse>() {
            Ok(ended) => match ended.error {
                Some(error) if !error.message.is_empty() => Err(error.message),
                _ => Ok(ended.status_code),
            },
            Err(e) => Err(e.to_string()),
        };
        let _ = events.send(Event::Exited(ended));
    });
    Ok(())
}
