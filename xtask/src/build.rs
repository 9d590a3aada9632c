//! The release binary: static, stripped, everything in it, for a target of the table.
//!
//! The standard library is built from source with the rest, by a compiler that comes as a Debian package with it:
//! prebuilt ones are not to be had for all architectures, and one way for all is one way to understand.

use crate::apt;
use crate::command::{Result, checkout, output, run, target_dir};
use crate::sysroot::Sysroot;
use crate::target::Target;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `cargo xtask build [--release] [--target T] [--quick]`: builds, and says what came of it.
pub fn main(arguments: &[String]) -> Result<()> {
    let mut target = Target::here()?;
    let mut pace = Pace::Shipping;
    let mut rest = arguments.iter().map(String::as_str);
    while let Some(argument) = rest.next() {
        match argument.split_once('=').unwrap_or((argument, "")) {
            // There is no other kind of shipping binary.
            ("--release", "") => {}
            ("--quick", "") => pace = Pace::Quick,
            ("--target", "") => target = Target::named(rest.next().ok_or("--target wants the name of a target")?)?,
            ("--target", name) => target = Target::named(name)?,
            _ => {
                return Err(format!(
                    "build: unknown argument {argument:?}; it takes --release, --target T and --quick"
                ));
            }
        }
    }
    let binary = at_pace(target, pace)?;
    let size = size_of(&binary)?;
    println!("{}: {} bytes ({:.2} MB)", binary.display(), size, mega(size));
    Ok(())
}

/// Builds the release binary and returns where it is.
pub fn release(target: &Target) -> Result<PathBuf> {
    at_pace(target, Pace::Shipping)
}

/// How much time goes into optimization.
#[derive(Clone, Copy, PartialEq)]
enum Pace {
    /// What is shipped: optimized as a whole, which takes minutes.
    Shipping,
    /// A look at whether it builds and runs: a larger binary, in a directory of its own.
    Quick,
}

fn at_pace(target: &Target, pace: Pace) -> Result<PathBuf> {
    apt::ensure(apt::BUILD)?;
    let compiler = Compiler::find()?;
    let sysroot = Sysroot::of(target)?;
    let mut cargo = Command::new(&compiler.cargo);
    cargo.current_dir(checkout());
    // What the caller's toolchain and flags are must not change what is shipped.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let about = ["CARGO", "RUST", "CC_", "AR_"]
            .iter()
            .any(|start| name.starts_with(start));
        let place = ["CARGO_HOME", "CARGO_NET_OFFLINE", "RUSTUP_HOME"].contains(&name.as_str());
        let choice = name.starts_with("CARGO_HTTP_") || name.starts_with("CARGO_REGISTR");
        if about && !place && !choice {
            cargo.env_remove(name);
        }
    }
    // Of the commit, not of the clock: the same sources make the same binary.
    let git = |format: &str| {
        let mut git = Command::new("git");
        git.current_dir(checkout()).env("TZ", "UTC").args(["log", "-1", format]);
        output(git.arg("--date=format-local:%Y-%m-%dT%H:%M:%SZ"))
    };
    // Sources without their history are built as well.
    if let (Ok(commit), Ok(time)) = (git("--format=%h"), git("--format=%cd")) {
        cargo
            .env("BALENA_COMMIT", commit.trim())
            .env("BALENA_BUILD_TIME", time.trim());
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let directory = compiler.cargo.parent().unwrap_or(Path::new("/usr/bin"));
    let shout = target.triple.to_uppercase().replace('-', "_");
    let snake = target.triple.replace('-', "_");
    // Functions that came out the same are kept once; nothing here compares the addresses of functions.
    let mut flags = format!(
        "-Clinker-flavor=ld.lld -Lnative={} -Clink-arg=--icf=all",
        sysroot.lib.display()
    );
    // Nothing unwinds (see Cargo.toml), so no tables for it.
    flags.push_str(" -Cforce-unwind-tables=no");
    flags.push_str(&format!(
        " -Clink-arg=-Map={}",
        map_of(&built_at(pace, target)).display()
    ));
    if !target.features.is_empty() {
        flags.push_str(&format!(" -Ctarget-feature={}", target.features));
    }
    if target.relocates_itself() {
        // Read by xtask/sysroot/start.c.
        flags.push_str(" -Clink-arg=--pack-dyn-relocs=relr");
    }
    if target.is_32bit() {
        // Times past 2038. The libc crate has two names for it, the standard library's copy and ours one each; the
        // linker's is explained in xtask/sysroot/time64.c.
        flags.push_str(" --cfg=libc_unstable_musl_v1_2 -Clink-arg=--wrap=syscall");
        cargo.env("RUST_LIBC_UNSTABLE_MUSL_V1_2_3", "1");
    }
    cargo
        .env("PATH", format!("{}:{path}", directory.display()))
        .env("RUSTC", &compiler.rustc)
        // Building the standard library is an unstable option of cargo.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", place(pace))
        .env("CARGO_INCREMENTAL", "0")
        .env(format!("CARGO_TARGET_{shout}_LINKER"), "ld.lld")
        .env(format!("CARGO_TARGET_{shout}_RUSTFLAGS"), flags)
        .env(format!("CC_{snake}"), &sysroot.cc)
        .env(format!("AR_{snake}"), "ar")
        .args([
            "build",
            "--release",
            "--locked",
            "--package",
            "balena",
            "--target",
            target.triple,
        ])
        .args(["-Zbuild-std=std,panic_abort", "-Zbuild-std-features=optimize_for_size"]);
    if pace == Pace::Quick {
        let settings = ["lto=\"off\"", "codegen-units=16", "opt-level=1"];
        for setting in settings {
            cargo.arg("--config").arg(format!("profile.release.{setting}"));
        }
    }
    let binary = built_at(pace, target);
    if let Some(directory) = binary.parent() {
        std::fs::create_dir_all(directory).map_err(|e| format!("make {}: {e}", directory.display()))?;
    }
    run(&mut cargo)?;
    Ok(binary)
}

