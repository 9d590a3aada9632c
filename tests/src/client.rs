//! A command line client pointed at a daemon's socket: Docker's or ours, with none of the caller's settings.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A client and the daemon it talks to.
#[derive(Clone)]
pub struct Client {
    pub program: PathBuf,
    socket: PathBuf,
    home: PathBuf,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Client {
    pub fn new(program: impl Into<PathBuf>, socket: &Path, home: &Path) -> Client {
        Client {
            program: program.into(),
            socket: socket.to_owned(),
            home: home.to_owned(),
        }
    }

    /// The command, not yet started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        for name in [
            "DOCKER_HOST",
            "DOCKER_CONTEXT",
            "DOCKER_CONFIG",
            "DOCKER_TLS_VERIFY",
            "BALENA_HOST",
            "TERM",
        ] {
            command.env_remove(name);
        }
        command
            .env("HOME", &self.home)
            .env("DOCKER_CLI_HINTS", "false")
            .arg("-H")
            .arg(format!("unix://{}", self.socket.display()))
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end, which must come within two minutes.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, b"")
    }

    /// The same with something on standard input.
    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> Ran {
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = spawn(&mut command);
        let mut stdin = child.stdin.take().expect("it is piped");
        let input = input.to_vec();
        let feeder = std::thread::spawn(move || {
            // A client that takes no input may be gone before.
            let _ = stdin.write_all(&input);
        });
        let ran = finish(child, Duration::from_secs(120));
        let _ = feeder.join();
        ran
    }

    /// Runs what must go well and returns what it said, trimmed.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(
            ran.code,
            0,
            "{} {arguments:?}: {}{}",
            self.program.display(),
            ran.out,
            ran.err
        );
        ran.out.trim().to_owned()
    }

    /// Starts what goes on, with pipes for all it says.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        spawn(self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()))
    }
}

fn spawn(command: &mut Command) -> Child {
    command
        .spawn()
        .unwrap_or_else(|e| panic!("start {}: {e}", command.get_program().to_string_lossy()))
}

/// Waits for a child and takes what it said; ends it when it takes too long, with code -1.
pub fn finish(mut child: Child, limit: Duration) -> Ran {
    fn reader(stream: Option<impl std::io::Read + Send + 'static>) -> std::thread::JoinHandle<String> {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut stream) = stream {
                let _ = stream.read_to_end(&mut bytes);
            }
            String::from_utf8_lossy(&bytes).into_owned()
        })
    }
    let (out, err) = (reader(child.stdout.take()), reader(child.stderr.take()));
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    let code = loop {
        match child.try_wait().expect("a child can be waited for") {
            Some(status) => {
                use std::os::unix::process::ExitStatusExt;
                break status.code().unwrap_or_else(|| 1000 + status.signal().unwrap_or(0));
            }
            None if start.elapsed() > limit => {
                let _ = child.kill();
                let _ = child.wait();
                break -1;
            }
            None => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    };
    let text = |handle: std::thread::JoinHandle<String>| handle.join().unwrap_or_default();
    Ran {
        code,
        out: text(out),
        err: text(err),
    }
}

/// Asks until the answer is yes, at most so long.
pub fn within(limit: Duration, mut question: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if question() {
            return true;
        }
        if start.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
