//! `network ls`: lists networks.

use super::formats::{self, choose, natural};
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};
use crate::rows::{self, Row, table_of};
use crate::units::short_id;
use api::client::Request;
use api::network::Network;
use api::time::Time;
use std::rc::Rc;
use template::{Value, time};

pub const COMMAND: Command = Command::new(
    &["network ls", "network list"],
    "[OPTIONS]",
    "List networks",
    Args::None,
    run,
)
.flags(&[&[
    formats::FILTER,
    formats::TABLE,
    Flag::bool("no-trunc", "Do not truncate the output"),
    Flag::bool("quiet", "Only display network IDs").short('q'),
]])
.examples(&["network ls --filter driver=bridge"]);

const TITLES: &[(&str, &str)] = &[
    ("ID", "NETWORK ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("IPv4", "IPV4"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("CreatedAt", "CREATED AT"),
];

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let format = choose(
        cli,
        parsed,
        "networksFormat",
        table_of(&["ID", "Name", "Driver", "Scope"]),
        "{{.ID}}",
    );
    let lines = [
        "network_id: {{.ID}}",
        "name: {{.Name}}",
        "driver: {{.Driver}}",
        "scope: {{.Scope}}",
    ];
    let format = formats::raw(format, parsed, &lines);
    let request = Request::get("/networks").query_unless_empty("filters", &formats::filters(parsed));
    let mut list: Vec<Network> = cli.client.send(request)?.json()?;
    list.sort_by(|a, b| natural(&a.name, &b.name));
    let trunc = !parsed.bool("no-trunc");
    let rows: Vec<Rc<Row>> = list.iter().map(|network| row(network, trunc)).collect();
    rows::write(cli, &format, TITLES, &rows)
}

fn row(network: &Network, trunc: bool) -> Rc<Row> {
    let texts = [
        (
            "ID",
            if trunc {
                short_id(&network.id).to_string()
            } else {
                network.id.clone()
            },
        ),
        ("Name", network.name.clone()),
        ("Driver", network.driver.clone()),
        ("Scope", network.scope.clone()),
        ("IPv4", network.enable_ipv4.to_string()),
        ("IPv6", network.enable_ipv6.to_string()),
        ("Internal", network.internal.to_string()),
        ("Labels", formats::labels(&network.labels)),
        ("CreatedAt", Time::parse(&network.created).map(time).unwrap_or_default()),
    ];
    let fields = texts.into_iter().map(|(name, text)| (name, Value::str(text))).collect();
    Rc::new(Row {
        kind: "*network.networkContext",
        fields,
        labels: Some(network.labels.clone()),
    })
}
