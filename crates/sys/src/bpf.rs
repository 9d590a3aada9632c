//! Extended BPF: loading a device-cgroup program and attaching it to a cgroup v2 directory.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// One extended BPF instruction (`struct bpf_insn`); `registers` is dst in the low, src in the high half.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    pub code: u8,
    pub registers: u8,
    pub offset: i16,
    pub immediate: i32,
}

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

// 8-byte alignment as the kernel's `__aligned_u64`, also on 32-bit.
#[repr(C, align(8))]
#[derive(Default)]
struct LoadAttributes {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

#[repr(C, align(8))]
#[derive(Default)]
struct AttachAttributes {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
    padding: u32,
}

#[repr(C, align(8))]
#[derive(Default)]
struct QueryAttributes {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: only this module calls it, with the attribute structure the command expects, whose
    // pointers are to live buffers of the lengths given.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn own(fd: libc::c_long) -> OwnedFd {
    // SAFETY: the kernel just returned this new (close-on-exec) descriptor to us.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

/// Loads a device-cgroup program. The kernel verifies it.
pub fn load_device_program(program: &[Instruction]) -> io::Result<OwnedFd> {
    let mut attributes = LoadAttributes {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as usize as u64,
        license: c"Apache".as_ptr() as usize as u64,
        ..LoadAttributes::default()
    };
    bpf(BPF_PROG_LOAD, &mut attributes).map(own)
}

/// Attaches a loaded program to a cgroup v2 directory, then detaches those that were there before,
/// so that the cgroup is at no moment without one.
pub fn replace_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let old = attached(cgroup)?;
    let mut attributes = AttachAttributes {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
        ..AttachAttributes::default()
    };
    bpf(BPF_PROG_ATTACH, &mut attributes)?;
    for id in old {
        let mut by_id = [id, 0, 0];
        let fd = own(bpf(BPF_PROG_GET_FD_BY_ID, &mut by_id)?);
        let mut attributes = AttachAttributes {
            target_fd: cgroup.as_raw_fd() as u32,
            attach_bpf_fd: fd.as_fd().as_raw_fd() as u32,
            attach_type: BPF_CGROUP_DEVICE,
            ..AttachAttributes::default()
        };
        bpf(BPF_PROG_DETACH, &mut attributes)?;
    }
    Ok(())
}

fn attached(cgroup: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut ids = vec![0u32; 64];
    let mut attributes = QueryAttributes {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        prog_ids: ids.as_mut_ptr() as usize as u64,
        prog_cnt: ids.len() as u32,
        ..QueryAttributes::default()
    };
    bpf(BPF_PROG_QUERY, &mut attributes)?;
    ids.truncate(attributes.prog_cnt as usize);
    Ok(ids)
}
