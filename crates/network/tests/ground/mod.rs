//! Ground for tests: a network namespace of the test's own that plays the host, an outside machine, containers.
#![allow(dead_code)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use network::{Config, Networks, Sandbox};
use rustix::mount::{MountPropagationFlags, mount_change};
use sys::namespace;

/// Address of the test's host towards the outside, and of the outside machine.
pub const HOST: &str = "192.0.2.1";
pub const OUTSIDE: &str = "192.0.2.2";

/// Runs a test on a thread with a network and mount namespace of its own. Nothing of it is left behind.
pub fn alone(test: impl FnOnce(&Path) + Send) {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: network namespaces need root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        let run = || {
            namespace::unshare(namespace::NEWNET | namespace::NEWNS).unwrap();
            let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
            mount_change("/", private).unwrap();
            sh("ip link set lo up");
            test(dir.path());
        };
        if let Err(panic) = scope.spawn(run).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

pub fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-ec", line]).output().unwrap();
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A machine on the host's eth0.
pub fn outside(dir: &Path) -> Sandbox {
    let outside = Sandbox::create(dir, "outside00000").unwrap();
    let inside = format!("nsenter --net={}", outside.path().display());
    sh(&format!(
        "ip link add eth0 type veth peer name peer0
         {inside} sleep 5 & pid=$!
         sleep 0.05
         ip link set peer0 netns $pid
         ip addr add {HOST}/24 dev eth0; ip link set eth0 up
         {inside} ip addr add {OUTSIDE}/24 dev peer0; {inside} ip link set peer0 up
         kill $pid"
    ));
    outside
}

pub fn open(dir: &Path, config: Config) -> Networks {
    let networks = Networks::open(&dir.join("files"), config).unwrap();
    assert!(networks.restore(&mut []).is_empty());
    networks
}

/// Answers each connection to a port of a sandbox with the client's address.
pub fn serve(sandbox: &Sandbox, port: u16) {
    let listener = sandbox
        .inside(|| Ok(TcpListener::bind(("0.0.0.0", port)).unwrap()))
        .unwrap();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let peer = client.peer_addr().unwrap().ip().to_string();
            client.write_all(peer.as_bytes()).unwrap();
        }
    });
}

/// Answers datagrams with themselves.
pub fn serve_udp(sandbox: &Sandbox, port: u16) {
    let socket = sandbox
        .inside(|| Ok(UdpSocket::bind(("0.0.0.0", port)).unwrap()))
        .unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((n, from)) = socket.recv_from(&mut buffer) {
            socket.send_to(&buffer[..n], from).unwrap();
        }
    });
}

/// What a server says, or why there is none.
pub fn ask(target: &str) -> Result<String, String> {
    let target: SocketAddr = target.parse().unwrap();
    // On a busy machine a first SYN may be lost, and comes again after a second.
    let mut stream = TcpStream::connect_timeout(&target, Duration::from_millis(1600)).map_err(|e| e.to_string())?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|e| e.to_string())?;
    Ok(answer)
}

pub fn ask_from(sandbox: &Sandbox, target: &str) -> Result<String, String> {
    sandbox.inside(|| Ok(ask(target))).unwrap()
}

pub fn ask_udp(target: &str) -> Result<(), String> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    // Connected: an answer from another address does not count.
    socket.connect(target).map_err(|e| e.to_string())?;
    socket.send(b"x").map_err(|e| e.to_string())?;
    let mut buffer = [0; 10];
    socket.recv(&mut buffer).map(drop).map_err(|e| e.to_string())
}

pub fn rules() -> String {
    // Counters and dates differ from look to look.
    sh("iptables-save -t filter; iptables-save -t nat")
        .lines()
        .filter(|line| line.starts_with('-') || line.starts_with(':'))
        .map(|line| line.split(" [").next().unwrap())
        .collect::<Vec<_>>()
        .join("\n")
}
