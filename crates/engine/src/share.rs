//! Work that several clients ask for at once is done once: all see how it goes, and it ends when the last has left.
//!
//! The first client's thread does the work; the others are shown what was said so far, then every line, and wait. The
//! work has a cancel of its own, which is set when no client is left.

use crate::cancel::Cancel;
use crate::error::{Context, Error, Kind, Result};
use crate::progress::Progress;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// What is being done, by what it was asked for.
pub struct Sharing<K>(Mutex<Vec<(K, Arc<Work>)>>);

impl<K> Default for Sharing<K> {
    fn default() -> Sharing<K> {
        Sharing(Mutex::default())
    }
}

struct Work {
    progress: Progress,
    cancel: Cancel,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    clients: usize,
    /// The last of them has left: it is on its way out.
    left: bool,
    /// How it ended, for those who wait.
    end: Option<End>,
}

impl Work {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Waits until it has ended, and says how; or until whoever waits has left.
    fn wait(self: &Arc<Work>, cancel: &Cancel) -> Result<End> {
        let work = Arc::downgrade(self);
        cancel.on_set(move || {
            // Under the lock: else between the look at `cancel` and the wait nobody would hear of it.
            if let Some(work) = work.upgrade() {
                drop(work.lock());
                work.ended.notify_all();
            }
        });
        let mut state = self.lock();
        loop {
            if let Some(end) = &state.end {
                return Ok(end.clone());
            }
            if cancel.is_set() {
                return Err(Error::cancelled());
            }
            state = self.ended.wait(state).unwrap_or_else(|e| e.into_inner());
        }
    }

    /// One client more, until it leaves; says no if all have left.
    fn join(self: &Arc<Work>, cancel: &Cancel) -> bool {
        {
            let mut state = self.lock();
            if state.left {
                return false;
            }
            state.clients += 1;
        }
        // Not held: it has the client's own stream in it, which ends with the work.
        let work = Arc::downgrade(self);
        cancel.on_set(move || {
            let Some(work) = work.upgrade() else { return };
            let left = {
                let mut state = work.lock();
                state.clients = state.clients.saturating_sub(1);
                state.left = state.clients == 0;
                state.left
            };
            if left {
                work.cancel.set();
            }
        });
        true
    }
}

/// How work ended, for those who waited.
type End = Result<(), (Kind, String)>;

/// Takes the work off the table however it ends.
struct Ending<'a, K: PartialEq> {
    sharing: &'a Sharing<K>,
    work: Arc<Work>,
    end: Option<End>,
}

impl<K: PartialEq> Drop for Ending<'_, K> {
    fn drop(&mut self) {
        let mut table = self.sharing.0.lock().unwrap_or_else(|e| e.into_inner());
        table.retain(|(_, work)| !Arc::ptr_eq(work, &self.work));
        drop(table);
        let panicked = || Err((Kind::Internal, "the request's thread panicked; see the log".to_string()));
        self.work.lock().end = Some(self.end.take().unwrap_or_else(panicked));
        self.work.ended.notify_all();
    }
}

