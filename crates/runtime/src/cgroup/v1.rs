//! What cgroup v1 files get which values, and the two quirks that need the machine: memory order, empty cpusets.

use std::io;
use std::path::Path;

use oci::runtime::{DeviceRule, Memory, Resources};

use super::Write;
use crate::error::{Context, Error, Result};

/// The writes for these resources, in order. Memory and swap limits: [`apply_memory_limits`].
pub fn plan(resources: &Resources) -> Result<Vec<Write>> {
    let mut writes = Vec::new();
    if !resources.devices.is_empty() {
        for rule in super::devices::with_defaults(&resources.devices) {
            writes.push(device(&rule)?);
        }
    }
    if let Some(cpu) = &resources.cpu {
        let mut push = |controller, file: &str, value: Option<String>| {
            if let Some(value) = value {
                writes.push(Write::new(controller, file, value));
            }
        };
        push(
            "cpuset",
            "cpuset.cpus",
            (!cpu.cpus.is_empty()).then(|| cpu.cpus.clone()),
        );
        push(
            "cpuset",
            "cpuset.mems",
            (!cpu.mems.is_empty()).then(|| cpu.mems.clone()),
        );
        push(
            "cpu",
            "cpu.shares",
            cpu.shares.filter(|v| *v != 0).map(|v| v.to_string()),
        );
        push(
            "cpu",
            "cpu.cfs_period_us",
            cpu.period.filter(|v| *v != 0).map(|v| v.to_string()),
        );
        push(
            "cpu",
            "cpu.cfs_quota_us",
            cpu.quota.filter(|v| *v != 0).map(|v| v.to_string()),
        );
        push("cpu", "cpu.cfs_burst_us", cpu.burst.map(|v| v.to_string()));
        push(
            "cpu",
            "cpu.rt_period_us",
            cpu.realtime_period.filter(|v| *v != 0).map(|v| v.to_string()),
        );
        push(
            "cpu",
            "cpu.rt_runtime_us",
            cpu.realtime_runtime.filter(|v| *v != 0).map(|v| v.to_string()),
        );
        push("cpu", "cpu.idle", cpu.idle.map(|v| v.to_string()));
    }
    if let Some(memory) = &resources.memory {
        if let Some(reservation) = memory.reservation.filter(|v| *v != 0) {
            writes.push(Write::new("memory", "memory.soft_limit_in_bytes", reservation));
        }
        if let Some(kernel_tcp) = memory.kernel_tcp.filter(|v| *v != 0) {
            writes.push(Write::new("memory", "memory.kmem.tcp.limit_in_bytes", kernel_tcp));
        }
        if memory.disable_oom_killer == Some(true) {
            writes.push(Write::new("memory", "memory.oom_control", 1));
        }
        match memory.swappiness {
            None | Some(u64::MAX) => {}
            Some(swappiness @ 0..=100) => writes.push(Write::new("memory", "memory.swappiness", swappiness)),
            Some(other) => {
                return Err(Error::new(format!(
                    "invalid memory swappiness value: {other} (valid range is 0-100)"
                )));
            }
        }
    }
    if let Some(pids) = &resources.pids {
        match pids.limit {
            0 => {}
            limit if limit > 0 => writes.push(Write::new("pids", "pids.max", limit)),
            _ => writes.push(Write::new("pids", "pids.max", "max")),
        }
    }
    if let Some(block) = &resources.block_io {
        if let Some(weight) = block.weight.filter(|v| *v != 0) {
            writes.push(Write::new("blkio", "blkio.weight", weight));
            writes.push(Write::new("blkio", "blkio.bfq.weight", weight));
        }
        if let Some(weight) = block.leaf_weight.filter(|v| *v != 0) {
            writes.push(Write::new("blkio", "blkio.leaf_weight", weight));
        }
        for device in &block.weight_device {
            if let Some(weight) = device.weight {
                writes.push(Write::new(
                    "blkio",
                    "blkio.weight_device",
                    format!("{}:{} {weight}", device.major, device.minor),
                ));
            }
        }
        for (file, devices) in [
            ("blkio.throttle.read_bps_device", &block.throttle_read_bps_device),
            ("blkio.throttle.write_bps_device", &block.throttle_write_bps_device),
            ("blkio.throttle.read_iops_device", &block.throttle_read_iops_device),
            ("blkio.throttle.write_iops_device", &block.throttle_write_iops_device),
        ] {
            for device in devices {
                writes.push(Write::new(
                    "blkio",
                    file,
                    format!("{}:{} {}", device.major, device.minor, device.rate),
                ));
            }
        }
    }
    for huge in &resources.hugepage_limits {
        writes.push(Write::new(
            "hugetlb",
            format!("hugetlb.{}.limit_in_bytes", huge.page_size),
            huge.limit,
        ));
    }
    if let Some(network) = &resources.network {
        if let Some(class) = network.class_id {
            writes.push(Write::new("net_cls", "net_cls.classid", class));
        }
        for priority in &network.priorities {
            writes.push(Write::new(
                "net_prio",
                "net_prio.ifpriomap",
                format!("{} {}", priority.name, priority.priority),
            ));
        }
    }
    Ok(writes)
}

