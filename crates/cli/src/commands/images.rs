//! `images`: lists images.

use super::formats::{self, choose};
use super::image_tree::{self, Canvas};
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};
use crate::rows::{self, Row, table_of};
use crate::terminal;
use crate::units::{ago, created_at, short_id};
use api::client::Request;
use api::image::Summary;
use api::progress::{human, human_precision};
use oci::reference::Reference;
use std::collections::BTreeMap;
use std::io::Write;
use std::rc::Rc;
use template::Value;

pub const COMMAND: Command = Command::new(
    &["image ls", "image list", "images"],
    "[OPTIONS] [REPOSITORY[:TAG]]",
    "List images",
    Args::AtMost(1),
    run,
)
.flags(&[&[
    Flag::bool("all", "Show all images (default hides intermediate images)").short('a'),
    Flag::bool("digests", "Show digests"),
    formats::FILTER,
    formats::TABLE,
    Flag::bool("no-trunc", "Don't truncate output"),
    Flag::bool("quiet", "Only show image IDs").short('q'),
    Flag::bool("tree", "List multi-platform images as a tree (EXPERIMENTAL)"),
]])
.examples(&["images", "images --filter dangling=true -q", "images --tree"]);

pub const TITLES: &[(&str, &str)] = &[
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("VirtualSize", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
];

const NONE: &str = "<none>";

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let trunc = !parsed.bool("no-trunc");
    let digests = parsed.bool("digests");
    let columns: &[&str] = match digests {
        true => &["Repository", "Tag", "Digest", "ID", "CreatedSince", "Size"],
        false => &["Repository", "Tag", "ID", "CreatedSince", "Size"],
    };
    let format = choose(cli, parsed, "imagesFormat", table_of(columns), "{{.ID}}");
    let mut lines = vec!["repository: {{.Repository}}", "tag: {{.Tag}}", "image_id: {{.ID}}"];
    if parsed.bool("quiet") {
        lines = vec!["image_id: {{.ID}}"];
    } else if digests {
        lines.insert(2, "digest: {{.Digest}}");
    }
    lines.extend(["created_at: {{.CreatedAt}}", "virtual_size: {{.Size}}"]);
    let format = formats::raw(format, parsed, &lines);
    let mut filters: BTreeMap<String, BTreeMap<String, bool>> = BTreeMap::new();
    for filter in parsed.list("filter") {
        if let Some((name, value)) = filter.split_once('=') {
            filters
                .entry(name.trim().to_lowercase())
                .or_default()
                .insert(value.trim().into(), true);
        }
    }
    if let Some(name) = parsed.args.first() {
        filters
            .entry("reference".into())
            .or_default()
            .insert(name.clone(), true);
    }
    let request = Request::get("/images/json")
        .flag("all", parsed.bool("all"))
        .query_unless_empty("filters", &formats::filters_of(&filters));
    if parsed.bool("tree") {
        return tree(cli, parsed, request);
    }
    let list: Vec<Summary> = cli.client.send(request)?.json()?;
    let needs_digest = digests || format.contains("{{.Digest}}");
    let rows: Vec<Rc<Row>> = list
        .iter()
        .flat_map(|image| rows(image, trunc, needs_digest, digests))
        .collect();
    rows::write(cli, &format, TITLES, &rows)
}

fn tree(cli: &Cli, parsed: &Parsed, request: Request) -> Result<(), Failure> {
    if !cli.client.speaks(47)? {
        let version = cli.client.version()?;
        return Err(Failure::new(format!(
            "\"--tree\" requires API version 1.47, but the Docker daemon API version is {version}"
        )));
    }
    let clashes = [
        ("quiet", parsed.bool("quiet")),
        ("no-trunc", parsed.bool("no-trunc")),
        ("show-digest", parsed.bool("digests")),
        ("format", parsed.given("format")),
    ];
    if let Some((name, _)) = clashes.iter().find(|(_, given)| *given) {
        return Err(Failure::new(format!("--{name} is not yet supported with --tree")));
    }
    let list: Vec<Summary> = cli.client.send(request.flag("manifests", true))?.json()?;
    let canvas = Canvas {
        width: terminal::size().map_or(80, |[_, width]| usize::try_from(width).unwrap_or(80)),
        terminal: terminal::is_output(),
    };
    let warning = match canvas.terminal {
        true => format!("\x1b[93m{}\x1b[0m", image_tree::WARNING),
        false => image_tree::WARNING.to_owned(),
    };
    let text = format!("{warning}\n{}", image_tree::draw(&list, parsed.bool("all"), canvas));
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

/// The rows of an image: one per tag, or per tag and digest, or one for an image without a name.
pub fn rows(image: &Summary, trunc: bool, needs_digest: bool, digest_rows: bool) -> Vec<Rc<Row>> {
    let dangling = |list: &[String], name: &str| list.is_empty() || list == [name];
    if dangling(&image.repo_tags, "<none>:<none>") && dangling(&image.repo_digests, "<none>@<none>") {
        return vec![row(image, NONE, NONE, NONE, trunc)];
    }
    let mut tags: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for reference in image.repo_tags.iter().filter_map(|name| Reference::parse(name).ok()) {
        if let Some(tag) = reference.tag() {
            tags.entry(reference.repository().familiar())
                .or_default()
                .push(tag.to_string());
        }
    }
    let mut digests: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for reference in image.repo_digests.iter().filter_map(|name| Reference::parse(name).ok()) {
        if let Some(digest) = reference.digest() {
            digests
                .entry(reference.repository().familiar())
                .or_default()
                .push(digest.as_str().to_string());
        }
    }
    let mut out = Vec::new();
    for (repository, tags) in &tags {
        let known = digests.remove(repository).unwrap_or_default();
        for tag in tags {
            if known.is_empty() || !needs_digest {
                out.push(row(image, repository, tag, NONE, trunc));
                continue;
            }
            out.extend(known.iter().map(|digest| row(image, repository, tag, digest, trunc)));
        }
    }
    for (repository, list) in &digests {
        if digest_rows {
            out.extend(list.iter().map(|digest| row(image, repository, NONE, digest, trunc)));
        } else {
            out.push(row(image, repository, NONE, "", trunc));
        }
    }
    out
}

fn row(image: &Summary, repository: &str, tag: &str, digest: &str, trunc: bool) -> Rc<Row> {
    let id = if trunc { short_id(&image.id) } else { &image.id };
    let size = |bytes: i64| {
        Value::str(if bytes < 0 {
            "N/A".into()
        } else {
            human_precision(bytes, 3)
        })
    };
    let exact = |bytes: i64| Value::str(if bytes < 0 { "N/A".into() } else { human(bytes) });
    let containers = if image.containers < 0 {
        "N/A".to_string()
    } else {
        image.containers.to_string()
    };
    let unique = if image.shared_size < 0 {
        -1
    } else {
        image.size - image.shared_size
    };
    Rc::new(Row {
        kind: "*formatter.imageContext",
        fields: vec![
            ("ID", Value::str(id)),
            ("Repository", Value::str(repository)),
            ("Tag", Value::str(tag)),
            ("Digest", Value::str(digest)),
            ("CreatedSince", Value::str(ago(image.created))),
            ("CreatedAt", Value::str(created_at(image.created))),
            ("Size", size(image.size)),
            ("Containers", Value::str(containers)),
            ("VirtualSize", exact(image.size)),
            ("SharedSize", exact(image.shared_size)),
            ("UniqueSize", exact(unique)),
        ],
        labels: None,
    })
}