impl<K: PartialEq> Sharing<K> {
    /// Does `work` for `key`, or joins who is at it; reports to `out`.
    pub fn run(
        &self,
        key: K,
        out: Box<dyn Write + Send>,
        cancel: &Cancel,
        work: impl FnOnce(&Progress, &Cancel) -> Result<()>,
    ) -> Result<()> {
        let (shared, first) = loop {
            let mut table = self.0.lock().unwrap_or_else(|e| e.into_inner());
            let known = table.iter().find(|(known, _)| *known == key);
            match known.map(|(_, work)| work.clone()) {
                Some(shared) if shared.join(cancel) => break (shared, false),
                // Nobody wants that any more: what it leaves is gone on with.
                Some(ending) => {
                    drop(table);
                    let _ = ending.wait(cancel)?;
                }
                None => {
                    let shared = Arc::new(Work {
                        progress: Progress::shared(),
                        cancel: Cancel::new().context("make a cancel for shared work")?,
                        state: Mutex::default(),
                        ended: Condvar::new(),
                    });
                    shared.join(cancel);
                    table.push((key, shared.clone()));
                    break (shared, true);
                }
            }
        };
        shared.progress.join(out);
        if first {
            let mut ending = Ending {
                sharing: self,
                work: shared.clone(),
                end: None,
            };
            let done = work(&shared.progress, &shared.cancel);
            ending.end = Some(match &done {
                Ok(()) => Ok(()),
                Err(error) => Err((error.kind, error.to_string())),
            });
            return done;
        }
        let end = shared.wait(cancel)?;
        end.map_err(|(kind, text)| Error::new(kind, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc::channel;

    #[derive(Clone, Default)]
    struct Out(Arc<Mutex<Vec<u8>>>);

    impl Write for Out {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn done_once_seen_by_all() {
        let (sharing, times) = (Sharing::<u8>::default(), AtomicU32::new(0));
        let (begun, wait_begun) = channel();
        let (go, wait_go) = channel::<()>();
        let outs = [Out::default(), Out::default()];
        std::thread::scope(|scope| {
            let (sharing, times, outs) = (&sharing, &times, &outs);
            let first = scope.spawn(move || {
                sharing.run(1, Box::new(outs[0].clone()), &Cancel::new().unwrap(), |progress, _| {
                    times.fetch_add(1, Ordering::SeqCst);
                    progress.status("a", "begun")?;
                    begun.send(()).unwrap();
                    wait_go.recv().unwrap();
                    progress.status("a", "ended")?;
                    Err(Error::conflict("as it went"))
                })
            });
            wait_begun.recv().unwrap();
            let second = scope.spawn(move || {
                sharing.run(1, Box::new(outs[1].clone()), &Cancel::new().unwrap(), |_, _| {
                    times.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                })
            });
            // The second has been shown what was said before.
            while outs[1].0.lock().unwrap().is_empty() {
                std::thread::yield_now();
            }
            go.send(()).unwrap();
            for thread in [first, second] {
                let error = thread.join().unwrap().unwrap_err();
                assert_eq!((error.kind, error.to_string()), (Kind::Conflict, "as it went".into()));
            }
        });
        assert_eq!(times.load(Ordering::SeqCst), 1);
        assert_eq!(*outs[0].0.lock().unwrap(), *outs[1].0.lock().unwrap());
    }

    #[test]
    fn it_ends_with_the_last_client() {
        let sharing = Sharing::<u8>::default();
        let (begun, wait_begun) = channel();
        let clients = [Cancel::new().unwrap(), Cancel::new().unwrap()];
        let seen = Out::default();
        std::thread::scope(|scope| {
            let (sharing, clients, seen) = (&sharing, &clients, &seen);
            let first = scope.spawn(move || {
                sharing.run(1, Box::new(std::io::sink()), &clients[0], |progress, cancel| {
                    progress.status("a", "begun")?;
                    begun.send(()).unwrap();
                    while !cancel.is_set() {
                        std::thread::yield_now();
                    }
                    Err(Error::cancelled())
                })
            });
            wait_begun.recv().unwrap();
            let second = scope.spawn(move || sharing.run(1, Box::new(seen.clone()), &clients[1], |_, _| Ok(())));
            while seen.0.lock().unwrap().is_empty() {
                std::thread::yield_now();
            }
            clients[0].set();
            assert!(!first.is_finished(), "one client is there still");
            clients[1].set();
            assert_eq!(first.join().unwrap().unwrap_err().kind, Kind::Cancelled);
            assert_eq!(second.join().unwrap().unwrap_err().kind, Kind::Cancelled);
        });
    }

    /// Who comes while it is on its way out waits for that, and begins anew.
    #[test]
    fn what_nobody_wants_any_more_is_not_joined() {
        let (sharing, times) = (Sharing::<u8>::default(), AtomicU32::new(0));
        let (begun, wait_begun) = channel();
        let (go, wait_go) = channel::<()>();
        let clients = [Cancel::new().unwrap(), Cancel::new().unwrap(), Cancel::new().unwrap()];
        std::thread::scope(|scope| {
            let (sharing, times, clients) = (&sharing, &times, &clients);
            let first = scope.spawn(move || {
                sharing.run(1, Box::new(std::io::sink()), &clients[0], |_, _| {
                    begun.send(()).unwrap();
                    wait_go.recv().unwrap();
                    times.fetch_add(1, Ordering::SeqCst);
                    Err(Error::cancelled())
                })
            });
            wait_begun.recv().unwrap();
            clients[0].set();
            let second = scope.spawn(move || {
                sharing.run(1, Box::new(std::io::sink()), &clients[1], |_, _| {
                    assert_eq!(times.fetch_add(1, Ordering::SeqCst), 1, "the first has ended");
                    Ok(())
                })
            });
            // Who leaves while waiting is let go, though the first goes on.
            let third = scope.spawn(move || sharing.run(1, Box::new(std::io::sink()), &clients[2], |_, _| Ok(())));
            clients[2].set();
            assert_eq!(third.join().unwrap().unwrap_err().kind, Kind::Cancelled);
            assert!(!second.is_finished());
            go.send(()).unwrap();
            assert_eq!(first.join().unwrap().unwrap_err().kind, Kind::Cancelled);
            second.join().unwrap().unwrap();
        });
        assert_eq!(times.load(Ordering::SeqCst), 2);
    }
}
