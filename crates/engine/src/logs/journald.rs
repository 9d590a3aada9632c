//! Reads from the journal what the `journald` driver wrote there, by the host's own `journalctl`.
//!
//! The files of the journal have grown features for ten years (hashes, compressions, compact forms, boots, namespaces), and
//! their only complete reader is systemd's. Docker links its library; we are one static binary, and so run its program,
//! which is wherever journald is. It is started by way of a process of this binary that asks the kernel to end it with
//! the daemon's thread, and holds nothing of the daemon's but the pipe that it writes to.

use super::export::{Exported, Parser};
use super::{Reading, Sink};
use crate::error::{Context, Error, Result};
use crate::log_driver;
use api::time::Time;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;
use sys::wake::{Interest, wait};

/// systemd's program, by the name that PATH knows.
const PROGRAM: &str = "journalctl";
/// What we call the process that becomes it.
const READER: &str = "balena-engine-log-reader";
/// How often it is looked whether the container has ended.
const PACE: Duration = Duration::from_millis(100);
/// How long the journal may take to write down what it was sent.
const PATIENCE: Duration = Duration::from_secs(5);

/// Checks that there is a journal, and a program that reads it.
pub fn check() -> Result<()> {
    if !log_driver::journal_is_there() {
        return Err(Error::internal(log_driver::NO_JOURNAL));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    match std::env::split_paths(&path).any(|place| place.join(PROGRAM).is_file()) {
        true => Ok(()),
        false => Err(Error::internal(format!(
            "read logs from the journal: exec: \"{PROGRAM}\": executable file not found in $PATH"
        ))),
    }
}

/// The process that becomes `journalctl`: its exit status if it cannot.
pub fn main_reader(args: &[OsString]) -> i32 {
    let _ = sys::process::set_parent_death_signal(sys::signal::KILL);
    let error = Command::new(PROGRAM).args(args).exec();
    eprintln!("exec: {PROGRAM}: {error}");
    127
}

/// Where to begin.
enum From {
    Start,
    /// At an entry.
    At(String),
    /// Behind an entry.
    Behind(String),
}

/// Writes what the journal has of a container; with `follow` until it ends or the client leaves.
pub fn write(id: &str, reading: &Reading<'_>, sink: &mut Sink<'_>) -> Result<()> {
    let journal = Journal { id, reading };
    let mut from = match reading.options.tail {
        None => From::Start,
        Some(count) => match (journal.tail(count)?, count) {
            (Some(cursor), 0) => From::Behind(cursor),
            (Some(cursor), _) => From::At(cursor),
            (None, _) if reading.options.follow => From::Start,
            (None, _) => return Ok(()),
        },
    };
    if reading.options.follow && !reading.is_over() {
        let mut program = journal.start(&from, &["--follow", "--no-tail"])?;
        let last = journal.show(&mut program, sink, &|| reading.is_over() || reading.is_late())?;
        if let Some(cursor) = last {
            from = From::Behind(cursor);
        }
        drop(program);
        journal.sync()?;
    }
    let mut program = journal.start(&from, &[])?;
    journal.show(&mut program, sink, &|| false)?;
    Ok(())
}

/// A container's entries.
struct Journal<'a> {
    id: &'a str,
    reading: &'a Reading<'a>,
}

