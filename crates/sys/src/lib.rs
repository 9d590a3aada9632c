//! Linux mechanisms: the only crate that holds `unsafe`.
pub mod bpf;
pub mod caps;
pub mod namespace;
pub mod process;
pub mod seccomp;
pub mod signal;
