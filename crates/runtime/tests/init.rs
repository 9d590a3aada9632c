//! docker-init: exit codes, signals, orphans.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};

fn init(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_balena-runtime-testbin"));
    command.arg0("docker-init").args(args).stdin(Stdio::null());
    command
}

#[test]
fn exit_codes() {
    for (args, code) in [
        (&["--", "sh", "-c", "exit 3"][..], 3),
        (&["sh", "-c", "kill -9 $$"], 137),
        (&["-s", "-g", "true"], 0),
        (&["/nosuch"], 127),
        (&["/etc/passwd"], 126),
        (&[], 1),
    ] {
        assert_eq!(
            init(args).stderr(Stdio::null()).status().unwrap().code(),
            Some(code),
            "{args:?}"
        );
    }
}

#[test]
fn signals_are_passed_on() {
    let mut child = init(&[
        "--",
        "sh",
        "-c",
        "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done",
    ])
    .stdout(Stdio::piped())
    .spawn()
    .unwrap();
    let mut ready = [0u8; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
    sys::signal::send(child.id() as i32, 15).unwrap();
    let status = child.wait().unwrap();
    assert_eq!((status.code(), status.signal()), (Some(9), None));
}

#[test]
fn orphans_are_reaped() {
    // The orphan's parent ends first; init adopts it and must not stop for it.
    let output = init(&[
        "--",
        "sh",
        "-c",
        "(sleep 0.1 &) ; sleep 0.4; ps -o stat= --ppid $PPID | grep -c Z; true",
    ])
    .output()
    .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "0");
}
