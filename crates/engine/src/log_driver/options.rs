//! What the options of a log driver say. Their names are checked when a container is created, their values when it is
//! started, and the texts of the errors are Docker's.

use crate::error::{Error, Result};
use crate::size;
use api::host_config::LogConfig;
use std::collections::BTreeMap;

/// Bytes that may wait with `mode=non-blocking` when nothing is said.
const BUFFER: u64 = 1 << 20;

/// Bytes of a `local` log's file, and how many files there are, when nothing is said.
const LOCAL_SIZE: u64 = 20 << 20;
const LOCAL_FILES: u32 = 5;

/// What all drivers take: how to wait, and Docker's cache for drivers that cannot be read, which none of ours needs.
const COMMON: &[&str] = &[
    "mode",
    "max-buffer-size",
    "cache-disabled",
    "cache-max-file",
    "cache-max-size",
    "cache-compress",
];

/// Checks a driver's name and the names of its options.
pub fn check(log: &LogConfig) -> Result<()> {
    let options = &log.config;
    let (kind, invalid) = (log.kind.as_str(), |text: String| Err(Error::invalid(text)));
    if kind == "none" {
        return Ok(());
    }
    let mode = options.get("mode").map_or("", String::as_str);
    if !matches!(mode, "" | "blocking" | "non-blocking") {
        return invalid(format!("logger: logging mode not supported: {mode}"));
    }
    if let Some(text) = options.get("max-buffer-size") {
        if mode != "non-blocking" {
            return invalid("logger: max-buffer-size option is only supported with 'mode=non-blocking'".into());
        }
        if let Err(why) = size::binary(text) {
            return invalid(format!("error parsing option max-buffer-size: {why}"));
        }
    }
    if let Some(text) = options.get("cache-disabled").filter(|text| !text.is_empty())
        && parse_bool(text).is_err()
    {
        return invalid(format!("invalid value for option cache-disabled: {text}"));
    }
    let known: &[&str] = match kind {
        "json-file" => &[
            "max-file",
            "max-size",
            "compress",
            "labels",
            "labels-regex",
            "env",
            "env-regex",
            "tag",
        ],
        "journald" => &["labels", "labels-regex", "env", "env-regex", "tag"],
        "local" => &["max-file", "max-size", "compress"],
        "awslogs" | "etwlogs" | "fluentd" | "gcplogs" | "gelf" | "logentries" | "splunk" | "syslog" => {
            return Err(Error::not_supported(format!("log driver \"{kind}\"")));
        }
        other => return invalid(format!("logger: no log driver named '{other}' is registered")),
    };
    let unknown = options
        .keys()
        .find(|key| !known.contains(&key.as_str()) && !COMMON.contains(&key.as_str()));
    match (unknown, kind) {
        (None, _) => Ok(()),
        (Some(key), "local") => invalid(format!("unknown log opt '{key}' for log driver local")),
        (Some(key), _) => invalid(format!("unknown log opt '{key}' for {kind} log driver")),
    }
}

/// How a driver's file is rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    pub max_size: Option<u64>,
    pub max_file: u32,
    pub compress: bool,
}

/// Of `json-file`.
pub fn json_file(options: &BTreeMap<String, String>) -> Result<Rotation, String> {
    let max_size = options.get("max-size").map(|text| size::decimal(text)).transpose()?;
    if max_size == Some(0) {
        return Err("max-size must be a positive number".into());
    }
    let max_file = options.get("max-file").map_or(Ok(1), |text| parse_int(text))?;
    if max_file < 1 {
        return Err("max-file cannot be less than 1".into());
    }
    let compress = options.get("compress").map_or(Ok(false), |text| parse_bool(text))?;
    if compress && (max_file < 2 || max_size.is_none()) {
        return Err("compress cannot be true when max-file is less than 2 or max-size is not set".into());
    }
    Ok(Rotation {
        max_size,
        max_file: u32::try_from(max_file).unwrap_or(u32::MAX),
        compress,
    })
}

/// Of `local`.
pub fn local(options: &BTreeMap<String, String>) -> Result<Rotation, String> {
    let max_size = match options.get("max-size") {
        Some(text) => size::decimal(text).map_err(|why| format!("invalid value for max-size: {text}: {why}"))?,
        None => LOCAL_SIZE,
    };
    let max_file = match options.get("max-file") {
        Some(text) => parse_int(text).map_err(|why| format!("invalid value for max-file: {text}: {why}"))?,
        None => i64::from(LOCAL_FILES),
    };
    let compress = options.get("compress").map_or(Ok(true), |text| {
        parse_bool(text).map_err(|why| format!("error reading compress log option: {why}"))
    })?;
    if max_file < 0 {
        return Err("max file count cannot be less than 0".into());
    }
    if compress && max_file <= 1 {
        return Err("compression cannot be enabled when max file count is 1".into());
    }
    Ok(Rotation {
        max_size: Some(max_size),
        max_file: u32::try_from(max_file).unwrap_or(u32::MAX).max(1),
        compress,
    })
}

/// Bytes that may wait for a slow journal; nothing where the container waits instead.
pub fn buffer(options: &BTreeMap<String, String>) -> Result<Option<u64>, String> {
    if options.get("mode").map(String::as_str) != Some("non-blocking") {
        return Ok(None);
    }
    let given = options.get("max-buffer-size").map(|text| size::binary(text));
    given.unwrap_or(Ok(BUFFER)).map(Some)
}

