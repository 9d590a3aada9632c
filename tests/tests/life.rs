//! A container's life after its start: stop, kill, restart, exec, logs, events, removal, by the real client.

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};
use tests::client::{finish, within};
use tests::{Client, Daemon, ground};

fn clean(mut daemon: Daemon) {
    assert_eq!(daemon.left_behind(), Vec::<String>::new());
}

fn state(docker: &Client, name: &str) -> String {
    docker.ok(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name])
}

#[test]
fn stop_asks_and_then_kills() {
    ground::run(|g| {
        let (daemon, docker) = g.daemon_with_busybox();
        let polite = "trap 'exit 3' TERM; while :; do sleep 0.1; done";
        docker.ok(&["run", "-d", "--name", "polite", "busybox", "sh", "-c", polite]);
        docker.ok(&[
            "run",
            "-d",
            "--name",
            "deaf",
            "busybox",
            "sh",
            "-c",
            "trap '' TERM; while :; do sleep 1; done",
        ]);
        std::thread::sleep(Duration::from_millis(300));
        docker.ok(&["stop", "-t", "10", "polite"]);
        assert_eq!(state(&docker, "polite"), "exited 3");
        let start = Instant::now();
        docker.ok(&["stop", "-t", "1", "deaf"]);
        assert!(start.elapsed() >= Duration::from_secs(1) && start.elapsed() < Duration::from_secs(8));
        assert_eq!(state(&docker, "deaf"), "exited 137");
        // A second stop is no error, a start goes on with the same container.
        docker.ok(&["stop", "deaf"]);
        docker.ok(&["start", "polite"]);
        assert_eq!(state(&docker, "polite"), "running 0");
        clean(daemon);
    });
}

#[test]
fn kill_and_restart() {
    ground::run(|g| {
        let (daemon, docker) = g.daemon_with_busybox();
        let body = "trap 'echo hup' HUP; echo began; while :; do sleep 0.1; done";
        docker.ok(&["run", "-d", "--name", "one", "busybox", "sh", "-c", body]);
        assert!(within(Duration::from_secs(5), || docker.ok(&["logs", "one"]) == "began"));
        docker.ok(&["kill", "-s", "HUP", "one"]);
        assert!(within(Duration::from_secs(5), || docker.ok(&["logs", "one"]) == "began\nhup"));
        assert_eq!(state(&docker, "one"), "running 0");
        let pid = docker.ok(&["inspect", "-f", "{{.State.Pid}}", "one"]);
        docker.ok(&["restart", "-t", "0", "one"]);
        assert_ne!(docker.ok(&["inspect", "-f", "{{.State.Pid}}", "one"]), pid);
        docker.ok(&["kill", "one"]);
        assert!(within(Duration::from_secs(5), || state(&docker, "one") == "exited 137"));
        let ran = docker.run(&["kill", "one"]);
        assert!(ran.code == 1 && ran.err.contains("is not running"), "{ran:?}");
        let ran = docker.run(&["kill", "absent"]);
        assert!(
            ran.code == 1 && ran.err.contains("No such container: absent"),
            "{ran:?}"
        );
        clean(daemon);
    });
}

#[test]
fn exec_runs_inside_with_its_own_code() {
    ground::run(|g| {
        let (daemon, docker) = g.daemon_with_busybox();
        docker.ok(&["run", "-d", "--name", "one", "-e", "A=1", "busybox", "sleep", "100"]);
        assert_eq!(
            docker.ok(&["exec", "one", "sh", "-c", "echo $A; ps -o args | grep -c '^sleep 100'"]),
            "1\n1"
        );
        let table: &[(&[&str], i32)] = &[
            (&["one", "sh", "-c", "exit 9"], 9),
            (&["one", "no-such"], 127),
            (&["one", "/etc/not-executable"], 126),
            (&["absent", "true"], 1),
        ];
        for (arguments, code) in table {
            let ran = docker.run(&[&["exec"], *arguments].concat());
            assert_eq!(ran.code, *code, "{arguments:?}: {}", ran.err);
        }
        assert_eq!(
            docker.ok(&[
                "exec",
                "-w",
                "/tmp",
                "-u",
                "user",
                "-e",
                "B=2",
                "one",
                "sh",
                "-c",
                "pwd; id -u; echo $B"
            ]),
            "/tmp\n1000\n2"
        );
        let ran = docker.run_with(&["exec", "-i", "one", "wc", "-c"], &[b'x'; 100_000]);
        assert_eq!(ran.out.trim(), "100000", "{}", ran.err);
        docker.ok(&["exec", "-d", "one", "touch", "/tmp/made"]);
        assert!(within(Duration::from_secs(5), || docker
            .run(&["exec", "one", "test", "-e", "/tmp/made"])
            .code
            == 0));
        docker.ok(&["stop", "-t", "0", "one"]);
        let ran = docker.run(&["exec", "one", "true"]);
        assert!(ran.code == 1 && ran.err.contains("is not running"), "{ran:?}");
        clean(daemon);
    });
}

