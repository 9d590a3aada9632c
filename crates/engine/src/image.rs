//! Images by name, by digest, by ID, by the beginning of an ID; and what people ask about them.

use crate::Engine;
use crate::error::{Error, Result};
use crate::pattern::Pattern;
use api::container::{ContainerConfig, GraphDriver};
use api::image::{Inspect, Metadata, RootFs, Summary};
use api::time::Time;
use json::Raw;
use oci::config::ImageConfig;
use oci::platform::Platform;
use oci::reference::Reference;
use std::collections::{BTreeMap, BTreeSet};
use store::ImageId;

/// Finds an image by what a user typed.
pub fn find(engine: &Engine, name: &str) -> Result<ImageId> {
    let missing = || Error::no_such_image(&with_tag(name));
    let hex = name.strip_prefix("sha256:").unwrap_or(name);
    if oci::reference::is_id(hex) {
        let id = ImageId(oci::digest::Digest::from_hex(hex).map_err(|_| missing())?);
        return engine.store.images.exists(&id).then_some(id).ok_or_else(missing);
    }
    if let Ok(reference) = Reference::parse(name) {
        let reference = reference.or_latest();
        // With both, the digest is what counts.
        let looked_up = match reference.digest() {
            Some(digest) => reference.with_digest(digest),
            None => reference.clone(),
        };
        if let Some(id) = engine.store.tags.get(&looked_up) {
            return Ok(id);
        }
    }
    if !hex.is_empty() && hex.len() < 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        let mut found = engine.store.images.with_prefix(hex);
        if found.len() == 1 {
            return Ok(found.remove(0));
        }
    }
    if Reference::parse(name).is_err() && !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Error::invalid("invalid reference format"));
    }
    Err(missing())
}

fn with_tag(name: &str) -> String {
    match Reference::parse(name) {
        Ok(reference) => reference.or_latest().familiar(),
        Err(_) => name.to_string(),
    }
}

/// The config of an image.
pub fn config_of(engine: &Engine, id: &ImageId) -> Result<ImageConfig> {
    Ok(engine.store.images.config(id)?)
}

/// Whether an image is one that a platform runs.
pub fn is_for(config: &ImageConfig, platform: &Platform) -> bool {
    let own = Platform {
        architecture: config.architecture.clone().unwrap_or_default(),
        os: config.os.clone().unwrap_or_default(),
        variant: config.variant.clone().unwrap_or_default(),
        ..platform.clone()
    };
    platform.rank(&own).is_some()
}

/// Finds an image, which must be one of a platform if one is named.
pub fn find_for(engine: &Engine, name: &str, platform: Option<&Platform>) -> Result<ImageId> {
    let id = find(engine, name)?;
    if let Some(platform) = platform {
        must_be_for(engine, &id, &with_tag(name), platform)?;
    }
    Ok(id)
}

/// Refuses an image that a platform does not run.
pub fn must_be_for(engine: &Engine, id: &ImageId, name: &str, platform: &Platform) -> Result<()> {
    let config = config_of(engine, id)?;
    if is_for(&config, platform) {
        return Ok(());
    }
    let of = |part: &Option<String>| part.clone().unwrap_or_default();
    Err(Error::not_found(format!(
        "image with reference {name} was found but does not match the specified platform: wanted {platform}, actual: {}/{}",
        of(&config.os),
        of(&config.architecture)
    )))
}

/// The labels of an image, as attributes of its events.
pub fn labels_of(config: &ImageConfig) -> BTreeMap<String, String> {
    config
        .config
        .as_ref()
        .and_then(|c| c.labels.clone())
        .unwrap_or_default()
}

/// Bytes of all layers of an image.
pub fn size_of(engine: &Engine, id: &ImageId) -> u64 {
    match engine.store.images.top_layer(id) {
        Ok(Some(top)) => engine.store.layers.chain_size(&top),
        _ => 0,
    }
}

