//! Our own client beside Docker's, both on our daemon: same output, same exit code.

use tests::terminal::Terminal;
use tests::{Client, Daemon, Ran, ground};

/// Runs each line with both clients and collects where they differ.
fn differences(clients: [&Client; 2], lines: &[&[&str]]) -> Vec<String> {
    let mut different = Vec::new();
    for line in lines {
        let [theirs, ours]: [Ran; 2] = clients.map(|client| client.run(line));
        // Both name themselves in what they say of a mistake.
        let own_name = |client: &Client, text: &str| {
            let name = client
                .program
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let text = text.replace(&format!("{name}:"), "NAME:");
            text.replace(&format!("'{name} "), "'NAME ")
        };
        // Docker's client walks a map of an image's names: their rows come in any order.
        let rows = |ran: &Ran| -> String {
            let mut rows: Vec<&str> = ran.out.split_inclusive('\n').collect();
            if line.first() == Some(&"images") {
                rows.sort_unstable();
            }
            rows.concat()
        };
        let plain = |client, ran: &Ran| (ran.code, rows(ran), own_name(client, &ran.err));
        if plain(clients[0], &theirs) != plain(clients[1], &ours) {
            different.push(format!("{}\n  docker: {theirs:?}\n  ours:   {ours:?}", line.join(" ")));
        }
    }
    different
}

#[test]
fn what_is_listed_and_formatted() {
    ground::run(|g| {
        let (mut daemon, docker) = g.daemon_with_busybox();
        let ours = daemon.cli();
        docker.ok(&[
            "create", "--name", "full", "-e", "A=1", "--label", "l=1", "-v", "data:/d", "-p", "8080:80", "busybox",
            "sh", "-c", "echo 1",
        ]);
        docker.ok(&[
            "run",
            "-d",
            "--name",
            "up",
            "-p",
            "127.0.0.1:8081:80",
            "busybox",
            "sleep",
            "1000",
        ]);
        docker.run(&[
            "run",
            "--name",
            "ended",
            "busybox",
            "sh",
            "-c",
            "echo out; echo err >&2; exit 3",
        ]);
        let lines: &[&[&str]] = &[
            &["images"],
            &["images", "-q", "--no-trunc"],
            &["images", "--digests"],
            &["images", "--format", "{{json .ID}} {{.Tag}}"],
            &["image", "ls", "--filter", "reference=busybox"],
            &["ps", "-q"],
            &["ps", "-aq", "--no-trunc"],
            &[
                "ps",
                "-a",
                "--format",
                "table {{.Names}}\t{{.Image}}\t{{.Command}}\t{{.Ports}}",
            ],
            &[
                "ps",
                "-a",
                "--filter",
                "status=exited",
                "--format",
                "{{.Names}} {{.Labels}} {{.Mounts}} {{.Networks}}",
            ],
            &[
                "container",
                "ls",
                "-a",
                "--filter",
                "name=full",
                "--format",
                "{{.State}} {{.Size}}",
            ],
            &["inspect", "full"],
            &["inspect", "up", "ended"],
            &["inspect", "busybox"],
            &["inspect", "-f", "{{.State.Status}} {{.Name}}", "up"],
            &["inspect", "-f", "{{json .Config}}", "full"],
            &["inspect", "-f", "{{range .Config.Env}}{{println .}}{{end}}", "full"],
            &[
                "inspect",
                "-f",
                "{{index .Config.Labels \"l\"}} {{len .Mounts}}",
                "full",
            ],
            &["inspect", "--type", "image", "full"],
            &["inspect", "nothing"],
            &["logs", "ended"],
            &["logs", "--tail", "1", "ended"],
            &["logs", "nothing"],
            &["port", "up"],
            &["port", "full"],
            &["top", "up", "-o", "args"],
            &["history", "busybox"],
            &["history", "--no-trunc", "--format", "{{.ID}} {{.Size}}", "busybox"],
            &["volume", "ls"],
            &["network", "ls", "--format", "{{.Name}} {{.Driver}}"],
            &["exec", "up", "sh", "-c", "exit 9"],
            &["exec", "up", "no-such"],
            &["exec", "ended", "true"],
            &["start", "nothing"],
            &["rm", "nothing"],
            &["rm", "up"],
            &["rmi", "nothing"],
            &["kill", "ended"],
            &["stop", "nothing"],
            &["wait", "ended"],
            &["pull", "-q", &g.busybox],
            &["version", "--format", "{{.Server.APIVersion}}"],
            &["info", "--format", "{{.Driver}} {{.Containers}} {{.Images}}"],
            &["events", "--since", "1", "--until", "2"],
            &["run", "--rm", "busybox", "echo", "hello"],
            &["run", "--rm", "busybox", "sh", "-c", "exit 7"],
            &["run", "--rm", "busybox", "no-such"],
            &["run", "--rm", "busybox", "/etc/not-executable"],
            &["run", "--rm", "--name", "up", "busybox"],
            &["run", "--rm", "--network", "no-such", "busybox"],
            &["run", "--rm", "--name", "ports", "-p", "8081:80", "busybox", "true"],
            &["run", "--rm", "--memory", "1k", "busybox"],
        ];
        let different = differences([&docker, &ours], lines);
        assert!(
            different.is_empty(),
            "{} of {} differ\n{}",
            different.len(),
            lines.len(),
            different.join("\n")
        );
        assert_eq!(daemon.left_behind(), Vec::<String>::new());
    });
}

