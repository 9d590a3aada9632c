//! The Dockerfile instructions that `commit --change` and `import --change` take, applied to a config. Pure.
//!
//! Source: Docker's list of them (`CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL ONBUILD STOPSIGNAL USER VOLUME WORKDIR`) and its
//! grammar: a JSON list is the exec form, words may be quoted, `\` takes the next character as it is, `$NAME` and
//! `${NAME}` are the config's own environment.

use crate::error::{Error, Result};
use api::container::{ContainerConfig, Healthcheck};
use api::json::Empty;
use std::collections::BTreeMap;

/// Applies each change in turn.
pub fn apply(config: &mut ContainerConfig, changes: &[String]) -> Result<()> {
    for line in changes.iter().flat_map(|change| change.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        one(config, &name.to_ascii_uppercase(), rest.trim())?;
    }
    Ok(())
}

fn one(config: &mut ContainerConfig, name: &str, rest: &str) -> Result<()> {
    let known = [
        "CMD",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "HEALTHCHECK",
        "LABEL",
        "ONBUILD",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
        "WORKDIR",
    ];
    if !known.contains(&name) {
        return Err(Error::invalid(format!(
            "{} is not a valid change command",
            name.to_ascii_lowercase()
        )));
    }
    if rest.is_empty() && !matches!(name, "CMD" | "ENTRYPOINT") {
        let least = match name {
            "LABEL" | "ENV" | "EXPOSE" | "VOLUME" | "HEALTHCHECK" | "ONBUILD" => "at least one argument",
            _ => "exactly one argument",
        };
        return Err(Error::invalid(format!("{name} requires {least}")));
    }
    let env = environment(config);
    match name {
        "CMD" => config.cmd = Some(command(rest, config)),
        "ENTRYPOINT" => config.entrypoint = Some(command(rest, config)),
        "ENV" => {
            let list = config.env.get_or_insert_default();
            for (key, value) in pairs(name, rest, &env)? {
                let entry = format!("{key}={value}");
                let same = |known: &&mut String| known.split('=').next() == Some(&key);
                match list.iter_mut().find(same) {
                    Some(known) => *known = entry,
                    None => list.push(entry),
                }
            }
        }
        "LABEL" => config.labels.get_or_insert_default().extend(pairs(name, rest, &env)?),
        "EXPOSE" => {
            for word in words(rest, Some(&env))? {
                for port in ports(&word)? {
                    config.exposed_ports.get_or_insert_default().insert(port, Empty {});
                }
            }
        }
        "VOLUME" => {
            for path in json_list(rest).map_or_else(|| words(rest, Some(&env)), Ok)? {
                if path.trim().is_empty() {
                    return Err(Error::invalid("VOLUME specified can not be an empty string"));
                }
                config.volumes.get_or_insert_default().insert(path, Empty {});
            }
        }
        "WORKDIR" => {
            let path = words(rest, Some(&env))?.join(" ");
            let base = if config.working_dir.is_empty() {
                "/"
            } else {
                &config.working_dir
            };
            let joined = std::path::Path::new("/").join(base).join(path);
            config.working_dir = crate::mounts::clean(&joined.to_string_lossy());
        }
        "USER" => config.user = words(rest, Some(&env))?.join(" "),
        "STOPSIGNAL" => {
            let signal = words(rest, Some(&env))?.join(" ");
            crate::stop::parse_signal(&signal)?;
            config.stop_signal = signal;
        }
        "ONBUILD" => {
            let trigger = rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
            if matches!(trigger.as_str(), "ONBUILD") {
                return Err(Error::invalid("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"));
            }
            if matches!(trigger.as_str(), "MAINTAINER" | "FROM") {
                return Err(Error::invalid(format!("{trigger} isn't allowed as an ONBUILD trigger")));
            }
            config.on_build.get_or_insert_default().push(rest.to_string());
        }
        _ => config.healthcheck = Some(healthcheck(rest)?),
    }
    Ok(())
}

fn json_list(text: &str) -> Option<Vec<String>> {
    text.starts_with('[').then(|| json::from_str(text).ok()).flatten()
}

