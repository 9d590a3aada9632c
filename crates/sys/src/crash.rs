//! A program that dies of its own fault goes on as a new one in its place.
//!
//! Whatever ends a Rust program against its will (a panic, memory that could not be had, a stack that overflowed, a
//! fault in C code) comes as a signal. [`arm`] has that signal's handler execute the program again: same process ID,
//! same arguments, and the descriptors that were named stay open, so that clients who connect meanwhile are served by
//! the successor. Everything else is as after `kill -9`: threads end, locks and other descriptors are gone.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicPtr, Ordering};

/// What the handler needs, made beforehand: it may neither allocate nor lock.
struct Plan {
    /// NUL-terminated, and the lists end with null.
    arguments: Vec<*const libc::c_char>,
    environment: Vec<*const libc::c_char>,
    keep: Vec<RawFd>,
}

static PLAN: AtomicPtr<Plan> = AtomicPtr::new(std::ptr::null_mut());

/// Signals that a program's own fault raises.
const FAULTS: [libc::c_int; 5] = [libc::SIGABRT, libc::SIGILL, libc::SIGBUS, libc::SIGFPE, libc::SIGSEGV];

const LAST_WORDS: &[u8] = b"fatal: this process died of a fault of its own; it starts anew in place\n";

/// Has this process execute its program again when it dies of its own fault, with these arguments (the program's name
/// first) and this environment. `keep` are descriptors that stay open across it; they must not be closed before.
///
/// What it takes is never freed: a process arms itself once, or a few times.
pub fn arm(arguments: &[CString], environment: &[CString], keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let owned = |strings: &[CString]| -> Vec<*const libc::c_char> {
        let kept = strings.iter().map(|string| string.clone().into_raw().cast_const());
        kept.chain(std::iter::once(std::ptr::null())).collect()
    };
    let plan = Box::new(Plan {
        arguments: owned(arguments),
        environment: owned(environment),
        keep: keep.iter().map(AsRawFd::as_raw_fd).collect(),
    });
    PLAN.store(Box::into_raw(plan), Ordering::Release);
    for signal in FAULTS {
        // SAFETY: zero is a valid sigaction; the handler calls only async-signal-safe functions. SA_ONSTACK: threads
        // of the standard library have a stack for handlers, which a stack that overflowed needs.
        let result = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = start_anew as extern "C" fn(libc::c_int) as libc::sighandler_t;
            action.sa_flags = libc::SA_ONSTACK | libc::SA_NODEFER;
            libc::sigaction(signal, &action, std::ptr::null_mut())
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

extern "C" fn start_anew(signal: libc::c_int) {
    // A fault in here, or an exec that fails, is the end: the handler runs once.
    let plan = PLAN.swap(std::ptr::null_mut(), Ordering::Acquire);
    // SAFETY: only async-signal-safe calls (signal-safety(7)). The plan was leaked by `arm`, its lists end with null
    // and its strings with NUL. Other threads may be anywhere: exec ends them.
    unsafe {
        if let Some(plan) = plan.as_ref() {
            libc::write(2, LAST_WORDS.as_ptr().cast(), LAST_WORDS.len());
            for fd in &plan.keep {
                libc::fcntl(*fd, libc::F_SETFD, 0);
            }
            let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
            libc::sigemptyset(none.as_mut_ptr());
            libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
            libc::execve(
                c"/proc/self/exe".as_ptr(),
                plan.arguments.as_ptr(),
                plan.environment.as_ptr(),
            );
        }
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}
