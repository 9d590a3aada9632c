//! What clients ask of the shim, and the answers; those that need the runtime's process come later.

use oci::runtime::ConsoleSize;

use super::connection::Role;
use super::server::{Ending, Operation, PendingExec, Server, Then};
use super::session::Session;
use super::supervise::{Call, ConsoleSocket, Outcome, Running};
use super::{Notice, Reply, Request};
use crate::error::{Context, Error, Result};

impl Server {
    pub(super) fn request(&mut self, index: usize, line: &[u8]) {
        let number = self.connections[index].number;
        let request = match json::from_slice::<Request>(line) {
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

    pub(super) fn answer(&mut self, number: u64, result: Result<()>) {
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

    pub(super) fn call(&mut self, number: u64, call: Call, then: Then) {
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

    pub(super) fn completed(&mut self, number: u64, then: Then, result: Result<()>) {
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
        if crate::container::check_id(&id).is_err()
            || self.sessions.iter().any(|session| session.exec.as_deref() == Some(&id))
        {
            return Err(Error::new(format!("exec id {id:?} is invalid or in use")));
        }
        let process_file = self.directory.join(format!("exec-{id}.json"));
        let pid_file = self.directory.join(format!("exec-{id}.pid"));
        let text = json::to_vec(process);
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
}

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