#[test]
fn logs_are_kept_and_followed() {
    ground::run(|g| {
        let (daemon, docker) = g.daemon_with_busybox();
        let body = "for i in 1 2 3; do echo line $i; done; echo wrong >&2; sleep 1; echo late";
        docker.ok(&["run", "-d", "--name", "talks", "busybox", "sh", "-c", body]);
        let mut follower = docker.spawn(&["logs", "-f", "talks"]);
        let out = follower.stdout.take().unwrap();
        let lines: Vec<String> = BufReader::new(out).lines().map(Result::unwrap).collect();
        assert_eq!(lines, ["line 1", "line 2", "line 3", "late"]);
        assert_eq!(finish(follower, Duration::from_secs(10)).code, 0);
        let ran = docker.run(&["logs", "talks"]);
        assert_eq!(ran.err, "wrong\n");
        assert_eq!(docker.ok(&["logs", "--tail", "1", "talks"]), "late");
        let stamped = docker.ok(&["logs", "-t", "talks"]);
        assert!(
            stamped.lines().all(|line| line.contains("T") && line.contains("Z ")),
            "{stamped}"
        );
        assert_eq!(docker.ok(&["logs", "--since", "2100-01-01T00:00:00Z", "talks"]), "");
        docker.ok(&[
            "run",
            "--name",
            "silent",
            "--log-driver",
            "none",
            "busybox",
            "echo",
            "gone",
        ]);
        let ran = docker.run(&["logs", "silent"]);
        assert!(
            ran.code == 1 && ran.err.contains("configured logging driver does not support reading"),
            "{ran:?}"
        );
        clean(daemon);
    });
}

#[test]
fn attach_joins_and_leaves() {
    ground::run(|g| {
        let (daemon, docker) = g.daemon_with_busybox();
        docker.ok(&["create", "-i", "--name", "cat", "busybox", "cat"]);
        let ran = docker.run_with(&["start", "-a", "-i", "cat"], b"through\n");
        // The end of input ends cat, and the client takes on its code.
        assert_eq!((ran.out.as_str(), ran.code), ("through\n", 0), "{}", ran.err);
        let ran = docker.run(&["wait", "cat"]);
        assert_eq!(ran.out.trim(), "0");
        docker.ok(&[
            "run",
            "-d",
            "--name",
            "talks",
            "busybox",
            "sh",
            "-c",
            "sleep 1; echo heard; exit 8",
        ]);
        let ran = docker.run(&["attach", "--no-stdin", "talks"]);
        assert_eq!((ran.out.as_str(), ran.code), ("heard\n", 8), "{}", ran.err);
        clean(daemon);
    });
}

#[test]
fn wait_tells_the_code_and_rm_takes_it_away() {
    ground::run(|g| {
        let (daemon, docker) = g.daemon_with_busybox();
        docker.ok(&["run", "-d", "--name", "soon", "busybox", "sh", "-c", "sleep 1; exit 5"]);
        assert_eq!(docker.ok(&["wait", "soon"]), "5");
        docker.ok(&["run", "-d", "--name", "busy", "busybox", "sleep", "100"]);
        let ran = docker.run(&["rm", "busy"]);
        assert_ne!(ran.code, 0);
        assert!(
            ran.err.contains("container is running") || ran.err.contains("cannot remove a running container"),
            "{}",
            ran.err
        );
        docker.ok(&["rm", "-f", "busy"]);
        docker.ok(&["rm", "soon"]);
        assert_eq!(docker.ok(&["ps", "-aq"]), "");
        let ran = docker.run(&["rm", "soon"]);
        assert!(ran.code == 1 && ran.err.contains("No such container: soon"), "{ran:?}");
        clean(daemon);
    });
}

