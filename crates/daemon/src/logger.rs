//! The daemon's own log, in logrus' text form: `time="…" level=info msg="…"`.

use log::{Level, LevelFilter, Log, Metadata, Record};
use std::io::Write;

struct Logger;

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // Libraries speak up only when something is wrong.
        let ours = record.target().split("::").next().is_some_and(|krate| {
            matches!(
                krate,
                "daemon" | "engine" | "store" | "registry" | "network" | "runtime" | "builder" | "balena"
            )
        });
        if !ours && record.level() > Level::Warn {
            return;
        }
        let level = match record.level() {
            Level::Error => "error",
            Level::Warn => "warning",
            Level::Info => "info",
            Level::Debug | Level::Trace => "debug",
        };
        write(level, &record.args().to_string());
    }

    fn flush(&self) {}
}

/// Writes one line.
pub fn write(level: &str, message: &str) {
    let quoted = json::to_string(message);
    let line = format!("time=\"{}\" level={level} msg={quoted}\n", api::time::now());
    // A log that cannot be written has nobody to be told.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Starts logging at a level named as dockerd names it.
pub fn start(level: &str) -> Result<(), String> {
    let filter = match level {
        "debug" | "trace" => LevelFilter::Debug,
        "info" => LevelFilter::Info,
        "warn" | "warning" => LevelFilter::Warn,
        "error" | "fatal" | "panic" => LevelFilter::Error,
        other => return Err(format!("invalid logging level: {other}")),
    };
    log::set_max_level(filter);
    static LOGGER: Logger = Logger;
    // A second start, from a reload, only changes the level.
    let _ = log::set_logger(&LOGGER);
    Ok(())
}
