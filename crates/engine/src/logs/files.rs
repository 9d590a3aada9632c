//! Logs that are files: the older ones of a rotated log first, perhaps compressed, then the current one, which is followed.

use super::entry::{Entry, Format};
use super::{Reading, Sink};
use crate::error::{Error, Result};
use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How soon a followed file is looked at again: after something was read, and at the latest.
const SOON: Duration = Duration::from_millis(5);
const PACE: Duration = Duration::from_millis(50);

/// Names in a row that may be missing: files are moved one after the other.
const GAP: u32 = 3;

/// Writes a log; with `follow` until the container ends or the client leaves.
pub fn write(format: &dyn Format, path: &Path, reading: &Reading<'_>, sink: &mut Sink<'_>) -> Result<()> {
    if path.as_os_str().is_empty() {
        // A container that is a file system only.
        return Ok(());
    }
    let log = Log { format, path };
    let mut parts = log.open();
    let gone = |_| Error::cancelled();
    let mut skip = match reading.options.tail {
        Some(count) => log.tail(&mut parts, count, sink),
        None => 0,
    };
    for part in &mut parts {
        let shown = part.each(format, &mut |entry| {
            if !sink.wants(entry) {
                return Ok(());
            }
            match skip {
                0 => sink.entry(entry),
                _ => {
                    skip -= 1;
                    Ok(())
                }
            }
        });
        shown.map_err(gone)?;
    }
    if !reading.options.follow {
        return Ok(());
    }
    let current = parts.pop().filter(|part| part.current).map(|part| part.file);
    log.follow(current, reading, sink)
}

struct Log<'a> {
    format: &'a dyn Format,
    path: &'a Path,
}

/// A file of a log, open.
struct Part {
    file: File,
    current: bool,
    packed: bool,
    /// What is behind was written after the reading began.
    end: u64,
}

impl Part {
    fn new(file: File, current: bool, packed: bool) -> Option<Part> {
        let end = file.metadata().ok()?.len();
        Some(Part {
            file,
            current,
            packed,
            end,
        })
    }

    /// Calls `take` with every entry from where the file stands; then it stands behind the last whole one.
    fn each(&mut self, format: &dyn Format, take: &mut dyn FnMut(&Entry<'_>) -> io::Result<()>) -> io::Result<()> {
        if self.packed {
            self.file.rewind()?;
            return match store::decompress::Decompressed::open(&self.file) {
                Ok(stream) => each(format, stream, take).map(drop),
                Err(_) => Ok(()),
            };
        }
        let from = self.file.stream_position()?;
        let used = each(format, (&self.file).take(self.end.saturating_sub(from)), take)?;
        self.file.seek(SeekFrom::Start(from + used)).map(drop)
    }
}

/// Calls `take` with every entry of a stream; says how many bytes they took up.
fn each(format: &dyn Format, stream: impl Read, take: &mut dyn FnMut(&Entry<'_>) -> io::Result<()>) -> io::Result<u64> {
    let mut reader = BufReader::with_capacity(16 << 10, stream);
    let (mut raw, mut used) = (Vec::new(), 0);
    loop {
        raw.clear();
        match format.next(&mut reader, &mut raw) {
            0 => return Ok(used),
            n => used += n,
        }
        // One that is damaged is passed over, as Docker does.
        if let Some(entry) = format.parse(&raw) {
            take(&entry)?;
        }
    }
}

impl Log<'_> {
    fn numbered(&self, number: u32, end: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{number}{end}"));
        PathBuf::from(name)
    }

    /// Opens all of its files, the oldest first. The current one is opened first: what is moved meanwhile is found twice,
    /// and counts once.
    fn open(&self) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        parts.extend(File::open(self.path).ok().and_then(|file| Part::new(file, true, false)));
        let (mut number, mut missing) = (0, 0);
        while missing < GAP {
            number += 1;
            let part = [("", false), (".gz", true)].into_iter().find_map(|(end, packed)| {
                let file = File::open(self.numbered(number, end)).ok()?;
                Part::new(file, false, packed)
            });
            missing = if part.is_some() { 0 } else { missing + 1 };
            let known = |one: &Part| parts.iter().any(|other| same_file(&other.file, &one.file));
            if let Some(part) = part.filter(|part| !known(part)) {
                parts.push(part);
            }
        }
        parts.reverse();
        parts
    }

