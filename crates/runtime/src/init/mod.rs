//! A container's first process, from clone to `execve`.
//!
//! [`run`] is the whole of it, top to bottom. It is single-threaded, leaves by `execve` or `_exit`, and
//! reports to the runtime over a [`Channel`], whose closing by `execve` means success.

pub mod lookup;
pub mod process;

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use oci::runtime::{NamespaceKind, Spec};

use crate::cgroup::Cgroup;
use crate::channel::{Channel, Message};
use crate::error::{Context, Error, Result};
use crate::rootfs::apply::{self, Site};
use crate::rootfs::plan::Step;
use crate::rootfs::walk::{Make, Root, is_directory};
use crate::seccomp::Filter;
use crate::{console, hooks};

/// All that init works with. Made before the clone, so that nothing that can be checked fails after it.
pub struct Init<'a> {
    pub spec: &'a Spec,
    pub rootfs: &'a Path,
    pub steps: &'a [Step],
    pub cgroup: &'a Cgroup,
    pub seccomp: Option<Filter>,
    /// Namespaces only the process itself can join (mount, user), in order, with their clone flags.
    pub joins: Vec<(OwnedFd, u64)>,
    pub console: Option<UnixStream>,
    /// The exec fifo (`O_PATH`) and the host's `/proc/self/fd` by which it is opened again.
    pub fifo: OwnedFd,
    pub state: hooks::State,
    pub no_pivot: bool,
    pub preserve_fds: u32,
}

/// Runs in the new process. Never returns to the caller's code.
pub fn run(init: Init<'_>, mut channel: Channel) -> ! {
    let failed = |channel: &mut Channel, text: String| -> ! {
        let _ = channel.send(&Message::Failed(text));
        sys::process::exit_now(1)
    };
    let preserve = init.preserve_fds;
    let hooks = init.spec.hooks.clone().unwrap_or_default();
    let (mut state, fifo) = match init.fifo.try_clone() {
        Ok(fifo) => (init.state.clone(), fifo),
        Err(error) => failed(&mut channel, format!("duplicate the exec fifo: {error}")),
    };
    let fd_directory = match set_up(&init, &mut channel) {
        Ok(directory) => directory,
        Err(error) => failed(&mut channel, error.to_string()),
    };
    let ready = channel.send(&Message::Ready).context("report to the runtime");
    let process = init.spec.process.clone().unwrap_or_default();
    let program = match ready.and_then(|()| process::prepare(&process, init.seccomp)) {
        Ok(program) => program,
        Err(error) => failed(&mut channel, error.to_string()),
    };
    // Success: the runtime reports the container as created, and we wait for `start` to open the other end.
    drop(channel);
    let started = wait_for_start(&fd_directory, &fifo).and_then(|()| {
        state.status = "running";
        hooks::run(&hooks.start_container, &state, "startContainer")
    });
    let error = match started {
        Ok(()) => program.execute(3 + preserve),
        Err(error) => error,
    };
    // Nobody listens but who reads the container's output.
    eprintln!("{error}");
    sys::process::exit_now(1)
}

fn wait_for_start(fd_directory: &OwnedFd, fifo: &OwnedFd) -> Result<()> {
    use rustix::fs::{Mode, OFlags};
    // By the host's /proc, whatever the container has there.
    let name = fifo.as_raw_fd().to_string();
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let opened = loop {
        match rustix::fs::openat(fd_directory, name.as_str(), flags, Mode::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            result => break result.context("open exec fifo")?,
        }
    };
    rustix::io::write(&opened, b"0").context("write 0 exec fifo")?;
    Ok(())
}

