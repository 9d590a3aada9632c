//! Running containers: the OCI runtime, the per-container shim and its client, and docker-init.
#![forbid(unsafe_code)]

pub mod cgroup;
mod channel;
mod cli;
mod console;
pub mod container;
pub mod error;
mod hooks;
mod init;
pub mod rootfs;
mod sealed;
pub mod seccomp;
pub mod time;

use std::ffi::OsString;

pub use cli::main_runc;

/// The personality a program name of this crate stands for; the runtime for any other.
pub fn main_by_name(name: &str, args: Vec<OsString>) -> i32 {
    let _ = name;
    main_runc(args)
}
