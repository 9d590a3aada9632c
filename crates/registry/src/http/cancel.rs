//! Ending a transfer from another thread: a cancelled session's sockets are shut down, so that reads that
//! wait for a slow server return at once, and no new ones are opened.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A handle that ends whatever runs under it, now and later. Clones are the same handle.
#[derive(Clone, Default, Debug)]
pub struct Cancel(Arc<Inner>);

#[derive(Default, Debug)]
struct Inner {
    cancelled: AtomicBool,
    sockets: Mutex<Vec<(u32, TcpStream)>>,
    parent: Option<Cancel>,
}

impl Cancel {
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// A handle of its own that ends with this one too.
    pub fn child(&self) -> Cancel {
        Cancel(Arc::new(Inner {
            parent: Some(self.clone()),
            ..Inner::default()
        }))
    }

    /// Shuts down every socket registered and makes the next operation fail.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::SeqCst);
        for (_, socket) in self.sockets().iter() {
            // A socket the peer has closed already is as good as shut down.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::SeqCst) || self.0.parent.as_ref().is_some_and(Cancel::is_cancelled)
    }

    /// Sleeps for `time`, or less when cancelled. False when cancelled.
    pub fn sleep(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        while !self.is_cancelled() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
        false
    }

    /// Puts a socket under this handle until the guard is dropped.
    pub(crate) fn guard(&self, socket: &TcpStream) -> std::io::Result<Guard> {
        let mut places = Vec::new();
        let mut at = Some(self);
        while let Some(cancel) = at {
            let clone = socket.try_clone()?;
            let mut sockets = cancel.sockets();
            let id = sockets.last().map_or(0, |(id, _)| id.wrapping_add(1));
            sockets.push((id, clone));
            drop(sockets);
            places.push((cancel.clone(), id));
            at = cancel.0.parent.as_ref();
        }
        // Cancelled between the caller's check and the registration: nobody else would shut it down.
        if self.is_cancelled() {
            let _ = socket.shutdown(Shutdown::Both);
        }
        Ok(Guard(places))
    }

    fn sockets(&self) -> std::sync::MutexGuard<'_, Vec<(u32, TcpStream)>> {
        self.0.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes its socket out of the handle's list when dropped.
#[derive(Debug)]
pub(crate) struct Guard(Vec<(Cancel, u32)>);

impl Drop for Guard {
    fn drop(&mut self) {
        for (cancel, id) in &self.0 {
            cancel.sockets().retain(|(other, _)| other != id);
        }
    }
}
