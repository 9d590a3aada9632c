//! The same commands against Debian's Docker and against ours, by the real client: same output, same exit code.

use tests::{Client, Daemon, Kind, Ran, ground};

/// Both daemons in one network would quarrel over nothing: Docker gets none.
fn pair(g: &tests::Ground) -> Option<[Daemon; 2]> {
    if !ground::there("dockerd") {
        println!("skipped: no dockerd to compare with: `cargo xtask setup` installs it");
        return None;
    }
    let theirs = g.start(Kind::Docker, &["--bridge=none", "--iptables=false"]);
    let ours = g.start(Kind::Ours, &["--bridge=none", "--iptables=false"]);
    for daemon in [&theirs, &ours] {
        let docker = daemon.docker();
        docker.ok(&["pull", "-q", &g.busybox]);
        docker.ok(&["tag", &g.busybox, "busybox"]);
    }
    Some([theirs, ours])
}

/// Runs each line on both and collects where they differ. Standard error is compared where `errors` says so: words
/// of newer versions differ.
fn differences(clients: &[Client; 2], lines: &[&[&str]], errors: bool) -> Vec<String> {
    let mut different = Vec::new();
    for line in lines {
        let [theirs, ours]: [Ran; 2] = clients.each_ref().map(|client| client.run(line));
        let same = theirs.out == ours.out && theirs.code == ours.code && (!errors || theirs.err == ours.err);
        if !same {
            different.push(format!("{}\n  Docker: {theirs:?}\n  ours:   {ours:?}", line.join(" ")));
        }
    }
    different
}

#[test]
fn what_containers_say() {
    ground::run(|g| {
        let Some(daemons) = pair(g) else { return };
        let clients = daemons.each_ref().map(Daemon::docker);
        let see = |script| {
            [
                "run",
                "--rm",
                "--network",
                "none",
                "--hostname",
                "h",
                "busybox",
                "sh",
                "-c",
                script,
            ]
        };
        // Left out, because Docker 28 differs from the 20.10 that is compared with here: /proc/interrupts is masked,
        // /dev/net/tun is no default device, ::1 is there, fe00::0 is written fe00::. And of ours: the tmpfs above
        // the cgroups is read-only.
        let scripts = [
            "cat /proc/self/status | grep -E 'Cap|NoNewPrivs|Seccomp:'",
            "env | sort",
            "ls -la /dev | awk '{print $1, $3, $4, $5, $6}' | sort",
            "mount | awk '{print $3, $5}' | grep -v -E '^/ |/etc/|/proc/interrupts'",
            "mount | grep -E ' /(proc|sys|dev)' | grep -v -E 'cgroup type tmpfs|/proc/interrupts' | sed 's/size=[0-9]*k,*//'",
            "sed s/::0/::/ /etc/hosts; cat /etc/hostname; pwd; id; umask; ulimit -a",
            "ls -ld /proc/kcore /proc/keys /proc/timer_list /sys/firmware; cat /proc/kcore | wc -c",
            "echo 1 > /proc/sys/kernel/domainname",
            "mount -t tmpfs x /tmp; unshare -m true; echo $?",
            "ls /sys/fs/cgroup; grep -v ^0: /proc/self/cgroup | sed 's/[0-9a-f]\\{64\\}/ID/g'",
            "cat /proc/1/oom_score_adj /proc/self/limits",
            "ip link; cat /proc/net/route",
            "readlink /dev/fd /dev/stdin /dev/core /dev/ptmx; ls -la /dev/shm /dev/mqueue",
            "dmesg >/dev/null; echo $?; date -s 2001-01-01; mknod /tmp/n b 8 0; echo $?; dd if=/tmp/n of=/dev/null count=1",
        ];
        let mut lines: Vec<Vec<&str>> = scripts.iter().map(|script| see(script).to_vec()).collect();
        for (options, script) in [
            (
                &["--cap-add", "SYS_ADMIN"][..],
                "grep CapEff /proc/self/status; mount -t tmpfs x /tmp; echo $?",
            ),
            (
                &["--read-only", "--tmpfs", "/run"],
                "touch /x /run/x; echo $?; mount | grep ' /run '",
            ),
            (
                &["-u", "1000"],
                "id; echo $HOME; grep CapEff /proc/self/status; touch /x; echo $?",
            ),
            (
                &["-u", "user:users", "-w", "/made/here"],
                "id; pwd; ls -ld /made/here | awk '{print $1, $3}'",
            ),
            (
                &["--memory", "64m", "--memory-swap", "64m"],
                "cat /sys/fs/cgroup/memory/memory.limit_in_bytes",
            ),
            (
                &["--cpu-shares", "512", "--cpuset-cpus", "0"],
                "cat /sys/fs/cgroup/cpu/cpu.shares /sys/fs/cgroup/cpuset/cpuset.cpus",
            ),
            (
                &["--ulimit", "core=0", "--oom-score-adj", "500"],
                "ulimit -c; cat /proc/self/oom_score_adj",
            ),
            (
                &["--device", "/dev/loop-control", "--device-cgroup-rule", "c 5:* r"],
                "ls /dev/loop-control; sort /sys/fs/cgroup/devices/devices.list | grep -v 10:200",
            ),
            (&["--shm-size", "1m"], "df -k /dev/shm | tail -1 | awk '{print $2}'"),
            (
                &["--ipc", "host", "--pid", "host", "--uts", "host"],
                "test -d /proc/1 && readlink /proc/self/ns/ipc /proc/self/ns/pid /proc/self/ns/uts",
            ),
            (
                &["--security-opt", "seccomp=unconfined"],
                "grep Seccomp: /proc/self/status",
            ),
            (
                &["--dns", "1.2.3.4", "--dns-search", "s", "--dns-option", "ndots:3"],
                "cat /etc/resolv.conf",
            ),
        ] {
            lines.push(
                [
                    &["run", "--rm", "--network", "none"],
                    options,
                    &["busybox", "sh", "-c", script],
                ]
                .concat(),
            );
        }
        let lines: Vec<&[&str]> = lines.iter().map(Vec::as_slice).collect();
        let different = differences(&clients, &lines, true);
        assert!(different.is_empty(), "{}", different.join("\n"));
    });
}

