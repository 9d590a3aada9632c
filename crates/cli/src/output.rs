//! Where a command puts an archive: standard output, or a file that appears under its name when it is whole.

use crate::command::Failure;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A place for an archive.
pub struct Output(Option<PathBuf>);

impl Output {
    /// Looks at a path before anything is asked for; the empty one is standard output.
    pub fn check(path: &str) -> Result<Output, String> {
        if path.is_empty() {
            return Ok(Output(None));
        }
        let target = Path::new(path);
        let directory = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if !directory.is_dir() {
            return Err(format!(
                "invalid output path: stat {}: no such file or directory",
                directory.display()
            ));
        }
        match fs::metadata(target) {
            Ok(found) if found.is_dir() => Err(format!("invalid output path: \"{path}\" must not be a directory")),
            _ => Ok(Output(Some(target.to_owned()))),
        }
    }

    /// Copies a stream to it. A file is written beside its place and renamed, so that a broken stream leaves no half.
    pub fn fill(self, from: &mut dyn Read) -> Result<(), Failure> {
        let Some(path) = self.0 else {
            let mut out = io::stdout().lock();
            io::copy(from, &mut out)?;
            return Ok(out.flush()?);
        };
        let special = fs::metadata(&path).is_ok_and(|found| !found.is_file());
        if special {
            let mut file = File::options().write(true).open(&path)?;
            io::copy(from, &mut file)?;
            return Ok(());
        }
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let unfinished = path.with_file_name(format!(".tmp-{name}-{}", std::process::id()));
        // An image may hold secrets: the user's alone, as docker makes it.
        let mut options = File::options();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let written = options.open(&unfinished).and_then(|mut file| {
            io::copy(from, &mut file)?;
            fs::rename(&unfinished, &path)
        });
        written.map_err(|error| {
            let _ = fs::remove_file(&unfinished);
            Failure::from(error)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.tar");
        let text = path.to_str().unwrap();
        fs::write(&path, "old").unwrap();
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let mut half = (&b"half"[..]).chain(Broken);
        assert!(Output::check(text).unwrap().fill(&mut half).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        Output::check(text).unwrap().fill(&mut &b"new"[..]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert!(Output::check("/no/such/directory/a.tar").is_err());
        assert!(Output::check(directory.path().to_str().unwrap()).is_err());
    }
}
