//! The runtime's command line on a real kernel, compared with runc where it is installed.

mod common;

use common::{Bundle, message, oracle_missing, skipped, text};
use oci::runtime::{ConsoleSize, IdMapping, Mount, Namespace, NamespaceKind, Rlimit};

/// What a container can see of itself, without what differs by chance.
const LOOK: &str = "id; cat /proc/self/status | grep -E 'Cap|NoNew|Seccomp:'; hostname; env | sort; pwd; ls /dev; \
    ls -l /proc/self/fd | wc -l; cat /proc/self/oom_score_adj; cat /proc/self/cgroup; cat /proc/self/limits; \
    stat -c '%a %t %T %n' /dev/null /dev/tty /dev/shm /dev/pts/ptmx; echo x > /proc/sys/kernel/hostname; \
    cat /proc/keys | wc -c; mknod /tmp/mem c 1 1 && cat /tmp/mem | head -c 1; cat /dev/zero | head -c 3 | wc -c; \
    mount -t tmpfs x /tmp; cat /proc/self/mountinfo | while read a b c d; do echo $d; done | grep -v /dev/null | grep -v /null";

fn same(bundle: &Bundle) {
    let (code, out, err) = bundle.run();
    let _ = std::fs::remove_file(bundle.rootfs().join("tmp/mem"));
    let (their_code, their_out, their_err) = bundle.run_oracle();
    // runc leaves the v1 tmpfs writable and names two mounts' sources differently: ours is the stricter.
    // On a hybrid machine it also enters the unified hierarchy, which then controls nothing.
    let known = |text: &str| {
        text.lines()
            .filter(|line| {
                !line.contains("/sys/fs/cgroup ")
                    && !line.contains("/sys/fs/cgroup/systemd")
                    && !line.starts_with("0::")
            })
            .map(|line| format!("{line}\n"))
            .collect::<String>()
    };
    assert_eq!(known(&out), known(&their_out));
    assert_eq!(err, their_err);
    assert_eq!(code, their_code);
}

#[test]
fn looks_like_runc() {
    if skipped() || oracle_missing() {
        return;
    }
    let mut bundle = Bundle::new("look", LOOK);
    bundle.process().rlimits.push(Rlimit {
        kind: "RLIMIT_NOFILE".into(),
        soft: 100,
        hard: 200,
    });
    same(&bundle);
}

#[test]
fn another_user_looks_like_runc() {
    if skipped() || oracle_missing() {
        return;
    }
    let mut bundle = Bundle::new("user", LOOK);
    let process = bundle.process();
    process.user.uid = 1000;
    process.user.gid = 1000;
    process.user.additional_gids = vec![5, 77];
    process.no_new_privileges = true;
    process.cwd = "/data".into();
    bundle.spec.root.as_mut().unwrap().readonly = true;
    same(&bundle);
}

#[test]
fn ambient_capabilities_look_like_runc() {
    if skipped() || oracle_missing() {
        return;
    }
    let mut bundle = Bundle::new("ambient", LOOK);
    let process = bundle.process();
    process.user.uid = 1000;
    let capabilities = process.capabilities.as_mut().unwrap();
    capabilities.inheritable = vec!["CAP_NET_RAW".into()];
    capabilities.ambient = vec!["CAP_NET_RAW".into()];
    same(&bundle);
}

