//! Images made by hand: tars, layers, configs and manifests, the same bytes every time; honest and hostile.

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use oci::tar::{Entry, Kind, Time, Writer};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const SCHEMA2: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A layer's tar being written.
pub struct Tar(Writer<Vec<u8>>);

impl Default for Tar {
    fn default() -> Tar {
        Tar(Writer::new(Vec::new()))
    }
}

impl Tar {
    /// Any entry at all; what is written is in memory, so nothing can go wrong but a wrong size.
    pub fn entry(mut self, entry: &Entry, content: &[u8]) -> Tar {
        let mut content = content;
        self.0
            .append(entry, &mut content)
            .expect("the entry has the content's size");
        self
    }

    pub fn file(self, name: &str, mode: u32, content: &[u8]) -> Tar {
        let mut entry = plain(Kind::Regular, name, mode);
        entry.size = content.len() as u64;
        self.entry(&entry, content)
    }

    pub fn dir(self, name: &str, mode: u32) -> Tar {
        self.entry(&plain(Kind::Directory, &format!("{name}/"), mode), b"")
    }

    pub fn symlink(self, name: &str, to: &str) -> Tar {
        self.link(Kind::Symlink, name, to)
    }

    pub fn hard_link(self, name: &str, to: &str) -> Tar {
        self.link(Kind::HardLink, name, to)
    }

    fn link(self, kind: Kind, name: &str, to: &str) -> Tar {
        let mut entry = plain(kind, name, 0o777);
        entry.link = to.into();
        self.entry(&entry, b"")
    }

    pub fn bytes(self) -> Vec<u8> {
        self.0.finish().expect("memory takes what is written")
    }
}

fn plain(kind: Kind, name: &str, mode: u32) -> Entry {
    let mut entry = Entry::new(kind, name);
    entry.mode = mode;
    entry.mtime = Time {
        seconds: 1_600_000_000,
        nanoseconds: 0,
    };
    entry
}

/// A layer as a registry holds it.
#[derive(Clone, Debug)]
pub struct Layer {
    pub blob: Vec<u8>,
    /// What the manifest says the blob's digest is, and the config the tar's.
    pub digest: String,
    pub diff_id: String,
    pub media_type: String,
    /// What the manifest says the blob's size is.
    pub size: u64,
    /// What else the manifest says of it.
    pub annotations: BTreeMap<String, String>,
}

impl Layer {
    pub fn gzip(tar: &[u8]) -> Layer {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::new(6));
        gzip.write_all(tar).expect("memory takes what is written");
        Layer::of(tar, gzip.finish().expect("memory takes what is written"), "+gzip")
    }

    pub fn plain(tar: &[u8]) -> Layer {
        Layer::of(tar, tar.to_vec(), "")
    }

    /// What the blob is without its compression.
    pub fn tar(&self) -> Vec<u8> {
        let mut tar = Vec::new();
        match self.media_type.rsplit('+').next() {
            Some("gzip") => MultiGzDecoder::new(&self.blob[..]).read_to_end(&mut tar),
            Some("zstd") => zstd::Decoder::new(&self.blob[..]).and_then(|mut plain| plain.read_to_end(&mut tar)),
            _ => (&self.blob[..]).read_to_end(&mut tar),
        }
        .expect("the blob is whole");
        tar
    }

    /// A blob of whatever making.
    pub(crate) fn of(tar: &[u8], blob: Vec<u8>, suffix: &str) -> Layer {
        Layer {
            digest: sha256(&blob),
            diff_id: sha256(tar),
            media_type: format!("{LAYER}{suffix}"),
            size: blob.len() as u64,
            annotations: BTreeMap::new(),
            blob,
        }
    }
}

/// An image as a registry holds it.
#[derive(Clone, Debug)]
pub struct Image {
    pub layers: Vec<Layer>,
    pub config: Vec<u8>,
    pub manifest: Vec<u8>,
    pub media_type: String,
}

impl Image {
    /// For the machine we run on, with what an image's `config` object says (`Cmd`, `Env`, …).
    pub fn new(layers: Vec<Layer>, config: Value) -> Image {
        Image::for_platform(layers, config, architecture(), "")
    }

