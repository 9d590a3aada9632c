//! A daemon on a temporary root: ours or Debian's Docker, started by the same options, ended without a trace.

use crate::client::{Client, within};
use crate::ground::{mounts_below, processes_with};
use crate::http;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Whose daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ours,
    Docker,
}

/// How to start it.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub binary: PathBuf,
    pub extra: Vec<String>,
    /// Variables of its environment, beside this process's.
    pub environment: Vec<(String, String)>,
    /// Where its data root is, if not in its own temporary directory.
    pub data_root: Option<PathBuf>,
    /// A bridge to make, by name and address with prefix; in namespaces of one's own the default one does.
    pub bridge: Option<(String, String)>,
    /// Directories of cgroups to start it in.
    pub cgroups: Vec<PathBuf>,
}

/// A running daemon. Dropped, it is ended with all its containers, and unmounted.
pub struct Daemon {
    pub kind: Kind,
    pub options: Options,
    dir: TempDir,
    child: Option<Child>,
    /// Command to first answered ping.
    pub took: Duration,
}

impl Daemon {
    /// Starts one and waits until it answers.
    pub fn start(kind: Kind, options: Options) -> Result<Daemon> {
        let dir = tempfile::Builder::new().prefix("balena-tests-").tempdir()?;
        let mut daemon = Daemon {
            kind,
            options,
            dir,
            child: None,
            took: Duration::ZERO,
        };
        daemon.up()?;
        Ok(daemon)
    }

