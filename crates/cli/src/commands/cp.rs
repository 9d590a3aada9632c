//! `cp`: files between a container and here.
//!
//! What a path means is Docker's: whether the target is there, whether it is a directory, and whether the source ends
//! in `/.` decide between "into it" and "by that name" ([`place`]).

use super::requests::path;
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::files;
use crate::flags::{Flag, Parsed};
use crate::terminal;
use api::client::{Payload, Request, Response};
use api::progress::human;
use json::Deserialize;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

pub const COMMAND: Command = Command::new(
    &["container cp", "cp"],
    "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\tdocker cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    "Copy files/folders between a container and the local filesystem\n\nUse '-' as the source to read a tar archive from stdin\nand extract it to a directory destination in a container.\nUse '-' as the destination to stream a tar archive of a\ncontainer source to stdout.",
    Args::Exactly(2),
    run,
)
.flags(&[&[
    Flag::bool("archive", "Archive mode (copy all uid/gid information)").short('a'),
    Flag::bool("follow-link", "Always follow symbol link in SRC_PATH").short('L'),
    Flag::bool("quiet", "Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached").short('q'),
]])
.examples(&["cp web:/etc/hosts .", "cp site/. web:/www", "cp - web:/tmp"]);

/// What one side of a copy is, as far as it decides where files go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Side {
    path: String,
    exists: bool,
    is_dir: bool,
}

/// The `X-Docker-Container-Path-Stat` header.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PathStat {
    #[serde(default)]
    mode: u32,
    #[serde(default)]
    link_target: String,
}

impl PathStat {
    fn is_dir(&self) -> bool {
        self.mode & 1 << 31 != 0
    }

    fn is_link(&self) -> bool {
        self.mode & 1 << 27 != 0
    }
}

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let (from, to) = (&parsed.args[0], &parsed.args[1]);
    if from.is_empty() {
        return Err(Failure::new("source can not be empty"));
    }
    if to.is_empty() {
        return Err(Failure::new("destination can not be empty"));
    }
    let quiet = match parsed.given("quiet") {
        true => parsed.bool("quiet"),
        false => !terminal::is_output(),
    };
    match (split(from), split(to)) {
        ((Some(container), source), (None, target)) => {
            let follow = parsed.bool("follow-link");
            from_container(cli, container, source, target, follow, quiet)
        }
        ((None, source), (Some(container), target)) => to_container(cli, source, container, target, parsed, quiet),
        ((Some(_), _), (Some(_), _)) => Err(Failure::new("copying between containers is not supported")),
        _ => Err(Failure::new("must specify at least one container source")),
    }
}

/// `container:path`; a path alone is absolute, begins with a dot, or has no colon.
fn split(text: &str) -> (Option<&str>, &str) {
    match text.split_once(':') {
        Some((container, path)) if !text.starts_with(['/', '.']) && !container.is_empty() => (Some(container), path),
        _ => (None, text),
    }
}

fn stat_of(response: &Response) -> Result<PathStat, Failure> {
    let header = response.header("x-docker-container-path-stat").unwrap_or_default();
    let bytes = oci::base64::decode(header).unwrap_or_default();
    json::from_slice(&bytes).map_err(|e| Failure::new(format!("unable to decode container path stat header: {e}")))
}

fn stat(cli: &Cli, container: &str, inside: &str) -> Result<PathStat, Failure> {
    let request = Request::new("HEAD", path("containers", container, "archive")).query("path", inside);
    stat_of(&cli.client.send(request)?)
}

/// The last part of a path as Go's `filepath.Base`, but `.` stays where it was asked for.
fn base(path: &str) -> String {
    if ends_in_dot(path) {
        return ".".into();
    }
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit('/').next() {
        Some(last) if !last.is_empty() => last.to_string(),
        _ => "/".into(),
    }
}

fn ends_in_dot(path: &str) -> bool {
    path == "." || path.ends_with("/.")
}

fn directory(path: &str) -> String {
    if ends_in_dot(path) {
        let inner = path.trim_end_matches('.').trim_end_matches('/');
        return if inner.is_empty() && path.starts_with('/') {
            "/".into()
        } else {
            inner.to_string()
        };
    }
    match path.trim_end_matches('/').rsplit_once('/') {
        Some(("", _)) => "/".into(),
        Some((directory, _)) => directory.to_string(),
        None if path.starts_with('/') => "/".into(),
        None => ".".into(),
    }
}

