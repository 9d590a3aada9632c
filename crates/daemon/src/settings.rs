//! From what was given to what the parts want: checked, with defaults.

use crate::config::Given;
use api::host_config::{LogConfig, Ulimit};
use engine::find_delta::Mode;
use engine::{Config, Limits, Runtime};
use oci::platform::Platform;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// Everything that the daemon's parts are told.
pub struct Settings {
    pub engine: Config,
    pub network: network::Config,
    pub registry: registry::Config,
    pub hosts: Vec<String>,
    pub group: String,
    pub pidfile: PathBuf,
    pub log: Log,
    /// The daemon's own; `None` leaves it.
    pub oom_score_adjust: Option<i32>,
    /// The storage driver was named, not taken for granted.
    pub driver_chosen: bool,
}

/// How the daemon logs.
pub struct Log {
    pub level: String,
    pub format: String,
}

impl Settings {
    /// Checks what was given.
    pub fn of(given: &Given) -> Result<Settings, String> {
        match given.text("storage-driver", "overlay2").as_str() {
            "overlay2" | "" => {}
            other => {
                return Err(format!(
                    "storage driver {other:?} is not supported by balena: use overlay2"
                ));
            }
        }
        let log_driver = given.text("log-driver", "json-file");
        let log_opts = given.map("log-opt");
        let mut log = LogConfig {
            kind: log_driver.clone(),
            ..LogConfig::default()
        };
        let drivers = engine::log_driver::DRIVERS.join(", ");
        engine::log_driver::check(&log).map_err(|why| format!("{why}: known are {drivers}"))?;
        log.config.clone_from(&log_opts);
        engine::log_driver::check(&log).map_err(|why| format!("failed to set log opts: {why}"))?;
        refuse(given)?;
        let ipc = given.text("default-ipc-mode", "private");
        if !matches!(ipc.as_str(), "private" | "shareable") {
            return Err(format!(
                "IPC mode setting {ipc:?} is not supported as a default: use private or shareable"
            ));
        }
        let mut systemd_cgroup = false;
        for option in given.list("exec-opt") {
            match option.as_str() {
                "native.cgroupdriver=cgroupfs" => systemd_cgroup = false,
                "native.cgroupdriver=systemd" => systemd_cgroup = true,
                other => return Err(format!("invalid exec option {other:?}: known is native.cgroupdriver")),
            }
        }
        let hosts = match given.list("host") {
            list if list.is_empty() => vec!["unix:///var/run/balena-engine.sock".to_string()],
            list => list.into_iter().map(normal_host).collect(),
        };
        let insecure = given.list("insecure-registry").into_iter().map(insecure_registry);
        let insecure: Vec<String> = insecure.collect::<Result<_, _>>()?;
        let mirrors = given.list("registry-mirror").into_iter().map(mirror);
        let mirrors: Vec<String> = mirrors.collect::<Result<_, _>>()?;
        let shm = given.text("default-shm-size", "64m");
        let shm = engine::size::binary(&shm).ok().and_then(|s| i64::try_from(s).ok());
        let rate = engine::size::binary(&given.text("max-download-rate", "0")).ok();
        let proxies = proxies(given)?;
        let engine = Config {
            data_root: absolute(&given.text("data-root", "/var/lib/balena-engine"))?,
            exec_root: absolute(&given.text("exec-root", "/var/run/balena-engine"))?,
            platform: Platform::of_machine(&machine()),
            limits: Limits {
                downloads: positive(given, "max-concurrent-downloads", 3)?,
                uploads: positive(given, "max-concurrent-uploads", 5)?,
                download_rate: rate.ok_or("invalid argument for --max-download-rate: bytes a second, as 500k or 2m")?,
                upload_attempts: given.number("max-upload-attempts", 5)?,
            },
            delta: Mode::parse(&given.text("delta", "auto"))
                .ok_or("invalid argument for --delta: known are auto, off and only")?,
            delta_data_root: delta_data_root(given)?,
            runtimes: runtimes(given)?,
            default_runtime: given.text("default-runtime", "runc"),
            log_driver,
            log_opts,
            dns: given.list("dns"),
            dns_search: given.list("dns-search"),
            dns_options: given.list("dns-opt"),
            default_ulimits: ulimits(given)?,
            default_shm_size: shm.ok_or("invalid argument for --default-shm-size")?,
            cgroup_parent: given.text("cgroup-parent", if systemd_cgroup { "system.slice" } else { "/docker" }),
            systemd_cgroup,
            init: given.flag("init", false),
            no_new_privileges: given.flag("no-new-privileges", false),
            labels: given.list("label"),
            experimental: given.flag("experimental", false),
            debug: given.flag("debug", false),
            hosts: hosts.clone(),
            bridge: given.text("bridge", "balena0"),
            iptables: given.flag("iptables", true),
            default_cgroupns: given.text("default-cgroupns-mode", ""),
            default_ipc: ipc,
            host_gateway: host_gateway(given)?,
            seccomp: seccomp(given)?,
            proxies: proxies.each_ref().map(|url| without_password(url)),
        };
        Ok(Settings {
            network: network_of(given)?,
            registry: registry::Config {
                insecure,
                mirrors,
                user_agent: format!(
                    "docker/{} balena-engine os/linux arch/{}",
                    api::ENGINE_VERSION,
                    engine.platform.architecture
                ),
                max_attempts: given.number("max-download-attempts", 5)?,
                read_rate: rate.filter(|&rate| rate > 0),
                proxies: registry::Proxies::new(&proxies[0], &proxies[1], &proxies[2]),
                ..registry::Config::default()
            },
            log: Log {
                level: match given.flag("debug", false) {
                    true => "debug".into(),
                    false => given.text("log-level", "info"),
                },
                format: given.text("log-format", "text"),
            },
            oom_score_adjust: oom_score_adjust(given)?,
            driver_chosen: given.has("storage-driver"),
            pidfile: absolute(&given.text("pidfile", "/var/run/balena-engine.pid"))?,
            group: given.text("group", "balena-engine"),
            hosts,
            engine,
        })
    }
}

