//! The table of commands, how they are grouped, and the help over all of them.
//!
//! One more command is a file here and two lines below.

mod attach;
mod commit;
mod container_config;
mod container_flags;
mod container_inspect;
mod container_prune;
mod cp;
mod create;
mod df;
mod diff;
mod events;
mod exec;
mod export;
mod formats;
mod history;
mod image_delta;
mod image_inspect;
mod image_prune;
mod image_tree;
mod image_verify;
mod images;
mod import;
mod info;
mod inspect;
mod kill;
mod load;
mod login;
mod logout;
mod logs;
mod manifest_annotate;
mod manifest_create;
mod manifest_inspect;
mod manifest_push;
mod manifest_rm;
mod mounts;
mod network_connect;
mod network_create;
mod network_disconnect;
mod network_inspect;
mod network_ls;
mod network_prune;
mod network_rm;
mod pause;
mod port;
mod ports;
mod ps;
mod pull;
mod push;
mod rename;
mod requests;
mod restart;
mod rm;
mod rmi;
mod run;
mod save;
mod search;
mod start;
mod stop;
mod system_prune;
mod tag;
mod top;
mod unpause;
mod update;
mod version;
mod volume_create;
mod volume_inspect;
mod volume_ls;
mod volume_prune;
mod volume_rm;
mod wait;

use crate::cli::GLOBAL;
use crate::command::Command;
use crate::help;

/// Every command, by what it is about.
const TABLE: &[&Command] = &[
    &attach::COMMAND,
    &commit::COMMAND,
    &cp::COMMAND,
    &create::COMMAND,
    &diff::COMMAND,
    &exec::COMMAND,
    &export::COMMAND,
    &kill::COMMAND,
    &logs::COMMAND,
    &pause::COMMAND,
    &port::COMMAND,
    &ps::COMMAND,
    &rename::COMMAND,
    &restart::COMMAND,
    &rm::COMMAND,
    &run::COMMAND,
    &start::COMMAND,
    &stop::COMMAND,
    &top::COMMAND,
    &unpause::COMMAND,
    &update::COMMAND,
    &wait::COMMAND,
    &inspect::COMMAND,
    &container_inspect::COMMAND,
    &container_prune::COMMAND,
    &images::COMMAND,
    &history::COMMAND,
    &image_delta::COMMAND,
    &image_inspect::COMMAND,
    &image_prune::COMMAND,
    &import::COMMAND,
    &load::COMMAND,
    &image_verify::COMMAND,
    &manifest_annotate::COMMAND,
    &manifest_create::COMMAND,
    &manifest_inspect::COMMAND,
    &manifest_push::COMMAND,
    &manifest_rm::COMMAND,
    &pull::COMMAND,
    &push::COMMAND,
    &rmi::COMMAND,
    &save::COMMAND,
    &search::COMMAND,
    &tag::COMMAND,
    &events::COMMAND,
    &info::COMMAND,
    &version::COMMAND,
    &df::COMMAND,
    &system_prune::COMMAND,
    &login::COMMAND,
    &logout::COMMAND,
    &volume_create::COMMAND,
    &volume_inspect::COMMAND,
    &volume_ls::COMMAND,
    &volume_prune::COMMAND,
    &volume_rm::COMMAND,
    &network_connect::COMMAND,
    &network_create::COMMAND,
    &network_disconnect::COMMAND,
    &network_inspect::COMMAND,
    &network_ls::COMMAND,
    &network_prune::COMMAND,
    &network_rm::COMMAND,
];

/// A noun, under which its verbs stand.
pub struct Group {
    pub name: &'static str,
    about: &'static str,
}

pub const GROUPS: &[Group] = &[
    Group {
        name: "container",
        about: "Manage containers",
    },
    Group {
        name: "image",
        about: "Manage images",
    },
    Group {
        name: "manifest",
        about: "Manage Docker image manifests and manifest lists",
    },
    Group {
        name: "network",
        about: "Manage networks",
    },
    Group {
        name: "system",
        about: "Manage Docker",
    },
    Group {
        name: "volume",
        about: "Manage volumes",
    },
];

/// Commands of docker's that come later, so that nobody takes them for misspelt.
const LATER: &[&str] = &[
    "build",
    "builder",
    "buildx",
    "compose",
    "container stats",
    "context",
    "image build",
    "stats",
    "volume update",
];

/// Commands that most people want first.
const COMMON: &[&str] = &[
    "run", "exec", "ps", "pull", "push", "images", "search", "login", "logout", "version", "info",
];

