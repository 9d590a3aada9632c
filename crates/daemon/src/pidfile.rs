//! The pid file: one daemon at a time under one name.

use std::path::{Path, PathBuf};

/// Held while the daemon runs; removed with it.
pub struct Pidfile(PathBuf);

impl Pidfile {
    /// Writes it, unless the process that it names still is a daemon.
    pub fn take(path: &Path) -> Result<Pidfile, String> {
        if let Some(pid) = std::fs::read_to_string(path)
            .ok()
            .and_then(|t| t.trim().parse::<u32>().ok())
            && pid != std::process::id()
            && std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| is_daemon(&line))
        {
            return Err(format!(
                "process with PID {pid} is still running; stop it first, or delete {} if it is no daemon",
                path.display()
            ));
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| format!("make {}: {e}", parent.display()))?;
        }
        std::fs::write(path, std::process::id().to_string()).map_err(|e| format!("write {}: {e}", path.display()))?;
        Ok(Pidfile(path.into()))
    }
}

fn is_daemon(command_line: &[u8]) -> bool {
    let line = String::from_utf8_lossy(command_line);
    let mut words = line.split('\0').map(|w| w.rsplit('/').next().unwrap_or(w));
    let first = words.next().unwrap_or("");
    matches!(first, "balenad" | "balena-engine-daemon" | "dockerd") || words.next() == Some("daemon")
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
