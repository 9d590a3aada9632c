//! How fast pulls may take from the network: one allowance for all of them.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Longest credit for time in which nothing was taken.
const BURST: Duration = Duration::from_millis(250);

/// Hands out bytes at a rate. Cheap to clone; clones share the allowance.
#[derive(Clone)]
pub(crate) struct Pace {
    /// Bytes a second; 0 for no limit.
    rate: u64,
    /// When all bytes handed out so far will have been due.
    due: Arc<Mutex<Instant>>,
}

impl Pace {
    pub fn new(rate: u64) -> Pace {
        Pace {
            rate,
            due: Arc::new(Mutex::new(Instant::now())),
        }
    }

    /// Bytes a second; 0 for no limit.
    pub fn rate(&self) -> u64 {
        self.rate
    }

    /// Takes bytes that have come, and says how long to wait before asking for more.
    pub fn take(&self, bytes: usize) -> Duration {
        self.take_at(bytes, Instant::now())
    }

    fn take_at(&self, bytes: usize, now: Instant) -> Duration {
        if self.rate == 0 {
            return Duration::ZERO;
        }
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let cost = Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / self.rate);
        let mut due = self.due.lock().unwrap_or_else(|e| e.into_inner());
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        *due = (*due).max(earliest) + cost;
        due.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_over_time() {
        let pace = Pace::new(1000);
        let start = Instant::now() + Duration::from_secs(10);
        // A quarter of a second is free, after that it is a second for a thousand.
        assert_eq!(pace.take_at(250, start), Duration::ZERO);
        assert_eq!(pace.take_at(1000, start), Duration::from_secs(1));
        assert_eq!(pace.clone().take_at(1000, start), Duration::from_secs(2));
        assert_eq!(
            pace.take_at(500, start + Duration::from_secs(2)),
            Duration::from_millis(500)
        );
        // What was not used is not saved up.
        assert_eq!(
            pace.take_at(1000, start + Duration::from_secs(60)),
            Duration::from_millis(750)
        );
        assert_eq!(Pace::new(0).take_at(1 << 30, start), Duration::ZERO);
    }
}
