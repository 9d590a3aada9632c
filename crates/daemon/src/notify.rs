//! systemd's side: readiness, the watchdog, sockets that it opened (sd_notify(3), sd_listen_fds(3)).

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

fn send(text: &str) {
    let Ok(path) = std::env::var("NOTIFY_SOCKET") else {
        return;
    };
    let sent = UnixDatagram::unbound().and_then(|socket| {
        if let Some(name) = path.strip_prefix('@') {
            use std::os::linux::net::SocketAddrExt;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            socket.send_to_addr(text.as_bytes(), &address)
        } else {
            socket.send_to(text.as_bytes(), &path)
        }
    });
    if let Err(e) = sent {
        log::warn!("notify systemd: {e}");
    }
}

/// The daemon answers; and pings the watchdog from now on, if there is one. Each ping goes through the loop that serves
/// the API: a loop that hangs sends none, and systemd replaces the daemon.
pub fn ready(edge: tokio::runtime::Handle) {
    send("READY=1\n");
    let microseconds = std::env::var("WATCHDOG_USEC").ok().and_then(|t| t.parse::<u64>().ok());
    let Some(period) = microseconds.filter(|us| *us > 0) else {
        return;
    };
    let spawned = std::thread::Builder::new()
        .name("watchdog".into())
        .stack_size(64 << 10)
        .spawn(move || {
            loop {
                edge.spawn(async { send("WATCHDOG=1\n") });
                std::thread::sleep(Duration::from_micros(period / 3));
            }
        });
    if let Err(e) = spawned {
        log::error!("start a thread for the watchdog: {e}");
    }
}

/// The daemon ends.
pub fn stopping() {
    send("STOPPING=1\n");
}

/// Sockets that systemd opened for this process, from descriptor 3 on.
pub fn listeners() -> Vec<OwnedFd> {
    let number = |name: &str| std::env::var(name).ok().and_then(|t| t.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Vec::new();
    }
    let count = number("LISTEN_FDS").unwrap_or(0).min(64);
    (0..count)
        .filter_map(|n| sys::process::take_inherited(3 + i32::try_from(n).ok()?).ok())
        .collect()
}
