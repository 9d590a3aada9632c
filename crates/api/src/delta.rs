//! A delta that is made without a daemon: what the process that makes it reads, in one [frame](crate::stdcopy) of
//! "standard input", JSON of [`JOB`] bytes at most. It answers as the daemon's route does, in frames: lines of
//! [progress](crate::progress) as standard error, an archive as standard output.

use json::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most bytes of a job.
pub const JOB: u32 = 1 << 20;

/// What is to be made from what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Job {
    /// References, or paths of archives: these begin with `/` or `.`.
    pub sources: Vec<String>,
    pub target: String,
    /// All sources are one base, for devices that have all of them.
    pub together: bool,
    /// `os/arch[/variant]`, or `all`; empty is this machine's.
    pub platform: String,
    pub outcome: Outcome,
    /// The name that the archive's image gets in place of the target's own.
    pub name: String,
    /// `X-Registry-Auth` headers by registry.
    pub credentials: BTreeMap<String, String>,
    pub insecure_registries: Vec<String>,
    /// For temporary files.
    pub directory: String,
}

/// What becomes of the deltas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// They are told of and go.
    #[default]
    Nothing,
    /// They are pushed to the target's repository.
    Push,
    /// They are sent as an archive.
    Archive,
}
