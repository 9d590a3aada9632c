//! Every door that untrusted bytes come through, under libFuzzer. One program for all: `BALENA_FUZZ` names the target,
//! or is `seeds` to have the seeds of all targets written below the directory that is the first argument.
//!
//! Run by `cargo xtask fuzz`, which compiles it with coverage. A target checks more than that nothing panics: what was
//! taken apart must go together again, and what was read must be read the same a second time.

#![no_main]

/// The engine's, for its files that are included here: the engine itself takes long to compile.
#[path = "../../crates/engine/src/error.rs"]
#[allow(dead_code, reason = "a part of what its crate uses")]
mod error;
mod targets;

use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("BALENA_FUZZ").unwrap_or_default();
    if name == "seeds" {
        let directory = std::env::args().nth(1).expect("a directory for the seeds");
        targets::write_seeds(directory.as_ref());
        std::process::exit(0);
    }
    let found = targets::ALL.iter().find(|target| target.name == name);
    found
        .unwrap_or_else(|| panic!("BALENA_FUZZ={name} names no target"))
        .run
});

libfuzzer_sys::fuzz_target!(
    init: {
        LazyLock::force(&TARGET);
    },
    |bytes: &[u8]| TARGET(bytes)
);
