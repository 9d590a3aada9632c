//! Where a container's output is kept: output becomes entries here, as Docker's copier makes them, and a [`Driver`] keeps
//! entries. One more driver is one more file, a variant of `LogConfig` and a line in [`Log::open`].
//!
//! An entry is a line without its newline. Lines longer than 16 KiB are several entries, *partial* ones, with one ID, one
//! time, and numbers from 1; what a stream ends with, if it is no whole line, is a partial entry too.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{SystemTime, UNIX_EPOCH};

use super::LogConfig;
use super::journal::Journal;
use super::json_log::JsonLog;
use super::local_log::LocalLog;
use super::log_file::LogFile;

/// Longer lines are split (Docker's copier buffer).
pub const MAX_LINE: usize = 16 * 1024;

/// A moment since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moment {
    pub seconds: u64,
    pub nanoseconds: u32,
}

impl Moment {
    pub fn now() -> Moment {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Moment {
            seconds: since.as_secs(),
            nanoseconds: since.subsec_nanos(),
        }
    }

    /// RFC 3339, as Go writes it.
    pub fn text(self) -> String {
        crate::time::format(self.seconds, self.nanoseconds)
    }

    pub fn nanoseconds(self) -> u64 {
        self.seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(self.nanoseconds.into())
    }
}

/// A line, or a part of one.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// 1 or 2.
    pub stream: u8,
    /// Without its newline. Any bytes, newlines excepted.
    pub line: &'a [u8],
    pub time: Moment,
    pub partial: Option<Partial<'a>>,
}

impl Entry<'_> {
    pub fn source(&self) -> &'static str {
        if self.stream == 2 { "stderr" } else { "stdout" }
    }

    /// Whether the line ends with it.
    pub fn ends_line(&self) -> bool {
        self.partial.is_none_or(|partial| partial.last)
    }
}

/// What a part of a long line says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partial<'a> {
    /// 64 hex digits, the same for all parts.
    pub id: &'a str,
    /// From 1.
    pub ordinal: u32,
    pub last: bool,
}

