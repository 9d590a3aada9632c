//! Devices: what every container may use, and what `--device` and `--privileged` add.

use crate::error::{Error, Result};
use api::host_config::DeviceMapping;
use oci::runtime as rt;

/// A device of the host that a container gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostDevice {
    /// Its place in the container.
    pub path: String,
    /// `c` or `b`.
    pub kind: char,
    pub major: u32,
    pub minor: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Any of `r`, `w`, `m`.
    pub access: String,
}

impl HostDevice {
    /// The node to make.
    pub fn node(&self) -> rt::Device {
        rt::Device {
            path: self.path.clone(),
            kind: self.kind.to_string(),
            major: i64::from(self.major),
            minor: i64::from(self.minor),
            file_mode: Some(self.mode & 0o7777),
            uid: Some(self.uid),
            gid: Some(self.gid),
        }
    }

    /// The rule that lets it be used.
    pub fn rule(&self) -> rt::DeviceRule {
        rt::DeviceRule {
            allow: true,
            kind: self.kind.to_string(),
            major: Some(i64::from(self.major)),
            minor: Some(i64::from(self.minor)),
            access: self.access.clone(),
        }
    }
}

fn rule(allow: bool, kind: &str, major: Option<i64>, minor: Option<i64>, access: &str) -> rt::DeviceRule {
    rt::DeviceRule {
        allow,
        kind: kind.into(),
        major,
        minor,
        access: access.into(),
    }
}

/// The rules of an ordinary container: nothing, but any node may be made and the harmless ones used.
pub fn default_rules() -> Vec<rt::DeviceRule> {
    let mut list = vec![
        rule(false, "", None, None, "rwm"),
        rule(true, "c", None, None, "m"),
        rule(true, "b", None, None, "m"),
    ];
    // null, zero, full, random, urandom, tty, console, and the pseudo terminals.
    for (major, minor) in [(1, 5), (1, 3), (1, 9), (1, 8), (1, 7), (5, 0), (5, 1), (5, 2)] {
        list.push(rule(true, "c", Some(major), Some(minor), "rwm"));
    }
    list.push(rule(true, "c", Some(136), None, "rwm"));
    list
}

/// The rules of a privileged container.
pub fn all_rules() -> Vec<rt::DeviceRule> {
    vec![rule(true, "", None, None, "rwm")]
}

/// Reads one `--device-cgroup-rule`: `c 1:3 mr`.
pub fn parse_rule(text: &str) -> Result<rt::DeviceRule> {
    let bad = || Error::invalid(format!("invalid device cgroup rule format: '{text}'"));
    let words: Vec<&str> = text.split(' ').collect();
    let [kind, numbers, access] = words[..] else {
        return Err(bad());
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(bad)?;
    let number = |n: &str| match n {
        "*" => Ok(None),
        n => n.parse::<u32>().map(|n| Some(i64::from(n))).map_err(|_| bad()),
    };
    let known = matches!(kind, "a" | "b" | "c");
    if !known || access.is_empty() || access.len() > 3 || !access.bytes().all(|b| matches!(b, b'r' | b'w' | b'm')) {
        return Err(bad());
    }
    Ok(rule(
        true,
        if kind == "a" { "" } else { kind },
        number(major)?,
        number(minor)?,
        access,
    ))
}

/// Checks what `--device` asks for and fills in what it left out.
pub fn normalize(mapping: &DeviceMapping) -> Result<DeviceMapping> {
    let mut mapping = mapping.clone();
    if mapping.path_in_container.is_empty() {
        mapping.path_in_container = mapping.path_on_host.clone();
    }
    if mapping.cgroup_permissions.is_empty() {
        mapping.cgroup_permissions = "rwm".into();
    }
    let ok = mapping
        .cgroup_permissions
        .bytes()
        .all(|b| matches!(b, b'r' | b'w' | b'm'));
    if !ok || !mapping.path_in_container.starts_with('/') {
        return Err(Error::invalid(format!(
            "invalid device specification: {}:{}:{}",
            mapping.path_on_host, mapping.path_in_container, mapping.cgroup_permissions
        )));
    }
    Ok(mapping)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        assert_eq!(parse_rule("c 1:* rw").unwrap(), rule(true, "c", Some(1), None, "rw"));
        for bad in [
            "",
            "c 1:3",
            "x 1:3 r",
            "c 1 r",
            "c 1:3 x",
            "c -1:3 r",
            "c  1:3 r",
            "c 1:3 rwmr",
        ] {
            assert!(parse_rule(bad).is_err(), "{bad}");
        }
    }
}
