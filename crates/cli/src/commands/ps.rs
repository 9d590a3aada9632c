//! `ps`: lists containers.

use super::formats::{self, choose, labels};
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};
use crate::rows::{self, Row, table_of};
use crate::units::{ago, created_at, ellipsis, short_id};
use api::client::Request;
use api::container::{Port, Summary};
use api::progress::human_precision;
use api::quote::quote;
use oci::reference::Reference;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use template::{Object, Template, Type, Value};

pub const COMMAND: Command = Command::new(
    &["container ls", "container list", "container ps", "ps"],
    "[OPTIONS]",
    "List containers",
    Args::None,
    run,
)
.flags(&[&[
    Flag::bool("all", "Show all containers (default shows just running)").short('a'),
    formats::FILTER,
    formats::TABLE,
    Flag::int("last", "Show n last created containers (includes all states)")
        .short('n')
        .default("-1"),
    Flag::bool("latest", "Show the latest created container (includes all states)").short('l'),
    Flag::bool("no-trunc", "Don't truncate output"),
    Flag::bool("quiet", "Only display container IDs").short('q'),
    Flag::bool("size", "Display total file sizes").short('s'),
]])
.examples(&["ps -a --filter status=exited", "ps --format json"]);

pub const TITLES: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Names", "NAMES"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
];

const COLUMNS: [&str; 7] = ["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"];

const RAW: [&str; 9] = [
    "container_id: {{.ID}}",
    "image: {{.Image}}",
    "command: {{.Command}}",
    "created_at: {{.CreatedAt}}",
    "state: {{- pad .State 1 0}}",
    "status: {{- pad .Status 1 0}}",
    "names: {{.Names}}",
    "labels: {{- pad .Labels 1 0}}",
    "ports: {{- pad .Ports 1 0}}",
];

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let trunc = !parsed.bool("no-trunc");
    let mut columns = COLUMNS.to_vec();
    if parsed.bool("size") {
        columns.push("Size");
    }
    let mut format = choose(cli, parsed, "psFormat", table_of(&columns), "{{.ID}}");
    if parsed.bool("quiet") && !parsed.text("format").is_empty() {
        cli.warn("WARNING: Ignoring custom format, because both --format and --quiet are set.");
        if format != "raw" {
            format = "{{.ID}}".into();
        }
    }
    let mut lines = RAW.to_vec();
    if parsed.bool("size") {
        lines.push("size: {{.Size}}");
    }
    let format = formats::raw(format, parsed, &lines);
    let sizes = parsed.bool("size") || shows_size(&format)?;
    let last = match parsed.int("last") {
        _ if parsed.bool("latest") && !parsed.given("last") => 1,
        last => last.unwrap_or(-1),
    };
    let request = Request::get("/containers/json")
        .flag("all", parsed.bool("all"))
        .flag("size", sizes)
        .query_unless_empty("limit", &if last > 0 { last.to_string() } else { String::new() })
        .query_unless_empty("filters", &formats::filters(parsed));
    let list: Vec<Summary> = cli.client.send(request)?.json()?;
    let rows: Vec<Rc<Row>> = list.into_iter().map(|container| row(container, trunc)).collect();
    rows::write(cli, &format, TITLES, &rows)
}

/// Looks at the format before the daemon is asked, as docker does, with words of its own; says whether it shows
/// sizes, which are costly to find out.
fn shows_size(format: &str) -> Result<bool, Failure> {
    if format == "json" {
        return Ok(false);
    }
    let template = Template::parse(format).map_err(|why| Failure::new(format!("failed to parse template: {why}")))?;
    let probe = Rc::new(Probe {
        row: row(Summary::default(), true),
        asked: Cell::new(false),
    });
    match template.execute(&Value::Object(probe.clone())) {
        Ok(_) => Ok(probe.asked.get()),
        Err((_, why)) => Err(Failure::new(format!("failed to execute template: {why}"))),
    }
}

/// A row that notices when its size is looked at.
struct Probe {
    row: Rc<Row>,
    asked: Cell<bool>,
}

impl Object for Probe {
    fn type_name(&self) -> String {
        self.row.type_name()
    }

    fn field(&self, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
        self.asked.set(self.asked.get() || name == "Size");
        self.row.field(name, args)
    }

    fn names(&self) -> Vec<&'static str> {
        self.row.names()
    }
}

