//! The client's own configuration: `config.json`, where it lies, and the credentials in it.

use crate::credentials::Helper;
use oci::base64;
use serde_json::{Map, Value as Json, json};
use std::io;
use std::path::{Path, PathBuf};

/// The key of Docker Hub's credentials.
pub const HUB: &str = "https://index.docker.io/v1/";

/// What was read; unknown keys are kept when it is written again.
#[derive(Debug, Default)]
pub struct Config {
    pub dir: PathBuf,
    json: Map<String, Json>,
}

/// A user's credentials for a registry.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Credentials {
    pub username: String,
    pub password: String,
    pub identity_token: String,
    /// Is sent to the registry as it is; no login makes one.
    pub registry_token: String,
}

impl Config {
    /// The directory: what was asked for, `DOCKER_CONFIG`, `~/.balena-engine` if it is there, else `~/.docker`.
    pub fn directory(wanted: Option<&str>) -> PathBuf {
        if let Some(dir) = wanted {
            return PathBuf::from(dir);
        }
        if let Some(dir) = std::env::var_os("DOCKER_CONFIG").filter(|dir| !dir.is_empty()) {
            return PathBuf::from(dir);
        }
        let home = std::env::var_os("HOME")
            .filter(|home| !home.is_empty())
            .unwrap_or_else(|| "/root".into());
        let ours = Path::new(&home).join(".balena-engine");
        if ours.join("config.json").exists() {
            ours
        } else {
            Path::new(&home).join(".docker")
        }
    }

    /// Reads it; no file is an empty one, a broken file is told and taken as empty.
    pub fn load(dir: PathBuf) -> Config {
        let path = dir.join("config.json");
        let json = match std::fs::read(&path) {
            Ok(bytes) => match json::from_slice(&bytes) {
                Ok(Json::Object(map)) => map,
                Ok(_) => Map::new(),
                Err(e) => {
                    eprintln!("WARNING: Error loading config file: {}: {e}", path.display());
                    Map::new()
                }
            },
            Err(e) => {
                if e.kind() != io::ErrorKind::NotFound && e.kind() != io::ErrorKind::NotADirectory {
                    eprintln!("WARNING: Error loading config file: open {}: {e}", path.display());
                }
                Map::new()
            }
        };
        Config { dir, json }
    }

    /// A text value at the top.
    pub fn text(&self, key: &str) -> &str {
        self.json.get(key).and_then(Json::as_str).unwrap_or_default()
    }

    /// Headers that every request carries.
    pub fn headers(&self) -> Vec<(String, String)> {
        let map = self.json.get("HttpHeaders").and_then(Json::as_object);
        let pair = |(name, value): (&String, &Json)| Some((name.clone(), value.as_str()?.to_string()));
        map.into_iter().flatten().filter_map(pair).collect()
    }

    /// The credentials for a registry's host (`docker.io` is Docker Hub).
    pub fn credentials(&self, host: &str) -> Option<Credentials> {
        let key = key(host);
        if let Some(helper) = self.helper(&key) {
            // A helper that fails is told of, and the registry asked without.
            let kept = Helper(helper).get(&key).unwrap_or_else(|e| {
                eprintln!("WARNING: {e}");
                None
            });
            return kept;
        }
        let auths = self.json.get("auths")?.as_object()?;
        let bare = |text: &str| {
            let text = text
                .strip_prefix("https://")
                .or(text.strip_prefix("http://"))
                .unwrap_or(text);
            text.split('/').next().unwrap_or_default().to_string()
        };
        let entry = auths.get(&key).or_else(|| {
            auths
                .iter()
                .find(|(known, _)| bare(known) == bare(&key))
                .map(|(_, entry)| entry)
        })?;
        let text = |name: &str| entry.get(name).and_then(Json::as_str).unwrap_or_default().to_string();
        let mut found = Credentials {
            username: text("username"),
            password: text("password"),
            identity_token: text("identitytoken"),
            registry_token: text("registrytoken"),
        };
        if let Some(decoded) = base64::decode_any(&text("auth")).and_then(|pair| String::from_utf8(pair).ok())
            && let Some((user, password)) = decoded.split_once(':')
        {
            found.username = user.to_string();
            found.password = password.trim_end_matches('\0').to_string();
        }
        (found != Credentials::default()).then_some(found)
    }

    /// What says to the daemon who we are to a registry's host (`X-Registry-Auth`).
    pub fn auth_header(&self, host: &str) -> String {
        auth_header(self.credentials(host).as_ref(), host)
    }

    /// The helper for a server: its own in `credHelpers`, else the one for all.
    fn helper(&self, key: &str) -> Option<&str> {
        let own = self.json.get("credHelpers").and_then(|map| map.get(key)?.as_str());
        own.or_else(|| self.json.get("credsStore")?.as_str())
            .filter(|name| !name.is_empty())
    }

