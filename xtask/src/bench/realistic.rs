//! An image made of this machine's own files, in order of their names: three layers, as large as an application's.

use crate::command::Result;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tests::image::{Image, Layer, Tar};

const WANTED_BYTES: u64 = 290 << 20;
const WANTED_FILES: usize = 24_500;

/// Makes it and tells what it is; its files' bytes with it.
pub fn realistic() -> Result<(Image, u64)> {
    let mut all: Vec<(PathBuf, u64)> = Vec::new();
    for place in ["/usr/share", "/usr/lib", "/usr/bin", "/usr/include", "/usr/src"] {
        collect(Path::new(place), &mut all);
    }
    all.sort();
    // Small ones for their number, then whatever comes for the bytes.
    let mut chosen: Vec<(PathBuf, u64)> = Vec::new();
    let mut bytes = 0;
    for (path, size) in all.iter().filter(|(_, size)| *size < 16_384) {
        if chosen.len() >= WANTED_FILES - 500 {
            break;
        }
        bytes += size;
        chosen.push((path.clone(), *size));
    }
    for (path, size) in all.iter().filter(|(_, size)| (16_384..20_000_000).contains(size)) {
        if bytes >= WANTED_BYTES && chosen.len() >= WANTED_FILES {
            break;
        }
        if bytes < WANTED_BYTES || *size < 32_768 {
            bytes += size;
            chosen.push((path.clone(), *size));
        }
    }
    if bytes < WANTED_BYTES || chosen.len() < WANTED_FILES {
        return Err(format!(
            "only {} files with {bytes} bytes below /usr here: too few for a realistic image",
            chosen.len()
        ));
    }
    chosen.sort();
    let mut layers = Vec::new();
    // The second layer has most, as an application's does.
    let (first, rest) = chosen.split_at(chosen.len() / 4);
    let (second, third) = rest.split_at(rest.len() * 3 / 4);
    for part in [first, second, third] {
        let mut tar = Tar::default();
        let mut made: Vec<PathBuf> = Vec::new();
        for (path, _) in part {
            let inside = path.strip_prefix("/").unwrap_or(path);
            let parents: Vec<&Path> = inside
                .ancestors()
                .skip(1)
                .filter(|p| !p.as_os_str().is_empty())
                .collect();
            for parent in parents.into_iter().rev() {
                if !made.iter().any(|known| known == parent) {
                    tar = tar.dir(&parent.display().to_string(), 0o755);
                    made.push(parent.to_owned());
                }
            }
            let content = fs::read(path).map_err(|e| format!("read {}: {e}", path.display()))?;
            let mode = fs::metadata(path).map_or(0o644, |data| data.permissions().mode() & 0o755);
            tar = tar.file(&inside.display().to_string(), mode, &content);
        }
        layers.push(Layer::gzip(&tar.bytes()));
    }
    let compressed: u64 = layers.iter().map(|layer| layer.size).sum();
    println!(
        "image: {} files, {:.0} MB, {:.0} MB compressed, {} layers",
        chosen.len(),
        bytes as f64 / 1e6,
        compressed as f64 / 1e6,
        layers.len()
    );
    Ok((Image::new(layers, serde_json::json!({"Cmd": ["true"]})), bytes))
}

fn collect(directory: &Path, into: &mut Vec<(PathBuf, u64)>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(data) = fs::symlink_metadata(entry.path()) else {
            continue;
        };
        if data.is_dir() {
            collect(&entry.path(), into);
        } else if data.is_file() && entry.path().to_str().is_some() {
            into.push((entry.path(), data.len()));
        }
    }
}
