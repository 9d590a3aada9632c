//! systemd's journal in a test's own mount namespace: the real journald, with nothing of the machine's.

use crate::client::within;
use rustix::mount::{MountFlags, mount};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PROGRAM: &str = "/lib/systemd/systemd-journald";

/// Where it listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// A running journald; ended when dropped.
pub struct Journal {
    child: Option<Child>,
}

/// Hides the machine's journal from this thread's mount namespace.
pub fn hide() {
    for place in ["/run/systemd", "/run/log", "/var/log"] {
        fs::create_dir_all(place).expect("make a mount point");
        mount("tmpfs", place, "tmpfs", MountFlags::empty(), None).expect("mount a tmpfs");
    }
}

impl Journal {
    /// Starts one, in namespaces that [`crate::ground`] made; nothing where there is no journald.
    pub fn start() -> Option<Journal> {
        if !Path::new(PROGRAM).exists() || !crate::ground::there("journalctl") {
            println!("skipped: there is no journald here");
            return None;
        }
        hide();
        fs::create_dir_all("/run/systemd/journald.conf.d").expect("make a directory");
        fs::create_dir_all("/run/systemd/journal").expect("make a directory");
        let conf = "[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\nReadKMsg=no\nAudit=no\n";
        fs::write("/run/systemd/journald.conf.d/test.conf", conf).expect("write its configuration");
        let mut journal = Journal { child: None };
        journal.up();
        Some(journal)
    }

    /// Starts it again.
    pub fn up(&mut self) {
        let mut command = Command::new(PROGRAM);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("start journald"));
        let listens = || {
            let socket = std::os::unix::net::UnixDatagram::unbound();
            socket.is_ok_and(|socket| socket.connect(SOCKET).is_ok())
        };
        assert!(within(Duration::from_secs(20), listens), "journald does not listen");
    }

    /// Ends it as systemd would.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }

    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.child.as_ref().map(Pid::from_child) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Entries that match, each as JSON.
    pub fn entries(&self, matching: &str) -> Vec<serde_json::Value> {
        let run = |arguments: &[&str]| {
            Command::new("journalctl")
                .args(arguments)
                .output()
                .expect("run journalctl")
        };
        run(&["--sync"]);
        let output = run(&["--output=json", "--all", "--quiet", "--no-pager", matching]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let parse = |line| serde_json::from_str(line).expect("journalctl writes JSON");
        text.lines().map(parse).collect()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.signal(Signal::CONT);
        self.stop();
    }
}
