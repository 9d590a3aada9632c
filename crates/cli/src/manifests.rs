//! Manifest lists that are being made, where docker's client keeps its own and as it does, so that either client goes on
//! with what the other began: `manifests/<list>/<image>` below the configuration, a JSON file for each image.
//!
//! The names of directory and file are made of references, which have no component that a path could leave the
//! directory by, and no `/` is left of them. Two references may make one name: the image's file says whose it is.

use crate::cli::Cli;
use crate::command::{Failure, errno_text};
use api::manifest;
use json::{Deserialize, Raw, Reader, Serialize, Writer};
use oci::base64;
use oci::digest::Digest;
use oci::manifest::{Descriptor, Index, media_type};
use oci::platform::Platform;
use oci::reference::Reference;
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Most bytes of a file: a manifest of 4 MiB, twice, once in base64 and once with its characters escaped.
const FILE: u64 = 32 << 20;

/// An image that may stand in a list. In the order in which docker writes it.
#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Image {
    #[serde(rename = "Ref")]
    pub name: Name,
    pub descriptor: Described,
    /// Base64 of the manifest as the registry has it; older clients keep nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    raw: String,
    #[serde(default, rename = "SchemaV2Manifest", skip_serializing_if = "Option::is_none")]
    schema2: Option<Raw>,
    #[serde(default, rename = "OCIManifest", skip_serializing_if = "Option::is_none")]
    oci: Option<Raw>,
}

/// Which manifest is meant.
#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Described {
    pub media_type: String,
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// A reference that is written in full.
#[derive(Clone, PartialEq, Eq)]
pub struct Name(pub Reference);

impl Serialize for Name {
    fn write(&self, writer: &mut Writer) {
        writer.text(&self.0.canonical());
    }
}

impl Deserialize for Name {
    fn read(reader: &mut Reader<'_>) -> json::Result<Name> {
        let text = reader.string("a reference")?;
        let reference = Reference::parse(&text).map_err(|e| json::Error::custom(e.to_string()))?;
        match reference.canonical() == text {
            true => Ok(Name(reference)),
            false => Err(json::Error::custom("repository name must be canonical")),
        }
    }
}

impl Image {
    /// An image as a registry has it.
    pub fn found(found: manifest::Image) -> Result<Image, Failure> {
        let wrong = |what: &dyn std::fmt::Display| Failure::new(format!("manifest {}: {what}", found.digest));
        let name = Reference::parse(&found.name).map_err(|e| Failure::new(e.to_string()))?;
        let digest = Digest::parse(&found.digest).map_err(|e| wrong(&e))?;
        let bytes = base64::decode(&found.manifest).ok_or_else(|| wrong(&"not base64"))?;
        let platform = json::from_str(found.platform.get()).map_err(|e| wrong(&e))?;
        Image::new(name, (digest, &bytes), found.oci, platform).map_err(|e| wrong(&e))
    }

    /// An image by its manifest, whose bytes were parsed as one.
    fn new(name: Reference, (digest, bytes): (Digest, &[u8]), is_oci: bool, platform: Platform) -> json::Result<Image> {
        let document: Raw = json::from_slice(bytes)?;
        let (kind, schema2, oci) = match is_oci {
            true => (media_type::OCI_MANIFEST, None, Some(document)),
            false => (media_type::DOCKER_MANIFEST, Some(document), None),
        };
        Ok(Image {
            name: Name(name),
            descriptor: Described {
                media_type: kind.to_string(),
                digest,
                size: bytes.len() as u64,
                platform: Some(platform),
            },
            raw: base64::encode(bytes),
            schema2,
            oci,
        })
    }

    /// The manifest for people: as the registry has it, or with characters escaped if it was kept in between.
    pub fn document(&self) -> Result<&str, Failure> {
        let document = self.schema2.as_ref().or(self.oci.as_ref());
        let missing = || Failure::new(format!("{} has no payload", self.name.0.canonical()));
        document.map(Raw::get).ok_or_else(missing)
    }

    /// Says whether the registry's own bytes are known.
    pub fn is_exact(&self) -> bool {
        !self.raw.is_empty()
    }

    /// The media type that the manifest is put with, and its bytes. What older clients kept is indented as registries
    /// were once told it; whether that gives the same is the digest's to say.
    pub fn payload(&self) -> Result<(&'static str, Vec<u8>), Failure> {
        let (kind, step) = match self.schema2 {
            Some(_) => (media_type::DOCKER_MANIFEST, "   "),
            None => (media_type::OCI_MANIFEST, "  "),
        };
        let bytes = match self.is_exact() {
            true => base64::decode(&self.raw).unwrap_or_default(),
            false => json::pretty(&json::compact(self.document()?), step).into_bytes(),
        };
        Ok((kind, bytes))
    }
}

