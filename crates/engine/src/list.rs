//! Containers as `ps` lists them.

use crate::Engine;
use crate::container::{Record, State, status_line};
use crate::error::{Error, Result};
use crate::filter;
use api::container::{Summary, SummaryHostConfig, SummaryNetworks, ports_of};
use api::time::Time;
use std::collections::BTreeMap;

/// What a listing is limited to.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub all: bool,
    pub size: bool,
    /// The newest so many, whatever their state.
    pub limit: Option<usize>,
    pub filters: BTreeMap<String, Vec<String>>,
}

/// The filters that a listing knows.
pub const FILTERS: &[&str] = &[
    "ancestor",
    "before",
    "expose",
    "exited",
    "health",
    "id",
    "isolation",
    "is-task",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

/// All containers that pass, newest first.
pub fn list(engine: &Engine, options: &Options) -> Result<Vec<Summary>> {
    let mut records: Vec<Record> = engine.containers.all().iter().map(|c| c.record().clone()).collect();
    // Two of one moment are told apart by ID, so that the order is always the same.
    records.sort_by(|a, b| created(b).cmp(&created(a)).then_with(|| a.id.cmp(&b.id)));
    let test = Test::new(engine, options)?;
    let mut rows = Vec::new();
    for record in &records {
        if options.limit.is_some_and(|limit| rows.len() >= limit) {
            break;
        }
        if test.passes(engine, record) {
            rows.push(row(engine, record, options.size));
        }
    }
    Ok(rows)
}

fn created(record: &Record) -> Option<Time> {
    Time::parse(&record.disk.created)
}

struct Test<'a> {
    options: &'a Options,
    before: Option<Time>,
    since: Option<Time>,
    ancestors: Vec<String>,
    exited: Vec<i64>,
    /// Only tasks of a swarm: there are none.
    tasks: bool,
}

impl Test<'_> {
    fn new<'a>(engine: &Engine, options: &'a Options) -> Result<Test<'a>> {
        let first = |name: &str| options.filters.get(name).and_then(|v| v.first());
        let time_of = |name: &String| -> Result<Option<Time>> { Ok(created(&engine.containers.find(name)?.record())) };
        for status in options.filters.get("status").into_iter().flatten() {
            let known = [
                "created",
                "running",
                "paused",
                "restarting",
                "removing",
                "exited",
                "dead",
            ];
            if !known.contains(&status.as_str()) {
                return Err(Error::invalid(format!("invalid filter 'status={status}'")));
            }
        }
        for health in options.filters.get("health").into_iter().flatten() {
            if !["none", "starting", "healthy", "unhealthy"].contains(&health.as_str()) {
                return Err(Error::invalid(format!("invalid filter 'health={health}'")));
            }
        }
        for filter in ["publish", "expose"] {
            if let Some(port) = options
                .filters
                .get(filter)
                .and_then(|v| v.iter().find(|port| range_of(port).is_none()))
            {
                return Err(Error::invalid(format!(
                    "error while looking up for {filter} {port}: it is no port"
                )));
            }
        }
        let exited = options.filters.get("exited").into_iter().flatten();
        let ancestors = options.filters.get("ancestor").into_iter().flatten();
        Ok(Test {
            tasks: filter::flag(&options.filters, "is-task")? == Some(true),
            options,
            before: first("before").map(time_of).transpose()?.flatten(),
            since: first("since").map(time_of).transpose()?.flatten(),
            ancestors: ancestors
                .map(|name| crate::image::find(engine, name).map_or_else(|_| name.clone(), |id| id.0.to_string()))
                .collect(),
            exited: exited
                .map(|code| {
                    code.parse()
                        .map_err(|_| Error::invalid(format!("invalid filter 'exited={code}'")))
                })
                .collect::<Result<_>>()?,
        })
    }

    fn passes(&self, engine: &Engine, record: &Record) -> bool {
        let filters = &self.options.filters;
        let any = |name: &str, test: &dyn Fn(&String) -> bool| filters.get(name).is_none_or(|v| v.iter().any(test));
        let widening = self.options.all
            || self.options.limit.is_some()
            || ["status", "exited", "before", "since"]
                .iter()
                .any(|f| filters.contains_key(*f));
        let shown = record.is_running() || record.state == State::Restarting || widening;
        let health = record.health.as_ref().map_or("none", |h| h.status.as_str());
        let ports = &record.disk.network_settings.ports;
        let labels = record.disk.config.labels.clone().unwrap_or_default();
        let name = record.disk.name.as_str();
        shown
            && !self.tasks
            && filter::any_name(filters, "id", &[record.id.as_str()])
            && filter::any_name(filters, "name", &[name, name.trim_start_matches('/')])
            && any("status", &|status| record.status() == status)
            && any("health", &|wanted| health == wanted)
            && any("ancestor", &|_| {
                self.ancestors.iter().any(|a| descends(engine, record, a))
            })
            && any("exited", &|_| {
                record.state == State::Exited && self.exited.contains(&record.exit_code)
            })
            && any("network", &|net| {
                record.disk.network_settings.networks.iter().any(|(name, endpoint)| {
                    name == net
                        || endpoint
                            .as_ref()
                            .is_some_and(|e| !net.is_empty() && e.network_id.starts_with(net.as_str()))
                })
            })
            && any("volume", &|volume| {
                record
                    .disk
                    .mount_points
                    .values()
                    .any(|p| p.name == *volume || p.destination == *volume || p.source == *volume)
            })
            && any("publish", &|port| {
                ports.iter().any(|(key, list)| list.is_some() && same_port(key, port))
            })
            && any("expose", &|port| {
                record
                    .disk
                    .config
                    .exposed_ports
                    .iter()
                    .flatten()
                    .any(|(key, _)| same_port(key, port))
            })
            && filters
                .get("label")
                .is_none_or(|l| l.iter().all(|w| crate::image::matches_label(&labels, w)))
            && self
                .before
                .is_none_or(|before| created(record).is_some_and(|at| at < before))
            && self
                .since
                .is_none_or(|since| created(record).is_some_and(|at| at > since))
    }
}

