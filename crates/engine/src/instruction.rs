//! The Dockerfile instructions that `commit --change` and `import --change` take, applied to a config. Pure.
//!
//! Source: Docker's list of them (`CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL ONBUILD STOPSIGNAL USER VOLUME WORKDIR`) and its
//! grammar: a JSON list is the exec form, words may be quoted, `\` takes the next character as it is, `$NAME` and
//! `${NAME}` are the config's own environment, with `:-`, `:+`, `:?` as in a shell.

use crate::error::{Error, Result};
use api::container::{ContainerConfig, Healthcheck};
use api::json::Empty;
use std::collections::BTreeMap;
use std::iter::Peekable;

/// Applies each change in turn. Lines are those of a Dockerfile: one that ends with `\` goes on in the next.
pub fn apply(config: &mut ContainerConfig, changes: &[String]) -> Result<()> {
    let (mut has_command, mut has_any) = (false, false);
    let mut lines = changes.iter().flat_map(|change| change.lines()).map(str::trim);
    let counts = |line: &&str| !line.is_empty() && !line.starts_with('#');
    while let Some(first) = lines.find(counts) {
        let mut line = first.to_string();
        while let Some(begun) = line.strip_suffix('\\') {
            line = begun.to_string() + lines.find(counts).unwrap_or_default();
        }
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((&line, ""));
        let name = name.to_ascii_uppercase();
        one(config, &name, rest.trim())?;
        has_any = true;
        has_command |= name == "CMD";
        // The command was arguments of another program.
        if name == "ENTRYPOINT" && !has_command {
            config.cmd = None;
        }
    }
    match has_any || changes.is_empty() {
        true => Ok(()),
        false => Err(Error::invalid("file with no instructions")),
    }
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
    let none = rest.is_empty() || name == "VOLUME" && json_list(rest).is_some_and(|list| list.is_empty());
    if none && !matches!(name, "CMD" | "ENTRYPOINT") {
        let least = match name {
            "LABEL" | "ENV" | "EXPOSE" | "VOLUME" | "HEALTHCHECK" | "ONBUILD" => "at least one argument",
            _ => "exactly one argument",
        };
        return Err(Error::invalid(format!("{name} requires {least}")));
    }
    let env = environment(config);
    match name {
        "CMD" => config.cmd = Some(command(rest, config)),
        // An empty one is none: that of the container stays.
        "ENTRYPOINT" => config.entrypoint = Some(command(rest, config)).filter(|list| !list.is_empty()),
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
            for word in expand(rest, &env)?.split_whitespace() {
                for port in ports(word)? {
                    config.exposed_ports.get_or_insert_default().insert(port, Empty {});
                }
            }
        }
        "VOLUME" => {
            let list = json_list(rest).unwrap_or_else(|| words(rest).into_iter().map(String::from).collect());
            for path in list {
                let path = expand(&path, &env)?;
                if path.trim().is_empty() {
                    return Err(Error::invalid("VOLUME specified can not be an empty string"));
                }
                config.volumes.get_or_insert_default().insert(path, Empty {});
            }
        }
        "WORKDIR" => {
            let path = expand(rest, &env)?;
            config.working_dir = match path.starts_with('/') {
                true => path,
                false => {
                    let joined = std::path::Path::new("/").join(&config.working_dir).join(path);
                    crate::mounts::clean(&joined.to_string_lossy())
                }
            };
        }
        "USER" => config.user = expand(rest, &env)?,
        "STOPSIGNAL" => {
            let signal = expand(rest, &env)?;
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
    list.extend(Some(rest.to_string()).filter(|rest| !rest.is_empty()));
    list
}

fn environment(config: &ContainerConfig) -> BTreeMap<String, String> {
    let list = config.env.iter().flatten();
    list.filter_map(|entry| entry.split_once('='))
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}

/// Words as a shell would split them, with their quotes and backslashes.
fn words(text: &str) -> Vec<&str> {
    let (mut list, mut begin) = (Vec::new(), None);
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in text.char_indices() {
        if c.is_whitespace() && quote.is_none() && !escaped {
            list.extend(begin.take().map(|begin| &text[begin..at]));
            continue;
        }
        begin.get_or_insert(at);
        match (c, quote) {
            _ if escaped => escaped = false,
            ('\\', None | Some('"')) => escaped = true,
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(q)) if c == q => quote = None,
            _ => {}
        }
    }
    list.extend(begin.map(|begin| &text[begin..]));
    list
}

