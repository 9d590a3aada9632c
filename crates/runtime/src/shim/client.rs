//! The daemon's side: spawning shims, finding them again, and asking things of them. Blocking.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use oci::runtime::{Process, Resources};
use rustix::fs::{Mode, OFlags};

use super::{CONFIG, EXIT, ExitStatus, Notice, Reply, Request, SHIM_NAME, SOCKET, ShimConfig, socket_path};
use crate::cgroup::{Cgroup, Stats};
use crate::error::{Context, Error, Kind, Result};

/// Shims that are our children, to be reaped when they end.
static CHILDREN: Mutex<Vec<Child>> = Mutex::new(Vec::new());

fn reap() {
    if let Ok(mut children) = CHILDREN.lock() {
        children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }
}

/// The shim of one container.
#[derive(Debug)]
pub struct Shim {
    directory: PathBuf,
    pid: i32,
}

/// Which streams to attach to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AttachOptions {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// A process to start in the container. With no stream at all it runs detached.
#[derive(Debug, Clone)]
pub struct ExecOptions {
    /// Letters, digits, `_+-.`; unique among the container's execs.
    pub id: String,
    pub process: Process,
    pub streams: AttachOptions,
}

/// A started exec.
#[derive(Debug)]
pub struct ExecHandle {
    pub pid: i32,
    /// stdcopy frames out (stream 1 for a terminal), raw bytes in; shutting down writes ends its stdin.
    pub stream: Option<UnixStream>,
}

impl Shim {
    /// Starts a shim in `directory` (made if needed) and waits until its container is created.
    ///
    /// The error is the runtime's own text (`runc create failed: …`).
    pub fn spawn(directory: &Path, config: &ShimConfig) -> Result<Self> {
        Self::spawn_from(Path::new("/proc/self/exe"), directory, config)
    }

    /// [`Shim::spawn`] from another binary than the running one.
    pub fn spawn_from(program: &Path, directory: &Path, config: &ShimConfig) -> Result<Self> {
        reap();
        std::fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
        let path = directory.join(CONFIG);
        let text = json::to_vec(config);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        let mut child = Command::new(program)
            .arg0(SHIM_NAME)
            .arg(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .current_dir("/")
            .spawn()
            .context("start the shim")?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout)
                .read_line(&mut line)
                .context("read from the shim")?;
        }
        let reply: Reply = match json::from_str(&line) {
            Ok(reply) => reply,
            Err(_) => {
                let status = child.wait().map(|status| status.to_string()).unwrap_or_default();
                return Err(Error::new(format!(
                    "the shim ended before it created the container: {status}"
                )));
            }
        };
        match (reply.error, reply.pid) {
            (None, Some(pid)) => {
                if let Ok(mut children) = CHILDREN.lock() {
                    children.push(child);
                }
                Ok(Self {
                    directory: directory.to_owned(),
                    pid,
                })
            }
            (error, _) => {
                let _ = child.wait();
                Err(Error::new(error.unwrap_or_else(|| "the shim gave no pid".to_owned())))
            }
        }
    }

    /// Finds the shim of an earlier daemon again. [`Kind::Gone`] when it has ended: see [`read_exit`].
    pub fn connect(directory: &Path) -> Result<Self> {
        let mut shim = Self {
            directory: directory.to_owned(),
            pid: 0,
        };
        shim.pid = shim.info()?.0;
        Ok(shim)
    }

    /// Init's pid.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Init's pid, and whether the container was started.
    pub fn info(&self) -> Result<(i32, bool)> {
        let reply = self.ask(&Request::Info)?.0;
        Ok((reply.pid.unwrap_or(0), reply.started.unwrap_or(false)))
    }

    pub fn start(&self) -> Result<()> {
        self.ask(&Request::Start).map(drop)
    }

    /// Sends a signal to init, or to every process of the container.
    pub fn kill(&self, signal: i32, all: bool) -> Result<()> {
        self.ask(&Request::Kill { signal, all }).map(drop)
    }

    pub fn resize(&self, width: u16, height: u16) -> Result<()> {
        self.ask(&Request::Resize { w: width, h: height }).map(drop)
    }

    pub fn pause(&self) -> Result<()> {
        self.ask(&Request::Pause).map(drop)
    }

    pub fn resume(&self) -> Result<()> {
        self.ask(&Request::Resume).map(drop)
    }

    pub fn update(&self, resources: &Resources) -> Result<()> {
        self.ask(&Request::Update {
            resources: Box::new(resources.clone()),
        })
        .map(drop)
    }

    /// Ends the container whatever its state; its exit is reported as any other.
    pub fn delete(&self) -> Result<()> {
        self.ask(&Request::Delete).map(drop)
    }

    /// The container's processes, as the host numbers them. Read from its cgroup, without the shim.
    pub fn pids(&self) -> Result<Vec<i32>> {
        Cgroup::of_process(self.pid)?.pids()
    }

    /// Usage now. Read from its cgroup, without the shim.
    pub fn stats(&self) -> Result<Stats> {
        Cgroup::of_process(self.pid)?.stats()
    }

    /// The container's streams: stdcopy frames out (stream 1 for a terminal), raw bytes in.
    pub fn attach(&self, options: AttachOptions) -> Result<UnixStream> {
        let AttachOptions { stdin, stdout, stderr } = options;
        Ok(self.ask(&Request::Attach { stdin, stdout, stderr })?.1)
    }

    /// Starts a process in the container.
    pub fn exec(&self, options: ExecOptions) -> Result<ExecHandle> {
        let AttachOptions { stdin, stdout, stderr } = options.streams;
        let process = Box::new(options.process);
        let (reply, stream) = self.ask(&Request::Exec {
            id: options.id,
            process,
            stdin,
            stdout,
            stderr,
        })?;
        let pid = reply.pid.ok_or_else(|| Error::new("the shim gave no pid"))?;
        Ok(ExecHandle {
            pid,
            stream: (stdin || stdout || stderr).then_some(stream),
        })
    }

    pub fn resize_exec(&self, id: &str, width: u16, height: u16) -> Result<()> {
        self.ask(&Request::ResizeExec {
            id: id.to_owned(),
            w: width,
            h: height,
        })
        .map(drop)
    }

    /// Waits for an exec's end and answers with its exit code.
    pub fn wait_exec(&self, id: &str) -> Result<u32> {
        let reply = self.ask(&Request::WaitExec { id: id.to_owned() })?.0;
        reply
            .exit_code
            .ok_or_else(|| Error::new(format!("no exit code of exec {id}")))
    }

    /// Waits for the container's end.
    pub fn wait(&self) -> Result<ExitStatus> {
        let mut events = match self.subscribe() {
            Ok(events) => events,
            Err(error) if error.kind() == Kind::Gone => return self.exit_record(error),
            Err(error) => return Err(error),
        };
        loop {
            match events.next_event()? {
                Some(Event::Exit(status)) => {
                    reap();
                    return Ok(status);
                }
                Some(_) => {}
                None => return self.exit_record(Error::of(Kind::Gone, "the shim ended without an exit record")),
            }
        }
    }

    fn exit_record(&self, otherwise: Error) -> Result<ExitStatus> {
        reap();
        read_exit(&self.directory).ok_or(otherwise)
    }

    /// Events from now on; the exit also when it has just happened.
    pub fn subscribe(&self) -> Result<Events> {
        let (_, stream) = self.ask(&Request::Subscribe)?;
        Ok(Events {
            stream,
            pending: Vec::new(),
            open: true,
        })
    }

    /// Sends a request and reads the answering line, and no byte more.
    fn ask(&self, request: &Request) -> Result<(Reply, UnixStream)> {
        let gone = |what: &str| {
            Error::of(
                Kind::Gone,
                format!("{what} the shim in {}: it is gone", self.directory.display()),
            )
        };
        let mut stream = connect(&self.directory)?;
        let mut line = json::to_vec(request);
        line.push(b'\n');
        stream.write_all(&line).map_err(|_| gone("ask"))?;
        let mut answer = Vec::new();
        let mut byte = [0u8];
        loop {
            match stream.read(&mut byte) {
                Ok(1) if byte[0] == b'\n' => break,
                Ok(1) => answer.push(byte[0]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                _ => return Err(gone("read from")),
            }
        }
        let reply: Reply = json::from_slice(&answer).context("parse the shim's answer")?;
        match reply.error {
            Some(error) => Err(Error::new(error)),
            None => Ok((reply, stream)),
        }
    }
}

