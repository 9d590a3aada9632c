//! Creating a container: the runtime's side, from the bundle to an init that waits at its fifo.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use oci::runtime::{NamespaceKind, OCI_VERSION, Spec};
use rustix::fs::{CWD, Mode, OFlags};
use sys::process::Side;

use super::launch;
use super::{Container, State, Status, check_id, own_pid_namespace, process_stat};
use crate::cgroup::Cgroup;
use crate::channel::{Channel, Message};
use crate::error::{Context, Error, Result};
use crate::init::{self, Init};
use crate::{hooks, rootfs, seccomp, time};

/// What `runc create` is told besides the bundle.
#[derive(Debug, Default)]
pub struct CreateOptions {
    pub console_socket: Option<PathBuf>,
    pub pid_file: Option<PathBuf>,
    pub no_pivot: bool,
    pub preserve_fds: u32,
    pub systemd_cgroup: bool,
}

impl Container {
    /// Creates the container of the bundle's `config.json`.
    pub fn create(root: &Path, id: &str, bundle: &Path, options: &CreateOptions) -> Result<Self> {
        check_id(id)?;
        let bundle = std::fs::canonicalize(bundle).with_context(|| format!("open bundle {}", bundle.display()))?;
        let config = bundle.join("config.json");
        let text = std::fs::read(&config).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::new("JSON specification file config.json not found"),
            _ => Error::new(format!(
                "read {}: {}",
                config.display(),
                crate::error::errno_text(&error)
            )),
        })?;
        let spec = Spec::from_slice(&text).with_context(|| format!("parse {}", config.display()))?;
        let rootfs = validate(&spec, &bundle, options)?;
        // Both are written to `state.json`, which is text.
        if let Some(strange) = [&bundle, &rootfs].into_iter().find(|path| path.to_str().is_none()) {
            return Err(Error::new(format!("path {strange:?} is not UTF-8")));
        }

        make_private_directory(root)?;
        let directory = root.join(id);
        match std::fs::DirBuilder::new().mode(0o711).create(&directory) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(Error::new("container with given ID already exists"));
            }
            result => result.with_context(|| format!("create {}", directory.display()))?,
        }
        let linux = spec.linux.as_ref();
        let cgroups_path = linux.map(|linux| linux.cgroups_path.as_str()).unwrap_or_default();
        let cgroup = Cgroup::locate(cgroups_path, id, options.systemd_cgroup);
        let container = cgroup.and_then(|cgroup| {
            std::fs::write(directory.join("spec.json"), &text).context("write spec.json")?;
            let mut container = Self {
                directory: directory.clone(),
                state: State {
                    oci_version: if spec.oci_version.is_empty() {
                        OCI_VERSION.to_owned()
                    } else {
                        spec.oci_version.clone()
                    },
                    id: id.to_owned(),
                    init_process_pid: 0,
                    init_process_start: 0,
                    created: time::now(),
                    bundle,
                    rootfs,
                    annotations: spec.annotations.clone(),
                    cgroup_paths: cgroup.paths(),
                    own_pid_namespace: own_pid_namespace(&spec),
                },
            };
            // A group that somebody else uses is neither ours to fill nor to remove.
            let existed = cgroup.exists() && !cgroup.pids().unwrap_or_default().is_empty();
            container.launch(&spec, &cgroup, options).inspect_err(|_| {
                if !existed {
                    let _ = cgroup.delete();
                }
            })?;
            Ok(container)
        });
        let container = match container {
            Ok(container) => container,
            Err(error) => {
                let _ = std::fs::remove_dir_all(&directory);
                return Err(error);
            }
        };
        if let Some(path) = &options.pid_file
            && let Err(error) = write_pid_file(path, container.state.init_process_pid)
        {
            let _ = container.delete(true);
            return Err(error);
        }
        Ok(container)
    }

    /// Makes init and sees it through to its fifo.
    fn launch(&mut self, spec: &Spec, cgroup: &Cgroup, options: &CreateOptions) -> Result<()> {
        let starting = "unable to start container process";
        let linux = spec.linux.clone().unwrap_or_default();
        let filter = linux
            .seccomp
            .as_ref()
            .filter(|s| !s.default_action.is_empty())
            .map(seccomp::compile)
            .transpose()?;
        let steps = rootfs::plan(spec)?;
        let console = options
            .console_socket
            .as_deref()
            .map(crate::console::connect)
            .transpose()?;
        let fifo_path = self.fifo();
        rustix::fs::mknodat(
            CWD,
            &fifo_path,
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o622),
            0,
        )
        .context("make exec fifo")?;
        // The umask took from it; root of a user namespace is "other" here.
        rustix::fs::chmod(&fifo_path, Mode::from_raw_mode(0o622)).context("chmod exec fifo")?;
        let fifo =
            rustix::fs::open(&fifo_path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).context("open exec fifo")?;

        let (mut joins, mut own_joins, mut flags) = (Vec::new(), Vec::new(), 0);
        for namespace in &linux.namespaces {
            match (namespace.kind, namespace.path.as_str()) {
                // Made by init once it is in its cgroup.
                (NamespaceKind::Cgroup, "") => {}
                (kind, "") => flags |= launch::flag(kind),
                (kind @ (NamespaceKind::Mount | NamespaceKind::User), path) => {
                    own_joins.push((launch::open(kind, path)?, launch::flag(kind)));
                }
                (kind, path) => joins.push((kind, launch::open(kind, path)?)),
            }
        }
        cgroup.create()?;
        let (mut ours, theirs) = Channel::pair().context("make a socket pair")?;
        let mut hook_state = self.hook_state(Status::Creating);
        // Nobody in the container may look into a process that still holds descriptors of the host.
        sys::process::set_dumpable(false).context("set dumpable")?;
        let side = launch::clone_into(&joins, flags).map_err(|error| error.within(starting))?;
        let pid = match side {
            Side::Child => {
                drop(ours);
                let rootfs = self.state.rootfs.clone();
                let init = Init {
                    spec,
                    rootfs: &rootfs,
                    steps: &steps,
                    cgroup,
                    seccomp: filter,
                    joins: own_joins,
                    console,
                    fifo,
                    state: hook_state,
                    no_pivot: options.no_pivot,
                    preserve_fds: options.preserve_fds,
                };
                init::run(init, theirs)
            }
            Side::Parent(pid) => pid,
        };
        drop(theirs);
        hook_state.pid = pid;
        let result = self
            .supervise(spec, cgroup, pid, &mut ours, &hook_state)
            .map_err(|error| error.within(starting));
        if result.is_err() {
            let _ = sys::signal::send(pid, libc::SIGKILL);
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
            }
        }
        result
    }

    /// The parent's half of the conversation.
    fn supervise(
        &mut self,
        spec: &Spec,
        cgroup: &Cgroup,
        pid: i32,
        channel: &mut Channel,
        hook_state: &hooks::State,
    ) -> Result<()> {
        let linux = spec.linux.clone().unwrap_or_default();
        // Before it runs anything: all it uses is counted, and its cgroup namespace starts there.
        cgroup.add(pid).context("unable to apply cgroup configuration")?;
        if let Some(resources) = &linux.resources {
            cgroup
                .apply(resources)
                .context("error setting cgroup config for procHooks process")?;
        }
        launch::write_mappings(pid, &linux.uid_mappings, &linux.gid_mappings)?;
        let process = spec.process.clone().unwrap_or_default();
        for limit in &process.rlimits {
            // By us: in its user namespace it may not raise them.
            sys::process::set_rlimit(pid, &limit.kind, limit.soft, limit.hard).with_context(|| {
                format!(
                    "error setting rlimits for ready process: error setting rlimit {}",
                    limit.kind
                )
            })?;
        }
        if let Some(score) = process.oom_score_adj {
            launch::set_oom_score(pid, score)?;
        }
        channel.go().context("talk to init")?;
        let mut ready = false;
        while let Some(message) = channel.receive().context("read from init")? {
            match message {
                Message::Hooks => {
                    let hooks = spec.hooks.clone().unwrap_or_default();
                    hooks::run(&hooks.prestart, hook_state, "prestart")?;
                    hooks::run(&hooks.create_runtime, hook_state, "createRuntime")?;
                    channel.go().context("talk to init")?;
                }
                Message::Ready => ready = true,
                Message::Failed(text) if ready => return Err(Error::new(text)),
                Message::Failed(text) => return Err(Error::new(text).within("error during container init")),
            }
        }
        let start = process_stat(pid).filter(|(state, _)| *state != 'Z');
        let Some((_, start)) = start.filter(|_| ready) else {
            // A memory limit too small for init itself ends here.
            let killed = if cgroup.oom_kills() > 0 {
                "container init was OOM-killed (memory limit too low?)"
            } else {
                "container init ended before it was ready"
            };
            return Err(Error::new(killed));
        };
        self.state.init_process_pid = pid;
        self.state.init_process_start = start;
        self.save()
    }
}

