//! docker-init: the first process of a container run with `--init`. It starts the program, passes signals on,
//! and reaps what is left to it.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt;

use rustix::process::{Pid, WaitOptions, wait};
use sys::process::Side;
use sys::signal::SignalFd;

use crate::error::{Context, Error, Result};

/// `docker-init [-s] [-g] [--] PROGRAM [ARGS…]`; exits with the program's code, 128 + signal if one killed it.
pub fn main_init(args: Vec<OsString>) -> i32 {
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("[FATAL docker-init] {error}");
            1
        }
    }
}

fn run(args: &[OsString]) -> Result<i32> {
    if sys::process::threads().is_ok_and(|threads| threads != 1) {
        return Err(Error::new("init runs in a process with several threads"));
    }
    let mut group = false;
    let mut rest = &args[1.min(args.len())..];
    while let Some((first, others)) = rest.split_first() {
        match first.to_str() {
            Some("--") => {
                rest = others;
                break;
            }
            Some("--version") => {
                println!("tini version 0.19.0 (balena-engine-init {})", env!("CARGO_PKG_VERSION"));
                return Ok(0);
            }
            Some("-g") => group = true,
            // Subreaper, verbosity, warnings: nothing of it changes what we do.
            Some("-s" | "-v" | "-vv" | "-vvv" | "-w") => {}
            Some(option) if option.starts_with('-') => return Err(Error::new(format!("unknown option {option}"))),
            _ => break,
        }
        rest = others;
    }
    let program: Vec<CString> = rest
        .iter()
        .map(|arg| CString::new(arg.as_bytes()).map_err(|_| Error::new("zero byte in an argument")))
        .collect::<Result<_>>()?;
    let Some(name) = rest.first() else {
        return Err(Error::new("no program given"));
    };
    // Signals of the program's own faults stay ours to die by.
    let passed: Vec<i32> = (1..=64)
        .filter(|signal| {
            ![
                libc::SIGKILL,
                libc::SIGSTOP,
                libc::SIGFPE,
                libc::SIGILL,
                libc::SIGSEGV,
                libc::SIGBUS,
                libc::SIGABRT,
                libc::SIGTRAP,
                libc::SIGSYS,
                libc::SIGTTIN,
                libc::SIGTTOU,
            ]
            .contains(signal)
        })
        .collect();
    let signals = SignalFd::new(&passed).context("read signals")?;
    if rustix::process::getpid() != Pid::INIT {
        sys::process::set_child_subreaper().context("become a subreaper")?;
    }
    let child = match sys::process::clone(0).context("fork")? {
        Side::Child => start(name.to_string_lossy().as_ref(), &program),
        Side::Parent(pid) => pid,
    };
    loop {
        let mut fds = [rustix::event::PollFd::new(&signals, rustix::event::PollFlags::IN)];
        let _ = rustix::event::poll(&mut fds, None);
        while let Some(received) = signals.next().context("read a signal")? {
            if received.signal == libc::SIGCHLD {
                let mut ended = None;
                while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
                    if pid.as_raw_nonzero().get() == child {
                        let signal = status.terminating_signal().map(|signal| 128 + signal);
                        ended = status.exit_status().or(signal).or(ended);
                    }
                }
                if let Some(code) = ended {
                    return Ok(code);
                }
            } else {
                let target = if group { -child } else { child };
                let _ = sys::signal::send(target, received.signal);
            }
        }
    }
}

/// The program: a process group of its own, in the foreground of our terminal if there is one.
fn start(name: &str, program: &[CString]) -> ! {
    let _ = rustix::process::setpgid(None, None);
    // SIGTTOU is not blocked yet ignored for the moment of the change, which a background group may not make.
    sys::signal::ignore(libc::SIGTTOU);
    let _ = rustix::termios::tcsetpgrp(std::io::stdin(), rustix::process::getpid());
    sys::signal::reset_all();
    let _ = sys::signal::unblock_all();
    let env: Vec<String> = std::env::vars_os()
        .map(|(k, v)| format!("{}={}", k.to_string_lossy(), v.to_string_lossy()))
        .collect();
    let strings: Vec<CString> = env.iter().filter_map(|pair| CString::new(pair.as_str()).ok()).collect();
    let path = crate::init::lookup::program(name, &env);
    let (code, error) = match path.map(CString::new) {
        Ok(Ok(path)) => {
            let error = sys::process::exec(&path, program, &strings);
            let code = if error.kind() == std::io::ErrorKind::NotFound {
                127
            } else {
                126
            };
            (code, crate::error::errno_text(&error))
        }
        Ok(Err(_)) => (126, "zero byte in its name".to_owned()),
        Err(error) if error.to_string().contains("permission denied") => (126, "Permission denied".to_owned()),
        Err(_) => (127, "No such file or directory".to_owned()),
    };
    eprintln!("[FATAL tini ({})] exec {name} failed: {error}", std::process::id());
    sys::process::exit_now(code)
}
