//! The shim's dealings with the OCI runtime: our own as a library where it only looks or signals, as a process
//! where something enters the container; another's always as a process, by the standard command line.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use oci::runtime::Resources;

use super::session;
use super::{RUNC_NAME, ShimConfig};
use crate::container::Container;
use crate::error::{Context, Error, Result};

/// Something asked of the runtime.
#[derive(Debug)]
pub enum Call {
    Start,
    KillAll(i32),
    Pause,
    Resume,
    Update(Box<Resources>),
    Delete,
}

/// A call is done, or a process works on it.
#[derive(Debug)]
pub enum Outcome {
    Done(Result<()>),
    Running(Running),
}

/// A runtime process whose end brings the answer.
#[derive(Debug)]
pub struct Running {
    pub pid: i32,
    log: PathBuf,
}

/// The runtime of one container.
#[derive(Debug)]
pub struct Runtime {
    directory: PathBuf,
    config: ShimConfig,
    counter: u32,
}

impl Runtime {
    pub fn new(directory: &Path, config: ShimConfig) -> Self {
        Self {
            directory: directory.to_owned(),
            config,
            counter: 0,
        }
    }

    pub fn config(&self) -> &ShimConfig {
        &self.config
    }

    fn command(&mut self) -> (Command, PathBuf) {
        self.counter += 1;
        let log = self.directory.join(format!("runtime-{}.log", self.counter));
        let runtime = &self.config.runtime;
        let mut command = match &runtime.path {
            Some(path) => Command::new(path),
            None => {
                let mut own = Command::new("/proc/self/exe");
                own.arg0(RUNC_NAME);
                own
            }
        };
        command
            .arg("--root")
            .arg(&runtime.root)
            .arg("--log")
            .arg(&log)
            .args(["--log-format", "json"])
            .args(&runtime.args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        (command, log)
    }

    fn spawn(command: &mut Command, log: PathBuf) -> Result<Running> {
        let child = command
            .spawn()
            .with_context(|| format!("start runtime {}", command.get_program().display()))?;
        // Reaped by the shim's own loop, with all others.
        Ok(Running {
            pid: child.id() as i32,
            log,
        })
    }

    /// `create` with these streams. The init it makes becomes our child.
    pub fn create(&mut self, stdio: session::Stdio, console: Option<&Path>, pid_file: &Path) -> Result<Running> {
        let (mut command, log) = self.command();
        command
            .arg("create")
            .arg("--bundle")
            .arg(&self.config.bundle)
            .arg("--pid-file")
            .arg(pid_file);
        if let Some(console) = console {
            command.arg("--console-socket").arg(console);
        }
        command.arg(&self.config.id);
        set_stdio(&mut command, stdio);
        Self::spawn(&mut command, log)
    }

    /// `exec --detach` of the process in a file.
    pub fn exec(
        &mut self,
        process: &Path,
        stdio: session::Stdio,
        console: Option<&Path>,
        pid_file: &Path,
    ) -> Result<Running> {
        let (mut command, log) = self.command();
        command
            .arg("exec")
            .arg("--detach")
            .arg("--process")
            .arg(process)
            .arg("--pid-file")
            .arg(pid_file);
        if let Some(console) = console {
            command.arg("--console-socket").arg(console);
        }
        command.arg(&self.config.id);
        set_stdio(&mut command, stdio);
        Self::spawn(&mut command, log)
    }

    pub fn call(&mut self, call: Call) -> Outcome {
        if self.config.runtime.path.is_none() {
            return Outcome::Done(self.call_own(call));
        }
        match self.call_other(call) {
            Ok(running) => Outcome::Running(running),
            Err(error) => Outcome::Done(Err(error)),
        }
    }

    fn call_own(&self, call: Call) -> Result<()> {
        let container = Container::load(&self.config.runtime.root, &self.config.id)?;
        match call {
            Call::Start => container.start(),
            Call::KillAll(signal) => container.kill(signal, true),
            Call::Pause => container.pause(),
            Call::Resume => container.resume(),
            Call::Update(mut resources) => {
                resources.devices.clear();
                container.cgroup()?.apply(&resources)
            }
            Call::Delete => container.delete(true),
        }
    }

    fn call_other(&mut self, call: Call) -> Result<Running> {
        let (mut command, log) = self.command();
        let id = self.config.id.clone();
        match call {
            Call::Start => command.args(["start", &id]),
            Call::KillAll(signal) => command.args(["kill", "--all", &id, &signal.to_string()]),
            Call::Pause => command.args(["pause", &id]),
            Call::Resume => command.args(["resume", &id]),
            Call::Update(resources) => {
                let path = self.directory.join("resources.json");
                let text = json::to_vec(&resources);
                std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
                command.arg("update").arg("--resources").arg(path).arg(&id)
            }
            Call::Delete => command.args(["delete", "--force", &id]),
        };
        Self::spawn(&mut command, log)
    }
}

impl Running {
    /// The answer, from the exit code and the last error of the runtime's log.
    pub fn finish(self, code: u32) -> Result<()> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let _ = std::fs::remove_file(&self.log);
        if code == 0 {
            return Ok(());
        }
        let message = text.lines().rev().find_map(|line| {
            let value: serde_json::Value = json::from_str(line).ok()?;
            let failed = matches!(value["level"].as_str(), Some("error" | "fatal"));
            failed.then(|| value["msg"].as_str().map(str::to_owned))?
        });
        Err(Error::new(
            message.unwrap_or_else(|| format!("the runtime ended with exit code {code}")),
        ))
    }
}

fn set_stdio(command: &mut Command, stdio: session::Stdio) {
    let stream = |fd: Option<OwnedFd>| fd.map_or_else(Stdio::null, |fd| Stdio::from(File::from(fd)));
    command
        .stdin(stream(stdio.stdin))
        .stdout(stream(stdio.stdout))
        .stderr(stream(stdio.stderr));
}

/// A listening console socket in the shim's directory, under a path any runtime can connect to.
pub struct ConsoleSocket {
    listener: UnixListener,
    file: PathBuf,
    pub path: PathBuf,
}

impl ConsoleSocket {
    /// `directory_fd` is the shim's open directory: its path may be too long for a socket address.
    pub fn new(directory: &Path, directory_fd: &OwnedFd, name: &str) -> Result<Self> {
        use std::os::fd::AsRawFd;
        let path = PathBuf::from(format!(
            "/proc/{}/fd/{}/{name}",
            std::process::id(),
            directory_fd.as_raw_fd()
        ));
        let file = directory.join(name);
        let _ = std::fs::remove_file(&file);
        let listener = UnixListener::bind(&path).with_context(|| format!("listen on {}", file.display()))?;
        listener
            .set_nonblocking(true)
            .context("make the console socket non-blocking")?;
        Ok(Self { listener, file, path })
    }

    /// The terminal a runtime that has ended successfully sent.
    pub fn terminal(&self) -> Result<OwnedFd> {
        let (socket, _) = self.listener.accept().context("accept the terminal")?;
        crate::console::receive(&socket)
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}