/// How an image's config shows up in a container's.
pub fn run_config(config: &ImageConfig) -> ContainerConfig {
    let Some(run) = &config.config else {
        return ContainerConfig::default();
    };
    let set = |map: &Option<BTreeMap<String, serde_json::Value>>| {
        map.as_ref()
            .map(|map| map.keys().map(|key| (key.clone(), api::json::Empty {})).collect())
    };
    ContainerConfig {
        user: run.user.clone().unwrap_or_default(),
        exposed_ports: set(&run.exposed_ports),
        env: run.env.clone(),
        cmd: run.cmd.clone(),
        healthcheck: run.healthcheck.as_ref().map(|check| api::container::Healthcheck {
            test: check.test.clone(),
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        }),
        args_escaped: run.args_escaped,
        volumes: set(&run.volumes),
        working_dir: run.working_dir.clone().unwrap_or_default(),
        entrypoint: run.entrypoint.clone(),
        on_build: run.on_build.clone(),
        labels: run.labels.clone(),
        stop_signal: run.stop_signal.clone().unwrap_or_default(),
        stop_timeout: run.stop_timeout,
        shell: run.shell.clone(),
        ..ContainerConfig::default()
    }
}

/// Tags and digests of an image, as Docker lists them.
pub fn names_of(engine: &Engine, id: &ImageId) -> (Vec<String>, Vec<String>) {
    let (mut tags, mut digests) = (Vec::new(), Vec::new());
    for reference in engine.store.tags.of_image(id) {
        match reference.digest() {
            Some(_) => digests.push(reference.familiar()),
            None => tags.push(reference.familiar()),
        }
    }
    tags.sort();
    digests.sort();
    (tags, digests)
}

/// The answer to `inspect`. Old versions of the API had fields more.
pub fn inspect(engine: &Engine, name: &str, platform: Option<&Platform>, version: (u32, u32)) -> Result<Inspect> {
    let id = find_for(engine, name, platform)?;
    let config = config_of(engine, &id)?;
    let (repo_tags, repo_digests) = names_of(engine, &id);
    let size = i64::try_from(size_of(engine, &id)).unwrap_or(i64::MAX);
    let data = match engine.store.images.top_layer(&id)? {
        Some(top) => engine.store.graph_driver_data(&top)?,
        None => BTreeMap::new(),
    };
    let run = run_config(&config);
    let config_json = match version >= (1, 50) {
        true => config.config.as_ref().map(|run| Raw::of(&Published::of(run))),
        false => Some(Raw::of(&run)),
    };
    Ok(Inspect {
        id: id.0.to_string(),
        repo_tags,
        repo_digests,
        parent: engine
            .store
            .images
            .parent(&id)?
            .map(|p| p.0.to_string())
            .unwrap_or_default(),
        comment: comment_of(&config),
        created: config.created.clone().unwrap_or_default(),
        container: if version < (1, 45) {
            config.container.clone().unwrap_or_default()
        } else {
            String::new()
        },
        container_config: (version < (1, 45)).then(ContainerConfig::default),
        docker_version: config.docker_version.clone().unwrap_or_default(),
        author: config.author.clone().unwrap_or_default(),
        config: config_json,
        architecture: config.architecture.clone().unwrap_or_default(),
        variant: config.variant.clone().unwrap_or_default(),
        os: config.os.clone().unwrap_or_default(),
        os_version: config.os_version.clone().unwrap_or_default(),
        size,
        virtual_size: (version < (1, 44)).then_some(size),
        graph_driver: GraphDriver {
            data,
            name: "overlay2".into(),
        },
        root_fs: RootFs {
            kind: "layers".into(),
            layers: config.rootfs.diff_ids.iter().map(ToString::to_string).collect(),
        },
        metadata: Metadata {
            last_tag_time: engine
                .store
                .images
                .last_updated(&id)?
                .unwrap_or_else(|| api::time::ZERO.into()),
        },
    })
}

/// An image's run config as the API gives it since 1.50: what is empty is left out, in this order.
#[derive(json::Serialize)]
#[serde(rename_all = "PascalCase")]
struct Published<'a> {
    #[serde(skip_serializing_if = "empty_text")]
    user: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exposed_ports: &'a Option<BTreeMap<String, serde_json::Value>>,
    #[serde(skip_serializing_if = "empty_list")]
    env: &'a Option<Vec<String>>,
    #[serde(skip_serializing_if = "empty_list")]
    entrypoint: &'a Option<Vec<String>>,
    #[serde(skip_serializing_if = "empty_list")]
    cmd: &'a Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volumes: &'a Option<BTreeMap<String, serde_json::Value>>,
    #[serde(skip_serializing_if = "empty_text")]
    working_dir: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: &'a Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "empty_text")]
    stop_signal: &'a Option<String>,
    #[serde(skip_serializing_if = "api::json::is_zero")]
    args_escaped: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: &'a Option<oci::config::Healthcheck>,
    #[serde(skip_serializing_if = "empty_list")]
    on_build: &'a Option<Vec<String>>,
    #[serde(skip_serializing_if = "empty_list")]
    shell: &'a Option<Vec<String>>,
}

