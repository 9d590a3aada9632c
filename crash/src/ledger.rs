//! What had been promised by when: one line before and one after each operation, with the length of the device's log.
//!
//! A line costs the device nothing: the ledger lies elsewhere, and the length is read from outside. When an operation
//! has returned, all writes and flushes that it waited for are in the log below the length noted then; when it has
//! not begun, none of its writes are. So at a crash after `position` bytes of log every operation noted as done at or
//! below it counts, one that had only begun may have happened or not, and everything else must not be there.

use crate::Result;
use json::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What an operation is to change: `tag NAME`, `image ID`, `container ID`, and what it will be, if anything; `layer
/// DIFF` is damaged or not.
pub type Effects = Vec<(String, Option<String>)>;

#[derive(Serialize, Deserialize)]
struct Line {
    position: u64,
    /// The kind of the operation: points are counted by it.
    what: String,
    done: bool,
    effects: Effects,
}

/// The ledger of a run.
pub struct Writer {
    file: File,
    log: PathBuf,
}

impl Writer {
    pub fn create(path: &Path, log: &Path) -> Result<Writer> {
        let file = File::create(path).map_err(|e| format!("create {}: {e}", path.display()))?;
        Ok(Writer {
            file,
            log: log.to_owned(),
        })
    }

    /// Notes an operation, does it, and notes that it is done. One that fails stays in the balance.
    pub fn operation<T>(&mut self, what: &str, effects: Effects, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.line(what, false, &effects)?;
        let result = work()?;
        self.line(what, true, &effects)?;
        Ok(result)
    }

    /// One that is to fail, and to leave all as it was, which was without what it makes. Says if it failed.
    pub fn attempt(&mut self, what: &str, effects: Effects, work: impl FnOnce() -> Result<bool>) -> Result<bool> {
        self.line(what, false, &effects)?;
        let failed = work()?;
        let nothing = effects.iter().map(|(name, _)| (name.clone(), None)).collect();
        self.line(what, true, if failed { &nothing } else { &effects })?;
        Ok(failed)
    }

    /// Notes what is there at the beginning of a life that goes on after a crash.
    pub fn found(&mut self, effects: &Effects) -> Result<()> {
        self.write(0, "found", true, effects)
    }

    fn line(&mut self, what: &str, done: bool, effects: &Effects) -> Result<()> {
        let log = std::fs::metadata(&self.log).map_err(|e| format!("look at {}: {e}", self.log.display()))?;
        self.write(log.len(), what, done, effects)
    }

    fn write(&mut self, position: u64, what: &str, done: bool, effects: &Effects) -> Result<()> {
        let line = Line {
            position,
            what: what.into(),
            done,
            effects: effects.clone(),
        };
        let mut text = json::to_string(&line);
        text.push('\n');
        self.file
            .write_all(text.as_bytes())
            .map_err(|e| format!("write the ledger: {e}"))
    }
}

/// What may be found after a crash: for each name the values it may have.
#[derive(Debug)]
pub struct Expected(BTreeMap<String, BTreeSet<Option<String>>>);

impl Expected {
    /// For a crash when the log had this length.
    pub fn read(ledger: &Path, position: u64) -> Result<Expected> {
        let text = std::fs::read_to_string(ledger).map_err(|e| format!("read {}: {e}", ledger.display()))?;
        let mut allowed: BTreeMap<String, BTreeSet<Option<String>>> = BTreeMap::new();
        for line in text.lines() {
            let line: Line = json::from_str(line).map_err(|e| format!("read the ledger: {e}"))?;
            for (name, value) in line.effects {
                let values = allowed.entry(name).or_insert_with(|| BTreeSet::from([None]));
                if line.position <= position {
                    if line.done {
                        values.clear();
                    }
                    values.insert(value);
                }
            }
        }
        Ok(Expected(allowed))
    }

    /// For when nothing is in the balance.
    pub fn nothing() -> Expected {
        Expected(BTreeMap::new())
    }

    /// Says if something may have this value.
    pub fn allows(&self, name: &str, value: &str) -> bool {
        let values = self.0.get(name);
        values.is_some_and(|values| values.contains(&Some(value.to_owned())))
    }

    /// Compares with everything that was found: all that was acknowledged is there, nothing that was never asked for.
    pub fn compare(&self, found: &Effects) -> Result<()> {
        let nothing = BTreeSet::from([None]);
        for (name, value) in found {
            let allowed = self.0.get(name).unwrap_or(&nothing);
            if !allowed.contains(value) {
                return Err(format!("{name} is {value:?}, allowed is {allowed:?}"));
            }
        }
        // Whether layers are damaged is looked at layer by layer.
        for (name, allowed) in self.0.iter().filter(|(name, _)| !name.starts_with("layer ")) {
            let is_found = found.iter().any(|(found, _)| found == name);
            if !is_found && !allowed.contains(&None) {
                return Err(format!("{name} is lost, it was {allowed:?}"));
            }
        }
        Ok(())
    }
}