/// The exec form as it is, the shell form for the config's shell.
fn command(rest: &str, config: &ContainerConfig) -> Vec<String> {
    if let Some(list) = json_list(rest) {
        return list;
    }
    let shell = config.shell.clone().filter(|shell| !shell.is_empty());
    let mut list = shell.unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
    list.push(rest.to_string());
    list
}

fn environment(config: &ContainerConfig) -> BTreeMap<String, String> {
    let list = config.env.iter().flatten();
    list.filter_map(|entry| entry.split_once('='))
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}

/// Words as a shell would split them; without an environment nothing is replaced.
fn words(text: &str, env: Option<&BTreeMap<String, String>>) -> Result<Vec<String>> {
    let (mut list, mut word, mut begun) = (Vec::new(), String::new(), false);
    let mut quote = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => match chars.next() {
                Some(next) if quote.is_some() && !matches!(next, '"' | '\\' | '$') => word.extend(['\\', next]),
                Some(next) => word.push(next),
                None => {}
            },
            ('\'' | '"', None) => (quote, begun) = (Some(c), true),
            (c, Some(q)) if c == q => quote = None,
            ('$', None | Some('"')) if env.is_some() => {
                let braced = chars.next_if_eq(&'{').is_some();
                let mut name = String::new();
                while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    name.push(c);
                }
                if braced && chars.next() != Some('}') {
                    return Err(Error::invalid(format!(
                        "unsupported modifier in substitution of {name}"
                    )));
                }
                word.push_str(env.and_then(|env| env.get(&name)).map_or("", String::as_str));
                begun = true;
            }
            (c, None) if c.is_whitespace() => {
                if begun || !word.is_empty() {
                    list.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            (c, _) => word.push(c),
        }
    }
    if quote.is_some() {
        return Err(Error::invalid(
            "unexpected end of statement while looking for matching quote",
        ));
    }
    if begun || !word.is_empty() {
        list.push(word);
    }
    Ok(list)
}

/// `key=value …`, or the old form of one key and the rest of the line.
fn pairs(name: &str, rest: &str, env: &BTreeMap<String, String>) -> Result<Vec<(String, String)>> {
    let first = rest.split_whitespace().next().unwrap_or_default();
    if !first.contains('=') {
        let (key, value) = rest
            .split_once(char::is_whitespace)
            .ok_or_else(|| Error::invalid(format!("{name} must have two arguments")))?;
        let value = words(value.trim(), Some(env))?.join(" ");
        return Ok(vec![(key.to_string(), value)]);
    }
    let list = words(rest, Some(env))?;
    list.into_iter()
        .map(|word| match word.split_once('=') {
            Some(("", _)) => Err(Error::invalid(format!("{name} names can not be blank"))),
            Some((key, value)) => Ok((key.to_string(), value.to_string())),
            None => Err(Error::invalid(format!(
                "Syntax error - can't find = in \"{word}\". Must be of the form: name=value"
            ))),
        })
        .collect()
}

/// `80`, `80/udp`, `8000-8003/tcp`: each port with its protocol.
fn ports(word: &str) -> Result<Vec<String>> {
    let (range, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let bad = || Error::invalid(format!("invalid containerPort: {word}"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(Error::invalid(format!("invalid proto: {protocol}")));
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last): (u16, u16) = (first.parse().map_err(|_| bad())?, last.parse().map_err(|_| bad())?);
    match first <= last {
        true => Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect()),
        false => Err(bad()),
    }
}

fn healthcheck(rest: &str) -> Result<Healthcheck> {
    let mut check = Healthcheck::default();
    let mut rest = rest;
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, after) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        rest = after.trim_start();
        let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
        let slot = match name {
            "interval" => &mut check.interval,
            "timeout" => &mut check.timeout,
            "start-period" => &mut check.start_period,
            "start-interval" => &mut check.start_interval,
            "retries" => {
                check.retries = value
                    .parse()
                    .map_err(|_| Error::invalid(format!("invalid retries \"{value}\"")))?;
                continue;
            }
            _ => return Err(Error::invalid(format!("unknown flag: {name}"))),
        };
        *slot = duration(value).ok_or_else(|| Error::invalid(format!("invalid duration \"{value}\"")))?;
    }
    let (kind, command_line) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    check.test = Some(match kind.to_ascii_uppercase().as_str() {
        "NONE" if command_line.trim().is_empty() => vec!["NONE".into()],
        "CMD" if !command_line.trim().is_empty() => match json_list(command_line.trim()) {
            Some(list) => [vec!["CMD".to_string()], list].concat(),
            None => vec!["CMD-SHELL".into(), command_line.trim().to_string()],
        },
        "NONE" => return Err(Error::invalid("HEALTHCHECK NONE takes no arguments")),
        "CMD" => return Err(Error::invalid("Missing command after HEALTHCHECK CMD")),
        other => {
            return Err(Error::invalid(format!(
                "Unknown type \"{other}\" in HEALTHCHECK (try CMD)"
            )));
        }
    });
    Ok(check)
}

