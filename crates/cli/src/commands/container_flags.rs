//! The flags of `run` and `create`, and how their values are looked at when they are read.

use crate::command::errno_text;
use crate::flags::{Flag, Kind, Parsed};
use crate::units::parse_size;
use api::moment::parse_duration;
use oci::reference::is_id;

const fn bytes(long: &'static str, help: &'static str) -> Flag {
    Flag::new(long, Kind::Text("bytes"), help).check(check_bytes)
}

const fn duration(long: &'static str, help: &'static str) -> Flag {
    Flag::new(long, Kind::Text("duration"), help)
        .default("0s")
        .check(check_duration)
}

/// All flags that `run` and `create` share, in docker's words.
pub const FLAGS: &[Flag] = &[
    Flag::list("add-host", "Add a custom host-to-IP mapping (host:ip)").check(check_host),
    Flag::new(
        "annotation",
        Kind::List("map"),
        "Add an annotation to the container (passed through to the OCI runtime)",
    )
    .default("map[]"),
    Flag::list("attach", "Attach to STDIN, STDOUT or STDERR")
        .short('a')
        .check(check_attach),
    Flag::new(
        "blkio-weight",
        Kind::Text("uint16"),
        "Block IO (relative weight), between 10 and 1000, or 0 to disable",
    )
    .default("0")
    .check(check_uint16),
    Flag::list("blkio-weight-device", "Block IO weight (relative device weight)")
        .default("[]")
        .check(check_weight),
    Flag::list("cap-add", "Add Linux capabilities"),
    Flag::list("cap-drop", "Drop Linux capabilities"),
    Flag::text("cgroup-parent", "Optional parent cgroup for the container"),
    Flag::text(
        "cgroupns",
        "Cgroup namespace to use (host|private)\n'host':    Run the container in the Docker host's cgroup namespace\n'private': Run the container in its own private cgroup namespace\n'':        Use the cgroup namespace as configured by the\n           default-cgroupns-mode option on the daemon (default)",
    ),
    Flag::text("cidenv", "Name of an environment variable that gets the container's ID"),
    Flag::text("cidfile", "Write the container ID to the file"),
    Flag::int("cpu-period", "Limit CPU CFS (Completely Fair Scheduler) period"),
    Flag::int("cpu-quota", "Limit CPU CFS (Completely Fair Scheduler) quota"),
    Flag::int("cpu-rt-period", "Limit CPU real-time period in microseconds"),
    Flag::int("cpu-rt-runtime", "Limit CPU real-time runtime in microseconds"),
    Flag::int("cpu-shares", "CPU shares (relative weight)").short('c'),
    Flag::new("cpus", Kind::Text("decimal"), "Number of CPUs").check(check_cpus),
    Flag::text("cpuset-cpus", "CPUs in which to allow execution (0-3, 0,1)"),
    Flag::text("cpuset-mems", "MEMs in which to allow execution (0-3, 0,1)"),
    Flag::list("device", "Add a host device to the container"),
    Flag::list("device-cgroup-rule", "Add a rule to the cgroup allowed devices list").check(check_device_rule),
    Flag::list("device-read-bps", "Limit read rate (bytes per second) from a device")
        .default("[]")
        .check(check_bps),
    Flag::list("device-read-iops", "Limit read rate (IO per second) from a device")
        .default("[]")
        .check(check_iops),
    Flag::list("device-write-bps", "Limit write rate (bytes per second) to a device")
        .default("[]")
        .check(check_bps),
    Flag::list("device-write-iops", "Limit write rate (IO per second) to a device")
        .default("[]")
        .check(check_iops),
    Flag::alias("disable-content-trust", "disable-content-trust", Kind::Bool),
    Flag::list("dns", "Set custom DNS servers").check(check_ip),
    Flag::alias("dns-opt", "dns-option", Kind::List("list")),
    Flag::list("dns-option", "Set DNS options"),
    Flag::list("dns-search", "Set custom DNS search domains"),
    Flag::text("domainname", "Container NIS domain name"),
    Flag::text("entrypoint", "Overwrite the default ENTRYPOINT of the image"),
    Flag::list("env", "Set environment variables")
        .short('e')
        .check(check_env),
    Flag::list("env-file", "Read in a file of environment variables"),
    Flag::list("expose", "Expose a port or a range of ports"),
    Flag::new(
        "gpus",
        Kind::List("gpu-request"),
        "GPU devices to add to the container ('all' to pass all GPUs)",
    ),
    Flag::list("group-add", "Add additional groups to join"),
    Flag::text("health-cmd", "Command to run to check health"),
    duration("health-interval", "Time between running the check (ms|s|m|h)"),
    Flag::int("health-retries", "Consecutive failures needed to report unhealthy"),
    duration(
        "health-start-interval",
        "Time between running the check during the start period (ms|s|m|h)",
    ),
    duration(
        "health-start-period",
        "Start period for the container to initialize before starting health-retries countdown (ms|s|m|h)",
    ),
    duration("health-timeout", "Maximum time to allow one check to run (ms|s|m|h)"),
    Flag::text("hostname", "Container host name").short('h'),
    Flag::bool(
        "init",
        "Run an init inside the container that forwards signals and reaps processes",
    ),
    Flag::bool("interactive", "Keep STDIN open even if not attached").short('i'),
    Flag::text("ip", "IPv4 address (e.g., 172.30.100.104)"),
    Flag::text("ip6", "IPv6 address (e.g., 2001:db8::33)"),
    Flag::text("ipc", "IPC mode to use"),
    Flag::text("isolation", "Container isolation technology"),
    bytes("kernel-memory", "Kernel memory limit"),
    Flag::list("label", "Set meta data on a container")
        .short('l')
        .check(check_label),
    Flag::list("label-file", "Read in a line delimited file of labels"),
    Flag::list("link", "Add link to another container"),
    Flag::list("link-local-ip", "Container IPv4/IPv6 link-local addresses"),
    Flag::text("log-driver", "Logging driver for the container"),
    Flag::list("log-opt", "Log driver options"),
    Flag::text("mac-address", "Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
    bytes("memory", "Memory limit").short('m'),
    bytes("memory-reservation", "Memory soft limit"),
    Flag::new(
        "memory-swap",
        Kind::Text("bytes"),
        "Swap limit equal to memory plus swap: '-1' to enable unlimited swap",
    )
    .check(check_swap),
    Flag::int("memory-swappiness", "Tune container memory swappiness (0 to 100)").default("-1"),
    Flag::new(
        "mount",
        Kind::List("mount"),
        "Attach a filesystem mount to the container",
    )
    .check(check_mount),
    Flag::text("name", "Assign a name to the container"),
    Flag::alias("net", "network", Kind::List("network")),
    Flag::alias("net-alias", "network-alias", Kind::List("list")),
    Flag::new("network", Kind::List("network"), "Connect a container to a network"),
    Flag::list("network-alias", "Add network-scoped alias for the container"),
    Flag::bool("no-healthcheck", "Disable any container-specified HEALTHCHECK"),
    Flag::bool("oom-kill-disable", "Disable OOM Killer"),
    Flag::int("oom-score-adj", "Tune host's OOM preferences (-1000 to 1000)"),
    Flag::text("pid", "PID namespace to use"),
    Flag::int("pids-limit", "Tune container pids limit (set -1 for unlimited)"),
    Flag::text("platform", "Set platform if server is multi-platform capable"),
    Flag::bool("privileged", "Give extended privileges to this container"),
    Flag::list("publish", "Publish a container's port(s) to the host").short('p'),
    Flag::bool("publish-all", "Publish all exposed ports to random ports").short('P'),
    Flag::text("pull", "Pull image before running (\"always\", \"missing\", \"never\")").default("\"missing\""),
    Flag::bool("quiet", "Suppress the pull output").short('q'),
    Flag::bool("read-only", "Mount the container's root filesystem as read only"),
    Flag::text("restart", "Restart policy to apply when a container exits").default("\"no\""),
    Flag::bool(
        "rm",
        "Automatically remove the container and its associated anonymous volumes when it exits",
    ),
    Flag::text("runtime", "Runtime to use for this container"),
    Flag::list("security-opt", "Security Options"),
    bytes("shm-size", "Size of /dev/shm"),
    Flag::text("stop-signal", "Signal to stop the container"),
    Flag::int("stop-timeout", "Timeout (in seconds) to stop a container"),
    Flag::list("storage-opt", "Storage driver options for the container"),
    Flag::new("sysctl", Kind::List("map"), "Sysctl options")
        .default("map[]")
        .check(check_sysctl),
    Flag::list("tmpfs", "Mount a tmpfs directory"),
    Flag::bool("tty", "Allocate a pseudo-TTY").short('t'),
    Flag::new("ulimit", Kind::List("ulimit"), "Ulimit options")
        .default("[]")
        .check(check_ulimit),
    Flag::text("user", "Username or UID (format: <name|uid>[:<group|gid>])").short('u'),
    Flag::text("userns", "User namespace to use"),
    Flag::text("uts", "UTS namespace to use"),
    Flag::list("volume", "Bind mount a volume").short('v'),
    Flag::text("volume-driver", "Optional volume driver for the container"),
    Flag::list("volumes-from", "Mount volumes from the specified container(s)"),
    Flag::text("workdir", "Working directory inside the container").short('w'),
];

type Checked = Result<(), String>;

pub fn check_bytes(value: &str) -> Checked {
    parse_size(value).map(|_| ())
}

pub fn check_swap(value: &str) -> Checked {
    if value == "-1" { Ok(()) } else { check_bytes(value) }
}

fn check_duration(value: &str) -> Checked {
    parse_duration(value).map(|_| ())
}

pub fn check_uint16(value: &str) -> Checked {
    let invalid = || {
        format!(
            "strconv.ParseUint: parsing {}: invalid syntax",
            api::quote::quote(value)
        )
    };
    value.parse::<u16>().map(|_| ()).map_err(|_| invalid())
}

/// `1.5` CPUs, in units of 10^-9.
pub fn nano_cpus(value: &str) -> Result<i64, String> {
    let cpus: f64 = value
        .parse()
        .map_err(|_| format!("failed to parse {value} as a rational number"))?;
    let nanos = cpus * 1e9;
    if (nanos - nanos.round()).abs() > 1e-3 {
        return Err("value is too precise".into());
    }
    Ok(nanos.round() as i64)
}

pub fn check_cpus(value: &str) -> Checked {
    nano_cpus(value).map(|_| ())
}

pub fn check_env(value: &str) -> Checked {
    if value.is_empty() || value.starts_with('=') {
        return Err(format!("invalid environment variable: {value}"));
    }
    Ok(())
}

pub fn check_label(value: &str) -> Checked {
    if value.is_empty() || value.starts_with('=') {
        return Err(format!("invalid label '{value}': empty name"));
    }
    Ok(())
}

fn check_attach(value: &str) -> Checked {
    match value.to_ascii_lowercase().as_str() {
        "stdin" | "stdout" | "stderr" => Ok(()),
        _ => Err("valid streams are STDIN, STDOUT and STDERR".into()),
    }
}

fn check_ip(value: &str) -> Checked {
    match value.trim().parse::<std::net::IpAddr>() {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("IP address is not correctly formatted: {value}")),
    }
}

