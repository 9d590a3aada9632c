//! Capabilities: names, and the five sets of this thread.

use std::io;

/// Names by number, without `CAP_`; `linux/capability.h` of Linux 5.9 and later.
pub const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The number of a capability from `CAP_CHOWN`, `CHOWN` or `chown`.
pub fn number(name: &str) -> Option<u8> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES.iter().position(|known| *known == bare).map(|index| index as u8)
}

/// Sets as bits, bit n for capability n.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sets {
    pub bounding: u64,
    pub effective: u64,
    pub inheritable: u64,
    pub permitted: u64,
    pub ambient: u64,
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const VERSION_3: u32 = 0x2008_0522;
const PR_CAPBSET_READ: libc::c_int = 23;
const PR_CAPBSET_DROP: libc::c_int = 24;
const PR_CAP_AMBIENT: libc::c_int = 47;
const PR_CAP_AMBIENT_IS_SET: libc::c_ulong = 1;
const PR_CAP_AMBIENT_RAISE: libc::c_ulong = 2;
const PR_CAP_AMBIENT_CLEAR_ALL: libc::c_ulong = 4;

fn prctl(option: libc::c_int, first: libc::c_ulong, second: libc::c_ulong) -> io::Result<libc::c_int> {
    let zero: libc::c_ulong = 0;
    // SAFETY: the options of this module take integers only.
    let result = unsafe { libc::prctl(option, first, second, zero, zero) };
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn bits(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// The sets of the calling thread. Numbers this kernel does not know are absent.
pub fn get() -> io::Result<Sets> {
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 writes two Data structures, which is what `data` holds.
    let result = unsafe { libc::syscall(libc::SYS_capget, &header, data.as_mut_ptr()) };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    let mut sets = Sets {
        effective: bits(data[0].effective, data[1].effective),
        permitted: bits(data[0].permitted, data[1].permitted),
        inheritable: bits(data[0].inheritable, data[1].inheritable),
        ..Sets::default()
    };
    for number in 0..NAMES.len() as u64 {
        if prctl(PR_CAPBSET_READ, number as libc::c_ulong, 0).is_ok_and(|set| set == 1) {
            sets.bounding |= 1 << number;
        }
        if prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, number as libc::c_ulong).is_ok_and(|set| set == 1) {
            sets.ambient |= 1 << number;
        }
    }
    Ok(sets)
}

/// Drops from the bounding set all that is not in `keep`.
pub fn limit_bounding(keep: u64) -> io::Result<()> {
    // Beyond the names we know too: a newer kernel's capability must not stay.
    for number in 0..64u64 {
        if keep & 1 << number != 0 {
            continue;
        }
        match prctl(PR_CAPBSET_READ, number as libc::c_ulong, 0) {
            Ok(1) => prctl(PR_CAPBSET_DROP, number as libc::c_ulong, 0).map(drop)?,
            Ok(_) => {}
            Err(_) => break,
        }
    }
    Ok(())
}

/// Sets effective, permitted and inheritable of the calling thread.
pub fn set(effective: u64, permitted: u64, inheritable: u64) -> io::Result<()> {
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let half = |shift: u32| Data {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: version 3 reads two Data structures.
    let result = unsafe { libc::syscall(libc::SYS_capset, &header, data.as_ptr()) };
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Replaces the ambient set. Needs the bits in permitted and inheritable; one the kernel refuses is left out.
pub fn set_ambient(wanted: u64) -> io::Result<()> {
    match prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0) {
        // Before Linux 4.3 there is none to clear.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(()),
        result => result?,
    };
    for number in (0..64u64).filter(|number| wanted & 1 << number != 0) {
        let _ = prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number as libc::c_ulong);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(number("CAP_CHOWN"), Some(0));
        assert_eq!(number("sys_admin"), Some(21));
        assert_eq!(number("CAP_CHECKPOINT_RESTORE"), Some(40));
        assert_eq!(number("CAP_NONE"), None);
    }

    #[test]
    fn own_sets_are_consistent() {
        let sets = get().unwrap();
        assert_eq!(sets.effective & !sets.permitted, 0);
        assert_eq!(sets.ambient & !sets.permitted, 0);
    }
}