#[test]
fn an_image_in_use_is_kept() {
    ground::run(|g| {
        let (daemon, docker) = g.daemon_with_busybox();
        docker.ok(&["run", "--name", "uses", "busybox", "true"]);
        docker.ok(&["rmi", "busybox"]);
        let ran = docker.run(&["rmi", &g.busybox]);
        assert_eq!(ran.code, 1);
        assert!(
            ran.err.contains("conflict: unable to remove repository reference"),
            "{}",
            ran.err
        );
        docker.ok(&["rm", "uses"]);
        let said = docker.ok(&["rmi", &g.busybox]);
        assert!(
            said.contains("Untagged: ") && said.contains("Deleted: sha256:"),
            "{said}"
        );
        assert_eq!(docker.ok(&["images", "-aq"]), "");
        let layers = std::fs::read_dir(daemon.data_root().join("overlay2"))
            .unwrap()
            .flatten();
        assert_eq!(layers.filter(|e| e.file_name() != "l").count(), 0);
        clean(daemon);
    });
}

#[test]
fn events_tell_the_story() {
    ground::run(|g| {
        let (daemon, docker) = g.daemon_with_busybox();
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs()
            .to_string();
        docker.run(&[
            "run", "--name", "told", "--label", "a=b", "busybox", "sh", "-c", "exit 4",
        ]);
        docker.ok(&["rm", "told"]);
        std::thread::sleep(Duration::from_millis(1100));
        let until = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs()
            .to_string();
        let all = docker.ok(&["events", "--since", &since, "--until", &until, "--format", "{{json .}}"]);
        let actions: Vec<String> = all
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter(|event| event["Type"] == "container")
            .map(|event| event["Action"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(actions, ["create", "attach", "start", "die", "destroy"], "{all}");
        assert!(all.contains(r#""exitCode":"4""#), "{all}");
        let only = docker.ok(&[
            "events",
            "--since",
            &since,
            "--until",
            &until,
            "--filter",
            "event=die",
            "--format",
            "{{.Action}} {{.Actor.Attributes.name}}",
        ]);
        assert_eq!(only, "die told");
        clean(daemon);
    });
}

#[test]
fn a_restart_policy_restarts() {
    ground::run(|g| {
        let (daemon, docker) = g.daemon_with_busybox();
        docker.ok(&[
            "run",
            "-d",
            "--name",
            "falls",
            "--restart",
            "on-failure:2",
            "busybox",
            "sh",
            "-c",
            "echo up; exit 1",
        ]);
        let ended = || docker.ok(&["inspect", "-f", "{{.RestartCount}} {{.State.Status}}", "falls"]) == "2 exited";
        assert!(within(Duration::from_secs(20), ended));
        assert_eq!(docker.ok(&["logs", "falls"]), "up\nup\nup");
        docker.ok(&[
            "run",
            "-d",
            "--name",
            "always",
            "--restart",
            "always",
            "busybox",
            "sleep",
            "100",
        ]);
        let pid = || docker.ok(&["inspect", "-f", "{{.State.Pid}}", "always"]);
        let first = pid();
        std::process::Command::new("kill")
            .args(["-9", &first])
            .status()
            .unwrap();
        assert!(within(Duration::from_secs(10), || pid() != first && pid() != "0"));
        docker.ok(&["stop", "-t", "0", "always"]);
        std::thread::sleep(Duration::from_millis(500));
        assert!(state(&docker, "always").starts_with("exited"));
        clean(daemon);
    });
}

#[test]
fn system_commands_answer() {
    ground::run(|g| {
        let (daemon, docker) = g.daemon_with_busybox();
        docker.ok(&["run", "-d", "--name", "one", "busybox", "sleep", "100"]);
        let info = docker.ok(&["info", "--format", "{{.Driver}} {{.ContainersRunning}} {{.Images}}"]);
        assert_eq!(info, "overlay2 1 1");
        let version: Value = serde_json::from_str(&docker.ok(&["version", "--format", "{{json .Server}}"])).unwrap();
        assert_eq!(version["MinAPIVersion"], "1.24");
        let df = docker.ok(&["system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}}"]);
        assert!(df.contains("Images 1 1") && df.contains("Containers 1 1"), "{df}");
        let networks = docker.ok(&["network", "ls", "--format", "{{.Name}}"]);
        assert_eq!(networks.lines().collect::<Vec<_>>(), ["bridge", "host", "none"]);
        clean(daemon);
    });
}
