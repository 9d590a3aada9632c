//! `update`: other limits for a container that exists.

use std::io::Read;

use oci::runtime::{BlockIo, Cpu, Memory, Pids, Resources};

use super::args::{Args, Option_};
use super::{Globals, container, expect_args};
use crate::error::{Context, Error, Result};

pub const OPTIONS: &[Option_] = &[
    (&["resources", "r"], true),
    (&["blkio-weight"], true),
    (&["cpu-period"], true),
    (&["cpu-quota"], true),
    (&["cpu-burst"], true),
    (&["cpu-share"], true),
    (&["cpu-rt-period"], true),
    (&["cpu-rt-runtime"], true),
    (&["cpuset-cpus"], true),
    (&["cpuset-mems"], true),
    (&["cpu-idle"], true),
    (&["kernel-memory"], true),
    (&["kernel-memory-tcp"], true),
    (&["memory"], true),
    (&["memory-reservation"], true),
    (&["memory-swap"], true),
    (&["pids-limit"], true),
];

pub fn update(globals: &Globals, args: &Args) -> Result<i32> {
    expect_args(args, "update", 1, Some(1))?;
    let container = container(globals, args)?;
    let mut resources = match args.value("resources") {
        Some("-") => {
            let mut text = Vec::new();
            std::io::stdin()
                .lock()
                .read_to_end(&mut text)
                .context("read resources from stdin")?;
            Resources::from_slice(&text).context("parse resources")?
        }
        Some(path) => {
            let text = std::fs::read(path).with_context(|| format!("open {path}"))?;
            Resources::from_slice(&text).with_context(|| format!("parse {path}"))?
        }
        None => from_options(args)?,
    };
    // Rules for devices are set once, at creation: setting them anew would close what is open for a moment.
    resources.devices.clear();
    container.cgroup()?.apply(&resources)?;
    Ok(0)
}

fn from_options(args: &Args) -> Result<Resources> {
    let size = |name: &str| args.value(name).map(bytes).transpose();
    let cpu = Cpu {
        shares: args.number("cpu-share")?,
        quota: args.number("cpu-quota")?,
        burst: args.number("cpu-burst")?,
        period: args.number("cpu-period")?,
        realtime_runtime: args.number("cpu-rt-runtime")?,
        realtime_period: args.number("cpu-rt-period")?,
        cpus: args.value("cpuset-cpus").unwrap_or_default().to_owned(),
        mems: args.value("cpuset-mems").unwrap_or_default().to_owned(),
        idle: args.number("cpu-idle")?,
    };
    let memory = Memory {
        limit: size("memory")?,
        reservation: size("memory-reservation")?,
        swap: size("memory-swap")?,
        kernel_tcp: size("kernel-memory-tcp")?,
        ..Memory::default()
    };
    Ok(Resources {
        cpu: Some(cpu),
        memory: Some(memory),
        pids: args.number("pids-limit")?.map(|limit| Pids { limit }),
        block_io: args.number("blkio-weight")?.map(|weight| BlockIo {
            weight: Some(weight),
            ..BlockIo::default()
        }),
        ..Resources::default()
    })
}

/// `64m`, `1g`, `1048576`, `-1`.
fn bytes(text: &str) -> Result<i64> {
    let invalid = || Error::new(format!("invalid size: {text:?}"));
    if text == "-1" {
        return Ok(-1);
    }
    let lower = text.to_ascii_lowercase();
    let number = lower.trim_end_matches('b').trim_end_matches('i');
    let (number, shift) = match number.chars().last() {
        Some('k') => (&number[..number.len() - 1], 10),
        Some('m') => (&number[..number.len() - 1], 20),
        Some('g') => (&number[..number.len() - 1], 30),
        Some('t') => (&number[..number.len() - 1], 40),
        _ => (number, 0),
    };
    let number: i64 = number.trim().parse().map_err(|_| invalid())?;
    if number < 0 {
        return Err(invalid());
    }
    number.checked_mul(1i64 << shift).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, size) in [
            ("1", 1),
            ("64m", 64 << 20),
            ("1GiB", 1 << 30),
            ("-1", -1),
            ("2kb", 2048),
        ] {
            assert_eq!(bytes(text).unwrap(), size, "{text}");
        }
        for bad in ["", "x", "-5", "1x"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }
}