fn empty_text(text: &&Option<String>) -> bool {
    text.as_ref().is_none_or(String::is_empty)
}

fn empty_list(list: &&Option<Vec<String>>) -> bool {
    list.as_ref().is_none_or(Vec::is_empty)
}

impl Published<'_> {
    fn of(run: &oci::config::RunConfig) -> Published<'_> {
        Published {
            user: &run.user,
            exposed_ports: &run.exposed_ports,
            env: &run.env,
            entrypoint: &run.entrypoint,
            cmd: &run.cmd,
            volumes: &run.volumes,
            working_dir: &run.working_dir,
            labels: &run.labels,
            stop_signal: &run.stop_signal,
            args_escaped: run.args_escaped,
            healthcheck: &run.healthcheck,
            on_build: &run.on_build,
            shell: &run.shell,
        }
    }
}

fn comment_of(config: &ImageConfig) -> String {
    match &config.comment {
        Some(comment) if !comment.is_empty() => comment.clone(),
        _ => config
            .history
            .last()
            .and_then(|h| h.comment.clone())
            .unwrap_or_default(),
    }
}

/// What a listing is limited to.
#[derive(Debug, Default)]
pub struct ListOptions {
    pub all: bool,
    pub shared_size: bool,
    pub filters: BTreeMap<String, Vec<String>>,
}

/// The filters that a listing knows.
pub const FILTERS: &[&str] = &["dangling", "label", "before", "since", "reference", "until"];

/// All images, newest first.
pub fn list(engine: &Engine, options: &ListOptions, version: (u32, u32)) -> Result<Vec<Summary>> {
    let first = |name: &str| options.filters.get(name).and_then(|v| v.first());
    let dangling = match first("dangling").map(String::as_str) {
        None => None,
        Some("true" | "1") => Some(true),
        Some("false" | "0") => Some(false),
        Some(other) => return Err(Error::invalid(format!("invalid filter 'dangling=[{other}]'"))),
    };
    let created = |name: &String| -> Result<Time> { Ok(created_of(&config_of(engine, &find(engine, name)?)?)) };
    let before = first("before").map(created).transpose()?;
    let since = first("since").map(created).transpose()?;
    let until = first("until").map(|text| api::moment::parse_moment(text).map_err(Error::invalid));
    let until = until.transpose()?;
    let patterns = options.filters.get("reference");
    let patterns: Option<Vec<Pattern>> = patterns
        .map(|patterns| patterns.iter().map(|text| Pattern::parse(text)).collect())
        .transpose()?;
    let parents: BTreeSet<String> = if options.all {
        BTreeSet::new()
    } else {
        let ids = engine.store.images.list();
        ids.iter()
            .filter_map(|id| engine.store.images.parent(id).ok()?)
            .map(|id| id.0.to_string())
            .collect()
    };
    let mut rows = Vec::new();
    for id in engine.store.images.list() {
        // A damaged config is reported by its own store; the others are still listed.
        let Ok(config) = config_of(engine, &id) else { continue };
        let at = created_of(&config);
        let too_new = before.is_some_and(|b| at >= b) || until.is_some_and(|u| at >= u);
        if too_new || since.is_some_and(|s| at <= s) {
            continue;
        }
        let labels = labels_of(&config);
        if let Some(wanted) = options.filters.get("label")
            && !wanted.iter().all(|w| matches_label(&labels, w))
        {
            continue;
        }
        let (mut tags, mut digests) = names_of(engine, &id);
        if let Some(patterns) = &patterns {
            tags.retain(|name| patterns.iter().any(|p| matches_reference(p, name)));
            digests.retain(|name| patterns.iter().any(|p| matches_reference(p, name)));
            if tags.is_empty() && digests.is_empty() {
                continue;
            }
        }
        let untagged = tags.is_empty() && digests.is_empty();
        if dangling.is_some_and(|wanted| wanted != tags.is_empty())
            || untagged && !options.all && parents.contains(id.0.as_str())
        {
            continue;
        }
        if version < (1, 43) && untagged {
            tags.push("<none>:<none>".into());
            digests.push("<none>@<none>".into());
        }
        let size = i64::try_from(size_of(engine, &id)).unwrap_or(i64::MAX);
        rows.push(Summary {
            containers: -1,
            created: at.seconds,
            id: id.0.to_string(),
            labels: Some(labels).filter(|l| !l.is_empty()),
            parent_id: engine
                .store
                .images
                .parent(&id)?
                .map(|p| p.0.to_string())
                .unwrap_or_default(),
            repo_digests: digests,
            repo_tags: tags,
            shared_size: -1,
            size,
            virtual_size: (version < (1, 44)).then_some(size),
            manifests: Vec::new(),
        });
    }
    rows.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
    Ok(rows)
}