    /// Stores credentials; the file is only for its owner. A helper takes the secret, the file the server's name.
    /// Says whether a password stands in the file now that did not before.
    pub fn store(&mut self, host: &str, credentials: &Credentials) -> io::Result<bool> {
        let server = key(host);
        if let Some(helper) = self.helper(&server) {
            Helper(helper).store(&server, credentials)?;
            let auths = self.json.entry("auths").or_insert_with(|| json!({}));
            if let Some(auths) = auths.as_object_mut() {
                auths.insert(server, json!({}));
            }
            return self.save().map(|()| false);
        }
        let mut entry = Map::new();
        let pair = format!("{}:{}", credentials.username, credentials.password);
        entry.insert("auth".into(), json!(base64::encode(pair.as_bytes())));
        if !credentials.identity_token.is_empty() {
            entry.insert("identitytoken".into(), json!(credentials.identity_token));
        }
        let auths = self.json.entry("auths").or_insert_with(|| json!({}));
        if let Some(auths) = auths.as_object_mut() {
            let entry = Json::Object(entry);
            if auths.get(&server) == Some(&entry) {
                return Ok(false);
            }
            auths.insert(server, entry);
        }
        self.save().map(|()| !credentials.password.is_empty())
    }

    /// Forgets credentials, also those that were kept under a URL; says whether there were any.
    pub fn erase(&mut self, host: &str) -> io::Result<bool> {
        let server = key(host);
        let urls = match server == HUB {
            true => Vec::new(),
            false => vec![format!("http://{server}"), format!("https://{server}")],
        };
        if let Some(helper) = self.helper(&server) {
            let helper = Helper(helper);
            helper.erase(&server)?;
            for url in &urls {
                // Some helpers take it for an error that there is nothing of that name.
                let _ = helper.erase(url);
            }
        }
        let mut had = false;
        if let Some(auths) = self.json.get_mut("auths").and_then(Json::as_object_mut) {
            for name in std::iter::once(&server).chain(&urls) {
                had |= auths.remove(name).is_some();
            }
        }
        if had {
            self.save()?;
        }
        Ok(had)
    }

    fn save(&self) -> io::Result<()> {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)?;
        let path = self.dir.join("config.json");
        let fresh = self.dir.join(format!(".config.json.{}", std::process::id()));
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)?;
        std::io::Write::write_all(&mut file, json::pretty(&json::to_string(&self.json), "\t").as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&fresh, &path)
    }
}

fn key(host: &str) -> String {
    match host {
        "" | "docker.io" | "index.docker.io" => HUB.to_string(),
        host => host.to_string(),
    }
}

/// The header that carries credentials to the daemon: URL-safe base64 of JSON.
fn auth_header(credentials: Option<&Credentials>, host: &str) -> String {
    let json = match credentials {
        None => "{}".to_string(),
        Some(c) if !c.registry_token.is_empty() => {
            json!({"registrytoken": c.registry_token, "serveraddress": key(host)}).to_string()
        }
        Some(c) if !c.identity_token.is_empty() => {
            json!({"identitytoken": c.identity_token, "serveraddress": key(host)}).to_string()
        }
        Some(c) => json!({"username": c.username, "password": c.password, "serveraddress": key(host)}).to_string(),
    };
    base64::encode_url(json.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_there_and_back() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("config.json"),
            "{\"psFormat\":\"x\",\"HttpHeaders\":{\"A\":\"b\"}}",
        )
        .unwrap();
        let mut config = Config::load(dir.path().to_path_buf());
        let alice = Credentials {
            username: "alice".into(),
            password: "pä:ss".into(),
            ..Credentials::default()
        };
        assert!(config.store("docker.io", &alice).unwrap());
        assert!(!config.store("docker.io", &alice).unwrap());
        config.store("reg:5000", &alice).unwrap();
        let mut config = Config::load(dir.path().to_path_buf());
        assert_eq!(config.credentials("docker.io"), Some(alice.clone()));
        assert_eq!(config.credentials("reg:5000"), Some(alice));
        assert_eq!(config.credentials("other"), None);
        assert_eq!(
            (config.text("psFormat"), config.headers()),
            ("x", vec![("A".into(), "b".into())])
        );
        assert!(config.erase("reg:5000").unwrap() && !config.erase("reg:5000").unwrap());
        assert_eq!(config.credentials("reg:5000"), None);
        assert_eq!(auth_header(None, ""), "e30=");
    }

    #[test]
    fn a_registrys_token_and_names_that_are_urls() {
        let dir = tempfile::tempdir().unwrap();
        let file = r#"{"auths":{"tok:1":{"registrytoken":"t","auth":"YTpi"},"https://reg:5000":{"auth":"YTpi"}}}"#;
        std::fs::write(dir.path().join("config.json"), file).unwrap();
        let mut config = Config::load(dir.path().to_path_buf());
        let sent = base64::decode_any(&config.auth_header("tok:1")).unwrap();
        assert_eq!(sent, br#"{"registrytoken":"t","serveraddress":"tok:1"}"#);
        assert!(config.credentials("reg:5000").is_some());
        assert!(config.erase("reg:5000").unwrap());
        assert_eq!(config.credentials("reg:5000"), None);
    }

    #[test]
    fn helpers_by_server_and_text_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let file = "{\"credHelpers\":{\"reg:5000\":\"../evil\"},\"psFormat\":\"a  b\"}";
        std::fs::write(dir.path().join("config.json"), file).unwrap();
        let mut config = Config::load(dir.path().to_path_buf());
        assert!(config.helper("reg:5000").is_some() && config.helper("other").is_none());
        let alice = Credentials {
            username: "alice".into(),
            password: "secret".into(),
            ..Credentials::default()
        };
        assert!(config.store("reg:5000", &alice).is_err(), "a path is no helper");
        config.store("other", &alice).unwrap();
        let written = std::fs::read_to_string(dir.path().join("config.json")).unwrap();
        assert!(
            written.contains("\"a  b\"") && written.contains("\n\t\"auths\""),
            "{written}"
        );
    }
}
