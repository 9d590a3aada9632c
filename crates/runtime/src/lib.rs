//! Running containers: the OCI runtime, the per-container shim and its client, and docker-init.
//!
//! Three personalities of the one binary ([`main_runc`], [`main_shim`], [`main_init`]) and one library for
//! the daemon ([`shim`]). All three are single-threaded and check it.
#![forbid(unsafe_code)]

pub mod cgroup;
mod channel;
mod cli;
mod console;
pub mod container;
mod docker_init;
pub mod error;
mod hooks;
mod init;
pub mod rootfs;
mod sealed;
pub mod seccomp;
pub mod shim;
pub mod time;

pub use cli::main_runc;
pub use docker_init::main_init;
pub use shim::main_shim;
