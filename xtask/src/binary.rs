//! The binary that the demonstration, the tests and the figures are about.

use crate::build;
use crate::command::Result;
use crate::target::Target;
use std::path::PathBuf;

/// The release of this machine, built now; or the one that `BALENA_BINARY` names.
pub fn wanted() -> Result<PathBuf> {
    let Some(given) = std::env::var_os("BALENA_BINARY").map(PathBuf::from) else {
        return build::release(Target::here()?);
    };
    let full = std::fs::canonicalize(&given);
    full.map_err(|e| format!("BALENA_BINARY is {}: {e}", given.display()))
}
