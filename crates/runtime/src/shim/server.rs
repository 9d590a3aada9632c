//! The shim itself: one thread, one `poll` loop over the container's streams, its clients and its children.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{WaitOptions, WaitStatus, waitpid};
use sys::signal::SignalFd;

use super::connection::{Connection, Role};
use super::log::Log;
use super::oom::OomWatch;
use super::session::{self, Session};
use super::supervise::{ConsoleSocket, Running, Runtime};
use super::{CONFIG, EXIT, ExitStatus, Reply, SOCKET, ShimConfig, socket_path};
use crate::error::{Context, Error, Result};

/// How long output is waited for after the process that wrote it has ended.
pub(super) const GRACE: Duration = Duration::from_secs(2);
/// What an error begins with that the log made.
pub const LOG_FAILED: &str = "failed to initialize logging driver";
/// Ended execs whose code nobody has asked for.
const KEPT_EXECS: usize = 32;

/// The shim. `args[1]` is its directory; what it reports to its spawner is one [`Reply`] line on stdout.
pub fn main_shim(args: Vec<OsString>) -> i32 {
    let Some(directory) = args.get(1).map(PathBuf::from) else {
        eprintln!("usage: shim DIRECTORY");
        return 2;
    };
    let server = Server::open(&directory);
    let reply = match &server {
        Ok(server) => Reply {
            pid: Some(server.sessions[0].pid),
            ..Reply::default()
        },
        Err(error) => Reply {
            error: Some(error.to_string()),
            ..Reply::default()
        },
    };
    let mut text = json::to_string(&reply);
    text.push('\n');
    let _ = std::io::stdout().write_all(text.as_bytes());
    let _ = std::io::stdout().flush();
    let Ok(mut server) = server else { return 1 };
    // The spawner reads to the end of the line's pipe; from here on nobody listens there.
    if let Ok(null) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null") {
        for number in 0..3 {
            let _ = sys::process::set_stdio(&null, number);
        }
    }
    match server.run() {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

/// A runtime process under way, and what its end means.
pub(super) struct Operation {
    pub(super) running: Running,
    pub(super) connection: u64,
    pub(super) then: Then,
}

pub(super) enum Then {
    Answer,
    Started,
    Exec(Box<PendingExec>),
    Deleted,
}

pub(super) struct PendingExec {
    pub(super) id: String,
    pub(super) session: Session,
    pub(super) console: Option<ConsoleSocket>,
    pub(super) process_file: PathBuf,
    pub(super) pid_file: PathBuf,
    pub(super) streams: (bool, bool, bool),
}

/// The container has ended; what is left to do.
pub(super) struct Ending {
    pub(super) status: ExitStatus,
    pub(super) deleted: bool,
    pub(super) told: bool,
    pub(super) deadline: Instant,
}

pub(super) struct Server {
    pub(super) directory: PathBuf,
    pub(super) directory_fd: OwnedFd,
    pub(super) runtime: Runtime,
    pub(super) signals: SignalFd,
    pub(super) listener: UnixListener,
    /// The container's own first.
    pub(super) sessions: Vec<Session>,
    pub(super) deadlines: Vec<(String, Instant)>,
    pub(super) connections: Vec<Connection>,
    pub(super) operations: Vec<Operation>,
    /// Children that ended before the runtime told us who they were.
    pub(super) unknown: Vec<(i32, u32)>,
    pub(super) log: Option<Log>,
    pub(super) oom: Option<OomWatch>,
    pub(super) started: bool,
    pub(super) ending: Option<Ending>,
    pub(super) counter: u64,
}

/// Whose readiness a poll result is.
#[derive(Clone, Copy)]
enum Token {
    Signals,
    Listener,
    Oom,
    Log,
    Connection(usize),
    Source(usize, usize),
    Stdin(usize),
}

pub(super) fn exit_code(status: WaitStatus) -> Option<u32> {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Some(code as u32),
        (None, Some(signal)) => Some(128 + signal as u32),
        _ => None,
    }
}

