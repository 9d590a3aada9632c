//! What `create` sends, made of the flags of `run` and `create`.

use super::container_flags::{bps, env_files, iops, lines, nano_cpus, split_host, ulimit, weight};
use super::mounts::{self, Volume};
use super::ports;
use crate::flags::Parsed;
use crate::terminal;
use crate::units::parse_size;
use api::container::{ContainerConfig, CreateRequest, Healthcheck};
use api::host_config::{DeviceMapping, DeviceRequest, LogConfig, RestartPolicy, ThrottleDevice, Ulimit, WeightDevice};
use api::json::Empty;
use api::moment::parse_duration;
use api::network::{EndpointIpam, EndpointSettings, PortBindings};
use std::collections::BTreeMap;

/// Reads `on-failure:3`.
pub fn restart_policy(text: &str) -> Result<RestartPolicy, String> {
    let invalid = |why: &str| format!("invalid restart policy format: {why}");
    let (name, count) = match text.split_once(':') {
        Some(("", _)) => return Err(invalid("no policy provided before colon")),
        Some((name, count)) => (name, count),
        None => (text, ""),
    };
    let maximum_retry_count = match count {
        "" => 0,
        count => count
            .parse()
            .map_err(|_| invalid("maximum retry count must be an integer"))?,
    };
    Ok(RestartPolicy {
        name: name.to_string(),
        maximum_retry_count,
    })
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    Some(list).filter(|list| !list.is_empty())
}

fn some_map(map: BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    Some(map).filter(|map| !map.is_empty())
}

fn size(parsed: &Parsed, flag: &str) -> i64 {
    // Looked at when it was read.
    parsed.get(flag).map_or(0, |text| {
        if text == "-1" {
            -1
        } else {
            parse_size(text).unwrap_or(0)
        }
    })
}

/// Makes the request. The errors stand behind `docker: `.
pub fn request(parsed: &Parsed, detach: bool) -> Result<CreateRequest, String> {
    let mut request = CreateRequest {
        config: config(parsed, detach)?,
        ..CreateRequest::default()
    };
    host(parsed, &mut request)?;
    resources(parsed, &mut request)?;
    networks(parsed, &mut request)?;
    Ok(request)
}

fn config(parsed: &Parsed, detach: bool) -> Result<ContainerConfig, String> {
    let mut attach: Vec<String> = parsed.list("attach").iter().map(|name| name.to_lowercase()).collect();
    let interactive = parsed.bool("interactive");
    if attach.is_empty() && !detach {
        attach = vec!["stdout".into(), "stderr".into()];
        if interactive {
            attach.push("stdin".into());
        }
    }
    let attached = |name: &str| attach.iter().any(|known| known == name);
    let stop_timeout = parsed.int("stop-timeout");
    let mut labels = BTreeMap::new();
    let mut all = Vec::new();
    for file in parsed.list("label-file") {
        all.extend(lines(&file, false)?);
    }
    all.extend(parsed.list("label"));
    for label in all {
        let (name, value) = label.split_once('=').unwrap_or((&label, ""));
        labels.insert(name.to_string(), value.to_string());
    }
    let entrypoint = match parsed.get("entrypoint") {
        None => None,
        // An empty one takes the image's away.
        Some("") => Some(vec![String::new()]),
        Some(text) => Some(vec![text.to_string()]),
    };
    let mut exposed: BTreeMap<String, Empty> = BTreeMap::new();
    for text in parsed.list("expose") {
        exposed.extend(ports::expose(&text)?.into_iter().map(|port| (port, Empty {})));
    }
    let mut bindings = PortBindings::new();
    for text in parsed.list("publish") {
        ports::publish(&text, &mut bindings)?;
    }
    exposed.extend(bindings.keys().map(|port| (port.clone(), Empty {})));
    let mut volumes = BTreeMap::new();
    for text in parsed.list("volume") {
        if let Volume::Anonymous(target) = mounts::volume(&text)? {
            volumes.insert(target, Empty {});
        }
    }
    Ok(ContainerConfig {
        hostname: parsed.text("hostname").into(),
        domainname: parsed.text("domainname").into(),
        user: parsed.text("user").into(),
        attach_stdin: attached("stdin"),
        attach_stdout: attached("stdout"),
        attach_stderr: attached("stderr"),
        exposed_ports: Some(exposed).filter(|map| !map.is_empty()),
        tty: parsed.bool("tty"),
        open_stdin: interactive,
        stdin_once: interactive && attached("stdin"),
        env: some(env_files(parsed)?),
        cmd: some(parsed.args[1..].to_vec()),
        healthcheck: healthcheck(parsed)?,
        image: parsed.first().to_string(),
        volumes: Some(volumes).filter(|map| !map.is_empty()),
        working_dir: parsed.text("workdir").into(),
        entrypoint,
        labels: Some(labels),
        mac_address: mac_address(parsed.text("mac-address"))?.into(),
        stop_signal: parsed.text("stop-signal").into(),
        stop_timeout,
        ..ContainerConfig::default()
    })
}