/// Everything up to the point where only the program itself can be wrong.
fn set_up(init: &Init<'_>, channel: &mut Channel) -> Result<OwnedFd> {
    let spec = init.spec;
    let linux = spec.linux.clone().unwrap_or_default();
    let process = spec.process.clone().unwrap_or_default();

    // The runtime first moves us into the cgroup and writes our id mappings.
    channel.wait().context("wait for the runtime")?;

    // The host's /proc/self/fd, while the host's /proc is there to be opened.
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd_directory = rustix::fs::open("/proc/self/fd", flags, Mode::empty()).context("open /proc/self/fd")?;

    for (namespace, flag) in &init.joins {
        sys::namespace::join(namespace, *flag).context("join namespace")?;
    }
    let new_user = spec.namespace(NamespaceKind::User).is_some();
    if new_user {
        // Root of the new user namespace; until now we were nobody there.
        sys::process::set_gid(0).context("setgid 0 in the user namespace")?;
        sys::process::set_uid(0).context("setuid 0 in the user namespace")?;
    }
    // After the cgroup was entered: its root becomes the namespace's root.
    let cgroup_namespace = spec.namespace(NamespaceKind::Cgroup).is_some();
    if spec
        .namespace(NamespaceKind::Cgroup)
        .is_some_and(|namespace| namespace.path.is_empty())
    {
        sys::namespace::unshare(sys::namespace::NEWCGROUP).context("unshare the cgroup namespace")?;
    }
    // A session of its own: no signals from the runtime's terminal.
    rustix::process::setsid().context("setsid")?;

    let own_mounts = spec.namespace(NamespaceKind::Mount).is_some();
    let root = if own_mounts {
        let site = Site {
            rootfs: init.rootfs,
            cgroup: init.cgroup,
            cgroup_namespace,
            user_namespace: new_user,
        };
        apply::apply(init.steps, &site)?
    } else {
        Root::open(init.rootfs).with_context(|| format!("open {}", init.rootfs.display()))?
    };

    // The runtime's hooks run in its namespaces, when the mounts are made and before the root changes.
    channel.send(&Message::Hooks).context("report to the runtime")?;
    channel.wait().context("wait for the runtime's hooks")?;
    let hooks = spec.hooks.clone().unwrap_or_default();
    hooks::run(&hooks.create_container, &init.state, "createContainer")?;

    // Before pivot_root: the terminal is bound by /proc/self/fd, the sysctl files are the host's.
    let terminal = match &init.console {
        Some(socket) => Some(terminal(&root, socket, &process)?),
        None => None,
    };
    for (name, value) in &linux.sysctl {
        write_sysctl(name, value)?;
    }
    if !spec.hostname.is_empty() {
        rustix::system::sethostname(spec.hostname.as_bytes())
            .with_context(|| format!("set hostname {:?}", spec.hostname))?;
    }
    if !spec.domainname.is_empty() {
        std::fs::write("/proc/sys/kernel/domainname", &spec.domainname)
            .with_context(|| format!("set domainname {:?}", spec.domainname))?;
    }

    if own_mounts && !init.no_pivot {
        apply::pivot(&root)?;
    } else {
        apply::chroot(&root)?;
    }
    if !process.cwd.is_empty() {
        // What the image lacks is made while the root is still writable.
        let root = Root::open(Path::new("/")).context("open /")?;
        let doing = || format!("mkdir {}", process.cwd);
        let place = root
            .walk(Path::new(&process.cwd), Make::Directory)
            .with_context(doing)?;
        if !is_directory(&place.fd).with_context(doing)? {
            return Err(Error::new("not a directory").within(doing()));
        }
    }
    if own_mounts && spec.root.as_ref().is_some_and(|root| root.readonly) {
        apply::readonly_root()?;
    }
    if let Some(terminal) = terminal {
        // Last of the set-up: from here on our own stderr is the container's.
        rustix::process::ioctl_tiocsctty(&terminal).context("set the controlling terminal")?;
        for number in 0..3 {
            sys::process::set_stdio(&terminal, number).context("set the standard streams")?;
        }
    }
    Ok(fd_directory)
}

fn terminal(root: &Root, socket: &UnixStream, process: &oci::runtime::Process) -> Result<OwnedFd> {
    let (master, slave) = console::open(root)?;
    if let Some(size) = process
        .console_size
        .as_ref()
        .filter(|size| size.height != 0 || size.width != 0)
    {
        console::resize(slave.as_fd(), size)?;
    }
    apply::bind_console(root, slave.as_fd())?;
    console::send(socket, master.as_fd())?;
    Ok(slave)
}

/// Writes a namespaced kernel parameter; the files of `/proc/sys` follow the writer's namespaces.
fn write_sysctl(name: &str, value: &str) -> Result<()> {
    // Dots separate, except where slashes do (an interface name may hold a dot).
    let separator = name.chars().find(|letter| matches!(letter, '.' | '/'));
    let path: String = match separator {
        Some('/') => name.to_owned(),
        _ => name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            })
            .collect(),
    };
    if path.split('/').any(|part| part.is_empty() || part == "..") {
        return Err(Error::new(format!("sysctl {name:?}: invalid name")));
    }
    std::fs::write(Path::new("/proc/sys").join(&path), value).with_context(|| format!("open /proc/sys/{path}"))
}

/// Checks a sysctl against the container's namespaces: the others would change the host.
pub fn check_sysctl(spec: &Spec, name: &str) -> Result<()> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let dotted = name.replace('/', ".");
    let own = |kind| spec.namespace(kind).is_some();
    let refused = |kind: &str| {
        Err(Error::new(format!(
            "sysctl {name:?} is not allowed in the hosts {kind} namespace"
        )))
    };
    if IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.") {
        return if own(NamespaceKind::Ipc) {
            Ok(())
        } else {
            refused("ipc")
        };
    }
    if dotted.starts_with("net.") {
        return if own(NamespaceKind::Network) {
            Ok(())
        } else {
            refused("network")
        };
    }
    if dotted == "kernel.domainname" || dotted == "kernel.hostname" {
        return if own(NamespaceKind::Uts) {
            Ok(())
        } else {
            refused("uts")
        };
    }
    if dotted.starts_with("user.") && own(NamespaceKind::User) {
        return Ok(());
    }
    Err(Error::new(format!(
        "sysctl {name:?} is not in a separate kernel namespace"
    )))
}
