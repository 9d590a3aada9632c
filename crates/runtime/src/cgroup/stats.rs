//! Usage of a container's resources, in the shape of `runc events --stats`.

use std::collections::BTreeMap;
use std::path::Path;

use json::{Deserialize, Serialize};

use super::Cgroup;
use crate::error::Result;

macro_rules! shapes {
    ($( $(#[$doc:meta])* struct $name:ident { $( $(#[$field_doc:meta])* $field:ident: $type:ty ),* $(,)? } )*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
            #[serde(rename_all = "camelCase", default)]
            pub struct $name { $( $(#[$field_doc])* pub $field: $type, )* }
        )*
    };
}

shapes! {
    /// All there is. Times in nanoseconds, sizes in bytes.
    struct Stats {
        cpu: CpuStats,
        memory: MemoryStats,
        pids: PidsStats,
        blkio: BlkioStats,
    }
    struct CpuStats {
        usage: CpuUsage,
        throttling: Throttling,
    }
    struct CpuUsage {
        total: u64,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        percpu: Vec<u64>,
        kernel: u64,
        user: u64,
    }
    struct Throttling {
        periods: u64,
        throttled_periods: u64,
        throttled_time: u64,
    }
    struct MemoryStats {
        cache: u64,
        usage: MemoryEntry,
        swap: MemoryEntry,
        kernel: MemoryEntry,
        #[serde(rename = "kernelTCP")]
        kernel_tcp: MemoryEntry,
        /// `memory.stat` as it is.
        raw: BTreeMap<String, u64>,
    }
    struct MemoryEntry {
        limit: u64,
        usage: u64,
        max: u64,
        failcnt: u64,
    }
    struct PidsStats {
        current: u64,
        /// 0 is unlimited.
        limit: u64,
    }
    struct BlkioStats {
        io_service_bytes_recursive: Vec<BlkioEntry>,
        io_serviced_recursive: Vec<BlkioEntry>,
    }
    struct BlkioEntry {
        major: u64,
        minor: u64,
        op: String,
        value: u64,
    }
}

/// The value of a key in `key value` lines; 0 when absent.
pub fn keyed(text: &str, key: &str) -> u64 {
    text.lines()
        .find_map(|line| {
            let (name, value) = line.split_once(' ')?;
            (name == key).then(|| value.trim().parse().ok())?
        })
        .unwrap_or(0)
}

struct Files<'a>(Option<&'a Path>);

impl Files<'_> {
    fn text(&self, file: &str) -> String {
        self.0
            .and_then(|directory| std::fs::read_to_string(directory.join(file)).ok())
            .unwrap_or_default()
    }

    /// A number; "max" is the largest, absent is 0.
    fn number(&self, file: &str) -> u64 {
        match self.text(file).trim() {
            "max" => u64::MAX,
            text => text.parse().unwrap_or(0),
        }
    }
}

pub fn read(cgroup: &Cgroup) -> Result<Stats> {
    if cgroup.is_v2() {
        Ok(v2(&Files(Some(cgroup.directory()))))
    } else {
        Ok(v1(cgroup))
    }
}

fn raw(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

fn v1(cgroup: &Cgroup) -> Stats {
    let files = |controller: &str| Files(cgroup.controller(controller));
    let (cpuacct, cpu, memory, pids, blkio) = (
        files("cpuacct"),
        files("cpu"),
        files("memory"),
        files("pids"),
        files("blkio"),
    );
    let times = cpuacct.text("cpuacct.stat");
    let throttle = cpu.text("cpu.stat");
    // USER_HZ is 100 on every architecture we build for.
    const NANOSECONDS_PER_TICK: u64 = 10_000_000;
    let stat = memory.text("memory.stat");
    let entry = |kind: &str| MemoryEntry {
        limit: memory.number(&format!("memory{kind}.limit_in_bytes")),
        usage: memory.number(&format!("memory{kind}.usage_in_bytes")),
        max: memory.number(&format!("memory{kind}.max_usage_in_bytes")),
        failcnt: memory.number(&format!("memory{kind}.failcnt")),
    };
    Stats {
        cpu: CpuStats {
            usage: CpuUsage {
                total: cpuacct.number("cpuacct.usage"),
                percpu: cpuacct
                    .text("cpuacct.usage_percpu")
                    .split_whitespace()
                    .filter_map(|n| n.parse().ok())
                    .collect(),
                kernel: keyed(&times, "system") * NANOSECONDS_PER_TICK,
                user: keyed(&times, "user") * NANOSECONDS_PER_TICK,
            },
            throttling: Throttling {
                periods: keyed(&throttle, "nr_periods"),
                throttled_periods: keyed(&throttle, "nr_throttled"),
                throttled_time: keyed(&throttle, "throttled_time"),
            },
        },
        memory: MemoryStats {
            cache: keyed(&stat, "cache"),
            usage: entry(""),
            swap: entry(".memsw"),
            kernel: entry(".kmem"),
            kernel_tcp: entry(".kmem.tcp"),
            raw: raw(&stat),
        },
        pids: pids_stats(&pids),
        blkio: BlkioStats {
            io_service_bytes_recursive: blkio_v1(&blkio.text("blkio.throttle.io_service_bytes_recursive")),
            io_serviced_recursive: blkio_v1(&blkio.text("blkio.throttle.io_serviced_recursive")),
        },
    }
}

fn v2(files: &Files<'_>) -> Stats {
    let cpu = files.text("cpu.stat");
    let stat = files.text("memory.stat");
    let (bytes, operations) = blkio_v2(&files.text("io.stat"));
    let mut usage = MemoryEntry {
        limit: files.number("memory.max"),
        usage: files.number("memory.current"),
        max: files.number("memory.peak"),
        failcnt: keyed(&files.text("memory.events"), "max"),
    };
    if usage.limit == 0 {
        usage.limit = u64::MAX;
    }
    // The v1 shape counts swap together with memory.
    let swap = MemoryEntry {
        limit: files.number("memory.swap.max").saturating_add(usage.limit),
        usage: files.number("memory.swap.current").saturating_add(usage.usage),
        ..MemoryEntry::default()
    };
    Stats {
        cpu: CpuStats {
            usage: CpuUsage {
                total: keyed(&cpu, "usage_usec") * 1000,
                percpu: vec![],
                kernel: keyed(&cpu, "system_usec") * 1000,
                user: keyed(&cpu, "user_usec") * 1000,
            },
            throttling: Throttling {
                periods: keyed(&cpu, "nr_periods"),
                throttled_periods: keyed(&cpu, "nr_throttled"),
                throttled_time: keyed(&cpu, "throttled_usec") * 1000,
            },
        },
        memory: MemoryStats {
            cache: keyed(&stat, "file"),
            usage,
            swap,
            raw: raw(&stat),
            ..MemoryStats::default()
        },
        pids: pids_stats(files),
        blkio: BlkioStats {
            io_service_bytes_recursive: bytes,
            io_serviced_recursive: operations,
        },
    }
}

fn pids_stats(files: &Files<'_>) -> PidsStats {
    let limit = files.number("pids.max");
    PidsStats {
        current: files.number("pids.current"),
        limit: if limit == u64::MAX { 0 } else { limit },
    }
}

/// Lines `8:0 Read 4096`; the closing `Total 4096` has no device.
fn blkio_v1(text: &str) -> Vec<BlkioEntry> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (major, minor) = fields.next()?.split_once(':')?;
            Some(BlkioEntry {
                major: major.parse().ok()?,
                minor: minor.parse().ok()?,
                op: fields.next()?.to_owned(),
                value: fields.next()?.parse().ok()?,
            })
        })
        .collect()
}

