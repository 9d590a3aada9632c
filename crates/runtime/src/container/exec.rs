//! A further process in a running container.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use oci::runtime::{NamespaceKind, Process};
use sys::process::Side;

use super::create::write_pid_file;
use super::launch;
use super::{Container, Status};
use crate::channel::{Channel, Message};
use crate::error::{Context, Error, Kind, Result};
use crate::init::process as program;
use crate::rootfs::walk::Root;
use crate::seccomp::{self, Filter};

/// What `runc exec` is told besides the process.
#[derive(Debug, Default)]
pub struct ExecOptions {
    pub console_socket: Option<PathBuf>,
    pub pid_file: Option<PathBuf>,
    pub preserve_fds: u32,
    /// Execute in a paused container too: it starts when the container is resumed.
    pub ignore_paused: bool,
}

impl Container {
    /// Starts a process; answers with its pid. Its standard streams are ours, or a new terminal's.
    pub fn exec(&self, process: &Process, options: &ExecOptions) -> Result<i32> {
        match self.status() {
            Status::Stopped => return Err(Error::of(Kind::State, "cannot exec in a stopped container")),
            Status::Creating => {
                return Err(Error::of(
                    Kind::State,
                    "cannot exec in a container that is being created",
                ));
            }
            Status::Paused if !options.ignore_paused => {
                return Err(Error::of(
                    Kind::State,
                    "cannot exec in a paused container (use --ignore-paused to override)",
                ));
            }
            _ => {}
        }
        if process.args.is_empty() {
            return Err(Error::new("args must not be empty"));
        }
        let spec = self.spec()?;
        let linux = spec.linux.clone().unwrap_or_default();
        let filter = linux
            .seccomp
            .as_ref()
            .filter(|s| !s.default_action.is_empty())
            .map(seccomp::compile)
            .transpose()?;
        let console = options
            .console_socket
            .as_deref()
            .map(crate::console::connect)
            .transpose()?;
        let mut joins = Vec::new();
        let (mut mount, mut user) = (None, None);
        for kind in [
            NamespaceKind::Pid,
            NamespaceKind::Network,
            NamespaceKind::Ipc,
            NamespaceKind::Uts,
            NamespaceKind::Cgroup,
            NamespaceKind::Mount,
            NamespaceKind::User,
        ] {
            let theirs = format!("/proc/{}/ns/{}", self.state.init_process_pid, kind.proc_name());
            let ours = format!("/proc/self/ns/{}", kind.proc_name());
            let link = |path: &str| std::fs::read_link(path).ok();
            if link(&theirs).is_none() || link(&theirs) == link(&ours) {
                continue;
            }
            let fd = launch::open(kind, &theirs)?;
            match kind {
                NamespaceKind::Mount => mount = Some(fd),
                NamespaceKind::User => user = Some(fd),
                _ => joins.push((kind, fd)),
            }
        }
        // Read while the number is still surely this container's.
        if !self.alive() {
            return Err(Error::of(Kind::State, "cannot exec in a stopped container"));
        }
        let (mut ours, mut theirs) = Channel::pair().context("make a socket pair")?;
        sys::process::set_dumpable(false).context("set dumpable")?;
        let starting = "unable to start container process";
        let pid = match launch::clone_into(&joins, 0).map_err(|error| error.within(starting))? {
            Side::Child => {
                drop(ours);
                let entered = enter(process, mount.as_ref(), user.as_ref(), console, &mut theirs);
                run(process, filter, entered, theirs, options.preserve_fds)
            }
            Side::Parent(pid) => pid,
        };
        drop(theirs);
        let result = self
            .supervise_exec(process, pid, &mut ours)
            .map_err(|error| error.within(starting));
        let result = result.and_then(|()| match &options.pid_file {
            Some(path) => write_pid_file(path, pid),
            None => Ok(()),
        });
        if result.is_err() {
            let _ = sys::signal::send(pid, libc::SIGKILL);
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
            }
        }
        result.map(|()| pid)
    }

    fn supervise_exec(&self, process: &Process, pid: i32, channel: &mut Channel) -> Result<()> {
        self.cgroup()?.add(pid).context("adding pid to cgroup")?;
        for limit in &process.rlimits {
            sys::process::set_rlimit(pid, &limit.kind, limit.soft, limit.hard)
                .with_context(|| format!("error setting rlimit {}", limit.kind))?;
        }
        let score = match process.oom_score_adj {
            Some(score) => Some(score),
            // As its container's init.
            None => read_number(&PathBuf::from(format!(
                "/proc/{}/oom_score_adj",
                self.state.init_process_pid
            ))),
        };
        if let Some(score) = score {
            launch::set_oom_score(pid, score)?;
        }
        channel.go().context("talk to the new process")?;
        let mut ready = false;
        while let Some(message) = channel.receive().context("read from the new process")? {
            match message {
                Message::Failed(text) => return Err(Error::new(text)),
                Message::Ready => ready = true,
                Message::Hooks => {}
            }
        }
        if ready {
            Ok(())
        } else {
            Err(Error::new("the process ended before it was ready"))
        }
    }
}

fn read_number(path: &Path) -> Option<i32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Moves the new process into the container.
fn enter(
    process: &Process,
    mount: Option<&std::os::fd::OwnedFd>,
    user: Option<&std::os::fd::OwnedFd>,
    console: Option<std::os::unix::net::UnixStream>,
    channel: &mut Channel,
) -> Result<()> {
    // Until the runtime has moved us into the cgroup.
    channel.wait().context("wait for the runtime")?;
    if let Some(mount) = mount {
        sys::namespace::join(mount, sys::namespace::NEWNS).context("join mnt namespace")?;
    }
    // Last: inside, the privileges to join the others are gone.
    if let Some(user) = user {
        sys::namespace::join(user, sys::namespace::NEWUSER).context("join user namespace")?;
        sys::process::set_gid(0).context("setgid 0 in the user namespace")?;
        sys::process::set_uid(0).context("setuid 0 in the user namespace")?;
    }
    rustix::process::setsid().context("setsid")?;
    if let Some(socket) = console {
        let root = Root::open(Path::new("/")).context("open /")?;
        let (master, slave) = crate::console::open(&root)?;
        if let Some(size) = process
            .console_size
            .as_ref()
            .filter(|size| size.height != 0 || size.width != 0)
        {
            crate::console::resize(slave.as_fd(), size)?;
        }
        crate::console::send(&socket, master.as_fd())?;
        rustix::process::ioctl_tiocsctty(&slave).context("set the controlling terminal")?;
        for number in 0..3 {
            sys::process::set_stdio(&slave, number).context("set the standard streams")?;
        }
    }
    Ok(())
}

/// Becomes the program, or reports why not and ends.
fn run(process: &Process, filter: Option<Filter>, entered: Result<()>, mut channel: Channel, preserve: u32) -> ! {
    let ready = entered
        .and_then(|()| program::prepare(process, filter))
        .and_then(|program| {
            channel
                .send(&Message::Ready)
                .context("report to the runtime")
                .map(|()| program)
        });
    let error = match ready {
        // The channel closes by the execve; a failure of that is still reported.
        Ok(program) => program.execute(3 + preserve),
        Err(error) => error,
    };
    let _ = channel.send(&Message::Failed(error.to_string()));
    sys::process::exit_now(1)
}
