//! What a target's programs are linked with: one directory under `target/`, put together from Debian's packages.
//!
//! The start files (but one, see `start.c`) and `libc.a` are musl's; where the standard library expects an unwinder it finds none, for a panic ends
//! the program; for 32-bit targets our timed waits lie beside it. `cc` is a C compiler for the C parts of ring and zstd.

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
            "#!/bin/sh\nexec clang --target={} {} -fno-unwind-tables -fno-asynchronous-unwind-tables -nostdinc -isystem {}/include -isystem {} \"$@\"\n",
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
        if target.relocates_itself() {
            let mut cc = Command::new(&self.cc);
            cc.args(["-Os", "-fPIE", "-ffreestanding", "-fno-stack-protector", "-c"]);
            run(cc
                .arg(checkout().join("xtask/sysroot/start.c"))
                .arg("-o")
                .arg(self.lib.join("rcrt1.o")))?;
        }
        // GCC's own would register frames for an unwinder.
        for name in ["crtbegin.o", "crtbeginS.o", "crtbeginT.o", "crtend.o", "crtendS.o"] {
            let mut cc = Command::new(&self.cc);
            run(cc.args(["-c", "-x", "c", "/dev/null", "-o"]).arg(self.lib.join(name)))?;
        }
        self.make_unwinder(target)
    }

    /// `libunwind.a`, the name under which Rust's standard library asks for an unwinder on musl.
    fn make_unwinder(&self, target: &Target) -> Result<()> {
        let parts = self.lib.join("parts");
        std::fs::create_dir_all(&parts).map_err(|e| format!("make {}: {e}", parts.display()))?;
        let mut objects = Vec::new();
        for name in sources(target) {
            let source = checkout().join("xtask/sysroot").join(name).with_extension("c");
            let object = parts.join(name).with_extension("o");
            let mut cc = Command::new(&self.cc);
            cc.args(["-Os", "-fPIC", "-ffunction-sections", "-fno-builtin", "-c"]);
            run(cc.arg(source).arg("-o").arg(&object))?;
            objects.push(object);
        }
        run(Command::new("ar")
            .arg("crsD")
            .arg(self.lib.join("libunwind.a"))
            .args(objects))
    }
}

/// Our own parts, under `xtask/sysroot`.
fn sources(target: &Target) -> &'static [&'static str] {
    match target.is_32bit() {
        true => &["no_unwinder", "time64"],
        false => &["no_unwinder"],
    }
}

/// Changes when the directory must be made anew.
fn recipe(target: &Target) -> Result<String> {
    let libc = debian::below(&debian::root(target.debian)?, target.musl_lib).join("libc.a");
    let data = std::fs::metadata(&libc).map_err(|e| format!("look at {}: {e}", libc.display()))?;
    let mut text = format!("2 {}\n{}\n", target.flags.join(" "), include_str!("sysroot.rs"));
    text.push_str(include_str!("../sysroot/no_unwinder.c"));
    text.push_str(include_str!("../sysroot/time64.c"));
    text.push_str(include_str!("../sysroot/start.c"));
    text.push_str(&format!("{} {:?}\n", data.len(), data.modified().ok()));
    Ok(text)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).map_err(|e| format!("copy {} to {}: {e}", from.display(), to.display()))?;
    Ok(())
}
