//! The engine: what each command and each route means, as verbs over the store, the registry, the network and the
//! runtime.
//!
//! A verb is a function in a file of its name. [`Engine`] is a struct of parts. Nothing here speaks HTTP or names a
//! system call.

mod apply_delta;
pub mod attach;
mod balena_delta;
pub mod cancel;
pub mod commit;
pub mod compress_log;
mod connect;
pub mod container;
pub mod copy;
pub mod create;
mod device;
pub mod diff;
pub mod distribution;
mod download;
pub mod error;
pub mod events;
pub mod exec;
pub mod export;
mod filter;
pub mod find_delta;
mod gzip;
mod health;
pub mod id;
pub mod image;
pub mod import;
pub mod info;
pub mod inspect;
mod instruction;
mod job;
pub mod list;
pub mod load;
pub mod log_driver;
pub mod logs;
pub mod make_delta;
pub mod manifest;
mod mounts;
mod names;
pub mod net;
pub mod net_change;
mod net_names;
mod pace;
mod parts;
mod pattern;
pub mod prepare;
pub mod progress;
pub mod pull;
pub mod push;
pub mod remove;
pub mod reopen;
mod repair;
mod rescue;
mod restart;
pub mod save;
pub mod search;
pub mod share;
pub mod size;
pub mod spec;
pub mod start;
pub mod stop;
mod table;
pub mod tag;
mod turn;
mod undo;
pub mod update;
mod user;
pub mod verify;
pub mod volume;
pub mod wait;
mod watch;

pub use parts::{Config, Engine, Limits, Runtime};
pub use store::foreign_driver;