#[test]
fn a_container_from_pull_to_rm() {
    ground::run(|g| {
        let mut daemon: Daemon = g.daemon();
        let ours = daemon.cli();
        let said = ours.ok(&["pull", &g.busybox]);
        assert!(
            said.contains(&format!("Status: Downloaded newer image for {}", g.busybox)),
            "{said}"
        );
        let id = ours.ok(&[
            "run",
            "-d",
            "--name",
            "one",
            "-e",
            "A=b",
            &g.busybox,
            "sh",
            "-c",
            "echo $A; sleep 1000",
        ]);
        assert_eq!(id.len(), 64, "{id}");
        assert_eq!(ours.ok(&["ps", "-q", "--no-trunc"]), id);
        assert_eq!(ours.ok(&["exec", "-e", "C=d", "one", "sh", "-c", "echo $C"]), "d");
        let ran = ours.run_with(&["exec", "-i", "one", "wc", "-c"], &[b'x'; 70_000]);
        assert_eq!(ran.out.trim(), "70000", "{}", ran.err);
        assert_eq!(ours.ok(&["logs", "one"]), "b");
        assert_eq!(ours.ok(&["stop", "-t", "0", "one"]), "one");
        assert_eq!(ours.ok(&["wait", "one"]), "137");
        assert_eq!(ours.ok(&["rm", "one"]), "one");
        let bad = ours.run(&["run", "--no-such-flag", &g.busybox]);
        assert_eq!(bad.code, 125, "{}", bad.err);
        assert!(bad.err.contains("unknown flag: --no-such-flag"), "{}", bad.err);
        assert!(ours.ok(&["rmi", &g.busybox]).contains("Deleted: sha256:"));
        assert_eq!(daemon.left_behind(), Vec::<String>::new());
    });
}

#[test]
fn a_shell_on_a_terminal() {
    ground::run(|g| {
        let (mut daemon, _) = g.daemon_with_busybox();
        let command = daemon.cli().command(&["run", "-it", "--rm", "busybox", "sh"]);
        let mut terminal = Terminal::start(&command, 93, 31).unwrap();
        assert!(terminal.shows("/ # "), "{}", terminal.shown());
        assert!(terminal.comes_to("stty size\n", "31 93"), "{}", terminal.shown());
        terminal.resize(77, 22).unwrap();
        assert!(terminal.comes_to("stty size\n", "22 77"), "{}", terminal.shown());
        terminal.type_in("exit 7\n").unwrap();
        assert_eq!(terminal.exit_code(), Some(7), "{}", terminal.shown());
        assert_eq!(daemon.left_behind(), Vec::<String>::new());
    });
}

/// Whose help is shown, where it goes, and what is said of `-h`; the texts of help are ours.
#[test]
fn which_help_is_shown() {
    ground::run(|g| {
        let home = tempfile::tempdir().unwrap();
        let name = home.path().join("docker");
        std::os::unix::fs::symlink(&g.binary, &name).unwrap();
        let socket = home.path().join("no-daemon");
        let clients =
            [std::path::PathBuf::from("docker"), name].map(|program| Client::new(program, &socket, home.path()));
        for line in [
            "",
            "-h",
            "help",
            "help ps",
            "help container",
            "help container ls",
            "--help",
            "--help=0",
            "--help ps",
            "--help foo",
            "--help container",
            "--help container foo",
            "--help container ls",
            "--help --version",
            "foo --help",
            "foo -h",
            "container",
            "container -h",
            "container --help",
            "container --help=false",
            "container --help ls",
            "container foo --help",
            "container foo -h",
            "container ls -h",
            "ps --help",
            "ps -h",
            "ps -qh",
            "ps a b --help",
            "ps --help=0 --help",
            "run --help x --foo",
            "run x --help",
            "exec --help=true",
        ] {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [theirs, ours] = clients.each_ref().map(|client| {
                let ran = client.run(&words);
                let said = |text: &str| {
                    let lines = text
                        .lines()
                        .filter(|line| line.starts_with("Usage:") || line.contains("-h "));
                    lines.map(str::to_owned).collect::<Vec<_>>()
                };
                (ran.code, said(&ran.out), said(&ran.err))
            });
            assert_eq!(ours, theirs, "{line}");
        }
    });
}