impl Server {
    /// Everything up to the created container.
    fn open(directory: &Path) -> Result<Self> {
        let threads = sys::process::threads().context("count own threads")?;
        if threads != 1 {
            return Err(Error::new(format!("the shim runs in a process with {threads} threads")));
        }
        // Out of the daemon's session: its end must not signal us. Already a leader when started by hand.
        let _ = rustix::process::setsid();
        let _ = sys::process::set_name(c"shim");
        let signals =
            SignalFd::new(&[libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP]).context("read signals")?;
        sys::process::set_child_subreaper().context("become a subreaper")?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory_fd = rustix::fs::open(directory, flags, Mode::empty())
            .with_context(|| format!("open {}", directory.display()))?;
        rustix::process::chdir("/").context("chdir to /")?;
        let path = directory.join(CONFIG);
        let text = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let config: ShimConfig = json::from_slice(&text).with_context(|| format!("parse {}", path.display()))?;
        let log = Log::open(&config.log).context(LOG_FAILED)?;
        let _ = std::fs::remove_file(directory.join(SOCKET));
        let _ = std::fs::remove_file(directory.join(EXIT));
        let listener = UnixListener::bind(socket_path(&directory_fd, SOCKET)).context("listen on shim.sock")?;
        listener.set_nonblocking(true).context("make shim.sock non-blocking")?;
        let mut runtime = Runtime::new(directory, config);
        let session = create(&mut runtime, directory, &directory_fd)?;
        let oom = OomWatch::new(session.pid).ok();
        Ok(Self {
            directory: directory.to_owned(),
            directory_fd,
            runtime,
            signals,
            listener,
            sessions: vec![session],
            deadlines: vec![],
            connections: vec![],
            operations: vec![],
            unknown: vec![],
            log,
            oom,
            started: false,
            ending: None,
            counter: 0,
        })
    }

    fn run(&mut self) -> Result<()> {
        // Children that ended while the container was made have left a signal; this costs nothing if not.
        self.reap();
        loop {
            self.connections.retain(|connection| !connection.dead);
            if self.finish_if_done()? {
                return Ok(());
            }
            for (token, events) in self.wait()? {
                match token {
                    Token::Signals => {
                        while self.signals.next().context("read a signal")?.is_some() {}
                        self.reap();
                    }
                    Token::Listener => self.accept(),
                    Token::Oom => self.out_of_memory(),
                    Token::Log => self.log.iter_mut().for_each(Log::resume),
                    Token::Connection(index) => self.serve(index, events),
                    Token::Source(session, source) => self.pump(session, source),
                    Token::Stdin(session) => self.feed(session),
                }
            }
            self.close_ended_sources();
        }
    }

