//! `exec`: a further process in a running container.

use std::path::PathBuf;

use oci::runtime::Process;

use super::args::{Args, Option_};
use super::{Globals, container, expect_args};
use crate::container::{Container, ExecOptions};
use crate::error::{Context, Error, Result};

pub const OPTIONS: &[Option_] = &[
    (&["console-socket"], true),
    (&["pidfd-socket"], true),
    (&["cwd"], true),
    (&["env", "e"], true),
    (&["tty", "t"], false),
    (&["user", "u"], true),
    (&["additional-gids", "g"], true),
    (&["process", "p"], true),
    (&["detach", "d"], false),
    (&["pid-file"], true),
    (&["process-label"], true),
    (&["apparmor"], true),
    (&["no-new-privs"], false),
    (&["cap", "c"], true),
    (&["preserve-fds"], true),
    (&["cgroup"], true),
    (&["ignore-paused"], false),
];

pub fn exec(globals: &Globals, args: &Args) -> Result<i32> {
    expect_args(args, "exec", 1, None)?;
    let container = container(globals, args)?;
    let process = match args.value("process") {
        Some(path) => {
            let text = std::fs::read(path).with_context(|| format!("open {path}"))?;
            Process::from_slice(&text).with_context(|| format!("parse {path}"))?
        }
        None => from_options(&container, args)?,
    };
    let options = ExecOptions {
        console_socket: args
            .value("console-socket")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from),
        pid_file: args
            .value("pid-file")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from),
        preserve_fds: args.number("preserve-fds")?.unwrap_or(0),
        ignore_paused: args.is_set("ignore-paused"),
    };
    if args.is_set("detach") {
        if process.terminal && options.console_socket.is_none() {
            return Err(Error::new(
                "cannot allocate tty if runc will detach without setting console socket",
            ));
        }
        container.exec(&process, &options)?;
        return Ok(0);
    }
    super::run::foreground(&process, options.console_socket.clone(), |console_socket| {
        container.exec(
            &process,
            &ExecOptions {
                console_socket,
                ..options
            },
        )
    })
}

/// The container's own process with what the options change.
fn from_options(container: &Container, args: &Args) -> Result<Process> {
    if args.rest.len() < 2 {
        return Err(Error::new("process args cannot be empty"));
    }
    let mut process = container.spec()?.process.unwrap_or_default();
    process.args = args.rest[1..].to_vec();
    process.terminal = args.is_set("tty");
    process.console_size = None;
    if let Some(cwd) = args.value("cwd") {
        process.cwd = cwd.to_owned();
    }
    process.env.extend(args.all("env").map(str::to_owned));
    if let Some(profile) = args.value("apparmor") {
        process.apparmor_profile = profile.to_owned();
    }
    if args.is_set("no-new-privs") {
        process.no_new_privileges = true;
    }
    let added: Vec<String> = args.all("cap").map(str::to_owned).collect();
    if !added.is_empty() {
        let capabilities = process.capabilities.get_or_insert_default();
        for set in [
            &mut capabilities.bounding,
            &mut capabilities.effective,
            &mut capabilities.permitted,
        ] {
            set.extend(added.iter().cloned());
        }
    }
    if let Some(user) = args.value("user") {
        let (uid, gid) = user.split_once(':').map_or((user, None), |(uid, gid)| (uid, Some(gid)));
        process.user.uid = uid
            .parse()
            .map_err(|_| Error::new(format!("parsing {uid} as int for uid failed: invalid syntax")))?;
        if let Some(gid) = gid {
            process.user.gid = gid
                .parse()
                .map_err(|_| Error::new(format!("parsing {gid} as int for gid failed: invalid syntax")))?;
        }
    }
    for gid in args.all("additional-gids") {
        let gid = gid
            .parse()
            .map_err(|_| Error::new(format!("parsing {gid} as int for gid failed: invalid syntax")))?;
        process.user.additional_gids.push(gid);
    }
    Ok(process)
}
