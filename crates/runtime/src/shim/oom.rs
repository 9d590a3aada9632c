//! Hearing of kills for want of memory: an eventfd on cgroup v1, a priority event on v2.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, PollFlags};

use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Result};

#[derive(Debug)]
pub struct OomWatch {
    cgroup: Cgroup,
    fd: OwnedFd,
    v2: bool,
    seen: u64,
}

impl OomWatch {
    /// Watches the group of a process.
    pub fn new(pid: i32) -> Result<Self> {
        let cgroup = Cgroup::of_process(pid)?;
        let directory = cgroup
            .controller("memory")
            .ok_or_else(|| Error::new("no memory cgroup"))?
            .to_owned();
        let v2 = cgroup.is_v2();
        let fd = if v2 {
            File::open(directory.join("memory.events"))
                .context("open memory.events")?
                .into()
        } else {
            let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
            let event = rustix::event::eventfd(0, flags).context("make an eventfd")?;
            let control = File::open(directory.join("memory.oom_control")).context("open memory.oom_control")?;
            let line = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
            std::fs::write(directory.join("cgroup.event_control"), line).context("write cgroup.event_control")?;
            event
        };
        Ok(Self {
            seen: cgroup.oom_kills(),
            cgroup,
            fd,
            v2,
        })
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub fn events(&self) -> PollFlags {
        if self.v2 { PollFlags::PRI } else { PollFlags::IN }
    }

    /// Takes the event; whether processes were killed since the last time.
    pub fn happened(&mut self) -> bool {
        let mut count = [0u8; 8];
        if self.v2 {
            // The event lasts until the file is read from its start.
            let _ = rustix::io::pread(&self.fd, &mut count, 0);
        } else {
            let _ = rustix::io::read(&self.fd, &mut count);
        }
        let now = self.cgroup.oom_kills();
        let more = now > self.seen;
        self.seen = now.max(self.seen);
        more
    }

    /// Whether any process was ever killed.
    pub fn killed(&mut self) -> bool {
        self.happened();
        self.seen > 0
    }
}
