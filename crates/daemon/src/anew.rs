//! A daemon that crashes is back at once: the same process, the same sockets, a new program in it.
//!
//! A panic is a bug, and this program is built to end by one: unwinding tables would be a fifth of the binary. What a
//! crash costs is what `kill -9` costs, which is nothing that lasts: containers run on and are adopted, an interrupted
//! pull goes on from where it was. Clients' connections break; who connects meanwhile waits for a few milliseconds in
//! the backlog of a socket that never closed. A daemon that crashes again and again, right after its start, is left
//! dead for whoever supervises it.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime};

/// Carries `CRASHES STARTED` to the successor: how many crashes there were in a row if it comes to be, and when this
/// process started, in seconds since 1970.
const CRASHES: &str = "BALENA_CRASHES";
/// Carries `HOST=FD` for each listener, with a newline between two.
const LISTENERS: &str = "BALENA_LISTENERS";

/// A start within this time before a crash makes it one of a row.
const QUICK: Duration = Duration::from_secs(10);
/// After so many in a row the next one is final.
const MOST: u32 = 5;

/// What the predecessor in this process left, if there was one.
pub struct Inheritance {
    crashes: u32,
    listeners: Vec<(String, OwnedFd)>,
}

impl Inheritance {
    /// Takes it out of the environment. Call it once, at the very start.
    pub fn take() -> Inheritance {
        let text = |name: &str| std::env::var(name).unwrap_or_default();
        let crashes = text(CRASHES);
        let mut crashes = crashes.split(' ').map_while(|word| word.parse::<u64>().ok());
        let (count, started) = (crashes.next().unwrap_or(0), crashes.next().unwrap_or(0));
        let in_a_row = now().saturating_sub(started) < QUICK.as_secs();
        let listeners = text(LISTENERS);
        let listeners = listeners.lines().filter_map(|line| {
            let (host, fd) = line.rsplit_once('=')?;
            Some((host.to_owned(), sys::process::take_inherited(fd.parse().ok()?).ok()?))
        });
        Inheritance {
            crashes: if in_a_row {
                u32::try_from(count).unwrap_or(MOST)
            } else {
                count.min(1) as u32
            },
            listeners: listeners.collect(),
        }
    }

    /// The listeners that were open for a host; a host of systemd's may have several.
    pub fn listeners_of(&mut self, host: &str) -> Vec<OwnedFd> {
        let (of_host, others) = std::mem::take(&mut self.listeners)
            .into_iter()
            .partition(|(h, _)| h == host);
        self.listeners = others;
        let of_host: Vec<(String, OwnedFd)> = of_host;
        of_host.into_iter().map(|(_, fd)| fd).collect()
    }

    /// Has this daemon start anew in place if it crashes. `listeners` are its open sockets with their hosts.
    pub fn arm(&self, arguments: &[String], listeners: &[(String, BorrowedFd<'_>)]) {
        if self.crashes > 0 {
            log::error!(
                "the daemon crashed and started anew in place ({} in a row)",
                self.crashes
            );
            reap_predecessors_children();
        }
        if self.crashes >= MOST {
            return log::error!("the next crash ends the daemon: {MOST} came within seconds of a start");
        }
        if let Err(e) = self.try_arm(arguments, listeners) {
            log::warn!("a crash would end the daemon: {e}");
        }
    }

    fn try_arm(&self, arguments: &[String], listeners: &[(String, BorrowedFd<'_>)]) -> Result<(), String> {
        use std::os::fd::AsRawFd;
        let text = |bytes: &[u8]| CString::new(bytes).map_err(|e| e.to_string());
        // The name this program goes by, and the personality if the first argument was that.
        let ours = std::env::args_os().collect::<Vec<OsString>>();
        let before = ours.len().saturating_sub(arguments.len()).max(1).min(ours.len());
        let words = ours[..before].iter().map(|word| text(word.as_bytes()));
        let words = words.chain(arguments.iter().map(|word| text(word.as_bytes())));
        let words = words.collect::<Result<Vec<_>, _>>()?;
        let mut environment = Vec::new();
        for (name, value) in std::env::vars_os() {
            if name != CRASHES && name != LISTENERS {
                environment.push(text(&[name.as_bytes(), b"=", value.as_bytes()].concat())?);
            }
        }
        let sockets: Vec<_> = listeners
            .iter()
            .map(|(host, fd)| format!("{host}={}", fd.as_raw_fd()))
            .collect();
        environment.push(text(format!("{CRASHES}={} {}", self.crashes + 1, now()).as_bytes())?);
        environment.push(text(format!("{LISTENERS}={}", sockets.join("\n")).as_bytes())?);
        let keep: Vec<_> = listeners.iter().map(|(_, fd)| *fd).collect();
        sys::crash::arm(&words, &environment, &keep).map_err(|e| e.to_string())
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// The shims and proxies of the predecessor are this process's children, and nobody else would wait for them.
fn reap_predecessors_children() {
    use rustix::process::{PidfdFlags, WaitIdOptions, pidfd_open, waitid};
    let children = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let children = children.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let mut heirs: Vec<OwnedFd> = children
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<i32>>()
        })
        .filter_map(|pid| pidfd_open(rustix::process::Pid::from_raw(pid)?, PidfdFlags::empty()).ok())
        .collect();
    let wait = move || {
        while !heirs.is_empty() {
            let fds: Vec<_> = heirs.iter().map(|fd| (fd.as_fd(), sys::wake::Interest::Read)).collect();
            if sys::wake::wait(&fds, None).is_err() {
                return;
            }
            heirs.retain(|fd| {
                let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
                matches!(waitid(rustix::process::WaitId::PidFd(fd.as_fd()), options), Ok(None))
            });
        }
    };
    let spawned = std::thread::Builder::new()
        .name("heirs".into())
        .stack_size(32 << 10)
        .spawn(wait);
    if let Err(e) = spawned {
        log::warn!("start a thread to wait for the predecessor's children: {e}");
    }
}
