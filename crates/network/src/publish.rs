//! The host side of a published port: the port held, or a proxy process that has it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::error::{Context, Error, ErrorKind, Result};
use crate::hold::Held;
use crate::portmap::{Binding, Protocol};

/// What stands for a published port on the host while it is published.
pub enum Holder {
    /// The kernel forwards; the socket keeps others off.
    Socket(#[expect(dead_code, reason = "owned for its Drop")] Held),
    /// A process forwards.
    Proxy(Child),
}

/// The ports held, by binding.
#[derive(Default)]
pub struct Holders(HashMap<Binding, Holder>);

impl Holders {
    pub fn insert(&mut self, binding: Binding, holder: Holder) {
        self.0.insert(binding, holder);
    }

    /// Lets go of a port; a proxy is ended.
    pub fn remove(&mut self, binding: &Binding) {
        if let Some(Holder::Proxy(mut child)) = self.0.remove(binding) {
            // Failing to end it means that it has ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The process that forwards a port, if one does.
    pub fn pid(&self, binding: &Binding) -> Option<u32> {
        match self.0.get(binding) {
            Some(Holder::Proxy(child)) => Some(child.id()),
            _ => None,
        }
    }
}

/// Binds the host port itself.
pub fn hold(binding: &Binding) -> Result<Holder> {
    let mut tries = 0;
    let held = loop {
        match Held::bind(binding) {
            // A child that another thread is just starting holds a copy of a socket released a moment ago,
            // until its exec.
            Err(e) if e.raw_os_error() == Some(libc::EADDRINUSE) && tries < 3 => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
            other => break other,
        }
    };
    let held = held.map_err(|e| {
        let family = if binding.host_ip.is_ipv4() { "4" } else { "6" };
        let what = match e.raw_os_error() {
            Some(libc::EADDRINUSE) => "address already in use".to_owned(),
            Some(libc::EADDRNOTAVAIL) => "cannot assign requested address".to_owned(),
            _ => e.to_string(),
        };
        let text = format!("listen {}{family} {}: bind: {what}", binding.protocol, binding.host());
        Error::new(ErrorKind::Forbidden, text)
    })?;
    Ok(Holder::Socket(held))
}

/// Starts a proxy for the port and waits until it has it.
pub fn start_proxy(command: &[OsString], binding: &Binding, container: Ipv4Addr) -> Result<Holder> {
    let Some((program, first)) = command.split_first() else {
        let text = format!(
            "publish {}: no packet filter and no userland proxy to do it",
            binding.host()
        );
        return Err(Error::new(ErrorKind::System, text));
    };
    if binding.protocol == Protocol::Sctp {
        return Err(Error::invalid("sctp ports can be published by the packet filter only"));
    }
    let mut child = Command::new(program)
        .args(first)
        .args(["-proto", &binding.protocol.to_string()])
        .args([
            "-host-ip",
            &binding.host_ip.to_string(),
            "-host-port",
            &binding.host_port.to_string(),
        ])
        .args([
            "-container-ip",
            &container.to_string(),
            "-container-port",
            &binding.container_port.to_string(),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .what(|| format!("start userland proxy {}", program.display()))?;
    let mut verdict = String::new();
    if let Some(stdout) = child.stdout.take() {
        // The proxy writes one line and closes: its bind went well, or why not.
        let _ = BufReader::new(stdout).read_line(&mut verdict);
    }
    if verdict.trim() == crate::proxy::READY {
        return Ok(Holder::Proxy(child));
    }
    let _ = child.kill();
    let _ = child.wait();
    Err(Error::new(
        ErrorKind::Forbidden,
        format!("Error starting userland proxy: {}", verdict.trim()),
    ))
}

/// Ends the proxy of an earlier daemon, if that is what the process still is.
pub fn end_stale_proxy(pid: u32, binding: &Binding) {
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<&[u8]> = arguments.split(|b| *b == 0).collect();
    let port = binding.host_port.to_string();
    let is_it = words
        .windows(2)
        .any(|pair| pair[0] == b"-host-port" && pair[1] == port.as_bytes());
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let Some(pid) = pid.filter(|_| is_it) else { return };
    let watched = pidfd_open(pid, PidfdFlags::empty());
    // It may have ended since.
    let _ = kill_process(pid, Signal::KILL);
    // Its port is free once it has ended, which the signal does not wait for.
    match watched {
        Ok(process) => {
            let timeout = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
            let _ = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&timeout));
        }
        // Before Linux 5.3.
        Err(_) => std::thread::sleep(Duration::from_millis(100)),
    }
}

/// Says whether anybody could come by IPv6.
pub fn host_has_ipv6() -> bool {
    fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6").is_ok_and(|text| text.trim() == "0")
}

/// Says whether the packet filter can publish this binding.
pub fn kernel_can(binding: &Binding, firewall: bool) -> bool {
    firewall && matches!(binding.host_ip, IpAddr::V4(_))
}
