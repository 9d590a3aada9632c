//! What of a container goes into its log beside its output: its identity, a tag by a template, labels and variables.
//!
//! Labels come from images. In the journal they cannot take the place of what identifies a container, of the stream's
//! priority or the message: with `labels-regex=.*` an image could otherwise write into another container's log. (Docker
//! lets them.)

use crate::container::Record;
use regex_lite::Regex;
use std::collections::BTreeMap;
use std::rc::Rc;
use template::{Object, Template, Type, Value};

/// What is the driver's own in the journal, here and in the shim.
const OWN: &[&str] = &[
    "MESSAGE",
    "PRIORITY",
    "CONTAINER_ID",
    "CONTAINER_ID_FULL",
    "CONTAINER_NAME",
    "CONTAINER_TAG",
    "IMAGE_NAME",
    "SYSLOG_IDENTIFIER",
    "SYSLOG_TIMESTAMP",
    "CONTAINER_LOG_EPOCH",
    "CONTAINER_LOG_ORDINAL",
    "CONTAINER_PARTIAL_ID",
    "CONTAINER_PARTIAL_ORDINAL",
    "CONTAINER_PARTIAL_LAST",
    "CONTAINER_PARTIAL_MESSAGE",
];

/// Longer names of fields are not journald's (its `field_is_valid`).
const MAX_NAME: usize = 64;