/// Longest that a word may become, in bytes: as long a string of its environment a process can be given (`MAX_ARG_STRLEN`). Each
/// change may double what an earlier one made.
const LONGEST: usize = 128 << 10;

/// Substitutions in one another.
const DEEPEST: u32 = 64;

/// What a word means: without quotes and backslashes, with the environment's values.
fn expand(text: &str, env: &BTreeMap<String, String>) -> Result<String> {
    expand_until(&mut text.chars().peekable(), None, env, 0)
}

type Chars<'a> = Peekable<std::str::Chars<'a>>;

fn expand_until(
    chars: &mut Chars<'_>,
    end: Option<char>,
    env: &BTreeMap<String, String>,
    depth: u32,
) -> Result<String> {
    let (mut word, mut quote) = (String::new(), None);
    if depth > DEEPEST {
        return Err(Error::invalid(format!(
            "more than {DEEPEST} substitutions in one another"
        )));
    }
    while let Some(c) = chars.next() {
        if word.len() > LONGEST {
            return Err(Error::invalid(format!("a value is longer than {LONGEST} bytes")));
        }
        match (c, quote) {
            (c, None) if Some(c) == end => return Ok(word),
            ('\\', None | Some('"')) => match chars.next() {
                Some(next) if quote.is_some() && !matches!(next, '"' | '\\' | '$') => word.extend(['\\', next]),
                Some(next) => word.push(next),
                None => {}
            },
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(q)) if c == q => quote = None,
            ('$', None | Some('"')) => word += &value(chars, env, depth)?,
            (c, _) => word.push(c),
        }
    }
    match (quote, end) {
        (None, None) => Ok(word),
        _ => Err(Error::invalid(
            "unexpected end of statement while looking for matching quote",
        )),
    }
}

/// What stands for `NAME`, `{NAME}`, `{NAME:-word}`, `{NAME:+word}` or `{NAME:?word}` behind a `$`.
fn value(chars: &mut Chars<'_>, env: &BTreeMap<String, String>, depth: u32) -> Result<String> {
    let braced = chars.next_if_eq(&'{').is_some();
    let mut name = String::new();
    while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
        name.push(c);
    }
    let bad = || Error::invalid("syntax error: bad substitution");
    match (braced, name.is_empty()) {
        (false, true) => return Ok("$".into()),
        (true, true) => return Err(bad()),
        _ => {}
    }
    let known = env.get(&name).cloned();
    if !braced {
        return Ok(known.unwrap_or_default());
    }
    let (mut modifier, mut given) = (chars.next(), known.is_some());
    if modifier == Some(':') {
        // With a colon, an empty value counts as none.
        given &= known.as_deref() != Some("");
        modifier = chars.next().filter(|c| *c != '}');
    }
    let kind = match modifier {
        Some('}') => return Ok(known.unwrap_or_default()),
        Some(kind @ ('-' | '+' | '?')) => kind,
        Some(_) => {
            return Err(Error::invalid(format!(
                "unsupported modifier in substitution of {name}"
            )));
        }
        None => return Err(bad()),
    };
    let word = expand_until(chars, Some('}'), env, depth + 1)?;
    match (kind, given) {
        ('-', false) | ('+', true) => Ok(word),
        ('?', false) => Err(Error::invalid(format!(
            "{name}: {}",
            if word.is_empty() {
                "not allowed to be unset"
            } else {
                &word
            }
        ))),
        ('+', false) => Ok(String::new()),
        _ => Ok(known.unwrap_or_default()),
    }
}

