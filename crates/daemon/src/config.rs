//! What the daemon is told: flags and `daemon.json`, one table for both.
//!
//! Names, keys and the texts for contradictions are dockerd's. What only makes sense in Docker's own processes is
//! accepted and ignored, as device operating systems pass it.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// How an option takes values.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Flag,
    Text,
    List,
    /// `key=value`, any number of times; in the file an object.
    Map,
    /// Only in the file, kept as JSON.
    Json,
    /// Accepted, and without effect here.
    Ignored,
}

struct Opt {
    name: &'static str,
    short: Option<char>,
    /// The key in `daemon.json`; empty where there is none.
    key: &'static str,
    shape: Shape,
    help: &'static str,
}

const fn opt(name: &'static str, key: &'static str, shape: Shape, help: &'static str) -> Opt {
    Opt {
        name,
        short: None,
        key,
        shape,
        help,
    }
}

const fn short(name: &'static str, short: char, key: &'static str, shape: Shape, help: &'static str) -> Opt {
    Opt {
        name,
        short: Some(short),
        key,
        shape,
        help,
    }
}

use Shape::{Flag, Ignored, Json, List, Map, Text};

const OPTIONS: &[Opt] = &[
    opt("bip", "bip", Text, "Network bridge IP, as CIDR"),
    short(
        "bridge",
        'b',
        "bridge",
        Text,
        "Attach containers to a network bridge (default \"balena0\")",
    ),
    opt(
        "cgroup-parent",
        "cgroup-parent",
        Text,
        "Set parent cgroup for all containers",
    ),
    opt(
        "config-file",
        "",
        Text,
        "Daemon configuration file (default \"/etc/balena-engine/daemon.json\")",
    ),
    opt("containerd", "containerd", Ignored, "Accepted and ignored"),
    opt(
        "containerd-namespace",
        "containerd-namespace",
        Ignored,
        "Accepted and ignored",
    ),
    opt(
        "containerd-plugins-namespace",
        "containerd-plugin-namespace",
        Ignored,
        "Accepted and ignored",
    ),
    opt(
        "data-root",
        "data-root",
        Text,
        "Root directory of persistent state (default \"/var/lib/balena-engine\")",
    ),
    short("debug", 'D', "debug", Flag, "Enable debug mode"),
    opt(
        "default-runtime",
        "default-runtime",
        Text,
        "Default OCI runtime for containers (default \"runc\")",
    ),
    opt(
        "default-shm-size",
        "default-shm-size",
        Text,
        "Default shm size for containers (default 64MiB)",
    ),
    opt("default-ulimit", "default-ulimits", Json, ""),
    opt("dns", "dns", List, "DNS server to use"),
    opt("dns-opt", "dns-opts", List, "DNS options to use"),
    opt("dns-search", "dns-search", List, "DNS search domains to use"),
    opt("exec-opt", "exec-opts", List, "Runtime execution options"),
    opt(
        "exec-root",
        "exec-root",
        Text,
        "Root directory for execution state files (default \"/var/run/balena-engine\")",
    ),
    opt("experimental", "experimental", Flag, "Enable experimental features"),
    opt("fixed-cidr", "fixed-cidr", Text, "IPv4 subnet for fixed IPs"),
    short(
        "group",
        'G',
        "group",
        Text,
        "Group for the unix socket (default \"balena-engine\")",
    ),
    short("host", 'H', "hosts", List, "Daemon socket(s) to connect to"),
    opt(
        "icc",
        "icc",
        Flag,
        "Enable inter-container communication (default true)",
    ),
    opt(
        "init",
        "init",
        Flag,
        "Run an init in the container to forward signals and reap processes",
    ),
    opt(
        "insecure-registry",
        "insecure-registries",
        List,
        "Enable insecure registry communication",
    ),
    opt(
        "ip",
        "ip",
        Text,
        "Host IP for port publishing from the default bridge network (default 0.0.0.0)",
    ),
    opt(
        "ip-forward",
        "ip-forward",
        Flag,
        "Enable IP forwarding in system configuration (default true)",
    ),
    opt(
        "ip-masq",
        "ip-masq",
        Flag,
        "Enable IP masquerading for the default bridge network (default true)",
    ),
    opt(
        "iptables",
        "iptables",
        Flag,
        "Enable addition of iptables rules (default true)",
    ),
    opt("ip6tables", "ip6tables", Ignored, "Accepted and ignored"),
    opt(
        "ipv6",
        "ipv6",
        Flag,
        "Enable IPv6 networking for the default bridge network",
    ),
    opt("label", "labels", List, "Set key=value labels to the daemon"),
    opt(
        "live-restore",
        "live-restore",
        Ignored,
        "Always on: containers survive the daemon",
    ),
    opt(
        "log-driver",
        "log-driver",
        Text,
        "Default driver for container logs (default \"json-file\")",
    ),
    short(
        "log-level",
        'l',
        "log-level",
        Text,
        "Set the logging level: debug, info, warn, error, fatal (default \"info\")",
    ),
    opt(
        "log-format",
        "log-format",
        Text,
        "Set the logging format: text or json (default \"text\")",
    ),
    opt("log-opt", "log-opts", Map, "Default log driver options for containers"),
    opt(
        "delta",
        "delta",
        Text,
        "Whether pulls use deltas: auto, off or only (default \"auto\")",
    ),
    opt(
        "delta-data-root",
        "delta-data-root",
        Text,
        "Root directory of a second store, read only, with bases of balenaEngine's deltas",
    ),
    opt(
        "delta-storage-driver",
        "delta-storage-driver",
        Text,
        "Storage driver of the second store: overlay2",
    ),
    opt(
        "delta-storage-opt",
        "delta-storage-opts",
        Ignored,
        "Accepted and ignored: the second store's driver needs none",
    ),
    opt(
        "max-concurrent-downloads",
        "max-concurrent-downloads",
        Text,
        "Max concurrent downloads (default 3)",
    ),
    opt(
        "max-download-rate",
        "max-download-rate",
        Text,
        "Bytes a second that all pulls together may take, as 500k or 2m (default no limit)",
    ),
    opt(
        "max-concurrent-uploads",
        "max-concurrent-uploads",
        Text,
        "Max concurrent uploads (default 5)",
    ),
    opt(
        "max-download-attempts",
        "max-download-attempts",
        Text,
        "Max download attempts for each layer (default 5)",
    ),
    opt(
        "max-upload-attempts",
        "max-upload-attempts",
        Text,
        "Max upload attempts for each layer (default 5)",
    ),
    opt("metrics-addr", "metrics-addr", Ignored, "Accepted and ignored"),
    opt("mtu", "mtu", Text, "Set the containers network MTU (default 1500)"),
    opt(
        "no-new-privileges",
        "no-new-privileges",
        Flag,
        "Set no-new-privileges by default for new containers",
    ),
    opt(
        "oom-score-adjust",
        "oom-score-adjust",
        Text,
        "Set the oom_score_adj for the daemon",
    ),
    short(
        "pidfile",
        'p',
        "pidfile",
        Text,
        "Path to use for daemon PID file (default \"/var/run/balena-engine.pid\")",
    ),
    opt("raw-logs", "raw-logs", Ignored, "Accepted and ignored: always so"),
    opt("registry-mirror", "registry-mirrors", List, "Preferred registry mirror"),
    opt(
        "seccomp-profile",
        "seccomp-profile",
        Text,
        "Path to seccomp profile, or \"unconfined\"",
    ),
    opt(
        "shutdown-timeout",
        "shutdown-timeout",
        Ignored,
        "Accepted and ignored: containers outlive the daemon",
    ),
    short(
        "storage-driver",
        's',
        "storage-driver",
        Text,
        "Storage driver to use: overlay2",
    ),
    opt("storage-opt", "storage-opts", List, "Storage driver options"),
    // Not there, and said so: what they protect must not be open instead.
    opt("tls", "tls", Flag, ""),
    opt("tlsverify", "tlsverify", Flag, ""),
    opt("tlscacert", "tlscacert", Text, ""),
    opt("tlscert", "tlscert", Text, ""),
    opt("tlskey", "tlskey", Text, ""),
    opt(
        "userland-proxy",
        "userland-proxy",
        Flag,
        "Use userland proxy for loopback traffic",
    ),
    opt(
        "userland-proxy-path",
        "userland-proxy-path",
        Ignored,
        "Accepted and ignored",
    ),
    opt(
        "add-runtime",
        "",
        Map,
        "Register an additional OCI compatible runtime: name=path",
    ),
    opt("runtimes", "runtimes", Json, ""),
    opt("features", "features", Json, ""),
    opt("proxies", "proxies", Json, ""),
    opt("builder", "builder", Ignored, ""),
    opt("http-proxy", "", Text, "HTTP proxy URL to use for outgoing traffic"),
    opt("https-proxy", "", Text, "HTTPS proxy URL to use for outgoing traffic"),
    opt(
        "no-proxy",
        "",
        Text,
        "Comma-separated list of hosts or IP addresses for which the proxy is skipped",
    ),
    opt(
        "default-address-pool",
        "",
        List,
        "Pools that networks take subnets from: base=10.10.0.0/16,size=24",
    ),
    opt("default-address-pools", "default-address-pools", Json, ""),
    opt(
        "default-cgroupns-mode",
        "default-cgroupns-mode",
        Text,
        "Default mode for containers cgroup namespace",
    ),
    opt(
        "default-ipc-mode",
        "default-ipc-mode",
        Text,
        "Default mode for containers ipc (default \"private\")",
    ),
    opt(
        "host-gateway-ip",
        "host-gateway-ip",
        Text,
        "IP address that the special 'host-gateway' string resolves to",
    ),
];