/// `1m30s`, `500ms`, in nanoseconds.
fn duration(text: &str) -> Option<i64> {
    let (mut total, mut rest) = (0f64, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..]
            .find(|c: char| c.is_ascii_digit())
            .map_or(rest.len(), |at| digits + at);
        total += number
            * match &rest[digits..unit_end] {
                "ns" => 1.0,
                "us" | "µs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => return None,
            };
        rest = &rest[unit_end..];
    }
    (!text.is_empty() && total < 9e18).then_some(total as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(changes: &[&str]) -> Result<ContainerConfig> {
        let mut config = ContainerConfig {
            env: Some(vec!["A=1".into()]),
            working_dir: "/srv".into(),
            ..ContainerConfig::default()
        };
        let changes: Vec<String> = changes.iter().map(|text| text.to_string()).collect();
        apply(&mut config, &changes).map(|()| config)
    }

    #[test]
    fn each_instruction() {
        let config = after(&[
            r#"CMD ["a", "b c"]"#,
            "entrypoint run it",
            r#"ENV B=$A${A} C="x y" D=\$A"#,
            "ENV A the rest",
            r#"LABEL k="v w" l='$A'"#,
            "EXPOSE 80 90-91/udp",
            r#"VOLUME ["/v 1"]"#,
            "VOLUME /w /x",
            "WORKDIR sub/../dir",
            "USER me:us",
            "STOPSIGNAL SIGINT",
            "ONBUILD RUN x",
            "HEALTHCHECK --interval=1m30s --retries=2 CMD curl x",
        ])
        .unwrap();
        assert_eq!(config.cmd, Some(vec!["a".into(), "b c".into()]));
        assert_eq!(
            config.entrypoint,
            Some(vec!["/bin/sh".into(), "-c".into(), "run it".into()])
        );
        let env = ["A=the rest", "B=11", "C=x y", "D=$A"].map(String::from);
        assert_eq!(config.env.as_deref(), Some(&env[..]));
        assert_eq!(
            config.labels.unwrap().into_iter().collect::<Vec<_>>(),
            [
                ("k".to_string(), "v w".to_string()),
                ("l".to_string(), "$A".to_string())
            ]
        );
        let ports: Vec<String> = config.exposed_ports.unwrap().into_keys().collect();
        assert_eq!(ports, ["80/tcp", "90/udp", "91/udp"]);
        assert_eq!(
            config.volumes.unwrap().into_keys().collect::<Vec<_>>(),
            ["/v 1", "/w", "/x"]
        );
        assert_eq!((&config.working_dir[..], &config.user[..]), ("/srv/dir", "me:us"));
        assert_eq!(config.on_build, Some(vec!["RUN x".into()]));
        let check = config.healthcheck.unwrap();
        assert_eq!((check.interval, check.retries), (90_000_000_000, 2));
        assert_eq!(check.test, Some(vec!["CMD-SHELL".into(), "curl x".into()]));
    }

    #[test]
    fn refused() {
        for (change, why) in [
            ("RUN x", "run is not a valid change command"),
            ("ENV", "ENV requires at least one argument"),
            ("LABEL a", "LABEL must have two arguments"),
            ("ENV A=\"b", "matching quote"),
            ("EXPOSE x", "invalid containerPort: x"),
            ("EXPOSE 80/ip", "invalid proto: ip"),
            ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
            ("HEALTHCHECK --interval=x CMD y", "invalid duration"),
        ] {
            let error = after(&[change]).unwrap_err().to_string();
            assert!(error.contains(why), "{change}: {error}");
        }
    }
}
