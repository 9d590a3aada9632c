//! Reading what containers wrote, whichever driver kept it: from files ([`files`], in the form of a driver), or from the
//! journal ([`journald`]). One more driver is one more file and a line in [`Source::of`].

mod entry;
mod export;
mod files;
mod journald;
mod json_file;
mod local;

use crate::Engine;
use crate::cancel::Cancel;
use crate::container::State;
use crate::error::{Error, Kind, Result};
use crate::log_driver;
use crate::table::Container;
use api::stdcopy::{self, Stream};
use api::time::Time;
use entry::{Entry, Format};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;
use sys::wake::Interest;

pub use journald::main_reader;

/// What to show.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub stdout: bool,
    pub stderr: bool,
    pub follow: bool,
    pub timestamps: bool,
    pub details: bool,
    /// The last so many lines; `None` is all.
    pub tail: Option<u64>,
    pub since: Option<Time>,
    pub until: Option<Time>,
}

/// Where a container's output is.
enum Source {
    Files(&'static dyn Format, PathBuf),
    Journal,
}

impl Source {
    /// Nothing for a driver that does not keep it where it could be read.
    fn of(container: &Container) -> Option<Source> {
        let record = container.record();
        let cached = container.directory.join(log_driver::CACHED);
        match record.host.log_config.kind.as_str() {
            "json-file" => Some(Source::Files(
                &json_file::JsonFile,
                PathBuf::from(&record.disk.log_path),
            )),
            "local" => Some(Source::Files(
                &local::Local,
                container.directory.join(log_driver::LOCAL),
            )),
            "journald" => Some(Source::Journal),
            "none" => None,
            // Of a data root that was taken over: what Docker kept of it.
            _ => cached.exists().then_some(Source::Files(&local::Local, cached)),
        }
    }
}

/// Whether a container's output comes with frames: not from a terminal.
pub fn framed(engine: &Engine, name: &str) -> Result<bool> {
    Ok(!engine.containers.find(name)?.record().disk.config.tty)
}

/// Checks that there are logs to be read, before an answer is begun.
pub fn check(engine: &Engine, name: &str, options: &Options) -> Result<()> {
    if !options.stdout && !options.stderr {
        return Err(Error::invalid("Bad parameters: you must choose at least one stream"));
    }
    match Source::of(&*engine.containers.find(name)?) {
        Some(Source::Journal) => journald::check(),
        Some(Source::Files(..)) => Ok(()),
        None => Err(Error::new(
            Kind::NotImplemented,
            "configured logging driver does not support reading",
        )),
    }
}

/// Writes a container's logs; with `follow` until it ends or the client leaves.
pub fn write(
    engine: &Engine,
    name: &str,
    options: &Options,
    out: &mut dyn Write,
    cancel: Option<&Cancel>,
) -> Result<()> {
    let container = engine.containers.find(name)?;
    let framed = !container.record().disk.config.tty;
    let mut sink = Sink::new(out, framed, options);
    let mut options = options.clone();
    options.follow &= cancel.is_some();
    let reading = Reading {
        container: Some(&*container),
        options: &options,
        cancel,
    };
    match Source::of(&container) {
        Some(Source::Files(format, path)) => files::write(format, &path, &reading, &mut sink),
        Some(Source::Journal) => journald::write(container.id.as_str(), &reading, &mut sink),
        None => Ok(()),
    }
}

/// What is read, for whom, and how long.
struct Reading<'a> {
    /// Absent in tests.
    container: Option<&'a Container>,
    options: &'a Options,
    cancel: Option<&'a Cancel>,
}

impl Reading<'_> {
    /// Whether the container writes nothing any more.
    fn is_over(&self) -> bool {
        self.container.is_none_or(|container| {
            let inner = container.lock();
            inner.live.removed || !inner.record.is_running() && inner.record.state != State::Restarting
        })
    }

    /// Whether what is written from now on is not wanted.
    fn is_late(&self) -> bool {
        self.options.until.is_some_and(|until| Time::now() > until)
    }

    /// Lets time pass. An error if the client leaves.
    fn pause(&self, time: Duration) -> Result<()> {
        let Some(cancel) = self.cancel else {
            std::thread::sleep(time);
            return Ok(());
        };
        let left = sys::wake::wait(&[(cancel.as_fd(), Interest::Read)], Some(time));
        match left.is_ok_and(|ready| ready[0].read) {
            true => Err(Error::cancelled()),
            false => Ok(()),
        }
    }
}

