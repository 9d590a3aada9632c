//! Containers' own layers: a writable directory on an image, with Docker's init layer between.
//!
//! `layerdb/mounts/<container>/{mount-id,init-id,parent}` names two directories in `overlay2/`: `<mount-id>`, which the
//! container writes to, and `<mount-id>-init` below it, which holds the mount points a container needs. As with
//! layers, the record appears by one rename when everything it names is durable, and goes before that does.

use crate::changes::{self, Change};
use crate::error::{Doing, Error, Result};
use crate::layers::{self, ChainId, LayerId, Layers};
use crate::layout::Layout;
use crate::tree_tar::{self, Style};
use crate::{containers, durable, id, mount_points, overlay, walk};
use oci::digest::Digest;
use rustix::mount::{MountFlags, UnmountFlags};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::CString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// A container's layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RwLayer {
    /// The name of its directory in `overlay2/`.
    pub mount_id: String,
    /// The name of its init layer's, if it has one.
    pub init_id: Option<String>,
    /// The topmost layer of its image, if that has any.
    pub parent: Option<ChainId>,
}

/// A container's layer while the daemon runs.
struct Slot {
    layer: RwLayer,
    /// How many want it mounted. Held while mounting, so that two do not mount it twice.
    users: Arc<Mutex<u32>>,
}

/// Fills an init layer, given the mounted directory; what it makes there lies over the image's own files.
pub type Init<'a> = &'a mut dyn FnMut(&Path) -> Result<()>;

/// Most bytes of mount data with its NUL: the smallest page.
const MOUNT_DATA: usize = 4096;

/// The containers' layers of a data root.
pub struct RwLayers {
    layout: Layout,
    layers: Layers,
    slots: Mutex<HashMap<String, Slot>>,
}

impl std::fmt::Debug for RwLayers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RwLayers({})", self.layout.mounts().display())
    }
}

