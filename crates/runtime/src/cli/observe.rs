//! `state`, `list`, `ps`, `events`, `features`: commands that only look.

use std::time::Duration;

use json::Serialize;
use serde_json::json;

use super::args::Args;
use super::{Globals, container, expect_args};
use crate::container::{Container, Status};
use crate::error::{Context, Error, Result};

/// The shape of `runc state` and `runc list --format json`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    oci_version: String,
    id: String,
    pid: i32,
    status: &'static str,
    bundle: String,
    rootfs: String,
    created: String,
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    annotations: std::collections::BTreeMap<String, String>,
    owner: &'static str,
}

impl Shown {
    fn new(container: &Container) -> Self {
        let status = container.status();
        let state = &container.state;
        Self {
            oci_version: state.oci_version.clone(),
            id: state.id.clone(),
            pid: if status == Status::Stopped {
                0
            } else {
                state.init_process_pid
            },
            status: status.as_str(),
            bundle: state.bundle.display().to_string(),
            rootfs: state.rootfs.display().to_string(),
            created: state.created.clone(),
            annotations: state.annotations.clone(),
            owner: "",
        }
    }
}

fn print_json(value: &impl Serialize, pretty: bool) -> Result<()> {
    let text = json::to_string(value);
    print(&if pretty { json::pretty(&text, "  ") } else { text })
}

fn print(text: &str) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
        .context("write output")
}

pub fn state(globals: &Globals, args: &Args) -> Result<i32> {
    expect_args(args, "state", 1, Some(1))?;
    print_json(&Shown::new(&container(globals, args)?), true)?;
    Ok(0)
}

pub fn list(globals: &Globals, args: &Args) -> Result<i32> {
    let all: Vec<Shown> = Container::list(&globals.root)
        .iter()
        .map(|container| Shown {
            owner: "root",
            ..Shown::new(container)
        })
        .collect();
    if args.is_set("quiet") {
        for one in &all {
            print(&one.id)?;
        }
        return Ok(0);
    }
    match args.value("format").unwrap_or("table") {
        "json" => print_json(&all, false)?,
        "table" => {
            let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
            rows.extend(all.into_iter().map(|one| {
                [
                    one.id,
                    one.pid.to_string(),
                    one.status.to_owned(),
                    one.bundle,
                    one.created,
                    one.owner.to_owned(),
                ]
            }));
            // As Go's tabwriter with a minimum of 12 and a padding of 3.
            let mut widths = [0; 6];
            for row in &rows {
                for (width, cell) in widths.iter_mut().zip(row) {
                    *width = (cell.len() + 3).max(12).max(*width);
                }
            }
            for row in &rows {
                let (last, front) = (&row[5], &row[..5]);
                let line: String = front
                    .iter()
                    .zip(widths)
                    .map(|(cell, width)| format!("{cell:width$}"))
                    .collect();
                print(&(line + last))?;
            }
        }
        _ => return Err(Error::new("invalid format option")),
    }
    Ok(0)
}

pub fn ps(globals: &Globals, args: &Args) -> Result<i32> {
    expect_args(args, "ps", 1, None)?;
    let pids = container(globals, args)?.cgroup()?.pids()?;
    match args.value("format").unwrap_or("table") {
        "json" => print_json(&pids, false)?,
        "table" => {
            let ps_args = if args.rest.len() > 1 {
                args.rest[1..].to_vec()
            } else {
                vec!["-ef".to_owned()]
            };
            let output = std::process::Command::new("ps")
                .args(&ps_args)
                .output()
                .context("run ps")?;
            if !output.status.success() {
                return Err(Error::new(String::from_utf8_lossy(&output.stderr).trim().to_owned()).within("ps"));
            }
            let text = String::from_utf8_lossy(&output.stdout);
            let mut lines = text.lines();
            let title = lines.next().unwrap_or_default();
            let column = title
                .split_whitespace()
                .position(|word| word == "PID")
                .ok_or_else(|| Error::new("couldn't find PID field in ps output"))?;
            print(title)?;
            for line in lines {
                let pid = line
                    .split_whitespace()
                    .nth(column)
                    .and_then(|field| field.parse::<i32>().ok());
                if pid.is_some_and(|pid| pids.contains(&pid)) {
                    print(line)?;
                }
            }
        }
        _ => return Err(Error::new("invalid format option")),
    }
    Ok(0)
}

pub fn events(globals: &Globals, args: &Args) -> Result<i32> {
    expect_args(args, "events", 1, Some(1))?;
    let container = container(globals, args)?;
    let interval = match args.value("interval") {
        None => Duration::from_secs(5),
        Some(text) => seconds(text)?,
    };
    if container.status() == Status::Stopped {
        return Err(Error::new(format!(
            "container with id {} is not running",
            container.state.id
        )));
    }
    let cgroup = container.cgroup()?;
    let id = &container.state.id;
    let mut killed = cgroup.oom_kills();
    loop {
        print_json(
            &json!({"type": "stats", "id": id, "data": json::to_value(&cgroup.stats()?)}),
            false,
        )?;
        if args.is_set("stats") {
            return Ok(0);
        }
        std::thread::sleep(interval);
        let now = cgroup.oom_kills();
        if now > killed {
            killed = now;
            print_json(&json!({"type": "oom", "id": id}), false)?;
        }
        if container.status() == Status::Stopped {
            return Ok(0);
        }
    }
}

/// `5s`, `500ms`, `1m`.
fn seconds(text: &str) -> Result<Duration> {
    let invalid = || Error::new(format!("invalid duration {text:?}"));
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .ok_or_else(invalid)?;
    let number: f64 = text[..end].parse().map_err(|_| invalid())?;
    let scale = match &text[end..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(invalid()),
    };
    let duration = Duration::try_from_secs_f64(number * scale).map_err(|_| invalid())?;
    if duration.is_zero() {
        return Err(Error::new("duration interval must be greater than 0"));
    }
    Ok(duration)
}

pub fn features(_: &Globals, _: &Args) -> Result<i32> {
    let capabilities: Vec<String> = sys::caps::NAMES.iter().map(|name| format!("CAP_{name}")).collect();
    print_json(
        &json!({
            "ociVersionMin": "1.0.0",
            "ociVersionMax": oci::runtime::OCI_VERSION,
            "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
            "mountOptions": [
                "async", "atime", "bind", "defaults", "dev", "diratime", "dirsync", "exec", "iversion", "lazytime",
                "loud", "mand", "noatime", "nodev", "nodiratime", "noexec", "noiversion", "nolazytime", "nomand",
                "norelatime", "nostrictatime", "nosuid", "nosymfollow", "private", "rbind", "relatime", "remount",
                "ro", "rprivate", "rro", "rshared", "rslave", "runbindable", "rw", "shared", "silent", "slave",
                "strictatime", "suid", "symfollow", "sync", "tmpcopyup", "unbindable"
            ],
            "linux": {
                "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"],
                "capabilities": capabilities,
                "cgroup": {"v1": true, "v2": true, "systemd": false, "systemdUser": false},
                "seccomp": {
                    "enabled": sys::seccomp::action_available(0x8000_0000),
                    "actions": ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"],
                    "operators": ["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"],
                    "archs": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"]
                },
                "apparmor": {"enabled": true},
                "selinux": {"enabled": false}
            }
        }),
        true,
    )?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(seconds("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(seconds("2m").unwrap(), Duration::from_secs(120));
        for bad in ["", "5", "s", "0s", "-1s", "5y"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
