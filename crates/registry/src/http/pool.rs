//! Connections kept for the next request: a TLS handshake costs a device 50 ms of CPU and two round trips.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::conn::Conn;

/// Idle connections kept in all; each holds a descriptor and 16 KiB.
const MOST: usize = 6;
/// Servers hang up idle connections after a minute or so; be earlier.
const OLDEST: Duration = Duration::from_secs(30);

/// Idle connections by server.
#[derive(Default)]
pub struct Pool(Mutex<Vec<(String, Instant, Conn)>>);

impl Pool {
    /// Takes the youngest idle connection to a server.
    pub fn take(&self, key: &str) -> Option<Conn> {
        let mut idle = self.idle();
        let at = idle.iter().rposition(|(k, _, _)| k == key)?;
        Some(idle.remove(at).2)
    }

    pub fn put(&self, key: String, conn: Conn) {
        let mut idle = self.idle();
        idle.push((key, Instant::now(), conn));
        if idle.len() > MOST {
            idle.remove(0);
        }
    }

    /// Closes everything idle.
    pub fn clear(&self) {
        self.idle().clear();
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(String, Instant, Conn)>> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(_, since, _)| since.elapsed() < OLDEST);
        idle
    }
}
