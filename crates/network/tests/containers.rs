//! Containers on bridges, in a namespace that plays the host.

mod ground;

use std::net::Ipv4Addr;
use std::time::Instant;

use ground::{HOST, OUTSIDE, alone, ask, ask_from, ask_udp, open, outside, rules, serve, serve_udp, sh};
use network::portmap::{Protocol, Publish};
use network::{Config, EndpointConfig, ErrorKind, NewNetwork, Sandbox};

fn plain() -> EndpointConfig {
    EndpointConfig::default()
}

fn publishing(ports: &[(&str, &str, &str)]) -> EndpointConfig {
    let publish = ports
        .iter()
        .map(|(port, ip, host)| Publish::parse(port, ip, host).unwrap())
        .collect();
    EndpointConfig { publish, ..plain() }
}

#[test]
fn containers_reach_each_other_and_the_world() {
    alone(|dir| {
        let outside = outside(dir);
        let networks = open(dir, Config::default());
        let (a, b) = (
            Sandbox::create(dir, "aaaaaaaaaaaa").unwrap(),
            Sandbox::create(dir, "bbbbbbbbbbbb").unwrap(),
        );
        let first = networks.connect(&a, "bridge", &plain()).unwrap();
        let second = networks.connect(&b, "default", &plain()).unwrap();
        assert_eq!(first.ip, Some(Ipv4Addr::new(172, 17, 0, 2)));
        assert_eq!(second.ip, Some(Ipv4Addr::new(172, 17, 0, 3)));
        assert_eq!(
            (first.mac.as_str(), first.gateway),
            ("02:42:ac:11:00:02", Some(Ipv4Addr::new(172, 17, 0, 1)))
        );
        let shown = sh(&format!(
            "nsenter --net={} sh -c 'ip addr; ip route'",
            a.path().display()
        ));
        assert!(shown.contains("link/ether 02:42:ac:11:00:02"), "{shown}");
        assert!(
            shown.contains("inet 172.17.0.2/16 brd 172.17.255.255 scope global eth0"),
            "{shown}"
        );
        assert!(shown.contains("default via 172.17.0.1 dev eth0"), "{shown}");
        assert!(!shown.contains("fe80"), "{shown}");
        serve(&b, 80);
        serve(&outside, 80);
        assert_eq!(ask_from(&a, "172.17.0.3:80").unwrap(), "172.17.0.2");
        // The world sees the host.
        assert_eq!(ask_from(&a, &format!("{OUTSIDE}:80")).unwrap(), HOST);
        networks.disconnect(&first).unwrap();
        assert!(ask_from(&a, "172.17.0.3:80").unwrap_err().contains("unreachable"));
        // The lowest free address is the next.
        assert_eq!(networks.connect(&a, "bridge", &plain()).unwrap().ip, first.ip);
        a.remove().unwrap();
        assert!(!a.exists() && b.exists());
    });
}

#[test]
fn published_ports_answer_from_everywhere() {
    publishes(Config::default(), rules);
}

#[test]
fn published_ports_answer_by_nf_tables_alone() {
    if std::process::Command::new("nft").arg("--version").output().is_err() {
        println!("skipped: no nft in PATH to look at the rules");
        return;
    }
    let config = Config {
        nf_tables: true,
        ..Config::default()
    };
    publishes(config, || sh("nft list ruleset"));
}

