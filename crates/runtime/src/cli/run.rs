//! `run`, and what it shares with a foreground `exec`: waiting for a process, passing signals and a terminal on.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use oci::runtime::{Process, Spec};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, wait};
use rustix::termios::{OptionalActions, Termios};
use sys::signal::SignalFd;

use super::args::{Args, Option_};
use super::lifecycle::create_options;
use super::{Globals, expect_args};
use crate::container::{Container, CreateOptions};
use crate::error::{Context, Error, Result};

pub const OPTIONS: &[Option_] = &[
    (&["bundle", "b"], true),
    (&["console-socket"], true),
    (&["pidfd-socket"], true),
    (&["detach", "d"], false),
    (&["keep"], false),
    (&["pid-file"], true),
    (&["no-subreaper"], false),
    (&["no-pivot"], false),
    (&["no-new-keyring"], false),
    (&["preserve-fds"], true),
];

pub fn run(globals: &Globals, args: &Args) -> Result<i32> {
    expect_args(args, "run", 1, Some(1))?;
    let (bundle, options) = create_options(globals, args)?;
    let id = &args.rest[0];
    if args.is_set("detach") {
        let container = Container::create(&globals.root, id, &bundle, &options)?;
        container.start().inspect_err(|_| drop(container.delete(true)))?;
        return Ok(0);
    }
    let process = std::fs::read(bundle.join("config.json"))
        .ok()
        .and_then(|text| Spec::from_slice(&text).ok())
        .and_then(|spec| spec.process)
        .unwrap_or_default();
    let mut created = None;
    let code = foreground(&process, options.console_socket.clone(), |console_socket| {
        let options = CreateOptions {
            console_socket,
            ..options
        };
        let container = Container::create(&globals.root, id, Path::new(&bundle), &options)?;
        let container = created.insert(container);
        container.start()?;
        Ok(container.state.init_process_pid)
    });
    if let Some(container) = created
        && !args.is_set("keep")
    {
        container.delete(true)?;
    }
    code
}

/// Starts a process by `start` (given the console socket to use), stays until it ends, and answers with its
/// exit code. Signals go to it; with a terminal but no console socket, ours is connected to its.
pub fn foreground(
    process: &Process,
    console_socket: Option<PathBuf>,
    start: impl FnOnce(Option<PathBuf>) -> Result<i32>,
) -> Result<i32> {
    let signals: Vec<i32> = (1..=64)
        .filter(|s| ![libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV, libc::SIGURG].contains(s))
        .collect();
    let signals = SignalFd::new(&signals).context("read signals")?;
    let mut terminal = None;
    let (pid, master) = if process.terminal && console_socket.is_none() {
        let (listener, path) = ConsoleSocket::new()?;
        let pid = start(Some(path.path.clone()))?;
        let (socket, _) = listener.accept().context("accept the terminal")?;
        let master = crate::console::receive(&socket)?;
        terminal = RawTerminal::new();
        follow_size(&master);
        (pid, Some(master))
    } else {
        (start(console_socket)?, None)
    };
    let code = relay(pid, &signals, master);
    drop(terminal);
    code
}

/// A socket in a private directory, removed with it.
struct ConsoleSocket {
    directory: PathBuf,
    path: PathBuf,
}

impl ConsoleSocket {
    fn new() -> Result<(UnixListener, Self)> {
        use std::os::unix::fs::DirBuilderExt;
        let directory = std::env::temp_dir().join(format!("balena-console-{}", std::process::id()));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .with_context(|| format!("create {}", directory.display()))?;
        let path = directory.join("console.sock");
        let own = Self { directory, path };
        let listener = UnixListener::bind(&own.path).with_context(|| format!("listen on {}", own.path.display()))?;
        Ok((listener, own))
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Our terminal in raw mode, until dropped.
struct RawTerminal(Termios);

impl RawTerminal {
    fn new() -> Option<Self> {
        let before = rustix::termios::tcgetattr(std::io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}

fn follow_size(master: &OwnedFd) {
    if let Ok(size) = rustix::termios::tcgetwinsize(std::io::stdin()) {
        let _ = rustix::termios::tcsetwinsize(master, size);
    }
}

/// Until the process ends: signals to it, bytes between the terminals.
fn relay(pid: i32, signals: &SignalFd, master: Option<OwnedFd>) -> Result<i32> {
    let stdin = std::io::stdin();
    let mut master = master.map(std::fs::File::from);
    let mut stdin_open = true;
    let mut buffer = [0u8; 4096];
    let mut code = None;
    loop {
        if let Some(code) = code
            && master.is_none()
        {
            return Ok(code);
        }
        let mut fds = vec![PollFd::new(signals, PollFlags::IN)];
        if let Some(master) = &master {
            fds.push(PollFd::new(master, PollFlags::IN));
            if stdin_open && code.is_none() {
                fds.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN));
            }
        }
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            result => drop(result.context("poll")?),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        if let Some(master_file) = &mut master
            && ready.get(1) == Some(&true)
        {
            match master_file.read(&mut buffer) {
                Ok(length) if length > 0 => {
                    let mut out = std::io::stdout();
                    out.write_all(&buffer[..length])
                        .and_then(|()| out.flush())
                        .context("write terminal output")?;
                }
                // EIO: the other side is closed.
                _ => {
                    master = None;
                    continue;
                }
            }
        }
        if let Some(master_file) = &mut master
            && ready.get(2) == Some(&true)
        {
            match rustix::io::read(stdin.as_fd(), &mut buffer) {
                Ok(length) if length > 0 => {
                    let _ = master_file.write_all(&buffer[..length]);
                }
                _ => stdin_open = false,
            }
        }
        while let Some(received) = signals.next().context("read a signal")? {
            match received.signal {
                libc::SIGCHLD => {
                    while let Ok(Some((child, status))) = wait(WaitOptions::NOHANG) {
                        if Pid::as_raw(Some(child)) == pid {
                            code = Some(exit_code(status));
                        }
                    }
                }
                libc::SIGWINCH => {
                    if let Some(master) = &master {
                        let fd = master.as_fd().try_clone_to_owned().context("duplicate")?;
                        follow_size(&fd);
                    }
                }
                signal => {
                    if let Err(error) = sys::signal::send(pid, signal)
                        && error.raw_os_error() != Some(libc::ESRCH)
                    {
                        return Err(Error::new(format!("signal process {pid}: {error}")));
                    }
                }
            }
        }
    }
}

fn exit_code(status: rustix::process::WaitStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        _ => 255,
    }
}