/// Refuses what would be passed over otherwise.
fn refuse(given: &Given) -> Result<(), String> {
    for name in ["tls", "tlsverify"] {
        if given.flag(name, false) {
            return Err(format!(
                "--{name} is not supported by balena: listen on a unix socket, and reach it by ssh"
            ));
        }
    }
    for name in ["tlscacert", "tlscert", "tlskey"] {
        if given.has(name) {
            return Err(format!(
                "--{name} is not supported by balena: listen on a unix socket, and reach it by ssh"
            ));
        }
    }
    if given.flag("ipv6", false) {
        return Err("--ipv6 is not supported by balena: the default bridge has IPv4 only".into());
    }
    for option in given.list("storage-opt") {
        match option.split_once('=') {
            // The kernels that it was for are gone.
            Some(("overlay2.override_kernel_check", _)) => {}
            // balenaEngine's; every layer is durable before it has a name, whatever it says.
            Some(("overlay2.sync_diffs", _)) => {}
            _ => return Err(format!("storage option {option:?} is not supported by balena")),
        }
    }
    match given.json("features").and_then(|f| f.get("containerd-snapshotter")) {
        None | Some(Value::Bool(false)) => Ok(()),
        Some(_) => Err("feature containerd-snapshotter is not supported by balena: images are in overlay2".into()),
    }
}

/// The profile of containers that name none: `None` is the built-in one, else `unconfined` or the profile's text.
fn seccomp(given: &Given) -> Result<Option<String>, String> {
    let path = given.text("seccomp-profile", "");
    match path.as_str() {
        "" | "builtin" | "default" => Ok(None),
        "unconfined" => Ok(Some(path)),
        _ => {
            let text =
                std::fs::read_to_string(&path).map_err(|e| format!("opening seccomp profile ({path}) failed: {e}"))?;
            engine::prepare::check_seccomp(&text).map_err(|e| format!("seccomp profile {path}: {e}"))?;
            Ok(Some(text))
        }
    }
}

fn host_gateway(given: &Given) -> Result<Option<IpAddr>, String> {
    match given.text("host-gateway-ip", "").as_str() {
        "" => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|_| format!("invalid argument \"{text}\" for \"--host-gateway-ip\" flag: it is no address")),
    }
}