/// Labels and variables that `labels`, `labels-regex`, `env` and `env-regex` name.
pub fn extra(record: &Record) -> Result<BTreeMap<String, String>, String> {
    let options = &record.host.log_config.config;
    let config = &record.disk.config;
    let labels = config.labels.iter().flatten().map(|(k, v)| (k.as_str(), v.as_str()));
    let labels: BTreeMap<&str, &str> = labels.collect();
    // Of two variables of one name the later counts.
    let variables = config.env.iter().flatten().filter_map(|entry| entry.split_once('='));
    let variables: BTreeMap<&str, &str> = variables.collect();
    let mut extra = BTreeMap::new();
    for (from, names, pattern) in [(&labels, "labels", "labels-regex"), (&variables, "env", "env-regex")] {
        let given = |option: &str| options.get(option).filter(|text| !text.is_empty());
        for name in given(names).into_iter().flat_map(|list| list.split(',')) {
            if let Some(value) = from.get(name) {
                extra.insert(name.to_owned(), (*value).to_owned());
            }
        }
        if let Some(pattern) = given(pattern) {
            let pattern = Regex::new(pattern).map_err(|why| format!("error parsing regexp: {why}: `{pattern}`"))?;
            let matching = from.iter().filter(|(name, _)| pattern.is_match(name));
            extra.extend(matching.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        }
    }
    Ok(extra)
}

/// What every line of a `json-file` log carries. A tag only if one was asked for.
pub fn json_file(record: &Record) -> Result<BTreeMap<String, String>, String> {
    let mut attributes = extra(record)?;
    let tag = tag(record, "")?;
    if !tag.is_empty() {
        attributes.insert("tag".into(), tag);
    }
    Ok(attributes)
}

/// The fields that every entry has in the journal.
pub fn journald(record: &Record) -> Result<BTreeMap<String, String>, String> {
    let mut fields = BTreeMap::new();
    for (name, value) in extra(record)? {
        let name = field_name(&name);
        if !name.is_empty() && name.len() <= MAX_NAME && !OWN.contains(&name.as_str()) {
            fields.insert(name, value);
        }
    }
    let tag = tag(record, "{{.ID}}")?;
    for (name, value) in [
        ("CONTAINER_ID", record.id.short()),
        ("CONTAINER_ID_FULL", record.id.as_str()),
        ("CONTAINER_NAME", record.name()),
        ("CONTAINER_TAG", &tag),
        ("IMAGE_NAME", &record.disk.config.image),
        ("SYSLOG_IDENTIFIER", &tag),
    ] {
        fields.insert(name.into(), value.into());
    }
    Ok(fields)
}

/// A name as the journal has it: upper case, digits and `_`, which it does not begin with.
fn field_name(name: &str) -> String {
    let letter = |c: char| match c.to_ascii_uppercase() {
        c @ ('A'..='Z' | '0'..='9') => c,
        _ => '_',
    };
    let name: String = name.chars().map(letter).collect();
    name.trim_start_matches('_').to_owned()
}

/// The tag that the option's template makes.
fn tag(record: &Record, default: &str) -> Result<String, String> {
    let given = record.host.log_config.config.get("tag").filter(|text| !text.is_empty());
    let template = given.map_or(default, String::as_str);
    let template = Template::named("log-tag", template)?;
    let info = Value::Object(Rc::new(Info(record.clone())));
    template.execute(&info).map_err(|(_, why)| why)
}

/// Docker's `logger.Info`: what a tag's template sees.
struct Info(Record);

impl Object for Info {
    fn type_name(&self) -> String {
        "*logger.Info".into()
    }

    fn field(&self, name: &str, _: &[Value]) -> Option<Result<Value, String>> {
        let (record, disk) = (&self.0, &self.0.disk);
        let map = |map: &BTreeMap<String, String>| {
            let values = map.iter().map(|(key, value)| (key.clone(), Value::str(value)));
            Value::Map(Rc::new(Type::String), Some(Rc::new(values.collect())))
        };
        let entrypoint = std::iter::once(disk.path.clone());
        let value = match name {
            "ID" => Value::str(record.id.short()),
            "FullID" | "ContainerID" => Value::str(record.id.as_str()),
            "Name" => Value::str(record.name()),
            "ContainerName" => Value::str(&disk.name),
            // Docker cuts the text, not the digest.
            "ImageID" => Value::str(disk.image.get(..12).unwrap_or(&disk.image)),
            "ImageFullID" | "ContainerImageID" => Value::str(&disk.image),
            "ImageName" | "ContainerImageName" => Value::str(&disk.config.image),
            "Command" => {
                let words: Vec<String> = entrypoint.chain(disk.args.iter().cloned()).collect();
                Value::str(words.join(" "))
            }
            "ContainerEntrypoint" => Value::str(&disk.path),
            "ContainerArgs" => Value::strings(disk.args.iter().cloned()),
            "ContainerEnv" => Value::strings(disk.config.env.iter().flatten().cloned()),
            "ContainerLabels" => map(&disk.config.labels.clone().unwrap_or_default()),
            "ContainerCreated" => Value::Time(api::time::Time::parse(&disk.created)?),
            "Config" => map(&record.host.log_config.config),
            "LogPath" => Value::str(&disk.log_path),
            "DaemonName" => Value::str("docker"),
            "Hostname" => Value::str(crate::info::hostname()),
            _ => return None,
        };
        Some(Ok(value))
    }

    fn names(&self) -> Vec<&'static str> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ContainerId;

    fn record(options: &[(&str, &str)]) -> Record {
        let id = ContainerId::parse(&"0123456789abcdef".repeat(4)).unwrap();
        let mut record = Record::new(id, Default::default(), Default::default());
        record.disk.name = "/web".into();
        record.disk.image = "sha256:056ab023393f".into();
        record.disk.config.image = "busybox:1".into();
        record.disk.path = "sh".into();
        record.disk.args = vec!["-c".into(), "x".into()];
        let labels = [
            ("a.b", "1"),
            ("__a-c", "2\nMESSAGE=x"),
            ("container_id_full", "f"),
            ("___", "3"),
        ];
        let owned = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        record.disk.config.labels = Some(owned(&labels));
        record.disk.config.env = Some(vec!["PATH=/bin".into(), "A=1".into(), "A=2=3".into(), "alone".into()]);
        record.host.log_config.config = owned(options);
        record
    }

    #[test]
    fn tags_are_dockers() {
        let tag = |text: &str| tag(&record(&[("tag", text)]), "{{.ID}}");
        for (text, want) in [
            ("", "0123456789ab"),
            ("plain", "plain"),
            ("{{.ID}}/{{.Name}}/{{.ImageName}}", "0123456789ab/web/busybox:1"),
            ("{{.ImageID}} {{.ImageFullID}}", "sha256:056ab sha256:056ab023393f"),
            (
                "{{.DaemonName}}{{with .ContainerLabels}}{{index . \"a.b\"}}{{end}}",
                "docker1",
            ),
            (
                "{{.Command}} {{index .ContainerEnv 0}} {{upper .Name}}",
                "sh -c x PATH=/bin WEB",
            ),
        ] {
            assert_eq!(tag(text).as_deref(), Ok(want), "{text}");
        }
        for (text, why) in [
            ("{{", "template: log-tag:1: unclosed action"),
            (
                "{{.Foo}}",
                "template: log-tag:1:2: executing \"log-tag\" at <.Foo>: can't evaluate field Foo in type *logger.Info",
            ),
        ] {
            assert_eq!(tag(text).as_ref().map_err(String::as_str), Err(why), "{text}");
        }
    }

    #[test]
    fn labels_and_variables() {
        let names = |options: &[(&str, &str)]| -> Vec<String> {
            let extra = extra(&record(options)).unwrap();
            extra.iter().map(|(k, v)| format!("{k}={v}")).collect()
        };
        assert!(names(&[]).is_empty());
        assert_eq!(names(&[("labels", "a.b,none"), ("env", "A")]), ["A=2=3", "a.b=1"]);
        assert_eq!(
            names(&[("labels-regex", "^a"), ("env-regex", "^P.*H$")]),
            ["PATH=/bin", "a.b=1"]
        );
        assert!(
            extra(&record(&[("env-regex", "[")]))
                .unwrap_err()
                .starts_with("error parsing regexp: ")
        );
    }

    #[test]
    fn no_label_takes_the_place_of_an_identity() {
        let fields = journald(&record(&[("labels-regex", ".*"), ("tag", "t")])).unwrap();
        let shown: Vec<String> = fields.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let id = "0123456789abcdef".repeat(4);
        assert_eq!(
            shown,
            [
                "A_B=1",
                "A_C=2\nMESSAGE=x",
                "CONTAINER_ID=0123456789ab",
                &format!("CONTAINER_ID_FULL={id}"),
                "CONTAINER_NAME=web",
                "CONTAINER_TAG=t",
                "IMAGE_NAME=busybox:1",
                "SYSLOG_IDENTIFIER=t",
            ]
        );
    }
}
