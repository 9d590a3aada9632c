//! The shim, from its client's side.

mod common;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{BINARY, Bundle, skipped};
use runtime::error::Kind;
use runtime::shim::{
    AttachOptions, Event, ExecOptions, LogConfig, LogFiles, RuntimeChoice, Shim, ShimConfig, read_exit,
};

const ALL: AttachOptions = AttachOptions {
    stdin: true,
    stdout: true,
    stderr: true,
};
const OUTPUT: AttachOptions = AttachOptions {
    stdin: false,
    stdout: true,
    stderr: true,
};

struct Setup {
    bundle: Bundle,
    config: ShimConfig,
}

impl Setup {
    fn new(name: &str, script: &str) -> Self {
        let bundle = Bundle::new(name, script);
        let config = ShimConfig {
            id: bundle.id.clone(),
            bundle: bundle.path().to_owned(),
            runtime: RuntimeChoice {
                root: bundle.root(),
                ..RuntimeChoice::default()
            },
            tty: false,
            open_stdin: false,
            stdin_once: false,
            log: LogConfig::JsonFile {
                files: LogFiles {
                    path: bundle.path().join("log"),
                    max_size: None,
                    max_file: 1,
                    compress: false,
                },
                attrs: Default::default(),
            },
            console_size: None,
        };
        Self { bundle, config }
    }

    /// Longer than a socket address may be.
    fn directory(&self) -> PathBuf {
        self.bundle.path().join("x".repeat(120))
    }

    fn spawn(&self) -> Result<Shim, runtime::error::Error> {
        self.bundle.write();
        Shim::spawn_from(Path::new(BINARY), &self.directory(), &self.config)
    }

    fn log(&self) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(self.bundle.path().join("log")).unwrap();
        text.lines()
            .map(|line| {
                let value: serde_json::Value = serde_json::from_str(line).unwrap();
                (
                    value["stream"].as_str().unwrap().to_owned(),
                    value["log"].as_str().unwrap().to_owned(),
                )
            })
            .collect()
    }
}

/// All frames to the end: (stdout, stderr).
fn frames(mut stream: UnixStream) -> (String, String) {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let length = u32::from_be_bytes(rest[4..8].try_into().unwrap()) as usize;
        let target = if rest[0] == 2 { &mut err } else { &mut out };
        target.extend_from_slice(&rest[8..8 + length]);
        rest = &rest[8 + length..];
    }
    (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

fn exec(shim: &Shim, setup: &Setup, id: &str, script: &str, streams: AttachOptions) -> runtime::shim::ExecHandle {
    let mut process = setup.bundle.spec.process.clone().unwrap();
    process.args = vec!["sh".into(), "-c".into(), script.into()];
    shim.exec(ExecOptions {
        id: id.into(),
        process,
        streams,
    })
    .unwrap()
}

fn gone(directory: &Path) {
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        if Shim::connect(directory).is_err_and(|error| error.kind() == Kind::Gone) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the shim is still there");
}

#[test]
fn output_exit_code_and_log() {
    if skipped() {
        return;
    }
    let setup = Setup::new("shim1", "echo one; echo two >&2; printf three; exit 7");
    let shim = setup.spawn().unwrap();
    let stream = shim.attach(OUTPUT).unwrap();
    shim.start().unwrap();
    let status = shim.wait().unwrap();
    assert_eq!((status.code, status.oom_killed), (7, false));
    assert_eq!(frames(stream), ("one\nthree".to_owned(), "two\n".to_owned()));
    let mut log = setup.log();
    log.sort();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        log,
        [
            pair("stderr", "two\n"),
            pair("stdout", "one\n"),
            pair("stdout", "three")
        ]
    );
    gone(&setup.directory());
    assert_eq!(read_exit(&setup.directory()).unwrap(), status);
}

