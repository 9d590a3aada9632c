//! Cloning a process into namespaces, new and joined.

use std::fs::File;
use std::os::fd::OwnedFd;

use oci::runtime::{IdMapping, NamespaceKind};
use sys::namespace;
use sys::process::Side;

use crate::error::{Context, Error, Result};

/// The clone flag of a kind of namespace.
pub fn flag(kind: NamespaceKind) -> u64 {
    match kind {
        NamespaceKind::Pid => namespace::NEWPID,
        NamespaceKind::Network => namespace::NEWNET,
        NamespaceKind::Mount => namespace::NEWNS,
        NamespaceKind::Ipc => namespace::NEWIPC,
        NamespaceKind::Uts => namespace::NEWUTS,
        NamespaceKind::User => namespace::NEWUSER,
        NamespaceKind::Cgroup => namespace::NEWCGROUP,
        NamespaceKind::Time => namespace::NEWTIME,
    }
}

/// Opens a namespace file, with runc's words when there is none.
pub fn open(kind: NamespaceKind, path: &str) -> Result<OwnedFd> {
    let file = File::open(path).map_err(|error| {
        Error::new(format!("lstat {path}: {}", crate::error::errno_text(&error)))
            .within(format_args!("unable to join {} namespace", kind.proc_name()))
    })?;
    Ok(file.into())
}

/// Joins `joins`, clones with new namespaces `flags`, and in the parent returns to its own namespaces.
///
/// Joining before the clone is done with the caller's privileges, which a child in a new user namespace
/// would no longer have. Mount and user namespaces cannot be left again: they are the child's to join.
pub fn clone_into(joins: &[(NamespaceKind, OwnedFd)], flags: u64) -> Result<Side> {
    let mut own = Vec::new();
    for (kind, target) in joins {
        own.push((*kind, open(*kind, &format!("/proc/self/ns/{}", kind.proc_name()))?));
        namespace::join(target, flag(*kind)).with_context(|| format!("join {} namespace", kind.proc_name()))?;
    }
    let side = sys::process::clone(flags).context("clone into new namespaces");
    if matches!(side, Ok(Side::Child)) {
        return side;
    }
    for (kind, target) in own.into_iter().rev() {
        namespace::join(target, flag(kind)).with_context(|| format!("return to own {} namespace", kind.proc_name()))?;
    }
    side
}

/// Writes the mappings of a process' new user namespace.
pub fn write_mappings(pid: i32, uids: &[IdMapping], gids: &[IdMapping]) -> Result<()> {
    let text = |mappings: &[IdMapping]| {
        mappings
            .iter()
            .map(|m| format!("{} {} {}\n", m.container_id, m.host_id, m.size))
            .collect::<String>()
    };
    for (file, mappings) in [("uid_map", uids), ("gid_map", gids)] {
        if !mappings.is_empty() {
            std::fs::write(format!("/proc/{pid}/{file}"), text(mappings)).with_context(|| format!("write {file}"))?;
        }
    }
    Ok(())
}

/// Sets a process' OOM score; without the privilege to lower it, it stays.
pub fn set_oom_score(pid: i32, score: i32) -> Result<()> {
    match std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string()) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        result => result.context("write oom_score_adj"),
    }
}
