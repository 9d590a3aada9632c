//! Debian's `docker-registry` on a free port of 127.0.0.1, its storage in a temporary directory.

use crate::http;
use crate::image::{Image, sha256};
use std::io::{Error, Result};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Who may use a registry with a password.
pub const USER: &str = "device";
pub const PASSWORD: &str = "secret";
/// bcrypt of the password.
const HASH: &str = "$2b$04$xHyWMEdHezTiOdeUODWCn.hcxDvJgcg8GcOP0AZGnzbHDiaIQ3H4O";

/// A running registry; ends when dropped.
pub struct Registry {
    pub port: u16,
    child: Child,
    _dir: TempDir,
}

impl Registry {
    /// Starts one and waits until it answers.
    pub fn start() -> Result<Registry> {
        Registry::start_with(|_| String::new())
    }

    /// The same, open to [`USER`] with [`PASSWORD`] only.
    pub fn with_password() -> Result<Registry> {
        Registry::start_with(|dir| {
            let file = dir.join("htpasswd");
            std::fs::write(&file, format!("{USER}:{HASH}\n")).expect("a temporary directory takes a file");
            format!("auth: {{htpasswd: {{realm: tests, path: {}}}}}\n", file.display())
        })
    }

    fn start_with(extra: impl FnOnce(&Path) -> String) -> Result<Registry> {
        let dir = tempfile::Builder::new().prefix("balena-registry-").tempdir()?;
        let extra = extra(dir.path());
        let port = free_port()?;
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}/data}}}}\nhttp:\n  addr: 127.0.0.1:{port}\n{extra}",
            dir.path().display()
        );
        let config = dir.path().join("config.yml");
        std::fs::write(&config, text)?;
        let log = std::fs::File::create(dir.path().join("log"))?;
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|e| Error::other(format!("start docker-registry: {e}: install Debian's docker-registry")))?;
        let mut registry = Registry { port, child, _dir: dir };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if start.elapsed() > Duration::from_secs(20) || registry.child.try_wait()?.is_some() {
                let log = std::fs::read_to_string(registry._dir.path().join("log")).unwrap_or_default();
                return Err(Error::other(format!("docker-registry does not listen: {log}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(registry)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How a daemon names a repository here.
    pub fn name(&self, repository: &str) -> String {
        format!("127.0.0.1:{}/{repository}", self.port)
    }

    /// Pushes an image under a tag and returns its full reference.
    pub fn push(&self, repository: &str, tag: &str, image: &Image) -> Result<String> {
        for layer in &image.layers {
            self.put_blob(repository, &layer.blob)?;
        }
        self.put_blob(repository, &image.config)?;
        self.put_manifest(repository, tag, &image.media_type, &image.manifest)?;
        Ok(format!("{}:{tag}", self.name(repository)))
    }

    pub fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, manifest: &[u8]) -> Result<()> {
        let target = format!("/v2/{repository}/manifests/{tag}");
        let answer = http::local(self.port, "PUT", &target, &[("Content-Type", media_type)], manifest)?;
        expect(&answer, 201, &target)
    }

    pub fn put_blob(&self, repository: &str, blob: &[u8]) -> Result<()> {
        let digest = sha256(blob);
        let target = format!("/v2/{repository}/blobs/{digest}");
        if http::local(self.port, "HEAD", &target, &[], b"")?.status == 200 {
            return Ok(());
        }
        let start = format!("/v2/{repository}/blobs/uploads/");
        let answer = http::local(self.port, "POST", &start, &[], b"")?;
        expect(&answer, 202, &start)?;
        let location = answer.header("location").unwrap_or_default();
        let host = format!("http://localhost{}", location.trim_start_matches("http://localhost"));
        let path = host
            .splitn(4, '/')
            .nth(3)
            .ok_or_else(|| Error::other(format!("the registry gave no place to upload to: {location:?}")))?;
        let joint = if path.contains('?') { '&' } else { '?' };
        let target = format!("/{path}{joint}digest={digest}");
        let headers = [("Content-Type", "application/octet-stream")];
        let answer = http::local(self.port, "PUT", &target, &headers, blob)?;
        expect(&answer, 201, &target)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn expect(answer: &http::Answer, status: u16, target: &str) -> Result<()> {
    match answer.status == status {
        true => Ok(()),
        false => Err(Error::other(format!(
            "registry: {target}: status {} instead of {status}: {}",
            answer.status,
            answer.text()
        ))),
    }
}

/// A port of 127.0.0.1 that nobody listens on.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Passes connections at one address on to a port of loopback, until the test ends.
pub fn forward(address: &str, port: u16) -> Result<u16> {
    let listener = TcpListener::bind((address, 0))?;
    let here = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let _ = pass(client, port);
        }
    });
    Ok(here)
}

fn pass(client: TcpStream, port: u16) -> Result<()> {
    let server = TcpStream::connect(("127.0.0.1", port))?;
    for (mut from, mut to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Write);
        });
    }
    Ok(())
}