/// Splits `host:ip` and `host=ip`.
pub fn split_host(value: &str) -> Option<(&str, &str)> {
    value
        .split_once('=')
        .or_else(|| value.split_once(':'))
        .filter(|(host, _)| !host.is_empty())
}

fn check_host(value: &str) -> Checked {
    let Some((_, address)) = split_host(value) else {
        return Err(format!("bad format for add-host: {}", api::quote::quote(value)));
    };
    let bare = address
        .strip_prefix('[')
        .and_then(|a| a.strip_suffix(']'))
        .unwrap_or(address);
    match bare.parse::<std::net::IpAddr>() {
        Err(_) if address != "host-gateway" => Err(format!(
            "invalid IP address in add-host: {}",
            api::quote::quote(address)
        )),
        _ => Ok(()),
    }
}

/// Only what belongs to a container's own namespaces.
fn check_sysctl(value: &str) -> Checked {
    const KEYS: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    match value.split_once('=') {
        Some((key, _)) if KEYS.contains(&key) || key.starts_with("net.") || key.starts_with("fs.mqueue.") => Ok(()),
        _ => Err(format!("sysctl '{value}' is not allowed")),
    }
}

fn check_device_rule(value: &str) -> Checked {
    let parts: Vec<&str> = value.split(' ').collect();
    let number = |text: &str| text == "*" || (!text.is_empty() && text.bytes().all(|c| c.is_ascii_digit()));
    let good = match parts.as_slice() {
        [kind, numbers, access] => {
            matches!(*kind, "a" | "b" | "c")
                && numbers
                    .split_once(':')
                    .is_some_and(|(major, minor)| number(major) && number(minor))
                && (1..=3).contains(&access.len())
                && access.chars().all(|c| "rwm".contains(c))
        }
        _ => false,
    };
    if good {
        Ok(())
    } else {
        Err(format!("invalid device cgroup format '{value}'"))
    }
}