fn healthcheck(parsed: &Parsed) -> Result<Option<Healthcheck>, String> {
    const OPTIONS: [&str; 6] = [
        "health-cmd",
        "health-interval",
        "health-timeout",
        "health-start-period",
        "health-start-interval",
        "health-retries",
    ];
    let any = OPTIONS.iter().any(|name| parsed.given(name));
    if parsed.bool("no-healthcheck") {
        if any {
            return Err("--no-healthcheck conflicts with --health-* options".into());
        }
        return Ok(Some(Healthcheck {
            test: Some(vec!["NONE".into()]),
            ..Healthcheck::default()
        }));
    }
    if !any {
        return Ok(None);
    }
    let time = |flag: &str, name: &str| -> Result<i64, String> {
        match parsed.get(flag).map(parse_duration) {
            Some(Ok(nanos)) if nanos < 0 => Err(format!("--{name} cannot be negative")),
            Some(Ok(nanos)) => Ok(nanos),
            _ => Ok(0),
        }
    };
    let retries = parsed.int("health-retries").unwrap_or(0);
    if retries < 0 {
        return Err("--health-retries cannot be negative".into());
    }
    let command = parsed.text("health-cmd");
    Ok(Some(Healthcheck {
        test: (!command.is_empty()).then(|| vec!["CMD-SHELL".into(), command.into()]),
        interval: time("health-interval", "health-interval")?,
        timeout: time("health-timeout", "health-timeout")?,
        start_period: time("health-start-period", "health-start-period")?,
        start_interval: time("health-start-interval", "health-start-interval")?,
        retries,
    }))
}