fn oom_score_adjust(given: &Given) -> Result<Option<i32>, String> {
    let text = given.text("oom-score-adjust", "0");
    let value = text.parse().ok().filter(|value| (-1000..=1000).contains(value));
    match value {
        None => Err(format!(
            "invalid argument \"{text}\" for \"--oom-score-adjust\" flag: -1000 to 1000"
        )),
        value => Ok(value.filter(|value| *value != 0)),
    }
}

/// A mirror as Docker shows it, with a slash at its end; refused in its words.
fn mirror(text: String) -> Result<String, String> {
    let shown = without_password(&text);
    let (scheme, rest) = text.split_once("://").unwrap_or(("", &text));
    if !matches!(scheme, "http" | "https") {
        return Err(format!("invalid mirror: unsupported scheme {scheme:?} in {shown:?}"));
    }
    let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if !matches!(path, "" | "/") {
        return Err(format!(
            "invalid mirror: path, query, or fragment at end of the URI {shown:?}"
        ));
    }
    if host.contains('@') {
        return Err(format!(
            "invalid mirror: username/password not allowed in URI {shown:?}"
        ));
    }
    if !is_host(host) {
        return Err(format!("invalid mirror: {shown:?} is not a valid URI"));
    }
    Ok(format!("{scheme}://{host}/"))
}

/// A host with or without a port, or a range of addresses.
fn insecure_registry(text: String) -> Result<String, String> {
    let mut entry = text.as_str();
    for scheme in ["http://", "https://"] {
        if let Some(rest) = entry.strip_prefix(scheme) {
            log::warn!(
                "insecure registry {text} should not contain '{scheme}' and '{scheme}' has been removed from the insecure registry config"
            );
            entry = rest;
        }
    }
    let range = entry.split_once('/').is_some_and(|(address, prefix)| {
        let width = address.parse().map(|ip: IpAddr| if ip.is_ipv4() { 32 } else { 128 });
        width.is_ok_and(|width: u8| prefix.parse::<u8>().is_ok_and(|prefix| prefix <= width))
    });
    if range || is_host(entry) {
        return Ok(entry.to_string());
    }
    Err(format!("insecure registry {text} is not valid: invalid host {entry:?}"))
}

/// Says if a text may be `host` or `host:port`, an IPv6 address in brackets.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => ("v6", port.strip_prefix(':')),
        Some(_) => return false,
        None => text
            .split_once(':')
            .map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let letter = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    !host.is_empty()
        && host.chars().all(letter)
        && !host.starts_with('-')
        && !host.ends_with('-')
        && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// The proxies for http, for https, and for whom there is none: flags before the file, the file before the environment.
fn proxies(given: &Given) -> Result<[String; 3], String> {
    let file = given.json("proxies");
    if let Some(unknown) = file
        .and_then(Value::as_object)
        .and_then(|map| map.keys().find(|key| !PROXIES.contains(&key.as_str())))
    {
        return Err(format!(
            "proxies: the following directive doesn't match any configuration option: {unknown}"
        ));
    }
    let one = |name: &str| -> Result<String, String> {
        let of_file = match file.and_then(|file| file.get(name)) {
            None => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(_) => return Err(format!("proxies: invalid value for {name}")),
        };
        let given = Some(given.text(name, &of_file)).filter(|url| !url.is_empty());
        Ok(given.unwrap_or_else(|| registry::Proxies::of_env(&name.replace('-', "_"))))
    };
    let [http, https, none] = PROXIES;
    Ok([one(http)?, one(https)?, one(none)?])
}

const PROXIES: [&str; 3] = ["http-proxy", "https-proxy", "no-proxy"];

/// A URL as it may be shown.
fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    match rest.rsplit_once('@') {
        Some((_, host)) if scheme.is_empty() => format!("xxxxx:xxxxx@{host}"),
        Some((_, host)) => format!("{scheme}://xxxxx:xxxxx@{host}"),
        None => url.to_string(),
    }
}

