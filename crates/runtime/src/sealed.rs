//! Running from a copy of this binary that nobody can write to.
//!
//! A process that enters a container can be reached from there by `/proc/PID/exe`. Would that lead to the
//! binary on the host, a root container could open and overwrite it (CVE-2019-5736). So whatever
//! enters a container first executes something else: the same file through a read-only overlay mount that has no
//! place in any tree (Linux 5.2; costs no memory, and shares its pages with the daemon's), else a copy in memory
//! that is sealed.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::error::{Context, Error, Result};

const SEALS: SealFlags = SealFlags::SEAL
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW)
    .union(SealFlags::WRITE);

/// Says to the process that starts over that it does; it looks for itself all the same.
const MARK: &str = "_BALENA_READ_ONLY";
/// Magic number of overlayfs (linux/magic.h).
const OVERLAYFS: u32 = 0x794c_7630;
/// How often sealing is tried: a page may be in another processor's hands for a moment.
const TRIES: u32 = 50;

/// Returns when this process runs from what nobody can write to; otherwise starts over from there.
///
/// `args` is the whole command line with the program's name, `scratch` a directory of ours for the overlay's second
/// layer.
pub fn ensure(args: &[OsString], scratch: &Path) -> Result<()> {
    let own = File::open("/proc/self/exe").context("open /proc/self/exe")?;
    if std::env::var_os(MARK).is_some() && is_read_only_overlay(&own) {
        return Ok(());
    }
    // A file that is no memfd has no seals: EINVAL.
    if rustix::fs::fcntl_get_seals(&own).is_ok_and(|seals| seals.contains(SEALS)) {
        return Ok(());
    }
    let copy: OwnedFd = match through_overlay(&own, scratch) {
        Ok(file) => file,
        Err(_) => copy(own).context("make a sealed copy of this binary")?.into(),
    };
    let args = args
        .iter()
        .map(|arg| CString::new(arg.as_bytes()).map_err(|_| Error::new("zero byte in an argument")))
        .collect::<Result<Vec<_>>>()?;
    let mark = (OsString::from(MARK), OsString::from("1"));
    let env: Vec<CString> = std::env::vars_os()
        .filter(|(name, _)| name != MARK)
        .chain([mark])
        .filter_map(|(name, value)| {
            let mut pair = name.into_encoded_bytes();
            pair.push(b'=');
            pair.extend(value.into_encoded_bytes());
            CString::new(pair).ok()
        })
        .collect();
    Err(sys::process::exec_fd(copy.as_fd(), &args, &env)).context("execute the sealed copy of this binary")
}

fn is_read_only_overlay(file: &File) -> bool {
    let overlay =
        rustix::fs::fstatfs(file).is_ok_and(|found| found.f_type as u64 & 0xffff_ffff == u64::from(OVERLAYFS));
    overlay && rustix::fs::fstatvfs(file).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// Opens our own file through an overlay of its directory and another, which nothing can be written to: it has no
/// upper layer and is mounted nowhere.
fn through_overlay(own: &File, scratch: &Path) -> io::Result<OwnedFd> {
    let path = std::fs::read_link("/proc/self/exe")?;
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let mut layers = Vec::new();
    for (index, layer) in [directory, scratch].into_iter().enumerate() {
        if index > 0 {
            layers.push(b':');
        }
        for byte in layer.as_os_str().as_bytes() {
            if matches!(byte, b':' | b'\\') {
                layers.push(b'\\');
            }
            layers.push(*byte);
        }
    }
    let layers = CString::new(layers)?;
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(context.as_fd(), "lowerdir", &layers)?;
    rustix::mount::fsconfig_create(context.as_fd())?;
    let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV;
    let mount = rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, read_only)?;
    let file = rustix::fs::openat(
        &mount,
        name,
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
    )?;
    // The name may stand for another file by now, after an upgrade; overlayfs passes inode numbers and times on.
    let (mine, found) = (rustix::fs::fstat(own)?, rustix::fs::fstat(&file)?);
    let same = mine.st_ino == found.st_ino && mine.st_size == found.st_size && mine.st_mtime == found.st_mtime;
    same.then_some(file).ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn copy(mut own: File) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Linux 6.3 wants to be told; older kernels do not know the flag.
    let memfd = rustix::fs::memfd_create("runc", flags | MemfdFlags::EXEC)
        .or_else(|_| rustix::fs::memfd_create("runc", flags))?;
    let mut memfd = File::from(memfd);
    let length = own.metadata()?.len();
    let mut copied = 0;
    while copied < length {
        let part = usize::try_from(length - copied).unwrap_or(usize::MAX);
        match rustix::fs::sendfile(&memfd, &own, None, part) {
            Ok(0) => break,
            Ok(part) => copied += part as u64,
            Err(_) if copied == 0 => {
                copied = io::copy(&mut own, &mut memfd)?;
                break;
            }
            Err(error) => return Err(error.into()),
        }
    }
    if copied != length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
    }
    memfd.rewind()?;
    rustix::fs::fchmod(&memfd, rustix::fs::Mode::from_raw_mode(0o555))?;
    for _ in 0..TRIES {
        match rustix::fs::fcntl_add_seals(&memfd, SEALS) {
            Err(rustix::io::Errno::BUSY) => std::thread::sleep(Duration::from_millis(5)),
            other => return Ok(other.map(|()| memfd)?),
        }
    }
    Err(rustix::io::Errno::BUSY.into())
}