/// What was given, by option name.
#[derive(Clone, Debug, Default)]
pub struct Given {
    values: BTreeMap<&'static str, Vec<String>>,
    json: BTreeMap<&'static str, Value>,
    /// Which options somebody looked at: a test sees to it that it is all.
    #[cfg(test)]
    asked: std::cell::RefCell<std::collections::BTreeSet<String>>,
}

/// What the command line asked for.
pub enum Command {
    Run(Box<Given>),
    Help,
    Version,
    Validate(Box<Given>),
}

impl Given {
    fn of(&self, name: &str) -> Option<&Vec<String>> {
        #[cfg(test)]
        self.asked.borrow_mut().insert(name.to_string());
        self.values.get(name)
    }

    /// A text, or its default.
    pub fn text(&self, name: &str, default: &str) -> String {
        self.of(name)
            .and_then(|v| v.last())
            .cloned()
            .unwrap_or_else(|| default.into())
    }

    /// A flag, or its default.
    pub fn flag(&self, name: &str, default: bool) -> bool {
        self.of(name).and_then(|v| v.last()).map_or(default, |v| v == "true")
    }

    /// A number, or its default; an error names the option.
    pub fn number(&self, name: &str, default: u32) -> Result<u32, String> {
        match self.of(name).and_then(|v| v.last()) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .map_err(|_| format!("invalid argument \"{text}\" for \"--{name}\" flag")),
        }
    }

    /// All values.
    pub fn list(&self, name: &str) -> Vec<String> {
        self.of(name).cloned().unwrap_or_default()
    }

    /// `key=value` pairs.
    pub fn map(&self, name: &str) -> BTreeMap<String, String> {
        self.list(name)
            .iter()
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect()
    }

    /// What only the file can hold.
    pub fn json(&self, name: &str) -> Option<&Value> {
        #[cfg(test)]
        self.asked.borrow_mut().insert(name.to_string());
        self.json.get(name)
    }

    /// Whether it was given at all.
    pub fn has(&self, name: &str) -> bool {
        self.of(name).is_some()
    }
}

