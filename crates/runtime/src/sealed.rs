//! Running from a sealed copy of this binary.
//!
//! A process that enters a container can be reached from there by `/proc/PID/exe`. Would that lead to the
//! binary on the host, a root container could open and overwrite it (CVE-2019-5736). So whatever
//! enters a container first executes a copy in memory that nobody can change.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{MemfdFlags, SealFlags};

use crate::error::{Context, Error, Result};

const SEALS: SealFlags = SealFlags::SEAL
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW)
    .union(SealFlags::WRITE);

/// Returns when this process runs from a sealed copy; otherwise makes one and starts over in it.
///
/// `args` is the whole command line with the program's name.
pub fn ensure(args: &[OsString]) -> Result<()> {
    let own = File::open("/proc/self/exe").context("open /proc/self/exe")?;
    // A file that is no memfd has no seals: EINVAL.
    if rustix::fs::fcntl_get_seals(&own).is_ok_and(|seals| seals.contains(SEALS)) {
        return Ok(());
    }
    let copy = copy(own).context("make a sealed copy of this binary")?;
    let args = args
        .iter()
        .map(|arg| CString::new(arg.as_bytes()).map_err(|_| Error::new("zero byte in an argument")))
        .collect::<Result<Vec<_>>>()?;
    let env: Vec<CString> = std::env::vars_os()
        .filter_map(|(name, value)| {
            let mut pair = name.into_encoded_bytes();
            pair.push(b'=');
            pair.extend(value.into_encoded_bytes());
            CString::new(pair).ok()
        })
        .collect();
    Err(sys::process::exec_fd(copy.as_fd(), &args, &env)).context("execute the sealed copy of this binary")
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
    rustix::fs::fcntl_add_seals(&memfd, SEALS)?;
    Ok(memfd)
}
