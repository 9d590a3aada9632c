//! A layer's directory under `overlay2/`, as Docker's overlay2 driver makes it.
//!
//! ```text
//! overlay2/<id>/           0710
//!   diff/                  0755  the layer's own files
//!   link                   26 characters: the layer's name in overlay2/l, a symlink to ../<id>/diff
//!   lower                  "l/<link>:l/<link>…", nearest first; absent in a base layer
//!   work/                  0700  for overlayfs; absent in a base layer
//!   committed              empty; appears when another layer is put on top
//!   merged/                0700  while mounted
//! ```

use crate::error::{Doing, Error, Result};
use crate::layout::Layout;
use crate::{durable, id};
use rustix::io::Errno;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

/// Most layers below one, as in Docker's driver.
const DEPTH_LIMIT: usize = 128;

/// Makes the directory of a new layer on top of another. Not durable: that is for whoever refers to it.
pub(crate) fn create(layout: &Layout, id: &str, below: Option<&str>) -> Result<()> {
    let lower = below.map(|below| lower_of_child(layout, below)).transpose()?;
    let directory = layout.overlay_layer(id);
    if !durable::mkdir(&directory, 0o710)? {
        return Err(Error::Conflict(format!(
            "create layer {}: it exists",
            directory.display()
        )));
    }
    let link = id::link();
    let link_path = layout.links().join(&link);
    let fill = || {
        durable::mkdir(&directory.join("diff"), 0o755)?;
        symlink(Path::new("..").join(id).join("diff"), &link_path).doing("create", &link_path)?;
        durable::write_unsynced(&directory.join("link"), link.as_bytes(), 0o644)?;
        match (below, lower) {
            (Some(below), Some(lower)) => connect(layout, &directory, below, &lower),
            _ => Ok(()),
        }
    };
    fill().inspect_err(|_| {
        // Here, because the link is known here: on a full device it may be all that there is.
        let _ = fs::remove_file(&link_path);
        let _ = fs::remove_dir_all(&directory);
    })
}

/// Puts a base layer's directory on top of another layer, durably.
pub(crate) fn put_on(layout: &Layout, id: &str, below: &str) -> Result<()> {
    let directory = layout.overlay_layer(id);
    connect(layout, &directory, below, &lower_of_child(layout, below)?)?;
    durable::sync_file(&directory.join("lower"))?;
    durable::sync_directory(&directory)
}

fn connect(layout: &Layout, directory: &Path, below: &str, lower: &str) -> Result<()> {
    durable::mkdir(&directory.join("work"), 0o700)?;
    let committed = layout.overlay_layer(below).join("committed");
    if !committed.exists() {
        match durable::write_unsynced(&committed, b"", 0o600) {
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::AlreadyExists => {}
            other => other?,
        }
    }
    durable::write_unsynced(&directory.join("lower"), lower.as_bytes(), 0o644)
}

/// Removes a layer's directory and its short link; what is missing is fine.
pub(crate) fn remove(layout: &Layout, id: &str) -> Result<()> {
    let directory = layout.overlay_layer(id);
    if let Some(link) = read_link(layout, id)? {
        let path = layout.links().join(link);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).doing("remove", path),
            _ => {}
        }
    }
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.doing("remove layer", &directory),
    }
}

/// Removes it as [`remove`] does, while the file system happens to commit in the middle of it: for the crash campaign.
pub(crate) fn remove_slowly(layout: &Layout, id: &str) -> Result<()> {
    let diff = layout.overlay_layer(id).join("diff");
    for entry in fs::read_dir(&diff).doing("list", &diff)? {
        let path = entry.doing("list", &diff)?.path();
        let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
        durable::sync_file_system(&diff)?;
    }
    remove(layout, id)
}

/// Says if a layer's directory has what it must have.
pub(crate) fn is_complete(layout: &Layout, id: &str) -> bool {
    let directory = layout.overlay_layer(id);
    directory.join("diff").is_dir() && directory.join("link").is_file()
}

/// The text of a layer's `lower`, empty for a base layer.
pub(crate) fn lower(layout: &Layout, id: &str) -> Result<String> {
    let path = layout.overlay_layer(id).join("lower");
    let Some(bytes) = durable::read(&path)? else {
        return Ok(String::new());
    };
    String::from_utf8(bytes).map_err(|_| Error::Invalid(format!("read {}: not text", path.display())))
}

