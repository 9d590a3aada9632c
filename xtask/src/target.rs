//! The architectures a release is built for, as a table: one row, one architecture.

/// What tells one architecture from the others to compiler, linker and Debian.
pub struct Target {
    /// Rust's name of it.
    pub triple: &'static str,
    /// Our name of it, in the names of archives.
    pub arch: &'static str,
    /// Clang's name of it.
    pub clang: &'static str,
    /// The oldest machine of its kind, said in Clang's flags.
    pub flags: &'static [&'static str],
    /// What of a machine rustc is to use, or to leave, beyond the triple.
    pub features: &'static str,
    /// Debian's name of the architecture whose musl runs on that machine.
    pub debian: &'static str,
    /// Directory of musl's `crt1.o` and `libc.a`, and of its headers.
    pub musl_lib: &'static str,
    pub musl_include: &'static str,
    /// The emulator of its programs, and the oldest machine again, in its words.
    pub emulator: &'static str,
    pub cpu: &'static str,
}

pub const TARGETS: &[Target] = &[
    Target {
        triple: "x86_64-unknown-linux-musl",
        arch: "x86_64",
        clang: "x86_64-linux-musl",
        flags: &[],
        features: "",
        debian: "amd64",
        musl_lib: "/usr/lib/x86_64-linux-musl",
        musl_include: "/usr/include/x86_64-linux-musl",
        emulator: "qemu-x86_64-static",
        cpu: "qemu64",
    },
    Target {
        triple: "aarch64-unknown-linux-musl",
        arch: "aarch64",
        clang: "aarch64-linux-musl",
        flags: &[],
        features: "",
        debian: "arm64",
        musl_lib: "/usr/lib/aarch64-linux-musl",
        musl_include: "/usr/include/aarch64-linux-musl",
        emulator: "qemu-aarch64-static",
        cpu: "cortex-a53",
    },
    Target {
        triple: "armv7-unknown-linux-musleabihf",
        arch: "armv7hf",
        clang: "armv7-linux-musleabihf",
        flags: &["-march=armv7-a", "-mfloat-abi=hard", "-mfpu=vfpv3-d16", "-mthumb"],
        // Thumb-2, which every ARMv7 has: the same instructions in two bytes where they fit.
        features: "+thumb-mode",
        debian: "armhf",
        musl_lib: "/usr/lib/arm-linux-musleabihf",
        musl_include: "/usr/include/arm-linux-musleabihf",
        emulator: "qemu-arm-static",
        cpu: "cortex-a9",
    },
    // Debian's hard-float packages are for ARMv7: ARMv6 gets the soft-float ones. No float is passed anywhere hot.
    Target {
        triple: "arm-unknown-linux-musleabi",
        arch: "armv6",
        clang: "armv6-linux-musleabi",
        flags: &["-march=armv6", "-mfloat-abi=soft", "-marm"],
        features: "",
        debian: "armel",
        musl_lib: "/usr/lib/arm-linux-musleabi",
        musl_include: "/usr/include/arm-linux-musleabi",
        emulator: "qemu-arm-static",
        cpu: "arm1176",
    },
    Target {
        triple: "armv5te-unknown-linux-musleabi",
        arch: "armv5",
        clang: "armv5te-linux-musleabi",
        flags: &["-march=armv5te", "-mfloat-abi=soft", "-marm"],
        features: "",
        debian: "armel",
        musl_lib: "/usr/lib/arm-linux-musleabi",
        musl_include: "/usr/include/arm-linux-musleabi",
        emulator: "qemu-arm-static",
        cpu: "arm926",
    },
    // Not i586: ring 0.17 refuses to be built without SSE2, so a Pentium III is out; this is a Pentium M.
    Target {
        triple: "i686-unknown-linux-musl",
        arch: "i386",
        clang: "i686-linux-musl",
        flags: &["-march=pentium4"],
        features: "",
        debian: "i386",
        musl_lib: "/usr/lib/i386-linux-musl",
        musl_include: "/usr/include/i386-linux-musl",
        emulator: "qemu-i386-static",
        cpu: "pentium3,+sse2",
    },
];

impl Target {
    /// Whether a `long`, and with it the kernel's old `time_t`, has 32 bits.
    pub fn is_32bit(&self) -> bool {
        !self.triple.starts_with("x86_64") && !self.triple.starts_with("aarch64")
    }

    /// Whether the program is loaded anywhere, and puts its addresses right by itself; Rust has the others loaded
    /// where they were linked for.
    pub fn relocates_itself(&self) -> bool {
        self.triple.starts_with("x86_64")
    }

    /// The row of this triple, or of our name of the architecture.
    pub fn named(name: &str) -> Result<&'static Target, String> {
        let known: Vec<&str> = TARGETS.iter().map(|target| target.triple).collect();
        let found = TARGETS
            .iter()
            .find(|target| target.triple == name || target.arch == name);
        found.ok_or_else(|| {
            format!(
                "target {name:?} is not known; there is {}: add a row to xtask/src/target.rs",
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
