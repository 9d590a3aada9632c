//! Logs that are files: Docker reads what we wrote, and we read what Docker wrote, byte for byte and rotated.

use std::path::{Path, PathBuf};
use std::time::Duration;
use tests::client::within;
use tests::daemon::Options;
use tests::{Client, Daemon, Kind, ground};

const LIMIT: Duration = Duration::from_secs(20);

const SCRIPT: &str = "echo one; sleep 0.1; echo two >&2; sleep 0.1; head -c 20000 /dev/zero | tr '\\0' x; echo; sleep 0.1; \
    printf '\\1\\2\\377\\n\\n'; sleep 0.1; printf end";

/// Lines enough for files of 10 kB to be turned over again and again.
const COUNT: &str = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i; done";

fn run(client: &Client, name: &str, options: &[&str], script: &str) {
    let words = [
        &["run", "-d", "--name", name],
        options,
        &["busybox", "sh", "-c", script],
    ]
    .concat();
    client.ok(&words);
    assert_eq!(client.ok(&["wait", name]), "0");
}

/// What is to be seen of a container's log, in all ways.
fn seen(client: &Client, name: &str) -> Vec<String> {
    let ways: [&[&str]; 6] = [
        &[],
        &["-t", "--details"],
        &["--tail", "0"],
        &["--tail", "1"],
        &["--tail", "3", "-t"],
        &["--tail", "700"],
    ];
    let mut seen = Vec::new();
    for way in ways {
        let ran = client.run(&[&["logs"], way, &[name]].concat());
        assert_eq!(ran.code, 0, "{}", ran.err);
        seen.extend([ran.out, ran.err]);
    }
    // From a moment on that is in the middle, and up to it. Docker 20.10 writes wrong times into its compressed files now and
    // then, and then passes over them.
    if !name.ends_with("turned") && !name.ends_with("json") {
        let times = client.ok(&["logs", "-t", name]);
        let count = times.lines().count();
        let middle = times.lines().nth(if count > 100 { count / 2 } else { 1 }).unwrap();
        let middle = middle.split_once(' ').unwrap().0;
        for way in ["--since", "--until"] {
            let ran = client.run(&["logs", way, middle, name]);
            seen.extend([ran.out, ran.err]);
        }
    }
    // Docker 20.10 forgets the newline of a line that has parts; later ones do not, and nor do we.
    seen.iter().map(|text| text.replace("xxxx\n", "xxxx")).collect()
}

/// Compares, and shows the first difference.
#[track_caller]
fn same(got: &[Vec<String>], want: &[Vec<String>]) {
    assert_eq!(got.len(), want.len());
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        for (way, (got, want)) in got.iter().zip(want).enumerate() {
            let at = got
                .bytes()
                .zip(want.bytes())
                .take_while(|(got, want)| got == want)
                .count();
            let rest = |text: &str| {
                String::from_utf8_lossy(&text.as_bytes()[at.min(text.len())..])
                    .chars()
                    .take(120)
                    .collect::<String>()
            };
            let (got, want) = (rest(got), rest(want));
            assert!(
                got == want,
                "log {index}, way {way}, after {at}: got {got:?}, wanted {want:?}"
            );
        }
    }
}

fn directory(root: &Path, client: &Client, name: &str) -> PathBuf {
    root.join("containers")
        .join(client.ok(&["inspect", "-f", "{{.Id}}", name]))
}

/// Names and sizes of a log's files; waits for what is just being compressed.
fn files(directory: &Path, log: &str, packed: bool) -> Vec<String> {
    let list = || {
        let entries = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
        names.retain(|name| name.contains(log));
        names.sort();
        names
    };
    let plain = |name: &String| name.ends_with(".1") || name.ends_with(".new");
    assert!(within(LIMIT, || !packed || !list().iter().any(plain)), "{:?}", list());
    list()
}

const SMALL: &[&str] = &["--log-opt", "max-size=10k", "--log-opt", "max-file=3"];
const LOCAL: &[&str] = &["--log-driver", "local"];

