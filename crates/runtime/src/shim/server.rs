//! The shim itself: one thread, one `poll` loop over the container's streams, its clients and its children.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oci::runtime::ConsoleSize;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{WaitOptions, WaitStatus, wait, waitpid};
use sys::signal::SignalFd;

use super::connection::{Connection, Role};
use super::json_log::JsonLog;
use super::oom::OomWatch;
use super::session::{self, Session};
use super::supervise::{Call, ConsoleSocket, Outcome, Running, Runtime};
use super::{CONFIG, EXIT, ExitStatus, LogConfig, Notice, Reply, Request, SOCKET, ShimConfig, socket_path};
use crate::error::{Context, Error, Result};
use crate::time;

/// How long output is waited for after the process that wrote it has ended.
const GRACE: Duration = Duration::from_secs(2);
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
    let mut text = serde_json::to_string(&reply).unwrap_or_default();
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
struct Operation {
    running: Running,
    connection: u64,
    then: Then,
}

enum Then {
    Answer,
    Started,
    Exec(Box<PendingExec>),
    Deleted,
}

struct PendingExec {
    id: String,
    session: Session,
    console: Option<ConsoleSocket>,
    process_file: PathBuf,
    pid_file: PathBuf,
    streams: (bool, bool, bool),
}

/// The container has ended; what is left to do.
struct Ending {
    status: ExitStatus,
    deleted: bool,
    told: bool,
    deadline: Instant,
}

struct Server {
    directory: PathBuf,
    directory_fd: OwnedFd,
    runtime: Runtime,
    signals: SignalFd,
    listener: UnixListener,
    /// The container's own first.
    sessions: Vec<Session>,
    deadlines: Vec<(String, Instant)>,
    connections: Vec<Connection>,
    operations: Vec<Operation>,
    /// Children that ended before the runtime told us who they were.
    unknown: Vec<(i32, u32)>,
    log: Option<JsonLog>,
    oom: Option<OomWatch>,
    started: bool,
    ending: Option<Ending>,
    counter: u64,
}

/// Whose readiness a poll result is.
#[derive(Clone, Copy)]
enum Token {
    Signals,
    Listener,
    Oom,
    Connection(usize),
    Source(usize, usize),
    Stdin(usize),
}

