//! Networks of one's own: containers that find each other by name, come and go, and outlive the daemon.

use tests::compare::compare;
use tests::{Client, Kind, ground};

fn ip_on(docker: &Client, name: &str, network: &str) -> String {
    let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
    docker.ok(&["inspect", "-f", &format, name])
}

/// The addresses that a container gets for a name, by the image's own nslookup.
fn asks(docker: &Client, from: &str, name: &str) -> Vec<String> {
    let ran = docker.run(&["exec", from, "nslookup", "-type=a", name]);
    let lines = ran.out.lines().skip_while(|line| !line.starts_with("Name:"));
    lines
        .filter_map(|line| line.strip_prefix("Address: "))
        .map(str::to_owned)
        .collect()
}

#[test]
fn containers_find_each_other_by_name() {
    ground::run(|g| {
        let (mut daemon, docker) = g.daemon_with_busybox();
        docker.ok(&["network", "create", "back"]);
        docker.ok(&[
            "network",
            "create",
            "--subnet",
            "10.77.0.0/24",
            "--label",
            "x=y",
            "field",
        ]);
        let sleep = ["busybox", "sleep", "1000"];
        let run = |arguments: &[&str]| docker.ok(&[&["run", "-d"], arguments, &sleep].concat());
        run(&["--name", "db", "--network", "back", "--network-alias", "store"]);
        let web = run(&["--name", "web", "--network", "back"]);
        run(&["--name", "alone"]);
        let db = ip_on(&docker, "db", "back");
        for name in ["db", "DB", "store", "db.back"] {
            assert_eq!(asks(&docker, "web", name), [db.as_str()], "{name}");
        }
        assert_eq!(
            asks(&docker, "db", &web[..12]),
            [ip_on(&docker, "web", "back").as_str()]
        );
        // A link is a name that only this one knows.
        run(&["--name", "linked", "--network", "back", "--link", "db:base"]);
        assert_eq!(asks(&docker, "linked", "base"), [db.as_str()]);
        assert!(asks(&docker, "web", "base").is_empty());
        docker.ok(&["rm", "-f", "linked"]);
        let reverse = docker.run(&["exec", "web", "nslookup", &db]);
        assert!(reverse.out.contains("name = db.back"), "{}", reverse.out);
        assert_eq!(
            docker.ok(&["exec", "web", "cat", "/etc/resolv.conf"]).lines().last(),
            Some("options ndots:0")
        );
        // Nobody outside of the network knows or reaches it.
        assert!(docker.run(&["exec", "alone", "nslookup", "db"]).code != 0);
        assert!(docker.run(&["exec", "alone", "ping", "-c1", "-W1", &db]).code != 0);
        docker.ok(&["exec", "web", "ping", "-c1", "-W2", "db"]);

        // A second network while it runs, with an address and a name of its own there.
        docker.ok(&[
            "network",
            "connect",
            "--ip",
            "10.77.0.9",
            "--alias",
            "probe",
            "field",
            "web",
        ]);
        run(&["--name", "sensor", "--network", "field"]);
        assert_eq!(asks(&docker, "sensor", "probe"), ["10.77.0.9"]);
        docker.ok(&["exec", "web", "ping", "-c1", "-W2", "sensor"]);
        let again = docker.run(&["network", "connect", "field", "web"]);
        assert_eq!(
            again.err.trim(),
            "Error response from daemon: endpoint with name web already exists in network field"
        );
        // The next daemon knows all of it.
        daemon.kill();
        daemon.up().unwrap();
        assert_eq!(asks(&docker, "sensor", "probe"), ["10.77.0.9"]);
        assert_eq!(asks(&docker, "web", "db"), [db.as_str()]);
        docker.ok(&["rename", "db", "base"]);
        assert_eq!(asks(&docker, "web", "base"), [db.as_str()]);
        assert!(asks(&docker, "web", "db").is_empty());

        docker.ok(&["network", "disconnect", "field", "web"]);
        assert!(asks(&docker, "sensor", "probe").is_empty());
        let off = docker.run(&["network", "disconnect", "field", "web"]);
        assert!(off.err.ends_with("is not connected to network field\n"), "{}", off.err);
        let busy = docker.run(&["network", "rm", "back"]);
        assert!(
            busy.err.contains("error while removing network: network back id "),
            "{}",
            busy.err
        );
        assert!(busy.err.contains(" has active endpoints"), "{}", busy.err);
        for name in ["base", "web", "sensor"] {
            docker.ok(&["rm", "-f", name]);
        }
        assert_eq!(
            docker.ok(&["network", "prune", "-f", "--filter", "label=x"]),
            "Deleted Networks:\nfield"
        );
        docker.ok(&["network", "rm", "back"]);
        assert_eq!(daemon.left_behind(), Vec::<String>::new());
    });
}

#[test]
fn a_name_server_may_run_in_a_container() {
    ground::run(|g| {
        let (mut daemon, docker) = g.daemon_with_busybox();
        docker.ok(&["network", "create", "back"]);
        let listen = "nc -u -l -p 53 >/dev/null & exec httpd -f -p 53 -h /www";
        docker.ok(&[
            "run",
            "-d",
            "--name",
            "names",
            "--network",
            "back",
            "busybox",
            "sh",
            "-c",
            listen,
        ]);
        docker.ok(&[
            "run",
            "-d",
            "--name",
            "web",
            "--network",
            "back",
            "busybox",
            "sleep",
            "1000",
        ]);
        // Port 53 is the container's, and its own names are still answered.
        assert_eq!(
            docker.ok(&["exec", "web", "wget", "-qO-", "http://names:53/"]),
            "It runs."
        );
        assert_eq!(asks(&docker, "names", "web"), [ip_on(&docker, "web", "back").as_str()]);
        assert_eq!(daemon.left_behind(), Vec::<String>::new());
    });
}