/// The directories below a layer, nearest first, as absolute paths that do not go through `l/`.
pub(crate) fn lower_directories(layout: &Layout, id: &str) -> Result<Vec<PathBuf>> {
    let lower = lower(layout, id)?;
    let links = lower.split(':').filter(|link| !link.is_empty());
    links
        .map(|link| {
            let path = layout.overlay().join(link);
            let target = fs::read_link(&path).doing("read", &path)?;
            // `../<id>/diff`, from the directory the link is in.
            let target = target.strip_prefix("..").map(Path::to_owned).unwrap_or(target);
            Ok(layout.overlay().join(target))
        })
        .collect()
}

/// Whether layers, nearest first, show a directory at a path, with no link, whiteout or opaque directory on the way that
/// would have to be weighed. `false` says nothing.
pub(crate) fn has_plainly(layers: &[PathBuf], path: &Path) -> bool {
    'layers: for layer in layers {
        let mut at = layer.clone();
        for part in path.components().filter(|part| matches!(part, Component::Normal(_))) {
            let next = at.join(part);
            match fs::symlink_metadata(&next) {
                Ok(found) if found.is_dir() => at = next,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let shows_below = |directory: &Path| {
                        let opaque = rustix::fs::lgetxattr(directory, c"trusted.overlay.opaque", &mut [0u8; 8][..]);
                        matches!(opaque, Err(Errno::NODATA | Errno::NOTSUP))
                    };
                    let mut above = at.ancestors().take_while(|directory| *directory != layer);
                    if above.all(shows_below) {
                        continue 'layers;
                    }
                    return false;
                }
                _ => return false,
            }
        }
        return true;
    }
    false
}

/// A layer's name in `overlay2/l`. A missing link is made again, as Docker does after it was lost.
pub(crate) fn ensure_link(layout: &Layout, id: &str) -> Result<String> {
    let directory = layout.overlay_layer(id);
    let Some(link) = read_link(layout, id)? else {
        return Err(Error::NotFound(format!(
            "read {}: no such layer",
            directory.join("link").display()
        )));
    };
    let path = layout.links().join(&link);
    if fs::symlink_metadata(&path).is_err() {
        log::warn!("made lost link {} of layer {id} again", path.display());
        symlink(Path::new("..").join(id).join("diff"), &path).doing("create", &path)?;
    }
    Ok(link)
}

fn read_link(layout: &Layout, id: &str) -> Result<Option<String>> {
    let path = layout.overlay_layer(id).join("link");
    let Some(bytes) = durable::read(&path)? else {
        return Ok(None);
    };
    let text = String::from_utf8(bytes).ok().filter(|text| {
        // A name in a path: nothing but what Docker and we write.
        text.len() == 26 && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    });
    Ok(text)
}

fn lower_of_child(layout: &Layout, below: &str) -> Result<String> {
    let link = ensure_link(layout, below)?;
    let further = lower(layout, below)?;
    let text = if further.is_empty() {
        format!("l/{link}")
    } else {
        format!("l/{link}:{further}")
    };
    if text.split(':').count() > DEPTH_LIMIT {
        return Err(Error::Invalid("max depth exceeded".into()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_plainly_there() {
        let root = tempfile::tempdir().unwrap();
        let layers = ["top", "middle", "bottom"].map(|name| root.path().join(name));
        let make = |layer: usize, path: &str| fs::create_dir_all(layers[layer].join(path)).unwrap();
        make(0, "srv");
        make(1, "srv/data");
        make(2, "srv/app");
        make(2, "var/app");
        make(2, "opt/app");
        let set = |path: &Path| {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(path, c"trusted.overlay.opaque", b"y", flags)
        };
        if set(&layers[1].join("srv/data")).is_err() {
            println!("skipped: attributes of the system are not kept here");
            return;
        }
        symlink("/etc", layers[1].join("var")).unwrap();
        fs::write(layers[0].join("opt"), b"").unwrap();
        for (path, there) in [
            ("/", true),
            ("/srv", true),
            ("/srv/data", true),
            ("srv/app", true),
            ("/srv/app/none", false),
            ("/srv/data/none", false),
            // A link, a file.
            ("/var/app", false),
            ("/opt/app", false),
            ("/opt", false),
        ] {
            assert_eq!(has_plainly(&layers, Path::new(path)), there, "{path}");
        }
        // What is below an opaque directory is not shown.
        make(2, "srv/data/below");
        assert!(!has_plainly(&layers, Path::new("/srv/data/below")));
        set(&layers[0].join("srv")).unwrap();
        assert!(!has_plainly(&layers, Path::new("/srv/app")));
    }
}
