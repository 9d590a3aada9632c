//! A file of any web server, for `import`: no registry, no credentials, and a certificate that is good.

use crate::Result;
use crate::client::Registry;
use crate::error::Error;
use crate::http::{Body, Cancel, Url};
use crate::repository::Send;
use std::io::{self, Read};

/// How much is told of an answer that is an error, bytes.
const TOLD: u64 = 4 << 10;

/// A file that is being read. Cut short it is an error, never a silent end.
pub struct Fetched {
    body: Body,
    /// Bytes, where the server says so.
    pub length: Option<u64>,
}

impl Registry {
    /// Asks for the file at `url`.
    pub fn fetch(&self, url: &str, cancel: &Cancel) -> Result<Fetched> {
        let parsed = Url::parse(url).ok_or_else(|| Error::Protocol(format!("invalid URL {url:?}")))?;
        let response = self.0.follow(&mut Send::get(parsed, false, None), cancel)?;
        if response.status >= 400 {
            let mut text = Vec::new();
            // What cannot be read of it is not told.
            let _ = response.body.take(TOLD).read_to_end(&mut text);
            return Err(Error::Protocol(format!(
                "failed to GET {url} with status {}: {}",
                response.reason,
                String::from_utf8_lossy(&text).trim_end()
            )));
        }
        Ok(Fetched {
            length: response.body.length(),
            body: response.body,
        })
    }
}

impl Read for Fetched {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.body.read(out)
    }
}
