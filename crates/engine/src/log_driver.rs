//! Which log driver a container has, its options, and sizes as options spell them.

use crate::container::Record;
use crate::error::{Error, Result};
use api::host_config::LogConfig;
use runtime::shim::LogConfig as ShimLog;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Checks a log driver's options.
pub(crate) fn log_options(log: &LogConfig) -> Result<(Option<u64>, u32)> {
    let bad = |text: String| Err(Error::invalid(text));
    let (mut max_size, mut max_file) = (None, 1);
    for (key, value) in &log.config {
        match (log.kind.as_str(), key.as_str()) {
            ("none", _) => {}
            (_, "max-size") => match parse_size(value) {
                Some(size) if size > 0 => max_size = Some(size),
                _ => return bad(format!("invalid value for max-size: {value}")),
            },
            (_, "max-file") => match value.parse() {
                Ok(count) if count >= 1 => max_file = count,
                _ => return bad("max-file cannot be less than 1".into()),
            },
            (_, "compress") if value == "true" => {
                return Err(Error::not_supported("compressing rotated logs (log-opt compress)"));
            }
            (_, "compress") => {}
            (_, "mode" | "max-buffer-size" | "labels" | "labels-regex" | "env" | "env-regex" | "tag") => {}
            (driver, key) => return bad(format!("unknown log opt '{key}' for {driver} log driver")),
        }
    }
    if max_file > 1 && max_size.is_none() && log.kind == "json-file" {
        return bad("max-file is set to more than 1, but max-size is not set: no rotation would take place".into());
    }
    Ok((max_size, max_file))
}

/// A size with a unit of 1024: `10m`, `1.5g`, `512`.
pub fn parse_size(text: &str) -> Option<u64> {
    let lower = text.trim().to_lowercase();
    let digits = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(lower.len());
    let shift = match lower[digits..].trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    let number: f64 = lower[..digits].parse().ok()?;
    let bytes = number * (1u64 << shift) as f64;
    (bytes < 9e18).then_some(bytes as u64)
}

pub(crate) fn log_of(record: &Record) -> Result<ShimLog> {
    let log = &record.host.log_config;
    let (max_size, max_file) = log_options(log)?;
    Ok(match log.kind.as_str() {
        "none" => ShimLog::None,
        _ => ShimLog::JsonFile {
            path: PathBuf::from(&record.disk.log_path),
            max_size,
            max_file,
            attrs: log_attributes(record),
        },
    })
}

/// `--log-opt labels=…,env=…`: what of the container every line carries.
fn log_attributes(record: &Record) -> BTreeMap<String, String> {
    let mut attributes = BTreeMap::new();
    let options = &record.host.log_config.config;
    for key in options.get("labels").into_iter().flat_map(|l| l.split(',')) {
        if let Some(value) = record.disk.config.labels.as_ref().and_then(|l| l.get(key)) {
            attributes.insert(key.to_string(), value.clone());
        }
    }
    for key in options.get("env").into_iter().flat_map(|l| l.split(',')) {
        let entry = record
            .disk
            .config
            .env
            .iter()
            .flatten()
            .find_map(|e| e.strip_prefix(key)?.strip_prefix('='));
        if let Some(value) = entry {
            attributes.insert(key.to_string(), value.to_string());
        }
    }
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("512", 512),
            ("10k", 10 << 10),
            ("1.5m", 3 << 19),
            ("1gb", 1 << 30),
            ("2 MiB", 2 << 20),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for bad in ["", "x", "1q", "-1", "1e9", "99999999999t"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }
}
