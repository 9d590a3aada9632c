//! Where a command takes an archive from: standard input, or a file whose errors name it.

use crate::command::{Failure, errno_text};
use std::fs::File;
use std::io::{self, Read};

/// Opens what is to be sent; `None` is standard input.
pub fn open(path: Option<&str>) -> Result<Box<dyn Read>, Failure> {
    let Some(path) = path else {
        return Ok(named("/dev/stdin", io::stdin().lock()));
    };
    let file = File::open(path).map_err(|e| Failure::new(format!("open {path}: {}", errno_text(&e))))?;
    Ok(named(path, file))
}

fn named(path: &str, file: impl Read + 'static) -> Box<dyn Read> {
    let path = path.to_string();
    Box::new(Named { file, path })
}

struct Named<R> {
    file: R,
    path: String,
}

impl<R: Read> Read for Named<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.file.read(out) {
            Err(e) if e.kind() != io::ErrorKind::Interrupted => {
                let text = format!("read {}: {}", self.path, errno_text(&e));
                Err(io::Error::new(e.kind(), text))
            }
            read => read,
        }
    }
}
