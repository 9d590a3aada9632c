//! `system df`: how much room images, containers and volumes take.

use super::formats::{self, choose};
use super::{images, ps, volume_ls};
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};
use crate::rows::{self, Row, render, table_of};
use api::container::Summary;
use api::progress::human;
use api::volume::Volume;
use std::rc::Rc;
use template::{Template, Type, Value};

pub const COMMAND: Command = Command::new(&["system df"], "[OPTIONS]", "Show docker disk usage", Args::None, run)
    .flags(&[&[
        formats::TABLE,
        Flag::bool("verbose", "Show detailed information on space usage").short('v'),
    ]])
    .examples(&["system df", "system df -v"]);

const TITLES: &[(&str, &str)] = &[
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];

#[derive(Default, json::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Usage {
    layers_size: i64,
    images: Vec<api::image::Summary>,
    containers: Vec<Summary>,
    volumes: Vec<Volume>,
    build_cache: Vec<Cache>,
}

#[derive(Default, json::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Cache {
    in_use: bool,
    shared: bool,
    size: i64,
}

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let usage: Usage = cli.client.get("/system/df")?;
    if parsed.bool("verbose") {
        let detail = |trunc| Detail::of(&usage, trunc);
        return match parsed.text("format") {
            "" | "table" => detail(true).tables(cli, &usage),
            format => detail(format.starts_with("table")).by_template(cli, format),
        };
    }
    let format = choose(
        cli,
        parsed,
        "",
        table_of(&["Type", "TotalCount", "Active", "Size", "Reclaimable"]),
        "",
    );
    let lines = [
        "type: {{.Type}}",
        "total: {{.TotalCount}}",
        "active: {{.Active}}",
        "size: {{.Size}}",
        "reclaimable: {{.Reclaimable}}",
    ];
    let format = formats::raw(format, parsed, &lines);
    rows::write(cli, &format, TITLES, &summary(&usage))
}

fn active(container: &Summary) -> bool {
    matches!(container.state.as_str(), "running" | "paused" | "restarting")
}

fn summary(usage: &Usage) -> Vec<Rc<Row>> {
    let row = |kind: &str, total: usize, active: usize, size: i64, reclaimable: i64, percent: bool| {
        let mut free = human(reclaimable);
        if percent && size > 0 {
            free.push_str(&format!(" ({}%)", i128::from(reclaimable) * 100 / i128::from(size)));
        }
        let texts = [
            ("Type", kind.to_string()),
            ("TotalCount", total.to_string()),
            ("Active", active.to_string()),
            ("Size", human(size)),
            ("Reclaimable", free),
        ];
        let fields = texts.into_iter().map(|(name, text)| (name, Value::str(text))).collect();
        Rc::new(Row {
            kind: "*formatter.diskUsageContext",
            fields,
            labels: None,
        })
    };
    let used: i64 = usage
        .images
        .iter()
        .filter(|image| image.containers != 0 && image.size != -1 && image.shared_size != -1)
        .map(|image| image.size - image.shared_size)
        .sum();
    let in_use = usage.images.iter().filter(|image| image.containers > 0).count();
    let written: i64 = usage.containers.iter().map(|container| container.size_rw).sum();
    let idle: i64 = usage
        .containers
        .iter()
        .filter(|container| !active(container))
        .map(|c| c.size_rw)
        .sum();
    let running = usage.containers.iter().filter(|container| active(container)).count();
    let sizes = || usage.volumes.iter().filter_map(|volume| volume.usage_data.as_ref());
    let all: i64 = sizes().map(|data| data.size.max(0)).sum();
    let referred: i64 = sizes()
        .filter(|data| data.ref_count != 0)
        .map(|data| data.size.max(0))
        .sum();
    let volumes_used = sizes().filter(|data| data.ref_count > 0).count();
    let cached: i64 = usage
        .build_cache
        .iter()
        .filter(|cache| !cache.shared)
        .map(|cache| cache.size)
        .sum();
    let caching: i64 = usage
        .build_cache
        .iter()
        .filter(|cache| cache.in_use && !cache.shared)
        .map(|cache| cache.size)
        .sum();
    let caches_used = usage.build_cache.iter().filter(|cache| cache.in_use).count();
    let free = usage.layers_size - used;
    vec![
        row("Images", usage.images.len(), in_use, usage.layers_size, free, true),
        row("Containers", usage.containers.len(), running, written, idle, true),
        row(
            "Local Volumes",
            usage.volumes.len(),
            volumes_used,
            all,
            all - referred,
            true,
        ),
        row(
            "Build Cache",
            usage.build_cache.len(),
            caches_used,
            cached,
            cached - caching,
            false,
        ),
    ]
}

