//! What a target's programs are linked with: one directory under `target/`, put together from Debian's packages.
//!
//! The start files and `libc.a` are musl's, the unwinder is GCC's (`libgcc_eh.a`), so that a panic unwinds and one
//! request's bug does not end the daemon; for 32-bit targets our timed waits lie beside it. `cc` is a C compiler for the
//! C parts of ring and zstd.

use crate::command::{Result, checkout, output, run, target_dir, write};
use crate::debian;
use crate::target::Target;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A target's link directory and C compiler.
pub struct Sysroot {
    pub lib: PathBuf,
    pub cc: PathBuf,
}

impl Sysroot {
    /// Makes it, or finds it made.
    pub fn of(target: &Target) -> Result<Sysroot> {
        let lib = target_dir().join("xtask/sysroot").join(target.triple);
        let sysroot = Sysroot {
            cc: lib.join("cc"),
            lib,
        };
        let stamp = sysroot.lib.join("made");
        let recipe = recipe(target)?;
        if std::fs::read_to_string(&stamp).is_ok_and(|made| made == recipe) {
            return Ok(sysroot);
        }
        let _ = std::fs::remove_dir_all(&sysroot.lib);
        sysroot.make(target)?;
        write(&stamp, recipe)?;
        Ok(sysroot)
    }

    fn make(&self, target: &Target) -> Result<()> {
        let root = debian::root(target.debian)?;
        let musl = debian::below(&root, target.musl_lib);
        let resources = output(Command::new("clang").arg("-print-resource-dir"))?;
        let script = format!(
            "#!/bin/sh\nexec clang --target={} {} -nostdinc -isystem {}/include -isystem {} \"$@\"\n",
            target.clang,
            target.flags.join(" "),
            resources.trim(),
            debian::below(&root, target.musl_include).display()
        );
        write(&self.cc, script)?;
        let executable = std::fs::set_permissions(&self.cc, PermissionsExt::from_mode(0o755));
        executable.map_err(|e| format!("make {} executable: {e}", self.cc.display()))?;
        for name in ["crt1.o", "Scrt1.o", "rcrt1.o", "crti.o", "crtn.o", "libc.a"] {
            copy(&musl.join(name), &self.lib.join(name))?;
        }
        // GCC's own would register frames of a dynamic program; a static one has its tables in the program header.
        for name in ["crtbegin.o", "crtbeginS.o", "crtbeginT.o", "crtend.o", "crtendS.o"] {
            let mut cc = Command::new(&self.cc);
            run(cc.args(["-c", "-x", "c", "/dev/null", "-o"]).arg(self.lib.join(name)))?;
        }
        self.make_unwinder(target)
    }

    /// `libunwind.a`, the name under which Rust's standard library asks for an unwinder on musl.
    fn make_unwinder(&self, target: &Target) -> Result<()> {
        let gcc = gcc_directory(target)?;
        let parts = self.lib.join("parts");
        std::fs::create_dir_all(&parts).map_err(|e| format!("make {}: {e}", parts.display()))?;
        for archive in ["libgcc_eh.a", "libgcc.a"] {
            run(Command::new("ar").current_dir(&parts).arg("x").arg(gcc.join(archive)))?;
        }
        let mut ours = vec!["dl_find_object"];
        if target.is_32bit() {
            ours.push("time64");
        }
        for name in ours {
            let source = checkout().join("xtask/sysroot").join(name).with_extension("c");
            let mut cc = Command::new(&self.cc);
            cc.args(["-Os", "-fPIC", "-ffunction-sections", "-c"]).arg(source);
            run(cc.arg("-o").arg(parts.join(name).with_extension("o")))?;
        }
        let mut objects = Vec::new();
        for entry in std::fs::read_dir(&parts).map_err(|e| format!("list {}: {e}", parts.display()))? {
            objects.push(entry.map_err(|e| format!("list {}: {e}", parts.display()))?.path());
        }
        objects.sort();
        run(Command::new("ar")
            .arg("crsD")
            .arg(self.lib.join("libunwind.a"))
            .args(objects))
    }
}

/// Changes when the directory must be made anew.
fn recipe(target: &Target) -> Result<String> {
    let gcc = gcc_directory(target)?;
    let musl = debian::below(&debian::root(target.debian)?, target.musl_lib);
    let newest = [gcc.join("libgcc_eh.a"), musl.join("libc.a")];
    let mut text = format!("1 {}\n{}\n", target.flags.join(" "), include_str!("sysroot.rs"));
    text.push_str(include_str!("../sysroot/dl_find_object.c"));
    text.push_str(include_str!("../sysroot/time64.c"));
    for file in newest {
        let data = std::fs::metadata(&file).map_err(|e| format!("look at {}: {e}", file.display()))?;
        text.push_str(&format!("{} {:?}\n", data.len(), data.modified().ok()));
    }
    Ok(text)
}

/// The directory of the newest GCC there is.
fn gcc_directory(target: &Target) -> Result<PathBuf> {
    let place = debian::below(&debian::root(target.debian)?, target.gcc);
    let entries = std::fs::read_dir(&place).map_err(|e| format!("look for gcc in {}: {e}", place.display()))?;
    let mut versions: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .filter(|(_, path)| path.join("libgcc_eh.a").exists())
        .collect();
    versions.sort();
    let newest = versions.pop().map(|(_, path)| path);
    newest.ok_or_else(|| format!("no libgcc_eh.a under {}: install gcc", place.display()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).map_err(|e| format!("copy {} to {}: {e}", from.display(), to.display()))?;
    Ok(())
}
