//! Running containers, by the real client: what is inside, what comes out, which code.

use serde_json::Value;
use std::time::Duration;
use tests::client::within;
use tests::compare::compare;
use tests::{Daemon, ground, http};

fn clean(mut daemon: Daemon) {
    assert_eq!(daemon.left_behind(), Vec::<String>::new());
}

#[test]
fn exit_codes_are_dockers() {
    ground::run(|g| {
        let (daemon, docker) = g.daemon_with_busybox();
        let table: &[(&[&str], i32)] = &[
            (&["busybox", "true"], 0),
            (&["busybox", "sh", "-c", "exit 7"], 7),
            (&["busybox", "no-such-command"], 127),
            (&["busybox", "/etc/not-executable"], 126),
            (&["busybox", "/etc"], 126),
            (&["--no-such-flag", "busybox"], 125),
            (&["--memory=1k", "busybox", "true"], 125),
            // Process 1 is not ended by a signal that it sends to itself; docker-init hands on its child's.
            (&["--init", "busybox", "sh", "-c", "kill -9 $$"], 137),
            (&["--init", "busybox", "sh", "-c", "kill -TERM $$; sleep 5"], 143),
        ];
        for (arguments, code) in table {
            let ran = docker.run(&[&["run", "--rm"], *arguments].concat());
            assert_eq!(ran.code, *code, "{arguments:?}: {}", ran.err);
        }
        let ran = docker.run(&["run", "--rm", "busybox", "no-such-command"]);
        let text = "exec: \"no-such-command\": executable file not found in $PATH";
        assert!(ran.err.contains(text), "{}", ran.err);
        assert_eq!(docker.ok(&["ps", "-aq"]), "");
        clean(daemon);
    });
}

#[test]
fn streams_come_whole_and_apart() {
    ground::run(|g| {
        let (daemon, docker) = g.daemon_with_busybox();
        let ran = docker.run(&["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2"]);
        assert_eq!((ran.out.as_str(), ran.err.as_str()), ("out\n", "err\n"));
        let input: Vec<u8> = b"0123456789abcde\n".repeat(40_000);
        let ran = docker.run_with(&["run", "--rm", "-i", "busybox", "cat"], &input);
        assert_eq!(ran.out.len(), input.len(), "{}", ran.err);
        let ran = docker.run(&["run", "--rm", "busybox", "sh", "-c", "yes | head -c 3000000"]);
        assert_eq!(ran.out.len(), 3_000_000, "{}", ran.err);
        clean(daemon);
    });
}

