//! Further processes in a running container.

use crate::attach::{self, Client};
use crate::cancel::Cancel;
use crate::error::{Context, Error, Result};
use crate::id::{ContainerId, random_hex};
use crate::{Engine, spec, user};
use api::exec::{CreateRequest, Inspect, ProcessConfig};
use oci::runtime as rt;
use runtime::shim::{AttachOptions, ExecOptions};
use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

/// All execs that somebody may still ask about.
#[derive(Default)]
pub struct Execs {
    map: Mutex<BTreeMap<String, Exec>>,
    changed: Condvar,
}

/// An exec.
#[derive(Clone)]
struct Exec {
    container: ContainerId,
    request: CreateRequest,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Created,
    Running { pid: i32 },
    Exited { code: i64 },
}

impl Execs {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Exec>> {
        self.map.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn get(&self, id: &str) -> Result<Exec> {
        self.lock()
            .get(id)
            .cloned()
            .ok_or_else(|| Error::not_found(format!("No such exec instance: {id}")))
    }

    /// Execs of a container that run.
    pub fn running(&self, container: &ContainerId) -> Vec<String> {
        let map = self.lock();
        let of =
            |exec: &&String| map[*exec].container == *container && matches!(map[*exec].state, State::Running { .. });
        map.keys().filter(of).cloned().collect()
    }

    /// Drops all execs of a container that is gone.
    pub fn forget(&self, container: &ContainerId) {
        self.lock().retain(|_, exec| exec.container != *container);
    }

    /// Records how an exec ended.
    pub(crate) fn exited(&self, id: &str, code: i64) -> Option<ContainerId> {
        let mut map = self.lock();
        let exec = map.get_mut(id)?;
        exec.state = State::Exited { code };
        self.changed.notify_all();
        Some(exec.container.clone())
    }

    /// Records that all execs of a container ended with it.
    pub(crate) fn all_exited(&self, container: &ContainerId) {
        for exec in self.lock().values_mut().filter(|e| e.container == *container) {
            if matches!(exec.state, State::Running { .. }) {
                exec.state = State::Exited { code: 137 };
            }
        }
        self.changed.notify_all();
    }

    fn wait_exited(&self, id: &str) {
        let deadline = Instant::now() + attach::AFTERMATH;
        let mut map = self.lock();
        while matches!(map.get(id).map(|e| e.state), Some(State::Running { .. })) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            map = self
                .changed
                .wait_timeout(map, left)
                .unwrap_or_else(|e| e.into_inner())
                .0;
        }
    }
}

/// Prepares a process; it is started by [`start`].
pub fn create(engine: &Engine, name: &str, request: CreateRequest) -> Result<String> {
    let container = engine.containers.find(name)?;
    if request.cmd.as_ref().is_none_or(Vec::is_empty) {
        return Err(Error::invalid("No exec command specified"));
    }
    attach::parse_keys(&request.detach_keys)?;
    let record = container.record().clone();
    running(&record, name)?;
    let id = random_hex(32)?;
    let text = command_line(&request);
    let exec = Exec {
        container: container.id.clone(),
        request,
        state: State::Created,
    };
    engine.execs.lock().insert(id.clone(), exec);
    engine_event(engine, "exec_create", &record, &id, &text);
    Ok(id)
}

fn running(record: &crate::container::Record, name: &str) -> Result<()> {
    match record.state {
        crate::container::State::Running { paused: false, .. } => Ok(()),
        crate::container::State::Running { .. } => Err(Error::conflict(format!(
            "Container {name} is paused, unpause the container before exec"
        ))),
        crate::container::State::Restarting => Err(Error::conflict(format!(
            "Container {name} is restarting, wait until the container is running"
        ))),
        _ => Err(Error::conflict(format!("container {} is not running", record.id))),
    }
}

fn command_line(request: &CreateRequest) -> String {
    request.cmd.iter().flatten().cloned().collect::<Vec<_>>().join(" ")
}

fn engine_event(engine: &Engine, action: &str, record: &crate::container::Record, id: &str, text: &str) {
    engine.container_event(&format!("{action}: {text}"), record, &[("execID", id.to_string())]);
}

/// Whether an exec was tried and has ended.
pub fn has_run(engine: &Engine, id: &str) -> bool {
    engine
        .execs
        .get(id)
        .is_ok_and(|exec| matches!(exec.state, State::Exited { .. }))
}