fn boolean(text: &str) -> Option<&'static str> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some("true"),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some("false"),
        _ => None,
    }
}

/// Reads the arguments behind the program's name, and the configuration file that they name.
pub fn read(args: &[String]) -> Result<Command, String> {
    let mut given = Given::default();
    let mut validate = false;
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let (option, value) = if let Some(long) = arg.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_string())),
                None => (long, None),
            };
            match name {
                "help" => return Ok(Command::Help),
                "version" => return Ok(Command::Version),
                "validate" => {
                    validate = true;
                    continue;
                }
                _ => {}
            }
            let found = OPTIONS.iter().find(|o| o.name == name && o.shape != Json);
            (found.ok_or_else(|| format!("unknown flag: --{name}"))?, value)
        } else if let Some(letters) = arg.strip_prefix('-').filter(|l| !l.is_empty()) {
            let letter = letters.chars().next().unwrap_or('-');
            match letter {
                'h' => return Ok(Command::Help),
                'v' => return Ok(Command::Version),
                _ => {}
            }
            let found = OPTIONS.iter().find(|o| o.short == Some(letter));
            let tail = &letters[letter.len_utf8()..];
            let value = (!tail.is_empty()).then(|| tail.strip_prefix('=').unwrap_or(tail).to_string());
            (
                found.ok_or_else(|| format!("unknown shorthand flag: '{letter}' in {arg}"))?,
                value,
            )
        } else {
            return Err(format!("unknown command: balenad {arg}"));
        };
        let is_switch = option.shape == Flag || matches!(option.name, "live-restore" | "ip6tables" | "raw-logs");
        let value = match value {
            Some(value) => value,
            None if is_switch => "true".into(),
            None => rest
                .next()
                .cloned()
                .ok_or_else(|| format!("flag needs an argument: {arg}"))?,
        };
        let value = match is_switch {
            false => value,
            true => boolean(&value)
                .ok_or_else(|| format!("invalid argument \"{value}\" for \"--{}\" flag", option.name))?
                .to_string(),
        };
        given.values.entry(option.name).or_default().push(value);
    }
    let path = given.text("config-file", "/etc/balena-engine/daemon.json");
    merge_file(&mut given, Path::new(&path))?;
    Ok(if validate {
        Command::Validate(Box::new(given))
    } else {
        Command::Run(Box::new(given))
    })
}