/// Docker leaves the digest empty here, where `images` has `<none>`.
fn without_digest(mut row: Rc<Row>) -> Rc<Row> {
    let fields = Rc::get_mut(&mut row).map(|row| &mut row.fields);
    if let Some((_, digest)) = fields.and_then(|fields| fields.iter_mut().find(|(name, _)| *name == "Digest")) {
        *digest = Value::str("");
    }
    row
}

/// Every image, container and volume, a row each.
struct Detail {
    images: Vec<Rc<Row>>,
    containers: Vec<Rc<Row>>,
    volumes: Vec<Rc<Row>>,
}

impl Detail {
    fn of(usage: &Usage, trunc: bool) -> Detail {
        let images = usage.images.iter();
        let containers = usage.containers.iter().map(|container| Summary {
            size_root_fs: 0,
            ..container.clone()
        });
        Detail {
            images: images
                .filter_map(|image| images::rows(image, trunc, false, false).into_iter().next())
                .map(without_digest)
                .collect(),
            containers: containers.map(|container| ps::row(container, trunc)).collect(),
            volumes: usage.volumes.iter().map(volume_ls::row).collect(),
        }
    }

    fn tables(&self, cli: &Cli, usage: &Usage) -> Result<(), Failure> {
        let columns = [
            "Repository",
            "Tag",
            "ID",
            "CreatedSince",
            "VirtualSize",
            "SharedSize",
            "UniqueSize",
            "Containers",
        ];
        let format = table_of(&columns).replace("VirtualSize", "Size");
        let mut text = format!(
            "Images space usage:\n\n{}",
            render(&format, images::TITLES, &self.images)?
        );
        let format = table_of(&[
            "ID",
            "Image",
            "Command",
            "LocalVolumes",
            "Size",
            "RunningFor",
            "Status",
            "Names",
        ]);
        text.push_str(&format!(
            "\nContainers space usage:\n\n{}",
            render(&format, ps::TITLES, &self.containers)?
        ));
        let format = table_of(&["Name", "Links", "Size"]);
        text.push_str(&format!(
            "\nLocal Volumes space usage:\n\n{}",
            render(&format, volume_ls::TITLES, &self.volumes)?
        ));
        let cached: i64 = usage.build_cache.iter().map(|cache| cache.size).sum();
        text.push_str(&format!("\nBuild cache usage: {}\n\n", human(cached)));
        text.push_str("CACHE ID   CACHE TYPE   SIZE      CREATED   LAST USED   USAGE     SHARED\n");
        cli.print(&text)
    }

    /// One template over all lists. Like docker, it ends no line, and `table` only has it cut the IDs.
    fn by_template(self, cli: &Cli, format: &str) -> Result<(), Failure> {
        let body = match format.strip_prefix("table") {
            Some(body) => body,
            None if format == "json" => "{{json .}}",
            None => format,
        };
        let body = body.trim_matches(' ').replace("\\t", "\t").replace("\\n", "\n");
        let template = Template::parse(&body).map_err(|why| Failure::new(format!("template parsing error: {why}")))?;
        let lists = [
            ("Images", "*formatter.imageContext", self.images),
            ("Containers", "*formatter.ContainerContext", self.containers),
            ("Volumes", "*formatter.volumeContext", self.volumes),
            ("BuildCache", "*formatter.buildCacheContext", Vec::new()),
        ];
        let fields = lists.map(|(name, kind, rows)| {
            let rows = rows.into_iter().map(|row| Value::Object(row)).collect();
            (name, Value::List(Rc::new(Type::parse(kind)), Some(Rc::new(rows))))
        });
        let all = Value::structure("*formatter.diskUsageContext", fields);
        cli.print(&template.execute(&all).map_err(|(_, why)| Failure::new(why))?)
    }
}
