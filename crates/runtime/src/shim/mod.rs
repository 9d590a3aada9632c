//! The shim: one small process per container that outlives the daemon, and the daemon's way to talk to it.
//!
//! In its directory: `shim.json` ([`ShimConfig`], written by the client), `shim.sock` (one JSON line per
//! request, one per answer; [`Request`], [`Reply`]), and at the end `exit.json` ([`ExitStatus`]).

mod children;
pub mod client;
mod connection;
mod journal;
mod json_log;
mod local_log;
mod log;
mod log_file;
mod oom;
mod requests;
mod server;
mod session;
mod supervise;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use json::{Deserialize, Serialize};
use oci::runtime::{ConsoleSize, Process, Resources};

pub use client::{AttachOptions, Event, Events, ExecHandle, ExecOptions, Shim, read_exit};
pub use journal::SOCKET as JOURNAL_SOCKET;
pub use server::{LOG_FAILED, main_shim};

/// `shim.json`: all a shim is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShimConfig {
    pub id: String,
    /// The OCI bundle.
    pub bundle: PathBuf,
    pub runtime: RuntimeChoice,
    pub tty: bool,
    /// Keep a pipe open as the container's stdin; otherwise it is `/dev/null`.
    pub open_stdin: bool,
    /// Close stdin when the first client that attached with stdin closes its side.
    pub stdin_once: bool,
    pub log: LogConfig,
    pub console_size: Option<ConsoleSize>,
}

/// Which OCI runtime to run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RuntimeChoice {
    /// Another runtime's binary; our own when absent.
    pub path: Option<PathBuf>,
    /// Its `--root`.
    pub root: PathBuf,
    /// Further arguments before the command.
    pub args: Vec<String>,
}

/// Where output is kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogConfig {
    #[default]
    None,
    /// Docker's `json-file`.
    JsonFile {
        files: LogFiles,
        /// Extra attributes of every line.
        #[serde(default)]
        attrs: BTreeMap<String, String>,
    },
    /// Docker's `local`.
    Local { files: LogFiles },
    /// Docker's `journald`.
    Journald {
        /// What every entry has beside its own. Names in upper case, digits and `_`.
        fields: BTreeMap<String, String>,
        /// Bytes that may wait for a slow journal before they are lost; nothing: the container waits.
        buffer: Option<u64>,
    },
}

/// A log that is a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogFiles {
    pub path: PathBuf,
    /// Bytes after which the file is rotated.
    pub max_size: Option<u64>,
    /// Number of files kept, the current one included; at least 1.
    pub max_file: u32,
    /// Whether those that are not the current one are compressed.
    #[serde(default)]
    pub compress: bool,
}

/// How a container ended; also `exit.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// 128 + signal when it was killed by one.
    #[serde(rename = "exit_code")]
    pub code: u32,
    /// RFC 3339 with nanoseconds.
    pub exited_at: String,
    pub oom_killed: bool,
}

/// What a client asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The pid of init, and whether it was started.
    Info,
    Start,
    Kill {
        signal: i32,
        all: bool,
    },
    Resize {
        w: u16,
        h: u16,
    },
    Pause,
    Resume,
    Update {
        resources: Box<Resources>,
    },
    /// The connection becomes a stream (stdcopy frames out, raw bytes in).
    Attach {
        stdin: bool,
        stdout: bool,
        stderr: bool,
    },
    /// Like attach, after the answer with the new process' pid; without any stream the connection ends.
    Exec {
        id: String,
        process: Box<Process>,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    },
    ResizeExec {
        id: String,
        w: u16,
        h: u16,
    },
    /// Answered when the process has ended; each result is handed out once.
    WaitExec {
        id: String,
    },
    /// The connection becomes a stream of [`Notice`] lines.
    Subscribe,
    /// Ends the container, whatever its state.
    Delete,
}

/// The answer to a request.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Reply {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub started: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exit_code: Option<u32>,
}

/// What subscribers are told.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    Exit { status: ExitStatus },
    ExecExit { id: String, exit_code: u32 },
    Oom,
}

/// The program names a spawned personality of this crate is known by.
pub const SHIM_NAME: &str = "balena-engine-containerd-shim-runc-v2";
pub const RUNC_NAME: &str = "balena-engine-runc";
/// What compresses a log: the path of a file and the time of its last entry are its arguments.
pub const COMPRESSOR_NAME: &str = "balena-engine-log-compressor";

const SOCKET: &str = "shim.sock";
const CONFIG: &str = "shim.json";
const EXIT: &str = "exit.json";

/// `name` in an open directory, by a path short enough for a socket address.
fn socket_path(directory: &impl std::os::fd::AsFd, name: &str) -> PathBuf {
    Path::new(&crate::rootfs::walk::fd_path(directory)).join(name)
}