fn host(parsed: &Parsed, request: &mut CreateRequest) -> Result<(), String> {
    let host = &mut request.host_config;
    let mut binds = Vec::new();
    for text in parsed.list("volume") {
        if let Volume::Bind(bind) = mounts::volume(&text)? {
            binds.push(bind);
        }
    }
    host.binds = some(binds);
    host.mounts = some(
        parsed
            .list("mount")
            .iter()
            .map(|text| mounts::parse(text))
            .collect::<Result<_, _>>()?,
    );
    let tmpfs = parsed.list("tmpfs");
    let pair = |text: &String| match text.split_once(':') {
        Some((path, options)) => (path.to_string(), options.to_string()),
        None => (text.clone(), String::new()),
    };
    host.tmpfs = some_map(tmpfs.iter().map(pair).collect());
    host.volumes_from = some(parsed.list("volumes-from"));
    host.volume_driver = parsed.text("volume-driver").into();
    host.container_id_file = parsed.text("cidfile").into();
    host.container_id_env = parsed.text("cidenv").into();
    host.log_config = LogConfig {
        kind: parsed.text("log-driver").into(),
        config: parsed.map("log-opt"),
    };
    if host.log_config.kind == "none" && !host.log_config.config.is_empty() {
        return Err("invalid logging opts for driver none".into());
    }
    for text in parsed.list("publish") {
        ports::publish(&text, &mut host.port_bindings)?;
    }
    host.publish_all_ports = parsed.bool("publish-all");
    host.auto_remove = parsed.bool("rm");
    host.restart_policy = restart_policy(parsed.get("restart").unwrap_or("no"))?;
    if host.auto_remove && !matches!(host.restart_policy.name.as_str(), "" | "no") {
        return Err("conflicting options: cannot specify both --restart and --rm".into());
    }
    host.annotations = some_map(parsed.map("annotation"));
    host.cap_add = some(parsed.list("cap-add"));
    host.cap_drop = some(parsed.list("cap-drop"));
    host.group_add = some(parsed.list("group-add"));
    host.dns = Some(parsed.list("dns"));
    host.dns_options = Some(parsed.list("dns-option"));
    host.dns_search = Some(parsed.list("dns-search"));
    let name = |text: &String| {
        split_host(text).map_or_else(
            || text.clone(),
            |(host, ip)| {
                format!(
                    "{host}:{}",
                    ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip)
                )
            },
        )
    };
    host.extra_hosts = some(parsed.list("add-host").iter().map(name).collect());
    host.links = some(parsed.list("link"));
    host.ipc_mode = parsed.text("ipc").into();
    host.pid_mode = mode(parsed, "pid", "PID")?;
    host.uts_mode = mode(parsed, "uts", "UTS")?;
    host.userns_mode = mode(parsed, "userns", "USER")?;
    host.cgroupns_mode = parsed.text("cgroupns").into();
    if !matches!(host.cgroupns_mode.as_str(), "" | "host" | "private") {
        return Err("--cgroupns: invalid CGROUP mode".into());
    }
    host.privileged = parsed.bool("privileged");
    host.readonly_rootfs = parsed.bool("read-only");
    host.security_opt = some(security(parsed.list("security-opt"))?);
    host.storage_opt = some_map(parsed.map("storage-opt"));
    host.sysctls = some_map(parsed.map("sysctl"));
    host.runtime = parsed.text("runtime").into();
    host.isolation = parsed.text("isolation").into();
    host.init = parsed.given("init").then(|| parsed.bool("init"));
    host.shm_size = size(parsed, "shm-size");
    if parsed.bool("tty") {
        host.console_size = terminal::size().unwrap_or_default();
    }
    host.masked_paths = None;
    Ok(())
}

fn mode(parsed: &Parsed, flag: &str, name: &str) -> Result<String, String> {
    let text = parsed.text(flag);
    let good = match text {
        "" | "host" => true,
        "private" => flag == "pid",
        text => flag == "pid" && text.strip_prefix("container:").is_some_and(|name| !name.is_empty()),
    };
    if good {
        Ok(text.to_string())
    } else {
        Err(format!("--{flag}: invalid {name} mode"))
    }
}

/// Inlines seccomp profiles, which the daemon cannot read where we run.
fn security(options: Vec<String>) -> Result<Vec<String>, String> {
    let inline = |option: String| -> Result<String, String> {
        let (name, value) = match option.split_once('=').or_else(|| option.split_once(':')) {
            Some(pair) => pair,
            None if option == "no-new-privileges" => return Ok(option),
            None => return Err(format!("Invalid --security-opt: {}", api::quote::quote(&option))),
        };
        if name != "seccomp" || matches!(value, "unconfined" | "builtin") {
            return Ok(option);
        }
        let bytes = std::fs::read(value).map_err(|e| {
            format!(
                "opening seccomp profile ({value}) failed: open {value}: {}",
                crate::command::errno_text(&e)
            )
        })?;
        let json: serde_json::Value = json::from_slice(&bytes)
            .map_err(|e| format!("compacting json for seccomp profile ({value}) failed: {e}"))?;
        Ok(format!("seccomp={json}"))
    };
    let mut out = Vec::new();
    for option in options {
        let option = inline(option)?;
        // Two paths that have an option of their own in the API.
        if option == "systempaths=unconfined" {
            return Err("--security-opt systempaths=unconfined is not supported by balena".into());
        }
        out.push(option);
    }
    Ok(out)
}