#[test]
fn docker_and_we_read_what_the_other_wrote() {
    ground::run(|g| {
        if !ground::there("dockerd") {
            println!("skipped: there is no dockerd to share a data root with");
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let start = |kind: Kind| g.start_on(root.path(), kind, &[]);
        let packed = [SMALL, &["--log-driver", "json-file", "--log-opt", "compress=true"]].concat();
        let all = |client: &Client, who: &str| {
            let name = |what: &str| format!("{who}-{what}");
            run(client, &name("local"), LOCAL, SCRIPT);
            run(client, &name("turned"), &[LOCAL, SMALL].concat(), COUNT);
            run(
                client,
                &name("plain"),
                &[LOCAL, SMALL, &["--log-opt", "compress=false"]].concat(),
                COUNT,
            );
            run(client, &name("json"), &packed, COUNT);
            ["local", "turned", "plain", "json"].map(name)
        };
        let look = |client: &Client, names: &[String]| {
            for name in names {
                let place = directory(root.path(), client, name);
                let expected: &[&str] = match name.rsplit_once('-').unwrap().1 {
                    "local" => &["container.log"],
                    "plain" => &["container.log", "container.log.1", "container.log.2"],
                    "turned" => &["container.log", "container.log.1.gz", "container.log.2.gz"],
                    _ => {
                        let found = files(&place, "-json.log", true);
                        let ends: Vec<&str> = found.iter().map(|name| name.rsplit_once("-json").unwrap().1).collect();
                        assert_eq!(ends, [".log", ".log.1.gz", ".log.2.gz"]);
                        continue;
                    }
                };
                let turned = expected.len() > 1 && expected[1].ends_with(".gz");
                assert_eq!(
                    files(&place.join("local-logs"), "container", turned),
                    expected,
                    "{name}"
                );
            }
            names.iter().map(|name| seen(client, name)).collect::<Vec<_>>()
        };
        let (mut dockers, docker) = start(Kind::Docker);
        docker.ok(&["pull", "-q", &g.busybox]);
        docker.ok(&["tag", &g.busybox, "busybox"]);
        let theirs = all(&docker, "theirs");
        let before = look(&docker, &theirs);
        // A driver that we have not.
        let far = [
            "--log-driver",
            "syslog",
            "--log-opt",
            "syslog-address=udp://127.0.0.1:9",
        ];
        run(&docker, "far", &far, "echo far");
        let far_before = docker.ok(&["logs", "far"]);
        assert_eq!(dockers.stop(), Some(0));

        let (mut ours, docker) = start(Kind::Ours);
        same(&look(&docker, &theirs), &before);
        assert!(
            docker
                .ok(&["ps", "-a", "--format", "{{.Names}}"])
                .lines()
                .any(|name| name == "far")
        );
        assert_eq!(
            docker.ok(&["inspect", "-f", "{{.HostConfig.LogConfig.Type}}", "far"]),
            "syslog"
        );
        assert_eq!(docker.ok(&["logs", "far"]), far_before);
        let ran = docker.run(&["start", "far"]);
        let text = "log driver \"syslog\" is not supported by balena";
        assert!(ran.code == 1 && ran.err.contains(text), "{}", ran.err);
        let state = docker.ok(&["inspect", "-f", "{{.State.Status}} {{.State.Error}}", "far"]);
        assert_eq!(state, format!("exited {text}"));
        // What goes on, goes on in the same files.
        for name in &theirs {
            docker.ok(&["start", name]);
            assert_eq!(docker.ok(&["wait", name]), "0");
        }
        let names: Vec<String> = theirs.into_iter().chain(all(&docker, "ours")).collect();
        let given = look(&docker, &names);
        assert_eq!(given[0][0].matches("one\n").count(), 2);
        let long = format!("one\n{}\n", "x".repeat(20_000));
        assert!(docker.run(&["logs", "ours-local"]).out.starts_with(&long));
        assert!(
            given
                .iter()
                .all(|one| one[0].ends_with("end") || one[0].ends_with("line 3000\n"))
        );
        // Nothing but whole lines, in order, up to the last.
        let lines: Vec<&str> = given[5][0].lines().collect();
        let from = 3000 - lines.len();
        assert!(lines.len() > 500 && (from + 1..=3000).map(|n| format!("line {n}")).eq(lines.iter().copied()));
        assert_eq!(ours.stop(), Some(0));

        let (mut dockers, docker) = start(Kind::Docker);
        same(&look(&docker, &names), &given);
        docker.ok(&["start", "ours-local", "far"]);
        docker.ok(&["wait", "ours-local", "far"]);
        dockers.stop();
    });
}

/// Turned over many times a second, compressed, and followed.
#[test]
fn a_follower_sees_all_of_a_log_that_is_turned_over() {
    ground::run(|g| {
        let (mut daemon, docker) = g.daemon_with_busybox();
        for (name, options) in [
            (
                "json",
                &[
                    "--log-driver",
                    "json-file",
                    "--log-opt",
                    "max-file=5",
                    "--log-opt",
                    "max-size=50k",
                ][..],
            ),
            (
                "local",
                &[
                    "--log-driver",
                    "local",
                    "--log-opt",
                    "compress=false",
                    "--log-opt",
                    "max-size=50k",
                ],
            ),
            ("packed", &["--log-driver", "local", "--log-opt", "max-size=200k"]),
        ] {
            // A file lasts for longer than a busy machine looks away.
            let script = "sleep 1; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo line $i; \
                [ $((i % 100)) = 0 ] && sleep 0.02; done; true";
            docker.ok(&[
                &["run", "-d", "--name", name],
                options,
                &["busybox", "sh", "-c", script],
            ]
            .concat());
            let out = docker.ok(&["logs", "-f", name]);
            let whole = (1..=20_000).map(|n| format!("line {n}"));
            let first = out.lines().zip(whole.clone()).find(|(got, want)| got != want);
            assert!(
                out.lines().eq(whole),
                "{name}: {} lines, {first:?}",
                out.lines().count()
            );
        }
        assert_eq!(daemon.left_behind(), [""; 0]);
    });
}

#[test]
fn drivers_and_their_options_are_refused_as_docker_refuses_them() {
    ground::run(|g| {
        let mut daemon = g.start(Kind::Ours, &["--log-opt", "max-size=1m", "--log-opt", "max-file=2"]);
        let docker = daemon.docker();
        docker.ok(&["pull", "-q", &g.busybox]);
        docker.ok(&["tag", &g.busybox, "busybox"]);
        let listed = docker.ok(&["info", "-f", "{{.Plugins.Log}} {{.LoggingDriver}}"]);
        assert_eq!(listed, "[journald json-file local none] json-file");
        for (words, text) in [
            (
                &["--log-driver", "syslog"][..],
                "log driver \"syslog\" is not supported by balena",
            ),
            (
                &["--log-driver", "bogus"],
                "logger: no log driver named 'bogus' is registered",
            ),
            (
                &["--log-driver", "local", "--log-opt", "x=y"],
                "unknown log opt 'x' for log driver local",
            ),
            (
                &["--log-driver", "journald", "--log-opt", "x=y"],
                "unknown log opt 'x' for journald log driver",
            ),
            (&["--log-opt", "x=y"], "unknown log opt 'x' for json-file log driver"),
        ] {
            let ran = docker.run(&[&["create"], words, &["busybox"]].concat());
            assert!(ran.code == 1 && ran.err.contains(text), "{}", ran.err);
        }
        let begin = "failed to create task for container: failed to initialize logging driver: ";
        for (words, text) in [
            (&["--log-opt", "max-size=x"][..], "invalid size: 'x'"),
            (
                &["--log-driver", "local", "--log-opt", "max-file=1"],
                "compression cannot be enabled when max file count is 1",
            ),
            (
                &["--log-opt", "tag={{.Foo}}"],
                "can't evaluate field Foo in type *logger.Info",
            ),
        ] {
            let ran = docker.run(&[&["run", "--rm"], words, &["busybox", "true"]].concat());
            assert!(
                ran.code == 125 && ran.err.contains(&format!("{begin}{text}")) || ran.err.contains(text),
                "{}",
                ran.err
            );
            assert!(ran.err.contains(begin), "{}", ran.err);
        }
        // The daemon's options are a container's that says which driver, and not another driver's.
        let config = |words: &[&str]| {
            let id = docker.ok(&[&["create"], words, &["busybox"]].concat());
            docker.ok(&["inspect", "-f", "{{json .HostConfig.LogConfig}}", &id])
        };
        let own = "{\"Type\":\"json-file\",\"Config\":{\"max-file\":\"2\",\"max-size\":\"1m\"}}";
        assert_eq!(config(&[]), own);
        assert_eq!(config(&["--log-driver", "json-file"]), own);
        assert_eq!(config(&["--log-driver", "local"]), "{\"Type\":\"local\",\"Config\":{}}");
        run(
            &docker,
            "tagged",
            &[
                "--log-opt",
                "tag={{.Name}}",
                "--log-opt",
                "labels=a",
                "--label",
                "a=b c",
            ],
            "echo x",
        );
        assert_eq!(docker.ok(&["logs", "--details", "tagged"]), "a=b+c,tag=tagged x");
        assert_eq!(daemon.left_behind(), [""; 0]);
        drop(daemon);
        for (words, text) in [
            (
                &["--log-driver", "syslog"][..],
                "log driver \"syslog\" is not supported by balena: known are",
            ),
            (
                &["--log-driver", "journald", "--log-opt", "x=y"],
                "failed to set log opts: unknown log opt 'x' for journald",
            ),
        ] {
            let options = Options {
                binary: g.binary.clone(),
                extra: words.iter().map(|word| (*word).to_owned()).collect(),
                ..Options::default()
            };
            let why = Daemon::start(Kind::Ours, options).err().map(|why| why.to_string());
            assert!(why.as_ref().is_some_and(|why| why.contains(text)), "{why:?}");
        }
    });
}

/// What power left of the last entry is in nobody's way.
#[test]
fn a_damaged_end_of_a_local_log_costs_its_last_entry() {
    ground::run(|g| {
        let (mut daemon, docker) = g.daemon_with_busybox();
        run(&docker, "cut", LOCAL, "echo one; echo two");
        let path = directory(&daemon.data_root(), &docker, "cut").join("local-logs/container.log");
        let bytes = std::fs::read(&path).unwrap();
        let mut cut = bytes[..bytes.len() - 5].to_vec();
        cut.resize(5000, 0);
        std::fs::write(&path, cut).unwrap();
        assert_eq!(docker.ok(&["logs", "cut"]), "one");
        assert_eq!(docker.ok(&["logs", "--tail", "1", "cut"]), "one");
        docker.ok(&["start", "cut"]);
        docker.ok(&["wait", "cut"]);
        assert_eq!(docker.ok(&["logs", "cut"]), "one\none\ntwo");
        assert_eq!(docker.ok(&["logs", "--tail", "2", "cut"]), "one\ntwo");
        assert_eq!(daemon.left_behind(), [""; 0]);
    });
}