fn publishes(config: Config, rules: fn() -> String) {
    alone(|dir| {
        let outside = outside(dir);
        let networks = open(dir, config);
        let (a, b) = (
            Sandbox::create(dir, "aaaaaaaaaaaa").unwrap(),
            Sandbox::create(dir, "bbbbbbbbbbbb").unwrap(),
        );
        let other = networks.create(NewNetwork::named("other")).unwrap();
        let c = Sandbox::create(dir, "cccccccccccc").unwrap();
        serve(&a, 80);
        serve_udp(&a, 53);
        let before = rules();
        let wanted = [
            ("80", "", "8080"),
            ("80", "127.0.0.1", "8081"),
            ("80", HOST, "8082"),
            ("53/udp", "", "5353"),
            ("80", "", ""),
        ];
        let web = networks.connect(&a, "bridge", &publishing(&wanted)).unwrap();
        networks.connect(&b, "bridge", &plain()).unwrap();
        networks.connect(&c, &other.id[..12], &plain()).unwrap();
        assert_eq!(web.ports[4].host_port, 32768);
        assert_eq!(web.bindings(53, Protocol::Udp), [(Ipv4Addr::UNSPECIFIED.into(), 5353)]);

        assert_eq!(
            ask_from(&outside, &format!("{HOST}:8080")).unwrap(),
            OUTSIDE,
            "{}",
            rules()
        );
        assert_eq!(ask("127.0.0.1:8080").unwrap(), "172.17.0.1");
        serve(&outside, 80);
        assert_eq!(ask_from(&b, &format!("{OUTSIDE}:80")).unwrap(), HOST);
        ask(&format!("{HOST}:8080")).unwrap();
        ask("172.17.0.1:8080").unwrap();
        ask("127.0.0.1:32768").unwrap();
        for client in [&a, &b, &c] {
            ask_from(client, &format!("{HOST}:8080")).unwrap();
        }
        ask_from(&b, "172.17.0.1:8080").unwrap();

        ask("127.0.0.1:8081").unwrap();
        assert!(ask_from(&outside, &format!("{HOST}:8081")).is_err());
        assert!(ask_from(&b, "172.17.0.1:8081").is_err());
        ask(&format!("{HOST}:8082")).unwrap();
        assert!(ask("127.0.0.1:8082").is_err());

        for _ in 0..2 {
            ask_udp("127.0.0.1:5353").unwrap();
            ask_udp(&format!("{HOST}:5353")).unwrap();
            outside
                .inside(|| {
                    ask_udp(&format!("{HOST}:5353")).unwrap();
                    Ok(())
                })
                .unwrap();
            b.inside(|| {
                ask_udp(&format!("{HOST}:5353")).unwrap();
                Ok(())
            })
            .unwrap();
        }
        // Other networks are reached by published ports only.
        assert!(ask_from(&c, "172.17.0.2:80").is_err());
        // route_localnet is for answers alone.
        let local = std::net::TcpListener::bind("127.0.0.1:9999").unwrap();
        let inside = format!("nsenter --net={}", b.path().display());
        sh(&format!(
            "{inside} ip addr del 127.0.0.1/8 dev lo; {inside} ip route add 127.0.0.1 via 172.17.0.1 src 172.17.0.3; {inside} sysctl -qw net.ipv4.conf.eth0.route_localnet=1"
        ));
        assert!(ask_from(&b, "127.0.0.1:9999").is_err());
        drop(local);

        networks.disconnect(&web).unwrap();
        assert_eq!(rules(), before);
        assert!(ask("127.0.0.1:8080").unwrap_err().contains("refused"));
    });
}

