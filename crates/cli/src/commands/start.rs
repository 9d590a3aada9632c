//! `start`: starts containers that are there, one of them with the terminal if that is asked for.

use super::attach;
use super::requests::{check_tty, path};
use super::run::start;
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};
use crate::stream::{self, Event, Streams};
use crate::terminal::{self, Raw};
use api::container::Inspect;
use std::sync::mpsc;

pub const COMMAND: Command = Command::new(
    &["container start", "start"],
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Start one or more stopped containers",
    Args::AtLeast(1),
    run,
)
.flags(&[&[
    Flag::bool("attach", "Attach STDOUT/STDERR and forward signals").short('a'),
    Flag::text("detach-keys", "Override the key sequence for detaching a container"),
    Flag::bool("interactive", "Attach container's STDIN").short('i'),
]])
.examples(&["start web db", "start -ai shell"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    if !parsed.bool("attach") && !parsed.bool("interactive") {
        let mut failed = Vec::new();
        for name in &parsed.args {
            match start(cli, &api::client::escape(name, b"/:@+")) {
                Ok(()) => cli.say(name)?,
                Err(failure) => {
                    cli.warn(failure.text);
                    failed.push(name.as_str());
                }
            }
        }
        if failed.is_empty() {
            return Ok(());
        }
        return Err(Failure::new(format!(
            "Error: failed to start containers: {}",
            failed.join(", ")
        )));
    }
    if parsed.args.len() > 1 {
        return Err(Failure::new("you cannot start and attach multiple containers at once"));
    }
    let container: Inspect = cli.client.get(&path("containers", parsed.first(), "json"))?;
    let tty = container.config.tty;
    let stdin = parsed.bool("interactive") && container.config.open_stdin;
    check_tty(stdin, tty)?;
    let (events, happened) = mpsc::channel();
    if !tty {
        stream::proxy_signals(&cli.client, &container.id)?;
    }
    let keys = stream::detach_keys(cli, parsed.text("detach-keys"))?;
    let streams = Streams {
        stdin,
        stdout: true,
        stderr: true,
        tty,
        keys,
    };
    let connection = cli
        .client
        .hijack(attach::request(&container.id, &streams, parsed.text("detach-keys")))?;
    let condition = if container.host_config.auto_remove {
        "removed"
    } else {
        "next-exit"
    };
    stream::wait_for(&cli.client, &container.id, condition, &events)?;
    let raw = if tty && stdin { Raw::enter()? } else { None };
    if raw.is_some() {
        stream::report_kills(&events)?;
    }
    stream::join(connection, streams, &events);
    if let Err(failure) = start(cli, &container.id) {
        drop(raw);
        if container.host_config.auto_remove {
            while let Ok(event) = happened.recv() {
                if matches!(event, Event::Exited(_)) {
                    break;
                }
            }
        }
        return Err(failure);
    }
    if tty && terminal::is_output() {
        stream::follow_size(&cli.client, &format!("/containers/{}", container.id))?;
    }
    attach::finish(raw, &happened, None).map(|_| ())
}
