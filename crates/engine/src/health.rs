//! Health checks: a command in the container, now and then, and what its results say.
//!
//! One thread for each running container that has a check; it ends with the run. Times, counts and texts are Docker's.

use crate::Engine;
use crate::error::{Context, Error, Result};
use crate::table::{Container, Inner};
use api::container::{Health, HealthResult, Healthcheck};
use runtime::shim::{AttachOptions, ExecOptions, Shim};
use std::io::Read;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use sys::wake::{Interest, wait};

const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: i64 = 3;
/// Results that are kept.
const KEPT: usize = 5;
/// Bytes of output that are kept of each.
const OUTPUT: usize = 4096;
const SIGKILL: i32 = 9;

/// A check with its defaults filled in.
struct Check {
    command: Vec<String>,
    interval: Duration,
    timeout: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: i64,
}

impl Check {
    /// `None` where there is no check, or it was taken away.
    fn of(check: Option<&Healthcheck>, shell: Option<&Vec<String>>) -> Option<Check> {
        let check = check?;
        let (kind, rest) = check.test.as_ref()?.split_first()?;
        let command = match kind.as_str() {
            "CMD" if !rest.is_empty() => rest.to_vec(),
            "CMD-SHELL" => {
                let default = || vec!["/bin/sh".to_string(), "-c".into()];
                let mut command = shell.filter(|s| !s.is_empty()).cloned().unwrap_or_else(default);
                command.push(rest.first()?.clone());
                command
            }
            _ => return None,
        };
        let or = |nanos: i64, default: Duration| match u64::try_from(nanos) {
            Ok(0) | Err(_) => default,
            Ok(nanos) => Duration::from_nanos(nanos),
        };
        Some(Check {
            command,
            interval: or(check.interval, INTERVAL),
            timeout: or(check.timeout, TIMEOUT),
            start_period: or(check.start_period, Duration::ZERO),
            start_interval: or(check.start_interval, START_INTERVAL),
            retries: if check.retries > 0 { check.retries } else { RETRIES },
        })
    }
}

/// What a result changes. Pure.
fn judge(health: &mut Health, result: HealthResult, retries: i64, starting: bool) {
    let good = result.exit_code == 0;
    let log = health.log.get_or_insert_default();
    log.push(result);
    let surplus = log.len().saturating_sub(KEPT);
    log.drain(..surplus);
    if good {
        health.failing_streak = 0;
        health.status = "healthy".into();
        return;
    }
    // Failures before the first success do not count while the container may still be starting.
    if starting && health.status == "starting" {
        return;
    }
    health.failing_streak += 1;
    if health.failing_streak >= retries {
        health.status = "unhealthy".into();
    }
}

/// Watches a container that was just started, if it has a check.
pub(crate) fn begin(engine: &Arc<Engine>, container: &Arc<Container>, shim: &Arc<Shim>) {
    let check = {
        let mut inner = container.lock();
        let config = &inner.record.disk.config;
        let check = Check::of(config.healthcheck.as_ref(), config.shell.as_ref());
        if check.is_some() && inner.record.health.is_none() {
            inner.record.health = Some(Health {
                status: "starting".into(),
                failing_streak: 0,
                log: Some(Vec::new()),
            });
        }
        check
    };
    let Some(check) = check else { return };
    let exits = container.lock().live.exits;
    let (engine, container, shim) = (engine.clone(), container.clone(), shim.clone());
    let id = container.id.clone();
    let work = move || watch(&engine, &container, &shim, &check, exits);
    if let Err(e) = std::thread::Builder::new()
        .name("health".into())
        .stack_size(256 << 10)
        .spawn(work)
    {
        log::error!("start a thread for the health checks of container {}: {e}", id.short());
    }
}

fn watch(engine: &Arc<Engine>, container: &Arc<Container>, shim: &Arc<Shim>, check: &Check, exits: u64) {
    let began = Instant::now();
    let over = |inner: &Inner| (inner.live.exits > exits || !inner.record.is_running()).then_some(());
    loop {
        let starting = began.elapsed() < check.start_period;
        let still = container
            .record()
            .health
            .as_ref()
            .is_some_and(|h| h.status == "starting");
        let pause = if starting && still {
            check.start_interval.min(check.interval)
        } else {
            check.interval
        };
        if container.wait_for(Some(pause), over).is_some() || engine.is_closing() {
            return;
        }
        if container.record().status() == "paused" {
            continue;
        }
        let result = probe(engine, container, shim, check);
        if container.wait_for(Some(Duration::ZERO), over).is_some() {
            return;
        }
        let changed = {
            let mut inner = container.lock();
            let Some(health) = &mut inner.record.health else { return };
            let before = health.status.clone();
            judge(health, result, check.retries, began.elapsed() < check.start_period);
            (health.status != before).then(|| health.status.clone())
        };
        if let Some(status) = changed {
            let record = container.record().clone();
            engine.container_event(&format!("health_status: {status}"), &record, &[]);
            if let Err(e) = engine.save(&record) {
                log::warn!("record the health of container {}: {e}", container.id.short());
            }
        }
    }
}

