//! Records that are whole after power fails: the old one or the new one, never a part, never lost once reported.
//!
//! The only place with `fsync` and `rename`. It relies on the file system for two promises every journalling one
//! keeps: a rename is atomic, and `fsync` of a directory makes the names in it durable. What is being written has a
//! name that begins with [`TMP`]; the sweep removes such names at start-up.

use crate::error::{Doing, Result};
use crate::fault::{self, Fault};
use rustix::fs::{Mode, OFlags};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// How the name of an unfinished record begins; Docker's writer uses the same.
pub const TMP: &str = ".tmp-";

/// Writes a record: a new file beside it, `fsync`, rename over it, `fsync` of the directory.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    replace(path, |tmp| write_new(tmp, bytes, mode).and_then(|()| rename(tmp, path)))
}

/// Replaces a record that may be lost when power fails, but is never torn. Most file systems bring it to the disk with
/// whatever is synced next.
pub fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    replace(path, |tmp| {
        write_new(tmp, bytes, mode)?;
        rename_unsynced(tmp, path)
    })
}

/// Replaces a record that may be lost, but is whole while the system runs. Whoever reads it must bear a damaged one.
pub fn write_cache(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    replace(path, |tmp| {
        write_unsynced(tmp, bytes, mode)?;
        rename_unsynced(tmp, path)
    })
}

/// Has a file of a temporary name written and renamed; nothing is left of it if that fails.
fn replace(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let tmp = temporary(path);
    let written = write(&tmp);
    if written.is_err() {
        let _ = fs::remove_file(&tmp);
    }
    written
}

fn rename_unsynced(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).doing(&format!("rename {} to", from.display()), to)
}

/// Overwrites a file where it lies, neither synced nor renamed: for a record of which another copy stands beside it,
/// and whose reader tells a damaged one.
pub fn overwrite(path: &Path, bytes: &[u8]) -> Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path);
    let mut file = file.doing("open", path)?;
    file.write_all(bytes).doing("write", path)?;
    let length = file.metadata().doing("stat", path)?.len();
    match length == bytes.len() as u64 {
        true => Ok(()),
        false => file.set_len(bytes.len() as u64).doing("write", path),
    }
}

fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    parent(path).join(format!("{TMP}{name}{}", crate::id::temporary()))
}

/// Writes a file that nothing refers to yet and `fsync`s it; its directory is not. It must not exist.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let file = create_new(path, bytes, mode)?;
    if fault::is(Fault::RenameWithoutSync) {
        return Ok(());
    }
    file.sync_all().doing("sync", path)
}

/// Writes a file that nothing refers to yet; a later [`sync_file_system`] makes it durable. It must not exist.
pub fn write_unsynced(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    create_new(path, bytes, mode).map(drop)
}

fn create_new(path: &Path, bytes: &[u8], mode: u32) -> Result<File> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .doing("create", path)?;
    file.write_all(bytes).doing("write", path)?;
    // The umask took bits from `mode` at creation.
    file.set_permissions(fs::Permissions::from_mode(mode))
        .doing("set mode of", path)?;
    Ok(file)
}

/// Renames a file or directory that is durable itself, and makes the new name so.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    rename_unsynced(from, to)?;
    sync_directory(parent(to))?;
    if parent(from) != parent(to) {
        sync_directory(parent(from))?;
    }
    Ok(())
}

/// Lets two directories, both durable themselves, change places, and makes that so.
pub fn exchange(one: &Path, other: &Path) -> Result<()> {
    sys::fs::rename_exchange(one, other).doing(&format!("exchange {} and", one.display()), other)?;
    sync_directory(parent(other))?;
    sync_directory(parent(one))
}

/// Removes a file so that it stays away; says false if it was not there.
pub fn remove_durable(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        other => {
            other.doing("remove", path)?;
            sync_directory(parent(path))?;
            Ok(true)
        }
    }
}

/// Removes a directory with all in it as one step: it is renamed away first, and only then emptied. What power
/// failure leaves of it is for the sweep. Says false if it was not there.
pub fn remove_tree_durable(path: &Path) -> Result<bool> {
    let away = parent(path).join(format!("{TMP}removing{}", crate::id::temporary()));
    match fs::rename(path, &away) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        other => other.doing("remove", path)?,
    }
    sync_directory(parent(path))?;
    fs::remove_dir_all(&away).doing("remove", &away)?;
    Ok(true)
}

/// Makes a directory with a mode, whatever the umask, and makes its name durable; fine if it is there.
pub fn mkdir_durable(path: &Path, mode: u32) -> Result<()> {
    if mkdir(path, mode)? {
        sync_directory(parent(path))?;
    }
    Ok(())
}

/// Makes a directory with a mode, whatever the umask; says false if it was there.
pub fn mkdir(path: &Path, mode: u32) -> Result<bool> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        other => {
            other.doing("create directory", path)?;
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).doing("set mode of", path)?;
            Ok(true)
        }
    }
}

/// Makes a file's content durable.
pub fn sync_file(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).doing("sync", path)
}

/// Makes a file's content durable, and of what is known of it only what reading takes.
pub fn sync_content(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_data()).doing("sync", path)
}

/// Makes the names in a directory durable.
pub fn sync_directory(path: &Path) -> Result<()> {
    if fault::is(Fault::RenameWithoutSync) {
        return Ok(());
    }
    let directory = File::open(path).doing("open", path)?;
    directory.sync_all().doing("sync", path)
}

/// Makes everything written so far on the file system of `path` durable.
pub fn sync_file_system(path: &Path) -> Result<()> {
    sys::fs::syncfs(&open_directory(path)?).doing("sync file system of", path)
}

/// Reads a record, or says that there is none.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        other => other.map(Some).doing("read", path),
    }
}

/// Moves a record that cannot be read out of the way, to the same name with `.bad` behind it, and says so in the log.
pub fn set_aside(path: &Path, why: &dyn std::fmt::Display) {
    let mut name = path.as_os_str().to_owned();
    name.push(".bad");
    let away = PathBuf::from(name);
    log::error!("set aside damaged record {}: {why}", path.display());
    if away.is_dir() {
        let _ = fs::remove_dir_all(&away);
    }
    if let Err(error) = rename(path, &away) {
        log::error!("{error}");
    }
}

pub(crate) fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).doing("open", path)
}

fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}
