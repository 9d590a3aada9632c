//! Reading what containers wrote: the json-file driver's lines, old files first, and following the new ones.
//!
//! A line is `{"log":"…\n","stream":"stdout","attrs":{…},"time":"…"}`; a half-written last line waits for its rest.

use crate::Engine;
use crate::cancel::Cancel;
use crate::error::{Error, Kind, Result};
use crate::table::Container;
use api::stdcopy::{self, Stream};
use api::time::Time;
use json::{Deserialize, Reader};
use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

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

/// The longest line that is read; Docker's driver cuts at 16 KiB before escaping.
const MAX_LINE: u64 = 1 << 20;
/// How often a followed file is looked at.
const PACE: Duration = Duration::from_millis(50);

#[derive(Default)]
struct Line<'a> {
    log: Cow<'a, str>,
    stream: Cow<'a, str>,
    time: Cow<'a, str>,
    attrs: BTreeMap<String, String>,
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
    let container = engine.containers.find(name)?;
    if container.record().host.log_config.kind != "json-file" {
        return Err(Error::new(
            Kind::NotImplemented,
            "configured logging driver does not support reading",
        ));
    }
    Ok(())
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
    let (path, tty) = {
        let record = container.record();
        (PathBuf::from(&record.disk.log_path), record.disk.config.tty)
    };
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    let mut sink = Sink {
        out,
        framed: !tty,
        options,
    };
    let gone = |_| Error::cancelled();
    let old = rotated(&path);
    // Where the current file ends now is where following goes on.
    let mut current = File::open(&path).ok();
    match options.tail {
        Some(0) => {
            if let Some(file) = &mut current {
                let _ = file.seek(SeekFrom::End(0));
            }
        }
        Some(count) => {
            // Enough of the newest files, read backwards, then the last lines of what was found.
            let mut last: VecDeque<Vec<u8>> = VecDeque::new();
            let mut keep = |line: &[u8]| -> io::Result<()> {
                if wanted(line, options) {
                    if last.len() as u64 == count {
                        last.pop_front();
                    }
                    last.push_back(line.to_vec());
                }
                Ok(())
            };
            for file in &old {
                each_line(&mut open_any(file), &mut keep).map_err(gone)?;
            }
            if let Some(file) = &mut current {
                skip_to_tail(file, count);
                each_line(file, &mut keep).map_err(gone)?;
            }
            for line in last {
                sink.line(&line).map_err(gone)?;
            }
        }
        None => {
            for file in &old {
                each_line(&mut open_any(file), &mut |line| sink.line(line)).map_err(gone)?;
            }
            if let Some(file) = &mut current {
                each_line(file, &mut |line| sink.line(line)).map_err(gone)?;
            }
        }
    }
    match cancel {
        Some(cancel) if options.follow => follow(&container, &path, current, &mut sink, cancel),
        _ => Ok(()),
    }
}

fn follow(
    container: &Arc<Container>,
    path: &Path,
    mut file: Option<File>,
    sink: &mut Sink<'_>,
    cancel: &Cancel,
) -> Result<()> {
    let gone = |_| Error::cancelled();
    loop {
        // Looked at before the file: what was written before the end is then surely read after it.
        let over = {
            let inner = container.lock();
            inner.live.removed
                || !inner.record.is_running() && inner.record.state != crate::container::State::Restarting
        };
        if file.is_none() {
            file = File::open(path).ok();
        }
        if let Some(open) = &mut file {
            each_line(open, &mut |line| sink.line(line)).map_err(gone)?;
            let rotated = match (open.metadata(), std::fs::metadata(path)) {
                (Ok(mine), Ok(now)) => mine.ino() != now.ino() || open.stream_position().is_ok_and(|at| at > now.len()),
                _ => false,
            };
            if rotated {
                file = None;
                continue;
            }
        }
        if over || sink.options.until.is_some_and(|until| Time::now() > until) {
            return Ok(());
        }
        let quiet = sys::wake::wait(
            &[(std::os::fd::AsFd::as_fd(cancel), sys::wake::Interest::Read)],
            Some(PACE),
        );
        if quiet.is_ok_and(|r| r[0].read) {
            return Err(Error::cancelled());
        }
    }
}

