//! `update`: other limits and another restart policy for containers that are there.

use super::container_config::restart_policy;
use super::container_flags::{check_bytes, check_cpus, check_swap, check_uint16, nano_cpus};
use super::requests::path;
use crate::cli::Cli;
use crate::command::{Args, Command, Failure, Failures};
use crate::flags::{Flag, Kind, Parsed};
use crate::units::parse_size;
use api::client::Request;
use api::container::UpdateResponse;
use serde_json::{Map, json};

const FLAGS: &[Flag] = &[
    Flag::new(
        "blkio-weight",
        Kind::Text("uint16"),
        "Block IO (relative weight), between 10 and 1000, or 0 to disable",
    )
    .default("0")
    .check(check_uint16),
    Flag::int("cpu-period", "Limit CPU CFS (Completely Fair Scheduler) period"),
    Flag::int("cpu-quota", "Limit CPU CFS (Completely Fair Scheduler) quota"),
    Flag::int("cpu-rt-period", "Limit the CPU real-time period in microseconds"),
    Flag::int("cpu-rt-runtime", "Limit the CPU real-time runtime in microseconds"),
    Flag::int("cpu-shares", "CPU shares (relative weight)").short('c'),
    Flag::new("cpus", Kind::Text("decimal"), "Number of CPUs").check(check_cpus),
    Flag::text("cpuset-cpus", "CPUs in which to allow execution (0-3, 0,1)"),
    Flag::text("cpuset-mems", "MEMs in which to allow execution (0-3, 0,1)"),
    Flag::new("memory", Kind::Text("bytes"), "Memory limit")
        .short('m')
        .check(check_bytes),
    Flag::new("memory-reservation", Kind::Text("bytes"), "Memory soft limit").check(check_bytes),
    Flag::new(
        "memory-swap",
        Kind::Text("bytes"),
        "Swap limit equal to memory plus swap: -1 to enable unlimited swap",
    )
    .check(check_swap),
    Flag::int("pids-limit", "Tune container pids limit (set -1 for unlimited)"),
    Flag::text("restart", "Restart policy to apply when a container exits"),
];

pub const COMMAND: Command = Command::new(
    &["container update", "update"],
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Update configuration of one or more containers",
    Args::AtLeast(1),
    run,
)
.flags(&[FLAGS])
.examples(&[
    "update --restart unless-stopped web",
    "update --memory 128m --cpus 0.5 web",
]);

/// Flags whose values are numbers, by their names in the API.
const NUMBERS: &[(&str, &str)] = &[
    ("cpu-period", "CpuPeriod"),
    ("cpu-quota", "CpuQuota"),
    ("cpu-rt-period", "CpuRealtimePeriod"),
    ("cpu-rt-runtime", "CpuRealtimeRuntime"),
    ("cpu-shares", "CpuShares"),
    ("pids-limit", "PidsLimit"),
    ("blkio-weight", "BlkioWeight"),
];

const SIZES: &[(&str, &str)] = &[
    ("memory", "Memory"),
    ("memory-reservation", "MemoryReservation"),
    ("memory-swap", "MemorySwap"),
];

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    if !FLAGS.iter().any(|flag| parsed.given(flag.long)) {
        return Err(Failure::new(
            "you must provide one or more flags when using this command",
        ));
    }
    let mut body = Map::new();
    for (flag, name) in NUMBERS {
        if let Some(number) = parsed.int(flag) {
            body.insert((*name).into(), json!(number));
        }
    }
    for (flag, name) in SIZES {
        if let Some(text) = parsed.get(flag) {
            let size = if text == "-1" {
                -1
            } else {
                parse_size(text).map_err(Failure::new)?
            };
            body.insert((*name).into(), json!(size));
        }
    }
    if let Some(cpus) = parsed.get("cpus") {
        body.insert("NanoCpus".into(), json!(nano_cpus(cpus).map_err(Failure::new)?));
    }
    for (flag, name) in [("cpuset-cpus", "CpusetCpus"), ("cpuset-mems", "CpusetMems")] {
        if let Some(text) = parsed.get(flag) {
            body.insert(name.into(), json!(text));
        }
    }
    if let Some(text) = parsed.get("restart") {
        let policy = restart_policy(text).map_err(Failure::new)?;
        body.insert("RestartPolicy".into(), json::to_value(&policy));
    }
    let (mut failures, mut warnings) = (Failures::default(), Vec::new());
    for name in &parsed.args {
        let request = Request::post(path("containers", name, "update")).json(&body)?;
        let done: Result<UpdateResponse, _> = cli.client.send(request).and_then(|response| response.json());
        match done {
            Ok(done) => {
                cli.say(name)?;
                warnings.extend(done.warnings.unwrap_or_default());
            }
            Err(e) => failures.add(e),
        }
    }
    if !warnings.is_empty() {
        cli.warn(warnings.join("\n"));
    }
    failures.finish()
}