fn connect(directory: &Path) -> Result<UnixStream> {
    let gone = |error: std::io::Error| {
        let text = format!(
            "connect to the shim in {}: {}",
            directory.display(),
            crate::error::errno_text(&error)
        );
        match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => Error::of(Kind::Gone, text),
            _ => Error::new(text),
        }
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open: OwnedFd = rustix::fs::open(directory, flags, Mode::empty()).map_err(|error| gone(error.into()))?;
    UnixStream::connect(socket_path(&open, SOCKET)).map_err(gone)
}

/// How the container of a shim that is gone ended; `None` when it left no record (the machine went down).
pub fn read_exit(directory: &Path) -> Option<ExitStatus> {
    json::from_slice(&std::fs::read(directory.join(EXIT)).ok()?).ok()
}

/// Something that happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Exit(ExitStatus),
    ExecExit { id: String, code: u32 },
    Oom,
}

impl From<Notice> for Event {
    fn from(notice: Notice) -> Self {
        match notice {
            Notice::Exit { status } => Self::Exit(status),
            Notice::ExecExit { id, exit_code } => Self::ExecExit { id, code: exit_code },
            Notice::Oom => Self::Oom,
        }
    }
}

/// A subscription. Poll it for readability, then call [`Events::ready`]; or block in [`Events::next_event`].
#[derive(Debug)]
pub struct Events {
    stream: UnixStream,
    pending: Vec<u8>,
    open: bool,
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Events {
    /// Whether the shim may still send; false once it is gone.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// What has arrived, without waiting.
    pub fn ready(&mut self) -> Result<Vec<Event>> {
        self.stream
            .set_nonblocking(true)
            .context("make the subscription non-blocking")?;
        self.read_once()?;
        let mut events = Vec::new();
        while let Some(event) = self.take()? {
            events.push(event);
        }
        Ok(events)
    }

    /// The next event; `None` when the shim is gone.
    pub fn next_event(&mut self) -> Result<Option<Event>> {
        self.stream
            .set_nonblocking(false)
            .context("make the subscription blocking")?;
        loop {
            if let Some(event) = self.take()? {
                return Ok(Some(event));
            }
            if !self.open {
                return Ok(None);
            }
            self.read_once()?;
        }
    }

    fn read_once(&mut self) -> Result<()> {
        let mut portion = [0u8; 512];
        match self.stream.read(&mut portion) {
            Ok(0) => self.open = false,
            Ok(length) => self.pending.extend_from_slice(&portion[..length]),
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted
                ) => {}
            Err(_) => self.open = false,
        }
        Ok(())
    }

    fn take(&mut self) -> Result<Option<Event>> {
        let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') else {
            return Ok(None);
        };
        let line: Vec<u8> = self.pending.drain(..=end).collect();
        let notice: Notice = json::from_slice(&line).context("parse the shim's event")?;
        Ok(Some(notice.into()))
    }
}
