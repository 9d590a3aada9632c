//! Image references: `[domain/]path[:tag][@digest]`, in Docker's familiar and in canonical form.
//!
//! Source: the grammar of the distribution project's `reference` package and what `docker` accepts and prints:
//! `busybox` is `docker.io/library/busybox`, 64 hex digits are an image ID and no name, the text is bounded by
//! 255 bytes of name and 128 of tag.

use crate::digest::Digest;
use std::fmt;

/// A repository on a registry: where content with some name lives.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Repository {
    domain: Box<str>,
    path: Box<str>,
}

/// A repository with an optional tag and an optional digest.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Reference {
    repository: Repository,
    tag: Option<Box<str>>,
    digest: Option<Digest>,
}

/// Says why a text is not a reference; the words are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    #[error("invalid reference format")]
    Format,
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    #[error("repository name must not be more than 255 characters")]
    TooLong,
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
    #[error("{0}")]
    Digest(#[from] crate::digest::DigestError),
}

const DEFAULT_DOMAIN: &str = "docker.io";
const OFFICIAL: &str = "library/";
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

impl Repository {
    /// The registry, `docker.io` where the text named none.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The path on the registry, with `library/` for Docker's official images.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// `docker.io/library/busybox`.
    pub fn canonical(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// `busybox`: as Docker prints it and as its tag store is keyed. The whole name where a shorter one would be that of
    /// another: Docker's is then, and an image of Docker Hub's could pass for another registry's.
    pub fn familiar(&self) -> String {
        if &*self.domain != DEFAULT_DOMAIN {
            return self.canonical();
        }
        let name = match self.path.strip_prefix(OFFICIAL) {
            Some(name) if !name.contains('/') => name,
            _ => &self.path,
        };
        let is_another = is_id(name) || name.split_once('/').is_some_and(|(first, _)| is_domain(first));
        if is_another { self.canonical() } else { name.to_string() }
    }
}

impl Reference {
    /// Parses a reference as a user writes it; no tag is added.
    pub fn parse(text: &str) -> Result<Reference, ReferenceError> {
        if text.is_empty() || text.len() > MAX_NAME + MAX_TAG + 80 {
            return Err(if text.is_empty() {
                ReferenceError::Format
            } else {
                ReferenceError::TooLong
            });
        }
        if is_id(text) {
            return Err(ReferenceError::LooksLikeId(text.to_string()));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(Digest::parse(digest).map_err(|_| ReferenceError::Format)?)),
            None => (text, None),
        };
        let last = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest[last..].split_once(':') {
            Some((leaf, tag)) => {
                if !is_tag(tag) {
                    return Err(ReferenceError::Format);
                }
                (&rest[..last + leaf.len()], Some(tag))
            }
            None => (rest, None),
        };
        let (domain, path) = match name.split_once('/') {
            Some((first, path)) if is_domain(first) => (first, path.to_string()),
            _ => (DEFAULT_DOMAIN, name.to_string()),
        };
        let domain = if domain == "index.docker.io" {
            DEFAULT_DOMAIN
        } else {
            domain
        };
        if path.bytes().any(|b| b.is_ascii_uppercase()) && is_path(&path.to_lowercase()) {
            return Err(ReferenceError::Uppercase(path));
        }
        if !is_path(&path) || !is_host(domain) {
            return Err(ReferenceError::Format);
        }
        let path = if domain == DEFAULT_DOMAIN && !path.contains('/') {
            format!("{OFFICIAL}{path}")
        } else {
            path
        };
        if domain.len() + path.len() + 1 > MAX_NAME {
            return Err(ReferenceError::TooLong);
        }
        Ok(Reference {
            repository: Repository {
                domain: domain.into(),
                path: path.into(),
            },
            tag: tag.map(Into::into),
            digest,
        })
    }

    /// The same with `latest` where neither tag nor digest was given.
    pub fn or_latest(mut self) -> Reference {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".into());
        }
        self
    }

    /// The repository it lies in.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The tag, if one was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was given.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same repository under this tag; `None` if the text is no tag.
    pub fn with_tag(&self, tag: &str) -> Option<Reference> {
        is_tag(tag).then(|| Reference {
            repository: self.repository.clone(),
            tag: Some(tag.into()),
            digest: None,
        })
    }

    /// The same repository under this digest.
    pub fn with_digest(&self, digest: &Digest) -> Reference {
        Reference {
            repository: self.repository.clone(),
            tag: None,
            digest: Some(digest.clone()),
        }
    }

    /// Docker's short form: `busybox:latest`, `busybox@sha256:…`.
    pub fn familiar(&self) -> String {
        self.suffix(self.repository.familiar())
    }

    /// The full form: `docker.io/library/busybox:latest`.
    pub fn canonical(&self) -> String {
        self.suffix(self.repository.canonical())
    }

    /// What stands behind `/manifests/` on the wire: the digest if there is one, else the tag, else `latest`.
    pub fn manifest_name(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag,
            (None, None) => "latest",
        }
    }

    fn suffix(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(digest.as_str());
        }
        text
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.familiar())
    }
}