/// The list of some images as it is pushed and shown: its media type, which is that of the first image's kind, and its text.
pub fn list(images: &[Image]) -> (&'static str, String) {
    let is_oci = |image: &Image| image.descriptor.media_type == media_type::OCI_MANIFEST;
    let kind = match images.first().is_some_and(is_oci) {
        true => media_type::OCI_INDEX,
        false => media_type::DOCKER_LIST,
    };
    let manifests = images.iter().map(|Image { descriptor, .. }| Descriptor {
        media_type: descriptor.media_type.clone(),
        size: descriptor.size,
        digest: descriptor.digest.clone(),
        urls: Vec::new(),
        annotations: Default::default(),
        platform: Some(descriptor.platform.clone().unwrap_or_default()),
        artifact_type: None,
    });
    let index = Index {
        schema_version: 2,
        media_type: kind.to_string(),
        manifests: manifests.collect(),
        annotations: Default::default(),
    };
    (kind, json::pretty(&json::compact(&json::to_string(&index)), "   "))
}

/// A list's images are all on one registry.
pub fn check_registry(list: &Reference, image: &Image) -> Result<(), Failure> {
    let (there, here) = (image.name.0.repository().domain(), list.repository().domain());
    match there == here {
        true => Ok(()),
        false => Err(Failure::new(format!(
            "cannot use source images from a different registry than the target image: {there} != {here}"
        ))),
    }
}

/// What docker says of a list, and of an image of a list, that is not in the store.
pub fn missing(reference: &Reference) -> Failure {
    Failure::new(format!("No such manifest: {}", reference.canonical()))
}

/// The lists of this user.
pub struct Lists(PathBuf);

impl Lists {
    pub fn of(cli: &Cli) -> Lists {
        Lists(cli.config.borrow().dir.join("manifests"))
    }

    /// An image of a list.
    pub fn image(&self, list: &Reference, image: &Reference) -> Result<Option<Image>, Failure> {
        let path = self.0.join(file_name(list)).join(file_name(image));
        let Some(found) = read(&path)? else { return Ok(None) };
        match found.name.0 == *image {
            true => Ok(Some(found)),
            false => Err(Failure::new(format!(
                "{} and {} cannot both be in one list: they make one file, {}",
                found.name.0.canonical(),
                image.canonical(),
                path.display()
            ))),
        }
    }

    /// The images of a list, by the names of their files.
    pub fn images(&self, list: &Reference) -> Result<Option<Vec<Image>>, Failure> {
        let path = self.0.join(file_name(list));
        let names = fs::read_dir(&path).and_then(|entries| {
            let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
            names.collect::<io::Result<Vec<_>>>()
        });
        let mut names = match names {
            Ok(names) => names,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed("open", &path, &e)),
        };
        names.sort();
        let images = names.iter().filter_map(|name| read(&path.join(name)).transpose());
        images.collect::<Result<Vec<_>, _>>().map(Some)
    }

    /// Keeps an image in a list, which begins with its first. The file of another image is not taken for it.
    pub fn save(&self, list: &Reference, image: &Image) -> Result<(), Failure> {
        self.image(list, &image.name.0)?;
        let directory = self.0.join(file_name(list));
        fs::create_dir_all(&directory).map_err(|e| failed("mkdir", &directory, &e))?;
        let path = directory.join(file_name(&image.name.0));
        // Not beside it: every file there is one of the list's.
        let fresh = self.0.join(format!(".{}", std::process::id()));
        let text = json::compact(&json::to_string(image));
        let written = fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, &path));
        written.map_err(|e| {
            let _ = fs::remove_file(&fresh);
            failed("open", &path, &e)
        })
    }

    /// Forgets a list; says whether there was one.
    pub fn remove(&self, list: &Reference) -> Result<bool, Failure> {
        let path = self.0.join(file_name(list));
        match fs::remove_dir_all(&path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(failed("open", &path, &e)),
        }
    }
}

/// `registry.example:5000/app:1` as `registry.example-5000_app-1`.
fn file_name(reference: &Reference) -> String {
    reference.canonical().replace(':', "-").replace('/', "_")
}

fn failed(verb: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("{verb} {}: {}", path.display(), errno_text(error)))
}

