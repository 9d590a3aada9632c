//! Ports published by the userland proxy: no packet filter, or `--userland-proxy=true`.
//!
//! This program is its own proxy when its first argument is `-proto`.

mod ground;

use ground::{HOST, alone, ask, ask_from, open, outside, rules, serve, serve_udp};
use network::portmap::Publish;
use network::{Config, EndpointConfig, Networks, Sandbox};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "-proto") {
        std::process::exit(network::proxy::main_proxy(&args));
    }
    for (iptables, name) in [(false, "without a packet filter"), (true, "beside one")] {
        publishes(iptables);
        println!("test userland proxy {name} ... ok");
    }
}

/// Ends proxies when the test does, however it does.
struct Ended(Vec<(u32, network::portmap::Binding)>);

impl Drop for Ended {
    fn drop(&mut self) {
        for (pid, _) in &self.0 {
            let pid = rustix::process::Pid::from_raw(*pid as i32).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

fn publishes(iptables: bool) {
    alone(|dir| {
        let outside = outside(dir);
        let proxy_command = vec![std::env::current_exe().unwrap().into_os_string()];
        let config = Config {
            iptables,
            userland_proxy: true,
            proxy_command,
            ..Config::default()
        };
        let networks = open(dir, config.clone());
        let a = Sandbox::create(dir, "aaaaaaaaaaaa").unwrap();
        serve(&a, 80);
        serve_udp(&a, 53);
        let ports = [("80", "", "8080"), ("80", "::", "8080"), ("53/udp", "", "5353")];
        let publish: Vec<Publish> = ports
            .iter()
            .map(|(p, ip, host)| Publish::parse(p, ip, host).unwrap())
            .collect();
        let wanted = EndpointConfig {
            publish: publish.clone(),
            ..EndpointConfig::default()
        };
        let web = networks.connect(&a, "bridge", &wanted).unwrap();
        assert_eq!(web.proxies.len(), 3);
        let mut ended = Ended(web.proxies.clone());
        let everywhere = || {
            ask("127.0.0.1:8080").unwrap();
            ask("[::1]:8080").unwrap();
            ask(&format!("{HOST}:8080")).unwrap();
            ask_from(&outside, &format!("{HOST}:8080")).unwrap();
            ask_from(&a, &format!("{HOST}:8080")).unwrap();
            ground::ask_udp("127.0.0.1:5353").unwrap();
        };
        everywhere();
        assert_eq!(rules().contains("8080"), iptables);
        let b = Sandbox::create(dir, "bbbbbbbbbbbb").unwrap();
        assert!(
            networks
                .connect(&b, "bridge", &wanted)
                .unwrap_err()
                .to_string()
                .contains("port is already allocated")
        );
        let taken = std::net::TcpListener::bind("0.0.0.0:9090").unwrap();
        let other = EndpointConfig {
            publish: vec![Publish::parse("80", "", "9090").unwrap()],
            ..EndpointConfig::default()
        };
        let error = networks.connect(&b, "bridge", &other).unwrap_err().to_string();
        assert_eq!(
            error,
            "Error starting userland proxy: listen tcp4 0.0.0.0:9090: bind: address already in use"
        );
        drop(taken);

        // The daemon dies; the next one replaces the proxies it left.
        std::mem::forget(networks);
        let networks = Networks::open(&dir.join("files"), config).unwrap();
        let mut kept = [web.clone()];
        let errors = networks.restore(&mut kept);
        ended.0.extend(kept[0].proxies.iter().copied());
        assert!(errors.is_empty(), "{errors:?}");
        assert_ne!(kept[0].proxies, web.proxies);
        everywhere();
        networks.disconnect(&kept[0]).unwrap();
        // All are gone: their numbers may be others' now.
        ended.0.clear();
        assert!(ask("127.0.0.1:8080").unwrap_err().contains("refused"));
    });
}