fn merge_file(given: &mut Given, path: &Path) -> Result<(), String> {
    let about = |e: &dyn std::fmt::Display| {
        format!(
            "unable to configure the Docker daemon with file {}: {e}",
            path.display()
        )
    };
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !given.has("config-file") => return Ok(()),
        Err(e) => return Err(about(&format!("open {}: {e}", path.display()))),
    };
    let text = String::from_utf8_lossy(&bytes);
    if text.trim().is_empty() {
        return Ok(());
    }
    let value: Value = json::from_str(&text).map_err(|e| about(&format!("invalid JSON: {e}")))?;
    let Value::Object(map) = value else {
        return Err(about(&"invalid JSON: not an object"));
    };
    let (mut unknown, mut conflicts) = (Vec::new(), Vec::new());
    for (key, value) in map {
        let Some(option) = OPTIONS.iter().find(|o| o.key == key) else {
            unknown.push(key);
            continue;
        };
        if given.has(option.name) {
            conflicts.push(format!(
                "{key}: (from flag: {:?}, from file: {value})",
                given.list(option.name)
            ));
            continue;
        }
        take(given, option, &key, value).map_err(|e| about(&e))?;
    }
    if !unknown.is_empty() {
        return Err(about(&format!(
            "the following directives don't match any configuration option: {}",
            unknown.join(", ")
        )));
    }
    if !conflicts.is_empty() {
        return Err(about(&format!(
            "the following directives are specified both as a flag and in the configuration file: {}",
            conflicts.join(", ")
        )));
    }
    Ok(())
}

fn take(given: &mut Given, option: &'static Opt, key: &str, value: Value) -> Result<(), String> {
    let wrong = || format!("invalid value for {key}");
    let scalar = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(on) => Some(on.to_string()),
        _ => None,
    };
    let values = match (option.shape, &value) {
        (Ignored, _) => Vec::new(),
        (Json, _) => {
            given.json.insert(option.name, value);
            return Ok(());
        }
        (Flag, Value::Bool(on)) => vec![on.to_string()],
        (Flag, _) => return Err(wrong()),
        (Text, value) => vec![scalar(value).ok_or_else(wrong)?],
        (List, Value::Array(list)) => list.iter().map(scalar).collect::<Option<_>>().ok_or_else(wrong)?,
        (Map, Value::Object(map)) => map
            .iter()
            .map(|(name, value)| scalar(value).map(|value| format!("{name}={value}")))
            .collect::<Option<_>>()
            .ok_or_else(wrong)?,
        _ => return Err(wrong()),
    };
    if !values.is_empty() {
        given.values.insert(option.name, values);
    }
    Ok(())
}

