//! Debian packages of other architectures: fetched and unpacked under `target/`, never installed.
//!
//! A device's C library comes as a package that this machine must not install, for it is no such device.
//! apt gets lists of its own for them, so that the machine's own keep the architectures they have.

use crate::command::{Result, output, run, target_dir, write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Debian's names of the architectures we may want packages of.
const ARCHITECTURES: &[&str] = &["amd64", "arm64", "armel", "armhf", "i386"];

/// The directory that holds the files of musl for this architecture, as if it were `/`.
pub fn root(architecture: &str) -> Result<PathBuf> {
    if output(Command::new("dpkg").arg("--print-architecture"))?.trim() == architecture {
        return Ok(PathBuf::from("/"));
    }
    let root = target_dir().join("xtask/debian").join(architecture);
    let stamp = root.join("made");
    const PACKAGE: &str = "musl-dev";
    if std::fs::read_to_string(&stamp).is_ok_and(|made| made == PACKAGE) {
        return Ok(root);
    }
    let _ = std::fs::remove_dir_all(&root);
    fetch(&format!("{PACKAGE}:{architecture}"), &root)?;
    write(&stamp, PACKAGE)?;
    Ok(root)
}

/// A path of that architecture's, below its root.
pub fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// Downloads one package and unpacks it.
fn fetch(package: &str, root: &Path) -> Result<()> {
    let lists = Lists::of_this_project()?;
    println!("fetching {package}");
    let download = root.join("download");
    std::fs::create_dir_all(&download).map_err(|e| format!("make {}: {e}", download.display()))?;
    let get = || run(lists.apt().current_dir(&download).args(["download", package]));
    if get().is_err() {
        // Lists that are missing or older than the archive. One source of the machine's that does not answer makes
        // the whole update an error; the download will tell whether it mattered.
        let _ = run(lists.apt().arg("update"));
        get()?;
    }
    for entry in std::fs::read_dir(&download).map_err(|e| format!("list {}: {e}", download.display()))? {
        let deb = entry.map_err(|e| format!("list {}: {e}", download.display()))?.path();
        run(Command::new("dpkg-deb").arg("--extract").arg(deb).arg(root))?;
    }
    std::fs::remove_dir_all(&download).map_err(|e| format!("remove {}: {e}", download.display()))
}

/// Package lists for all architectures, beside the machine's own.
struct Lists(PathBuf);

impl Lists {
    fn of_this_project() -> Result<Lists> {
        let state = target_dir().join("xtask/debian/apt");
        for directory in ["lists/partial", "cache/archives/partial"] {
            let directory = state.join(directory);
            std::fs::create_dir_all(&directory).map_err(|e| format!("make {}: {e}", directory.display()))?;
        }
        if !state.join("status").exists() {
            write(&state.join("status"), "")?;
        }
        Ok(Lists(state))
    }

    fn apt(&self) -> Command {
        let state = self.0.display();
        let mut command = Command::new("apt-get");
        command.arg("-q").arg("-o").arg(format!("Dir::State={state}"));
        command.arg("-o").arg(format!("Dir::State::status={state}/status"));
        command.arg("-o").arg(format!("Dir::State::lists={state}/lists"));
        command.arg("-o").arg(format!("Dir::Cache={state}/cache"));
        // The files are ours to read, and apt's own user could not.
        command.args(["-o", "APT::Sandbox::User="]).args(crate::apt::RETRIES);
        for architecture in ARCHITECTURES {
            command.arg("-o").arg(format!("APT::Architectures::={architecture}"));
        }
        command
    }
}
