//! `cargo xtask demo`: pull an image from a real registry onto a real disk and run it, by our one binary.
//!
//! Beside whatever runs on this machine: its own directory, socket, bridge and subnet, all removed at the end.

use crate::apt;
use crate::binary;
use crate::build;
use crate::command::{Result, output};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tests::client::within;
use tests::daemon::{Daemon, Kind, Options};
use tests::image::{self, Image, Layer, Tar};
use tests::{Client, Registry, http, registry};

/// Bytes of the second layer: enough that what a pull costs can be seen.
const PAYLOAD: usize = 48 << 20;

pub fn main(arguments: &[String]) -> Result<()> {
    if let Some(argument) = arguments.first() {
        return Err(format!("demo takes no arguments, not {argument:?}"));
    }
    if !apt::is_root()? {
        return Err(
            "the demonstration mounts, makes a bridge and runs containers: run it as root (sudo -E cargo xtask demo)"
                .into(),
        );
    }
    apt::ensure(apt::BUILD)?;
    apt::ensure(apt::DEMO)?;
    let binary = binary::wanted()?;
    println!(
        "binary     {} ({:.2} MB)",
        binary.display(),
        build::mega(build::size_of(&binary)?)
    );

    let said = |what: &str, e: std::io::Error| format!("{what}: {e}");
    let registry = Registry::start().map_err(|e| said("start a registry", e))?;
    let image = make_image().map_err(|e| said("make an image", e))?;
    let pushed = registry.push("demo/web", "1", &image);
    let reference = pushed.map_err(|e| said("push the image", e))?;
    println!("registry   127.0.0.1:{}, pushed {reference}", registry.port);

    let options = Options {
        binary,
        bridge: Some((bridge_name()?, free_subnet()?)),
        ..Options::default()
    };
    let mut daemon = Daemon::start(Kind::Ours, options).map_err(|e| said("start the daemon", e))?;
    let (bridge, subnet) = daemon.options.bridge.clone().unwrap_or_default();
    println!(
        "daemon     {} on {bridge} {subnet}, up in {} ms\n",
        daemon.data_root().display(),
        daemon.took.as_millis()
    );
    let result = show(&daemon, &reference);
    if result.is_err() {
        eprintln!("--- what the daemon said\n{}", daemon.log());
    }
    let left = daemon.left_behind();
    daemon.stop();
    let directory = daemon.dir().to_owned();
    drop(daemon);
    result?;
    if !left.is_empty() || directory.exists() || Path::new("/sys/class/net").join(&bridge).exists() {
        return Err(format!("something was left behind: {left:?} {}", directory.display()));
    }
    println!("\nEverything is cleaned up: containers, daemon, bridge, registry, files.");
    Ok(())
}

fn make_image() -> std::io::Result<Image> {
    // Bytes that do not compress, the same each time.
    let mut state = 1u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()
    })
    .take(PAYLOAD / 8)
    .flatten()
    .collect();
    let mut tar = Tar::default().dir("data", 0o755);
    for (number, part) in noise.chunks(64 << 10).enumerate() {
        tar = tar.file(&format!("data/{number:04}"), 0o644, part);
    }
    let layers = vec![image::busybox_layer()?, Layer::gzip(&tar.bytes())];
    let config =
        serde_json::json!({"Cmd": ["httpd", "-f", "-h", "/www"], "Env": ["PATH=/bin"], "ExposedPorts": {"80/tcp": {}}});
    Ok(Image::new(layers, config))
}

