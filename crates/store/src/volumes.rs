//! Named volumes of the `local` driver: `volumes/<name>/_data`, as Docker lays them out.
//!
//! Docker keeps labels in `volumes/metadata.db`, a bolt database, which is read for volumes that Docker made and stays as
//! it is; we keep them in `volume.json` beside `_data`, where Docker does not look. `opts.json` is Docker's own. A volume
//! appears and goes by one rename.

use crate::error::{Doing, Error, Result};
use crate::volume_mounts::Held;
use crate::{durable, id};
use json::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

/// A volume as it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    pub name: String,
    /// Where its files are.
    pub data: PathBuf,
    pub labels: BTreeMap<String, String>,
    /// `type`, `device`, `o`: what to mount at `data` while it is in use; empty for an ordinary volume.
    pub options: BTreeMap<String, String>,
    pub created: SystemTime,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Record {
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    options: BTreeMap<String, String>,
}

/// A volume in Docker's database. Source: Docker's `volume/service/db.go`, 20.10 to 28.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Dockers {
    name: String,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    options: Option<BTreeMap<String, String>>,
}

/// Docker's `opts.json`.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Options {
    mount_type: String,
    mount_opts: String,
    mount_device: String,
    quota: Quota,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Quota {
    size: u64,
}

/// The volumes of a data root.
#[derive(Debug)]
pub struct Volumes {
    root: PathBuf,
    writing: Mutex<()>,
    /// What Docker's database says of volumes, by name.
    dockers: BTreeMap<String, Record>,
    pub(crate) held: Held,
}

impl Volumes {
    pub(crate) fn open(root: PathBuf) -> Volumes {
        Volumes {
            dockers: dockers(&root.join("metadata.db")),
            root,
            writing: Mutex::new(()),
            held: Held::default(),
        }
    }

    /// Makes a volume, durably; one that is there is returned as it is, with true.
    pub fn create(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
        options: &BTreeMap<String, String>,
    ) -> Result<(Volume, bool)> {
        check_name(name)?;
        let mount = check_options(options)?;
        let _writing = self.writing.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(volume) = self.get(name)? {
            return Ok((volume, true));
        }
        let tmp = self.root.join(format!("{}volume{}", durable::TMP, id::temporary()));
        let made = self
            .fill(name, &tmp, labels, options, mount.as_ref())
            .and_then(|()| durable::rename(&tmp, &self.root.join(name)));
        if let Err(error) = made {
            let _ = fs::remove_dir_all(&tmp);
            return Err(error.within(format!("create volume {name}")));
        }
        let volume = self.get(name)?.ok_or_else(|| missing(name))?;
        Ok((volume, false))
    }

    fn fill(
        &self,
        name: &str,
        directory: &Path,
        labels: &BTreeMap<String, String>,
        options: &BTreeMap<String, String>,
        mount: Option<&Options>,
    ) -> Result<()> {
        durable::mkdir(directory, 0o701)?;
        durable::mkdir(&directory.join("_data"), 0o755)?;
        let write = |name: &str, json: Vec<u8>| durable::write_new(&directory.join(name), &json, 0o600);
        if let Some(mount) = mount {
            write("opts.json", json::to_vec(mount))?;
        }
        // Also an empty one, where Docker's database would have a word about an earlier volume of that name.
        if !labels.is_empty() || !options.is_empty() || self.dockers.contains_key(name) {
            let record = Record {
                labels: labels.clone(),
                options: options.clone(),
            };
            write("volume.json", json::to_vec(&record))?;
        }
        durable::sync_directory(directory)
    }