/// How an image came to be, newest step first.
pub fn history(engine: &Engine, name: &str, platform: Option<&Platform>) -> Result<Vec<api::image::History>> {
    let id = find_for(engine, name, platform)?;
    let config = config_of(engine, &id)?;
    let chain = match engine.store.images.top_layer(&id)? {
        Some(top) => engine.store.layers.chain(&top),
        None => Vec::new(),
    };
    // The chain comes topmost first, the history oldest first.
    let mut sizes: Vec<u64> = chain.iter().map(|(_, info)| info.size).collect();
    let mut steps = config.history.clone();
    steps.reverse();
    // What was made here has a parent for each step that was; of what came from elsewhere only the image is known.
    let mut image = Some(id);
    let mut rows = Vec::new();
    for step in &steps {
        let size = match step.empty_layer || sizes.is_empty() {
            true => 0,
            false => sizes.remove(0),
        };
        let tags = image.as_ref().map(|id| names_of(engine, id).0);
        rows.push(api::image::History {
            id: image.as_ref().map_or("<missing>".into(), |id| id.0.to_string()),
            created: step.created.as_deref().and_then(Time::parse).map_or(0, |t| t.seconds),
            created_by: step.created_by.clone().unwrap_or_default(),
            tags: tags.filter(|tags| !tags.is_empty()),
            size: i64::try_from(size).unwrap_or(i64::MAX),
            comment: step.comment.clone().unwrap_or_default(),
        });
        image = match image {
            Some(id) => engine
                .store
                .images
                .parent(&id)?
                .filter(|parent| engine.store.images.exists(parent)),
            None => None,
        };
    }
    Ok(rows)
}

fn created_of(config: &ImageConfig) -> Time {
    let created = config.created.as_deref().and_then(Time::parse);
    created.unwrap_or(Time { seconds: 0, nanos: 0 })
}

/// Whether labels satisfy `key` or `key=value`.
pub fn matches_label(labels: &BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|have| have == value),
        None => labels.contains_key(wanted),
    }
}

/// Whether a name matches a pattern of the `reference` filter, with or without its tag.
fn matches_reference(pattern: &Pattern, name: &str) -> bool {
    let bare = match name.split_once('@') {
        Some((repository, _)) => repository,
        None => match name.rfind(':') {
            Some(colon) if !name[colon..].contains('/') => &name[..colon],
            _ => name,
        },
    };
    pattern.matches(name) || pattern.matches(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_references() {
        for (pattern, name, expected) in [
            ("busybox", "busybox:latest", true),
            ("busybox:latest", "busybox:latest", true),
            ("busy*", "busybox:1", true),
            ("*box:*", "busybox:1", true),
            ("*", "a/b:1", false),
            ("a/*", "a/b:1", true),
            ("127.0.0.1:5000/*", "127.0.0.1:5000/x:1", true),
            ("bus", "busybox:latest", false),
            ("", "x", false),
        ] {
            let parsed = Pattern::parse(pattern).unwrap();
            assert_eq!(matches_reference(&parsed, name), expected, "{pattern} {name}");
        }
    }
}
