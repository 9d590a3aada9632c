//! `cargo xtask dist`: the release for every architecture, under `target/dist/`.
//!
//! For each target an archive with the binary, the names it answers to as links, and the installer; a list of what is
//! in the binary (CycloneDX); a Debian package; and one SHA256SUMS over them all. The same sources make the same
//! archives: owners, times and order are fixed.

use crate::build::{self, mega, size_of};
use crate::command::{Result, checkout, output, run, target_dir, write};
use crate::target::{TARGETS, Target};
use crate::{emulate, sbom};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// As `api::ENGINE_VERSION` is made.
pub const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION_MAJOR"),
    ".",
    env!("CARGO_PKG_VERSION_MINOR"),
    "-rev",
    env!("CARGO_PKG_VERSION_PATCH")
);

/// The names that the binary answers to, beside its own.
const NAMES: &[&str] = &[
    "balena-engine",
    "balenad",
    "balena-engine-daemon",
    "balena-engine-containerd",
    "balena-engine-containerd-shim-runc-v2",
    "balena-engine-containerd-ctr",
    "balena-engine-runc",
    "balena-engine-init",
    "balena-engine-proxy",
];

/// `cargo xtask dist [--target T]... [--test]`: builds, packs, and with `--test` runs each under its emulator.
pub fn main(arguments: &[String]) -> Result<()> {
    let (mut targets, mut test): (Vec<&'static Target>, bool) = (Vec::new(), false);
    let mut rest = arguments.iter().map(String::as_str);
    while let Some(argument) = rest.next() {
        match argument.split_once('=').unwrap_or((argument, "")) {
            ("--test", "") => test = true,
            ("--target", "") => targets.push(Target::named(
                rest.next().ok_or("--target wants the name of a target")?,
            )?),
            ("--target", name) => targets.push(Target::named(name)?),
            _ => {
                return Err(format!(
                    "dist: unknown argument {argument:?}; it takes --target T and --test"
                ));
            }
        }
    }
    if targets.is_empty() {
        targets.extend(TARGETS);
    }
    let mut failures = Vec::new();
    let mut made = Vec::new();
    for target in targets {
        // One architecture that does not build is no reason to go without the others.
        let result = one(target).and_then(|(binary, archive)| {
            made.push((target.triple, binary.clone(), archive));
            if test {
                emulate::selftest(target, &binary)
            } else {
                Ok(())
            }
        });
        if let Err(why) = result {
            failures.push(format!("{}: {why}", target.triple));
        }
    }
    sums()?;
    println!("\n{:<32} {:>12} {:>9} {:>12}", "target", "bytes", "binary", "archive");
    for (triple, binary, archive) in made {
        let (size, packed) = (size_of(&binary)?, size_of(&archive)?);
        println!(
            "{triple:<32} {size:>12} {:>6.2} MB {:>9.2} MB",
            mega(size),
            mega(packed)
        );
    }
    println!("in {}", place().display());
    if failures.is_empty() {
        return Ok(());
    }
    Err(failures.join("\n"))
}

/// The Debian package and the archive for this machine, made now.
pub fn packages_here() -> Result<(PathBuf, PathBuf)> {
    let (target, binary) = (Target::here()?, crate::binary::wanted()?);
    debian_package(target, &binary)?;
    let archive = pack(target, &binary, &format!("balena-{VERSION}-{}", target.arch))?;
    Ok((package_file(target), archive))
}

fn package_file(target: &Target) -> PathBuf {
    place().join(format!("balena_{VERSION}_{}.deb", target.debian))
}

/// Where the release lies.
pub fn place() -> PathBuf {
    target_dir().join("dist")
}

/// Builds and packs one target: its binary and its archive.
fn one(target: &Target) -> Result<(PathBuf, PathBuf)> {
    println!("== {}", target.triple);
    let binary = build::release(target)?;
    let name = format!("balena-{VERSION}-{}", target.arch);
    sbom::write_for(target, &place().join(format!("{name}.cdx.json")))?;
    let archive = pack(target, &binary, &name)?;
    debian_package(target, &binary)?;
    Ok((binary, archive))
}

/// `balena-<version>-<arch>.tar.gz`: one directory of that name.
fn pack(target: &Target, binary: &Path, name: &str) -> Result<PathBuf> {
    let stage = target_dir().join("xtask/dist").join(target.arch);
    let _ = std::fs::remove_dir_all(&stage);
    let top = stage.join(name);
    install_names(binary, &top.join("bin"))?;
    let packaging = checkout().join("packaging");
    for (from, to, mode) in [
        (checkout().join("LICENSE"), "LICENSE", 0o644),
        (packaging.join("install/install.sh"), "install.sh", 0o755),
        (packaging.join("install/README.md"), "README.md", 0o644),
        (
            packaging.join("systemd/balena-engine.service"),
            "systemd/balena-engine.service",
            0o644,
        ),
        (
            packaging.join("systemd/balena-engine.socket"),
            "systemd/balena-engine.socket",
            0o644,
        ),
    ] {
        copy(&from, &top.join(to), mode)?;
    }
    let archive = place().join(format!("{name}.tar.gz"));
    std::fs::create_dir_all(place()).map_err(|e| format!("make {}: {e}", place().display()))?;
    let tar = archive.with_extension("");
    run(Command::new("tar")
        .args([
            "--sort=name",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "--format=gnu",
        ])
        .arg(format!("--mtime=@{}", source_date()))
        .arg("-C")
        .arg(&stage)
        .arg("-cf")
        .arg(&tar)
        .arg(name))?;
    run(Command::new("gzip").args(["-9", "-n", "-f"]).arg(&tar))?;
    Ok(archive)
}

/// The binary and its other names in a directory.
fn install_names(binary: &Path, directory: &Path) -> Result<()> {
    copy(binary, &directory.join("balena"), 0o755)?;
    for name in NAMES {
        let link = directory.join(name);
        symlink("balena", &link).map_err(|e| format!("link {}: {e}", link.display()))?;
    }
    Ok(())
}

/// `balena_<version>_<debian's arch>.deb`, for the architectures that Debian has. Its armel is our ARMv5.
fn debian_package(target: &Target, binary: &Path) -> Result<()> {
    if target.arch == "armv6" {
        return Ok(());
    }
    let stage = target_dir().join("xtask/deb").join(target.arch);
    let _ = std::fs::remove_dir_all(&stage);
    let source = checkout().join("packaging");
    install_names(binary, &stage.join("usr/bin"))?;
    for unit in ["balena-engine.service", "balena-engine.socket"] {
        let to = stage.join("lib/systemd/system").join(unit);
        copy(&source.join("systemd").join(unit), &to, 0o644)?;
    }
    copy(
        &checkout().join("LICENSE"),
        &stage.join("usr/share/doc/balena/copyright"),
        0o644,
    )?;
    let kilobytes = size_of(binary)?.div_ceil(1024);
    let control = std::fs::read_to_string(source.join("deb/control")).map_err(|e| format!("read deb/control: {e}"))?;
    let control = control
        .replace("@VERSION@", VERSION)
        .replace("@ARCHITECTURE@", target.debian)
        .replace("@SIZE@", &kilobytes.to_string());
    write(&stage.join("DEBIAN/control"), control)?;
    for script in ["postinst", "prerm", "postrm"] {
        copy(
            &source.join("deb").join(script),
            &stage.join("DEBIAN").join(script),
            0o755,
        )?;
    }
    let file = package_file(target);
    std::fs::create_dir_all(place()).map_err(|e| format!("make {}: {e}", place().display()))?;
    run(Command::new("dpkg-deb")
        .env("SOURCE_DATE_EPOCH", source_date())
        .args(["--root-owner-group", "-Zxz", "--build"])
        .arg(&stage)
        .arg(file))
}

/// SHA256SUMS over all that lies there, also from earlier runs.
fn sums() -> Result<()> {
    std::fs::create_dir_all(place()).map_err(|e| format!("make {}: {e}", place().display()))?;
    let mut names = Vec::new();
    for entry in std::fs::read_dir(place()).map_err(|e| format!("list {}: {e}", place().display()))? {
        let name = entry
            .map_err(|e| format!("list {}: {e}", place().display()))?
            .file_name();
        if name != "SHA256SUMS" {
            names.push(name);
        }
    }
    if names.is_empty() {
        return Ok(());
    }
    names.sort();
    let text = output(Command::new("sha256sum").current_dir(place()).arg("--").args(names))?;
    write(&place().join("SHA256SUMS"), text)
}

/// When the sources were last changed, in seconds since 1970.
fn source_date() -> String {
    let git = output(
        Command::new("git")
            .current_dir(checkout())
            .args(["log", "-1", "--format=%ct"]),
    );
    git.map_or_else(|_| "0".to_owned(), |text| text.trim().to_owned())
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let bytes = std::fs::read(from).map_err(|e| format!("read {}: {e}", from.display()))?;
    write(to, bytes)?;
    std::fs::set_permissions(to, PermissionsExt::from_mode(mode)).map_err(|e| format!("chmod {}: {e}", to.display()))
}