/// Where an archive of the source is to be unpacked, and which beginning of its names becomes what.
fn place(source: &Side, source_base: &str, target: &Side) -> Result<(String, String, String), &'static str> {
    let same = |directory: String| Ok((directory, String::new(), String::new()));
    let renamed = || Ok((directory(&target.path), source_base.to_string(), base(&target.path)));
    match (target.exists, target.is_dir, source.is_dir) {
        (true, true, _) => same(target.path.clone()),
        (true, false, true) => Err("cannot copy directory"),
        (true, false, false) | (false, _, true) => renamed(),
        (false, _, false) if target.path.ends_with('/') || ends_in_dot(&target.path) => Err("no such directory"),
        (false, _, false) => renamed(),
    }
}

/// An absolute local path, cleaned; a trailing slash or dot says that a directory is meant, and stays.
fn local(text: &str) -> io::Result<String> {
    let mut clean = PathBuf::new();
    for part in std::env::current_dir()?.join(text).components() {
        match part {
            Component::ParentDir => drop(clean.pop()),
            Component::CurDir => {}
            part => clean.push(part),
        }
    }
    let mut path = clean.to_string_lossy().into_owned();
    if ends_in_dot(text) {
        path = format!("{}/.", path.trim_end_matches('/'));
    } else if text.ends_with('/') && !path.ends_with('/') {
        path.push('/');
    }
    Ok(path)
}

/// A target here: links at its end are followed, also one to what is not there yet.
fn local_target(text: &str) -> Result<Side, Failure> {
    let mut side = Side {
        path: local(text)?,
        ..Side::default()
    };
    for _ in 0..10 {
        let found = match fs::symlink_metadata(side.path.trim_end_matches('/')) {
            Ok(found) => found,
            Err(_) if side.path.trim_end_matches('/').is_empty() => fs::metadata("/")?,
            Err(_) => {
                let parent = directory(&side.path);
                return match Path::new(&parent).is_dir() {
                    true => Ok(side),
                    false => Err(Failure::new(format!(
                        "invalid output path: directory \"{parent}\" does not exist"
                    ))),
                };
            }
        };
        if !found.is_symlink() {
            (side.exists, side.is_dir) = (true, found.is_dir());
            return Ok(side);
        }
        let target = fs::read_link(side.path.trim_end_matches('/'))?;
        let joined = Path::new(&directory(&side.path)).join(target);
        side.path = local(&joined.to_string_lossy())?;
    }
    Err(Failure::new(format!("too many symlinks in {}", side.path)))
}

fn from_container(
    cli: &Cli,
    container: &str,
    source: &str,
    target: &str,
    follow: bool,
    quiet: bool,
) -> Result<(), Failure> {
    let mut source = source.to_string();
    let mut name = base(&source);
    if follow
        && let Ok(found) = stat(cli, container, &source)
        && found.is_link()
    {
        // The link's own name stays: what it leads to takes it.
        if !ends_in_dot(&source) {
            name = base(&source);
        }
        source = found.link_target;
    }
    let target_side = if target == "-" {
        None
    } else {
        Some(local_target(target)?)
    };
    let request = Request::get(path("containers", container, "archive")).query("path", source.as_str());
    let mut answer = cli.client.send(request)?;
    let found = stat_of(&answer)?;
    let Some(target_side) = target_side else {
        let mut out = io::stdout().lock();
        io::copy(&mut answer.body, &mut out)?;
        return Ok(out.flush()?);
    };
    let source_side = Side {
        path: source.clone(),
        exists: true,
        is_dir: found.is_dir(),
    };
    let (directory, mut old, mut new) = place(&source_side, &base(&source), &target_side).map_err(Failure::new)?;
    if old.is_empty() && name != base(&source) {
        (old, new) = (base(&source), name);
    }
    let mut counted = Counted(&mut answer.body, 0);
    files::unpack(&mut counted, Path::new(&directory), (&old, &new))?;
    io::copy(&mut counted, &mut io::sink())?;
    report(cli, quiet, counted.1, &local(target)?);
    Ok(())
}

