//! `create`, `start`, `kill`, `delete`, `pause`, `resume`.

use std::path::{Path, PathBuf};

use super::args::{Args, Option_};
use super::{Globals, container, expect_args};
use crate::container::{Container, CreateOptions, check_id};
use crate::error::{Error, Kind, Result};

pub const CREATE_OPTIONS: &[Option_] = &[
    (&["bundle", "b"], true),
    (&["console-socket"], true),
    (&["pidfd-socket"], true),
    (&["pid-file"], true),
    (&["no-pivot"], false),
    (&["no-new-keyring"], false),
    (&["preserve-fds"], true),
];

/// The options `create` and `run` share.
pub fn create_options(globals: &Globals, args: &Args) -> Result<(PathBuf, CreateOptions)> {
    let bundle = args.value("bundle").unwrap_or(".").into();
    let options = CreateOptions {
        console_socket: args
            .value("console-socket")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from),
        pid_file: args
            .value("pid-file")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from),
        no_pivot: args.is_set("no-pivot"),
        preserve_fds: args.number("preserve-fds")?.unwrap_or(0),
        systemd_cgroup: globals.systemd_cgroup,
    };
    Ok((bundle, options))
}

pub fn create(globals: &Globals, args: &Args) -> Result<i32> {
    expect_args(args, "create", 1, Some(1))?;
    let (bundle, options) = create_options(globals, args)?;
    Container::create(&globals.root, &args.rest[0], Path::new(&bundle), &options)?;
    Ok(0)
}

pub fn start(globals: &Globals, args: &Args) -> Result<i32> {
    expect_args(args, "start", 1, Some(1))?;
    container(globals, args)?.start()?;
    Ok(0)
}

pub fn kill(globals: &Globals, args: &Args) -> Result<i32> {
    expect_args(args, "kill", 1, Some(2))?;
    let container = container(globals, args)?;
    let name = args.rest.get(1).map_or("SIGTERM", String::as_str);
    let signal = sys::signal::parse(name).ok_or_else(|| Error::new(format!("unknown signal {name:?}")))?;
    container.kill(signal, args.is_set("all"))?;
    Ok(0)
}

pub fn delete(globals: &Globals, args: &Args) -> Result<i32> {
    expect_args(args, "delete", 1, Some(1))?;
    let force = args.is_set("force");
    match container(globals, args) {
        Err(error) if error.kind() == Kind::NotExist => {
            let id = &args.rest[0];
            check_id(id)?;
            // What a create that was killed half-way left.
            let left = globals.root.join(id);
            if left.exists() {
                let _ = std::fs::remove_dir_all(left);
            }
            if force { Ok(0) } else { Err(error) }
        }
        Err(error) => Err(error),
        Ok(container) => container.delete(force).map(|()| 0),
    }
}

pub fn pause(globals: &Globals, args: &Args) -> Result<i32> {
    expect_args(args, "pause", 1, Some(1))?;
    container(globals, args)?.pause().map(|()| 0)
}

pub fn resume(globals: &Globals, args: &Args) -> Result<i32> {
    expect_args(args, "resume", 1, Some(1))?;
    container(globals, args)?.resume().map(|()| 0)
}