/// Keeps entries.
pub trait Driver {
    /// Keeps one. An error is an entry lost, and no more.
    fn write(&mut self, entry: &Entry<'_>) -> io::Result<()>;

    /// Whether it can take no more now: the container is to wait, as it does for a full pipe.
    fn is_full(&self) -> bool {
        false
    }

    /// What becomes writable when it can go on.
    fn waits_for(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Goes on after it was said to be writable.
    fn resume(&mut self) {}

    /// Whether it has work left that the container's end should wait for.
    fn is_busy(&self) -> bool {
        false
    }

    /// A child ended; whether it was one of the driver's.
    fn child_ended(&mut self, _pid: i32) -> bool {
        false
    }
}

/// A container's log.
pub struct Log {
    driver: Box<dyn Driver>,
    streams: [Stream; 2],
    /// What could not be taken any more when the driver became full: at most what was given in one go.
    left: Option<(u8, Vec<u8>)>,
}

/// An unfinished line of a stream.
#[derive(Default)]
struct Stream {
    pending: Vec<u8>,
    /// Of a line that began in earlier entries: ID, time, and the next number.
    parts: Option<(String, Moment, u32)>,
}

impl Log {
    /// Opens what the configuration says; nothing for a log that is not kept.
    pub fn open(config: &LogConfig) -> io::Result<Option<Log>> {
        let driver: Box<dyn Driver> = match config {
            LogConfig::None => return Ok(None),
            LogConfig::JsonFile { files, attrs } => Box::new(JsonLog::new(LogFile::open(files)?, attrs)),
            LogConfig::Local { files } => Box::new(LocalLog::open(files)?),
            LogConfig::Journald { fields, buffer } => Box::new(Journal::open(fields, *buffer)?),
        };
        Ok(Some(Log::of(driver)))
    }

    pub(super) fn of(driver: Box<dyn Driver>) -> Log {
        Log {
            driver,
            streams: Default::default(),
            left: None,
        }
    }

    /// Takes output of a stream (1 or 2). What comes while it is full is lost.
    pub fn write(&mut self, stream: u8, data: &[u8]) -> io::Result<()> {
        if self.is_full() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let state = &mut self.streams[usize::from(stream == 2)];
        let (taken, result) = state.split(stream, data, &mut *self.driver);
        if taken < data.len() {
            self.left = Some((stream, data[taken..].to_vec()));
        }
        result
    }

    /// The stream ended: an unfinished line is an entry without a newline.
    pub fn finish(&mut self, stream: u8) -> io::Result<()> {
        let state = &mut self.streams[usize::from(stream == 2)];
        let line = std::mem::take(&mut state.pending);
        match line.is_empty() {
            true => Ok(()),
            false => state.entry(stream, &line, false, &mut *self.driver),
        }
    }

    /// Whether the container is to wait.
    pub fn is_full(&self) -> bool {
        self.left.is_some() || self.driver.is_full()
    }

    pub fn waits_for(&self) -> Option<BorrowedFd<'_>> {
        self.driver.waits_for()
    }

    /// Goes on with what was left.
    pub fn resume(&mut self) {
        self.driver.resume();
        if !self.driver.is_full()
            && let Some((stream, data)) = self.left.take()
        {
            let _ = self.write(stream, &data);
        }
    }

    pub fn is_busy(&self) -> bool {
        self.is_full() || self.driver.is_busy()
    }

    pub fn child_ended(&mut self, pid: i32) -> bool {
        self.driver.child_ended(pid)
    }
}

impl Stream {
    /// Makes entries of output until the driver is full; says how much was taken.
    fn split(&mut self, stream: u8, data: &[u8], driver: &mut dyn Driver) -> (usize, io::Result<()>) {
        let (mut at, mut result) = (0, Ok(()));
        while at < data.len() && !driver.is_full() {
            let rest = &data[at..];
            let room = MAX_LINE - self.pending.len();
            let newline = rest.iter().take(room + 1).position(|byte| *byte == b'\n');
            let (length, ends) = match newline {
                Some(end) => (end, true),
                None if rest.len() >= room => (room, false),
                None => {
                    self.pending.extend_from_slice(rest);
                    at = data.len();
                    break;
                }
            };
            at += length + usize::from(ends);
            let written = if self.pending.is_empty() {
                self.entry(stream, &rest[..length], ends, driver)
            } else {
                let mut line = std::mem::take(&mut self.pending);
                line.extend_from_slice(&rest[..length]);
                self.entry(stream, &line, ends, driver)
            };
            // One entry lost (the disk is full) must not lose the next.
            result = result.and(written);
        }
        (at, result)
    }

