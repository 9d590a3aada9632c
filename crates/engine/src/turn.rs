//! In which order a pull's downloads begin when there is a limit of what they may take.
//!
//! Without one they run ahead of the unpacking side by side, and share what the network gives. With one, a layer fetched
//! ahead only takes from the one that is waited for, and what was fetched of it comes again if the pull is cut: so a
//! download begins when little is left of those before it, early enough for the way to the registry and back.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What may be left of the downloads before it when one begins: bytes, and as many as come in the time.
const LEFT_BYTES: u64 = 512 << 10;
const LEFT_TIME: Duration = Duration::from_secs(1);

/// Shortest time between two looks at those before.
const LOOK: Duration = Duration::from_millis(20);

/// A pull's downloads. Clones are the same queue.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    /// Bytes a second; 0 for no limit.
    rate: u64,
    downloads: Arc<Mutex<Vec<Begun>>>,
}

#[derive(Debug)]
struct Begun {
    place: usize,
    /// Bytes, until it is over.
    left: Option<u64>,
}

/// One download in its queue. It is over when one of its clones is dropped: that of the thread which fetches, or that of
/// whoever wanted it, for the thread may hang on the network for a minute before it notices that nobody does.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    queue: Queue,
    place: usize,
    number: usize,
}

impl Queue {
    pub fn new(rate: u64) -> Queue {
        Queue {
            rate,
            downloads: Arc::default(),
        }
    }

    /// Takes a download of so many bytes. Those of lower places come before it; a second one of its place is another try.
    pub fn join(&self, place: usize, bytes: u64) -> Turn {
        let mut downloads = self.downloads.lock().unwrap_or_else(PoisonError::into_inner);
        downloads.push(Begun {
            place,
            left: Some(bytes),
        });
        Turn {
            queue: self.clone(),
            place,
            number: downloads.len() - 1,
        }
    }
}

impl Turn {
    /// How long to wait before it is worth asking again; nothing when it is this download's turn.
    pub fn wait(&self) -> Option<Duration> {
        let rate = self.queue.rate;
        if rate == 0 {
            return None;
        }
        let downloads = self.queue.downloads.lock().unwrap_or_else(PoisonError::into_inner);
        let before = downloads.iter().filter(|other| other.place < self.place);
        let left = before.fold(0u64, |sum, other| sum.saturating_add(other.left.unwrap_or(0)));
        let over = left.saturating_sub(LEFT_BYTES.min(rate.saturating_mul(LEFT_TIME.as_secs())));
        (over > 0).then(|| Duration::from_millis(over.saturating_mul(1000) / rate).clamp(LOOK, LEFT_TIME))
    }

    /// Says how much is left now.
    pub fn left(&self, bytes: u64) {
        if self.queue.rate > 0 {
            let mut downloads = self.queue.downloads.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(left) = &mut downloads[self.number].left {
                *left = bytes;
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut downloads = self.queue.downloads.lock().unwrap_or_else(PoisonError::into_inner);
        downloads[self.number].left = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_left_of_those_before_when_one_begins() {
        let queue = Queue::new(1 << 20);
        let first = queue.join(0, 10 << 20);
        let second = queue.join(1, 100 << 10);
        let third = queue.join(2, 1 << 20);
        assert_eq!(first.wait(), None);
        assert_eq!(
            second.wait(),
            Some(LEFT_TIME),
            "not longer, for there may be an end to it"
        );
        first.left((768 << 10) + 1);
        assert_eq!(second.wait(), Some(Duration::from_millis(250)));
        first.left(512 << 10);
        assert_eq!((second.wait(), third.wait()), (None, Some(Duration::from_millis(97))));
        // What nobody wants any more is over, whatever its thread still says; tried once more, it is not.
        drop(first.clone());
        first.left(9 << 20);
        assert_eq!((second.wait(), third.wait()), (None, None));
        let again = queue.join(0, 10 << 20);
        assert_eq!(again.wait(), None);
        assert!(second.wait().is_some() && third.wait().is_some());
    }

    /// The less a second brings, the less may be left.
    #[test]
    fn slow_ones_and_unlimited_ones() {
        let slow = Queue::new(1000);
        let (first, second) = (slow.join(0, 1001), slow.join(1, 1));
        assert_eq!(second.wait(), Some(LOOK));
        first.left(1000);
        assert_eq!(second.wait(), None);
        let unlimited = Queue::new(0);
        let (_first, second) = (unlimited.join(0, u64::MAX), unlimited.join(1, u64::MAX));
        assert_eq!(second.wait(), None);
    }
}
