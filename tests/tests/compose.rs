//! docker-compose, a large client of the Engine API that is not docker's own: a project from its first `up` to `down -v`.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;
use tests::client::{Ran, finish, within};
use tests::{Daemon, ground, http, registry};

const PROJECT: &str = r#"
version: "3.7"
services:
  db:
    image: IMAGE
    command: sh -c 'while true; do echo from the db | nc -l -p 5432; done'
    volumes: [ "data:/var/lib/db" ]
    networks: { back: { aliases: [ database ] } }
    healthcheck: { test: [ CMD, "true" ], interval: 1s }
    restart: unless-stopped
  web:
    image: IMAGE
    command: httpd -f -p 80 -h /www
    volumes: [ "./www:/www:ro" ]
    ports: [ "127.0.0.1:PORT:80" ]
    networks: [ front, back ]
    depends_on: [ db ]
    environment: { TURN: "first" }
    labels: { x: y }
    logging: { driver: json-file, options: { max-size: 10k, max-file: "2" } }
    stop_grace_period: 1s
    cap_drop: [ ALL ]
    cap_add: [ NET_BIND_SERVICE ]
    tmpfs: [ /run ]
    sysctls: { net.core.somaxconn: 1024 }
    ulimits: { nofile: { soft: 1000, hard: 2000 } }
networks:
  front: {}
  back: { ipam: { config: [ { subnet: 10.77.0.0/24 } ] } }
volumes: { data: {} }
"#;

#[test]
fn a_project_comes_changes_and_goes() {
    ground::run(|g| {
        if !ground::there("docker-compose") {
            println!("skipped: there is no docker-compose");
            return;
        }
        let daemon: Daemon = g.daemon();
        let docker = daemon.docker();
        let directory = daemon.dir().join("project");
        fs::create_dir_all(directory.join("www")).unwrap();
        fs::write(directory.join("www/index.html"), "hello\n").unwrap();
        let port = registry::free_port().unwrap();
        let file = directory.join("docker-compose.yml");
        let project = PROJECT.replace("IMAGE", &g.busybox).replace("PORT", &port.to_string());
        fs::write(&file, &project).unwrap();
        let compose = |words: &[&str]| -> Ran {
            let mut command = Command::new("docker-compose");
            command.args(words).current_dir(&directory).stdin(Stdio::null());
            command.env("DOCKER_HOST", format!("unix://{}", daemon.socket().display()));
            // Its last version reads a field that Docker left out of 1.45.
            command.env("COMPOSE_API_VERSION", "1.44");
            let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            finish(child, Duration::from_secs(60))
        };
        let ok = |words: &[&str]| -> String {
            let ran = compose(words);
            assert_eq!(ran.code, 0, "{words:?}: {}{}", ran.out, ran.err);
            ran.out + &ran.err
        };
        ok(&["pull"]);
        ok(&["up", "-d"]);
        let page = || http::local(port, "GET", "/", &[], b"").is_ok_and(|answer| answer.text() == "hello\n");
        assert!(within(Duration::from_secs(10), page));
        for name in ["database", "db"] {
            let said = ok(&["exec", "-T", "web", "nc", name, "5432"]);
            assert_eq!(said.trim(), "from the db");
        }
        let again = ok(&["up", "-d"]);
        assert!(again.contains("up-to-date") && !again.contains("Recreating"), "{again}");
        fs::write(&file, project.replace("first", "second")).unwrap();
        let changed = ok(&["up", "-d", "--scale", "db=2"]);
        assert!(changed.contains("Recreating") && changed.contains("_db_2"), "{changed}");
        assert_eq!(ok(&["exec", "-T", "web", "sh", "-c", "echo $TURN"]).trim(), "second");
        let once = ok(&["run", "--rm", "-T", "web", "sh", "-c", "echo $TURN; nc db 5432"]);
        assert!(once.contains("second") && once.contains("from the db"), "{once}");
        for words in [
            &["pause"][..],
            &["unpause"],
            &["restart", "-t", "1", "web"],
            &["kill", "db"],
            &["stop", "-t", "1"],
            &["start"],
        ] {
            ok(words);
        }
        assert!(ok(&["port", "web", "80"]).trim().ends_with(&port.to_string()));
        assert!(within(Duration::from_secs(10), page));
        ok(&["down", "-v", "-t", "1"]);
        for left in [
            &["ps", "-aq"][..],
            &["network", "ls", "-q", "--filter", "type=custom"],
            &["volume", "ls", "-q"],
        ] {
            assert_eq!(docker.ok(left), "", "{left:?}");
        }
    });
}