    fn entry(&mut self, stream: u8, line: &[u8], ends: bool, driver: &mut dyn Driver) -> io::Result<()> {
        let mut entry = Entry {
            stream,
            line,
            time: Moment::default(),
            partial: None,
        };
        if ends && self.parts.is_none() {
            entry.time = Moment::now();
            return driver.write(&entry);
        }
        let (id, time, ordinal) = match self.parts.take() {
            Some(parts) => parts,
            None => (random_id()?, Moment::now(), 1),
        };
        entry.time = time;
        entry.partial = Some(Partial {
            id: &id,
            ordinal,
            last: ends,
        });
        let written = driver.write(&entry);
        if !ends {
            self.parts = Some((id, time, ordinal.saturating_add(1)));
        }
        written
    }
}

/// 64 hex digits from the kernel's random source.
pub fn random_id() -> io::Result<String> {
    use std::fmt::Write;
    use std::io::Read;
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let mut text = String::with_capacity(64);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    /// Line, whether its end, and number.
    type Kept = Rc<RefCell<Vec<(String, bool, u32)>>>;

    type Ids = Rc<RefCell<Vec<(String, Moment)>>>;

    struct Keeps {
        kept: Kept,
        room: Rc<RefCell<usize>>,
        ids: Ids,
    }

    impl Driver for Keeps {
        fn write(&mut self, entry: &Entry<'_>) -> io::Result<()> {
            let ordinal = entry.partial.map_or(0, |partial| partial.ordinal);
            let text = String::from_utf8_lossy(entry.line).into_owned();
            self.kept.borrow_mut().push((text, entry.ends_line(), ordinal));
            if let Some(partial) = entry.partial {
                self.ids.borrow_mut().push((partial.id.to_owned(), entry.time));
            }
            *self.room.borrow_mut() -= 1;
            Ok(())
        }
        fn is_full(&self) -> bool {
            *self.room.borrow() == 0
        }
    }

    fn log(room: usize) -> (Log, Kept, Rc<RefCell<usize>>, Ids) {
        let (kept, room, ids) = (Kept::default(), Rc::new(RefCell::new(room)), Rc::default());
        let driver = Keeps {
            kept: Rc::clone(&kept),
            room: Rc::clone(&room),
            ids: Rc::clone(&ids),
        };
        (Log::of(Box::new(driver)), kept, room, ids)
    }

    #[test]
    fn lines_and_their_ends() {
        let (mut log, kept, ..) = log(100);
        log.write(1, b"one\ntw").unwrap();
        log.write(2, b"err\n").unwrap();
        log.write(1, b"o\n\nthree").unwrap();
        log.finish(1).unwrap();
        log.finish(2).unwrap();
        let entry = |line: &str, ends, ordinal| (line.to_owned(), ends, ordinal);
        let expected = [
            entry("one", true, 0),
            entry("err", true, 0),
            entry("two", true, 0),
            entry("", true, 0),
            entry("three", false, 1),
        ];
        assert_eq!(*kept.borrow(), expected);
    }

    #[test]
    fn long_lines_are_parts_with_one_id_and_time() {
        let (mut log, kept, _, ids) = log(100);
        let mut data = vec![b'x'; 40_000];
        data.push(b'\n');
        data.chunks(7000).for_each(|chunk| log.write(1, chunk).unwrap());
        log.write(1, &[b'y'; MAX_LINE]).unwrap();
        log.write(1, b"\nshort\n").unwrap();
        let shape: Vec<(usize, bool, u32)> = kept.borrow().iter().map(|(l, e, o)| (l.len(), *e, *o)).collect();
        let expected = [
            (16_384, false, 1),
            (16_384, false, 2),
            (40_000 - 32_768, true, 3),
            (16_384, false, 1),
            (0, true, 2),
            (5, true, 0),
        ];
        assert_eq!(shape, expected);
        let ids = ids.borrow();
        assert!(ids[0] == ids[1] && ids[1] == ids[2] && ids[2].0 != ids[3].0 && ids[3] == ids[4]);
        assert!(ids[0].0.len() == 64 && ids[0].0.bytes().all(|b| b.is_ascii_hexdigit()));
    }

    #[test]
    fn a_full_driver_gets_the_rest_later_and_in_order() {
        let (mut log, kept, room, _) = log(2);
        log.write(1, b"a\nb\nc\nd\ne").unwrap();
        assert!(log.is_full() && log.is_busy());
        // Nobody reads the container's streams now; what is forced on it all the same is lost.
        assert!(log.write(1, b"lost\n").is_err());
        log.resume();
        assert_eq!(kept.borrow().len(), 2);
        *room.borrow_mut() = 1;
        log.resume();
        assert_eq!(kept.borrow().len(), 3);
        *room.borrow_mut() = 9;
        log.resume();
        assert!(!log.is_full());
        log.write(1, b"f\n").unwrap();
        let lines: Vec<String> = kept.borrow().iter().map(|(line, ..)| line.clone()).collect();
        assert_eq!(lines, ["a", "b", "c", "d", "ef"]);
    }
}