pub fn row(container: Summary, trunc: bool) -> Rc<Row> {
    let id = if trunc { short_id(&container.id) } else { &container.id };
    let mut names: Vec<String> = container
        .names
        .iter()
        .map(|name| name.strip_prefix('/').unwrap_or(name).to_string())
        .collect();
    if trunc && let Some(name) = names.iter().find(|name| !name.contains('/')) {
        names = vec![name.clone()];
    }
    let command = if trunc {
        ellipsis(&container.command, 20)
    } else {
        container.command.clone()
    };
    let mounts: Vec<String> = container
        .mounts
        .iter()
        .map(|mount| {
            if mount.name.is_empty() {
                mount.source.as_str()
            } else {
                mount.name.as_str()
            }
        })
        .map(|name| if trunc { ellipsis(name, 15) } else { name.to_string() })
        .collect();
    let size = human_precision(container.size_rw, 3);
    let size = match container.size_root_fs {
        0 => size,
        all => format!("{size} (virtual {})", human_precision(all, 3)),
    };
    let local = container.mounts.iter().filter(|mount| mount.driver == "local").count();
    let networks: Vec<&str> = container.network_settings.networks.keys().map(String::as_str).collect();
    Rc::new(Row {
        kind: "*formatter.ContainerContext",
        fields: vec![
            ("ID", Value::str(id)),
            ("Names", Value::str(names.join(","))),
            ("Image", Value::str(image(&container, trunc))),
            ("Command", Value::str(quote(&command))),
            ("CreatedAt", Value::str(created_at(container.created))),
            ("RunningFor", Value::str(ago(container.created))),
            ("Ports", Value::str(ports(container.ports.clone()))),
            ("State", Value::str(&container.state)),
            ("Status", Value::str(&container.status)),
            ("Size", Value::str(size)),
            ("Labels", Value::str(labels(&container.labels))),
            ("Mounts", Value::str(mounts.join(","))),
            ("LocalVolumes", Value::str(local.to_string())),
            ("Networks", Value::str(networks.join(","))),
            ("Platform", Value::Pointer(Rc::new(Type::parse("v1.Platform")), None)),
        ],
        labels: Some(container.labels),
    })
}

fn image(container: &Summary, trunc: bool) -> String {
    if container.image.is_empty() {
        return "<no image>".into();
    }
    if !trunc {
        return container.image.clone();
    }
    let short = short_id(&container.image_id);
    if !short.is_empty() && short == short_id(&container.image) {
        return short.to_string();
    }
    match Reference::parse(&container.image) {
        // The digest is too long to show; with a tag the tag says it.
        Ok(reference) if reference.digest().is_some() => match reference.tag() {
            Some(tag) => format!("{}:{tag}", reference.repository().familiar()),
            None => reference.repository().familiar(),
        },
        _ => container.image.clone(),
    }
}

/// Published and exposed ports, neighbours as ranges.
pub fn ports(mut ports: Vec<Port>) -> String {
    ports.sort_by(|a, b| {
        let key = |port: &Port| (port.private_port, port.ip.clone(), port.public_port, port.kind.clone());
        key(a).cmp(&key(b))
    });
    let join = |ip: &str, rest: String| {
        if ip.contains(':') {
            format!("[{ip}]:{rest}")
        } else {
            format!("{ip}:{rest}")
        }
    };
    let mut groups: BTreeMap<(String, String), (u16, u16)> = BTreeMap::new();
    let mut order: Vec<(String, String)> = Vec::new();
    let (mut shown, mut mapped) = (Vec::new(), Vec::new());
    let group = |key: &(String, String), first: u16, last: u16| {
        let range = if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        };
        match key.0.as_str() {
            "" => format!("{range}/{}", key.1),
            ip => format!("{}->{range}/{}", join(ip, range.clone()), key.1),
        }
    };
    for port in ports {
        if !port.ip.is_empty() && port.public_port != port.private_port {
            mapped.push(format!(
                "{}->{}/{}",
                join(&port.ip, port.public_port.to_string()),
                port.private_port,
                port.kind
            ));
            continue;
        }
        let key = (port.ip, port.kind);
        match groups.get_mut(&key) {
            None => {
                order.push(key.clone());
                groups.insert(key, (port.private_port, port.private_port));
            }
            Some((_, last)) if port.private_port == last.saturating_add(1) => *last = port.private_port,
            Some((first, last)) => {
                shown.push(group(&key, *first, *last));
                (*first, *last) = (port.private_port, port.private_port);
            }
        }
    }
    shown.extend(order.iter().map(|key| group(key, groups[key].0, groups[key].1)));
    shown.extend(mapped);
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_grouped() {
        let port = |ip: &str, private_port, public_port| Port {
            ip: ip.into(),
            private_port,
            public_port,
            kind: "tcp".into(),
        };
        for (list, want) in [
            (vec![port("", 80, 0)], "80/tcp"),
            (
                vec![port("", 80, 0), port("", 81, 0), port("", 83, 0)],
                "80-81/tcp, 83/tcp",
            ),
            (
                vec![port("0.0.0.0", 80, 8080), port("::", 80, 8080)],
                "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp",
            ),
            (
                vec![port("0.0.0.0", 80, 80), port("0.0.0.0", 81, 81)],
                "0.0.0.0:80-81->80-81/tcp",
            ),
        ] {
            assert_eq!(ports(list), want);
        }
    }
}
