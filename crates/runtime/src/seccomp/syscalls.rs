//! System call numbers by name, for the four architectures we filter: x86_64, i386, ARM (EABI), arm64.
//!
//! The table is text, one call per line, `-` where an architecture lacks it (Linux 6.17's numbers):
//! as text it needs no relocation at program start, so processes that never compile a filter pay no memory.

const TABLE: &str = include_str!("syscalls.txt");

/// An architecture as the kernel reports it to a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    X86_64,
    X86,
    /// The second system call table of x86_64 (numbers with bit 30); shares `X86_64`'s audit value.
    X32,
    Arm,
    Aarch64,
}

/// Bit 30 of the number marks an x32 call.
pub const X32_BIT: u32 = 0x4000_0000;

impl Arch {
    /// From libseccomp's name. Architectures that no build of ours runs on are `None`.
    pub fn from_scmp(name: &str) -> Option<Self> {
        Some(match name {
            "SCMP_ARCH_X86_64" => Self::X86_64,
            "SCMP_ARCH_X86" => Self::X86,
            "SCMP_ARCH_X32" => Self::X32,
            "SCMP_ARCH_ARM" => Self::Arm,
            "SCMP_ARCH_AARCH64" => Self::Aarch64,
            _ => return None,
        })
    }

    /// The architecture of this program.
    pub const fn native() -> Self {
        if cfg!(target_arch = "x86_64") {
            Self::X86_64
        } else if cfg!(target_arch = "x86") {
            Self::X86
        } else if cfg!(target_arch = "aarch64") {
            Self::Aarch64
        } else {
            Self::Arm
        }
    }

    /// `AUDIT_ARCH_…` of `linux/audit.h`.
    pub fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Arm => 0x4000_0028,
            Self::Aarch64 => 0xc000_00b7,
        }
    }

    /// Whether arguments are 64 bits wide.
    pub fn is_64bit(self) -> bool {
        matches!(self, Self::X86_64 | Self::Aarch64)
    }

    fn column(self) -> usize {
        match self {
            Self::X86_64 | Self::X32 => 1,
            Self::X86 => 2,
            Self::Arm => 3,
            Self::Aarch64 => 4,
        }
    }
}

/// x32 has its own numbers for the calls whose structures differ.
const X32_OWN: [(&str, u32); 36] = [
    ("rt_sigaction", 512),
    ("rt_sigreturn", 513),
    ("ioctl", 514),
    ("readv", 515),
    ("writev", 516),
    ("recvfrom", 517),
    ("sendmsg", 518),
    ("recvmsg", 519),
    ("execve", 520),
    ("ptrace", 521),
    ("rt_sigpending", 522),
    ("rt_sigtimedwait", 523),
    ("rt_sigqueueinfo", 524),
    ("sigaltstack", 525),
    ("timer_create", 526),
    ("mq_notify", 527),
    ("kexec_load", 528),
    ("waitid", 529),
    ("set_robust_list", 530),
    ("get_robust_list", 531),
    ("vmsplice", 532),
    ("move_pages", 533),
    ("preadv", 534),
    ("pwritev", 535),
    ("rt_tgsigqueueinfo", 536),
    ("recvmmsg", 537),
    ("sendmmsg", 538),
    ("process_vm_readv", 539),
    ("process_vm_writev", 540),
    ("setsockopt", 541),
    ("getsockopt", 542),
    ("io_setup", 543),
    ("io_submit", 544),
    ("execveat", 545),
    ("preadv2", 546),
    ("pwritev2", 547),
];

/// What x86_64 has and x32 has not (the kernel's `syscall_64.tbl`, ABI "64" without an x32 twin).
const X32_LACKS: [&str; 14] = [
    "_sysctl",
    "create_module",
    "epoll_ctl_old",
    "epoll_wait_old",
    "get_kernel_syms",
    "get_thread_area",
    "map_shadow_stack",
    "nfsservctl",
    "query_module",
    "set_thread_area",
    "uprobe",
    "uretprobe",
    "uselib",
    "vserver",
];

/// The numbers of all system calls of an architecture, as (name, number), sorted by name.
pub fn table(arch: Arch) -> Vec<(&'static str, u32)> {
    let column = arch.column();
    let mut calls = Vec::with_capacity(480);
    for line in TABLE.lines() {
        let mut fields = line.split(' ');
        let Some(name) = fields.next() else { continue };
        let Some(number) = fields.nth(column - 1).and_then(|text| text.parse::<u32>().ok()) else {
            continue;
        };
        if arch == Arch::X32 && X32_LACKS.contains(&name) {
            continue;
        }
        let number = if arch == Arch::X32 {
            let own = X32_OWN.iter().find(|(own, _)| *own == name);
            X32_BIT | own.map_or(number, |(_, number)| *number)
        } else {
            number
        };
        calls.push((name, number));
    }
    calls
}

/// Looks a name up in a [`table`].
pub fn number(table: &[(&'static str, u32)], name: &str) -> Option<u32> {
    let index = table.binary_search_by(|(known, _)| (*known).cmp(name)).ok()?;
    Some(table[index].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_numbers() {
        for (arch, name, expected) in [
            (Arch::X86_64, "read", Some(0)),
            (Arch::X86_64, "clone3", Some(435)),
            (Arch::X86_64, "socketcall", None),
            (Arch::X86, "socketcall", Some(102)),
            (Arch::X86, "exit", Some(1)),
            (Arch::Arm, "set_tls", Some(0xf0005)),
            (Arch::Arm, "openat2", Some(437)),
            (Arch::Aarch64, "read", Some(63)),
            (Arch::Aarch64, "open", None),
            (Arch::X32, "set_thread_area", None),
            (Arch::X32, "read", Some(X32_BIT)),
            (Arch::X32, "execve", Some(X32_BIT | 520)),
        ] {
            assert_eq!(number(&table(arch), name), expected, "{arch:?} {name}");
        }
    }

    #[test]
    fn sorted_by_name() {
        let calls = table(Arch::X86);
        assert!(calls.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