impl RwLayers {
    /// Reads all records; a damaged one is set aside.
    pub(crate) fn open(layout: &Layout, layers: &Layers) -> Result<RwLayers> {
        let mut slots = HashMap::new();
        let mounts = layout.mounts();
        for entry in fs::read_dir(&mounts).doing("list", &mounts)? {
            let entry = entry.doing("list", &mounts)?;
            let Some(name) = entry
                .file_name()
                .to_str()
                .filter(|name| !name.starts_with('.'))
                .map(str::to_owned)
            else {
                continue;
            };
            match read_record(&entry.path()) {
                Ok(layer) => {
                    if let Some(parent) = &layer.parent {
                        layers.add_container(parent);
                    }
                    slots.insert(
                        name,
                        Slot {
                            layer,
                            users: Arc::default(),
                        },
                    );
                }
                Err(error @ Error::Io { .. }) => {
                    log::error!("layer of container {name} counts as absent: {error}");
                    layers.be_uncertain();
                }
                Err(error) => durable::set_aside(&entry.path(), &error),
            }
        }
        Ok(RwLayers {
            layout: layout.clone(),
            layers: layers.clone(),
            slots: Mutex::new(slots),
        })
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.slots.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn find(&self, container: &str) -> Result<(RwLayer, Arc<Mutex<u32>>)> {
        let slots = self.slots();
        let slot = slots.get(container).ok_or_else(|| missing(container))?;
        Ok((slot.layer.clone(), slot.users.clone()))
    }

    /// Makes a container's layer on an image's topmost layer, durably. `init` fills the layer between; without it
    /// there is none.
    pub fn create(&self, container: &str, parent: Option<&LayerId>, init: Option<Init<'_>>) -> Result<RwLayer> {
        containers::component(container)?;
        if self.slots().contains_key(container) {
            return Err(Error::Conflict(format!(
                "create layer of container {container}: it exists"
            )));
        }
        let mount_id = id::long();
        let init_id = init.is_some().then(|| format!("{mount_id}-init"));
        let layer = RwLayer {
            mount_id,
            init_id,
            parent: parent.map(|parent| parent.chain_id().clone()),
        };
        let names = [Some(layer.mount_id.clone()), layer.init_id.clone()];
        names.iter().flatten().for_each(|name| self.layers.stage_name(name));
        let made = self.make(container, &layer, init);
        if made.is_err() {
            for name in names.iter().flatten() {
                let _ = overlay::remove(&self.layout, name);
            }
        } else {
            if let Some(parent) = &layer.parent {
                self.layers.add_container(parent);
            }
            self.slots().insert(
                container.to_owned(),
                Slot {
                    layer: layer.clone(),
                    users: Arc::default(),
                },
            );
        }
        names.iter().flatten().for_each(|name| self.layers.unstage_name(name));
        made.map_err(|error| error.within(format!("create layer of container {container}")))?;
        Ok(layer)
    }

    fn make(&self, container: &str, layer: &RwLayer, init: Option<Init<'_>>) -> Result<()> {
        let mut below = None;
        if let Some(parent) = &layer.parent {
            below = Some(
                self.layers
                    .info(parent)
                    .ok_or_else(|| layers::missing(parent))?
                    .cache_id,
            );
        }
        if let (Some(init_id), Some(init)) = (&layer.init_id, init) {
            overlay::create(&self.layout, init_id, below.as_deref())?;
            let merged = self.mount_layer(init_id)?;
            let filled = init(&merged);
            self.unmount_layer(init_id)?;
            filled?;
            below = Some(init_id.clone());
        }
        overlay::create(&self.layout, &layer.mount_id, below.as_deref())?;
        let tmp = self
            .layout
            .mounts()
            .join(format!("{}mount{}", durable::TMP, id::temporary()));
        let written = self.write_record(&tmp, layer).and_then(|()| {
            // One sync for both directories, what `init` made, and the record.
            durable::sync_file_system(&self.layout.mounts())?;
            durable::rename(&tmp, &self.layout.mount(container))
        });
        if written.is_err() {
            let _ = fs::remove_dir_all(&tmp);
        }
        written
    }

    fn write_record(&self, directory: &Path, layer: &RwLayer) -> Result<()> {
        durable::mkdir(directory, 0o755)?;
        durable::write_unsynced(&directory.join("mount-id"), layer.mount_id.as_bytes(), 0o644)?;
        if let Some(init) = &layer.init_id {
            durable::write_unsynced(&directory.join("init-id"), init.as_bytes(), 0o644)?;
        }
        match &layer.parent {
            Some(parent) => {
                durable::write_unsynced(&directory.join("parent"), parent.digest().as_str().as_bytes(), 0o644)
            }
            None => Ok(()),
        }
    }

    /// What a container's record says.
    pub fn get(&self, container: &str) -> Option<RwLayer> {
        self.slots().get(container).map(|slot| slot.layer.clone())
    }

    /// The containers that have a layer, sorted.
    pub fn list(&self) -> Vec<String> {
        let mut names: Vec<String> = self.slots().keys().cloned().collect();
        names.sort();
        names
    }

    /// Mounts a container's file system, or counts one more user of it, and says where it is. What an earlier daemon
    /// left mounted is taken over.
    pub fn mount(&self, container: &str) -> Result<PathBuf> {
        let (layer, users) = self.find(container)?;
        let mut users = lock(&users);
        let merged = self
            .mount_layer(&layer.mount_id)
            .map_err(|error| error.within(format!("mount container {container}")))?;
        *users += 1;
        Ok(merged)
    }

    /// Counts one user less, and unmounts after the last.
    pub fn unmount(&self, container: &str) -> Result<()> {
        let (layer, users) = self.find(container)?;
        let mut users = lock(&users);
        *users = users.saturating_sub(1);
        if *users == 0 {
            self.unmount_layer(&layer.mount_id)
        } else {
            Ok(())
        }
    }

    /// Unmounts what an earlier daemon left mounted and nobody uses; `running` names what is to stay. Collects errors.
    pub fn unmount_stale(&self, running: &HashSet<String>) -> Vec<Error> {
        let containers = self.list().into_iter().filter(|container| !running.contains(container));
        let results = containers.map(|container| {
            let (layer, users) = self.find(&container)?;
            let users = lock(&users);
            if *users == 0 {
                self.unmount_layer(&layer.mount_id)
            } else {
                Ok(())
            }
        });
        results.filter_map(Result::err).collect()
    }

    /// Removes a container's layer, mounted or not, and then its image's layers if only it needed them.
    pub fn remove(&self, container: &str) -> Result<()> {
        let (layer, users) = self.find(container)?;
        let _users = lock(&users);
        self.unmount_layer(&layer.mount_id)?;
        let names = [Some(layer.mount_id.clone()), layer.init_id.clone()];
        names.iter().flatten().for_each(|name| self.layers.stage_name(name));
        self.slots().remove(container);
        let mut result = durable::remove_tree_durable(&self.layout.mount(container)).map(drop);
        for name in names.iter().flatten() {
            if result.is_ok() {
                result = overlay::remove(&self.layout, name);
            }
            self.layers.unstage_name(name);
        }
        if let Some(parent) = &layer.parent {
            self.layers.drop_container(parent);
            result = result.and_then(|()| self.layers.remove_unused(parent).map(drop));
        }
        result.map_err(|error| error.within(format!("remove layer of container {container}")))
    }

    /// The containers that stand on a layer and are mounted, by whomever.
    pub fn mounted_on(&self, chain: &ChainId) -> Vec<String> {
        let slots = self.slots();
        let layers: Vec<(String, RwLayer)> = slots
            .iter()
            .map(|(id, slot)| (id.clone(), slot.layer.clone()))
            .collect();
        drop(slots);
        let stands = |layer: &RwLayer| {
            let below = layer.parent.iter().flat_map(|parent| self.layers.chain(parent));
            below.into_iter().any(|(id, _)| id == *chain)
        };
        let mounted = |layer: &RwLayer| {
            let merged = self.layout.overlay_layer(&layer.mount_id).join("merged");
            sys::fs::is_mount_point(&merged).unwrap_or(false)
        };
        let found = layers.into_iter().filter(|(_, layer)| stands(layer) && mounted(layer));
        found.map(|(id, _)| id).collect()
    }

    /// Makes a directory in a container's file system where there is nothing; a link leads inside of it. It is mounted only
    /// if what lies below does not plainly have the directory: unmounting what can be written to syncs it.
    pub fn make_directory(&self, container: &str, path: &str) -> Result<()> {
        let (layer, _) = self.find(container)?;
        let lower = overlay::lower_directories(&self.layout, &layer.mount_id)?;
        if overlay::has_plainly(&lower, Path::new(path)) {
            return Ok(());
        }
        let made = mount_points::make(&self.mount(container)?, &[path], &[], &[]);
        self.unmount(container).and(made)
    }

    /// The directory of what a container wrote.
    pub fn diff_path(&self, container: &str) -> Result<PathBuf> {
        Ok(self
            .layout
            .overlay_layer(&self.find(container)?.0.mount_id)
            .join("diff"))
    }

    /// Bytes of what a container wrote.
    pub fn size(&self, container: &str) -> Result<u64> {
        walk::size(&self.diff_path(container)?)
    }

    /// What a container changed, as `docker diff` shows it.
    pub fn changes(&self, container: &str) -> Result<Vec<Change>> {
        let (layer, _) = self.find(container)?;
        let diff = self.layout.overlay_layer(&layer.mount_id).join("diff");
        changes::between(&diff, &overlay::lower_directories(&self.layout, &layer.mount_id)?)
    }

    /// Writes what a container changed as a layer's tar, uncompressed.
    pub fn tar_diff(&self, container: &str, out: impl Write) -> Result<()> {
        tree_tar::write(&self.diff_path(container)?, Style::Layer, out)
    }

    /// Writes a container's whole file system as a tar, as `docker export` does.
    pub fn tar_all(&self, container: &str, out: impl Write) -> Result<()> {
        let merged = self.mount(container)?;
        let written = tree_tar::write(&merged, Style::Plain, out);
        self.unmount(container)?;
        written
    }

    /// `GraphDriver.Data` of a container's inspect.
    pub fn graph_driver_data(&self, container: &str) -> Result<BTreeMap<String, String>> {
        graph_driver_data(&self.layout, &self.find(container)?.0.mount_id)
    }

    /// The directories that records name.
    pub(crate) fn overlay_names(&self) -> HashSet<String> {
        let slots = self.slots();
        let names = slots
            .values()
            .flat_map(|slot| [Some(slot.layer.mount_id.clone()), slot.layer.init_id.clone()]);
        names.flatten().collect()
    }

    fn mount_layer(&self, id: &str) -> Result<PathBuf> {
        let lower = overlay::lower(&self.layout, id)?;
        let directory = self.layout.overlay_layer(id);
        if lower.is_empty() {
            // Nothing to put it over: the directory itself is the file system.
            return Ok(directory.join("diff"));
        }
        overlay::ensure_link(&self.layout, id)?;
        let merged = directory.join("merged");
        durable::mkdir(&merged, 0o700)?;
        if sys::fs::is_mount_point(&merged).doing("look at", &merged)? {
            return Ok(merged);
        }
        let index = if Path::new("/sys/module/overlay/parameters/index").exists() {
            "index=off,"
        } else {
            ""
        };
        let home = self.layout.overlay();
        let data = |home: &Path| {
            let lower: Vec<String> = lower
                .split(':')
                .map(|link| home.join(link).display().to_string())
                .collect();
            let (upper, work) = (home.join(id).join("diff"), home.join(id).join("work"));
            format!(
                "{index}lowerdir={},upperdir={},workdir={}",
                lower.join(":"),
                upper.display(),
                work.display()
            )
        };
        let mount = |data: String, merged: &Path| -> std::io::Result<()> {
            let data = CString::new(data)?;
            Ok(rustix::mount::mount(
                "overlay",
                merged,
                "overlay",
                MountFlags::empty(),
                Some(data.as_c_str()),
            )?)
        };
        let absolute = data(&home);
        let mounted = if absolute.len() < MOUNT_DATA {
            mount(absolute, &merged)
        } else {
            // 128 layers fit only by their short names relative to where they are.
            let short = data(Path::new(""));
            let merged = Path::new(id).join("merged");
            sys::fs::in_directory(&home, move || mount(short, &merged))
        };
        if mounted.is_err() {
            let _ = fs::remove_dir(&merged);
        }
        mounted.doing("mount overlay at", &merged)?;
        Ok(merged)
    }

    fn unmount_layer(&self, id: &str) -> Result<()> {
        let merged = self.layout.overlay_layer(id).join("merged");
        // Until nothing is mounted there: a crash may have left it mounted twice.
        while merged.is_dir() && sys::fs::is_mount_point(&merged).doing("look at", &merged)? {
            rustix::mount::unmount(&merged, UnmountFlags::DETACH).doing("unmount", &merged)?;
        }
        let _ = fs::remove_dir(&merged);
        Ok(())
    }
}

/// `GraphDriver.Data` of the layer in a directory of `overlay2/`.
pub(crate) fn graph_driver_data(layout: &Layout, id: &str) -> Result<BTreeMap<String, String>> {
    let directory = layout.overlay_layer(id);
    let mut data = BTreeMap::new();
    for (key, name) in [("MergedDir", "merged"), ("UpperDir", "diff"), ("WorkDir", "work")] {
        data.insert(key.to_owned(), directory.join(name).display().to_string());
    }
    let lower = overlay::lower_directories(layout, id)?;
    if !lower.is_empty() {
        let lower: Vec<String> = lower.iter().map(|path| path.display().to_string()).collect();
        data.insert("LowerDir".to_owned(), lower.join(":"));
    }
    Ok(data)
}

fn lock(users: &Mutex<u32>) -> MutexGuard<'_, u32> {
    users.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn missing(container: &str) -> Error {
    Error::NotFound(format!("layer of container {container} does not exist"))
}

fn read_record(directory: &Path) -> Result<RwLayer> {
    let bad = |name: &str| Error::Invalid(format!("read {}: missing or damaged", directory.join(name).display()));
    let field = |name: &str| -> Result<Option<String>> {
        let bytes = durable::read(&directory.join(name))?;
        bytes
            .map(|bytes| {
                String::from_utf8(bytes)
                    .map(|text| text.trim().to_owned())
                    .map_err(|_| bad(name))
            })
            .transpose()
    };
    let mount_id = field("mount-id")?
        .filter(|text| id::is_long(text))
        .ok_or_else(|| bad("mount-id"))?;
    let init_id = field("init-id")?;
    if init_id
        .as_ref()
        .is_some_and(|init| init.strip_suffix("-init").is_none_or(|id| !id::is_long(id)))
    {
        return Err(bad("init-id"));
    }
    let parent = field("parent")?
        .map(|text| Digest::parse(&text).map_err(|_| bad("parent")))
        .transpose()?;
    Ok(RwLayer {
        mount_id,
        init_id,
        parent: parent.map(ChainId::from_digest),
    })
}