#[test]
fn ports_in_use() {
    alone(|dir| {
        let networks = open(dir, Config::default());
        let (a, b) = (
            Sandbox::create(dir, "aaaaaaaaaaaa").unwrap(),
            Sandbox::create(dir, "bbbbbbbbbbbb").unwrap(),
        );
        let first = networks
            .connect(&a, "bridge", &publishing(&[("80", "", "8080")]))
            .unwrap();
        let error = networks
            .connect(&b, "bridge", &publishing(&[("80", "", "8080")]))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "Bind for 0.0.0.0:8080 failed: port is already allocated"
        );
        // Programs of the host cannot take it either, and one that has a port keeps it.
        assert!(std::net::TcpListener::bind("0.0.0.0:8080").is_err());
        let taken = std::net::TcpListener::bind("0.0.0.0:9090").unwrap();
        let error = networks
            .connect(&b, "bridge", &publishing(&[("80", "", "9090")]))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "listen tcp4 0.0.0.0:9090: bind: address already in use"
        );
        let next = networks
            .connect(&b, "bridge", &publishing(&[("80", "", "9090-9091")]))
            .unwrap();
        assert_eq!(next.ports[0].host_port, 9091);
        // A failed attempt leaves no address reserved.
        assert_eq!(next.ip, Some(Ipv4Addr::new(172, 17, 0, 3)));
        drop(taken);
        networks.disconnect(&first).unwrap();
        // A process that another test is just spawning holds a copy of the listener until its exec.
        let free = (0..100).any(|_| {
            let bound = std::net::TcpListener::bind("0.0.0.0:8080").is_ok();
            if !bound {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            bound
        });
        assert!(free, "port 8080 is still taken");
    });
}

#[test]
fn isolation() {
    alone(|dir| {
        let outside = outside(dir);
        let networks = open(
            dir,
            Config {
                icc: false,
                ..Config::default()
            },
        );
        let internal = networks
            .create(NewNetwork {
                internal: true,
                ..NewNetwork::named("inner")
            })
            .unwrap();
        let boxes: Vec<Sandbox> = ["a", "b", "c", "d"]
            .iter()
            .map(|n| Sandbox::create(dir, &n.repeat(12)).unwrap())
            .collect();
        let addresses: Vec<String> = ["bridge", "bridge", "inner", "inner"]
            .iter()
            .zip(&boxes)
            .map(|(network, sandbox)| {
                networks
                    .connect(sandbox, network, &plain())
                    .unwrap()
                    .ip
                    .unwrap()
                    .to_string()
            })
            .collect();
        serve(&boxes[0], 80);
        serve(&boxes[2], 80);
        serve(&outside, 80);
        // Bridged packets pass the filter only with br_netfilter; without it icc=false is not enforced.
        if std::fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables").is_ok_and(|v| v.trim() == "1") {
            assert!(ask_from(&boxes[1], &format!("{}:80", addresses[0])).is_err());
        } else {
            println!("skipped: no br_netfilter in this namespace");
        }
        ask_from(&boxes[3], &format!("{}:80", addresses[2])).unwrap();
        assert!(ask_from(&boxes[3], &format!("{OUTSIDE}:80")).is_err());
        assert!(ask_from(&boxes[3], &format!("{}:80", addresses[0])).is_err());
        let error = networks.remove("inner").unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "error while removing network: network inner id {} has active endpoints",
                internal.id
            )
        );
    });
}

#[test]
fn networks_come_and_go() {
    alone(|dir| {
        let networks = open(dir, Config::default());
        assert_eq!(
            networks.list().iter().map(|n| n.name.as_str()).collect::<Vec<_>>(),
            ["bridge", "host", "none"]
        );
        let before = rules();
        let made = networks.create(NewNetwork::named("one")).unwrap();
        assert_eq!(made.ipam.as_ref().unwrap().subnet.to_string(), "172.18.0.0/16");
        assert!(sh("ip -br link").contains(&format!("br-{}", &made.id[..12])));
        for (request, kind) in [
            (NewNetwork::named("one"), ErrorKind::Conflict),
            (NewNetwork::named("host"), ErrorKind::Forbidden),
            (NewNetwork::named("a b"), ErrorKind::Invalid),
            (
                NewNetwork {
                    subnet: Some("172.18.5.0/24".parse().unwrap()),
                    ..NewNetwork::named("x")
                },
                ErrorKind::Forbidden,
            ),
        ] {
            assert_eq!(networks.create(request).unwrap_err().kind, kind);
        }
        let options = [("com.docker.network.bridge.name".to_owned(), "lo".to_owned())].into();
        let error = networks
            .create(NewNetwork {
                options,
                ..NewNetwork::named("x")
            })
            .unwrap_err();
        assert_eq!(error.to_string(), "existing interface lo is not a bridge");
        // What the daemon knows, the next one knows.
        let again = open(dir, Config::default());
        assert_eq!(again.list(), networks.list());
        assert_eq!(again.inspect(&made.id[..5]).unwrap(), made);
        again.remove("one").unwrap();
        assert_eq!(rules(), before);
        assert!(!sh("ip -br link").contains("br-"));
        assert_eq!(again.inspect("one").unwrap_err().to_string(), "network one not found");
        assert_eq!(again.remove("none").unwrap_err().kind, ErrorKind::Forbidden);
    });
}

