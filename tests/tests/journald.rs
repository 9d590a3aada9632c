//! The log driver `journald`, with a journald of the test's own.

use rustix::process::Signal;
use std::io::{BufRead, BufReader};
use std::time::Duration;
use tests::client::{finish, within};
use tests::ground::processes_with;
use tests::journal::{self, Journal};
use tests::{Client, Daemon, Kind, ground};

const LIMIT: Duration = Duration::from_secs(20);

/// Text of an entry's field; bytes that are no text come as numbers.
fn field(entry: &serde_json::Value, name: &str) -> String {
    match &entry[name] {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(bytes) => {
            let bytes = bytes.iter().map(|byte| u8::try_from(byte.as_u64().unwrap()).unwrap());
            String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
        }
        other => other.to_string(),
    }
}

/// Runs what shows all of the driver, and says what is in the journal: names of fields with values that do not change.
fn written(journal: &Journal, client: &Client) -> (Vec<String>, String) {
    let script = "echo one; sleep 0.1; echo two >&2; sleep 0.1; head -c 20000 /dev/zero | tr '\\0' x; echo; sleep 0.1; \
        printf '\\1\\2\\377=\\n'; sleep 0.1; printf end";
    let id = client.ok(&[
        "run",
        "-d",
        "--name",
        "shows",
        "--log-driver",
        "journald",
        "--log-opt",
        "tag={{.Name}}/{{.ImageName}}",
        "--log-opt",
        "labels=a.label,evil",
        "--log-opt",
        "env-regex=^COL",
        "--label",
        "a.label=1",
        "--label",
        "evil=x\nMESSAGE=injected\nPRIORITY=0",
        "-e",
        "COLOUR=blue",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    client.ok(&["wait", "shows"]);
    let mut lines = Vec::new();
    for entry in journal.entries(&format!("CONTAINER_ID_FULL={id}")) {
        let names = entry.as_object().unwrap().keys().filter(|name| !name.starts_with('_'));
        for name in names.filter(|name| *name != "SYSLOG_TIMESTAMP" && !name.starts_with("CONTAINER_LOG")) {
            let value = field(&entry, name).replace(&id, "ID").replace(&id[..12], "ID");
            lines.push(match name.as_str() {
                "CONTAINER_PARTIAL_ID" => format!("{name}: {} characters", value.len()),
                "MESSAGE" if value.len() > 100 => format!("{name}: {} characters", value.len()),
                _ => format!("{name}: {value}"),
            });
        }
        // 28 has more than 20.10.
        for (name, ours) in [
            ("SYSLOG_TIMESTAMP", 20..36),
            ("CONTAINER_LOG_EPOCH", 64..65),
            ("CONTAINER_LOG_ORDINAL", 1..2),
        ] {
            let there = entry[name].as_str().is_none_or(|text| ours.contains(&text.len()));
            assert!(there, "{name} in {entry}");
        }
    }
    (lines, id)
}

#[test]
fn entries_are_dockers_and_are_read_back() {
    ground::run(|g| {
        let Some(journal) = Journal::start() else { return };
        let (mut daemon, docker) = g.daemon_with_busybox();
        let (lines, id) = written(&journal, &docker);
        let entries = journal.entries(&format!("CONTAINER_ID_FULL={id}"));
        assert_eq!(entries.len(), 6);
        for (number, entry) in entries.iter().enumerate() {
            assert_eq!(field(entry, "CONTAINER_LOG_ORDINAL"), (number + 1).to_string());
            assert_eq!(field(entry, "EVIL"), "x\nMESSAGE=injected\nPRIORITY=0");
            assert_eq!(field(entry, "SYSLOG_IDENTIFIER"), "shows/busybox");
        }
        for client in [&docker, &daemon.cli()] {
            let ran = client.run(&["logs", "shows"]);
            let long = "x".repeat(20_000);
            assert_eq!((ran.err.as_str(), ran.code), ("two\n", 0));
            assert_eq!(ran.out.replace(&long, "LONG"), "one\nLONG\n\u{1}\u{2}\u{fffd}=\nend");
            assert_eq!(client.run(&["logs", "--tail", "1", "shows"]).out, "end");
            assert_eq!(client.run(&["logs", "--tail", "0", "shows"]).out, "");
            let stamped = client.ok(&["logs", "-t", "--details", "--tail", "1", "shows"]);
            let (time, rest) = stamped.split_once(' ').unwrap();
            assert_eq!(
                rest,
                "A_LABEL=1,COLOUR=blue,EVIL=x%0AMESSAGE%3Dinjected%0APRIORITY%3D0 end"
            );
            assert!(time.len() == 30 && time.ends_with("000Z"), "{time}");
            // The journal's own time, to the microsecond: from this entry on, and up to the one before.
            assert_eq!(client.run(&["logs", "--since", time, "shows"]).out, "end");
            assert_eq!(
                client.run(&["logs", "--since", time, "--tail", "5", "shows"]).out,
                "end"
            );
            let first = client.ok(&["logs", "-t", "shows"]);
            let until = first.split_once(' ').unwrap().0;
            assert_eq!(client.run(&["logs", "--until", until, "shows"]).out, "one\n");
            assert_eq!(
                client.run(&["logs", "--until", until, "--tail", "9", "shows"]).out,
                "one\n"
            );
            assert_eq!(client.ok(&["logs", "-f", "--tail", "1", "shows"]), "end");
        }
        // Attaching does not go through the journal.
        let ran = docker.run(&["run", "--rm", "--log-driver", "journald", "busybox", "echo", "seen"]);
        assert_eq!((ran.out.as_str(), ran.code), ("seen\n", 0), "{}", ran.err);
        assert_eq!(daemon.left_behind(), [""; 0]);
        drop(daemon);
        if !ground::there("dockerd") {
            println!("skipped: there is no dockerd to compare with");
            return;
        }
        let dockers = g.start(Kind::Docker, &[]);
        let docker = dockers.docker();
        docker.ok(&["pull", "-q", &g.busybox]);
        docker.ok(&["tag", &g.busybox, "busybox"]);
        assert_eq!(written(&journal, &docker).0, lines);
    });
}

/// What balenaOS has: all containers with the driver that the engine's command line names.
#[test]
fn a_data_root_is_taken_over_and_given_back() {
    ground::run(|g| {
        let Some(_journal) = Journal::start() else { return };
        if !ground::there("dockerd") {
            println!("skipped: there is no dockerd to take over from");
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let start = |kind: Kind| g.start_on(root.path(), kind, &["--log-driver=journald"]);
        let logs = |client: &Client, name: &str| {
            let mut said = String::new();
            // dockerd reads what journald has written down already, and no more.
            within(Duration::from_secs(2), || {
                said = client.run(&["logs", name]).out;
                said.lines().count() >= 3
            });
            said
        };
        let (mut dockers, docker) = start(Kind::Docker);
        docker.ok(&["pull", "-q", &g.busybox]);
        docker.ok(&["tag", &g.busybox, "busybox"]);
        docker.ok(&["run", "--name", "theirs", "busybox", "echo", "theirs"]);
        let reads = docker.run(&["logs", "theirs"]).code == 0;
        assert_eq!(dockers.stop(), Some(0));
        let (mut ours, docker) = start(Kind::Ours);
        let driver = docker.ok(&[
            "inspect",
            "-f",
            "{{.HostConfig.LogConfig.Type}} {{.LogPath}}.",
            "theirs",
        ]);
        assert_eq!(driver, "journald .");
        assert_eq!(docker.ok(&["logs", "theirs"]), "theirs");
        assert_eq!(docker.run(&["start", "-a", "theirs"]).out, "theirs\n");
        docker.ok(&["run", "--name", "ours", "busybox", "sh", "-c", "echo 1; echo 2; echo 3"]);
        assert_eq!(logs(&docker, "ours"), "1\n2\n3\n");
        assert_eq!(ours.stop(), Some(0));
        let (mut dockers, docker) = start(Kind::Docker);
        docker.ok(&["start", "-a", "theirs"]);
        match reads {
            true => {
                assert_eq!(logs(&docker, "theirs"), "theirs\n".repeat(3));
                assert_eq!(logs(&docker, "ours"), "1\n2\n3\n");
            }
            false => println!("skipped: this dockerd was built without a reader of journals"),
        }
        dockers.stop();
    });
}

/// Lines as they come.
struct Follower {
    child: std::process::Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Follower {
    fn start(client: &Client, arguments: &[&str]) -> Follower {
        let mut child = client.spawn(arguments);
        let out = child.stdout.take().unwrap();
        let (send, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Follower { child, lines }
    }

    fn next(&self) -> String {
        self.lines.recv_timeout(LIMIT).expect("a line comes")
    }
}

fn readers(daemon: &Daemon) -> Vec<(i32, String)> {
    let id = daemon.docker().ok(&["inspect", "-f", "{{.Id}}", "talks"]);
    let with = processes_with(&format!("CONTAINER_ID_FULL={id}"));
    with.into_iter()
        .filter(|(_, line)| line.contains("--output=export"))
        .collect()
}

#[test]
fn a_container_outlives_its_journal_and_is_followed() {
    ground::run(|g| {
        let Some(mut journal) = Journal::start() else { return };
        let mut daemon = g.start(Kind::Ours, &["--log-driver=journald", "--log-opt", "tag={{.Name}}"]);
        let docker = daemon.docker();
        docker.ok(&["pull", "-q", &g.busybox]);
        let script = "while :; do [ -e /said ] && cat /said && rm /said; sleep 0.02; done";
        docker.ok(&["run", "-d", "--name", "talks", &g.busybox, "sh", "-c", script]);
        let say = |line: &str| {
            let script = format!("echo {line} > /saying; mv /saying /said");
            docker.ok(&["exec", "talks", "sh", "-c", &script]);
        };
        say("one");
        let mut follower = Follower::start(&docker, &["logs", "-f", "talks"]);
        assert_eq!(follower.next(), "one");
        say("two");
        assert_eq!(follower.next(), "two");
        // The reader holds nothing of the daemon's: its three streams, and what it opens of the journal.
        let [(reader, _)] = &readers(&daemon)[..] else {
            panic!("{:?}", readers(&daemon))
        };
        for entry in std::fs::read_dir(format!("/proc/{reader}/fd")).unwrap() {
            let target = std::fs::read_link(entry.unwrap().path()).unwrap_or_default();
            let target = target.to_string_lossy().into_owned();
            let ours = [
                "/dev/null",
                "pipe:",
                "anon_inode:",
                "/run/log/journal",
                "/var/log/journal",
            ];
            assert!(
                ours.iter().any(|known| target.starts_with(known)) && !target.contains("balena"),
                "{target}"
            );
        }
        // The journal goes: what is said meanwhile is lost, the container is not.
        journal.stop();
        say("lost");
        let said = || docker.run(&["exec", "talks", "test", "-e", "/said"]).code == 1;
        assert!(within(LIMIT, said));
        journal.up();
        say("three");
        assert_eq!(follower.next(), "three");
        let _ = follower.child.kill();
        let _ = follower.child.wait();
        assert!(within(LIMIT, || readers(&daemon).is_empty()), "{:?}", readers(&daemon));
        // Nor is a reader left by a daemon that dies.
        let mut follower = Follower::start(&docker, &["logs", "-f", "--tail", "0", "talks"]);
        say("four");
        assert_eq!(follower.next(), "four");
        assert_eq!(readers(&daemon).len(), 1);
        daemon.kill();
        let gone = || {
            processes_with("--output=export")
                .iter()
                .all(|(_, line)| !line.contains("CONTAINER_ID_FULL"))
        };
        assert!(within(LIMIT, gone));
        let _ = follower.child.wait();
        daemon.up().unwrap();
        let follower = Follower::start(&docker, &["logs", "-f", "--tail", "1", "talks"]);
        assert_eq!(follower.next(), "four");
        // The end of the output comes before the end of the answer.
        docker.ok(&["kill", "talks"]);
        assert_eq!(finish(follower.child, LIMIT).code, 0);
        let out = docker.ok(&["logs", "talks"]);
        assert_eq!(out, "one\ntwo\nthree\nfour");
        assert_eq!(daemon.left_behind(), [""; 0]);
    });
}

#[test]
fn nothing_is_missing_when_a_follower_sees_the_end() {
    ground::run(|g| {
        let Some(_journal) = Journal::start() else { return };
        let (mut daemon, docker) = g.daemon_with_busybox();
        for round in 0..3 {
            let name = format!("counts{round}");
            let script = "sleep 1; i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo $i; done";
            docker.ok(&[
                "run",
                "-d",
                "--name",
                &name,
                "--log-driver",
                "journald",
                "busybox",
                "sh",
                "-c",
                script,
            ]);
            let out = docker.ok(&["logs", "-f", &name]);
            let numbers: Vec<String> = (1..=3000).map(|n| n.to_string()).collect();
            assert_eq!(out.lines().count(), 3000);
            assert!(out.lines().eq(numbers.iter().map(String::as_str)));
        }
        assert_eq!(daemon.left_behind(), [""; 0]);
    });
}

#[test]
fn a_journal_that_hangs_holds_up_nothing_but_output() {
    ground::run(|g| {
        let Some(journal) = Journal::start() else { return };
        let (mut daemon, docker) = g.daemon_with_busybox();
        let script = "i=0; while :; do i=$((i+1)); echo $i; echo $i > /count; done";
        let run = |name: &str, mode: &str| {
            docker.ok(&[
                "run",
                "-d",
                "--name",
                name,
                "--log-driver",
                "journald",
                "--log-opt",
                mode,
                "busybox",
                "sh",
                "-c",
                script,
            ]);
        };
        let count = |name: &str| docker.ok(&["exec", name, "cat", "/count"]).parse().unwrap_or(0u64);
        run("waits", "mode=blocking");
        run("loses", "mode=non-blocking");
        journal.signal(Signal::STOP);
        // The container waits, as it would for a full pipe, and is the daemon's to command.
        let stands = || {
            let before = count("waits");
            std::thread::sleep(Duration::from_millis(300));
            before > 0 && count("waits") == before
        };
        assert!(within(LIMIT, stands));
        let before = count("loses");
        assert!(within(LIMIT, || count("loses") > before + 5000));
        docker.ok(&["kill", "loses"]);
        docker.ok(&["kill", "waits"]);
        journal.signal(Signal::CONT);
        docker.ok(&["start", "waits"]);
        let before = count("waits");
        assert!(within(LIMIT, || count("waits") > before + 1000));
        assert_eq!(daemon.left_behind(), [""; 0]);
    });
}

#[test]
fn without_a_journal_nothing_starts() {
    ground::run(|g| {
        journal::hide();
        let (mut daemon, docker) = g.daemon_with_busybox();
        let text = "failed to create task for container: failed to initialize logging driver: journald is not enabled on this \
            host";
        let ran = docker.run(&["run", "--name", "none", "--log-driver", "journald", "busybox", "true"]);
        assert_eq!(ran.code, 125);
        assert!(ran.err.contains(text), "{}", ran.err);
        let format = "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}";
        assert_eq!(
            docker.ok(&["inspect", "-f", format, "none"]),
            format!("created 128 {text}")
        );
        let ran = docker.run(&["logs", "none"]);
        assert_eq!(ran.code, 1);
        assert!(ran.err.contains("journald is not enabled on this host"), "{}", ran.err);
        // The moment there is one, it starts.
        docker.ok(&["rm", "none"]);
        assert_eq!(daemon.left_behind(), [""; 0]);
    });
}

#[test]
fn a_missing_journalctl_is_said() {
    ground::run(|g| {
        let Some(_journal) = Journal::start() else { return };
        let places = tempfile::tempdir().unwrap();
        for program in ["iptables", "iptables-restore", "iptables-save", "ip"] {
            let found =
                std::env::split_paths(&std::env::var_os("PATH").unwrap()).find(|place| place.join(program).exists());
            if let Some(place) = found {
                std::os::unix::fs::symlink(place.join(program), places.path().join(program)).unwrap();
            }
        }
        let options = tests::daemon::Options {
            binary: g.binary.clone(),
            environment: vec![("PATH".into(), places.path().display().to_string())],
            ..Default::default()
        };
        let daemon = Daemon::start(Kind::Ours, options).unwrap();
        let docker = daemon.docker();
        docker.ok(&["pull", "-q", &g.busybox]);
        docker.ok(&[
            "run",
            "--name",
            "said",
            "--log-driver",
            "journald",
            &g.busybox,
            "echo",
            "x",
        ]);
        let ran = docker.run(&["logs", "said"]);
        let text = "read logs from the journal: exec: \"journalctl\": executable file not found in $PATH";
        assert!(ran.code == 1 && ran.err.contains(text), "{}", ran.err);
    });
}
