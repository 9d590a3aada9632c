//! A container as the runtime keeps it between commands: a directory under the runtime's root.
//!
//! `<root>/<id>/state.json` (what must be found again), `spec.json` (the bundle's configuration as it was
//! at creation) and `exec.fifo` (there until `start` read it). The root is on a tmpfs: nothing is synced.

mod create;
mod exec;
mod launch;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use json::{Deserialize, Serialize};
use oci::runtime::{NamespaceKind, Spec};
use rustix::fs::{Mode, OFlags};

use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Kind, Result};
use crate::hooks;
pub use create::CreateOptions;
pub use exec::ExecOptions;

/// `state.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    pub oci_version: String,
    pub id: String,
    pub init_process_pid: i32,
    /// Start time of that process in clock ticks since boot: tells it from a later one with the same number.
    pub init_process_start: u64,
    pub created: String,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    #[serde(default)]
    pub cgroup_paths: BTreeMap<String, PathBuf>,
    /// Whether the container has its own pid namespace, so that its processes end with its init.
    pub own_pid_namespace: bool,
}

/// Where in its life a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// A container that exists.
#[derive(Debug, Clone)]
pub struct Container {
    pub directory: PathBuf,
    pub state: State,
}

/// Fields of `/proc/PID/stat`: the state letter and the start time.
pub fn process_stat(pid: i32) -> Option<(char, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and parentheses: the last one ends it.
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    let start = fields.nth(18)?.parse().ok()?;
    Some((state, start))
}

/// Checks an id: it becomes a file name.
pub fn check_id(id: &str) -> Result<()> {
    let valid = !id.is_empty()
        && id != "."
        && id != ".."
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte));
    if valid {
        Ok(())
    } else {
        Err(Error::new(format!("invalid container ID format: {id:?}")))
    }
}