#[test]
fn mounts_look_like_runc() {
    if skipped() || oracle_missing() {
        return;
    }
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("f"), "content").unwrap();
    let path = source.path().display().to_string();
    let mut bundle = Bundle::new(
        "mounts",
        "cat /a/f /deep/er/f; echo y > /a/f; echo -n content > /rw/f && cat /rw/f; cat /data/file; echo t > /data/file && cat /data/file; \
         ls /link/; cat /one/file; cat /proc/self/mountinfo | while read a b c d e; do echo $e; done | grep -E ' /(a|deep|rw|data|one|run)'",
    );
    std::os::unix::fs::symlink("/run/target", bundle.rootfs().join("link")).unwrap();
    let mut bind = |destination: &str, source: &str, options: &[&str]| {
        bundle.spec.mounts.push(Mount {
            destination: destination.into(),
            kind: "bind".into(),
            source: source.into(),
            options: options.iter().map(|o| (*o).to_owned()).collect(),
        });
    };
    bind("/a", &path, &["rbind", "ro", "nosuid"]);
    bind("/deep/er", &path, &["bind", "rprivate"]);
    bind("/rw", &path, &["rbind", "rslave", "noexec"]);
    bind("/link", &path, &["rbind"]);
    bind("/one/file", &format!("{path}/f"), &["bind"]);
    bundle.spec.mounts.push(Mount {
        destination: "/data".into(),
        kind: "tmpfs".into(),
        source: "tmpfs".into(),
        options: vec!["tmpcopyup".into(), "size=1m".into()],
    });
    same(&bundle);
}

#[test]
fn errors_are_runcs() {
    if skipped() || oracle_missing() {
        return;
    }
    let mut bundle = Bundle::new("errors", "true");
    std::fs::write(bundle.rootfs().join("etc/plain"), "").unwrap();
    for program in ["nosuch", "/nosuch", "/etc/plain", "/etc"] {
        bundle.process().args = vec![program.into()];
        let (code, _, err) = bundle.run();
        let (their_code, _, their_err) = bundle.run_oracle();
        if program == "/etc" {
            // Go 1.20 turned "permission denied" into this.
            assert!(message(&err).ends_with("exec: \"/etc\": is a directory"), "{err}");
        } else {
            assert_eq!(message(&err), message(&their_err), "{program}");
        }
        assert_eq!(code, their_code, "{program}");
    }
    bundle.process().args = vec!["true".into()];
    bundle.process().cwd = "/etc/plain".into();
    assert_eq!(message(&bundle.run().2), message(&bundle.run_oracle().2));
    for args in [
        &["start", "nosuch"][..],
        &["state", "nosuch"],
        &["kill", "nosuch", "KILL"],
        &["delete", "nosuch"],
    ] {
        let ours = text(&bundle.ours(args));
        let theirs = text(&bundle.command("/usr/sbin/runc", args));
        assert_eq!((ours.0, message(&ours.2)), (theirs.0, message(&theirs.2)), "{args:?}");
    }
}