#[test]
fn a_restarted_daemon_takes_over() {
    alone(|dir| {
        let outside = outside(dir);
        let networks = open(dir, Config::default());
        let (a, b) = (
            Sandbox::create(dir, "aaaaaaaaaaaa").unwrap(),
            Sandbox::create(dir, "bbbbbbbbbbbb").unwrap(),
        );
        let web = networks
            .connect(&a, "bridge", &publishing(&[("80", "", "8080")]))
            .unwrap();
        // The second dies with the daemon: its rules are stale.
        networks
            .connect(&b, "bridge", &publishing(&[("80", "", "8081")]))
            .unwrap();
        serve(&a, 80);
        drop(networks);
        let networks = network::Networks::open(&dir.join("files"), Config::default()).unwrap();
        let mut kept = [json::from_str(&json::to_string(&web)).unwrap()];
        assert!(networks.restore(&mut kept).is_empty());
        assert_eq!(kept[0], web);
        ask_from(&outside, &format!("{HOST}:8080")).unwrap();
        let now = rules();
        assert!(!now.contains("8081"), "{now}");
        let c = Sandbox::create(dir, "cccccccccccc").unwrap();
        assert_eq!(
            networks.connect(&c, "bridge", &plain()).unwrap().ip,
            Some(Ipv4Addr::new(172, 17, 0, 3))
        );
        assert!(
            networks
                .connect(&c, "bridge", &publishing(&[("80", "", "8080")]))
                .is_err()
        );
        // A bridge that is gone comes back with the next container.
        sh("ip link del balena0");
        networks
            .connect(&b, "bridge", &EndpointConfig { index: 1, ..plain() })
            .unwrap();
    });
}

