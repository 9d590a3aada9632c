//! `volume ls`: lists volumes.

use super::formats::{self, choose, natural};
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};
use crate::rows::{self, Row, table_of};
use api::client::Request;
use api::progress::human;
use api::volume::{List, Volume};
use std::rc::Rc;
use template::Value;

pub const COMMAND: Command = Command::new(
    &["volume ls", "volume list"],
    "[OPTIONS]",
    "List volumes",
    Args::None,
    run,
)
.flags(&[&[
    formats::FILTER,
    formats::TABLE,
    Flag::bool("quiet", "Only display volume names").short('q'),
]])
.examples(&["volume ls --filter dangling=true"]);

pub const TITLES: &[(&str, &str)] = &[
    ("Name", "VOLUME NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Labels", "LABELS"),
    ("Links", "LINKS"),
    ("Size", "SIZE"),
    ("Availability", "AVAILABILITY"),
    ("Group", "GROUP"),
    ("Status", "STATUS"),
];

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let format = choose(cli, parsed, "volumesFormat", table_of(&["Driver", "Name"]), "{{.Name}}");
    let format = formats::raw(format, parsed, &["name: {{.Name}}", "driver: {{.Driver}}"]);
    let request = Request::get("/volumes").query_unless_empty("filters", &formats::filters(parsed));
    let mut list: List = cli.client.send(request)?.json()?;
    list.volumes.sort_by(|a, b| natural(&a.name, &b.name));
    let rows: Vec<Rc<Row>> = list.volumes.iter().map(row).collect();
    rows::write(cli, &format, TITLES, &rows)?;
    for warning in list.warnings.iter().flatten() {
        cli.warn(format!("WARNING: {warning}"));
    }
    Ok(())
}

/// A volume's row.
pub fn row(volume: &Volume) -> Rc<Row> {
    const UNKNOWN: &str = "N/A";
    let labels = volume.labels.clone().unwrap_or_default();
    let (links, size) = match &volume.usage_data {
        None => (UNKNOWN.to_string(), UNKNOWN.to_string()),
        Some(data) => (data.ref_count.to_string(), human(data.size)),
    };
    let texts = [
        ("Name", volume.name.clone()),
        ("Driver", volume.driver.clone()),
        ("Scope", volume.scope.clone()),
        ("Mountpoint", volume.mountpoint.clone()),
        ("Labels", formats::labels(&labels)),
        ("Links", links),
        ("Size", size),
        ("Availability", UNKNOWN.to_string()),
        ("Group", UNKNOWN.to_string()),
        ("Status", UNKNOWN.to_string()),
    ];
    let fields = texts.into_iter().map(|(name, text)| (name, Value::str(text))).collect();
    Rc::new(Row {
        kind: "*formatter.volumeContext",
        fields,
        labels: Some(labels),
    })
}
