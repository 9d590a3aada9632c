//! Platforms: `os/architecture[/variant]` in Go's words, and which of an index's a device should run.
//!
//! ARM variants run downwards: a v7 CPU runs v7, v6 and v5; a 64-bit one that has a 32-bit mode also runs them.
//! Source: OCI image index spec, containerd's platform matching as seen in which manifest `docker pull` takes.

use json::{Deserialize, Serialize};
use std::fmt;

/// What an image was built for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default, rename = "os.version", skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    #[serde(default, rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl Platform {
    /// The platform of a kernel machine name (`uname -m`), 32-bit binaries seeing what they can run.
    pub fn of_machine(machine: &str) -> Platform {
        let (architecture, variant) = match machine {
            "x86_64" if cfg!(target_pointer_width = "32") => ("386", ""),
            "x86_64" => ("amd64", ""),
            "i386" | "i486" | "i586" | "i686" => ("386", ""),
            "aarch64" if cfg!(target_pointer_width = "32") => ("arm", "v7"),
            "aarch64" => ("arm64", ""),
            m if m.starts_with("armv5") || m.starts_with("armv4") => ("arm", "v5"),
            m if m.starts_with("armv6") => ("arm", "v6"),
            m if m.starts_with("arm") => ("arm", "v7"),
            other => (other, ""),
        };
        Platform {
            architecture: architecture.into(),
            os: "linux".into(),
            variant: variant.into(),
            ..Platform::default()
        }
    }

    /// Parses `linux/arm/v7`, `arm64`, `linux`; `None` where it has an empty or a fourth part.
    pub fn parse(text: &str, host: &Platform) -> Option<Platform> {
        let parts: Vec<&str> = text.split('/').collect();
        let ok = |p: &&str| {
            !p.is_empty()
                && p.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        if !parts.iter().all(ok) {
            return None;
        }
        let make = |os: &str, architecture: &str, variant: &str| {
            let mut platform = Platform {
                os: os.to_lowercase(),
                architecture: architecture.to_lowercase(),
                variant: variant.to_lowercase(),
                ..Platform::default()
            };
            platform.normalize();
            platform
        };
        match parts[..] {
            ["linux"] => Some(host.clone()),
            // Go's names of the systems that images are made for; no more of them is asked than whether it is one.
            [os @ ("windows" | "darwin" | "freebsd")] => Some(make(os, &host.architecture, &host.variant)),
            [one] => is_architecture(one).then(|| make("linux", one, "")),
            [os, architecture] => Some(make(os, architecture, "")),
            [os, architecture, variant] => Some(make(os, architecture, variant)),
            _ => None,
        }
    }

    fn normalize(&mut self) {
        match self.architecture.as_str() {
            "x86_64" | "x86-64" => self.architecture = "amd64".into(),
            "i386" | "i686" => self.architecture = "386".into(),
            "aarch64" => self.architecture = "arm64".into(),
            "armhf" => (self.architecture, self.variant) = ("arm".into(), "v7".into()),
            "armel" => (self.architecture, self.variant) = ("arm".into(), "v6".into()),
            _ => {}
        }
        if self.architecture == "arm64" && self.variant == "v8" || self.architecture == "amd64" && self.variant == "v1"
        {
            self.variant.clear();
        }
        if self.architecture == "arm" && self.variant.is_empty() {
            self.variant = "v7".into();
        }
    }

    /// How well `self`, wanted, is served by `candidate`: higher is better, `None` cannot run.
    pub fn rank(&self, candidate: &Platform) -> Option<u8> {
        let mut candidate = candidate.clone();
        candidate.normalize();
        let mut wanted = self.clone();
        wanted.normalize();
        if candidate.os != wanted.os {
            return None;
        }
        if candidate.architecture == wanted.architecture {
            let (want, have) = (arm_version(&wanted.variant), arm_version(&candidate.variant));
            return match (wanted.architecture.as_str(), want, have) {
                ("arm", Some(want), Some(have)) => (have <= want).then_some(20 + have),
                ("amd64", ..) if wanted.variant.is_empty() && !candidate.variant.is_empty() => None,
                _ if candidate.variant == wanted.variant => Some(40),
                _ if candidate.variant.is_empty() => Some(30),
                _ => None,
            };
        }
        match (wanted.architecture.as_str(), candidate.architecture.as_str()) {
            ("arm64", "arm") => Some(arm_version(&candidate.variant).unwrap_or(0)),
            ("amd64", "386") => Some(1),
            _ => None,
        }
    }
}

fn arm_version(variant: &str) -> Option<u8> {
    variant.strip_prefix('v')?.parse().ok()
}

fn is_architecture(text: &str) -> bool {
    matches!(
        text,
        "amd64"
            | "x86_64"
            | "x86-64"
            | "386"
            | "i386"
            | "i686"
            | "arm"
            | "armhf"
            | "armel"
            | "arm64"
            | "aarch64"
            | "riscv64"
            | "ppc64le"
            | "s390x"
    )
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(want: &str, have: &[&str]) -> Option<String> {
        let host = Platform::of_machine("x86_64");
        let want = Platform::parse(want, &host).unwrap();
        have.iter()
            .filter_map(|text| Some((want.rank(&Platform::parse(text, &host)?)?, *text)))
            .max_by_key(|(rank, _)| *rank)
            .map(|(_, text)| text.to_string())
    }

    #[test]
    fn a_device_takes_the_newest_variant_that_it_runs() {
        let arms = [
            "linux/amd64",
            "linux/arm/v5",
            "linux/arm/v6",
            "linux/arm/v7",
            "linux/arm64/v8",
        ];
        for (want, got) in [
            ("linux/arm/v5", Some("linux/arm/v5")),
            ("linux/arm/v6", Some("linux/arm/v6")),
            ("linux/arm/v7", Some("linux/arm/v7")),
            ("linux/arm", Some("linux/arm/v7")),
            ("arm64", Some("linux/arm64/v8")),
            ("linux/386", None),
            ("amd64", Some("linux/amd64")),
        ] {
            assert_eq!(best(want, &arms).as_deref(), got, "{want}");
        }
        assert_eq!(best("arm64", &arms[..4]).as_deref(), Some("linux/arm/v7"));
        assert_eq!(
            best("amd64", &["linux/386", "windows/amd64"]).as_deref(),
            Some("linux/386")
        );
        assert_eq!(best("linux/arm/v5", &["linux/arm/v6"]), None);
    }

    #[test]
    fn words() {
        let host = Platform::of_machine("armv7l");
        assert_eq!(host.to_string(), "linux/arm/v7");
        assert_eq!(
            Platform::parse("linux/aarch64", &host).unwrap().to_string(),
            "linux/arm64"
        );
        assert_eq!(Platform::parse("windows", &host).unwrap().to_string(), "windows/arm/v7");
        for bad in ["", "/", "a//b", "a/b/c/d", "plan9 x", "quux"] {
            assert!(Platform::parse(bad, &host).is_none(), "{bad}");
        }
    }
}
