//! Pseudo-terminals of containers, and their way to the caller over a console socket.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use oci::runtime::ConsoleSize;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::error::{Context, Error, Result};
use crate::rootfs::walk::{Make, Root};

/// Connects to a console socket. Paths too long for a socket address go by their directory's descriptor.
pub fn connect(path: &Path) -> Result<UnixStream> {
    let doing = || format!("connect to console socket {}", path.display());
    match UnixStream::connect(path) {
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
            let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(error).with_context(doing);
            };
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = rustix::fs::open(directory, flags, Mode::empty()).with_context(doing)?;
            UnixStream::connect(crate::rootfs::walk::fd_path(&directory).join(name)).with_context(doing)
        }
        result => result.with_context(doing),
    }
}

/// Opens a pseudo-terminal of the devpts under `root`: (master, the container's side).
pub fn open(root: &Root) -> Result<(OwnedFd, OwnedFd)> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = root
        .walk(Path::new("/dev/pts/ptmx"), Make::Nothing)
        .context("open /dev/pts/ptmx in the container")?;
    let master = rustix::fs::openat(place.parent(), place.name(), flags, Mode::empty())
        .context("open /dev/pts/ptmx in the container")?;
    let status = rustix::fs::fstat(&master).context("stat /dev/pts/ptmx")?;
    if FileType::from_raw_mode(status.st_mode) != FileType::CharacterDevice
        || status.st_rdev != rustix::fs::makedev(5, 2)
    {
        return Err(Error::new(
            "/dev/pts/ptmx in the container is not a pseudo-terminal multiplexer",
        ));
    }
    rustix::pty::unlockpt(&master).context("unlock the pseudo-terminal")?;
    // Linux 4.13: the peer without a path.
    let peer = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = match rustix::pty::ioctl_tiocgptpeer(&master, peer) {
        Ok(slave) => slave,
        Err(_) => {
            let name = rustix::pty::ptsname(&master, Vec::new()).context("name the pseudo-terminal")?;
            let name = name.to_string_lossy();
            let place = root
                .walk(Path::new(&*name), Make::Nothing)
                .with_context(|| format!("open {name}"))?;
            rustix::fs::openat(place.parent(), place.name(), flags, Mode::empty())
                .with_context(|| format!("open {name}"))?
        }
    };
    Ok((master, slave))
}

/// Sets a terminal's size.
pub fn resize(terminal: BorrowedFd<'_>, size: &ConsoleSize) -> Result<()> {
    let size = Winsize {
        ws_row: size.height,
        ws_col: size.width,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(terminal, size).context("set the terminal's size")
}

/// Sends a terminal's master over a console socket, named as runc names it.
pub fn send(socket: &UnixStream, master: BorrowedFd<'_>) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [master];
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(Error::new("send the terminal: no room for a descriptor"));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(b"/dev/ptmx")], &mut control, SendFlags::empty())
        .context("send the terminal over the console socket")?;
    Ok(())
}

/// Receives a terminal's master.
pub fn receive(socket: impl AsFd) -> Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0u8; 256];
    rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut name)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .context("receive the terminal over the console socket")?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message
            && let Some(fd) = fds.next()
        {
            return Ok(fd);
        }
    }
    Err(Error::new("no terminal came over the console socket"))
}
