//! A log that is a file, rotated by size: `log`, `log.1`, `log.2` …, the older ones perhaps compressed (`log.1.gz`), as
//! Docker keeps them. Whole entries go in, and no entry is split over two files.
//!
//! Compressing is the work of a short process of this binary (`engine::compress_log`), so that the shim stays as small as
//! it is. It makes `log.1.gz` under another name and removes `log.1` last: whatever ends it, the older lines are there once.
//! It dies with the shim; a `log.1` that was left is compressed when the log is opened the next time.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use super::log::Moment;
use super::{COMPRESSOR_NAME, LogFiles};

/// The open file, and how it is rotated.
pub struct LogFile {
    files: LogFiles,
    file: File,
    size: u64,
    /// Of the last entry: goes into the compressed file, where Docker looks for it.
    last: Moment,
    compressor: Option<Pid>,
}

impl LogFile {
    /// Opens or makes it.
    pub fn open(files: &LogFiles) -> io::Result<LogFile> {
        let file = open(&files.path, false)?;
        let size = file.metadata()?.len();
        let mut log = LogFile {
            files: files.clone(),
            file,
            size,
            last: Moment::now(),
            compressor: None,
        };
        log.files.max_file = files.max_file.max(1);
        if log.compresses() && log.numbered(1, "").exists() {
            log.compress();
        }
        Ok(log)
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// Appends one entry, after a rotation if the file has its size.
    pub fn append(&mut self, entry: &[u8], time: Moment) -> io::Result<()> {
        if self.files.max_size.is_some_and(|max_size| self.size >= max_size) {
            self.rotate()?;
        }
        self.file.write_all(entry)?;
        self.size += entry.len() as u64;
        self.last = time;
        Ok(())
    }

    fn compresses(&self) -> bool {
        self.files.compress && self.files.max_file > 1
    }

    fn numbered(&self, number: u32, end: &str) -> PathBuf {
        let mut name = self.files.path.clone().into_os_string();
        name.push(format!(".{number}{end}"));
        PathBuf::from(name)
    }

    /// Shifts `log.1` to `log.2` and so on; with one file only it starts over.
    fn rotate(&mut self) -> io::Result<()> {
        let oldest = self.files.max_file - 1;
        if oldest > 0 {
            // The one who compresses must not find another file under the name. As in Docker, the container waits.
            if let Some(pid) = self.compressor.take() {
                wait(pid);
            }
            for end in ["", ".gz"] {
                absent(std::fs::remove_file(self.numbered(oldest, end)))?;
                for number in (1..oldest).rev() {
                    let (from, to) = (self.numbered(number, end), self.numbered(number + 1, end));
                    absent(std::fs::rename(from, to))?;
                }
            }
            absent(std::fs::rename(&self.files.path, self.numbered(1, "")))?;
        }
        self.file = open(&self.files.path, true)?;
        self.size = 0;
        if self.compresses() {
            self.compress();
        }
        Ok(())
    }

    /// Starts to compress `log.1`. That it cannot be started costs space, nothing else.
    fn compress(&mut self) {
        let started = Command::new("/proc/self/exe")
            .arg0(COMPRESSOR_NAME)
            .arg(self.numbered(1, ""))
            .arg(self.last.text())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        // Reaped by the shim's own loop, with all others.
        self.compressor = started.ok().map(|child| Pid::from_child(&child));
    }

    pub fn is_busy(&self) -> bool {
        self.compressor.is_some()
    }

    pub fn child_ended(&mut self, pid: i32) -> bool {
        let ours = self.compressor.is_some_and(|own| own.as_raw_nonzero().get() == pid);
        if ours {
            self.compressor = None;
        }
        ours
    }

    /// Cuts off what is behind `end`.
    pub fn truncate(&mut self, end: u64) -> io::Result<()> {
        self.file.set_len(end)?;
        self.size = end;
        Ok(())
    }
}

impl Drop for LogFile {
    /// Whoever opens the log next finds nobody at work on its files.
    fn drop(&mut self) {
        if let Some(pid) = self.compressor.take() {
            let _ = kill_process(pid, Signal::KILL);
            wait(pid);
        }
    }
}

fn wait(pid: Pid) {
    while let Err(rustix::io::Errno::INTR) = waitpid(Some(pid), WaitOptions::empty()) {}
}

/// That there is no such file is fine.
fn absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn open(path: &Path, truncate: bool) -> io::Result<File> {
    // Appending, so that what a tool truncates does not come back as a hole.
    if truncate {
        drop(
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o640)
                .open(path)?,
        );
    }
    let mut options = OpenOptions::new();
    // Reading is for the driver that looks at the end of what it finds.
    options.read(true).append(true).create(true).mode(0o640).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(path: PathBuf, max_size: u64, max_file: u32) -> LogFiles {
        LogFiles {
            path,
            max_size: Some(max_size),
            max_file,
            compress: false,
        }
    }

    #[test]
    fn rotation_keeps_so_many_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        // Left by a driver that compressed: shifted, and dropped at the end, like the others.
        std::fs::write(directory.path().join("log.1.gz"), b"old").unwrap();
        let mut log = LogFile::open(&files(path, 4, 3)).unwrap();
        let there = |name: &str| std::fs::read_to_string(directory.path().join(name)).ok();
        log.append(b"one\n", Moment::now()).unwrap();
        log.append(b"two\n", Moment::now()).unwrap();
        assert_eq!(there("log.1").as_deref(), Some("one\n"));
        assert_eq!(there("log.2.gz").as_deref(), Some("old"));
        for text in [b"3\n", b"4\n", b"5\n", b"6\n", b"7\n"] {
            log.append(text, Moment::now()).unwrap();
        }
        assert_eq!(there("log").as_deref(), Some("7\n"));
        assert_eq!(there("log.1").as_deref(), Some("5\n6\n"));
        assert_eq!(there("log.2").as_deref(), Some("3\n4\n"));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 3);
    }

    #[test]
    fn one_file_starts_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = LogFile::open(&files(path.clone(), 8, 1)).unwrap();
        (0..3).for_each(|_| log.append(b"0123456789\n", Moment::now()).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"0123456789\n");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