/// `80`, `80/udp`, `80-90/tcp`: first, last, protocol.
fn range_of(text: &str) -> Option<(u16, u16, &str)> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (from, to) = range.split_once('-').unwrap_or((range, range));
    Some((from.parse().ok()?, to.parse().ok()?, protocol))
}

fn same_port(key: &str, wanted: &str) -> bool {
    match (range_of(key), range_of(wanted)) {
        (Some((port, _, protocol)), Some((from, to, wanted))) => protocol == wanted && (from..=to).contains(&port),
        _ => false,
    }
}

fn descends(engine: &Engine, record: &Record, ancestor: &str) -> bool {
    if record.disk.image == ancestor || record.disk.config.image == ancestor {
        return true;
    }
    let Ok(mut id) = crate::image::find(engine, &record.disk.image) else {
        return false;
    };
    while let Ok(Some(parent)) = engine.store.images.parent(&id) {
        if parent.0.as_str() == ancestor {
            return true;
        }
        id = parent;
    }
    false
}

fn row(engine: &Engine, record: &Record, size: bool) -> Summary {
    let image_id = record.disk.image.clone();
    // A name that stands for another image by now would mislead.
    let image = match crate::image::find(engine, &record.disk.config.image) {
        Ok(id) if id.0.as_str() == image_id => record.disk.config.image.clone(),
        _ => image_id.clone(),
    };
    let (size_rw, size_root_fs) = if size {
        crate::inspect::sizes(engine, record)
    } else {
        (None, None)
    };
    let settings = &record.disk.network_settings;
    let exposed = record
        .disk
        .config
        .exposed_ports
        .as_ref()
        .filter(|_| record.is_running());
    Summary {
        id: record.id.to_string(),
        names: vec![record.disk.name.clone()],
        image,
        image_id,
        command: command_of(record),
        created: created(record).map_or(0, |t| t.seconds),
        ports: if record.is_running() {
            ports_of(&settings.ports, exposed)
        } else {
            Vec::new()
        },
        size_rw: size_rw.unwrap_or(0),
        size_root_fs: size_root_fs.unwrap_or(0),
        labels: record.disk.config.labels.clone().unwrap_or_default(),
        state: record.status().into(),
        status: status_line(record, Time::now()),
        host_config: SummaryHostConfig {
            network_mode: record.host.network_mode.clone(),
            annotations: record.host.annotations.clone(),
        },
        network_settings: SummaryNetworks {
            networks: settings.networks.clone(),
        },
        mounts: crate::inspect::mounts_of(record),
    }
}

/// Path and arguments; those with blanks in quotes.
fn command_of(record: &Record) -> String {
    let quote = |word: &String| match word.contains(' ') {
        true => format!("'{word}'"),
        false => word.clone(),
    };
    let words: Vec<String> = record.disk.args.iter().map(quote).collect();
    format!("{} {}", record.disk.path, words.join(" "))
        .trim_end()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        assert!(same_port("80/tcp", "80") && same_port("80/tcp", "70-90/tcp") && !same_port("80/udp", "80"));
    }
}
