//! Seccomp: Docker's default profile, and the compiler from the specification's rules to classic BPF.

mod compile;
mod docker;
mod syscalls;

pub use compile::{Filter, compile};
pub use docker::docker_default;
pub use syscalls::Arch;