/// The older files of a rotated log, oldest first.
fn rotated(path: &Path) -> Vec<PathBuf> {
    let name = |n: u32, end: &str| PathBuf::from(format!("{}.{n}{end}", path.display()));
    let mut files = Vec::new();
    for number in 1.. {
        match (name(number, ""), name(number, ".gz")) {
            (plain, _) if plain.exists() => files.push(plain),
            (_, packed) if packed.exists() => files.push(packed),
            _ => break,
        }
    }
    files.reverse();
    files
}

fn open_any(path: &Path) -> Box<dyn Read> {
    match File::open(path) {
        Ok(file) if path.extension().is_some_and(|e| e == "gz") => match store::decompress::Decompressed::open(file) {
            Ok(stream) => Box::new(stream),
            Err(_) => Box::new(io::empty()),
        },
        Ok(file) => Box::new(file),
        Err(_) => Box::new(io::empty()),
    }
}

/// Seeks to where at least `count` lines follow, reading backwards by blocks.
fn skip_to_tail(file: &mut File, count: u64) {
    const BLOCK: u64 = 64 << 10;
    let Ok(end) = file.seek(SeekFrom::End(0)) else { return };
    let (mut at, mut lines) = (end, 0u64);
    let mut buffer = vec![0u8; BLOCK as usize];
    while at > 0 {
        let take = at.min(BLOCK);
        at -= take;
        let block = &mut buffer[..take as usize];
        if file.seek(SeekFrom::Start(at)).is_err() || file.read_exact(block).is_err() {
            break;
        }
        for (index, byte) in block.iter().enumerate().rev() {
            if *byte == b'\n' {
                lines += 1;
                // One more than wanted: the newline before the first of them.
                if lines > count {
                    let _ = file.seek(SeekFrom::Start(at + index as u64 + 1));
                    return;
                }
            }
        }
    }
    let _ = file.seek(SeekFrom::Start(0));
}

/// Calls `take` with every whole line. A file is left behind the last one, so that the rest is read later.
fn each_line<R: LineSource + ?Sized>(source: &mut R, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let from = source.at();
    let mut consumed = 0u64;
    {
        let mut reader = BufReader::with_capacity(16 << 10, source.as_read());
        let mut line = Vec::new();
        loop {
            line.clear();
            let n = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).unwrap_or(0);
            if n == 0 || line.last() != Some(&b'\n') && (n as u64) < MAX_LINE {
                break;
            }
            consumed += n as u64;
            take(&line)?;
        }
    }
    source.settle(from, consumed);
    Ok(())
}

/// Something that lines are read from.
trait LineSource {
    fn as_read(&mut self) -> &mut dyn Read;
    /// So many bytes were used of what was read since `from`; a file goes back to there.
    fn settle(&mut self, from: u64, consumed: u64);
    /// Where it stands.
    fn at(&mut self) -> u64;
}

impl LineSource for Box<dyn Read> {
    fn as_read(&mut self) -> &mut dyn Read {
        self
    }
    fn settle(&mut self, _: u64, _: u64) {}
    fn at(&mut self) -> u64 {
        0
    }
}

impl LineSource for File {
    fn as_read(&mut self) -> &mut dyn Read {
        self
    }
    fn settle(&mut self, from: u64, consumed: u64) {
        // A plain file can always be sought.
        let _ = self.seek(SeekFrom::Start(from + consumed));
    }
    fn at(&mut self) -> u64 {
        self.stream_position().unwrap_or(0)
    }
}

fn parse(line: &[u8]) -> Option<Line<'_>> {
    const FIELDS: &[(&str, u8)] = &[("log", 0), ("stream", 1), ("time", 2), ("attrs", 3)];
    let mut read = Line::default();
    let mut reader = Reader::new(line);
    let fields = reader.structure("Line", FIELDS, &mut |field, reader| {
        match field {
            0 => read.log = reader.string("a string")?,
            1 => read.stream = reader.string("a string")?,
            2 => read.time = reader.string("a string")?,
            _ => read.attrs = BTreeMap::read(reader)?,
        }
        Ok(())
    });
    fields.and_then(|()| reader.end()).ok()?;
    Some(read)
}