/// The text of `--help`.
pub fn help() -> String {
    let mut text = String::from(
        "\nUsage:  balenad [OPTIONS]\n\nA container engine for devices.\n\nExample:\n  balenad --data-root /data/engine -H unix:///var/run/balena-engine.sock\n\nOptions:\n",
    );
    let mut options: Vec<&Opt> = OPTIONS.iter().filter(|o| !o.help.is_empty()).collect();
    options.sort_by_key(|o| o.name);
    for option in options {
        let letter = option.short.map_or("    ".into(), |s| format!("-{s}, "));
        let kind = match option.shape {
            Flag | Ignored => "",
            Text => " string",
            List => " list",
            Map | Json => " map",
        };
        let _ = writeln!(
            text,
            "  {letter}--{:<36} {}",
            format!("{}{kind}", option.name),
            option.help
        );
    }
    text.push_str("      --validate                             Validate daemon configuration and exit\n");
    text.push_str("  -v, --version                              Print version information and quit\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(args: &[&str]) -> Result<Given, String> {
        let args: Vec<String> = args.iter().map(|a| a.to_string()).collect();
        match read(&args)? {
            Command::Run(given) => Ok(*given),
            _ => panic!("not a run"),
        }
    }

    /// An option that is taken and then read by nobody would be a promise that is not kept.
    #[test]
    fn every_option_is_looked_at() {
        let given = run(&["--config-file", "/dev/null"]).unwrap();
        crate::settings::Settings::of(&given).unwrap();
        let asked = given.asked.borrow();
        let passed_over: Vec<&str> = OPTIONS
            .iter()
            .filter(|option| option.shape != Ignored && !asked.contains(option.name))
            .map(|option| option.name)
            .collect();
        assert_eq!(passed_over, Vec::<&str>::new());
        let mut names: Vec<&str> = OPTIONS.iter().map(|option| option.name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all, "an option is there twice");
    }

    #[test]
    fn flags() {
        let given = run(&[
            "-H",
            "unix:///a",
            "-Htcp://b",
            "--host=fd://",
            "--iptables=false",
            "-D",
            "--data-root",
            "/x",
        ])
        .unwrap();
        assert_eq!(given.list("host"), ["unix:///a", "tcp://b", "fd://"]);
        assert!(!given.flag("iptables", true) && given.flag("debug", false) && given.flag("ip-masq", true));
        assert_eq!(run(&["--nope"]).unwrap_err(), "unknown flag: --nope");
        assert!(run(&["--iptables=maybe"]).is_err() && run(&["--data-root"]).is_err() && run(&["x"]).is_err());
    }

    #[test]
    fn the_file_fills_in_and_may_not_contradict() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.json");
        let file = format!("--config-file={}", path.display());
        std::fs::write(
            &path,
            r#"{"dns":["1.1.1.1"],"mtu":1400,"log-opts":{"max-size":"1m"},"live-restore":true,"debug":true}"#,
        )
        .unwrap();
        let given = run(&[&file]).unwrap();
        assert_eq!(
            (given.list("dns"), given.number("mtu", 0).unwrap()),
            (vec!["1.1.1.1".to_string()], 1400)
        );
        assert_eq!(given.map("log-opt")["max-size"], "1m");
        assert!(
            run(&[&file, "--mtu", "9"])
                .unwrap_err()
                .contains("specified both as a flag")
        );
        for (text, error) in [
            (r#"{"nope":1}"#, "don't match any configuration option: nope"),
            ("{", "invalid JSON"),
            ("[]", "not an object"),
            (r#"{"dns":"x"}"#, "invalid value for dns"),
        ] {
            std::fs::write(&path, text).unwrap();
            assert!(run(&[&file]).unwrap_err().contains(error), "{text}");
        }
        std::fs::write(&path, "").unwrap();
        run(&[&file]).unwrap();
    }
}