#[test]
fn stdin_and_its_end() {
    if skipped() {
        return;
    }
    let mut setup = Setup::new("shim2", "cat; echo done");
    setup.config.open_stdin = true;
    setup.config.stdin_once = true;
    let shim = setup.spawn().unwrap();
    let mut stream = shim.attach(ALL).unwrap();
    shim.start().unwrap();
    let text = "line of input\n".repeat(20_000);
    let mut writer = stream.try_clone().unwrap();
    let input = text.clone();
    let feeder = std::thread::spawn(move || {
        writer.write_all(input.as_bytes()).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    stream.flush().unwrap();
    let (out, _) = frames(stream);
    feeder.join().unwrap();
    assert_eq!(out.len(), text.len() + 5);
    assert!(out.ends_with("done\n"));
    assert_eq!(shim.wait().unwrap().code, 0);
}

#[test]
fn errors_of_the_runtime_arrive() {
    if skipped() {
        return;
    }
    let mut setup = Setup::new("shim3", "");
    setup.bundle.process().args = vec!["foo".into()];
    let error = setup.spawn().unwrap_err();
    assert_eq!(
        error.to_string(),
        "runc create failed: unable to start container process: exec: \"foo\": executable file not found in $PATH"
    );
    assert_eq!(Shim::connect(&setup.directory()).unwrap_err().kind(), Kind::Gone);
}

#[test]
fn a_terminal() {
    if skipped() {
        return;
    }
    let mut setup = Setup::new("shim4", "stty size; read line; echo got $line; stty size; exit 3");
    setup.bundle.process().terminal = true;
    setup.config.tty = true;
    setup.config.open_stdin = true;
    setup.config.console_size = Some(oci::runtime::ConsoleSize { height: 20, width: 50 });
    let shim = setup.spawn().unwrap();
    let mut stream = shim.attach(ALL).unwrap();
    shim.start().unwrap();
    shim.resize(60, 30).unwrap();
    stream.write_all(b"word\n").unwrap();
    assert_eq!(shim.wait().unwrap().code, 3);
    let (out, _) = frames(stream);
    assert!(out.contains("got word\r\n30 60\r\n"), "{out}");
}

#[test]
fn execs() {
    if skipped() {
        return;
    }
    let setup = Setup::new("shim5", "while true; do sleep 0.05; done");
    let shim = setup.spawn().unwrap();
    shim.start().unwrap();
    let mut events = shim.subscribe().unwrap();
    let handle = exec(&shim, &setup, "e1", "echo out; echo err >&2; exit 4", OUTPUT);
    assert!(handle.pid > 0);
    assert_eq!(frames(handle.stream.unwrap()), ("out\n".to_owned(), "err\n".to_owned()));
    assert_eq!(shim.wait_exec("e1").unwrap(), 4);
    assert_eq!(
        events.next_event().unwrap().unwrap(),
        Event::ExecExit {
            id: "e1".into(),
            code: 4
        }
    );
    let mut handle = exec(&shim, &setup, "e2", "cat", ALL);
    let stream = handle.stream.as_mut().unwrap();
    stream.write_all(b"to cat").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(frames(handle.stream.unwrap()).0, "to cat");
    let handle = exec(&shim, &setup, "e3", "kill -9 $$", AttachOptions::default());
    assert!(handle.stream.is_none());
    assert_eq!(shim.wait_exec("e3").unwrap(), 137);
    // What an exec leaves behind holds its pipes for the grace time only.
    let started = Instant::now();
    let handle = exec(&shim, &setup, "e4", "sleep 100 & echo bg", OUTPUT);
    assert_eq!(frames(handle.stream.unwrap()).0, "bg\n");
    assert!(started.elapsed() < Duration::from_secs(10));
    let mut process = setup.bundle.spec.process.clone().unwrap();
    process.args = vec!["nosuch".into()];
    let error = shim
        .exec(ExecOptions {
            id: "e5".into(),
            process: process.clone(),
            streams: OUTPUT,
        })
        .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("exec: \"nosuch\": executable file not found in $PATH"),
        "{error}"
    );
    process.args = vec!["sh".into(), "-c".into(), "tty; exit 6".into()];
    process.terminal = true;
    let handle = shim
        .exec(ExecOptions {
            id: "e6".into(),
            process,
            streams: OUTPUT,
        })
        .unwrap();
    assert!(frames(handle.stream.unwrap()).0.starts_with("/dev/pts/"));
    assert_eq!(shim.wait_exec("e6").unwrap(), 6);
    assert!(shim.pids().unwrap().contains(&shim.pid()));
    assert!(shim.stats().unwrap().memory.usage.usage > 0);
    shim.pause().unwrap();
    shim.resume().unwrap();
    shim.kill(SIGKILL, false).unwrap();
    assert_eq!(shim.wait().unwrap().code, 137);
}

const SIGKILL: i32 = 9;

#[test]
fn found_again_by_the_next_daemon() {
    if skipped() {
        return;
    }
    let setup = Setup::new("shim6", "sleep 0.3; exit 2");
    let shim = setup.spawn().unwrap();
    shim.start().unwrap();
    let again = Shim::connect(&setup.directory()).unwrap();
    assert_eq!(again.pid(), shim.pid());
    assert_eq!(again.info().unwrap(), (shim.pid(), true));
    assert_eq!(again.wait().unwrap().code, 2);
    gone(&setup.directory());
    assert_eq!(again.wait().unwrap().code, 2, "from the record");
}

#[test]
fn out_of_memory_is_told() {
    if skipped() {
        return;
    }
    let mut setup = Setup::new(
        "shim7",
        "x=$(head -c 40000000 /dev/zero | tr '\\0' x); echo unreachable ${#x}",
    );
    setup.bundle.linux().resources.as_mut().unwrap().memory = Some(oci::runtime::Memory {
        limit: Some(16 << 20),
        swap: Some(16 << 20),
        ..Default::default()
    });
    let shim = setup.spawn().unwrap();
    let mut events = shim.subscribe().unwrap();
    shim.start().unwrap();
    let mut seen = vec![];
    while let Some(event) = events.next_event().unwrap() {
        seen.push(event);
    }
    assert!(
        matches!(seen.last(), Some(Event::Exit(status)) if status.oom_killed && status.code == 137),
        "{seen:?}"
    );
    assert!(seen.contains(&Event::Oom), "{seen:?}");
}

#[test]
fn a_created_container_can_be_deleted() {
    if skipped() {
        return;
    }
    let setup = Setup::new("shim8", "true");
    let shim = setup.spawn().unwrap();
    shim.delete().unwrap();
    assert_eq!(shim.wait().unwrap().code, 137);
    gone(&setup.directory());
}

#[test]
fn a_client_that_does_not_read_costs_no_memory_and_no_log() {
    if skipped() {
        return;
    }
    let setup = Setup::new("shim9", "head -c 300000 /dev/zero | tr '\\0' '\\n'; echo end");
    let shim = setup.spawn().unwrap();
    let stalled = shim.attach(OUTPUT).unwrap();
    shim.start().unwrap();
    std::thread::sleep(Duration::from_millis(700));
    // The pipe is full, the container waits, as with a terminal that is stopped.
    assert!(read_exit(&setup.directory()).is_none());
    drop(stalled);
    assert_eq!(shim.wait().unwrap().code, 0);
    assert_eq!(setup.log().last().unwrap().1, "end\n");
    assert_eq!(setup.log().len(), 300_001);
}

#[test]
fn another_runtime() {
    if skipped() || common::oracle_missing() {
        return;
    }
    let mut setup = Setup::new("shim10", "echo by runc; sleep 3; exit 8");
    setup.config.runtime.path = Some("/usr/sbin/runc".into());
    let shim = setup.spawn().unwrap();
    let stream = shim.attach(OUTPUT).unwrap();
    shim.start().unwrap();
    let handle = exec(&shim, &setup, "e", "echo exec", OUTPUT);
    assert_eq!(frames(handle.stream.unwrap()).0, "exec\n");
    assert_eq!(shim.wait().unwrap().code, 8);
    assert_eq!(frames(stream).0, "by runc\n");
}