fn wanted(line: &[u8], options: &Options) -> bool {
    parse(line).is_some_and(|line| passes(&line, options))
}

fn passes(line: &Line<'_>, options: &Options) -> bool {
    let shown = match &*line.stream {
        "stderr" => options.stderr,
        _ => options.stdout,
    };
    if !shown || options.since.is_none() && options.until.is_none() {
        return shown;
    }
    let time = Time::parse(&line.time);
    options.since.is_none_or(|since| time.is_none_or(|t| t >= since))
        && options.until.is_none_or(|until| time.is_none_or(|t| t <= until))
}

struct Sink<'a> {
    out: &'a mut dyn Write,
    framed: bool,
    options: &'a Options,
}

impl Sink<'_> {
    fn line(&mut self, bytes: &[u8]) -> io::Result<()> {
        // A line that is damaged is passed over, as Docker does.
        let Some(line) = parse(bytes) else { return Ok(()) };
        if !passes(&line, self.options) {
            return Ok(());
        }
        let mut text = Vec::new();
        if self.options.timestamps {
            text.extend_from_slice(padded(&line.time).as_bytes());
            text.push(b' ');
        }
        if self.options.details {
            let pairs: Vec<String> = line.attrs.iter().map(|(k, v)| format!("{k}={v}")).collect();
            text.extend_from_slice(pairs.join(",").as_bytes());
            text.push(b' ');
        }
        text.extend_from_slice(line.log.as_bytes());
        if self.framed {
            let stream = if line.stream == "stderr" {
                Stream::Stderr
            } else {
                Stream::Stdout
            };
            let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
            let mut frame = stdcopy::header(stream, length).to_vec();
            frame.append(&mut text);
            return self.out.write_all(&frame);
        }
        self.out.write_all(&text)
    }
}

/// A time with all nine digits, as `--timestamps` shows it.
fn padded(time: &str) -> String {
    match Time::parse(time) {
        Some(t) => {
            let whole = Time {
                seconds: t.seconds,
                nanos: 0,
            }
            .to_rfc3339();
            format!("{}.{:09}Z", whole.trim_end_matches('Z'), t.nanos)
        }
        None => time.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_line_waits_for_its_rest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, b"one\ntwo\nthr").unwrap();
        let mut file = File::open(&path).unwrap();
        let mut lines = Vec::new();
        each_line(&mut file, &mut |l| {
            lines.push(l.to_vec());
            Ok(())
        })
        .unwrap();
        std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"ee\n")
            .unwrap();
        each_line(&mut file, &mut |l| {
            lines.push(l.to_vec());
            Ok(())
        })
        .unwrap();
        assert_eq!(lines, [b"one\n".to_vec(), b"two\n".to_vec(), b"three\n".to_vec()]);
    }

    #[test]
    fn the_tail_is_found_from_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let text: String = (0..50_000).map(|n| format!("line {n}\n")).collect();
        std::fs::write(&path, text).unwrap();
        for count in [1, 3, 20_000, 60_000] {
            let mut file = File::open(&path).unwrap();
            skip_to_tail(&mut file, count);
            let mut left = 0;
            each_line(&mut file, &mut |_| {
                left += 1;
                Ok(())
            })
            .unwrap();
            assert_eq!(left, count.min(50_000));
        }
    }

    #[test]
    fn lines_as_the_driver_writes_them() {
        let line = br#"{"log":"a\u0000\"b\n","stream":"stderr","time":"2026-11-23T18:20:48.5Z"}"#;
        let mut out = Vec::new();
        let options = Options {
            stderr: true,
            timestamps: true,
            ..Options::default()
        };
        Sink {
            out: &mut out,
            framed: true,
            options: &options,
        }
        .line(line)
        .unwrap();
        assert_eq!(out[..8], stdcopy::header(Stream::Stderr, (out.len() - 8) as u32));
        assert_eq!(&out[8..], b"2026-11-23T18:20:48.500000000Z a\0\"b\n");
        let mut none = Vec::new();
        Sink {
            out: &mut none,
            framed: true,
            options: &Options {
                stdout: true,
                ..Options::default()
            },
        }
        .line(line)
        .unwrap();
        assert!(none.is_empty());
    }
}