fn built_at(pace: Pace, target: &Target) -> PathBuf {
    place(pace).join(target.triple).join("release/balena")
}

/// Where a target's release is, or would be.
pub fn place_of(target: &Target) -> PathBuf {
    built_at(Pace::Shipping, target)
}

/// The linker's map of a binary: what lies where in it.
pub fn map_of(binary: &Path) -> PathBuf {
    binary.with_file_name("balena.map")
}

/// The target directory: changed settings would have everything compiled anew.
fn place(pace: Pace) -> PathBuf {
    match pace {
        Pace::Shipping => target_dir(),
        Pace::Quick => target_dir().join("quick"),
    }
}

/// A compiler and the source of its standard library.
struct Compiler {
    cargo: PathBuf,
    rustc: PathBuf,
}

impl Compiler {
    /// Debian's, which comes with the source; or the one we were called with, if it has the source (`rust-src`).
    fn find() -> Result<Compiler> {
        let ours = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
        let beside = ours.with_file_name("rustc");
        let both = [
            (PathBuf::from("/usr/bin/cargo"), PathBuf::from("/usr/bin/rustc")),
            (ours, beside),
        ];
        for (cargo, rustc) in both {
            let Ok(sysroot) = output(Command::new(&rustc).args(["--print", "sysroot"])) else {
                continue;
            };
            let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/std");
            if source.exists() {
                return Ok(Compiler { cargo, rustc });
            }
        }
        Err(
            "no compiler here has the source of its standard library: install Debian's rustc-web, cargo-web and \
             rust-web-src, or `rustup component add rust-src`"
                .into(),
        )
    }
}

/// A file's size in bytes.
pub fn size_of(file: &Path) -> Result<u64> {
    let data = std::fs::metadata(file).map_err(|e| format!("look at {}: {e}", file.display()))?;
    Ok(data.len())
}

/// Bytes as megabytes (10⁶), for tables.
pub fn mega(bytes: u64) -> f64 {
    // Exact below 2⁵³, which is 9 petabytes.
    bytes as f64 / 1e6
}