/// Splits `/dev/x:5`.
fn device(value: &str) -> Result<(&str, &str), String> {
    let (path, number) = value.split_once(':').ok_or_else(|| format!("bad format: {value}"))?;
    if !path.starts_with("/dev/") {
        return Err(format!("bad format for device path: {value}"));
    }
    Ok((path, number))
}

pub fn weight(value: &str) -> Result<(String, u16), String> {
    let (path, number) = device(value)?;
    match number.parse() {
        Ok(weight) if weight == 0 || (10..=1000).contains(&weight) => Ok((path.into(), weight)),
        _ => Err(format!("invalid weight for device: {value}")),
    }
}

pub fn bps(value: &str) -> Result<(String, u64), String> {
    let (path, number) = device(value)?;
    let rate = parse_size(number).ok().and_then(|rate| u64::try_from(rate).ok());
    rate.map(|rate| (path.into(), rate)).ok_or_else(|| {
        format!("invalid rate for device: {value}. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb")
    })
}

pub fn iops(value: &str) -> Result<(String, u64), String> {
    let (path, number) = device(value)?;
    number.parse().map(|rate| (path.into(), rate)).map_err(|_| {
        format!("invalid rate for device: {value}. The correct format is <device-path>:<number>. Number must be a positive integer")
    })
}

