//! Lifecycle hooks of the runtime specification: programs that read the container's state on stdin.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use std::collections::BTreeMap;

use json::Serialize;
use oci::runtime::Hook;

use crate::error::{Context, Error, Result};

/// The state as hooks and `runc state` callers get it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    pub oci_version: String,
    pub id: String,
    pub status: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    pub pid: i32,
    pub bundle: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

fn is_zero(pid: &i32) -> bool {
    *pid == 0
}

/// Runs hooks in order; the first that fails ends it.
pub fn run(hooks: &[Hook], state: &State, moment: &str) -> Result<()> {
    for (index, hook) in hooks.iter().enumerate() {
        run_one(hook, state).map_err(|error| error.within(format_args!("error running {moment} hook #{index}")))?;
    }
    Ok(())
}

/// Runs hooks whose failure changes nothing any more; answers with what went wrong.
pub fn run_all(hooks: &[Hook], state: &State, moment: &str) -> Vec<Error> {
    let run = |hook| run_one(hook, state).err();
    hooks
        .iter()
        .filter_map(run)
        .map(|error| error.within(format_args!("error running {moment} hook")))
        .collect()
}

fn run_one(hook: &Hook, state: &State) -> Result<()> {
    let state = json::to_vec(state);
    let mut command = Command::new(&hook.path);
    if let Some((name, args)) = hook.args.split_first() {
        command.arg0(name).args(args);
    }
    command.env_clear();
    for pair in &hook.env {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        command.env(name, value);
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("start {}", hook.path))?;
    if let Some(mut stdin) = child.stdin.take() {
        // It need not read it.
        let _ = stdin.write_all(&state);
    }
    let deadline = hook
        .timeout
        .map(|seconds| Instant::now() + Duration::from_secs(u64::from(seconds)));
    let status = loop {
        match deadline {
            None => break child.wait().with_context(|| format!("wait for {}", hook.path))?,
            Some(deadline) => {
                if let Some(status) = child.try_wait().with_context(|| format!("wait for {}", hook.path))? {
                    break status;
                }
                if Instant::now() >= deadline {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(Error::new(format!(
                        "hook ran past specified timeout of {:.1}s",
                        hook.timeout.unwrap_or(0) as f32
                    )));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    };
    if status.success() {
        return Ok(());
    }
    Err(Error::new(match status.code() {
        Some(code) => format!("exit status {code}"),
        None => status.to_string(),
    }))
}