fn read(path: &Path) -> Result<Option<Image>, Failure> {
    let mut text = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(FILE + 1).read_to_end(&mut text));
    match read {
        Ok(_) if text.len() as u64 > FILE => {
            Err(Failure::new(format!("{} is larger than {FILE} bytes", path.display())))
        }
        Ok(_) => json::from_slice(&text)
            .map(Some)
            .map_err(|e| Failure::new(format!("read {}: {e}", path.display()))),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("read", path, &e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "{\n \"schemaVersion\": 2, \"x\": \"a<b\"}";

    fn named(text: &str) -> Reference {
        Reference::parse(text).unwrap()
    }

    fn image(name: &str, is_oci: bool) -> Image {
        let digest = Digest::sha256([7; 32]);
        Image::new(named(name), (digest, MANIFEST.as_bytes()), is_oci, Platform::default()).unwrap()
    }

    /// What a hostile line or script gives as a name stays below the directory.
    #[test]
    fn names_of_files() {
        for (text, name) in [
            ("r.example:5000/a/b:1", "r.example-5000_a_b-1"),
            ("app", "docker.io_library_app-latest"),
            ("[::1]:5000/a", "[--1]-5000_a-latest"),
        ] {
            assert_eq!(file_name(&named(text).or_latest()), name);
        }
        let words = [
            "..",
            ".",
            "",
            "a",
            "/",
            "-",
            "_",
            ":",
            "@",
            "%",
            "\\",
            "\0",
            "a.b",
            "~",
            "localhost",
        ];
        for first in words {
            for second in words {
                for third in words {
                    for joint in ["/", "/../", ":", "//", ""] {
                        let Ok(parsed) = Reference::parse(&[first, second, third].join(joint)) else {
                            continue;
                        };
                        let name = file_name(&parsed);
                        assert!(!name.contains(['/', '\0']) && !name.starts_with('.'), "{name}");
                    }
                }
            }
        }
    }

    #[test]
    fn kept_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let lists = Lists(dir.path().join("manifests"));
        let (list, name) = (named("r.example/l:1"), named("r.example/a/b:1"));
        assert!(lists.images(&list).unwrap().is_none() && lists.image(&list, &name).unwrap().is_none());
        assert!(!lists.remove(&list).unwrap());
        lists.save(&list, &image("r.example/z:1", true)).unwrap();
        lists.save(&list, &image("r.example/a/b:1", false)).unwrap();
        let kept = lists.images(&list).unwrap().unwrap();
        assert_eq!(kept.len(), 2);
        assert!(kept[0].name.0 == name, "in the order of their files");
        assert_eq!(
            kept[0].payload().unwrap(),
            (media_type::DOCKER_MANIFEST, MANIFEST.into())
        );
        assert_eq!(kept[0].document().unwrap(), r#"{"schemaVersion":2,"x":"a\u003cb"}"#);
        assert_eq!(kept[1].payload().unwrap().0, media_type::OCI_MANIFEST);
        assert_eq!(list_kinds(&kept), (media_type::DOCKER_LIST, media_type::OCI_INDEX));
        // Another name of the same file is not taken for it.
        let error = lists.image(&list, &named("r.example/a_b:1")).err().unwrap();
        assert!(
            error.text.contains("r.example/a/b:1 and r.example/a_b:1"),
            "{}",
            error.text
        );
        let left: Vec<_> = fs::read_dir(&lists.0).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert!(lists.remove(&list).unwrap() && lists.images(&list).unwrap().is_none());
    }

    fn list_kinds(images: &[Image]) -> (&'static str, &'static str) {
        (super::list(images).0, super::list(&images[1..]).0)
    }

    /// Damage is told of, and what was broken can be removed.
    #[test]
    fn what_cannot_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let lists = Lists(dir.path().to_path_buf());
        let (list, name) = (named("r.example/l:1"), named("r.example/a:1"));
        lists.save(&list, &image("r.example/a:1", false)).unwrap();
        let path = dir.path().join(file_name(&list)).join(file_name(&name));
        let whole = fs::read_to_string(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(
                lists.image(&list, &name).is_err() && lists.images(&list).is_err(),
                "{length}"
            );
        }
        for other in ["a", "docker.io/library/a", "../../etc/passwd", ""] {
            fs::write(&path, whole.replace("r.example/a:1", other)).unwrap();
            assert!(lists.image(&list, &name).is_err(), "{other}");
        }
        assert!(lists.remove(&list).unwrap());
    }
}
