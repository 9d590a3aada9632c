//! `attach`: joins the terminal with a running container.

use super::requests::{check_tty, path};
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};
use crate::stream::{self, Event, Streams};
use crate::terminal::{self, Raw};
use api::client::Request;
use api::container::Inspect;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

/// How long the exit code is waited for after the output has ended: it may be a detach by the daemon.
const PATIENCE: Duration = Duration::from_millis(500);

pub const COMMAND: Command = Command::new(
    &["container attach", "attach"],
    "[OPTIONS] CONTAINER",
    "Attach local standard input, output, and error streams to a running container",
    Args::Exactly(1),
    run,
)
.flags(&[&[
    Flag::text("detach-keys", "Override the key sequence for detaching a container"),
    Flag::bool("no-stdin", "Do not attach STDIN"),
    Flag::bool("sig-proxy", "Proxy all received signals to the process").default("true"),
]])
.examples(&["attach web", "attach --sig-proxy=false web"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let container: Inspect = cli.client.get(&path("containers", parsed.first(), "json"))?;
    if !container.state.running {
        return Err(Failure::new("You cannot attach to a stopped container, start it first"));
    }
    if container.state.paused {
        return Err(Failure::new("cannot attach to a paused container, unpause it first"));
    }
    if container.state.restarting {
        return Err(Failure::new(
            "cannot attach to a restarting container, wait until it is running",
        ));
    }
    let tty = container.config.tty;
    let stdin = !parsed.bool("no-stdin") && container.config.open_stdin;
    check_tty(stdin, tty)?;
    let (events, happened) = mpsc::channel();
    if parsed.bool_or("sig-proxy", true) && !tty {
        stream::proxy_signals(&cli.client, &container.id)?;
    }
    stream::wait_for(&cli.client, &container.id, "", &events)?;
    let wanted = Streams {
        stdin,
        stdout: true,
        stderr: true,
        tty,
        keys: stream::detach_keys(cli, parsed.text("detach-keys"))?,
    };
    let connection = cli
        .client
        .hijack(request(&container.id, &wanted, parsed.text("detach-keys")))?;
    let raw = if tty && stdin { Raw::enter()? } else { None };
    if raw.is_some() {
        stream::report_kills(&events)?;
    }
    stream::join(connection, wanted, &events);
    if tty && terminal::is_output() {
        stream::redraw(&cli.client, &container.id);
        stream::follow_size(&cli.client, &format!("/containers/{}", container.id))?;
    }
    match finish(raw, &happened, Some(PATIENCE))? {
        Ended::Detached => Err(Failure::new("read escape sequence")),
        Ended::Well => Ok(()),
    }
}

/// The request that joins streams of a container.
pub fn request(id: &str, streams: &Streams, keys: &str) -> Request<'static> {
    Request::post(format!("/containers/{id}/attach"))
        .query("stream", "1")
        .flag("stdin", streams.stdin)
        .flag("stdout", streams.stdout)
        .flag("stderr", streams.stderr)
        .query_unless_empty("detachKeys", keys)
}

/// How a joined container was left.
pub enum Ended {
    /// It ended with 0, or only its output did.
    Well,
    /// It runs on.
    Detached,
}

/// Waits until the container has ended and all its output is there, or until the user detaches. `patience` is how
/// long an exit is waited for after the output; `None` waits for good.
pub fn finish(raw: Option<Raw>, happened: &Receiver<Event>, patience: Option<Duration>) -> Result<Ended, Failure> {
    let mut ended = None;
    let mut output = false;
    while ended.is_none() || !output {
        let event = match patience.filter(|_| output) {
            Some(patience) => match happened.recv_timeout(patience) {
                Ok(event) => event,
                Err(_) => break,
            },
            None => match happened.recv() {
                Ok(event) => event,
                Err(_) => break,
            },
        };
        match event {
            Event::OutputEnded(result) => {
                output = true;
                result?;
            }
            Event::Exited(code) => ended = Some(code),
            Event::Detached => return Ok(Ended::Detached),
            Event::Killed(signal) => {
                drop(raw);
                return Err(Failure::quiet(128 + signal));
            }
        }
    }
    drop(raw);
    match ended {
        None | Some(Ok(0)) => Ok(Ended::Well),
        Some(Ok(code)) => Err(Failure::quiet(i32::try_from(code).unwrap_or(255))),
        Some(Err(why)) => Err(Failure {
            code: 125,
            text: format!("Error waiting for container: {why}"),
        }),
    }
}