fn resources(parsed: &Parsed, request: &mut CreateRequest) -> Result<(), String> {
    let host = &mut request.host_config;
    let int = |flag: &str| parsed.int(flag).unwrap_or(0);
    host.memory = size(parsed, "memory");
    host.memory_swap = size(parsed, "memory-swap");
    host.memory_reservation = size(parsed, "memory-reservation");
    host.kernel_memory = size(parsed, "kernel-memory");
    let swappiness = parsed.int("memory-swappiness").unwrap_or(-1);
    if swappiness != -1 && !(0..=100).contains(&swappiness) {
        return Err(format!(
            "invalid value: {swappiness}. Valid memory swappiness range is 0-100"
        ));
    }
    host.memory_swappiness = Some(swappiness);
    host.oom_kill_disable = Some(parsed.bool("oom-kill-disable"));
    host.oom_score_adj = int("oom-score-adj");
    host.pids_limit = Some(int("pids-limit"));
    host.nano_cpus = parsed.get("cpus").map_or(Ok(0), nano_cpus)?;
    host.cpu_shares = int("cpu-shares");
    host.cpu_period = int("cpu-period");
    host.cpu_quota = int("cpu-quota");
    host.cpu_realtime_period = int("cpu-rt-period");
    host.cpu_realtime_runtime = int("cpu-rt-runtime");
    host.cpuset_cpus = parsed.text("cpuset-cpus").into();
    host.cpuset_mems = parsed.text("cpuset-mems").into();
    host.cgroup_parent = parsed.text("cgroup-parent").into();
    host.blkio_weight = parsed.text("blkio-weight").parse().unwrap_or(0);
    let weights = parsed.list("blkio-weight-device");
    host.blkio_weight_device = Some(
        weights
            .iter()
            .map(|text| weight(text).map(|(path, weight)| WeightDevice { path, weight }))
            .collect::<Result<_, _>>()?,
    );
    type Read = fn(&str) -> Result<(String, u64), String>;
    let throttle = |flag: &str, read: Read| -> Result<Option<Vec<ThrottleDevice>>, String> {
        let list = parsed.list(flag);
        list.iter()
            .map(|text| read(text).map(|(path, rate)| ThrottleDevice { path, rate }))
            .collect::<Result<_, _>>()
            .map(Some)
    };
    host.blkio_device_read_bps = throttle("device-read-bps", bps)?;
    host.blkio_device_write_bps = throttle("device-write-bps", bps)?;
    host.blkio_device_read_iops = throttle("device-read-iops", iops)?;
    host.blkio_device_write_iops = throttle("device-write-iops", iops)?;
    let limit = |text: &String| ulimit(text).map(|(name, soft, hard)| Ulimit { name, hard, soft });
    host.ulimits = Some(parsed.list("ulimit").iter().map(limit).collect::<Result<_, _>>()?);
    host.devices = Some(
        parsed
            .list("device")
            .iter()
            .map(|text| device(text))
            .collect::<Result<_, _>>()?,
    );
    host.device_cgroup_rules = some(parsed.list("device-cgroup-rule"));
    host.device_requests = some(
        parsed
            .list("gpus")
            .iter()
            .map(|text| gpus(text))
            .collect::<Result<_, _>>()?,
    );
    Ok(())
}

/// Looks at a hardware address of 6, 8 or 20 bytes, in pairs of digits with `:` or `-` between, or in fours with `.`.
fn mac_address(text: &str) -> Result<&str, String> {
    let trimmed = text.trim();
    let of = |mark: char, width: usize| {
        let groups: Vec<&str> = trimmed.split(mark).collect();
        let hex = |group: &&str| group.len() == width && group.bytes().all(|b| b.is_ascii_hexdigit());
        matches!(groups.len() * width / 2, 6 | 8 | 20) && groups.iter().all(hex)
    };
    match text.is_empty() || of(':', 2) || of('-', 2) || of('.', 4) {
        true => Ok(trimmed),
        false => Err(format!("{text} is not a valid mac address")),
    }
}