    /// Leaves of the files what the last entries are in, and says how many of those there come before. Counts from the
    /// newest file back, so that older ones are not even read.
    fn tail(&self, parts: &mut Vec<Part>, count: u64, sink: &Sink<'_>) -> u64 {
        let (mut wanted, mut first) = (count, parts.len());
        while wanted > 0 && first > 0 {
            first -= 1;
            let part = &mut parts[first];
            let found = if !part.packed && sink.wants_all() {
                let (at, found) = self.format.back(&part.file, part.end, wanted);
                if found == wanted {
                    // A plain file can always be sought.
                    let _ = part.file.seek(SeekFrom::Start(at));
                    parts.drain(..first);
                    return 0;
                }
                found
            } else {
                0
            };
            let found = match found {
                0 => self.count(part, sink),
                found => found,
            };
            if found >= wanted {
                parts.drain(..first);
                return found - wanted;
            }
            wanted -= found;
        }
        if count == 0 {
            for part in parts.iter_mut() {
                let _ = part.file.seek(SeekFrom::Start(part.end));
            }
            parts.retain(|part| part.current);
        }
        0
    }

    fn count(&self, part: &mut Part, sink: &Sink<'_>) -> u64 {
        let mut found = 0;
        let counted = part.each(self.format, &mut |entry| {
            found += u64::from(sink.wants(entry));
            Ok(())
        });
        let _ = counted.and_then(|()| part.file.rewind());
        found
    }

    fn follow(&self, mut file: Option<File>, reading: &Reading<'_>, sink: &mut Sink<'_>) -> Result<()> {
        let gone = |_| Error::cancelled();
        let pause = Cell::new(SOON);
        let mut show = |file: File, current: bool| -> Result<Option<File>> {
            let Some(mut part) = Part::new(file, current, false) else {
                return Ok(None);
            };
            let shown = part.each(self.format, &mut |entry| {
                pause.set(SOON);
                match sink.wants(entry) {
                    true => sink.entry(entry),
                    false => Ok(()),
                }
            });
            shown.map_err(gone)?;
            Ok(Some(part.file))
        };
        loop {
            // Looked at before the file: what was written before the end is then surely read after it.
            let over = reading.is_over();
            if file.is_none() {
                file = File::open(self.path).ok();
            }
            if let Some(open) = file.take() {
                file = show(open, true)?;
            }
            if let Some(open) = file.take_if(|open| self.was_rotated(open)) {
                // What came between the reading and the rotation, and files that were begun and full meanwhile.
                let Some(open) = show(open, false)? else { continue };
                for between in self.since(&open) {
                    show(between, false)?;
                }
                continue;
            }
            if over || reading.is_late() {
                return Ok(());
            }
            reading.pause(pause.get())?;
            pause.set((pause.get() * 2).min(PACE));
        }
    }

    /// Whether the current file is another one now, or was begun anew.
    fn was_rotated(&self, mut file: &File) -> bool {
        match (file.metadata(), std::fs::metadata(self.path)) {
            (Ok(mine), Ok(now)) => mine.ino() != now.ino() || file.stream_position().is_ok_and(|at| at > now.len()),
            _ => false,
        }
    }

    /// The older files that came after this one, the oldest first; none if it is not there any more.
    fn since(&self, file: &File) -> Vec<File> {
        let mut newer = Vec::new();
        for number in 1.. {
            match File::open(self.numbered(number, "")) {
                Ok(older) if same_file(&older, file) => break,
                Ok(older) => newer.push(older),
                Err(_) => return Vec::new(),
            }
        }
        newer.reverse();
        newer
    }
}