#[test]
fn what_the_daemon_says() {
    ground::run(|g| {
        let Some(daemons) = pair(g) else { return };
        let clients = daemons.each_ref().map(Daemon::docker);
        for client in &clients {
            client.ok(&[
                "create",
                "--name",
                "full",
                "-e",
                "A=1",
                "--label",
                "l=1",
                "-v",
                "/anon",
                "-p",
                "8080:80",
                "--restart",
                "always",
                "--memory",
                "1g",
                "busybox",
                "sh",
                "-c",
                "echo 1",
            ]);
            let ran = client.run(&[
                "run",
                "--name",
                "ended",
                "--network",
                "none",
                "busybox",
                "sh",
                "-c",
                "echo out; exit 3",
            ]);
            assert_eq!(ran.code, 3, "{ran:?}");
        }
        let lines: &[&[&str]] = &[
            &[
                "inspect",
                "-f",
                "{{json .Config.Cmd}} {{json .Config.Entrypoint}} {{json .Config.Env}} {{json .Config.Labels}}",
                "full",
            ],
            &[
                "inspect",
                "-f",
                "{{json .HostConfig.RestartPolicy}} {{json .HostConfig.PortBindings}} {{.HostConfig.Memory}}",
                "full",
            ],
            &[
                "inspect",
                "-f",
                "{{json .Config.Volumes}} {{json .Config.ExposedPorts}} {{.Config.Tty}} {{.Config.OpenStdin}}",
                "full",
            ],
            &[
                "inspect",
                "-f",
                "{{.State.Status}} {{.State.Running}} {{.State.Pid}} {{.State.ExitCode}} {{json .State.Error}}",
                "full",
            ],
            &[
                "inspect",
                "-f",
                "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}",
                "ended",
            ],
            &[
                "inspect",
                "-f",
                "{{.Name}} {{.Path}} {{json .Args}} {{.Driver}} {{.Platform}} {{.RestartCount}}",
                "full",
            ],
            &[
                "inspect",
                "-f",
                "{{.Id}} {{.Architecture}} {{.Os}} {{json .RootFS}} {{json .RepoTags}} {{.Size}}",
                "busybox",
            ],
            &["history", "--format", "{{.CreatedBy}} {{.Size}}", "busybox"],
            &[
                "images",
                "--format",
                "{{.Repository}} {{.Tag}} {{.ID}} {{.Size}}",
                "busybox",
            ],
            &[
                "ps",
                "-a",
                "--format",
                "{{.Names}} {{.Image}} {{.Command}} {{.Ports}} {{.State}}",
            ],
            &["ps", "-aq", "--filter", "status=running"],
            &["logs", "ended"],
            &["port", "full"],
            &["network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}"],
            &["inspect", "no-such-thing"],
            &["start", "no-such-container"],
            &["rmi", "no-such-image"],
            &["logs", "no-such-container"],
            &["exec", "ended", "true"],
            &["kill", "ended"],
            &["create", "--name", "bad/name", "busybox"],
            &["create", "--memory", "1m", "busybox"],
            &["rename", "ended", "full-2"],
            &["rm", "no-such-container"],
        ];
        let different = differences(&clients, lines, false);
        assert!(different.is_empty(), "{}", different.join("\n"));
    });
}