    /// Polls, and answers with what is ready. Indexes hold until the next change of the lists, which is made
    /// only at the loop's top and bottom.
    fn wait(&self) -> Result<Vec<(Token, PollFlags)>> {
        let mut tokens = vec![Token::Signals, Token::Listener];
        let mut fds = vec![
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.listener, PollFlags::IN),
        ];
        if let Some(oom) = &self.oom {
            tokens.push(Token::Oom);
            fds.push(PollFd::from_borrowed_fd(oom.as_fd(), oom.events()));
        }
        let mut log_is_full = false;
        if let Some(log) = &self.log {
            log_is_full = log.is_full();
            if let Some(fd) = log.waits_for() {
                tokens.push(Token::Log);
                fds.push(PollFd::from_borrowed_fd(fd, PollFlags::OUT));
            }
        }
        for (index, connection) in self.connections.iter().enumerate() {
            let mut events = PollFlags::empty();
            if connection.wants_input() {
                events |= PollFlags::IN;
            }
            if connection.has_output() {
                events |= PollFlags::OUT;
            }
            // With input still to be delivered, a hang-up must not be heard yet.
            if !events.is_empty() || connection.input.is_empty() {
                tokens.push(Token::Connection(index));
                fds.push(PollFd::new(&connection.socket, events));
            }
        }
        for (index, session) in self.sessions.iter().enumerate() {
            let name = session.exec.as_deref();
            for (place, (stream, fd)) in session.sources.iter().enumerate() {
                // A client that does not read stops the writer, as a full pipe does; and so does a full log.
                let waits = index == 0 && log_is_full;
                if !waits
                    && !self
                        .connections
                        .iter()
                        .any(|c| c.takes(name, *stream) && c.owes_too_much())
                {
                    tokens.push(Token::Source(index, place));
                    fds.push(PollFd::new(fd, PollFlags::IN));
                }
            }
            if let Some(stdin) = &session.stdin
                && self.connections.iter().any(|c| c.feeds(name) && !c.input.is_empty())
            {
                tokens.push(Token::Stdin(index));
                fds.push(PollFd::new(stdin, PollFlags::OUT));
            }
        }
        let deadline = self
            .deadlines
            .iter()
            .map(|(_, at)| *at)
            .chain(self.ending.iter().map(|e| e.deadline))
            .min();
        let timeout = deadline.map(|at| {
            let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            Timespec {
                tv_sec: left.as_secs() as _,
                tv_nsec: left.subsec_nanos() as _,
            }
        });
        match poll(&mut fds, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => return Ok(vec![]),
            result => drop(result.context("poll")?),
        }
        let ready = tokens.into_iter().zip(fds.iter().map(|fd| fd.revents()));
        Ok(ready.filter(|(_, events)| !events.is_empty()).collect())
    }

    fn accept(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            self.counter += 1;
            if let Ok(connection) = Connection::new(self.counter, socket) {
                self.connections.push(connection);
            }
        }
    }

    fn serve(&mut self, index: usize, events: PollFlags) {
        let connection = &mut self.connections[index];
        if events.contains(PollFlags::OUT) {
            connection.flush();
        }
        if events.contains(PollFlags::IN) && connection.wants_input() {
            connection.receive();
        } else if events.intersects(PollFlags::HUP | PollFlags::ERR) {
            connection.dead = true;
        }
        if connection.role == Role::Asking {
            if let Some(line) = connection.take_line() {
                self.request(index, &line);
            } else if self.connections[index].input_ended {
                self.connections[index].dead = true;
            }
        }
        let connection = &mut self.connections[index];
        match &connection.role {
            Role::Stream { exec, stdin: true, .. } => {
                let name = exec.clone();
                let gone = connection.dead || connection.input_ended;
                if let Some(session) = self.sessions.iter().position(|session| session.exec == name) {
                    self.feed(session);
                    if gone && self.connections[index].input.is_empty() {
                        self.sessions[session].end_input();
                    }
                }
            }
            // Input nobody takes.
            Role::Stream { .. } => connection.input.clear(),
            Role::Subscriber | Role::ExecWaiter(_) | Role::Waiting if connection.input_ended => connection.dead = true,
            _ => {}
        }
    }

    /// Gives clients' input to a process.
    pub(super) fn feed(&mut self, index: usize) {
        let session = &mut self.sessions[index];
        let name = session.exec.clone();
        for connection in self
            .connections
            .iter_mut()
            .filter(|connection| connection.feeds(name.as_deref()))
        {
            while !connection.input.is_empty() {
                let Some(stdin) = &session.stdin else {
                    connection.input.clear();
                    break;
                };
                match rustix::io::write(stdin, &connection.input) {
                    Ok(length) => drop(connection.input.drain(..length)),
                    Err(rustix::io::Errno::INTR) => {}
                    Err(rustix::io::Errno::AGAIN) => return,
                    // It reads no more.
                    Err(_) => session.stdin = None,
                }
            }
            connection.input = Vec::new();
            if connection.input_ended {
                session.end_input();
            }
        }
    }

    /// Copies a portion of output to the log and the clients.
    pub(super) fn pump(&mut self, index: usize, place: usize) {
        let mut portion = [0u8; 8192];
        let Some((stream, fd)) = self.sessions[index].sources.get(place) else {
            return;
        };
        let stream = *stream;
        match session::read(fd, &mut portion) {
            None => {}
            Some(0) => {
                if index == 0
                    && let Some(log) = &mut self.log
                {
                    // A full disk costs the log, never the container.
                    let _ = log.finish(stream);
                }
                // Marked by an impossible stream; removed at the loop's bottom, as indexes must hold.
                self.sessions[index].sources[place].0 = ENDED;
            }
            Some(length) => {
                if index == 0
                    && let Some(log) = &mut self.log
                {
                    let _ = log.write(stream, &portion[..length]);
                }
                let name = self.sessions[index].exec.as_deref();
                for connection in self.connections.iter_mut().filter(|c| c.takes(name, stream)) {
                    connection.send_frame(stream, &portion[..length]);
                }
            }
        }
    }

    fn close_ended_sources(&mut self) {
        let now = Instant::now();
        for index in 0..self.sessions.len() {
            let session = &mut self.sessions[index];
            session.sources.retain(|(stream, _)| *stream != ENDED);
            let Some(name) = session.exec.clone() else { continue };
            let overdue = self.deadlines.iter().any(|(exec, at)| *exec == name && *at <= now);
            if session.exit_code.is_some() && overdue {
                session.sources.clear();
            }
            if session.exit_code.is_some() && session.sources.is_empty() {
                session.stdin = None;
                session.terminal = None;
                self.deadlines.retain(|(exec, _)| *exec != name);
                for connection in &mut self.connections {
                    if matches!(&connection.role, Role::Stream { exec: Some(exec), .. } if *exec == name)
                        && !connection.closing
                    {
                        connection.finish();
                    }
                }
            }
        }
        let ended = self
            .sessions
            .iter()
            .skip(1)
            .filter(|s| s.exit_code.is_some() && s.sources.is_empty())
            .count();
        if ended > KEPT_EXECS
            && let Some(oldest) = self
                .sessions
                .iter()
                .skip(1)
                .position(|s| s.exit_code.is_some() && s.sources.is_empty())
        {
            self.sessions.remove(oldest + 1);
        }
    }
}