fn exit_code(status: WaitStatus) -> Option<u32> {
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
        let config: ShimConfig = serde_json::from_slice(&text).with_context(|| format!("parse {}", path.display()))?;
        let log = match &config.log {
            LogConfig::None => None,
            LogConfig::JsonFile {
                path,
                max_size,
                max_file,
                attrs,
            } => Some(
                JsonLog::open(path, *max_size, *max_file, attrs)
                    .with_context(|| format!("open log {}", path.display()))?,
            ),
        };
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
                // A client that does not read stops the writer, as a full pipe does.
                if !self
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
    fn feed(&mut self, index: usize) {
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
    fn pump(&mut self, index: usize, place: usize) {
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

    fn request(&mut self, index: usize, line: &[u8]) {
        let number = self.connections[index].number;
        let request = match serde_json::from_slice::<Request>(line) {
            Ok(request) => request,
            Err(error) => return self.answer(number, Err(Error::new(format!("invalid request: {error}")))),
        };
        if self.ending.is_some() && !matches!(request, Request::Subscribe | Request::WaitExec { .. } | Request::Info) {
            return self.answer(number, Err(Error::new("container not running")));
        }
        let pid = self.sessions[0].pid;
        match request {
            Request::Info => {
                let reply = Reply {
                    pid: Some(pid),
                    started: Some(self.started),
                    ..Reply::default()
                };
                self.connections[index].send_line(&reply);
                self.connections[index].finish();
            }
            Request::Start => self.call(number, Call::Start, Then::Started),
            // Init is our child: until we reap it the number is its.
            Request::Kill { signal, all: false } => {
                let sent = sys::signal::send(pid, signal).with_context(|| format!("signal process {pid}"));
                self.answer(number, sent);
            }
            Request::Kill { signal, all: true } => self.call(number, Call::KillAll(signal), Then::Answer),
            Request::Resize { w, h } => {
                let resized = self.sessions[0].resize(&ConsoleSize { height: h, width: w });
                self.answer(number, resized);
            }
            Request::ResizeExec { id, w, h } => {
                let found = self
                    .sessions
                    .iter()
                    .find(|session| session.exec.as_deref() == Some(&id));
                let resized = match found {
                    Some(session) => session.resize(&ConsoleSize { height: h, width: w }),
                    None => Err(Error::new(format!("no such exec: {id}"))),
                };
                self.answer(number, resized);
            }
            Request::Pause => self.call(number, Call::Pause, Then::Answer),
            Request::Resume => self.call(number, Call::Resume, Then::Answer),
            Request::Update { resources } => self.call(number, Call::Update(resources), Then::Answer),
            Request::Attach { stdin, stdout, stderr } => {
                let connection = &mut self.connections[index];
                connection.role = Role::Stream {
                    exec: None,
                    stdin,
                    stdout,
                    stderr,
                };
                connection.send_line(&Reply::default());
            }
            Request::Subscribe => {
                let connection = &mut self.connections[index];
                connection.role = Role::Subscriber;
                connection.send_line(&Reply::default());
                if let Some(Ending { status, told: true, .. }) = &self.ending {
                    connection.send_line(&Notice::Exit { status: status.clone() });
                }
            }
            Request::WaitExec { id } => {
                if self.sessions.iter().any(|session| session.exec.as_deref() == Some(&id)) {
                    self.connections[index].role = Role::ExecWaiter(id);
                    self.tell_exec_waiters();
                } else {
                    self.answer(number, Err(Error::new(format!("no such exec: {id}"))));
                }
            }
            Request::Exec {
                id,
                process,
                stdin,
                stdout,
                stderr,
            } => match self.exec(id, &process, (stdin, stdout, stderr)) {
                Ok((running, pending)) => {
                    self.connections[index].role = Role::Waiting;
                    self.operations.push(Operation {
                        running,
                        connection: number,
                        then: Then::Exec(Box::new(pending)),
                    });
                }
                Err(error) => self.answer(number, Err(error)),
            },
            // The rest follows from its end.
            Request::Delete => {
                let sent = sys::signal::send(pid, libc::SIGKILL).context("kill init");
                self.answer(number, sent);
            }
        }
    }

    fn answer(&mut self, number: u64, result: Result<()>) {
        let reply = Reply {
            error: result.err().map(|error| error.to_string()),
            ..Reply::default()
        };
        if let Some(connection) = self
            .connections
            .iter_mut()
            .find(|connection| connection.number == number)
        {
            connection.send_line(&reply);
            connection.finish();
        }
    }

    fn call(&mut self, number: u64, call: Call, then: Then) {
        match self.runtime.call(call) {
            Outcome::Done(result) => self.completed(number, then, result),
            Outcome::Running(running) => {
                if let Some(connection) = self
                    .connections
                    .iter_mut()
                    .find(|connection| connection.number == number)
                {
                    connection.role = Role::Waiting;
                }
                self.operations.push(Operation {
                    running,
                    connection: number,
                    then,
                });
            }
        }
    }

    fn completed(&mut self, number: u64, then: Then, result: Result<()>) {
        match then {
            Then::Answer => self.answer(number, result),
            Then::Started => {
                self.started |= result.is_ok();
                self.answer(number, result);
            }
            Then::Deleted => {
                if let Some(ending) = &mut self.ending {
                    ending.deleted = true;
                }
            }
            Then::Exec(pending) => match result.and_then(|()| pending.complete()) {
                Ok((session, streams)) => self.exec_started(number, session, streams),
                Err(error) => self.answer(number, Err(error)),
            },
        }
    }

    /// Begins an exec: streams, files, and the runtime's process.
    fn exec(
        &mut self,
        id: String,
        process: &oci::runtime::Process,
        streams: (bool, bool, bool),
    ) -> Result<(Running, PendingExec)> {
        if !crate::container::check_id(&id).is_ok()
            || self.sessions.iter().any(|session| session.exec.as_deref() == Some(&id))
        {
            return Err(Error::new(format!("exec id {id:?} is invalid or in use")));
        }
        let process_file = self.directory.join(format!("exec-{id}.json"));
        let pid_file = self.directory.join(format!("exec-{id}.pid"));
        let text = serde_json::to_vec(process).context("encode process")?;
        std::fs::write(&process_file, text).with_context(|| format!("write {}", process_file.display()))?;
        let console = match process.terminal {
            true => Some(ConsoleSocket::new(
                &self.directory,
                &self.directory_fd,
                &format!("exec-{id}.sock"),
            )?),
            false => None,
        };
        let (mut session, stdio) = match console {
            Some(_) => Default::default(),
            None => Session::pipes(streams.0, [streams.1, streams.2])?,
        };
        session.exec = Some(id.clone());
        session.close_stdin = true;
        let path = console.as_ref().map(|console| console.path.clone());
        let running = self.runtime.exec(&process_file, stdio, path.as_deref(), &pid_file)?;
        Ok((
            running,
            PendingExec {
                id,
                session,
                console,
                process_file,
                pid_file,
                streams,
            },
        ))
    }

    fn exec_started(&mut self, number: u64, mut session: Session, (stdin, stdout, stderr): (bool, bool, bool)) {
        let ended = self.unknown.iter().position(|(pid, _)| *pid == session.pid);
        let ended = ended.map(|index| self.unknown.remove(index).1);
        let reply = Reply {
            pid: Some(session.pid),
            ..Reply::default()
        };
        let (id, pid) = (session.exec.clone(), session.pid);
        if session.terminal.is_some() && !stdin {
            session.stdin = None;
        }
        self.sessions.push(session);
        if let Some(connection) = self
            .connections
            .iter_mut()
            .find(|connection| connection.number == number)
        {
            connection.send_line(&reply);
            if stdin || stdout || stderr {
                connection.role = Role::Stream {
                    exec: id,
                    stdin,
                    stdout,
                    stderr,
                };
            } else {
                connection.finish();
            }
        }
        let index = self.sessions.len() - 1;
        self.feed(index);
        if let Some(code) = ended {
            self.process_ended(pid, code);
        }
    }

    /// Collects every child that has ended.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get();
            if let Some(code) = exit_code(status) {
                self.process_ended(pid, code);
            }
        }
    }

    fn process_ended(&mut self, pid: i32, code: u32) {
        if let Some(index) = self
            .operations
            .iter()
            .position(|operation| operation.running.pid == pid)
        {
            let operation = self.operations.remove(index);
            let result = operation.running.finish(code);
            self.completed(operation.connection, operation.then, result);
            if !self
                .operations
                .iter()
                .any(|operation| matches!(operation.then, Then::Exec(_)))
            {
                self.unknown.clear();
            }
            return;
        }
        let Some(index) = self
            .sessions
            .iter()
            .position(|session| session.pid == pid && session.exit_code.is_none())
        else {
            // Perhaps an exec's process whose runtime has not ended yet.
            if self
                .operations
                .iter()
                .any(|operation| matches!(operation.then, Then::Exec(_)))
                && self.unknown.len() < 1024
            {
                self.unknown.push((pid, code));
            }
            return;
        };
        self.sessions[index].exit_code = Some(code);
        let Some(id) = self.sessions[index].exec.clone() else {
            return self.container_ended(code);
        };
        self.deadlines.push((id.clone(), Instant::now() + GRACE));
        let notice = Notice::ExecExit {
            id: id.clone(),
            exit_code: code,
        };
        self.notify(&notice);
        self.tell_exec_waiters();
    }

    fn tell_exec_waiters(&mut self) {
        for connection in &mut self.connections {
            let Role::ExecWaiter(id) = &connection.role else {
                continue;
            };
            let session = self.sessions.iter().find(|session| session.exec.as_deref() == Some(id));
            if let Some(code) = session.and_then(|session| session.exit_code)
                && !connection.closing
            {
                connection.send_line(&Reply {
                    exit_code: Some(code),
                    ..Reply::default()
                });
                connection.finish();
            }
        }
    }

    fn notify(&mut self, notice: &Notice) {
        for connection in self
            .connections
            .iter_mut()
            .filter(|connection| connection.role == Role::Subscriber)
        {
            connection.send_line(notice);
        }
    }

    fn out_of_memory(&mut self) {
        if self.oom.as_mut().is_some_and(OomWatch::happened) {
            self.notify(&Notice::Oom);
        }
    }

    fn container_ended(&mut self, code: u32) {
        // Before the cgroup is gone.
        self.out_of_memory();
        let oom_killed = self.oom.as_mut().is_some_and(|oom| oom.killed());
        self.oom = None;
        let status = ExitStatus {
            code,
            exited_at: time::now(),
            oom_killed,
        };
        self.ending = Some(Ending {
            status,
            deleted: false,
            told: false,
            deadline: Instant::now() + GRACE,
        });
        // A failure leaves files of the runtime behind, which the next delete sweeps; the end itself is reported.
        self.call(0, Call::Delete, Then::Deleted);
    }

    /// After the container's end: reports it once the runtime is done and output is through, and says whether
    /// everybody has been told.
    fn finish_if_done(&mut self) -> Result<bool> {
        let Some(ending) = &self.ending else { return Ok(false) };
        let overdue = Instant::now() >= ending.deadline;
        if ending.told {
            return Ok(overdue || !self.connections.iter().any(Connection::has_output));
        }
        let quiet =
            self.sessions[0].sources.is_empty() && self.sessions.iter().all(|session| session.exit_code.is_some());
        if !(ending.deleted && quiet) && !overdue {
            return Ok(false);
        }
        // Overdue: somebody else holds the pipe, or a client does not read. What is there goes to the log.
        for place in 0..self.sessions[0].sources.len() {
            for _ in 0..64 {
                self.pump(0, place);
            }
        }
        let left: Vec<u8> = self.sessions[0].sources.drain(..).map(|(stream, _)| stream).collect();
        if let Some(log) = &mut self.log {
            for stream in left.into_iter().filter(|stream| *stream != ENDED) {
                let _ = log.finish(stream);
            }
        }
        for index in 1..self.sessions.len() {
            if self.sessions[index].exit_code.is_none() {
                self.process_ended(self.sessions[index].pid, 137);
            }
        }
        let Some(ending) = &mut self.ending else {
            return Ok(false);
        };
        ending.told = true;
        ending.deadline = Instant::now() + GRACE;
        let status = ending.status.clone();
        write_exit(&self.directory, &self.directory_fd, &status)?;
        self.notify(&Notice::Exit { status });
        for connection in &mut self.connections {
            connection.finish();
        }
        Ok(!self.connections.iter().any(Connection::has_output))
    }
}

