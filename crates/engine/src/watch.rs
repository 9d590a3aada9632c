//! One thread that watches all shims: a container's end, an exec's end, a process killed for lack of memory.
//!
//! What follows from an end takes time (network, mounts, records), so it runs on a thread of its own.

use crate::container::State;
use crate::error::{Context, Result};
use crate::restart::{self, Ended};
use crate::table::Container;
use crate::{Engine, remove, start};
use runtime::shim::{Event, Events, ExitStatus, Shim};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use sys::wake::{Interest, Wake, wait};

/// The watching thread's mailbox.
pub(crate) struct Watch {
    inner: Arc<Inner>,
}

struct Inner {
    wake: Wake,
    mail: Mutex<Mail>,
}

#[derive(Default)]
struct Mail {
    new: Vec<Watched>,
    stopped: bool,
}

struct Watched {
    engine: Weak<Engine>,
    container: Weak<Container>,
    shim: Weak<Shim>,
    directory: std::path::PathBuf,
    events: Events,
}

impl Watch {
    pub(crate) fn start() -> std::io::Result<Watch> {
        let inner = Arc::new(Inner {
            wake: Wake::new()?,
            mail: Mutex::default(),
        });
        let mine = inner.clone();
        std::thread::Builder::new()
            .name("watch".into())
            .stack_size(256 << 10)
            .spawn(move || watch(&mine))?;
        Ok(Watch { inner })
    }

    /// Watches a container from now on. Its end is noticed even if it came before this.
    pub(crate) fn add(&self, engine: &Arc<Engine>, container: &Arc<Container>, shim: &Arc<Shim>) -> Result<()> {
        let events = match shim
            .subscribe()
            .context(format!("watch container {}", container.id.short()))
        {
            Ok(events) => events,
            Err(e) => {
                // The shim may be gone already; then it left its word.
                let directory = engine.run_directory(container);
                let Some(status) = runtime::shim::read_exit(&directory) else {
                    return Err(e);
                };
                spawn_exited(engine.clone(), container.clone(), shim.clone(), status);
                return Ok(());
            }
        };
        let watched = Watched {
            engine: Arc::downgrade(engine),
            container: Arc::downgrade(container),
            shim: Arc::downgrade(shim),
            directory: engine.run_directory(container),
            events,
        };
        self.inner
            .mail
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .new
            .push(watched);
        self.inner.wake.set();
        Ok(())
    }

    pub(crate) fn stop(&self) {
        self.inner.mail.lock().unwrap_or_else(|e| e.into_inner()).stopped = true;
        self.inner.wake.set();
    }
}

fn watch(inner: &Inner) {
    let mut list: Vec<Watched> = Vec::new();
    loop {
        let ready = {
            let mut fds = vec![(inner.wake.as_fd(), Interest::Read)];
            fds.extend(list.iter().map(|w| (w.events.as_fd(), Interest::Read)));
            match wait(&fds, None) {
                Ok(ready) => ready,
                Err(e) => {
                    log::error!("watch containers: {e}");
                    std::thread::sleep(Duration::from_secs(1));
                    continue;
                }
            }
        };
        let mut index = 0;
        list.retain_mut(|watched| {
            index += 1;
            let ready = ready[index];
            !(ready.read || ready.closed) || watched.look()
        });
        if ready[0].read {
            inner.wake.clear();
            let mut mail = inner.mail.lock().unwrap_or_else(|e| e.into_inner());
            if mail.stopped {
                return;
            }
            list.append(&mut mail.new);
        }
    }
}

impl Watched {
    /// Takes what the shim says; false when there is nothing more to come.
    fn look(&mut self) -> bool {
        let (Some(engine), Some(container)) = (self.engine.upgrade(), self.container.upgrade()) else {
            return false;
        };
        let heard = self.events.ready();
        for event in heard.unwrap_or_default() {
            match event {
                Event::Exit(status) => {
                    self.ended(engine, container, status);
                    return false;
                }
                Event::ExecExit { id, code } => {
                    if engine.execs.exited(&id, i64::from(code)).is_some() {
                        let more = [("execID", id), ("exitCode", code.to_string())];
                        engine.container_event("exec_die", &container.record(), &more);
                    }
                }
                Event::Oom => engine.container_event("oom", &container.record(), &[]),
            }
        }
        if self.events.is_open() {
            return true;
        }
        // The shim is gone without a word: killed. What it left on disk counts, else the worst is assumed.
        let status = runtime::shim::read_exit(&self.directory).unwrap_or_else(|| {
            log::error!(
                "the shim of container {} is gone; its container is lost",
                container.id.short()
            );
            let pid = container.record().pid();
            // Nobody is left who could wait for it: what remains of the container goes too.
            if let Some(pid) = pid {
                let _ = sys::signal::send(pid, 9);
            }
            ExitStatus {
                code: 137,
                exited_at: api::time::now(),
                oom_killed: false,
            }
        });
        self.ended(engine, container, status);
        false
    }

