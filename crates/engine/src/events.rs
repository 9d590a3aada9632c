//! The bus of what happens: a bounded history, and a wake-up for each reader.
//!
//! A reader that falls behind by more than the history loses the oldest, never holds anybody up.

use api::event::{Actor, Event};
use api::time::Time;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// How many events are kept for late readers, as in Docker.
const HISTORY: usize = 256;

/// The bus.
#[derive(Default)]
pub struct Events {
    inner: Mutex<Inner>,
    wake: Condvar,
}

#[derive(Default)]
struct Inner {
    /// Number of the first event in `history`.
    first: u64,
    history: VecDeque<Arc<Event>>,
    closed: bool,
}

impl Events {
    /// Tells all readers.
    pub fn emit(&self, kind: &str, action: &str, id: &str, attributes: BTreeMap<String, String>) {
        let time = Time::now();
        let legacy = matches!(kind, "container" | "image");
        let from = match kind {
            "container" => attributes.get("image").cloned().unwrap_or_default(),
            _ => String::new(),
        };
        let event = Event {
            status: if legacy { action.into() } else { String::new() },
            id: if legacy { id.into() } else { String::new() },
            from,
            kind: kind.into(),
            action: action.into(),
            actor: Actor {
                id: id.into(),
                attributes,
            },
            scope: "local".into(),
            time: time.seconds,
            time_nano: time.as_nanos(),
        };
        let mut inner = self.lock();
        if inner.history.len() == HISTORY {
            inner.history.pop_front();
            inner.first += 1;
        }
        inner.history.push_back(Arc::new(event));
        self.wake.notify_all();
    }

    /// The number that the next event will have: where a reader of only new ones starts.
    pub fn next(&self) -> u64 {
        let inner = self.lock();
        inner.first + inner.history.len() as u64
    }

    /// The number of the oldest event that is kept.
    pub fn oldest(&self) -> u64 {
        self.lock().first
    }

    /// Events from number `at` on, waiting up to `patience` for one; and the number to go on from.
    /// `None` when the bus is closed and nothing is left.
    pub fn read(&self, at: u64, patience: Duration) -> Option<(Vec<Arc<Event>>, u64)> {
        let deadline = Instant::now() + patience;
        let mut inner = self.lock();
        loop {
            let end = inner.first + inner.history.len() as u64;
            if at < end {
                let skip = usize::try_from(at.saturating_sub(inner.first)).unwrap_or(0);
                return Some((inner.history.iter().skip(skip).cloned().collect(), end));
            }
            if inner.closed {
                return None;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Some((Vec::new(), at));
            }
            inner = self.wake.wait_timeout(inner, left).unwrap_or_else(|e| e.into_inner()).0;
        }
    }

    /// Lets all readers end.
    pub fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_see_what_came_after_they_started() {
        let events = Events::default();
        events.emit(
            "container",
            "create",
            "1",
            BTreeMap::from([("image".into(), "busybox".into())]),
        );
        let at = events.next();
        events.emit("network", "connect", "2", BTreeMap::new());
        let (got, next) = events.read(at, Duration::ZERO).unwrap();
        assert_eq!(got.iter().map(|e| e.action.as_str()).collect::<Vec<_>>(), ["connect"]);
        assert_eq!(got[0].status, "");
        assert_eq!(events.read(next, Duration::ZERO).unwrap().0.len(), 0);
        assert_eq!(events.read(0, Duration::ZERO).unwrap().0[0].from, "busybox");
        events.close();
        assert!(events.read(next, Duration::from_secs(5)).is_none());
    }

    #[test]
    fn history_is_bounded() {
        let events = Events::default();
        for n in 0..1000 {
            events.emit("daemon", "reload", &n.to_string(), BTreeMap::new());
        }
        let (got, next) = events.read(0, Duration::ZERO).unwrap();
        assert_eq!((got.len(), next, got[0].actor.id.as_str()), (HISTORY, 1000, "744"));
    }
}