    /// A volume, if it is there.
    pub fn get(&self, name: &str) -> Result<Option<Volume>> {
        if check_name(name).is_err() {
            return Ok(None);
        }
        let directory = self.root.join(name);
        let data = directory.join("_data");
        let metadata = match fs::metadata(&data) {
            // Beside the volumes lie files of Docker's: its database, a device node for quotas.
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(None);
            }
            other => other.doing("look at", &data)?,
        };
        // The directory's own time: `_data` changes with the volume's use.
        let created = fs::metadata(&directory).and_then(|directory| directory.modified());
        let created = created.or_else(|_| metadata.modified()).doing("look at", &directory)?;
        let own: Option<Record> = read_json(&directory.join("volume.json"))?;
        let mut record = own.or_else(|| self.dockers.get(name).cloned()).unwrap_or_default();
        if record.options.is_empty()
            && let Some(docker) = read_json::<Options>(&directory.join("opts.json"))?
        {
            let texts = [
                ("type", docker.mount_type),
                ("o", docker.mount_opts),
                ("device", docker.mount_device),
            ];
            let set = texts.into_iter().filter(|(_, text)| !text.is_empty());
            record.options = set.map(|(key, text)| (key.to_owned(), text)).collect();
        }
        Ok(Some(Volume {
            name: name.to_owned(),
            data,
            labels: record.labels,
            options: record.options,
            created,
        }))
    }

    /// All volumes, sorted by name.
    pub fn list(&self) -> Result<Vec<Volume>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.root).doing("list", &self.root)? {
            names.extend(entry.doing("list", &self.root)?.file_name().into_string().ok());
        }
        names.sort();
        let volumes = names.iter().map(|name| self.get(name).transpose());
        volumes.flatten().collect()
    }

    /// Bytes of the files in a volume.
    pub fn size(&self, name: &str) -> Result<u64> {
        check_name(name)?;
        crate::walk::size(&self.root.join(name).join("_data"))
    }

    /// Removes a volume with its files.
    pub fn remove(&self, name: &str) -> Result<()> {
        check_name(name)?;
        let _writing = self.writing.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let data = self.root.join(name).join("_data");
        if data.is_dir() && sys::fs::is_mount_point(&data).doing("look at", &data)? {
            return Err(Error::Conflict(format!(
                "remove volume {name}: {} is mounted",
                data.display()
            )));
        }
        let removed = durable::remove_tree_durable(&self.root.join(name));
        if removed.map_err(|error| error.within(format!("remove volume {name}")))? {
            Ok(())
        } else {
            Err(missing(name))
        }
    }
}

/// Reads Docker's database of volumes; what cannot be read is reported and counts as absent.
fn dockers(path: &Path) -> BTreeMap<String, Record> {
    let read = || -> Result<BTreeMap<String, Record>> {
        match fs::metadata(path) {
            Ok(data) if data.len() <= oci::bolt::LARGEST => {}
            Ok(data) => return Err(Error::Invalid(format!("it has {} bytes", data.len()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(error).doing("look at", path),
        }
        let bytes = fs::read(path).doing("read", path)?;
        let bad = |error: oci::bolt::BoltError| Error::Invalid(error.to_string());
        let database = oci::bolt::Database::open(&bytes).map_err(bad)?;
        let pairs = database.bucket("volumes").map_err(bad)?.unwrap_or_default();
        let volumes = pairs
            .into_iter()
            .filter_map(|(_, json)| json::from_slice::<Dockers>(json).ok());
        let record = |volume: Dockers| Record {
            labels: volume.labels.unwrap_or_default(),
            options: volume.options.unwrap_or_default(),
        };
        Ok(volumes.map(|volume| (volume.name.clone(), record(volume))).collect())
    };
    read().unwrap_or_else(|error| {
        log::error!(
            "labels of Docker's volumes are not taken over: read {}: {error}",
            path.display()
        );
        BTreeMap::new()
    })
}

fn missing(name: &str) -> Error {
    Error::NotFound(format!("get {name}: no such volume"))
}

fn read_json<T: json::Deserialize>(path: &Path) -> Result<Option<T>> {
    let Some(bytes) = durable::read(path)? else {
        return Ok(None);
    };
    match json::from_slice(&bytes) {
        Ok(value) => Ok(Some(value)),
        Err(error) => {
            durable::set_aside(path, &error);
            Ok(None)
        }
    }
}

/// Refuses what Docker refuses as the name of a local volume, in its words.
pub fn check_name(name: &str) -> Result<()> {
    if name.len() == 1 {
        return Err(Error::Invalid(
            "volume name is too short, names should be at least two alphanumeric characters".into(),
        ));
    }
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    if first && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')) {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "{name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. \
         If you intended to pass a host directory, use absolute path"
    )))
}

fn check_options(options: &BTreeMap<String, String>) -> Result<Option<Options>> {
    if options.is_empty() {
        return Ok(None);
    }
    let mut mount = Options::default();
    for (key, value) in options {
        match key.as_str() {
            "type" => mount.mount_type.clone_from(value),
            "o" => mount.mount_opts.clone_from(value),
            "device" => mount.mount_device.clone_from(value),
            _ => return Err(Error::Invalid(format!("invalid option: {key:?}"))),
        }
    }
    if mount.mount_device.is_empty() != mount.mount_type.is_empty() {
        let key = if mount.mount_device.is_empty() {
            "device"
        } else {
            "type"
        };
        return Err(Error::Invalid(format!("missing required option: {key:?}")));
    }
    Ok(Some(mount))
}
