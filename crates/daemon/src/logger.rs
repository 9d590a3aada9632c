//! The daemon's own log, in logrus' text form, `time="…" level=info msg="…"`, or in its JSON.

use log::{Level, LevelFilter, Log, Metadata, Record};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

struct Logger;

/// Whether lines are logrus' JSON.
static JSON: AtomicBool = AtomicBool::new(false);

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
    let time = api::time::now();
    let line = match JSON.load(Ordering::Relaxed) {
        true => format!("{{\"level\":\"{level}\",\"msg\":{quoted},\"time\":\"{time}\"}}\n"),
        false => format!("time=\"{time}\" level={level} msg={quoted}\n"),
    };
    // A log that cannot be written has nobody to be told.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Starts logging at a level and in a form named as dockerd names them.
pub fn start(wanted: &crate::settings::Log) -> Result<(), String> {
    match wanted.format.as_str() {
        "text" | "" => JSON.store(false, Ordering::Relaxed),
        "json" => JSON.store(true, Ordering::Relaxed),
        other => return Err(format!("invalid log format: {other}")),
    }
    let filter = match wanted.level.as_str() {
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
