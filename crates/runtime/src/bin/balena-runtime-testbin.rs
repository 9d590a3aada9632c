//! The runtime's personalities under their names, for this crate's tests; the product's binary dispatches the same.

use std::ffi::OsString;
use std::path::Path;

fn main() {
    let args: Vec<OsString> = std::env::args_os().collect();
    let name = args.first().and_then(|name| Path::new(name).file_name()).unwrap_or_default().to_string_lossy().into_owned();
    std::process::exit(runtime::main_by_name(&name, args));
}
