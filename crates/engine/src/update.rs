//! Changing a container that is there: its limits, its restart policy; and freezing it.

use crate::container::State;
use crate::error::{Context, Error, Result};
use crate::{Engine, spec};
use api::host_config::HostConfig;

/// Applies the limits and the restart policy that a request names; those it leaves at zero stay.
pub fn update(engine: &Engine, name: &str, wanted: &HostConfig) -> Result<Vec<String>> {
    let container = engine.containers.find(name)?;
    let _claim = container.claim()?;
    let (mut record, shim) = {
        let inner = container.lock();
        if matches!(inner.record.state, State::Removing { .. }) {
            return Err(Error::conflict(format!(
                "Cannot update container {}: container is marked for removal and cannot be \"update\"",
                container.id
            )));
        }
        (inner.record.clone(), inner.live.shim.clone())
    };
    spec::check_resources(wanted, crate::info::cpus())?;
    let host = &mut record.host;
    macro_rules! take {
        ($($field:ident),*) => { $( if !api::json::is_zero(&wanted.$field) { host.$field = wanted.$field.clone(); } )* };
    }
    take!(
        cpu_shares,
        memory,
        nano_cpus,
        blkio_weight,
        cpu_period,
        cpu_quota,
        cpu_realtime_period,
        cpu_realtime_runtime,
        cpuset_cpus,
        cpuset_mems,
        memory_reservation,
        memory_swap,
        pids_limit
    );
    if !wanted.restart_policy.name.is_empty() {
        crate::create::check_restart_policy(&wanted.restart_policy)?;
        if host.auto_remove && wanted.restart_policy.name != "no" {
            return Err(Error::conflict(
                "Restart policy cannot be updated because AutoRemove is enabled for the container",
            ));
        }
        host.restart_policy = wanted.restart_policy.clone();
    }
    if wanted.memory > 0 && wanted.memory_swap == 0 && host.memory_swap != -1 && host.memory_swap < host.memory {
        return Err(Error::conflict(format!(
            "Cannot update container {}: Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
            container.id
        )));
    }
    spec::check_resources(host, crate::info::cpus())?;
    if let (true, Some(shim)) = (record.is_running(), shim) {
        let mut limits = spec::resources(&record.host, &[])?;
        limits.devices.clear();
        shim.update(&limits)
            .context(format!("Cannot update container {}", container.id))?;
    }
    engine.save_host(&record)?;
    container.lock().record.host = record.host.clone();
    engine.container_event("update", &record, &[]);
    Ok(Vec::new())
}

/// Freezes all processes of a container.
pub fn pause(engine: &Engine, name: &str) -> Result<()> {
    set_paused(engine, name, true)
}

/// Lets them run again.
pub fn unpause(engine: &Engine, name: &str) -> Result<()> {
    set_paused(engine, name, false)
}

fn set_paused(engine: &Engine, name: &str, freeze: bool) -> Result<()> {
    let container = engine.containers.find(name)?;
    let (state, shim) = {
        let inner = container.lock();
        (inner.record.state.clone(), inner.live.shim.clone())
    };
    let id = &container.id;
    let shim = match (state, shim) {
        (State::Running { paused, .. }, Some(shim)) => {
            if paused == freeze {
                let already = if freeze { "already paused" } else { "not paused" };
                return Err(Error::conflict(format!("Container {id} is {already}")));
            }
            shim
        }
        _ if !freeze => return Err(Error::conflict(format!("Container {id} is not paused"))),
        _ => return Err(Error::conflict(format!("Container {id} is not running"))),
    };
    let done = if freeze { shim.pause() } else { shim.resume() };
    done.context(format!(
        "Cannot {} container {id}",
        if freeze { "pause" } else { "unpause" }
    ))?;
    let record = {
        let mut inner = container.lock();
        if let State::Running { paused, .. } = &mut inner.record.state {
            *paused = freeze;
        }
        inner.record.clone()
    };
    engine.save(&record)?;
    engine.container_event(if freeze { "pause" } else { "unpause" }, &record, &[]);
    Ok(())
}
