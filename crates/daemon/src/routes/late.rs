//! A writer that tells whether anything was written: before that, an error can still be the whole answer.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// See the module's page.
#[derive(Clone)]
pub struct Late {
    out: Arc<Mutex<Box<dyn Write + Send>>>,
    begun: Arc<AtomicBool>,
}

impl Late {
    pub fn new(out: Box<dyn Write + Send>) -> Late {
        Late {
            out: Arc::new(Mutex::new(out)),
            begun: Arc::default(),
        }
    }

    /// Whether anything was written.
    pub fn begun(&self) -> bool {
        self.begun.load(Ordering::SeqCst)
    }
}

impl Write for Late {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.begun.store(true, Ordering::SeqCst);
        self.out.lock().unwrap_or_else(|e| e.into_inner()).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.lock().unwrap_or_else(|e| e.into_inner()).flush()
    }
}
