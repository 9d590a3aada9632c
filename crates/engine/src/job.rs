//! The job of a process of this binary that works for a client without a daemon ([`make_delta`](crate::make_delta),
//! [`manifest`](crate::manifest)): one frame of JSON on standard input, which the client leaves open for as long as it lives.
//!
//! What such a process works on is its client's: it ends with it, whatever the client ends by.

use crate::error::{Context, Error, Result};
use api::stdcopy::{self, Stream};
use json::Deserialize;
use registry::Auth;
use std::collections::BTreeMap;
use std::io;

/// Reads the job, of `most` bytes at most. From then on this process ends when its standard input does.
pub fn read<J: Deserialize>(most: u32) -> Result<J> {
    let read = stdcopy::read(&mut io::stdin(), most).context("read the job")?;
    let Some((Stream::Stdin, text)) = read else {
        return Err(Error::invalid("read the job: there is none"));
    };
    let job = json::from_slice(&text).invalid("read the job")?;
    let watch = std::thread::Builder::new().name("client".into()).spawn(|| {
        // Nothing more is said there: what ends the copy is that the client is gone.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(1);
    });
    watch.context("watch the client")?;
    Ok(job)
}

/// Who we are to a registry, by the headers that came with the job.
pub fn auth(credentials: &BTreeMap<String, String>, domain: &str) -> Result<Auth> {
    match credentials.get(domain) {
        None => Ok(Auth::Anonymous),
        Some(header) => Auth::from_header(header).invalid(format!("credentials of {domain}")),
    }
}
