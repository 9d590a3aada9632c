//! A busybox bundle in a temporary directory, and what tests do with it. Needs root and a static `/bin/busybox`.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use oci::runtime::{
    Capabilities, DeviceRule, Linux, Memory, Mount, Namespace, NamespaceKind, Process, Resources, Root, Spec,
};

pub const BINARY: &str = env!("CARGO_BIN_EXE_balena-runtime-testbin");
const ORACLE: &str = "/usr/sbin/runc";

/// Why these tests cannot run here, said once per test.
pub fn skipped() -> bool {
    let why = if !rustix::process::geteuid().is_root() {
        "not root"
    } else if !Path::new("/bin/busybox").exists() {
        "no /bin/busybox"
    } else {
        return false;
    };
    println!("skipped: {why}");
    true
}

pub fn oracle_missing() -> bool {
    let missing = !Path::new(ORACLE).exists();
    if missing {
        println!("skipped: no {ORACLE} to compare with");
    }
    missing
}

pub struct Bundle {
    pub directory: tempfile::TempDir,
    pub spec: Spec,
    pub id: String,
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn mount(destination: &str, kind: &str, source: &str, options: &str) -> Mount {
    Mount {
        destination: destination.into(),
        kind: kind.into(),
        source: source.into(),
        options: words(options),
    }
}

impl Bundle {
    /// A bundle that runs `sh -c script`, set up as Docker would.
    pub fn new(name: &str, script: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bin = directory.path().join("rootfs/bin");
        std::fs::create_dir_all(&bin).unwrap();
        for dir in ["etc", "tmp", "root", "data"] {
            std::fs::create_dir(directory.path().join("rootfs").join(dir)).unwrap();
        }
        std::fs::write(
            directory.path().join("rootfs/etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/data:/bin/sh\n",
        )
        .unwrap();
        std::fs::write(directory.path().join("rootfs/data/file"), "original").unwrap();
        std::fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
        for applet in words(
            "sh true false cat ls id mount echo sleep env stat ps kill grep head touch mkdir ln dd tr sort hostname mknod umount pwd wc tty stty chmod",
        ) {
            std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
        }
        let capabilities = words(
            "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FSETID CAP_FOWNER CAP_MKNOD CAP_NET_RAW CAP_SETGID CAP_SETUID CAP_SETFCAP \
             CAP_SETPCAP CAP_NET_BIND_SERVICE CAP_SYS_CHROOT CAP_KILL CAP_AUDIT_WRITE",
        );
        let own = |kind| Namespace {
            kind,
            path: String::new(),
        };
        let id = format!("balena-test-{name}-{}", std::process::id());
        let spec = Spec {
            oci_version: "1.0.2".into(),
            process: Some(Process {
                args: vec!["sh".into(), "-c".into(), script.into()],
                env: words("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
                cwd: "/".into(),
                capabilities: Some(Capabilities {
                    bounding: capabilities.clone(),
                    effective: capabilities.clone(),
                    permitted: capabilities.clone(),
                    ..Capabilities::default()
                }),
                ..Process::default()
            }),
            root: Some(Root {
                path: "rootfs".into(),
                readonly: false,
            }),
            hostname: "test".into(),
            mounts: vec![
                mount("/proc", "proc", "proc", "nosuid noexec nodev"),
                mount("/dev", "tmpfs", "tmpfs", "nosuid strictatime mode=755 size=65536k"),
                mount(
                    "/dev/pts",
                    "devpts",
                    "devpts",
                    "nosuid noexec newinstance ptmxmode=0666 mode=0620 gid=5",
                ),
                mount("/sys", "sysfs", "sysfs", "nosuid noexec nodev ro"),
                mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro nosuid noexec nodev"),
                mount("/dev/mqueue", "mqueue", "mqueue", "nosuid noexec nodev"),
                mount("/dev/shm", "tmpfs", "shm", "nosuid noexec nodev mode=1777 size=65536k"),
            ],
            linux: Some(Linux {
                namespaces: [
                    NamespaceKind::Pid,
                    NamespaceKind::Network,
                    NamespaceKind::Ipc,
                    NamespaceKind::Uts,
                    NamespaceKind::Mount,
                ]
                .map(own)
                .to_vec(),
                cgroups_path: format!("/{id}"),
                resources: Some(Resources {
                    devices: vec![DeviceRule {
                        allow: false,
                        access: "rwm".into(),
                        ..DeviceRule::default()
                    }],
                    memory: Some(Memory {
                        limit: Some(64 << 20),
                        ..Memory::default()
                    }),
                    ..Resources::default()
                }),
                masked_paths: words("/proc/acpi /proc/kcore /proc/keys /proc/timer_list /sys/firmware"),
                readonly_paths: words("/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger"),
                seccomp: Some(runtime::seccomp::docker_default(&capabilities)),
                ..Linux::default()
            }),
            ..Spec::default()
        };
        Self { directory, spec, id }
    }

    pub fn process(&mut self) -> &mut Process {
        self.spec.process.as_mut().unwrap()
    }

    pub fn linux(&mut self) -> &mut Linux {
        self.spec.linux.as_mut().unwrap()
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn rootfs(&self) -> PathBuf {
        self.path().join("rootfs")
    }

    pub fn root(&self) -> PathBuf {
        self.path().join("run")
    }

    pub fn write(&self) {
        std::fs::write(self.path().join("config.json"), json::to_vec(&self.spec)).unwrap();
    }

    /// A runtime command; never for longer than 20 seconds.
    pub fn command(&self, program: &str, args: &[&str]) -> Output {
        // Files, not pipes: a container that is only created keeps its ends open.
        let (mut out, mut err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let status = Command::new("timeout")
            .args(["-k", "1", "20", program, "--root"])
            .arg(self.root())
            .args(args)
            .current_dir(self.path())
            .stdin(std::process::Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(err.try_clone().unwrap())
            .status()
            .unwrap();
        let read = |file: &mut std::fs::File| {
            use std::io::{Read, Seek};
            let mut bytes = Vec::new();
            file.rewind().unwrap();
            file.read_to_end(&mut bytes).unwrap();
            bytes
        };
        Output {
            status,
            stdout: read(&mut out),
            stderr: read(&mut err),
        }
    }

    pub fn ours(&self, args: &[&str]) -> Output {
        self.command(BINARY, args)
    }

    /// `run` in ours: (exit code, stdout, stderr).
    pub fn run(&self) -> (i32, String, String) {
        self.write();
        text(&self.ours(&["run", &self.id]))
    }

    /// The same in runc.
    pub fn run_oracle(&self) -> (i32, String, String) {
        self.write();
        text(&self.command(ORACLE, &["run", &self.id]))
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let left = self.ours(&["delete", "--force", &self.id]);
        let _ = left;
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let cgroups = ["memory", "pids", "devices", "freezer"]
            .iter()
            .any(|name| Path::new("/sys/fs/cgroup").join(name).join(&self.id).exists());
        if !std::thread::panicking() {
            assert!(
                !mounts.contains(&*self.path().display().to_string()),
                "mounts left behind"
            );
            assert!(!cgroups, "cgroups left behind");
        }
    }
}

pub fn text(output: &Output) -> (i32, String, String) {
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// The message of a logrus line.
pub fn message(stderr: &str) -> String {
    let line = stderr
        .lines()
        .find(|line| line.contains("level=error"))
        .unwrap_or(stderr);
    let quoted = line.split_once("msg=").map_or(line, |(_, text)| text);
    serde_json::from_str(quoted).unwrap_or_else(|_| quoted.to_owned())
}