/// Marks a source that has ended.
pub(super) const ENDED: u8 = 0;

/// Has the runtime create the container, and waits for it: there is nothing else to do yet.
fn create(runtime: &mut Runtime, directory: &Path, directory_fd: &OwnedFd) -> Result<Session> {
    let config = runtime.config().clone();
    let pid_file = directory.join("init.pid");
    let console = match config.tty {
        true => Some(ConsoleSocket::new(directory, directory_fd, "console.sock")?),
        false => None,
    };
    let (mut session, stdio) = match console {
        Some(_) => Default::default(),
        None => Session::pipes(config.open_stdin, [true, true])?,
    };
    let path = console.as_ref().map(|console| console.path.clone());
    let running = runtime.create(stdio, path.as_deref(), &pid_file)?;
    let child = rustix::process::Pid::from_raw(running.pid);
    let status = loop {
        match waitpid(child, WaitOptions::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            result => break result.context("wait for the runtime")?,
        }
    };
    running.finish(status.and_then(|(_, status)| exit_code(status)).unwrap_or(255))?;
    let text = std::fs::read_to_string(&pid_file).context("read init's pid")?;
    session.pid = text
        .trim()
        .parse()
        .map_err(|_| Error::new(format!("init's pid: {text:?}")))?;
    if let Some(console) = &console {
        session.set_terminal(console.terminal()?)?;
        if !config.open_stdin {
            session.stdin = None;
        }
        if let Some(size) = config.console_size.filter(|size| size.width != 0 || size.height != 0) {
            session.resize(&size)?;
        }
    }
    session.close_stdin = config.stdin_once;
    Ok(session)
}
