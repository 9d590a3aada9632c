//! `cargo xtask`: what the project does to itself. One command, one file.

#![forbid(unsafe_code)]

mod apt;
mod bench;
mod binary;
mod build;
mod command;
mod crash;
mod debian;
mod demo;
mod dist;
mod emulate;
mod fuzz;
mod guest;
mod sbom;
mod sysroot;
mod target;
mod test;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask COMMAND

  setup              install the Debian packages that the other commands need
  build [--target T] build the release binary: static, stripped, everything in it
  demo               build it, pull an image from a registry, run a web server, clean up (as root)
  test [ARGUMENTS]   every test; arguments go on to `cargo test` (as root, or much is skipped)
  test --dist [--target T]
                     builds every architecture's binary, and has each test itself under emulation
  crash [OPTIONS]    power failure replayed at 1,000 points or as many as are asked for (as root)
  guest [--power-cuts N [--fs FS]]
                     a machine of its own: systemd and cgroup v2; or one whose power is cut N times in mid-update (as root)
  fuzz [--seconds N] [TARGET…]
                     untrusted bytes, guided by coverage: N seconds shared out to all targets, or for each that is named
  bench WHAT         figures beside Docker's: run, pull, images, memory, size, delta or all (as root)
  dist [--target T]  all architectures: archives, Debian packages, sums under target/dist; --test runs each emulated
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (name, rest) = match arguments.split_first() {
        Some((name, rest)) => (name.as_str(), rest),
        None => ("help", &[][..]),
    };
    let result = match name {
        "setup" => setup(),
        "build" => build::main(rest),
        "demo" => demo::main(rest),
        "bench" => bench::main(rest),
        "dist" => dist::main(rest),
        "fuzz" => fuzz::main(rest),
        "guest" => guest::main(rest),
        "test" => test::main(rest),
        "crash" => crash::main(rest),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(())
        }
        other => Err(format!("unknown command {other:?}\n\n{USAGE}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("xtask {name}: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn setup() -> Result<(), String> {
    for packages in [apt::BUILD, apt::DEMO, apt::TEST, apt::CRASH, apt::EMULATE, apt::GUEST] {
        apt::ensure(packages)?;
    }
    println!("everything that the other commands need is installed");
    Ok(())
}