#[test]
fn a_bad_binary_fails_when_it_starts() {
    if skipped() || oracle_missing() {
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let mut bundle = Bundle::new("enoexec", "");
    let file = bundle.rootfs().join("bin/bad");
    std::fs::write(&file, "\x7fELFnonsense").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    bundle.process().args = vec!["/bin/bad".into()];
    let ours = bundle.run();
    let theirs = bundle.run_oracle();
    assert!(ours.2.contains("exec /bin/bad: exec format error"), "{ours:?}");
    assert!(theirs.2.contains("exec format error"), "{theirs:?}");
    assert_eq!(ours.0, theirs.0);
}

#[test]
fn exit_codes() {
    if skipped() {
        return;
    }
    for (script, code) in [("exit 7", 7), ("kill -9 $$; sleep 1; exit 3", 3), ("true", 0)] {
        assert_eq!(Bundle::new("exit", script).run().0, code, "{script}");
    }
}

#[test]
fn a_life() {
    if skipped() {
        return;
    }
    let bundle = Bundle::new("life", "trap 'exit 5' TERM; while true; do sleep 0.05; done");
    bundle.write();
    let id = bundle.id.as_str();
    let ok = |args: &[&str]| {
        let output = text(&bundle.ours(args));
        assert_eq!(output.0, 0, "{args:?}: {output:?}");
        output.1
    };
    let status = || {
        let state: serde_json::Value = serde_json::from_str(&ok(&["state", id])).unwrap();
        state["status"].as_str().unwrap().to_owned()
    };
    ok(&["create", "--pid-file", "pid", id]);
    assert_eq!(status(), "created");
    let again = text(&bundle.ours(&["create", id]));
    assert!(
        message(&again.2).ends_with("container with given ID already exists"),
        "{again:?}"
    );
    ok(&["start", id]);
    assert_eq!(status(), "running");
    assert!(message(&text(&bundle.ours(&["start", id])).2).contains("cannot start an already running container"));
    let pid = std::fs::read_to_string(bundle.path().join("pid")).unwrap();
    assert!(ok(&["ps", "--format", "json", id]).contains(&pid));
    ok(&["pause", id]);
    assert_eq!(status(), "paused");
    assert_eq!(text(&bundle.ours(&["exec", id, "true"])).0, 255);
    ok(&["resume", id]);
    assert_eq!(ok(&["exec", id, "echo", "hi"]), "hi\n");
    assert_eq!(text(&bundle.ours(&["exec", id, "sh", "-c", "exit 9"])).0, 9);
    let failed = text(&bundle.ours(&["exec", id, "nosuch"]));
    assert_eq!(failed.0, 255);
    assert!(
        message(&failed.2).ends_with("exec: \"nosuch\": executable file not found in $PATH"),
        "{failed:?}"
    );
    assert_eq!(
        ok(&[
            "exec",
            "-u",
            "1000:1000",
            "-e",
            "A=b",
            "--cwd",
            "/data",
            id,
            "sh",
            "-c",
            "id -u; id -g; echo $A; pwd; grep -c . /proc/1/cgroup"
        ])
        .lines()
        .take(4)
        .collect::<Vec<_>>(),
        ["1000", "1000", "b", "/data"]
    );
    ok(&["update", "--memory", "32m", "--pids-limit", "50", id]);
    let limit = ok(&["exec", id, "cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]);
    assert_eq!(limit.trim(), (32 << 20).to_string());
    let stats: serde_json::Value = serde_json::from_str(&ok(&["events", "--stats", id])).unwrap();
    assert_eq!(stats["data"]["memory"]["usage"]["limit"], 32 << 20);
    assert_eq!(stats["data"]["pids"]["limit"], 50);
    assert!(stats["data"]["cpu"]["usage"]["total"].as_u64().unwrap() > 0);
    assert!(ok(&["list", "-q"]).contains(id));
    let refused = text(&bundle.ours(&["delete", id]));
    assert!(
        message(&refused.2).contains("that is not stopped: running"),
        "{refused:?}"
    );
    ok(&["kill", id, "TERM"]);
    for _ in 0..100 {
        if status() == "stopped" {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(status(), "stopped");
    ok(&["delete", id]);
    assert_eq!(text(&bundle.ours(&["state", id])).0, 1);
}

#[test]
fn a_network_namespace_by_path() {
    if skipped() {
        return;
    }
    let script = "cat /proc/net/dev | wc -l; readlink /proc/self/ns/net || ls -l /proc/self/ns/net";
    let owner = std::process::Command::new("unshare")
        .args(["-n", "sleep", "20"])
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    let path = format!("/proc/{}/ns/net", owner.id());
    let expected = std::fs::read_link(&path).unwrap().display().to_string();
    let mut bundle = Bundle::new("netns", script);
    for namespace in &mut bundle.linux().namespaces {
        if namespace.kind == NamespaceKind::Network {
            namespace.path.clone_from(&path);
        }
    }
    let (code, out, err) = bundle.run();
    let mut owner = owner;
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert_eq!(code, 0, "{err}");
    assert!(out.contains(&expected), "{out} has no {expected}");
}

#[test]
fn a_user_namespace() {
    if skipped() {
        return;
    }
    let mut bundle = Bundle::new(
        "userns",
        "id -u; cat /proc/self/uid_map; ls -l /dev/null; echo x > /dev/null && echo written; cat /proc/self/cgroup",
    );
    let mapping = IdMapping {
        container_id: 0,
        host_id: 100_000,
        size: 65_536,
    };
    let linux = bundle.linux();
    linux.uid_mappings = vec![mapping.clone()];
    linux.gid_mappings = vec![mapping];
    for kind in [NamespaceKind::User, NamespaceKind::Cgroup] {
        linux.namespaces.push(Namespace {
            kind,
            path: String::new(),
        });
    }
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(bundle.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let chown = std::process::Command::new("chown")
        .args(["-R", "100000:100000"])
        .arg(bundle.rootfs())
        .status()
        .unwrap();
    assert!(chown.success());
    let (code, out, err) = bundle.run();
    assert_eq!(code, 0, "{err}");
    assert!(
        out.starts_with("0\n") && out.contains("100000") && out.contains("written") && out.contains("memory:/\n"),
        "{out}"
    );
}

#[test]
fn a_terminal() {
    if skipped() {
        return;
    }
    let mut bundle = Bundle::new("tty", "tty; stty size; test -c /dev/console && echo console; exit 4");
    bundle.process().terminal = true;
    bundle.process().console_size = Some(ConsoleSize { height: 33, width: 77 });
    let (code, out, err) = bundle.run();
    assert_eq!(code, 4, "{err}");
    assert_eq!(out, "/dev/pts/0\r\n33 77\r\nconsole\r\n");
}

#[test]
fn sysctls_follow_namespaces() {
    if skipped() {
        return;
    }
    let mut bundle = Bundle::new("sysctl", "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax");
    let before = std::fs::read_to_string("/proc/sys/kernel/msgmax").unwrap();
    bundle.linux().sysctl.insert("net.ipv4.ip_forward".into(), "1".into());
    bundle.linux().sysctl.insert("kernel.msgmax".into(), "4242".into());
    assert_eq!(bundle.run().1, "1\n4242\n");
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/msgmax").unwrap(), before);
    bundle.linux().sysctl.insert("kernel.panic".into(), "1".into());
    assert!(message(&bundle.run().2).contains("sysctl \"kernel.panic\" is not in a separate kernel namespace"));
}

#[test]
fn hooks_run_in_order() {
    if skipped() {
        return;
    }
    let mut bundle = Bundle::new("hooks", "cat /hook-made");
    let log = bundle.path().join("hooks.log");
    let made = bundle.rootfs().join("hook-made");
    let hook = |moment: &str| oci::runtime::Hook {
        path: "/bin/sh".into(),
        args: vec![
            "sh".into(),
            "-c".into(),
            format!(
                "echo {moment} $(cat | tr ',' '\\n' | grep status) >> {}; echo made > {}",
                log.display(),
                made.display()
            ),
        ],
        env: vec!["PATH=/usr/bin:/bin".into()],
        timeout: Some(10),
    };
    bundle.spec.hooks = Some(oci::runtime::Hooks {
        prestart: vec![hook("prestart")],
        create_runtime: vec![hook("createRuntime")],
        poststart: vec![hook("poststart")],
        poststop: vec![hook("poststop")],
        ..oci::runtime::Hooks::default()
    });
    let (code, out, err) = bundle.run();
    assert_eq!((code, out.as_str()), (0, "made\n"), "{err}");
    let text = std::fs::read_to_string(&log).unwrap();
    let moments: Vec<&str> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(
        moments,
        ["prestart", "createRuntime", "poststart", "poststop"],
        "{text}"
    );
    assert!(text.contains("prestart \"status\":\"creating\""), "{text}");
}

#[test]
fn a_failing_hook_is_an_error_and_leaves_nothing() {
    if skipped() {
        return;
    }
    let mut bundle = Bundle::new("badhook", "true");
    let hook = oci::runtime::Hook {
        path: "/bin/false".into(),
        ..oci::runtime::Hook::default()
    };
    bundle.spec.hooks = Some(oci::runtime::Hooks {
        prestart: vec![hook],
        ..oci::runtime::Hooks::default()
    });
    let (code, _, err) = bundle.run();
    assert_eq!(code, 1);
    assert!(
        message(&err).contains("error running prestart hook #0: exit status 1"),
        "{err}"
    );
    assert_eq!(text(&bundle.ours(&["list", "-q"])).1, "");
}