    fn ended(&self, engine: Arc<Engine>, container: Arc<Container>, status: ExitStatus) {
        if let Some(shim) = self.shim.upgrade() {
            spawn_exited(engine, container, shim, status);
        }
    }
}

fn spawn_exited(engine: Arc<Engine>, container: Arc<Container>, shim: Arc<Shim>, status: ExitStatus) {
    let id = container.id.clone();
    let spawned = std::thread::Builder::new()
        .name("exited".into())
        .stack_size(512 << 10)
        .spawn(move || exited(&engine, &container, &shim, &status));
    if let Err(e) = spawned {
        log::error!("start a thread for the end of container {}: {e}", id.short());
    }
}

/// Records the end of a run and does what follows from it.
fn exited(engine: &Arc<Engine>, container: &Arc<Container>, shim: &Arc<Shim>, status: &ExitStatus) {
    let Ok(claim) = container.claim() else { return };
    let ours = container
        .lock()
        .live
        .shim
        .as_ref()
        .is_some_and(|s| Arc::ptr_eq(s, shim));
    if !ours {
        return;
    }
    let _ = shim.delete();
    engine.execs.all_exited(&container.id);
    finish(engine, container, status);
    drop(claim);
}

/// The end of a run, under a claim: gives back what it had, and decides what is next.
pub(crate) fn finish(engine: &Arc<Engine>, container: &Arc<Container>, status: &ExitStatus) {
    start::release(engine, container);
    let code = i64::from(status.code);
    let (record, again, auto_remove) = {
        let mut inner = container.lock();
        let ended = Ended {
            exit_code: code,
            stopped_by_user: inner.live.stopping,
            shutting_down: engine.is_closing(),
            ran_for: api::time::Time::now()
                .since(api::time::Time::parse(&inner.record.started_at).unwrap_or(api::time::Time::now())),
            restarts: inner.record.disk.restart_count,
            last_delay: inner.live.restart_delay,
        };
        let again = restart::decide(&inner.record.host.restart_policy, ended);
        inner
            .record
            .set_exited(code, &status.exited_at, status.oom_killed, again.is_some());
        if let Some(delay) = again {
            inner.live.restart_delay = delay;
            inner.record.disk.restart_count += 1;
        }
        (inner.record.clone(), again, inner.record.host.auto_remove)
    };
    if let Err(e) = engine.save(&record) {
        log::error!("record the end of container {}: {e}", container.id.short());
    }
    let ran = api::time::Time::parse(&record.finished_at)
        .zip(api::time::Time::parse(&record.started_at))
        .map_or(0, |(end, start)| end.since(start).as_secs());
    let more = [("exitCode", code.to_string()), ("execDuration", ran.to_string())];
    engine.container_event("die", &record, &more);
    // Waiters are told when everything is recorded.
    container.lock().live.exits += 1;
    if let Some(delay) = again {
        restart_later(engine, container, delay);
    } else if auto_remove {
        let options = remove::Options {
            force: true,
            volumes: true,
        };
        if let Err(e) = remove::take_apart(engine, container, options) {
            log::error!("remove container {} after its end: {e}", container.id.short());
        }
    }
}

/// Starts a container again after a delay, unless something changes its mind meanwhile.
pub(crate) fn restart_later(engine: &Arc<Engine>, container: &Arc<Container>, delay: Duration) {
    let (engine, container) = (engine.clone(), container.clone());
    let id = container.id.clone();
    let work = move || {
        let called_off = |inner: &crate::table::Inner| (inner.record.state != State::Restarting).then_some(());
        if container.wait_for(Some(delay), called_off).is_some() || engine.is_closing() {
            return;
        }
        let Ok(_claim) = container.claim() else { return };
        if container.record().state != State::Restarting {
            return;
        }
        if let Err(e) = start::run(&engine, &container) {
            log::error!("restart container {}: {e}", container.id.short());
        }
    };
    if let Err(e) = std::thread::Builder::new()
        .name("restart".into())
        .stack_size(512 << 10)
        .spawn(work)
    {
        log::error!("start a thread to restart container {}: {e}", id.short());
    }
}
