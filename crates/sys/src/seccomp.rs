//! Seccomp: loading a classic BPF filter into the kernel.

use std::io;

/// One classic BPF instruction (`struct sock_filter`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

#[repr(C)]
struct Program {
    len: libc::c_ushort,
    filter: *const Instruction,
}

/// The kernel's limit of instructions per filter (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;

const SECCOMP_SET_MODE_FILTER: libc::c_uint = 1;
const SECCOMP_GET_ACTION_AVAIL: libc::c_uint = 2;

/// Installs `filter` for this thread and what it executes. `flags`: `SECCOMP_FILTER_FLAG_…`.
///
/// Needs `no_new_privs` or `CAP_SYS_ADMIN`. The kernel checks the program.
pub fn install(filter: &[Instruction], flags: u32) -> io::Result<()> {
    if filter.is_empty() || filter.len() > MAX_INSTRUCTIONS {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "filter too long"));
    }
    let program = Program {
        len: filter.len() as libc::c_ushort,
        filter: filter.as_ptr(),
    };
    // SAFETY: the program points to `len` live instructions, which the kernel copies and verifies.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) };
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Whether the kernel has seccomp filters with this return action.
pub fn action_available(action: u32) -> bool {
    let zero: libc::c_uint = 0;
    // SAFETY: reads one u32.
    unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, zero, &action) == 0 }
}
