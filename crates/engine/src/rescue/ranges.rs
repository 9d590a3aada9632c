//! Parts of a blob by as few requests as make sense: what lies close behind the last part comes with it.
//!
//! Where more than two parts follow each other, a request asks for more than what is wanted now, from [`LEAST_AHEAD`] on
//! twice as much each time up to [`MOST_AHEAD`]; a small gap is read and dropped. There is an end to requests and to bytes:
//! a blob of which much is wanted is better fetched whole.

use std::io::{self, Read};
use std::ops::Range;

/// Bytes between two parts that are read for nothing rather than asked around.
const GAP: u64 = 64 << 10;
const LEAST_AHEAD: u64 = 64 << 10;
const MOST_AHEAD: u64 = 1 << 20;
/// Requests for one blob.
const REQUESTS: u32 = 256;

/// Asks for a part of a blob.
pub(super) type Ask = Box<dyn FnMut(Range<u64>) -> io::Result<Box<dyn Read>>>;

/// A blob's bytes from one place to another.
pub(super) struct Ranges {
    ask: Ask,
    size: u64,
    body: Option<Box<dyn Read>>,
    /// The byte that comes next, and where those that were asked for end.
    at: u64,
    asked: u64,
    /// Where the bytes end that are wanted now, and those that are wanted after them.
    end: u64,
    expected: u64,
    /// Requests before this one that it follows, and how much more than was wanted was asked for by the last.
    run: u32,
    follows: bool,
    ahead: u64,
    requests: u32,
    /// Bytes asked for so far, and at most.
    bytes: u64,
    most: u64,
}

impl Ranges {
    pub fn new(size: u64, ask: Ask) -> Ranges {
        Ranges {
            ask,
            size,
            body: None,
            at: 0,
            asked: 0,
            end: 0,
            expected: 0,
            run: 0,
            follows: false,
            ahead: 0,
            requests: 0,
            bytes: 0,
            most: size / 2,
        }
    }

    /// Bytes that were asked for.
    pub fn fetched(&self) -> u64 {
        self.bytes
    }

    /// Says that all bytes up to a place will be wanted, once the first are.
    pub fn expect(&mut self, end: u64) {
        self.expected = end.min(self.size);
    }

    /// Has these bytes come next.
    pub fn seek(&mut self, part: Range<u64>) -> io::Result<()> {
        if part.start > part.end || part.end > self.size {
            return Err(wrong("a file lies beyond the end of its blob"));
        }
        let gap = part.start.checked_sub(self.at).filter(|&gap| gap <= GAP);
        let follows = self.requests > 0 && gap.is_some();
        if follows && self.body.is_some() && part.start < self.asked {
            self.end = part.start;
            io::copy(self, &mut io::sink())?;
        } else {
            (self.body, self.at, self.follows) = (None, part.start, follows);
        }
        self.end = part.end;
        Ok(())
    }

    fn request(&mut self) -> io::Result<()> {
        self.run = if std::mem::replace(&mut self.follows, true) {
            self.run + 1
        } else {
            0
        };
        self.ahead = match self.run {
            0 | 1 => 0,
            _ => (self.ahead * 2).clamp(LEAST_AHEAD, MOST_AHEAD),
        };
        let ahead = self.ahead.min(self.most.saturating_sub(self.bytes));
        let end = self.end.max(self.expected).max(self.at.saturating_add(ahead));
        let end = end.min(self.size);
        let bytes = self.bytes.saturating_add(end - self.at);
        if bytes > self.most || self.requests == REQUESTS {
            return Err(wrong("too much of the base has changed"));
        }
        (self.bytes, self.requests) = (bytes, self.requests + 1);
        self.body = Some((self.ask)(self.at..end)?);
        self.asked = end;
        Ok(())
    }
}

impl Read for Ranges {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.end || into.is_empty() {
            return Ok(0);
        }
        if self.body.is_none() || self.at == self.asked {
            self.request()?;
        }
        let left = self.end.min(self.asked) - self.at;
        let room = usize::try_from(left).map_or(into.len(), |left| left.min(into.len()));
        let n = match &mut self.body {
            Some(body) => body.read(&mut into[..room])?,
            None => 0,
        };
        if n == 0 {
            return Err(wrong("a part of a blob is too short"));
        }
        self.at += n as u64;
        Ok(n)
    }
}

/// Not the network's fault: nothing is to be gone on with.
pub(super) fn wrong(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    type Asked = Rc<RefCell<Vec<Range<u64>>>>;

    fn ranges(size: u64) -> (Ranges, Asked) {
        let asked = Asked::default();
        let noted = asked.clone();
        let ask = move |part: Range<u64>| {
            noted.borrow_mut().push(part.clone());
            let bytes: Vec<u8> = part.map(|at| (at % 251) as u8).collect();
            Ok(Box::new(io::Cursor::new(bytes)) as Box<dyn Read>)
        };
        (Ranges::new(size, Box::new(ask)), asked)
    }

    fn read(ranges: &mut Ranges, part: Range<u64>) -> io::Result<()> {
        ranges.seek(part.clone())?;
        let mut bytes = Vec::new();
        ranges.read_to_end(&mut bytes)?;
        let wanted: Vec<u8> = part.map(|at| (at % 251) as u8).collect();
        assert!(bytes == wanted);
        Ok(())
    }

    #[test]
    fn one_file_is_one_request_and_neighbours_share_one() {
        let (mut ranges, asked) = ranges(100 << 20);
        read(&mut ranges, 5000..6000).unwrap();
        assert_eq!(asked.borrow()[0], 5000..6000);
        assert_eq!(asked.borrow().len(), 1);
        // Far away; before; where the last one ended; nothing.
        read(&mut ranges, 1_000_000..1_000_100).unwrap();
        read(&mut ranges, 700..800).unwrap();
        assert_eq!(asked.borrow().len(), 3);
        assert_eq!(ranges.fetched(), 1200);
        for n in 0..1000 {
            let at = 10_000_000 + n * 5_000;
            read(&mut ranges, at..at + 3_000).unwrap();
        }
        // Five megabytes: twice 3000 bytes, 64 KiB, 128, 256, 512, then a MiB each.
        assert_eq!(asked.borrow().len(), 3 + 10);
        assert!(ranges.fetched() < 6_500_000, "{}", ranges.fetched());
        read(&mut ranges, 40_000_000..40_000_000).unwrap();
        assert_eq!(asked.borrow().len(), 13);
        // Chunks of one file.
        ranges.expect(50_300_000);
        for at in [50_000_000, 50_100_000, 50_200_000] {
            read(&mut ranges, at..at + 100_000).unwrap();
        }
        assert_eq!(asked.borrow().len(), 14);
        assert_eq!(asked.borrow()[13], 50_000_000..50_300_000);
    }

    #[test]
    fn there_is_an_end_to_it() {
        let (mut one, asked) = ranges(1000);
        read(&mut one, 0..400).unwrap();
        assert!(read(&mut one, 500..700).is_err());
        read(&mut one, 500..600).unwrap();
        assert!(one.seek(900..1001).is_err());
        assert!(one.seek(Range { start: 900, end: 800 }).is_err());
        assert_eq!(asked.borrow().len(), 2);
        let (mut many, asked) = ranges(1 << 40);
        let each = (0..1000).map(|n| read(&mut many, n << 20..(n << 20) + 1));
        assert_eq!(each.filter(|read| read.is_ok()).count(), 256);
        assert_eq!(asked.borrow().len(), 256);
    }
}
