//! Finding the program to execute, with the errors Go's `exec.LookPath` gives: users and scripts know them.

use rustix::fs::{Access, AtFlags, CWD, FileType};
use rustix::io::Errno;

use crate::error::{Error, Result, errno_text};

/// The path to execute for `name`, searched in the `PATH` of `env` unless it holds a slash.
pub fn program(name: &str, env: &[String]) -> Result<String> {
    let refused = |why: &str| Error::new(format!("exec: {name:?}: {why}"));
    if name.contains('/') {
        return match executable(name) {
            Ok(()) => Ok(name.to_owned()),
            Err(why) => Err(refused(&why)),
        };
    }
    let path = env
        .iter()
        .rev()
        .find_map(|pair| pair.strip_prefix("PATH="))
        .unwrap_or_default();
    for directory in path.split(':') {
        let candidate = match directory {
            "" => name.to_owned(),
            directory => format!("{}/{name}", directory.trim_end_matches('/')),
        };
        if executable(&candidate).is_ok() {
            if !candidate.starts_with('/') {
                return Err(refused("cannot run executable found relative to current directory"));
            }
            return Ok(candidate);
        }
    }
    Err(refused("executable file not found in $PATH"))
}

fn executable(path: &str) -> Result<(), String> {
    let words = |error: Errno| errno_text(&error.into());
    let status = rustix::fs::stat(path).map_err(|error| format!("stat {path}: {}", words(error)))?;
    if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
        return Err("is a directory".to_owned());
    }
    rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)
        .or_else(|error| match error {
            // Before Linux 5.8 there is no faccessat2: the bits have to do.
            Errno::NOSYS | Errno::PERM if status.st_mode & 0o111 != 0 => Ok(()),
            error => Err(error),
        })
        .map_err(words)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn texts() {
        let directory = tempfile::tempdir().unwrap();
        let plain = directory.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        let plain = plain.display().to_string();
        let env = [format!("PATH=/nosuch:{}", directory.path().display())];
        let text = |name: &str| program(name, &env).unwrap_err().to_string();
        assert_eq!(text("foo"), "exec: \"foo\": executable file not found in $PATH");
        assert_eq!(
            text("/nosuch/x"),
            "exec: \"/nosuch/x\": stat /nosuch/x: no such file or directory"
        );
        assert_eq!(text("/tmp"), "exec: \"/tmp\": is a directory");
        assert_eq!(text(&plain), format!("exec: {plain:?}: permission denied"));
        std::fs::set_permissions(&plain, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(program("plain", &env).unwrap(), plain);
    }
}
