//! `run`: makes a container, joins its streams, starts it, and ends with its exit code.

use super::attach;
use super::container_config;
use super::container_flags::FLAGS;
use super::create::{create, with_help};
use super::requests::check_tty;
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};
use crate::stream::{self, Event, Streams};
use crate::terminal::{self, Raw};
use api::client::Request;
use std::sync::mpsc;

pub const COMMAND: Command = Command::new(
    &["container run", "run"],
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create and run a new container from an image",
    Args::AtLeast(1),
    run,
)
.flags(&[
    FLAGS,
    &[
        Flag::bool("detach", "Run container in background and print container ID").short('d'),
        Flag::text("detach-keys", "Override the key sequence for detaching a container"),
        Flag::bool("sig-proxy", "Proxy received signals to the process").default("true"),
    ],
])
.stop_at_args()
.examples(&[
    "run --rm -it busybox sh",
    "run -d --name web -p 8080:80 --restart always nginx",
]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let detach = parsed.bool("detach");
    let wanted = container_config::request(parsed, detach).map_err(|why| with_help(cli, "run", 125, &why))?;
    if detach && parsed.given("attach") {
        return Err(Failure::new(
            "conflicting options: cannot specify both --attach and --detach",
        ));
    }
    if !detach {
        check_tty(wanted.config.attach_stdin, wanted.config.tty)?;
    }
    let config = wanted.config.clone();
    let remove = wanted.host_config.auto_remove;
    let proxy = parsed.bool_or("sig-proxy", true) && !config.tty && !detach;
    let id = create(cli, parsed, wanted).map_err(|failure| with_help(cli, "run", 125, &failure.text))?;
    let told = |failure: Failure| with_help(cli, "run", code(&failure.text), &failure.text);
    let (events, happened) = mpsc::channel();
    if proxy {
        stream::proxy_signals(&cli.client, &id)?;
    }
    let attached = config.attach_stdin || config.attach_stdout || config.attach_stderr;
    if !attached {
        cli.say(&id)?;
        start(cli, &id).map_err(told)?;
        return Ok(());
    }
    let streams = Streams {
        stdin: config.attach_stdin,
        stdout: config.attach_stdout,
        stderr: config.attach_stderr,
        tty: config.tty,
        keys: stream::detach_keys(cli, parsed.text("detach-keys"))?,
    };
    // Both before the start: nothing that the container writes is missed, nor how it ends.
    let request = attach::request(&id, &streams, parsed.text("detach-keys"));
    let connection = cli.client.hijack(request).map_err(|e| told(e.into()))?;
    let condition = if remove { "removed" } else { "next-exit" };
    stream::wait_for(&cli.client, &id, condition, &events).map_err(told)?;
    let raw = if streams.tty && streams.stdin {
        Raw::enter()?
    } else {
        None
    };
    if raw.is_some() {
        stream::report_kills(&events)?;
    }
    stream::join(connection, streams, &events);
    if let Err(failure) = start(cli, &id) {
        drop(raw);
        if remove {
            // The daemon removes it; whoever runs us next may want the name.
            while let Ok(event) = happened.recv() {
                if matches!(event, Event::Exited(_)) {
                    break;
                }
            }
        }
        return Err(told(failure));
    }
    if config.tty && terminal::is_output() {
        stream::follow_size(&cli.client, &format!("/containers/{id}"))?;
    }
    attach::finish(raw, &happened, None).map(|_| ())
}

/// Starts a container.
pub fn start(cli: &Cli, id: &str) -> Result<(), Failure> {
    cli.client.send(Request::post(format!("/containers/{id}/start")))?;
    Ok(())
}

/// The exit code of a start that failed, as shells give it for a command: 127 not found, 126 not executable.
fn code(text: &str) -> i32 {
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&[
        "executable file not found",
        "no such file or directory",
        "system cannot find the file specified",
    ]) {
        return 127;
    }
    if has(&["permission denied", "is a directory"]) {
        126
    } else {
        125
    }
}
