//! Where a command puts an archive: standard output, or a file that appears under its name when it is whole.

use crate::command::{Failure, errno_text};
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
        // The dot at the end makes a directory of it, or an error.
        if let Err(error) = fs::metadata(directory.join(".")) {
            return Err(format!(
                "invalid output path: stat {}: {}",
                directory.display(),
                errno_text(&error)
            ));
        }
        let found = fs::metadata(target);
        let is_link = fs::symlink_metadata(target).is_ok_and(|found| found.is_symlink());
        match found {
            Ok(found) if found.is_dir() => Err("cannot write to a directory".into()),
            // What is renamed to its name would replace the link; /dev/stdout is one to what cannot be replaced.
            Ok(found) if !found.is_file() => Ok(Output(Some(target.to_owned()))),
            _ if is_link => Err("cannot write to a symbolic link directly".into()),
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
            let file = File::options().write(true).open(&path);
            let mut file = file.map_err(|e| about("open", &path, e))?;
            io::copy(from, &mut file).map_err(|e| about("write", &path, e))?;
            return Ok(());
        }
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let unfinished = path.with_file_name(format!(".tmp-{name}-{}", std::process::id()));
        // An image may hold secrets: the user's alone, as docker makes it.
        let mut options = File::options();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&unfinished).map_err(|e| about("open", &path, e))?;
        let written = io::copy(from, &mut file).and_then(|_| fs::rename(&unfinished, &path));
        written.map_err(|error| {
            let _ = fs::remove_file(&unfinished);
            about("write", &path, error)
        })
    }
}

/// An error of the system with what was done to what; one of the stream speaks for itself.
fn about(doing: &str, path: &Path, error: io::Error) -> Failure {
    match error.raw_os_error() {
        Some(_) => Failure::new(format!("{doing} {}: {}", path.display(), errno_text(&error))),
        None => Failure::from(error),
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
    }

    #[test]
    fn refused_in_the_words_of_docker() {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| directory.path().join(name).display().to_string();
        let why = |path: &str| Output::check(path).err();
        fs::write(place("file"), "").unwrap();
        for (link, to) in [("link", "file"), ("dangling", "none"), ("out", "/dev/null")] {
            std::os::unix::fs::symlink(to, place(link)).unwrap();
        }
        let stat = |name: &str, why: &str| Some(format!("invalid output path: stat {}: {why}", place(name)));
        assert_eq!(why(&place("no/a.tar")), stat("no", "no such file or directory"));
        assert_eq!(why(&place("file/a.tar")), stat("file", "not a directory"));
        assert_eq!(
            why(directory.path().to_str().unwrap()).unwrap(),
            "cannot write to a directory"
        );
        for link in ["link", "dangling"] {
            assert_eq!(why(&place(link)).unwrap(), "cannot write to a symbolic link directly");
        }
        for good in ["file", "new", "out"] {
            assert_eq!(why(&place(good)), None, "{good}");
        }
        Output::check(&place("out")).unwrap().fill(&mut &b"x"[..]).unwrap();
        assert!(fs::symlink_metadata(place("out")).unwrap().is_symlink());
    }
}
