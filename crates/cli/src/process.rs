//! Work that needs no daemon and that the client does not know how to do: a process of this binary does it, by a name
//! of its own. It is told the job in a frame on standard input, which stays open for as long as we want it done, and
//! answers on standard output. What is secret goes through the pipe only: others see a process's words and environment.

use crate::cli::Cli;
use crate::command::Failure;
use api::stdcopy::{self, Stream};
use json::Serialize;
use oci::reference::Reference;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// A process at work: what it answers. One that failed ends in an error; it does not outlive this.
pub struct Process {
    name: &'static str,
    child: Child,
}

impl Process {
    /// Starts one and tells it its job, of `most` bytes.
    pub fn start(name: &'static str, job: &impl Serialize, most: u32) -> Result<Process, Failure> {
        // This very file, even if another has its name by now.
        let child = Command::new("/proc/self/exe")
            .arg0(name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| Failure::new(format!("start {name}: {e}")))?;
        let mut process = Process { name, child };
        // It reads all of it before it writes anything.
        if let Some(stdin) = &mut process.child.stdin {
            let told = stdcopy::write(stdin, Stream::Stdin, &json::to_vec(job), most);
            told.map_err(|e| Failure::new(format!("tell {name} what to do: {e}")))?;
        }
        Ok(process)
    }
}

impl Read for Process {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.child.stdout.as_mut().map_or(Ok(0), |out| out.read(into))?;
        if n == 0 && !into.is_empty() {
            self.child.stdout = None;
            let status = self.child.wait()?;
            if !status.success() {
                return Err(io::Error::other(format!("{} ended with {status}", self.name)));
            }
        }
        Ok(n)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a job has to say of us to the registries of some names: `X-Registry-Auth` headers by registry.
pub fn credentials<'a>(cli: &Cli, names: impl Iterator<Item = &'a Reference>) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::new();
    for name in names {
        let host = name.repository().domain();
        if !headers.contains_key(host) {
            headers.insert(host.to_string(), cli.config.borrow().auth_header(host));
        }
    }
    headers
}