/// What Go's `strconv.Atoi` reads.
fn parse_int(text: &str) -> Result<i64, String> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    let failed = |why: std::num::ParseIntError| {
        let what = match why.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.Atoi: parsing {text:?}: {what}")
    };
    text.parse().map_err(failed)
}

/// What Go's `strconv.ParseBool` reads.
fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn config(kind: &str, options: &[(&str, &str)]) -> LogConfig {
        LogConfig {
            kind: kind.into(),
            config: options.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        }
    }

    /// As Docker 20.10 and 28 say it.
    #[test]
    fn names() {
        for (kind, options, want) in [
            (
                "json-file",
                &[("x", "y")][..],
                "unknown log opt 'x' for json-file log driver",
            ),
            ("journald", &[("x", "y")], "unknown log opt 'x' for journald log driver"),
            (
                "journald",
                &[("max-size", "1m")],
                "unknown log opt 'max-size' for journald log driver",
            ),
            ("local", &[("x", "y")], "unknown log opt 'x' for log driver local"),
            ("local", &[("tag", "y")], "unknown log opt 'tag' for log driver local"),
            ("bogus", &[], "logger: no log driver named 'bogus' is registered"),
            ("syslog", &[], "log driver \"syslog\" is not supported by balena"),
            ("local", &[("mode", "bad")], "logger: logging mode not supported: bad"),
            (
                "journald",
                &[("max-buffer-size", "1m")],
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
            ),
            (
                "json-file",
                &[("mode", "non-blocking"), ("max-buffer-size", "zz")],
                "error parsing option max-buffer-size: invalid size: 'zz'",
            ),
            (
                "local",
                &[("cache-disabled", "x")],
                "invalid value for option cache-disabled: x",
            ),
        ] {
            assert_eq!(check(&config(kind, options)).unwrap_err().to_string(), want);
        }
        let error = check(&config("gelf", &[])).unwrap_err();
        assert_eq!(error.kind, Kind::NotImplemented);
        for (kind, options) in [
            ("none", &[("anything", "goes")][..]),
            // Values are looked at when the container is started.
            (
                "json-file",
                &[("max-size", "x"), ("max-file", "0"), ("compress", "?"), ("tag", "{{")],
            ),
            (
                "journald",
                &[
                    ("tag", "x"),
                    ("labels-regex", "["),
                    ("mode", "non-blocking"),
                    ("cache-max-size", "1m"),
                ],
            ),
            ("local", &[("max-size", "1m"), ("compress", "false"), ("max-file", "9")]),
        ] {
            check(&config(kind, options)).unwrap();
        }
    }

    #[test]
    fn values() {
        let of = |options: &[(&str, &str)]| config("", options).config;
        let rotation = |max_size, max_file, compress| Rotation {
            max_size,
            max_file,
            compress,
        };
        assert_eq!(json_file(&of(&[])), Ok(rotation(None, 1, false)));
        // No size and so no rotation: Docker starts it.
        assert_eq!(json_file(&of(&[("max-file", "3")])), Ok(rotation(None, 3, false)));
        let all = of(&[("max-size", "10k"), ("max-file", "3"), ("compress", "true")]);
        assert_eq!(json_file(&all), Ok(rotation(Some(10_000), 3, true)));
        assert_eq!(local(&all), Ok(rotation(Some(10_000), 3, true)));
        assert_eq!(local(&of(&[])), Ok(rotation(Some(20 << 20), 5, true)));
        assert_eq!(
            local(&of(&[("max-file", "0"), ("compress", "0")])),
            Ok(rotation(Some(20 << 20), 1, false))
        );
        for (option, json, own) in [
            (
                ("max-size", "x"),
                "invalid size: 'x'",
                "invalid value for max-size: x: invalid size: 'x'",
            ),
            (
                ("max-size", "-1"),
                "invalid size: '-1'",
                "invalid value for max-size: -1: invalid size: '-1'",
            ),
            (
                ("max-file", "0"),
                "max-file cannot be less than 1",
                "compression cannot be enabled when max file count is 1",
            ),
            (
                ("max-file", "x"),
                "strconv.Atoi: parsing \"x\": invalid syntax",
                "invalid value for max-file: x: strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            (
                ("compress", "x"),
                "strconv.ParseBool: parsing \"x\": invalid syntax",
                "error reading compress log option: strconv.ParseBool: parsing \"x\": invalid syntax",
            ),
        ] {
            assert_eq!(json_file(&of(&[option])), Err(json.to_owned()));
            assert_eq!(local(&of(&[option])), Err(own.to_owned()));
        }
        let zero = json_file(&of(&[("max-size", "0")]));
        assert_eq!(zero, Err("max-size must be a positive number".to_owned()));
        let compress = json_file(&of(&[("compress", "true"), ("max-file", "3")]));
        assert_eq!(
            compress,
            Err("compress cannot be true when max-file is less than 2 or max-size is not set".to_owned())
        );
        let waits = |options: &[(&str, &str)]| buffer(&of(options)).unwrap();
        assert_eq!(waits(&[]), None);
        assert_eq!(waits(&[("mode", "blocking")]), None);
        assert_eq!(waits(&[("mode", "non-blocking")]), Some(1 << 20));
        let small = waits(&[("mode", "non-blocking"), ("max-buffer-size", "4k")]);
        assert_eq!(small, Some(4096));
    }
}