fn to_container(
    cli: &Cli,
    source: &str,
    container: &str,
    target: &str,
    parsed: &Parsed,
    quiet: bool,
) -> Result<(), Failure> {
    let mut side = Side {
        path: target.to_string(),
        ..Side::default()
    };
    let mut found = stat(cli, container, target).ok();
    if let Some(link) = found.as_ref().filter(|found| found.is_link()) {
        side.path = match link.link_target.starts_with('/') {
            true => link.link_target.clone(),
            false => format!("{}/{}", directory(target).trim_end_matches('/'), link.link_target),
        };
        found = stat(cli, container, &side.path).ok();
    }
    if let Some(found) = &found {
        (side.exists, side.is_dir) = (true, found.is_dir());
    }
    if source == "-" {
        if !side.is_dir {
            return Err(Failure::new(format!(
                "destination \"{container}:{target}\" must be a directory"
            )));
        }
        let mut input = io::stdin().lock();
        return put(cli, container, &side.path, parsed, &mut input);
    }
    let from = local(source)?;
    let trimmed = match from.trim_end_matches('/') {
        "" => "/",
        trimmed => trimmed,
    };
    let lookup = |e: io::Error| {
        let why = match e.kind() {
            io::ErrorKind::NotFound => "no such file or directory".to_string(),
            io::ErrorKind::NotADirectory => "not a directory".to_string(),
            _ => e.to_string(),
        };
        Failure::new(format!("lstat {trimmed}: {why}"))
    };
    let mut here = PathBuf::from(trimmed);
    let mut found = fs::symlink_metadata(&here).map_err(lookup)?;
    let name = base(&from);
    if found.is_symlink() && (parsed.bool("follow-link") || from.ends_with('/')) {
        here = fs::canonicalize(&here).map_err(lookup)?;
        found = fs::symlink_metadata(&here)?;
    }
    if !found.is_dir() && from.ends_with('/') {
        return Err(Failure::new("not a directory"));
    }
    let source_side = Side {
        path: from.clone(),
        exists: true,
        is_dir: found.is_dir(),
    };
    let (directory, old, new) = place(&source_side, &name, &side).map_err(Failure::new)?;
    let as_name = if old.is_empty() { name } else { new };
    let as_name = if as_name == "/" { String::new() } else { as_name };
    // Packed by a thread of its own, read by the request.
    let (reader, mut writer) = io::pipe()?;
    let (sent, packed) = std::thread::scope(|scope| {
        let packing = scope.spawn(move || files::pack(&here, &as_name, &mut writer));
        let mut counted = Counted(reader, 0);
        let sent = put(cli, container, &directory, parsed, &mut counted).map(|()| counted.1);
        drop(counted);
        (sent, packing.join())
    });
    let bytes = sent?;
    packed.map_err(|_| Failure::new("the thread that reads files panicked"))??;
    report(cli, quiet, bytes, &format!("{container}:{target}"));
    Ok(())
}

fn put(cli: &Cli, container: &str, to: &str, parsed: &Parsed, content: &mut dyn Read) -> Result<(), Failure> {
    let to = if to.is_empty() { "/" } else { to };
    let mut request = Request::new("PUT", path("containers", container, "archive"))
        .query("noOverwriteDirNonDir", "true")
        .query("path", to);
    if parsed.bool("archive") {
        request = request.query("copyUIDGID", "true");
    }
    cli.client
        .send(request.payload(Payload::Stream(content, "application/x-tar")))?
        .bytes()?;
    Ok(())
}

struct Counted<R>(R, u64);

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.0.read(out)?;
        self.1 += n as u64;
        Ok(n)
    }
}

fn report(cli: &Cli, quiet: bool, bytes: u64, target: &str) {
    if !quiet {
        let size = human(i64::try_from(bytes).unwrap_or(i64::MAX));
        cli.warn(format!("Successfully copied {size} to {target}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides() {
        assert_eq!(split("web:/a:b"), (Some("web"), "/a:b"));
        assert_eq!(split("./a:b"), (None, "./a:b"));
        assert_eq!(split("/a:b"), (None, "/a:b"));
        assert_eq!(split("a"), (None, "a"));
        assert_eq!(
            (base("/a/b/"), base("/"), base("/a/.")),
            ("b".into(), "/".into(), ".".into())
        );
        assert_eq!(
            (directory("/a/b/"), directory("/a"), directory("/a/.")),
            ("/a".into(), "/".into(), "/a".into())
        );
    }

    #[test]
    fn into_it_or_by_that_name() {
        let side = |path: &str, exists, is_dir| Side {
            path: path.into(),
            exists,
            is_dir,
        };
        let go = |source: Side, target: Side| place(&source, &base(&source.path), &target);
        let text = |a: &str, b: &str, c: &str| Ok((a.to_string(), b.to_string(), c.to_string()));
        assert_eq!(go(side("/s", true, false), side("/t", true, true)), text("/t", "", ""));
        assert_eq!(
            go(side("/s", true, false), side("/x/t", true, false)),
            text("/x", "s", "t")
        );
        assert_eq!(
            go(side("/s", true, true), side("/x/t", false, false)),
            text("/x", "s", "t")
        );
        assert_eq!(
            go(side("/s/.", true, true), side("/t", false, false)),
            text("/", ".", "t")
        );
        assert_eq!(
            go(side("/s", true, true), side("/t", true, false)),
            Err("cannot copy directory")
        );
        assert_eq!(
            go(side("/s", true, false), side("/t/", false, false)),
            Err("no such directory")
        );
    }
}
