//! What a container must not be able to do.

mod common;

use common::{Bundle, message, skipped};
use oci::runtime::Mount;

/// libcontainer 0.7 mounted the v1 tree writable, and a container raised its own memory limit.
#[test]
fn cgroup_limits_cannot_be_raised() {
    if skipped() {
        return;
    }
    let script = "cd /sys/fs/cgroup; for f in memory/memory.limit_in_bytes pids/pids.max memory.max pids.max; do \
        test -e $f && { echo 999999999 > $f && echo RAISED $f; }; done; mkdir memory/sub && echo MADE; mkdir x && echo MADE; \
        mount -o remount,rw /sys/fs/cgroup/memory && echo REMOUNTED; cat memory/memory.limit_in_bytes memory.max; exit 0";
    let (_, out, _) = Bundle::new("cg", script).run();
    assert_eq!(out.trim(), (64 << 20).to_string());
}

#[test]
fn kernel_files_are_masked_and_readonly() {
    if skipped() {
        return;
    }
    let script = "cat /proc/kcore | wc -c; ls /sys/firmware | wc -l; for f in /proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/irq/default_smp_affinity; do \
        echo h > $f && echo WRITTEN $f; done; chmod 700 /proc/kcore && echo CHANGED; exit 0";
    let mode = |path: &str| std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions());
    let before = mode("/dev/null");
    let (_, out, _) = Bundle::new("masks", script).run();
    assert!(out.starts_with("0\n0\n") && !out.contains("WRITTEN"), "{out}");
    assert_eq!(mode("/dev/null"), before, "the host's /dev/null changed");
}

#[test]
fn proc_is_not_mounted_through_a_link() {
    if skipped() {
        return;
    }
    let bundle = Bundle::new("prolink", "true");
    std::fs::create_dir(bundle.rootfs().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("/elsewhere", bundle.rootfs().join("proc")).unwrap();
    let (code, _, err) = bundle.run();
    assert_eq!(code, 1);
    assert!(message(&err).contains("must be mounted on ordinary directory"), "{err}");
}

#[test]
fn mount_targets_stay_in_the_root() {
    if skipped() {
        return;
    }
    let outside = tempfile::tempdir().unwrap();
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("inside"), "").unwrap();
    let mut bundle = Bundle::new("links", "ls /up/here /abs/there");
    let target = outside.path().display().to_string();
    std::os::unix::fs::symlink(
        format!("../../../../../../../../..{target}"),
        bundle.rootfs().join("up"),
    )
    .unwrap();
    std::os::unix::fs::symlink(&target, bundle.rootfs().join("abs")).unwrap();
    for destination in ["/up/here", "/abs/there"] {
        bundle.spec.mounts.push(Mount {
            destination: destination.into(),
            kind: "bind".into(),
            source: source.path().display().to_string(),
            options: vec!["rbind".into()],
        });
    }
    let (code, out, err) = bundle.run();
    assert_eq!(code, 0, "{err}");
    assert_eq!(out.matches("inside").count(), 2);
    assert_eq!(
        std::fs::read_dir(outside.path()).unwrap().count(),
        0,
        "something was made outside"
    );
}

/// CVE-2024-21626: a working directory through a descriptor the runtime left open.
#[test]
fn a_working_directory_on_the_host_is_refused() {
    if skipped() {
        return;
    }
    for number in 3..12 {
        let mut bundle = Bundle::new("cwd", "pwd; ls");
        bundle.process().cwd = format!("/proc/self/fd/{number}");
        let (code, out, _) = bundle.run();
        assert_ne!(code, 0, "descriptor {number}: {out}");
    }
}

/// CVE-2019-5736: the runtime's binary by /proc/self/exe.
#[test]
fn the_binary_cannot_be_reached() {
    if skipped() {
        return;
    }
    use std::io::Read;
    let mut bundle = Bundle::new("exe", "");
    // A script whose interpreter is the runtime itself, as the exploit has it.
    bundle.process().args = vec!["/proc/self/exe".into(), "--version".into()];
    let before = std::fs::metadata(common::BINARY).unwrap().modified().unwrap();
    let (_, out, err) = bundle.run();
    assert!(out.contains("runc version") || err.contains("exec"), "{out} {err}");
    assert_eq!(std::fs::metadata(common::BINARY).unwrap().modified().unwrap(), before);
    // While an init waits to be started, its executable is a sealed copy, or the file behind a mount that is read-only
    // and has no place in any tree (its path then starts at that mount).
    let bundle = Bundle::new("exe2", "true");
    bundle.write();
    assert!(
        bundle
            .ours(&["create", "--pid-file", "pid", &bundle.id])
            .status
            .success()
    );
    let pid = std::fs::read_to_string(bundle.path().join("pid")).unwrap();
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    let copied = exe.display().to_string().starts_with("/memfd:");
    let apart = exe.parent() == Some(std::path::Path::new("/"));
    assert!(copied || apart, "{exe:?}");
    let mut file = std::fs::File::open(format!("/proc/{pid}/exe")).unwrap();
    file.read_exact(&mut [0; 4]).unwrap();
    let writable = std::fs::OpenOptions::new().write(true).open(format!("/proc/{pid}/exe"));
    match writable {
        Ok(mut file) => assert!(copied && std::io::Write::write(&mut file, b"x").is_err()),
        // EROFS whoever runs it; ETXTBSY would end with the last process.
        Err(e) => assert!(copied || e.raw_os_error() == Some(30), "{e}"),
    }
}

#[test]
fn devices_are_closed() {
    if skipped() {
        return;
    }
    let script = "mknod /tmp/kmsg c 1 11 && head -c 1 /tmp/kmsg && echo READ; mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk && echo READ; \
        head -c 2 /dev/zero | wc -c; echo x > /dev/null && echo null; exit 0";
    let (_, out, err) = Bundle::new("devices", script).run();
    assert_eq!(out, "2\nnull\n", "{err}");
}

#[test]
fn seccomp_refuses() {
    if skipped() {
        return;
    }
    let mut bundle = Bundle::new("seccomp", "mount -t tmpfs x /tmp 2>&1; unshare -U true 2>&1; exit 0");
    let unshare = bundle.rootfs().join("bin/unshare");
    std::os::unix::fs::symlink("busybox", unshare).unwrap();
    bundle
        .process()
        .capabilities
        .as_mut()
        .unwrap()
        .bounding
        .push("CAP_SYS_ADMIN".into());
    bundle
        .process()
        .capabilities
        .as_mut()
        .unwrap()
        .effective
        .push("CAP_SYS_ADMIN".into());
    bundle
        .process()
        .capabilities
        .as_mut()
        .unwrap()
        .permitted
        .push("CAP_SYS_ADMIN".into());
    let (_, out, _) = bundle.run();
    assert_eq!(
        out.matches("ermission denied").count() + out.matches("not permitted").count(),
        2,
        "{out}"
    );
}
