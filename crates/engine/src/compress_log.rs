//! Compresses one file of a log that was rotated: the work of a process of its own, which a shim starts.
//!
//! Arguments: the file, and the time of its last entry, which Docker looks for to pass over files that are too old.

use std::ffi::OsString;
use std::path::Path;

/// The process: its exit status.
pub fn main(args: &[OsString]) -> i32 {
    let [path, time] = args else {
        eprintln!("usage: log-compressor FILE TIME");
        return 2;
    };
    // A shim that is gone must not find its successor's files changed by us.
    let _ = sys::process::set_parent_death_signal(sys::signal::KILL);
    let _ = sys::process::lower_io_priority();
    let extra = format!("{{\"lastTime\":{}}}", json::to_string(&*time.to_string_lossy()));
    match store::gzip::compress_file(Path::new(path), extra.as_bytes()) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}
