//! What outlives the daemon, and what does not: deaths, adoptions, neighbours.

use std::fs;
use std::time::Duration;
use tests::client::within;
use tests::{Client, Kind, ground, http};

fn running(docker: &Client, name: &str) -> bool {
    docker.run(&["inspect", "-f", "{{.State.Running}}", name]).out.trim() == "true"
}

#[test]
fn containers_live_on_and_are_adopted() {
    ground::run(|g| {
        let (mut daemon, docker) = g.daemon_with_busybox();
        let port = tests::registry::free_port().unwrap();
        let publish = format!("{port}:80");
        docker.ok(&[
            "run", "-d", "--name", "web", "-p", &publish, "busybox", "httpd", "-f", "-h", "/www",
        ]);
        let body = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done";
        docker.ok(&["run", "-d", "--name", "counts", "busybox", "sh", "-c", body]);
        docker.ok(&["run", "-d", "--name", "ends", "busybox", "sh", "-c", "sleep 2; exit 21"]);
        docker.ok(&["create", "--name", "made", "busybox", "echo", "made before"]);
        let pid = docker.ok(&["inspect", "-f", "{{.State.Pid}}", "web"]);
        daemon.kill();
        assert!(fs::exists(format!("/proc/{pid}")).unwrap());
        // It ends while no daemon is there to see.
        std::thread::sleep(Duration::from_millis(2500));
        daemon.up().unwrap();
        assert_eq!(docker.ok(&["inspect", "-f", "{{.State.Pid}}", "web"]), pid);
        let answers = || http::local(port, "GET", "/", &[], b"").is_ok_and(|answer| answer.text() == "It runs.\n");
        assert!(within(Duration::from_secs(5), answers));
        let exited = || docker.ok(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "ends"]) == "exited 21";
        assert!(within(Duration::from_secs(5), exited));
        // Its log has no hole, and goes on.
        let numbers = || -> Vec<u32> {
            docker
                .ok(&["logs", "counts"])
                .lines()
                .map(|l| l.parse().unwrap())
                .collect()
        };
        let before = numbers();
        assert!(
            before.iter().copied().eq(1..=u32::try_from(before.len()).unwrap()),
            "{before:?}"
        );
        assert!(within(Duration::from_secs(5), || numbers().len() > before.len()));
        assert_eq!(docker.ok(&["exec", "web", "echo", "in"]), "in");
        assert_eq!(docker.ok(&["start", "-a", "made"]), "made before");
        docker.ok(&["stop", "-t", "0", "web"]);
        assert!(!answers());
        // A polite end is the same to containers.
        assert_eq!(daemon.stop(), Some(0));
        daemon.up().unwrap();
        assert!(running(&docker, "counts"));
        assert_eq!(daemon.left_behind(), Vec::<String>::new());
    });
}

#[test]
fn a_daemon_that_crashes_starts_anew_in_place() {
    ground::run(|g| {
        let (mut daemon, docker) = g.daemon_with_busybox();
        docker.ok(&["run", "-d", "--name", "steady", "busybox", "sleep", "1000"]);
        let (pid, started) = (
            daemon.pid(),
            docker.ok(&["inspect", "-f", "{{.State.StartedAt}}", "steady"]),
        );
        // SIGABRT is what a panic, a failed allocation and an overflowed stack come down to.
        let crash = || {
            let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::ABORT).unwrap();
        };
        for times in 1..=5 {
            crash();
            let words = format!("the daemon crashed and started anew in place ({times} in a row)");
            assert!(within(Duration::from_secs(10), || daemon.log().contains(&words)));
            // No waiting for its socket: that never closed, and who connects early is answered when it is ready.
            assert_eq!(docker.ok(&["inspect", "-f", "{{.State.StartedAt}}", "steady"]), started);
            assert_eq!(docker.ok(&["exec", "steady", "echo", "in"]), "in");
        }
        assert_eq!(daemon.pid(), pid);
        // A row of crashes ends somewhere; what supervises the daemon is told by its death.
        crash();
        assert!(within(Duration::from_secs(10), || docker.run(&["ps"]).code != 0));
        daemon.kill();
        daemon.up().unwrap();
        assert!(running(&docker, "steady"));
        // The shim was a child of the process, and is waited for by it.
        docker.ok(&["rm", "-f", "steady"]);
        assert_eq!(daemon.left_behind(), Vec::<String>::new());
    });
}

