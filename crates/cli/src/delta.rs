//! Asking for deltas of our own format, of the daemon or of a process that needs none, and taking the answer apart: it
//! is in frames, lines of progress beside an archive.

use crate::cli::Cli;
use crate::command::Failure;
use crate::output::Output;
use crate::process::{self, Process};
use crate::progress::{self, Shown};
use api::client::Request;
use api::delta::{JOB, Job, Outcome};
use api::stdcopy::{self, Stream};
use oci::reference::Reference;
use std::io::{self, PipeWriter, Read, Write};
use std::thread::JoinHandle;

/// The name of the process that makes deltas without a daemon.
const ALONE: &str = "balena-engine-delta";

/// Has the daemon make deltas of its images.
pub fn by_daemon(
    cli: &Cli,
    (sources, together): (&[String], bool),
    target: &str,
    outcome: Outcome,
    name: &str,
) -> Result<Box<dyn Read>, Failure> {
    let mut request = Request::post("/images/delta")
        .query("dest", target)
        .query("format", "file")
        .query_unless_empty("t", name)
        .flag("together", together)
        .flag("push", outcome == Outcome::Push)
        .flag("dry", outcome == Outcome::Nothing);
    for source in sources {
        request = request.query("src", source.as_str());
    }
    if outcome == Outcome::Push
        && let Ok(reference) = Reference::parse(target)
    {
        let host = reference.repository().domain();
        request = request.header("X-Registry-Auth", cli.config.borrow().auth_header(host));
    }
    Ok(Box::new(cli.client.send(request)?.body))
}

/// Starts a process that makes deltas without a daemon.
pub fn alone(cli: &Cli, job: Job) -> Result<Box<dyn Read>, Failure> {
    let names = job.sources.iter().chain([&job.target]);
    let names: Vec<Reference> = names.filter_map(|name| Reference::parse(name).ok()).collect();
    let credentials = process::credentials(cli, names.iter());
    let job = Job { credentials, ..job };
    Ok(Box::new(Process::start(ALONE, &job, JOB)?))
}

/// Shows an answer's lines and puts its archive where it belongs; without an archive there is no `output`.
pub fn show(answer: Box<dyn Read>, output: Option<Output>) -> Result<(), Failure> {
    let apart = output.is_some();
    let (from, to) = io::pipe()?;
    // Standard output may be the archive's.
    let shown = if apart { Shown::Error } else { Shown::Output };
    let lines = std::thread::spawn(move || progress::show(from, shown));
    let mut archive = Archive {
        answer,
        left: 0,
        lines: Some((to, lines)),
        failure: None,
    };
    let filled = match output {
        Some(output) => output.fill(&mut archive),
        None => io::copy(&mut archive, &mut io::sink()).map(drop).map_err(Failure::from),
    };
    let ended = archive.end();
    match archive.failure.take() {
        // What the other side says went wrong comes first.
        Some(failure) => Err(failure),
        None => filled.and(ended.map_err(Failure::from)),
    }
}

/// The archive in an answer; the lines go on to whoever shows them.
struct Archive {
    answer: Box<dyn Read>,
    /// Bytes of the frame at hand.
    left: u64,
    lines: Option<(PipeWriter, JoinHandle<Result<(), Failure>>)>,
    failure: Option<Failure>,
}

impl Archive {
    /// Waits until all lines are shown. An error among them is one of the stream.
    fn end(&mut self) -> io::Result<()> {
        let Some((to, shown)) = self.lines.take() else {
            return Ok(());
        };
        drop(to);
        match shown.join() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(failure)) => {
                self.failure = Some(failure);
                Err(io::Error::other("no delta was made"))
            }
            Err(_) => Err(io::Error::other("the thread that shows progress panicked")),
        }
    }
}

impl Read for Archive {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.left > 0 && !into.is_empty() {
                let most = usize::try_from(self.left).map_or(into.len(), |left| left.min(into.len()));
                let n = self.answer.read(&mut into[..most])?;
                if n == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.left -= n as u64;
                return Ok(n);
            }
            match stdcopy::next(&mut self.answer)? {
                None => return self.end().map(|()| 0),
                Some((Stream::Stdout | Stream::Stdin, length)) => self.left = length.into(),
                Some((_, length)) => {
                    let mut line = Vec::new();
                    self.answer.by_ref().take(length.into()).read_to_end(&mut line)?;
                    if let Some((to, _)) = &mut self.lines {
                        // It is closed after a line that is an error, which the end tells.
                        let _ = to.write_all(&line);
                    }
                }
            }
        }
    }
}