fn check_weight(value: &str) -> Checked {
    weight(value).map(|_| ())
}

fn check_bps(value: &str) -> Checked {
    bps(value).map(|_| ())
}

fn check_iops(value: &str) -> Checked {
    iops(value).map(|_| ())
}

fn check_mount(value: &str) -> Checked {
    super::mounts::parse(value).map(|_| ())
}

fn check_ulimit(value: &str) -> Checked {
    ulimit(value).map(|_| ())
}

/// Reads `nofile=1024:2048`.
pub fn ulimit(value: &str) -> Result<(String, i64, i64), String> {
    const NAMES: &[&str] = &[
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let (name, limits) = value
        .split_once('=')
        .ok_or_else(|| format!("invalid ulimit argument: {value}"))?;
    if !NAMES.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number = |text: &str| {
        text.parse::<i64>()
            .map_err(|_| format!("strconv.ParseInt: parsing {}: invalid syntax", api::quote::quote(text)))
    };
    let (soft, hard) = match limits.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(limits)?, number(limits)?),
    };
    if hard != -1 && (soft == -1 || soft > hard) {
        let shown = if soft == -1 {
            "soft: -1".into()
        } else {
            format!("{soft} > {hard}")
        };
        return Err(match soft {
            -1 => {
                format!("ulimit soft limit must be less than or equal to hard limit: {shown} (unlimited), hard: {hard}")
            }
            _ => format!("ulimit soft limit must be less than or equal to hard limit: {shown}"),
        });
    }
    Ok((name.to_string(), soft, hard))
}

