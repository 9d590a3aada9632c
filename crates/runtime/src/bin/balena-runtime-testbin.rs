//! The runtime's personalities under their names, for this crate's tests; the product's binary dispatches the same.
//! `testclient DIRECTORY CONFIG` drives the shim's client library.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::Path;

fn main() {
    let args: Vec<OsString> = std::env::args_os().collect();
    let name = args
        .first()
        .and_then(|name| Path::new(name).file_name())
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let code = match name.as_str() {
        runtime::shim::SHIM_NAME => runtime::main_shim(args),
        "balena-engine-init" | "docker-init" => runtime::main_init(args),
        _ => runtime::main_runc(args),
    };
    std::process::exit(code);
}
