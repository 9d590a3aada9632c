//! The shim's children: runtime processes, execs, and the container itself, whose end is the shim's.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use rustix::process::{WaitOptions, wait};

use super::connection::{Connection, Role};
use super::log::Log;
use super::oom::OomWatch;
use super::server::{ENDED, Ending, GRACE, Server, Then, exit_code};
use super::supervise::Call;
use super::{EXIT, ExitStatus, Notice, Reply};
use crate::error::{Context, Result};
use crate::time;

impl Server {
    /// Collects every child that has ended.
    pub(super) fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get();
            if let Some(code) = exit_code(status) {
                self.process_ended(pid, code);
            }
        }
    }

    pub(super) fn process_ended(&mut self, pid: i32, code: u32) {
        if self.log.as_mut().is_some_and(|log| log.child_ended(pid)) {
            return;
        }
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

    pub(super) fn tell_exec_waiters(&mut self) {
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

    pub(super) fn notify(&mut self, notice: &Notice) {
        for connection in self
            .connections
            .iter_mut()
            .filter(|connection| connection.role == Role::Subscriber)
        {
            connection.send_line(notice);
        }
    }

    pub(super) fn out_of_memory(&mut self) {
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
    pub(super) fn finish_if_done(&mut self) -> Result<bool> {
        let Some(ending) = &self.ending else { return Ok(false) };
        let overdue = Instant::now() >= ending.deadline;
        if ending.told {
            return Ok(overdue || !self.connections.iter().any(Connection::has_output));
        }
        let quiet =
            self.sessions[0].sources.is_empty() && self.sessions.iter().all(|session| session.exit_code.is_some());
        let through = ending.deleted && quiet && !self.log.as_ref().is_some_and(Log::is_busy);
        if !through && !overdue {
            return Ok(false);
        }
        // Overdue: somebody else holds the pipe, a client does not read, or the journal does not. What is there goes to the
        // log as far as that takes it.
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
        // Before anybody knows of the end: the next shim may open it.
        self.log = None;
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

/// Writes `exit.json` so that it is whole or absent, also after a power failure.
fn write_exit(directory: &Path, directory_fd: &OwnedFd, status: &ExitStatus) -> Result<()> {
    let doing = "write exit.json";
    let temporary = directory.join("exit.json.new");
    let mut file = std::fs::File::create(&temporary).context(doing)?;
    let text = json::to_vec(status);
    file.write_all(&text).and_then(|()| file.sync_all()).context(doing)?;
    std::fs::rename(&temporary, directory.join(EXIT)).context(doing)?;
    rustix::fs::fsync(directory_fd.as_fd()).context(doing)
}