    pub fn for_platform(layers: Vec<Layer>, config: Value, architecture: &str, variant: &str) -> Image {
        let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let history: Vec<Value> = layers
            .iter()
            .map(|_| json!({"created": "2020-09-13T12:26:40Z", "created_by": "tests"}))
            .collect();
        let mut document = json!({
            "architecture": architecture, "os": "linux", "created": "2020-09-13T12:26:40Z", "config": config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": history,
        });
        if !variant.is_empty() {
            document["variant"] = variant.into();
        }
        let config = document.to_string().into_bytes();
        let list: Vec<Value> = layers
            .iter()
            .map(|layer| {
                let mut descriptor = json!({"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size});
                if !layer.annotations.is_empty() {
                    descriptor["annotations"] = json!(layer.annotations);
                }
                descriptor
            })
            .collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": sha256(&config), "size": config.len()},
            "layers": list,
        });
        Image {
            layers,
            config,
            manifest: manifest.to_string().into_bytes(),
            media_type: MANIFEST.into(),
        }
    }

    /// Docker's own media types instead of OCI's.
    pub fn into_schema2(mut self) -> Image {
        let text = String::from_utf8_lossy(&self.manifest).into_owned();
        let text = text
            .replace(MANIFEST, SCHEMA2)
            .replace(CONFIG, "application/vnd.docker.container.image.v1+json")
            .replace(
                &format!("{LAYER}+gzip"),
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
            )
            .replace(LAYER, "application/vnd.docker.image.rootfs.diff.tar");
        self.manifest = text.into_bytes();
        self.media_type = SCHEMA2.into();
        self
    }

    /// An archive with plain layers, as `docker save` of 20.10 writes it.
    pub fn docker_archive(&self, tag: &str) -> Vec<u8> {
        let (mut tar, mut names) = (Tar::default(), Vec::new());
        for layer in &self.layers {
            let name = format!("{}/layer.tar", layer.diff_id.trim_start_matches("sha256:"));
            tar = tar.file(&name, 0o644, &layer.tar());
            names.push(name);
        }
        let config = format!("{}.json", self.id().trim_start_matches("sha256:"));
        let manifest = json!([{"Config": config, "RepoTags": [tag], "Layers": names}]).to_string();
        tar.file(&config, 0o644, &self.config)
            .file("manifest.json", 0o644, manifest.as_bytes())
            .bytes()
    }

    /// The manifest's digest.
    pub fn digest(&self) -> String {
        sha256(&self.manifest)
    }

    /// The image ID.
    pub fn id(&self) -> String {
        sha256(&self.config)
    }
}

/// The layer of an image with busybox in it, and a page for its web server; the static binary is Debian's.
pub fn busybox_layer() -> std::io::Result<Layer> {
    let binary = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .map(Path::new)
        .find(|path| path.exists())
        .ok_or_else(|| std::io::Error::other("no busybox here: install Debian's busybox-static"))?;
    let binary = std::fs::read(binary)?;
    let mut tar = Tar::default();
    for (name, mode) in [
        ("bin", 0o755),
        ("dev", 0o755),
        ("etc", 0o755),
        ("home", 0o755),
        ("proc", 0o555),
        ("root", 0o700),
        ("sys", 0o555),
        ("tmp", 0o1777),
        ("usr", 0o755),
        ("var", 0o755),
        ("www", 0o755),
    ] {
        tar = tar.dir(name, mode);
    }
    tar = tar.file("bin/busybox", 0o755, &binary);
    for applet in APPLETS {
        tar = tar.hard_link(&format!("bin/{applet}"), "bin/busybox");
    }
    tar = tar
        .file(
            "etc/passwd",
            0o644,
            b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n",
        )
        .file("etc/group", 0o644, b"root:x:0:\nusers:x:1000:user\n")
        .file("etc/not-executable", 0o644, b"no program\n")
        .file("www/index.html", 0o644, b"It runs.\n");
    Ok(Layer::gzip(&tar.bytes()))
}

/// What the tests call by name; `busybox NAME` gives the rest.
const APPLETS: &[&str] = &[
    "sh", "ash", "cat", "echo", "env", "false", "grep", "head", "hostname", "httpd", "id", "ip", "kill", "ls", "mkdir",
    "mount", "nc", "ping", "ps", "pwd", "rm", "sleep", "stat", "stty", "test", "touch", "true", "tty", "wc", "wget",
    "yes", "dd", "df", "date", "sync", "chmod", "chown", "mknod", "tail", "seq", "sed", "awk", "printf", "nslookup",
];

/// An image with busybox in it, that runs a shell.
pub fn busybox() -> std::io::Result<Image> {
    let config = json!({
        "Cmd": ["sh"],
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "FROM_IMAGE=yes"],
    });
    Ok(Image::new(vec![busybox_layer()?], config))
}

/// Go's name of the machine we run on.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `sha256:…` of some bytes.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