fn same_file(one: &File, other: &File) -> bool {
    let id = |file: &File| file.metadata().ok().map(|m| (m.dev(), m.ino()));
    id(one).is_some_and(|one| Some(one) == id(other))
}

#[cfg(test)]
mod tests {
    use super::super::json_file::JsonFile;
    use super::super::{Options, Sink};
    use super::*;
    use std::io::Write;

    fn line(text: &str) -> String {
        format!("{{\"log\":\"{text}\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-23T18:20:48.5Z\"}}\n")
    }

    fn gzip(path: &Path, text: &str) {
        let mut encoder = store::gzip::Encoder::new(File::create(path).unwrap());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap();
    }

    fn shown(path: &Path, options: &Options) -> String {
        let mut out = Vec::new();
        let reading = Reading {
            container: None,
            options,
            cancel: None,
        };
        write(&JsonFile, path, &reading, &mut Sink::new(&mut out, false, options)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn old_files_and_tails() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let lines = |from: u32, to: u32| (from..to).map(|n| line(&n.to_string())).collect::<String>();
        gzip(&dir.path().join("log.3.gz"), &lines(0, 10));
        // `log.2` is just being moved.
        std::fs::write(dir.path().join("log.1"), lines(10, 20)).unwrap();
        std::fs::write(
            &path,
            format!("{}broken\n{}{{\"log\":\"half", lines(20, 22), lines(22, 25)),
        )
        .unwrap();
        let all: Vec<String> = (0..25).map(|n| format!("{n}\n")).collect();
        let both = Options {
            stdout: true,
            stderr: true,
            ..Options::default()
        };
        assert_eq!(shown(&path, &both), all.concat());
        for count in [0u64, 1, 2, 7, 15, 16, 25, 99] {
            // One stream: counted by reading. Both: from behind, where what is broken counts as well.
            for options in [
                &both,
                &Options {
                    stderr: false,
                    ..both.clone()
                },
            ] {
                let options = Options {
                    tail: Some(count),
                    ..options.clone()
                };
                let from = 25usize.saturating_sub(usize::try_from(count).unwrap());
                let got = shown(&path, &options);
                let exact = all[from..].concat();
                let one_less = all[(from + 1).min(25)..].concat();
                assert!(
                    got == exact || options.stderr && count > 3 && got == one_less,
                    "{count}: {got}"
                );
            }
        }
    }

    #[test]
    fn a_half_line_waits_for_its_rest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let text = [line("one"), line("two")].concat();
        let (first, rest) = text.split_at(text.len() - 9);
        std::fs::write(&path, first).unwrap();
        let mut texts = Vec::new();
        let mut part = Part::new(File::open(&path).unwrap(), true, false).unwrap();
        let mut read = |part: &mut Part| {
            part.each(&JsonFile, &mut |entry| {
                texts.push(entry.text.to_vec());
                Ok(())
            })
            .unwrap();
            texts.len()
        };
        assert_eq!(read(&mut part), 1);
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(rest.as_bytes()).unwrap();
        let mut part = Part::new(part.file, true, false).unwrap();
        assert_eq!(read(&mut part), 2);
        assert_eq!(texts, [b"one\n", b"two\n"]);
    }

    #[test]
    fn files_that_came_between_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "a").unwrap();
        let open = File::open(&path).unwrap();
        let log = Log {
            format: &JsonFile,
            path: &path,
        };
        assert!(!log.was_rotated(&open));
        for text in ["b", "c", "d"] {
            for number in [2, 1] {
                let _ = std::fs::rename(log.numbered(number, ""), log.numbered(number + 1, ""));
            }
            std::fs::rename(&path, log.numbered(1, "")).unwrap();
            std::fs::write(&path, text).unwrap();
        }
        assert!(log.was_rotated(&open));
        let between: Vec<String> = log
            .since(&open)
            .iter()
            .map(|f| io::read_to_string(f).unwrap())
            .collect();
        assert_eq!(between, ["b", "c"]);
        std::fs::remove_file(log.numbered(3, "")).unwrap();
        assert!(log.since(&open).is_empty());
    }
}