/// A started exec.
pub struct Started {
    id: String,
    tty: bool,
    stdin: bool,
    detach_keys: String,
    stream: Option<UnixStream>,
}

/// Whether an exec has a terminal: that decides how its answer begins.
pub fn tty_of(engine: &Engine, id: &str) -> Result<bool> {
    Ok(engine.execs.get(id)?.request.tty)
}

/// Starts an exec. With `detach` nothing is connected.
pub fn start(engine: &Arc<Engine>, id: &str, detach: bool, console_size: Option<[u32; 2]>) -> Result<Started> {
    let exec = engine.execs.get(id)?;
    match exec.state {
        State::Created => {}
        State::Running { .. } => return Err(Error::conflict(format!("Error: Exec command {id} is already running"))),
        State::Exited { .. } => return Err(Error::conflict(format!("Error: Exec command {id} has already run"))),
    }
    let container = engine.containers.find(exec.container.as_str())?;
    let (record, shim) = {
        let inner = container.lock();
        (inner.record.clone(), inner.live.shim.clone())
    };
    running(&record, record.id.as_str())?;
    let shim = shim.ok_or_else(|| Error::conflict(format!("container {} is not running", container.id)))?;
    let request = &exec.request;
    let options = ExecOptions {
        id: id.into(),
        process: process(engine, &record, request, console_size)
            .inspect_err(|_| set_state(engine, id, State::Exited { code: 126 }))?,
        streams: AttachOptions {
            stdin: request.attach_stdin && !detach,
            stdout: request.attach_stdout && !detach,
            stderr: request.attach_stderr && !detach,
        },
    };
    // Before it runs: its end may be reported before `exec` returns.
    set_state(engine, id, State::Running { pid: 0 });
    engine_event(engine, "exec_start", &record, id, &command_line(request));
    match shim.exec(options) {
        Ok(handle) => {
            let mut map = engine.execs.lock();
            if let Some(exec) = map.get_mut(id)
                && exec.state == (State::Running { pid: 0 })
            {
                exec.state = State::Running { pid: handle.pid };
            }
            Ok(Started {
                id: id.into(),
                tty: request.tty,
                stdin: request.attach_stdin,
                detach_keys: request.detach_keys.clone(),
                stream: handle.stream,
            })
        }
        Err(e) => {
            let text = e.to_string();
            let missing = text.contains("executable file not found") || text.contains("no such file or directory");
            let code = match () {
                () if missing => 127,
                () if text.contains("permission denied") || text.contains("is a directory") => 126,
                () => 128,
            };
            set_state(engine, id, State::Exited { code });
            let text = format!("OCI runtime exec failed: {}: unknown", text.trim());
            Err(if code == 128 {
                Error::internal(text)
            } else {
                Error::invalid(text)
            })
        }
    }
}

fn set_state(engine: &Engine, id: &str, state: State) {
    if let Some(exec) = engine.execs.lock().get_mut(id) {
        exec.state = state;
    }
}

