//! Which log driver a container has, and what its shim is told of it.
//!
//! `json-file`, `local`, `journald` and `none` are there. A container of a data root that was taken over may have another:
//! it is served, but it does not start.

mod attributes;
mod options;

use crate::container::Record;
use crate::error::{Error, Kind, Result};
use api::host_config::LogConfig;
use options::Rotation;
use runtime::shim::{LogConfig as ShimLog, LogFiles};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

pub use options::check;

/// The drivers that are there, as `info` lists them.
pub const DRIVERS: &[&str] = &["journald", "json-file", "local", "none"];

/// Where the `local` driver keeps its log, in the container's directory.
pub const LOCAL: &str = "local-logs/container.log";

/// Where Docker keeps what containers wrote whose driver cannot be read; of the same form.
pub const CACHED: &str = "container-cached.log";

/// Whether there is a journal to write to.
pub fn journal_is_there() -> bool {
    UnixDatagram::unbound().is_ok_and(|socket| socket.connect(runtime::shim::JOURNAL_SOCKET).is_ok())
}

/// What Docker says where there is none.
pub const NO_JOURNAL: &str = "journald is not enabled on this host";

/// What the shim of a container is to do; `directory` is the container's.
pub(crate) fn log_of(record: &Record, directory: &Path) -> Result<ShimLog> {
    let log = &record.host.log_config;
    check(log)?;
    shim_log(record, directory).map_err(|why| {
        let text = format!("failed to create task for container: failed to initialize logging driver: {why}");
        Error::new(Kind::Internal, text)
    })
}

fn shim_log(record: &Record, directory: &Path) -> Result<ShimLog, String> {
    let LogConfig { kind, config } = &record.host.log_config;
    let files = |path: PathBuf, rotation: Rotation| LogFiles {
        path,
        max_size: rotation.max_size,
        max_file: rotation.max_file,
        compress: rotation.compress,
    };
    Ok(match kind.as_str() {
        "none" => ShimLog::None,
        "local" => ShimLog::Local {
            files: files(directory.join(LOCAL), options::local(config)?),
        },
        "journald" if !journal_is_there() => return Err(NO_JOURNAL.into()),
        "journald" => ShimLog::Journald {
            fields: attributes::journald(record)?,
            buffer: options::buffer(config)?,
        },
        _ => ShimLog::JsonFile {
            files: files(PathBuf::from(&record.disk.log_path), options::json_file(config)?),
            attrs: attributes::json_file(record)?,
        },
    })
}