/// The variables of `--env-file` and then of `--env`; a bare name takes our own variable's value, and stands bare if
/// there is none, which takes the variable away.
pub fn env_files(parsed: &Parsed) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    for file in parsed.list("env-file") {
        all.extend(lines(&file, true)?);
    }
    for pair in parsed.list("env") {
        match std::env::var(&pair) {
            Ok(value) if !pair.contains('=') => all.push(format!("{pair}={value}")),
            _ => all.push(pair),
        }
    }
    Ok(all)
}

/// Reads a file of `NAME=value` lines; `#` begins a comment. A bare name is taken from our environment (and left out
/// if it is not there) where that is asked for.
pub fn lines(file: &str, environment: bool) -> Result<Vec<String>, String> {
    let bytes = std::fs::read(file).map_err(|e| match e.kind() {
        std::io::ErrorKind::IsADirectory => format!("invalid env file ({file}): read {file}: is a directory"),
        _ => format!("open {file}: {}", errno_text(&e)),
    })?;
    let text = String::from_utf8(bytes).map_err(|_| format!("invalid env file ({file}): invalid utf8 bytes"))?;
    let mut out = Vec::new();
    for line in text.strip_prefix('\u{feff}').unwrap_or(&text).lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name.trim_start(), Some(value)),
            None => (line, None),
        };
        if name.contains([' ', '\t']) {
            return Err(format!(
                "invalid env file ({file}): variable '{name}' contains whitespaces"
            ));
        }
        if name.is_empty() {
            return Err(format!("invalid env file ({file}): no variable name on line '{line}'"));
        }
        match value {
            Some(value) => out.push(format!("{name}={value}")),
            None if environment => out.extend(std::env::var(name).ok().map(|value| format!("{name}={value}"))),
            // A label without a value in a file is left out, as docker does.
            None => {}
        }
    }
    Ok(out)
}

/// Says whether a text names an image by its whole ID.
pub fn is_image_id(text: &str) -> bool {
    is_id(text.strip_prefix("sha256:").unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        assert_eq!(nano_cpus("1.5"), Ok(1_500_000_000));
        assert_eq!(ulimit("nofile=1:2"), Ok(("nofile".into(), 1, 2)));
        assert!(ulimit("nofile=3:2").is_err() && ulimit("x=1").is_err() && ulimit("nofile").is_err());
        assert!(check_device_rule("c 1:* rwm").is_ok() && check_device_rule("c 1:3").is_err());
        assert!(check_host("a:1.2.3.4").is_ok() && check_host("a:::1").is_ok() && check_host("a=[::1]").is_ok());
        assert!(check_host("a:b").is_err() && check_host("a:host-gateway").is_ok());
        assert_eq!(bps("/dev/sda:1mb"), Ok(("/dev/sda".into(), 1 << 20)));
    }

    #[test]
    fn env_file_lines() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("env").display().to_string();
        std::fs::write(&file, "\u{feff}A=1\n# c\n\n  B=x y \nNOT_SET_ANYWHERE\nPATH\n").unwrap();
        let read = lines(&file, true).unwrap();
        assert_eq!(read[..2], ["A=1".to_string(), "B=x y ".to_string()]);
        assert!(read.len() == 3 && read[2].starts_with("PATH="));
        std::fs::write(&file, "A B=1\n").unwrap();
        assert_eq!(
            lines(&file, true).unwrap_err(),
            format!("invalid env file ({file}): variable 'A B' contains whitespaces")
        );
        assert_eq!(
            lines("/nowhere", true).unwrap_err(),
            "open /nowhere: no such file or directory"
        );
    }
}
