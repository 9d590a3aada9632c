//! Processes: clone into namespaces, execute, leave, and what a process may say about itself.
//!
//! [`clone`] refuses to run in a process with more than one thread, so the child may go on in Rust.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Which side of [`clone`] the caller finds itself on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The new process.
    Child,
    /// The caller; the child's process id, in the caller's pid namespace.
    Parent(i32),
}

/// Number of threads of this process.
pub fn threads() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

/// Makes a child process in new namespaces (`flags`: `CLONE_NEW…`, `CLONE_PARENT`), as fork does.
///
/// The child has a copy of everything and must leave by [`exec`] or [`exit_now`].
pub fn clone(flags: u64) -> io::Result<Side> {
    if threads()? != 1 {
        return Err(io::Error::other("clone in a process with several threads"));
    }
    let flags = flags as libc::c_ulong | libc::SIGCHLD as libc::c_ulong;
    let null = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: without CLONE_VM and with a null stack this is fork: the child continues on its own copy
    // of the stack. Only one thread exists (checked above), so no lock can be held by another.
    // The order of the last arguments differs per architecture, but all of them are null.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, null, null, null, null) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Side::Child),
        pid => Ok(Side::Parent(pid as i32)),
    }
}

/// Gives this thread, and those it starts, the lowest best-effort I/O priority: schedulers that know priorities serve
/// others first. Never the idle class, which may wait for ever on a busy device. Source: ioprio_set(2).
pub fn lower_io_priority() -> io::Result<()> {
    const WHO_PROCESS: libc::c_long = 1;
    const BEST_EFFORT_LOWEST: libc::c_long = (2 << 13) | 7;
    let this_thread: libc::c_long = 0;
    // SAFETY: three plain numbers go in, nothing is written.
    match unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, this_thread, BEST_EFFORT_LOWEST) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Ends this process at once, without running destructors or exit handlers.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes any value and does not return.
    unsafe { libc::_exit(code) }
}

/// Replaces this program by the file at `path`; returns only on failure.
pub fn exec(path: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let args = pointers(args);
    let env = pointers(env);
    // SAFETY: path and all elements are NUL-terminated and alive; both arrays end with null.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Replaces this program by the file behind `file` (fexecve); returns only on failure.
pub fn exec_fd(file: BorrowedFd<'_>, args: &[CString], env: &[CString]) -> io::Error {
    let args = pointers(args);
    let env = pointers(env);
    // SAFETY: as in `exec`; the descriptor is open and the path is the empty string.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            args.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings
        .iter()
        .map(|string| string.as_ptr())
        .chain(std::iter::once(std::ptr::null()))
        .collect()
}

/// Makes `/proc/self` belong to root and forbids ptrace by the unprivileged.
pub fn set_dumpable(dumpable: bool) -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, u64::from(dumpable))
}

/// Keeps the permitted capabilities over a change of the user id.
pub fn set_keep_capabilities(keep: bool) -> io::Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, u64::from(keep))
}

/// Forbids this process and its descendants to gain privileges by `execve`.
pub fn set_no_new_privileges() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// Makes orphaned descendants children of this process.
pub fn set_child_subreaper() -> io::Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1)
}

/// Has the kernel send `signal` to this process when its parent ends (0: none).
pub fn set_parent_death_signal(signal: i32) -> io::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, signal as u64)
}

/// Sets the name shown by `ps` (at most 15 bytes count).
pub fn set_name(name: &CStr) -> io::Result<()> {
    // SAFETY: PR_SET_NAME reads a NUL-terminated string.
    let result = unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
    check(result)
}

fn prctl(option: libc::c_int, value: u64) -> io::Result<()> {
    let value = value as libc::c_ulong;
    let zero: libc::c_ulong = 0;
    // SAFETY: the options used above take integers only; unused arguments must be zero.
    let result = unsafe { libc::prctl(option, value, zero, zero, zero) };
    check(result)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Sets the supplementary groups.
pub fn set_groups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: pointer and length describe the slice; gid_t is u32 on all targets.
    let result = unsafe { libc::setgroups(groups.len() as _, groups.as_ptr()) };
    check(result)
}

/// Sets real, effective and saved group id.
pub fn set_gid(gid: u32) -> io::Result<()> {
    // SAFETY: integers only.
    let result = unsafe { libc::setresgid(gid, gid, gid) };
    check(result)
}