/// Marks a source that has ended.
const ENDED: u8 = 0;

impl PendingExec {
    /// The runtime is done: the session with its pid and terminal.
    fn complete(mut self: Box<Self>) -> Result<(Session, (bool, bool, bool))> {
        let text = std::fs::read_to_string(&self.pid_file).with_context(|| format!("read pid of exec {}", self.id))?;
        self.session.pid = text
            .trim()
            .parse()
            .map_err(|_| Error::new(format!("pid of exec {}: {text:?}", self.id)))?;
        if let Some(console) = &self.console {
            self.session.set_terminal(console.terminal()?)?;
        }
        Ok((std::mem::take(&mut self.session), self.streams))
    }
}

impl Drop for PendingExec {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.process_file);
        let _ = std::fs::remove_file(&self.pid_file);
    }
}

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

/// Writes `exit.json` so that it is whole or absent, also after a power failure.
fn write_exit(directory: &Path, directory_fd: &OwnedFd, status: &ExitStatus) -> Result<()> {
    let doing = "write exit.json";
    let temporary = directory.join("exit.json.new");
    let mut file = std::fs::File::create(&temporary).context(doing)?;
    let text = serde_json::to_vec(status).context(doing)?;
    file.write_all(&text).and_then(|()| file.sync_all()).context(doing)?;
    std::fs::rename(&temporary, directory.join(EXIT)).context(doing)?;
    rustix::fs::fsync(directory_fd.as_fd()).context(doing)
}
