//! Docker's default seccomp profile as data: what is allowed to all, and what a capability adds.
//!
//! System calls and conditions are those of Docker 28 (`io_uring` is out since 25). [`docker_default`] has
//! resolved the conditions: the result is the section the specification wants.

use oci::runtime::{Seccomp, SyscallArg, SyscallRule};

use super::Arch;

/// Allowed whatever the capabilities.
const ALWAYS: &str = "accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 clock_adjtime \
    clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep \
    clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create \
    epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 \
    execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir \
    fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork \
    fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex \
    futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat getcpu getcwd getdents getdents64 \
    getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid \
    getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit \
    get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid gettimeofday getuid getuid32 \
    getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy \
    io_getevents io_pgetevents io_pgetevents_time64 ioprio_get ioprio_set io_setup io_submit ipc kill \
    landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen \
    listmount listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise \
    map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 \
    mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 \
    mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall \
    munmap name_to_handle_at nanosleep newfstatat _newselect open openat openat2 pause pidfd_open \
    pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv \
    preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink \
    readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat \
    rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo \
    rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity \
    sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler \
    sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam \
    sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile \
    sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups \
    setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 \
    setreuid setreuid32 setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address setuid \
    setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask \
    sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync \
    sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime \
    timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime \
    timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime \
    utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev";

/// What a capability adds.
const BY_CAPABILITY: [(&str, &str); 14] = [
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "CAP_SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules \
         lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname \
         sethostname setns syslog umount umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module init_module finit_module"),
    ("CAP_SYS_PACCT", "acct"),
    (
        "CAP_SYS_PTRACE",
        "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    ),
    ("CAP_SYS_RAWIO", "iopl ioperm"),
    ("CAP_SYS_TIME", "settimeofday stime clock_settime clock_settime64"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    (
        "CAP_SYS_NICE",
        "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    ),
    ("CAP_SYSLOG", "syslog"),
    ("CAP_BPF", "bpf"),
    ("CAP_PERFMON", "perf_event_open"),
];

/// All the namespace flags of `clone` (CLONE_NEWNS to CLONE_NEWNET, without NEWTIME).
const CLONE_NAMESPACES: u64 = 0x7e02_0000;
const AF_VSOCK: u64 = 40;

fn allow(names: &str, args: Vec<SyscallArg>) -> SyscallRule {
    SyscallRule {
        names: names.split(' ').map(str::to_owned).collect(),
        action: "SCMP_ACT_ALLOW".to_owned(),
        errno_ret: None,
        args,
    }
}

fn first_argument(op: &str, value: u64) -> Vec<SyscallArg> {
    vec![SyscallArg {
        index: 0,
        value,
        value_two: 0,
        op: op.to_owned(),
    }]
}

/// The profile for a container with these capabilities (bounding set, `CAP_…` names), on this machine.
pub fn docker_default(capabilities: &[String]) -> Seccomp {
    docker_default_for(Arch::native(), capabilities)
}

/// The same on a machine of this architecture with this machine's kernel.
pub fn docker_default_for(machine: Arch, capabilities: &[String]) -> Seccomp {
    let has = |name: &str| capabilities.iter().any(|capability| capability == name);
    let mut syscalls = vec![allow(ALWAYS, vec![])];
    // Since Linux 4.8 a tracer cannot slip past the filter.
    if kernel_at_least(4, 8) {
        syscalls.push(allow("process_vm_readv process_vm_writev ptrace", vec![]));
    }
    syscalls.push(allow("socket", first_argument("SCMP_CMP_NE", AF_VSOCK)));
    // PER_LINUX, PER_LINUX32, UNAME26, both, and the query.
    for persona in [0, 8, 0x20000, 0x20008, 0xffff_ffff] {
        syscalls.push(allow("personality", first_argument("SCMP_CMP_EQ", persona)));
    }
    let architectures: &[&str] = match machine {
        Arch::X86_64 | Arch::X32 => {
            syscalls.push(allow("arch_prctl modify_ldt", vec![]));
            &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
        }
        Arch::X86 => {
            syscalls.push(allow("modify_ldt", vec![]));
            &["SCMP_ARCH_X86"]
        }
        arm => {
            syscalls.push(allow(
                "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
                vec![],
            ));
            if arm == Arch::Arm {
                &["SCMP_ARCH_ARM"]
            } else {
                &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
            }
        }
    };
    for (capability, names) in BY_CAPABILITY {
        if has(capability) {
            syscalls.push(allow(names, vec![]));
        }
    }
    if !has("CAP_SYS_ADMIN") {
        syscalls.push(allow("clone", first_argument("SCMP_CMP_MASKED_EQ", CLONE_NAMESPACES)));
        // Its flags are behind a pointer, which a filter cannot read; on ENOSYS the C library takes clone.
        let mut refuse = allow("clone3", vec![]);
        refuse.action = "SCMP_ACT_ERRNO".to_owned();
        refuse.errno_ret = Some(libc::ENOSYS as u32);
        syscalls.push(refuse);
    }
    Seccomp {
        default_action: "SCMP_ACT_ERRNO".to_owned(),
        default_errno_ret: Some(libc::EPERM as u32),
        architectures: architectures.iter().map(|name| (*name).to_owned()).collect(),
        syscalls,
        ..Seccomp::default()
    }
}

/// Whether the running kernel is at least this version.
fn kernel_at_least(major: u32, minor: u32) -> bool {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_add() {
        let plain = docker_default(&[]);
        let admin = docker_default(&["CAP_SYS_ADMIN".to_owned()]);
        let allows = |profile: &Seccomp, name: &str| {
            profile.syscalls.iter().any(|rule| {
                rule.action == "SCMP_ACT_ALLOW" && rule.args.is_empty() && rule.names.iter().any(|known| known == name)
            })
        };
        assert!(!allows(&plain, "mount") && allows(&admin, "mount"));
        assert!(!allows(&plain, "clone") && allows(&admin, "clone"));
        assert!(allows(&plain, "read") && !allows(&admin, "io_uring_setup"));
    }
}
