//! A client's patience: set when it goes away, seen by whoever works for it.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex};
use sys::wake::Wake;

type Hook = Box<dyn FnOnce() + Send>;

/// Shared by a request's edge, which sets it, and its verb, which looks or waits.
#[derive(Clone)]
pub struct Cancel(Arc<Inner>);

struct Inner {
    wake: Wake,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    set: bool,
    hooks: Vec<Hook>,
}

impl Cancel {
    /// One that is not set.
    pub fn new() -> std::io::Result<Cancel> {
        Ok(Cancel(Arc::new(Inner {
            wake: Wake::new()?,
            state: Mutex::default(),
        })))
    }

    /// Sets it and runs what was left to be run then, once.
    pub fn set(&self) {
        let hooks = {
            let mut state = self.lock();
            state.set = true;
            std::mem::take(&mut state.hooks)
        };
        self.0.wake.set();
        for hook in hooks {
            hook();
        }
    }

    /// A handle for the registry client that is cancelled with it.
    pub(crate) fn of_registry(&self) -> registry::Cancel {
        let handle = registry::Cancel::new();
        let given = handle.clone();
        self.on_set(move || given.cancel());
        handle
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.lock().set
    }

    /// Runs `hook` when it is set; at once if it is already.
    pub fn on_set(&self, hook: impl FnOnce() + Send + 'static) {
        let mut state = self.lock();
        if state.set {
            drop(state);
            hook();
        } else {
            state.hooks.push(Box::new(hook));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl AsFd for Cancel {
    /// Readable once it is set.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.wake.as_fd()
    }
}
