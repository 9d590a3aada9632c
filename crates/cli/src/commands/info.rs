//! `info`: the state of the engine and of the host as it sees it.

use super::formats;
use super::version::{BUILD_TIME, architecture};
use crate::cli::{COMMIT, Cli};
use crate::command::{Args, Command, Failure};
use crate::flags::Parsed;
use serde_json::{Value as Json, json};
use template::{Template, Type, Value};

pub const COMMAND: Command = Command::new(
    &["system info", "info"],
    "[OPTIONS]",
    "Display system-wide information",
    Args::None,
    run,
)
.flags(&[&[formats::INSPECT]])
.examples(&["info", "info --format {{.Driver}}"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let template = match parsed.text("format") {
        "" => None,
        "json" => Some("{{json .}}"),
        format => Some(format),
    };
    let template = template.map(Template::parse).transpose().map_err(|why| Failure {
        code: 64,
        text: format!("template parsing error: {why}"),
    })?;
    let server = cli.client.get::<Json>("/info");
    if let Some(template) = template {
        let mut all = server.as_ref().cloned().unwrap_or_else(|_| json!({}));
        all["ClientInfo"] = json!({
            "Debug": cli.debug, "Version": api::ENGINE_VERSION, "GitCommit": COMMIT, "GoVersion": "", "Os": "linux",
            "Arch": architecture(), "BuildTime": BUILD_TIME, "Context": "default", "Plugins": [], "Warnings": null,
            "DefaultAPIVersion": api::client::Client::newest(),
        });
        if let Err(e) = &server {
            all["ServerErrors"] = json!([e.to_string()]);
        }
        let result = template.execute(&Value::typed(&all, &Type::parse("system.dockerInfo")));
        let (text, why) = match result {
            Ok(text) => (text, None),
            Err((text, why)) => (text, Some(why)),
        };
        cli.say(text)?;
        return why.map_or_else(
            || server.map(|_| ()).map_err(Failure::from),
            |why| Err(Failure::new(why)),
        );
    }
    cli.print(&format!(
        "Client:\n Version:    {}\n Context:    default\n Debug Mode: {}\n\nServer:\n",
        api::ENGINE_VERSION,
        cli.debug
    ))?;
    let server = server?;
    cli.print(&show(&server))?;
    for warning in server["Warnings"].as_array().into_iter().flatten() {
        cli.warn(warning.as_str().unwrap_or_default());
    }
    Ok(())
}

fn word(json: &Json) -> String {
    match json {
        Json::String(text) => text.clone(),
        Json::Null => String::new(),
        other => other.to_string(),
    }
}

fn words(json: &Json) -> Vec<String> {
    json.as_array().into_iter().flatten().map(word).collect()
}

/// The server's part, in docker's order and words.
fn show(info: &Json) -> String {
    let mut out = Lines(String::new());
    let text = |key: &str| word(&info[key]);
    out.pair(1, "Containers", text("Containers"));
    for state in ["Running", "Paused", "Stopped"] {
        out.pair(2, state, text(&format!("Containers{state}")));
    }
    out.pair(1, "Images", text("Images"));
    out.pair(1, "Server Version", text("ServerVersion"));
    out.pair(1, "Storage Driver", text("Driver"));
    for pair in info["DriverStatus"].as_array().into_iter().flatten() {
        out.pair(2, &word(&pair[0]), word(&pair[1]));
    }
    out.pair(1, "Logging Driver", text("LoggingDriver"));
    out.pair(1, "Cgroup Driver", text("CgroupDriver"));
    if !text("CgroupVersion").is_empty() {
        out.pair(1, "Cgroup Version", text("CgroupVersion"));
    }
    out.pair(1, "Plugins", String::new());
    for kind in ["Volume", "Network", "Authorization", "Log"] {
        let list = words(&info["Plugins"][kind]);
        if kind != "Authorization" || !list.is_empty() {
            out.pair(2, kind, list.join(" "));
        }
    }
    if let Some(list) = info["CDISpecDirs"].as_array().filter(|list| !list.is_empty()) {
        out.pair(1, "CDI spec directories", String::new());
        list.iter().for_each(|dir| out.entry(&word(dir)));
    }
    out.pair(1, "Swarm", word(&info["Swarm"]["LocalNodeState"]));
    if let Some(runtimes) = info["Runtimes"].as_object().filter(|map| !map.is_empty()) {
        out.pair(1, "Runtimes", runtimes.keys().cloned().collect::<Vec<_>>().join(" "));
        out.pair(1, "Default Runtime", text("DefaultRuntime"));
    }
    if text("OSType") == "linux" {
        out.pair(1, "Init Binary", text("InitBinary"));
        for (name, key) in [
            ("containerd", "ContainerdCommit"),
            ("runc", "RuncCommit"),
            ("init", "InitCommit"),
        ] {
            let commit = word(&info[key]["ID"]);
            out.pair(1, &format!("{name} version"), commit);
        }
        let options = words(&info["SecurityOptions"]);
        if !options.is_empty() {
            out.pair(1, "Security Options", String::new());
            for option in &options {
                let mut pairs = option.split(',').filter_map(|pair| pair.split_once('='));
                let name = pairs.next().map_or(option.as_str(), |(_, name)| name);
                out.entry(name);
                for (key, value) in pairs {
                    let mut letters = key.chars();
                    let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
                    out.pair(3, &format!("{first}{}", letters.as_str()), value.to_string());
                }
            }
        }
    }
    for (name, key) in [
        ("Kernel Version", "KernelVersion"),
        ("Operating System", "OperatingSystem"),
        ("OSType", "OSType"),
        ("Architecture", "Architecture"),
        ("CPUs", "NCPU"),
    ] {
        out.pair(1, name, text(key));
    }
    out.pair(1, "Total Memory", binary(info["MemTotal"].as_i64().unwrap_or(0)));
    for (name, key) in [
        ("Name", "Name"),
        ("ID", "ID"),
        ("Docker Root Dir", "DockerRootDir"),
        ("Debug Mode", "Debug"),
    ] {
        out.pair(1, name, text(key));
    }
    if info["Debug"] == true {
        for (name, key) in [
            ("File Descriptors", "NFd"),
            ("Goroutines", "NGoroutines"),
            ("System Time", "SystemTime"),
            ("EventsListeners", "NEventsListener"),
        ] {
            out.pair(2, name, text(key));
        }
    }
    for (name, key) in [
        ("HTTP Proxy", "HttpProxy"),
        ("HTTPS Proxy", "HttpsProxy"),
        ("No Proxy", "NoProxy"),
    ] {
        if !text(key).is_empty() {
            out.pair(1, name, text(key));
        }
    }
    let labels = words(&info["Labels"]);
    if !labels.is_empty() {
        out.pair(1, "Labels", String::new());
        labels.iter().for_each(|label| out.entry(label));
    }
    out.pair(1, "Experimental", text("ExperimentalBuild"));
    let registries = &info["RegistryConfig"];
    let mut insecure: Vec<String> = registries["IndexConfigs"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, index)| index["Secure"] == false)
        .map(|(name, _)| name.clone())
        .collect();
    insecure.extend(words(&registries["InsecureRegistryCIDRs"]));
    for (name, list) in [
        ("Insecure Registries", insecure),
        ("Registry Mirrors", words(&registries["Mirrors"])),
    ] {
        if !list.is_empty() {
            out.pair(1, name, String::new());
            list.iter().for_each(|entry| out.entry(entry));
        }
    }
    out.pair(1, "Live Restore Enabled", text("LiveRestoreEnabled"));
    if let Some(pools) = info["DefaultAddressPools"].as_array().filter(|pools| !pools.is_empty()) {
        out.pair(1, "Default Address Pools", String::new());
        for pool in pools {
            out.pair(
                3,
                "Base",
                format!("{}, Size: {}", word(&pool["Base"]), word(&pool["Size"])),
            );
        }
    }
    if let Some(driver) = info["FirewallBackend"]["Driver"].as_str() {
        out.pair(1, "Firewall Backend", driver.to_string());
    }
    out.0.push('\n');
    out.0
}

struct Lines(String);

impl Lines {
    /// ` Name: value`; without a value, what follows is under the name.
    fn pair(&mut self, depth: usize, name: &str, value: String) {
        let space = if value.is_empty() { "" } else { " " };
        self.0.push_str(&format!("{:depth$}{name}:{space}{value}\n", ""));
    }

    /// An entry of a list.
    fn entry(&mut self, entry: &str) {
        self.0.push_str(&format!("  {entry}\n"));
    }
}

/// Sizes in powers of 1024 with four digits: `23.54GiB`.
fn binary(bytes: i64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    let digits = if size >= 100.0 {
        1
    } else if size >= 10.0 {
        2
    } else {
        3
    };
    let text = format!("{size:.digits$}");
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    format!("{text}{}", UNITS[unit])
}
