//! A container's whole file system as a tar.

use crate::Engine;
use crate::error::{Context, Result};
use std::io::{BufWriter, Write};

/// Writes the tar of a container's files as they are, without volumes.
pub fn export(engine: &Engine, name: &str, out: &mut dyn Write) -> Result<()> {
    let container = engine.containers.find(name)?;
    let mut out = BufWriter::with_capacity(64 * 1024, out);
    engine
        .store
        .rw
        .tar_all(container.id.as_str(), &mut out as &mut dyn Write)?;
    out.flush().context("send the archive")?;
    engine.container_event("export", &container.record(), &[]);
    Ok(())
}
