//! A flag that can be waited for together with other descriptors: an eventfd that is set once.

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Set once from any thread, readable from then on.
#[derive(Debug)]
pub struct Wake(OwnedFd);

impl Wake {
    /// Makes one that is not set.
    pub fn new() -> io::Result<Wake> {
        Ok(Wake(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Sets it; a second time changes nothing.
    pub fn set(&self) {
        // The counter is never read, so the write fails only when it is already set 2^64 - 2 times.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Clears it, so that it can be set and waited for again.
    pub fn clear(&self) {
        // EAGAIN says that it was not set.
        let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What to wait for on a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    Read,
    Write,
    /// Only that the other side is gone.
    Hangup,
}

/// What was found on a descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    pub read: bool,
    pub write: bool,
    /// Closed by the other side, or broken.
    pub closed: bool,
}

/// Waits until one of the descriptors is ready or the time is over; then nothing is ready.
pub fn wait(fds: &[(BorrowedFd<'_>, Interest)], patience: Option<Duration>) -> io::Result<Vec<Ready>> {
    let mut list: Vec<PollFd<'_>> = fds
        .iter()
        .map(|(fd, interest)| {
            let flags = match interest {
                Interest::Read => PollFlags::IN,
                Interest::Write => PollFlags::OUT,
                Interest::Hangup => PollFlags::empty(),
            };
            PollFd::from_borrowed_fd(*fd, flags)
        })
        .collect();
    let timeout = patience.map(|time| rustix::time::Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos() as _,
    });
    match poll(&mut list, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(e) => return Err(e.into()),
    }
    Ok(list
        .iter()
        .map(|fd| {
            let found = fd.revents();
            Ready {
                read: found.contains(PollFlags::IN),
                write: found.contains(PollFlags::OUT),
                closed: found.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL),
            }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_is_seen_and_stays() {
        let wake = Wake::new().unwrap();
        let look = || wait(&[(wake.as_fd(), Interest::Read)], Some(Duration::ZERO)).unwrap()[0].read;
        assert!(!look());
        wake.set();
        wake.set();
        assert!(look() && look());
        wake.clear();
        assert!(!look());
    }
}
