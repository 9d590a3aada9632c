//! What cgroup v2 files get which values, with the conversions the runtime specification's v1 units need.

use std::path::Path;

use oci::runtime::{Memory, Resources};

use super::Write;
use crate::error::{Error, Result};

/// The writes for these resources, in order. Devices are a BPF program, not a file.
pub fn plan(resources: &Resources) -> Result<Vec<Write>> {
    let mut writes = Vec::new();
    let mut push = |file: String, value: String| writes.push(Write::new("", file, value));
    if let Some(cpu) = &resources.cpu {
        if !cpu.cpus.is_empty() {
            push("cpuset.cpus".into(), cpu.cpus.clone());
        }
        if !cpu.mems.is_empty() {
            push("cpuset.mems".into(), cpu.mems.clone());
        }
        if let Some(shares) = cpu.shares.filter(|shares| *shares != 0) {
            push("cpu.weight".into(), cpu_weight(shares).to_string());
        }
        let period = cpu.period.filter(|period| *period != 0);
        match (cpu.quota.filter(|quota| *quota != 0), period) {
            (None, None) => {}
            (quota, period) => {
                let quota = match quota {
                    Some(quota) if quota > 0 => quota.to_string(),
                    _ => "max".into(),
                };
                push("cpu.max".into(), format!("{quota} {}", period.unwrap_or(100_000)));
            }
        }
        if let Some(burst) = cpu.burst {
            push("cpu.max.burst".into(), burst.to_string());
        }
        if let Some(idle) = cpu.idle {
            push("cpu.idle".into(), idle.to_string());
        }
    }
    if let Some(memory) = &resources.memory {
        if let Some(swap) = swap(memory)? {
            push("memory.swap.max".into(), swap);
        }
        if let Some(limit) = memory.limit.filter(|limit| *limit != 0) {
            push("memory.max".into(), limit_text(limit));
        }
        if let Some(reservation) = memory.reservation.filter(|value| *value != 0) {
            push("memory.low".into(), limit_text(reservation));
        }
    }
    if let Some(pids) = &resources.pids
        && pids.limit != 0
    {
        push("pids.max".into(), limit_text(pids.limit));
    }
    if let Some(block) = &resources.block_io {
        if let Some(weight) = block.weight.filter(|weight| *weight != 0) {
            push("io.bfq.weight".into(), weight.to_string());
            push("io.weight".into(), format!("default {}", io_weight(weight)));
        }
        for (key, devices) in [
            ("rbps", &block.throttle_read_bps_device),
            ("wbps", &block.throttle_write_bps_device),
            ("riops", &block.throttle_read_iops_device),
            ("wiops", &block.throttle_write_iops_device),
        ] {
            for device in devices {
                push(
                    "io.max".into(),
                    format!("{}:{} {key}={}", device.major, device.minor, device.rate),
                );
            }
        }
    }
    for huge in &resources.hugepage_limits {
        push(format!("hugetlb.{}.max", huge.page_size), huge.limit.to_string());
    }
    for (file, value) in &resources.unified {
        if file.contains('/') || file.is_empty() {
            return Err(Error::new(format!(
                "unified resource {file:?} must be a file name (no slashes)"
            )));
        }
        push(file.clone(), value.clone());
    }
    for write in writes
        .iter_mut()
        .filter(|write| resources.unified.contains_key(&write.file))
    {
        write.optional = false;
    }
    Ok(writes)
}

/// Makes the controllers of every group above available to the one below. What cannot be enabled shows later,
/// when a limit's file is missing.
pub fn enable_controllers(top: &Path, directory: &Path) {
    let above: Vec<_> = directory
        .ancestors()
        .skip(1)
        .take_while(|path| path.starts_with(top))
        .collect();
    for path in above.into_iter().rev() {
        let _ = std::fs::create_dir(path);
        let available = std::fs::read_to_string(path.join("cgroup.controllers")).unwrap_or_default();
        let enabled = std::fs::read_to_string(path.join("cgroup.subtree_control")).unwrap_or_default();
        for controller in available.split_whitespace() {
            if !enabled.split_whitespace().any(|known| known == controller) {
                // One by one: one that is refused must not keep the others out.
                let _ = std::fs::write(path.join("cgroup.subtree_control"), format!("+{controller}"));
            }
        }
    }
}

fn limit_text(limit: i64) -> String {
    if limit < 0 { "max".into() } else { limit.to_string() }
}

/// v1's swap limit counts memory too, v2's does not.
fn swap(memory: &Memory) -> Result<Option<String>> {
    let limit = memory.limit.unwrap_or(0);
    match memory.swap.unwrap_or(0) {
        0 if limit == -1 => Ok(Some("max".into())),
        0 => Ok(None),
        swap if swap < 0 => Ok(Some("max".into())),
        swap if limit <= 0 => Err(Error::new(format!("swap limit {swap} without a memory limit"))),
        swap if swap < limit => Err(Error::new("memory+swap limit should be >= memory limit")),
        swap => Ok(Some((swap - limit).to_string())),
    }
}

/// 2..262144 to 1..10000, as the kernel's documentation and runc convert.
fn cpu_weight(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    1 + (shares - 2) * 9999 / 262_142
}

/// 10..1000 to 1..10000.
fn io_weight(weight: u16) -> u64 {
    let weight = u64::from(weight.clamp(10, 1000));
    1 + (weight - 10) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use oci::runtime::Cpu;

    use super::*;

    #[test]
    fn conversions() {
        assert_eq!(cpu_weight(2), 1);
        assert_eq!(cpu_weight(1024), 39);
        assert_eq!(cpu_weight(262_144), 10_000);
        assert_eq!(io_weight(10), 1);
        assert_eq!(io_weight(1000), 10_000);
        let memory = |limit, swap| Memory {
            limit: Some(limit),
            swap: Some(swap),
            ..Memory::default()
        };
        assert_eq!(swap(&memory(100, 300)).unwrap().unwrap(), "200");
        assert_eq!(swap(&memory(100, -1)).unwrap().unwrap(), "max");
        assert!(swap(&memory(100, 50)).is_err());
    }

    #[test]
    fn plans() {
        let mut resources = Resources {
            cpu: Some(Cpu {
                quota: Some(-1),
                period: Some(50_000),
                ..Cpu::default()
            }),
            memory: Some(Memory {
                limit: Some(1 << 20),
                ..Memory::default()
            }),
            ..Resources::default()
        };
        resources.unified.insert("memory.high".into(), "5".into());
        let text: Vec<_> = plan(&resources)
            .unwrap()
            .iter()
            .map(|w| format!("{}={}", w.file, w.value))
            .collect();
        assert_eq!(text, ["cpu.max=max 50000", "memory.max=1048576", "memory.high=5"]);
        resources.unified.insert("../x".into(), "5".into());
        assert!(plan(&resources).is_err());
    }
}