#[test]
fn docker_beside_us_keeps_its_rules() {
    alone(|dir| {
        let docker = "*filter\n:DOCKER - [0:0]\n:DOCKER-ISOLATION-STAGE-1 - [0:0]\n:DOCKER-ISOLATION-STAGE-2 - [0:0]\n:DOCKER-USER - [0:0]\n\
            -A FORWARD -j DOCKER-USER\n-A FORWARD -j DOCKER-ISOLATION-STAGE-1\n\
            -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A FORWARD -o docker0 -j DOCKER\n\
            -A FORWARD -i docker0 ! -o docker0 -j ACCEPT\n-A FORWARD -i docker0 -o docker0 -j ACCEPT\n\
            -A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT\n\
            -A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2\n-A DOCKER-ISOLATION-STAGE-1 -j RETURN\n\
            -A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP\n-A DOCKER-ISOLATION-STAGE-2 -j RETURN\n-A DOCKER-USER -s 203.0.113.1/32 -j DROP\n-A DOCKER-USER -j RETURN\nCOMMIT\n\
            *nat\n:DOCKER - [0:0]\n-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER\n\
            -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE\n-A DOCKER -i docker0 -j RETURN\n\
            -A DOCKER ! -i docker0 -p tcp -m tcp --dport 7070 -j DNAT --to-destination 172.17.0.2:80\nCOMMIT\n";
        std::fs::write(dir.join("docker"), docker).unwrap();
        sh(&format!(
            "ip link add docker0 type bridge; ip addr add 172.17.0.1/16 dev docker0; ip link set docker0 up; iptables-restore < {}/docker",
            dir.display()
        ));
        let theirs = rules();
        let networks = open(dir, Config::default());
        // Docker has 172.17.
        assert_eq!(
            networks.default_bridge().unwrap().ipam.unwrap().subnet.to_string(),
            "172.18.0.0/16"
        );
        let a = Sandbox::create(dir, "aaaaaaaaaaaa").unwrap();
        let endpoint = networks
            .connect(&a, "bridge", &publishing(&[("80", "", "8080")]))
            .unwrap();
        serve(&a, 80);
        ask("127.0.0.1:8080").unwrap();
        let both = rules();
        // Theirs are all there, in their order; the user's chain is still the first to be asked.
        let left: Vec<&str> = both
            .lines()
            .filter(|line| theirs.lines().any(|their| their == *line))
            .collect();
        assert_eq!(left.join("\n"), theirs);
        let forward: Vec<&str> = both.lines().filter(|line| line.starts_with("-A FORWARD")).collect();
        assert_eq!(
            forward[..2],
            ["-A FORWARD -j DOCKER-USER", "-A FORWARD -j DOCKER-ISOLATION-STAGE-1"]
        );
        assert!(forward[2].contains("balena0"), "{forward:?}");
        // Looking again changes nothing.
        assert!(
            networks
                .restore(&mut [endpoint.clone()])
                .iter()
                .all(|e| e.to_string().contains("in use"))
        );
        assert_eq!(rules(), both);
        networks.disconnect(&endpoint).unwrap();
        assert!(!rules().contains("8080"));
    });
}

#[test]
fn no_packet_filter() {
    alone(|dir| {
        let networks = open(
            dir,
            Config {
                iptables: false,
                ..Config::default()
            },
        );
        let a = Sandbox::create(dir, "aaaaaaaaaaaa").unwrap();
        networks.connect(&a, "bridge", &plain()).unwrap();
        assert!(!rules().contains("balena0"));
        for (name, has_address) in [("none", false), ("host", false)] {
            assert_eq!(networks.connect(&a, name, &plain()).unwrap().ip.is_some(), has_address);
        }
        let error = networks.connect(
            &a,
            "bridge",
            &EndpointConfig {
                index: 1,
                ..publishing(&[("80", "", "8080")])
            },
        );
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("no packet filter and no userland proxy")
        );
    });
}

#[test]
fn how_long_it_takes() {
    alone(|dir| {
        let start = Instant::now();
        let networks = open(dir, Config::default());
        println!("open and restore: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
        let mut times = [0.0; 5];
        const ROUNDS: u32 = 20;
        for round in 0..ROUNDS {
            let mut step = {
                let mut at = Instant::now();
                let mut index = 0;
                let times = &mut times;
                move || {
                    times[index] += at.elapsed().as_secs_f64() * 1e3 / f64::from(ROUNDS);
                    index += 1;
                    at = Instant::now();
                }
            };
            let sandbox = Sandbox::create(dir, &format!("{round:012}")).unwrap();
            step();
            let endpoint = networks.connect(&sandbox, "bridge", &plain()).unwrap();
            step();
            networks.release(&endpoint).unwrap();
            sandbox.remove().unwrap();
            step();
            let sandbox = Sandbox::create(dir, &format!("{round:012}")).unwrap();
            let endpoint = networks
                .connect(&sandbox, "bridge", &publishing(&[("80", "", "8080")]))
                .unwrap();
            step();
            networks.disconnect(&endpoint).unwrap();
            sandbox.remove().unwrap();
            step();
        }
        let [create, connect, release, publish, disconnect] = times;
        println!("sandbox {create:.2} ms, connect {connect:.2} ms, release {release:.2} ms");
        println!("sandbox and connect with a port {publish:.2} ms, disconnect {disconnect:.2} ms");
    });
}
