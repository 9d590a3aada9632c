//! The architectures a release is built for, as a table: one row, one architecture.

/// What tells one architecture from the others to compiler, linker and Debian.
pub struct Target {
    /// Rust's name of it.
    pub triple: &'static str,
    /// Clang's name of it.
    pub clang: &'static str,
    /// The oldest machine of its kind, said in Clang's flags.
    pub flags: &'static [&'static str],
    /// Directory of musl's `crt1.o` and `libc.a`, and of its headers.
    pub musl_lib: &'static str,
    pub musl_include: &'static str,
    /// Directory of GCC's libraries, less the version.
    pub gcc: &'static str,
}

pub const TARGETS: &[Target] = &[Target {
    triple: "x86_64-unknown-linux-musl",
    clang: "x86_64-linux-musl",
    flags: &[],
    musl_lib: "/usr/lib/x86_64-linux-musl",
    musl_include: "/usr/include/x86_64-linux-musl",
    gcc: "/usr/lib/gcc/x86_64-linux-gnu",
}];

impl Target {
    /// The row of this triple.
    pub fn named(triple: &str) -> Result<&'static Target, String> {
        let known: Vec<&str> = TARGETS.iter().map(|target| target.triple).collect();
        let found = TARGETS.iter().find(|target| target.triple == triple);
        found.ok_or_else(|| {
            format!(
                "target {triple:?} is not known; there is {}: add a row to xtask/src/target.rs",
                known.join(", ")
            )
        })
    }

    /// The row of the machine we run on.
    pub fn here() -> Result<&'static Target, String> {
        let arch = std::env::consts::ARCH;
        let found = TARGETS.iter().find(|target| target.triple.starts_with(arch));
        found.ok_or_else(|| format!("no release is built for {arch} yet: add a row to xtask/src/target.rs"))
    }
}