pub(crate) fn process(
    engine: &Engine,
    record: &crate::container::Record,
    request: &CreateRequest,
    console_size: Option<[u32; 2]>,
) -> Result<rt::Process> {
    let config = &record.disk.config;
    let pid = record.pid().unwrap_or(0);
    // The container's own view: its files may have changed since its start.
    let root = std::path::PathBuf::from(format!("/proc/{pid}/root"));
    let read = |name: &str| crate::info::read_in(&root, name);
    let spec = if request.user.is_empty() {
        &config.user
    } else {
        &request.user
    };
    let groups = record.host.group_add.as_deref().unwrap_or_default();
    let user = user::resolve(spec, &read("etc/passwd"), &read("etc/group"), groups)?;
    let mut env = vec![spec::DEFAULT_PATH.to_string(), format!("HOSTNAME={}", config.hostname)];
    if request.tty {
        env.push("TERM=xterm".into());
    }
    for entry in config.env.iter().flatten().chain(request.env.iter().flatten()) {
        spec::replace_or_append(&mut env, entry);
    }
    if !env.iter().any(|e| e.starts_with("HOME=")) {
        env.push(format!("HOME={}", user.home));
    }
    let bounding = crate::info::bounding();
    let host = api::host_config::HostConfig {
        privileged: record.host.privileged || request.privileged,
        cap_add: record.host.cap_add.clone(),
        cap_drop: record.host.cap_drop.clone(),
        ..Default::default()
    };
    let capabilities = spec::capabilities_of(&host, &bounding)?;
    let own = if user.uid == 0 {
        capabilities.clone()
    } else {
        Vec::new()
    };
    let cwd = match (request.working_dir.as_str(), config.working_dir.as_str()) {
        ("", "") => "/",
        ("", own) => own,
        (asked, _) => asked,
    };
    if !cwd.starts_with('/') {
        return Err(Error::invalid(
            "OCI runtime exec failed: exec failed: Cwd must be an absolute path: unknown",
        ));
    }
    let size = request.console_size.or(console_size).filter(|s| *s != [0, 0]);
    let mut additional_gids = vec![user.gid];
    additional_gids.extend(user.groups.iter().filter(|g| **g != user.gid));
    Ok(rt::Process {
        terminal: request.tty,
        console_size: size.map(|[height, width]| rt::ConsoleSize {
            height: u16::try_from(height).unwrap_or(u16::MAX),
            width: u16::try_from(width).unwrap_or(u16::MAX),
        }),
        user: rt::User {
            uid: user.uid,
            gid: user.gid,
            umask: None,
            additional_gids,
        },
        args: request.cmd.clone().unwrap_or_default(),
        env,
        cwd: crate::mounts::clean(cwd),
        capabilities: Some(rt::Capabilities {
            bounding: capabilities,
            effective: own.clone(),
            permitted: own,
            ..rt::Capabilities::default()
        }),
        no_new_privileges: engine.config.no_new_privileges,
        ..rt::Process::default()
    })
}

impl Started {
    /// Carries its streams until they end; then its exit code is known.
    pub fn run(self, engine: &Engine, mut client: Client, cancel: &Cancel) -> Result<()> {
        let Some(stream) = self.stream else { return Ok(()) };
        let keys = attach::parse_keys(&self.detach_keys)?;
        let detached = attach::relay(stream, &mut client, self.stdin, self.tty, &keys, cancel)?;
        if !detached {
            engine.execs.wait_exited(&self.id);
        }
        // The connection is closed only now: a client asks for the exit code as soon as it sees that.
        drop(client);
        Ok(())
    }
}

/// What is known of an exec.
pub fn inspect(engine: &Engine, id: &str) -> Result<Inspect> {
    let exec = engine.execs.get(id)?;
    let request = &exec.request;
    let mut words = request.cmd.clone().unwrap_or_default().into_iter();
    let (running, pid, exit_code) = match exec.state {
        State::Created => (false, 0, None),
        State::Running { pid } => (true, i64::from(pid), None),
        State::Exited { code } => (false, 0, Some(code)),
    };
    Ok(Inspect {
        id: id.into(),
        running,
        exit_code,
        process_config: ProcessConfig {
            tty: request.tty,
            entrypoint: words.next().unwrap_or_default(),
            arguments: words.collect(),
            privileged: request.privileged,
            user: request.user.clone(),
        },
        open_stdin: request.attach_stdin,
        open_stderr: request.attach_stderr,
        open_stdout: request.attach_stdout,
        can_remove: false,
        container_id: exec.container.to_string(),
        detach_keys: request.detach_keys.clone(),
        pid,
    })
}

/// Sets the size of an exec's terminal.
pub fn resize(engine: &Engine, id: &str, height: u16, width: u16) -> Result<()> {
    let exec = engine.execs.get(id)?;
    if !matches!(exec.state, State::Running { .. }) {
        return Err(Error::conflict(format!("cannot resize a stopped exec: {id}")));
    }
    let container = engine.containers.find(exec.container.as_str())?;
    let shim = container.lock().live.shim.clone();
    let shim = shim.ok_or_else(|| Error::conflict(format!("container {} is not running", container.id)))?;
    shim.resize_exec(id, width, height)
        .context(format!("resize the terminal of exec {id:.12}"))
}

/// Sets the size of a container's terminal.
pub fn resize_container(engine: &Engine, name: &str, height: u16, width: u16) -> Result<()> {
    let container = engine.containers.find(name)?;
    let shim = container.lock().live.shim.clone();
    let shim = shim.ok_or_else(|| Error::conflict(format!("container {} is not running", container.id)))?;
    shim.resize(width, height)
        .context(format!("resize the terminal of container {}", container.id.short()))?;
    let more = [("height", height.to_string()), ("width", width.to_string())];
    engine.container_event("resize", &container.record(), &more);
    Ok(())
}