impl Container {
    pub fn load(root: &Path, id: &str) -> Result<Self> {
        if id.is_empty() {
            return Err(Error::new("container id cannot be empty"));
        }
        check_id(id)?;
        let directory = root.join(id);
        let text = match std::fs::read(directory.join("state.json")) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::of(Kind::NotExist, "container does not exist"));
            }
            Err(error) => return Err(error).with_context(|| format!("read state of container {id}")),
        };
        let state = json::from_slice(&text).with_context(|| format!("parse state of container {id}"))?;
        Ok(Self { directory, state })
    }

    /// All containers of a root; one whose state cannot be read is left out.
    pub fn list(root: &Path) -> Vec<Self> {
        let Ok(entries) = std::fs::read_dir(root) else {
            return vec![];
        };
        let mut all: Vec<Self> = entries
            .flatten()
            .filter_map(|entry| Self::load(root, entry.file_name().to_str()?).ok())
            .collect();
        all.sort_by(|a, b| a.state.id.cmp(&b.state.id));
        all
    }

    fn save(&self) -> Result<()> {
        let text = json::to_vec(&self.state);
        let temporary = self.directory.join("state.json.new");
        std::fs::write(&temporary, text).with_context(|| format!("write {}", temporary.display()))?;
        std::fs::rename(&temporary, self.directory.join("state.json")).context("rename state.json")
    }

    /// The configuration the container was created with.
    pub fn spec(&self) -> Result<Spec> {
        let path = self.directory.join("spec.json");
        let text = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        Spec::from_slice(&text).with_context(|| format!("parse {}", path.display()))
    }

    /// The hooks, parsed only when the configuration names that moment: the shim comes by here and stays small.
    fn hooks(&self, moment: &str) -> oci::runtime::Hooks {
        let text = std::fs::read(self.directory.join("spec.json")).unwrap_or_default();
        let named = text.windows(moment.len()).any(|window| window == moment.as_bytes());
        let spec = named.then(|| Spec::from_slice(&text).ok()).flatten();
        spec.and_then(|spec| spec.hooks).unwrap_or_default()
    }

    pub fn cgroup(&self) -> Result<Cgroup> {
        Cgroup::from_paths(&self.state.cgroup_paths)
    }

    fn fifo(&self) -> PathBuf {
        self.directory.join("exec.fifo")
    }

    /// Whether init runs (a zombie does not).
    fn alive(&self) -> bool {
        match process_stat(self.state.init_process_pid) {
            Some((state, start)) => start == self.state.init_process_start && !matches!(state, 'Z' | 'X'),
            None => false,
        }
    }

    pub fn status(&self) -> Status {
        if self.state.init_process_pid == 0 {
            return Status::Creating;
        }
        if !self.alive() {
            return Status::Stopped;
        }
        if self.fifo().exists() {
            return Status::Created;
        }
        if self.cgroup().is_ok_and(|cgroup| cgroup.is_frozen()) {
            Status::Paused
        } else {
            Status::Running
        }
    }

    /// As hooks get it.
    pub fn hook_state(&self, status: Status) -> hooks::State {
        hooks::State {
            oci_version: self.state.oci_version.clone(),
            id: self.state.id.clone(),
            status: status.as_str(),
            pid: if status == Status::Stopped {
                0
            } else {
                self.state.init_process_pid
            },
            bundle: self.state.bundle.display().to_string(),
            annotations: self.state.annotations.clone(),
        }
    }

    /// Lets the created container execute its program.
    pub fn start(&self) -> Result<()> {
        match self.status() {
            Status::Created => {}
            Status::Stopped => return Err(Error::of(Kind::State, "cannot start a container that has stopped")),
            Status::Running | Status::Paused => {
                return Err(Error::of(Kind::State, "cannot start an already running container"));
            }
            Status::Creating => return Err(Error::of(Kind::State, "cannot start a container in the creating state")),
        }
        // Non-blocking: the open succeeds before init opened its end.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fifo = rustix::fs::open(self.fifo(), flags, Mode::empty()).context("open exec fifo")?;
        self.read_fifo(&fifo)?;
        let _ = std::fs::remove_file(self.fifo());
        for error in hooks::run_all(
            &self.hooks("poststart").poststart,
            &self.hook_state(Status::Running),
            "poststart",
        ) {
            log::warn!("{error}");
        }
        Ok(())
    }

    fn read_fifo(&self, fifo: &OwnedFd) -> Result<()> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let patience = Timespec {
            tv_sec: 0,
            tv_nsec: 100_000_000,
        };
        loop {
            let mut fds = [PollFd::new(fifo, PollFlags::IN)];
            match poll(&mut fds, Some(&patience)) {
                Ok(0) if !self.alive() => return Err(Error::new("container process is already dead")),
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(error).context("poll exec fifo"),
            }
            let mut byte = [0u8; 1];
            match rustix::io::read(fifo, &mut byte) {
                Ok(1) => return Ok(()),
                Ok(_) => return Err(Error::new("exec fifo is empty: the container's process is dead")),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("read exec fifo"),
            }
        }
    }

    /// Sends a signal to init, or to all of the container's processes.
    pub fn kill(&self, signal: i32, all: bool) -> Result<()> {
        if all || (!self.state.own_pid_namespace && signal == libc::SIGKILL) {
            return self.cgroup()?.signal_all(signal);
        }
        match self.status() {
            Status::Stopped | Status::Creating => Err(Error::of(Kind::State, "container not running")),
            status => {
                sys::signal::send(self.state.init_process_pid, signal).context("unable to signal init")?;
                // A frozen process cannot die: v1 wants it thawed.
                if status == Status::Paused && signal == libc::SIGKILL {
                    let _ = self.cgroup()?.freeze(false);
                }
                Ok(())
            }
        }
    }

    pub fn pause(&self) -> Result<()> {
        match self.status() {
            Status::Running | Status::Created => self.cgroup()?.freeze(true),
            _ => Err(Error::of(Kind::State, "container not running or created: not paused")),
        }
    }

    pub fn resume(&self) -> Result<()> {
        match self.status() {
            Status::Paused => self.cgroup()?.freeze(false),
            _ => Err(Error::of(Kind::State, "container not paused")),
        }
    }

    /// Removes a stopped container; with `force` one in any state.
    pub fn delete(&self, force: bool) -> Result<()> {
        match self.status() {
            Status::Stopped | Status::Creating => {}
            status => {
                // A created one has run nothing of its own yet.
                if !force && status != Status::Created {
                    return Err(Error::of(
                        Kind::State,
                        format!(
                            "cannot delete container {} that is not stopped: {}",
                            self.state.id,
                            status.as_str()
                        ),
                    ));
                }
                let _ = self.kill(libc::SIGKILL, false);
                self.wait_dead();
            }
        }
        let cgroup = self.cgroup()?;
        // Without a pid namespace the rest does not end with init; with one, a process that joined may linger.
        if !self.state.own_pid_namespace || !cgroup.pids().unwrap_or_default().is_empty() {
            cgroup.signal_all(libc::SIGKILL)?;
        }
        let removed = cgroup.delete();
        let hooks = self.hooks("poststop");
        let gone =
            std::fs::remove_dir_all(&self.directory).with_context(|| format!("remove {}", self.directory.display()));
        for error in hooks::run_all(&hooks.poststop, &self.hook_state(Status::Stopped), "poststop") {
            log::warn!("{error}");
        }
        removed.and(gone)
    }

    fn wait_dead(&self) {
        for _ in 0..1000 {
            if !self.alive() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Whether a spec gives the container a pid namespace of its own (not joined, not the host's).
fn own_pid_namespace(spec: &Spec) -> bool {
    spec.namespace(NamespaceKind::Pid)
        .is_some_and(|namespace| namespace.path.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        for id in ["a", "A-b_c.d+e", "0123"] {
            check_id(id).unwrap();
        }
        for id in ["", ".", "..", "a/b", "a b", "ü"] {
            assert!(check_id(id).is_err(), "{id}");
        }
    }

    #[test]
    fn own_process() {
        let (state, start) = process_stat(std::process::id() as i32).unwrap();
        assert!(matches!(state, 'R' | 'S'));
        assert!(start > 0);
        assert!(process_stat(-1).is_none());
    }

    #[test]
    fn absent() {
        let root = tempfile::tempdir().unwrap();
        let error = Container::load(root.path(), "x").unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (Kind::NotExist, "container does not exist")
        );
        assert!(Container::list(root.path()).is_empty());
    }
}