/// Lines `8:0 rbytes=1 wbytes=2 rios=3 wios=4 …`.
fn blkio_v2(text: &str) -> (Vec<BlkioEntry>, Vec<BlkioEntry>) {
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut fields = line.split(' ');
        let Some((major, minor)) = fields.next().and_then(|device| device.split_once(':')) else {
            continue;
        };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else {
            continue;
        };
        for (key, value) in fields.filter_map(|field| field.split_once('=')) {
            let Ok(value) = value.parse() else { continue };
            let (list, op) = match key {
                "rbytes" => (&mut bytes, "Read"),
                "wbytes" => (&mut bytes, "Write"),
                "rios" => (&mut operations, "Read"),
                "wios" => (&mut operations, "Write"),
                _ => continue,
            };
            list.push(BlkioEntry {
                major,
                minor,
                op: op.to_owned(),
                value,
            });
        }
    }
    (bytes, operations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        assert_eq!(keyed("oom 1\noom_kill 3\n", "oom_kill"), 3);
        assert_eq!(keyed("", "x"), 0);
        assert_eq!(blkio_v1("8:0 Read 5\n8:0 Total 5\nTotal 5\n").len(), 2);
        let (bytes, operations) = blkio_v2("254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n");
        assert_eq!((bytes[1].value, operations[0].value, bytes[0].major), (2, 3, 254));
    }
}