impl Journal<'_> {
    /// The cursor of the first of the last `count` entries; of the last one of all for none.
    fn tail(&self, count: u64) -> Result<Option<String>> {
        let lines = format!("--lines={}", count.max(1));
        let mut program = self.start(&From::Start, &["--reverse", &lines])?;
        let mut cursor = None;
        self.each(&mut program, &|| false, &mut |exported| {
            cursor = Some(exported.cursor.to_owned());
            Ok(())
        })?;
        Ok(cursor)
    }

    fn start(&self, from: &From, more: &[&str]) -> Result<Program> {
        let mut words: Vec<String> = ["--output=export", "--all", "--quiet", "--no-pager"]
            .map(Into::into)
            .into();
        words.extend(more.iter().map(|word| (*word).to_owned()));
        // Microseconds are what the journal has; what they let through is looked at again.
        let time = |time: Time| format!("@{}.{:06}", time.seconds.max(0), time.nanos / 1000);
        match from {
            From::Start => words.extend(
                self.reading
                    .options
                    .since
                    .map(|since| format!("--since={}", time(since))),
            ),
            From::At(cursor) => words.push(format!("--cursor={cursor}")),
            From::Behind(cursor) => words.push(format!("--after-cursor={cursor}")),
        }
        words.extend(
            self.reading
                .options
                .until
                .map(|until| format!("--until={}", time(until))),
        );
        words.push(format!("CONTAINER_ID_FULL={}", self.id));
        Program::start(&words)
    }

    /// Shows entries until the program or `over` says that it is enough; the cursor of the last.
    fn show(&self, program: &mut Program, sink: &mut Sink<'_>, over: &dyn Fn() -> bool) -> Result<Option<String>> {
        let mut last = None;
        self.each(program, over, &mut |exported| {
            if let Some(entry) = exported.entry.as_ref().filter(|entry| sink.wants(entry)) {
                sink.entry(entry)?;
            }
            last = Some(exported.cursor.to_owned());
            Ok(())
        })?;
        Ok(last)
    }

    fn each(
        &self,
        program: &mut Program,
        over: &dyn Fn() -> bool,
        take: &mut dyn FnMut(&Exported<'_>) -> io::Result<()>,
    ) -> Result<()> {
        let mut parser = Parser::new(self.reading.options.details);
        let mut portion = vec![0; 16 << 10];
        while !over() {
            let mut fds = vec![(program.out.as_fd(), Interest::Read)];
            fds.extend(self.reading.cancel.map(|cancel| (cancel.as_fd(), Interest::Read)));
            let ready = wait(&fds, Some(PACE)).context("wait for the journal")?;
            if ready.get(1).is_some_and(|cancel| cancel.read) {
                return Err(Error::cancelled());
            }
            if !ready[0].read && !ready[0].closed {
                continue;
            }
            match program.out.read(&mut portion) {
                Ok(0) => return program.finish(),
                Ok(n) => parser.feed(&portion[..n], take).map_err(|_| Error::cancelled())?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("read from the journal"),
            }
        }
        Ok(())
    }

    /// Lets the journal write down what it was sent, so that the end of a container's output is read.
    fn sync(&self) -> Result<()> {
        let mut program = Program::start(&["--sync".to_owned()])?;
        let until = std::time::Instant::now() + PATIENCE;
        // An older journalctl knows no such option, and another may not be allowed to: what is there is shown.
        while program.child.try_wait().is_ok_and(|status| status.is_none()) && std::time::Instant::now() < until {
            self.reading.pause(Duration::from_millis(5))?;
        }
        Ok(())
    }
}

/// `journalctl`, running; ended with this.
struct Program {
    child: Child,
    out: ChildStdout,
}

impl Program {
    fn start(words: &[String]) -> Result<Program> {
        let mut child = Command::new("/proc/self/exe")
            .arg0(READER)
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("start journalctl")?;
        let out = child.stdout.take();
        let out = out.ok_or_else(|| Error::internal("start journalctl: it has no pipe"))?;
        Ok(Program { child, out })
    }

    /// It came to its end. 1 is also what some versions say when there is nothing.
    fn finish(&mut self) -> Result<()> {
        let status = self.child.wait().context("wait for journalctl")?;
        match status.code() {
            Some(0 | 1) => Ok(()),
            _ => Err(failed(status)),
        }
    }
}

fn failed(status: ExitStatus) -> Error {
    Error::internal(format!("read logs from the journal: {PROGRAM}: {status}"))
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
