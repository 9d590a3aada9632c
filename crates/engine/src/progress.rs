//! Where long work reports: lines for the client, thinned to what a person can read.

use crate::error::{Error, Result};
use api::progress::Message;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Least time between two lines about the same thing.
const PACE: Duration = Duration::from_millis(100);

/// A client's progress stream. Writing to one who left is an error, which is how work is cancelled.
#[derive(Clone)]
pub struct Progress(Arc<Mutex<Sink>>);

struct Sink {
    outs: Vec<Box<dyn Write + Send>>,
    broken: bool,
    /// For work that several clients may see: the last line about each thing, in order of the first.
    kept: Option<Vec<(String, Vec<u8>)>>,
}

impl Progress {
    /// Reports to `out`.
    pub fn new(out: Box<dyn Write + Send>) -> Progress {
        Progress(Arc::new(Mutex::new(Sink {
            outs: vec![out],
            broken: false,
            kept: None,
        })))
    }

    /// Reports to whoever joins.
    pub fn shared() -> Progress {
        Progress(Arc::new(Mutex::new(Sink {
            outs: Vec::new(),
            broken: false,
            kept: Some(Vec::new()),
        })))
    }

    /// One more to report to; it is told how things are first.
    pub fn join(&self, mut out: Box<dyn Write + Send>) {
        let mut sink = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let mut lines = sink.kept.iter().flatten();
        let told = lines.try_for_each(|(_, line)| out.write_all(line));
        if told.is_ok() {
            sink.outs.push(out);
            sink.broken = false;
        }
    }

    /// Reports to nobody.
    pub fn silent() -> Progress {
        Progress::new(Box::new(std::io::sink()))
    }

    /// Sends one line.
    pub fn send(&self, message: &Message) -> Result<()> {
        let mut sink = self.0.lock().unwrap_or_else(|e| e.into_inner());
        if sink.broken {
            return Err(Error::cancelled());
        }
        let line = message.to_line();
        if let Some(kept) = &mut sink.kept {
            match kept.iter_mut().find(|(id, _)| !id.is_empty() && *id == message.id) {
                Some((_, last)) => last.clone_from(&line),
                None => kept.push((message.id.clone(), line.clone())),
            }
        }
        sink.outs.retain_mut(|out| out.write_all(&line).is_ok());
        sink.broken = sink.outs.is_empty();
        match sink.broken {
            true => Err(Error::cancelled()),
            false => Ok(()),
        }
    }

    /// Sends a line of status.
    pub fn status(&self, id: &str, text: impl Into<String>) -> Result<()> {
        self.send(&Message::status(id, text))
    }

    /// Sends the error that ends the stream; nobody is left to be told if that fails.
    pub fn error(&self, error: &Error) {
        let _ = self.send(&Message::error(error.to_string()));
    }

    /// The sum over all layers, reported under the id `Total`.
    pub fn total(&self, bytes: u64) -> Arc<Total> {
        Arc::new(Total {
            progress: self.clone(),
            bytes,
            state: Mutex::new((0, None)),
        })
    }

    /// A meter for one download of `bytes`.
    pub fn meter(&self, id: &str, bytes: u64, total: &Arc<Total>) -> Arc<Meter> {
        Arc::new(Meter {
            progress: self.clone(),
            id: id.into(),
            bytes,
            total: total.clone(),
            state: Mutex::new((0, None)),
        })
    }
}

/// A stream, and a line for the client on how far it is read.
pub struct Metered<'a> {
    inner: &'a mut dyn Read,
    progress: &'a Progress,
    id: String,
    status: &'static str,
    at: u64,
    size: u64,
    told: Option<Instant>,
}

impl<'a> Metered<'a> {
    /// Of a stream of `size` bytes; zero if that is not known.
    pub fn new(
        inner: &'a mut dyn Read,
        progress: &'a Progress,
        id: impl Into<String>,
        status: &'static str,
        size: u64,
    ) -> Metered<'a> {
        Metered {
            inner,
            progress,
            id: id.into(),
            status,
            at: 0,
            size,
            told: None,
        }
    }

    /// Says how far it is: now, or if it is time to.
    pub fn tell(&mut self, now: bool) -> Result<()> {
        if !now && self.told.is_some_and(|at| at.elapsed() < PACE) {
            return Ok(());
        }
        self.told = Some(Instant::now());
        let line = Message::bytes(&self.id, self.status, self.at, self.size);
        self.progress.send(&line)
    }
}

impl Read for Metered<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(out)?;
        self.at += n as u64;
        self.tell(false).map_err(io::Error::other)?;
        Ok(n)
    }
}

/// How far a whole pull is.
pub struct Total {
    progress: Progress,
    bytes: u64,
    /// Bytes so far, and when that was last said.
    state: Mutex<(u64, Option<Instant>)>,
}

impl Total {
    fn add(&self, more: u64) {
        let now = {
            let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
            state.0 += more;
            let due = state.0 >= self.bytes || state.1.is_none_or(|at| at.elapsed() >= PACE);
            if due {
                state.1 = Some(Instant::now());
            }
            due.then_some(state.0)
        };
        if let Some(now) = now {
            // Whether the client is still there shows at the next line that must be sent.
            let _ = self
                .progress
                .send(&Message::bytes("Total", "Downloading", now.min(self.bytes), self.bytes));
        }
    }
}

/// How far one download is.
pub struct Meter {
    progress: Progress,
    id: String,
    bytes: u64,
    total: Arc<Total>,
    state: Mutex<(u64, Option<Instant>)>,
}

impl Meter {
    /// The download is at `offset`.
    pub fn advance(&self, offset: u64) {
        let (more, due) = {
            let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
            let more = offset.saturating_sub(state.0);
            state.0 = offset;
            let due = state.1.is_none_or(|at| at.elapsed() >= PACE);
            if due {
                state.1 = Some(Instant::now());
            }
            (more, due)
        };
        if due {
            let _ = self
                .progress
                .send(&Message::bytes(&self.id, "Downloading", offset, self.bytes));
        }
        self.total.add(more);
    }

    /// The download is complete and was verified.
    pub fn downloaded(&self) {
        for text in ["Verifying Checksum", "Download complete"] {
            let _ = self.progress.status(&self.id, text);
        }
    }

    /// The layer is extracted; it was, while it came.
    pub fn extracting(&self) {
        let _ = self
            .progress
            .send(&Message::bytes(&self.id, "Extracting", self.bytes, self.bytes));
    }

    /// Tells of a pause before another attempt, in whole seconds.
    pub fn clone_for_retry(&self) -> impl FnMut(Duration) + Send + use<> {
        let (progress, id) = (self.progress.clone(), self.id.clone());
        move |wait: Duration| {
            let seconds = wait.as_secs().max(1);
            let plural = if seconds == 1 { "" } else { "s" };
            let _ = progress.status(&id, format!("Retrying in {seconds} second{plural}"));
        }
    }
}