fn probe(engine: &Engine, container: &Container, shim: &Shim, check: &Check) -> HealthResult {
    let start = api::time::now();
    let (exit_code, output) = match run(engine, container, shim, check) {
        Ok(result) => result,
        Err(e) => (-1, e.to_string()),
    };
    HealthResult {
        start,
        end: api::time::now(),
        exit_code,
        output,
    }
}

fn run(engine: &Engine, container: &Container, shim: &Shim, check: &Check) -> Result<(i64, String)> {
    let request = api::exec::CreateRequest {
        cmd: Some(check.command.clone()),
        ..Default::default()
    };
    let record = container.record().clone();
    let id = crate::id::random_hex(32)?;
    let process = crate::exec::process(engine, &record, &request, None)?;
    let streams = AttachOptions {
        stdin: false,
        stdout: true,
        stderr: true,
    };
    let handle = shim.exec(ExecOptions {
        id: id.clone(),
        process,
        streams,
    });
    let handle = handle.map_err(|e| Error::internal(format!("OCI runtime exec failed: {e}: unknown")))?;
    let mut stream = handle
        .stream
        .ok_or_else(|| Error::internal("a health check has no output stream"))?;
    let deadline = Instant::now() + check.timeout;
    let mut bytes = Vec::new();
    let mut buffer = [0u8; 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let ready = wait(&[(stream.as_fd(), Interest::Read)], Some(left)).context("wait for a health check")?;
        if !ready[0].read && !ready[0].closed {
            if Instant::now() < deadline {
                continue;
            }
            // It may have ended by itself just now.
            let _ = sys::signal::send(handle.pid, SIGKILL);
            return Ok((
                -1,
                format!("Health check exceeded timeout ({})", duration(check.timeout)),
            ));
        }
        match stream.read(&mut buffer).context("read a health check's output")? {
            0 => break,
            n if bytes.len() < OUTPUT * 2 => bytes.extend_from_slice(&buffer[..n]),
            _ => {}
        }
    }
    let code = shim.wait_exec(&id).context("wait for a health check's end")?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    // What was cut off at the end is cut off here too.
    let _ = api::stdcopy::demux(&bytes[..], &mut out, &mut err);
    out.extend_from_slice(&err);
    out.truncate(OUTPUT);
    Ok((i64::from(code), String::from_utf8_lossy(&out).into_owned()))
}

/// A duration as Go prints the ones that checks have.
fn duration(time: Duration) -> String {
    match (time.as_secs(), time.subsec_millis()) {
        (0, ms) => format!("{ms}ms"),
        (s, 0) if s >= 60 => format!("{}m{}s", s / 60, s % 60),
        (s, 0) => format!("{s}s"),
        (s, ms) => format!("{s}.{ms:03}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(exit_code: i64) -> HealthResult {
        HealthResult {
            exit_code,
            ..HealthResult::default()
        }
    }

    #[test]
    fn streaks() {
        let mut health = Health {
            status: "starting".into(),
            ..Health::default()
        };
        judge(&mut health, result(1), 2, true);
        assert_eq!((health.status.as_str(), health.failing_streak), ("starting", 0));
        judge(&mut health, result(1), 2, false);
        assert_eq!((health.status.as_str(), health.failing_streak), ("starting", 1));
        judge(&mut health, result(0), 2, false);
        assert_eq!((health.status.as_str(), health.failing_streak), ("healthy", 0));
        judge(&mut health, result(1), 2, true);
        judge(&mut health, result(1), 2, true);
        assert_eq!((health.status.as_str(), health.failing_streak), ("unhealthy", 2));
        for _ in 0..20 {
            judge(&mut health, result(0), 2, false);
        }
        assert_eq!(health.log.unwrap().len(), KEPT);
    }

    #[test]
    fn commands() {
        let check = |words: &[&str]| {
            let test = Some(words.iter().map(|w| w.to_string()).collect());
            Check::of(
                Some(&Healthcheck {
                    test,
                    ..Healthcheck::default()
                }),
                None,
            )
            .map(|c| c.command)
        };
        assert_eq!(check(&["CMD", "a", "b"]).unwrap(), ["a", "b"]);
        assert_eq!(check(&["CMD-SHELL", "a b"]).unwrap(), ["/bin/sh", "-c", "a b"]);
        assert!(check(&["NONE"]).is_none() && check(&[]).is_none() && check(&["CMD"]).is_none());
        assert_eq!(duration(Duration::from_secs(90)), "1m30s");
    }
}