#[test]
fn options_reach_the_inside() {
    ground::run(|g| {
        let (daemon, docker) = g.daemon_with_busybox();
        let file = daemon.dir().join("env");
        std::fs::write(&file, "FROM_FILE=1\n").unwrap();
        let file = file.display().to_string();
        let table: &[(&[&str], &str, &str)] = &[
            (&["-e", "A=b c"], "echo $A $FROM_IMAGE", "b c yes"),
            (&["--env-file", &file], "echo $FROM_FILE", "1"),
            (&["-w", "/tmp/new"], "pwd", "/tmp/new"),
            (&["-u", "user"], "id -u; id -g", "1000\n1000"),
            (&["-u", "12:34"], "id -u; id -g", "12\n34"),
            (
                &["--hostname", "host1"],
                "hostname; grep -c host1 /etc/hosts",
                "host1\n1",
            ),
            (
                &["--tmpfs", "/scratch:size=1m"],
                "df -k /scratch | tail -1 | awk '{print $2}'",
                "1024",
            ),
            (
                &["--read-only"],
                "touch /x 2>&1 || echo refused",
                "touch: /x: Read-only file system\nrefused",
            ),
            (&["--network", "none"], "ls /sys/class/net", "lo"),
            (
                &["--memory", "32m"],
                "cat /sys/fs/cgroup/memory/memory.limit_in_bytes",
                "33554432",
            ),
            (&["--pids-limit", "50"], "cat /sys/fs/cgroup/pids/pids.max", "50"),
            (&["--cpus", "0.5"], "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000"),
            (
                &["--cap-drop", "ALL"],
                "grep CapEff /proc/self/status",
                "CapEff:\t0000000000000000",
            ),
            (
                &["--cap-drop", "ALL", "--cap-add", "NET_RAW"],
                "grep CapEff /proc/self/status",
                "CapEff:\t0000000000002000",
            ),
            (&[], "grep CapEff /proc/self/status", "CapEff:\t00000000a80425fb"),
            (&[], "grep Seccomp: /proc/self/status", "Seccomp:\t2"),
            (&["--privileged"], "grep Seccomp: /proc/self/status", "Seccomp:\t0"),
            (&["--entrypoint", "echo"], "-", "sh -c -"),
            (&["--init"], "ps -o comm | sed -n 2p", "docker-init"),
            (&["--label", "a=b"], "true", ""),
            (&["--dns", "9.9.9.9"], "cat /etc/resolv.conf", "nameserver 9.9.9.9"),
            (
                &["--add-host", "there:1.2.3.4"],
                "grep -c 1.2.3.4.*there /etc/hosts",
                "1",
            ),
            (&["--ulimit", "nofile=77:88"], "ulimit -n", "77"),
            (
                &["--sysctl", "net.ipv4.ip_unprivileged_port_start=99"],
                "cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
                "99",
            ),
            (
                &["--security-opt", "no-new-privileges"],
                "grep NoNewPrivs /proc/self/status",
                "NoNewPrivs:\t1",
            ),
        ];
        let mut wrong = Vec::new();
        for (options, script, wanted) in table {
            let ran = docker.run(&[&["run", "--rm"], *options, &["busybox", "sh", "-c", script][..]].concat());
            let wanted_code = 0;
            if ran.code != wanted_code || !ran.out.trim().contains(wanted) {
                wrong.push(format!(
                    "{options:?} {script}: {} {:?} {:?}",
                    ran.code, ran.out, ran.err
                ));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        clean(daemon);
    });
}

#[test]
fn volumes_and_binds_keep_what_is_written() {
    ground::run(|g| {
        let (daemon, docker) = g.daemon_with_busybox();
        let bind = daemon.dir().join("bound");
        std::fs::create_dir(&bind).unwrap();
        let bind_option = format!("{}:/b", bind.display());
        docker.ok(&[
            "run",
            "--rm",
            "-v",
            "vol:/v",
            "-v",
            &bind_option,
            "busybox",
            "sh",
            "-c",
            "echo 1 >/v/f; echo 2 >/b/f",
        ]);
        assert_eq!(std::fs::read_to_string(bind.join("f")).unwrap(), "2\n");
        let mount = "type=volume,source=vol,target=/w,readonly";
        let ran = docker.run(&[
            "run",
            "--rm",
            "--mount",
            mount,
            "busybox",
            "sh",
            "-c",
            "cat /w/f; echo 3 >/w/f",
        ]);
        assert_eq!((ran.out.as_str(), ran.code), ("1\n", 1), "{}", ran.err);
        // A new volume begins with what the image has there.
        assert_eq!(
            docker.ok(&["run", "--rm", "-v", "new:/www", "busybox", "cat", "/www/index.html"]),
            "It runs."
        );
        assert_eq!(
            docker.ok(&["volume", "ls", "-q"]).lines().collect::<Vec<_>>(),
            ["new", "vol"]
        );
        // An anonymous one ends with --rm.
        docker.ok(&["run", "--rm", "-v", "/anonymous", "busybox", "true"]);
        assert_eq!(docker.ok(&["volume", "ls", "-q"]).lines().count(), 2);
        let ran = docker.run(&[
            "run",
            "--rm",
            "--mount",
            "type=bind,source=/no/such,target=/y",
            "busybox",
            "true",
        ]);
        assert_eq!(ran.code, 125);
        assert!(
            ran.err.contains("bind source path does not exist: /no/such"),
            "{}",
            ran.err
        );
        docker.ok(&["volume", "rm", "vol", "new"]);
        clean(daemon);
    });
}

#[test]
fn a_published_port_answers() {
    ground::run(|g| {
        let (daemon, docker) = g.daemon_with_busybox();
        let port = tests::registry::free_port().unwrap();
        let publish = format!("{port}:80");
        docker.ok(&[
            "run", "-d", "--name", "web", "-p", &publish, "busybox", "httpd", "-f", "-h", "/www",
        ]);
        let page = |address: String| {
            let mut body = String::new();
            within(Duration::from_secs(5), || {
                let answer = http::at(&address, "GET", "/", &[], b"");
                body = answer.map_or_else(|e| e.to_string(), |answer| answer.text());
                body == "It runs.\n"
            });
            body
        };
        assert_eq!(page(format!("127.0.0.1:{port}")), "It runs.\n");
        let ip = docker.ok(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web"]);
        assert_eq!(page(format!("{ip}:80")), "It runs.\n", "{ip}");
        let gateway = docker.ok(&["inspect", "-f", "{{.NetworkSettings.Gateway}}", "web"]);
        assert_eq!(page(format!("{gateway}:{port}")), "It runs.\n", "{gateway}");
        // By IPv6 too, where the machine has it, with one process that ends with the container.
        assert_eq!(page(format!("[::1]:{port}")), "It runs.\n");
        assert_eq!(
            docker.ok(&["port", "web"]),
            format!("80/tcp -> 0.0.0.0:{port}\n80/tcp -> [::]:{port}")
        );
        // From container to container.
        let url = format!("http://{ip}/");
        assert_eq!(docker.ok(&["run", "--rm", "busybox", "wget", "-qO-", &url]), "It runs.");
        // The port is taken: Docker's words, and the container stays, not started.
        let ran = docker.run(&["run", "-d", "--name", "second", "-p", &publish, "busybox", "sleep", "9"]);
        assert_eq!(ran.code, 125);
        assert!(ran.err.contains("port is already allocated"), "{}", ran.err);
        assert_eq!(docker.ok(&["inspect", "-f", "{{.State.Status}}", "second"]), "created");
        docker.ok(&["rm", "-f", "web", "second"]);
        assert!(
            http::local(port, "GET", "/", &[], b"").is_err(),
            "the port still answers"
        );
        clean(daemon);
    });
}

#[test]
fn host_network_is_the_hosts() {
    ground::run(|g| {
        let (daemon, docker) = g.daemon_with_busybox();
        let port = tests::registry::free_port().unwrap().to_string();
        docker.ok(&[
            "run",
            "-d",
            "--network",
            "host",
            "busybox",
            "httpd",
            "-f",
            "-p",
            &port,
            "-h",
            "/www",
        ]);
        let answers =
            || http::local(port.parse().unwrap(), "GET", "/", &[], b"").is_ok_and(|a| a.text() == "It runs.\n");
        assert!(within(Duration::from_secs(5), answers));
        clean(daemon);
    });
}

#[test]
fn what_inspect_says_is_true() {
    ground::run(|g| {
        let (daemon, docker) = g.daemon_with_busybox();
        let cidfile = daemon.dir().join("cid");
        let cid = cidfile.display().to_string();
        let id = docker.ok(&[
            "run",
            "-d",
            "--cidfile",
            &cid,
            "--name",
            "it",
            "--restart",
            "on-failure:3",
            "--label",
            "k=v",
            "busybox",
            "sleep",
            "60",
        ]);
        assert_eq!(std::fs::read_to_string(&cidfile).unwrap(), id);
        let all: Value = serde_json::from_str(&docker.ok(&["inspect", "it"])).unwrap();
        let it = &all[0];
        assert_eq!(it["Id"], id.as_str());
        assert_eq!(it["Name"], "/it");
        assert_eq!(it["State"]["Status"], "running");
        assert_eq!(it["State"]["Running"], true);
        assert_eq!(it["HostConfig"]["RestartPolicy"]["Name"], "on-failure");
        assert_eq!(it["HostConfig"]["RestartPolicy"]["MaximumRetryCount"], 3);
        assert_eq!(it["Config"]["Labels"]["k"], "v");
        let pid = it["State"]["Pid"].as_u64().unwrap();
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        assert_eq!(line, "sleep\x0060\0");
        let listed = docker.ok(&["ps", "--format", "{{.Names}} {{.Image}} {{.Command}} {{.State}}"]);
        assert_eq!(listed, "it busybox \"sleep 60\" running");
        let top = docker.ok(&["top", "it"]);
        assert!(top.contains("sleep 60"), "{top}");
        clean(daemon);
    });
}

#[test]
fn names_conflict() {
    ground::run(|g| {
        let (daemon, docker) = g.daemon_with_busybox();
        let id = docker.ok(&["create", "--name", "one", "busybox"]);
        let ran = docker.run(&["create", "--name", "one", "busybox"]);
        let text = format!("Conflict. The container name \"/one\" is already in use by container \"{id}\"");
        assert!(ran.code == 1 && ran.err.contains(&text), "{ran:?}");
        let answer = daemon.api("POST", "/containers/create?name=one", r#"{"Image":"busybox"}"#);
        assert_eq!(answer.status, 409);
        docker.ok(&["rm", "one"]);
        docker.ok(&["create", "--name", "one", "busybox"]);
        clean(daemon);
    });
}

#[test]
fn bad_requests_are_400_and_unknown_ones_404() {
    ground::run(|g| {
        let (daemon, _docker) = g.daemon_with_busybox();
        let table = [
            ("POST", "/v1.41/containers/create", "{", 400),
            ("POST", "/v1.41/containers/create", r#"{"Image":7}"#, 400),
            (
                "POST",
                "/v1.41/containers/create",
                r#"{"Image":"busybox","Cmd":{"a":1}}"#,
                400,
            ),
            ("POST", "/v1.41/containers/create", r#"{"Image":"absent"}"#, 404),
            (
                "POST",
                "/v1.41/containers/create?name=a/b",
                r#"{"Image":"busybox"}"#,
                400,
            ),
            ("GET", "/v1.41/containers/absent/json", "", 404),
            ("POST", "/v1.41/containers/absent/start", "", 404),
            ("DELETE", "/v1.41/containers/absent", "", 404),
            ("GET", "/v1.41/containers/json?filters=notjson", "", 400),
            ("GET", "/v1.41/no/such/route", "", 404),
            ("GET", "/v1.99/info", "", 400),
            ("POST", "/v1.41/exec/absent/start", "{}", 404),
            ("GET", "/v1.41/volumes/absent", "", 404),
            ("GET", "/v1.41/networks/absent", "", 404),
        ];
        let mut wrong = Vec::new();
        for (method, target, body, status) in table {
            let answer = daemon.api(method, target, body);
            let message: Result<Value, _> = serde_json::from_slice(&answer.body);
            if answer.status != status || !message.is_ok_and(|message| message["message"].is_string()) {
                wrong.push(format!("{method} {target} {body}: {} {}", answer.status, answer.text()));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        clean(daemon);
    });
}

/// A volume's options are mounted while somebody uses it, as by Docker: a tmpfs that two share, a bind.
#[test]
fn volumes_with_options() {
    ground::run(|g| {
        compare(
            g,
            &[
                "volume create -o type=tmpfs -o device=tmpfs -o o=size=1m,uid=5,mode=700 fast",
                "! mkdir DIR/bound && echo 1 >DIR/bound/f",
                "volume create -o type=none -o o=bind -o device=DIR/bound bound",
                "volume create -o type=none -o o=bind,ro -o device=DIR/bound fixed",
                "volume create -o type=none -o o=bind -o device=/no/such lost",
                "volume create -o type=tmpfs wrong",
                "volume create -o what=is wrong",
                "run --rm --network none -v fast:/x busybox stat -c %u_%a /x",
                "run --rm --network none -v fast:/x busybox grep -c size=1024k,mode=700,uid=5 /proc/mounts",
                "run -d --name one --network none -v fast:/x busybox sh -c echo_1_>/x/f;_exec_sleep_1000",
                "run --rm --network none -v fast:/x busybox cat /x/f",
                "cp one:/x/f DIR/fast",
                "! cat DIR/fast",
                "rm -f one",
                "run --rm --network none -v fast:/x busybox ls /x",
                "create --name two --network none -v bound:/x busybox",
                "cp two:/x/f DIR/copied",
                "! cat DIR/copied",
                "rm two",
                "run --rm --network none -v bound:/x busybox sh -c cat_/x/f;_echo_2_>/x/g",
                "run --rm --network none -v fixed:/x busybox sh -c echo_3_>/x/h",
                "volume rm bound fixed fast lost",
                // What was bound is not the volume's.
                "! ls DIR/bound",
            ],
        );
        let (mut daemon, docker) = g.daemon_with_busybox();
        let data = daemon.data_root().join("volumes");
        let mounted = || tests::ground::mounts_below(&data).len();
        docker.ok(&[
            "volume",
            "create",
            "-o",
            "type=tmpfs",
            "-o",
            "device=tmpfs",
            "-o",
            "o=size=1m",
            "fast",
        ]);
        docker.ok(&[
            "volume",
            "create",
            "-o",
            "type=none",
            "-o",
            "o=bind",
            "-o",
            "device=/no/such",
            "lost",
        ]);
        let ran = docker.run(&["run", "--rm", "--network=none", "-v", "lost:/x", "busybox"]);
        assert!(
            ran.code != 0 && ran.err.contains("failed to mount local volume: mount /no/such:"),
            "{}",
            ran.err
        );
        let sleep = |name: &str| {
            docker.ok(&[
                "run",
                "-d",
                "--name",
                name,
                "--network=none",
                "-v",
                "fast:/x",
                "busybox",
                "sleep",
                "1000",
            ])
        };
        sleep("one");
        sleep("two");
        assert_eq!(mounted(), 1);
        // It stays whose it is when the daemon dies, and goes with the last.
        daemon.kill();
        daemon.up().unwrap();
        docker.ok(&["exec", "one", "touch", "/x/f"]);
        docker.ok(&["rm", "-f", "one"]);
        assert_eq!(mounted(), 1);
        assert_eq!(docker.ok(&["exec", "two", "ls", "/x"]), "f");
        assert!(docker.run(&["volume", "rm", "fast"]).err.contains("volume is in use"));
        let pid: i32 = docker.ok(&["inspect", "-f", "{{.State.Pid}}", "two"]).parse().unwrap();
        daemon.kill();
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(pid).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        daemon.up().unwrap();
        assert!(
            within(Duration::from_secs(10), || mounted() == 0),
            "a volume that nobody uses stays mounted"
        );
        docker.ok(&["rm", "two"]);
        docker.ok(&["volume", "rm", "fast", "lost"]);
        clean(daemon);
    });
}

/// What is asked of a container and is not there is refused, by Docker's words where it refuses it too.
#[test]
fn what_cannot_be_had_is_refused() {
    ground::run(|g| {
        compare(
            g,
            &[
                "create --network none --cpuset-cpus 9999 busybox",
                "create --network none --cpuset-cpus x busybox",
                "create --network none --cpuset-mems 77 busybox",
                "create --network none --storage-opt size=1G busybox",
                "create --network none --tmpfs /t:size=1m,noexec,mode=1777 --name tmp busybox",
                "rm tmp",
                "create --network none --tmpfs t busybox",
                "create --network none --tmpfs / busybox",
                "create --network none --mount type=tmpfs,dst=t busybox",
                "create --network none --mount type=bind,src=/tmp,dst=/ busybox",
                "create --network none --mount type=volume,dst=t busybox",
                "create --network none --mount type=what,dst=/x busybox",
                "create --network none --mount type=bind,src=/nothing,dst=/x busybox",
                "create --network none --mount type=volume busybox",
                "create --network none --mount what busybox",
                "create --network none -v /a:b busybox",
                "create --network none -v /:/ busybox",
                "create --network none -v a:/a:what busybox",
                "create --network none -v a/b:/a busybox",
                "create --network none --volumes-from none busybox",
                "create --network none --device /dev/null:/dev/xx:q busybox",
                "create --network none --mac-address x busybox",
                "create --network none --mac-address 92:d0:c6:0a:29 busybox",
                "create --network none --platform what busybox",
                "create --network none --health-cmd x --health-timeout 1us busybox",
                "create --network none --health-interval 1ns busybox",
                "create --network none --health-retries -1 busybox",
                "create --network none --env-file DIR busybox",
                "create --network none --label-file DIR busybox",
                "create --network none --shm-size x busybox",
                "create --network none --ulimit what=1 busybox",
                "create --network none --ulimit nofile=20:10 busybox",
                "create --network none --cap-add what busybox",
                "create --network none --security-opt what busybox",
                "create --network none --sysctl what busybox",
                "create --network none --pid what busybox",
                "create --network none --uts what busybox",
                "create --network none --userns what busybox",
                "create --network host -p x busybox",
                "create --network none -p 99999:80 busybox",
                "create --network none -p 80:80/what busybox",
                "create --network none --expose x busybox",
                "create --network none -m 5m busybox",
                "create --network none -m 7m --memory-swap 6m busybox",
                "create --network none --memory-swap 5m busybox",
                "create --network none --memory-reservation 10m -m 6m busybox",
                "create --network none --memory-swappiness 101 -m 6m busybox",
                "create --network none --cpus 1 --cpu-quota 1000 busybox",
                "create --network none --cpu-period 1 busybox",
                "create --network none --device-read-bps x busybox",
                "create --network none --oom-score-adj 2000 busybox",
                "create --network none -e =x busybox",
                "create --network none --env-file /nowhere busybox",
                "create --network none --add-host x:y busybox",
                "create --network none --dns x busybox",
                "create --network none --log-opt x busybox",
                "create --network none --pull what busybox",
                "create --network none --pull never none",
                "create --network none --name /x/ busybox",
                "run -d --network none --name b1 busybox sleep 1000",
                "attach none",
                "exec -w tmp b1 pwd",
                "exec -u what b1 id",
                "rename b1 b1",
                "rename b1 b/1",
                "rename none x",
                "update b1",
                "update -m 1k b1",
                "update none -m 10m",
                "port b1 80",
                "top b1 -o pid,what",
                "logs --since x b1",
                "logs none",
                "stop -t 0 b1",
                "attach b1",
                "start b1",
                "rm -f b1 none",
            ],
        );
        let (_daemon, docker) = g.daemon_with_busybox();
        for (words, said) in [
            (
                &["--link", "other:alias"][..],
                "a link (--link) on the default bridge is not supported by balena",
            ),
            (
                &["--volume-driver", "far", "-v", "/x"],
                "volume driver \"far\" is not supported by balena",
            ),
            (&["--isolation", "hyperv"], "linux only supports 'default'"),
            // Docker's words of later versions than the one compared with.
            (
                &["--cpu-shares", "-1"],
                "invalid CPU shares (-1): value must be a positive integer",
            ),
            (&["--restart", "what"], "invalid restart policy: unknown policy 'what'"),
            (&["--gpus", "all"], "is not supported by balena"),
            (&["--tmpfs", "/t:size=1m,what"], "invalid tmpfs option [\"what\"]"),
        ] {
            let ran = docker.run(&[&["create"], words, &["busybox"]].concat());
            assert!(
                ran.code != 0 && ran.err.contains(said),
                "{words:?}: {} {}",
                ran.code,
                ran.err
            );
        }
        assert_eq!(docker.ok(&["ps", "-aq"]), "");
        docker.ok(&["create", "--name", "still", "busybox"]);
        for (words, said) in [
            (
                &["kill", "none"][..],
                "cannot kill container: none: No such container: none",
            ),
            (
                &["kill", "-s", "0", "still"],
                "cannot kill container: still: invalid signal: 0",
            ),
            (
                &["kill", "-s", "99", "still"],
                "the linux daemon does not support signal 99",
            ),
            (
                &["update", "--restart", "what", "still"],
                "invalid restart policy: unknown policy 'what'",
            ),
        ] {
            let ran = docker.run(words);
            assert!(
                ran.code == 1 && ran.err.contains(said),
                "{words:?}: {} {}",
                ran.code,
                ran.err
            );
        }
        docker.ok(&["rm", "still"]);
    });
}

/// Limits of a block device reach the kernel.
#[test]
fn block_devices_are_throttled() {
    ground::run(|g| {
        let (daemon, docker) = g.daemon_with_busybox();
        let Some(device) = std::fs::read_dir("/sys/block").unwrap().flatten().find_map(|entry| {
            let path = std::path::Path::new("/dev").join(entry.file_name());
            let number = std::fs::read_to_string(entry.path().join("dev")).ok()?;
            path.exists()
                .then(|| (path.display().to_string(), number.trim().to_string()))
        }) else {
            println!("skipped: no block device here");
            return;
        };
        let id = docker.ok(&[
            "run",
            "-d",
            "--network=none",
            &format!("--device-read-bps={}:1mb", device.0),
            &format!("--device-write-iops={}:77", device.0),
            "busybox",
            "sleep",
            "1000",
        ]);
        let limits = std::path::Path::new("/sys/fs/cgroup/blkio/docker").join(&id);
        if limits.exists() {
            for (file, rate) in [("read_bps", "1048576"), ("write_iops", "77")] {
                let text = std::fs::read_to_string(limits.join(format!("blkio.throttle.{file}_device"))).unwrap();
                assert_eq!(text.trim(), format!("{} {rate}", device.1));
            }
        } else {
            println!("skipped: no blkio controller of cgroup v1 here");
        }
        let ran = docker.run(&[
            "run",
            "--rm",
            "--network=none",
            "--device-read-bps=/dev/none:1mb",
            "busybox",
        ]);
        assert!(
            ran.code != 0 && ran.err.contains("/dev/none"),
            "{} {}",
            ran.code,
            ran.err
        );
        docker.ok(&["rm", "-f", &id]);
        clean(daemon);
    });
}