/// The pools that networks take their subnets from.
fn pools(given: &Given) -> Result<Option<Vec<network::Pool>>, String> {
    let pool = |base: &str, size: Option<u64>| -> Result<network::Pool, String> {
        let bad = |why: &str| format!("default address pool {base}: {why}");
        if base.contains(':') {
            return Err(bad("IPv6 is not supported by balena"));
        }
        let subnet: network::Subnet = base.parse().map_err(|e| bad(&format!("{e}")))?;
        let size = size.and_then(|size| u8::try_from(size).ok());
        let size = size.filter(|size| (subnet.prefix()..=30).contains(size));
        let size = size.ok_or_else(|| bad("its size must lie between that of the base and 30"))?;
        Ok(network::Pool { base: subnet, size })
    };
    let mut pools = Vec::new();
    for text in given.list("default-address-pool") {
        let field = |name: &str| text.split(',').find_map(|pair| pair.trim().strip_prefix(name));
        let base = field("base=").ok_or_else(|| format!("default address pool {text}: it has no base"))?;
        pools.push(pool(base, field("size=").and_then(|size| size.parse().ok()))?);
    }
    match given.json("default-address-pools") {
        None => {}
        Some(Value::Array(list)) => {
            for item in list {
                let base = item.get("base").and_then(Value::as_str);
                let base = base.ok_or_else(|| format!("default address pool {item}: it has no base"))?;
                pools.push(pool(base, item.get("size").and_then(Value::as_u64))?);
            }
        }
        Some(_) => return Err("invalid value for default-address-pools".into()),
    }
    Ok((!pools.is_empty()).then_some(pools))
}

/// The second store, which must be of the kind that we read.
fn delta_data_root(given: &Given) -> Result<Option<PathBuf>, String> {
    match given.text("delta-storage-driver", "").as_str() {
        "" | "overlay2" => {}
        other => {
            return Err(format!(
                "delta-storage-driver {other} is not supported: known is overlay2"
            ));
        }
    }
    let path = given.text("delta-data-root", "");
    (!path.is_empty()).then(|| absolute(&path)).transpose()
}

fn machine() -> String {
    engine::info::machine_name()
}

fn absolute(path: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(path);
    if path.is_absolute() {
        return Ok(path);
    }
    let here = std::env::current_dir().map_err(|e| format!("find the current directory: {e}"))?;
    Ok(here.join(path))
}

fn normal_host(host: String) -> String {
    match host.contains("://") {
        true => host,
        false if host.starts_with('/') => format!("unix://{host}"),
        false => format!("tcp://{host}"),
    }
}

fn positive(given: &Given, name: &str, default: u32) -> Result<usize, String> {
    match given.number(name, default)? {
        0 => Err(format!("invalid {}: 0", name.replace('-', " "))),
        n => usize::try_from(n).map_err(|e| format!("--{name}: {e}")),
    }
}

fn network_of(given: &Given) -> Result<network::Config, String> {
    let mut config = network::Config::default();
    let subnet = |name: &str| match given.text(name, "").as_str() {
        "" => Ok(None),
        text => network::parse_with_host(text)
            .map(Some)
            .map_err(|e| format!("invalid argument \"{text}\" for \"--{name}\" flag: {e}")),
    };
    config.bridge = given.text("bridge", &config.bridge);
    config.bip = subnet("bip")?;
    config.fixed_cidr = subnet("fixed-cidr")?.map(|(_, net)| net);
    config.iptables = given.flag("iptables", true);
    config.ip_forward = given.flag("ip-forward", true);
    config.masquerade = given.flag("ip-masq", true);
    config.icc = given.flag("icc", true);
    config.mtu = given.number("mtu", 0)?;
    if let Some(pools) = pools(given)? {
        config.pools = pools;
    }
    let ip = given.text("ip", "0.0.0.0");
    config.default_ip = ip
        .parse()
        .map_err(|_| format!("invalid argument \"{ip}\" for \"--ip\" flag"))?;
    // The kernel forwards; a process for each port is made only where it cannot, or when asked for.
    config.userland_proxy = given.has("userland-proxy") && given.flag("userland-proxy", false);
    config.ipv6_ports = given.flag("userland-proxy", true);
    config.proxy_command = vec!["/proc/self/exe".into(), "balena-engine-proxy".into()];
    Ok(config)
}