fn show(daemon: &Daemon, reference: &str) -> Result<()> {
    let balena = daemon.cli();
    let pid = daemon.pid();
    let (cached, written) = (meminfo("Cached")?, io(pid, "write_bytes")?);
    let start = Instant::now();
    print!("{}", step(&balena, &["pull", reference])?);
    let took = start.elapsed();
    let (cached_after, written_after) = (meminfo("Cached")?, io(pid, "write_bytes")?);
    println!();
    print!("{}", step(&balena, &["images", "--digests"])?);

    let port = registry::free_port().map_err(|e| format!("find a free port: {e}"))?;
    let publish = format!("127.0.0.1:{port}:80");
    let start = Instant::now();
    let id = step(&balena, &["run", "-d", "--name", "web", "-p", &publish, reference])?;
    let ran = start.elapsed();
    let mut page = String::new();
    within(Duration::from_secs(10), || {
        let answer = http::local(port, "GET", "/", &[], b"");
        page = answer.map_or_else(|e| format!("no answer: {e}"), |answer| answer.text());
        page == "It runs.\n"
    });
    println!();
    print!("{}", step(&balena, &["ps"])?);
    println!("\n$ curl http://127.0.0.1:{port}/\n{page}");
    if page != "It runs.\n" {
        return Err(format!(
            "the web server in container {} does not answer on port {port}",
            id.trim()
        ));
    }
    let kib = |bytes: u64| bytes as f64 / 1024.0 / 1024.0;
    println!(
        "{:<44} {:>10}",
        "pull, durable on return",
        format!("{} ms", took.as_millis())
    );
    println!("{:<44} {:>10}", "unpacked", format!("{:.1} MiB", kib(PAYLOAD as u64)));
    println!(
        "{:<44} {:>10}",
        "page cache after it, all of the machine",
        format!("{:+.1} MiB", kib(cached_after) - kib(cached))
    );
    println!(
        "{:<44} {:>10}",
        "written by the daemon",
        format!("{:.1} MiB", kib(written_after - written))
    );
    println!(
        "{:<44} {:>10}",
        "daemon's resident memory",
        format!("{:.1} MiB", kib(resident(pid)?))
    );
    println!(
        "{:<44} {:>10}",
        "run -d, to the prompt",
        format!("{} ms", ran.as_millis())
    );
    step(&balena, &["stop", "-t", "2", "web"])?;
    step(&balena, &["rm", "web"])?;
    step(&balena, &["rmi", reference])?;
    Ok(())
}

fn step(balena: &Client, arguments: &[&str]) -> Result<String> {
    println!("$ balena {}", arguments.join(" "));
    let ran = balena.run(arguments);
    match ran.code {
        0 => Ok(ran.out),
        code => Err(format!(
            "balena {}: exit code {code}: {}{}",
            arguments.join(" "),
            ran.out,
            ran.err
        )),
    }
}

/// A name that no interface has; at most 15 characters.
fn bridge_name() -> Result<String> {
    let free = (0..1000u32)
        .map(|n| format!("balenademo{n}"))
        .find(|name| !Path::new("/sys/class/net").join(name).exists());
    free.ok_or_else(|| "a thousand bridges called balenademo… are here: remove them with `ip link delete`".into())
}

/// An address with prefix whose subnet no route of this machine touches.
fn free_subnet() -> Result<String> {
    let routes = output(Command::new("ip").args(["-4", "route", "show", "table", "all"]))?;
    let free = (64..128u8)
        .map(|n| format!("10.213.{n}."))
        .find(|start| !routes.contains(start.as_str()));
    let free = free.filter(|_| !routes.split_whitespace().any(|word| word.starts_with("10.213.0.0/")));
    let start = free.ok_or("no subnet below 10.213.0.0/16 is free on this machine")?;
    Ok(format!("{start}1/24"))
}

fn meminfo(field: &str) -> Result<u64> {
    kilobytes("/proc/meminfo", field)
}

fn resident(pid: u32) -> Result<u64> {
    kilobytes(&format!("/proc/{pid}/status"), "VmRSS")
}

fn io(pid: u32, field: &str) -> Result<u64> {
    number(&format!("/proc/{pid}/io"), field)
}

fn kilobytes(file: &str, field: &str) -> Result<u64> {
    Ok(number(file, field)? * 1024)
}

fn number(file: &str, field: &str) -> Result<u64> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("read {file}: {e}"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let word = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    word.ok_or_else(|| format!("no {field} in {file}"))
}
