//! `exec`: runs one more command in a running container.

use super::container_flags::{check_env, env_files};
use super::requests::{check_tty, path};
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};
use crate::stream::{self, Event, Streams};
use crate::terminal::{self, Raw};
use api::client::Request;
use api::exec::{CreateRequest, IdResponse, Inspect, StartRequest};
use std::sync::mpsc;

pub const COMMAND: Command = Command::new(
    &["container exec", "exec"],
    "[OPTIONS] CONTAINER COMMAND [ARG...]",
    "Execute a command in a running container",
    Args::AtLeast(2),
    run,
)
.flags(&[&[
    Flag::bool("detach", "Detached mode: run command in the background").short('d'),
    Flag::text("detach-keys", "Override the key sequence for detaching a container"),
    Flag::list("env", "Set environment variables")
        .short('e')
        .check(check_env),
    Flag::list("env-file", "Read in a file of environment variables"),
    Flag::bool("interactive", "Keep STDIN open even if not attached").short('i'),
    Flag::bool("privileged", "Give extended privileges to the command"),
    Flag::bool("tty", "Allocate a pseudo-TTY").short('t'),
    Flag::text("user", "Username or UID (format: \"<name|uid>[:<group|gid>]\")").short('u'),
    Flag::text("workdir", "Working directory inside the container").short('w'),
]])
.stop_at_args()
.examples(&["exec -it web sh", "exec -e DEBUG=1 web env"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let (detach, tty) = (parsed.bool("detach"), parsed.bool("tty"));
    let stdin = parsed.bool("interactive") && !detach;
    let console = tty.then(terminal::size).flatten();
    let wanted = CreateRequest {
        user: parsed.text("user").into(),
        privileged: parsed.bool("privileged"),
        tty,
        console_size: console,
        attach_stdin: stdin,
        attach_stdout: !detach,
        attach_stderr: !detach,
        detach_keys: parsed.text("detach-keys").into(),
        env: Some(env_files(parsed).map_err(Failure::new)?).filter(|env| !env.is_empty()),
        working_dir: parsed.text("workdir").into(),
        cmd: Some(parsed.args[1..].to_vec()),
    };
    // Asked for first, because a terminal that is missing matters less than a container that is.
    cli.client
        .send(Request::get(path("containers", parsed.first(), "json")))?;
    if !detach {
        check_tty(stdin, tty)?;
    }
    let request = Request::post(path("containers", parsed.first(), "exec")).json(&wanted)?;
    let made: IdResponse = cli.client.send(request)?.json()?;
    let at = format!("/exec/{}", made.id);
    let start = StartRequest {
        detach,
        tty,
        console_size: console,
    };
    let request = Request::post(format!("{at}/start")).json(&start)?;
    if detach {
        cli.client.send(request)?;
        return Ok(());
    }
    let keys = stream::detach_keys(cli, parsed.text("detach-keys"))?;
    let (events, happened) = mpsc::channel();
    let connection = cli.client.hijack(request)?;
    let raw = if tty && stdin { Raw::enter()? } else { None };
    if raw.is_some() {
        stream::report_kills(&events)?;
    }
    if tty && terminal::is_output() {
        stream::follow_size(&cli.client, &at)?;
    }
    stream::join(
        connection,
        Streams {
            stdin,
            stdout: true,
            stderr: true,
            tty,
            keys,
        },
        &events,
    );
    loop {
        match happened.recv() {
            Ok(Event::OutputEnded(result)) => {
                drop(raw);
                result?;
                break;
            }
            Ok(Event::Detached) => {
                drop(raw);
                return Err(Failure::new("read escape sequence"));
            }
            Ok(Event::Killed(signal)) => {
                drop(raw);
                return Err(Failure::quiet(128 + signal));
            }
            Ok(Event::Exited(_)) => {}
            Err(_) => break,
        }
    }
    let ended: Inspect = cli.client.get(&format!("{at}/json"))?;
    match ended.exit_code.unwrap_or(0) {
        0 => Ok(()),
        code => Err(Failure::quiet(i32::try_from(code).unwrap_or(255))),
    }
}