/// Sets real, effective and saved user id.
pub fn set_uid(uid: u32) -> io::Result<()> {
    // SAFETY: integers only.
    let result = unsafe { libc::setresuid(uid, uid, uid) };
    check(result)
}

/// Sets a resource limit of a process (0: this one) by its name (`RLIMIT_NOFILE`); `u64::MAX` is unlimited.
///
/// A hard limit that may not be raised that far stays as it is, and the soft one follows it: a device or
/// VM may lack `CAP_SYS_RESOURCE`.
pub fn set_rlimit(pid: i32, name: &str, soft: u64, hard: u64) -> io::Result<()> {
    let resource: libc::c_int = match name {
        "RLIMIT_CPU" => 0,
        "RLIMIT_FSIZE" => 1,
        "RLIMIT_DATA" => 2,
        "RLIMIT_STACK" => 3,
        "RLIMIT_CORE" => 4,
        "RLIMIT_RSS" => 5,
        "RLIMIT_NPROC" => 6,
        "RLIMIT_NOFILE" => 7,
        "RLIMIT_MEMLOCK" => 8,
        "RLIMIT_AS" => 9,
        "RLIMIT_LOCKS" => 10,
        "RLIMIT_SIGPENDING" => 11,
        "RLIMIT_MSGQUEUE" => 12,
        "RLIMIT_NICE" => 13,
        "RLIMIT_RTPRIO" => 14,
        "RLIMIT_RTTIME" => 15,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "unknown resource limit")),
    };
    match prlimit(pid, resource, Some([soft, hard])) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            let [_, held] = prlimit(pid, resource, None)?;
            prlimit(pid, resource, Some([soft.min(held), hard.min(held)])).map(drop)
        }
        result => result.map(drop),
    }
}

/// Sets and reads [soft, hard]; the kernel takes two u64 on every architecture (unlike setrlimit).
fn prlimit(pid: i32, resource: libc::c_int, new: Option<[u64; 2]>) -> io::Result<[u64; 2]> {
    let mut old = [0u64; 2];
    let new = new.as_ref().map_or(std::ptr::null(), |limit| limit.as_ptr());
    // SAFETY: `new` is null or two u64 that live through the call, `old` two u64 that are written.
    let result = unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, new, old.as_mut_ptr()) };
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(old)
    }
}

/// Marks every descriptor from `first` on close-on-exec.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    let last = libc::c_uint::MAX;
    // SAFETY: integers only; the flag closes nothing before exec.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, CLOSE_RANGE_CLOEXEC) };
    if result == 0 {
        return Ok(());
    }
    // Before Linux 5.11: one by one, from the list in /proc.
    let mut open = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        if let Some(fd) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) {
            open.push(fd);
        }
    }
    for fd in open.into_iter().filter(|fd| *fd as u32 >= first) {
        // SAFETY: sets a flag of a descriptor; one that is closed meanwhile answers EBADF.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

/// Makes `fd` known as descriptor number `number` (0, 1 or 2), inherited over exec.
pub fn set_stdio(fd: impl AsFd, number: i32) -> io::Result<()> {
    if !(0..=2).contains(&number) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a standard stream"));
    }
    let raw = fd.as_fd().as_raw_fd();
    // SAFETY: replaces one of the three standard streams, which no OwnedFd of ours holds.
    let result = unsafe {
        if raw == number {
            libc::fcntl(raw, libc::F_SETFD, 0)
        } else {
            libc::dup2(raw, number)
        }
    };
    check(result)
}

/// Takes over a descriptor inherited from the parent, whose number came by the environment.
pub fn take_inherited(number: i32) -> io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: F_SETFD on a closed number fails, which is checked before it is owned.
    let result = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    check(result)?;
    // SAFETY: the number is open, and by contract nobody else in this process owns it.
    Ok(unsafe { std::os::fd::OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clone_needs_a_single_thread() {
        // The test harness runs each test in a thread beside its main thread.
        assert!(threads().unwrap() > 1);
        assert!(clone(0).is_err());
    }

    #[test]
    fn unknown_limits_are_refused() {
        assert!(set_rlimit(0, "RLIMIT_FOO", 0, 0).is_err());
    }
}