/// The client, and what it wants to see.
struct Sink<'a> {
    out: &'a mut dyn Write,
    framed: bool,
    options: &'a Options,
}

impl<'a> Sink<'a> {
    fn new(out: &'a mut dyn Write, framed: bool, options: &'a Options) -> Sink<'a> {
        Sink { out, framed, options }
    }

    /// Whether an entry is to be shown.
    fn wants(&self, entry: &Entry<'_>) -> bool {
        let shown = match entry.stream {
            Stream::Stderr => self.options.stderr,
            _ => self.options.stdout,
        };
        let after = |since: Time| entry.time.is_none_or(|time| time >= since);
        let before = |until: Time| entry.time.is_none_or(|time| time <= until);
        shown && self.options.since.is_none_or(after) && self.options.until.is_none_or(before)
    }

    /// Whether nothing is left out.
    fn wants_all(&self) -> bool {
        let Options { since, until, .. } = self.options;
        self.options.stdout && self.options.stderr && since.is_none() && until.is_none()
    }

    /// Writes one.
    fn entry(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(entry.text.len() + 64);
        if self.framed {
            bytes.extend_from_slice(&[0; 8]);
        }
        let start = bytes.len();
        if self.options.timestamps {
            bytes.extend_from_slice(entry.time.map(padded).unwrap_or_default().as_bytes());
            bytes.push(b' ');
        }
        if self.options.details {
            let pairs = entry.attrs.iter();
            let pairs: Vec<String> = pairs.map(|(k, v)| format!("{}={}", escape(k), escape(v))).collect();
            bytes.extend_from_slice(pairs.join(",").as_bytes());
            bytes.push(b' ');
        }
        bytes.extend_from_slice(&entry.text);
        if entry.newline {
            bytes.push(b'\n');
        }
        if self.framed {
            let length = u32::try_from(bytes.len() - start).unwrap_or(u32::MAX);
            bytes[..8].copy_from_slice(&stdcopy::header(entry.stream, length));
        }
        self.out.write_all(&bytes)
    }
}

/// A time with all nine digits, as `--timestamps` shows it.
fn padded(time: Time) -> String {
    let whole = time.whole_seconds().to_rfc3339();
    format!("{}.{:09}Z", whole.trim_end_matches('Z'), time.nanos)
}

/// Go's `url.QueryEscape`, in which details are shown.
fn escape(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;
    use std::collections::BTreeMap;

    fn shown(options: &Options, framed: bool) -> Vec<u8> {
        let entry = Entry {
            stream: Stream::Stderr,
            time: Time::parse("2026-11-23T18:20:48.5Z"),
            text: Cow::Borrowed(b"a\0b"),
            newline: true,
            attrs: BTreeMap::from([("k".into(), "v w,é".into()), ("a".into(), "=".into())]),
        };
        let mut out = Vec::new();
        let mut sink = Sink::new(&mut out, framed, options);
        if sink.wants(&entry) {
            sink.entry(&entry).unwrap();
        }
        out
    }

    #[test]
    fn entries_as_clients_see_them() {
        let options = Options {
            stderr: true,
            timestamps: true,
            ..Options::default()
        };
        let out = shown(&options, true);
        assert_eq!(out[..8], stdcopy::header(Stream::Stderr, (out.len() - 8) as u32));
        assert_eq!(&out[8..], b"2026-11-23T18:20:48.500000000Z a\0b\n");
        let details = Options {
            details: true,
            ..options.clone()
        };
        assert_eq!(
            shown(&details, false),
            b"2026-11-23T18:20:48.500000000Z a=%3D,k=v+w%2C%C3%A9 a\0b\n"
        );
        let other = Options {
            stdout: true,
            ..Options::default()
        };
        assert!(shown(&other, true).is_empty());
        for (since, until, seen) in [("48.5", "48.5", true), ("48.6", "49.0", false), ("47.0", "48.4", false)] {
            let time = |text: &str| Time::parse(&format!("2026-11-23T18:20:{text}Z"));
            let (since, until) = (time(since), time(until));
            let between = Options {
                since,
                until,
                ..options.clone()
            };
            assert_eq!(!shown(&between, false).is_empty(), seen);
        }
    }
}