#[test]
fn refusals_are_dockers() {
    ground::run(|g| {
        let mut answers = Vec::new();
        for kind in [Kind::Ours, Kind::Docker] {
            if kind == Kind::Docker && !ground::there("dockerd") {
                println!("skipped: there is no dockerd to compare with");
                return;
            }
            let mut daemon = g.start(kind, &[]);
            let ask = |body: &str| {
                let answer = daemon.api("POST", "/networks/create", body);
                match answer.status {
                    201 => "201".to_owned(),
                    status => format!("{status} {}", answer.text().trim()),
                }
            };
            let mut said: Vec<String> = [
                r#"{"Name":"n1","CheckDuplicate":true}"#,
                r#"{"Name":"n1","CheckDuplicate":true}"#,
                r#"{"Name":"bridge"}"#,
                r#"{"Name":"h","Driver":"host"}"#,
                r#"{"Name":"h","Driver":"foo"}"#,
                r#"{"Name":"n7","IPAM":{"Driver":"default","Config":[{"Subnet":"10.99.0.0/24","IPRange":"10.99.0.128/25","Gateway":"10.99.0.254","AuxiliaryAddresses":{"a":"10.99.0.5"}}]},"Internal":true,"Labels":{"x":"y"}}"#,
            ]
            .iter()
            .map(|body| ask(body))
            .collect();
            for (method, target) in [
                ("DELETE", "/networks/nope"),
                ("DELETE", "/networks/bridge"),
                ("GET", "/networks/nope"),
            ] {
                let answer = daemon.api(method, target, "");
                said.push(format!("{method} {target} {} {}", answer.status, answer.text().trim()));
            }
            let mut shown: serde_json::Value =
                serde_json::from_slice(&daemon.api("GET", "/networks/n7", "").body).unwrap();
            // Docker 28 has this and 20.10 has not.
            for field in ["Id", "Created", "EnableIPv4"] {
                shown.as_object_mut().unwrap().remove(field);
            }
            said.push(shown.to_string());
            for network in ["n1", "n7"] {
                assert_eq!(daemon.api("DELETE", &format!("/networks/{network}"), "").status, 204);
            }
            if kind == Kind::Ours {
                assert_eq!(daemon.left_behind(), Vec::<String>::new());
            }
            answers.push(said);
        }
        for (ours, dockers) in answers[0].iter().zip(&answers[1]) {
            assert_eq!(ours, dockers);
        }
    });
}

/// What is said of networks, and what has no meaning in another's.
#[test]
fn networks_beside_docker() {
    ground::run(|g| {
        compare(
            g,
            &[
                "network create",
                "network create a b",
                "network create --subnet 10.71.0.0/24 --ip-range 10.72.0.0/24 n1",
                "network create --gateway 10.71.0.1 n1",
                "network create --subnet 10.71.0.0/24 --subnet 10.71.0.0/25 n1",
                "network create --subnet 10.71.0.0/25 --subnet 10.71.0.0/24 n1",
                "network create --subnet 10.71.0.0/24 --aux-address x n1",
                "network create -d host n1",
                "network create -d null n1",
                "network create bridge",
                "network create host",
                "network create none",
                "network create --subnet 10.71.0.0/24 --label a=b n1",
                "network create --subnet 10.71.0.0/24 n2",
                "network create --subnet 10.71.0.128/25 n2",
                "network create --subnet 10.74.0.0/24 n1",
                "network create --subnet 10.73.0.0/24 n2",
                "network inspect nothing",
                "network inspect",
                "network inspect -f {{.Name}}|{{.Driver}}|{{.Internal}}|{{json_.Options}}|{{json_.Labels}}|{{json_.Containers}} n1",
                "network ls -f name=n1 --format {{.Name}}",
                "network ls -f label=a=b --format {{.Name}}|{{.Driver}}|{{.Scope}}|{{.IPv6}}|{{.Internal}}|{{.Labels}}",
                "network ls -f type=what",
                "network ls -f what=x",
                "network ls x",
                "create --name c1 --network n1 busybox sleep 1000",
                "create --name c2 --network none busybox sleep 1000",
                "create --name c3 --network host busybox sleep 1000",
                "network connect n1 c2",
                "network connect n1 c3",
                "network connect none c1",
                "network connect host c1",
                "network connect n1 nothing",
                "network connect n2 c1",
                "network disconnect none c2",
                "network connect n2 c2",
                "inspect -f {{range_$k,$v:=.NetworkSettings.Networks}}{{$k}},{{end}} c2",
                "start c2",
                "exec c2 hostname -i",
                "network rm n2",
                "network rm nothing",
                "network rm -f nothing",
                "network rm host",
                "network rm",
                "create --network container:c2 -p 80:80 busybox",
                "create --network container:c2 -h x busybox",
                "create --network container:c2 --dns 1.1.1.1 busybox",
                "create --network container:c2 --add-host a:1.2.3.4 busybox",
                "create --network container:c2 --expose 80 busybox",
                "create --network container:c2 --link c1:b busybox",
                "create --network host --link c1:b busybox",
                "create --uts host -h x --network none busybox",
                "rm -f c1 c2 c3",
                "network prune -f --filter label=x",
                "network rm n1 n2",
                "network what",
            ],
        );
    });
}
