//! Limits: what of a host config becomes cgroup settings.
//!
//! Numbers out of range are refused with Docker's words before anything is made.

use super::block_io::block_io;
use super::cpuset;
use super::devices::{self, HostDevice};
use crate::error::{Error, Result};
use api::host_config::HostConfig;
use oci::runtime as rt;

/// The least memory that Docker takes as a limit: 6 MiB.
const MIN_MEMORY: i64 = 6 * 1024 * 1024;

/// The limits of a container.
pub fn build(host: &HostConfig, devices: &[HostDevice]) -> Result<rt::Resources> {
    let positive = |value: i64| (value > 0).then_some(value);
    let memory = rt::Memory {
        limit: positive(host.memory),
        reservation: positive(host.memory_reservation),
        swap: match host.memory_swap {
            0 if host.memory > 0 => Some(host.memory.saturating_mul(2)),
            0 => None,
            own => Some(own),
        },
        swappiness: host.memory_swappiness.and_then(|s| u64::try_from(s).ok()),
        disable_oom_killer: host.oom_kill_disable.filter(|on| *on),
        ..rt::Memory::default()
    };
    let (period, quota) = if host.nano_cpus > 0 {
        (Some(100_000), Some(host.nano_cpus / 10_000))
    } else {
        (
            u64::try_from(host.cpu_period).ok().filter(|p| *p > 0),
            (host.cpu_quota != 0).then_some(host.cpu_quota),
        )
    };
    let cpu = rt::Cpu {
        shares: u64::try_from(host.cpu_shares).ok().filter(|s| *s > 0),
        quota,
        period,
        realtime_runtime: positive(host.cpu_realtime_runtime),
        realtime_period: u64::try_from(host.cpu_realtime_period).ok().filter(|p| *p > 0),
        cpus: host.cpuset_cpus.clone(),
        mems: host.cpuset_mems.clone(),
        ..rt::Cpu::default()
    };
    let mut rules = if host.privileged {
        devices::all_rules()
    } else {
        devices::default_rules()
    };
    if !host.privileged {
        rules.extend(devices.iter().map(HostDevice::rule));
        rules.extend(
            host.device_cgroup_rules
                .iter()
                .flatten()
                .filter_map(|text| devices::parse_rule(text).ok()),
        );
    }
    Ok(rt::Resources {
        devices: rules,
        memory: Some(memory),
        cpu: Some(cpu),
        pids: host
            .pids_limit
            .filter(|limit| *limit != 0)
            .map(|limit| rt::Pids { limit }),
        block_io: block_io(host)?,
        ..rt::Resources::default()
    })
}

/// Refuses limits that make no sense. `cpus` is how many the machine has.
pub fn check(host: &HostConfig, cpus: usize) -> Result<()> {
    let invalid = |text: String| Err(Error::invalid(text));
    if host.memory != 0 && host.memory < MIN_MEMORY {
        return invalid("Minimum memory limit allowed is 6MB".into());
    }
    if host.memory > 0 && host.memory_swap > 0 && host.memory_swap < host.memory {
        return invalid("Minimum memoryswap limit should be larger than memory limit, see usage".into());
    }
    if host.memory == 0 && host.memory_swap > 0 {
        return invalid("You should always set the Memory limit when using Memoryswap limit, see usage".into());
    }
    if host.memory_swappiness.is_some_and(|s| !(-1..=100).contains(&s)) {
        return invalid(format!(
            "Invalid value: {}, valid memory swappiness range is 0-100",
            host.memory_swappiness.unwrap_or_default()
        ));
    }
    if host.memory > 0 && host.memory_reservation > 0 && host.memory < host.memory_reservation {
        return invalid("Minimum memory limit can not be less than memory reservation limit, see usage".into());
    }
    if host.memory_reservation != 0 && host.memory_reservation < MIN_MEMORY {
        return invalid("Minimum memory reservation allowed is 6MB".into());
    }
    if host.nano_cpus > 0 && host.cpu_period > 0 {
        return invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set".into());
    }
    if host.nano_cpus > 0 && host.cpu_quota > 0 {
        return invalid("Conflicting options: Nano CPUs and CPU Quota cannot both be set".into());
    }
    let most = i64::try_from(cpus).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
    if host.nano_cpus < 0 || host.nano_cpus > most {
        return invalid(format!(
            "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        ));
    }
    if host.cpu_shares < 0 {
        return invalid(format!(
            "invalid CPU shares ({}): value must be a positive integer",
            host.cpu_shares
        ));
    }
    if host.cpu_period != 0 && !(1000..=1_000_000).contains(&host.cpu_period) {
        return invalid("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)".into());
    }
    if host.cpu_quota > 0 && host.cpu_quota < 1000 {
        return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)".into());
    }
    let there = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    cpuset::check(&host.cpuset_cpus, "CPUs", &there("/sys/devices/system/cpu/online"))?;
    cpuset::check(
        &host.cpuset_mems,
        "memory nodes",
        &there("/sys/devices/system/node/online"),
    )?;
    if host.blkio_weight > 0 && !(10..=1000).contains(&host.blkio_weight) {
        return invalid("Range of blkio weight is from 10 to 1000".into());
    }
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return invalid(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        ));
    }
    if host.shm_size < 0 {
        return invalid("SHM size can not be less than 0".into());
    }
    for rule in host.device_cgroup_rules.iter().flatten() {
        devices::parse_rule(rule)?;
    }
    for device in host.devices.iter().flatten() {
        devices::normalize(device)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_and_memory() {
        let host = HostConfig {
            nano_cpus: 1_500_000_000,
            memory: 64 << 20,
            pids_limit: Some(-1),
            ..HostConfig::default()
        };
        check(&host, 2).unwrap();
        let limits = build(&host, &[]).unwrap();
        let cpu = limits.cpu.unwrap();
        assert_eq!((cpu.period, cpu.quota), (Some(100_000), Some(150_000)));
        assert_eq!(limits.memory.unwrap().swap, Some(128 << 20));
        assert_eq!(limits.pids.unwrap().limit, -1);
    }

    #[test]
    fn refusals() {
        let base = HostConfig::default;
        for bad in [
            HostConfig {
                memory: 1 << 20,
                ..base()
            },
            HostConfig { memory: -5, ..base() },
            HostConfig {
                memory_swap: 1 << 30,
                ..base()
            },
            HostConfig {
                nano_cpus: 3_000_000_000,
                ..base()
            },
            HostConfig {
                oom_score_adj: 1001,
                ..base()
            },
            HostConfig { shm_size: -1, ..base() },
            HostConfig {
                cpu_period: 5,
                ..base()
            },
        ] {
            assert!(check(&bad, 2).is_err());
        }
    }
}
