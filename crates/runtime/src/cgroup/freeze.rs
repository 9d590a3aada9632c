//! Freezing a group: all its processes stop where they are, and cannot tell.

use std::path::Path;
use std::time::Duration;

use super::Cgroup;
use crate::error::{Context, Error, Result};

impl Cgroup {
    /// Freezes or thaws, and waits until it is so.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        let (directory, file, value) = self.freezer(frozen)?;
        let file = directory.join(file);
        let doing = if frozen { "freeze" } else { "thaw" };
        for attempt in 0..1000u64 {
            if !self.is_v2() || attempt == 0 {
                // v1 may hang in FREEZING while processes fork; writing again, after a thaw, gets it further.
                if attempt % 50 == 49 && frozen {
                    let _ = std::fs::write(&file, "THAWED");
                }
                std::fs::write(&file, value).with_context(|| format!("{doing} {}", directory.display()))?;
            }
            if self.is_frozen() == frozen {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(if attempt < 10 { 1 } else { 10 }));
        }
        Err(Error::new(format!("unable to {doing} {}", directory.display())))
    }

    /// Whether the group is frozen.
    pub fn is_frozen(&self) -> bool {
        let Ok((directory, _, _)) = self.freezer(true) else {
            return false;
        };
        let read = |file: &str| std::fs::read_to_string(directory.join(file)).unwrap_or_default();
        if self.is_v2() {
            super::stats::keyed(&read("cgroup.events"), "frozen") == 1
        } else {
            read("freezer.state").trim() == "FROZEN"
        }
    }

    fn freezer(&self, frozen: bool) -> Result<(&Path, &'static str, &'static str)> {
        if self.is_v2() {
            return Ok((self.directory(), "cgroup.freeze", if frozen { "1" } else { "0" }));
        }
        let directory = self
            .controller("freezer")
            .ok_or_else(|| Error::new("no freezer cgroup on this machine"))?;
        Ok((directory, "freezer.state", if frozen { "FROZEN" } else { "THAWED" }))
    }
}
