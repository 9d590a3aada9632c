//! A thread with network and mount namespaces of its own, and in it a registry with busybox: where a test runs.
//!
//! Everything started there shares the namespaces: loopback ports are free, packet filter rules and bridges end with
//! the last process, and so do mounts.

use crate::client::Client;
use crate::daemon::{Daemon, Kind, Options};
use crate::image::{self, Image};
use crate::registry::Registry;
use std::fs;
use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What a test is given.
pub struct Ground {
    pub registry: Registry,
    /// `127.0.0.1:…/busybox:1`, pushed already.
    pub busybox: String,
    pub binary: PathBuf,
}

/// Runs a test in namespaces of its own; says so and does nothing where that is not possible.
pub fn run(test: impl FnOnce(&Ground) + Send) {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: not root");
        return;
    }
    let Some(binary) = binary() else {
        println!("skipped: no balena binary: `cargo build` first, or say where in BALENA_BINARY");
        return;
    };
    for program in ["docker-registry", "busybox", "ip", "docker"] {
        if !there(program) {
            println!("skipped: no {program} here: `cargo xtask setup` installs it");
            return;
        }
    }
    let result = std::thread::scope(|scope| {
        let body = || {
            isolate().expect("give the test namespaces of its own");
            let registry = Registry::start().expect("start a registry");
            let busybox = registry.push("busybox", "1", busybox()).expect("push busybox");
            test(&Ground {
                registry,
                busybox,
                binary,
            });
        };
        scope.spawn(body).join()
    });
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

impl Ground {
    /// Our daemon, up.
    pub fn daemon(&self) -> Daemon {
        self.start(Kind::Ours, &[])
    }

    /// A daemon with some options more, up.
    pub fn start(&self, kind: Kind, extra: &[&str]) -> Daemon {
        let options = Options {
            binary: self.binary.clone(),
            extra: extra.iter().map(|s| (*s).to_owned()).collect(),
            ..Options::default()
        };
        Daemon::start(kind, options).expect("start a daemon")
    }

    /// A daemon on a data root that others have before or after it, and the real client on it.
    pub fn start_on(&self, root: &Path, kind: Kind, extra: &[&str]) -> (Daemon, Client) {
        let options = Options {
            binary: self.binary.clone(),
            extra: extra.iter().map(|s| (*s).to_owned()).collect(),
            data_root: Some(root.to_owned()),
            ..Options::default()
        };
        let daemon = Daemon::start(kind, options).expect("start a daemon");
        let client = daemon.docker();
        (daemon, client)
    }

    /// Our daemon and the real client on it, busybox pulled already.
    pub fn daemon_with_busybox(&self) -> (Daemon, Client) {
        let daemon = self.daemon();
        let docker = daemon.docker();
        docker.ok(&["pull", "-q", &self.busybox]);
        docker.ok(&["tag", &self.busybox, "busybox"]);
        (daemon, docker)
    }
}

/// The image is made once per process: gzip takes longer than all the rest.
fn busybox() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| image::busybox().expect("make an image of busybox"))
}

/// Namespaces of this thread's own; loopback is up, mounts are seen by nobody else.
pub fn isolate() -> Result<()> {
    sys::namespace::unshare(sys::namespace::NEWNS)?;
    let private = rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private)?;
    own_network()
}

/// The network of a process, for this thread.
pub fn join_network(pid: u32) -> Result<()> {
    sys::namespace::join(fs::File::open(format!("/proc/{pid}/ns/net"))?, sys::namespace::NEWNET)
}

/// A network of this thread's own, with nothing but loopback.
pub fn own_network() -> Result<()> {
    sys::namespace::unshare(sys::namespace::NEWNET)?;
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status()?;
    match up.success() {
        true => Ok(()),
        false => Err(Error::other(format!("ip link set lo up: {up}"))),
    }
}

/// The binary under test: `BALENA_BINARY`, or what cargo built beside this test.
pub fn binary() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("BALENA_BINARY") {
        return Some(PathBuf::from(path));
    }
    let exe = std::env::current_exe().ok()?;
    let beside = exe.parent()?.parent()?.join("balena");
    beside.exists().then_some(beside)
}

/// Whether PATH has this program.
pub fn there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|place| place.join(program).is_file())
}

/// Mount points below a directory, as this thread sees them.
pub fn mounts_below(directory: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points
        .filter(|point| Path::new(point).starts_with(directory) && Path::new(point) != directory)
        .map(str::to_owned)
        .collect()
}

/// Processes with this text in their command line: pid and command line.
pub fn processes_with(text: &str) -> Vec<(i32, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(text) {
            found.push((pid, line));
        }
    }
    found
}
