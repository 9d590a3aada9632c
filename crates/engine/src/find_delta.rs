//! Finds the deltas that a pull can use: what refers to the manifest on its registry, against what is in the store.
//!
//! A list costs one request, or two from a registry that has no referrers API; each of at most [`ARTIFACTS`] artifacts
//! in it one more. Nothing is believed of what they say: a delta is as good as the layer that comes out of it.

use crate::Engine;
use oci::delta::{ARTIFACT, BASES, LAYER, SIZE, TARGET, WRITTEN};
use oci::digest::Digest;
use oci::manifest::{AnyManifest, Descriptor, Manifest};
use registry::Repository;
use std::collections::{HashMap, HashSet};

/// Artifacts that are looked into at most.
const ARTIFACTS: usize = 3;
/// Deltas that are kept for one layer: one to try, and others if it should be bad.
const KEPT: usize = 3;

/// Whether a pull uses deltas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Where one is there and smaller. It is no reason for a pull to fail, unless what it writes does not fit: then neither does the layer.
    #[default]
    Auto,
    Off,
    /// A pull that would have to fetch a layer for which there is a delta fails, and so does one without any delta.
    Only,
}

impl Mode {
    /// Reads `auto`, `off` or `only`.
    pub fn parse(text: &str) -> Option<Mode> {
        match text {
            "auto" => Some(Mode::Auto),
            "off" => Some(Mode::Off),
            "only" => Some(Mode::Only),
            _ => None,
        }
    }
}

/// A layer's delta on the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub descriptor: Descriptor,
    /// The diff IDs of the layers that it reads.
    pub bases: Vec<Digest>,
    /// Bytes that it says it writes; 0 if it does not say.
    pub written: u64,
}

/// A layer that is missing.
pub(crate) struct Missing<'a> {
    pub diff: &'a Digest,
    /// Bytes of its blob.
    pub bytes: u64,
}

/// The deltas for layers that are missing, by the layers' diff IDs, smallest first.
pub(crate) type Found = HashMap<Digest, Vec<Candidate>>;

/// Looks for deltas of a manifest's layers, and says how many artifacts of them the registry lists. Asks nobody if there is
/// nothing to apply a delta to.
pub(crate) fn find(
    engine: &Engine,
    repository: &Repository,
    subject: &Digest,
    missing: &[Missing<'_>],
) -> Result<(Found, usize), String> {
    // A layer that was found damaged is the base of nothing.
    let layers = engine.store.layers.list().into_iter();
    let whole = layers.filter(|(chain, _)| !engine.store.layers.is_damaged(chain));
    let have: HashSet<Digest> = whole.map(|(_, info)| info.diff_id.0).collect();
    let mut found = Found::new();
    if have.is_empty() || missing.is_empty() {
        return Ok((found, 0));
    }
    let list = repository.referrers(subject, ARTIFACT).map_err(|e| e.to_string())?;
    for artifact in worth_a_look(&list, &have) {
        let reference = oci::reference::Reference::parse(&repository.name().canonical())
            .map_err(|e| e.to_string())?
            .with_digest(&artifact.digest);
        let manifest = match repository.manifest(&reference) {
            Ok(fetched) => AnyManifest::parse(&fetched.media_type, &fetched.bytes).map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match manifest {
            Ok(AnyManifest::Image(manifest)) => take(&manifest, &have, missing, &mut found),
            Ok(AnyManifest::Index(_)) => log::warn!("delta {}: it is an index", artifact.digest),
            Err(error) => log::warn!("delta {}: {error}", artifact.digest),
        }
    }
    Ok((found, list.len()))
}

/// The artifacts whose bases are there, smallest first; then those that do not say, and those that have a part.
fn worth_a_look<'a>(list: &'a [Descriptor], have: &HashSet<Digest>) -> Vec<&'a Descriptor> {
    let mut ranked: Vec<(u8, u64, &Descriptor)> = Vec::new();
    for artifact in list {
        let rank = match artifact.annotations.get(BASES) {
            None => 1,
            Some(text) => match digests(text) {
                None => continue,
                Some(bases) => match bases.iter().filter(|base| have.contains(base)).count() {
                    all if all == bases.len() => 0,
                    0 => continue,
                    _ => 2,
                },
            },
        };
        let size = artifact.annotations.get(SIZE).and_then(|size| size.parse().ok());
        ranked.push((rank, size.unwrap_or(u64::MAX), artifact));
    }
    ranked.sort_by_key(|(rank, size, _)| (*rank, *size));
    ranked.truncate(ARTIFACTS);
    ranked.into_iter().map(|(.., artifact)| artifact).collect()
}

/// Takes an artifact's deltas that can be used.
fn take(artifact: &Manifest, have: &HashSet<Digest>, missing: &[Missing<'_>], found: &mut Found) {
    for delta in artifact.layers.iter().filter(|layer| layer.media_type == LAYER) {
        let annotation = |key: &str| delta.annotations.get(key).map(String::as_str);
        let Some(target) = annotation(TARGET).and_then(|text| Digest::parse(text).ok()) else {
            continue;
        };
        let smaller = |layer: &&Missing<'_>| *layer.diff == target && delta.size < layer.bytes;
        let Some(bases) = digests(annotation(BASES).unwrap_or_default()) else {
            continue;
        };
        if !missing.iter().any(|layer| smaller(&layer)) || !bases.iter().all(|base| have.contains(base)) {
            continue;
        }
        let candidates = found.entry(target).or_default();
        if candidates.iter().all(|known| known.descriptor.digest != delta.digest) {
            candidates.push(Candidate {
                descriptor: delta.clone(),
                bases,
                written: annotation(WRITTEN).and_then(|text| text.parse().ok()).unwrap_or(0),
            });
            candidates.sort_by_key(|candidate| candidate.descriptor.size);
            candidates.truncate(KEPT);
        }
    }
}

/// Digests between commas; an empty text is none of them.
fn digests(text: &str) -> Option<Vec<Digest>> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| Digest::parse(part).ok()).collect()
}