/// Writes a pid file so that nobody ever reads half of it.
pub fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    let doing = || format!("write pid file {}", path.display());
    let name = path
        .file_name()
        .ok_or_else(|| Error::new("no file name").within(doing()))?;
    let temporary = path.with_file_name(format!(".{}", name.to_string_lossy()));
    std::fs::write(&temporary, pid.to_string()).with_context(doing)?;
    std::fs::rename(&temporary, path).with_context(doing)
}

fn make_private_directory(path: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("create {}", path.display()))
}

/// Refuses what cannot work before anything is made. Answers with the absolute root directory.
fn validate(spec: &Spec, bundle: &Path, options: &CreateOptions) -> Result<PathBuf> {
    let Some(root) = &spec.root else {
        return Err(Error::new("root must be specified"));
    };
    let Some(process) = &spec.process else {
        return Err(Error::new("process property must not be empty"));
    };
    if process.args.is_empty() {
        return Err(Error::new("args must not be empty"));
    }
    if !process.cwd.starts_with('/') {
        return Err(Error::new("Cwd must be an absolute path"));
    }
    if process.terminal && options.console_socket.is_none() {
        return Err(Error::new(
            "cannot allocate tty if runc will detach without setting console socket",
        ));
    }
    if !process.terminal && options.console_socket.is_some() {
        return Err(Error::new(
            "cannot use console socket if runc will not detach or allocate tty",
        ));
    }
    let own = |kind| spec.namespace(kind).is_some();
    if !spec.hostname.is_empty() && !own(NamespaceKind::Uts) {
        return Err(Error::new("unable to set hostname without a private UTS namespace"));
    }
    let linux = spec.linux.clone().unwrap_or_default();
    let restricts = !linux.masked_paths.is_empty() || !linux.readonly_paths.is_empty();
    if restricts && !own(NamespaceKind::Mount) {
        return Err(Error::new(
            "unable to restrict sys entries without a private MNT namespace",
        ));
    }
    if own(NamespaceKind::User)
        && linux.uid_mappings.is_empty()
        && spec.namespace(NamespaceKind::User).is_some_and(|n| n.path.is_empty())
    {
        return Err(Error::new("user namespaces enabled, but no uid mappings found"));
    }
    for (index, namespace) in linux.namespaces.iter().enumerate() {
        if linux.namespaces[..index]
            .iter()
            .any(|other| other.kind == namespace.kind)
        {
            return Err(Error::new(format!(
                "malformed spec file: duplicated ns {:?}",
                namespace.kind.proc_name()
            )));
        }
    }
    for name in linux.sysctl.keys() {
        init::check_sysctl(spec, name)?;
    }
    let path = bundle.join(&root.path);
    std::fs::canonicalize(&path).map_err(|error| {
        Error::new(format!(
            "invalid rootfs: stat {}: {}",
            path.display(),
            crate::error::errno_text(&error)
        ))
    })
}
