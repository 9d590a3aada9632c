//! Credential helpers: programs named `docker-credential-…` that keep secrets for the client.
//!
//! Source: docker-credential-helpers' protocol: the verb is the argument, the request comes on standard input, the
//! answer on standard output; a user named `<token>` has an identity token for a password.

use crate::config::Credentials;
use json::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

const TOKEN: &str = "<token>";
/// No answer of a helper is longer.
const LIMIT: u64 = 1 << 20;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wire {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    username: String,
    secret: String,
}

/// A helper by its name behind `docker-credential-`.
pub struct Helper<'a>(pub &'a str);

impl Helper<'_> {
    /// What it has for a server; nothing if it has nothing.
    pub fn get(&self, server: &str) -> io::Result<Option<Credentials>> {
        let (good, answer) = self.ask("get", server.as_bytes())?;
        if !good {
            let text = String::from_utf8_lossy(&answer);
            return match text.trim() {
                "credentials not found in native keychain" => Ok(None),
                text => Err(io::Error::other(format!("error getting credentials - err: {text}"))),
            };
        }
        let wire: Wire = json::from_slice(&answer)?;
        let mut found = Credentials {
            username: wire.username,
            ..Credentials::default()
        };
        match found.username == TOKEN {
            true => (found.username, found.identity_token) = (String::new(), wire.secret),
            false => found.password = wire.secret,
        }
        Ok(Some(found))
    }

    /// Gives it credentials to keep.
    pub fn store(&self, server: &str, credentials: &Credentials) -> io::Result<()> {
        let token = !credentials.identity_token.is_empty();
        let wire = Wire {
            server_url: server.to_string(),
            username: if token {
                TOKEN.into()
            } else {
                credentials.username.clone()
            },
            secret: if token {
                &credentials.identity_token
            } else {
                &credentials.password
            }
            .clone(),
        };
        self.done("store", "storing", &json::to_vec(&wire))
    }

    /// Makes it forget.
    pub fn erase(&self, server: &str) -> io::Result<()> {
        self.done("erase", "erasing", server.as_bytes())
    }

    fn done(&self, verb: &str, doing: &str, request: &[u8]) -> io::Result<()> {
        match self.ask(verb, request)? {
            (true, _) => Ok(()),
            (false, answer) => Err(io::Error::other(format!(
                "error {doing} credentials - err: {}",
                String::from_utf8_lossy(&answer).trim()
            ))),
        }
    }

    fn ask(&self, verb: &str, request: &[u8]) -> io::Result<(bool, Vec<u8>)> {
        // A name in a path: a configuration file must not make it a program elsewhere.
        if self.0.contains('/') {
            return Err(io::Error::other(format!("invalid credential helper {:?}", self.0)));
        }
        let name = format!("docker-credential-{}", self.0);
        let mut child = Command::new(&name)
            .arg(verb)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|e| match e.kind() {
                io::ErrorKind::NotFound => io::Error::other(format!(
                    "error getting credentials - err: exec: \"{name}\": executable file not found in $PATH, out: ``"
                )),
                _ => e,
            })?;
        let mut answer = Vec::new();
        // A helper that reads nothing closes its end: that is its business.
        if let Some(mut stdin) = child.stdin.take() {
            let _ = stdin.write_all(request);
        }
        if let Some(stdout) = child.stdout.take() {
            stdout.take(LIMIT).read_to_end(&mut answer)?;
        }
        Ok((child.wait()?.success(), answer))
    }
}