/// What to call the base of a delta: the name of an image that has its layers, or that of the lowest one.
pub(crate) fn base_name(engine: &Engine, bases: &[Digest]) -> String {
    let has_all = |id: &store::ImageId| {
        let top = engine.store.images.top_layer(id).ok().flatten();
        let chain = top.map(|top| engine.store.layers.chain(&top)).unwrap_or_default();
        let diffs: HashSet<Digest> = chain.into_iter().map(|(_, info)| info.diff_id.0).collect();
        bases.iter().all(|base| diffs.contains(base))
    };
    let tags = engine.store.tags.list();
    let named = tags.iter().filter(|(name, _)| name.digest().is_none());
    if let Some((name, _)) = named.clone().find(|(_, id)| has_all(id)) {
        return name.familiar();
    }
    match engine.store.images.list().iter().find(|id| has_all(id)) {
        Some(id) => id.0.short().to_string(),
        None => match bases {
            [] => "nothing".to_string(),
            [base] => base.short().to_string(),
            [base, ..] => format!("{} and others", base.short()),
        },
    }
}

/// Bytes as people say them: `19.1 MB`, `5.4 kB`, `120 B`.
pub(crate) fn megabytes(bytes: u64) -> String {
    let tenths = |unit: u64| (bytes.saturating_mul(10) + unit / 2) / unit;
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..100_000 => format!("{}.{} kB", tenths(1000) / 10, tenths(1000) % 10),
        _ => format!("{}.{} MB", tenths(1_000_000) / 10, tenths(1_000_000) % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn digest(n: u8) -> Digest {
        Digest::sha256([n; 32])
    }

    fn descriptor(n: u8, size: u64, annotations: &[(&str, String)]) -> Descriptor {
        let annotations = annotations.iter().map(|(key, value)| (key.to_string(), value.clone()));
        Descriptor {
            media_type: LAYER.into(),
            size,
            digest: digest(n),
            urls: Vec::new(),
            annotations: annotations.collect::<BTreeMap<_, _>>(),
            platform: None,
            artifact_type: None,
        }
    }

    #[test]
    fn artifacts_with_bases_that_are_there_come_first_and_the_smallest_before_others() {
        let have = HashSet::from([digest(1), digest(2)]);
        let artifact = |n, bases: &[u8], size: u64| {
            let bases: Vec<String> = bases.iter().map(|base| digest(*base).to_string()).collect();
            descriptor(n, 500, &[(BASES, bases.join(",")), (SIZE, size.to_string())])
        };
        let list = [
            artifact(10, &[3], 1),
            artifact(11, &[1, 3], 1),
            descriptor(12, 500, &[]),
            artifact(13, &[1], 900),
            artifact(14, &[2, 1], 800),
            descriptor(15, 500, &[(BASES, "nonsense".into())]),
        ];
        let chosen: Vec<Digest> = worth_a_look(&list, &have).iter().map(|d| d.digest.clone()).collect();
        assert_eq!(chosen, [digest(14), digest(13), digest(12)]);
        assert!(worth_a_look(&list[..1], &have).is_empty());
    }

    #[test]
    fn of_an_artifact_what_can_be_used_is_taken() {
        let have = HashSet::from([digest(1)]);
        let delta = |n, size: u64, target: u8, bases: &str| {
            let said = [
                (TARGET, digest(target).to_string()),
                (BASES, bases.into()),
                (WRITTEN, (size * 3).to_string()),
            ];
            descriptor(n, size, &said)
        };
        let base = digest(1).to_string();
        let artifact = Manifest {
            schema_version: 2,
            media_type: String::new(),
            config: descriptor(0, 2, &[]),
            layers: vec![
                delta(20, 90, 5, &base),
                delta(21, 80, 5, &base),
                delta(22, 10, 5, &digest(9).to_string()),
                delta(23, 100, 5, &base),
                delta(24, 7, 6, ""),
                delta(25, 7, 7, &base),
                descriptor(26, 1, &[]),
            ],
            annotations: BTreeMap::new(),
        };
        let (five, six) = (digest(5), digest(6));
        let missing = [
            Missing {
                diff: &five,
                bytes: 100,
            },
            Missing { diff: &six, bytes: 8 },
        ];
        let mut found = Found::new();
        take(&artifact, &have, &missing, &mut found);
        take(&artifact, &have, &missing, &mut found);
        let of = |layer: &Digest| -> Vec<Digest> { found[layer].iter().map(|c| c.descriptor.digest.clone()).collect() };
        assert_eq!(of(&five), [digest(21), digest(20)]);
        assert_eq!(found[&five][0].written, 240);
        assert_eq!(of(&six), [digest(24)], "it needs no base");
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn bytes_for_people() {
        let said = [0, 999, 1_000, 5_432, 99_999, 100_000, 594_616, 19_100_000].map(megabytes);
        let wanted = [
            "0 B", "999 B", "1.0 kB", "5.4 kB", "100.0 kB", "0.1 MB", "0.6 MB", "19.1 MB",
        ];
        assert_eq!(said, wanted);
    }
}
