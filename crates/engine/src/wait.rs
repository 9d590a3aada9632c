//! Waiting for a container to end, or to be gone.

use crate::Engine;
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::table::{Container, Inner};
use api::container::{WaitError, WaitResponse};
use std::sync::Arc;

/// Until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    NotRunning,
    NextExit,
    Removed,
}

impl Condition {
    /// Reads the query's word.
    pub fn parse(text: &str) -> Result<Condition> {
        match text {
            "" | "not-running" => Ok(Condition::NotRunning),
            "next-exit" => Ok(Condition::NextExit),
            "removed" => Ok(Condition::Removed),
            other => Err(Error::invalid(format!("invalid condition: \"{other}\""))),
        }
    }
}

/// A wait that has begun: what happens from its making on counts.
pub struct Waiting {
    container: Arc<Container>,
    condition: Condition,
    exits: u64,
}

/// Begins to wait. The client is told so before the wait itself, so that it can go on to start the container.
pub fn begin(engine: &Engine, name: &str, condition: Condition) -> Result<Waiting> {
    let container = engine.containers.find(name)?;
    let exits = container.lock().live.exits;
    Ok(Waiting {
        container,
        condition,
        exits,
    })
}

impl Waiting {
    /// Waits; an error when the client leaves first.
    pub fn end(self, cancel: &Cancel) -> Result<WaitResponse> {
        let waker = Arc::downgrade(&self.container);
        cancel.on_set(move || {
            if let Some(container) = waker.upgrade() {
                container.notify();
            }
        });
        let done = |inner: &Inner| {
            if cancel.is_set() {
                return Some(Err(Error::cancelled()));
            }
            let over = match self.condition {
                Condition::NotRunning => {
                    !inner.record.is_running() && inner.record.state != crate::container::State::Restarting
                }
                Condition::NextExit => inner.live.exits > self.exits,
                Condition::Removed => inner.live.removed,
            };
            // A removal answers for itself; why a start failed was the start's to say.
            let failed = (self.condition != Condition::Removed
                && inner.live.exits == self.exits
                && !inner.record.error.is_empty())
            .then(|| WaitError {
                message: inner.record.error.clone(),
            });
            (over || inner.live.removed).then(|| {
                Ok(WaitResponse {
                    status_code: inner.record.exit_code,
                    error: failed,
                })
            })
        };
        self.container
            .wait_for(None, done)
            .unwrap_or_else(|| Err(Error::cancelled()))
    }
}