fn device(rule: &DeviceRule) -> Result<Write> {
    let file = if rule.allow { "devices.allow" } else { "devices.deny" };
    let number = |number: Option<i64>| match number {
        Some(number) if number >= 0 => number.to_string(),
        _ => "*".to_owned(),
    };
    let access = if rule.access.is_empty() { "rwm" } else { &rule.access };
    let value = match rule.kind.as_str() {
        // The kernel takes "all" for everything only, whatever follows.
        "" | "a" => "a".to_owned(),
        kind @ ("b" | "c") => format!("{kind} {}:{} {access}", number(rule.major), number(rule.minor)),
        "u" => format!("c {}:{} {access}", number(rule.major), number(rule.minor)),
        other => return Err(Error::new(format!("invalid device cgroup rule type {other:?}"))),
    };
    Ok(Write::new("devices", file, value))
}

/// Sets limit and limit-with-swap in the order the kernel accepts: the second is never below the first.
pub fn apply_memory_limits(directory: &Path, memory: &Memory) -> Result<()> {
    let limit = memory.limit.filter(|limit| *limit != 0);
    let mut swap = memory.swap.filter(|swap| *swap != 0);
    if limit == Some(-1) && swap.is_none() {
        swap = Some(-1);
    }
    let set_limit = || match limit {
        Some(limit) => write_limit(directory, limit),
        None => Ok(()),
    };
    let set_swap = || match swap {
        Some(swap) => {
            let file = directory.join("memory.memsw.limit_in_bytes");
            match std::fs::write(&file, swap.to_string()) {
                // Swap accounting is off.
                Err(_) if !file.exists() => Ok(()),
                result => result.with_context(|| format!("failed to write \"{swap}\" to {}", file.display())),
            }
        }
        None => Ok(()),
    };
    match set_limit() {
        Ok(()) => set_swap(),
        Err(first) => {
            if swap.is_none() {
                return Err(first);
            }
            set_swap()?;
            set_limit()
        }
    }
}

fn write_limit(directory: &Path, limit: i64) -> Result<()> {
    let file = directory.join("memory.limit_in_bytes");
    match std::fs::write(&file, limit.to_string()) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            let value = |name: &str| {
                std::fs::read_to_string(directory.join(name))
                    .unwrap_or_default()
                    .trim()
                    .to_owned()
            };
            Err(Error::new(format!(
                "unable to set memory limit to {limit} (current usage: {}, peak usage: {})",
                value("memory.usage_in_bytes"),
                value("memory.max_usage_in_bytes")
            )))
        }
        result => result.with_context(|| format!("failed to write \"{limit}\" to {}", file.display())),
    }
}

/// Copies `cpus` and `mems` from the group above where they are empty.
pub fn inherit_cpuset(directory: &Path) {
    let Some(parent) = directory.parent() else { return };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let copy = || -> io::Result<()> {
            if std::fs::read_to_string(directory.join(file))?.trim().is_empty() {
                std::fs::write(directory.join(file), std::fs::read_to_string(parent.join(file))?.trim())?;
            }
            Ok(())
        };
        // What this leaves undone shows when a process enters.
        let _ = copy();
    }
}

#[cfg(test)]
mod tests {
    use oci::runtime::{Cpu, Pids};

    use super::*;

    fn rule(allow: bool, kind: &str, major: Option<i64>, minor: Option<i64>) -> DeviceRule {
        DeviceRule {
            allow,
            kind: kind.into(),
            major,
            minor,
            access: "rwm".into(),
        }
    }

    #[test]
    fn limits() {
        let resources = Resources {
            cpu: Some(Cpu {
                quota: Some(50_000),
                period: Some(100_000),
                cpus: "0".into(),
                ..Cpu::default()
            }),
            pids: Some(Pids { limit: -1 }),
            ..Resources::default()
        };
        let writes = plan(&resources).unwrap();
        let text: Vec<_> = writes.iter().map(|w| format!("{}={}", w.file, w.value)).collect();
        assert_eq!(
            text,
            [
                "cpuset.cpus=0",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=50000",
                "pids.max=max"
            ]
        );
    }

    #[test]
    fn device_rules() {
        for (rule, file, value) in [
            (rule(false, "", None, None), "devices.deny", "a"),
            (rule(true, "c", Some(1), Some(3)), "devices.allow", "c 1:3 rwm"),
            (rule(true, "b", Some(8), None), "devices.allow", "b 8:* rwm"),
            (rule(true, "c", Some(136), Some(-1)), "devices.allow", "c 136:* rwm"),
        ] {
            let write = device(&rule).unwrap();
            assert_eq!((write.file.as_str(), write.value.as_str()), (file, value));
        }
        assert!(device(&rule(true, "x", None, None)).is_err());
    }
}