fn runtimes(given: &Given) -> Result<BTreeMap<String, Runtime>, String> {
    let mut map: BTreeMap<String, Runtime> = given
        .map("add-runtime")
        .into_iter()
        .map(|(name, path)| {
            (
                name,
                Runtime {
                    path: path.into(),
                    args: Vec::new(),
                },
            )
        })
        .collect();
    if let Some(Value::Object(list)) = given.json("runtimes") {
        for (name, value) in list {
            let path = value
                .get("path")
                .and_then(Value::as_str)
                .ok_or(format!("runtime {name:?} has no path"))?;
            let args = value
                .get("runtimeArgs")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default();
            let args = args.iter().filter_map(|a| a.as_str().map(str::to_string)).collect();
            map.insert(
                name.clone(),
                Runtime {
                    path: path.into(),
                    args,
                },
            );
        }
    }
    if map.contains_key("runc") {
        return Err("runtime name 'runc' is reserved".into());
    }
    Ok(map)
}

fn ulimits(given: &Given) -> Result<Vec<Ulimit>, String> {
    let mut list = Vec::new();
    for text in given.list("default-ulimit") {
        let bad = || format!("invalid argument \"{text}\" for \"--default-ulimit\" flag");
        let (name, values) = text.split_once('=').ok_or_else(bad)?;
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let number = |t: &str| t.parse::<i64>().map_err(|_| bad());
        list.push(Ulimit {
            name: name.into(),
            soft: number(soft)?,
            hard: number(hard)?,
        });
    }
    if let Some(Value::Object(map)) = given.json("default-ulimit") {
        for (key, value) in map {
            let limit: Ulimit =
                json::from_slice(value.to_string().as_bytes()).map_err(|e| format!("default-ulimits: {e}"))?;
            list.push(Ulimit {
                name: if limit.name.is_empty() {
                    key.clone()
                } else {
                    limit.name.clone()
                },
                ..limit
            });
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of dockerd 20.10, each tried.
    #[test]
    fn mirrors() {
        for (text, said) in [
            ("https://mirror.example", Ok("https://mirror.example/")),
            ("http://[::1]:5000/", Ok("http://[::1]:5000/")),
            (
                "https://u:secret@mirror.example",
                Err("invalid mirror: username/password not allowed in URI \"https://xxxxx:xxxxx@mirror.example\""),
            ),
            (
                "mirror.example",
                Err("invalid mirror: unsupported scheme \"\" in \"mirror.example\""),
            ),
            (
                "ftp://mirror.example",
                Err("invalid mirror: unsupported scheme \"ftp\" in \"ftp://mirror.example\""),
            ),
            (
                "https://mirror.example/path",
                Err("invalid mirror: path, query, or fragment at end of the URI \"https://mirror.example/path\""),
            ),
            (
                "https://mirror.example?x=1",
                Err("invalid mirror: path, query, or fragment at end of the URI \"https://mirror.example?x=1\""),
            ),
            (
                "https://mi rror",
                Err("invalid mirror: \"https://mi rror\" is not a valid URI"),
            ),
        ] {
            let said = said.map(str::to_string).map_err(str::to_string);
            assert_eq!(mirror(text.to_string()), said);
        }
    }

    #[test]
    fn insecure_registries() {
        for text in [
            "reg.example",
            "reg.example:5000",
            "10.0.0.0/8",
            "fd00::/8",
            "[::1]:5000",
        ] {
            assert_eq!(insecure_registry(text.to_string()), Ok(text.to_string()));
        }
        assert_eq!(
            insecure_registry("http://reg.example:5000".into()),
            Ok("reg.example:5000".to_string())
        );
        for (text, host) in [
            ("a/b", "a/b"),
            ("10.0.0.0/99", "10.0.0.0/99"),
            ("reg.example:99999", "reg.example:99999"),
            ("-x", "-x"),
            ("https://", ""),
        ] {
            let said = format!("insecure registry {text} is not valid: invalid host {host:?}");
            assert_eq!(insecure_registry(text.to_string()), Err(said));
        }
    }

    #[test]
    fn passwords_of_proxies() {
        for (url, shown) in [
            ("http://u:p@proxy:1", "http://xxxxx:xxxxx@proxy:1"),
            ("u:p@proxy:1", "xxxxx:xxxxx@proxy:1"),
            ("proxy:1", "proxy:1"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }
}
