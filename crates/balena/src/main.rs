//! One binary, several names: what it is called decides what it is.

#![forbid(unsafe_code)]

mod self_test;

use std::ffi::OsString;
use std::process::exit;

fn main() {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let base = |arg: &OsString| arg.to_string_lossy().rsplit('/').next().unwrap_or_default().to_string();
    let mut name = args.first().map(base).unwrap_or_default();
    // By any other name, the first argument may say which personality is wanted.
    if !is_personality(&name)
        && let Some(first) = args.get(1).map(base)
        && (is_personality(&first) || first == "daemon" || first == "self-test")
        && args[1].to_string_lossy() == first
    {
        args.remove(0);
        name = first;
    }
    exit(run(&name, args));
}

fn is_personality(name: &str) -> bool {
    matches!(
        name,
        "balenad"
            | "balena-engine-daemon"
            | "dockerd"
            | "balena-engine-runc"
            | "runc"
            | "balena-engine-containerd"
            | "balena-engine-containerd-shim-runc-v2"
            | "balena-engine-containerd-ctr"
            | "balena-engine-delta"
            | "balena-engine-manifest"
            | "balena-engine-log-compressor"
            | "balena-engine-log-reader"
            | "balena-engine-init"
            | "docker-init"
            | "balena-engine-proxy"
            | "docker-proxy"
    )
}

fn run(name: &str, args: Vec<OsString>) -> i32 {
    let text = |args: &[OsString]| -> Vec<String> { args.iter().map(|a| a.to_string_lossy().into_owned()).collect() };
    match name {
        "balenad" | "balena-engine-daemon" | "dockerd" | "daemon" => daemon::main(&text(&args[1..])),
        "balena-engine-runc" | "runc" => runtime::main_runc(args),
        "balena-engine-containerd-shim-runc-v2" => runtime::main_shim(args),
        "balena-engine-delta" => engine::make_delta::main_alone(),
        "balena-engine-manifest" => engine::manifest::main(),
        "balena-engine-log-compressor" => engine::compress_log::main(&args[1..]),
        "balena-engine-log-reader" => engine::logs::main_reader(&args[1..]),
        "balena-engine-init" | "docker-init" => runtime::main_init(args),
        "balena-engine-proxy" | "docker-proxy" => network::proxy::main_proxy(&text(&args[1..])),
        "self-test" => self_test::main(&text(&args[1..])),
        "balena-engine-containerd-ctr" => ctr(&text(&args[1..])),
        "balena-engine-containerd" => {
            eprintln!("balena-engine-containerd: there is no such daemon; balenad does its work");
            1
        }
        _ => cli::main(&text(&args)),
    }
}

/// Device health checks ask for the version only.
fn ctr(args: &[String]) -> i32 {
    if args.iter().any(|a| a == "version") {
        let version = api::ENGINE_VERSION;
        println!("Client:\n  Version:  {version}\n\nServer:\n  Version:  {version}");
        return 0;
    }
    eprintln!("balena-engine-containerd-ctr: only `version` is supported by balena");
    1
}