    /// Starts it again, after [`Daemon::kill`] or [`Daemon::stop`].
    pub fn up(&mut self) -> Result<()> {
        if let (Kind::Docker, Some((name, address))) = (self.kind, &self.options.bridge) {
            // Docker wants a bridge of another name to be there; that of an earlier start is.
            let ip = |arguments: &[&str]| Command::new("ip").args(arguments).stderr(Stdio::null()).status();
            ip(&["link", "add", name, "type", "bridge"])?;
            ip(&["address", "add", address, "dev", name])?;
            ip(&["link", "set", name, "up"])?;
        }
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("log"))?;
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.envs(self.options.environment.iter().cloned());
        let start = Instant::now();
        self.child = Some(command.spawn()?);
        let limit = start + Duration::from_secs(40);
        while !self.answers() {
            let ended = self.child.as_mut().map(Child::try_wait).transpose()?.flatten();
            if ended.is_some() || Instant::now() > limit {
                let state = ended.map_or("does not answer".to_owned(), |status| format!("ended: {status}"));
                return Err(Error::other(format!("{:?} daemon {state}: {}", self.kind, self.log())));
            }
            std::thread::sleep(Duration::from_millis(3));
        }
        self.took = start.elapsed();
        Ok(())
    }

    fn command(&self) -> Command {
        let mut words: Vec<String> = match self.kind {
            Kind::Ours => vec![self.options.binary.display().to_string(), "daemon".into()],
            Kind::Docker => vec!["dockerd".into(), "--storage-driver=overlay2".into()],
        };
        for (name, value) in [
            ("--data-root", self.data_root()),
            ("--exec-root", self.path("exec")),
            ("--pidfile", self.path("pid")),
        ] {
            words.extend([name.into(), value.display().to_string()]);
        }
        words.extend(["-H".into(), format!("unix://{}", self.socket().display())]);
        if let Some((name, address)) = &self.options.bridge {
            words.extend(["--bridge".into(), name.clone()]);
            if self.kind == Kind::Ours {
                words.extend(["--bip".into(), address.clone()]);
            }
        }
        words.extend(self.options.extra.iter().cloned());
        if self.options.cgroups.is_empty() {
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]);
            return command;
        }
        // A shell that joins the cgroups and becomes the daemon.
        let joins: String = self
            .options
            .cgroups
            .iter()
            .map(|cgroup| format!("echo $$ > {}/cgroup.procs && ", cgroup.display()))
            .collect();
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(format!("{joins}exec \"$@\""))
            .arg("sh")
            .args(words);
        command
    }

    /// Says if its API answers now.
    pub fn answers(&self) -> bool {
        http::unix(&self.socket(), "GET", "/_ping", &[], b"").is_ok_and(|answer| answer.status == 200)
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn data_root(&self) -> PathBuf {
        self.options.data_root.clone().unwrap_or_else(|| self.path("root"))
    }

    pub fn socket(&self) -> PathBuf {
        self.path("sock")
    }

    /// What it wrote so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Its process number; 0 when it is not up.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// The real client on it.
    pub fn docker(&self) -> Client {
        Client::new("docker", &self.socket(), self.dir())
    }

    /// Our own client on it.
    pub fn cli(&self) -> Client {
        Client::new(&self.options.binary, &self.socket(), self.dir())
    }

    /// One request to its API.
    pub fn api(&self, method: &str, target: &str, body: &str) -> http::Answer {
        let headers = [("Content-Type", "application/json")];
        http::unix(&self.socket(), method, target, &headers, body.as_bytes())
            .unwrap_or_else(|e| panic!("{method} {target}: {e}: {}", self.log()))
    }

    /// Ends it as power would.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }

    /// Ends it as a service manager would; its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        let mut child = self.child.take()?;
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(30) {
            if let Ok(Some(status)) = child.try_wait() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        let _ = child.wait();
        None
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.child.as_ref().map(Pid::from_child) {
            let _ = kill_process(pid, signal);
        }
    }

    /// What there is of containers outside the data root: processes, mounts, cgroups. One line each.
    pub fn traces(&self) -> Vec<String> {
        let text = self.dir.path().display().to_string();
        let own = [self.pid(), std::process::id()];
        let mut traces: Vec<String> = processes_with(&text)
            .into_iter()
            .filter(|(pid, line)| !own.contains(&pid.cast_unsigned()) && !line.contains("docker-registry"))
            .map(|(pid, line)| format!("process {pid}: {line}"))
            .collect();
        traces.extend(
            mounts_below(&self.data_root())
                .into_iter()
                .map(|mount| format!("mount {mount}")),
        );
        traces.extend(
            mounts_below(&self.path("exec"))
                .into_iter()
                .map(|mount| format!("mount {mount}")),
        );
        traces.extend(
            self.cgroups()
                .into_iter()
                .map(|path| format!("cgroup {}", path.display())),
        );
        traces
    }

    /// Cgroups of containers that this data root knows.
    fn cgroups(&self) -> Vec<PathBuf> {
        let ids: Vec<String> = fs::read_dir(self.data_root().join("containers"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        let mut found = Vec::new();
        for controller in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let parents = [controller.path().join("docker"), controller.path()];
            for cgroup in parents
                .iter()
                .flat_map(|parent| ids.iter().map(move |id| parent.join(id)))
            {
                if cgroup.is_dir() {
                    found.push(cgroup);
                }
            }
        }
        found
    }

    /// Removes all containers through the API and says what is left of them; nothing should be.
    pub fn left_behind(&mut self) -> Vec<String> {
        let listed = self.api("GET", "/containers/json?all=1", "");
        let before = self.cgroups();
        let listed: serde_json::Value = serde_json::from_slice(&listed.body).unwrap_or_default();
        for id in listed
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|one| one["Id"].as_str())
        {
            self.api("DELETE", &format!("/containers/{id}?force=1&v=1"), "");
        }
        // What ended may need a moment to be reaped.
        within(Duration::from_secs(3), || self.traces().is_empty());
        let mut traces = self.traces();
        traces.extend(
            before
                .iter()
                .filter(|path| path.is_dir())
                .map(|path| format!("cgroup {}", path.display())),
        );
        traces
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let cgroups = self.cgroups();
        if self.child.is_some() {
            if std::thread::panicking() {
                eprintln!("--- what the daemon said\n{}", last_lines(&self.log(), 40));
            }
            self.stop();
        }
        for cgroup in &cgroups {
            for pid in fs::read_to_string(cgroup.join("cgroup.procs"))
                .unwrap_or_default()
                .lines()
            {
                end(pid.parse().unwrap_or(0));
            }
        }
        // It starts anew in place, so that nobody else would notice.
        let panicked = self
            .log()
            .lines()
            .find(|line| line.contains("panicked at"))
            .map(str::to_owned);
        let text = self.dir.path().display().to_string();
        for (pid, _) in processes_with(&text) {
            if pid.cast_unsigned() != std::process::id() {
                end(pid);
            }
        }
        std::thread::sleep(Duration::from_millis(if cgroups.is_empty() { 0 } else { 50 }));
        for cgroup in &cgroups {
            let _ = fs::remove_dir(cgroup);
        }
        for point in mounts_below(self.dir.path()).iter().rev() {
            let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
        }
        if let Some((bridge, _)) = &self.options.bridge {
            remove_bridge(bridge);
        }
        if let Some(line) = panicked.filter(|_| self.kind == Kind::Ours && !std::thread::panicking()) {
            panic!("the daemon panicked: {line}");
        }
    }
}

/// Removes a bridge, and the packet filter rules that name it.
pub fn remove_bridge(bridge: &str) {
    let _ = Command::new("ip")
        .args(["link", "delete", bridge])
        .stderr(Stdio::null())
        .status();
    for table in ["filter", "nat", "raw", "mangle"] {
        let Ok(output) = Command::new("iptables-save").args(["-t", table]).output() else {
            continue;
        };
        let rules = String::from_utf8_lossy(&output.stdout).into_owned();
        let names = |line: &&str| line.split(' ').any(|word| word == bridge);
        for rule in rules.lines().filter(|line| line.starts_with("-A ")).filter(names) {
            let words = rule.split(' ').skip(1).map(|word| word.trim_matches('"'));
            let _ = Command::new("iptables")
                .args(["-t", table, "-D"])
                .args(words)
                .stderr(Stdio::null())
                .status();
        }
    }
}

fn end(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid).filter(|pid| pid.as_raw_nonzero().get() > 1) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