/// Reads `/dev/a[:/dev/b][:rwm]`.
fn device(text: &str) -> Result<DeviceMapping, String> {
    let is_mode = |text: &str| !text.is_empty() && text.len() <= 3 && text.chars().all(|c| "rwm".contains(c));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts.as_slice() {
        [source] => (*source, *source, "rwm"),
        [source, mode] if is_mode(mode) => (*source, *source, *mode),
        [source, target] => (*source, *target, "rwm"),
        [_, _, mode] if !is_mode(mode) => return Err(format!("bad mode specified: {mode}")),
        [source, target, mode] => (*source, *target, *mode),
        _ => return Err(format!("invalid device specification: {text}")),
    };
    Ok(DeviceMapping {
        path_on_host: source.into(),
        path_in_container: if target.is_empty() {
            source.into()
        } else {
            target.into()
        },
        cgroup_permissions: mode.into(),
    })
}

/// Reads `all`, a number, or `device=…,driver=…,capabilities=…,options=…`.
fn gpus(text: &str) -> Result<DeviceRequest, String> {
    let mut request = DeviceRequest::default();
    let mut capabilities = vec!["gpu".to_string()];
    let number = |text: &str| match text {
        "all" => Ok(-1),
        text => text
            .parse::<i64>()
            .map_err(|_| format!("invalid count ({text}): value must be either \"all\" or an integer")),
    };
    let mut counted = false;
    for field in mounts::fields(text) {
        let (key, value) = field.split_once('=').unwrap_or(("count", &field));
        match key {
            "driver" => request.driver = value.to_string(),
            "count" => (request.count, counted) = (number(value)?, true),
            "device" => request.device_ids = Some(mounts::fields(value)),
            "capabilities" => capabilities = mounts::fields(value).into_iter().chain(["gpu".to_string()]).collect(),
            "options" => {
                let pair = |field: String| {
                    field
                        .split_once('=')
                        .map(|(key, value)| (key.to_string(), value.to_string()))
                };
                request.options = mounts::fields(value).into_iter().filter_map(pair).collect();
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    if !counted && request.device_ids.is_none() {
        request.count = 1;
    }
    request.capabilities = Some(vec![capabilities]);
    Ok(request)
}

fn networks(parsed: &Parsed, request: &mut CreateRequest) -> Result<(), String> {
    let wanted = parsed.list("network");
    let (first, extra) = match wanted.as_slice() {
        [] => ("default".to_string(), &[][..]),
        [first, rest @ ..] => (first.clone(), rest),
    };
    let (name, mut endpoint) = network(&first)?;
    let aliases = parsed.list("network-alias");
    if !aliases.is_empty() {
        if !is_user_defined(&name) {
            return Err("network-scoped aliases are only supported for user-defined networks".into());
        }
        endpoint.get_or_insert_default().aliases = Some(aliases);
    }
    let links = parsed.list("link");
    if !links.is_empty() && is_user_defined(&name) {
        endpoint.get_or_insert_default().links = Some(links);
    }
    let (ip, ip6, local) = (parsed.text("ip"), parsed.text("ip6"), parsed.list("link-local-ip"));
    if !ip.is_empty() || !ip6.is_empty() || !local.is_empty() {
        let ipam = endpoint.get_or_insert_default().ipam_config.get_or_insert_default();
        *ipam = EndpointIpam {
            ipv4_address: ip.into(),
            ipv6_address: ip6.into(),
            link_local_ips: some(local),
        };
    }
    let mac = parsed.text("mac-address");
    if !mac.is_empty() && !matches!(name.as_str(), "host" | "none") && !name.starts_with("container:") {
        endpoint.get_or_insert_default().mac_address = mac.into();
    }
    request.host_config.network_mode = name.clone();
    let endpoints = &mut request.networking.endpoints_config;
    if is_user_defined(&name) || endpoint.is_some() || !extra.is_empty() {
        endpoints.insert(name, Some(endpoint.unwrap_or_default()));
    }
    for text in extra {
        let (name, endpoint) = network(text)?;
        if endpoints.contains_key(&name) {
            return Err(format!(
                "network {} is specified multiple times",
                api::quote::quote(&name)
            ));
        }
        endpoints.insert(name, Some(endpoint.unwrap_or_default()));
    }
    Ok(())
}

fn is_user_defined(name: &str) -> bool {
    !matches!(name, "" | "default" | "bridge" | "host" | "none") && !name.starts_with("container:")
}

/// Reads a network's name, or `name=…,alias=…,ip=…`.
fn network(text: &str) -> Result<(String, Option<EndpointSettings>), String> {
    if !text.contains('=') {
        return Ok((text.to_string(), None));
    }
    let mut name = String::new();
    let mut endpoint = EndpointSettings::default();
    for field in text.split(',') {
        let (key, value) = field.split_once('=').ok_or_else(|| format!("invalid field {field}"))?;
        match key.trim().to_lowercase().as_str() {
            "name" => name = value.to_string(),
            "alias" => endpoint.aliases.get_or_insert_default().push(value.to_string()),
            "ip" => endpoint.ipam_config.get_or_insert_default().ipv4_address = value.into(),
            "ip6" => endpoint.ipam_config.get_or_insert_default().ipv6_address = value.into(),
            "mac-address" => endpoint.mac_address = value.into(),
            "gw-priority" => {
                endpoint.gw_priority = value.parse().map_err(|_| format!("invalid gw-priority ({value})"))?
            }
            "driver-opt" => {
                let (key, value) = value
                    .split_once('=')
                    .ok_or("invalid key value pair format in driver options")?;
                endpoint
                    .driver_opts
                    .get_or_insert_default()
                    .insert(key.into(), value.into());
            }
            _ => return Err(format!("invalid field key {key}")),
        }
    }
    Ok((name, Some(endpoint)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags;

    fn read(line: &str) -> Result<CreateRequest, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_string).collect();
        let parsed = flags::parse(&[super::super::container_flags::FLAGS], &words, false)?;
        request(&parsed, false)
    }

    #[test]
    fn requests() {
        let r = read("--restart on-failure:3 -m 64m --cpus 1.5 --memory-swap -1 --ulimit nofile=1:2 -v /a:/b -v /c --device /dev/null:r -p 8080:80 busybox sh -c x").unwrap();
        let host = &r.host_config;
        assert_eq!(
            (
                host.restart_policy.name.as_str(),
                host.restart_policy.maximum_retry_count
            ),
            ("on-failure", 3)
        );
        assert_eq!(
            (host.memory, host.memory_swap, host.nano_cpus),
            (64 << 20, -1, 1_500_000_000)
        );
        assert_eq!(host.binds.as_deref(), Some(&["/a:/b".to_string()][..]));
        assert_eq!(host.devices.as_ref().unwrap()[0].cgroup_permissions, "r");
        assert!(r.config.volumes.unwrap().contains_key("/c") && r.config.exposed_ports.unwrap().contains_key("80/tcp"));
        assert_eq!(r.config.cmd.unwrap(), ["sh", "-c", "x"]);
        assert!(r.config.attach_stdout && !r.config.attach_stdin && !r.config.stdin_once);
    }

    #[test]
    fn networks_and_refusals() {
        let r = read("--network mine --network-alias a --ip 1.2.3.4 busybox").unwrap();
        let endpoint = r.networking.endpoints_config["mine"].as_ref().unwrap();
        assert_eq!(endpoint.aliases.as_deref(), Some(&["a".to_string()][..]));
        assert_eq!(endpoint.ipam_config.as_ref().unwrap().ipv4_address, "1.2.3.4");
        for (line, why) in [
            (
                "--rm --restart always x",
                "conflicting options: cannot specify both --restart and --rm",
            ),
            (
                "--no-healthcheck --health-cmd y x",
                "--no-healthcheck conflicts with --health-* options",
            ),
            (
                "--restart on-failure:x x",
                "invalid restart policy format: maximum retry count must be an integer",
            ),
            ("--pid foo x", "--pid: invalid PID mode"),
            (
                "--network-alias a x",
                "network-scoped aliases are only supported for user-defined networks",
            ),
            (
                "--memory-swappiness 101 x",
                "invalid value: 101. Valid memory swappiness range is 0-100",
            ),
        ] {
            assert_eq!(read(line).unwrap_err(), why);
        }
    }
}
