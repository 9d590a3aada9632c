//! Limits of block devices: `--blkio-weight`, `--blkio-weight-device`, `--device-read-bps` and their like.

use crate::error::{Error, Result};
use api::host_config::{HostConfig, ThrottleDevice};
use oci::runtime as rt;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// What a host config says of block devices; each must be there. `None` if it says nothing.
pub fn block_io(host: &HostConfig) -> Result<Option<rt::BlockIo>> {
    let mut limits = rt::BlockIo {
        weight: (host.blkio_weight > 0).then_some(host.blkio_weight),
        throttle_read_bps_device: throttles(&host.blkio_device_read_bps)?,
        throttle_write_bps_device: throttles(&host.blkio_device_write_bps)?,
        throttle_read_iops_device: throttles(&host.blkio_device_read_iops)?,
        throttle_write_iops_device: throttles(&host.blkio_device_write_iops)?,
        ..rt::BlockIo::default()
    };
    for device in host.blkio_weight_device.iter().flatten() {
        let (major, minor) = numbers(&device.path)?;
        limits.weight_device.push(rt::WeightDevice {
            major,
            minor,
            weight: Some(device.weight),
            ..rt::WeightDevice::default()
        });
    }
    Ok((limits != rt::BlockIo::default()).then_some(limits))
}

fn throttles(devices: &Option<Vec<ThrottleDevice>>) -> Result<Vec<rt::ThrottleDevice>> {
    let one = |device: &ThrottleDevice| {
        let (major, minor) = numbers(&device.path)?;
        Ok(rt::ThrottleDevice {
            major,
            minor,
            rate: device.rate,
        })
    };
    devices.iter().flatten().map(one).collect()
}

fn numbers(path: &str) -> Result<(i64, i64)> {
    let found = fs::metadata(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::invalid(format!("stat {path}: no such file or directory")),
        _ => Error::invalid(format!("stat {path}: {e}")),
    })?;
    let (major, minor) = crate::info::device_numbers(found.rdev());
    Ok((major.into(), minor.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_by_their_numbers() {
        assert_eq!(block_io(&HostConfig::default()).unwrap(), None);
        let device = |path: &str| {
            Some(vec![ThrottleDevice {
                path: path.into(),
                rate: 1 << 20,
            }])
        };
        let host = HostConfig {
            blkio_device_write_bps: device("/dev/zero"),
            ..HostConfig::default()
        };
        let limits = block_io(&host).unwrap().unwrap();
        assert!(limits.throttle_read_bps_device.is_empty());
        let one = &limits.throttle_write_bps_device[0];
        assert_eq!((one.major, one.minor, one.rate), (1, 5, 1 << 20));
        let host = HostConfig {
            blkio_device_read_iops: device("/dev/none"),
            ..HostConfig::default()
        };
        assert!(block_io(&host).unwrap_err().to_string().contains("/dev/none"));
    }
}
