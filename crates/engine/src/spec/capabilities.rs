//! Which capabilities a container gets: Docker's default fourteen, plus and minus, within what the daemon has.

use crate::error::{Error, Result};
use api::host_config::HostConfig;

/// What a container may do without asking.
const DEFAULT: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// All that Linux has, in the order of their numbers (capabilities(7), kernel 5.9).
const ALL: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The names of the capabilities in a bit set.
pub fn names(bits: u64) -> Vec<String> {
    ALL.iter()
        .enumerate()
        .filter(|(bit, _)| bits >> bit & 1 == 1)
        .map(|(_, name)| name.to_string())
        .collect()
}

/// The capabilities of a container. A name that does not exist is an error; one that the daemon lacks is left out.
pub fn of(host: &HostConfig, bounding: &[String]) -> Result<Vec<String>> {
    let have = |name: &str| bounding.iter().any(|b| b == name);
    if host.privileged {
        return Ok(ALL
            .iter()
            .filter(|name| have(name))
            .map(|name| name.to_string())
            .collect());
    }
    let add = normalize("CapAdd", host.cap_add.as_deref().unwrap_or_default())?;
    let drop = normalize("CapDrop", host.cap_drop.as_deref().unwrap_or_default())?;
    let every = |list: &[String]| list.iter().any(|c| c == "ALL");
    let wanted: Vec<&str> = match (every(&add), every(&drop)) {
        (true, _) => ALL.iter().copied().filter(|c| !drop.iter().any(|d| d == c)).collect(),
        (false, true) => ALL.iter().copied().filter(|c| add.iter().any(|a| a == c)).collect(),
        (false, false) => {
            let kept = DEFAULT.iter().copied().filter(|c| !drop.iter().any(|d| d == c));
            let added = ALL
                .iter()
                .copied()
                .filter(|c| add.iter().any(|a| a == c) && !DEFAULT.contains(c));
            kept.chain(added).collect()
        }
    };
    Ok(wanted
        .into_iter()
        .filter(|name| have(name))
        .map(str::to_string)
        .collect())
}

fn normalize(field: &str, names: &[String]) -> Result<Vec<String>> {
    names
        .iter()
        .map(|name| {
            let upper = name.to_uppercase();
            let full = match upper.as_str() {
                "ALL" => return Ok(upper),
                text if text.starts_with("CAP_") => text.to_string(),
                text => format!("CAP_{text}"),
            };
            if full == "CAP_ALL" {
                return Ok("ALL".into());
            }
            match ALL.contains(&full.as_str()) {
                true => Ok(full),
                false => Err(Error::invalid(format!(
                    "invalid {field}: unknown capability: \"{full}\""
                ))),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps(add: &[&str], drop: &[&str]) -> Vec<String> {
        let list = |names: &[&str]| Some(names.iter().map(|n| n.to_string()).collect());
        let host = HostConfig {
            cap_add: list(add),
            cap_drop: list(drop),
            ..HostConfig::default()
        };
        of(&host, &names(u64::MAX >> 23)).unwrap()
    }

    #[test]
    fn plus_and_minus() {
        assert_eq!(caps(&[], &[]).len(), 14);
        assert_eq!(caps(&["sys_admin"], &[]).len(), 15);
        assert_eq!(caps(&[], &["CAP_CHOWN", "net_raw"]).len(), 12);
        assert_eq!(caps(&["CHOWN"], &["all"]), ["CAP_CHOWN"]);
        assert_eq!(caps(&["ALL"], &["SYS_ADMIN"]).len(), 40);
        let bad = HostConfig {
            cap_add: Some(vec!["NOPE".into()]),
            ..HostConfig::default()
        };
        assert_eq!(
            of(&bad, &[]).unwrap_err().to_string(),
            "invalid CapAdd: unknown capability: \"CAP_NOPE\""
        );
    }

    #[test]
    fn what_the_daemon_lacks_is_left_out() {
        let host = HostConfig {
            privileged: true,
            ..HostConfig::default()
        };
        assert_eq!(of(&host, &names(0b101)).unwrap(), ["CAP_CHOWN", "CAP_DAC_READ_SEARCH"]);
    }
}