/// Says whether a text is 64 hex digits and so an ID, not a name.
pub fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_tag(tag: &str) -> bool {
    let bytes = tag.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= MAX_TAG
        && (bytes[0].is_ascii_alphanumeric() || bytes[0] == b'_')
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// A first component is a registry when it could not be a Docker Hub user: it has a dot, a port or a capital, or is `localhost`.
fn is_domain(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_host(domain: &str) -> bool {
    let (host, port) = match domain.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((v6, "")) => (v6, None),
            Some((v6, port)) if port.starts_with(':') => (v6, Some(&port[1..])),
            _ => return false,
        },
        None => match domain.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (domain, None),
        },
    };
    let host_ok = if domain.starts_with('[') {
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_hexdigit() || b == b':')
    } else {
        host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
    };
    host_ok && port.is_none_or(|p| !p.is_empty() && p.len() <= 5 && p.bytes().all(|b| b.is_ascii_digit()))
}

fn is_path(path: &str) -> bool {
    path.split('/').all(is_component)
}

/// Lower-case letters and digits, joined by one `.`, one or two `_`, or any number of `-`.
fn is_component(component: &str) -> bool {
    let mut rest = component.as_bytes();
    loop {
        let word = rest
            .iter()
            .take_while(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            .count();
        if word == 0 {
            return false;
        }
        rest = &rest[word..];
        if rest.is_empty() {
            return true;
        }
        let joint = match rest {
            [b'_', b'_', ..] => 2,
            [b'_' | b'.', ..] => 1,
            [b'-', ..] => rest.iter().take_while(|b| **b == b'-').count(),
            _ => return false,
        };
        rest = &rest[joint..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn familiar_and_canonical_forms() {
        for (text, familiar, canonical) in [
            ("busybox", "busybox", "docker.io/library/busybox"),
            ("busybox:1.36", "busybox:1.36", "docker.io/library/busybox:1.36"),
            ("docker.io/library/busybox", "busybox", "docker.io/library/busybox"),
            ("index.docker.io/busybox", "busybox", "docker.io/library/busybox"),
            ("me/app", "me/app", "docker.io/me/app"),
            // Found by fuzzing: without the first part it would be another registry's.
            (
                "docker.io/ghcr.io/app",
                "docker.io/ghcr.io/app",
                "docker.io/ghcr.io/app",
            ),
            ("localhost/app:1", "localhost/app:1", "localhost/app:1"),
            (
                "127.0.0.1:5000/a/b__c/d-e:v1.0_x",
                "127.0.0.1:5000/a/b__c/d-e:v1.0_x",
                "127.0.0.1:5000/a/b__c/d-e:v1.0_x",
            ),
            ("[::1]:5000/a", "[::1]:5000/a", "[::1]:5000/a"),
            ("Registry/app", "Registry/app", "Registry/app"),
        ] {
            let reference = Reference::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(
                (reference.familiar().as_str(), reference.canonical().as_str()),
                (familiar, canonical),
                "{text}"
            );
        }
    }

    #[test]
    fn digests_and_tags() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let reference = Reference::parse(&format!("busybox:1@{digest}")).unwrap();
        assert_eq!(reference.tag(), Some("1"));
        assert_eq!(reference.manifest_name(), digest);
        assert_eq!(
            Reference::parse("busybox").unwrap().or_latest().familiar(),
            "busybox:latest"
        );
        assert_eq!(
            Reference::parse(&format!("busybox@{digest}"))
                .unwrap()
                .or_latest()
                .tag(),
            None
        );
    }

    #[test]
    fn refuses_what_docker_refuses() {
        let long = format!("a/{}", "b".repeat(300));
        for bad in [
            "",
            ":",
            "a:",
            "a@",
            "a@sha256:1",
            "Busybox",
            "a/B",
            "a b",
            "a//b",
            "/a",
            "a/",
            "a..b",
            "a___b",
            "-a",
            "a-",
            "a_",
            "../x",
            "a:b:c/d",
            "http://x/y",
            "a:é",
            "x.y:port/a",
            "a\0",
            &"a".repeat(64),
            &long,
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            Reference::parse("me/App").unwrap_err().to_string(),
            "invalid reference format: repository name (me/App) must be lowercase"
        );
    }
}
