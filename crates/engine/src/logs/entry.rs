//! What the logs of all drivers are made of: entries, and files in a form that a driver has.

use api::stdcopy::Stream;
use api::time::Time;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufRead;

/// What was written at once: a line, or a part of one.
pub struct Entry<'a> {
    pub stream: Stream,
    pub time: Option<Time>,
    pub text: Cow<'a, [u8]>,
    /// Whether a newline follows that `text` does not have.
    pub newline: bool,
    pub attrs: BTreeMap<String, String>,
}

/// How entries are in a file.
pub trait Format {
    /// Reads the next entry; the bytes that it takes up, or 0 where there is no whole one (yet).
    fn next(&self, from: &mut dyn BufRead, into: &mut Vec<u8>) -> u64;

    /// What an entry says; nothing for one that is damaged.
    fn parse<'a>(&self, raw: &'a [u8]) -> Option<Entry<'a>>;

    /// Where the last `count` entries before `end` begin, and how many there are.
    fn back(&self, file: &File, end: u64, count: u64) -> (u64, u64);
}
