//! Seccomp: Docker's default profile, and the compiler from the specification's rules to classic BPF.

mod compile;
mod docker;
mod interpret;
mod syscalls;

pub use compile::{Filter, compile, compile_for};
pub use docker::{docker_default, docker_default_for};
pub use interpret::{Call, Invalid, interpret};
pub use syscalls::{Arch, X32_BIT, number, table};