/// `key=value …`, or the old form of one key and the rest of the line.
fn pairs(name: &str, rest: &str, env: &BTreeMap<String, String>) -> Result<Vec<(String, String)>> {
    let list = words(rest);
    if !list.first().is_some_and(|first| first.contains('=')) {
        let (key, value) = rest
            .split_once(char::is_whitespace)
            .ok_or_else(|| Error::invalid(format!("{name} must have two arguments")))?;
        return Ok(vec![(expand(key, env)?, expand(value.trim(), env)?)]);
    }
    list.into_iter()
        .map(|word| match word.split_once('=') {
            Some(("", _)) => Err(Error::invalid(format!("{name} names can not be blank"))),
            Some((key, value)) => Ok((expand(key, env)?, expand(value, env)?)),
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

/// Docker's least duration of a health check, in nanoseconds.
const MINIMUM: i64 = 1_000_000;

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
                if check.retries < 0 {
                    return Err(Error::invalid(format!("--retries cannot be negative ({value})")));
                }
                continue;
            }
            _ => return Err(Error::invalid(format!("unknown flag: {name}"))),
        };
        *slot = duration(value).ok_or_else(|| Error::invalid(format!("time: invalid duration \"{value}\"")))?;
        if *slot < MINIMUM {
            return Err(Error::invalid(format!("Interval \"{name}\" cannot be less than 1ms")));
        }
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
    if text == "0" {
        return Some(0);
    }
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

    /// What Docker made of the same lines.
    #[test]
    fn as_docker_reads_them() {
        let config = after(&[
            "ENTRYPOINT []",
            "CMD",
            "ENV ONE=${A:-no} TWO=${NO:-'d e'}$ THREE=${A:+is} FOUR=x${NO+is}${NO-${A}}",
            "ENV OLD  two   spaces",
            "LABEL \"a b\"=c cost=5$ \\\n # not this\n\n next=line",
            r#"VOLUME ["/v/$A"]"#,
            "WORKDIR /a/../b",
        ])
        .unwrap();
        assert_eq!(
            (config.entrypoint, config.cmd),
            (None, Some(vec!["/bin/sh".into(), "-c".into()]))
        );
        let env = ["A=1", "ONE=1", "TWO=d e$", "THREE=is", "FOUR=x1", "OLD=two   spaces"].map(String::from);
        assert_eq!(config.env.as_deref(), Some(&env[..]));
        let labels: Vec<String> = config
            .labels
            .unwrap()
            .into_iter()
            .map(|(key, value)| key + "=" + &value)
            .collect();
        assert_eq!(labels, ["a b=c", "cost=5$", "next=line"]);
        assert_eq!(config.volumes.unwrap().into_keys().collect::<Vec<_>>(), ["/v/1"]);
        assert_eq!(config.working_dir, "/a/../b");
    }

    #[test]
    fn neither_deep_nor_long_without_end() {
        let deep = format!("ENV B={}", "${A:+".repeat(30_000));
        assert!(after(&[&deep]).unwrap_err().to_string().contains("in one another"));
        let nested = format!("ENV B={}x{}", "${A:+".repeat(60), "}".repeat(60));
        assert!(after(&[&nested]).unwrap().env.unwrap().contains(&"B=x".to_string()));
        // Each makes it four times as long.
        let doubling: Vec<&str> = std::iter::repeat_n("ENV A=$A$A$A$A.", 40).collect();
        assert!(after(&doubling).unwrap_err().to_string().contains("longer than"));
    }

    /// The command of the container was for its own entrypoint.
    #[test]
    fn an_entrypoint_takes_the_command_away() {
        let with = |changes: &[&str]| {
            let mut config = ContainerConfig {
                cmd: Some(vec!["old".into()]),
                ..ContainerConfig::default()
            };
            let changes: Vec<String> = changes.iter().map(|text| text.to_string()).collect();
            apply(&mut config, &changes).unwrap();
            config.cmd
        };
        assert_eq!(with(&["ENTRYPOINT [\"x\"]"]), None);
        assert_eq!(with(&["CMD [\"y\"]", "ENTRYPOINT [\"x\"]"]), Some(vec!["y".into()]));
        assert_eq!(with(&["USER x"]), Some(vec!["old".into()]));
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
            ("HEALTHCHECK --interval=x CMD y", "time: invalid duration \"x\""),
            (
                "HEALTHCHECK --interval=1us CMD y",
                "Interval \"interval\" cannot be less than 1ms",
            ),
            (
                "HEALTHCHECK --timeout=0 CMD y",
                "Interval \"timeout\" cannot be less than 1ms",
            ),
            ("HEALTHCHECK --retries=-1 CMD y", "--retries cannot be negative (-1)"),
            ("VOLUME []", "VOLUME requires at least one argument"),
            ("", "file with no instructions"),
            ("# comment", "file with no instructions"),
            ("ENV B=${A:-x", "matching quote"),
            ("ENV B=${A", "bad substitution"),
            ("ENV B=${}", "bad substitution"),
            ("ENV B=${A:}", "bad substitution"),
            ("ENV B=${A%x}", "unsupported modifier in substitution of A"),
            ("ENV B=${NO:?why}", "NO: why"),
        ] {
            let error = after(&[change]).unwrap_err().to_string();
            assert!(error.contains(why), "{change}: {error}");
        }
    }
}
