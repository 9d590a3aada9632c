//! Ending a container: by a signal, with patience, without; and starting it again.

use crate::Engine;
use crate::container::{Record, State};
use crate::error::{Context, Error, Kind, Result};
use crate::table::Container;
use std::sync::Arc;
use std::time::Duration;

/// How long a container may take to end after its stop signal, unless it says otherwise.
const PATIENCE: i64 = 10;
/// How long the kernel may take to end a process after SIGKILL.
const KILLED: Duration = Duration::from_secs(10);
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// Reads a signal as a name, with or without `SIG`, or as a number.
pub fn parse_signal(text: &str) -> Result<i32> {
    match (sys::signal::parse(text), text.parse::<i64>()) {
        (Some(number), _) if number > 0 => Ok(number),
        (_, Ok(number)) if number > 0 => Err(Error::invalid(format!(
            "the linux daemon does not support signal {number}"
        ))),
        _ => Err(Error::invalid(format!("invalid signal: {text}"))),
    }
}

fn stop_signal(record: &Record) -> i32 {
    sys::signal::parse(&record.disk.config.stop_signal).unwrap_or(SIGTERM)
}

/// Sends the stop signal, waits, then kills. `timeout` in seconds; negative waits for ever.
pub fn stop(engine: &Arc<Engine>, name: &str, signal: &str, timeout: Option<i64>) -> Result<()> {
    let container = engine.containers.find(name)?;
    let signal = if signal.is_empty() {
        None
    } else {
        Some(parse_signal(signal)?)
    };
    let running = {
        let inner = container.lock();
        inner.record.is_running() || inner.record.state == State::Restarting
    };
    if !running {
        return Err(Error::new(Kind::NotModified, "container already stopped"));
    }
    end(engine, &container, signal, timeout)?;
    engine.container_event("stop", &container.record(), &[]);
    Ok(())
}

fn end(engine: &Engine, container: &Arc<Container>, signal: Option<i32>, timeout: Option<i64>) -> Result<()> {
    let (exits, own_signal, own_timeout, paused) = {
        let mut inner = container.lock();
        inner.live.stopping = true;
        inner.record.disk.has_been_manually_stopped = true;
        if inner.record.state == State::Restarting {
            // It waits for its next start; that is called off.
            inner.record.state = State::Exited;
            let record = inner.record.clone();
            drop(inner);
            return engine.save(&record);
        }
        let record = &inner.record;
        let paused = matches!(record.state, State::Running { paused: true, .. });
        (
            inner.live.exits,
            stop_signal(record),
            record.disk.config.stop_timeout,
            paused,
        )
    };
    let signal = signal.unwrap_or(own_signal);
    let seconds = timeout.or(own_timeout).unwrap_or(PATIENCE);
    if let Err(e) = send(engine, container, signal) {
        log::debug!("stop container {}: {e}", container.id.short());
    }
    if paused {
        // A frozen process does not see its signal.
        crate::update::unpause(engine, container.id.as_str())?;
    }
    let gone = |inner: &crate::table::Inner| (inner.live.exits > exits || !inner.record.is_running()).then_some(());
    let patience = u64::try_from(seconds).ok().map(Duration::from_secs);
    if container.wait_for(patience, gone).is_some() {
        return Ok(());
    }
    log::info!(
        "container {} did not exit within {seconds} s of signal {signal}; killing it",
        container.id.short()
    );
    send(engine, container, SIGKILL)?;
    match container.wait_for(Some(KILLED), gone) {
        Some(()) => Ok(()),
        None => Err(Error::internal(format!(
            "cannot stop container: {}: tried to kill container, but did not receive an exit event",
            container.id
        ))),
    }
}

fn send(engine: &Engine, container: &Container, signal: i32) -> Result<()> {
    let shim = {
        let inner = container.lock();
        if !inner.record.is_running() {
            return Err(Error::conflict(format!("container {} is not running", container.id)));
        }
        inner.live.shim.clone()
    };
    let shim = shim.ok_or_else(|| Error::conflict(format!("container {} is not running", container.id)))?;
    shim.kill(signal, false)
        .context(format!("send signal {signal} to container {}", container.id.short()))?;
    engine.container_event("kill", &container.record(), &[("signal", signal.to_string())]);
    Ok(())
}

/// Sends one signal. SIGKILL waits until the container has ended.
pub fn kill(engine: &Engine, name: &str, signal: &str) -> Result<()> {
    let cannot = |e: Error| e.context(format!("cannot kill container: {name}"));
    let number = match signal {
        "" => SIGKILL,
        signal => parse_signal(signal).map_err(cannot)?,
    };
    let container = engine.containers.find(name).map_err(cannot)?;
    let (exits, running, own, paused) = {
        let inner = container.lock();
        let paused = matches!(inner.record.state, State::Running { paused: true, .. });
        (
            inner.live.exits,
            inner.record.is_running(),
            stop_signal(&inner.record),
            paused,
        )
    };
    let refuse = |e: &str| Error::conflict(format!("cannot kill container: {name}: {e}"));
    if !running {
        return Err(refuse(&format!("container {} is not running", container.id)));
    }
    if number == SIGKILL || number == own {
        // What the user kills is not started again.
        let mut inner = container.lock();
        inner.live.stopping = true;
        inner.record.disk.has_been_manually_stopped = true;
    }
    send(engine, &container, number)?;
    if number == SIGKILL {
        if paused {
            let _ = crate::update::unpause(engine, container.id.as_str());
        }
        let gone = |inner: &crate::table::Inner| (inner.live.exits > exits || !inner.record.is_running()).then_some(());
        container
            .wait_for(Some(KILLED), gone)
            .ok_or_else(|| refuse("it did not end after SIGKILL"))?;
    }
    Ok(())
}

/// Stops a container if it runs, and starts it.
pub fn restart(engine: &Arc<Engine>, name: &str, signal: &str, timeout: Option<i64>) -> Result<()> {
    let container = engine.containers.find(name)?;
    let signal = if signal.is_empty() {
        None
    } else {
        Some(parse_signal(signal)?)
    };
    let running = container.record().is_running();
    if running {
        // An auto-removed container survives its restart.
        let auto_remove = std::mem::take(&mut container.lock().record.host.auto_remove);
        let ended = end(engine, &container, signal, timeout);
        container.lock().record.host.auto_remove = auto_remove;
        ended?;
    }
    crate::start::start(engine, container.id.as_str()).context(format!("Cannot restart container {name}"))?;
    engine.container_event("restart", &container.record(), &[]);
    Ok(())
}
