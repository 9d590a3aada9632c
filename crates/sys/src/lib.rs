//! Linux mechanisms: the only crate that holds `unsafe`.
pub mod bpf;
pub mod caps;
pub mod crash;
pub mod fs;
pub mod inflate;
pub mod mount;
pub mod namespace;
pub mod process;
pub mod resolve;
pub mod seccomp;
pub mod signal;
pub mod wake;