#[test]
fn killed_at_any_moment_it_serves_everything_whole() {
    ground::run(|g| {
        let (mut daemon, docker) = g.daemon_with_busybox();
        docker.ok(&["run", "-d", "--name", "steady", "busybox", "sleep", "1000"]);
        for round in 0..12u64 {
            let name = format!("c{round}");
            let verbs: [&[&str]; 4] = [
                &["create", "--name", &name, "busybox", "sleep", "1000"],
                &["run", "-d", "--name", &name, "busybox", "sleep", "1000"],
                &["stop", "-t", "0", "victim"],
                &["rm", "-f", "victim"],
            ];
            docker.run(&["run", "-d", "--name", "victim", "busybox", "sleep", "1000"]);
            let verb = verbs[usize::try_from(round % 4).unwrap()];
            let mut client = docker.spawn(verb);
            std::thread::sleep(Duration::from_millis(40 + 23 * (round / 4) + 7 * round));
            daemon.kill();
            let _ = client.wait();
            daemon.up().unwrap();
            assert!(running(&docker, "steady"), "round {round}");
            // Whatever is listed can be looked at and removed; whatever is not is not there.
            for name in docker
                .ok(&["ps", "-a", "--format", "{{.Names}}"])
                .lines()
                .filter(|n| *n != "steady")
            {
                docker.ok(&["inspect", name]);
                docker.ok(&["rm", "-f", name]);
            }
            assert_eq!(
                docker.ok(&["run", "--rm", "busybox", "echo", "whole"]),
                "whole",
                "round {round}"
            );
        }
        assert_eq!(daemon.left_behind(), Vec::<String>::new());
        let layers = fs::read_dir(daemon.data_root().join("overlay2")).unwrap().flatten();
        let one = || {
            fs::read_dir(daemon.data_root().join("overlay2"))
                .unwrap()
                .flatten()
                .filter(|e| e.file_name() != "l")
                .count()
                == 1
        };
        let names: Vec<_> = layers.map(|entry| entry.file_name()).collect();
        assert!(within(Duration::from_secs(10), one), "{names:?}");
    });
}

#[test]
fn two_daemons_and_dockers_beside_each_other() {
    ground::run(|g| {
        let theirs = ground::there("dockerd").then(|| g.start(Kind::Docker, &["--bridge=none", "--iptables=false"]));
        if theirs.is_none() {
            println!("skipped: no dockerd here, so ours run beside none");
        }
        let (mut one, mut two) = (
            g.start(Kind::Ours, &["--bridge=b1", "--bip=10.99.1.1/24"]),
            g.start(Kind::Ours, &["--bridge=b2", "--bip=10.99.2.1/24"]),
        );
        for (daemon, start) in [(&one, "10.99.1."), (&two, "10.99.2.")] {
            let docker = daemon.docker();
            docker.ok(&["pull", "-q", &g.busybox]);
            docker.ok(&["run", "-d", "--name", "same", &g.busybox, "sleep", "100"]);
            let ip = docker.ok(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "same"]);
            assert!(ip.starts_with(start), "{ip}");
        }
        if let Some(theirs) = &theirs {
            let docker = theirs.docker();
            docker.ok(&["pull", "-q", &g.busybox]);
            docker.ok(&[
                "run",
                "-d",
                "--name",
                "same",
                "--network",
                "none",
                &g.busybox,
                "sleep",
                "100",
            ]);
        }
        assert_eq!(one.left_behind(), Vec::<String>::new());
        assert_eq!(one.stop(), Some(0));
        assert!(running(&two.docker(), "same"));
        if let Some(theirs) = &theirs {
            assert!(running(&theirs.docker(), "same"));
        }
        assert_eq!(two.left_behind(), Vec::<String>::new());
    });
}

#[test]
fn a_second_daemon_on_the_same_root_is_refused() {
    ground::run(|g| {
        let daemon = g.daemon();
        let root = daemon.data_root().display().to_string();
        let options = tests::daemon::Options {
            binary: g.binary.clone(),
            extra: vec!["--log-level=info".into()],
            data_root: Some(root.clone().into()),
            ..Default::default()
        };
        let second = tests::Daemon::start(Kind::Ours, options);
        let said = second.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(said.contains(&root), "{said}");
        assert_eq!(daemon.api("GET", "/_ping", "").status, 200);
    });
}

#[test]
fn a_record_that_cannot_be_read_is_set_aside() {
    ground::run(|g| {
        let (mut daemon, docker) = g.daemon_with_busybox();
        docker.ok(&["create", "--name", "good", "busybox", "echo", "good"]);
        let bad = docker.ok(&["create", "--name", "bad", "busybox", "true"]);
        daemon.stop();
        let record = daemon.data_root().join("containers").join(&bad).join("config.v2.json");
        fs::write(&record, "{ half").unwrap();
        daemon.up().unwrap();
        assert_eq!(docker.ok(&["start", "-a", "good"]), "good");
        assert!(
            daemon.log().contains(&bad[..12]),
            "the log does not tell of it: {}",
            daemon.log()
        );
        assert!(!docker.ok(&["ps", "-a"]).contains("bad"));
    });
}