/// Finds a command by any of its names; gives it with the name that help uses.
pub fn find(words: &str) -> Option<(&'static Command, &'static str)> {
    let command = TABLE.iter().find(|command| command.paths.contains(&words))?;
    // `container list` is another word for `container ls`: the first name of its group speaks for all.
    let group = words.split_once(' ').map(|(group, _)| group);
    let path = command
        .paths
        .iter()
        .find(|path| path.split_once(' ').map(|(group, _)| group) == group)?;
    Some((command, path))
}

/// Says whether a command is known but not there yet.
pub fn later(words: &str) -> bool {
    LATER.contains(&words)
}

fn section(out: &mut String, title: &str, rows: &mut Vec<(&str, &str)>) {
    rows.sort_unstable();
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(11);
    out.push_str(&format!("\n{title}:\n"));
    for (name, about) in rows {
        let first = about.lines().next().unwrap_or_default();
        let about = first.split_once(". ").map_or(first, |(sentence, _)| sentence);
        let about = about.trim_end_matches('.');
        out.push_str(&format!("  {name:<width$} {about}\n"));
    }
}

/// The help over all commands.
pub fn help(program: &str) -> String {
    let mut out = format!("Usage:  {program} [OPTIONS] COMMAND\n\nA container engine for devices\n");
    let top = |path: &&&str| !path.contains(' ');
    let mut all: Vec<(&str, &str)> = TABLE
        .iter()
        .filter_map(|command| Some((*command.paths.iter().find(top)?, command.about)))
        .collect();
    out.push_str("\nCommon Commands:\n");
    for name in COMMON {
        if let Some((_, about)) = all.iter().find(|(known, _)| known == name) {
            out.push_str(&format!("  {name:<9}   {about}\n"));
        }
    }
    section(
        &mut out,
        "Management Commands",
        &mut GROUPS.iter().map(|group| (group.name, group.about)).collect(),
    );
    all.retain(|(name, _)| !COMMON.contains(name));
    section(&mut out, "Commands", &mut all);
    let flags = help::options(GLOBAL.iter().filter(|flag| !flag.hidden).collect());
    out.push_str(&format!("\nGlobal Options:\n{flags}"));
    out.push_str(&format!(
        "\nRun '{program} COMMAND --help' for more information on a command.\n"
    ));
    out
}

/// What stands behind a group in its line of usage when something is wrong with it; docker differs for two.
pub fn group_usage(name: &str) -> &'static str {
    match name {
        "manifest" | "volume" => " COMMAND",
        _ => "",
    }
}

/// The help of a group.
pub fn group_help(program: &str, name: &str) -> String {
    let about = GROUPS
        .iter()
        .find(|group| group.name == name)
        .map_or("", |group| group.about);
    let mut out = format!("Usage:  {program} {name} COMMAND\n\n{about}\n");
    let verb = |command: &&'static Command| {
        let path = command
            .paths
            .iter()
            .find_map(|path| path.strip_prefix(name)?.strip_prefix(' '))?;
        Some((path, command.about))
    };
    section(&mut out, "Commands", &mut TABLE.iter().filter_map(verb).collect());
    out.push_str(&format!(
        "\nRun '{program} {name} COMMAND --help' for more information on a command.\n"
    ));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags;

    #[test]
    fn names_are_found_once() {
        let mut seen = std::collections::BTreeSet::new();
        for command in TABLE {
            for path in command.paths {
                assert!(seen.insert(*path), "{path} twice");
                assert!(!later(path), "{path} is there already");
                let group = path.split_once(' ').map(|(group, _)| group);
                assert!(
                    group.is_none_or(|name| GROUPS.iter().any(|group| group.name == name)),
                    "{path}"
                );
            }
        }
        assert_eq!(find("container list").unwrap().1, "container ls");
        assert_eq!(find("ps").unwrap().1, "ps");
    }

    /// Every example is a line that its command reads.
    #[test]
    fn examples_work() {
        for command in TABLE {
            assert!(!command.examples.is_empty(), "{:?} has no example", command.paths);
            for example in command.examples {
                let words: Vec<String> = example.split_whitespace().map(str::to_string).collect();
                let length = command.paths[0].split(' ').count().min(words.len());
                let start = (1..=length)
                    .rev()
                    .find(|n| command.paths.contains(&words[..*n].join(" ").as_str()));
                let start = start.unwrap_or_else(|| panic!("{example} calls another command"));
                let parsed = flags::parse(command.flags, &words[start..], !command.stop_at_args)
                    .unwrap_or_else(|e| panic!("{example}: {e}"));
                let wrong = help::wrong_args("x", "y", command, parsed.args.len());
                assert_eq!(wrong, None, "{example}");
            }
        }
    }
}
